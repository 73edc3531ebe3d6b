//! Mailboxes that are polled for what comes back: bounces, complaints, and reports of DMARC and TLS.
//!
//! A mailbox is a document in the store; a task for each reads what is new behind a cursor (UIDVALIDITY, UID), which
//! moves in the transaction that keeps the mail: after a crash nothing is read twice and nothing is left out.

mod link;
mod poll;
mod record;
mod session;

pub use link::{MailboxError, Metered, PATIENCE, Proof, SMALL, open as open_link, within};
pub use poll::{MailboxState, Mailboxes, run, token_name};
pub use record::MailboxRecord;
