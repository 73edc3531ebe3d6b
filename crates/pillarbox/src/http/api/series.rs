//! What became of mail over time, for charts.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::{Shared, time};
use crate::patterns::ShareOut;
use crate::series::{self, Over, bucket::Bucket};

/// How far to look back.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeriesQuery {
    /// By default a day.
    over: Over,
}

/// What became of mail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeriesOut {
    /// How far it looks back.
    pub over: Over,
    /// Length of a step, seconds.
    pub step_s: i64,
    /// Steps, oldest first; the last one is under way. Minutes are kept for three days, hours for 400.
    pub points: Vec<StepOut>,
    /// All steps together.
    pub total: SumsOut,
    /// Attempts of recipients that failed or were put off, by reason, the most frequent first.
    pub causes: Vec<ShareOut>,
    /// Where the queue is going; absent until it was looked at twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trend: Option<TrendOut>,
}

/// A step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepOut {
    /// Its beginning, RFC 3339.
    pub at: String,
    /// What happened in it; absent where no server ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<SumsOut>,
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SumsOut {
    /// Recipients that came in.
    pub accepted: u64,
    /// Recipients that the next hop took.
    pub delivered: u64,
    /// Attempts of recipients that are to be repeated.
    pub deferred: u64,
    /// Recipients that failed for good, or whose time was over.
    pub failed: u64,
    /// Recipients that waited at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Half of those delivered took at most so many milliseconds from accept to the next hop's 250.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<u64>,
    /// 95 % of them did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u64>,
}

/// Where the queue is going.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrendOut {
    /// Recipients that wait now.
    pub waiting: u64,
    /// The same an hour ago, or at the first look in this hour.
    pub before: u64,
    /// Recipients that came in during the hour.
    pub came: u64,
    /// Recipients that left it: delivered or failed.
    pub left: u64,
    /// It has been growing for so long, seconds, long enough to be a sign of a lasting problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grows_s: Option<i64>,
    /// All of it for people.
    pub words: String,
}

/// What became of mail over time: accepted, delivered, deferred, failed, waiting, and how long delivery took.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<SeriesQuery>,
) -> Result<axum::Json<SeriesOut>, Problem> {
    let seen = series::look(&app, query.over, app.clock.now_ms()).await?;
    let sums = |bucket: &Bucket| SumsOut {
        accepted: bucket.accepted,
        delivered: bucket.delivered,
        deferred: bucket.deferred,
        failed: bucket.failed,
        waiting: bucket.waiting,
        p50_ms: bucket.quantile_ms(&seen.bounds, 0.5),
        p95_ms: bucket.quantile_ms(&seen.bounds, 0.95),
    };
    let step = |point: &series::Point| StepOut { at: time::show(point.at_ms), sums: point.bucket.as_ref().map(sums) };
    Ok(axum::Json(SeriesOut {
        over: query.over,
        step_s: seen.step_ms / 1_000,
        points: seen.points.iter().map(step).collect(),
        total: sums(&seen.total),
        causes: shares(&seen.total),
        trend: seen.trend.as_ref().map(|trend| TrendOut {
            waiting: trend.waiting.0,
            before: trend.waiting.1,
            came: trend.flow.0,
            left: trend.flow.1,
            grows_s: trend.grows_ms.map(|ms| ms / 1_000),
            words: trend.words(),
        }),
    }))
}

fn shares(total: &Bucket) -> Vec<ShareOut> {
    let all: u64 = total.reasons.values().sum();
    let percent = |count: u64| (count as f64 * 1_000.0 / all.max(1) as f64).round() / 10.0;
    let mut list: Vec<ShareOut> = total
        .reasons
        .iter()
        .map(|(name, count)| ShareOut { name: name.clone(), times: *count as usize, percent: percent(*count) })
        .collect();
    list.sort_by(|a, b| b.times.cmp(&a.times).then_with(|| a.name.cmp(&b.name)));
    list
}
