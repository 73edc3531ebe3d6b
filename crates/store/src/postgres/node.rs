//! Runs of nodes: that they are alive, and what becomes of the leases of those that are not.
//!
//! A run is alive as long as it says so, by the server's clock: nodes need not agree on the time. A run that was silent for
//! its lease time has lost its leases; whatever it still does with them changes nothing, because the rows are no longer its
//! own. If it was only cut off, it says that it is alive again and goes on with new leases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fault::Fault;
use super::pool::Connection;
use super::settle;
use super::shared::Shared;
use super::tx::{self, Mode, Tx};
use super::unit::{clean, number};
use crate::model::*;

/// Recipients taken back in one transaction.
const STEP: i64 = 500;
/// Between two looks at the other nodes: leases end at most this and one more second after their time.
const LOOK: Duration = Duration::from_secs(2);
/// How long it may take to begin to hear the others: the word that this node is alive has to wait for it.
const LISTEN: Duration = Duration::from_secs(3);
/// How often a transaction of unknown outcome is undone: its server may still be waiting for a standby.
const UNDO: u32 = 300;

/// Registers a run and takes back what earlier runs of the node hold.
pub(super) async fn start(shared: &Arc<Shared>, node: &str, now_ms: i64) -> Result<(Incarnation, u64), Fault> {
    let request = Arc::new((clean(node), now_ms));
    let verb = |tx: Arc<Tx>, r: Arc<(String, i64)>| async move {
        let row = tx
            .query_one(
                "INSERT INTO node(name, started, version, alive_until)
                 VALUES ($1, $2, $3, now() + $4 * INTERVAL '1 millisecond') RETURNING incarnation",
                &[&r.0, &r.1, &env!("CARGO_PKG_VERSION"), &tx.shared.lease_ms],
            )
            .await?;
        let incarnation: i64 = row.try_get(0)?;
        let rows = tx
            .query("SELECT incarnation FROM node WHERE name = $1 AND incarnation < $2", &[&r.0, &incarnation])
            .await?;
        let earlier = rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<i64>, Fault>>()?;
        Ok((incarnation, earlier))
    };
    let (incarnation, earlier) = tx::run(shared, Mode::Write, request, verb).await?;
    let incarnation = Incarnation(incarnation);
    {
        let mut runs = shared.runs.lock();
        // What this store ran under the same name before is over.
        runs.retain(|(_, name)| name != node);
        runs.push((incarnation, node.to_owned()));
    }
    let mut taken = 0;
    for run in earlier {
        taken += end(shared, run, Some(now_ms)).await?;
    }
    Ok((incarnation, taken))
}

/// Takes back all that a run holds, and forgets it; due now, or at the server's time. Gives how many recipients.
async fn end(shared: &Arc<Shared>, run: i64, due_ms: Option<i64>) -> Result<u64, Fault> {
    let mut taken = 0;
    loop {
        let verb = |tx: Arc<Tx>, r: Arc<(i64, Option<i64>)>| async move { end_some(&tx, r.0, r.1).await };
        let (found, changed) = tx::run(shared, Mode::Write, Arc::new((run, due_ms)), verb).await?;
        taken += u64::from(changed);
        if found < STEP as usize {
            return Ok(taken);
        }
    }
}

async fn end_some(tx: &Tx, run: i64, due_ms: Option<i64>) -> Result<(usize, u32), Fault> {
    let rows = tx
        .query(
            "SELECT message, n, (extract(epoch FROM now()) * 1000)::bigint FROM recipient WHERE state = 1 AND lease = $1
             ORDER BY message, n LIMIT $2",
            &[&run, &STEP],
        )
        .await?;
    let mut held = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = RecipientId { message: MessageId(row.try_get(0)?), n: number(row.try_get(1)?) };
        held.push((id, due_ms.unwrap_or(row.try_get(2)?)));
    }
    let changed = settle::give_back(tx, Incarnation(run), &held).await?;
    if rows.len() < STEP as usize {
        tx.execute("DELETE FROM node WHERE incarnation = $1", &[&run]).await?;
    }
    Ok((rows.len(), changed))
}

