//! One line for people about a failure, an answer or a certificate. No advice.

use proto::smtp::capability::Capabilities;
use proto::transcript::{Certificate, CertificateProblem, Fact, Failure, Step};

/// A failure in one line.
pub(super) fn failure(failure: &Failure) -> String {
    match failure {
        Failure::NameNotFound { name } => format!("{name} does not exist"),
        Failure::NoAddress { name } => format!("{name} has no address"),
        Failure::NullMx { domain } => format!("{domain} takes no mail (null MX)"),
        Failure::DnsUnavailable { name, reason } => format!("no answer about {name}: {reason}"),
        Failure::MxLoop { host } => format!("{host} is this machine"),
        Failure::ConnectRefused { peer } => format!("{peer}: refused"),
        Failure::ConnectTimeout { peer } => format!("{peer}: no answer"),
        Failure::ConnectFailed { peer, reason } => format!("{peer}: {reason}"),
        Failure::Disconnected => "the server closed the connection".into(),
        Failure::Timeout { seconds } => format!("no answer within {seconds} s"),
        Failure::BadReply { text } => format!("not SMTP: {text}"),
        Failure::EarlyOctets => "the server spoke before the handshake".into(),
        Failure::Refused(reply) => reply.to_string(),
        Failure::StartTlsMissing => "STARTTLS is not offered".into(),
        Failure::TlsHandshake { reason } => format!("the handshake failed: {reason}"),
        Failure::TlsVersion { offered } => format!("the server speaks {offered} at most"),
        Failure::Certificate { problem, names, .. } => certificate(problem, names),
        Failure::NoMechanism { offered } if offered.is_empty() => "AUTH is not offered".into(),
        Failure::NoMechanism { offered } => format!("no common mechanism; offered: {}", offered.join(" ")),
        Failure::AuthNeedsTls => "the link is not encrypted, so nothing secret was sent".into(),
        Failure::TokenRefused { error, description } if description.is_empty() => format!("no token: {error}"),
        Failure::TokenRefused { description, .. } => format!("no token: {description}"),
        Failure::TokenUnavailable { reason } => format!("no answer about a token: {reason}"),
        Failure::Api { text, .. } => text.clone(),
        Failure::MissingExtension { extension } => format!("{extension} is needed and not offered"),
        Failure::TooLarge { size, limit } => format!("{size} octets, the server takes {limit}"),
        Failure::Policy { policy, host, reason, .. } => format!("{host}: {} is not met: {reason}", policy.name()),
        Failure::PrivateAddress { host, address } => format!("{host} has the private address {address}"),
        Failure::Local { reason } => reason.clone(),
    }
}

fn certificate(problem: &CertificateProblem, names: &[String]) -> String {
    match problem {
        CertificateProblem::Expired => "the certificate has expired".into(),
        CertificateProblem::NotYetValid => "the certificate is not yet valid".into(),
        CertificateProblem::UnknownIssuer => "the certificate is of no trusted authority".into(),
        CertificateProblem::SelfSigned => "the certificate is signed by itself".into(),
        CertificateProblem::MissingIntermediate => "the intermediate certificate is not sent".into(),
        CertificateProblem::Weak(what) => format!("the certificate is weak: {what}"),
        CertificateProblem::NameMismatch if names.is_empty() => "the certificate has no name".into(),
        CertificateProblem::NameMismatch => format!("the certificate is for {}", names.join(", ")),
        CertificateProblem::Other(text) => format!("the certificate: {text}"),
    }
}

/// How a connection attempt failed, in a word or two.
pub(super) fn how(failure: &Failure) -> &'static str {
    match failure {
        Failure::ConnectRefused { .. } => "refused",
        Failure::ConnectTimeout { .. } => "timed out",
        Failure::ConnectFailed { reason, .. } if reason.contains("reset") => "reset",
        Failure::ConnectFailed { reason, .. } if reason.contains("no route") => "unreachable",
        _ => "failed",
    }
}

/// What EHLO offers, shortly.
pub(super) fn capabilities(caps: &Capabilities) -> String {
    let words: Vec<&str> =
        caps.keywords.iter().filter_map(|line| line.split([' ', '=', '\t']).next()).take(20).collect();
    if words.is_empty() { "no extensions".into() } else { words.join(" ") }
}

/// The certificates that came with the last handshake.
pub(super) fn chain(steps: &[Step]) -> &[Certificate] {
    let chain = steps.iter().rev().find_map(|step| match &step.fact {
        Some(Fact::Chain { certificates }) => Some(certificates.as_slice()),
        _ => None,
    });
    chain.unwrap_or_default()
}
