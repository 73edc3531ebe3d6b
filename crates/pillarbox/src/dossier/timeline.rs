//! What happened to a message, a sentence each.

use store::{Event, EventKind, MessageView, Severity};

use super::attempts::same_attempts;
use super::{MomentOut, Tone};
use crate::http::{time, words};

/// Recipients named in one moment.
const NAMED: usize = 5;

/// Oldest first; the same of several recipients in one moment is told once.
pub(super) fn of(view: &MessageView, events: &[Event]) -> Vec<MomentOut> {
    let numbers = same_attempts(events);
    let mut moments: Vec<MomentOut> = Vec::new();
    for (event, number) in events.iter().zip(numbers) {
        let recipient = event.n.and_then(|n| view.recipients.iter().find(|one| one.id.n == n));
        let (tone, text) = sentence(view, event);
        let at = time::show(event.at_ms);
        let name =
            || recipient.map_or_else(|| format!("recipient {}", event.n.unwrap_or(0)), |one| one.address.to_string());
        if let Some(last) = moments.last_mut()
            && event.n.is_some()
            && last.count > 0
            && last.at == at
            && last.text == text
            && last.attempt == number
        {
            last.count += 1;
            if last.recipients.len() < NAMED {
                last.recipients.push(name());
            }
            continue;
        }
        moments.push(MomentOut {
            at,
            event: words::event(event.kind).into(),
            tone,
            text,
            recipients: if event.n.is_some() { vec![name()] } else { Vec::new() },
            count: usize::from(event.n.is_some()),
            attempt: number,
        });
    }
    moments
}

fn sentence(view: &MessageView, event: &Event) -> (Tone, String) {
    let detail = &event.detail;
    let failure = || match &detail.cause {
        Some(cause) => words::failure(&cause.failure),
        None => detail.why.clone().unwrap_or_else(|| "no reason was noted".into()),
    };
    let by =
        || detail.why.as_deref().filter(|who| !who.is_empty()).map_or_else(String::new, |who| format!(" by {who}"));
    let why = || detail.why.clone().unwrap_or_else(|| "no reason was noted".into());
    match event.kind {
        EventKind::Accepted => (Tone::Good, accepted(view)),
        EventKind::Deferred => {
            let next =
                detail.until_ms.map(|ms| format!(". It is tried again at {}", time::show(ms))).unwrap_or_default();
            (Tone::Wait, format!("Not yet: {}{next}", failure()))
        }
        EventKind::Delivered => (Tone::Good, delivered(event)),
        EventKind::Failed => (Tone::Bad, format!("Failed for good: {}", failure())),
        EventKind::Expired if detail.cause.is_some() => {
            (Tone::Bad, format!("Given up, its time was over. The last failure: {}", failure()))
        }
        EventKind::Expired => (Tone::Bad, "Given up: its time was over before it could be sent".into()),
        EventKind::Held => (Tone::Wait, format!("Held: {}", why())),
        EventKind::Released => (Tone::Plain, format!("Released{}", by())),
        EventKind::Canceled => (Tone::Bad, format!("Canceled{}", by())),
        EventKind::Suppressed => (Tone::Bad, format!("Not sent: {}", why())),
        EventKind::Bounced => (Tone::Bad, format!("{}: {}", reported(event, "It came back later"), failure())),
        EventKind::Complained => (Tone::Bad, reported(event, "The recipient complained")),
        EventKind::Quarantined => {
            (Tone::Bad, "Set aside: the stored content does not match its hash and is never delivered".into())
        }
        EventKind::WillBeLate => (Tone::Wait, format!("It became foreseeable that it will be late: {}", why())),
    }
}

fn accepted(view: &MessageView) -> String {
    let message = &view.message;
    let origin = message.details.origin.as_ref();
    let how = origin.map(|origin| format!(" by {}", origin.protocol)).unwrap_or_default();
    let client = origin.and_then(|origin| origin.address).map(|address| format!(" from {address}")).unwrap_or_default();
    let test = if message.details.test { ". It is a test" } else { "" };
    format!("Accepted from sender {} in stream {}{how}{client}{test}", message.sender, message.stream)
}

/// A 250 is not an inbox: it says who has the message now.
fn delivered(event: &Event) -> String {
    let attempt = event.detail.attempt.as_ref();
    let whom = match attempt.map(|attempt| (attempt.peer.as_deref(), &attempt.route)) {
        Some((Some(peer), route)) => format!(" by {peer} (route {route})"),
        Some((None, route)) => format!(" by route {route}"),
        None => String::new(),
    };
    let reply =
        attempt.and_then(|attempt| attempt.reply.as_ref()).map(|reply| format!(": {reply}")).unwrap_or_default();
    let note = event.detail.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("Accepted{whom}{reply}{note}")
}

fn reported(event: &Event, what: &str) -> String {
    match &event.detail.report {
        Some(report) => {
            let hard = if report.severity == Severity::Hard { "for good" } else { "for now" };
            match event.kind {
                EventKind::Bounced => format!("{what}, {hard} (told by {})", report.source),
                _ => format!("{what} (told by {})", report.source),
            }
        }
        None => what.into(),
    }
}
