//! The answer in words: what is known, question by question.

use store::{Event, Severity, State};

use super::{Answer, Gathered, KnownOut, WhyState, at};
use crate::dossier;
use crate::http::words::failure;
use crate::incident::model::name;

/// One line, and full sentences.
pub(super) fn title(gathered: &Gathered, state: WhyState) -> (String, String) {
    let whom = gathered.address.as_str();
    let latest = gathered.latest.as_ref();
    let reason = || match (&gathered.finding, latest.and_then(|latest| latest.cause.as_ref())) {
        (Some(finding), _) => format!("{}. {}", finding.title, finding.meaning),
        (None, Some(cause)) => failure(&cause.failure),
        (None, None) => "No reason was noted.".into(),
    };
    let (title, meaning) = match state {
        WhyState::NotSubmitted => (
            format!("No mail to {whom} was submitted"),
            "As far back as messages are kept nothing was submitted for this address. The application did not send it, sent it to another address, or sent it another way.".to_owned(),
        ),
        WhyState::Suppressed => (
            format!("{whom} is suppressed"),
            "Mail to it is not sent, so that mail to others keeps arriving: it bounced for good, its owner complained, or somebody put it on the list.".into(),
        ),
        WhyState::OptedOut => (format!("{whom} has opted out"), "Its owner does not want this mail, and does not get it.".into()),
        WhyState::StreamOff => (
            "The stream is off or paused".into(),
            "Mail of this stream does not go to anybody until the stream is on again.".into(),
        ),
        WhyState::Held => (
            format!("Mail to {whom} is held"),
            latest.and_then(|latest| latest.why.clone()).unwrap_or_else(|| "Somebody has to release it.".into()),
        ),
        WhyState::Waiting => (format!("Mail to {whom} is waiting to be sent"), "It was not tried yet.".into()),
        WhyState::Failing => (format!("Mail to {whom} is refused for now and tried again"), reason()),
        WhyState::Accepted => accepted(gathered),
        WhyState::Bounced => (format!("Mail to {whom} was accepted and came back"), reason()),
        WhyState::Complained => (
            format!("The owner of {whom} called it spam"),
            "It arrived, and its recipient complained. Nothing more is sent to those who complain.".into(),
        ),
        WhyState::Failed => (format!("Mail to {whom} was refused for good"), reason()),
        WhyState::Expired => (format!("Mail to {whom} was given up: its time was over"), reason()),
        WhyState::Canceled => (format!("Mail to {whom} was canceled"), "Somebody withdrew it before it was sent.".into()),
    };
    (title, meaning)
}

fn accepted(gathered: &Gathered) -> (String, String) {
    let by = gathered.delivered().and_then(|event| event.detail.attempt.as_ref());
    let who =
        by.and_then(|attempt| attempt.peer.clone()).or_else(|| by.map(|attempt| format!("route {}", attempt.route)));
    let who = who.unwrap_or_else(|| "the next hop".into());
    let title = format!("It was accepted by {who}");
    let fate = "left here, and the next hop answered for it. Most likely it is in the spam folder, in quarantine, or was sorted by a rule of the mailbox";
    let stops = gathered.stops();
    if stops.is_empty() {
        return (title, format!("It {fate}: look there first."));
    }
    (title, format!("A next mail would be stopped here: {}. The latest one {fate}.", stops.join("; ")))
}

/// Question by question.
pub(super) fn of(gathered: &Gathered, state: WhyState) -> Vec<KnownOut> {
    let mut known = vec![submitted(gathered), suppressed(gathered), stream(gathered)];
    let Some(latest) = &gathered.latest else { return known };
    if latest.state == State::Held {
        let why = latest.why.clone().unwrap_or_default();
        let text = match dossier::of_held(&why) {
            Some(id) => format!("The latest mail is held by incident {}: {why}", name(id)),
            None => format!("The latest mail is held: {why}"),
        };
        let message = Some(latest.id.message.to_string());
        known.push(KnownOut { stops: true, message, ..answer("held", "Is it held?", Answer::Yes, text) });
    }
    known.push(accepted_by(gathered, state));
    known.push(reported(gathered));
    known
}

fn answer(what: &str, question: &str, answer: Answer, text: String) -> KnownOut {
    KnownOut { what: what.into(), question: question.into(), answer, stops: false, text, at: None, message: None }
}

