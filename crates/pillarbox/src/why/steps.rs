//! What to check next, in order: what stops the mail first, or would stop the next; where nothing does, the spam folder first.

use explain::{Owner, RuleBase};
use store::{EventKind, Suppression, SuppressionReason, SuppressionScope};

use super::{Gathered, TodoOut, WhyState};

/// Providers whose mailboxes sort mail of unknown senders into Junk unless told otherwise.
const SORTS_INTO_JUNK: &str = "microsoft";

/// `1 message`, `3 messages`.
pub(super) fn messages(n: usize) -> String {
    if n == 1 { "1 message".into() } else { format!("{n} messages") }
}

fn todo(who: Owner, text: impl Into<String>) -> TodoOut {
    TodoOut { who: who.to_string(), text: text.into(), run: None, known: None }
}

impl TodoOut {
    fn run(self, command: impl Into<String>) -> Self {
        Self { run: Some(command.into()), ..self }
    }
    fn known(self, known: impl Into<String>) -> Self {
        let known: String = known.into();
        Self { known: (!known.is_empty()).then_some(known), ..self }
    }
}

/// In order.
pub(super) fn of(gathered: &Gathered, state: WhyState, rules: &RuleBase) -> Vec<TodoOut> {
    let mut steps = match state {
        WhyState::NotSubmitted => not_submitted(gathered),
        WhyState::Suppressed => suppressed(gathered),
        WhyState::OptedOut => opted_out(gathered),
        WhyState::StreamOff => stream_off(gathered),
        WhyState::Held => held(gathered),
        WhyState::Waiting => waiting(),
        WhyState::Accepted => accepted(gathered, rules),
        WhyState::Complained => complained(gathered),
        WhyState::Canceled => vec![todo(Owner::You, "Send it again if it is still wanted.")],
        WhyState::Failing | WhyState::Failed | WhyState::Expired | WhyState::Bounced => failed(gathered, state),
    };
    if let Some(latest) = &gathered.latest {
        let id = latest.id.message;
        steps.push(
            todo(Owner::You, "If somebody else has to look at it: give them what is known of the message. Addresses in it are masked, its text is left out.")
                .run(format!("pillarbox messages export {id} > {id}.json")),
        );
    }
    steps
}

fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@.-_+".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn not_submitted(gathered: &Gathered) -> Vec<TodoOut> {
    let address = &gathered.address;
    let mut spelling = todo(Owner::You, "Compare the address with the one in the application, letter by letter.");
    if !gathered.alike.is_empty() {
        spelling = spelling.known(format!("mail was sent to {}", gathered.alike.join(", ")));
    }
    let mut kind = todo(
        Owner::You,
        "See whether this kind of mail is switched on in the application, for everybody and for this user.",
    );
    if !gathered.stopped.is_empty() {
        let names: Vec<&str> = gathered.stopped.iter().map(|(name, _)| name.as_str()).collect();
        kind = kind.known(format!("streams that are off or paused here: {}", names.join(", ")));
    }
    vec![
        spelling,
        kind,
        todo(Owner::You, "Look for errors in the application's own log: whether it could hand its mail over.")
            .run("pillarbox failed-sign-ins"),
        todo(Owner::You, "See whether other mail of that application came in at that time.")
            .run(format!("pillarbox messages search --domain {}", shell(address.domain()))),
        todo(Owner::You, "Send a test to the address from the application, and ask again."),
    ]
}

fn is_wish(one: &&Suppression) -> bool {
    one.reason == SuppressionReason::OptOut
}

fn words<'a>(list: impl Iterator<Item = &'a Suppression>) -> String {
    list.map(relay::suppress::words).collect::<Vec<_>>().join("; ")
}

fn suppressed(gathered: &Gathered) -> Vec<TodoOut> {
    let mut steps = unsuppress(gathered);
    steps.push(todo(Owner::You, "Send it again: what was suppressed is not sent by itself."));
    steps
}

