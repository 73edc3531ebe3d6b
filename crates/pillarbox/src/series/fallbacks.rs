//! When each fallback route was used last, by any node: one record, which outlives restarts. It is looked at in days, so once an
//! hour is often enough to write that a route is in use.

use std::collections::{BTreeMap, BTreeSet};

use relay::Relay;
use relay::metrics::{Figure, Value};
use store::{Record, RecordKind, RecordQuery, RecordWrite, RecordWritten, StoreError};

use super::HOUR_MS;
use crate::http::App;

/// Name of the record.
const NAME: &str = "fallbacks-used";
/// How often it is tried while other nodes write it too.
const TRIES: usize = 3;

/// When routes were used last, Unix milliseconds.
pub type Used = BTreeMap<String, i64>;

/// When each fallback route was used last; if it never was, since when it is known as one.
pub async fn used(app: &App) -> Result<Used, StoreError> {
    Ok(read(app).await?.map(|(_, used)| used).unwrap_or_default())
}

/// Notes which fallback routes this node has used since the last look.
pub(super) async fn note(app: &App, relay: &Relay, now_ms: i64) -> Result<(), StoreError> {
    let routes = relay.routes();
    let fallbacks = routes.iter().flat_map(|route| &route.record.fallback);
    let fallbacks: BTreeSet<String> = fallbacks.map(|fallback| fallback.route.clone()).collect();
    if fallbacks.is_empty() {
        return Ok(());
    }
    let opened = opened(&relay.metrics().figures());
    let lately = more(&app.series.0.lock().opened, &opened);
    if keep(app, &fallbacks, &lately, now_ms).await? {
        app.series.0.lock().opened = opened;
    }
    Ok(())
}

/// Connections that came about, by route.
fn opened(figures: &[Figure]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let figures = figures.iter().filter(|figure| figure.name == "pillarbox_connections_opened");
    for point in figures.flat_map(|figure| &figure.points) {
        let route = point.labels.iter().find(|(name, _)| *name == "route");
        if let (Some((_, route)), Value::Count(count)) = (route, &point.value) {
            counts.insert(route.clone(), *count);
        }
    }
    counts
}

/// Routes with more than before.
fn more(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> BTreeSet<String> {
    let grew = now.iter().filter(|(route, count)| **count > before.get(*route).copied().unwrap_or(0));
    grew.map(|(route, _)| route.clone()).collect()
}

/// Writes it down. False: other nodes were faster each time.
async fn keep(
    app: &App,
    fallbacks: &BTreeSet<String>,
    lately: &BTreeSet<String>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let kind = RecordKind::Series;
    for _ in 0..TRIES {
        let (record, before) = read(app).await?.map_or((None, Used::new()), |(record, used)| (Some(record), used));
        let now = renewed(&before, fallbacks, lately, now_ms);
        if now == before {
            return Ok(true);
        }
        let body = serde_json::to_value(&now).map_err(|error| StoreError::Internal(error.to_string()))?;
        let write = match record {
            Some(Record { id, version, .. }) => {
                RecordWrite::Change { kind, id, version: Some(version), open: true, body }
            }
            None => RecordWrite::Add { kind, name: NAME.into(), open: true, at_ms: now_ms, body },
        };
        let written = app.store.write_records(vec![write]).await?;
        if matches!(written.first(), Some(RecordWritten::Added(_) | RecordWritten::Changed(_))) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn read(app: &App) -> Result<Option<(Record, Used)>, StoreError> {
    let query = RecordQuery { open: Some(true), limit: 1, ..RecordQuery::named(RecordKind::Series, NAME) };
    let found = app.store.records(query).await?.pop();
    Ok(found.map(|record| {
        let used = serde_json::from_value(record.body.clone()).unwrap_or_default();
        (record, used)
    }))
}

/// Of a route that is new as a fallback the days begin now; one that is none any more is forgotten.
fn renewed(before: &Used, fallbacks: &BTreeSet<String>, lately: &BTreeSet<String>, now_ms: i64) -> Used {
    let at_ms = |route: &String| match before.get(route) {
        Some(at_ms) if !lately.contains(route) || (0..HOUR_MS).contains(&(now_ms - at_ms)) => *at_ms,
        _ => now_ms,
    };
    fallbacks.iter().map(|route| (route.clone(), at_ms(route))).collect()
}

#[cfg(test)]
mod tests {
    use net::Clock;
    use relay::metrics::Kind;

    use super::*;

    const DAY_MS: i64 = 24 * HOUR_MS;

    fn set(routes: &[&str]) -> BTreeSet<String> {
        routes.iter().map(|route| (*route).to_owned()).collect()
    }

    #[test]
    fn a_route_is_used_when_more_connections_came_about() {
        let figure = |list: &[(&str, u64)]| {
            let counted = |figure: Figure, (route, count): &(&str, u64)| {
                figure.with(vec![("route", (*route).to_owned())], Value::Count(*count))
            };
            vec![list.iter().fold(Figure::new(Kind::Counter, "pillarbox_connections_opened", ""), counted)]
        };
        let before = opened(&figure(&[("a", 3), ("b", 3)]));
        let now = opened(&figure(&[("a", 3), ("b", 4), ("c", 1), ("d", 0)]));
        assert_eq!(more(&before, &now), set(&["b", "c"]));
    }

    #[tokio::test]
    async fn what_was_used_is_known_after_a_restart_and_an_hour_is_close_enough() {
        let place = tempfile::tempdir().unwrap();
        let text = format!("hostname = \"relay.test\"\ndata_dir = \"{}\"\n", place.path().join("data").display());
        let config = crate::config::read(None, &text, std::iter::empty()).unwrap().config;
        let clock = Clock::manual(100 * DAY_MS);
        let (opened, _) = crate::serve::parts::store(&config, &clock).unwrap();
        let start = || crate::serve::app(&config, opened.clone(), None, None, clock.clone());
        let app = start();
        assert!(keep(&app, &set(&["second", "third"]), &set(&[]), 0).await.unwrap());
        assert!(keep(&app, &set(&["second", "third"]), &set(&["second", "out"]), 20 * DAY_MS).await.unwrap());
        assert!(keep(&app, &set(&["second", "third"]), &set(&["second"]), 20 * DAY_MS + HOUR_MS - 1).await.unwrap());
        let expected = Used::from([("second".to_owned(), 20 * DAY_MS), ("third".to_owned(), 0)]);
        assert_eq!(used(&app).await.unwrap(), expected);

        // Another run knows it; of routes that are no fallbacks any more it forgets it.
        let app = start();
        assert_eq!(used(&app).await.unwrap(), expected);
        assert!(keep(&app, &set(&["third", "fourth"]), &set(&["third"]), 40 * DAY_MS).await.unwrap());
        let expected = Used::from([("third".to_owned(), 40 * DAY_MS), ("fourth".to_owned(), 40 * DAY_MS)]);
        assert_eq!(used(&app).await.unwrap(), expected);
        let records = opened.records(RecordQuery::named(RecordKind::Series, NAME)).await.unwrap();
        assert_eq!(records.len(), 1);
        opened.close().await.unwrap();
    }
}
