//! What changed before something broke: settings, records in the DNS, certificates, our own addresses and version, what checks
//! found, and what providers have announced. Ordered by how plausible each is for the trouble in question.
//!
//! Everything is read from records by kind; [`facts`] notes what nobody else does. A change is no proof: the list says what to
//! look at first.

pub mod announced;
pub mod facts;

use serde_json::Value;
use store::{IncidentScope, Record, RecordKind, RecordQuery, Store, StoreError};

use announced::Announcement;

/// How long before the trouble a change may have been, milliseconds.
const WINDOW_MS: i64 = 7 * 86_400_000;
/// What is noticed by looking from time to time may be noticed after the trouble began, milliseconds.
const NOTICED_MS: i64 = 6 * 3_600_000;
/// Clocks of one machine; an act and its record.
const SLACK_MS: i64 = 60_000;
/// Announcements whose day is so close are the first to be thought of, milliseconds.
const ANNOUNCED_MS: i64 = 45 * 86_400_000;
/// Records of a kind that are looked at.
const PAGES: usize = 5;
/// Changes that are given.
const MOST: usize = 8;
/// What is less plausible than this is left out.
const LEAST: u32 = 25;
/// Longest sentence, characters.
const LONGEST: usize = 300;

/// Trouble to find the cause of.
#[derive(Debug, Clone)]
pub struct Trouble<'a> {
    /// Whom it touches.
    pub scope: &'a IncidentScope,
    /// Id of the reason.
    pub reason: &'a str,
    /// Id of the provider that spoke.
    pub provider: Option<&'a str>,
    /// Route it goes by, where one is known.
    pub route: Option<&'a str>,
    /// A domain it is sent from, where one is known.
    pub sender_domain: Option<&'a str>,
    /// When it began, Unix milliseconds.
    pub since_ms: i64,
}

/// Where a change was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Somebody, or the program, changed or did something here.
    Audit,
    /// The DNS journal.
    Dns,
    /// A scheduled check found something else than before.
    Check,
    /// A provider announced it.
    Announced,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it was noted, Unix milliseconds.
    pub at_ms: i64,
    /// Where.
    pub source: Source,
    /// A sentence.
    pub text: String,
    /// How plausible it is: 25 to about 120.
    pub weight: u32,
}

/// What changed before, the most plausible first.
pub async fn before(store: &dyn Store, trouble: &Trouble<'_>) -> Result<Vec<Change>, StoreError> {
    let mut found = announced(trouble);
    for (kind, until_ms, weigh) in [
        (RecordKind::Audit, trouble.since_ms + SLACK_MS, audit as fn(&Trouble<'_>, &Record) -> Option<(u32, String)>),
        (RecordKind::DnsSnapshot, trouble.since_ms + NOTICED_MS, dns),
        (RecordKind::CheckResult, trouble.since_ms + NOTICED_MS, check),
    ] {
        let source = match kind {
            RecordKind::Audit => Source::Audit,
            RecordKind::DnsSnapshot => Source::Dns,
            _ => Source::Check,
        };
        for record in records(store, kind, trouble.since_ms - WINDOW_MS, until_ms).await? {
            let Some((relevance, text)) = weigh(trouble, &record) else { continue };
            let weight = relevance + closeness(trouble.since_ms, record.at_ms);
            found.push(Change { at_ms: record.at_ms, source, text: cut(&text), weight });
        }
    }
    found.retain(|change| change.weight >= LEAST);
    found.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| b.at_ms.cmp(&a.at_ms)));
    found.truncate(MOST);
    Ok(found)
}

/// The sentences with their times, as incidents keep them.
pub fn sentences(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{}: {}", crate::http::time::show(change.at_ms), change.text)).collect()
}

async fn records(store: &dyn Store, kind: RecordKind, from_ms: i64, until_ms: i64) -> Result<Vec<Record>, StoreError> {
    let mut query =
        RecordQuery { since_ms: Some(from_ms), until_ms: Some(until_ms), limit: 200, ..RecordQuery::of(kind) };
    let mut found = Vec::new();
    // Newest first: the ones closest to the trouble.
    for _ in 0..PAGES {
        let page = store.records(query.clone()).await?;
        let full = page.len() == query.limit as usize;
        query.before = page.last().map(|record| record.id);
        found.extend(page);
        if !full {
            break;
        }
    }
    Ok(found)
}

