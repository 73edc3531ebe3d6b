//! What the queue is made of: messages, recipients, lanes, claims, outcomes, states, events.

use std::net::IpAddr;
use std::sync::Arc;

use proto::envelope::{MailParameters, RcptParameters};
use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage, Transcript};
use proto::{Address, ReversePath};
use serde::{Deserialize, Serialize};

use super::{DigestEnd, Fold, Incarnation, LaneId, MessageId, ReportDetail, RowRef};

/// What waits together: recipients that the schedule treats alike. FIFO by due time within.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneKey {
    /// Route name.
    pub route: Arc<str>,
    /// Recipient domain, lower-case A-labels.
    pub domain: Arc<str>,
    /// Sender name.
    pub sender: Arc<str>,
    /// Stream name.
    pub stream: Arc<str>,
    /// 0 is the most urgent, 3 is bulk; 2 is the default.
    pub priority: u8,
}

/// A lane with its name, so that the hash is computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Name.
    pub id: LaneId,
    /// Key.
    pub key: LaneKey,
}

/// Where a message came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `ESMTPSA`, `ESMTPA`, `HTTP`, `LOCAL` (RFC 3848 words where there is one).
    pub protocol: String,
    /// The client's address, after PROXY or XCLIENT from a listed peer.
    pub address: Option<IpAddr>,
    /// What it said in EHLO.
    pub helo: Option<String>,
}

/// All of a message but its recipients and its octets.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Name.
    pub id: MessageId,
    /// Unix milliseconds of the accept.
    pub accepted_ms: i64,
    /// Who submitted it.
    pub sender: Arc<str>,
    /// Named class of mail.
    pub stream: Arc<str>,
    /// See [`LaneKey::priority`].
    pub priority: u8,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// MAIL parameters.
    pub parameters: MailParameters,
    /// Octets of the stored content.
    pub size: u32,
    /// The content has octets above 127 or lines over 998: not every next hop takes it as it is.
    pub eight_bit: bool,
    /// Not to be attempted before, Unix milliseconds.
    pub not_before_ms: Option<i64>,
    /// Not to be attempted after, Unix milliseconds.
    pub expires_ms: i64,
    /// Rarely needed parts, kept as one JSON column.
    pub details: Arc<MessageDetails>,
}

/// The parts of a message that only people and reports read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageDetails {
    /// Decoded Subject, at most 200 characters.
    pub subject: Option<String>,
    /// From header, at most 200 characters.
    pub from: Option<String>,
    /// Message-ID header with its angle brackets.
    pub message_id: Option<String>,
    /// Where it came in.
    pub origin: Option<Origin>,
    /// From the API.
    pub tags: Vec<String>,
    /// From the API.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The row of a batch it is made from. It is accepted only if the row was none before and its batch is running.
    pub row: Option<RowRef>,
    /// Everything but the last hop.
    pub test: bool,
    /// The client's own trace that this one goes on, as W3C Trace Context writes it.
    pub trace: Option<Box<str>>,
    /// Its end was asked for (`deliver_by`, the stream's deadline): it is kept to the moment, also by what was never tried
    /// and by what is held.
    pub deadline: bool,
}

/// A recipient on its way in.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRecipient {
    /// Where to.
    pub address: Address,
    /// RCPT parameters.
    pub parameters: RcptParameters,
    /// Which lane it waits in.
    pub lane: Arc<Lane>,
    /// How it starts.
    pub start: Start,
}

/// The first state of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// To be claimed when due, Unix milliseconds.
    Waiting(i64),
    /// Already claimed by the accepting run: it is in memory with its body.
    Leased,
    /// Held from the start, with the reason.
    Held(String),
    /// Never to be attempted, with the reason.
    Suppressed(String),
}

/// What [`crate::Intake::accept`] takes.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The message.
    pub message: Arc<Message>,
    /// Its octets: CRLF lines, complete headers.
    pub content: bytes::Bytes,
    /// At least one.
    pub recipients: Vec<NewRecipient>,
    /// Run that owns the leased ones.
    pub by: Incarnation,
    /// HTTP `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
    /// Recipients that may be folded into a digest, with their number; only such as would wait or be leased.
    pub folds: Vec<(u32, Fold)>,
    /// The digest that this message is: from then on it has been sent.
    pub ends: Option<DigestEnd>,
}

