//! What may happen to a batch, the same for every engine.

use crate::StoreError;
use crate::model::*;

/// State of a batch that comes in.
pub(crate) const STAGED: u8 = 0;
/// State of a batch whose rows are being removed.
pub(crate) const REMOVED: u8 = 5;

/// Whether a change is to be made; false if it was made before or was overtaken. [`BatchChange::Finish`] is made only if the
/// batch has no open messages, which is for the engine to see.
pub(crate) fn applies(change: &BatchChange, view: &BatchView) -> Result<bool, StoreError> {
    let refuse = |words: &str| Err(StoreError::Invalid(format!("the batch {words}")));
    match (change, view.state) {
        (BatchChange::Pause { .. } | BatchChange::Note(_), BatchState::Running)
        | (BatchChange::Resume, BatchState::Paused)
        | (BatchChange::Cancel { .. }, BatchState::Running | BatchState::Paused) => Ok(true),
        (BatchChange::Finish, BatchState::Running) => Ok(view.fed.saturating_add(view.refused) >= view.total),
        (BatchChange::Pause { .. }, BatchState::Paused)
        | (BatchChange::Resume, BatchState::Running)
        | (BatchChange::Cancel { .. }, BatchState::Canceled)
        | (BatchChange::Note(_) | BatchChange::Finish, _) => Ok(false),
        (_, BatchState::Finished) => refuse("is finished"),
        (_, BatchState::Canceled) => refuse("is canceled"),
    }
}

/// Refuses a batch whose rows are not as many as were announced, or have gaps.
pub(crate) fn check_whole(announced: u32, rows: u32, last: Option<u32>) -> Result<(), StoreError> {
    if rows != announced || last.is_none_or(|last| last + 1 != rows) {
        return Err(StoreError::Invalid(format!("a batch of {announced} rows has {rows}: it is not whole")));
    }
    Ok(())
}

/// A batch's state by its number.
pub(crate) fn state(number: i64) -> BatchState {
    match number {
        1 => BatchState::Running,
        2 => BatchState::Paused,
        3 => BatchState::Canceled,
        _ => BatchState::Finished,
    }
}

/// A row's state as one number: that of its recipient, or one of its own below 0.
pub(crate) fn row_number(row: RowState) -> i64 {
    match row {
        RowState::Queued => -1,
        RowState::Refused => -2,
        RowState::Gone => -3,
        RowState::Of(state) => state as i64,
    }
}
