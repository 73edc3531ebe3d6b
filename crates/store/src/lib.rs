//! What must survive: messages, recipients, events and settings.
//!
//! The verbs are traits, one transaction each, object-safe; no SQL leaves this crate. The embedded engine is
//! [`sqlite`], the one for several nodes [`postgres`]; every engine has to pass [`contract`].

pub mod contract;
mod encode;
mod engine;
pub mod model;
pub mod moved;
pub mod postgres;
pub mod secret;
pub mod settings;
/// How shares of a limit are granted, for simulations of several nodes.
pub mod sharing {
    pub use crate::engine::shares::{Limit, Moment};
}
pub mod sqlite;
pub mod verbs;

pub use model::*;
pub use verbs::*;
