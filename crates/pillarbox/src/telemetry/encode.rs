//! OTLP in its JSON form: names in lowerCamelCase, 64-bit integers as text, names of traces and spans in hexadecimal.

use relay::metrics::{Figure, Kind, Point, Value as Level};
use serde_json::{Value, json};

use crate::metrics::Snapshot;

/// Name of what makes spans and figures.
const SCOPE: &str = "pillarbox";

/// A named value of an attribute.
pub(super) fn text(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}

/// The same with a number.
pub(super) fn number(name: &str, value: i64) -> Value {
    json!({ "key": name, "value": { "intValue": value.to_string() } })
}

/// Unix milliseconds and microseconds behind them, as nanoseconds.
pub(super) fn nanoseconds(ms: i64, us: u64) -> String {
    (i128::from(ms.max(0)) * 1_000_000 + i128::from(us) * 1_000).to_string()
}

/// Who speaks.
pub(super) fn resource(hostname: &str, node: &str) -> Value {
    json!({ "attributes": [
        text("service.name", SCOPE),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", node),
        text("host.name", hostname),
    ] })
}

fn scope() -> Value {
    json!({ "name": SCOPE, "version": env!("CARGO_PKG_VERSION") })
}

/// A request with spans.
pub(super) fn traces(resource: &Value, spans: Vec<Value>) -> Value {
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "scope": scope(), "spans": spans }] }] })
}

/// A request with all figures.
pub(super) fn metrics(resource: &Value, snapshot: &Snapshot, since_ms: i64) -> Value {
    let times = (nanoseconds(since_ms, 0), nanoseconds(snapshot.at_ms, 0));
    let figures = snapshot.figures.iter().filter(|figure| !figure.points.is_empty());
    let metrics: Vec<Value> = figures.map(|one| figure(one, &times)).collect();
    json!({ "resourceMetrics": [{ "resource": resource, "scopeMetrics": [{ "scope": scope(), "metrics": metrics }] }] })
}

fn figure(figure: &Figure, times: &(String, String)) -> Value {
    let points: Vec<Value> = figure.points.iter().map(|one| point(one, times)).collect();
    let unit = match figure.name {
        name if name.ends_with("_seconds") => "s",
        name if name.ends_with("_bytes") => "By",
        _ => "1",
    };
    let mut out = json!({ "name": figure.name, "description": figure.help, "unit": unit });
    // 2: since the start, not since the last report.
    let (kind, data) = match figure.kind {
        Kind::Counter => ("sum", json!({ "dataPoints": points, "aggregationTemporality": 2, "isMonotonic": true })),
        Kind::Gauge => ("gauge", json!({ "dataPoints": points })),
        Kind::Histogram => ("histogram", json!({ "dataPoints": points, "aggregationTemporality": 2 })),
    };
    out[kind] = data;
    out
}

fn point(point: &Point, (since, now): &(String, String)) -> Value {
    let attributes: Vec<Value> = point.labels.iter().map(|(name, value)| text(name, value)).collect();
    let mut out = json!({ "attributes": attributes, "startTimeUnixNano": since, "timeUnixNano": now });
    match &point.value {
        Level::Count(count) => out["asInt"] = json!(count.to_string()),
        Level::Sum(value) | Level::Level(value) => out["asDouble"] = json!(value),
        Level::Spread(spread) => {
            out["count"] = json!(spread.count().to_string());
            out["sum"] = json!(spread.sum);
            out["bucketCounts"] = spread.counts.iter().map(u64::to_string).collect();
            out["explicitBounds"] = json!(spread.bounds);
        }
    }
    out
}
