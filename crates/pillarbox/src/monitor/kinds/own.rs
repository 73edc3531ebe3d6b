//! Checks of an administrator's own: a server, a route or a domain, on a schedule of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use diagnose::Judge;
use diagnose::domain::{Audit, Auditor, Guess, Plan, Section, Smtp};
use futures_util::future::BoxFuture;
use net::{Dnssec, Resolver, ResolverSettings};
use parking_lot::Mutex;
use relay::route::RouteKind;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::settings::Kind;

use super::reported::{findings, fix, found, level_of, not_run};
use crate::check::{Aim, CheckIn, MessageStage, TlsMode};
use crate::http::Shared;
use crate::http::api::{checks, route_audit, settings};
use crate::http::problem::FieldError;
use crate::monitor::check::Alerting;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject};
use crate::serve::alignment;

/// Id of the kind.
pub const OWN: &str = "own";
/// Longest a run may take, seconds, unless the check says otherwise.
const TIMEOUT_S: u32 = 110;
/// Bad results in a row before somebody is told, unless the check says otherwise.
const CONFIRM: u32 = 2;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A mail server, stage by stage: `pillarbox check`.
    Host,
    /// A route: its settings, and its server with its credential: `pillarbox route check`.
    Route,
    /// A domain: `pillarbox domain`.
    Domain,
    /// That mail by a route arrives: a test mail is sent, `pillarbox arrival`.
    Arrival,
}

/// A check of one's own, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRecord {
    /// What is looked at.
    pub what: What,
    /// A host with or without port, a route, or a domain.
    pub target: String,
    /// Five fields of cron, or `every 6h`.
    pub schedule: String,
    /// Time zone of the fields, such as `Europe/Berlin`; by default the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Each run is later by a part of this, seconds, always the same part (at most 21600).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_s: Option<u32>,
    /// Longest a run may take, seconds (10 to 600; by default 110).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    /// Bad results in a row before somebody is told (1 to 10; by default 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u32>,
    /// How a host is secured; by default `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,
    /// MAIL FROM of a host or route that is asked about recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A mailbox that a test mail is looked for in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
    /// RCPT TO of a host or route; recipient of a test mail. The conversation of a check ends before the message: nothing is sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Parts of a domain; empty: all but the blocklists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<String>,
    /// Findings that differ from the last run's are told too, not only what becomes bad or well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changes: bool,
    /// It does not run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl CheckRecord {
    /// When it runs.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn when(&self) -> Result<Schedule, FieldError> {
        let wrong = |pointer: &str, error: crate::monitor::schedule::ScheduleError| {
            FieldError::new(pointer.to_owned(), error.to_string())
        };
        let schedule = Schedule::parse(&self.schedule, self.time_zone.as_deref()).map_err(|error| {
            let is_zone = matches!(error, crate::monitor::schedule::ScheduleError::Zone(_));
            wrong(if is_zone { "/time_zone" } else { "/schedule" }, error)
        })?;
        match self.jitter_s {
            None => Ok(schedule),
            Some(jitter) => {
                schedule.jitter(Duration::from_secs(jitter.into())).map_err(|error| wrong("/jitter_s", error))
            }
        }
    }

    /// What is wrong with it.
    pub fn problems(&self) -> Vec<FieldError> {
        let mut all: Vec<FieldError> = self.when().err().into_iter().collect();
        let mut unless = |right: bool, pointer: &str, text: &str| {
            if !right {
                all.push(FieldError::new(pointer.to_owned(), text.to_owned()));
            }
        };
        unless(self.timeout_s.is_none_or(|s| (10..=600).contains(&s)), "/timeout_s", "has to be from 10 to 600");
        unless(self.confirm.is_none_or(|n| (1..=10).contains(&n)), "/confirm", "has to be from 1 to 10");
        unless(self.to.len() <= 20, "/to", "has more than 20 recipients");
        let needs_sender = self.what != What::Arrival && !self.to.is_empty();
        unless(!needs_sender || self.from.is_some(), "/from", "recipients need a sender");
        unless(self.mailbox.is_none() || self.what == What::Arrival, "/mailbox", "belongs to test mails");
        let sections_known = self.sections.iter().all(|name| Section::from_name(name).is_some());
        unless(sections_known, "/sections", "names a part that an audit of a domain does not have");
        let text = |text: &Option<String>| text.as_ref().is_none_or(|text| text.chars().count() <= 500);
        unless(text(&self.description), "/description", "has at most 500 characters");
        match self.what {
            What::Host => {
                unless(Aim::parse(&self.target).is_ok(), "/target", "is no host, domain or address");
                unless(self.sections.is_empty(), "/sections", "belong to domains");
            }
            What::Route => {
                unless(crate::config::values::is_name(&self.target), "/target", "is no name of a route");
                unless(self.sections.is_empty(), "/sections", "belong to domains");
                unless(self.tls.is_none(), "/tls", "is given by the route");
            }
            What::Domain => {
                unless(proto::address::parse_domain(&self.target).is_ok(), "/target", "is no domain");
                unless(self.tls.is_none() && self.to.is_empty(), "/to", "belongs to hosts and routes");
            }
            What::Arrival => {
                unless(crate::config::values::is_name(&self.target), "/target", "is no name of a route");
                unless(self.sections.is_empty() && self.tls.is_none(), "/tls", "is given by the route");
                unless(self.to.len() <= 1, "/to", "a test mail has one recipient");
                unless(self.timeout_s.is_none_or(|s| s >= 30), "/timeout_s", "a test mail needs at least 30");
            }
        }
        all
    }
}

