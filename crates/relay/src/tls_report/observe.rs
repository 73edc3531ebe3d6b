//! What a connection, or one that did not come about, means for a report (RFC 8460 §4.3).
//!
//! Only what concerns TLS and its policies: a host that is not reached is no failure here.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use net::client::ConnectError;
use net::https::FetchError;
use net::sts::StsError;
use net::tls::{Pins, problem_text};
use proto::policy::sts::{StsMode, StsPolicy};
use proto::policy::tlsrpt::report::{FailureDetails, Policy, PolicyType, ResultType, Session};
use proto::transcript::{CertificateProblem, Fact, Failure, PolicyProblem, Stage, Transcript};

use super::Ledger;
use crate::exchangers::Exchange;
use crate::transport::demand::Demand;

/// Domains that are counted for one connection.
const MOST_DOMAINS: usize = 1_000;

/// One host of a domain on the way to a connection.
pub(crate) struct Watch {
    /// Under which policy.
    policy: Policy,
    host: String,
    /// What is wrong whatever becomes of the connection.
    already: Option<(ResultType, String)>,
    /// Why the policy that the domain announces could not be had.
    unfetched: Option<(ResultType, String)>,
}

/// What an open connection counts as, for all domains that use it.
pub(crate) struct Witness {
    ledger: Arc<Ledger>,
    session: Session,
    domains: HashSet<Arc<str>>,
    last: Arc<str>,
}

impl Watch {
    /// Under what the host is.
    pub(crate) fn new(exchange: &Exchange, domain: &str, host: &str, demand: &Demand) -> Self {
        let sts = || exchange.policy.as_deref().map_or_else(|| Policy::none(domain), |policy| sts(domain, policy));
        let (policy, already) = match demand {
            Demand::Pinned(pins) => (tlsa(host, Some(pins)), None),
            Demand::Encrypted => {
                (tlsa(host, None), Some((ResultType::TlsaInvalid, "no TLSA record is usable".to_owned())))
            }
            Demand::Verified | Demand::Tested { listed: true } => (sts(), None),
            Demand::Tested { listed: false } => (sts(), Some((ResultType::ValidationFailure, NOT_LISTED.to_owned()))),
            Demand::Nothing => (Policy::none(domain), None),
        };
        let unfetched = exchange.unfetched.as_deref().filter(|_| *demand == Demand::Nothing);
        let unfetched = unfetched.map(|error| (fetch_result(error), in_full(error)));
        Self { policy, host: host.to_owned(), already, unfetched }
    }

    /// The session as one under a policy that could not be had, where that is so; whatever became of it.
    pub(crate) fn unfetched(&self, transcript: &Transcript) -> Option<Session> {
        let found = self.unfetched.clone()?;
        let policy = Policy { policy_type: PolicyType::Sts, ..self.policy.clone() };
        Some(Session { policy, failure: Some(details(found, &self.host, ends(transcript))) })
    }

    /// A connection that failed; `None`: not for reasons of TLS.
    pub(crate) fn failed(&self, error: &ConnectError) -> Option<Session> {
        if error.stage != Stage::Tls {
            return None;
        }
        let (result, reason) = self.already.clone().or_else(|| result_of(&error.failure))?;
        let session = || self.session(Some((result, reason)), &error.transcript);
        Some(self.unfetched(&error.transcript).unwrap_or_else(session))
    }

    /// A connection that is open, under TLS or not; whether TLS was offered.
    pub(crate) fn opened(&self, demand: &Demand, tls: bool, offered: bool, prelude: &Transcript) -> Session {
        let clear = || {
            let mut steps = prelude.steps.iter().rev();
            let tried = steps.find(|step| step.stage == Stage::Tls).and_then(|step| step.failure.as_ref());
            match tried.and_then(result_of) {
                Some(found) => found,
                None if offered => {
                    (ResultType::ValidationFailure, "handshakes with this host failed lately".to_owned())
                }
                None => (ResultType::StarttlsNotSupported, String::new()),
            }
        };
        let failure = match (&self.already, tls, demand) {
            (Some(already), ..) => Some(already.clone()),
            (None, false, _) => Some(clear()),
            (None, true, Demand::Tested { .. }) => problem(prelude).map(|text| certificate(&text)),
            (None, true, _) => None,
        };
        self.session(failure, prelude)
    }

    fn session(&self, failure: Option<(ResultType, String)>, transcript: &Transcript) -> Session {
        let failure = failure.map(|found| details(found, &self.host, ends(transcript)));
        Session { policy: self.policy.clone(), failure }
    }
}

const NOT_LISTED: &str = "the policy does not list the host";

/// A host that was left alone because of a policy, before anything was said to it.
pub(crate) fn passed_over(exchange: &Exchange, domain: &str, host: &str, failure: &Failure) -> Option<Session> {
    let Failure::Policy { problem, reason, .. } = failure else { return None };
    let (policy, found) = match problem {
        PolicyProblem::Lookup => (tlsa(host, None), (ResultType::DnssecInvalid, reason.clone())),
        PolicyProblem::HostNotListed => {
            (sts(domain, exchange.policy.as_deref()?), (ResultType::ValidationFailure, NOT_LISTED.to_owned()))
        }
        _ => return None,
    };
    Some(Session { policy, failure: Some(details(found, host, (None, None))) })
}

