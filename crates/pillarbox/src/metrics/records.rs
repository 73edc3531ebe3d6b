//! What is known of incidents, alerts and checks, as figures: kinds and reasons, never names of anybody.

use std::collections::{BTreeMap, HashSet};

use relay::metrics::{Figure, Kind, OTHER, Value};
use serde_json::Value as Json;
use store::{MOST_RECORDS, RecordKind, RecordQuery, StoreError};

use crate::http::App;

/// Most combinations that are told apart.
const MOST: usize = 200;

type Sums<const N: usize> = BTreeMap<[String; N], u64>;

/// Open incidents and alerts, and the last results of checks.
pub(super) async fn figures(app: &App) -> Result<Vec<Figure>, StoreError> {
    let mut incidents = Sums::<3>::new();
    for record in newest(app, RecordKind::Incident, Some(true)).await? {
        let scope = word(&record.body, "scope");
        let kind = scope.split(':').next().unwrap_or(OTHER).to_owned();
        add(&mut incidents, [word(&record.body, "severity"), kind, word(&record.body, "reason")]);
    }
    let mut alerts = Sums::<2>::new();
    for record in newest(app, RecordKind::Alert, Some(true)).await? {
        // An entry with what became of it, or the alert alone.
        let alert = record.body.get("alert").unwrap_or(&record.body);
        add(&mut alerts, [word(alert, "rule"), word(alert, "severity")]);
    }
    let (mut checks, mut seen) = (Sums::<2>::new(), HashSet::new());
    for record in newest(app, RecordKind::CheckResult, None).await? {
        // The newest comes first; those before it are history.
        if seen.insert(record.name.clone()) {
            let kind = record.name.split([':', '/']).next().unwrap_or(OTHER).to_owned();
            add(&mut checks, [kind, word(&record.body, "level")]);
        }
    }
    Ok(vec![
        figure("pillarbox_incidents_open", "Open incidents.", ["severity", "scope", "reason"], incidents),
        figure("pillarbox_alerts_open", "Alerts that are raised and not resolved.", ["rule", "severity"], alerts),
        figure("pillarbox_checks", "Scheduled checks by what their last run found.", ["kind", "level"], checks),
    ])
}

async fn newest(app: &App, kind: RecordKind, open: Option<bool>) -> Result<Vec<store::Record>, StoreError> {
    let query = RecordQuery { open, limit: MOST_RECORDS as u32, ..RecordQuery::of(kind) };
    app.store.records(query).await
}

/// A word of ours in a body; nothing that could be somebody's name.
fn word(body: &Json, name: &str) -> String {
    let text = body.get(name).and_then(Json::as_str).unwrap_or(OTHER);
    text.chars().take(80).collect()
}

fn add<const N: usize>(sums: &mut Sums<N>, labels: [String; N]) {
    let full = sums.len() >= MOST && !sums.contains_key(&labels);
    let labels = if full { std::array::from_fn(|_| OTHER.to_owned()) } else { labels };
    *sums.entry(labels).or_default() += 1;
}

fn figure<const N: usize>(name: &'static str, help: &'static str, labels: [&'static str; N], sums: Sums<N>) -> Figure {
    sums.into_iter().fold(Figure::new(Kind::Gauge, name, help), |figure, (values, count)| {
        figure.with(labels.into_iter().zip(values).collect(), Value::Level(count as f64))
    })
}
