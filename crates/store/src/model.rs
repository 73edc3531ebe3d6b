//! The nouns of the store: messages, recipients, lanes, states, events, selectors.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use proto::envelope::{MailParameters, RcptParameters};
use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage, Transcript};
use proto::{Address, ReversePath};
use serde::{Deserialize, Serialize};

/// A message's name: 42 bits of milliseconds since 2024 and 21 bits that make it unique, so ids sort by time.
///
/// Shown as 13 characters of Crockford's base 32, lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub i64);

/// One recipient of one message; shown as `<message id>.<n>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecipientId {
    /// The message.
    pub message: MessageId,
    /// Position in the envelope, from 0.
    pub n: u32,
}

/// One run of one node: leases carry it, so a late settle of a dead run changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub i64);

/// A lane's name: 63 bits of BLAKE3 over its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub i64);

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
}

/// Proof that a message is durable: a 250 or 202 can only be made from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed(pub(crate) MessageId);

impl Committed {
    /// The message that is durable.
    pub fn id(&self) -> MessageId {
        self.0
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

/// How an attempt ended for one recipient.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The next hop answered 250: it is theirs now.
    Delivered,
    /// Not now: again at this time, Unix milliseconds.
    Deferred {
        /// When.
        until_ms: i64,
        /// Why.
        failure: Failure,
    },
    /// Never.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// Too late.
    Expired {
        /// Last reason, if there was an attempt.
        failure: Option<Failure>,
    },
    /// An operator or a brake has to release it.
    Held {
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

/// Particulars of an event; empty fields are not stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventDetail {
    /// The attempt behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Next attempt, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Reason in words, or who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A recipient as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipientView {
    /// Name.
    pub id: RecipientId,
    /// Where to.
    pub address: Address,
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
    /// Last failure.
    pub failure: Option<Failure>,
    /// When the message was accepted, Unix milliseconds.
    pub accepted_ms: i64,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// Octets.
    pub size: u32,
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
    /// State.
    pub state: Option<State>,
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

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0 as u64;
        let mut text = [0u8; 13];
        for (i, slot) in text.iter_mut().enumerate() {
            *slot = ALPHABET[(value >> (60 - 5 * i)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// A text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: expected 13 characters such as 01k2mzq8v4t7e")]
pub struct IdError;

impl FromStr for MessageId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 13 {
            return Err(IdError);
        }
        let mut value: u64 = 0;
        for octet in text.bytes() {
            let digit = match octet.to_ascii_lowercase() {
                b'o' => 0,
                b'i' | b'l' => 1,
                other => ALPHABET.iter().position(|a| *a == other).ok_or(IdError)? as u64,
            };
            value = value << 5 | digit;
        }
        i64::try_from(value).map(MessageId).map_err(|_| IdError)
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for RecipientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.message, self.n)
    }
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
