//! The dossier as the API gives it. Field names are a promise.

use serde::{Deserialize, Serialize};

use crate::http::api::captured::{AttachmentOut, HeaderOut};
use crate::http::api::incidents::IncidentOut;
use crate::http::views::{EventOut, MessageOut};
use crate::incident::words::FixOut;

/// All that is known of a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DossierOut {
    /// The message with its recipients.
    pub message: MessageOut,
    /// What happened in words, oldest first.
    pub timeline: Vec<MomentOut>,
    /// Attempts, oldest first.
    pub attempts: Vec<TriedOut>,
    /// What went wrong and what to do, the latest first.
    pub findings: Vec<FindingFullOut>,
    /// Headers and text; absent where the content is no longer kept.
    pub content: Option<ContentOut>,
    /// Incidents it has to do with, newest first.
    pub incidents: Vec<IncidentOut>,
    /// What came back later: bounces and complaints.
    pub reports: Vec<EventOut>,
    /// There are more than 1,000 events: the older ones are left out.
    pub events_cut: bool,
}

/// How a moment is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// As it should be.
    Good,
    /// It goes on by itself.
    Wait,
    /// Something is wrong.
    Bad,
    /// Neither.
    Plain,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MomentOut {
    /// RFC 3339.
    pub at: String,
    /// `accepted`, `deferred`, `delivered`, …
    pub event: String,
    /// How to take it.
    pub tone: Tone,
    /// A sentence.
    pub text: String,
    /// Recipients it is about, the first five; empty: all.
    pub recipients: Vec<String>,
    /// How many recipients; 0: all.
    pub count: usize,
    /// Number of the attempt behind it, from 1.
    pub attempt: Option<usize>,
}

/// An attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TriedOut {
    /// Number, from 1.
    pub n: usize,
    /// RFC 3339.
    pub started: String,
    /// Milliseconds.
    pub took_ms: u32,
    /// Route.
    pub route: String,
    /// Next hop, `mx.example.net [192.0.2.1]:25`.
    pub peer: Option<String>,
    /// Our end of the connection.
    pub local: Option<String>,
    /// `delivered`, `deferred`, `failed`, …; several where recipients fared differently.
    pub results: Vec<String>,
    /// Recipients, the first five.
    pub recipients: Vec<String>,
    /// How many.
    pub count: usize,
    /// Final positive reply.
    pub reply: Option<String>,
    /// Where it failed.
    pub stage: Option<String>,
    /// The failure in words.
    pub failure: Option<String>,
    /// What DNS answered.
    pub dns: Vec<AnswerOut>,
    /// Version and cipher in a line; none: in clear, or no connection.
    pub tls: Option<String>,
    /// More of TLS, where the conversation is kept.
    pub tls_facts: Option<TlsOut>,
    /// The conversation: kept of attempts that failed, or of all if the configuration says so. Secrets are not in it.
    pub steps: Vec<StepOut>,
}

/// What DNS answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerOut {
    /// Host asked for.
    pub host: String,
    /// Addresses.
    pub addresses: Vec<String>,
}

/// TLS of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOut {
    /// `TLSv1.3`.
    pub version: String,
    /// Cipher.
    pub cipher: String,
    /// The certificate was verified for the name.
    pub verified: bool,
    /// Why not.
    pub problem: Option<String>,
    /// By what, if not by trusted authorities: `DANE`.
    pub by: Option<String>,
    /// As the server sent them, its own first.
    pub certificates: Vec<CertificateOut>,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateOut {
    /// Holder.
    pub subject: String,
    /// Signer.
    pub issuer: String,
    /// Names it is for.
    pub names: Vec<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// `RSA 2048`.
    pub key: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A step of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOut {
    /// Milliseconds since the connection was begun.
    pub at_ms: u64,
    /// Microseconds.
    pub took_us: u64,
    /// Stage.
    pub stage: String,
    /// What we said.
    pub sent: Option<String>,
    /// What the server said, its lines.
    pub reply: Option<String>,
    /// What was learned.
    pub fact: Option<String>,
    /// What failed.
    pub failure: Option<String>,
}

/// What a failure means, with all fixes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingFullOut {
    /// Id of the rule.
    pub rule: String,
    /// Precise reason, one word.
    pub reason: String,
    /// One line.
    pub title: String,
    /// Full sentences.
    pub meaning: String,
    /// Whose turn it is.
    pub owner: String,
    /// Likely causes, the likeliest first.
    pub causes: Vec<String>,
    /// What to do, in order.
    pub fixes: Vec<FixOut>,
    /// The latest such failure in words.
    pub failure: String,
    /// Where in the conversation.
    pub stage: String,
    /// Who spoke.
    pub provider: Option<String>,
    /// How often, counted for each recipient.
    pub times: usize,
    /// Recipients, the first five.
    pub recipients: Vec<String>,
}

/// The content, as far as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContentOut {
    /// Header fields in order, unfolded, not decoded.
    pub headers: Vec<HeaderOut>,
    /// The text, shortened; of HTML its text alone.
    pub text: Option<String>,
    /// There is more of the text.
    pub text_cut: bool,
    /// Why no text is shown.
    pub text_withheld: Option<String>,
    /// Attachments.
    pub attachments: Vec<AttachmentOut>,
}