/// All checks of one's own.
#[derive(Default)]
pub(super) struct Own {
    records: Mutex<BTreeMap<String, CheckRecord>>,
}

impl Own {
    fn record(&self, name: &str) -> Option<CheckRecord> {
        self.records.lock().get(name).cloned()
    }
}

impl CheckKind for Own {
    fn id(&self) -> &'static str {
        OWN
    }
    fn title(&self) -> &'static str {
        "Own check"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(Duration::from_secs(86_400))
    }
    fn schedule_of(&self, subject: &Subject) -> Schedule {
        self.record(&subject.id).and_then(|record| record.when().ok()).unwrap_or_else(|| self.schedule())
    }
    fn timeout_of(&self, subject: &Subject) -> Duration {
        let seconds = self.record(&subject.id).and_then(|record| record.timeout_s).unwrap_or(TIMEOUT_S);
        Duration::from_secs(seconds.into())
    }
    fn confirm_of(&self, subject: &Subject) -> u32 {
        self.record(&subject.id).and_then(|record| record.confirm).unwrap_or(CONFIRM)
    }
    fn alerting_of(&self, subject: &Subject) -> Alerting {
        match self.record(&subject.id) {
            // A test mail alerts by itself, by another route.
            Some(record) if record.what == What::Arrival => Alerting::Never,
            Some(record) if record.changes => Alerting::LevelAndFacts,
            _ => Alerting::Level,
        }
    }
    fn waits(&self) -> bool {
        true
    }
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            let mut records = BTreeMap::new();
            let mut subjects = Vec::new();
            for document in app.store.documents(Kind::Check).await.unwrap_or_default() {
                let Ok(record) = settings::record::<CheckRecord>(&document) else { continue };
                if record.disabled || record.when().is_err() {
                    continue;
                }
                let title = format!("{} ({})", document.name, record.target);
                subjects.push(Subject::new(&*document.name, title, document.version));
                records.insert(document.name, record);
            }
            *self.records.lock() = records;
            subjects
        })
    }
    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let Some(record) = self.record(&subject.id) else { return Found::skipped("there is no such check") };
            match record.what {
                What::Host => host(app, &record).await,
                What::Route => route(app, &record).await,
                What::Domain => domain(app, &record).await,
                What::Arrival => super::own_arrival::run(app, &record, TIMEOUT_S).await,
            }
        })
    }
}

fn input(record: &CheckRecord) -> CheckIn {
    CheckIn {
        tls: record.tls,
        from: record.from.clone(),
        to: record.to.clone(),
        message: Some(if record.to.is_empty() { MessageStage::No } else { MessageStage::BeforeDot }),
        no_explore: true,
        ..CheckIn::default()
    }
}

async fn host(app: &Shared, record: &CheckRecord) -> Found {
    app.checks.room().await;
    match checks::probed(app, CheckIn { target: Some(record.target.clone()), ..input(record) }).await {
        Ok(report) => found(&report, || format!("{}:{} is healthy", report.target.host, report.target.port)),
        Err(problem) => not_run(&problem),
    }
}

async fn route(app: &Shared, record: &CheckRecord) -> Found {
    let name = &record.target;
    let known = app.relay.as_ref().map(|relay| relay.routes()).unwrap_or_default();
    let Some(route) = known.iter().find(|route| *route.name == **name) else {
        return Found::new(Level::Problem, format!("there is no route \"{name}\"")).facts(json!("no route")).sure();
    };
    if let Some(until) = super::probe::braked(app, name) {
        return Found::skipped(format!("its credential was rejected and is braked; the next probe is due {until}"));
    }
    let audit = match route_audit::audit(app, name).await {
        Ok(audit) => audit,
        Err(problem) => return not_run(&problem),
    };
    let worst = audit.iter().map(|one| level_of(one.severity)).max().unwrap_or(Level::Ok);
    let mut signs: Vec<&str> = audit.iter().filter_map(|one| one.sign.as_deref()).collect();
    signs.sort_unstable();
    let by_settings = || {
        let first = audit.first();
        let advice = first.map(|one| one.explanation.fixes.iter().map(fix).collect()).unwrap_or_default();
        let text = first.map_or_else(|| "nothing to complain about".into(), |one| one.explanation.title.clone());
        Found::new(worst, text)
            .facts(json!({ "settings": signs }))
            .detail(json!({ "settings": findings(&audit) }))
            .advice(advice)
    };
    if matches!(route.record.kind, RouteKind::Capture | RouteKind::Discard | RouteKind::Mx) {
        return by_settings().avoid(name);
    }
    app.checks.room().await;
    let report = match checks::by_route(app, name, CheckIn { tls: None, ..input(record) }).await {
        Ok(report) => report,
        Err(problem) => return not_run(&problem),
    };
    let mut all = found(&report, || format!("{}:{} is healthy", report.target.host, report.target.port));
    all.facts = json!({ "server": all.facts, "settings": signs });
    all.detail = json!({ "server": all.detail, "settings": findings(&audit) });
    if worst > all.level {
        let settings = by_settings();
        (all.level, all.summary, all.advice) = (worst, settings.summary, settings.advice);
    }
    all.avoid(name)
}

