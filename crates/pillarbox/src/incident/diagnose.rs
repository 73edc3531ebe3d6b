//! The diagnosis that fits an incident, run by itself when it is opened: a probe of the route's server, or an audit of the
//! sender's domain. A rejected credential is not tried again by it.

use std::time::Duration;

use diagnose::Judge;
use diagnose::check::{Outcome, Report};
use diagnose::domain::{Auditor, Guess, Plan};
use explain::Severity;
use proto::transcript::Stage;
use serde_json::{Value, json};
use store::IncidentScope;

use super::model::{Body, Diagnosis};
use crate::check::{CheckIn, MessageStage};
use crate::http::Shared;
use crate::http::api::checks;

/// Longest report that is kept, octets.
const MOST_REPORT: usize = 64 << 10;
/// Findings kept of a longer one.
const MOST_FINDINGS: usize = 8;
/// Longest an audit may take.
const LONGEST: Duration = Duration::from_secs(60);

/// Reasons that are about how the sender's domain proves itself.
const OF_DOMAIN: [&str; 6] =
    ["spf_fail", "dkim_fail", "dmarc_fail", "unauthenticated", "sender_domain", "domain_blocklisted"];

/// What a check says of what failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// For the incident.
    pub diagnosis: Diagnosis,
    /// The stage that failed was passed; `None`: it was not reached, so nothing is known.
    pub works: Option<bool>,
}

/// Runs it. `None`: there is nothing to check, or no room for it now.
pub async fn run(app: &Shared, body: &Body) -> Option<Checked> {
    if body.is_own() {
        return None;
    }
    match &body.aim.sender_domain {
        Some(domain) if OF_DOMAIN.contains(&body.reason.as_str()) => audit(app, body, domain).await,
        _ => probe(app, body).await,
    }
}

/// How far the probe goes: as far as the failure, without mail; never to a sign-in that was rejected.
fn wanted(body: &Body, from: Option<String>) -> (CheckIn, Stage) {
    let failed = body.cause.as_ref().map_or(Stage::Auth, |cause| cause.stage);
    let mut input = CheckIn { no_explore: false, message: Some(MessageStage::No), ..CheckIn::default() };
    let until = match failed {
        _ if matches!(body.scope, IncidentScope::Credential(_)) => Stage::Ehlo,
        Stage::Sender | Stage::Recipient | Stage::Message => {
            input.from = Some(from.unwrap_or_default());
            input.to = body.aim.address.iter().cloned().collect();
            Stage::Recipient
        }
        other => other,
    };
    input.quit_after = Some(until);
    (input, failed)
}

async fn probe(app: &Shared, body: &Body) -> Option<Checked> {
    let route = body.aim.route.clone()?;
    let from = sender_of(app, body).await;
    let (mut input, failed) = wanted(body, from);
    let relay = app.relay.as_ref()?;
    let known = relay.routes().into_iter().find(|one| *one.name == *route)?;
    if known.record.kind == relay::route::RouteKind::Mx {
        input.target = body.aim.domain.clone();
    }
    let report = match checks::by_route(app, &route, input).await {
        Ok(report) => report,
        Err(problem) => {
            tracing::info!(%route, problem = ?problem, "an incident could not be diagnosed now");
            return None;
        }
    };
    let passed = |stage| report.stages.iter().find(|one| one.stage == stage).map(|one| one.outcome == Outcome::Passed);
    let works = if failed == Stage::Message { None } else { passed(failed) };
    let works = works.or((!report.healthy).then_some(false));
    Some(Checked { diagnosis: of_report(&report, app.clock.now_ms()), works })
}

/// The return path of an example.
async fn sender_of(app: &Shared, body: &Body) -> Option<String> {
    let id = body.examples.first()?.parse().ok()?;
    let message = app.store.message(id, 1).await.ok()?;
    Some(message.message.reverse_path.0.as_ref().map(|address| address.as_str().to_owned()).unwrap_or_default())
}

fn of_report(report: &Report, at_ms: i64) -> Diagnosis {
    let deciding = report.findings.first().filter(|_| !report.healthy);
    Diagnosis {
        at_ms,
        kind: "check".into(),
        healthy: report.healthy,
        title: deciding
            .map_or_else(|| "Nothing is wrong as far as the probe goes".into(), |one| one.explanation.title.clone()),
        reason: report.reason.to_string(),
        report: bounded(serde_json::to_value(report).ok()),
    }
}

/// Without transcripts, and short enough.
fn bounded(report: Option<Value>) -> Option<Value> {
    let mut report = report?;
    if let Some(fields) = report.as_object_mut() {
        fields.remove("transcripts");
    }
    if report.to_string().len() <= MOST_REPORT {
        return Some(report);
    }
    let findings: Vec<Value> = report.get("findings")?.as_array()?.iter().take(MOST_FINDINGS).cloned().collect();
    let short = json!({"healthy": report.get("healthy"), "reason": report.get("reason"), "findings": findings, "shortened": true});
    (short.to_string().len() <= MOST_REPORT).then_some(short)
}

