//! Batches, the writer's side: rows come in out of sight, become visible by one update, and each is taken once.

use rusqlite::{OptionalExtension, params};

use super::SqliteStore;
use super::batch_read;
use super::command::{Command, Job};
use super::fault::Fault;
use super::upkeep::STEP;
use super::work::Work;
use crate::engine::batched::{self, REMOVED, STAGED};
use crate::model::*;
use crate::verbs::Batches;
use crate::{Pending, StoreError};

/// Rows removed in a step: they are small.
const ROWS: usize = 10 * STEP;

/// What the writer does to batches.
pub(super) enum BatchCommand {
    Begin(Job<NewBatch, ()>),
    Rows(Job<(BatchId, Vec<NewRow>), ()>),
    Commit(Job<(BatchId, BatchCommit), BatchAccepted>),
    Drop(Job<BatchId, ()>),
    Change(Job<(BatchId, BatchChange, i64), BatchView>),
    Refuse(Job<(RowRef, String), bool>),
}

impl BatchCommand {
    /// Octets it brings.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Begin(job) => job.request.body.len().max(1),
            Self::Rows(job) => {
                job.request.1.iter().map(|row| row.data.len() + row.address.as_str().len() + 16).sum::<usize>().max(1)
            }
            _ => 0,
        }
    }

    /// See [`Command::finish`].
    pub(super) fn finish(self, outcome: Result<(), StoreError>) {
        match self {
            Self::Begin(job) => job.finish(outcome),
            Self::Rows(job) => job.finish(outcome),
            Self::Commit(job) => job.finish(outcome),
            Self::Drop(job) => job.finish(outcome),
            Self::Change(job) => job.finish(outcome),
            Self::Refuse(job) => job.finish(outcome),
        }
    }

    /// See [`Command::apply`].
    pub(super) fn apply(&mut self, work: &mut Work<'_>) -> Result<(), Fault> {
        match self {
            Self::Begin(job) => {
                let outcome = work.begin_batch(&job.request);
                job.settle(outcome)
            }
            Self::Rows(job) => {
                let outcome = work.add_rows(job.request.0, &job.request.1);
                job.settle(outcome)
            }
            Self::Commit(job) => {
                let outcome = work.commit_batch(job.request.0, &job.request.1);
                job.settle(outcome)
            }
            Self::Drop(job) => {
                let outcome = work.drop_batch(job.request);
                job.settle(outcome)
            }
            Self::Change(job) => {
                let outcome = work.change_batch(job.request.0, &job.request.1, job.request.2);
                job.settle(outcome)
            }
            Self::Refuse(job) => {
                let outcome = work.refuse_row(job.request.0, &job.request.1);
                job.settle(outcome)
            }
        }
    }
}

impl SqliteStore {
    fn ask<R, T>(&self, request: R, command: impl FnOnce(Job<R, T>) -> BatchCommand) -> Pending<T> {
        let (job, pending) = Job::new(request);
        self.shared.queue.push(Command::Batch(Box::new(command(job))));
        pending
    }

    /// The same for what brings more.
    fn take_in<R, T>(&self, request: R, command: impl FnOnce(Job<R, T>) -> BatchCommand) -> Pending<T> {
        match self.intake() {
            Ok(()) => self.ask(request, command),
            Err(error) => Pending::ready(Err(error)),
        }
    }
}

impl Batches for SqliteStore {
    fn begin_batch(&self, batch: NewBatch) -> Pending<()> {
        self.take_in(batch, BatchCommand::Begin)
    }

    fn add_rows(&self, id: BatchId, rows: Vec<NewRow>) -> Pending<()> {
        self.take_in((id, rows), BatchCommand::Rows)
    }

    fn commit_batch(&self, id: BatchId, commit: BatchCommit) -> Pending<BatchAccepted> {
        self.take_in((id, commit), BatchCommand::Commit)
    }

    fn drop_batch(&self, id: BatchId) -> Pending<()> {
        self.ask(id, BatchCommand::Drop)
    }

    fn change_batch(&self, id: BatchId, change: BatchChange, now_ms: i64) -> Pending<BatchView> {
        self.ask((id, change, now_ms), BatchCommand::Change)
    }

    fn refuse_row(&self, row: RowRef, why: String) -> Pending<bool> {
        self.ask((row, why), BatchCommand::Refuse)
    }

    fn batches(&self, sender: Option<String>, before: Option<BatchId>, limit: u32) -> Pending<Vec<BatchView>> {
        self.shared.readers.ask(move |connection| Ok(batch_read::list(connection, sender.as_deref(), before, limit)?))
    }

    fn running_batches(&self, limit: u32) -> Pending<Vec<BatchView>> {
        self.shared.readers.ask(move |connection| Ok(batch_read::running(connection, limit)?))
    }

