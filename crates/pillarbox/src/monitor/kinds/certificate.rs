//! Certificates of our listeners, of routes' servers and of our domains' mail hosts: 30, 14, 7 and 1 days before they end.

use std::sync::Arc;
use std::time::Duration;

use diagnose::check::Report;
use futures_util::future::BoxFuture;
use net::ServerTls;
use net::tls::days_left;
use proto::transcript::{Certificate as Leaf, Fact, Failure, Stage};
use relay::route::{RouteKind, RouteTls};
use serde_json::{Value, json};
use store::settings::Kind;

use super::probe::routes;
use super::reported::not_run;
use crate::alert::AlertRule;
use crate::check::{CheckIn, MessageStage, TlsMode};
use crate::http::Shared;
use crate::http::api::checks;
use crate::incident::own::NEAR_DAYS;
use crate::monitor::check::Alerting;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject, by_certificate};

/// Days before the end that are told of.
const STAGES: [i64; 4] = [30, 14, 7, 1];
/// Mail hosts of a domain that are looked at.
const HOSTS: usize = 5;

/// Looks at the end of certificates.
pub(super) struct Certificate;

impl CheckKind for Certificate {
    fn id(&self) -> &'static str {
        "certificate"
    }
    fn title(&self) -> &'static str {
        "Certificate of"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(Duration::from_secs(12 * 3_600))
    }
    fn rule(&self) -> AlertRule {
        AlertRule::CertificateExpiry
    }
    fn alerting(&self) -> Alerting {
        Alerting::LevelAndFacts
    }
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            let listeners = app.monitor.listeners();
            let of_file = |(names, tls): (Vec<&str>, &Arc<ServerTls>)| {
                let title = format!("listener {}", names.join(", "));
                Some(Subject::new(format!("listener.{}", names.first()?), title, tls.not_after().unwrap_or(0)))
            };
            let mut all: Vec<Subject> = by_certificate(listeners).into_iter().filter_map(of_file).collect();
            let secured = |route: &relay::route::Route| match route.record.kind {
                RouteKind::Smarthost => route.tls() != RouteTls::None,
                kind => kind == RouteKind::Graph,
            };
            let of_route = |one: Subject| Subject { id: format!("route.{}", one.id), ..one };
            all.extend(routes(app, secured).into_iter().map(of_route));
            let domains = app.store.documents(Kind::Domain).await.unwrap_or_default();
            let of_domain = |name: &str| Subject::new(format!("mx.{name}"), format!("the mail hosts of {name}"), 0);
            all.extend(domains.iter().map(|one| of_domain(&one.name)));
            all
        })
    }
    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            match subject.id.split_once('.') {
                Some(("listener", name)) => listener(app, name),
                Some(("route", name)) => route(app, name).await,
                Some(("mx", domain)) => exchangers(app, domain).await,
                _ => Found::skipped("there is no such subject"),
            }
        })
    }
}

fn listener(app: &Shared, name: &str) -> Found {
    let listeners = app.monitor.listeners();
    let found: Option<&Arc<ServerTls>> = listeners.iter().find(|(one, _)| one == name).map(|(_, tls)| tls);
    let Some((tls, end)) = found.and_then(|tls| Some((tls, tls.not_after()?))) else {
        return Found::skipped("there is no such listener, or its certificate has no end");
    };
    let path = tls.certificate_path().display().to_string();
    let detail = json!({ "file": path, "not_after": date(end) });
    let advice = format!("put the renewed certificate at {path}: it is read again within a minute, without a restart");
    let now_s = app.clock.now_ms() / 1000;
    let found = judged(&format!("the certificate of listener {name}"), end, now_s, advice).detail(detail);
    Found { by_incident: days_left(end, now_s) <= NEAR_DAYS, ..found }
}

async fn route(app: &Shared, name: &str) -> Found {
    app.checks.room().await;
    let input = CheckIn {
        quit_after: Some(Stage::Tls),
        message: Some(MessageStage::No),
        no_explore: true,
        ..CheckIn::default()
    };
    let report = match checks::certificate_of_route(app, name, input).await {
        Ok(report) => report,
        Err(problem) => return not_run(&problem),
    };
    let at = format!("{}:{}", report.target.host, report.target.port);
    match leaf(&report) {
        Some(leaf) => seen(&at, leaf, app.clock.now_ms() / 1000).avoid(name),
        // Whether the server can be reached is the affair of other checks.
        None => Found::skipped(format!("{at} showed no certificate")),
    }
}

