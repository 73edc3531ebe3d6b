//! What a section writes down while it looks: records, lines, facts and signs.

use explain::{Severity, Values, sign_value};
use net::{Answer, lookup::Data, lookup::Kind};
use proto::smtp::reply::escape;

use super::plan::Section;
use super::report::{Found, SectionReport, Shown, State};
use super::text::shown;
use crate::finding::Judge;

/// Every kind of sign an audit can note; each has a rule, and each is noted in a test.
pub const SIGNS: &[&str] = &[
    "domain_missing",
    "domain_dns_failure",
    "domain_parked",
    "domain_wildcard",
    "mx_none",
    "mx_implicit",
    "mx_null_mixed",
    "mx_target_missing",
    "mx_target_cname",
    "mx_target_address",
    "mx_target_invalid",
    "mx_target_private",
    "mx_duplicate",
    "mx_wildcard",
    "mx_unreachable",
    "mx_port_blocked_here",
    "mx_greeting",
    "mx_no_starttls",
    "mx_tls_failed",
    "mx_certificate",
    "mx_certificate_ends",
    "spf_missing",
    "spf_several",
    "spf_syntax",
    "spf_remark",
    "spf_ptr",
    "spf_too_many_lookups",
    "spf_void_lookups",
    "spf_all_pass",
    "spf_all_neutral",
    "spf_all_missing",
    "spf_include_missing",
    "spf_loop",
    "spf_lookup_failed",
    "spf_long",
    "spf_wide",
    "spf_ip_not_covered",
    "spf_route_not_covered",
    "dkim_not_found",
    "dkim_selector_missing",
    "dkim_revoked",
    "dkim_key_short",
    "dkim_key_weak",
    "dkim_testing",
    "dkim_syntax",
    "dkim_remark",
    "dkim_alias_broken",
    "dkim_several",
    "dkim_unusable",
    "dmarc_missing",
    "dmarc_several",
    "dmarc_syntax",
    "dmarc_remark",
    "dmarc_removed_tag",
    "dmarc_policy_none",
    "dmarc_subdomain_weaker",
    "dmarc_testing",
    "dmarc_no_reports",
    "dmarc_report_address",
    "dmarc_report_unauthorised",
    "dmarc_psd",
    "dmarc_old_new_differ",
    "dmarc_sender_unaligned",
    "sts_missing",
    "sts_record",
    "sts_policy_unreachable",
    "sts_policy_syntax",
    "sts_policy_remark",
    "sts_mx_mismatch",
    "sts_testing",
    "sts_none",
    "sts_certificate",
    "tlsrpt_missing",
    "tlsrpt_record",
    "dnssec_bogus",
    "dane_insecure",
    "dane_unusable",
    "dane_mismatch",
    "dane_partial",
    "dane_sts_conflict",
    "bimi_record",
    "bimi_remark",
    "bimi_policy",
    "caa_nobody",
    "caa_record",
    "ns_single",
    "ns_unresolvable",
    "ns_lame",
    "ns_differ",
    "ns_serial_differ",
    "soa_minimum",
    "soa_contact",
    "ptr_missing",
    "ptr_not_forward",
    "ptr_generic",
    "helo_unresolvable",
    "helo_mismatch",
    "ip_listed",
    "ip_listed_minor",
    "ip_listed_policy",
    "domain_listed",
    "list_refused",
    "list_unusable",
    "list_retired",
];

/// Most lines and records of a section that are kept.
const MAX_LINES: usize = 300;
/// Most findings of a section that are kept.
const MAX_SIGNS: usize = 60;

/// Notes of one section.
#[derive(Debug)]
pub(super) struct Notes {
    section: Section,
    summary: String,
    records: Vec<Shown>,
    details: Vec<String>,
    facts: Values,
    signs: Vec<(&'static str, Values)>,
    idle: bool,
}

impl Notes {
    pub(super) fn new(section: Section) -> Self {
        Self {
            section,
            summary: String::new(),
            records: Vec::new(),
            details: Vec::new(),
            facts: Values::new(),
            signs: Vec::new(),
            idle: false,
        }
    }

    /// Something that a rule has words for. Values from outside are escaped and bounded here.
    pub(super) fn sign<'v>(&mut self, kind: &'static str, values: impl IntoIterator<Item = (&'static str, &'v str)>) {
        debug_assert!(SIGNS.contains(&kind), "{kind}");
        // A record that had to be cut off is no record: the rule says what to do in words then.
        let whole = |(name, value): &(&str, &str)| *name != "record" || value.len() <= 1_000;
        let values: Values =
            values.into_iter().filter(whole).map(|(name, value)| (name.to_owned(), sign_value(value))).collect();
        if self.signs.len() < MAX_SIGNS && !self.signs.iter().any(|(other, known)| *other == kind && *known == values) {
            self.signs.push((kind, values));
        }
    }

    pub(super) fn has(&self, kind: &str) -> bool {
        self.signs.iter().any(|(other, _)| *other == kind)
    }

    /// A line for people.
    pub(super) fn detail(&mut self, line: impl AsRef<str>) {
        if self.details.len() < MAX_LINES {
            self.details.push(escape(line.as_ref().as_bytes(), 1_000));
        }
    }

    /// A fact for programs.
    pub(super) fn fact(&mut self, name: &str, value: impl AsRef<str>) {
        self.facts.insert(name.to_owned(), sign_value(value.as_ref()));
    }

    /// The one line of the section.
    pub(super) fn summary(&mut self, line: impl AsRef<str>) {
        self.summary = escape(line.as_ref().as_bytes(), 300);
    }

    /// There was nothing to look at.
    pub(super) fn idle(&mut self, why: impl AsRef<str>) {
        self.idle = true;
        self.summary(why);
    }

    /// The records of an answer.
    pub(super) fn records(&mut self, name: &str, kind: Kind, answer: &Answer) {
        for data in &answer.records {
            self.record(name, kind, data, answer.ttl);
        }
    }

    pub(super) fn record(&mut self, name: &str, kind: Kind, data: &Data, ttl: Option<u32>) {
        if self.records.len() < MAX_LINES {
            let name = escape(name.as_bytes(), 300);
            let value = escape(shown(data).as_bytes(), 2_000);
            self.records.push(Shown { name, kind: kind.name(), value, ttl });
        }
    }

    /// The report of this section and its findings.
    pub(super) fn judge(
        self,
        judge: &Judge,
        only_once: &mut Vec<(&'static str, Values)>,
    ) -> (SectionReport, Vec<Found>) {
        let mut found = Vec::new();
        for (kind, values) in self.signs {
            // Two sections may meet the same failing name.
            if only_once.iter().any(|(other, known)| *other == kind && *known == values) {
                continue;
            }
            if let Some(judged) = judge.sign(None, kind, &values) {
                found.push(Found {
                    section: self.section,
                    severity: judged.severity,
                    sign: kind.to_owned(),
                    values: values.clone(),
                    explanation: judged.explanation,
                });
            }
            only_once.push((kind, values));
        }
        let worst = |severity| found.iter().any(|one: &Found| one.severity == severity);
        let state = if worst(Severity::Problem) {
            State::Problem
        } else if worst(Severity::Warning) {
            State::Warning
        } else if self.idle {
            State::Skipped
        } else {
            State::Good
        };
        let Self { section, summary, records, details, facts, .. } = self;
        (SectionReport { section, state, summary, records, details, facts }, found)
    }
}