fn submitted(gathered: &Gathered) -> KnownOut {
    let question = "Was mail to it submitted?";
    let Some(hit) = gathered.own.first() else {
        let text = match gathered.alike.as_slice() {
            [] => "No, as far back as messages are kept.".into(),
            alike => format!("No; but mail was sent to {}: is that who is meant?", alike.join(", ")),
        };
        return KnownOut { stops: true, ..answer("submitted", question, Answer::No, text) };
    };
    let count = gathered.own.len();
    let count = if gathered.more { format!("at least {count} messages") } else { super::steps::messages(count) };
    let subject = hit.message.details.subject.as_deref().map(|subject| format!(", \"{subject}\"")).unwrap_or_default();
    let text = format!(
        "Yes, {count}. The latest came from sender {} in stream {}{subject}.",
        hit.message.sender, hit.message.stream
    );
    KnownOut {
        at: Some(crate::http::time::show(hit.message.accepted_ms)),
        message: Some(hit.message.id.to_string()),
        ..answer("submitted", question, Answer::Yes, text)
    }
}

fn suppressed(gathered: &Gathered) -> KnownOut {
    let question = "Is the address suppressed, or has it opted out?";
    if gathered.suppressions.is_empty() {
        return answer("suppressed", question, Answer::No, "No, neither for all mail nor for a stream.".into());
    }
    let text: Vec<String> = gathered.suppressions.iter().map(relay::suppress::words).collect();
    let (stops, text) = match (&gathered.stream, gathered.hits().next()) {
        (Some(stream), None) => (false, format!("Yes, but mail of stream {stream} goes on: {}.", text.join("; "))),
        _ => (true, format!("Yes: {}.", text.join("; "))),
    };
    KnownOut { stops, ..answer("suppressed", question, Answer::Yes, text) }
}

fn stream(gathered: &Gathered) -> KnownOut {
    let question = "Is the kind of mail switched on?";
    if let Some((name, why)) = gathered.off() {
        return KnownOut {
            stops: true,
            ..answer("stream", question, Answer::No, format!("Stream {name} is not: {why}."))
        };
    }
    match (&gathered.stream, gathered.stopped.as_slice()) {
        (Some(own), _) => answer("stream", question, Answer::Yes, format!("Stream {own} is on.")),
        (None, []) => answer("stream", question, Answer::Yes, "All streams are on.".into()),
        (None, stopped) => {
            let names: Vec<&str> = stopped.iter().map(|(name, _)| name.as_str()).collect();
            answer(
                "stream",
                question,
                Answer::Unknown,
                format!("These streams are off or paused: {}.", names.join(", ")),
            )
        }
    }
}

fn accepted_by(gathered: &Gathered, state: WhyState) -> KnownOut {
    let question = "Did the next hop accept it?";
    let message = gathered.latest.as_ref().map(|latest| latest.id.message.to_string());
    if let Some(event) = gathered.delivered() {
        let attempt = event.detail.attempt.as_ref();
        let by = attempt.and_then(|attempt| attempt.peer.clone()).unwrap_or_else(|| "the next hop".into());
        let route = attempt.map(|attempt| format!(" on route {}", attempt.route)).unwrap_or_default();
        let reply =
            attempt.and_then(|attempt| attempt.reply.as_ref()).map(|reply| format!(": {reply}")).unwrap_or_default();
        let text = format!("Yes, {by}{route}{reply}");
        return KnownOut { at: Some(at(event)), message, ..answer("accepted", question, Answer::Yes, text) };
    }
    let failed = gathered.events.iter().rev().find(|event| event.detail.cause.is_some());
    let (stops, text, when) = match failed {
        Some(event) => (true, format!("No: {}", said(event)), Some(at(event))),
        None if state == WhyState::Waiting => (false, "Not yet: it was not tried.".to_owned(), None),
        None => (false, "It was not tried.".to_owned(), None),
    };
    KnownOut { stops, at: when, message, ..answer("accepted", question, Answer::No, text) }
}

fn said(event: &Event) -> String {
    let what = event.detail.cause.as_ref().map(|cause| failure(&cause.failure)).unwrap_or_default();
    let peer = event.detail.attempt.as_ref().and_then(|attempt| attempt.peer.as_ref());
    match peer {
        Some(peer) => format!("{peer} said: {what}"),
        None => what,
    }
}

fn reported(gathered: &Gathered) -> KnownOut {
    let question = "Did it come back later?";
    let Some(event) = gathered.report() else {
        let text = "No bounce and no complaint was seen.".to_owned();
        return answer("reported", question, Answer::No, text);
    };
    let source = event.detail.report.as_ref().map(|report| report.source.clone()).unwrap_or_default();
    let hard = event.detail.report.as_ref().is_some_and(|report| report.severity == Severity::Hard);
    let what = event.detail.cause.as_ref().map(|cause| failure(&cause.failure)).or_else(|| event.detail.why.clone());
    let what = what.map(|what| format!(": {what}")).unwrap_or_default();
    let text = format!("Yes, {} (told by {source}){what}", if hard { "for good" } else { "for now" });
    let message = Some(event.message.to_string());
    KnownOut { stops: hard, at: Some(at(event)), message, ..answer("reported", question, Answer::Yes, text) }
}