impl NewMessage {
    /// A message that has nothing to do with digests, and no key.
    pub fn plain(message: Arc<Message>, content: bytes::Bytes, recipients: Vec<NewRecipient>, by: Incarnation) -> Self {
        Self { message, content, recipients, by, idempotency: None, folds: Vec::new(), ends: None }
    }
}

/// An `Idempotency-Key` with what identifies the request; kept for 24 hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The sender's name: keys of different senders never meet.
    pub sender: Arc<str>,
    /// The key, 1 to 255 characters.
    pub key: String,
    /// BLAKE3 of the request body.
    pub fingerprint: [u8; 32],
    /// The answer to replay.
    pub answer: String,
}

/// How an accept ended when nothing failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Durable. Only the store can make this.
    Committed(Committed),
    /// The key was used before with the same body: send this answer again.
    Replayed(String),
    /// The key was used before with another body.
    KeyConflict,
    /// Nothing was stored: the row it is made from was done with already, or its batch is not running.
    NotWanted,
}

/// Proof that a message is durable: a 250 or 202 can only be made from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub(crate) id: MessageId,
    pub(crate) folded: Vec<u32>,
}

impl Committed {
    /// The message that is durable.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Recipients that were folded into a digest: held, whatever start was planned for them.
    pub fn folded(&self) -> &[u32] {
        &self.folded
    }
}

/// A recipient in a run's hands.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedRecipient {
    /// Position in the envelope.
    pub n: u32,
    /// Where to.
    pub address: Address,
    /// RCPT parameters.
    pub parameters: RcptParameters,
    /// Attempts so far.
    pub attempts: u32,
    /// See [`Cause::unknown_via`]: by another route it might be delivered twice.
    pub unknown_via: Option<Arc<str>>,
}

/// Recipients of one message in one lane, claimed together.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The message.
    pub message: Arc<Message>,
    /// The lane they came from.
    pub lane: Arc<Lane>,
    /// At least one.
    pub recipients: Vec<LeasedRecipient>,
    /// [`crate::Nodes::lapses`] when they were leased.
    pub lapses: u64,
}

/// What [`crate::Queue::claim`] takes.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Who claims.
    pub by: Incarnation,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
    /// Most recipients to claim in all. Exceeded only by the rest of a message: those of its recipients that are in the
    /// same lane and due at the same time are claimed together.
    pub max: u32,
    /// Most recipients to claim from one lane, with the same exception.
    pub max_per_lane: u32,
    /// Lanes that have no room in memory.
    pub skip: Vec<LaneId>,
}

/// What [`crate::Queue::claim`] gives.
#[derive(Debug, Clone, Default)]
pub struct Claimed {
    /// Oldest first within a lane, urgent lanes first.
    pub claims: Vec<Claim>,
    /// When the next recipient of a lane that was not skipped falls due, Unix milliseconds; a time not after `now_ms`
    /// says that more is due now than was asked for.
    pub next_due_ms: Option<i64>,
}

/// Why an attempt failed for a recipient, with all it takes to explain it: the words are made when somebody reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// Where in the conversation.
    pub stage: Stage,
    /// What happened.
    pub failure: Failure,
    /// Id of the provider or program that spoke, if it was recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// Id of the rule that fitted then: what the queue is grouped by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// Route whose next hop may have taken the message: the link died between the content and its reply, then or in an
    /// earlier attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_via: Option<Arc<str>>,
}

/// How an attempt ended for one recipient.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The next hop answered 250: it is theirs now.
    Delivered,
    /// Delivered, and the sender is to be told by us; the word is kept in the event, the content until it is told.
    Relayed {
        /// What.
        why: String,
    },
    /// Delivered, with something to know about it; the word is kept in the event.
    Noted {
        /// What.
        why: String,
    },
    /// Not now: again at this time, Unix milliseconds.
    Deferred {
        /// When.
        until_ms: i64,
        /// Why.
        cause: Cause,
    },
    /// Never.
    Failed {
        /// Why.
        cause: Cause,
    },
    /// Too late.
    Expired {
        /// Last reason, if there was an attempt.
        cause: Option<Cause>,
    },
    /// An operator or a brake has to release it.
    Held {
        /// Why.
        why: String,
    },
    /// Not attempted, and never to be: the address is suppressed since it was accepted.
    Suppressed {
        /// Why.
        why: String,
    },
    /// Not attempted after all: waits again from this time, not counted as an attempt, no event.
    Returned {
        /// When.
        due_ms: i64,
    },
}

