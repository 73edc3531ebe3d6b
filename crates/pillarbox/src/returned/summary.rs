//! Reports of DMARC and TLS put together: who sends in a domain's name, what passes, what fails and why.
//!
//! Facts are counted here; what they mean comes from the rules (`rules/reports.toml`).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use diagnose::Judge;
use explain::{Explanation, Severity, Values, sign_value};
use serde::Serialize;

use super::summary_aggregate::Domain;
use super::summary_tls::TlsDomain;
use super::unpack::Document;

/// Name and number of the JSON form.
pub const SCHEMA: &str = "pillarbox.report/1";
/// Most reports listed one by one; the others are counted.
const MAX_LISTED: usize = 10_000;
/// Most domains.
const MAX_DOMAINS: usize = 10_000;
/// Most findings.
const MAX_FINDINGS: usize = 1_000;

/// Every kind of sign; a test holds each against the rules.
#[cfg(test)]
pub const KINDS: &[&str] = &[
    "aggregate_unaligned",
    "aggregate_dkim_broken",
    "aggregate_unauthenticated",
    "aggregate_stopped",
    "aggregate_forwarded",
    "aggregate_spf_only",
    "aggregate_dkim_only",
    "aggregate_ready",
    "aggregate_clean",
    "aggregate_reporter_error",
    "tls_report_starttls",
    "tls_report_certificate",
    "tls_report_dane",
    "tls_report_policy",
    "tls_report_validation",
    "tls_report_other",
    "tls_report_no_policy",
    "tls_report_clean",
];

/// One report in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    /// `dmarc` or `tls`.
    pub kind: &'static str,
    /// Who reports.
    pub organization: String,
    /// Its own name.
    pub report_id: String,
    /// Domains it is about.
    pub domains: Vec<String>,
    /// Begin of the time covered, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin: Option<String>,
    /// End of the time covered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Messages, or sessions.
    pub count: u64,
    /// Those that failed.
    pub failed: u64,
}

/// Something with no report in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// File.
    pub file: String,
    /// Why.
    pub why: String,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Domain it is about.
    pub domain: String,
    /// How bad.
    pub severity: Severity,
    /// Its kind.
    pub sign: &'static str,
    /// Messages or sessions behind it.
    pub count: u64,
    /// What is known of it.
    pub values: Values,
    /// In words, with the fixes.
    pub explanation: Explanation,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Reports read, each counted once.
    pub reports: u64,
    /// Reports that came more than once.
    pub repeated: u64,
    /// Each, at most 10,000.
    pub listed: Vec<Listed>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Mail in the name of each domain.
    pub dmarc: Vec<Domain>,
    /// TLS with the mail exchangers of each domain.
    pub tls: Vec<TlsDomain>,
    /// The worst first, then by how many messages.
    pub findings: Vec<Found>,
    #[serde(skip)]
    seen: HashSet<blake3::Hash>,
    #[serde(skip)]
    by_domain: BTreeMap<String, Domain>,
    #[serde(skip)]
    tls_by_domain: BTreeMap<String, TlsDomain>,
}

/// A sign with what is known.
pub(super) struct Sign {
    pub(super) kind: &'static str,
    pub(super) count: u64,
    pub(super) values: Vec<(&'static str, String)>,
}

impl Summary {
    /// Empty.
    pub fn new() -> Self {
        Self { schema: SCHEMA, ..Self::default() }
    }

    /// Something to fix was found, or something could not be read.
    pub fn has_problem(&self) -> bool {
        !self.unreadable.is_empty() || self.findings.iter().any(|found| found.severity != Severity::Note)
    }

    /// Notes that a file could not be read.
    pub fn unreadable(&mut self, file: &str, why: String) {
        if self.unreadable.len() < MAX_LISTED {
            self.unreadable.push(Unreadable { file: file.to_owned(), why });
        }
    }

    /// Adds a report; the same one again changes nothing.
    pub fn add(&mut self, document: &Document) {
        if !self.seen.insert(identity(document)) {
            self.repeated += 1;
            return;
        }
        self.reports += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(listed(document));
        }
        match document {
            Document::Aggregate(report) => {
                let room = self.by_domain.len() < MAX_DOMAINS;
                let name = report.policy.domain.clone();
                if room || self.by_domain.contains_key(&name) {
                    self.by_domain.entry(name.clone()).or_insert_with(|| Domain::new(name)).add(report);
                }
            }
            Document::Tls(report) => {
                for policy in &report.policies {
                    let room = self.tls_by_domain.len() < MAX_DOMAINS;
                    let name = policy.domain.clone();
                    if room || self.tls_by_domain.contains_key(&name) {
                        let domain = self.tls_by_domain.entry(name.clone()).or_insert_with(|| TlsDomain::new(name));
                        domain.add(&report.organization, policy);
                    }
                }
            }
        }
    }

