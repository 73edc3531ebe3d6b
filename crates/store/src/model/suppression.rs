//! Addresses that get no mail any more: why, since when, on what evidence, until when; and what is reported later.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use proto::Address;
use serde::{Deserialize, Serialize};

use super::{Cause, MessageId, State};

/// Why an address gets no mail: always something about the recipient, never about us or the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuppressionReason {
    /// There is no such mailbox.
    UnknownUser,
    /// The mailbox is disabled or given up.
    MailboxClosed,
    /// The mailbox has been full for long.
    MailboxFull,
    /// The recipient called the mail unwanted.
    Complaint,
    /// The recipient asked for no more.
    OptOut,
    /// Somebody put it on the list.
    Manual,
}

/// A word is no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason is one of unknown-user, mailbox-closed, mailbox-full, complaint, opt-out, manual")]
pub struct ReasonError;

impl SuppressionReason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::UnknownUser, Self::MailboxClosed, Self::MailboxFull, Self::Complaint, Self::OptOut, Self::Manual];

    /// The word in the store, in JSON, in CSV and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown-user",
            Self::MailboxClosed => "mailbox-closed",
            Self::MailboxFull => "mailbox-full",
            Self::Complaint => "complaint",
            Self::OptOut => "opt-out",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for SuppressionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SuppressionReason {
    type Err = ReasonError;
    fn from_str(text: &str) -> Result<Self, ReasonError> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(ReasonError)
    }
}

/// Which mail a suppression stops. Written `*`, or the name of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum SuppressionScope {
    /// All mail.
    Global,
    /// Mail of one stream.
    Stream(Arc<str>),
}

impl SuppressionScope {
    /// `*` or the name of the stream.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Global => "*",
            Self::Stream(name) => name,
        }
    }
}

impl From<String> for SuppressionScope {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&str> for SuppressionScope {
    fn from(text: &str) -> Self {
        if text == "*" { Self::Global } else { Self::Stream(text.into()) }
    }
}

impl From<SuppressionScope> for String {
    fn from(scope: SuppressionScope) -> Self {
        scope.as_str().to_owned()
    }
}

/// What led to a suppression; empty fields are not stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// When it happened, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<i64>,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// Its recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Id of the rule that explains the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What the server said, or what the report says; at most [`MOST_WORDS`] characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Where it comes from: `delivery`, `bounce`, `ses`, `import`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// In somebody's words; at most [`MOST_WORDS`] characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Most characters of a reply or note that are kept with a suppression.
pub const MOST_WORDS: usize = 500;

/// An address that gets no mail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suppression {
    /// The address as it was given. Addresses are compared by [`address_key`].
    pub address: Address,
    /// Which mail is stopped.
    pub scope: SuppressionScope,
    /// Why.
    pub reason: SuppressionReason,
    /// On what evidence.
    pub evidence: Evidence,
    /// Who added it: a person, `import`, or `pillarbox`.
    pub who: String,
    /// Since when, Unix milliseconds.
    pub added_ms: i64,
    /// Until when, Unix milliseconds; `None`: for good.
    pub expires_ms: Option<i64>,
}

/// What [`crate::Suppressions::suppress`] does with an address that is suppressed already in the same scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// The new one counts: somebody said so.
    Replace,
    /// The one that holds longer counts, and what somebody removed after the evidence does not come back.
    Keep,
}

/// What became of a list of suppressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SuppressCount {
    /// Addresses that were not suppressed before.
    pub added: u64,
    /// Suppressions that were replaced.
    pub changed: u64,
    /// Left as they were.
    pub kept: u64,
}

/// A failure that counts against an address: enough of them, on different days, suppress it.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// The suppression that follows.
    pub suppression: Suppression,
    /// On how many different days (UTC) it has to happen, this one included; 0 and 1: at once.
    pub need: u32,
    /// Within how many days, this one included.
    pub within_days: u32,
}

