//! Proof of arrival: a test mail with a token goes out by a route, and something has to say that it came: a mailbox that is read by
//! IMAP, our own listener for returned mail, or the header that a person pastes. A 250 is not an inbox.
//!
//! Outline: [`send`] composes, notes (`Arrival` records) and queues → [`watch`] looks into the mailbox and at the queue until it is
//! found or too late → [`judge`] reads folder, delay, authentication and the way → the record, and an alert.

pub mod confirm;
pub mod judge;
pub mod mailbox;
pub mod record;
pub mod send;
pub mod watch;

/// Kept while the server runs.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The bounce domain: our own listener takes test mail for it.
    pub domain: Option<String>,
    /// Wakes whoever follows test mails.
    pub wake: tokio::sync::Notify,
}

pub use record::{Arrival, ArrivalState, Token};
