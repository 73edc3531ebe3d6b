//! DMARC aggregate reports: what receivers saw of mail in the name of a domain (RFC 7489 appendix C, RFC 9990).
//!
//! Reading is lenient about what reporters leave out or spell differently, and strict about size: a report is a
//! stranger's document. Nothing in it is expanded, fetched or believed to be short.

mod read;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use read::{AggregateError, MAX_RECORDS, parse};

/// Which of the two documents it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Form {
    /// RFC 7489 appendix C, with its namespace or none.
    #[serde(rename = "RFC 7489")]
    Rfc7489,
    /// RFC 9990.
    #[serde(rename = "RFC 9990")]
    Rfc9990,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AggregateReport {
    /// Which document it follows.
    pub form: Form,
    /// Who reports: `org_name`.
    pub organization: String,
    /// Whom to ask about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// More about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The reporter's name for this report.
    pub report_id: String,
    /// First second of the time covered, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin: Option<i64>,
    /// Last second of the time covered, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Program that wrote it (RFC 9990).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
    /// What the reporter could not do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// The policy as the reporter found it.
    pub policy: PublishedPolicy,
    /// What was seen.
    pub records: Vec<Record>,
    /// Records beyond [`MAX_RECORDS`], which are only counted.
    pub left_out: u64,
}

/// The policy as published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PublishedPolicy {
    /// Where the record is.
    pub domain: String,
    /// How it was found: `psl` or `treewalk` (RFC 9990).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<String>,
    /// `p`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<String>,
    /// `sp`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sp: Option<String>,
    /// `np`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub np: Option<String>,
    /// `pct` (RFC 7489).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pct: Option<String>,
    /// `t=y` (RFC 9990).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub testing: Option<String>,
    /// `fo`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fo: Option<String>,
    /// `adkim`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adkim: Option<String>,
    /// `aspf`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aspf: Option<String>,
}

/// What the receiver did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// As if there were no policy.
    #[default]
    None,
    /// It passed (RFC 9990).
    Pass,
    /// To the spam folder.
    Quarantine,
    /// Refused.
    Reject,
}

/// Why the receiver did not do what the policy asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Override {
    /// `forwarded`, `mailing_list`, `trusted_forwarder`, `local_policy`, `sampled_out`, `policy_test_mode`, `other`.
    pub kind: String,
    /// In the reporter's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A DKIM result of the message, aligned or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DkimResult {
    /// `d=`
    pub domain: String,
    /// `s=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// `pass`, `fail`, `none`, `temperror`, ….
    pub result: String,
    /// More about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human: Option<String>,
}

/// The SPF result of the message, aligned or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SpfResult {
    /// Domain of the envelope sender, or of HELO.
    pub domain: String,
    /// `mfrom` or `helo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// `pass`, `fail`, `softfail`, `none`, ….
    pub result: String,
    /// More about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human: Option<String>,
}

/// Messages that looked alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Who connected: an address, or what the reporter wrote there.
    pub source_ip: String,
    /// How many messages.
    pub count: u64,
    /// What was done with them.
    pub disposition: Disposition,
    /// An aligned signature passed. Worked out from the results where the reporter does not say.
    pub dkim_aligned: bool,
    /// SPF passed for an aligned domain. Worked out like that too.
    pub spf_aligned: bool,
    /// Why the policy was not applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Domain in From.
    pub header_from: String,
    /// Domain of the envelope sender; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope_from: Option<String>,
    /// Domain of the recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope_to: Option<String>,
    /// Signatures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dkim: Vec<DkimResult>,
    /// SPF.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spf: Vec<SpfResult>,
}

impl Record {
    /// DMARC passes.
    pub const fn passes(&self) -> bool {
        self.dkim_aligned || self.spf_aligned
    }
}

impl AggregateReport {
    /// Messages in all records that are kept.
    pub fn messages(&self) -> u64 {
        self.records.iter().fold(0, |sum, record| sum.saturating_add(record.count))
    }
}
