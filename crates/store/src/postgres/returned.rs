//! Mail that came back: rows that wait, rows that are kept, and where mailboxes were read up to.

use bytes::Bytes;

use super::fault::Fault;
use super::suppress::STEP;
use super::tx::Tx;
use super::unit::clean;
use crate::StoreError;
use crate::engine::bounded;
use crate::engine::returned::{LOOK, Needle, PAGE, TRACED, bounds, list_number, read_note};
use crate::model::*;

/// Keeps others from taking mail in, or from making room, until the commit: the bounds hold for all nodes together.
async fn lock(tx: &Tx) -> Result<(), Fault> {
    tx.query_one("SELECT value FROM counter WHERE name = 'returned' FOR UPDATE", &[]).await?;
    Ok(())
}

/// Takes a mail in, unless its mailbox was read this far before or too much waits.
pub(super) async fn keep(tx: &Tx, mail: &NewReturned) -> Result<Kept, Fault> {
    lock(tx).await?;
    if let Some((name, place)) = &mail.place {
        let before = mailbox_place(tx, name).await?;
        if before.is_some_and(|before| before.validity == place.validity && before.uid >= place.uid) {
            return Ok(Kept::Repeated);
        }
    }
    let waiting =
        tx.query_one("SELECT count(*), coalesce(sum(size), 0)::bigint FROM returned WHERE list IS NULL", &[]).await?;
    let (waiting, octets): (i64, i64) = (waiting.try_get(0)?, waiting.try_get(1)?);
    let octets = octets.unsigned_abs().saturating_add(mail.content.len() as u64);
    if waiting >= i64::from(MOST_RETURNED) || octets > MOST_RETURNED_OCTETS {
        return Ok(Kept::TooMany);
    }
    tx.execute(
        "INSERT INTO returned(at, source, recipient, due, size, content) VALUES ($1, $2, $3, $1, $4, $5)",
        &[
            &mail.at_ms,
            &clean(&mail.source),
            &mail.recipient.as_deref().map(clean),
            &(mail.content.len() as i64),
            &&mail.content[..],
        ],
    )
    .await?;
    if let Some((name, place)) = &mail.place {
        move_mailbox(tx, name, *place).await?;
    }
    Ok(Kept::Durable)
}

/// Notes how far a mailbox was read.
pub(super) async fn move_mailbox(tx: &Tx, name: &str, place: MailboxPlace) -> Result<u64, Fault> {
    tx.execute(
        "INSERT INTO mailbox(name, validity, uid) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET validity = excluded.validity, uid = excluded.uid
             WHERE mailbox.validity <> excluded.validity OR mailbox.uid < excluded.uid",
        &[&clean(name), &i64::from(place.validity), &i64::from(place.uid)],
    )
    .await
}

/// How far a mailbox was read.
pub(super) async fn mailbox_place(tx: &Tx, name: &str) -> Result<Option<MailboxPlace>, Fault> {
    let Some(row) = tx.query_opt("SELECT validity, uid FROM mailbox WHERE name = $1", &[&clean(name)]).await? else {
        return Ok(None);
    };
    let (validity, uid): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let number = |number: i64| {
        u32::try_from(number).map_err(|_| StoreError::Internal(format!("{number} is no place in a mailbox")))
    };
    Ok(Some(MailboxPlace { validity: number(validity)?, uid: number(uid)? }))
}

/// Notes what a mail turned out to be.
pub(super) async fn settle(tx: &Tx, id: i64, fate: &ReturnedFate, note: Option<&str>) -> Result<u64, Fault> {
    match fate {
        ReturnedFate::Done => return tx.execute("DELETE FROM returned WHERE id = $1 AND list IS NULL", &[&id]).await,
        ReturnedFate::Later(due_ms) => {
            let sql = "UPDATE returned SET due = $2 WHERE id = $1 AND list IS NULL";
            return tx.execute(sql, &[&id, due_ms]).await;
        }
        ReturnedFate::Unmatched(_) | ReturnedFate::Reports(_) => {}
    }
    let Some((list, most, octets)) = bounds(fate) else { return Ok(0) };
    lock(tx).await?;
    let changed = tx
        .execute(
            "UPDATE returned SET list = $2, due = NULL, note = $3 WHERE id = $1 AND list IS NULL",
            &[&id, &(list_number(list) as i16), &note],
        )
        .await?;
    if changed > 0 {
        make_room(tx, list, most, octets).await?;
    }
    Ok(changed)
}

