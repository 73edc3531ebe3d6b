//! What is wrong with a mail server or a domain: the staged probe and the audit.
//!
//! Facts are gathered here; what they mean and what to do about them is said by the rules of `explain`. Uses the
//! client that delivers, and cannot reach the queue.

pub mod check;
pub mod domain;
mod finding;
pub mod journal;
pub mod lists;

pub use finding::{Judge, Judged};
