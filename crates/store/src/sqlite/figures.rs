//! What the writer counts, and the queue by route and stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::fault::Fault;
use super::shared::Shared;
use super::{SqliteStore, open};
use crate::Pending;
use crate::model::*;
use crate::verbs::Figures;

/// Upper bounds of commit times, microseconds.
const COMMIT_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];
/// Upper bounds of the commands in one commit.
const BATCH: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];
/// Leased messages that are looked at for the oldest of each lane.
const LEASED: u32 = 5_000;

/// Gives microseconds that only grow; without one nothing is timed.
#[derive(Clone, Default)]
pub struct Stopwatch(Option<Arc<dyn Fn() -> u64 + Send + Sync>>);

impl Stopwatch {
    /// From a clock.
    pub fn new(now_us: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now_us)))
    }
}

impl std::fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Stopwatch" } else { "no stopwatch" })
    }
}

/// A distribution in the making.
struct Tally<const N: usize> {
    bounds: [u64; N],
    counts: [AtomicU64; N],
    over: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Tally<N> {
    fn new(bounds: [u64; N]) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, counts, over: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    fn add(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(at).unwrap_or(&self.over).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn distribution(&self, unit: f64) -> Distribution {
        let counts = self.counts.iter().chain([&self.over]);
        Distribution {
            bounds: self.bounds.iter().map(|bound| *bound as f64 / unit).collect(),
            counts: counts.map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed) as f64 / unit,
        }
    }
}

/// What the writer counts.
pub(super) struct Counted {
    stopwatch: Stopwatch,
    commits: Tally<12>,
    batches: Tally<10>,
    failures: AtomicU64,
}

impl Counted {
    pub(super) fn new(stopwatch: Stopwatch) -> Self {
        let (commits, batches) = (Tally::new(COMMIT_US), Tally::new(BATCH));
        Self { stopwatch, commits, batches, failures: AtomicU64::new(0) }
    }

    /// Microseconds, if there is a stopwatch.
    pub(super) fn now_us(&self) -> Option<u64> {
        self.stopwatch.0.as_ref().map(|now_us| now_us())
    }

    /// A batch of so many commands came to its end.
    pub(super) fn batch(&self, commands: usize, began_us: Option<u64>, outcome: &Result<(), Fault>) {
        match outcome {
            Ok(()) => {
                self.batches.add(commands as u64);
                if let (Some(began), Some(now)) = (began_us, self.now_us()) {
                    self.commits.add(now.saturating_sub(began));
                }
            }
            // A command that was refused is no failure of the store.
            Err(Fault::Command(_)) => {}
            Err(Fault::Full | Fault::Broken(_)) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Figures for SqliteStore {
    fn figures(&self) -> StoreFigures {
        let (shared, counted) = (&self.shared, &self.shared.counted);
        let octets = |path: std::path::PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        StoreFigures {
            commits: counted.commits.distribution(1e6),
            batches: counted.batches.distribution(1.0),
            failures: counted.failures.load(Ordering::Relaxed),
            waiting: shared.queue.len() as u64,
            database_bytes: octets(shared.database()) + octets(shared.dir.join("queue.db-wal")),
            free_bytes: open::free_bytes(&shared.dir),
        }
    }

    fn queue_figures(&self) -> Pending<QueueFigures> {
        let shared = self.shared.clone();
        self.shared.readers.ask(move |connection| Ok(queue(connection, &shared)?))
    }
}

/// Route and stream.
type Of = (Arc<str>, Arc<str>);

fn queue(connection: &Connection, shared: &Shared) -> Result<QueueFigures, Fault> {
    let mut shares: HashMap<Of, QueueShare> = HashMap::new();
    waiting(connection, &mut shares)?;
    for entry in shared.leased.lock().values().filter(|entry| entry.count > 0) {
        let key = &entry.lane.key;
        share(&mut shares, key.route.clone(), key.stream.clone()).leased += entry.count as u64;
    }
    oldest_leased(connection, &mut shares)?;
    let (content_bytes, content_live_bytes) = connection
        .prepare_cached("SELECT coalesce(sum(bytes), 0), coalesce(sum(live_bytes), 0) FROM segment")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let mut shares: Vec<QueueShare> = shares.into_values().collect();
    shares.sort_by(|a, b| {
        let size = |share: &QueueShare| share.waiting + share.leased + share.held;
        (size(b), &a.route, &a.stream).cmp(&(size(a), &b.route, &b.stream))
    });
    Ok(QueueFigures {
        shares,
        content_bytes: content_bytes.max(0) as u64,
        content_live_bytes: content_live_bytes.max(0) as u64,
    })
}

fn share(shares: &mut HashMap<Of, QueueShare>, route: Arc<str>, stream: Arc<str>) -> &mut QueueShare {
    let new = || QueueShare { route: route.clone(), stream: stream.clone(), ..QueueShare::default() };
    shares.entry((route.clone(), stream.clone())).or_insert_with(new)
}

/// The lanes, each with a seek for its oldest message.
fn waiting(connection: &Connection, shares: &mut HashMap<Of, QueueShare>) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT route, stream, waiting, held, next_due,
             CASE WHEN waiting > 0 THEN (SELECT min(message) FROM recipient INDEXED BY recipient_rest
                 WHERE lane = lane.id AND state = 0) END
         FROM lane NOT INDEXED WHERE waiting > 0 OR held > 0",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (waiting, held): (i64, i64) = (row.get(2)?, row.get(3)?);
        let (due, oldest): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
        let share = share(shares, row.get::<_, String>(0)?.into(), row.get::<_, String>(1)?.into());
        share.waiting += waiting as u64;
        share.held += held as u64;
        share.next_due_ms = least(share.next_due_ms, due);
        share.oldest_ms = least(share.oldest_ms, oldest.map(|id| MessageId(id).created_ms()));
    }
    Ok(())
}

fn oldest_leased(connection: &Connection, shares: &mut HashMap<Of, QueueShare>) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT route, lane.stream, min(recipient.message)
         FROM (SELECT id FROM message INDEXED BY message_open WHERE pending > 0 AND (leased > 0) = 1 ORDER BY id LIMIT ?1)
             AS open CROSS JOIN recipient ON recipient.message = open.id CROSS JOIN lane ON lane.id = recipient.lane
         WHERE state = 1 GROUP BY route, lane.stream",
    )?;
    let mut rows = statement.query([LEASED])?;
    while let Some(row) = rows.next()? {
        let share = share(shares, row.get::<_, String>(0)?.into(), row.get::<_, String>(1)?.into());
        share.oldest_ms = least(share.oldest_ms, Some(MessageId(row.get(2)?).created_ms()));
    }
    Ok(())
}

fn least(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}
