//! What a check is: a kind, its subjects, and what a run found.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Schedule;
use crate::alert::AlertRule;
use crate::http::Shared;

/// Longest a check takes unless its kind says otherwise.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It could not be looked at, or must not now: what was known stays.
    Skipped,
    /// Nothing to complain about.
    Ok,
    /// Worth knowing.
    Note,
    /// Will be a problem, or is a weakness.
    Warning,
    /// Is wrong now.
    Problem,
}

impl Level {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    /// Somebody has to do something.
    pub fn is_bad(self) -> bool {
        self >= Self::Warning
    }
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Unique within the kind: a route, a domain. No `/`, at most 253 octets.
    pub id: String,
    /// In words, for people: `route out`.
    pub title: String,
    /// What it depends on, such as the version of a setting: another one and the check runs at once.
    pub version: i64,
}

impl Subject {
    /// A route, domain or the like, with the version of its settings.
    pub fn new(id: impl Into<String>, title: impl Into<String>, version: i64) -> Self {
        Self { id: id.into(), title: title.into(), version }
    }
}

/// What a run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// How it is.
    pub level: Level,
    /// One sentence for people. What a peer said is escaped.
    pub summary: String,
    /// What is compared with the last run; small, without times that change by themselves, without secrets.
    pub facts: Value,
    /// More for people, which is not compared: findings, a report. Without secrets.
    pub detail: Value,
    /// What to do, a sentence each, the best first.
    pub advice: Vec<String>,
    /// Routes that an alert about this must not use.
    pub avoid: Vec<String>,
    /// It is no slip of the network: it counts without being confirmed.
    pub sure: bool,
    /// An incident tells of it: no alert of its own.
    pub by_incident: bool,
}

impl Found {
    /// With a level and a sentence.
    pub fn new(level: Level, summary: impl Into<String>) -> Self {
        Self {
            level,
            summary: summary.into(),
            facts: Value::Null,
            detail: Value::Null,
            advice: Vec::new(),
            avoid: Vec::new(),
            sure: false,
            by_incident: false,
        }
    }

    /// Nothing to complain about.
    pub fn ok(summary: impl Into<String>) -> Self {
        Self::new(Level::Ok, summary)
    }

    /// It could not be looked at.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::new(Level::Skipped, why)
    }

    /// With what is compared.
    #[must_use]
    pub fn facts(mut self, facts: Value) -> Self {
        self.facts = facts;
        self
    }

    /// With more for people.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// With what to do.
    #[must_use]
    pub fn advice(mut self, advice: Vec<String>) -> Self {
        self.advice = advice;
        self
    }

    /// It need not be confirmed.
    #[must_use]
    pub fn sure(mut self) -> Self {
        self.sure = true;
        self
    }

    /// About a route: an alert goes by another one.
    #[must_use]
    pub fn avoid(mut self, route: impl Into<String>) -> Self {
        self.avoid.push(route.into());
        self
    }
}

/// What alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alerting {
    /// A level that became bad, and its end.
    Level,
    /// That, and facts that differ from the last run's.
    LevelAndFacts,
    /// Nothing: the kind raises alerts itself.
    Never,
}

/// A kind of check.
pub trait CheckKind: Send + Sync {
    /// Short name, `a-z-`; with a subject it names the check: `certificate:out`.
    fn id(&self) -> &'static str;

    /// What it looks at, for people: "certificates of routes and listeners".
    fn title(&self) -> &'static str;

    /// When it runs.
    fn schedule(&self) -> Schedule;

    /// Longest a run may take.
    fn timeout(&self) -> Duration {
        TIMEOUT
    }

    /// Results in a row that must be bad before it counts; more than one where the network may slip.
    fn confirm(&self) -> u32 {
        1
    }

    /// What alerts.
    fn alerting(&self) -> Alerting {
        Alerting::Level
    }

    /// The rule of its alerts.
    fn rule(&self) -> AlertRule {
        AlertRule::CheckChanged
    }

    /// When it runs for one subject.
    fn schedule_of(&self, _subject: &Subject) -> Schedule {
        self.schedule()
    }

    /// Longest a run may take for one subject.
    fn timeout_of(&self, _subject: &Subject) -> Duration {
        self.timeout()
    }

    /// Results in a row that must be bad, for one subject.
    fn confirm_of(&self, _subject: &Subject) -> u32 {
        self.confirm()
    }

    /// What alerts, for one subject.
    fn alerting_of(&self, _subject: &Subject) -> Alerting {
        self.alerting()
    }

    /// A new subject waits for its schedule; otherwise it is looked at soon.
    fn waits(&self) -> bool {
        false
    }

    /// What there is to look at now; asked when settings change, and every minute.
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>>;

    /// Looks. Dropped when it takes too long, or the server stops.
    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found>;
}

/// The name of a check: `kind:subject`.
pub fn name_of(kind: &str, subject: &str) -> String {
    format!("{kind}:{subject}")
}
