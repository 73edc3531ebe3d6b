//! What is counted while the store works, and the queue by route and stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::PostgresStore;
use super::fault::Fault;
use super::shared::Shared;
use super::tx::{self, Mode, Tx};
use crate::Pending;
use crate::engine::figures::{Of, least, share, sorted};
use crate::model::*;
use crate::verbs::Figures;

/// Oldest open messages that are looked at for the oldest of each share.
const OLDEST: i64 = 20_000;
/// Recipients of a lane that are looked at where its share is not among those: the first that are due.
const FIRST: i64 = 200;
/// Octets of the contents' table that are summed up; of a larger one a part, and the rest is concluded from it.
const SUMMED: i64 = 64 << 20;

/// How large the database is, asked for now and then.
#[derive(Default)]
pub(super) struct Size {
    octets: AtomicU64,
    asked: AtomicBool,
}

impl Size {
    /// Asks the server, for the next one who wants to know.
    pub(super) async fn ask(shared: &Arc<Shared>) {
        if shared.size.asked.swap(true, Ordering::Relaxed) {
            return;
        }
        let size = tx::run(shared, Mode::Snapshot, Arc::new(()), |tx, _| async move {
            let row = tx.query_one("SELECT pg_database_size(current_database())", &[]).await?;
            Ok(row.try_get::<_, i64>(0)?)
        });
        if let Ok(size) = size.await {
            shared.size.octets.store(size.unsigned_abs(), Ordering::Relaxed);
        }
        shared.size.asked.store(false, Ordering::Relaxed);
    }
}

impl Figures for PostgresStore {
    fn figures(&self) -> StoreFigures {
        let shared = self.shared.clone();
        self.handle.spawn(async move { Size::ask(&shared).await });
        StoreFigures {
            waiting: self.shared.under_way() as u64,
            database_bytes: self.shared.size.octets.load(Ordering::Relaxed),
            free_bytes: u64::MAX,
            ..self.shared.counted.figures()
        }
    }

    fn queue_figures(&self) -> Pending<QueueFigures> {
        self.read((), |tx, _| async move { queue(&tx).await })
    }
}

async fn queue(tx: &Tx) -> Result<QueueFigures, Fault> {
    let mut shares: HashMap<Of, QueueShare> = HashMap::new();
    let rows = tx
        .query(
            "SELECT route, stream, sum(waiting)::bigint, sum(held)::bigint, min(next_due) FROM lane
             WHERE waiting > 0 OR held > 0 GROUP BY route, stream",
            &[],
        )
        .await?;
    for row in &rows {
        let share = share(&mut shares, row.try_get::<_, &str>(0)?.into(), row.try_get::<_, &str>(1)?.into());
        share.waiting = row.try_get::<_, i64>(2)?.unsigned_abs();
        share.held = row.try_get::<_, i64>(3)?.unsigned_abs();
        share.next_due_ms = row.try_get(4)?;
    }
    let rows = tx
        .query(
            "SELECT l.route, l.stream, sum(r.leased)::bigint
             FROM (SELECT lane, count(*) AS leased FROM recipient WHERE state = 1 GROUP BY lane) AS r
             JOIN lane AS l ON l.id = r.lane GROUP BY l.route, l.stream",
            &[],
        )
        .await?;
    for row in &rows {
        let share = share(&mut shares, row.try_get::<_, &str>(0)?.into(), row.try_get::<_, &str>(1)?.into());
        share.leased = row.try_get::<_, i64>(2)?.unsigned_abs();
    }
    oldest(tx, &mut shares).await?;
    let (content_bytes, content_live_bytes) = contents(tx).await?;
    Ok(QueueFigures { shares: sorted(shares), content_bytes, content_live_bytes })
}

/// When the oldest message of each share was accepted. No index knows it, which every deferral would pay for: the oldest
/// open messages are looked at, and of shares that are not among them what is due first.
async fn oldest(tx: &Tx, shares: &mut HashMap<Of, QueueShare>) -> Result<(), Fault> {
    let rows = tx
        .query(
            "SELECT l.route, l.stream, min(r.message)
             FROM (SELECT id FROM message WHERE pending > 0 ORDER BY id LIMIT $1) AS m
             JOIN recipient AS r ON r.message = m.id JOIN lane AS l ON l.id = r.lane
             WHERE r.state <= 1 GROUP BY l.route, l.stream",
            &[&OLDEST],
        )
        .await?;
    note(&rows, shares)?;
    let missing = shares.values().filter(|share| share.oldest_ms.is_none() && share.waiting > 0);
    let (routes, streams): (Vec<String>, Vec<String>) =
        missing.map(|share| (share.route.to_string(), share.stream.to_string())).unzip();
    if routes.is_empty() {
        return Ok(());
    }
    let rows = tx
        .query(
            "SELECT l.route, l.stream, min(r.message)
             FROM unnest($1::text[], $2::text[]) AS w(route, stream)
             JOIN lane AS l ON l.route = w.route AND l.stream = w.stream AND l.waiting > 0
             CROSS JOIN LATERAL (SELECT message FROM recipient
                 WHERE recipient.lane = l.id AND state = 0 ORDER BY due LIMIT $3) AS r
             GROUP BY l.route, l.stream",
            &[&routes, &streams, &FIRST],
        )
        .await?;
    note(&rows, shares)
}

fn note(rows: &[tokio_postgres::Row], shares: &mut HashMap<Of, QueueShare>) -> Result<(), Fault> {
    for row in rows {
        let share = share(shares, row.try_get::<_, &str>(0)?.into(), row.try_get::<_, &str>(1)?.into());
        let made = MessageId(row.try_get(2)?).created_ms();
        share.oldest_ms = least(share.oldest_ms, Some(made));
    }
    Ok(())
}

/// Octets on the disk, and those in use.
async fn contents(tx: &Tx) -> Result<(u64, u64), Fault> {
    let row = tx
        .query_one(
            "SELECT pg_relation_size(oid), coalesce(pg_relation_size(nullif(reltoastrelid, 0)), 0)
             FROM pg_class WHERE oid = 'content'::regclass",
            &[],
        )
        .await?;
    let (own, apart): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    // Few texts: each is prepared once.
    let part =
        std::iter::successors(Some(1_i64), |part| Some(part * 10)).find(|part| own / part <= SUMMED).unwrap_or(1);
    let sample = if part == 1 { String::new() } else { format!("TABLESAMPLE SYSTEM ({})", 100.0 / part as f64) };
    let sql = format!("SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM content {sample}");
    let live = tx.query_one(&sql, &[]).await?.try_get::<_, i64>(0)?.unsigned_abs() * part.unsigned_abs();
    Ok(((own + apart).unsigned_abs().max(live), live))
}
