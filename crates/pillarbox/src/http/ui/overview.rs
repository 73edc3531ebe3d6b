//! What the overview adds to answers of the API: charts of what became of mail, and each route with what is wrong with it.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::chart::{self, Chart, Line, Unit};
use super::door::Door;
use super::page::Looked;
use super::template::encoded;
use crate::http::problem::Problem;

/// How far one may look back: in the query, and in words.
const OVER: [(&str, &str); 4] =
    [("hour", "Last hour"), ("day", "Last day"), ("week", "Last week"), ("month", "Last month")];

/// Widths of charts: a whole line, and half of one.
const WHOLE: f64 = 960.0;
const HALF: f64 = 460.0;

/// Charts, and the health of routes.
pub fn add<'a>(
    looked: &'a Looked,
    door: &'a Door,
    data: &'a mut Map<String, Value>,
) -> BoxFuture<'a, Result<(), Problem>> {
    Box::pin(async move {
        let over = looked.asked("over").filter(|over| OVER.iter().any(|(name, _)| name == over)).unwrap_or("day");
        let series = door.get(&format!("/series?over={over}")).await?;
        data.insert("over".into(), over.into());
        data.insert("spans".into(), json!(OVER));
        data.insert("charts".into(), charts(&series));
        let others = others(data);
        data.insert("others".into(), others);
        let health = health(data);
        data.insert("health".into(), health);
        data.insert("series".into(), series);
        Ok(())
    })
}

/// Failures of each day, drawn small, by rule.
pub fn days<'a>(_: &'a Looked, _: &'a Door, data: &'a mut Map<String, Value>) -> BoxFuture<'a, Result<(), Problem>> {
    Box::pin(async move {
        let causes = data.get("patterns").and_then(|found| found["causes"].as_array()).cloned().unwrap_or_default();
        let drawn = causes.iter().filter_map(|one| {
            let days: Vec<f64> = one["days"].as_array()?.iter().filter_map(Value::as_f64).collect();
            Some((one["rule"].as_str()?.to_owned(), Value::from(chart::small(&days, "failures a day"))))
        });
        data.insert("days".into(), drawn.collect::<Map<_, _>>().into());
        Ok(())
    })
}

/// Without a wish for others, only incidents that are open.
pub fn open_first<'a>(
    looked: &'a Looked,
    door: &'a Door,
    data: &'a mut Map<String, Value>,
) -> BoxFuture<'a, Result<(), Problem>> {
    Box::pin(async move {
        if looked.asked("open").is_none() {
            let filters = ["scope", "reason", "before"]
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), looked.asked(name)?.to_owned())));
            let asked: Vec<_> = [("open".to_owned(), "true".to_owned())].into_iter().chain(filters).collect();
            data.insert("found".into(), door.get(&format!("/incidents?{}", encoded(&asked))).await?);
        }
        Ok(())
    })
}

/// The charts by name.
fn charts(series: &Value) -> Value {
    let points = series["points"].as_array().map_or(&[][..], Vec::as_slice);
    let first = points.first().and_then(|one| one["at"].as_str()?.parse::<jiff::Timestamp>().ok());
    let from_ms = first.map_or(0, jiff::Timestamp::as_millisecond);
    let step_ms = series["step_s"].as_i64().unwrap_or(60) * 1_000;
    let line = |class, name, field: &str| Line {
        class,
        name,
        values: points.iter().map(|one| one["sums"][field].as_f64()).collect(),
    };
    let chart = |id, title, unit, width, lines| {
        Chart { id, title, unit, from_ms, step_ms, lines, filled: unit == Unit::Count, width }.svg()
    };
    json!({
        "flow": chart("flow", "What became of mail: recipients in each step", Unit::Count, WHOLE, vec![
            line("s1", "accepted", "accepted"),
            line("s4", "delivered", "delivered"),
            line("s3", "put off", "deferred"),
            line("s2", "failed", "failed"),
        ]),
        "latency": chart("latency", "From accept to the next hop’s 250", Unit::Span, HALF, vec![
            line("s3", "95 % within", "p95_ms"),
            line("s1", "half within", "p50_ms"),
        ]),
        "queue": chart("queue", "Recipients that wait", Unit::Count, HALF, vec![line("s1", "waiting", "waiting")]),
    })
}

/// Alerts that are not about an incident, which stands above them already.
fn others(data: &Map<String, Value>) -> Value {
    let raised = data.get("alerts").and_then(|answer| answer["items"].as_array()).cloned().unwrap_or_default();
    let of_incident = |one: &Value| one["about"].as_array().into_iter().flatten().any(|fact| fact[0] == "incident");
    raised.into_iter().filter(|one| one["rule"] != "incident" && !of_incident(one)).collect()
}

/// Each route with its worst: off, incident, brake, out, or fine.
fn health(data: &Map<String, Value>) -> Value {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |name: &str, field: &str| list(data.get(name).map(|answer| &answer[field]));
    let (routes, counts) = (of("routes", "items"), of("counts", "items"));
    let (incidents, forecasts) = (of("status", "incidents"), of("status", "forecasts"));
    let relay = data.get("status").map(|status| status["relay"].clone()).unwrap_or_default();
    let (brakes, out) = (list(relay.get("brakes")), list(relay.get("out")));
    let rows = routes.iter().map(|route| {
        let name = route["name"].as_str().unwrap_or_default();
        let touches = |one: &&Value| {
            let scope = one["scope"].as_str().unwrap_or_default();
            scope.split_once(':').is_some_and(|(kind, of)| ["route", "credential"].contains(&kind) && of == name)
        };
        let here = |one: &&Value| {
            let destination = one["name"].as_str().unwrap_or_default();
            destination == name || destination.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
        };
        let named = |list: &[Value], field: &str| list.iter().find(|one| one[field] == route["name"]).cloned();
        let incident = incidents.iter().find(touches).cloned();
        let brake = named(&brakes, "route");
        let out: Vec<Value> = out.iter().filter(here).cloned().collect();
        let (state, kind) = match (&incident, &brake, out.is_empty()) {
            (_, Some(_), _) => ("brake on", "bad"),
            (Some(one), None, _) if one["severity"] == "warning" => ("incident", "warn"),
            (Some(_), None, _) => ("incident", "bad"),
            (None, None, false) => ("partly out", "warn"),
            (None, None, true) => ("works", "good"),
        };
        json!({
            "name": name, "kind": route["kind"], "state": state, "shape": kind, "incident": incident, "brake": brake,
            "out": out, "count": named(&counts, "group"), "forecast": named(&forecasts, "route"),
        })
    });
    rows.collect()
}
