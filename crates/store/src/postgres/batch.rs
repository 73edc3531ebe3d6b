//! Batches, the writing side: rows come in out of sight, become visible by one update, and each is taken once.
//!
//! Whoever takes rows, refuses one or changes a batch holds the batch's row until the commit: its counts are exact, and
//! after a pause or a cancellation no row becomes a message any more.

use std::collections::{BTreeMap, HashMap};

use super::batch_read;
use super::columns::signed;
use super::fault::Fault;
use super::suppress::STEP;
use super::tx::Tx;
use super::unit::{clean, number};
use crate::StoreError;
use crate::engine::batched::{self, REMOVED, STAGED};
use crate::model::*;

/// An idempotency key answers for a day.
const KEY_MS: i64 = 86_400_000;
/// Rows removed in a step: they are small.
const ROWS: i64 = 10 * STEP;

/// Begins to take a batch in.
pub(super) async fn begin(tx: &Tx, batch: &NewBatch) -> Result<(), Fault> {
    let (id, state, by) = (batch.id.0, i16::from(STAGED), batch.by.0);
    let (sender, stream, label) = (clean(&batch.sender), clean(&batch.stream), clean(&batch.label));
    let body = clean(&batch.body);
    tx.pipeline(&[
        (
            "INSERT INTO batch(id, state, by, sender, stream, label, created, start, spread, test)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                &id,
                &state,
                &by,
                &sender,
                &stream,
                &label,
                &batch.created_ms,
                &batch.start_ms,
                &batch.spread_ms,
                &batch.test,
            ],
        ),
        ("INSERT INTO batch_body(batch, body) VALUES ($1, $2)", &[&id, &body]),
    ])
    .await?;
    Ok(())
}

/// Locks a batch that comes in.
async fn expect_staged(tx: &Tx, id: BatchId) -> Result<(), Fault> {
    let row = tx.query_opt("SELECT state FROM batch WHERE id = $1 FOR UPDATE", &[&id.0]).await?;
    match row.map(|row| row.try_get::<_, i16>(0)).transpose()? {
        Some(state) if state == i16::from(STAGED) => Ok(()),
        _ => Err(StoreError::NotFound.into()),
    }
}

/// Adds rows to a batch that comes in.
pub(super) async fn add_rows(tx: &Tx, id: BatchId, rows: &[NewRow]) -> Result<(), Fault> {
    expect_staged(tx, id).await?;
    let numbers: Vec<i32> = rows.iter().map(|row| signed(row.n)).collect();
    let addresses: Vec<&str> = rows.iter().map(|row| row.address.as_str()).collect();
    let data: Vec<String> = rows.iter().map(|row| clean(&row.data)).collect();
    tx.execute(
        "INSERT INTO batch_row(batch, n, state, address, data)
         SELECT $1, r.n, 0, r.address, r.data FROM unnest($2::integer[], $3::text[], $4::text[]) AS r(n, address, data)",
        &[&id.0, &numbers, &addresses, &data],
    )
    .await?;
    Ok(())
}

/// Makes a batch visible as a whole.
pub(super) async fn commit(tx: &Tx, id: BatchId, commit: &BatchCommit) -> Result<BatchAccepted, Fault> {
    expect_staged(tx, id).await?;
    if let Some(key) = &commit.idempotency {
        let earlier = match take_key(tx, key, commit.now_ms).await? {
            Some(Accepted::Replayed(answer)) => Some(BatchAccepted::Replayed(answer)),
            Some(_) => Some(BatchAccepted::KeyConflict),
            None => None,
        };
        if let Some(earlier) = earlier {
            drop_staged(tx, id).await?;
            return Ok(earlier);
        }
    }
    let row = tx.query_one("SELECT count(*), max(n) FROM batch_row WHERE batch = $1", &[&id.0]).await?;
    let (rows, last): (i64, Option<i32>) = (row.try_get(0)?, row.try_get(1)?);
    batched::check_whole(commit.rows, u32::try_from(rows).unwrap_or(u32::MAX), last.map(number))?;
    let running = BatchState::Running as i16;
    tx.execute("UPDATE batch SET state = $2, total = $3 WHERE id = $1", &[&id.0, &running, &rows]).await?;
    Ok(BatchAccepted::Committed)
}

