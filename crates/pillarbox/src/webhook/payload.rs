//! What is told: the body of a request, its id, and which webhook wants it. Made anew for each attempt from what is stored.

use explain::RuleBase;
use serde::{Deserialize, Serialize};
use store::{ChangeKind, EventKind, HookSource, RecipientId, SuppressionChange, SuppressionScope, ToldEvent};

use super::record::WebhookRecord;
use crate::http::finding::FindingOut;
use crate::http::time;
use crate::http::views::EventOut;

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HookEvent {
    /// Durable, answered 250 or 202.
    #[serde(rename = "message.accepted")]
    Accepted,
    /// An attempt failed; another will follow.
    #[serde(rename = "message.deferred")]
    Deferred,
    /// Accepted by the next hop.
    #[serde(rename = "message.delivered")]
    Delivered,
    /// Final failure.
    #[serde(rename = "message.failed")]
    Failed,
    /// Deadline passed.
    #[serde(rename = "message.expired")]
    Expired,
    /// Stopped.
    #[serde(rename = "message.held")]
    Held,
    /// Goes on.
    #[serde(rename = "message.released")]
    Released,
    /// Withdrawn.
    #[serde(rename = "message.canceled")]
    Canceled,
    /// Not to be attempted.
    #[serde(rename = "message.suppressed")]
    Suppressed,
    /// A report came back later.
    #[serde(rename = "message.bounced")]
    Bounced,
    /// The recipient complained.
    #[serde(rename = "message.complained")]
    Complained,
    /// The stored content is damaged.
    #[serde(rename = "message.quarantined")]
    Quarantined,
    /// It will hardly be delivered before its deadline.
    #[serde(rename = "message.will_be_late")]
    WillBeLate,
    /// An address gets no mail from now on.
    #[serde(rename = "suppression.added")]
    SuppressionAdded,
    /// Its reason or expiry is another one.
    #[serde(rename = "suppression.changed")]
    SuppressionChanged,
    /// It gets mail again: somebody removed the suppression.
    #[serde(rename = "suppression.removed")]
    SuppressionRemoved,
    /// It gets mail again: the time of the suppression is over.
    #[serde(rename = "suppression.expired")]
    SuppressionExpired,
}

impl HookEvent {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Accepted,
        Self::Deferred,
        Self::Delivered,
        Self::Failed,
        Self::Expired,
        Self::Held,
        Self::Released,
        Self::Canceled,
        Self::Suppressed,
        Self::Bounced,
        Self::Complained,
        Self::Quarantined,
        Self::WillBeLate,
        Self::SuppressionAdded,
        Self::SuppressionChanged,
        Self::SuppressionRemoved,
        Self::SuppressionExpired,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "message.accepted",
            Self::Deferred => "message.deferred",
            Self::Delivered => "message.delivered",
            Self::Failed => "message.failed",
            Self::Expired => "message.expired",
            Self::Held => "message.held",
            Self::Released => "message.released",
            Self::Canceled => "message.canceled",
            Self::Suppressed => "message.suppressed",
            Self::Bounced => "message.bounced",
            Self::Complained => "message.complained",
            Self::Quarantined => "message.quarantined",
            Self::WillBeLate => "message.will_be_late",
            Self::SuppressionAdded => "suppression.added",
            Self::SuppressionChanged => "suppression.changed",
            Self::SuppressionRemoved => "suppression.removed",
            Self::SuppressionExpired => "suppression.expired",
        }
    }

    /// Of an event of a message.
    pub fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::Accepted => Self::Accepted,
            EventKind::Deferred => Self::Deferred,
            EventKind::Delivered => Self::Delivered,
            EventKind::Failed => Self::Failed,
            EventKind::Expired => Self::Expired,
            EventKind::Held => Self::Held,
            EventKind::Released => Self::Released,
            EventKind::Canceled => Self::Canceled,
            EventKind::Suppressed => Self::Suppressed,
            EventKind::Bounced => Self::Bounced,
            EventKind::Complained => Self::Complained,
            EventKind::Quarantined => Self::Quarantined,
            EventKind::WillBeLate => Self::WillBeLate,
        }
    }

    /// The kind of event in the store; `None` for a change of suppressions.
    pub fn kind(self) -> Option<EventKind> {
        Some(match self {
            Self::Accepted => EventKind::Accepted,
            Self::Deferred => EventKind::Deferred,
            Self::Delivered => EventKind::Delivered,
            Self::Failed => EventKind::Failed,
            Self::Expired => EventKind::Expired,
            Self::Held => EventKind::Held,
            Self::Released => EventKind::Released,
            Self::Canceled => EventKind::Canceled,
            Self::Suppressed => EventKind::Suppressed,
            Self::Bounced => EventKind::Bounced,
            Self::Complained => EventKind::Complained,
            Self::Quarantined => EventKind::Quarantined,
            Self::WillBeLate => EventKind::WillBeLate,
            _ => return None,
        })
    }
}

