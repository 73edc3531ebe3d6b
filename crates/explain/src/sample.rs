//! Samples of rules: a reply, a failure or words as they are met, each of which must hit its rule.
//!
//! In a rule file: `550 5.1.1 text` is a reply (`\n` between lines), `!tls_handshake: words` a failure of that kind,
//! `?certificate_ends_soon: days=10; host=mail.example.net` a sign with its values, anything else words of a log or library. A leading `@auth ` names another stage than the rule's first.

use std::net::SocketAddr;

use proto::smtp::reply::Reply;
use proto::transcript::{CertificateProblem, Failure, PolicyProblem, Stage, TransportPolicy};

use crate::values::Values;

/// A sample as a rule file gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleWhat {
    /// A reply of a server.
    Reply(Reply),
    /// A failure without a reply.
    Failure(Failure),
    /// Words of a log, library or report.
    Text(String),
    /// Something a diagnosis noticed.
    Sign(String, Values),
}

/// One sample with its stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Where it happens; `None` where the rule is bound to no stage.
    pub stage: Option<Stage>,
    /// What is seen.
    pub what: SampleWhat,
    /// As written.
    pub source: String,
}

impl Sample {
    /// Reads a sample; `stage` is the rule's first.
    ///
    /// # Errors
    /// Says what is wrong, for the author of the rule.
    pub fn parse(source: &str, stage: Option<Stage>) -> Result<Self, String> {
        let (stage, body) = match source.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            Some((word, body)) => (Some(stage_of(word).ok_or_else(|| format!("no stage `{word}`"))?), body),
            None => (stage, source),
        };
        let what = if let Some(failure) = body.strip_prefix('!') {
            let (kind, words) = failure.split_once(": ").unwrap_or((failure, ""));
            SampleWhat::Failure(failure_of(kind, words).ok_or_else(|| format!("no failure `{kind}`"))?)
        } else if let Some(sign) = body.strip_prefix('?') {
            let (kind, values) = sign.split_once(": ").unwrap_or((sign, ""));
            let values = values.split("; ").filter(|pair| !pair.is_empty());
            let pair = |pair: &str| match pair.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(format!("`{pair}` is not name=value")),
            };
            SampleWhat::Sign(kind.to_owned(), values.map(pair).collect::<Result<_, _>>()?)
        } else if let Some(reply) = reply_of(body) {
            SampleWhat::Reply(reply)
        } else {
            SampleWhat::Text(body.to_owned())
        };
        Ok(Self { stage, what, source: source.to_owned() })
    }
}

/// The stage of a word as [`Stage`] is written in JSON.
pub(crate) fn stage_of(word: &str) -> Option<Stage> {
    Some(match word {
        "dns" => Stage::Dns,
        "tcp" => Stage::Tcp,
        "banner" => Stage::Banner,
        "ehlo" => Stage::Ehlo,
        "tls" => Stage::Tls,
        "auth" => Stage::Auth,
        "sender" => Stage::Sender,
        "recipient" => Stage::Recipient,
        "message" => Stage::Message,
        "quit" => Stage::Quit,
        _ => return None,
    })
}

fn reply_of(body: &str) -> Option<Reply> {
    let mut code = 0;
    let mut lines = Vec::new();
    for line in body.split('\n') {
        let digits = line.get(..3).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
        code = digits.parse().ok().filter(|code| (200..600).contains(code))?;
        let rest = &line[3..];
        if !rest.is_empty() && !rest.starts_with([' ', '-']) {
            return None;
        }
        lines.push(rest.get(1..).unwrap_or_default().to_owned());
    }
    Some(Reply::lines(code, lines))
}

/// Kinds of failure as rules name them; the problem of a certificate is part of the name.
pub(crate) const FAILURE_KINDS: &[&str] = &[
    "name_not_found",
    "no_address",
    "null_mx",
    "dns_unavailable",
    "mx_loop",
    "connect_refused",
    "connect_timeout",
    "connect_failed",
    "disconnected",
    "timeout",
    "bad_reply",
    "early_octets",
    "start_tls_missing",
    "tls_handshake",
    "certificate_expired",
    "certificate_not_yet_valid",
    "certificate_unknown_issuer",
    "certificate_name_mismatch",
    "certificate_self_signed",
    "certificate_missing_intermediate",
    "certificate_weak",
    "certificate_other",
    "tls_version",
    "no_mechanism",
    "auth_needs_tls",
    "token_refused",
    "token_unavailable",
    "api_refused",
    "missing_extension",
    "too_large",
    "policy_host_not_listed",
    "policy_no_tls",
    "policy_certificate",
    "policy_lookup",
    "policy_requiretls",
    "private_address",
    "local",
];

