//! Searching messages: what is asked, and what is found.

use std::sync::Arc;

use super::{Message, MessageId, RecipientView, State};

/// Most messages given for one question.
pub const MOST_FOUND: u32 = 500;
/// Most recipients shown of each.
pub const MOST_SHOWN: usize = 5;

/// Which recipients are meant. Case does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// This address.
    Address(String),
    /// Addresses that begin so; one that begins with `@` is the beginning of a domain.
    Prefix(String),
    /// This domain, without its subdomains.
    Domain(String),
}

/// Which messages are asked for: all conditions must hold, those on recipients for the same recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchQuery {
    /// Exactly this one.
    pub id: Option<MessageId>,
    /// To whom.
    pub recipient: Option<Whom>,
    /// Who it is from, by envelope or From header: an address, `@` and a domain, or a part of either.
    pub from: Option<String>,
    /// Words that all are in the subject.
    pub subject: Vec<String>,
    /// Message-ID header, with or without its brackets.
    pub message_id: Option<String>,
    /// Stream.
    pub stream: Option<String>,
    /// Sender: the credential that submitted it.
    pub sender: Option<String>,
    /// Route, of a recipient.
    pub route: Option<String>,
    /// State, of a recipient.
    pub state: Option<State>,
    /// Id of the rule that explains a recipient's last failure, or how the words begin for which it is held or suppressed.
    pub reason: Option<String>,
    /// Accepted at or after, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Accepted before, Unix milliseconds.
    pub until_ms: Option<i64>,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchHit {
    /// The message.
    pub message: Arc<Message>,
    /// The first [`MOST_SHOWN`] of its recipients that meet the conditions.
    pub recipients: Vec<RecipientView>,
    /// How many do.
    pub matching: u64,
    /// The content is still stored.
    pub has_content: bool,
}

/// One page of what was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchPage {
    /// Newest first.
    pub hits: Vec<SearchHit>,
    /// All messages from here on were looked at; older ones were not. `None`: there are no older ones.
    pub next: Option<MessageId>,
    /// Messages that were looked at one by one; 0 where an index knew.
    pub looked: u64,
}