impl Witness {
    /// For the connections that more than one domain may use, which are those under no policy.
    pub(crate) fn new(ledger: &Arc<Ledger>, session: Session) -> Option<Self> {
        (session.policy.policy_type == PolicyType::NoPolicyFound).then(|| Self {
            ledger: ledger.clone(),
            session,
            domains: HashSet::new(),
            last: Arc::from(""),
        })
    }

    /// The domain's mail uses the connection: it is counted once.
    pub(crate) fn serves(&mut self, domain: &Arc<str>, now_ms: i64) {
        if Arc::ptr_eq(&self.last, domain) || self.domains.len() >= MOST_DOMAINS {
            return;
        }
        self.last = domain.clone();
        if self.domains.insert(domain.clone()) {
            let session = Session { policy: Policy::none(domain), ..self.session.clone() };
            self.ledger.count(domain, &session, now_ms);
        }
    }

    /// It has been counted for this one.
    pub(crate) fn counted(mut self, domain: &Arc<str>) -> Self {
        self.domains.insert(domain.clone());
        self
    }
}

fn sts(domain: &str, policy: &StsPolicy) -> Policy {
    let mode = match policy.mode {
        StsMode::Enforce => "enforce",
        StsMode::Testing => "testing",
        StsMode::None => "none",
    };
    let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {mode}")];
    lines.extend(policy.mx.iter().map(|mx| format!("mx: {mx}")));
    lines.push(format!("max_age: {}", policy.max_age));
    Policy {
        policy_type: PolicyType::Sts,
        policy_string: lines,
        policy_domain: domain.into(),
        mx_host: policy.mx.clone(),
    }
}

/// The policy of a host by DANE is that of its TLSA base domain (RFC 8460 §1.1).
fn tlsa(host: &str, pins: Option<&Pins>) -> Policy {
    let base = pins.and_then(|pins| pins.names.first()).map_or(host, String::as_str);
    let records = pins.map(|pins| pins.records.as_slice()).unwrap_or_default();
    let line = |pin: &net::tls::Pin| {
        let data: String = pin.data.iter().map(|octet| format!("{octet:02X}")).collect();
        format!("{} {} {} {data}", pin.usage, pin.selector, pin.matching)
    };
    Policy {
        policy_type: PolicyType::Tlsa,
        policy_string: records.iter().map(line).collect(),
        policy_domain: base.into(),
        mx_host: Vec::new(),
    }
}

/// The last addresses of a conversation: ours and theirs.
fn ends(transcript: &Transcript) -> (Option<IpAddr>, Option<IpAddr>) {
    let connected = transcript.steps.iter().rev().find_map(|step| match &step.fact {
        Some(Fact::Connected { peer, local }) => Some((Some(local.ip()), Some(peer.ip()))),
        _ => None,
    });
    connected.unwrap_or_default()
}

fn details(
    (result_type, reason): (ResultType, String),
    host: &str,
    (ours, theirs): (Option<IpAddr>, Option<IpAddr>),
) -> FailureDetails {
    FailureDetails {
        result_type,
        sending_mta_ip: ours,
        receiving_mx_hostname: Some(host.to_owned()),
        receiving_ip: theirs,
        failed_session_count: 1,
        failure_reason_code: Some(reason).filter(|reason| !reason.is_empty()),
    }
}

/// Why the certificate was not verified where nobody asked for that.
fn problem(prelude: &Transcript) -> Option<String> {
    prelude.steps.iter().rev().find_map(|step| match &step.fact {
        Some(Fact::Tls { verified: true, .. }) => Some(None),
        Some(Fact::Tls { problem, .. }) => Some(problem.clone()),
        _ => None,
    })?
}

/// By its words, which are all that is kept of a problem nobody minded.
fn certificate(text: &str) -> (ResultType, String) {
    let is = |problem: &CertificateProblem| text == problem_text(problem);
    if is(&CertificateProblem::Expired) {
        (ResultType::CertificateExpired, String::new())
    } else if is(&CertificateProblem::NameMismatch) {
        (ResultType::CertificateHostMismatch, String::new())
    } else {
        (ResultType::CertificateNotTrusted, text.to_owned())
    }
}

fn result_of(failure: &Failure) -> Option<(ResultType, String)> {
    let general = |reason: String| Some((ResultType::ValidationFailure, reason));
    match failure {
        Failure::StartTlsMissing => Some((ResultType::StarttlsNotSupported, String::new())),
        Failure::Refused(reply) => Some((ResultType::StarttlsNotSupported, reply.to_string())),
        Failure::Certificate { problem, .. } => Some(certificate(&problem_text(problem))),
        Failure::TlsHandshake { reason } => general(reason.clone()),
        Failure::TlsVersion { offered } => general(format!("the server speaks {offered} at most")),
        Failure::Timeout { seconds } => general(format!("no answer within {seconds} s")),
        Failure::Disconnected => general("the server closed the connection".into()),
        Failure::EarlyOctets => general("the server spoke before the handshake".into()),
        Failure::BadReply { .. } => general("the answer to STARTTLS is not SMTP".into()),
        _ => None,
    }
}

fn fetch_result(error: &StsError) -> ResultType {
    match error {
        StsError::Fetch(FetchError::Tls(_)) => ResultType::StsWebpkiInvalid,
        StsError::Fetch(_) => ResultType::StsPolicyFetchError,
        StsError::Invalid(_) => ResultType::StsPolicyInvalid,
    }
}

fn in_full(error: &StsError) -> String {
    match error {
        StsError::Fetch(FetchError::Tls(Failure::Certificate { problem, .. })) => problem_text(problem),
        error => error.to_string(),
    }
}
