//! `pillarbox series`: what became of mail over time.

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, read};
use super::output::{clean, json as print_json, print, short_time, table};
use crate::http::api::series::{SeriesOut, StepOut, SumsOut};

/// Shows the steps in which something happened.
pub async fn run(global: &Global, over: &str) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let value = client.get(&format!("/series?over={over}")).await?;
    if global.json {
        return print_json(&value);
    }
    let series: SeriesOut = read(value)?;
    let step =
        |step: &StepOut| step.sums.as_ref().filter(|sums| busy(sums)).map(|sums| row(short_time(&step.at), sums));
    let mut rows: Vec<_> = series.points.iter().filter_map(step).collect();
    if rows.is_empty() {
        print("Nothing happened in this time.\n")?;
    } else {
        rows.push(row("together".into(), &series.total));
        table(&["FROM", "ACCEPTED", "DELIVERED", "DEFERRED", "FAILED", "WAITING", "P50", "P95"], &rows)?;
    }
    for cause in &series.causes {
        print(&format!("{}: {} ({:.1} %)\n", clean(&cause.name), cause.times, cause.percent))?;
    }
    series.trend.map_or(Ok(()), |trend| print(&format!("{}\n", clean(&trend.words))))
}

fn busy(sums: &SumsOut) -> bool {
    sums.accepted + sums.delivered + sums.deferred + sums.failed > 0
}

fn row(at: String, sums: &SumsOut) -> Vec<String> {
    let number = |one: Option<u64>| one.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let latency = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    vec![
        at,
        sums.accepted.to_string(),
        sums.delivered.to_string(),
        sums.deferred.to_string(),
        sums.failed.to_string(),
        number(sums.waiting),
        latency(sums.p50_ms),
        latency(sums.p95_ms),
    ]
}