/// All mail hosts that can be reached; the one that ends first counts.
async fn exchangers(app: &Shared, domain: &str) -> Found {
    let Some(net) = app.monitor.net() else { return Found::skipped("the server is not running") };
    let hosts = match net.resolver.mail_hosts(domain).await {
        Ok(found) => found.hosts,
        Err(Failure::NullMx { .. }) => return Found::ok("the domain takes no mail").facts(json!({ "stage": null })),
        Err(_) => return Found::skipped("the mail hosts are not known: the DNS gave no answer that could be used"),
    };
    let mut first: Option<(String, Leaf)> = None;
    for host in hosts.iter().take(HOSTS) {
        app.checks.room().await;
        let input = CheckIn {
            target: Some(format!("{}:25", host.host)),
            tls: Some(TlsMode::Starttls),
            quit_after: Some(Stage::Tls),
            message: Some(MessageStage::No),
            no_explore: true,
            insecure: true,
            ..CheckIn::default()
        };
        let Ok(report) = checks::probed(app, input).await else { continue };
        if let Some(leaf) = leaf(&report)
            && first.as_ref().is_none_or(|(_, known)| leaf.not_after < known.not_after)
        {
            first = Some((format!("{}:25", host.host), leaf.clone()));
        }
    }
    match first {
        Some((at, leaf)) => seen(&at, &leaf, app.clock.now_ms() / 1000),
        None => Found::skipped("no mail host showed a certificate on port 25"),
    }
}

fn leaf(report: &Report) -> Option<&Leaf> {
    let steps = report.transcripts.iter().flat_map(|one| &one.steps);
    steps.filter_map(|step| step.fact.as_ref()).find_map(|fact| match fact {
        Fact::Chain { certificates } => certificates.first(),
        _ => None,
    })
}

fn seen(at: &str, leaf: &Leaf, now_s: i64) -> Found {
    let detail = json!({
        "at": at, "not_after": date(leaf.not_after), "subject": leaf.subject, "issuer": leaf.issuer, "names": leaf.names,
        "sha256": leaf.sha256,
    });
    let advice =
        format!("whoever runs {at} has to renew it; mail that requires a valid certificate waits once it has ended");
    judged(&format!("the certificate of {at}"), leaf.not_after, now_s, advice).detail(detail)
}

/// The stage is what is compared: a renewal by itself is no news.
fn judged(what: &str, end_s: i64, now_s: i64, advice: String) -> Found {
    let days = days_left(end_s, now_s);
    let date = date(end_s);
    let text = match days {
        ..0 => format!("{what} has expired on {date}"),
        0 => format!("{what} expires today, {date}"),
        1 => format!("{what} expires tomorrow, {date}"),
        _ => format!("{what} is valid for {days} days, until {date}"),
    };
    let stage = STAGES.into_iter().rev().find(|stage| days <= *stage);
    let facts = json!({ "stage": if days < 0 { Value::from("over") } else { Value::from(stage) } });
    let level = match days {
        ..=7 => Level::Problem,
        8..=30 => Level::Warning,
        _ => Level::Ok,
    };
    let found = Found::new(level, text).facts(facts);
    if level.is_bad() { found.advice(vec![advice]) } else { found }
}

fn date(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s)
        .map_or_else(|_| unix_s.to_string(), |time| time.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn the_end_of_a_certificate_is_told_at_30_14_7_and_1_days_and_when_it_is_over() {
        let mut told = Vec::new();
        let mut before = Value::Null;
        for day in 0..40 {
            let left = 35 - day;
            let found = judged("it", 1_000 * DAY, (1_000 - left) * DAY - 1, String::new());
            if found.facts != before {
                told.push((left, found.level.word()));
                before = found.facts;
            }
        }
        let expected = [(35, "ok"), (30, "warning"), (14, "warning"), (7, "problem"), (1, "problem"), (-1, "problem")];
        assert_eq!(told, expected);
    }
}