async fn domain(app: &Shared, record: &CheckRecord) -> Found {
    let Some(net) = app.monitor.net() else { return Found::skipped("the server is not running") };
    let config = app.checks.config();
    let named: BTreeSet<Section> = record.sections.iter().filter_map(|name| Section::from_name(name)).collect();
    let mut plan = Plan { guess: Guess::Few, timeout: config.dns_timeout, ..Plan::default() };
    plan.smtp = Some(Smtp { port: 25, helo: config.hostname.clone() });
    if !named.is_empty() {
        plan.sections = named;
    }
    if !plan.sections.contains(&Section::Mx) {
        plan.smtp = None;
    }
    plan.own_keys = alignment::own_keys(app).await.unwrap_or_default();
    let settings =
        ResolverSettings { servers: config.dns_servers.clone(), timeout: config.dns_timeout, dnssec: Dnssec::Root };
    // Own name servers may have zones that the root does not know: without signatures then.
    let validating = if config.dns_servers.is_empty() { Resolver::new(settings).ok() } else { None };
    let auditor = Auditor::new(net.clone(), validating, Judge::new(app.rules()), plan);
    of_audit(&auditor.audit(&record.target).await)
}

/// What an audit says; names of signs are compared.
pub(super) fn of_audit(audit: &Audit) -> Found {
    if let Some(error) = &audit.error {
        return Found::skipped(error.clone());
    }
    let level = audit.findings.iter().map(|one| level_of(one.severity)).max().unwrap_or(Level::Ok);
    let signs: BTreeSet<String> = audit
        .findings
        .iter()
        .filter(|one| level_of(one.severity).is_bad())
        .map(|one| format!("{}:{}", one.section.name(), one.sign))
        .collect();
    let list: Vec<_> = audit
        .findings
        .iter()
        .take(30)
        .map(|one| {
            json!({ "section": one.section.name(), "severity": one.severity, "rule": one.explanation.rule,
                    "title": one.explanation.title, "meaning": one.explanation.meaning,
                    "fixes": one.explanation.fixes.iter().map(fix).collect::<Vec<_>>() })
        })
        .collect();
    let text = match (level.is_bad(), audit.findings.first()) {
        (true, Some(first)) => first.explanation.title.clone(),
        _ => format!("{} has no problem", audit.domain),
    };
    let advice = audit.findings.first().map(|one| one.explanation.fixes.iter().map(fix).collect()).unwrap_or_default();
    Found::new(level, text)
        .facts(json!({ "signs": signs }))
        .detail(json!({ "findings": list }))
        .advice(if level.is_bad() { advice } else { Vec::new() })
}

/// For the list of kinds.
pub(super) fn own() -> Arc<dyn CheckKind> {
    Arc::new(Own::default())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn wrong(more: Value) -> Vec<String> {
        let mut value = json!({ "what": "host", "target": "mail.example.net:587", "schedule": "0 8 * * *" });
        crate::http::api::settings::merge(&mut value, more);
        let record: CheckRecord = serde_json::from_value(value).unwrap();
        record.problems().into_iter().map(|one| one.pointer).collect()
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        for (more, pointers) in [
            (json!({}), &[][..]),
            (json!({ "schedule": "never" }), &["/schedule"]),
            (json!({ "time_zone": "Mars/Olympus" }), &["/time_zone"]),
            (json!({ "jitter_s": 30_000 }), &["/jitter_s"]),
            (json!({ "timeout_s": 5, "confirm": 0 }), &["/timeout_s", "/confirm"]),
            (json!({ "to": ["ann@example.net"] }), &["/from"]),
            (json!({ "target": "ann:pw@example.net" }), &["/target"]),
            (json!({ "what": "route", "target": "out", "tls": "none" }), &["/tls"]),
            (json!({ "what": "route", "target": "Out!" }), &["/target"]),
            (json!({ "what": "domain", "target": "example.net", "sections": ["spf", "mx"] }), &[]),
            (json!({ "what": "domain", "target": "example.net", "sections": ["spam"] }), &["/sections"]),
            (json!({ "what": "domain", "target": "-" }), &["/target"]),
            (json!({ "sections": ["spf"] }), &["/sections"]),
        ] {
            assert_eq!(wrong(more.clone()), pointers, "{more}");
        }
    }
}
