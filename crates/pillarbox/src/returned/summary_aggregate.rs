//! Mail in the name of one domain, by who sent it and by what kept it from passing.

use std::collections::{BTreeMap, BTreeSet};

use proto::policy::dmarc::organizational_by_list;
use proto::report::aggregate::{AggregateReport, Disposition, PublishedPolicy, Record};
use serde::Serialize;

use super::summary::{Sign, note, some_of};

/// Most sources of a domain that are kept apart.
const MAX_SOURCES: usize = 20_000;
/// Most names kept of a kind for one source.
const MAX_NAMES: usize = 20;
/// Most causes of a domain that are kept apart.
const MAX_CAUSES: usize = 500;
/// Messages before a domain is told that it is ready for a stricter policy.
const ENOUGH: u64 = 100;

/// Why a message did not pass, or by what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// By SPF and DKIM.
    Both,
    /// By DKIM alone.
    DkimOnly,
    /// By SPF alone.
    SpfOnly,
    /// A signature of the domain itself does not hold.
    BrokenSignature,
    /// Somebody vouches for it, but for another domain.
    Unaligned,
    /// The receiver took it for forwarded, or from a list.
    Forwarded,
    /// Nobody vouches for it.
    Unauthenticated,
}

/// One sending address.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    /// Address, as reported.
    pub ip: String,
    /// Messages.
    pub messages: u64,
    /// Those that passed.
    pub passed: u64,
    /// Those with an aligned signature that holds.
    pub dkim_aligned: u64,
    /// Those with an aligned SPF pass.
    pub spf_aligned: u64,
    /// Those refused or put into the spam folder.
    pub stopped: u64,
    /// By class.
    pub classes: BTreeMap<Class, u64>,
    /// Domains in From.
    pub from: BTreeSet<String>,
    /// Domains SPF was asked about, with the result.
    pub spf: BTreeSet<String>,
    /// Signing domains with selector and result.
    pub dkim: BTreeSet<String>,
}

/// One domain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Domain {
    /// Its name.
    pub domain: String,
    /// The policy as the newest report has it.
    pub policy: PublishedPolicy,
    /// Who reports.
    pub reporters: BTreeSet<String>,
    /// First second covered, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin: Option<i64>,
    /// Last second covered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Messages.
    pub messages: u64,
    /// Those that passed.
    pub passed: u64,
    /// Those that were put into the spam folder.
    pub quarantined: u64,
    /// Those that were refused.
    pub rejected: u64,
    /// Records that a report had beyond what is read.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// The busiest first, at most 1,000.
    pub sources: Vec<Source>,
    /// Sources in all.
    pub source_count: usize,
    #[serde(skip)]
    by_ip: BTreeMap<String, Source>,
    #[serde(skip)]
    causes: BTreeMap<(Class, String), Cause>,
    #[serde(skip)]
    errors: BTreeSet<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Messages with the same reason.
#[derive(Debug, Clone, Default, PartialEq)]
struct Cause {
    count: u64,
    stopped: u64,
    sources: BTreeSet<String>,
    detail: Option<String>,
}

/// What failed, and the name that tells one cause of a class from another.
fn class_of(record: &Record) -> (Class, String) {
    match (record.dkim_aligned, record.spf_aligned) {
        (true, true) => return (Class::Both, String::new()),
        (true, false) => return (Class::DkimOnly, String::new()),
        (false, true) => return (Class::SpfOnly, String::new()),
        (false, false) => {}
    }
    let forwarded = record
        .overrides
        .iter()
        .any(|one| matches!(one.kind.as_str(), "forwarded" | "mailing_list" | "trusted_forwarder"));
    if forwarded {
        return (Class::Forwarded, String::new());
    }
    let organization = organizational_by_list(&record.header_from);
    let own = |domain: &str| !domain.is_empty() && organizational_by_list(domain) == organization;
    if let Some(broken) =
        record.dkim.iter().find(|one| own(&one.domain) && !matches!(one.result.as_str(), "pass" | "none" | ""))
    {
        let selector = broken.selector.as_deref().unwrap_or_default();
        return (Class::BrokenSignature, format!("{selector} {}", broken.domain));
    }
    let by_dkim = record.dkim.iter().find(|one| one.result == "pass").map(|one| one.domain.as_str());
    let by_spf = record.spf.iter().find(|one| one.result == "pass").map(|one| one.domain.as_str());
    match by_dkim.or(by_spf) {
        Some(other) if !other.is_empty() => (Class::Unaligned, organizational_by_list(other)),
        _ => (Class::Unauthenticated, String::new()),
    }
}