/// The kind of a failure and the words it carries; `None` for a reply.
pub(crate) fn kind_of(failure: &Failure) -> Option<(&'static str, Option<&str>)> {
    Some(match failure {
        Failure::Refused(_) => return None,
        Failure::NameNotFound { .. } => ("name_not_found", None),
        Failure::NoAddress { .. } => ("no_address", None),
        Failure::NullMx { .. } => ("null_mx", None),
        Failure::DnsUnavailable { reason, .. } => ("dns_unavailable", Some(reason)),
        Failure::MxLoop { .. } => ("mx_loop", None),
        Failure::ConnectRefused { .. } => ("connect_refused", None),
        Failure::ConnectTimeout { .. } => ("connect_timeout", None),
        Failure::ConnectFailed { reason, .. } => ("connect_failed", Some(reason)),
        Failure::Disconnected => ("disconnected", None),
        Failure::Timeout { .. } => ("timeout", None),
        Failure::BadReply { text } => ("bad_reply", Some(text)),
        Failure::EarlyOctets => ("early_octets", None),
        Failure::StartTlsMissing => ("start_tls_missing", None),
        Failure::TlsHandshake { reason } => ("tls_handshake", Some(reason)),
        Failure::Certificate { problem, .. } => match problem {
            CertificateProblem::Expired => ("certificate_expired", None),
            CertificateProblem::NotYetValid => ("certificate_not_yet_valid", None),
            CertificateProblem::UnknownIssuer => ("certificate_unknown_issuer", None),
            CertificateProblem::NameMismatch => ("certificate_name_mismatch", None),
            CertificateProblem::SelfSigned => ("certificate_self_signed", None),
            CertificateProblem::MissingIntermediate => ("certificate_missing_intermediate", None),
            CertificateProblem::Weak(words) => ("certificate_weak", Some(words)),
            CertificateProblem::Other(words) => ("certificate_other", Some(words)),
        },
        Failure::TlsVersion { offered } => ("tls_version", Some(offered)),
        Failure::NoMechanism { .. } => ("no_mechanism", None),
        Failure::AuthNeedsTls => ("auth_needs_tls", None),
        Failure::TokenRefused { description, error } => {
            ("token_refused", Some(if description.is_empty() { error } else { description }))
        }
        Failure::TokenUnavailable { reason } => ("token_unavailable", Some(reason)),
        Failure::Api { text, .. } => ("api_refused", Some(text)),
        Failure::MissingExtension { .. } => ("missing_extension", None),
        Failure::TooLarge { .. } => ("too_large", None),
        Failure::Policy { policy, problem, reason, .. } => (policy_kind(*policy, *problem), Some(reason)),
        Failure::PrivateAddress { .. } => ("private_address", None),
        Failure::Local { reason } => ("local", Some(reason)),
    })
}

/// The kind of a demand that is not met.
fn policy_kind(policy: TransportPolicy, problem: PolicyProblem) -> &'static str {
    match (policy, problem) {
        (TransportPolicy::RequireTls, _) | (_, PolicyProblem::NotOffered) => "policy_requiretls",
        (_, PolicyProblem::HostNotListed) => "policy_host_not_listed",
        (_, PolicyProblem::NoTls) => "policy_no_tls",
        (_, PolicyProblem::Certificate) => "policy_certificate",
        (_, PolicyProblem::Lookup) => "policy_lookup",
    }
}

