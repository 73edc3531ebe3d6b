//! What searches look into, and how it is kept: a table of keys, and the marks of stretches, filled behind the mail in the
//! order of events. What is not added yet is the tail, and a search walks it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fault::Fault;
use super::hooks::newest_event;
use super::shared::Shared;
use super::stretch;
use super::tx::{self, Mode, Tx};
use crate::engine::sought::{PLACE, address_keys, details_key};
use crate::model::*;

/// Events read for one round: their keys are one transaction.
const ROUND: i64 = 5_000;

/// Number of the event up to which keys were added.
pub(super) async fn place(tx: &Tx) -> Result<i64, Fault> {
    let row = tx.query_opt("SELECT value FROM meta WHERE name = $1", &[&PLACE]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

/// Messages that something happened to after an event, at most `most` events behind it, with whether they were accepted there;
/// and the event up to which was looked.
pub(super) async fn touched_after(tx: &Tx, seq: i64, most: i64) -> Result<(BTreeMap<i64, bool>, i64), Fault> {
    let upto = newest_event(tx).await?.min(seq.saturating_add(most)).max(seq);
    let sql = "SELECT message, bool_or(kind = 0) FROM event WHERE seq > $1 AND seq <= $2 GROUP BY message";
    let mut found = BTreeMap::new();
    for row in &tx.query(sql, &[&seq, &upto]).await? {
        found.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok((found, upto))
}

/// All keys of some messages.
async fn keys(tx: &Tx, messages: &[i64]) -> Result<BTreeSet<(String, i64)>, Fault> {
    let mut found = BTreeSet::new();
    for row in &tx.query("SELECT id, details FROM message WHERE id = ANY($1)", &[&messages]).await? {
        let id = row.try_get(0)?;
        found.extend(details_key(row.try_get(1)?)?.map(|key| (super::unit::clean(&key), id)));
    }
    for row in &tx.query("SELECT message, address FROM recipient WHERE message = ANY($1)", &[&messages]).await? {
        address_keys(row.try_get(1)?, row.try_get(0)?, &mut found);
    }
    Ok(found)
}

/// Adds what is missing; gives the number of messages. Where another node is at it, nothing is left to do.
pub(super) async fn catch_up(shared: &Arc<Shared>) -> Result<u64, Fault> {
    let mut added = 0;
    loop {
        let round = tx::run(shared, Mode::Write, Arc::new(()), |tx, _| async move { round(&tx).await }).await?;
        let Some((messages, whole)) = round else { return Ok(added) };
        added += messages;
        if whole {
            return Ok(added);
        }
    }
}

/// One round: messages added, and whether nothing is left. `None`: another node is at it.
async fn round(tx: &Tx) -> Result<Option<(u64, bool)>, Fault> {
    let held = tx.query_opt("SELECT value FROM meta WHERE name = $1 FOR UPDATE SKIP LOCKED", &[&PLACE]).await?;
    let Some(row) = held else { return Ok(None) };
    let place: i64 = row.try_get(0)?;
    let (touched, upto) = touched_after(tx, place, ROUND).await?;
    if upto == place {
        return Ok(Some((0, true)));
    }
    stretch::add(tx, &touched).await?;
    let messages: Vec<i64> = touched.iter().filter(|(_, accepted)| **accepted).map(|(id, _)| *id).collect();
    let (keys, ids): (Vec<String>, Vec<i64>) = keys(tx, &messages).await?.into_iter().unzip();
    if !keys.is_empty() {
        tx.execute(
            "INSERT INTO sought(key, message) SELECT w.key, w.message
             FROM unnest($1::text[], $2::bigint[]) AS w(key, message) ON CONFLICT DO NOTHING",
            &[&keys, &ids],
        )
        .await?;
    }
    tx.execute("UPDATE meta SET value = $2 WHERE name = $1", &[&PLACE, &upto]).await?;
    Ok(Some((messages.len() as u64, upto - place < ROUND)))
}

/// Removes the keys of messages that are about to be removed.
pub(super) async fn forget(tx: &Tx, messages: &[i64]) -> Result<(), Fault> {
    let (keys, ids): (Vec<String>, Vec<i64>) = keys(tx, messages).await?.into_iter().unzip();
    if !keys.is_empty() {
        tx.execute(
            "DELETE FROM sought AS s USING unnest($1::text[], $2::bigint[]) AS gone(key, message)
             WHERE s.key = gone.key AND s.message = gone.message",
            &[&keys, &ids],
        )
        .await?;
    }
    Ok(())
}

/// Candidates of a key in a span, newest first, at most `most`.
pub(super) async fn of_key(tx: &Tx, key: &str, end: i64, lowest: i64, most: i64) -> Result<Vec<MessageId>, Fault> {
    let rows = tx
        .query(
            "SELECT message FROM sought WHERE key = $1 AND message < $2 AND message >= $3 ORDER BY message DESC LIMIT $4",
            &[&super::unit::clean(key), &end, &lowest, &most],
        )
        .await?;
    Ok(rows.iter().map(|row| row.try_get(0).map(MessageId)).collect::<Result<_, _>>()?)
}

/// Messages with a key that begins so; `None`: they are more than `most`.
pub(super) async fn of_prefix(tx: &Tx, prefix: &str, most: usize) -> Result<Option<BTreeSet<MessageId>>, Fault> {
    let prefix = super::unit::clean(prefix);
    let rows = tx
        .query(
            "SELECT message FROM sought WHERE key >= $1 AND key < $2 LIMIT $3",
            &[&prefix, &format!("{prefix}\u{10ffff}"), &(most as i64 + 1)],
        )
        .await?;
    if rows.len() > most {
        return Ok(None);
    }
    Ok(Some(rows.iter().map(|row| row.try_get(0).map(MessageId)).collect::<Result<_, _>>()?))
}
