//! Alerts: what is worth telling somebody, told once, by a way that does not need what is broken.
//!
//! Whoever finds something calls [`Alerts::raise`], and [`Alerts::resolve`] when it is over; both may be called as often as
//! one likes. [`rule`] is what there is to tell of, [`board`] what is raised now, [`channel`] and [`setting`] what is set,
//! [`plan`] (pure) who is told what and when, [`dispatch`] does it by [`send`]. [`watch`] raises what nobody else looks at,
//! [`weekly`] is the report of the week.

pub mod board;
pub mod channel;
pub mod dispatch;
pub mod entry;
pub mod plan;
pub mod rule;
pub mod send;
pub mod setting;
pub mod state;
pub mod text;
pub mod watch;
pub mod weekly;

pub use board::{AlertWord, Alerts};
pub use entry::Alert;
pub use rule::{AlertRule, Severity};
