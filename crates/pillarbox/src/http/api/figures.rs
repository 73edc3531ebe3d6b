//! All figures of `/metrics` as JSON, for those who compute with them; and what the log says.

use std::collections::BTreeMap;

use axum::extract::State;
use relay::metrics::{Figure, Kind, Value};
use serde::{Deserialize, Serialize};

use crate::http::auth::Admin;
use crate::http::health::HealthOut;
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::{Shared, time};
use crate::serve::logging;

/// Figures at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FiguresOut {
    /// When they were gathered, RFC 3339.
    pub at: String,
    /// Since when what only grows has been counted, RFC 3339: the start of the process.
    pub since: String,
    /// All of them.
    pub figures: Vec<FigureOut>,
}

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FigureOut {
    /// Name as in `/metrics`, without `_total`.
    pub name: String,
    /// What it is.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Its points; none if there is nothing to tell.
    pub points: Vec<PointOut>,
}

/// A value with its labels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PointOut {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Of a counter or a gauge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Of a histogram: upper bounds; what is larger than all of them comes last in `counts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<f64>,
    /// Of a histogram: how many were in each bucket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<u64>,
    /// Of a histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<f64>,
}

impl FigureOut {
    fn of(figure: &Figure) -> Self {
        let kind = match figure.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let point = |point: &relay::metrics::Point| {
            let labels = point.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            let mut out = PointOut { labels, value: None, bounds: Vec::new(), counts: Vec::new(), sum: None };
            match &point.value {
                Value::Count(count) => out.value = Some(*count as f64),
                Value::Sum(value) | Value::Level(value) => out.value = Some(*value),
                Value::Spread(spread) => {
                    out.bounds.clone_from(&spread.bounds);
                    out.counts.clone_from(&spread.counts);
                    out.sum = Some(spread.sum);
                }
            }
            out
        };
        let points = figure.points.iter().map(point).collect();
        Self { name: figure.name.into(), help: figure.help.into(), kind: kind.into(), points }
    }
}

/// The figures.
pub async fn show(State(app): State<Shared>, _: Admin) -> axum::Json<FiguresOut> {
    let snapshot = crate::metrics::snapshot(&app).await;
    axum::Json(FiguresOut {
        at: time::show(snapshot.at_ms),
        since: time::show(app.metrics.started_ms()),
        figures: snapshot.figures.iter().map(FigureOut::of).collect(),
    })
}

/// Whether a message would be accepted now, part by part; always 200.
pub async fn health(State(app): State<Shared>) -> axum::Json<HealthOut> {
    axum::Json(crate::http::health::health(&app))
}

/// What the log says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLevelOut {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,relay=debug`.
    pub level: String,
    /// Lines that were left out since the start: too many at once, or nobody took them.
    pub dropped: u64,
}

fn log_level_now() -> axum::Json<LogLevelOut> {
    axum::Json(LogLevelOut { level: logging::level(), dropped: logging::dropped() })
}

/// The log's level.
pub async fn log_level(_: Admin) -> axum::Json<LogLevelOut> {
    log_level_now()
}

/// What the log is to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevelIn {
    /// As [`LogLevelOut::level`].
    level: String,
}

/// Changes the log's level until the next reload or start.
pub async fn set_log_level(_: Admin, Json(body): Json<LogLevelIn>) -> Result<axum::Json<LogLevelOut>, Problem> {
    logging::set(&body.level).map_err(|why| Problem::field("/level", why))?;
    Ok(log_level_now())
}
