//! A report as it is shown: read from its JSON, so that one from another Pillarbox is shown like one from here.

use explain::{Owner, ResultWord, Severity};
use proto::smtp::reply::Reply;
use proto::transcript::{Stage, Transcript};
use serde::Deserialize;
use serde_json::Value;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Well.
    Passed,
    /// Not well.
    Failed,
    /// Left out.
    Skipped,
    /// The conversation was over.
    NotReached,
}

/// One stage.
#[derive(Debug, Clone, Deserialize)]
pub struct StageView {
    pub stage: Stage,
    pub outcome: Ended,
    pub took_us: u64,
    pub summary: String,
}

/// Host, port and mode.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WayView {
    pub host: String,
    pub port: u16,
    pub tls: String,
}

/// A thing to do.
#[derive(Debug, Clone, Deserialize)]
pub struct FixView {
    pub who: Owner,
    pub text: String,
    #[serde(default)]
    pub run: Option<String>,
}

/// A rule's words.
#[derive(Debug, Clone, Deserialize)]
pub struct WordsView {
    pub rule: String,
    pub title: String,
    pub meaning: String,
    pub causes: Vec<String>,
    pub fixes: Vec<FixView>,
    #[serde(default)]
    pub dated: Option<String>,
}

/// A finding.
#[derive(Debug, Clone, Deserialize)]
pub struct FindingView {
    pub severity: Severity,
    #[serde(default)]
    pub stage: Option<Stage>,
    #[serde(default)]
    pub reply: Option<Reply>,
    pub explanation: WordsView,
}

/// A report.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    pub took_us: u64,
    pub waited_us: u64,
    pub target: WayView,
    pub healthy: bool,
    pub result: ResultWord,
    pub reason: String,
    #[serde(default)]
    pub failed_at: Option<Stage>,
    #[serde(default)]
    pub owner: Option<Owner>,
    #[serde(default)]
    pub provider: Option<String>,
    pub stages: Vec<StageView>,
    pub findings: Vec<FindingView>,
    #[serde(default)]
    pub working: Option<WayView>,
    pub insecure: bool,
    pub transcripts: Vec<Transcript>,
}

impl View {
    /// Reads a report.
    ///
    /// # Errors
    /// It is no report, or one of a version that is not understood.
    pub fn of(value: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }

    /// The finding the verdict rests on.
    pub fn deciding(&self) -> Option<&FindingView> {
        self.findings.first().filter(|_| !self.healthy)
    }

    /// Whether this stage went well.
    pub fn passed(&self, stage: Stage) -> bool {
        self.stages.iter().any(|one| one.stage == stage && one.outcome == Ended::Passed)
    }
}
