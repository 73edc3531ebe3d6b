//! OpenTelemetry: one trace for each message from its accept to its last outcome, and all figures, to a collector.
//!
//! Spans are made of the events in the store, behind a cursor: mail never waits for a collector, a restart loses none of
//! it, and what a trace says is what was recorded. Of several nodes the one that leads sends the spans of all, and each its own
//! figures. The encoding is OTLP as JSON over HTTP, see ADR 9.

pub mod context;
mod encode;
mod spans;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use net::Clock;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use store::{EventKind, HookAsk, HookCursors, StoreError};
use tokio_util::sync::CancellationToken;

use crate::cluster;
use crate::config::checked::Otlp;
use crate::http::Shared;

/// Where the cursor stands in the store.
const CURSOR: &str = "otlp";
/// How often figures are sent.
const FIGURES_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked for events.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest a collector may take for an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Pauses after failures, seconds; the last one repeats.
const PAUSES_S: [u64; 5] = [1, 5, 15, 30, 60];
/// Events sent at once.
const AT_ONCE: u32 = 500;
/// Events that may wait for a collector: of more the oldest are left out.
const MOST_BEHIND: i64 = 200_000;

/// What there is to tell of; the rest is not about delivery.
const KINDS: [EventKind; 11] = [
    EventKind::Accepted,
    EventKind::Deferred,
    EventKind::Delivered,
    EventKind::Failed,
    EventKind::Expired,
    EventKind::Held,
    EventKind::Released,
    EventKind::Canceled,
    EventKind::Suppressed,
    EventKind::Bounced,
    EventKind::Complained,
];

/// A collector.
pub struct Collector {
    http: reqwest::Client,
    endpoint: String,
    headers: HeaderMap,
    resource: Value,
    /// Traces in a hundred.
    sample: u64,
    hostname: String,
}

impl Collector {
    /// As configured; `None` without an endpoint.
    pub fn new(otlp: &Otlp, hostname: &str, node: &str, http: reqwest::Client) -> Result<Option<Self>> {
        let Some(endpoint) = &otlp.endpoint else { return Ok(None) };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            bail!("`otlp.endpoint` has to begin with http:// or https://");
        }
        let headers = match &otlp.headers_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                headers(&text).with_context(|| format!("`otlp.headers_file` {}", path.display()))?
            }
            None => HeaderMap::new(),
        };
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let resource = encode::resource(hostname, node);
        Ok(Some(Self { http, endpoint, headers, resource, sample: otlp.sample, hostname: hostname.to_owned() }))
    }

    async fn send(&self, path: &str, body: &Value) -> Result<(), String> {
        let request = self.http.post(format!("{}{path}", self.endpoint)).timeout(LIMIT).headers(self.headers.clone());
        let answer = request.json(body).send().await.map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}

/// `Name: value`, one a line. Values are secrets: they are in no message.
fn headers(text: &str) -> Result<HeaderMap> {
    let mut all = HeaderMap::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
        });
        let Some((name, value)) = parsed else { bail!("line {} is not `Name: value`", n + 1) };
        all.append(name, value);
    }
    Ok(all)
}

/// Sends what happened, and figures, until the server stops.
pub async fn run(app: Shared, collector: Collector, closing: CancellationToken) {
    let both = async { tokio::join!(traces(&app, &collector), figures(&app, &collector)) };
    tokio::select! {
        _ = both => {}
        () = closing.cancelled() => {}
    }
}

/// Tells once that a collector fails, and once that it works again.
struct Health {
    what: &'static str,
    failures: usize,
}

impl Health {
    fn heard(&mut self, outcome: &Result<(), String>) -> Option<Duration> {
        match outcome {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!("the collector takes {} again", self.what);
                }
                self.failures = 0;
                None
            }
            Err(why) => {
                if self.failures == 0 {
                    tracing::warn!(%why, "the collector does not take {}; tried again", self.what);
                }
                let pause = PAUSES_S[self.failures.min(PAUSES_S.len() - 1)];
                self.failures += 1;
                Some(Duration::from_secs(pause))
            }
        }
    }
}

