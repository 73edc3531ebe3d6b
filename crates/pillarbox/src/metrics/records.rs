//! What is known of incidents, alerts and checks, as figures: kinds and reasons, never names of anybody.

use std::collections::BTreeMap;

use relay::metrics::{Figure, Kind, OTHER, Value};
use serde_json::Value as Json;
use store::{RecordKind, RecordQuery, StoreError};

use crate::http::App;

/// Most combinations that are told apart.
const MOST: usize = 200;

type Sums<const N: usize> = BTreeMap<[String; N], u64>;

/// Open incidents and alerts, and the last results of checks.
pub(super) async fn figures(app: &App) -> Result<Vec<Figure>, StoreError> {
    let mut incidents = Sums::<3>::new();
    let open = RecordQuery { limit: MOST as u32, ..RecordQuery::open(RecordKind::Incident) };
    for record in app.store.records(open).await? {
        let scope = word(&record.body, "scope");
        let kind = scope.split(':').next().unwrap_or(OTHER).to_owned();
        add(&mut incidents, [word(&record.body, "severity"), kind, word(&record.body, "reason")], 1);
    }
    let mut alerts = Sums::<2>::new();
    for raised in app.alerts.raised().await {
        let alert = &raised.entry.alert;
        let rule = serde_json::to_value(alert.rule).unwrap_or_default();
        add(&mut alerts, [rule.as_str().unwrap_or(OTHER).to_owned(), alert.severity.as_str().to_owned()], 1);
    }
    let mut checks = Sums::<2>::new();
    for ((kind, level), count) in app.monitor.results.levels() {
        add(&mut checks, [kind, level.word().to_owned()], count);
    }
    Ok(vec![
        figure("pillarbox_incidents_open", "Open incidents.", ["severity", "scope", "reason"], incidents),
        figure("pillarbox_alerts_open", "Alerts that are raised and not resolved.", ["rule", "severity"], alerts),
        figure("pillarbox_checks", "Scheduled checks by what their last run found.", ["kind", "level"], checks),
    ])
}

/// A word of ours in a body; nothing that could be somebody's name.
fn word(body: &Json, name: &str) -> String {
    let text = body.get(name).and_then(Json::as_str).unwrap_or(OTHER);
    text.chars().take(80).collect()
}

fn add<const N: usize>(sums: &mut Sums<N>, labels: [String; N], count: u64) {
    let full = sums.len() >= MOST && !sums.contains_key(&labels);
    let labels = if full { std::array::from_fn(|_| OTHER.to_owned()) } else { labels };
    *sums.entry(labels).or_default() += count;
}

fn figure<const N: usize>(name: &'static str, help: &'static str, labels: [&'static str; N], sums: Sums<N>) -> Figure {
    sums.into_iter().fold(Figure::new(Kind::Gauge, name, help), |figure, (values, count)| {
        figure.with(labels.into_iter().zip(values).collect(), Value::Level(count as f64))
    })
}
