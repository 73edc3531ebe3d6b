//! The verbs of batches, each run in a transaction of its own.

use super::batch_read::Lock;
use super::{PostgresStore, batch, batch_read};
use crate::Pending;
use crate::model::*;
use crate::verbs::Batches;

impl Batches for PostgresStore {
    fn begin_batch(&self, batch: NewBatch) -> Pending<()> {
        self.write(batch, |tx, batch| async move { batch::begin(&tx, &batch).await })
    }

    fn add_rows(&self, id: BatchId, rows: Vec<NewRow>) -> Pending<()> {
        self.write((id, rows), |tx, r| async move { batch::add_rows(&tx, r.0, &r.1).await })
    }

    fn commit_batch(&self, id: BatchId, commit: BatchCommit) -> Pending<BatchAccepted> {
        self.write((id, commit), |tx, r| async move { batch::commit(&tx, r.0, &r.1).await })
    }

    fn drop_batch(&self, id: BatchId) -> Pending<()> {
        self.write(id, |tx, id| async move { batch::drop_staged(&tx, *id).await })
    }

    fn change_batch(&self, id: BatchId, change: BatchChange, now_ms: i64) -> Pending<BatchView> {
        self.write((id, change, now_ms), |tx, r| async move { batch::change(&tx, r.0, &r.1, r.2).await })
    }

    fn refuse_row(&self, row: RowRef, why: String) -> Pending<bool> {
        self.write((row, why), |tx, r| async move { batch::refuse_row(&tx, r.0, &r.1).await })
    }

    fn batches(&self, sender: Option<String>, before: Option<BatchId>, limit: u32) -> Pending<Vec<BatchView>> {
        self.read((sender, before, limit), |tx, r| async move { batch_read::list(&tx, r.0.as_deref(), r.1, r.2).await })
    }

    fn running_batches(&self, limit: u32) -> Pending<Vec<BatchView>> {
        self.read(limit, |tx, limit| async move { batch_read::running(&tx, *limit).await })
    }

    fn batch(&self, id: BatchId) -> Pending<BatchView> {
        self.read(id, |tx, id| async move { batch_read::view(&tx, *id, Lock::None).await })
    }

    fn batch_body(&self, id: BatchId) -> Pending<String> {
        self.read(id, |tx, id| async move { batch_read::body(&tx, *id).await })
    }

    fn batch_load(&self, id: BatchId) -> Pending<BatchLoad> {
        self.read(id, |tx, id| async move { batch_read::load(&tx, *id).await })
    }

    fn next_rows(&self, id: BatchId, after: Option<u32>, limit: u32) -> Pending<Vec<BatchRow>> {
        self.read((id, after, limit), |tx, r| async move { batch_read::next_rows(&tx, r.0, r.1, r.2).await })
    }

    fn rows(&self, id: BatchId, state: Option<RowState>, after: Option<u32>, limit: u32) -> Pending<Vec<RowView>> {
        self.read((id, state, after, limit), |tx, r| async move { batch_read::rows(&tx, r.0, r.1, r.2, r.3).await })
    }

    fn row_counts(&self, id: BatchId) -> Pending<Vec<(RowState, u64)>> {
        self.read(id, |tx, id| async move { batch_read::counts(&tx, *id).await })
    }
}
