//! The outside JSON: what the API gives and the command line reads. Field names here are a promise.

use explain::RuleBase;
use serde::{Deserialize, Serialize};
use store::{Attempt, Event, MessageView, QueueCount, RecipientView, State};

use super::finding::FindingOut;
use super::views_batch::BatchOfMessage;
use super::{time, words};
use crate::incident::words::FixOut;

/// The answer to a submission.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submitted {
    /// Message id.
    pub id: String,
    /// One for each recipient, in the order of the envelope.
    pub recipients: Vec<SubmittedRecipient>,
}

/// A recipient of a submission.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubmittedRecipient {
    /// Recipient id.
    pub id: String,
    /// Address.
    pub address: String,
    /// What became of it at the door.
    #[serde(default)]
    pub status: Door,
    /// Why it is held or suppressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What became of a recipient at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// It will be attempted.
    #[default]
    Queued,
    /// It has to be released, or is told of by a digest.
    Held,
    /// It gets nothing.
    Suppressed,
}

/// A message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageOut {
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
    /// From header.
    pub from: Option<String>,
    /// Decoded.
    pub subject: Option<String>,
    /// Message-ID header.
    pub message_id: Option<String>,
    /// Octets.
    pub size: u32,
    /// RFC 3339.
    pub send_at: Option<String>,
    /// RFC 3339.
    pub expires: String,
    /// How it came in.
    pub protocol: Option<String>,
    /// Where from.
    pub client: Option<String>,
    /// From the API.
    pub tags: Vec<String>,
    /// From the API.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The row of a batch it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchOfMessage>,
    /// It is a test: everything but the last hop.
    #[serde(default)]
    pub test: bool,
    /// The content is still stored.
    pub has_content: bool,
    /// It is in the capture mailbox.
    pub captured: bool,
    /// At most the first 1,000.
    pub recipients: Vec<RecipientOut>,
}

/// A recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecipientOut {
    /// Recipient id.
    pub id: String,
    /// Address.
    pub address: String,
    /// `waiting`, `leased`, `held`, `delivered`, `failed`, `expired`, `canceled`, `suppressed`.
    pub state: String,
    /// The state in words.
    pub meaning: String,
    /// Next attempt, RFC 3339.
    pub due: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// Route.
    pub route: String,
    /// Domain.
    pub domain: String,
    /// Sender.
    pub sender: String,
    /// Stream.
    pub stream: String,
    /// Last failure in words.
    pub reason: Option<String>,
    /// Last failure with its numbers.
    pub failure: Option<serde_json::Value>,
    /// What the last failure means.
    #[serde(default)]
    pub finding: Option<FindingOut>,
    /// RFC 3339.
    pub accepted: String,
    /// MAIL FROM; empty for the null reverse-path.
    pub envelope_from: String,
    /// Octets.
    pub size: u32,
}

/// An event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventOut {
    /// Cursor.
    pub seq: i64,
    /// RFC 3339.
    pub at: String,
    /// Message id.
    pub message: String,
    /// Recipient id.
    pub recipient: Option<String>,
    /// `accepted`, `deferred`, `delivered`, …
    pub event: String,
    /// Why, in words.
    pub reason: Option<String>,
    /// Next attempt, RFC 3339.
    pub next: Option<String>,
    /// The attempt.
    pub attempt: Option<AttemptOut>,
    /// The failure with its numbers.
    pub failure: Option<serde_json::Value>,
    /// Id of the rule that explained it then.
    #[serde(default)]
    pub rule: Option<String>,
    /// Where a report that came later is from: `listener`, `imap`, `ses`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How bad a report that came later is: `hard`, `soft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<store::Severity>,
}

/// Recipients that wait or are held for the same reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CauseOut {
    /// Id of the rule; empty where none fitted.
    pub rule: String,
    /// Recipients waiting.
    pub pending: u64,
    /// Recipients held.
    pub held: u64,
    /// Earliest next attempt, RFC 3339.
    pub next_due: Option<String>,
    /// When the oldest of their messages was accepted, RFC 3339; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// What it means, without the values of one failure.
    pub finding: Option<FindingOut>,
}