/// Takes a key for this answer, or gives what it was used for before. Who asks with the same key meanwhile waits for the
/// end of this transaction.
pub(super) async fn take_key(tx: &Tx, key: &Idempotency, now_ms: i64) -> Result<Option<Accepted>, Fault> {
    let (sender, name, answer) = (clean(&key.sender), clean(&key.key), clean(&key.answer));
    let taken = tx
        .execute(
            "INSERT INTO idempotency(sender, key, fingerprint, answer, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (sender, key) DO UPDATE SET fingerprint = excluded.fingerprint, answer = excluded.answer,
                 at = excluded.at WHERE idempotency.at <= $6",
            &[&sender, &name, &&key.fingerprint[..], &answer, &now_ms, &now_ms.saturating_sub(KEY_MS)],
        )
        .await?;
    if taken > 0 {
        return Ok(None);
    }
    let sql = "SELECT fingerprint, answer FROM idempotency WHERE sender = $1 AND key = $2";
    let row = tx.query_one(sql, &[&sender, &name]).await?;
    let fingerprint: &[u8] = row.try_get(0)?;
    let same = fingerprint == key.fingerprint;
    Ok(Some(if same { Accepted::Replayed(row.try_get(1)?) } else { Accepted::KeyConflict }))
}

/// Gives up a batch that was begun and not committed.
pub(super) async fn drop_staged(tx: &Tx, id: BatchId) -> Result<(), Fault> {
    let (removed, staged) = (i16::from(REMOVED), i16::from(STAGED));
    tx.execute("UPDATE batch SET state = $2 WHERE id = $1 AND state = $3", &[&id.0, &removed, &staged]).await?;
    Ok(())
}

/// Changes a batch; gives it as it is then.
pub(super) async fn change(tx: &Tx, id: BatchId, change: &BatchChange, now_ms: i64) -> Result<BatchView, Fault> {
    let view = batch_read::view(tx, id, batch_read::Lock::Change).await?;
    if !batched::applies(change, &view)? {
        return Ok(view);
    }
    match change {
        BatchChange::Pause { why } => {
            update(tx, "state = 2, paused_at = $2, why = $3", id, now_ms, Some(why)).await?;
        }
        BatchChange::Resume => {
            let set =
                "state = 1, paused = paused + greatest(0, $2 - coalesce(paused_at, $2)), paused_at = NULL, why = $3";
            update(tx, set, id, now_ms, None).await?;
        }
        BatchChange::Cancel { why } => end(tx, 3, id, now_ms, Some(why)).await?,
        BatchChange::Note(why) => {
            tx.execute("UPDATE batch SET why = $2 WHERE id = $1", &[&id.0, &why.as_deref().map(clean)]).await?;
        }
        BatchChange::Finish if has_open_messages(tx, id).await? => {}
        BatchChange::Finish => end(tx, 4, id, now_ms, None).await?,
    }
    batch_read::view(tx, id, batch_read::Lock::None).await
}

async fn has_open_messages(tx: &Tx, id: BatchId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM message WHERE batch = $1 AND pending > 0 LIMIT 1";
    Ok(tx.query_opt(sql, &[&id.0]).await?.is_some())
}

async fn update(tx: &Tx, set: &str, id: BatchId, now_ms: i64, why: Option<&str>) -> Result<(), Fault> {
    let sql = format!("UPDATE batch SET {set} WHERE id = $1");
    tx.execute(&sql, &[&id.0, &now_ms, &why.map(clean)]).await?;
    Ok(())
}

/// It becomes final: nobody needs its body any more.
async fn end(tx: &Tx, state: i16, id: BatchId, now_ms: i64, why: Option<&str>) -> Result<(), Fault> {
    tx.pipeline(&[
        (
            "UPDATE batch SET state = $2, finished = $3, why = $4 WHERE id = $1",
            &[&id.0, &state, &now_ms, &why.map(clean)],
        ),
        ("DELETE FROM batch_body WHERE batch = $1", &[&id.0]),
    ])
    .await?;
    Ok(())
}