/// Says that this store's runs are alive, and that its end of message ids is taken.
async fn beat(shared: &Arc<Shared>) -> Result<(), Fault> {
    let runs = shared.runs.lock().clone();
    let verb = |tx: Arc<Tx>, runs: Arc<Vec<(Incarnation, String)>>| async move {
        let (ids, names): (Vec<i64>, Vec<String>) = runs.iter().map(|(run, name)| (run.0, name.clone())).unzip();
        let slot = tx.shared.slot();
        // One that was taken for dead comes back under its number: what it lost is lost, what it takes is its own. Whether it
        // was is seen with its row in hand: whoever takes its leases has to hold that too.
        let changed = tx
            .pipeline(&[
                ("SELECT 1 FROM node WHERE incarnation = ANY($1) ORDER BY incarnation FOR UPDATE", &[&ids]),
                ("SELECT 1 FROM node WHERE incarnation = ANY($1) AND alive_until >= clock_timestamp()", &[&ids]),
                (
                    "INSERT INTO node(incarnation, name, started, version, alive_until) OVERRIDING SYSTEM VALUE
                     SELECT u.incarnation, u.name, 0, $3, now() + $4 * INTERVAL '1 millisecond'
                     FROM unnest($1::bigint[], $2::text[]) AS u(incarnation, name) ORDER BY u.incarnation
                     ON CONFLICT (incarnation) DO UPDATE SET alive_until = excluded.alive_until",
                    &[&ids, &names, &env!("CARGO_PKG_VERSION"), &tx.shared.lease_ms],
                ),
                (
                    "UPDATE id_slot SET until = now() + INTERVAL '1 day' WHERE slot = $1 AND holder = $2",
                    &[&slot.0, &slot.1],
                ),
            ])
            .await?;
        if changed.get(1).is_some_and(|alive| *alive < ids.len() as u64) {
            tx.shared.alive.was_over();
        }
        Ok(changed)
    };
    let said_us = shared.alive.now_us();
    let changed = tx::run(shared, Mode::Write, Arc::new(runs), verb).await?;
    shared.alive.heard(said_us);
    if changed.get(3) == Some(&0) {
        // A day without a word from us: somebody else has it.
        let verb = |tx: Arc<Tx>, _: Arc<()>| async move { take_slot(&tx).await };
        let slot = tx::run(shared, Mode::Write, Arc::new(()), verb).await?;
        shared.use_slot(slot);
    }
    Ok(())
}

