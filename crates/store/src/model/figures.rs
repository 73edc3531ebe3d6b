//! What the store says of itself to those who watch it: figures, no contents.

use std::sync::Arc;

/// How often which size was seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Distribution {
    /// Upper bounds, ascending.
    pub bounds: Vec<f64>,
    /// One for each bound, and one for what is larger.
    pub counts: Vec<u64>,
    /// Sum of all.
    pub sum: f64,
}

/// Counted since the store was opened, and how it is now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoreFigures {
    /// Seconds from a batch in hand to its durable commit, contents included.
    pub commits: Distribution,
    /// Commands that shared a commit.
    pub batches: Distribution,
    /// Commits that failed, for want of room or worse.
    pub failures: u64,
    /// Commands that wait for the writer.
    pub waiting: u64,
    /// Octets of the database with its log.
    pub database_bytes: u64,
    /// Free room on its disk, octets; `u64::MAX`: not known, because the database is on a server.
    pub free_bytes: u64,
}

/// The part of the queue that has a route and a stream in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueShare {
    /// Route.
    pub route: Arc<str>,
    /// Stream.
    pub stream: Arc<str>,
    /// Recipients in the store, to be claimed when due.
    pub waiting: u64,
    /// Recipients in a run's hands.
    pub leased: u64,
    /// Recipients that somebody has to release.
    pub held: u64,
    /// When the oldest message among those waiting or leased was accepted, Unix milliseconds. Among leased ones only the
    /// oldest thousands are looked at.
    pub oldest_ms: Option<i64>,
    /// When the first of those waiting is due, Unix milliseconds.
    pub next_due_ms: Option<i64>,
}

/// The queue by route and stream, and the contents.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueFigures {
    /// Largest first.
    pub shares: Vec<QueueShare>,
    /// Octets of contents on the disk, used or not.
    pub content_bytes: u64,
    /// Of these, octets in use.
    pub content_live_bytes: u64,
}