    fn batch(&self, id: BatchId) -> Pending<BatchView> {
        self.shared.readers.ask(move |connection| Ok(batch_read::view(connection, id)?))
    }

    fn batch_body(&self, id: BatchId) -> Pending<String> {
        self.shared.readers.ask(move |connection| Ok(batch_read::body(connection, id)?))
    }

    fn batch_load(&self, id: BatchId) -> Pending<BatchLoad> {
        self.shared.readers.ask(move |connection| Ok(batch_read::load(connection, id)?))
    }

    fn next_rows(&self, id: BatchId, after: Option<u32>, limit: u32) -> Pending<Vec<BatchRow>> {
        self.shared.readers.ask(move |connection| Ok(batch_read::next_rows(connection, id, after, limit)?))
    }

    fn rows(&self, id: BatchId, state: Option<RowState>, after: Option<u32>, limit: u32) -> Pending<Vec<RowView>> {
        self.shared.readers.ask(move |connection| Ok(batch_read::rows(connection, id, state, after, limit)?))
    }

    fn row_counts(&self, id: BatchId) -> Pending<Vec<(RowState, u64)>> {
        self.shared.readers.ask(move |connection| Ok(batch_read::counts(connection, id)?))
    }
}

impl Work<'_> {
    fn begin_batch(&mut self, batch: &NewBatch) -> Result<(), Fault> {
        self.connection
            .prepare_cached(
                "INSERT INTO batch(id, state, by, sender, stream, label, created, start, spread, test)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                batch.id.0,
                STAGED,
                batch.by.0,
                &*batch.sender,
                &*batch.stream,
                batch.label,
                batch.created_ms,
                batch.start_ms,
                batch.spread_ms,
                batch.test
            ])?;
        self.connection
            .prepare_cached("INSERT INTO batch_body(batch, body) VALUES (?1, ?2)")?
            .execute(params![batch.id.0, batch.body])?;
        Ok(())
    }

    fn add_rows(&mut self, id: BatchId, rows: &[NewRow]) -> Result<(), Fault> {
        self.expect_staged(id)?;
        let mut statement = self
            .connection
            .prepare_cached("INSERT INTO batch_row(batch, n, state, address, data) VALUES (?1, ?2, 0, ?3, ?4)")?;
        for row in rows {
            statement.execute(params![id.0, row.n, row.address.as_str(), row.data])?;
        }
        Ok(())
    }

    fn batch_state(&mut self, id: BatchId) -> Result<Option<u8>, Fault> {
        let state = self
            .connection
            .prepare_cached("SELECT state FROM batch WHERE id = ?1")?
            .query_row([id.0], |row| row.get(0))
            .optional()?;
        Ok(state)
    }

    fn expect_staged(&mut self, id: BatchId) -> Result<(), Fault> {
        match self.batch_state(id)? {
            Some(STAGED) => Ok(()),
            _ => Err(Fault::Command(StoreError::NotFound)),
        }
    }

    fn commit_batch(&mut self, id: BatchId, commit: &BatchCommit) -> Result<BatchAccepted, Fault> {
        self.expect_staged(id)?;
        if let Some(key) = &commit.idempotency {
            let earlier = match self.replay(key, commit.now_ms)? {
                Some(Accepted::Replayed(answer)) => Some(BatchAccepted::Replayed(answer)),
                Some(_) => Some(BatchAccepted::KeyConflict),
                None => None,
            };
            if let Some(earlier) = earlier {
                self.drop_batch(id)?;
                return Ok(earlier);
            }
        }
        let (rows, last): (u32, Option<u32>) = self
            .connection
            .prepare_cached("SELECT count(*), max(n) FROM batch_row WHERE batch = ?1")?
            .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        batched::check_whole(commit.rows, rows, last)?;
        if let Some(key) = &commit.idempotency {
            self.remember_key(key, commit.now_ms)?;
        }
        self.connection.prepare_cached("UPDATE batch SET state = ?2, total = ?3 WHERE id = ?1")?.execute(params![
            id.0,
            BatchState::Running as u8,
            rows
        ])?;
        Ok(BatchAccepted::Committed)
    }

    fn drop_batch(&mut self, id: BatchId) -> Result<(), Fault> {
        self.connection
            .prepare_cached("UPDATE batch SET state = ?2 WHERE id = ?1 AND state = ?3")?
            .execute(params![id.0, REMOVED, STAGED])?;
        Ok(())
    }

    fn change_batch(&mut self, id: BatchId, change: &BatchChange, now_ms: i64) -> Result<BatchView, Fault> {
        // Counts of this very transaction belong to what is decided and shown.
        self.flush_batches()?;
        let view = batch_read::view(self.connection, id)?;
        if !batched::applies(change, &view)? {
            return Ok(view);
        }
        match change {
            BatchChange::Pause { why } => {
                self.update_batch("state = 2, paused_at = ?2, why = ?3", id, now_ms, Some(why))?;
            }
            BatchChange::Resume => {
                let set =
                    "state = 1, paused = paused + max(0, ?2 - coalesce(paused_at, ?2)), paused_at = NULL, why = ?3";
                self.update_batch(set, id, now_ms, None)?;
            }
            BatchChange::Cancel { why } => {
                self.update_batch("state = 3, finished = ?2, why = ?3", id, now_ms, Some(why))?;
                self.drop_body(id)?;
            }
            BatchChange::Note(why) => self.update_batch("why = ?3", id, now_ms, why.as_deref())?,
            BatchChange::Finish if self.has_open_messages(id)? => {}
            BatchChange::Finish => {
                self.update_batch("state = 4, finished = ?2, why = ?3", id, now_ms, None)?;
                self.drop_body(id)?;
            }
        }
        batch_read::view(self.connection, id)
    }

    fn has_open_messages(&mut self, id: BatchId) -> Result<bool, Fault> {
        let open = self
            .connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM message INDEXED BY message_batch WHERE batch = ?1 AND pending > 0)",
            )?
            .query_row([id.0], |row| row.get(0))?;
        Ok(open)
    }

    fn update_batch(&mut self, set: &str, id: BatchId, now_ms: i64, why: Option<&str>) -> Result<(), Fault> {
        self.connection
            .prepare_cached(&format!("UPDATE batch SET {set} WHERE id = ?1"))?
            .execute(params![id.0, now_ms, why])?;
        Ok(())
    }

    fn drop_body(&mut self, id: BatchId) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM batch_body WHERE batch = ?1")?.execute([id.0])?;
        Ok(())
    }

    /// Marks a row as become this message. False: it was done with before, or its batch is not running.
    pub(super) fn take_row(&mut self, row: RowRef, message: MessageId) -> Result<bool, Fault> {
        let taken = self
            .connection
            .prepare_cached(
                "UPDATE batch_row SET state = 1, message = ?3, data = NULL
                 WHERE batch = ?1 AND n = ?2 AND state = 0 AND (SELECT state FROM batch WHERE id = ?1) = 1",
            )?
            .execute(params![row.batch.0, row.row, message.0])?;
        if taken > 0 {
            self.staged.rows.entry(row.batch).or_default().0 += 1;
        }
        Ok(taken > 0)
    }

    fn refuse_row(&mut self, row: RowRef, why: &str) -> Result<bool, Fault> {
        let refused = self
            .connection
            .prepare_cached(
                "UPDATE batch_row SET state = 2, why = ?3, data = NULL WHERE batch = ?1 AND n = ?2 AND state = 0",
            )?
            .execute(params![row.batch.0, row.row, why])?;
        if refused > 0 {
            self.staged.rows.entry(row.batch).or_default().1 += 1;
        }
        Ok(refused > 0)
    }

    /// Writes how many rows were done with.
    pub(super) fn flush_batches(&mut self) -> Result<(), Fault> {
        for (id, (fed, refused)) in self.staged.rows.drain() {
            self.connection
                .prepare_cached("UPDATE batch SET fed = fed + ?2, refused = refused + ?3 WHERE id = ?1")?
                .execute(params![id.0, fed, refused])?;
        }
        Ok(())
    }

    /// One step of removing batches: first their rows. What still has open messages stays.
    pub(super) fn remove_batches(&mut self, before_ms: i64) -> Result<u64, Fault> {
        self.connection
            .prepare_cached(
                "UPDATE batch SET state = ?1 WHERE id IN (SELECT id FROM batch
                     WHERE state = ?2 AND by < (SELECT coalesce(max(incarnation), 0) FROM node)
                         OR state IN (3, 4) AND finished <= ?3
                             AND NOT EXISTS (SELECT 1 FROM message INDEXED BY message_batch WHERE batch = batch.id AND pending > 0)
                     LIMIT 10)",
            )?
            .execute(params![REMOVED, STAGED, before_ms])?;
        let Some(id) = self
            .connection
            .prepare_cached("SELECT id FROM batch INDEXED BY batch_state WHERE state = ?1 LIMIT 1")?
            .query_row([REMOVED], |row| row.get(0).map(BatchId))
            .optional()?
        else {
            return Ok(0);
        };
        let removed = self
            .connection
            .prepare_cached(
                "DELETE FROM batch_row WHERE batch = ?1 AND n IN (SELECT n FROM batch_row WHERE batch = ?1 LIMIT ?2)",
            )?
            .execute(params![id.0, ROWS as i64])?;
        if removed == 0 {
            self.drop_body(id)?;
            self.connection.prepare_cached("DELETE FROM batch WHERE id = ?1")?.execute([id.0])?;
        }
        // Never less than a step: there may be more.
        Ok(STEP as u64)
    }
}