/// The closer, the likelier; what was noticed after the beginning counts as close.
fn closeness(since_ms: i64, at_ms: i64) -> u32 {
    match (since_ms - at_ms).max(0) / 60_000 {
        0..=15 => 40,
        16..=60 => 30,
        61..=360 => 20,
        361..=1_440 => 10,
        _ => 0,
    }
}

/// An entry of the audit log: named `kind/name`.
fn audit(trouble: &Trouble<'_>, record: &Record) -> Option<(u32, String)> {
    let body = &record.body;
    let (kind, name) = record.name.split_once('/').unwrap_or((&record.name, ""));
    let changes: &[Value] = body["changes"].as_array().map_or(&[], Vec::as_slice);
    let fields: Vec<&str> = changes.iter().filter_map(|change| change["field"].as_str()).collect();
    let relevance = audit_relevance(trouble, kind, name, changes, &fields)?;
    let (who, action) = (body["who"].as_str().unwrap_or("somebody"), body["action"].as_str().unwrap_or("change"));
    let what = if name.is_empty() { kind.to_owned() } else { format!("{kind} {name}") };
    let mut text = format!("{who}: {action} {what}");
    if !fields.is_empty() {
        let shown: Vec<String> = changes.iter().take(4).map(field_words).collect();
        text.push_str(&format!(" ({}{})", shown.join("; "), if fields.len() > 4 { "; and more" } else { "" }));
    }
    Some((relevance, text))
}

fn field_words(change: &Value) -> String {
    let field = change["field"].as_str().unwrap_or_default().trim_start_matches('/');
    let value = |value: &Value| match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.chars().take(60).collect(),
        other => other.to_string().chars().take(60).collect(),
    };
    // What has parts of its own is for the audit log.
    let has_parts = |value: &Value| match value {
        Value::Array(items) => items.iter().any(Value::is_object),
        other => other.is_object(),
    };
    match change["secret"].as_bool() {
        Some(true) => format!("{field} changed"),
        _ if has_parts(&change["before"]) || has_parts(&change["after"]) => format!("{field} changed"),
        _ => format!("{field}: {} → {}", value(&change["before"]), value(&change["after"])),
    }
}

fn audit_relevance(trouble: &Trouble<'_>, kind: &str, name: &str, changes: &[Value], fields: &[&str]) -> Option<u32> {
    use IncidentScope as Of;
    let of_scope = |kind: &str| match trouble.scope {
        Of::Route(route) | Of::Credential(route) => kind == "route" && *route == name,
        // `route/group`.
        Of::Destination(destination) => kind == "route" && destination.split('/').next() == Some(name),
        Of::SenderDomain(domain) => kind == "domain" && domain.eq_ignore_ascii_case(name),
        Of::Sender(sender) => kind == "sender" && *sender == name,
        Of::Stream(stream) => kind == "stream" && *stream == name,
        _ => false,
    };
    let is_secret =
        || changes.iter().any(|change| change["secret"] == true) || fields.iter().any(|f| f.ends_with("username"));
    let relevance = match kind {
        "route" if of_scope(kind) && relay::incident::scope::is_of_credential(trouble.reason) && is_secret() => 80,
        "token" if matches!(trouble.scope, Of::Credential(route) if *route == name) => 70,
        _ if of_scope(kind) => 60,
        "route" if trouble.route == Some(name) => 45,
        "domain" if trouble.sender_domain.is_some_and(|domain| domain.eq_ignore_ascii_case(name)) => {
            if of_authentication(trouble.reason) {
                60
            } else {
                30
            }
        }
        "itself" => match (facts::of_any_node(name), trouble.scope) {
            ("addresses", Of::Source(_) | Of::Family(_)) => 65,
            ("addresses", _) if of_our_address(trouble.reason) => 60,
            ("version", Of::Everyone | Of::Itself(_)) => 45,
            ("version", _) => 25,
            (_, Of::Itself(_)) => 45,
            _ => 10,
        },
        "rule" if matches!(trouble.scope, Of::Address(_) | Of::Itself(_)) => return None,
        "rule" => 35,
        "server" if matches!(trouble.scope, Of::Everyone | Of::Itself(_)) => 30,
        "route" | "stream" | "sender" if *trouble.scope == Of::Everyone => 20,
        _ => return None,
    };
    // Held, released and looked at is not changed.
    Some(relevance)
}

