//! Reading events: a row that stands for several is given as single events ([`super::event`] says how it is written).

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::browse::{Snapshot, bounded};
use super::encode;
use super::fault::Fault;
use crate::StoreError;
use crate::engine::queued::event_kind;
use crate::model::*;

/// A row, which stands for the events of one recipient or of several neighbours.
pub(super) struct EventRow {
    pub(super) first: Event,
    pub(super) count: i64,
    prev: Option<i64>,
}

impl EventRow {
    /// The event of the k-th recipient.
    pub(super) fn event(&self, k: i64) -> Event {
        let n = self.first.n.map(|n| n + k as u32);
        Event { seq: self.first.seq + k, n, ..self.first.clone() }
    }
}

/// Columns of [`read_event`].
pub(super) const EVENT: &str =
    "SELECT seq, at, message, n, kind, prev, attempt, detail, coalesce(upto - n, 0) + 1 FROM event";

/// Attempts that later events refer to.
pub(super) type Attempts = HashMap<i64, Option<Attempt>>;

pub(super) fn read_event(connection: &Connection, row: &Row<'_>, attempts: &mut Attempts) -> Result<EventRow, Fault> {
    let seq: i64 = row.get(0)?;
    let attempt = match row.get_ref(6)? {
        rusqlite::types::ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|error| StoreError::Internal(error.to_string()))?;
            Some(encode::read_attempt(text)?)
        }
        rusqlite::types::ValueRef::Integer(at) => match attempts.get(&at) {
            Some(found) => found.clone(),
            None => {
                let text: Option<String> = connection
                    .prepare_cached("SELECT attempt FROM event WHERE seq = ?1")?
                    .query_row([at], |row| row.get(0))
                    .optional()?;
                let found = text.as_deref().map(encode::read_attempt).transpose()?;
                attempts.insert(at, found.clone());
                found
            }
        },
        _ => None,
    };
    let detail: Option<String> = row.get(7)?;
    Ok(EventRow {
        first: Event {
            seq,
            at_ms: row.get(1)?,
            message: MessageId(row.get(2)?),
            n: row.get(3)?,
            kind: event_kind(row.get(4)?)?,
            detail: encode::read_detail(detail.as_deref(), attempt)?,
        },
        count: row.get(8)?,
        prev: row.get(5)?,
    })
}

/// Events of one message, oldest first; of more than `limit` the latest.
pub(super) fn events(connection: &Connection, id: MessageId, limit: u32) -> Result<Vec<Event>, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let mut next: Option<i64> = connection
        .prepare_cached("SELECT last_event FROM message WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))
        .optional()?;
    let mut attempts = Attempts::new();
    let mut found = Vec::new();
    let mut statement = connection.prepare_cached(&format!("{EVENT} WHERE seq = ?1"))?;
    while let (Some(seq), true) = (next, found.len() < bounded(limit)) {
        let mut rows = statement.query([seq])?;
        let Some(row) = rows.next()? else { break };
        let row = read_event(connection, row, &mut attempts)?;
        next = row.prev;
        found.extend((0..row.count).rev().take(bounded(limit) - found.len()).map(|k| row.event(k)));
    }
    found.reverse();
    Ok(found)
}

/// Events after a cursor, oldest first.
pub(super) fn events_after(connection: &Connection, seq: i64, limit: u32) -> Result<Vec<Event>, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    // The cursor may stand within a row.
    let mut statement = connection.prepare_cached(&format!(
        "{EVENT} WHERE seq >= coalesce((SELECT max(seq) FROM event WHERE seq <= ?1), ?1) ORDER BY seq LIMIT ?2"
    ))?;
    let mut rows = statement.query(params![seq, bounded(limit) as i64 + 1])?;
    let mut attempts = Attempts::new();
    let mut found = Vec::new();
    while let (Some(row), true) = (rows.next()?, found.len() < bounded(limit)) {
        let row = read_event(connection, row, &mut attempts)?;
        let told = seq.saturating_add(1).saturating_sub(row.first.seq).clamp(0, row.count);
        found.extend((told..row.count).take(bounded(limit) - found.len()).map(|k| row.event(k)));
    }
    Ok(found)
}

/// Events looked at in one question.
pub(super) const LOOK: i64 = 100_000;

/// Events that somebody may have to be told of, and how far was looked.
pub(super) fn notable_after(connection: &Connection, seq: i64, limit: u32) -> Result<Notable, Fault> {
    some_after(connection, seq, limit, "kind IN (1, 3, 4, 8, 9) OR (kind = 2 AND detail IS NOT NULL)")
}

/// Events of these kinds, and how far was looked.
pub(super) fn events_of(connection: &Connection, seq: i64, kinds: &[EventKind], limit: u32) -> Result<Notable, Fault> {
    let numbers: Vec<String> = kinds.iter().map(|kind| (*kind as u8).to_string()).collect();
    some_after(connection, seq, limit, &format!("kind IN ({})", numbers.join(", ")))
}

/// Events that meet a condition, each for itself even where recipients share a row.
fn some_after(connection: &Connection, seq: i64, limit: u32, condition: &str) -> Result<Notable, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let limit = bounded(limit);
    let newest: Option<i64> = connection
        .prepare_cached("SELECT seq + coalesce(upto - n, 0) FROM event ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let upto = newest.unwrap_or(seq).min(seq.saturating_add(LOOK)).max(seq);
    // The cursor may stand within a row.
    let mut statement = connection.prepare_cached(&format!(
        "{EVENT} WHERE seq >= coalesce((SELECT max(seq) FROM event WHERE seq <= ?1), ?1) AND seq <= ?2 AND ({condition})
         ORDER BY seq LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![seq, upto, limit as i64 + 1])?;
    let mut attempts = Attempts::new();
    let mut events: Vec<Event> = Vec::new();
    while let (Some(row), true) = (rows.next()?, events.len() < limit) {
        let row = read_event(connection, row, &mut attempts)?;
        let told = seq.saturating_add(1).saturating_sub(row.first.seq).clamp(0, row.count);
        events.extend((told..row.count).take(limit - events.len()).map(|k| row.event(k)));
    }
    // The last row may go on beyond what was to be looked at.
    let upto = match events.last() {
        Some(last) if events.len() == limit => last.seq,
        Some(last) => last.seq.max(upto),
        None => upto,
    };
    Ok(Notable { events, upto })
}

/// What accounts have used of their limits.
pub(super) fn usage(connection: &Connection, prefix: &str) -> Result<Vec<(String, String)>, Fault> {
    let sql =
        "SELECT account, body FROM usage WHERE account >= ?1 AND substr(account, 1, length(?1)) = ?1 ORDER BY account";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Where a reader of events stands.
pub(super) fn cursor(connection: &Connection, name: &str) -> Result<i64, Fault> {
    let found = connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'cursor.' || ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0))
}
