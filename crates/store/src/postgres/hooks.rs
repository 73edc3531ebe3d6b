//! Webhooks: how far each has come, what waits, what was answered. What is to be told is read in [`super::told`].

use std::collections::{BTreeMap, HashSet};

use tokio_postgres::Row;

use super::duty;
use super::fault::Fault;
use super::suppress::STEP;
use super::tx::{Step, Tx};
use super::unit::clean;
use crate::StoreError;
use crate::engine::bounded;
use crate::model::*;

/// Entries of the log that a webhook keeps.
const LOG: i64 = 10_000;
/// The log is cut when its numbers pass a multiple of this.
const CUT: i64 = 100;
/// Events are noted when their transaction is written, a little after the moment they carry: how far these may be apart.
const SKEW_MS: i64 = 60_000;

/// Begins at a place, also anew; gives the number of the last event left out. Without a place: behind all there is.
pub(super) async fn start(tx: &Tx, name: &str, cursors: Option<HookCursors>) -> Result<i64, Fault> {
    let (events, suppressions) = match cursors {
        Some(cursors) => (cursors.events, cursors.suppressions),
        None => (newest_event(tx).await?, newest_suppression(tx).await?),
    };
    let name = clean(name);
    tx.pipeline(&[
        (
            "INSERT INTO hook(name, event, part, suppression, state) VALUES ($1, $2, 0, $3, 'null')
             ON CONFLICT (name) DO UPDATE SET event = excluded.event, part = 0, suppression = excluded.suppression",
            &[&name, &events, &suppressions],
        ),
        (
            "DELETE FROM hook_waiting WHERE name = $1 AND seq > CASE WHEN source = 0 THEN $2::bigint ELSE $3::bigint END",
            &[&name, &events, &suppressions],
        ),
    ])
    .await?;
    Ok(events)
}

