//! The staged probe of one server: dns, tcp, banner, ehlo, tls, ehlo again, auth, sender, recipient, message.
//!
//! The first failure that ends the conversation stops it; later stages say that they were not reached. Facts only:
//! the words come from the rules.

mod plan;
mod report;
mod run;
mod signs;

pub use plan::{Auth, Families, Message, Plan, Target, Tls};
pub use report::{Event, Outcome, Report, StageReport, Way};
pub use run::run;
pub use signs::SIGNS;
