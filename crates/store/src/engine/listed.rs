//! Decisions about the list of addresses that get no mail, the same for every engine; what they are made from and where they
//! are written is the engine's affair.

use crate::StoreError;
use crate::model::*;

/// Entries one command may bring.
const MOST: usize = 1_000;
/// Most characters of a name in the log.
pub(crate) const MOST_WHO: usize = 100;
/// Most characters of a report's key.
const MOST_KEY: usize = 255;
/// A day, milliseconds.
pub(crate) const DAY_MS: i64 = 86_400_000;
/// Who removes what is over.
pub(crate) const OURSELVES: &str = "pillarbox";

/// Refuses more than one transaction should carry.
pub(crate) fn check<T>(list: &[T]) -> Result<(), StoreError> {
    if list.len() > MOST {
        return Err(StoreError::Invalid(format!("at most {MOST} addresses at a time")));
    }
    Ok(())
}

/// Refuses what could not be told from another report.
pub(crate) fn check_report(report: &LaterReport) -> Result<(), StoreError> {
    if report.key.is_empty() || report.key.chars().count() > MOST_KEY {
        return Err(StoreError::Invalid(format!("a report's key has 1 to {MOST_KEY} characters")));
    }
    Ok(())
}

/// A stored value that makes no sense.
pub(crate) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Internal(format!("a stored suppression cannot be read: {error}"))
}

/// The first characters of a text.
pub(crate) fn clipped(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

/// A suppression with no more words than are kept.
pub(crate) fn clip(new: &Suppression) -> Suppression {
    let words = |text: &Option<String>| text.as_deref().map(|text| clipped(text, MOST_WORDS).to_owned());
    let evidence =
        Evidence { reply: words(&new.evidence.reply), note: words(&new.evidence.note), ..new.evidence.clone() };
    Suppression { evidence, ..new.clone() }
}

/// When what a suppression is based on happened.
pub(crate) fn evidence_ms(suppression: &Suppression) -> i64 {
    suppression.evidence.at_ms.unwrap_or(suppression.added_ms)
}

/// Why it is there, for the log.
pub(crate) fn words(suppression: &Suppression) -> Option<&str> {
    suppression.evidence.note.as_deref().or(suppression.evidence.reply.as_deref())
}

/// Its time is over.
pub(crate) fn is_over(suppression: &Suppression, now_ms: i64) -> bool {
    suppression.expires_ms.is_some_and(|expires| expires <= now_ms)
}

/// The first holds longer than the second.
fn outlasts(first: Option<i64>, second: Option<i64>) -> bool {
    match (first, second) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(first), Some(second)) => first > second,
    }
}

/// What a new suppression does to one that still holds.
pub(crate) fn wins(new: &Suppression, old: &Suppression, existing: Existing) -> bool {
    match existing {
        Existing::Replace => {
            let same = (old.reason, old.expires_ms, &old.who) == (new.reason, new.expires_ms, &new.who)
                && old.evidence.note == new.evidence.note;
            !same
        }
        Existing::Keep => outlasts(new.expires_ms, old.expires_ms),
    }
}

/// What a new suppression did to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Added,
    Changed,
    Kept,
    Forgiven,
}

impl Put {
    /// Counts it.
    pub(crate) fn count(self, count: &mut SuppressCount) {
        match self {
            Self::Added => count.added += 1,
            Self::Changed => count.changed += 1,
            Self::Kept | Self::Forgiven => count.kept += 1,
        }
    }
}

/// A kind of change by its number.
pub(crate) fn change_kind(number: i64) -> Result<ChangeKind, StoreError> {
    Ok(match number {
        0 => ChangeKind::Added,
        1 => ChangeKind::Changed,
        2 => ChangeKind::Removed,
        3 => ChangeKind::Expired,
        other => return Err(StoreError::Internal(format!("a change of kind {other} is not known"))),
    })
}

/// A report moves only what was delivered; a complaint says more than a bounce.
pub(crate) fn state_after(before: State, kind: ReportKind, severity: Severity) -> State {
    match (before, kind, severity) {
        (State::Delivered, ReportKind::Bounced, Severity::Hard) => State::Bounced,
        (State::Delivered | State::Bounced, ReportKind::Complained, _) => State::Complained,
        _ => before,
    }
}