fn unsuppress(gathered: &Gathered) -> Vec<TodoOut> {
    let address = shell(gathered.address.as_str());
    let known = words(gathered.hits().filter(|one| !is_wish(one)));
    vec![
        todo(Owner::You, "See why it is suppressed, and since when.")
            .run(format!("pillarbox suppression show {address}"))
            .known(known),
        todo(
            Owner::Recipient,
            "Ask the recipient by another way whether the mailbox works again, or whether the address has changed.",
        ),
        todo(
            Owner::You,
            "If it works again, take it off the list. Never do so after a complaint without the recipient's word.",
        )
        .run(format!("pillarbox suppression rm {address} --why 'mailbox works again'")),
    ]
}

fn opted_out(gathered: &Gathered) -> Vec<TodoOut> {
    let address = shell(gathered.address.as_str());
    let back = match gathered.hits().find(is_wish).map(|one| &one.scope) {
        Some(SuppressionScope::Global) => "--all in".to_owned(),
        Some(SuppressionScope::Stream(name)) => format!("--in {}", shell(name)),
        None => "--in STREAM".to_owned(),
    };
    vec![
        todo(Owner::You, "See what the recipient has opted out of, and how.")
            .run(format!("pillarbox preferences show {address}"))
            .known(words(gathered.hits().filter(is_wish))),
        todo(Owner::Recipient, "If the recipient wants it again, they opt in again, or ask you to."),
        todo(Owner::You, "Opt them in again only when they asked for it.")
            .run(format!("pillarbox preferences set {address} {back}")),
    ]
}

fn stream_off(gathered: &Gathered) -> Vec<TodoOut> {
    let stopped = gathered.off();
    let name = stopped.map_or_else(|| "NAME".to_owned(), |(name, _)| shell(name));
    let why = stopped.map(|(_, why)| why.clone()).unwrap_or_default();
    let see = todo(Owner::You, "See why the stream is off or paused, and who did it.")
        .run(format!("pillarbox stream show {name}"));
    vec![
        see.known(why.clone()),
        match why.starts_with(relay::stream::OFF) {
            true => todo(Owner::You, "Switch it on; what was not sent meanwhile has to be sent again.")
                .run(format!("pillarbox stream set {name} --enabled=true")),
            false => {
                todo(Owner::You, "Let it go on: its mail is waiting.").run(format!("pillarbox stream resume {name}"))
            }
        },
    ]
}

fn held(gathered: &Gathered) -> Vec<TodoOut> {
    let Some(latest) = &gathered.latest else { return Vec::new() };
    let why = latest.why.clone().unwrap_or_default();
    match crate::dossier::of_held(&why) {
        Some(id) => {
            let name = crate::incident::model::name(id);
            vec![
                todo(Owner::You, "Do what the incident says. Its mail goes by itself when a probe goes well.")
                    .run(format!("pillarbox incident show {name}"))
                    .known(why),
                todo(Owner::You, "When it is mended, have it tried at once.")
                    .run(format!("pillarbox incident probe {name}")),
            ]
        }
        None => vec![
            todo(Owner::You, "Find out why it was held.")
                .run(format!("pillarbox messages show {}", latest.id.message))
                .known(why),
            todo(Owner::You, "Release it.").run(format!("pillarbox queue release {}", latest.id.message)),
        ],
    }
}

fn waiting() -> Vec<TodoOut> {
    vec![
        todo(Owner::Nobody, "Wait: it was not tried yet."),
        todo(Owner::You, "See what the queue waits for: a limit, a window, a connection.").run("pillarbox status"),
    ]
}

fn failed(gathered: &Gathered, state: WhyState) -> Vec<TodoOut> {
    let mut steps: Vec<TodoOut> = Vec::new();
    if let Some(finding) = &gathered.finding {
        steps.extend(finding.fixes.iter().map(|fix| TodoOut {
            who: fix.who.clone(),
            text: fix.text.clone(),
            run: fix.run.clone(),
            known: None,
        }));
        if let Some(first) = steps.first_mut() {
            first.known = Some(finding.failure.clone());
        }
    }
    let Some(latest) = &gathered.latest else { return steps };
    let id = latest.id.message;
    steps.push(
        todo(Owner::You, "Look at the whole conversation of the last attempt.")
            .run(format!("pillarbox messages show {id}")),
    );
    steps.push(match state {
        WhyState::Failing => {
            todo(Owner::You, "When it is mended, try it at once.").run(format!("pillarbox queue retry {id}"))
        }
        _ => todo(Owner::You, "When it is mended, send it again: what failed for good is not tried any more."),
    });
    steps
}

