//! Batches: taking them in whole or not at all, and their rows one by one.
//!
//! A row becomes a message by [`crate::Intake::accept`] of a message whose details name it: message and mark are one
//! transaction, so each row gives exactly one message, whatever dies in between.

use crate::model::*;
use crate::verbs::Pending;

/// Many messages from one template.
pub trait Batches: Send + Sync {
    /// Begins to take a batch in. What is not committed is invisible, and removed after a restart.
    fn begin_batch(&self, batch: NewBatch) -> Pending<()>;
    /// Adds rows to a batch that was begun.
    fn add_rows(&self, id: BatchId, rows: Vec<NewRow>) -> Pending<()>;
    /// Makes it visible as a whole, durable when this is answered.
    fn commit_batch(&self, id: BatchId, commit: BatchCommit) -> Pending<BatchAccepted>;
    /// Gives up one that was begun and not committed; others are left alone.
    fn drop_batch(&self, id: BatchId) -> Pending<()>;
    /// Changes one; gives it as it is now. `Invalid` if its state does not allow the change.
    fn change_batch(&self, id: BatchId, change: BatchChange, now_ms: i64) -> Pending<BatchView>;
    /// Notes that no message can be made of a row. False: the row was done with already.
    fn refuse_row(&self, row: RowRef, why: String) -> Pending<bool>;

    /// Batches, newest first, before the cursor, at most `limit` (1 to 1,000): all, or those of a sender.
    fn batches(&self, sender: Option<String>, before: Option<BatchId>, limit: u32) -> Pending<Vec<BatchView>>;
    /// Those that are running, oldest first, at most `limit`.
    fn running_batches(&self, limit: u32) -> Pending<Vec<BatchView>>;
    /// One batch.
    fn batch(&self, id: BatchId) -> Pending<BatchView>;
    /// Its body; `NotFound` once it is final: nobody needs it any more.
    fn batch_body(&self, id: BatchId) -> Pending<String>;
    /// Its messages that are not final.
    fn batch_load(&self, id: BatchId) -> Pending<BatchLoad>;
    /// Rows to make messages of, in order, behind row `after`, at most `limit` (1 to 1,000).
    fn next_rows(&self, id: BatchId, after: Option<u32>, limit: u32) -> Pending<Vec<BatchRow>>;
    /// Its rows in order, behind row `after`, at most `limit` (1 to 1,000): all, or those of a state.
    fn rows(&self, id: BatchId, state: Option<RowState>, after: Option<u32>, limit: u32) -> Pending<Vec<RowView>>;
    /// How many rows are in which state.
    fn row_counts(&self, id: BatchId) -> Pending<Vec<(RowState, u64)>>;
}