/// A cause with all that is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CauseDetailOut {
    /// As in a list.
    pub cause: CauseOut,
    /// What is behind it, the likeliest first.
    pub causes: Vec<String>,
    /// What to do, in order.
    pub fixes: Vec<FixOut>,
    /// The last failure of the oldest recipient, in words.
    pub example: Option<String>,
    /// Recipients that were looked at for what follows: the oldest 200.
    pub looked_at: u64,
    /// Their routes, most recipients first.
    pub routes: Vec<SharedOut>,
    /// Their domains.
    pub domains: Vec<SharedOut>,
    /// Who submitted for them.
    pub senders: Vec<SharedOut>,
    /// Their streams.
    pub streams: Vec<SharedOut>,
}

/// What some recipients have in common.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SharedOut {
    /// The value.
    pub name: String,
    /// How many have it.
    pub recipients: u64,
}

impl CauseOut {
    /// A line of the summary, explained.
    pub fn of(count: &QueueCount, rules: &RuleBase) -> Self {
        Self {
            rule: count.group.clone(),
            pending: count.pending,
            held: count.held,
            next_due: count.next_due_ms.map(time::show),
            oldest: None,
            finding: FindingOut::of_rule(rules, &count.group),
        }
    }
}

/// An attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptOut {
    /// Route.
    pub route: String,
    /// Host that took or refused it.
    pub peer: Option<String>,
    /// Version and cipher.
    pub tls: Option<String>,
    /// RFC 3339.
    pub started: String,
    /// Milliseconds.
    pub took_ms: u32,
    /// Stage of the failure.
    pub stage: Option<String>,
    /// Final positive reply.
    pub reply: Option<String>,
    /// The conversation, if it was kept.
    pub transcript: Option<serde_json::Value>,
}

/// One page of the queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Cursor for the next page; none: this was the last.
    pub next: Option<String>,
}

/// Where in a list of names, and how much of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    /// The `next` of the page before.
    after: Option<String>,
    /// At most so many, 1 to 1,000; without it all.
    limit: Option<u32>,
}

impl Names {
    /// The page of a list, in order of the names.
    pub fn page<T>(self, mut items: Vec<T>, name: impl Fn(&T) -> &str) -> Page<T> {
        if let Some(after) = &self.after {
            items.retain(|item| name(item) > after.as_str());
        }
        items.sort_by(|a, b| name(a).cmp(name(b)));
        let limit = self.limit.map_or(usize::MAX, |limit| limit.clamp(1, 1_000) as usize);
        let next = (items.len() > limit).then(|| items.get(limit - 1).map(|last| name(last).to_owned())).flatten();
        items.truncate(limit);
        Page { items, next }
    }
}

/// A line of the queue's summary.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CountOut {
    /// The value grouped by.
    pub group: String,
    /// Waiting or being delivered.
    pub pending: u64,
    /// Held.
    pub held: u64,
    /// Earliest next attempt, RFC 3339.
    pub next_due: Option<String>,
    /// When the oldest of their messages was accepted, RFC 3339; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Why that one is still here, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How many an operation meant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Operated {
    /// Recipients.
    pub recipients: u64,
    /// Nothing was changed.
    pub dry_run: bool,
    /// There may be more: a preview counts to 100,000.
    pub at_least: bool,
    /// Of a preview: the first addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

impl RecipientOut {
    /// As it is shown, with what the rules say about its last failure.
    pub fn of(view: &RecipientView, rules: &RuleBase) -> Self {
        let failure = view.failure().map(words::failure);
        // What stands in the way now comes first: an operator's word outlives the failure before it.
        let reason = match view.state {
            State::Held | State::Suppressed => view.why.clone().or(failure),
            _ => failure.or_else(|| view.why.clone()),
        };
        Self {
            id: view.id.to_string(),
            address: view.address.to_string(),
            state: words::state(view.state).into(),
            meaning: words::meaning(view),
            due: view.due_ms.map(time::show),
            attempts: view.attempts,
            route: view.lane.route.to_string(),
            domain: view.lane.domain.to_string(),
            sender: view.lane.sender.to_string(),
            stream: view.lane.stream.to_string(),
            reason,
            failure: view.failure().and_then(|failure| serde_json::to_value(failure).ok()),
            finding: view.cause.as_ref().and_then(|cause| FindingOut::of(rules, cause)),
            accepted: time::show(view.accepted_ms),
            envelope_from: view.reverse_path.0.as_ref().map_or_else(String::new, ToString::to_string),
            size: view.size,
        }
    }
}

