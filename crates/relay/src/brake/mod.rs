//! Brakes: what stops mail for a cause that is nobody's message's fault, and lets it go again.
//!
//! [`auth`] acts at once and in memory: a rejected credential is not tried by every connection. The others belong to incidents:
//! [`book`] knows which are on, `gate` keeps mail back at the door and before each next hop, `follow` makes the queue as the
//! book says, `probe` finds out whether it works again. All mail they hold says so in its reason, so nothing is lost by a crash.

mod api;
pub mod auth;
pub mod book;
mod follow;
pub(crate) mod gate;
mod news;
mod others;
pub(crate) mod probe;
mod scope;

pub use api::{BrakeStatus, Unbraked};
pub use auth::SignInStatus;
pub use news::BrakeNews;
pub use probe::ProbeOutcome;
pub use scope::{BrakeScope, NoScope, Proof};

pub use crate::schedule::ramp::Ramp;
pub(crate) use follow::{accepted, hasten, noticed, operators_words, rejected, restore, run, settings_changed};
pub(crate) use gate::Keeper;
