//! Suppressions as they are shown and typed: JSON, CSV, words. Keeping them is the store's affair, heeding them the relay's.

pub mod table;

use proto::Address;
use serde::{Deserialize, Serialize};
use store::{ChangeKind, Evidence, MOST_WORDS, Suppression, SuppressionChange, SuppressionReason, SuppressionScope};

use crate::config::values;
use crate::http::time;

/// A suppression as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuppressionOut {
    /// The address as it was given; it is compared without case.
    pub address: String,
    /// `*` for all mail, or the name of a stream.
    pub scope: String,
    /// Why.
    pub reason: SuppressionReason,
    /// Since when, RFC 3339.
    pub added: String,
    /// Until when, RFC 3339; none: for good.
    pub expires: Option<String>,
    /// Who added it.
    pub who: String,
    /// On what evidence.
    pub evidence: EvidenceOut,
}

/// What led to a suppression.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EvidenceOut {
    /// When it happened, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Message or recipient id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Rule that explains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What the server or the report said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// `delivery`, `listener`, `import`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// In somebody's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl From<&Suppression> for SuppressionOut {
    fn from(one: &Suppression) -> Self {
        Self {
            address: one.address.to_string(),
            scope: one.scope.as_str().into(),
            reason: one.reason,
            added: time::show(one.added_ms),
            expires: one.expires_ms.map(time::show),
            who: one.who.clone(),
            evidence: EvidenceOut::from(&one.evidence),
        }
    }
}

impl From<&Evidence> for EvidenceOut {
    fn from(evidence: &Evidence) -> Self {
        let message = evidence.message.map(|message| match evidence.n {
            Some(n) => store::RecipientId { message, n }.to_string(),
            None => message.to_string(),
        });
        Self {
            at: evidence.at_ms.map(time::show),
            message,
            rule: evidence.rule.clone(),
            reply: evidence.reply.clone(),
            source: evidence.source.clone(),
            note: evidence.note.clone(),
        }
    }
}

/// A change of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeOut {
    /// Cursor.
    pub seq: i64,
    /// RFC 3339.
    pub at: String,
    /// `added`, `changed`, `removed`, `expired`.
    pub change: ChangeKind,
    /// The address.
    pub address: String,
    /// The scope.
    pub scope: String,
    /// The reason it has, or had.
    pub reason: SuppressionReason,
    /// Until when, RFC 3339; none: for good, or it does not hold any more.
    pub expires: Option<String>,
    /// Who did it.
    pub who: String,
    /// Why, in their words.
    pub why: Option<String>,
}

impl From<&SuppressionChange> for ChangeOut {
    fn from(one: &SuppressionChange) -> Self {
        Self {
            seq: one.seq,
            at: time::show(one.at_ms),
            change: one.change,
            address: one.address.to_string(),
            scope: one.scope.as_str().into(),
            reason: one.reason,
            expires: one.expires_ms.map(time::show),
            who: one.who.clone(),
            why: one.why.clone(),
        }
    }
}

/// What became of an import.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImportOut {
    /// Rows read.
    pub rows: u64,
    /// Addresses that were not suppressed before.
    pub added: u64,
    /// Suppressions that were replaced.
    pub changed: u64,
    /// Left as they were.
    pub kept: u64,
    /// Rows that are wrong; the others were imported.
    pub wrong: u64,
    /// The first of them.
    pub errors: Vec<RowError>,
    /// Columns that mean nothing here.
    pub ignored_columns: Vec<String>,
}

/// A row that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// Line of the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub detail: String,
}

/// Most wrong rows that are named.
pub const MOST_ERRORS: usize = 100;

impl ImportOut {
    /// Adds what became of a part.
    pub fn add(&mut self, part: Self) {
        self.rows += part.rows;
        self.added += part.added;
        self.changed += part.changed;
        self.kept += part.kept;
        self.wrong += part.wrong;
        let room = MOST_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(part.errors.into_iter().take(room));
        self.ignored_columns = part.ignored_columns;
    }
}

/// An address, or what is wrong with it.
pub fn address(text: &str) -> Result<Address, String> {
    Address::parse(text.trim()).map_err(|error| format!("{}: {error}", text.escape_debug()))
}

/// A scope: `*` or a stream's name.
pub fn scope(text: &str) -> Result<SuppressionScope, String> {
    let text = text.trim();
    if text == "*" || values::is_name(text) {
        return Ok(SuppressionScope::from(text));
    }
    Err("a scope is * for all mail, or the name of a stream: 1 to 64 characters of a-z 0-9 . _ -".into())
}

/// When a suppression ends: a duration from now such as `30d`, an RFC 3339 time, a date, or `never`.
pub fn until(text: &str, now_ms: i64) -> Result<Option<i64>, String> {
    let text = text.trim();
    if text == "never" {
        return Ok(None);
    }
    let by_duration = || {
        let length = values::duration(text)?;
        now_ms.checked_add(i64::try_from(length.as_millis()).ok()?)
    };
    let end = time::read(text).or_else(|| time::read(&format!("{text}T00:00:00Z"))).or_else(by_duration);
    match end {
        Some(end) if end > now_ms => Ok(Some(end)),
        Some(_) => Err(format!("{} is over", text.escape_debug())),
        None => Err("an end is a duration such as 30d, a date such as 2027-01-31, an RFC 3339 time, or never".into()),
    }
}

/// Words that are kept with a suppression.
pub fn note(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.chars().count() > MOST_WORDS || text.chars().any(char::is_control) {
        return Err(format!("at most {MOST_WORDS} characters without control characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_duration_a_date_a_time_or_never_and_not_in_the_past() {
        let now = 1_795_230_509_123;
        assert_eq!(until("30d", now), Ok(Some(now + 30 * 86_400_000)));
        assert_eq!(until("2027-01-31", now), Ok(time::read("2027-01-31T00:00:00Z")));
        assert_eq!(until("2027-01-31T12:00:00+01:00", now), Ok(time::read("2027-01-31T11:00:00Z")));
        assert_eq!(until("never", now), Ok(None));
        assert!(until("2020-01-31", now).unwrap_err().contains("is over"));
        assert!(until("soon", now).unwrap_err().contains("duration"));
    }
}