impl MessageOut {
    /// As it is shown, with what the rules say about each recipient's last failure.
    pub fn of(view: &MessageView, rules: &RuleBase) -> Self {
        let message = &view.message;
        let details = &message.details;
        let origin = details.origin.as_ref();
        Self {
            id: message.id.to_string(),
            accepted: time::show(message.accepted_ms),
            sender: message.sender.to_string(),
            stream: message.stream.to_string(),
            envelope_from: message.reverse_path.0.as_ref().map_or_else(String::new, ToString::to_string),
            from: details.from.clone(),
            subject: details.subject.clone(),
            message_id: details.message_id.clone(),
            size: message.size,
            send_at: message.not_before_ms.map(time::show),
            expires: time::show(message.expires_ms),
            protocol: origin.map(|origin| origin.protocol.clone()),
            client: origin.and_then(|origin| origin.address).map(|address| address.to_string()),
            tags: details.tags.clone(),
            metadata: details.metadata.clone(),
            batch: details.row.map(Into::into),
            test: details.test,
            has_content: view.has_content,
            captured: view.captured,
            recipients: view.recipients.iter().map(|view| RecipientOut::of(view, rules)).collect(),
        }
    }
}

impl From<&Event> for EventOut {
    fn from(event: &Event) -> Self {
        let detail = &event.detail;
        let recipient = event.n.map(|n| store::RecipientId { message: event.message, n }.to_string());
        Self {
            seq: event.seq,
            at: time::show(event.at_ms),
            message: event.message.to_string(),
            recipient,
            event: words::event(event.kind).into(),
            reason: detail.cause.as_ref().map(|cause| words::failure(&cause.failure)).or_else(|| detail.why.clone()),
            next: detail.until_ms.map(time::show),
            attempt: detail.attempt.as_ref().map(Into::into),
            failure: detail.cause.as_ref().and_then(|cause| serde_json::to_value(&cause.failure).ok()),
            rule: detail.cause.as_ref().and_then(|cause| cause.rule.as_deref().map(str::to_owned)),
            source: detail.report.as_ref().map(|report| report.source.clone()),
            severity: detail.report.as_ref().map(|report| report.severity),
        }
    }
}

impl From<&Attempt> for AttemptOut {
    fn from(attempt: &Attempt) -> Self {
        Self {
            route: attempt.route.to_string(),
            peer: attempt.peer.clone(),
            tls: attempt.tls.clone(),
            started: time::show(attempt.started_ms),
            took_ms: attempt.took_ms,
            stage: attempt.stage.map(|stage| words::stage(stage).into()),
            reply: attempt.reply.as_ref().map(ToString::to_string),
            transcript: attempt.transcript.as_ref().and_then(|transcript| serde_json::to_value(transcript).ok()),
        }
    }
}

impl From<&QueueCount> for CountOut {
    fn from(count: &QueueCount) -> Self {
        Self {
            group: count.group.clone(),
            pending: count.pending,
            held: count.held,
            next_due: count.next_due_ms.map(time::show),
            oldest: None,
            why: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_read_in_pages() {
        let page = |after: Option<&str>, limit| {
            let names = Names { after: after.map(str::to_owned), limit };
            let page = names.page(vec!["c", "a", "b"], |name| name);
            (page.items, page.next)
        };
        assert_eq!(page(None, None), (vec!["a", "b", "c"], None));
        assert_eq!(page(None, Some(2)), (vec!["a", "b"], Some("b".into())));
        assert_eq!(page(Some("b"), Some(2)), (vec!["c"], None));
        assert_eq!(page(Some("c"), None), (vec![], None));
    }
}