fn complained(gathered: &Gathered) -> Vec<TodoOut> {
    let address = shell(gathered.address.as_str());
    vec![
        todo(Owner::You, "See what was complained about: did the recipient ask for this mail?")
            .run(format!("pillarbox suppression show {address}")),
        todo(Owner::You, "Take everybody off the list who did not ask for this mail, and make leaving it one click."),
    ]
}

/// What would stop a next mail, and how to undo it.
fn undo(gathered: &Gathered) -> Vec<TodoOut> {
    let mut steps = Vec::new();
    if gathered.hits().any(|one| !is_wish(&one)) {
        steps.extend(unsuppress(gathered));
    }
    if gathered.hits().any(|one| is_wish(&one)) {
        steps.extend(opted_out(gathered));
    }
    if gathered.off().is_some() {
        steps.extend(stream_off(gathered));
    }
    steps
}

/// What is so of the kind of mail, and of what its recipient wants.
fn preference(gathered: &Gathered) -> String {
    let stops = gathered.stops();
    if !stops.is_empty() {
        return format!("here a next mail would be stopped: {}", stops.join("; "));
    }
    let stream = gathered.stream.as_deref().unwrap_or_default();
    match words(gathered.suppressions.iter()) {
        none if none.is_empty() => format!("stream {stream} is on here, and the address has not opted out"),
        others => format!("stream {stream} is on here, and goes on whatever else is stopped: {others}"),
    }
}

