//! Batches, the reading side: what is to be done, what became of each row, and how many are where.

use tokio_postgres::Row;

use super::fault::Fault;
use super::tx::Tx;
use super::unit::{number, state};
use crate::engine::batched;
use crate::engine::bounded;
use crate::model::*;
use crate::{StoreError, encode};

const COLUMNS: &str =
    "id, sender, stream, label, state, why, created, start, spread, paused, paused_at, finished, test,
     total, fed, refused";

fn read_batch(row: &Row) -> Result<BatchView, Fault> {
    let small =
        |column: usize| -> Result<u32, Fault> { Ok(u32::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0)) };
    Ok(BatchView {
        id: BatchId(row.try_get(0)?),
        sender: row.try_get::<_, &str>(1)?.into(),
        stream: row.try_get::<_, &str>(2)?.into(),
        label: row.try_get(3)?,
        state: batched::state(row.try_get::<_, i16>(4)?.into()),
        why: row.try_get(5)?,
        created_ms: row.try_get(6)?,
        start_ms: row.try_get(7)?,
        spread_ms: row.try_get(8)?,
        paused_ms: row.try_get(9)?,
        paused_at_ms: row.try_get(10)?,
        finished_ms: row.try_get(11)?,
        test: row.try_get(12)?,
        total: small(13)?,
        fed: small(14)?,
        refused: small(15)?,
    })
}

/// Whether a batch is only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    None,
    Change,
}

/// One batch.
pub(super) async fn view(tx: &Tx, id: BatchId, lock: Lock) -> Result<BatchView, Fault> {
    let lock = if lock == Lock::Change { "FOR UPDATE" } else { "" };
    let sql = format!("SELECT {COLUMNS} FROM batch WHERE id = $1 AND state BETWEEN 1 AND 4 {lock}");
    let row = tx.query_opt(&sql, &[&id.0]).await?;
    read_batch(&row.ok_or(StoreError::NotFound)?)
}

/// Batches, newest first.
pub(super) async fn list(
    tx: &Tx,
    sender: Option<&str>,
    before: Option<BatchId>,
    limit: u32,
) -> Result<Vec<BatchView>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM batch WHERE id < $1 AND state BETWEEN 1 AND 4 AND ($2::text IS NULL OR sender = $2)
         ORDER BY id DESC LIMIT $3"
    );
    let before = before.map_or(i64::MAX, |id| id.0);
    let rows = tx.query(&sql, &[&before, &sender, &(bounded(limit) as i64)]).await?;
    rows.iter().map(read_batch).collect()
}

/// Those that are running, oldest first.
pub(super) async fn running(tx: &Tx, limit: u32) -> Result<Vec<BatchView>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM batch WHERE state = 1 ORDER BY id LIMIT $1");
    let rows = tx.query(&sql, &[&(bounded(limit) as i64)]).await?;
    rows.iter().map(read_batch).collect()
}

/// Its body.
pub(super) async fn body(tx: &Tx, id: BatchId) -> Result<String, Fault> {
    let row = tx.query_opt("SELECT body FROM batch_body WHERE batch = $1", &[&id.0]).await?;
    Ok(row.ok_or(StoreError::NotFound)?.try_get(0)?)
}

/// Its messages that are not final.
pub(super) async fn load(tx: &Tx, id: BatchId) -> Result<BatchLoad, Fault> {
    let row = tx
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE r.state <= 1 AND r.attempts = 0), coalesce(sum(m.size), 0)::bigint
             FROM message AS m JOIN recipient AS r ON r.message = m.id AND r.n = 0
             WHERE m.batch = $1 AND m.pending > 0",
            &[&id.0],
        )
        .await?;
    let number = |column: usize| -> Result<u64, Fault> { Ok(row.try_get::<_, i64>(column)?.unsigned_abs()) };
    Ok(BatchLoad { open: number(0)?, fresh: number(1)?, octets: number(2)? })
}

fn behind(after: Option<u32>) -> i32 {
    after.map_or(-1, super::columns::signed)
}

/// Rows to make messages of.
pub(super) async fn next_rows(tx: &Tx, id: BatchId, after: Option<u32>, limit: u32) -> Result<Vec<BatchRow>, Fault> {
    let rows = tx
        .query(
            "SELECT n, data FROM batch_row WHERE batch = $1 AND n > $2 AND state = 0 AND data IS NOT NULL
             ORDER BY n LIMIT $3",
            &[&id.0, &behind(after), &(bounded(limit) as i64)],
        )
        .await?;
    rows.iter().map(|row| Ok(BatchRow { n: number(row.try_get(0)?), data: row.try_get(1)? })).collect()
}

/// A row's state as one number, see [`batched::row_number`].
const STATE: &str = "CASE WHEN b.state = 2 THEN -2
     WHEN b.state = 0 AND batch.state = 3 THEN 6 WHEN b.state = 0 THEN -1
     WHEN r.state IS NULL THEN -3 ELSE r.state END";
const FROM: &str = "FROM batch JOIN batch_row AS b ON b.batch = batch.id
     LEFT JOIN recipient AS r ON r.message = b.message AND r.n = 0";

fn row_state(number: i32) -> RowState {
    match number {
        -1 => RowState::Queued,
        -2 => RowState::Refused,
        number => match i16::try_from(number) {
            Ok(number) if number >= 0 => RowState::Of(state(number)),
            _ => RowState::Gone,
        },
    }
}

/// Its rows in order.
pub(super) async fn rows(
    tx: &Tx,
    id: BatchId,
    wanted: Option<RowState>,
    after: Option<u32>,
    limit: u32,
) -> Result<Vec<RowView>, Fault> {
    view(tx, id, Lock::None).await?;
    let sql = format!(
        "SELECT b.n, b.address, {STATE}, b.message, coalesce(r.attempts, 0), r.due, coalesce(b.why, r.why), r.cause
         {FROM} WHERE batch.id = $1 AND b.n > $2 AND ($3::integer IS NULL OR {STATE} = $3) ORDER BY b.n LIMIT $4"
    );
    let wanted = wanted.map(|wanted| batched::row_number(wanted) as i32);
    let rows = tx.query(&sql, &[&id.0, &behind(after), &wanted, &(bounded(limit) as i64)]).await?;
    let read = |row: &Row| {
        Ok(RowView {
            n: number(row.try_get(0)?),
            address: encode::read_address(row.try_get(1)?)?,
            state: row_state(row.try_get(2)?),
            message: row.try_get::<_, Option<i64>>(3)?.map(MessageId),
            attempts: number(row.try_get(4)?),
            due_ms: row.try_get(5)?,
            why: row.try_get(6)?,
            cause: encode::read_cause(row.try_get(7)?)?,
        })
    };
    rows.iter().map(read).collect()
}

/// How many rows are in which state.
pub(super) async fn counts(tx: &Tx, id: BatchId) -> Result<Vec<(RowState, u64)>, Fault> {
    view(tx, id, Lock::None).await?;
    let sql = format!(
        "SELECT s, count(*) FROM (SELECT {STATE} AS s {FROM} WHERE batch.id = $1) AS states GROUP BY s ORDER BY s"
    );
    let rows = tx.query(&sql, &[&id.0]).await?;
    rows.iter().map(|row| Ok((row_state(row.try_get(0)?), row.try_get::<_, i64>(1)?.unsigned_abs()))).collect()
}
