//! An alert, and what became of it: the body of its record. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rule::{AlertRule, Severity};

/// Longest key, octets.
const MOST_KEY: usize = 200;
/// Longest title, characters.
const MOST_TITLE: usize = 200;
/// Longest text, characters.
const MOST_TEXT: usize = 8_000;
/// Most facts of an alert, and longest of them, characters.
const MOST_ABOUT: (usize, usize) = (40, 1_000);
/// Longest address of a page.
const MOST_LINK: usize = 1_000;

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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<(String, String)>,
    /// Routes that mail about it must not take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<String>,
    /// A page about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl Alert {
    /// Without anything that makes it too long.
    pub(super) fn bounded(mut self) -> Self {
        let mut end = self.key.len().min(MOST_KEY);
        while !self.key.is_char_boundary(end) {
            end -= 1;
        }
        self.key.truncate(end);
        self.title = cut(&self.title.replace(char::is_control, " "), MOST_TITLE);
        self.text = cut(&self.text.replace(|c: char| c.is_control() && c != '\n', " "), MOST_TEXT);
        self.about.truncate(MOST_ABOUT.0);
        for (name, value) in &mut self.about {
            *name = cut(&name.replace(char::is_control, " "), 100);
            *value = cut(&value.replace(char::is_control, " "), MOST_ABOUT.1);
        }
        self.avoid.truncate(100);
        self.link = self.link.filter(|link| link.len() <= MOST_LINK && !link.contains(char::is_control));
        self
    }

    /// The same words for the same thing.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.severity == other.severity && self.title == other.title && self.avoid == other.avoid
    }
}

/// At most so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The end of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// What ended it.
    pub why: String,
}

/// Somebody looks after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub who: String,
    /// What they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A mail in our own queue of which it is not known yet whether it arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// Id of the message.
    pub message: String,
    /// Routes it takes.
    pub routes: Vec<String>,
    /// When it was given to the queue, Unix milliseconds.
    pub at_ms: i64,
    /// It tells of the end.
    #[serde(default)]
    pub over: bool,
}

/// What one channel was told of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// When it took the alert, Unix milliseconds.
    pub raised_ms: Option<i64>,
    /// How bad that was.
    pub severity: Option<Severity>,
    /// When it was told that it is over.
    pub resolved_ms: Option<i64>,
    /// Attempts that failed since the last that did not.
    pub failures: u32,
    /// First of them, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_ms: Option<i64>,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// It is told nothing more of this.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// A mail that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posted: Option<Posted>,
    /// Routes that mails about it took in vain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
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
    /// It is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// Somebody looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
    /// Channels up to this step have their turn; 0: nobody yet.
    #[serde(default)]
    pub step: u8,
    /// What each channel was told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<String, Told>,
}

impl Told {
    /// The channel has it, or will have it when a mail arrives.
    pub(super) fn took(&mut self, over: bool, severity: Severity, now_ms: i64) {
        self.raised_ms.get_or_insert(now_ms);
        match over {
            true => self.resolved_ms = Some(now_ms),
            false => self.severity = Some(severity),
        }
    }

    /// Nothing is in the way any more.
    pub(super) fn is_well(&mut self) {
        self.failures = 0;
        self.failing_ms = None;
        self.problem = None;
        self.tried.clear();
    }

    /// It does not have it.
    pub(super) fn failed(&mut self, problem: &str, now_ms: i64) {
        self.failures = self.failures.saturating_add(1);
        self.failing_ms.get_or_insert(now_ms);
        self.problem = Some(cut(problem, 300));
    }

    /// A mail did not arrive: what it told is untold, and its routes are not taken next time.
    pub(super) fn lost(&mut self, posted: Posted, problem: &str, now_ms: i64) {
        let first = posted.over && self.raised_ms == self.resolved_ms;
        if posted.over {
            self.resolved_ms = None;
        }
        if first || !posted.over {
            self.raised_ms = None;
            self.severity = None;
        }
        self.tried.extend(posted.routes);
        self.failed(problem, now_ms);
    }
}

impl Entry {
    /// A new one.
    pub fn new(alert: Alert, now_ms: i64) -> Self {
        Self {
            alert,
            first_ms: now_ms,
            last_ms: now_ms,
            times: 1,
            resolved: None,
            acknowledged: None,
            step: 0,
            told: BTreeMap::new(),
        }
    }

    /// Raised again. If it was over, it is a new one to those who were told so.
    pub(super) fn again(&mut self, alert: Alert, now_ms: i64) {
        if self.resolved.take().is_some() {
            self.first_ms = now_ms;
            self.times = 0;
            self.acknowledged = None;
            self.step = 0;
            self.told.retain(|_, told| told.resolved_ms.is_none());
        }
        self.last_ms = now_ms;
        self.times += 1;
        self.alert = alert;
    }

    /// Whether any channel took it.
    pub(super) fn is_told(&self) -> bool {
        self.told.values().any(|told| told.raised_ms.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> Alert {
        Alert {
            key: "é".repeat(150),
            rule: AlertRule::Incident,
            severity: Severity::Problem,
            title: "Something\r\nis wrong".into(),
            text: "x".repeat(9_000),
            about: vec![("a\nb".into(), "c\x1b[2J".into())],
            avoid: Vec::new(),
            link: Some("https://relay.example/i\r\nX: y".into()),
        }
    }

    #[test]
    fn nothing_of_an_alert_is_too_long_or_breaks_a_line() {
        let alert = alert().bounded();
        assert_eq!(alert.key.len(), 200);
        assert_eq!(alert.title, "Something  is wrong");
        assert_eq!(alert.text.chars().count(), MOST_TEXT + 1);
        assert_eq!(alert.about, [("a b".to_owned(), "c [2J".to_owned())]);
        assert_eq!(alert.link, None);
    }

    #[test]
    fn a_mail_that_is_lost_has_told_nothing() {
        let posted = |over| Posted { message: "m".into(), routes: vec!["out".into()], at_ms: 5, over };
        let mut told = Told::default();
        told.took(false, Severity::Problem, 5);
        told.lost(posted(false), "no", 9);
        assert_eq!(
            (told.raised_ms, told.severity, told.failures, &told.tried[..]),
            (None, None, 1, &["out".to_owned()][..])
        );
        told.took(false, Severity::Problem, 10);
        told.took(true, Severity::Problem, 20);
        told.lost(posted(true), "no", 21);
        assert_eq!((told.raised_ms, told.resolved_ms), (Some(10), None), "only the end is told again");
        let mut told = Told::default();
        told.took(true, Severity::Problem, 20);
        told.lost(posted(true), "no", 21);
        assert_eq!((told.raised_ms, told.resolved_ms), (None, None));
    }

    #[test]
    fn what_comes_back_before_its_end_was_told_is_the_same_alert() {
        let mut entry = Entry::new(alert(), 1);
        entry.told.insert("a".into(), Told { raised_ms: Some(2), ..Told::default() });
        entry.told.insert("b".into(), Told { raised_ms: Some(2), resolved_ms: Some(4), ..Told::default() });
        entry.resolved = Some(Resolved { at_ms: 3, why: String::new() });
        entry.again(alert(), 5);
        assert_eq!(entry.told.keys().collect::<Vec<_>>(), ["a"], "who was told of the end is told anew");
        assert_eq!((entry.first_ms, entry.times, entry.resolved), (5, 1, None));
    }
}
