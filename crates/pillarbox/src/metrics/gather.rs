//! Where each figure comes from.

use std::collections::BTreeMap;

use relay::metrics::{Figure, Kind, Spread, Value};
use store::{Distribution, QueueFigures, StoreError};

use super::PATIENCE;
use crate::http::App;

/// Most routes, streams and webhooks that are told apart.
const MOST: usize = 200;

/// What is at hand.
pub(super) fn now(app: &App, _now_ms: i64) -> Vec<Figure> {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    let ready = crate::http::health::readiness(app).is_ok();
    let mut all = vec![
        Figure::new(Kind::Gauge, "pillarbox_build_info", "Version of the program.").with(version, Value::Level(1.0)),
        Figure::level("pillarbox_ready", "A message would be accepted now.", f64::from(u8::from(ready))),
    ];
    if let Some(relay) = &app.relay {
        all.extend(relay.metrics().figures());
        all.extend(relay.levels());
    }
    all.extend(of_store(app));
    all.push(Figure::count(
        "pillarbox_log_lines_dropped",
        "Lines of the log that were not written: too many at once, or nobody took them.",
        crate::serve::logging::dropped(),
    ));
    all.extend(super::process::figures(app.metrics.started_ms()));
    all
}

fn of_store(app: &App) -> Vec<Figure> {
    let store = app.store.figures();
    let spread = |kind: Distribution| Value::Spread(Spread { bounds: kind.bounds, counts: kind.counts, sum: kind.sum });
    let free = (store.free_bytes != u64::MAX).then(|| {
        Figure::level("pillarbox_disk_free_bytes", "Free room on the disk of the data.", store.free_bytes as f64)
    });
    let all = [
        Figure::new(Kind::Histogram, "pillarbox_store_commit_seconds", "Time of a commit with its contents.")
            .with(Vec::new(), spread(store.commits)),
        Figure::new(Kind::Histogram, "pillarbox_store_commit_commands", "Commands that shared a commit.")
            .with(Vec::new(), spread(store.batches)),
        Figure::count("pillarbox_store_commits_failed", "Commits without room, or that broke.", store.failures),
        Figure::level("pillarbox_store_commands_waiting", "Commands that wait for the writer.", store.waiting as f64),
        Figure::level(
            "pillarbox_store_database_bytes",
            "Size of the database with its log.",
            store.database_bytes as f64,
        ),
    ];
    all.into_iter().chain(free).collect()
}

/// What the store has to be asked for.
pub(super) async fn queue(app: &App, now_ms: i64) -> Vec<Figure> {
    let gathered = async {
        let mut all = of_queue(&app.store.queue_figures().await?, now_ms);
        all.extend(webhooks(app, now_ms).await?);
        all.extend(super::records::figures(app).await?);
        Ok::<_, StoreError>(all)
    };
    let gathered = tokio::time::timeout(PATIENCE, gathered).await;
    let (mut all, complete) = match gathered {
        Ok(Ok(all)) => (all, 1.0),
        Ok(Err(_)) | Err(_) => (Vec::new(), 0.0),
    };
    let help = "All figures could be had; 0: the store did not answer in time, and those of the queue are missing.";
    all.push(Figure::level("pillarbox_figures_complete", help, complete));
    all
}

/// One route and stream, and what all that find no room have in common.
#[derive(Default)]
struct Sums {
    waiting: u64,
    leased: u64,
    held: u64,
    age_ms: i64,
    overdue_ms: i64,
}

fn of_queue(found: &QueueFigures, now_ms: i64) -> Vec<Figure> {
    let mut sums: BTreeMap<(String, String), Sums> = BTreeMap::new();
    for share in &found.shares {
        let mut key = (share.route.to_string(), share.stream.to_string());
        if sums.len() >= MOST && !sums.contains_key(&key) {
            key = (relay::metrics::OTHER.into(), relay::metrics::OTHER.into());
        }
        let sum = sums.entry(key).or_default();
        sum.waiting += share.waiting;
        sum.leased += share.leased;
        sum.held += share.held;
        let since = |at: Option<i64>| at.map_or(0, |at| (now_ms - at).max(0));
        sum.age_ms = sum.age_ms.max(since(share.oldest_ms));
        sum.overdue_ms = sum.overdue_ms.max(since(share.next_due_ms));
    }
    let gauge = |name, help| Figure::new(Kind::Gauge, name, help);
    let mut depth = gauge("pillarbox_queue_recipients", "Recipients that are not final, by state.");
    let mut age = gauge(
        "pillarbox_queue_oldest_seconds",
        "Age of the oldest recipient that waits or is under way, since it was accepted.",
    );
    let mut overdue = gauge(
        "pillarbox_queue_overdue_seconds",
        "For how long the recipient that is due first has been due without being taken up.",
    );
    for ((route, stream), sum) in sums {
        let labels = || vec![("route", route.clone()), ("stream", stream.clone())];
        for (state, count) in [("waiting", sum.waiting), ("leased", sum.leased), ("held", sum.held)] {
            let mut labels = labels();
            labels.push(("state", state.into()));
            depth = depth.with(labels, Value::Level(count as f64));
        }
        age = age.with(labels(), Value::Level(sum.age_ms as f64 / 1e3));
        overdue = overdue.with(labels(), Value::Level(sum.overdue_ms as f64 / 1e3));
    }
    let content =
        |name, help, octets: u64| Figure::new(Kind::Gauge, name, help).with(Vec::new(), Value::Level(octets as f64));
    vec![
        depth,
        age,
        overdue,
        content("pillarbox_store_content_bytes", "Contents on the disk, in use or not.", found.content_bytes),
        content("pillarbox_store_content_live_bytes", "Contents in use.", found.content_live_bytes),
    ]
}

/// How far webhooks are behind.
async fn webhooks(app: &App, now_ms: i64) -> Result<Vec<Figure>, StoreError> {
    let newest = app.store.newest_event().await?;
    let gauge = |name, help| Figure::new(Kind::Gauge, name, help);
    let mut lag = gauge("pillarbox_webhook_lag_seconds", "Age of the first event a webhook has not looked at.");
    let mut behind = gauge("pillarbox_webhook_lag_events", "Events a webhook has not looked at.");
    let mut waiting = gauge("pillarbox_webhook_waiting", "Events that wait to be told again.");
    for place in app.store.hooks().await?.into_iter().take(MOST) {
        let events = (newest - place.cursors.events).max(0);
        let first = match events {
            0 => None,
            _ => app.store.events_after(place.cursors.events, 1).await?.first().map(|event| event.at_ms),
        };
        let labels = || vec![("webhook", place.name.clone())];
        let age_ms = first.map_or(0, |at_ms| (now_ms - at_ms).max(0));
        lag = lag.with(labels(), Value::Level(age_ms as f64 / 1e3));
        behind = behind.with(labels(), Value::Level(events as f64));
        waiting = waiting.with(labels(), Value::Level(place.waiting as f64));
    }
    Ok(vec![lag, behind, waiting])
}
