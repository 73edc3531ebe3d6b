//! The answer as the API gives it. Field names are a promise.

use serde::{Deserialize, Serialize};

use crate::dossier::FindingFullOut;
use crate::http::api::incidents::IncidentOut;
use crate::http::api::search::FoundOut;
use crate::suppression::SuppressionOut;

/// What became of the latest mail to an address, or what stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyState {
    /// Nothing was submitted for it, as far back as is kept.
    NotSubmitted,
    /// It gets no mail: it bounced for good, complained, or somebody said so.
    Suppressed,
    /// It does not want this mail.
    OptedOut,
    /// The stream is off or paused.
    StreamOff,
    /// Held: by an incident or an operator.
    Held,
    /// Waiting for its first attempt.
    Waiting,
    /// It was refused for now and is tried again.
    Failing,
    /// The next hop has it.
    Accepted,
    /// The next hop had it, and it came back.
    Bounced,
    /// The recipient had it, and complained.
    Complained,
    /// Refused for good.
    Failed,
    /// Its time was over.
    Expired,
    /// Somebody canceled it.
    Canceled,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhyOut {
    /// The address.
    pub address: String,
    /// Its domain.
    pub domain: String,
    /// What became of the latest mail, or what stops it.
    pub state: WhyState,
    /// One line.
    pub title: String,
    /// Full sentences.
    pub meaning: String,
    /// What is known, question by question.
    pub known: Vec<KnownOut>,
    /// What to check next, in order.
    pub next: Vec<TodoOut>,
    /// Whether it is this address, its domain, its provider or everyone.
    pub scope: WhomOut,
    /// What the latest failure means.
    pub finding: Option<FindingFullOut>,
    /// The latest messages, at most ten.
    pub messages: Vec<FoundOut>,
    /// There are older ones.
    pub more_messages: bool,
    /// What stops mail to it, in all scopes.
    pub suppressions: Vec<SuppressionOut>,
    /// Incidents it has to do with.
    pub incidents: Vec<IncidentOut>,
    /// Addresses that mail was sent to and that are a slip of typing away; only where nothing was submitted.
    pub alike: Vec<String>,
}

/// An answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// Nobody here can know.
    Unknown,
}

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownOut {
    /// `submitted`, `suppressed`, `stream`, `held`, `accepted`, `reported`.
    pub what: String,
    /// The question.
    pub question: String,
    /// Its answer.
    pub answer: Answer,
    /// It stands in the way of the mail.
    pub stops: bool,
    /// The answer in a sentence.
    pub text: String,
    /// When, RFC 3339.
    pub at: Option<String>,
    /// Message id.
    pub message: Option<String>,
}

/// Something to check or to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TodoOut {
    /// Whose turn it is: `you`, `your_provider`, `recipient`, `recipient_admin` or `nobody`.
    pub who: String,
    /// What.
    pub text: String,
    /// The exact command.
    pub run: Option<String>,
    /// What is known of it already.
    pub known: Option<String>,
}

/// Whom it touches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhomOut {
    /// In words.
    pub words: String,
    /// `address:…`, `domain:…`, `provider:…`, `route:…`, `everyone`, …; none: nothing fails now.
    pub scope: Option<String>,
    /// Since when it fails, RFC 3339.
    pub since: Option<String>,
    /// This address, its domain, its provider, everyone: how their latest mail fared.
    pub rows: Vec<WhomRowOut>,
}

/// How mail of a group fared. Each group leaves out those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhomRowOut {
    /// `address`, `domain`, `provider`, `everyone`.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Attempts that a next hop accepted.
    pub accepted: u32,
    /// Attempts that failed, and reports that it came back.
    pub failed: u32,
    /// Of these, for the reason that stops this address.
    pub same_reason: u32,
}
