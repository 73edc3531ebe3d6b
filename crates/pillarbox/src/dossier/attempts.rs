//! Attempts at a message, each once, with what its conversation shows.

use proto::transcript::{Certificate, Fact, Step, Transcript};
use store::{Attempt, Event, MessageView};

use super::{AnswerOut, CertificateOut, StepOut, TlsOut, TriedOut};
use crate::http::{time, words};

/// Recipients named with an attempt.
const NAMED: usize = 5;

/// For each event the number of its attempt, from 1: one attempt is behind the events of all its recipients.
pub(super) fn same_attempts(events: &[Event]) -> Vec<Option<usize>> {
    let mut known: Vec<&Attempt> = Vec::new();
    let number = |event: &Event| -> Option<(i64, String, Option<String>)> {
        let attempt = event.detail.attempt.as_ref()?;
        Some((attempt.started_ms, attempt.route.to_string(), attempt.peer.clone()))
    };
    let mut seen: Vec<(i64, String, Option<String>)> = Vec::new();
    let mut numbers = Vec::with_capacity(events.len());
    for event in events {
        let Some(key) = number(event) else {
            numbers.push(None);
            continue;
        };
        let place = match seen.iter().rposition(|one| *one == key) {
            Some(place) => place,
            None => {
                seen.push(key);
                known.extend(event.detail.attempt.as_ref());
                seen.len() - 1
            }
        };
        numbers.push(Some(place + 1));
    }
    numbers
}

/// Oldest first.
pub(super) fn of(view: &MessageView, events: &[Event]) -> Vec<TriedOut> {
    let mut tried: Vec<TriedOut> = Vec::new();
    for (event, number) in events.iter().zip(same_attempts(events)) {
        let (Some(number), Some(attempt)) = (number, &event.detail.attempt) else { continue };
        if tried.len() < number {
            tried.push(TriedOut { n: number, ..one(attempt) });
        }
        let Some(out) = tried.get_mut(number - 1) else { continue };
        // Of an attempt that went well for one and not for another, the other's event has the conversation.
        if out.steps.is_empty() && attempt.transcript.is_some() {
            let TriedOut { local, dns, tls_facts, steps, .. } = one(attempt);
            (out.local, out.dns, out.tls_facts, out.steps) = (local, dns, tls_facts, steps);
        }
        let result = words::event(event.kind);
        if !out.results.iter().any(|known| known == result) {
            out.results.push(result.into());
        }
        if let Some(cause) = &event.detail.cause {
            out.failure.get_or_insert_with(|| words::failure(&cause.failure));
        }
        out.count += 1;
        let recipient = event.n.and_then(|n| view.recipients.iter().find(|one| one.id.n == n));
        if let (Some(recipient), true) = (recipient, out.recipients.len() < NAMED) {
            out.recipients.push(recipient.address.to_string());
        }
    }
    tried
}

fn one(attempt: &Attempt) -> TriedOut {
    let steps = attempt.transcript.as_ref().map_or(&[][..], |transcript: &Transcript| &transcript.steps);
    let facts = || steps.iter().filter_map(|step| step.fact.as_ref());
    let local = facts().find_map(|fact| match fact {
        Fact::Connected { local, .. } => Some(local.to_string()),
        _ => None,
    });
    let dns = facts().filter_map(|fact| match fact {
        Fact::Resolved { host, addresses } => Some(AnswerOut { host: host.clone(), addresses: addresses.clone() }),
        _ => None,
    });
    TriedOut {
        n: 0,
        started: time::show(attempt.started_ms),
        took_ms: attempt.took_ms,
        route: attempt.route.to_string(),
        peer: attempt.peer.clone(),
        local,
        results: Vec::new(),
        recipients: Vec::new(),
        count: 0,
        reply: attempt.reply.as_ref().map(ToString::to_string),
        stage: attempt.stage.map(|stage| words::stage(stage).into()),
        failure: None,
        dns: dns.collect(),
        tls: attempt.tls.clone(),
        tls_facts: tls(steps),
        steps: steps.iter().map(step).collect(),
    }
}

/// The last handshake: the one before may have been refused.
fn tls(steps: &[Step]) -> Option<TlsOut> {
    let facts = || steps.iter().rev().filter_map(|step| step.fact.as_ref());
    let chain = facts().find_map(|fact| match fact {
        Fact::Chain { certificates } => Some(certificates.iter().map(certificate).collect::<Vec<_>>()),
        _ => None,
    });
    let found = facts().find_map(|fact| match fact {
        Fact::Tls { version, cipher, verified, problem, by } => Some(TlsOut {
            version: version.clone(),
            cipher: cipher.clone(),
            verified: *verified,
            problem: problem.clone(),
            by: by.clone(),
            certificates: Vec::new(),
        }),
        _ => None,
    })?;
    Some(TlsOut { certificates: chain.unwrap_or_default(), ..found })
}

fn certificate(one: &Certificate) -> CertificateOut {
    CertificateOut {
        subject: one.subject.clone(),
        issuer: one.issuer.clone(),
        names: one.names.clone(),
        not_before: time::show(one.not_before.saturating_mul(1_000)),
        not_after: time::show(one.not_after.saturating_mul(1_000)),
        key: one.key.clone(),
        sha256: one.sha256.clone(),
    }
}

fn step(step: &Step) -> StepOut {
    StepOut {
        at_ms: step.started_us / 1_000,
        took_us: step.took_us,
        stage: words::stage(step.stage).into(),
        sent: step.sent.clone(),
        reply: step.reply.as_ref().map(ToString::to_string),
        fact: step.fact.as_ref().map(words::fact),
        failure: step.failure.as_ref().map(words::failure),
    }
}
