//! What became of mail over time, for charts: accepted, delivered, deferred, failed, how long delivery took, and what waited.
//!
//! The relay's counters are read once a minute and their difference is written as a record: minutes are kept for three days,
//! hours for 400. The way of mail knows nothing of it. A server that is killed loses the minute under way; one that stops
//! writes it down. Several nodes write records of their own, which are added up when somebody looks. [`fallbacks`] is when fallback
//! routes were used last.

pub mod bucket;
pub mod fallbacks;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use relay::metrics::Totals;
use store::{GroupBy, RecordKind, RecordQuery, RecordWrite, RecordWritten, StoreError};
use tokio_util::sync::CancellationToken;

use crate::http::{App, Shared};
use bucket::{Bucket, Kept, difference};

pub use read::{Over, Point, look};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A resolution: what a record is named, what it spans, what one bucket spans, how long it is kept; milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fineness {
    name: &'static str,
    record_ms: i64,
    bucket_ms: i64,
    kept_ms: i64,
}

const MINUTES: Fineness = Fineness { name: "minutes", record_ms: HOUR_MS, bucket_ms: MINUTE_MS, kept_ms: 3 * DAY_MS };
const HOURS: Fineness = Fineness { name: "hours", record_ms: DAY_MS, bucket_ms: HOUR_MS, kept_ms: 400 * DAY_MS };

/// A record in the making.
#[derive(Debug, Default)]
struct Open {
    id: Option<i64>,
    start_ms: i64,
    kept: Kept,
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
struct State {
    /// The counters at the last look, and when that was.
    last: Option<(i64, Totals)>,
    minutes: Open,
    hours: Open,
    /// Connections by route, as far as it is written down which fallbacks were used.
    opened: BTreeMap<String, u64>,
}

/// The series of this process.
#[derive(Debug, Default)]
pub struct Series(Mutex<State>);

impl Series {
    /// What was counted since the last look, which no record has yet, with the middle of that time.
    fn rest(&self, now_ms: i64, totals: &Totals) -> Option<(i64, Bucket)> {
        let state = self.0.lock();
        let (last_ms, last) = state.last.as_ref()?;
        Some((last_ms + (now_ms - last_ms) / 2, difference(last, totals)))
    }
}

/// Writes minute after minute until the server stops.
pub async fn run(app: Shared, closing: CancellationToken) {
    let Some(relay) = app.relay.clone() else { return };
    // A loop that was restarted goes on where it was.
    app.series.0.lock().last.get_or_insert_with(|| (app.clock.now_ms(), relay.metrics().totals()));
    loop {
        let left_ms = MINUTE_MS - app.clock.now_ms().rem_euclid(MINUTE_MS);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(left_ms as u64)) => {}
            () = closing.cancelled() => {}
        }
        let now_ms = app.clock.now_ms();
        let waiting = waiting(&app).await;
        match keep(&app, &relay.metrics().totals(), waiting, now_ms).await {
            Ok(()) | Err(StoreError::Closed) => {}
            Err(error) => tracing::warn!(%error, "what became of mail could not be written down for the charts"),
        }
        match fallbacks::note(&app, &relay, now_ms).await {
            Ok(()) | Err(StoreError::Closed) => {}
            Err(error) => tracing::warn!(%error, "when fallback routes were used could not be written down"),
        }
        if closing.is_cancelled() {
            return;
        }
    }
}

/// Recipients that wait or are under way, all routes together.
async fn waiting(app: &App) -> Option<u64> {
    let counts = app.store.counts(GroupBy::Route, 1_000).await.ok()?;
    Some(counts.iter().map(|count| count.pending).sum())
}