    /// Judges what was counted.
    pub fn conclude(&mut self, judge: &Judge) {
        for (name, mut domain) in std::mem::take(&mut self.by_domain) {
            let signs = domain.conclude();
            self.judge(judge, &name, signs);
            self.dmarc.push(domain);
        }
        for (name, mut domain) in std::mem::take(&mut self.tls_by_domain) {
            let signs = domain.conclude();
            self.judge(judge, &name, signs);
            self.tls.push(domain);
        }
        let rank = |severity| match severity {
            Severity::Problem => 0,
            Severity::Warning => 1,
            Severity::Note => 2,
        };
        self.findings.sort_by_key(|found| (rank(found.severity), std::cmp::Reverse(found.count)));
        self.findings.truncate(MAX_FINDINGS);
        self.dmarc.sort_by_key(|domain| std::cmp::Reverse(domain.messages));
    }

    fn judge(&mut self, judge: &Judge, domain: &str, signs: Vec<Sign>) {
        for sign in signs {
            let mut values: Values =
                sign.values.into_iter().map(|(name, value)| (name.to_owned(), sign_value(&value))).collect();
            values.retain(|_, value| !value.is_empty());
            values.insert("domain".into(), sign_value(domain));
            values.insert("count".into(), sign.count.to_string());
            if let Some(judged) = judge.sign(None, sign.kind, &values) {
                self.findings.push(Found {
                    domain: domain.to_owned(),
                    severity: judged.severity,
                    sign: sign.kind,
                    count: sign.count,
                    values,
                    explanation: judged.explanation,
                });
            }
        }
    }
}

/// What makes a report the same: who wrote it, its name, and what it is about.
fn identity(document: &Document) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    match document {
        Document::Aggregate(report) => {
            part("dmarc");
            part(&report.organization);
            part(&report.report_id);
            part(&report.policy.domain);
            part(&format!("{:?} {:?}", report.begin, report.end));
        }
        Document::Tls(report) => {
            part("tls");
            part(&report.organization);
            part(&report.report_id);
            part(&format!("{:?} {:?}", report.begin, report.end));
            report.policies.iter().take(20).for_each(|policy| part(&policy.domain));
        }
    }
    hasher.finalize()
}

/// A report as a line of a list.
pub fn listed(document: &Document) -> Listed {
    let time = |seconds: Option<i64>| Some(jiff::Timestamp::from_second(seconds?).ok()?.to_string());
    match document {
        Document::Aggregate(report) => Listed {
            kind: "dmarc",
            organization: report.organization.clone(),
            report_id: report.report_id.clone(),
            domains: vec![report.policy.domain.clone()],
            begin: time(report.begin),
            end: time(report.end),
            count: report.messages(),
            failed: report.records.iter().filter(|record| !record.passes()).map(|record| record.count).sum(),
        },
        Document::Tls(report) => {
            let domains: BTreeSet<String> =
                report.policies.iter().map(|policy| policy.domain.clone()).take(20).collect();
            let sum = |of: fn(&proto::report::tls_report::PolicyResult) -> u64| {
                report.policies.iter().fold(0u64, |sum, policy| sum.saturating_add(of(policy)))
            };
            let failed = sum(|policy| policy.failures);
            Listed {
                kind: "tls",
                organization: report.organization.clone(),
                report_id: report.report_id.clone(),
                domains: domains.into_iter().collect(),
                begin: report.begin.clone(),
                end: report.end.clone(),
                count: failed.saturating_add(sum(|policy| policy.successes)),
                failed,
            }
        }
    }
}

/// Adds to a set that stays small.
pub(super) fn note(set: &mut BTreeSet<String>, value: &str, most: usize) {
    if !value.is_empty() && set.len() < most && !set.contains(value) {
        set.insert(value.to_owned());
    }
}

/// The first few, with the number of the others.
pub(super) fn some_of(all: impl ExactSizeIterator<Item = impl AsRef<str>>) -> String {
    const SHOWN: usize = 5;
    let more = all.len().saturating_sub(SHOWN);
    let mut text = all.take(SHOWN).map(|one| one.as_ref().to_owned()).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