/// Number of the newest event.
pub(super) async fn newest_event(tx: &Tx) -> Result<i64, Fault> {
    let row = tx.query_opt("SELECT value FROM event_number WHERE one = 1", &[]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

async fn newest_suppression(tx: &Tx) -> Result<i64, Fault> {
    let row = tx.query_opt("SELECT value FROM counter WHERE name = 'suppression'", &[]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

/// Where to begin so that nothing of this moment or later is left out.
pub(super) async fn cursors_at(tx: &Tx, at_ms: i64) -> Result<HookCursors, Fault> {
    let events = event_before(tx, at_ms).await?;
    let sql = "SELECT seq - 1 FROM suppression_change WHERE at >= $1 ORDER BY seq LIMIT 1";
    let suppressions = match tx.query_opt(sql, &[&at_ms]).await? {
        Some(row) => row.try_get(0)?,
        None => newest_suppression(tx).await?,
    };
    Ok(HookCursors { events, part: 0, suppressions })
}

/// The last event before a moment. Numbers grow with time but for [`SKEW_MS`]: found by halving, then step by step.
async fn event_before(tx: &Tx, at_ms: i64) -> Result<i64, Fault> {
    let newest = newest_event(tx).await?;
    let (mut low, mut high) = (0, newest + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let sql = "SELECT seq, at FROM event WHERE seq >= $1 ORDER BY seq LIMIT 1";
        let found = tx.query_opt(sql, &[&middle]).await?;
        let found: Option<(i64, i64)> =
            found.map(|row| Ok::<_, tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?;
        match found {
            Some((seq, at)) if at < at_ms.saturating_sub(SKEW_MS) => low = seq + 1,
            _ => high = middle,
        }
    }
    let sql = "SELECT seq FROM event WHERE seq >= $1 AND at >= $2 ORDER BY seq LIMIT 1";
    let first = tx.query_opt(sql, &[&low, &at_ms]).await?;
    Ok(first.map(|row| row.try_get::<_, i64>(0)).transpose()?.map_or(newest, |seq| seq - 1))
}

/// A step as it is stored.
pub(super) struct Progress {
    pub(super) name: String,
    pub(super) progress: HookProgress,
    pub(super) state: String,
    pub(super) bodies: Vec<String>,
}

/// Writes down a step.
pub(super) async fn progress(tx: &Tx, step: &Progress) -> Result<i64, Fault> {
    // What was told by one that does not know yet that another leads is told again by that one: nothing of it is noted.
    duty::fence(tx).await?;
    let (name, progress) = (clean(&step.name), &step.progress);
    let changed = match progress.cursors {
        Some(HookCursors { events, part, suppressions }) => {
            tx.execute(
                "UPDATE hook SET state = $2, event = $3, part = $4, suppression = $5 WHERE name = $1",
                &[&name, &step.state, &events, &i64::from(part), &suppressions],
            )
            .await?
        }
        None => tx.execute("UPDATE hook SET state = $2 WHERE name = $1", &[&name, &step.state]).await?,
    };
    if changed == 0 {
        return Err(StoreError::NotFound.into());
    }
    // What is done goes before what waits, as it was told.
    let sources: Vec<i16> = progress.done.iter().map(|(source, _, _)| *source as i16).collect();
    let seqs: Vec<i64> = progress.done.iter().map(|(_, seq, _)| *seq).collect();
    let numbers: Vec<i64> = progress.done.iter().map(|(_, _, n)| i64::from(*n)).collect();
    let waiting = Waiting::of(&progress.waiting);
    let done: [super::tx::Value<'_>; 4] = [&name, &sources, &seqs, &numbers];
    let noted = waiting.values(&name);
    let mut steps: Vec<Step<'_>> = Vec::new();
    if !sources.is_empty() {
        steps.push((
            "DELETE FROM hook_waiting AS h USING unnest($2::smallint[], $3::bigint[], $4::bigint[]) AS d(source, seq, n)
             WHERE h.name = $1 AND h.source = d.source AND h.seq = d.seq AND h.n = d.n",
            &done,
        ));
    }
    if !waiting.seq.is_empty() {
        steps.push((
            "INSERT INTO hook_waiting(name, source, seq, n, key, attempts, first, due)
             SELECT $1, w.source, w.seq, w.n, w.key, w.attempts, w.first, w.due
             FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                 $8::bigint[]) AS w(source, seq, n, key, attempts, first, due)
             ON CONFLICT (name, source, seq, n) DO UPDATE SET attempts = excluded.attempts, first = excluded.first,
                 due = excluded.due",
            &noted,
        ));
    }
    if !steps.is_empty() {
        tx.pipeline(&steps).await?;
    }
    write_log(tx, &name, &progress.log, &step.bodies).await?;
    Ok(0)
}

/// What waits, by column; of one told twice the last counts.
#[derive(Default)]
struct Waiting {
    source: Vec<i16>,
    seq: Vec<i64>,
    n: Vec<i64>,
    key: Vec<i64>,
    attempts: Vec<i64>,
    first: Vec<i64>,
    due: Vec<i64>,
}

impl Waiting {
    fn of(list: &[HookWaiting]) -> Self {
        let mut last: BTreeMap<(HookSource, i64, u32), &HookWaiting> = BTreeMap::new();
        for one in list {
            last.insert((one.source, one.seq, one.n), one);
        }
        let mut own = Self::default();
        for one in last.into_values() {
            own.source.push(one.source as i16);
            own.seq.push(one.seq);
            own.n.push(i64::from(one.n));
            own.key.push(one.key);
            own.attempts.push(i64::from(one.attempts));
            own.first.push(one.first_ms);
            own.due.push(one.due_ms);
        }
        own
    }

    fn values<'a>(&'a self, name: &'a String) -> [super::tx::Value<'a>; 8] {
        [name, &self.source, &self.seq, &self.n, &self.key, &self.attempts, &self.first, &self.due]
    }
}

async fn write_log(tx: &Tx, name: &String, entries: &[HookDelivery], bodies: &[String]) -> Result<(), Fault> {
    if entries.is_empty() {
        return Ok(());
    }
    let times: Vec<i64> = entries.iter().map(|entry| entry.at_ms).collect();
    let taken: Vec<bool> = entries.iter().map(|entry| entry.taken).collect();
    let order: Vec<i64> = (0..).take(entries.len()).collect();
    let row = tx
        .query_one(
            "WITH written AS (INSERT INTO hook_delivery(name, at, taken, body)
                 SELECT $1, w.at, w.taken, w.body
                 FROM unnest($2::bigint[], $3::boolean[], $4::text[], $5::bigint[]) AS w(at, taken, body, place)
                 ORDER BY w.place RETURNING id)
             SELECT min(id), max(id) FROM written",
            &[name, &times, &taken, &bodies, &order],
        )
        .await?;
    let (first, last): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if last / CUT != (first - 1) / CUT {
        tx.execute(
            "DELETE FROM hook_delivery WHERE name = $1 AND id <=
                 (SELECT id FROM hook_delivery WHERE name = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
            &[name, &LOG],
        )
        .await?;
    }
    Ok(())
}

/// Everything that waits is due at this moment at the latest.
pub(super) async fn hasten(tx: &Tx, name: &str, due_ms: i64) -> Result<i64, Fault> {
    let sql = "UPDATE hook_waiting SET due = $2 WHERE name = $1 AND due > $2";
    Ok(tx.execute(sql, &[&clean(name), &due_ms]).await? as i64)
}

/// Goes on after a pause.
pub(super) async fn resume(tx: &Tx, name: &str, state: &str, due_ms: i64) -> Result<i64, Fault> {
    let name = clean(name);
    if tx.execute("UPDATE hook SET state = $2 WHERE name = $1", &[&name, &state]).await? == 0 {
        return Err(StoreError::NotFound.into());
    }
    let sql = "UPDATE hook_waiting SET due = $2, attempts = 0, first = 0 WHERE name = $1";
    Ok(tx.execute(sql, &[&name, &due_ms]).await? as i64)
}

/// Forgets a webhook with all that waits and its log.
pub(super) async fn forget(tx: &Tx, name: &str) -> Result<i64, Fault> {
    let name = clean(name);
    tx.pipeline(&[
        ("DELETE FROM hook WHERE name = $1", &[&name]),
        ("DELETE FROM hook_waiting WHERE name = $1", &[&name]),
        ("DELETE FROM hook_delivery WHERE name = $1", &[&name]),
    ])
    .await?;
    Ok(0)
}

/// Removes entries of the log that are past their time. Numbers grow with time, so the oldest are looked at only.
pub(super) async fn remove_deliveries(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    tx.execute(
        "DELETE FROM hook_delivery WHERE id IN
             (SELECT id FROM (SELECT id, at FROM hook_delivery ORDER BY id LIMIT $2) AS oldest WHERE at <= $1)",
        &[&before_ms, &STEP],
    )
    .await
}

/// Where all webhooks stand.
pub(super) async fn hooks(tx: &Tx) -> Result<Vec<HookPlace>, Fault> {
    let rows = tx
        .query(
            "SELECT name, event, part, suppression, state,
                 (SELECT count(*) FROM hook_waiting WHERE hook_waiting.name = hook.name) FROM hook ORDER BY name",
            &[],
        )
        .await?;
    let read = |row: &Row| {
        let part: i64 = row.try_get(2)?;
        Ok(HookPlace {
            name: row.try_get(0)?,
            cursors: HookCursors {
                events: row.try_get(1)?,
                part: u32::try_from(part).unwrap_or(0),
                suppressions: row.try_get(3)?,
            },
            waiting: row.try_get::<_, i64>(5)?.unsigned_abs(),
            state: json(row.try_get(4)?)?,
        })
    };
    rows.iter().map(read).collect()
}

fn json(text: &str) -> Result<serde_json::Value, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Internal(format!("a webhook's note: {error}")))
}

/// Nothing older with the same key.
const FIRST: &str = "NOT EXISTS (SELECT 1 FROM hook_waiting AS v WHERE v.name = w.name AND v.key = w.key
     AND v.source = w.source AND v.seq < w.seq)";

/// What waits and is due.
pub(super) async fn due(tx: &Tx, name: &str, now_ms: i64, limit: u32) -> Result<Vec<HookWaiting>, Fault> {
    let sql = format!(
        "SELECT source, seq, n, key, attempts, first, due FROM hook_waiting AS w
         WHERE name = $1 AND due <= $2 AND {FIRST} ORDER BY due, seq, n LIMIT $3"
    );
    let rows = tx.query(&sql, &[&clean(name), &now_ms, &(bounded(limit) as i64)]).await?;
    let small = |row: &Row, column: usize| -> Result<u32, Fault> {
        Ok(u32::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0))
    };
    let read = |row: &Row| {
        Ok(HookWaiting {
            source: if row.try_get::<_, i16>(0)? == 0 { HookSource::Event } else { HookSource::Suppression },
            seq: row.try_get(1)?,
            n: small(row, 2)?,
            key: row.try_get(3)?,
            attempts: small(row, 4)?,
            first_ms: row.try_get(5)?,
            due_ms: row.try_get(6)?,
        })
    };
    rows.iter().map(read).collect()
}

