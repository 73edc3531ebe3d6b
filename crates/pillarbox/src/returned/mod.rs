//! What comes back later: reports of receivers about our mail, and what they are packed in.

pub mod inlet;
mod judge;
pub mod listener;
pub mod mailbox;
pub mod reader;
pub mod summary;
pub mod summary_aggregate;
pub mod summary_tls;
mod trace;
pub mod unpack;
