//! The outside JSON of batches. Field names here are a promise.

use std::collections::BTreeMap;

use explain::RuleBase;
use serde::{Deserialize, Serialize};
use store::{BatchState, BatchView, RowRef, RowState, RowView, State};

use super::finding::FindingOut;
use super::{time, words};

/// A batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchOut {
    /// Batch id.
    pub id: String,
    /// Its name, else the subject's template.
    pub name: String,
    /// Sender name.
    pub sender: String,
    /// Stream.
    pub stream: String,
    /// `running`, `paused`, `canceled`; `finished`: no row and no message of it is left to be sent.
    pub state: String,
    /// Why it is paused or canceled, or what it waits for.
    pub reason: Option<String>,
    /// Everything but the last hop.
    pub test: bool,
    /// RFC 3339.
    pub created: String,
    /// No row becomes a message before, RFC 3339.
    pub starts: String,
    /// Seconds its rows are spread over.
    pub spread_s: Option<i64>,
    /// RFC 3339.
    pub finished: Option<String>,
    /// Rows.
    pub total: u32,
    /// Rows that are still to become messages; of a canceled batch, that never will.
    pub queued: u32,
    /// Rows that have become messages.
    pub made: u32,
    /// Rows that could not.
    pub refused: u32,
    /// How many rows are in which state; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<BTreeMap<String, u64>>,
}

/// A row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowOut {
    /// Position in the batch, from 1.
    pub row: u32,
    /// Where to.
    pub email: String,
    /// `queued`, `refused`, `gone`, or the state of its recipient.
    pub state: String,
    /// Its message, whose events are at `/messages/{id}/events`.
    pub message: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// Next attempt, RFC 3339.
    pub due: Option<String>,
    /// Why it is not delivered.
    pub reason: Option<String>,
    /// What the last failure means.
    pub finding: Option<FindingOut>,
}

/// The row a message was made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchOfMessage {
    /// Batch id.
    pub id: String,
    /// Position in the batch, from 1.
    pub row: u32,
}

/// A batch that was only checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckedBatch {
    /// Rows, all good.
    pub rows: u32,
    /// The first ones as they would be sent.
    pub shown: Vec<ShownRow>,
}

/// A row as it would be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownRow {
    /// Recipient.
    pub to: String,
    /// Subject.
    pub subject: String,
    /// Plain text body.
    pub text: Option<String>,
    /// HTML body.
    pub html: Option<String>,
    /// Octets of the whole message.
    pub size: u64,
}

impl From<RowRef> for BatchOfMessage {
    fn from(row: RowRef) -> Self {
        Self { id: row.batch.to_string(), row: row.row + 1 }
    }
}

/// A row's state by its word.
pub fn row_state(word: &str) -> Option<RowState> {
    Some(match word {
        "queued" => RowState::Queued,
        "refused" => RowState::Refused,
        "gone" => RowState::Gone,
        other => RowState::Of(serde_json::from_value::<State>(other.into()).ok()?),
    })
}

/// The word of a row's state.
pub fn row_word(state: RowState) -> &'static str {
    match state {
        RowState::Queued => "queued",
        RowState::Refused => "refused",
        RowState::Gone => "gone",
        RowState::Of(state) => words::state(state),
    }
}

impl BatchOut {
    /// As it is shown.
    pub fn of(view: &BatchView, counts: Option<&[(RowState, u64)]>) -> Self {
        let count = |counts: &[(RowState, u64)]| {
            counts.iter().map(|(state, count)| (row_word(*state).to_owned(), *count)).collect()
        };
        Self {
            id: view.id.to_string(),
            name: view.label.clone(),
            sender: view.sender.to_string(),
            stream: view.stream.to_string(),
            state: match view.state {
                BatchState::Running => "running",
                BatchState::Paused => "paused",
                BatchState::Canceled => "canceled",
                BatchState::Finished => "finished",
            }
            .into(),
            reason: view.why.clone(),
            test: view.test,
            created: time::show(view.created_ms),
            starts: time::show(view.start_ms),
            spread_s: view.spread_ms.map(|spread| spread / 1_000),
            finished: view.finished_ms.map(time::show),
            total: view.total,
            queued: view.total.saturating_sub(view.fed + view.refused),
            made: view.fed,
            refused: view.refused,
            rows: counts.map(count),
        }
    }
}

impl RowOut {
    /// As it is shown, with what the rules say about its last failure.
    pub fn of(row: &RowView, rules: &RuleBase) -> Self {
        let failure = row.cause.as_ref().map(|cause| words::failure(&cause.failure));
        let stopped = matches!(row.state, RowState::Refused | RowState::Of(State::Held | State::Suppressed));
        Self {
            row: row.n + 1,
            email: row.address.to_string(),
            state: row_word(row.state).into(),
            message: row.message.map(|id| id.to_string()),
            attempts: row.attempts,
            due: row.due_ms.map(time::show),
            reason: if stopped { row.why.clone().or(failure) } else { failure.or_else(|| row.why.clone()) },
            finding: row.cause.as_ref().and_then(|cause| FindingOut::of(rules, cause)),
        }
    }
}