/// A failure of a kind, with documentation values.
fn failure_of(kind: &str, words: &str) -> Option<Failure> {
    let peer = SocketAddr::from(([192, 0, 2, 25], 587));
    let name = || "mail.example.net".to_owned();
    let certificate = |problem| Failure::Certificate { problem, names: vec![name()], not_after: Some(1_767_225_600) };
    let reason = words.to_owned();
    let demand = |policy, problem| Failure::Policy { policy, problem, host: name(), reason: words.to_owned() };
    Some(match kind {
        "name_not_found" => Failure::NameNotFound { name: name() },
        "no_address" => Failure::NoAddress { name: name() },
        "null_mx" => Failure::NullMx { domain: name() },
        "dns_unavailable" => Failure::DnsUnavailable { name: name(), reason },
        "mx_loop" => Failure::MxLoop { host: name() },
        "connect_refused" => Failure::ConnectRefused { peer },
        "connect_timeout" => Failure::ConnectTimeout { peer },
        "connect_failed" => Failure::ConnectFailed { peer, reason },
        "disconnected" => Failure::Disconnected,
        "timeout" => Failure::Timeout { seconds: 300 },
        "bad_reply" => Failure::BadReply { text: reason },
        "early_octets" => Failure::EarlyOctets,
        "start_tls_missing" => Failure::StartTlsMissing,
        "policy_host_not_listed" => demand(TransportPolicy::MtaSts, PolicyProblem::HostNotListed),
        "policy_no_tls" => demand(TransportPolicy::MtaSts, PolicyProblem::NoTls),
        "policy_certificate" => demand(TransportPolicy::Dane, PolicyProblem::Certificate),
        "policy_lookup" => demand(TransportPolicy::Dane, PolicyProblem::Lookup),
        "policy_requiretls" => demand(TransportPolicy::RequireTls, PolicyProblem::NotOffered),
        "private_address" => Failure::PrivateAddress { host: name(), address: "127.0.0.1".into() },
        "tls_handshake" => Failure::TlsHandshake { reason },
        "certificate_expired" => certificate(CertificateProblem::Expired),
        "certificate_not_yet_valid" => certificate(CertificateProblem::NotYetValid),
        "certificate_unknown_issuer" => certificate(CertificateProblem::UnknownIssuer),
        "certificate_name_mismatch" => certificate(CertificateProblem::NameMismatch),
        "certificate_self_signed" => certificate(CertificateProblem::SelfSigned),
        "certificate_missing_intermediate" => certificate(CertificateProblem::MissingIntermediate),
        "certificate_weak" => certificate(CertificateProblem::Weak(reason)),
        "certificate_other" => certificate(CertificateProblem::Other(reason)),
        "tls_version" => Failure::TlsVersion { offered: reason },
        "no_mechanism" => Failure::NoMechanism { offered: vec!["NTLM".into(), "GSSAPI".into()] },
        "auth_needs_tls" => Failure::AuthNeedsTls,
        "token_refused" => {
            Failure::TokenRefused { error: words.split(':').next().unwrap_or_default().into(), description: reason }
        }
        "token_unavailable" => Failure::TokenUnavailable { reason },
        "api_refused" => {
            let mut words = words.trim_start_matches("HTTP ").split([' ', ':']);
            let status = words.next().and_then(|status| status.parse().ok()).unwrap_or(400);
            Failure::Api { status, error: words.next().unwrap_or_default().into(), text: reason, wait_s: None }
        }
        "missing_extension" => Failure::MissingExtension { extension: "SMTPUTF8".into() },
        "too_large" => Failure::TooLarge { size: 30_000_000, limit: 10_485_760 },
        "local" => Failure::Local { reason },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_a_sample_are_read() {
        let reply = Sample::parse("550-5.1.1 a\n550 5.1.1 b", Some(Stage::Recipient)).unwrap();
        assert_eq!(reply.what, SampleWhat::Reply(Reply::lines(550, vec!["5.1.1 a".into(), "5.1.1 b".into()])));
        let words = Sample::parse("@auth 535 no", Some(Stage::Sender)).unwrap();
        assert_eq!(words.stage, Some(Stage::Auth));
        assert!(matches!(Sample::parse("getaddrinfo ENOTFOUND", None).unwrap().what, SampleWhat::Text(_)));
        assert!(Sample::parse("!nonsense", None).is_err());
    }

    #[test]
    fn every_kind_of_failure_can_be_a_sample_and_names_itself() {
        for kind in FAILURE_KINDS {
            let failure = failure_of(kind, "words").unwrap();
            assert_eq!(kind_of(&failure).unwrap().0, *kind);
        }
    }
}