impl Domain {
    pub(super) fn new(domain: String) -> Self {
        Self {
            domain,
            policy: PublishedPolicy::default(),
            reporters: BTreeSet::new(),
            begin: None,
            end: None,
            messages: 0,
            passed: 0,
            quarantined: 0,
            rejected: 0,
            left_out: 0,
            sources: Vec::new(),
            source_count: 0,
            by_ip: BTreeMap::new(),
            causes: BTreeMap::new(),
            errors: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, report: &AggregateReport) {
        if report.end >= self.end {
            self.policy.clone_from(&report.policy);
            self.end = report.end;
        }
        self.begin = match (self.begin, report.begin) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        note(&mut self.reporters, &report.organization, 1_000);
        self.left_out = self.left_out.saturating_add(report.left_out);
        for error in &report.errors {
            note(&mut self.errors, &format!("{}: {error}", report.organization), MAX_NAMES);
        }
        for record in &report.records {
            self.record(record);
        }
    }

    fn record(&mut self, record: &Record) {
        let count = record.count;
        let stopped = match record.disposition {
            Disposition::Reject => {
                self.rejected = self.rejected.saturating_add(count);
                count
            }
            Disposition::Quarantine => {
                self.quarantined = self.quarantined.saturating_add(count);
                count
            }
            Disposition::None | Disposition::Pass => 0,
        };
        self.messages = self.messages.saturating_add(count);
        if record.passes() {
            self.passed = self.passed.saturating_add(count);
        }
        let (class, name) = class_of(record);
        let full = self.causes.len() >= MAX_CAUSES && !self.causes.contains_key(&(class, name.clone()));
        let cause = self.causes.entry((class, if full { String::new() } else { name })).or_default();
        cause.count = cause.count.saturating_add(count);
        cause.stopped = cause.stopped.saturating_add(stopped);
        note(&mut cause.sources, &record.source_ip, 1_000);
        let said = record.dkim.iter().filter(|one| one.result != "pass").find_map(|one| one.human.clone());
        cause.detail = cause.detail.take().or(said);
        let full = self.by_ip.len() >= MAX_SOURCES && !self.by_ip.contains_key(&record.source_ip);
        let ip = if full { "others" } else { record.source_ip.as_str() };
        let source = self.by_ip.entry(ip.to_owned()).or_insert_with(|| Source {
            ip: ip.to_owned(),
            messages: 0,
            passed: 0,
            dkim_aligned: 0,
            spf_aligned: 0,
            stopped: 0,
            classes: BTreeMap::new(),
            from: BTreeSet::new(),
            spf: BTreeSet::new(),
            dkim: BTreeSet::new(),
        });
        source.add(record, class, stopped);
    }

    /// Sorts the sources and says what there is to tell.
    pub(super) fn conclude(&mut self) -> Vec<Sign> {
        self.source_count = self.by_ip.len();
        self.sources = std::mem::take(&mut self.by_ip).into_values().collect();
        self.sources.sort_by_key(|source| std::cmp::Reverse(source.messages));
        self.sources.truncate(1_000);
        let policy = self.policy.p.clone().unwrap_or_default();
        let mut signs: Vec<Sign> =
            self.causes.iter().filter_map(|((class, name), cause)| sign_of(*class, name, cause, &policy)).collect();
        let failing = |class: Class| {
            self.causes.iter().filter(|((of, _), _)| *of == class).fold(0, |sum, (_, cause)| sum + cause.count)
        };
        let ours = failing(Class::BrokenSignature) + failing(Class::Unaligned);
        let share = format!("{:.1}", self.passed as f64 * 100.0 / (self.messages.max(1)) as f64);
        let reporters = some_of(self.reporters.iter());
        // What nobody vouches for is what a policy is for; what somebody vouches for may be one's own.
        if policy == "none" && self.messages >= ENOUGH && ours * 100 <= self.messages {
            let values = vec![("share", share.clone()), ("reporters", reporters.clone())];
            signs.push(Sign { kind: "aggregate_ready", count: self.messages, values });
        }
        for error in &self.errors {
            signs.push(Sign { kind: "aggregate_reporter_error", count: 1, values: vec![("detail", error.clone())] });
        }
        if signs.is_empty() {
            let values = vec![("share", share), ("reporters", reporters)];
            signs.push(Sign { kind: "aggregate_clean", count: self.messages, values });
        }
        signs
    }
}

fn sign_of(class: Class, name: &str, cause: &Cause, policy: &str) -> Option<Sign> {
    let mut values = vec![
        ("sources", some_of(cause.sources.iter())),
        ("policy", policy.to_owned()),
        ("stopped", cause.stopped.to_string()),
        ("detail", cause.detail.clone().unwrap_or_default()),
    ];
    let kind = match class {
        Class::Both => return None,
        Class::DkimOnly => "aggregate_dkim_only",
        Class::SpfOnly => "aggregate_spf_only",
        Class::Forwarded => "aggregate_forwarded",
        Class::BrokenSignature => {
            if let Some((selector, signer)) = name.split_once(' ') {
                values.extend([("selector", selector.to_owned()), ("signer", signer.to_owned())]);
            }
            "aggregate_dkim_broken"
        }
        Class::Unaligned => {
            values.push(("other", name.to_owned()));
            "aggregate_unaligned"
        }
        // Stopped as the policy asks: it does its work.
        Class::Unauthenticated if cause.stopped * 2 > cause.count => "aggregate_stopped",
        Class::Unauthenticated => "aggregate_unauthenticated",
    };
    Some(Sign { kind, count: cause.count, values })
}

impl Source {
    fn add(&mut self, record: &Record, class: Class, stopped: u64) {
        let count = record.count;
        let more = |sum: &mut u64, on: bool| {
            if on {
                *sum = sum.saturating_add(count);
            }
        };
        more(&mut self.messages, true);
        more(&mut self.passed, record.passes());
        more(&mut self.dkim_aligned, record.dkim_aligned);
        more(&mut self.spf_aligned, record.spf_aligned);
        self.stopped = self.stopped.saturating_add(stopped);
        more(self.classes.entry(class).or_default(), true);
        note(&mut self.from, &record.header_from, MAX_NAMES);
        for one in &record.spf {
            note(&mut self.spf, &format!("{} {}", one.domain, one.result), MAX_NAMES);
        }
        for one in &record.dkim {
            let selector = one.selector.as_deref().map(|selector| format!(" s={selector}")).unwrap_or_default();
            note(&mut self.dkim, &format!("{}{selector} {}", one.domain, one.result), MAX_NAMES);
        }
    }
}
