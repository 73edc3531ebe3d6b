//! SPF (RFC 7208): what a record says, what it gives for a client, and what the whole tree of it costs.
//!
//! Own code because the way to the result is the point: every record, mechanism, lookup and void lookup is kept.

mod evaluate;
mod expand;
mod record;
mod survey;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::Serialize;

pub use evaluate::Evaluation;
pub use record::{Directive, Mechanism, Modifier, Qualifier, Record, Target, Term, TermKind, is_record, parse};
pub use survey::Survey;

use super::remark::Remark;

/// RFC 7208 §4.6.4; the defaults are its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most terms that cause lookups.
    pub lookups: u32,
    /// Most lookups without an answer.
    pub voids: u32,
    /// Most hosts of one `mx`.
    pub mx_hosts: usize,
    /// Most names of one `ptr` or `%{p}` that are looked at.
    pub ptr_names: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lookups: 10, voids: 2, mx_hosts: 10, ptr_names: 10 }
    }
}

/// Who wants to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Address of the client; IPv6 that holds IPv4 counts as IPv4.
    pub ip: IpAddr,
    /// Name in HELO or EHLO.
    pub helo: String,
    /// Envelope sender without angle brackets; empty for `<>`, which is `postmaster@` the HELO name then (§2.4).
    pub mail_from: String,
    /// Name of the receiver, `%{r}` of explanations.
    pub receiver: String,
    /// Seconds since 1970, `%{t}` of explanations.
    pub now: u64,
}

/// RFC 7208 §2.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum SpfResult {
    None,
    Neutral,
    Pass,
    Fail,
    Softfail,
    Temperror,
    Permerror,
}

impl SpfResult {
    /// As in `Received-SPF`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Softfail => "softfail",
            Self::Temperror => "temperror",
            Self::Permerror => "permerror",
        }
    }
    /// The result of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Neutral, Self::Pass, Self::Fail, Self::Softfail, Self::Temperror, Self::Permerror]
            .into_iter()
            .find(|result| result.name().eq_ignore_ascii_case(name))
    }
}

/// The result of an [`Evaluation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpfOutcome {
    /// The verdict.
    pub result: SpfResult,
    /// Domain whose policy was asked for.
    pub domain: String,
    /// The domain's words for a `fail` (`exp=`), if it has some: text of a stranger.
    pub explanation: Option<String>,
    /// Why it is `temperror`, `permerror` or `none`.
    pub problem: Option<String>,
    /// The term that decided, as written (`-all`), outermost.
    pub decided_by: Option<String>,
    /// Terms that caused lookups, of at most [`Limits::lookups`].
    pub lookups: u32,
    /// Lookups without an answer.
    pub voids: u32,
    /// The record of the domain and all below it; `None` if there was no question to ask.
    pub trace: Option<Visit>,
}

/// One record that was visited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Visit {
    /// Domain, expanded.
    pub domain: String,
    /// The record's text; `None` if there is none (or several).
    pub record: Option<String>,
    /// All SPF records found, if more than one.
    pub several: Vec<String>,
    /// What this record gave; [`SpfResult::Neutral`] in a survey.
    pub result: SpfResult,
    /// Why it gave an error or none.
    pub problem: Option<String>,
    /// Terms in the order they were looked at.
    pub terms: Vec<TermTrace>,
    /// Lookups of its terms with all below.
    pub lookups: u32,
    /// Void lookups of its terms with all below.
    pub voids: u32,
    /// Syntax errors and oddities.
    pub remarks: Vec<Remark>,
}

impl Visit {
    pub(super) fn new(domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            record: None,
            several: Vec::new(),
            result: SpfResult::Neutral,
            problem: None,
            terms: Vec::new(),
            lookups: 0,
            voids: 0,
            remarks: Vec::new(),
        }
    }
    pub(super) fn end(mut self, result: SpfResult, problem: impl Into<String>) -> Self {
        self.result = result;
        self.problem = Some(problem.into());
        self
    }
}

/// What became of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TermOutcome {
    /// The mechanism matched: its qualifier decides.
    Matched,
    /// It did not.
    NotMatched,
    /// It could not be evaluated; the result of the whole is an error.
    Error,
    /// A `redirect` was followed.
    Followed,
    /// Only counted (surveys), or not needed.
    Counted,
}

/// One term that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TermTrace {
    /// As written in the record.
    pub term: String,
    /// Octet offset in the record.
    pub at: usize,
    /// The domain after macro expansion, for terms that have one (the current domain if none is written).
    pub target: Option<String>,
    /// What became of it.
    pub outcome: TermOutcome,
    /// Why it is an error, or what was found (`192.0.2.7`).
    pub note: Option<String>,
    /// Lookups counted against the limit: its own and all below.
    pub lookups: u32,
    /// Void lookups: its own and all below.
    pub voids: u32,
    /// Record of an `include` or `redirect`.
    pub inner: Option<Box<Visit>>,
}

/// The result of a [`Survey`]: the whole tree, whoever sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpfSurvey {
    /// The record and all it includes. Parts that depend on the sender (macros) are counted and not followed.
    pub tree: Visit,
    /// All lookups of the tree: what a sender that matches nothing before the last term costs.
    pub lookups: u32,
    /// All void lookups of the tree.
    pub voids: u32,
    /// Remarks about the tree as a whole and about each record of it, with the domain of the record.
    pub remarks: Vec<(String, Remark)>,
    /// A lookup failed, so the counts may be too small.
    pub incomplete: bool,
}