/// An attempt's facts, shared by its recipients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Route name.
    pub route: Arc<str>,
    /// Host that took it or refused it, `mx.example.net [192.0.2.1]:25`.
    pub peer: Option<String>,
    /// `TLSv1.3 TLS13_AES_128_GCM_SHA256`, if TLS was on.
    pub tls: Option<String>,
    /// Unix milliseconds.
    pub started_ms: i64,
    /// How long it took.
    pub took_ms: u32,
    /// Stage of the failure.
    pub stage: Option<Stage>,
    /// Final positive reply.
    pub reply: Option<Reply>,
    /// Conversation, if it is to be kept.
    pub transcript: Option<Transcript>,
}

/// What [`crate::Queue::settle`] takes: one attempt at one message.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Who settles: rows leased by another run are left alone.
    pub by: Incarnation,
    /// [`crate::Nodes::lapses`] when they were leased: what the same run leased again since is left alone.
    pub lapses: u64,
    /// Now, Unix milliseconds.
    pub at_ms: i64,
    /// Message.
    pub message: MessageId,
    /// The attempt, unless nothing was attempted.
    pub attempt: Option<Attempt>,
    /// Outcome per recipient.
    pub outcomes: Vec<(u32, Outcome)>,
    /// Keep the content in the capture mailbox.
    pub capture: bool,
}

/// The state of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum State {
    /// To be claimed when due.
    Waiting = 0,
    /// In a run's hands.
    Leased = 1,
    /// Has to be released.
    Held = 2,
    /// Final: the next hop has it.
    Delivered = 3,
    /// Final: never.
    Failed = 4,
    /// Final: too late.
    Expired = 5,
    /// Final: an operator said so.
    Canceled = 6,
    /// Final: was not to be attempted.
    Suppressed = 7,
    /// Final: the next hop had it, and it came back.
    Bounced = 8,
    /// Final: the recipient had it and complained.
    Complained = 9,
}

/// What happened to a message or a recipient. Past tense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum EventKind {
    /// Durable, answered 250.
    Accepted = 0,
    /// An attempt failed; another will follow.
    Deferred = 1,
    /// Accepted by the next hop.
    Delivered = 2,
    /// Final failure.
    Failed = 3,
    /// Deadline passed.
    Expired = 4,
    /// Stopped.
    Held = 5,
    /// Goes on.
    Released = 6,
    /// Withdrawn.
    Canceled = 7,
    /// Not to be attempted.
    Suppressed = 8,
    /// A report came back later.
    Bounced = 9,
    /// The recipient complained.
    Complained = 10,
    /// The stored content does not match its hash: kept, never delivered.
    Quarantined = 11,
    /// It became foreseeable that the deadline will be missed; told once for each recipient.
    WillBeLate = 12,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Cursor: grows, never reused.
    pub seq: i64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Message.
    pub message: MessageId,
    /// Recipient, if it is about one.
    pub n: Option<u32>,
    /// What.
    pub kind: EventKind,
    /// Particulars.
    pub detail: EventDetail,
}

/// What [`crate::Browse::notable_after`] and [`crate::Browse::events_of`] give.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Notable {
    /// Oldest first.
    pub events: Vec<Event>,
    /// All events up to this one were looked at.
    pub upto: i64,
}

/// Particulars of an event; empty fields are not stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventDetail {
    /// The attempt behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Next attempt, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Reason in words, or who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Of a report that came later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportDetail>,
}

impl Lane {
    /// Computes the lane's name.
    pub fn new(key: LaneKey) -> Self {
        let mut hash = blake3::Hasher::new();
        for part in [&key.route, &key.domain, &key.sender, &key.stream] {
            hash.update(&(part.len() as u32).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.update(&[key.priority]);
        let mut first = [0u8; 8];
        first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        Self { id: LaneId(i64::from_le_bytes(first) & i64::MAX), key }
    }
}

impl State {
    /// No event but a later report can change it.
    pub fn is_final(self) -> bool {
        self as u8 >= State::Delivered as u8
    }
}
