//! Events as spans: `accept` when a message came in, one `attempt` for each try, `delivery` over all of it in the end.
//!
//! Addresses are in none of them: a recipient is named by its number, a next hop by its host.

use explain::RuleBase;
use proto::transcript::Transcript;
use serde_json::{Value, json};
use store::{Attempt, Cause, EventKind, ToldEvent};

use super::context::{Parent, SpanId, TraceId, hex, span_of, trace_of};
use super::encode::{nanoseconds, number, text};

/// Most steps of a conversation in one span.
const MOST_STEPS: usize = 32;
/// Longest words in an attribute, characters.
const MOST_WORDS: usize = 300;

/// Kinds of spans, as OTLP numbers them.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;

/// Makes spans.
pub(super) struct Maker<'a> {
    pub(super) hostname: &'a str,
    /// Traces in a hundred.
    pub(super) sample: u64,
    pub(super) rules: &'a RuleBase,
}

/// A span to be.
struct Span<'a> {
    name: &'a str,
    id: SpanId,
    parent: Option<SpanId>,
    kind: u8,
    from: String,
    to: String,
    attributes: Vec<Value>,
    steps: Vec<Value>,
    failed: Option<String>,
}

impl Span<'_> {
    fn json(self, trace: &TraceId) -> Value {
        let mut out = json!({
            "traceId": hex(trace),
            "spanId": hex(&self.id),
            "name": self.name,
            "kind": self.kind,
            "startTimeUnixNano": self.from,
            "endTimeUnixNano": self.to,
            "attributes": self.attributes,
            "events": self.steps,
        });
        if let Some(parent) = self.parent {
            out["parentSpanId"] = json!(hex(&parent));
        }
        if let Some(why) = self.failed {
            out["status"] = json!({ "code": 2, "message": why });
        }
        out
    }
}