fn of_authentication(reason: &str) -> bool {
    matches!(
        reason,
        "spf_fail" | "dkim_fail" | "dmarc_fail" | "unauthenticated" | "sender_unverified" | "sender_rejected"
    )
}

fn of_our_address(reason: &str) -> bool {
    reason.contains("blocklist") || reason.contains("reverse") || reason.contains("reputation") || reason == "bad_helo"
}

fn of_tls(reason: &str) -> bool {
    reason.starts_with("tls_") || reason.starts_with("certificate_") || reason == "starttls_missing"
}

/// A snapshot of the DNS journal: named `domain/what`; the first look at a record is no change.
fn dns(trouble: &Trouble<'_>, record: &Record) -> Option<(u32, String)> {
    let change = record.body.get("change").filter(|change| !change.is_null())?;
    let (domain, what) = record.name.split_once('/')?;
    let what_kind = what.split([':', ' ', '/']).next().unwrap_or(what);
    let is_auth = matches!(what_kind, "spf" | "spf-of" | "dkim" | "dmarc" | "dmarc-of");
    let relevance = match trouble.scope {
        IncidentScope::SenderDomain(of) if of.eq_ignore_ascii_case(domain) => {
            if is_auth {
                80
            } else {
                50
            }
        }
        IncidentScope::Domain(of) if of.eq_ignore_ascii_case(domain) => {
            if of_tls(trouble.reason) || matches!(what_kind, "mx" | "ns") { 80 } else { 55 }
        }
        IncidentScope::Destination(of) if of.contains(domain) => 60,
        IncidentScope::Address(of) if of.ends_with(&format!("@{domain}")) => 40,
        IncidentScope::Source(of) if of == domain => 80,
        _ if trouble.sender_domain.is_some_and(|of| of.eq_ignore_ascii_case(domain)) && is_auth => {
            if of_authentication(trouble.reason) { 70 } else { 30 }
        }
        _ if what_kind == "ptr" && of_our_address(trouble.reason) => 60,
        _ => return None,
    };
    let lines: Vec<&str> =
        change["lines"].as_array().map_or(Vec::new(), |lines| lines.iter().filter_map(Value::as_str).collect());
    let text = if lines.is_empty() { "the records differ".to_owned() } else { lines.join(" ") };
    Some((relevance, format!("DNS of {domain}, {what}: {text}")))
}

/// A result of a check, named `kind:subject`: a record is a period of equal results.
fn check(trouble: &Trouble<'_>, record: &Record) -> Option<(u32, String)> {
    let body = &record.body;
    body.get("before").filter(|before| !before.is_null())?;
    let (kind, subject) = record.name.split_once(':')?;
    let is_subject =
        |name: &str| subject == name || subject.split([':', '/', ' ']).any(|part| part.eq_ignore_ascii_case(name));
    let relevance = match trouble.scope {
        IncidentScope::Route(name) | IncidentScope::Credential(name) if is_subject(name) => 65,
        IncidentScope::Destination(name) if name.split('/').any(is_subject) => 60,
        IncidentScope::Domain(name) | IncidentScope::SenderDomain(name) | IncidentScope::Source(name)
            if is_subject(name) =>
        {
            65
        }
        _ if trouble.route.is_some_and(is_subject) => 45,
        _ if trouble.sender_domain.is_some_and(is_subject) && of_authentication(trouble.reason) => 50,
        _ if of_our_address(trouble.reason) && (kind.contains("list") || kind.contains("reverse")) => 55,
        _ => return None,
    };
    let changes: Vec<&str> =
        body["changes"].as_array().map_or(Vec::new(), |list| list.iter().filter_map(Value::as_str).collect());
    let text = if changes.is_empty() {
        body["summary"].as_str().unwrap_or("another result").to_owned()
    } else {
        changes.join("; ")
    };
    Some((relevance, format!("check {kind} of {subject}: {text}")))
}