/// What a strike led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Struck {
    /// Counted: so many of those needed.
    Counted(u32),
    /// The address is suppressed now, or was already.
    Suppressed,
    /// Somebody removed the suppression after this happened: it does not count.
    Forgiven,
}

/// Which suppressions a list shows: all conditions must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuppressionFilter {
    /// Scope.
    pub scope: Option<SuppressionScope>,
    /// Reason.
    pub reason: Option<SuppressionReason>,
    /// Domain of the address.
    pub domain: Option<String>,
    /// Part of the address, compared without case.
    pub text: Option<String>,
    /// Added at this time or later, Unix milliseconds.
    pub added_from_ms: Option<i64>,
    /// Added before this time, Unix milliseconds.
    pub added_before_ms: Option<i64>,
}

/// Where a list of suppressions goes on: the last one shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionCursor {
    /// Its address.
    pub address: Address,
    /// Its scope.
    pub scope: SuppressionScope,
}

/// What happened to a suppression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ChangeKind {
    /// The address gets no mail from now on.
    Added = 0,
    /// Reason or expiry is another one.
    Changed = 1,
    /// Somebody removed it.
    Removed = 2,
    /// Its time was over.
    Expired = 3,
}

/// A change of the list of suppressions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuppressionChange {
    /// Cursor: grows, never reused.
    pub seq: i64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// What.
    pub change: ChangeKind,
    /// The address.
    pub address: Address,
    /// The scope.
    pub scope: SuppressionScope,
    /// The reason it has now, or had.
    pub reason: SuppressionReason,
    /// Until when it holds, Unix milliseconds; `None`: for good, or it does not hold any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// Who did it.
    pub who: String,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What [`crate::Suppressions::suppression_changes`] gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SuppressionChanges {
    /// Oldest first.
    pub changes: Vec<SuppressionChange>,
    /// The latest change there is; 0 if there never was one.
    pub latest: i64,
    /// Changes up to this one are no longer kept: whoever stands before it has to read the whole list again.
    pub forgotten: i64,
}

/// How bad a later report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For good: the recipient did not get it.
    Hard,
    /// Not yet, or it may be otherwise next time: the state stays.
    Soft,
}

/// What a later report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportKind {
    /// The message came back.
    Bounced,
    /// The recipient complained about it.
    Complained,
}

/// A report about a message that arrives after the next hop took it: a returned mail, a complaint, a provider's webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct LaterReport {
    /// The message.
    pub message: MessageId,
    /// Its recipient; `None` if the report does not tell which of several.
    pub n: Option<u32>,
    /// When it happened or came, Unix milliseconds.
    pub at_ms: i64,
    /// What.
    pub kind: ReportKind,
    /// How bad.
    pub severity: Severity,
    /// What explains it.
    pub cause: Option<Cause>,
    /// In words, from the report; at most [`MOST_WORDS`] characters are kept.
    pub why: Option<String>,
    /// Where it came from: `listener`, `imap`, `ses`.
    pub source: String,
    /// The same report told twice has the same key: at most 255 characters.
    pub key: String,
}

/// What became of a later report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// The event is in the message's history; the recipient's state now, if the report names one.
    Recorded(Option<State>),
    /// It was told before.
    Repeated,
    /// The recipient is being attempted at this moment: tell it again later.
    NotYet,
    /// There is no such message or recipient (any more).
    Unknown,
}

/// Where a later report came from, and how bad it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportDetail {
    /// See [`LaterReport::source`].
    pub source: String,
    /// How bad.
    pub severity: Severity,
}

/// What two spellings of one address have in common: the domain is lower-case A-labels already, the local part is folded
/// to lower case. RFC 5321 §2.4 leaves case to the receiving host; hosts that tell `Bob` from `bob` are extinct.
pub fn address_key(address: &Address) -> String {
    if address.local_part().is_ascii() {
        return address.as_str().to_ascii_lowercase();
    }
    format!("{}@{}", address.local_part().to_lowercase(), address.domain())
}
