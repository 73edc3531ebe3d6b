//! The DNS journal: what each name server of a sender's domain said, kept when it changed, with who is affected.
//!
//! Outline: a check per domain asks every server (`diagnose::journal`) → compared with the newest snapshot kept → a difference is
//! stored, told to the alerts, and shown. The reverse names of our addresses are kept in the same way.

mod affected;
mod entry;
mod kind;
mod look;
mod reverse;

pub use affected::Affected;
pub use entry::{Stored, current, page};
pub use kind::JournalKind;
pub use reverse::ReverseKind;

/// How long snapshots are kept, days; the newest of each record stays.
pub const KEPT_DAYS: i64 = 800;

#[cfg(test)]
mod tests;
