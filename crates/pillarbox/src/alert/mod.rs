//! Alerts: what is worth telling somebody, told once, by a way that does not need what is broken.
//!
//! Whoever finds something calls [`Alerts::raise`], and [`Alerts::resolve`] when it is over; both may be called as often as
//! one likes. [`rule`] is what there is to tell of, [`board`] what is raised now.

pub mod board;
pub mod rule;

pub use board::{Alert, Alerts};
pub use rule::{AlertRule, Severity};
