//! An incident as it is kept: the body of its record, and what happens to it. Words are made when somebody reads.

use serde::{Deserialize, Serialize};
use store::{Cause, IncidentScope};

use crate::alert::Severity;

/// Most examples kept.
pub const MOST_EXAMPLES: usize = 10;
/// Longest note, characters.
pub const MOST_NOTE: usize = 2_000;
/// Longest text of a history entry, characters.
const MOST_TEXT: usize = 2_000;

/// What people did about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody has looked at it.
    #[default]
    Open,
    /// Somebody works on it.
    Acknowledged,
    /// Nobody is told of it for a while.
    Snoozed {
        /// Unix milliseconds.
        until_ms: i64,
    },
    /// It is over.
    Closed,
}

impl State {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Snoozed { .. } => "snoozed",
            Self::Closed => "closed",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A probe went well.
    Probe,
    /// A setting was changed, and what failed before works.
    Setting,
    /// Mail is delivered again.
    Delivered,
    /// What was wrong with the program or the machine is not any more.
    Recovered,
    /// It was not seen for long.
    Quiet,
    /// Somebody closed it.
    Manual,
}

impl How {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Setting => "setting",
            Self::Delivered => "delivered",
            Self::Recovered => "recovered",
            Self::Quiet => "quiet",
            Self::Manual => "manual",
        }
    }
}

/// The end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// How.
    pub how: How,
    /// What fixed it, a sentence.
    pub what: String,
    /// Who, if somebody did.
    pub by: Option<String>,
}

/// How much it touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Attempts that failed.
    pub attempts: u64,
    /// Recipients, counted once for each attempt.
    pub recipients: u64,
    /// Messages; one that is tried again counts again.
    pub messages: u64,
}

/// What stands still for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeNote {
    /// `credential:out`.
    pub scope: String,
    /// The next probe, Unix milliseconds.
    pub next_ms: Option<i64>,
}

/// What a check found when the incident was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// What was done.
    pub kind: String,
    /// Nothing was wrong.
    pub healthy: bool,
    /// What decides, one line.
    pub title: String,
    /// Reason of it.
    pub reason: String,
    /// The report without its transcripts, at most 64 KiB; absent where it is longer or could not be made.
    pub report: Option<serde_json::Value>,
}

/// Where mail goes that it is about, for probes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Aim {
    /// Route.
    pub route: Option<String>,
    /// Its version when it was opened.
    pub route_version: Option<i64>,
    /// Recipient domain.
    pub domain: Option<String>,
    /// Recipient.
    pub address: Option<String>,
    /// Domain of the return path.
    pub sender_domain: Option<String>,
    /// Our address.
    pub source: Option<String>,
}

/// An incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Whom it touches.
    pub scope: IncidentScope,
    /// Reason of the rules, or one of our own.
    pub reason: String,
    /// The rule.
    #[serde(default)]
    pub rule: Option<String>,
    /// Who spoke.
    #[serde(default)]
    pub provider: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// What people did about it.
    #[serde(default)]
    pub state: State,
    /// Opened, Unix milliseconds.
    pub opened_ms: i64,
    /// The first failure, Unix milliseconds.
    pub since_ms: i64,
    /// The last failure, Unix milliseconds.
    pub last_ms: i64,
    /// The end.
    #[serde(default)]
    pub closed: Option<Closed>,
    /// How much it touched.
    #[serde(default)]
    pub counts: Counts,
    /// Recipients outside of the scope that were fine meanwhile, when it was opened.
    #[serde(default)]
    pub others_ok: u32,
    /// Other scopes that were looked at, with the percentage that failed inside and outside.
    #[serde(default)]
    pub looked_at: Vec<(IncidentScope, u8, u8)>,
    /// Messages.
    #[serde(default)]
    pub examples: Vec<String>,
    /// The failure, from which the words are made.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// What an incident of our own is about, for its words.
    #[serde(default)]
    pub detail: Option<String>,
    /// For probes.
    #[serde(default)]
    pub aim: Aim,
    /// What stands still.
    #[serde(default)]
    pub brake: Option<BrakeNote>,
    /// What a check found.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
    /// What changed before, the likeliest first, a sentence each.
    #[serde(default)]
    pub changes_before: Vec<String>,
    /// Closed incidents of the same scope and reason, newest first.
    #[serde(default)]
    pub similar: Vec<i64>,
    /// How often it came back soon after it had ended by itself.
    #[serde(default)]
    pub reopened: u32,
}

impl Body {
    /// Name of its record.
    pub fn key(&self) -> String {
        format!("{}|{}", self.scope, self.reason)
    }

    /// Whether it is about Pillarbox itself.
    pub fn is_own(&self) -> bool {
        matches!(self.scope, IncidentScope::Itself(_))
    }

    /// Whether somebody is to be told of it now.
    pub fn tells(&self, now_ms: i64) -> bool {
        match self.state {
            State::Open | State::Acknowledged => true,
            State::Snoozed { until_ms } => now_ms >= until_ms,
            State::Closed => false,
        }
    }
}

/// What happens to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It began.
    Opened,
    /// Mail stands still for it.
    Braked,
    /// A check was run.
    Diagnosed,
    /// A probe found that nothing has changed.
    ProbeFailed,
    /// A probe went well.
    ProbeSucceeded,
    /// A setting was changed that it depends on.
    Changed,
    /// Somebody works on it.
    Acknowledged,
    /// Nobody is told for a while.
    Snoozed,
    /// Somebody wrote something.
    Note,
    /// Its mail was let go.
    Released,
    /// It is over.
    Closed,
}

impl EventKind {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Braked => "braked",
            Self::Diagnosed => "diagnosed",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeSucceeded => "probe_succeeded",
            Self::Changed => "changed",
            Self::Acknowledged => "acknowledged",
            Self::Snoozed => "snoozed",
            Self::Note => "note",
            Self::Released => "released",
            Self::Closed => "closed",
        }
    }
}

/// An entry of its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// What.
    pub what: EventKind,
    /// In words.
    pub text: String,
    /// Who, if somebody did.
    #[serde(default)]
    pub by: Option<String>,
}

impl Happened {
    /// By the program itself.
    pub fn new(what: EventKind, text: impl Into<String>) -> Self {
        Self { what, text: text.into().chars().take(MOST_TEXT).collect(), by: None }
    }

    /// By somebody.
    pub fn by(what: EventKind, text: impl Into<String>, by: &str) -> Self {
        Self { by: Some(by.to_owned()), ..Self::new(what, text) }
    }
}

/// How an incident is called.
pub fn name(id: i64) -> String {
    format!("i-{id}")
}

/// The number of an incident that is called so.
pub fn number(name: &str) -> Option<i64> {
    name.strip_prefix("i-").unwrap_or(name).parse().ok().filter(|id| *id > 0)
}
