//! Digests: equal mails to one recipient within a window, told of by one message.

use std::sync::Arc;

use super::{MessageId, RecipientId};

/// A digest's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DigestId(pub i64);

/// What makes mails equal, and for how long: the first opens the window and goes, the others are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// Equal for mails that are told of together: made of sender, stream, recipient and what the mail is about.
    pub key: [u8; 16],
    /// Length of the window, milliseconds.
    pub window_ms: i64,
}

/// A digest that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Number.
    pub id: DigestId,
    /// Mails that were collected, also those that were taken out again.
    pub folded: u64,
    /// Of these, the ones that are still held.
    pub held: u64,
    /// When its window ended, Unix milliseconds.
    pub until_ms: i64,
    /// The message that tells of it, if that was accepted already.
    pub sent: Option<MessageId>,
    /// Mails that are held: the oldest ones, and the latest.
    pub items: Vec<RecipientId>,
}

/// What a message that is a digest tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestEnd {
    /// Number.
    pub digest: DigestId,
    /// [`Digest::folded`] as it was read. If there are more by now, the message is refused as `Invalid`.
    pub folded: u64,
}

/// A recipient that will be late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// Who.
    pub recipient: RecipientId,
    /// When it could leave at the earliest, Unix milliseconds, if that is known.
    pub until_ms: Option<i64>,
    /// Why, for people.
    pub why: Arc<str>,
}