/// It left: what would stop the next one, then the spam folder, then what the recipient's side can look up by the reply.
fn accepted(gathered: &Gathered, rules: &RuleBase) -> Vec<TodoOut> {
    let attempt = gathered.delivered().and_then(|event| event.detail.attempt.as_ref());
    let host = attempt.and_then(|attempt| attempt.peer.as_deref()).and_then(|peer| peer.split(' ').next());
    let provider = host.and_then(|host| rules.provider_of_host(host));
    let mut spam =
        todo(Owner::Recipient, "Look into the spam or junk folder, and search all folders for the sender's address.");
    if provider.is_some_and(|provider| provider.id == SORTS_INTO_JUNK) {
        spam = spam.known(
            "Outlook and Microsoft 365 move mail of senders they do not know to Junk unless a setting says otherwise",
        );
    }
    let mut spelling = todo(Owner::You, "Compare the address with the one the recipient gave.");
    if gathered.own.iter().any(|hit| !hit.message.details.test) {
        spelling = spelling.known(
            "the next hop accepted it, so it knows the address or takes all; a slip may have gone to somebody else",
        );
    }
    let kind = todo(Owner::You, "See whether this kind of mail is switched on for the user in the application.")
        .known(preference(gathered));
    let rules_of_mailbox = todo(
        Owner::Recipient,
        "Look for rules of the mailbox that move, forward or delete mail, for blocked senders, and for a mail program that fetches and removes it.",
    );
    let mut logs = todo(
        Owner::RecipientAdmin,
        "Ask the administrator of the recipient to look it up: quarantine, content filter, message trace.",
    );
    if let Some(attempt) = attempt {
        let when = crate::http::time::show(attempt.started_ms);
        let reply = attempt.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        logs = logs.known(format!(
            "they need: {when}, {}, the answer \"{reply}\"",
            attempt.peer.as_deref().unwrap_or(&attempt.route)
        ));
    }
    let from =
        gathered.own.first().and_then(|hit| hit.message.reverse_path.0.as_ref()).map(|from| from.domain().to_owned());
    let from = from.unwrap_or_else(|| "DOMAIN".into());
    let records = todo(
        Owner::You,
        "Check SPF, DKIM and DMARC of the sender's domain: what is missing there ends in the spam folder.",
    )
    .run(format!("pillarbox domain {}", shell(&from)));
    let route = attempt.map(|attempt| attempt.route.to_string()).unwrap_or_else(|| "ROUTE".into());
    let prove = todo(Owner::You, "Send a test that proves in which folder it arrives.").run(format!(
        "pillarbox arrival send --route {} --to {} --wait",
        shell(&route),
        shell(gathered.address.as_str())
    ));
    let mut steps = undo(gathered);
    steps.extend([spam, spelling, kind, rules_of_mailbox, logs, records, prove]);
    if gathered.events.iter().any(|event| event.kind == EventKind::Deferred) {
        steps
            .push(todo(Owner::Nobody, "It was late: greylisting and limits delay first mail, and pass by themselves."));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suppression(scope: &str, reason: SuppressionReason) -> Suppression {
        Suppression {
            address: proto::Address::parse("ann@one.example").unwrap(),
            scope: scope.into(),
            reason,
            evidence: store::Evidence::default(),
            who: "somebody".into(),
            added_ms: 1_795_000_000_000,
            expires_ms: None,
        }
    }

    /// Mail of the stream `news` was accepted, and this came later.
    fn later(suppressions: Vec<Suppression>, stopped: &[(&str, &str)], unleavable: &[&str]) -> Gathered {
        Gathered {
            address: proto::Address::parse("ann@one.example").unwrap(),
            stream: Some("news".into()),
            own: Vec::new(),
            more: false,
            latest: None,
            events: Vec::new(),
            suppressions,
            stopped: stopped.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect(),
            unleavable: unleavable.iter().map(|name| (*name).to_owned()).collect(),
            finding: None,
            alike: Vec::new(),
        }
    }

    fn told(gathered: &Gathered) -> (Vec<TodoOut>, String) {
        let steps = of(gathered, WhyState::Accepted, RuleBase::builtin());
        let kind = steps.iter().find(|step| step.text.contains("this kind of mail")).unwrap();
        let known = kind.known.clone().unwrap();
        (steps, known)
    }

    #[test]
    fn what_would_stop_a_next_mail_comes_before_the_spam_folder() {
        let opted_out = later(vec![suppression("news", SuppressionReason::OptOut)], &[], &[]);
        let listed = later(vec![suppression("*", SuppressionReason::Complaint)], &[], &[]);
        let paused = later(Vec::new(), &[("news", "stream paused: wrong template")], &[]);
        for (gathered, words, undone) in [
            (&opted_out, "opted out: since", "preferences set ann@one.example --in news"),
            (&listed, "suppressed: complaint since", "suppression rm ann@one.example"),
            (&paused, "stream news is not on: stream paused: wrong template", "stream resume news"),
        ] {
            let (steps, known) = told(gathered);
            assert!(known.contains(words) && known.contains("would be stopped"), "{known}");
            let at = |found: &dyn Fn(&TodoOut) -> bool| steps.iter().position(found).unwrap();
            let undo = at(&|step| step.run.as_ref().is_some_and(|run| run.contains(undone)));
            let spam = at(&|step| step.text.contains("spam"));
            assert!(undo < spam, "{steps:?}");
            assert!(!steps.iter().any(|step| step.text.starts_with("Send it again")), "it was sent: {steps:?}");
            let (_, meaning) = super::super::known::title(gathered, WhyState::Accepted);
            assert!(meaning.starts_with("A next mail would be stopped") && meaning.contains(words), "{meaning}");
        }
    }

    #[test]
    fn what_stops_other_mail_only_is_told_as_that() {
        let none = later(Vec::new(), &[("other", "stream paused: x")], &[]);
        assert_eq!(told(&none).1, "stream news is on here, and the address has not opted out");
        let other = later(vec![suppression("other", SuppressionReason::OptOut)], &[], &[]);
        let bound = later(vec![suppression("*", SuppressionReason::OptOut)], &[], &["news"]);
        for gathered in [&none, &other, &bound] {
            let (steps, known) = told(gathered);
            assert!(steps[0].text.contains("spam"), "{steps:?}");
            assert_eq!(known.contains("opted out: since"), !gathered.suppressions.is_empty(), "{known}");
            let rows = super::super::known::of(gathered, WhyState::Accepted);
            assert!(rows.iter().filter(|row| row.what != "submitted").all(|row| !row.stops), "{rows:?}");
        }
    }
}
