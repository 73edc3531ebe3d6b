//! Looking for damage: counts that must agree, and on request every content. The pages themselves are the server's to check
//! (`pg_amcheck`, checksums).

use std::sync::Arc;

use futures_util::future::join_all;

use super::content::{self, Found};
use super::fault::Fault;
use super::shared::Shared;
use super::tx::{self, Mode, Tx};
use crate::model::*;

/// Most problems told.
const MOST: usize = 100;
/// Octets of contents that are in memory together, but for one that is larger.
const AT_ONCE: i64 = 16 << 20;

/// Questions that must have no answer.
const CHECKS: &[(&str, &str)] = &[
    (
        "lane counts differ from the recipients of lane",
        "SELECT lane.id FROM lane LEFT JOIN
             (SELECT lane, count(*) FILTER (WHERE state = 0) AS waiting, count(*) FILTER (WHERE state = 2) AS held
              FROM recipient WHERE state <= 2 GROUP BY lane) r ON r.lane = lane.id
         WHERE lane.waiting <> coalesce(r.waiting, 0) OR lane.held <> coalesce(r.held, 0) LIMIT 20",
    ),
    (
        "the next due time is wrong for lane",
        "SELECT id FROM lane WHERE next_due IS DISTINCT FROM
             (SELECT min(due) FROM recipient WHERE recipient.lane = lane.id AND state = 0) LIMIT 20",
    ),
    (
        "an open recipient is in no lane, see message",
        "SELECT DISTINCT message FROM recipient r WHERE state <= 2
             AND NOT EXISTS (SELECT 1 FROM lane WHERE lane.id = r.lane) LIMIT 20",
    ),
    (
        "open recipients are miscounted for message",
        "SELECT id FROM message LEFT JOIN (SELECT message, count(*) AS open FROM recipient WHERE state <= 2 GROUP BY message) r
             ON r.message = message.id WHERE message.pending <> coalesce(r.open, 0) LIMIT 20",
    ),
    (
        "recipients are left over from message",
        "SELECT DISTINCT message FROM recipient r WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = r.message) LIMIT 20",
    ),
    (
        "a waiting or leased recipient has no due time or run in message",
        "SELECT message FROM recipient WHERE (state = 0) <> (due IS NOT NULL) OR (state = 1) <> (lease > 0) LIMIT 20",
    ),
    (
        "rows are miscounted for batch",
        "SELECT batch.id FROM batch LEFT JOIN
             (SELECT batch, count(*) AS total, count(*) FILTER (WHERE state = 1) AS fed,
                  count(*) FILTER (WHERE state = 2) AS refused FROM batch_row GROUP BY batch) r ON r.batch = batch.id
         WHERE batch.state BETWEEN 1 AND 4 AND (batch.total <> coalesce(r.total, 0) OR batch.fed <> coalesce(r.fed, 0)
             OR batch.refused <> coalesce(r.refused, 0)) LIMIT 20",
    ),
    (
        "rows are left over from batch",
        "SELECT DISTINCT batch FROM batch_row r WHERE NOT EXISTS (SELECT 1 FROM batch WHERE batch.id = r.batch) LIMIT 20",
    ),
    (
        "the log says that a suppression was removed which is there, see its change",
        "SELECT c.seq FROM suppression s CROSS JOIN LATERAL (SELECT seq, change FROM suppression_change c
             WHERE c.key = s.key AND c.scope = s.scope ORDER BY seq DESC LIMIT 1) c WHERE c.change IN (2, 3) LIMIT 20",
    ),
    (
        "a suppression is gone that was not removed, see its change",
        "SELECT seq FROM suppression_change c WHERE change IN (0, 1)
             AND NOT EXISTS (SELECT 1 FROM suppression_change d WHERE d.key = c.key AND d.scope = c.scope AND d.seq > c.seq)
             AND NOT EXISTS (SELECT 1 FROM suppression s WHERE s.key = c.key AND s.scope = c.scope) LIMIT 20",
    ),
    ("an open message has lost its content", "SELECT id FROM message WHERE pending > 0 AND NOT stored LIMIT 20"),
    (
        "content is left over from message",
        "SELECT DISTINCT message FROM content c WHERE NOT EXISTS (SELECT 1 FROM message WHERE id = c.message AND stored) LIMIT 20",
    ),
];

/// Problems found, in words; empty if all is well.
pub(super) async fn verify(shared: &Arc<Shared>, deep: bool) -> Result<Vec<String>, Fault> {
    let mut problems = tx::run(shared, Mode::Snapshot, Arc::new(()), |tx, _| async move { checks(&tx).await }).await?;
    if deep {
        contents(shared, &mut problems).await?;
    }
    problems.truncate(MOST);
    Ok(problems)
}

async fn checks(tx: &Tx) -> Result<Vec<String>, Fault> {
    // Some of it reads all there is.
    tx.take_time().await?;
    let mut problems = Vec::new();
    for (words, sql) in CHECKS {
        for row in &tx.query(sql, &[]).await? {
            let id: i64 = row.try_get(0)?;
            let named = words.contains("message") || words.contains("batch");
            let name = if named { MessageId(id).to_string() } else { id.to_string() };
            problems.push(format!("{words} {name}"));
        }
    }
    Ok(problems)
}

/// Reads every content, as many at once as are small together.
async fn contents(shared: &Arc<Shared>, problems: &mut Vec<String>) -> Result<(), Fault> {
    let mut after = -1;
    loop {
        let verb = |tx: Arc<Tx>, after: Arc<i64>| async move { some_contents(&tx, *after).await };
        let (found, last) = tx::run(shared, Mode::Snapshot, Arc::new(after), verb).await?;
        problems.extend(found);
        match last {
            Some(last) if problems.len() < MOST => after = last,
            _ => return Ok(()),
        }
    }
}

/// Damaged contents of the next messages, and the last of these.
async fn some_contents(tx: &Tx, after: i64) -> Result<(Vec<String>, Option<i64>), Fault> {
    let sql = "SELECT id, size FROM message WHERE id > $1 AND stored ORDER BY id LIMIT 100";
    let (mut ids, mut octets) = (Vec::new(), 0);
    for row in &tx.query(sql, &[&after]).await? {
        octets += row.try_get::<_, i64>(1)?;
        if octets > AT_ONCE && !ids.is_empty() {
            break;
        }
        ids.push(row.try_get::<_, i64>(0)?);
    }
    let read = |id: &i64| {
        let id = MessageId(*id);
        async move { (id, content::read(tx, id).await) }
    };
    let mut found = Vec::new();
    for (id, read) in join_all(ids.iter().map(read)).await {
        if let Found::Damaged(why) = read? {
            found.push(format!("message {id}: {why}"));
        }
    }
    Ok((found, ids.last().copied()))
}