impl Maker<'_> {
    /// The spans that end with an event; none if its trace is not recorded.
    pub(super) fn spans(&self, told: &ToldEvent) -> Vec<Value> {
        let (event, message) = (&told.event, &told.message);
        let parent = message.details.trace.as_deref().and_then(Parent::parse);
        let trace = parent.map_or_else(|| trace_of(self.hostname, message.id), |parent| parent.trace);
        let recorded = match parent {
            Some(parent) => parent.sampled && self.sample > 0,
            None => u64::from(u16::from_be_bytes([trace[0], trace[1]])) * 100 < self.sample * 65_536,
        };
        if !recorded {
            return Vec::new();
        }
        let n = event.n.unwrap_or(0);
        let accept = span_of(&trace, &["accept"]);
        let delivery = span_of(&trace, &["delivery", &n.to_string()]);
        let common = || {
            vec![
                text("pillarbox.message_id", &message.id.to_string()),
                text("pillarbox.sender", &message.sender),
                text("pillarbox.stream", &message.stream),
            ]
        };
        let about = || [common(), vec![number("pillarbox.recipient", i64::from(n))]].concat();
        let (accepted, at) = (nanoseconds(message.accepted_ms, 0), nanoseconds(event.at_ms, 0));
        let cause = event.detail.cause.as_ref();
        let mut all = Vec::new();
        if event.kind == EventKind::Accepted {
            // Told for each recipient; one span is enough.
            if n == 0 {
                let mut attributes = common();
                attributes.push(number("pillarbox.size", i64::from(message.size)));
                let protocol = message.details.origin.as_ref().map(|origin| origin.protocol.as_str());
                attributes.extend(protocol.map(|protocol| text("network.protocol.name", protocol)));
                let span = Span {
                    name: "accept",
                    id: accept,
                    parent: parent.map(|parent| parent.span),
                    kind: SERVER,
                    from: accepted,
                    to: at,
                    attributes,
                    steps: Vec::new(),
                    failed: None,
                };
                all.push(span.json(&trace));
            }
            return all;
        }
        if let Some(attempt) = &event.detail.attempt {
            all.push(self.attempt(&trace, delivery, n, attempt, cause, about()).json(&trace));
        }
        let outcome = word(event.kind);
        let mut attributes = about();
        attributes.push(text("pillarbox.outcome", outcome));
        attributes.extend(self.why(cause));
        let failed = matches!(event.kind, EventKind::Failed | EventKind::Expired | EventKind::Bounced)
            .then(|| self.words(cause, outcome));
        if is_last(event.kind) {
            let span = Span {
                name: "delivery",
                id: delivery,
                parent: Some(accept),
                kind: INTERNAL,
                from: accepted,
                to: at,
                attributes,
                steps: Vec::new(),
                failed,
            };
            all.push(span.json(&trace));
        } else if event.kind != EventKind::Deferred {
            let id = span_of(&trace, &[outcome, &event.seq.to_string(), &n.to_string()]);
            let span = Span {
                name: outcome,
                id,
                parent: Some(delivery),
                kind: INTERNAL,
                from: at.clone(),
                to: at,
                attributes,
                steps: Vec::new(),
                failed,
            };
            all.push(span.json(&trace));
        }
        all
    }

    fn attempt(
        &self,
        trace: &TraceId,
        delivery: SpanId,
        n: u32,
        attempt: &Attempt,
        cause: Option<&Cause>,
        mut attributes: Vec<Value>,
    ) -> Span<'static> {
        attributes.push(text("pillarbox.route", &attempt.route));
        if let Some(peer) = &attempt.peer {
            let (host, rest) = peer.split_once(" [").unwrap_or((peer, ""));
            attributes.push(text("server.address", host));
            let port = rest.rsplit_once("]:").and_then(|(_, port)| port.parse().ok());
            attributes.extend(port.map(|port| number("server.port", port)));
        }
        attributes.extend(attempt.tls.as_deref().map(|tls| text("pillarbox.tls", tls)));
        attributes.extend(attempt.reply.as_ref().map(|reply| number("pillarbox.reply_code", i64::from(reply.code))));
        attributes.extend(self.why(cause));
        let started = attempt.started_ms;
        Span {
            name: "attempt",
            id: span_of(trace, &["attempt", &n.to_string(), &started.to_string()]),
            parent: Some(delivery),
            kind: CLIENT,
            from: nanoseconds(started, 0),
            to: nanoseconds(started, u64::from(attempt.took_ms) * 1_000),
            attributes,
            steps: attempt.transcript.as_ref().map(steps).unwrap_or_default(),
            failed: cause.map(|cause| self.words(Some(cause), "failed")),
        }
    }

    /// Why, in words of ours: the reason and the rule, and the code of the reply.
    fn why(&self, cause: Option<&Cause>) -> Vec<Value> {
        let Some(cause) = cause else { return Vec::new() };
        let mut all = vec![text("pillarbox.stage", &format!("{:?}", cause.stage).to_ascii_lowercase())];
        if let Some(rule) = &cause.rule {
            all.push(text("pillarbox.rule", rule));
            all.extend(self.rules.rule(rule).map(|rule| text("pillarbox.reason", rule.reason.as_str())));
        }
        all.extend(cause.provider.as_deref().map(|provider| text("pillarbox.provider", provider)));
        all.extend(cause.failure.reply().map(|reply| number("pillarbox.reply_code", i64::from(reply.code))));
        all
    }

    fn words(&self, cause: Option<&Cause>, outcome: &str) -> String {
        let reason = cause.and_then(|cause| self.rules.rule(cause.rule.as_deref()?)).map(|rule| rule.reason.as_str());
        reason.unwrap_or(outcome).chars().take(MOST_WORDS).collect()
    }
}

/// What was said, step by step; not the words, which may name addresses.
fn steps(transcript: &Transcript) -> Vec<Value> {
    let one = |step: &proto::transcript::Step| {
        let mut attributes = Vec::new();
        attributes.extend(step.reply.as_ref().map(|reply| number("pillarbox.reply_code", i64::from(reply.code))));
        attributes.push(number("pillarbox.took_us", i64::try_from(step.took_us).unwrap_or(i64::MAX)));
        json!({
            "timeUnixNano": nanoseconds(transcript.started_ms, step.started_us),
            "name": format!("{:?}", step.stage).to_ascii_lowercase(),
            "attributes": attributes,
        })
    };
    transcript.steps.iter().take(MOST_STEPS).map(one).collect()
}

fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Accepted => "accepted",
        EventKind::Deferred => "deferred",
        EventKind::Delivered => "delivered",
        EventKind::Failed => "failed",
        EventKind::Expired => "expired",
        EventKind::Held => "held",
        EventKind::Released => "released",
        EventKind::Canceled => "canceled",
        EventKind::Suppressed => "suppressed",
        EventKind::Bounced => "bounced",
        EventKind::Complained => "complained",
        EventKind::Quarantined => "quarantined",
        EventKind::WillBeLate => "will_be_late",
    }
}

/// Whether the relay is done with a recipient.
fn is_last(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Delivered | EventKind::Failed | EventKind::Expired | EventKind::Canceled | EventKind::Suppressed
    )
}