/// The oldest of a list give way.
async fn make_room(tx: &Tx, list: ReturnedList, most: u32, octets: u64) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM returned WHERE list = $1 AND id IN
             (SELECT id FROM (SELECT id, row_number() OVER newest AS place, sum(size) OVER newest AS total
              FROM returned WHERE list = $1 WINDOW newest AS (ORDER BY id DESC)) AS kept
              WHERE place > $2 OR (total > $3::bigint AND place > 1))",
        &[&(list_number(list) as i16), &i64::from(most), &(octets as i64)],
    )
    .await?;
    Ok(())
}

/// Removes kept mails; `None`: all of the list.
pub(super) async fn forget(tx: &Tx, list: ReturnedList, id: Option<i64>) -> Result<u64, Fault> {
    let sql = "DELETE FROM returned WHERE list = $1 AND ($2::bigint IS NULL OR id = $2)";
    tx.execute(sql, &[&(list_number(list) as i16), &id]).await
}

/// Removes kept mails that are past their time.
pub(super) async fn forget_old(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    tx.execute(
        "DELETE FROM returned WHERE id IN
             (SELECT id FROM returned WHERE list IS NOT NULL AND at <= $1 ORDER BY id LIMIT $2)",
        &[&before_ms, &STEP],
    )
    .await
}

/// Mails to be read, the longest due first.
pub(super) async fn due(tx: &Tx, now_ms: i64, limit: u32) -> Result<Vec<Returned>, Fault> {
    let rows = tx
        .query(
            "SELECT id, source, recipient, at, content FROM returned
             WHERE list IS NULL AND due <= $1 ORDER BY due, id LIMIT $2",
            &[&now_ms, &i64::from(limit.clamp(1, PAGE))],
        )
        .await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Returned {
            id: row.try_get(0)?,
            source: row.try_get(1)?,
            recipient: row.try_get(2)?,
            at_ms: row.try_get(3)?,
            content: Bytes::from(row.try_get::<_, Vec<u8>>(4)?),
        })
    };
    rows.iter().map(read).collect()
}

/// Kept mails, newest first.
pub(super) async fn list(
    tx: &Tx,
    list: ReturnedList,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<ReturnedView>, Fault> {
    let rows = tx
        .query(
            "SELECT id, source, recipient, at, size, note FROM returned
             WHERE list = $1 AND list IS NOT NULL AND id < $2 ORDER BY id DESC LIMIT $3",
            &[&(list_number(list) as i16), &before.unwrap_or(i64::MAX), &(bounded(limit) as i64)],
        )
        .await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(ReturnedView {
            id: row.try_get(0)?,
            source: row.try_get(1)?,
            recipient: row.try_get(2)?,
            at_ms: row.try_get(3)?,
            size: row.try_get::<_, i64>(4)?.unsigned_abs(),
            note: read_note(row.try_get(5)?)?,
        })
    };
    rows.iter().map(read).collect()
}

/// The octets of a kept mail.
pub(super) async fn content(tx: &Tx, id: i64) -> Result<Bytes, Fault> {
    let found = tx.query_opt("SELECT content FROM returned WHERE id = $1", &[&id]).await?;
    let found = found.ok_or(StoreError::NotFound)?;
    Ok(Bytes::from(found.try_get::<_, Vec<u8>>(0)?))
}

/// Messages with such a trace. Looks from the newest on; the text is compared in Rust after the server has thrown out
/// nearly all rows.
pub(super) async fn traced(tx: &Tx, trace: &Trace) -> Result<Vec<MessageId>, Fault> {
    let mut found: Vec<MessageId> = Vec::new();
    let Some(needle) = Needle::new(trace) else { return Ok(found) };
    let sql = match trace {
        Trace::HeaderId(_) => {
            "SELECT id, details FROM (SELECT id, details FROM message ORDER BY id DESC LIMIT $1) AS newest
             WHERE strpos(details, $2) > 0 ORDER BY id DESC"
        }
        Trace::Queued(_) => {
            "SELECT message, attempt FROM (SELECT seq, message, attempt FROM event ORDER BY seq DESC LIMIT $1) AS newest
             WHERE strpos(attempt, $2) > 0 ORDER BY seq DESC"
        }
    };
    for row in tx.query(sql, &[&LOOK, &clean(needle.inside())]).await? {
        let id = MessageId(row.try_get(0)?);
        if needle.is_in(row.try_get(1)?) && !found.contains(&id) {
            found.push(id);
            if found.len() >= TRACED {
                break;
            }
        }
    }
    Ok(found)
}
