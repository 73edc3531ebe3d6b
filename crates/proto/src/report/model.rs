//! What a report says, as data.

use serde::Serialize;

use super::headers::Headers;
use crate::smtp::reply::EnhancedCode;

/// Most recipients kept of one report.
pub const MAX_RECIPIENTS: usize = 1000;

/// What a mail turned out to be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Report {
    /// A mail was not delivered, is late, or (asked for) was delivered.
    Bounce(Box<Bounce>),
    /// Somebody complained about a mail (RFC 5965).
    Complaint(Box<Complaint>),
    /// A program answered for a person (RFC 3834, RFC 8098).
    AutoReply(Box<AutoReply>),
    /// Any other mail, or its header.
    Mail(Box<Headers>),
}

/// What became of a recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Given up.
    Failed,
    /// Still being tried.
    Delayed,
    /// Arrived.
    Delivered,
    /// Handed to a server that gives no reports.
    Relayed,
    /// Handed on to several others.
    Expanded,
}

/// How sure the recipient is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The report names it.
    Named,
    /// Found in the words of a reply or in a sentence.
    Inferred,
    /// The report names nobody: the only recipient of the mail that came back.
    FromOriginal,
}

/// One recipient of a bounce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BouncedRecipient {
    /// Where it went in the end, as the report says it; control characters removed.
    pub final_recipient: String,
    /// Whom the sender wrote to, where the report tells that it was another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_recipient: Option<String>,
    /// What became of it.
    pub action: Action,
    /// Enhanced code (RFC 3463).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<EnhancedCode>,
    /// Reply code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// What the last server said, or what the report says about this recipient; one line, at most 2000 octets.
    pub diagnostic: String,
    /// Server that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_mta: Option<String>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<i64>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub will_retry_until: Option<i64>,
    /// How sure it is.
    pub certainty: Certainty,
}

/// The mail that came back, as far as the report shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Original {
    /// `Message-ID` with its brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// `Subject`, decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Address of `From`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Addresses of `To`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Address of `Return-Path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_path: Option<String>,
    /// `Original-Envelope-Id` (RFC 3464 §2.2.1): the ENVID the sender gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope_id: Option<String>,
    /// `Feedback-ID`, `X-Pillarbox-Id` and the like are not kept; this is where the report itself was sent to, which
    /// names the message where senders use variable return paths (VERP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_to: Option<String>,
}

/// A delivery report, standard or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bounce {
    /// The form it was recognised as: `rfc3464`, `qmail`, `exchange`, … or `unknown`.
    pub format: &'static str,
    /// Server that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporting_mta: Option<String>,
    /// Unix seconds of the report's `Date`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<i64>,
    /// `Subject` of the report, decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Who failed; at most [`MAX_RECIPIENTS`]. Empty if the report names nobody and shows no mail.
    pub recipients: Vec<BouncedRecipient>,
    /// The mail that came back.
    pub original: Original,
    /// The words for people, without the returned mail; at most 2000 octets.
    pub notice: String,
}

/// A complaint in the Abuse Reporting Format (RFC 5965).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Complaint {
    /// `abuse`, `fraud`, `not-spam`, `auth-failure`, `opt-out`, ….
    pub feedback_type: String,
    /// Program that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Who complained: `Original-Rcpt-To`, often hidden on purpose.
    pub original_recipients: Vec<String>,
    /// `Original-Mail-From`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_mail_from: Option<String>,
    /// The address the mail came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    /// `Reported-Domain`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reported_domains: Vec<String>,
    /// Who reports: `Reporting-MTA`, or the sender of the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporter: Option<String>,
    /// Unix seconds of `Arrival-Date`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrival: Option<i64>,
    /// `Authentication-Results` of the report part, and `Auth-Failure` (RFC 6591).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_failure: Option<String>,
    /// The mail complained about.
    pub original: Original,
}

/// What kind of automatic answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoReplyKind {
    /// The person is away, or a ticket was opened (RFC 3834).
    Answer,
    /// A receipt (RFC 8098).
    Receipt,
    /// The sender shall prove to be a person.
    Challenge,
}

/// An automatic answer: the mail was delivered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AutoReply {
    /// What kind.
    pub answer: AutoReplyKind,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `Subject`, decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}