impl From<ChangeKind> for HookEvent {
    fn from(change: ChangeKind) -> Self {
        match change {
            ChangeKind::Added => Self::SuppressionAdded,
            ChangeKind::Changed => Self::SuppressionChanged,
            ChangeKind::Removed => Self::SuppressionRemoved,
            ChangeKind::Expired => Self::SuppressionExpired,
        }
    }
}

impl WebhookRecord {
    /// Kinds of events it is told of.
    pub fn kinds(&self) -> Vec<EventKind> {
        let events: &[HookEvent] = if self.events.is_empty() { &HookEvent::ALL } else { &self.events };
        events.iter().filter_map(|event| event.kind()).collect()
    }

    /// Whether it wants an event of one of its kinds.
    pub fn wants(&self, told: &ToldEvent) -> bool {
        let among = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
        among(&self.streams, &told.message.stream) && among(&self.senders, &told.message.sender)
    }

    /// Whether it is told of changes of suppressions at all. With a list of senders only if they are named: who may see
    /// one sender's mail is not told which addresses the others' mail came back from.
    pub fn wants_changes(&self) -> bool {
        match self.events.as_slice() {
            [] => self.senders.is_empty(),
            events => events.iter().any(|event| event.kind().is_none()),
        }
    }

    /// Whether it wants a change of suppressions.
    pub fn wants_change(&self, change: &SuppressionChange) -> bool {
        let scope = match &change.scope {
            SuppressionScope::Global => true,
            SuppressionScope::Stream(name) => self.streams.is_empty() || self.streams.iter().any(|one| **one == **name),
        };
        scope && (self.events.is_empty() || self.events.contains(&change.change.into()))
    }
}

/// The body of a request: type, time, data, as Standard Webhooks has it. Field names are a promise.
#[derive(Debug, Clone, Serialize)]
pub struct Body<T> {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When, RFC 3339.
    pub timestamp: String,
    /// Particulars.
    pub data: T,
}

/// Particulars of a message's event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageData {
    /// Whom it is about.
    pub recipient: RecipientData,
    /// The message.
    pub message: AboutMessage,
    /// The event, as in the message's history.
    pub event: EventOut,
    /// What a failure means, from the rules as they are now.
    pub finding: Option<FindingOut>,
}

/// A recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecipientData {
    /// Recipient id.
    pub id: String,
    /// Address.
    pub address: String,
}

/// A message, as far as an application needs it to know which one it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AboutMessage {
    /// Message id.
    pub id: String,
    /// RFC 3339.
    pub accepted: String,
    /// Sender name.
    pub sender: String,
    /// Stream.
    pub stream: String,
    /// MAIL FROM; empty for the null reverse-path.
    pub envelope_from: String,
    /// Message-ID header.
    pub message_id: Option<String>,
    /// From the API.
    pub tags: Vec<String>,
    /// From the API.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// Particulars of a change of suppressions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangeData {
    /// Cursor of the changes: `GET /api/v1/suppressions?since=`.
    pub seq: i64,
    /// The address.
    pub address: String,
    /// `*` or a stream.
    pub scope: String,
    /// The reason it has now, or had.
    pub reason: String,
    /// RFC 3339; none: for good, or it does not hold any more.
    pub expires: Option<String>,
    /// Who did it.
    pub who: String,
    /// Why, in their words.
    pub why: Option<String>,
}