async fn figures(app: &Shared, collector: &Collector) {
    let mut health = Health { what: "figures", failures: 0 };
    loop {
        let snapshot = crate::metrics::snapshot(app).await;
        let body = encode::metrics(&collector.resource, &snapshot, app.metrics.started_ms());
        let outcome = collector.send("/v1/metrics", &body).await;
        // What was missed is in the next figures: they are sums.
        let pause = health.heard(&outcome).unwrap_or(FIGURES_EVERY);
        tokio::time::sleep(pause.max(Duration::from_secs(5))).await;
    }
}

async fn traces(app: &Shared, collector: &Collector) {
    let mut health = Health { what: "traces", failures: 0 };
    let mut at: Option<HookCursors> = None;
    loop {
        if !cluster::leads(app) {
            // What another sends meanwhile is behind the cursor in the store.
            at = None;
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        let pause = match step(app, collector, &mut at, &mut health).await {
            Ok(pause) => pause,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::debug!(%error, "events cannot be read for traces");
                Some(LOOK_EVERY)
            }
        };
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}

/// One page of events; gives how long to wait before the next.
async fn step(
    app: &Shared,
    collector: &Collector,
    at: &mut Option<HookCursors>,
    health: &mut Health,
) -> Result<Option<Duration>, StoreError> {
    let newest = app.store.newest_event().await?;
    let mut after = match *at {
        Some(after) => after,
        None => HookCursors { events: begin(app, newest).await?, ..HookCursors::default() },
    };
    if newest - after.events > MOST_BEHIND {
        tracing::warn!(
            events = newest - after.events,
            "traces of older events are left out: the collector is too slow"
        );
        after = HookCursors { events: newest, ..HookCursors::default() };
    }
    *at = Some(after);
    if newest <= after.events {
        return Ok(Some(LOOK_EVERY));
    }
    let found = app.store.told_after(HookAsk { after, kinds: KINDS.to_vec(), limit: AT_ONCE }).await?;
    let rules = app.rules();
    let maker = spans::Maker { hostname: &collector.hostname, sample: collector.sample, rules: &rules };
    let spans: Vec<Value> = found.items.iter().flat_map(|told| maker.spans(told)).collect();
    if !spans.is_empty() {
        let outcome = collector.send("/v1/traces", &encode::traces(&collector.resource, spans)).await;
        if let Some(pause) = health.heard(&outcome) {
            return Ok(Some(pause));
        }
    }
    let moved = found.upto.events != after.events;
    *at = Some(found.upto);
    if moved {
        app.store.move_cursor(CURSOR, found.upto.events).await?;
    }
    Ok((found.upto.events >= newest).then_some(LOOK_EVERY))
}

/// Where the last run stopped; the first one begins with what happens from now on.
async fn begin(app: &Shared, newest: i64) -> Result<i64, StoreError> {
    match app.store.cursor(CURSOR).await? {
        0 => Ok(newest),
        known => Ok(known.min(newest)),
    }
}

/// Whoever sends to the collector: authorities and clock are those of mail.
pub fn client(roots: &net::Roots, clock: Clock) -> Result<reqwest::Client> {
    let tls = net::https(roots, clock).context("`tls.roots` cannot be used")?;
    Ok(crate::oauth::client(tls)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_line_by_line_and_a_wrong_line_is_named_without_its_value() {
        let read = headers("Authorization: Bearer s3cret\n\nX-Scope: mail\n").unwrap();
        assert_eq!(read.len(), 2);
        assert!(!format!("{read:?}").contains("s3cret"), "{read:?}");
        let error = headers("X-A: b\nsecret without name\n").unwrap_err().to_string();
        assert_eq!(error, "line 2 is not `Name: value`");
    }
}
