//! What is raised now: one entry for each key, however often it is raised.
//!
//! Telling somebody is not done here: [`Alerts::raise`] notes, and wakes whoever tells.

use std::collections::BTreeMap;

use net::Clock;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::rule::{AlertRule, Severity};

/// Most alerts that are raised at once; what comes on top is only logged.
const MOST: usize = 10_000;
/// Longest key, octets.
const MOST_KEY: usize = 200;
/// Longest title, characters.
const MOST_TITLE: usize = 200;
/// Longest text, characters.
const MOST_TEXT: usize = 8_000;
/// Most facts of an alert, and longest of them, characters.
const MOST_ABOUT: (usize, usize) = (40, 1_000);

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What makes it one and the same: `incident:i-17`, `certificate:out`. Raised again it is told once.
    pub key: String,
    /// What it is about.
    pub rule: AlertRule,
    /// How bad it is; a setting of the rule may say otherwise.
    pub severity: Severity,
    /// One line without a full stop.
    pub title: String,
    /// Full sentences: what, since when, what to do first.
    pub text: String,
    /// Facts, named.
    pub about: Vec<(String, String)>,
    /// Routes that mail about it must not take.
    pub avoid: Vec<String>,
    /// A page about it.
    pub link: Option<String>,
}

impl Alert {
    /// Without anything that makes it too long.
    fn bounded(mut self) -> Self {
        let mut end = self.key.len().min(MOST_KEY);
        while !self.key.is_char_boundary(end) {
            end -= 1;
        }
        self.key.truncate(end);
        self.title = cut(&self.title.replace(char::is_control, " "), MOST_TITLE);
        self.text = cut(&self.text, MOST_TEXT);
        self.about.truncate(MOST_ABOUT.0);
        for (name, value) in &mut self.about {
            *name = cut(name, 100);
            *value = cut(value, MOST_ABOUT.1);
        }
        self.avoid.truncate(100);
        self
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// An alert and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As it was raised last.
    pub alert: Alert,
    /// When it was raised first, Unix milliseconds.
    pub first_ms: i64,
    /// When it was raised last, Unix milliseconds.
    pub last_ms: i64,
    /// How often it was raised.
    pub times: u64,
    /// When it was over, and why.
    pub resolved: Option<Resolved>,
}

/// The end of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// What ended it.
    pub why: String,
}

/// All alerts.
pub struct Alerts {
    clock: Clock,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Wakes whoever tells.
    pub(super) wake: Notify,
}

impl Alerts {
    /// Nothing is raised yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, entries: Mutex::default(), wake: Notify::new() }
    }

    /// Notes that something is worth telling. Raised again it is not told again, unless it has become worse.
    pub async fn raise(&self, alert: Alert) {
        let alert = alert.bounded();
        let now_ms = self.clock.now_ms();
        {
            let mut entries = self.entries.lock();
            if let Some(entry) = entries.get_mut(&alert.key) {
                entry.last_ms = now_ms;
                entry.times += 1;
                entry.alert = alert;
                return;
            }
            if entries.len() >= MOST {
                tracing::error!(key = %alert.key, title = %alert.title, "too many alerts are raised: this one is only here");
                return;
            }
            tracing::warn!(key = %alert.key, rule = alert.rule.as_str(), severity = alert.severity.as_str(), "alert: {}", alert.title);
            let entry = Entry { alert: alert.clone(), first_ms: now_ms, last_ms: now_ms, times: 1, resolved: None };
            entries.insert(alert.key, entry);
        }
        self.wake.notify_one();
    }

    /// Notes that it is over. Nothing happens if it is not raised.
    pub async fn resolve(&self, key: &str, why: &str) {
        let Some(entry) = self.entries.lock().remove(key) else { return };
        tracing::info!(key, why, "alert is over: {}", entry.alert.title);
        self.wake.notify_one();
    }

    /// Whether something is raised under this key.
    pub async fn is_raised(&self, key: &str) -> bool {
        self.entries.lock().contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(key: &str) -> Alert {
        Alert {
            key: key.into(),
            rule: AlertRule::Incident,
            severity: Severity::Problem,
            title: "Something\r\nis wrong".into(),
            text: "x".repeat(9_000),
            about: Vec::new(),
            avoid: Vec::new(),
            link: None,
        }
    }

    #[tokio::test]
    async fn one_entry_for_a_key_until_it_is_over() {
        let alerts = Alerts::new(Clock::system());
        alerts.raise(alert("a")).await;
        alerts.raise(alert("a")).await;
        {
            let entries = alerts.entries.lock();
            let entry = entries.get("a").unwrap();
            assert_eq!((entries.len(), entry.times), (1, 2));
            assert_eq!(entry.alert.title, "Something  is wrong");
            assert!(entry.alert.text.chars().count() == MOST_TEXT + 1);
        }
        alerts.resolve("a", "mended").await;
        assert!(!alerts.is_raised("a").await);
    }
}