/// A request to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The same for every attempt: what a receiver tells repetitions by.
    pub id: String,
    /// What happened.
    pub kind: &'static str,
    /// The address it is about, for the log.
    pub about: String,
    /// JSON.
    pub body: Vec<u8>,
}

fn octets<T: Serialize>(body: &Body<T>) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// Of an event.
pub fn of_event(told: &ToldEvent, rules: &RuleBase) -> Request {
    let (event, message) = (&told.event, &*told.message);
    let id = RecipientId { message: event.message, n: event.n.unwrap_or_default() };
    let mut out = EventOut::from(event);
    // A conversation is for people; it can be had from the message.
    if let Some(attempt) = &mut out.attempt {
        attempt.transcript = None;
    }
    let data = MessageData {
        recipient: RecipientData { id: id.to_string(), address: told.address.to_string() },
        message: AboutMessage {
            id: message.id.to_string(),
            accepted: time::show(message.accepted_ms),
            sender: message.sender.to_string(),
            stream: message.stream.to_string(),
            envelope_from: message.reverse_path.0.as_ref().map_or_else(String::new, ToString::to_string),
            message_id: message.details.message_id.clone(),
            tags: message.details.tags.clone(),
            metadata: message.details.metadata.clone(),
        },
        finding: event.detail.cause.as_ref().and_then(|cause| FindingOut::of(rules, cause)),
        event: out,
    };
    let kind = HookEvent::of(event.kind).as_str();
    let body = octets(&Body { kind, timestamp: time::show(event.at_ms), data });
    Request { id: format!("evt_{id}.{}", event.seq), kind, about: told.address.to_string(), body }
}

/// Of a change of suppressions.
pub fn of_change(change: &SuppressionChange) -> Request {
    let kind = HookEvent::from(change.change).as_str();
    let data = ChangeData {
        seq: change.seq,
        address: change.address.to_string(),
        scope: change.scope.as_str().to_owned(),
        reason: change.reason.as_str().to_owned(),
        expires: change.expires_ms.map(time::show),
        who: change.who.clone(),
        why: change.why.clone(),
    };
    let body = octets(&Body { kind, timestamp: time::show(change.at_ms), data });
    Request { id: format!("sup_{}.{}", change.at_ms, change.seq), kind, about: change.address.to_string(), body }
}

/// A sample, to see whether an endpoint works. Its type is no other event's: nobody acts on it by mistake.
pub fn sample(now_ms: i64) -> Request {
    let kind = "webhook.test";
    let data = serde_json::json!({ "hello": "This is a test by `pillarbox webhook test`. Nothing has happened." });
    let body = octets(&Body { kind, timestamp: time::show(now_ms), data });
    Request { id: format!("test_{:016x}", rand::random::<u64>()), kind, about: String::new(), body }
}

/// What later events must not overtake: those of one recipient, or of one address.
pub fn key(source: HookSource, parts: &[&[u8]]) -> i64 {
    let mut hash = blake3::Hasher::new();
    hash.update(&[source as u8]);
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    i64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::words;

    #[test]
    fn every_kind_has_one_word_and_comes_back_from_it() {
        for event in HookEvent::ALL {
            let word = serde_json::to_value(event).unwrap();
            assert_eq!(word, event.as_str());
            assert_eq!(serde_json::from_value::<HookEvent>(word).unwrap(), event);
            if let Some(kind) = event.kind() {
                assert_eq!(HookEvent::of(kind), event);
                assert_eq!(event.as_str(), format!("message.{}", words::event(kind)));
            }
        }
    }

    #[test]
    fn changes_of_suppressions_are_not_told_to_who_sees_one_sender_only() {
        let record = |body| serde_json::from_value::<WebhookRecord>(body).unwrap();
        let url = "https://example.com";
        assert!(record(serde_json::json!({ "url": url })).wants_changes());
        assert!(!record(serde_json::json!({ "url": url, "senders": ["a"] })).wants_changes());
        let named = serde_json::json!({ "url": url, "senders": ["a"], "events": ["suppression.added"] });
        assert!(record(named.clone()).wants_changes());
        assert!(record(named).kinds().is_empty());
    }
}
