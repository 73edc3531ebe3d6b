//! What engines count while they work: commits, how long they take, and how many commands share one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::*;

/// Upper bounds of commit times, microseconds.
const COMMIT_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];
/// Upper bounds of the commands in one commit.
const BATCH: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];
/// Gives microseconds that only grow; without one nothing is timed.
#[derive(Clone, Default)]
pub struct Stopwatch(Option<Arc<dyn Fn() -> u64 + Send + Sync>>);

impl Stopwatch {
    /// From a clock.
    pub fn new(now_us: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now_us)))
    }

    /// What it shows.
    pub(crate) fn now_us(&self) -> Option<u64> {
        self.0.as_ref().map(|now_us| now_us())
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
pub(crate) struct Counted {
    stopwatch: Stopwatch,
    commits: Tally<12>,
    batches: Tally<10>,
    failures: AtomicU64,
}

impl Counted {
    pub(crate) fn new(stopwatch: Stopwatch) -> Self {
        let (commits, batches) = (Tally::new(COMMIT_US), Tally::new(BATCH));
        Self { stopwatch, commits, batches, failures: AtomicU64::new(0) }
    }

    /// Microseconds, if there is a stopwatch.
    pub(crate) fn now_us(&self) -> Option<u64> {
        self.stopwatch.0.as_ref().map(|now_us| now_us())
    }

    /// So many commands were committed together.
    pub(crate) fn committed(&self, commands: usize, began_us: Option<u64>) {
        self.batches.add(commands as u64);
        if let (Some(began), Some(now)) = (began_us, self.now_us()) {
            self.commits.add(now.saturating_sub(began));
        }
    }

    /// A commit failed, for want of room or worse. A command that was refused is no failure of the store.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted; the rest is for the engine to say.
    pub(crate) fn figures(&self) -> StoreFigures {
        StoreFigures {
            commits: self.commits.distribution(1e6),
            batches: self.batches.distribution(1.0),
            failures: self.failures.load(Ordering::Relaxed),
            ..StoreFigures::default()
        }
    }
}

/// Shares in the order in which they are told: largest first.
pub(crate) fn sorted(shares: HashMap<Of, QueueShare>) -> Vec<QueueShare> {
    let mut shares: Vec<QueueShare> = shares.into_values().collect();
    shares.sort_by(|a, b| {
        let size = |share: &QueueShare| share.waiting + share.leased + share.held;
        (size(b), &a.route, &a.stream).cmp(&(size(a), &b.route, &b.stream))
    });
    shares
}

/// Route and stream.
pub(crate) type Of = (Arc<str>, Arc<str>);

/// The share of a route and a stream.
pub(crate) fn share(shares: &mut HashMap<Of, QueueShare>, route: Arc<str>, stream: Arc<str>) -> &mut QueueShare {
    let new = || QueueShare { route: route.clone(), stream: stream.clone(), ..QueueShare::default() };
    shares.entry((route.clone(), stream.clone())).or_insert_with(new)
}

/// The earlier of two moments.
pub(crate) fn least(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}