/// When the next one falls due.
pub(super) async fn next_due(tx: &Tx, name: &str) -> Result<Option<i64>, Fault> {
    let sql = format!("SELECT due FROM hook_waiting AS w WHERE name = $1 AND {FIRST} ORDER BY due LIMIT 1");
    let row = tx.query_opt(&sql, &[&clean(name)]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Keys for which something waits.
pub(super) async fn keys(tx: &Tx, name: &str, keys: &[i64]) -> Result<Vec<i64>, Fault> {
    let sql = "SELECT DISTINCT key FROM hook_waiting WHERE name = $1 AND key = ANY($2)";
    let rows = tx.query(sql, &[&clean(name), &keys]).await?;
    let waiting = rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<i64>, _>>()?;
    Ok(keys.iter().copied().filter(|key| waiting.contains(key)).collect())
}

/// The delivery log, newest first.
pub(super) async fn deliveries(
    tx: &Tx,
    name: &str,
    only_refused: bool,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<HookDelivery>, Fault> {
    let wanted = if only_refused { "AND NOT taken" } else { "" };
    let sql = format!(
        "SELECT id, at, taken, body FROM hook_delivery WHERE name = $1 AND id < $2 {wanted} ORDER BY id DESC LIMIT $3"
    );
    let rows = tx.query(&sql, &[&clean(name), &before.unwrap_or(i64::MAX), &(bounded(limit) as i64)]).await?;
    let read = |row: &Row| {
        Ok(HookDelivery {
            id: row.try_get(0)?,
            at_ms: row.try_get(1)?,
            taken: row.try_get(2)?,
            body: json(row.try_get(3)?)?,
        })
    };
    rows.iter().map(read).collect()
}
