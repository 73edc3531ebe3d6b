//! Failures, states and events in words for people. Facts only: what they mean and what to do is not said here.

use proto::transcript::{Certificate, CertificateProblem, Fact, Failure, Stage};
use relay::failover::BY_FALLBACK;
use store::{EventKind, RecipientView, State};

/// A failure in one line.
pub fn failure(failure: &Failure) -> String {
    match failure {
        Failure::NameNotFound { name } => format!("the name {name} does not exist"),
        Failure::NoAddress { name } => format!("{name} has no address"),
        Failure::NullMx { domain } => format!("{domain} takes no mail (null MX)"),
        Failure::DnsUnavailable { name, reason } => format!("DNS gave no answer for {name}: {reason}"),
        Failure::MxLoop { host } => format!("the mail exchanger {host} is this server"),
        Failure::ConnectRefused { peer } => format!("{peer} refused the connection"),
        Failure::ConnectTimeout { peer } => format!("{peer} did not answer"),
        Failure::ConnectFailed { peer, reason } => format!("cannot connect to {peer}: {reason}"),
        Failure::Disconnected => "the server closed the connection".into(),
        Failure::Timeout { seconds } => format!("no reply within {seconds} s"),
        Failure::BadReply { text } => format!("the answer is not SMTP: {text}"),
        Failure::EarlyOctets => "the server spoke before it was its turn at STARTTLS".into(),
        Failure::Refused(reply) => reply.to_string(),
        Failure::StartTlsMissing => "TLS is required and the server does not offer STARTTLS".into(),
        Failure::TlsHandshake { reason } => format!("the TLS handshake failed: {reason}"),
        Failure::Certificate { problem, names, .. } => certificate(problem, names),
        Failure::TlsVersion { offered } => format!("the server speaks no newer TLS than {offered}"),
        Failure::NoMechanism { offered } if offered.is_empty() => "the server offers no AUTH".into(),
        Failure::NoMechanism { offered } => format!("no AUTH mechanism in common; offered: {}", offered.join(" ")),
        Failure::AuthNeedsTls => "credentials would cross an unencrypted link".into(),
        Failure::TokenRefused { error, description } if description.is_empty() => format!("no token: {error}"),
        Failure::TokenRefused { description, .. } => format!("no token: {description}"),
        Failure::TokenUnavailable { reason } => format!("the identity provider gave no answer: {reason}"),
        Failure::Api { text, .. } => text.clone(),
        Failure::MissingExtension { extension } => format!("the message needs {extension}, which the server lacks"),
        Failure::TooLarge { size, limit } => format!("the message has {size} octets, the server takes {limit}"),
        Failure::Policy { policy, host, reason, .. } => format!("{} forbids {host}: {reason}", policy.name()),
        Failure::PrivateAddress { host, address } => {
            format!("the mail exchanger {host} has the private address {address}")
        }
        Failure::Local { reason } => reason.clone(),
    }
}

fn certificate(problem: &CertificateProblem, names: &[String]) -> String {
    let what = match problem {
        CertificateProblem::Expired => "it has expired".into(),
        CertificateProblem::NotYetValid => "it is not valid yet".into(),
        CertificateProblem::UnknownIssuer => "nobody we trust has signed it".into(),
        CertificateProblem::NameMismatch => "it is for another name".into(),
        CertificateProblem::SelfSigned => "it is signed by its own key".into(),
        CertificateProblem::MissingIntermediate => "the certificate of its signer was not sent".into(),
        CertificateProblem::Weak(what) => format!("it is too weak: {what}"),
        CertificateProblem::Other(what) => what.clone(),
    };
    match names.is_empty() {
        true => format!("the certificate was refused: {what}"),
        false => format!("the certificate (of {}) was refused: {what}", names.join(", ")),
    }
}

/// Something learned, in one line.
pub fn fact(fact: &Fact) -> String {
    match fact {
        Fact::Connected { peer, local } => format!("connected to {peer} from {local}"),
        Fact::Resolved { host, addresses } => format!("{host} has {}", addresses.join(", ")),
        Fact::Tls { version, cipher, verified: true, .. } => format!("{version}, {cipher}, certificate verified"),
        Fact::Tls { version, cipher, problem, .. } => {
            let why = problem.as_deref().unwrap_or("no reason given");
            format!("{version}, {cipher}, CERTIFICATE NOT VERIFIED: {why}")
        }
        Fact::Chain { certificates } => {
            let one = |one: &Certificate| format!("{} (by {}, {})", one.subject, one.issuer, one.key);
            format!("certificates: {}", certificates.iter().map(one).collect::<Vec<_>>().join("; "))
        }
        Fact::Authenticated { mechanism } => format!("signed in with {mechanism}"),
        Fact::Reused { transactions } => format!("connection used before for {transactions}"),
    }
}

/// A stage as it is written in JSON.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Dns => "dns",
        Stage::Tcp => "tcp",
        Stage::Banner => "banner",
        Stage::Ehlo => "ehlo",
        Stage::Tls => "tls",
        Stage::Auth => "auth",
        Stage::Sender => "sender",
        Stage::Recipient => "recipient",
        Stage::Message => "message",
        Stage::Quit => "quit",
    }
}

/// A state's word, as in selectors and JSON.
pub fn state(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Leased => "leased",
        State::Held => "held",
        State::Delivered => "delivered",
        State::Failed => "failed",
        State::Expired => "expired",
        State::Canceled => "canceled",
        State::Suppressed => "suppressed",
        State::Bounced => "bounced",
        State::Complained => "complained",
    }
}

/// An event's word.
pub fn event(kind: EventKind) -> &'static str {
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

/// What a state means for a recipient. A 250 is not an inbox: it says who has the message now.
pub fn meaning(recipient: &RecipientView) -> String {
    match recipient.state {
        State::Waiting if recipient.attempts == 0 => "waiting for the first attempt".into(),
        State::Waiting => format!("waiting after {} attempts", recipient.attempts),
        State::Leased => "being delivered".into(),
        State::Delivered => match recipient.why.as_deref().filter(|why| why.starts_with(BY_FALLBACK)) {
            Some(why) => format!("accepted, {why}"),
            None => format!("accepted by {}", recipient.lane.route),
        },
        State::Held => recipient.why.clone().map_or("held".into(), |why| format!("held: {why}")),
        // The reason begins with the word for it: `suppressed: …`, `stream off: …`, `opted out: …`.
        State::Suppressed => recipient.why.clone().unwrap_or_else(|| "suppressed".into()),
        State::Bounced => format!("accepted by {}, and came back", recipient.lane.route),
        State::Complained => format!("accepted by {}; the recipient complained", recipient.lane.route),
        State::Failed => "failed for good".into(),
        State::Expired => "given up: its time was over".into(),
        State::Canceled => "canceled".into(),
    }
}
