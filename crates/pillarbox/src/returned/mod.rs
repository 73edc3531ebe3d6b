//! What comes back later: reports of receivers about our mail, and what they are packed in.

pub mod summary;
pub mod summary_aggregate;
pub mod summary_tls;
pub mod unpack;