/// Marks rows as become these messages. False: done with before, or its batch is not running.
pub(super) async fn take_rows(tx: &Tx, wanted: &[(RowRef, MessageId)]) -> Result<Vec<bool>, Fault> {
    let mut first: BTreeMap<(i64, u32), MessageId> = BTreeMap::new();
    for (row, message) in wanted {
        first.entry((row.batch.0, row.row)).or_insert(*message);
    }
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let batches: Vec<i64> = first.keys().map(|(batch, _)| *batch).collect();
    let running =
        tx.query("SELECT id FROM batch WHERE id = ANY($1) AND state = 1 ORDER BY id FOR UPDATE", &[&batches]).await?;
    let running = running.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let (mut batches, mut numbers, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for ((batch, n), message) in first.iter().filter(|((batch, _), _)| running.contains(batch)) {
        batches.push(*batch);
        numbers.push(signed(*n));
        messages.push(message.0);
    }
    if batches.is_empty() {
        return Ok(vec![false; wanted.len()]);
    }
    let taken = tx
        .query(
            "UPDATE batch_row AS r SET state = 1, message = w.message, data = NULL
             FROM unnest($1::bigint[], $2::integer[], $3::bigint[]) AS w(batch, n, message)
             WHERE r.batch = w.batch AND r.n = w.n AND r.state = 0 RETURNING r.batch, r.message",
            &[&batches, &numbers, &messages],
        )
        .await?;
    let mut fed: BTreeMap<i64, i64> = BTreeMap::new();
    let mut won: HashMap<i64, i64> = HashMap::new();
    for row in &taken {
        let (batch, message): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        *fed.entry(batch).or_default() += 1;
        won.insert(message, batch);
    }
    if !fed.is_empty() {
        let (batches, counts): (Vec<i64>, Vec<i64>) = fed.into_iter().unzip();
        tx.execute(
            "UPDATE batch AS b SET fed = b.fed + w.fed FROM unnest($1::bigint[], $2::bigint[]) AS w(id, fed)
             WHERE b.id = w.id",
            &[&batches, &counts],
        )
        .await?;
    }
    Ok(wanted.iter().map(|(_, message)| won.contains_key(&message.0)).collect())
}

/// Notes that no message can be made of a row.
pub(super) async fn refuse_row(tx: &Tx, row: RowRef, why: &str) -> Result<bool, Fault> {
    tx.query("SELECT 1 FROM batch WHERE id = $1 FOR UPDATE", &[&row.batch.0]).await?;
    let refused = tx
        .execute(
            "UPDATE batch_row SET state = 2, why = $3, data = NULL WHERE batch = $1 AND n = $2 AND state = 0",
            &[&row.batch.0, &signed(row.row), &clean(why)],
        )
        .await?;
    if refused > 0 {
        tx.execute("UPDATE batch SET refused = refused + 1 WHERE id = $1", &[&row.batch.0]).await?;
    }
    Ok(refused > 0)
}

/// One step of removing batches: first their rows. What still has open messages stays, and so does what a living run is
/// taking in.
pub(super) async fn remove(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    let (removed, staged) = (i16::from(REMOVED), i16::from(STAGED));
    tx.execute(
        "UPDATE batch SET state = $1 WHERE id IN (SELECT id FROM batch
             WHERE state = $2 AND NOT EXISTS (SELECT 1 FROM node AS run
                     WHERE run.incarnation = batch.by AND run.alive_until > now() AND NOT EXISTS
                         (SELECT 1 FROM node AS later WHERE later.name = run.name AND later.incarnation > run.incarnation))
                 OR state IN (3, 4) AND finished <= $3
                     AND NOT EXISTS (SELECT 1 FROM message WHERE message.batch = batch.id AND pending > 0)
             ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED)",
        &[&removed, &staged, &before_ms],
    )
    .await?;
    // Another node may be at it: each takes one of its own.
    let found = tx
        .query_opt("SELECT id FROM batch WHERE state = $1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", &[&removed])
        .await?;
    let Some(row) = found else { return Ok(0) };
    let id: i64 = row.try_get(0)?;
    let gone = tx
        .execute(
            "DELETE FROM batch_row WHERE batch = $1 AND n IN
                 (SELECT n FROM batch_row WHERE batch = $1 ORDER BY n LIMIT $2)",
            &[&id, &ROWS],
        )
        .await?;
    if gone == 0 {
        tx.pipeline(&[
            ("DELETE FROM batch_body WHERE batch = $1", &[&id]),
            ("DELETE FROM batch WHERE id = $1", &[&id]),
        ])
        .await?;
    }
    // Never less than a step: there may be more.
    Ok(STEP as u64)
}
