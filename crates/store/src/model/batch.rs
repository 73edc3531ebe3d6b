//! Batches: one template and many rows of merge data, stored compactly until each row becomes an ordinary message.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use proto::Address;
use serde::{Deserialize, Serialize};

use super::{Cause, IdError, Idempotency, Incarnation, MessageId, State};

/// A batch's name, shown like a [`MessageId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub i64);

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MessageId(self.0).fmt(f)
    }
}

impl FromStr for BatchId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(|MessageId(id)| Self(id))
    }
}

impl Serialize for BatchId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BatchId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The row a message was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowRef {
    /// The batch.
    pub batch: BatchId,
    /// Position in the batch, from 0.
    pub row: u32,
}

/// A batch that begins: nobody sees it before it is committed.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Name, from [`crate::Intake::next_id`].
    pub id: BatchId,
    /// The run that takes it in: what another run left unfinished is removed.
    pub by: Incarnation,
    /// Who submits it.
    pub sender: Arc<str>,
    /// Stream of its messages.
    pub stream: Arc<str>,
    /// For lists, at most 200 characters.
    pub label: String,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// No row becomes a message before, Unix milliseconds.
    pub start_ms: i64,
    /// The rows are spread evenly over this many milliseconds.
    pub spread_ms: Option<i64>,
    /// Everything but the last hop.
    pub test: bool,
    /// Template and options, text without meaning to the store.
    pub body: String,
}

/// A row on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    /// Position in the batch, from 0, without gaps.
    pub n: u32,
    /// Where to.
    pub address: Address,
    /// Merge data, text without meaning to the store.
    pub data: String,
}

/// A row to make a message of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    /// Position in the batch.
    pub n: u32,
    /// Merge data as it was given.
    pub data: String,
}

/// How a batch's accept ended when nothing failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchAccepted {
    /// Durable, whole, and visible.
    Committed,
    /// The key was used before with the same body: send this answer again. The new rows are dropped.
    Replayed(String),
    /// The key was used before with another body. The new rows are dropped.
    KeyConflict,
}

/// What completes a batch that is coming in.
#[derive(Debug, Clone)]
pub struct BatchCommit {
    /// How many rows were added; it is refused if there are not as many.
    pub rows: u32,
    /// HTTP `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
}

/// The state of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum BatchState {
    /// Rows become messages, or messages are on their way.
    Running = 1,
    /// They do not, until it is resumed.
    Paused = 2,
    /// Final: the rows that are left never will.
    Canceled = 3,
    /// Final: every row was refused or has become a message that is final.
    Finished = 4,
}

/// A batch as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    /// Name.
    pub id: BatchId,
    /// Who submitted it.
    pub sender: Arc<str>,
    /// Stream.
    pub stream: Arc<str>,
    /// For lists.
    pub label: String,
    /// State.
    pub state: BatchState,
    /// Why it is paused or canceled, or what it waits for.
    pub why: Option<String>,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// See [`NewBatch::start_ms`].
    pub start_ms: i64,
    /// See [`NewBatch::spread_ms`].
    pub spread_ms: Option<i64>,
    /// How long it was paused so far, without the pause that lasts, milliseconds.
    pub paused_ms: i64,
    /// When the pause that lasts began, Unix milliseconds.
    pub paused_at_ms: Option<i64>,
    /// When it became final, Unix milliseconds.
    pub finished_ms: Option<i64>,
    /// See [`NewBatch::test`].
    pub test: bool,
    /// Rows.
    pub total: u32,
    /// Rows that have become messages.
    pub fed: u32,
    /// Rows that could not.
    pub refused: u32,
}

/// What happens to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchChange {
    /// No more rows become messages until it is resumed.
    Pause {
        /// Why, or who did it.
        why: String,
    },
    /// It goes on.
    Resume,
    /// It ends; rows that are left stay what they are.
    Cancel {
        /// Why, or who did it.
        why: String,
    },
    /// What a running batch waits for; `None`: nothing any more.
    Note(Option<String>),
    /// It ends if all its rows and messages are done with; otherwise nothing changes.
    Finish,
}

/// A batch's messages that are not final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchLoad {
    /// Messages not final.
    pub open: u64,
    /// Those of them that were not attempted yet and are not held.
    pub fresh: u64,
    /// Octets of their contents.
    pub octets: u64,
}

/// The state of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowState {
    /// To become a message.
    Queued,
    /// No message could be made of it.
    Refused,
    /// Its message has been removed, its time was over.
    Gone,
    /// What its message's recipient is. A row left over by a canceled batch is canceled.
    Of(State),
}

/// A row as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct RowView {
    /// Position in the batch.
    pub n: u32,
    /// Where to.
    pub address: Address,
    /// State.
    pub state: RowState,
    /// Its message.
    pub message: Option<MessageId>,
    /// Attempts so far.
    pub attempts: u32,
    /// Next attempt while waiting, Unix milliseconds.
    pub due_ms: Option<i64>,
    /// Why it was refused, held or suppressed.
    pub why: Option<String>,
    /// Why the last attempt failed.
    pub cause: Option<Cause>,
}
