//! What a probe found: stages, findings, and the way that works. This is what is printed, stored and compared.

use explain::{Owner, ResultWord};
use proto::smtp::reply::Reply;
use proto::transcript::{Stage, Step, Transcript};
use serde::Serialize;

use crate::finding::Judged;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It went well.
    Passed,
    /// It failed.
    Failed,
    /// Not asked for, or not needed.
    Skipped,
    /// An earlier stage ended the conversation.
    NotReached,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Which; `ehlo` appears a second time behind `tls` with STARTTLS.
    pub stage: Stage,
    /// How it ended.
    pub outcome: Outcome,
    /// Microseconds it took.
    pub took_us: u64,
    /// One line for people: "192.0.2.1:587", "TLSv1.3, certificate valid for 62 days". Escaped.
    pub summary: String,
    /// The reply that decided, if the server spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
}

/// A way to reach a server: host, port, and how it is secured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `starttls`, `implicit` or `none`.
    pub tls: &'static str,
}

/// The whole result. JSON: `schema` says which form it has; fields may be added under the same number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `pillarbox.check/1`.
    pub schema: &'static str,
    /// Unix milliseconds at the start.
    pub started_ms: i64,
    /// Microseconds in all.
    pub took_us: u64,
    /// Of these, waits for the network.
    pub waited_us: u64,
    /// As probed at first.
    pub target: Way,
    /// No finding is a problem.
    pub healthy: bool,
    /// One of the six words; `Success` if healthy.
    pub result: ResultWord,
    /// Reason of the first problem: what the verdict rests on; `accepted` if healthy.
    pub reason: explain::Reason,
    /// Where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Stage>,
    /// Whose turn it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Provider or program recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Stages in order.
    pub stages: Vec<StageReport>,
    /// Findings: the one that decides first, then problems, warnings, notes.
    pub findings: Vec<Judged>,
    /// A way that works where the one asked for does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working: Option<Way>,
    /// Certificates were not required to be valid.
    pub insecure: bool,
    /// What was said and learned, one transcript a connection, the main one first.
    pub transcripts: Vec<Transcript>,
}

/// What is told while the probe runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stage begins; maybe again, if it turns out that the port wants another mode.
    Began(Stage),
    /// A step was made.
    Step(&'a Step),
    /// A stage ended.
    Ended(&'a StageReport),
    /// Something was found. It may be found again, or be put in order, in the report.
    Found(&'a Judged),
}
