//! What people ask about the queue, and what they are shown.

use std::sync::Arc;

use proto::transcript::Failure;
use proto::{Address, RcptParameters, ReversePath};
use serde::{Deserialize, Serialize};

use super::{BatchId, Cause, LaneKey, Message, MessageId, RecipientId, State};

/// A recipient as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipientView {
    /// Name.
    pub id: RecipientId,
    /// Where to.
    pub address: Address,
    /// RCPT parameters.
    pub parameters: RcptParameters,
    /// State.
    pub state: State,
    /// Next attempt while waiting, Unix milliseconds.
    pub due_ms: Option<i64>,
    /// Attempts so far.
    pub attempts: u32,
    /// Lane.
    pub lane: LaneKey,
    /// Reason of a held or suppressed one.
    pub why: Option<String>,
    /// Why the last attempt failed.
    pub cause: Option<Cause>,
    /// When the message was accepted, Unix milliseconds.
    pub accepted_ms: i64,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// Octets.
    pub size: u32,
}

impl RecipientView {
    /// The last failure, without what explains it.
    pub fn failure(&self) -> Option<&Failure> {
        self.cause.as_ref().map(|cause| &cause.failure)
    }
}

/// Which recipients an operator means: all conditions must hold; an empty selector is refused by the verbs that change.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selector {
    /// Everything that is not final.
    pub all: bool,
    /// A message.
    pub message: Option<MessageId>,
    /// A recipient of that message.
    pub n: Option<u32>,
    /// Recipient address.
    pub recipient: Option<String>,
    /// Recipient domain.
    pub domain: Option<String>,
    /// Route.
    pub route: Option<String>,
    /// Sender.
    pub sender: Option<String>,
    /// Stream.
    pub stream: Option<String>,
    /// Domain of the envelope's sender.
    pub sender_domain: Option<String>,
    /// State.
    pub state: Option<State>,
    /// Id of the rule that explains the last failure. Finds recipients that are waiting or held.
    pub cause: Option<String>,
    /// Batch its message was made from. Finds recipients that are not final.
    pub batch: Option<BatchId>,
    /// How the reason of a held or suppressed one begins.
    pub why: Option<String>,
}

impl Selector {
    /// What is held for a reason that begins so.
    pub fn held_for(why: impl Into<String>) -> Self {
        Self { state: Some(State::Held), why: Some(why.into()), ..Self::default() }
    }

    /// Whether recipients of a lane can be meant.
    pub fn means_lane(&self, lane: &LaneKey) -> bool {
        let means = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        means(&self.domain, &lane.domain)
            && means(&self.route, &lane.route)
            && means(&self.sender, &lane.sender)
            && means(&self.stream, &lane.stream)
    }
}

/// What an operator does to recipients that are not final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Due now; age and attempts stay.
    Retry,
    /// Stop, with a reason.
    Hold(String),
    /// Held ones wait again, due now.
    Release,
    /// Final.
    Cancel,
}

/// A line of the queue's summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueCount {
    /// The value grouped by.
    pub group: String,
    /// Recipients waiting or leased.
    pub pending: u64,
    /// Of these, of urgent mail (priority 0); not counted by cause.
    pub urgent: u64,
    /// Recipients held.
    pub held: u64,
    /// Earliest due time, Unix milliseconds.
    pub next_due_ms: Option<i64>,
}

/// What the queue's summary is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// Recipient domain.
    Domain,
    /// Route.
    Route,
    /// Sender.
    Sender,
    /// Stream.
    Stream,
    /// Rule that explains the last failure; recipients that have not failed yet are left out.
    Cause,
}

/// A message as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageView {
    /// The message.
    pub message: Arc<Message>,
    /// Its recipients, at most the number asked for.
    pub recipients: Vec<RecipientView>,
    /// The content is still stored.
    pub has_content: bool,
    /// It is in the capture mailbox.
    pub captured: bool,
}