/// Takes an end of message ids: the one that was let go of longest ago, so that no id is met again.
pub(super) async fn take_slot(tx: &Tx) -> Result<(i32, i64), Fault> {
    let holder = i64::from(rand::random::<u32>()) + 1;
    let row = tx
        .query_opt(
            "UPDATE id_slot SET holder = $1, until = now() + INTERVAL '1 day' WHERE slot =
                 (SELECT slot FROM id_slot WHERE until < now() ORDER BY until LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING slot",
            &[&holder],
        )
        .await?;
    match row {
        Some(row) => Ok((row.try_get(0)?, holder)),
        None => Err(crate::StoreError::Invalid("more than 1,000 programs have the store open".into()).into()),
    }
}

/// Ends the runs that were silent for too long, and leases whose run nobody knows.
async fn bury(shared: &Arc<Shared>) -> Result<(), Fault> {
    let verb = |tx: Arc<Tx>, _: Arc<()>| async move {
        let rows = tx
            .query(
                "SELECT incarnation FROM node WHERE alive_until < now()
                 UNION SELECT DISTINCT lease FROM recipient WHERE state = 1 AND lease NOT IN (SELECT incarnation FROM node)",
                &[],
            )
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<i64>, Fault>>()
    };
    let dead = tx::run(shared, Mode::Snapshot, Arc::new(()), verb).await?;
    let own: Vec<i64> = shared.runs.lock().iter().map(|(run, _)| run.0).collect();
    // Our own are late because we are: the next word from us sets that right.
    for run in dead.into_iter().filter(|run| !own.contains(run)) {
        let verb = |tx: Arc<Tx>, run: Arc<i64>| async move {
            // It may have come back since, or another node may be at it.
            let rows = tx
                .query("SELECT alive_until < now() FROM node WHERE incarnation = $1 FOR UPDATE SKIP LOCKED", &[&*run])
                .await?;
            let row = rows.first().map(|row| row.try_get::<_, bool>(0)).transpose()?;
            let known = tx.query_opt("SELECT 1 FROM node WHERE incarnation = $1", &[&*run]).await?.is_some();
            if row == Some(true) || !known { end_some(&tx, *run, None).await } else { Ok((0, 0)) }
        };
        let mut taken = 0;
        shared.news.store(true, Ordering::Relaxed);
        loop {
            let (found, changed) = tx::run(shared, Mode::Write, Arc::new(run), verb).await?;
            taken += changed;
            if found < STEP as usize {
                break;
            }
        }
        tracing::warn!(run, taken, "a node's run is dead: what it held is to be delivered by others");
    }
    Ok(())
}

/// Undoes leases of transactions that were committed although nobody heard of it.
async fn undo(shared: &Arc<Shared>) -> Result<(), Fault> {
    let orphans = shared.orphans.lock().clone();
    if orphans.is_empty() {
        return Ok(());
    }
    let verb = |tx: Arc<Tx>, orphans: Arc<Vec<(i64, i64, u32)>>| async move {
        let (runs, tickets): (Vec<i64>, Vec<i64>) = orphans.iter().map(|(by, ticket, _)| (*by, *ticket)).unzip();
        let rows = tx
            .query(
                "SELECT r.message, r.n, r.lease, (extract(epoch FROM now()) * 1000)::bigint FROM recipient r
                 JOIN unnest($1::bigint[], $2::bigint[]) AS u(lease, ticket) ON r.lease = u.lease AND r.ticket = u.ticket
                 WHERE r.state = 1 LIMIT 5000",
                &[&runs, &tickets],
            )
            .await?;
        let mut held: BTreeMap<i64, Vec<(RecipientId, i64)>> = BTreeMap::new();
        for row in &rows {
            let id = RecipientId { message: MessageId(row.try_get(0)?), n: number(row.try_get(1)?) };
            held.entry(row.try_get(2)?).or_default().push((id, row.try_get(3)?));
        }
        for (by, held) in held {
            settle::give_back(&tx, Incarnation(by), &held).await?;
        }
        Ok(rows.len())
    };
    let undone = tx::run(shared, Mode::Write, Arc::new(orphans.clone()), verb).await?;
    if undone > 0 {
        tracing::warn!(recipients = undone, "leases of commits that nobody heard of were undone");
    }
    let mut now = shared.orphans.lock();
    for (by, ticket, times) in now.iter_mut() {
        if orphans.iter().any(|known| (known.0, known.1) == (*by, *ticket)) {
            *times += 1;
        }
    }
    now.retain(|(_, _, times)| *times < UNDO);
    Ok(())
}

/// The channel that nodes wake each other through.
const CHANNEL: &str = "pillarbox_work";

/// A connection that hears the others; the one there is, as long as it is alive.
async fn listen(shared: &Arc<Shared>, listener: Option<Connection>) -> Option<Connection> {
    let manager = shared.pool.manager();
    if let Some(alive) = listener.filter(|connection| manager.trusts(connection)) {
        return Some(alive);
    }
    let begun = async {
        let connection = manager.connect().await?;
        connection.client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        Ok::<_, Fault>(connection)
    };
    tokio::time::timeout(LISTEN, begun).await.ok()?.ok()
}

/// Tells the others that there is work. By itself and not with what made the work: a commit that tells others waits for all
/// commits that do.
async fn tell(shared: &Arc<Shared>) {
    let verb = |tx: Arc<Tx>, _: Arc<()>| async move { tx.query("SELECT pg_notify($1, '')", &[&CHANNEL]).await };
    if let Err(fault) = tx::run(shared, Mode::Write, Arc::new(()), verb).await {
        tracing::debug!(%fault, "other nodes were not told of work");
    }
}

/// Keeps this store's runs alive and buries those of others, until the store is closed.
pub(super) async fn keep(shared: Arc<Shared>) {
    let beat_every = Duration::from_secs_f64((shared.lease_ms / 4_000.0).clamp(0.05, 5.0));
    let tick = beat_every.min(Duration::from_secs(1));
    let (mut since_beat, mut since_look) = (beat_every, Duration::ZERO);
    let mut listener = None;
    loop {
        tokio::time::sleep(tick).await;
        if shared.closed.load(Ordering::Relaxed) {
            return;
        }
        since_beat += tick;
        since_look += tick;
        // While the database is away, this is also what notices that it is back.
        if since_beat >= beat_every || shared.healthy().is_err() {
            since_beat = Duration::ZERO;
            if let Err(fault) = beat(&shared).await {
                tracing::warn!(%fault, "the database does not know that this node is alive");
                // Said again as soon as it can be: what it leases before that, others take for a dead run's.
                since_beat = beat_every;
                continue;
            }
        }
        if since_look >= LOOK.min(beat_every * 2) {
            since_look = Duration::ZERO;
            // Whatever wakes others may be lost; this is not.
            shared.pool.manager().bell.notify_one();
            listener = listen(&shared, listener).await;
            if shared.news.swap(false, Ordering::Relaxed) {
                tell(&shared).await;
            }
            for done in [bury(&shared).await, undo(&shared).await] {
                if let Err(fault) = done {
                    tracing::warn!(%fault, "leases of other nodes could not be looked at");
                }
            }
        }
    }
}
