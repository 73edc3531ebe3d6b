//! What the writer counts, and the queue by route and stream.

use std::collections::HashMap;

use rusqlite::Connection;

use super::fault::Fault;
use super::shared::Shared;
use super::{SqliteStore, open};
use crate::Pending;
use crate::engine::figures::{Of, least, share, sorted};
use crate::model::*;
use crate::verbs::{Figures, Shares};

/// Leased messages that are looked at for the oldest of each lane.
const LEASED: u32 = 5_000;

/// It has no other nodes.
impl Shares for SqliteStore {}

impl Figures for SqliteStore {
    fn figures(&self) -> StoreFigures {
        let shared = &self.shared;
        let octets = |path: std::path::PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        StoreFigures {
            waiting: shared.queue.len() as u64,
            database_bytes: octets(shared.database()) + octets(shared.dir.join("queue.db-wal")),
            free_bytes: open::free_bytes(&shared.dir),
            ..shared.counted.figures()
        }
    }

    fn queue_figures(&self) -> Pending<QueueFigures> {
        let shared = self.shared.clone();
        self.shared.readers.ask(move |connection| Ok(queue(connection, &shared)?))
    }
}

fn queue(connection: &Connection, shared: &Shared) -> Result<QueueFigures, Fault> {
    let mut shares: HashMap<Of, QueueShare> = HashMap::new();
    waiting(connection, &mut shares)?;
    for entry in shared.leased.lock().values().filter(|entry| entry.count > 0) {
        let key = &entry.lane.key;
        share(&mut shares, key.route.clone(), key.stream.clone()).leased += entry.count as u64;
    }
    oldest_leased(connection, &mut shares)?;
    let (content_bytes, content_live_bytes) = connection
        .prepare_cached("SELECT coalesce(sum(bytes), 0), coalesce(sum(live_bytes), 0) FROM segment")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    Ok(QueueFigures {
        shares: sorted(shares),
        content_bytes: content_bytes.max(0) as u64,
        content_live_bytes: content_live_bytes.max(0) as u64,
    })
}

/// The lanes, each with a seek for its oldest message.
fn waiting(connection: &Connection, shares: &mut HashMap<Of, QueueShare>) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT route, stream, waiting, held, next_due,
             CASE WHEN waiting > 0 THEN (SELECT min(message) FROM recipient INDEXED BY recipient_rest
                 WHERE lane = lane.id AND state = 0) END
         FROM lane NOT INDEXED WHERE waiting > 0 OR held > 0",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (waiting, held): (i64, i64) = (row.get(2)?, row.get(3)?);
        let (due, oldest): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
        let share = share(shares, row.get::<_, String>(0)?.into(), row.get::<_, String>(1)?.into());
        share.waiting += waiting as u64;
        share.held += held as u64;
        share.next_due_ms = least(share.next_due_ms, due);
        share.oldest_ms = least(share.oldest_ms, oldest.map(|id| MessageId(id).created_ms()));
    }
    Ok(())
}

fn oldest_leased(connection: &Connection, shares: &mut HashMap<Of, QueueShare>) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT route, lane.stream, min(recipient.message)
         FROM (SELECT id FROM message INDEXED BY message_open WHERE pending > 0 AND (leased > 0) = 1 ORDER BY id LIMIT ?1)
             AS open CROSS JOIN recipient ON recipient.message = open.id CROSS JOIN lane ON lane.id = recipient.lane
         WHERE state = 1 GROUP BY route, lane.stream",
    )?;
    let mut rows = statement.query([LEASED])?;
    while let Some(row) = rows.next()? {
        let share = share(shares, row.get::<_, String>(0)?.into(), row.get::<_, String>(1)?.into());
        share.oldest_ms = least(share.oldest_ms, Some(MessageId(row.get(2)?).created_ms()));
    }
    Ok(())
}
