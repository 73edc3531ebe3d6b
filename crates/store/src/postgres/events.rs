//! Reading events: a row that stands for several is given as single events. What belongs to a message that was removed is
//! not told any more, even if its part of the table is still there.

use super::fault::Fault;
use super::read::{self, EVENT};
use super::tx::{Tx, Value};
use crate::engine::bounded;
use crate::model::*;

/// Events looked at in one question.
pub(super) const LOOK: i64 = 100_000;

/// What is told: events of messages that are there.
pub(super) const TOLD: &str = "EXISTS (SELECT 1 FROM message m WHERE m.id = e.message)";

/// Events of one message, oldest first; of more than `limit` the latest.
pub(super) async fn events(tx: &Tx, id: MessageId, limit: u32) -> Result<Vec<Event>, Fault> {
    let limit = bounded(limit);
    let sql = format!("SELECT {EVENT} FROM event AS e WHERE e.message = $1 AND {TOLD} ORDER BY e.seq DESC LIMIT $2");
    let mut found = Vec::new();
    for row in &tx.query(&sql, &[&id.0, &(limit as i64)]).await? {
        let row = read::event(row)?;
        found.extend((0..row.count).rev().take(limit - found.len()).map(|k| row.event(k)));
    }
    found.reverse();
    Ok(found)
}

/// Events after a cursor, oldest first.
pub(super) async fn events_after(tx: &Tx, seq: i64, limit: u32) -> Result<Vec<Event>, Fault> {
    // All of them: `upto` is of no interest.
    Ok(some(tx, seq, i64::MAX, limit, "true").await?.events)
}

/// Events that somebody may have to be told of, and how far was looked.
pub(super) async fn notable_after(tx: &Tx, seq: i64, limit: u32) -> Result<Notable, Fault> {
    looked(tx, seq, limit, "(e.kind IN (1, 3, 4, 8, 9) OR (e.kind = 2 AND e.detail IS NOT NULL))").await
}

/// Events of these kinds, and how far was looked.
pub(super) async fn events_of(tx: &Tx, seq: i64, kinds: &[EventKind], limit: u32) -> Result<Notable, Fault> {
    let numbers: Vec<String> = kinds.iter().map(|kind| (*kind as u8).to_string()).collect();
    let condition = if numbers.is_empty() { "false".to_owned() } else { format!("e.kind IN ({})", numbers.join(", ")) };
    looked(tx, seq, limit, &condition).await
}

/// Number of the newest event.
pub(super) async fn newest(tx: &Tx) -> Result<i64, Fault> {
    Ok(tx.query_one("SELECT value FROM event_number WHERE one = 1", &[]).await?.try_get(0)?)
}

async fn looked(tx: &Tx, seq: i64, limit: u32, condition: &str) -> Result<Notable, Fault> {
    let upto = newest(tx).await?.min(seq.saturating_add(LOOK)).max(seq);
    some(tx, seq, upto, limit, condition).await
}

/// Events that meet a condition, each for itself even where recipients share a row.
async fn some(tx: &Tx, seq: i64, upto: i64, limit: u32, condition: &str) -> Result<Notable, Fault> {
    let limit = bounded(limit);
    // The cursor may stand within a row: the last one that began before it is looked at as well.
    let sql = format!(
        "(SELECT * FROM (SELECT {EVENT} FROM event AS e WHERE e.seq = (SELECT max(b.seq) FROM event b WHERE b.seq <= $1) AND {condition} AND {TOLD}) b)
         UNION ALL
         (SELECT * FROM (SELECT {EVENT} FROM event AS e WHERE e.seq > $1 AND e.seq <= $2 AND {condition} AND {TOLD} ORDER BY e.seq LIMIT $3) a)"
    );
    let values: [Value<'_>; 3] = [&seq, &upto, &(limit as i64)];
    let mut events: Vec<Event> = Vec::new();
    let rows = tx.query(&sql, &values).await?;
    let mut rows = rows.iter().map(read::event).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_key(|row| row.first.seq);
    for row in rows {
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
