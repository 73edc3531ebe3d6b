//! From evidence to an incident: its body, its alert, its first line of history. Pure.

use explain::RuleBase;
use relay::incident::Suspicion;
use store::IncidentScope;

use super::model::{Aim, Body, Counts, State, name};
use super::own::{CERTIFICATE_OF, WORKER_DIED};
use super::words;
use crate::alert::{Alert, AlertRule, Severity};

/// Other scopes that are kept.
const LOOKED_AT: usize = 6;

/// How bad it is, by whom it touches.
pub fn severity(scope: &IncidentScope) -> Severity {
    match scope {
        IncidentScope::Everyone
        | IncidentScope::Route(_)
        | IncidentScope::Credential(_)
        | IncidentScope::Source(_)
        | IncidentScope::Itself(_) => Severity::Critical,
        IncidentScope::Family(_)
        | IncidentScope::Provider(_)
        | IncidentScope::SenderDomain(_)
        | IncidentScope::Stream(_)
        | IncidentScope::Sender(_) => Severity::Problem,
        IncidentScope::Destination(_) | IncidentScope::Domain(_) | IncidentScope::Address(_) => Severity::Warning,
    }
}

/// The incident that evidence speaks of.
pub fn body(seen: &Suspicion, route_version: Option<i64>, now_ms: i64) -> Body {
    let sample = &seen.latest.sample;
    let percent = |share: f64| (share.clamp(0.0, 1.0) * 100.0).round() as u8;
    Body {
        scope: seen.found.scope.clone(),
        reason: seen.reason.to_string(),
        rule: sample.rule.as_ref().map(ToString::to_string),
        provider: sample.provider.as_ref().map(ToString::to_string),
        severity: severity(&seen.found.scope),
        state: State::Open,
        opened_ms: now_ms,
        since_ms: seen.found.since_ms,
        last_ms: sample.at_ms,
        closed: None,
        counts: Counts {
            attempts: seen.attempts.into(),
            recipients: seen.recipients.into(),
            messages: seen.messages.into(),
        },
        others_ok: seen.found.others_ok,
        looked_at: seen
            .found
            .looked_at
            .iter()
            .take(LOOKED_AT)
            .map(|(scope, inside, outside)| (scope.clone(), percent(*inside), percent(*outside)))
            .collect(),
        examples: seen.examples.iter().map(ToString::to_string).collect(),
        cause: Some((*seen.latest.cause).clone()),
        detail: None,
        aim: Aim {
            route: Some(sample.route.to_string()),
            route_version,
            domain: Some(sample.domain.to_string()),
            address: Some(seen.address.to_string()),
            sender_domain: Some(sample.sender_domain.to_string()).filter(|domain| !domain.is_empty()),
            source: sample.source.map(|source| source.to_string()),
        },
        brake: None,
        diagnosis: None,
        changes_before: Vec::new(),
        similar: Vec::new(),
        reopened: 0,
    }
}

/// An incident of Pillarbox itself.
pub fn own(part: &str, reason: &str, severity: Severity, detail: String, now_ms: i64) -> Body {
    Body {
        scope: IncidentScope::Itself(part.into()),
        reason: reason.into(),
        rule: None,
        provider: None,
        severity,
        state: State::Open,
        opened_ms: now_ms,
        since_ms: now_ms,
        last_ms: now_ms,
        closed: None,
        counts: Counts::default(),
        others_ok: 0,
        looked_at: Vec::new(),
        examples: Vec::new(),
        cause: None,
        detail: Some(detail),
        aim: Aim::default(),
        brake: None,
        diagnosis: None,
        changes_before: Vec::new(),
        similar: Vec::new(),
        reopened: 0,
    }
}

/// The first line of its history.
pub fn summary(body: &Body) -> String {
    if body.is_own() {
        return body.detail.clone().unwrap_or_default();
    }
    let counts = &body.counts;
    format!(
        "{} of {} failed with {}; outside of it {} were fine",
        plural(counts.recipients, "recipient"),
        plural(counts.messages, "message"),
        body.reason,
        plural(body.others_ok.into(), "recipient")
    )
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The key of its alert. Failures of our own have one before the store could number them, and what a scheduled check tells of
/// as well has that one's: nobody is told twice.
pub fn alert_key(id: Option<i64>, body: &Body) -> String {
    match (&body.scope, id) {
        (IncidentScope::Itself(part), _) => match part.strip_prefix(CERTIFICATE_OF) {
            Some(listener) => crate::monitor::alert_of_listener(listener),
            None => format!("incident:{}", body.key()),
        },
        (_, Some(id)) => format!("incident:{}", name(id)),
        (_, None) => format!("incident:{}", body.key()),
    }
}

/// What is told of it. Without a number it is not in the store yet.
pub fn alert(id: Option<i64>, body: &Body, rules: &RuleBase) -> Alert {
    let words = words::of(rules, body);
    let mut text = format!("{} {}.", words.meaning, summary(body).trim_end_matches('.'));
    if let Some(first) = words.fixes.first() {
        text.push_str(&format!(" What to do first: {}", first.text));
        if let Some(run) = &first.run {
            text.push_str(&format!(" {run}"));
        }
    }
    let mut about: Vec<(String, String)> = id.map(|id| ("incident".to_owned(), name(id))).into_iter().collect();
    about.extend([
        ("scope".to_owned(), body.scope.to_string()),
        ("reason".to_owned(), body.reason.clone()),
        ("since".to_owned(), crate::http::time::show(body.since_ms)),
    ]);
    about.extend(body.changes_before.iter().take(3).map(|change| ("changed before".to_owned(), change.clone())));
    let route = match &body.scope {
        IncidentScope::Route(route) | IncidentScope::Credential(route) => Some(route.clone()),
        IncidentScope::Everyone | IncidentScope::Source(_) => body.aim.route.clone(),
        _ => None,
    };
    Alert {
        key: alert_key(id, body),
        rule: rule_of(body),
        severity: body.severity,
        title: words.title,
        text,
        about,
        avoid: route.into_iter().collect(),
        link: None,
    }
}

fn rule_of(body: &Body) -> AlertRule {
    match body.reason.as_str() {
        "queue_stalled" => AlertRule::QueueStalled,
        WORKER_DIED => AlertRule::JobFailed,
        "certificate_expires" | "certificate_expired" if body.is_own() => AlertRule::CertificateExpiry,
        _ if matches!(body.scope, IncidentScope::Credential(_)) => AlertRule::AuthOutgoing,
        _ => AlertRule::Incident,
    }
}
