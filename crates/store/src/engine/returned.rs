//! Returned mail: limits and what a trace looks like, the same for every engine.

use crate::StoreError;
use crate::model::*;

/// Most mails read at once: they may be large.
pub(crate) const PAGE: u32 = 100;
/// Newest messages, or deliveries, that are looked through for a trace.
pub(crate) const LOOK: i64 = 200_000;
/// Most messages given for a trace.
pub(crate) const TRACED: usize = 10;
/// Longest name of a mailbox and of a source.
const MOST_NAME: usize = 255;

/// Refuses a mail of nowhere.
pub(crate) fn check(mail: &NewReturned) -> Result<(), StoreError> {
    let name = mail.place.as_ref().map_or(mail.source.as_str(), |(name, _)| name);
    if name.is_empty() || name.len() > MOST_NAME || mail.source.len() > MOST_NAME {
        return Err(StoreError::Invalid(format!("a source has 1 to {MOST_NAME} octets")));
    }
    Ok(())
}

/// Refuses a mailbox without a name.
pub(crate) fn check_mailbox(name: &str) -> Result<(), StoreError> {
    if name.is_empty() || name.len() > MOST_NAME {
        return Err(StoreError::Invalid(format!("a mailbox's name has 1 to {MOST_NAME} octets")));
    }
    Ok(())
}

/// A list's number in the database.
pub(crate) fn list_number(list: ReturnedList) -> i64 {
    match list {
        ReturnedList::Unmatched => 1,
        ReturnedList::Reports => 2,
    }
}

/// The list that a fate leads to, with the most mails and octets it keeps.
pub(crate) fn bounds(fate: &ReturnedFate) -> Option<(ReturnedList, u32, u64)> {
    match fate {
        ReturnedFate::Done | ReturnedFate::Later(_) => None,
        ReturnedFate::Unmatched(_) => Some((ReturnedList::Unmatched, MOST_UNMATCHED, MOST_UNMATCHED_OCTETS)),
        ReturnedFate::Reports(_) => Some((ReturnedList::Reports, MOST_REPORTS, MOST_REPORT_OCTETS)),
    }
}

/// What is known of a mail that is kept, as it is stored.
pub(crate) fn note(fate: &ReturnedFate) -> Option<String> {
    match fate {
        ReturnedFate::Unmatched(note) | ReturnedFate::Reports(note) => Some(note.to_string()),
        ReturnedFate::Done | ReturnedFate::Later(_) => None,
    }
}

/// A stored note.
pub(crate) fn read_note(text: Option<&str>) -> Result<serde_json::Value, StoreError> {
    let note = text.map(serde_json::from_str).transpose();
    Ok(note.map_err(|error| StoreError::Internal(format!("note of returned mail: {error}")))?.unwrap_or_default())
}

/// A trace as it stands in stored JSON.
pub(crate) struct Needle<'t> {
    trace: &'t Trace,
    quoted: String,
}

impl<'t> Needle<'t> {
    /// `None` for a word that would fit anywhere.
    pub(crate) fn new(trace: &'t Trace) -> Option<Self> {
        let (Trace::HeaderId(text) | Trace::Queued(text)) = trace;
        let needle = Self { trace, quoted: serde_json::Value::from(text.as_str()).to_string() };
        (needle.inside().len() >= 8).then_some(needle)
    }

    /// What the database looks for.
    pub(crate) fn inside(&self) -> &str {
        self.quoted.trim_matches('"')
    }

    /// Whether what it found is what was meant.
    pub(crate) fn is_in(&self, json: &str) -> bool {
        match self.trace {
            Trace::HeaderId(_) => json.contains(&self.quoted),
            Trace::Queued(_) => is_word(json, self.inside()),
        }
    }
}

/// Whether a text stands there with nothing of its kind around it.
fn is_word(text: &str, word: &str) -> bool {
    let part = |octet: Option<&u8>| octet.is_some_and(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    text.match_indices(word).any(|(at, _)| {
        let octets = text.as_bytes();
        !part(at.checked_sub(1).and_then(|before| octets.get(before))) && !part(octets.get(at + word.len()))
    })
}
