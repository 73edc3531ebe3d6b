//! Idempotency keys: a request that is repeated gets the answer that the first one got.

use std::collections::{BTreeMap, HashMap};

use super::fault::Fault;
use super::tx::Tx;
use super::unit::clean;
use crate::model::*;

/// A key answers for a day.
pub(super) const KEY_MS: i64 = 86_400_000;

/// A sender and its key.
type Name = (String, String);

fn name(key: &Idempotency) -> Name {
    (clean(&key.sender), clean(&key.key))
}

fn answer(key: &Idempotency, fingerprint: &[u8], answer: &str) -> Accepted {
    if fingerprint == key.fingerprint { Accepted::Replayed(answer.to_owned()) } else { Accepted::KeyConflict }
}

/// Takes keys for their requests, each with the time it is asked at; where one was used before, gives the answer. Who asks
/// with the same key meanwhile, on any node, waits for the end of this transaction.
pub(super) async fn take(tx: &Tx, wanted: &[(&Idempotency, i64)]) -> Result<Vec<Option<Accepted>>, Fault> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut first: BTreeMap<Name, usize> = BTreeMap::new();
    for (index, (key, _)) in wanted.iter().enumerate() {
        first.entry(name(key)).or_insert(index);
    }
    let (mut senders, mut keys, mut fingerprints, mut answers, mut times) = (vec![], vec![], vec![], vec![], vec![]);
    for ((sender, key), index) in &first {
        let (own, at_ms) = &wanted[*index];
        senders.push(sender.as_str());
        keys.push(key.as_str());
        fingerprints.push(&own.fingerprint[..]);
        answers.push(clean(&own.answer));
        times.push(*at_ms);
    }
    let taken = tx
        .query(
            "INSERT INTO idempotency AS i (sender, key, fingerprint, answer, at)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[])
             ON CONFLICT (sender, key) DO UPDATE SET fingerprint = excluded.fingerprint, answer = excluded.answer,
                 at = excluded.at WHERE i.at <= excluded.at - $6
             RETURNING i.sender, i.key",
            &[&senders, &keys, &fingerprints, &answers, &times, &KEY_MS],
        )
        .await?;
    let mut ours: HashMap<Name, ()> = HashMap::with_capacity(taken.len());
    for row in taken {
        ours.insert((row.try_get(0)?, row.try_get(1)?), ());
    }
    let earlier = if ours.len() < first.len() { find(tx, &senders, &keys).await? } else { HashMap::new() };
    let judged = wanted.iter().enumerate().map(|(index, (key, _))| {
        let name = name(key);
        let holder = first.get(&name).copied().unwrap_or(index);
        match ours.contains_key(&name) {
            true if holder == index => None,
            // Twice in the same transaction.
            true => Some(answer(key, &wanted[holder].0.fingerprint, &wanted[holder].0.answer)),
            false => match earlier.get(&name) {
                Some((fingerprint, text)) => Some(answer(key, fingerprint, text)),
                None => Some(Accepted::KeyConflict),
            },
        }
    });
    Ok(judged.collect())
}

async fn find(tx: &Tx, senders: &[&str], keys: &[&str]) -> Result<HashMap<Name, (Vec<u8>, String)>, Fault> {
    let rows = tx
        .query(
            "SELECT i.sender, i.key, i.fingerprint, i.answer FROM idempotency i
             JOIN unnest($1::text[], $2::text[]) AS u(sender, key) ON i.sender = u.sender AND i.key = u.key",
            &[&senders, &keys],
        )
        .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        found.insert((row.try_get(0)?, row.try_get(1)?), (row.try_get(2)?, row.try_get(3)?));
    }
    Ok(found)
}

/// Removes some keys whose day is over; gives their number.
pub(super) async fn remove(tx: &Tx, before_ms: i64, step: i64) -> Result<u64, Fault> {
    tx.execute(
        "DELETE FROM idempotency WHERE (sender, key) IN
             (SELECT sender, key FROM idempotency WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        &[&before_ms, &step],
    )
    .await
}
