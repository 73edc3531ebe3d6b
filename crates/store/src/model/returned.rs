//! Mail that came back: kept until it is read, and afterwards where somebody may want to look at it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most mails that wait to be read; beyond that none is taken.
pub const MOST_RETURNED: u32 = 10_000;
/// Most octets of them.
pub const MOST_RETURNED_OCTETS: u64 = 256 << 20;
/// Most mails kept whose message was not found; the oldest give way.
pub const MOST_UNMATCHED: u32 = 1_000;
/// Most octets of them.
pub const MOST_UNMATCHED_OCTETS: u64 = 64 << 20;
/// Most mails kept that bring reports of DMARC and TLS; the oldest give way.
pub const MOST_REPORTS: u32 = 5_000;
/// Most octets of them.
pub const MOST_REPORT_OCTETS: u64 = 256 << 20;

/// How far a polled mailbox was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxPlace {
    /// UIDVALIDITY (RFC 9051 §2.3.1.1): with another one the numbers begin anew.
    pub validity: u32,
    /// UID of the last mail that was taken.
    pub uid: u32,
}

/// A mail that came back, on its way in.
#[derive(Debug, Clone)]
pub struct NewReturned {
    /// Where it came in: `listener`, or `imap:` and the mailbox's name.
    pub source: String,
    /// Envelope recipient, where it is known.
    pub recipient: Option<String>,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// The mail.
    pub content: Bytes,
    /// Where it lay in the mailbox of this name: the place moves in the same transaction.
    pub place: Option<(String, MailboxPlace)>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Durable.
    Durable,
    /// The mailbox was read this far before.
    Repeated,
    /// Too much waits to be read: [`MOST_RETURNED`], [`MOST_RETURNED_OCTETS`].
    TooMany,
}

/// A mail that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// Grows.
    pub id: i64,
    /// See [`NewReturned::source`].
    pub source: String,
    /// Envelope recipient.
    pub recipient: Option<String>,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// The mail.
    pub content: Bytes,
}

/// What a mail turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum ReturnedFate {
    /// Done with: it is removed.
    Done,
    /// To be read again at this time, Unix milliseconds.
    Later(i64),
    /// Its message was not found; kept with what is known of it.
    Unmatched(serde_json::Value),
    /// It brings reports of DMARC or TLS; kept with what is in them.
    Reports(serde_json::Value),
}

/// Which of the kept ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReturnedList {
    /// Those whose message was not found.
    Unmatched,
    /// Those that bring reports.
    Reports,
}

/// A kept mail in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ReturnedView {
    /// Cursor.
    pub id: i64,
    /// Where it came in.
    pub source: String,
    /// Envelope recipient.
    pub recipient: Option<String>,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Octets.
    pub size: u64,
    /// What is known of it.
    pub note: serde_json::Value,
}

/// What a report may name a message by, when it has no address of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trace {
    /// `Message-ID` with its brackets.
    HeaderId(String),
    /// The name the next hop gave the message, a word in its reply.
    Queued(String),
}
