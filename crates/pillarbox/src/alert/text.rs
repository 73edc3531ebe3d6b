//! What a message says: subject, text, and the JSON of an alert. Pure; how a channel wants it is the channel's affair.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::plan::What;
use super::rule::{AlertRule, Severity};
use crate::http::time;

/// An alert as a channel is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its number, if it has one yet.
    pub id: Option<i64>,
    /// The alert.
    pub entry: Entry,
    /// How bad it is, as the settings say.
    pub severity: Severity,
    /// What is told of it.
    pub what: What,
}

/// An alert in JSON. Field names are a promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertJson {
    /// `a-17`; absent while it could not be written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The same for the same thing.
    pub key: String,
    /// `raised`, `worse`, `resolved`, or `passed` (raised and over before anybody could be told).
    pub state: String,
    /// What it is about.
    pub rule: AlertRule,
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// Sentences.
    pub text: String,
    /// Facts, named.
    pub about: Vec<(String, String)>,
    /// A page about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// When it was over, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
    /// What ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
}

impl Item {
    /// It is over.
    pub fn is_over(&self) -> bool {
        matches!(self.what, What::Resolved | What::Passed)
    }

    /// In JSON.
    pub fn json(&self) -> AlertJson {
        let (alert, resolved) = (&self.entry.alert, self.entry.resolved.as_ref().filter(|_| self.is_over()));
        let state = match self.what {
            What::Raised => "raised",
            What::Worse => "worse",
            What::Resolved => "resolved",
            What::Passed => "passed",
        };
        AlertJson {
            id: self.id.map(|id| format!("a-{id}")),
            key: alert.key.clone(),
            state: state.into(),
            rule: alert.rule,
            severity: self.severity,
            title: alert.title.clone(),
            text: alert.text.clone(),
            about: alert.about.clone(),
            link: alert.link.clone(),
            since: time::show(self.entry.first_ms),
            resolved: resolved.map(|resolved| time::show(resolved.at_ms)),
            resolution: resolved.map(|resolved| resolved.why.clone()),
        }
    }

    /// One line: `CRITICAL: The credential of route out is rejected`.
    pub fn headline(&self) -> String {
        let word = match (self.what, self.severity) {
            (What::Resolved | What::Passed, _) => "RESOLVED",
            (_, Severity::Critical) => "CRITICAL",
            (_, Severity::Problem) => "PROBLEM",
            (_, Severity::Warning) => "WARNING",
        };
        format!("{word}: {}", self.entry.alert.title)
    }

