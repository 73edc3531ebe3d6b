//! TLS with the mail exchangers of one domain, by what kept sessions from being secure.

use std::collections::{BTreeMap, BTreeSet};

use proto::report::tls_report::PolicyResult;
use serde::Serialize;

use super::summary::{Sign, note, some_of};

/// Most kinds of failure kept apart.
const MAX_KINDS: usize = 200;

/// Sessions that failed alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TlsFailure {
    /// Sessions.
    pub sessions: u64,
    /// Mail exchangers.
    pub hosts: BTreeSet<String>,
    /// Who reports it.
    pub reporters: BTreeSet<String>,
    /// The reporters' own words.
    pub reasons: BTreeSet<String>,
}

/// One domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TlsDomain {
    /// Its name.
    pub domain: String,
    /// Sessions that were fine.
    pub successes: u64,
    /// Sessions that were not.
    pub failures: u64,
    /// Kinds of policy that were found.
    pub policies: BTreeSet<String>,
    /// Who reports.
    pub reporters: BTreeSet<String>,
    /// By result type (RFC 8460 §4.3).
    pub by_type: BTreeMap<String, TlsFailure>,
}

impl TlsDomain {
    pub(super) fn new(domain: String) -> Self {
        Self { domain, ..Self::default() }
    }

    pub(super) fn add(&mut self, organization: &str, policy: &PolicyResult) {
        self.successes = self.successes.saturating_add(policy.successes);
        self.failures = self.failures.saturating_add(policy.failures);
        note(&mut self.policies, &policy.kind, 20);
        note(&mut self.reporters, organization, 1_000);
        let mut told = 0u64;
        for detail in &policy.details {
            told = told.saturating_add(detail.sessions);
            let entry = self.failure(&detail.kind);
            entry.sessions = entry.sessions.saturating_add(detail.sessions);
            let host = detail.receiving_host.as_deref().or(detail.receiving_ip.as_deref()).unwrap_or_default();
            note(&mut entry.hosts, host, 100);
            note(&mut entry.reporters, organization, 100);
            note(&mut entry.reasons, detail.reason.as_deref().unwrap_or_default(), 20);
        }
        // Counted, but nobody says why.
        if policy.failures > told {
            let entry = self.failure("");
            entry.sessions = entry.sessions.saturating_add(policy.failures - told);
            note(&mut entry.reporters, organization, 100);
        }
    }

    fn failure(&mut self, kind: &str) -> &mut TlsFailure {
        let full = self.by_type.len() >= MAX_KINDS && !self.by_type.contains_key(kind);
        self.by_type.entry(if full { String::new() } else { kind.to_owned() }).or_default()
    }

    pub(super) fn conclude(&mut self) -> Vec<Sign> {
        let mut signs: Vec<Sign> = self
            .by_type
            .iter()
            .filter(|(_, failure)| failure.sessions > 0)
            .map(|(kind, failure)| Sign {
                kind: sign_of(kind),
                count: failure.sessions,
                values: vec![
                    ("type", if kind.is_empty() { "not said".to_owned() } else { kind.clone() }),
                    ("hosts", some_of(failure.hosts.iter())),
                    ("reporters", some_of(failure.reporters.iter())),
                    ("detail", some_of(failure.reasons.iter())),
                ],
            })
            .collect();
        let only_none = !self.policies.is_empty() && self.policies.iter().all(|kind| kind == "no-policy-found");
        let reporters = some_of(self.reporters.iter());
        if only_none {
            let values = vec![("reporters", reporters.clone())];
            signs.push(Sign { kind: "tls_report_no_policy", count: self.successes, values });
        }
        if signs.is_empty() {
            let values = vec![("reporters", reporters)];
            signs.push(Sign { kind: "tls_report_clean", count: self.successes, values });
        }
        signs
    }
}

/// RFC 8460 §4.3.
fn sign_of(kind: &str) -> &'static str {
    match kind {
        "starttls-not-supported" => "tls_report_starttls",
        "certificate-host-mismatch" | "certificate-expired" | "certificate-not-trusted" | "sts-webpki-invalid" => {
            "tls_report_certificate"
        }
        "tlsa-invalid" | "dnssec-invalid" | "dane-required" => "tls_report_dane",
        "sts-policy-fetch-error" | "sts-policy-invalid" => "tls_report_policy",
        "validation-failure" => "tls_report_validation",
        _ => "tls_report_other",
    }
}
