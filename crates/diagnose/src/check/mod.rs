//! The staged probe of one server: dns, tcp, banner, ehlo, tls, ehlo again, auth, sender, recipient, message.
//!
//! The first failure that ends the conversation stops it; later stages say that they were not reached. Facts only:
//! the words come from the rules.

mod auth;
mod dns;
mod envelope;
mod explore;
mod hello;
mod openrelay;
mod peek;
mod plan;
mod probe;
mod report;
mod run;
mod secure;
mod signs;
mod software;
mod summary;
mod tcp;

pub use plan::{Auth, Families, Message, Plan, Target, Tls};
pub use report::{Event, Outcome, Report, StageReport, Way};
pub use run::run;
pub use signs::SIGNS;