/// Adds what was counted since the last look to the records under way, and writes them.
async fn keep(app: &App, totals: &Totals, waiting: Option<u64>, now_ms: i64) -> Result<(), StoreError> {
    let mut writes = Vec::with_capacity(2);
    let mut new_hour = false;
    {
        let mut state = app.series.0.lock();
        let Some((last_ms, last)) = state.last.replace((now_ms, totals.clone())) else { return Ok(()) };
        let mut bucket = difference(&last, totals);
        bucket.waiting = waiting;
        // The time that was counted lies before now: its middle says where it belongs.
        let at_ms = last_ms + (now_ms - last_ms).max(0) / 2;
        let State { minutes, hours, .. } = &mut *state;
        for (fineness, open) in [(MINUTES, minutes), (HOURS, hours)] {
            let start_ms = at_ms.div_euclid(fineness.record_ms) * fineness.record_ms;
            if open.start_ms != start_ms {
                new_hour |= fineness == MINUTES;
                *open = Open { start_ms, kept: Kept::new(totals), ..Open::default() };
            }
            let slot = ((at_ms - start_ms) / fineness.bucket_ms) as u32;
            open.kept.add(slot, &bucket);
            let Ok(body) = serde_json::to_value(&open.kept) else { continue };
            let kind = RecordKind::Series;
            writes.push(match open.id {
                Some(id) => RecordWrite::Change { kind, id, version: None, open: false, body },
                None => RecordWrite::Add { kind, name: fineness.name.into(), open: false, at_ms: start_ms, body },
            });
        }
    }
    let written = app.store.write_records(writes).await?;
    {
        let mut state = app.series.0.lock();
        let State { minutes, hours, .. } = &mut *state;
        for (open, written) in [minutes, hours].into_iter().zip(written) {
            match written {
                RecordWritten::Added(id) => open.id = Some(id),
                // Somebody took it away: the next minute makes another.
                RecordWritten::Missing => open.id = None,
                _ => {}
            }
        }
    }
    if new_hour {
        forget(app, now_ms).await?;
    }
    Ok(())
}

/// Removes what was kept long enough.
async fn forget(app: &App, now_ms: i64) -> Result<(), StoreError> {
    for fineness in [MINUTES, HOURS] {
        let query = RecordQuery {
            until_ms: Some(now_ms - fineness.kept_ms - fineness.record_ms),
            ..RecordQuery::named(RecordKind::Series, fineness.name)
        };
        let old = app.store.records(query).await?;
        if !old.is_empty() {
            let remove = |record: &store::Record| RecordWrite::Remove { kind: RecordKind::Series, id: record.id };
            app.store.write_records(old.iter().map(remove).collect()).await?;
        }
    }
    Ok(())
}

/// Buckets of a resolution since a time, by their beginning; of all nodes, with what this one has not written yet.
async fn buckets(
    app: &App,
    fineness: Fineness,
    since_ms: i64,
    now_ms: i64,
) -> Result<(Vec<f64>, BTreeMap<i64, Bucket>), StoreError> {
    let totals = app.relay.as_ref().map(|relay| relay.metrics().totals()).unwrap_or_default();
    let mut all: BTreeMap<i64, Bucket> = BTreeMap::new();
    let mut bounds = totals.delivery.as_ref().map(|spread| spread.bounds.clone()).unwrap_or_default();
    let mut query = RecordQuery {
        since_ms: Some(since_ms - fineness.record_ms),
        after: Some(0),
        ..RecordQuery::named(RecordKind::Series, fineness.name)
    };
    loop {
        let page = app.store.records(query.clone()).await?;
        query.after = page.last().map(|record| record.id);
        let full = page.len() == query.limit as usize;
        for record in page {
            let Ok(mut kept) = serde_json::from_value::<Kept>(record.body) else { continue };
            if bounds.is_empty() {
                bounds.clone_from(&kept.bounds);
            }
            kept.fit(&bounds);
            for (slot, bucket) in kept.buckets {
                let at_ms = record.at_ms + i64::from(slot) * fineness.bucket_ms;
                if at_ms + fineness.bucket_ms > since_ms && at_ms <= now_ms {
                    all.entry(at_ms).or_default().merge(&bucket);
                }
            }
        }
        if !full {
            break;
        }
    }
    if let Some((at_ms, rest)) = app.series.rest(now_ms, &totals) {
        all.entry(at_ms.div_euclid(fineness.bucket_ms) * fineness.bucket_ms).or_default().merge(&rest);
    }
    Ok((bounds, all))
}