fn announced(trouble: &Trouble<'_>) -> Vec<Change> {
    let Some(provider) = trouble.provider else { return Vec::new() };
    let of = |one: &Announcement| {
        let at_ms = one.at_ms()?;
        let near = (at_ms - 86_400_000..=at_ms + ANNOUNCED_MS).contains(&trouble.since_ms);
        let past = trouble.since_ms > at_ms;
        let weight = if near {
            85
        } else if past {
            40
        } else {
            return None;
        };
        let text = cut(&format!("{} ({}, looked up {})", one.text, one.source, one.checked));
        Some(Change { at_ms, source: Source::Announced, text, weight })
    };
    Announcement::about(provider, trouble.reason).filter_map(of).collect()
}

/// One line, of bounded length: parts of it were written by others.
fn cut(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if text.chars().count() > LONGEST { format!("{line}…") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_790_000_000_000;

    fn record(kind: RecordKind, name: &str, minutes_before: i64, body: Value) -> Record {
        Record { id: 1, kind, name: name.into(), open: false, at_ms: NOW - minutes_before * 60_000, version: 1, body }
    }

    fn trouble<'a>(scope: &'a IncidentScope, reason: &'a str) -> Trouble<'a> {
        Trouble {
            scope,
            reason,
            provider: None,
            route: Some("o365"),
            sender_domain: Some("shop.example"),
            since_ms: NOW,
        }
    }

    #[test]
    fn a_changed_password_is_the_first_to_be_thought_of_when_a_credential_is_rejected() {
        let scope = IncidentScope::Credential("o365".into());
        let trouble = trouble(&scope, "credentials_invalid");
        let changed = |field: &str, secret: bool| {
            json!({"who": "user ann", "action": "change",
            "changes": [{"field": field, "before": "a", "after": "b", "secret": secret}]})
        };
        let weigh = |name: &str, body: Value| audit(&trouble, &record(RecordKind::Audit, name, 5, body));
        let (password, text) = weigh("route/o365", changed("/password", true)).unwrap();
        assert_eq!(text, "user ann: change route o365 (password changed)");
        let (port, text) = weigh("route/o365", changed("/port", false)).unwrap();
        assert_eq!(text, "user ann: change route o365 (port: a → b)");
        assert!(password > port);
        assert_eq!(weigh("route/other", changed("/port", false)), None);
        assert_eq!(weigh("webhook/x", changed("/url", false)), None);
    }

    #[test]
    fn a_dns_record_of_the_sending_domain_explains_failed_authentication_and_first_looks_explain_nothing() {
        let scope = IncidentScope::SenderDomain("shop.example".into());
        let trouble = trouble(&scope, "spf_fail");
        let body = json!({"change": {"lines": ["The record lost ip4:192.0.2.1."]}});
        let (weight, text) =
            dns(&trouble, &record(RecordKind::DnsSnapshot, "shop.example/spf", 60, body.clone())).unwrap();
        assert_eq!((weight, text.as_str()), (80, "DNS of shop.example, spf: The record lost ip4:192.0.2.1."));
        assert_eq!(dns(&trouble, &record(RecordKind::DnsSnapshot, "other.example/spf", 60, body)), None);
        assert_eq!(dns(&trouble, &record(RecordKind::DnsSnapshot, "shop.example/spf", 60, json!({}))), None);
    }

    #[test]
    fn what_was_close_outweighs_what_was_days_ago() {
        assert!(closeness(NOW, NOW - 5 * 60_000) > closeness(NOW, NOW - 5 * 3_600_000));
        assert_eq!(closeness(NOW, NOW - 3 * 86_400_000), 0);
        assert_eq!(closeness(NOW, NOW + 60_000), 40);
    }

    #[test]
    fn an_announcement_counts_for_its_provider_and_reason_and_most_near_its_day() {
        let scope = IncidentScope::Credential("o365".into());
        let day = |text: &str| crate::http::time::read(text).unwrap();
        let at = |since_ms, provider| {
            announced(&Trouble { since_ms, provider: Some(provider), ..trouble(&scope, "basic_auth_retired") })
        };
        let near = at(day("2027-01-04T08:00:00Z"), "microsoft");
        assert_eq!(near.iter().map(|change| change.weight).collect::<Vec<_>>(), [40, 85]);
        assert_eq!(at(day("2026-06-01T08:00:00Z"), "microsoft").len(), 1, "what is to come explains nothing yet");
        assert_eq!(at(day("2027-01-04T08:00:00Z"), "google"), []);
    }
}