    /// Some lines: text, facts, times.
    pub fn details(&self) -> String {
        let alert = &self.entry.alert;
        let mut text = String::new();
        if let Some(resolved) = self.entry.resolved.as_ref().filter(|_| self.is_over()) {
            let minutes = (resolved.at_ms - self.entry.first_ms).max(0) / 60_000;
            text.push_str(&format!(
                "Over since {} after {minutes} min: {}\n",
                time::show(resolved.at_ms),
                resolved.why
            ));
            if self.what == What::Passed {
                text.push_str("Nobody could be told while it lasted.\n");
            }
        }
        if self.what == What::Worse {
            text.push_str("It has become worse.\n");
        }
        text.push_str(alert.text.trim_end());
        text.push_str("\n\n");
        for (name, value) in &alert.about {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push_str(&format!("since: {}\n", time::show(self.entry.first_ms)));
        if let Some(link) = &alert.link {
            text.push_str(&format!("page: {link}\n"));
        }
        if let Some(id) = self.id.filter(|_| !self.is_over()) {
            text.push_str(&format!("acknowledge: pillarbox alert ack a-{id}\n"));
        }
        text
    }
}

/// The subject of a message.
pub fn subject(hostname: &str, items: &[Item]) -> String {
    match items {
        [one] => format!("[{hostname}] {}", one.headline()),
        many => {
            let raised = many.iter().filter(|item| !item.is_over()).count();
            let over = many.len() - raised;
            let worst = many.iter().filter(|item| !item.is_over()).max_by_key(|item| item.severity);
            let first = worst.or(many.first()).map_or_else(String::new, Item::headline);
            match (raised, over) {
                (0, over) => format!("[{hostname}] {over} alerts are over: {first}"),
                (raised, 0) => format!("[{hostname}] {raised} alerts: {first}"),
                (1, over) => format!("[{hostname}] 1 alert, {over} over: {first}"),
                (raised, over) => format!("[{hostname}] {raised} alerts, {over} over: {first}"),
            }
        }
    }
}

/// The text of a message, the worst first.
pub fn body(hostname: &str, items: &[Item]) -> String {
    let mut text = String::new();
    for item in sorted(items) {
        text.push_str(&format!("{}\n\n{}\n\n", item.headline(), item.details().trim_end()));
    }
    text.push_str(&format!("-- \nPillarbox at {hostname}\n"));
    text
}

/// The worst first, what is over last.
pub fn sorted(items: &[Item]) -> Vec<&Item> {
    let mut sorted: Vec<&Item> = items.iter().collect();
    sorted.sort_by_key(|item| (item.is_over(), std::cmp::Reverse(item.severity), item.entry.first_ms));
    sorted
}

/// The worst severity among those that are not over; `None`: all are.
pub fn worst(items: &[Item]) -> Option<Severity> {
    items.iter().filter(|item| !item.is_over()).map(|item| item.severity).max()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::alert::entry::{Alert, Resolved};

    /// An item about something.
    pub(in crate::alert) fn item(title: &str, severity: Severity, what: What) -> Item {
        let alert = Alert {
            key: format!("incident:{title}"),
            rule: AlertRule::Incident,
            severity,
            title: title.into(),
            text: "Mail waits.\nFirst: set the new password.".into(),
            about: vec![("route".into(), "out".into()), ("a|b]=\"c\\".into(), "\"d]\\".into())],
            avoid: vec!["out".into()],
            link: Some("https://relay.example/incidents/i-1".into()),
        };
        let mut entry = Entry::new(alert, 1_795_262_400_000);
        if matches!(what, What::Resolved | What::Passed) {
            entry.resolved = Some(Resolved { at_ms: 1_795_262_700_000, why: "a probe got through".into() });
        }
        Item { id: Some(17), entry, severity, what }
    }

    #[test]
    fn a_subject_names_the_worst_and_how_many() {
        let a = item("Credential rejected", Severity::Critical, What::Raised);
        let b = item("Queue is old", Severity::Warning, What::Raised);
        let c = item("Listed", Severity::Problem, What::Resolved);
        let said = |items: &[Item]| subject("relay.example", items);
        assert_eq!(said(std::slice::from_ref(&a)), "[relay.example] CRITICAL: Credential rejected");
        assert_eq!(said(&[b.clone(), a.clone()]), "[relay.example] 2 alerts: CRITICAL: Credential rejected");
        assert_eq!(said(&[c.clone(), b.clone()]), "[relay.example] 1 alert, 1 over: WARNING: Queue is old");
        assert_eq!(said(&[c.clone(), c.clone()]), "[relay.example] 2 alerts are over: RESOLVED: Listed");
        let order: Vec<_> = sorted(&[c, b, a]).iter().map(|item| item.headline()).collect();
        assert_eq!(order, ["CRITICAL: Credential rejected", "WARNING: Queue is old", "RESOLVED: Listed"]);
    }

    #[test]
    fn details_say_how_to_acknowledge_and_what_ended_it() {
        let raised = item("x", Severity::Problem, What::Raised).details();
        assert!(
            raised.contains("acknowledge: pillarbox alert ack a-17\n") && raised.contains("route: out\n"),
            "{raised}"
        );
        let over = item("x", Severity::Problem, What::Passed).details();
        assert!(over.starts_with("Over since 2026-11-21T12:05:00Z after 5 min: a probe got through\n"), "{over}");
        assert!(over.contains("Nobody could be told") && !over.contains("ack"), "{over}");
    }
}
