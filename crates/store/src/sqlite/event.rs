//! Writing events: equal ones of neighbouring recipients share a row.
//!
//! A row covers the recipients `n` to `upto`; the event of the k-th of them has the number `seq + k`, so the numbers of a
//! row are a block of their own and readers ([`super::browse`]) give single events again. The latest row stays open
//! until another one comes or the batch ends: what continues it costs nothing.

use rusqlite::params;

use super::fault::Fault;
use super::work::{MessageRow, Work};
use crate::model::*;

/// An event's attempt: none, stored with it, or stored with an earlier event of the same command.
#[derive(Debug, Clone, Copy)]
pub(super) enum AttemptColumn<'a> {
    None,
    Here(&'a str),
    At(i64),
}

/// The latest row, which the next event may continue.
pub(super) struct OpenEvent {
    seq: i64,
    at_ms: i64,
    message: MessageId,
    kind: EventKind,
    last: u32,
    /// What the row says of `last`.
    written: u32,
    /// Number of the row that holds the attempt.
    attempt: Option<i64>,
    detail: Option<String>,
}

impl OpenEvent {
    fn continues(&self, message: MessageId, at_ms: i64, first: u32, kind: EventKind, detail: Option<&str>) -> bool {
        self.last.checked_add(1) == Some(first)
            && self.message == message
            && self.at_ms == at_ms
            && self.kind == kind
            && self.detail.as_deref() == detail
    }

    fn has_attempt(&self, attempt: AttemptColumn<'_>) -> bool {
        match attempt {
            AttemptColumn::None => self.attempt.is_none(),
            AttemptColumn::Here(_) => false,
            AttemptColumn::At(at) => self.attempt == Some(at),
        }
    }
}

impl Work<'_> {
    /// Adds an event to a message's chain; gives the number of its row.
    pub(super) fn event(
        &mut self,
        row: &mut MessageRow,
        at_ms: i64,
        n: Option<u32>,
        kind: EventKind,
        attempt: AttemptColumn<'_>,
        detail: Option<&str>,
    ) -> Result<i64, Fault> {
        self.events(row, at_ms, n.map(|n| (n, n)), kind, attempt, detail)
    }

    /// Adds the events of neighbouring recipients, from the first to the last; gives the number of their row.
    pub(super) fn events(
        &mut self,
        row: &mut MessageRow,
        at_ms: i64,
        span: Option<(u32, u32)>,
        kind: EventKind,
        attempt: AttemptColumn<'_>,
        detail: Option<&str>,
    ) -> Result<i64, Fault> {
        let seq = self.next_seq();
        self.staged.next_seq = Some(seq + span.map_or(1, |(first, last)| i64::from(last - first) + 1));
        if let (Some((first, last)), Some(open)) = (span, &mut self.staged.open_event)
            && open.continues(row.id, at_ms, first, kind, detail)
            && open.has_attempt(attempt)
        {
            open.last = last;
            return Ok(open.seq);
        }
        self.close_event()?;
        let prev = (row.last_event != 0).then_some(row.last_event);
        let first = span.map(|(first, _)| first);
        let upto = span.filter(|(first, last)| first < last).map(|(_, last)| last);
        let statement = &mut self.statements.insert_event;
        let (id, kind_number) = (row.id.0, kind as u8);
        let attempt_at = match attempt {
            AttemptColumn::None => {
                statement.execute(params![seq, at_ms, id, first, upto, kind_number, prev, None::<i64>, detail])?;
                None
            }
            AttemptColumn::Here(text) => {
                statement.execute(params![seq, at_ms, id, first, upto, kind_number, prev, text, detail])?;
                Some(seq)
            }
            AttemptColumn::At(at) => {
                statement.execute(params![seq, at_ms, id, first, upto, kind_number, prev, at, detail])?;
                Some(at)
            }
        };
        self.staged.open_event = span.map(|(_, last)| OpenEvent {
            seq,
            at_ms,
            message: row.id,
            kind,
            last,
            written: last,
            attempt: attempt_at,
            detail: detail.map(str::to_owned),
        });
        row.last_event = seq;
        Ok(seq)
    }

    /// Writes what continued the latest row.
    pub(super) fn close_event(&mut self) -> Result<(), Fault> {
        if let Some(open) = self.staged.open_event.take()
            && open.last != open.written
        {
            self.connection
                .prepare_cached("UPDATE event SET upto = ?2 WHERE seq = ?1")?
                .execute(params![open.seq, open.last])?;
        }
        Ok(())
    }

    /// Number the next event will have.
    pub(super) fn next_seq(&self) -> i64 {
        self.staged.next_seq.unwrap_or(self.next_seq)
    }
}
