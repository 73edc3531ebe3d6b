//! Shares of limits that several nodes keep together.

use serde::{Deserialize, Serialize};

/// Most shares that one call asks for.
pub const MOST_SHARES: usize = 500;

/// What is counted, always growing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Messages, or connections.
    pub messages: u64,
    /// Recipients.
    pub recipients: u64,
}

impl Tally {
    /// One of the two.
    pub fn of(&self, unit: ShareUnit) -> u64 {
        match unit {
            ShareUnit::Messages => self.messages,
            ShareUnit::Recipients => self.recipients,
        }
    }

    /// Each less that of another, at least nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            recipients: self.recipients.saturating_sub(other.recipients),
        }
    }

    /// Each with that of another.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            recipients: self.recipients.saturating_add(other.recipients),
        }
    }

    /// The greater of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { messages: self.messages.max(other.messages), recipients: self.recipients.max(other.recipients) }
    }
}

/// What a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareUnit {
    /// Messages, or connections.
    Messages,
    /// Recipients.
    Recipients,
}

/// A rolling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareWindow {
    /// What it counts.
    pub unit: ShareUnit,
    /// Its length, milliseconds; 0: only what is open counts.
    pub span_ms: i64,
    /// How finely it is counted, milliseconds.
    pub bucket_ms: i64,
    /// Most in it, for who asks; nothing: it is counted all the same.
    pub limit: Option<u64>,
}

/// Counts by bucket (its start divided by its length), oldest first.
pub type Buckets = Vec<(i64, u32)>;

/// What a run used and wants of one limit. All totals are since the run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRequest {
    /// Whose limit.
    pub name: String,
    /// Its windows; always the same of a name, but for the limits.
    pub windows: Vec<ShareWindow>,
    /// Was handed out.
    pub handed: Tally,
    /// Of that, has ended.
    pub ended: Tally,
    /// Of that, counts in the windows.
    pub counted: Tally,
    /// What of `counted` an earlier answer confirmed.
    pub known: Tally,
    /// Wants to hand out up to this. Less than it was granted: it gives back the rest, and uses none of that from the request on,
    /// whether it is answered or not.
    pub wanted: Tally,
    /// What was used before, by window: for a limit that nobody asked for yet.
    pub before: Vec<Buckets>,
}

/// How a limit stands after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// May be handed out, since the run began.
    pub granted: Tally,
    /// Used by all, by window.
    pub used: Vec<Buckets>,
    /// Open at other runs.
    pub others: Tally,
    /// Another one waits for what this run has too much of: one is to be given back soon.
    pub too_much: bool,
    /// The server's time, Unix milliseconds.
    pub now_ms: i64,
    /// For so long from the request on nobody takes it away, milliseconds.
    pub valid_ms: i64,
}