async fn audit(app: &Shared, body: &Body, domain: &str) -> Option<Checked> {
    let net = crate::serve::parts::net(app.checks.config(), app.clock.clone()).ok()?;
    let plan = Plan { guess: Guess::Few, ..Plan::default() };
    let auditor = Auditor::new(net, None, Judge::new(app.rules()), plan);
    let audit = tokio::time::timeout(LONGEST, auditor.audit(domain)).await.ok()?;
    let problem = audit.findings.iter().find(|found| found.severity == Severity::Problem);
    let diagnosis = Diagnosis {
        at_ms: app.clock.now_ms(),
        kind: "domain".into(),
        healthy: problem.is_none(),
        title: problem
            .map_or_else(|| "Nothing is wrong with the domain".into(), |found| found.explanation.title.clone()),
        reason: problem.map_or_else(|| "accepted".into(), |found| found.explanation.reason.to_string()),
        report: bounded(serde_json::to_value(&audit).ok()),
    };
    let mut problems = audit.findings.iter().filter(|found| found.severity == Severity::Problem);
    let works = works(body, problems.any(|found| found.explanation.reason.to_string() == body.reason));
    Some(Checked { diagnosis, works })
}

/// What an audit can say: only one that had seen the very failure can see that it is gone.
fn works(body: &Body, is_seen: bool) -> Option<bool> {
    let was_seen = body.diagnosis.as_ref().is_some_and(|before| before.reason == body.reason);
    (is_seen || was_seen).then_some(!is_seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Severity as Bad;
    use crate::incident::opening;

    fn failed_at(stage: Stage, scope: IncidentScope) -> Body {
        let mut body = opening::own("x", "server_error", Bad::Problem, String::new(), 1);
        body.scope = scope;
        body.aim.address = Some("a@example.net".into());
        body.cause = Some(store::Cause {
            stage,
            failure: proto::transcript::Failure::Disconnected,
            provider: None,
            rule: None,
            unknown_via: None,
        });
        body
    }

    #[test]
    fn a_rejected_credential_is_not_tried_by_the_diagnosis() {
        let (input, _) = wanted(&failed_at(Stage::Auth, IncidentScope::Credential("out".into())), None);
        assert_eq!(input.quit_after, Some(Stage::Ehlo));
    }

    #[test]
    fn a_probe_goes_as_far_as_the_failure_and_sends_no_mail() {
        let (input, _) =
            wanted(&failed_at(Stage::Message, IncidentScope::Route("out".into())), Some("b@x.example".into()));
        assert_eq!((input.quit_after, input.message), (Some(Stage::Recipient), Some(MessageStage::No)));
        assert_eq!((input.from.as_deref(), &input.to[..]), (Some("b@x.example"), &["a@example.net".to_owned()][..]));
        let (input, _) = wanted(&failed_at(Stage::Tls, IncidentScope::Route("out".into())), None);
        assert_eq!((input.quit_after, input.from), (Some(Stage::Tls), None));
    }

    #[test]
    fn an_audit_speaks_of_the_failure_that_it_has_seen_and_of_no_other() {
        let mut body = failed_at(Stage::Message, IncidentScope::SenderDomain("shop.example".into()));
        body.reason = "spf_fail".into();
        assert_eq!((works(&body, true), works(&body, false)), (Some(false), None));
        let seen = |reason: &str| Diagnosis {
            at_ms: 1,
            kind: "domain".into(),
            healthy: false,
            title: "x".into(),
            reason: reason.into(),
            report: None,
        };
        body.diagnosis = Some(seen("dmarc_fail"));
        assert_eq!(works(&body, false), None, "something else was wrong");
        body.diagnosis = Some(seen("spf_fail"));
        assert_eq!((works(&body, true), works(&body, false)), (Some(false), Some(true)));
    }

    #[test]
    fn a_long_report_is_shortened() {
        let long = "x".repeat(20_000);
        let report = json!({"healthy": false, "reason": "server_error", "transcripts": ["secret"],
            "findings": [{"title": long}, {"title": long}, {"title": long}, {"title": long}]});
        assert_eq!(bounded(Some(report)), None);
        let report = json!({"healthy": false, "findings": [{"title": "short"}], "stages": [long, long, long, long]});
        let short = bounded(Some(report)).unwrap();
        assert_eq!((short["shortened"].as_bool(), short["findings"][0]["title"].as_str()), (Some(true), Some("short")));
        let report = json!({"healthy": true, "transcripts": ["x"]});
        assert_eq!(bounded(Some(report)), Some(json!({"healthy": true})));
    }
}
