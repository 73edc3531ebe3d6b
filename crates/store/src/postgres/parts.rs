//! The parts of the event table: a week each, made when the first event of a week comes, dropped as a whole.

use super::fault::Fault;
use super::pool;
use super::shared::Shared;

/// What a part holds.
pub(super) const WEEK_MS: i64 = 7 * 86_400_000;

/// Number of the lock that parts are made and dropped under.
const LOCK: i64 = 0x7069_6c6c_6172_0001;

/// How long a drop waits for those who read and write events: whoever comes after it waits behind it. Longer than the server's
/// `deadlock_timeout`: that is when an autovacuum is sent away.
const DROP_WAIT: &str = "SET lock_timeout TO '2s'";

/// What could not be dropped is left alone for so long: whoever copies the database holds its parts for hours.
pub(super) const AGAIN_MS: i64 = 60_000;

fn name(week: i64) -> String {
    format!("event_{}{}", if week < 0 { "m" } else { "" }, week.unsigned_abs())
}

/// Makes sure that there are parts for events of these times.
///
/// On a connection of its own and by ATTACH: that waits for nobody who writes or reads events, not even for the transaction
/// that needs the part.
pub(super) async fn ensure(shared: &Shared, times: impl Iterator<Item = i64>) -> Result<(), Fault> {
    let missing: Vec<i64> = {
        let known = shared.parts.lock();
        let mut weeks: Vec<i64> = times.map(|at| at.div_euclid(WEEK_MS)).filter(|week| !known.contains(week)).collect();
        weeks.sort_unstable();
        weeks.dedup();
        weeks
    };
    if missing.is_empty() {
        return Ok(());
    }
    let connection = shared.pool.manager().connect().await?;
    for week in missing {
        let part = name(week);
        let client = &connection.client;
        client.batch_execute("BEGIN").await?;
        client.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let there: bool = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&part]).await?.try_get(0)?;
        if !there {
            let (from, to) = (week.saturating_mul(WEEK_MS), week.saturating_add(1).saturating_mul(WEEK_MS));
            client
                .batch_execute(&format!(
                    "CREATE TABLE {part} (LIKE event INCLUDING DEFAULTS)
                         WITH (autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05);
                     ALTER TABLE event ATTACH PARTITION {part} FOR VALUES FROM ({from}) TO ({to})"
                ))
                .await?;
        }
        client.batch_execute("COMMIT").await?;
        shared.parts.lock().insert(week);
    }
    Ok(())
}

/// Drops the parts in which all events are older than this; gives how many. What somebody holds is tried again a minute later.
pub(super) async fn drop_before(shared: &Shared, before_ms: i64) -> Result<u64, Fault> {
    // Retention comes often, the end of a week does not.
    if shared.dropped.lock().contains(&before_ms) {
        return Ok(0);
    }
    let dropped = drop_old(shared, before_ms).await;
    let week = before_ms.div_euclid(WEEK_MS);
    *shared.dropped.lock() = match &dropped {
        Ok(_) => week.saturating_mul(WEEK_MS)..week.saturating_add(1).saturating_mul(WEEK_MS),
        Err(_) => before_ms..before_ms.saturating_add(AGAIN_MS),
    };
    dropped
}

/// Drops each old part by itself; an error tells of the first that could not be dropped.
async fn drop_old(shared: &Shared, before_ms: i64) -> Result<u64, Fault> {
    let manager = shared.pool.manager();
    let (connection, patience) = (manager.connect().await?, manager.session.patience());
    let client = &connection.client;
    pool::answer(patience, client.batch_execute(DROP_WAIT)).await?;
    let children = "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'event'::regclass";
    let found = pool::answer(patience, client.query(children, &[])).await?;
    let (mut dropped, mut failed) = (0, None);
    for row in found {
        let part: String = row.try_get(0)?;
        let Some(week) = part.strip_prefix("event_").and_then(|week| week.replace('m', "-").parse::<i64>().ok()) else {
            continue;
        };
        if week.saturating_add(1).saturating_mul(WEEK_MS) > before_ms {
            continue;
        }
        shared.parts.lock().remove(&week);
        // The drop locks all events first, and would keep whoever writes them waiting as long as somebody has this part.
        let alone = format!("BEGIN; LOCK TABLE {part} IN ACCESS EXCLUSIVE MODE");
        let alone = pool::answer(patience, client.batch_execute(&alone)).await;
        pool::answer(patience, client.batch_execute("ROLLBACK")).await?;
        let gone = match alone {
            Ok(()) => pool::answer(patience, client.batch_execute(&format!("DROP TABLE {part}"))).await,
            Err(fault) => Err(fault),
        };
        match gone {
            Ok(()) => dropped += 1,
            Err(fault @ Fault::Away(_)) => return Err(fault),
            Err(fault) => {
                tracing::warn!(part, %fault, "a part of the events cannot be dropped yet");
                failed.get_or_insert(fault);
            }
        }
    }
    failed.map_or(Ok(dropped), Err)
}
