//! Looking for damage: structure, counts that must agree, and on request every content.

use std::sync::Arc;

use rusqlite::Connection;

use super::browse::Snapshot;
use super::content::{self, Unreadable};
use super::fault::Fault;
use super::shared::Shared;
use crate::StoreError;
use crate::model::*;

/// Most problems told.
const MOST: usize = 100;

/// Questions that must have no answer.
const CHECKS: &[(&str, &str)] = &[
    (
        "lane counts differ from the recipients of lane",
        "SELECT lane.id FROM lane LEFT JOIN
             (SELECT lane, sum(state = 0) AS waiting, sum(state = 2) AS held FROM recipient WHERE state <= 2 GROUP BY lane) r
             ON r.lane = lane.id
         WHERE lane.waiting <> coalesce(r.waiting, 0) OR lane.held <> coalesce(r.held, 0) LIMIT 20",
    ),
    (
        "the next due time is wrong for lane",
        "SELECT id FROM lane WHERE next_due IS NOT
             (SELECT min(due) FROM recipient WHERE recipient.lane = lane.id AND state = 0) LIMIT 20",
    ),
    (
        "open recipients are miscounted for message",
        "SELECT id FROM message WHERE pending <> (SELECT count(*) FROM recipient WHERE message = id AND state <= 2) LIMIT 20",
    ),
    (
        "recipients are left over from message",
        "SELECT DISTINCT message FROM recipient WHERE message NOT IN (SELECT id FROM message) LIMIT 20",
    ),
    (
        "leased recipients are miscounted for message",
        "SELECT id FROM message WHERE leased <> (SELECT count(*) FROM recipient WHERE message = id AND state = 1) LIMIT 20",
    ),
    (
        "a waiting or leased recipient has no due time or run in message",
        "SELECT message FROM recipient WHERE (state = 0) <> (due IS NOT NULL) OR (state = 1) <> (lease > 0) LIMIT 20",
    ),
    (
        "live contents are miscounted for segment",
        "SELECT segment.id FROM segment LEFT JOIN
             (SELECT segment, count(*) AS live, sum(size) AS bytes FROM message WHERE segment IS NOT NULL GROUP BY segment) m
             ON m.segment = segment.id
         WHERE segment.live <> coalesce(m.live, 0) OR live_bytes <> coalesce(m.bytes, 0) LIMIT 20",
    ),
    (
        "rows are miscounted for batch",
        "SELECT batch.id FROM batch LEFT JOIN
             (SELECT batch, count(*) AS total, sum(state = 1) AS fed, sum(state = 2) AS refused FROM batch_row GROUP BY batch) r
             ON r.batch = batch.id
         WHERE batch.state BETWEEN 1 AND 4 AND (batch.total <> coalesce(r.total, 0) OR batch.fed <> coalesce(r.fed, 0)
             OR batch.refused <> coalesce(r.refused, 0)) LIMIT 20",
    ),
    (
        "rows are left over from batch",
        "SELECT DISTINCT batch FROM batch_row WHERE batch NOT IN (SELECT id FROM batch) LIMIT 20",
    ),
    (
        "the log says that it was removed: suppression",
        "SELECT id FROM suppression s WHERE (SELECT change FROM suppression_change c
             WHERE c.key = s.key AND c.scope = s.scope ORDER BY seq DESC LIMIT 1) IN (2, 3) LIMIT 20",
    ),
    (
        "a suppression is gone that was not removed, see its change",
        "SELECT seq FROM suppression_change c WHERE change IN (0, 1)
             AND NOT EXISTS (SELECT 1 FROM suppression_change d WHERE d.key = c.key AND d.scope = c.scope AND d.seq > c.seq)
             AND NOT EXISTS (SELECT 1 FROM suppression s WHERE s.key = c.key AND s.scope = c.scope) LIMIT 20",
    ),
    (
        "an open message has lost its content",
        "SELECT id FROM message WHERE pending > 0 AND segment IS NULL LIMIT 20",
    ),
];

/// Problems found, in words; empty if all is well.
pub(super) fn verify(connection: &Connection, shared: &Arc<Shared>, deep: bool) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    {
        let _snapshot = Snapshot::start(connection)?;
        structure(connection, &mut problems)?;
        for (words, sql) in CHECKS {
            let mut statement = connection.prepare(sql).map_err(Fault::from)?;
            let mut rows = statement.query([]).map_err(Fault::from)?;
            while let Some(row) = rows.next().map_err(Fault::from)? {
                let id: i64 = row.get(0).map_err(Fault::from)?;
                let name = if words.contains("message") || words.contains("batch") {
                    MessageId(id).to_string()
                } else {
                    id.to_string()
                };
                problems.push(format!("{words} {name}"));
            }
        }
    }
    if deep {
        contents(connection, shared, &mut problems)?;
    }
    problems.truncate(MOST);
    Ok(problems)
}

fn structure(connection: &Connection, problems: &mut Vec<String>) -> Result<(), Fault> {
    let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let found: String = row.get(0)?;
        if found != "ok" {
            problems.push(format!("database: {found}"));
        }
    }
    Ok(())
}

/// Reads every content in small steps, so that the log does not grow meanwhile.
fn contents(connection: &Connection, shared: &Arc<Shared>, problems: &mut Vec<String>) -> Result<(), StoreError> {
    let mut after = -1_i64;
    loop {
        let ids: Vec<i64> = connection
            .prepare_cached("SELECT id FROM message WHERE id > ?1 AND segment IS NOT NULL ORDER BY id LIMIT 500")
            .and_then(|mut statement| statement.query_map([after], |row| row.get(0))?.collect())
            .map_err(Fault::from)?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = *last;
        for id in ids.into_iter().map(MessageId) {
            match content::read(connection, shared, id) {
                Ok(_) | Err(Unreadable::Gone) => {}
                Err(Unreadable::Damaged(why)) => problems.push(format!("message {id}: {why}")),
                Err(Unreadable::Error(error)) => return Err(error),
            }
            if problems.len() >= MOST {
                return Ok(());
            }
        }
    }
}
