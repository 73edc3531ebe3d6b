//! Webhooks: who is told of events by HTTP. The signing secret is shown when it is made, and never again.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::settings::{Document, Kind, SecretChange};
use store::{HookDelivery, HookPlace, HookProgress, HookStart};

use super::input::Time;
use super::senders::text;
use super::settings;
use crate::cluster;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::{Names, Page};
use crate::http::{Shared, time};
use crate::webhook::Logged;
use crate::webhook::health::Health;
use crate::webhook::payload::{self, HookEvent};
use crate::webhook::post::Answer;
use crate::webhook::record::WebhookRecord;
use crate::webhook::sign::Secrets;

/// Most webhooks.
const MOST: usize = 100;
/// How long the old secret signs as well, hours.
const OVERLAP_H: u32 = 24;
/// Longest overlap, hours.
const MOST_OVERLAP_H: u32 = 30 * 24;

/// A webhook and how it is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WebhookOut {
    /// Name.
    pub name: String,
    /// Where requests go.
    pub url: String,
    /// What is told; empty: everything.
    pub events: Vec<HookEvent>,
    /// Of messages in these streams; empty: of all.
    pub streams: Vec<String>,
    /// Of messages by these senders; empty: of all.
    pub senders: Vec<String>,
    /// Networks that are not public and may be called all the same.
    pub networks: Vec<String>,
    /// `http://` is taken.
    pub allow_http: bool,
    /// Seconds it may take to answer.
    pub timeout: u32,
    /// `ok`, `failing`, `paused` or `disabled`.
    pub status: String,
    /// Why it is paused, or the last failure while it fails.
    pub reason: Option<String>,
    /// Since when it is paused or fails, RFC 3339.
    pub since: Option<String>,
    /// While it fails as a whole: when it is asked again, RFC 3339.
    pub next: Option<String>,
    /// Events that wait to be told again, or behind one that does. Those that were not reached yet are not among them.
    pub waiting: u64,
    /// Number of the last event that is told, left out, or waiting.
    pub cursor: i64,
    /// How far that is behind the newest event.
    pub behind: i64,
    /// Last time something was taken, RFC 3339.
    pub last_taken: Option<String>,
    /// Until when the old secret signs as well, RFC 3339.
    pub old_secret_until: Option<String>,
    /// Last change, RFC 3339.
    pub updated: String,
    /// A secret that was made just now; shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_secret: Option<String>,
}

/// An entry of the delivery log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryOut {
    /// Cursor.
    pub id: i64,
    /// RFC 3339.
    pub at: String,
    /// The attempt.
    pub delivery: Logged,
}

async fn shown(app: &Shared, document: &Document) -> Result<WebhookOut, Problem> {
    let places = app.store.hooks().await?;
    let place = places.iter().find(|place| place.name == document.name);
    let newest = app.store.newest_event().await?;
    out(app, document, place, newest)
}

fn out(app: &Shared, document: &Document, place: Option<&HookPlace>, newest: i64) -> Result<WebhookOut, Problem> {
    let record: WebhookRecord = settings::record(document)?;
    let health = place.map(|place| Health::read(&place.state)).unwrap_or_default();
    let now_ms = app.clock.now_ms();
    let last = || health.last_failure.as_ref().map(|failure| failure.why.clone());
    let (status, reason, since_ms) = match &health.paused {
        _ if record.disabled => ("disabled", None, None),
        Some(paused) => ("paused", Some(paused.why.clone()), Some(paused.since_ms)),
        None if health.failures > 0 => ("failing", last(), health.failing_since_ms),
        None => ("ok", None, None),
    };
    let secrets = Secrets::read(document.secret.as_ref()).ok();
    let old = secrets.and_then(|secrets| secrets.previous).map(|(_, until_ms)| until_ms);
    let cursor = place.map_or(newest, |place| place.cursors.events);
    Ok(WebhookOut {
        name: document.name.clone(),
        url: record.url,
        events: record.events,
        streams: record.streams,
        senders: record.senders,
        networks: record.networks.iter().map(ToString::to_string).collect(),
        allow_http: record.allow_http,
        timeout: record.timeout,
        status: status.into(),
        reason,
        since: since_ms.map(time::show),
        next: health.probe_ms.filter(|_| health.paused.is_none()).map(time::show),
        waiting: place.map_or(0, |place| place.waiting),
        cursor,
        behind: (newest - cursor).max(0),
        last_taken: health.last_taken_ms.map(time::show),
        old_secret_until: old.filter(|until_ms| *until_ms > now_ms).map(time::show),
        updated: time::show(document.updated_ms),
        new_secret: None,
    })
}

/// All webhooks.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(names): Query<Names>,
) -> Result<axum::Json<Page<WebhookOut>>, Problem> {
    let all = app.store.documents(Kind::Webhook).await?;
    let places = app.store.hooks().await?;
    let newest = app.store.newest_event().await?;
    let one =
        |document: &Document| out(&app, document, places.iter().find(|place| place.name == document.name), newest);
    Ok(axum::Json(names.page(all.iter().map(one).collect::<Result<_, _>>()?, |one| &one.name)))
}

/// One webhook.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<WebhookOut>, Problem> {
    shown(&app, &settings::find(&app, Kind::Webhook, &name).await?).await.map(axum::Json)
}

/// Adds a webhook: `name`, the fields of the record, `secret` to bring one, `since` to begin in the past.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<WebhookOut>), Problem> {
    let name = text(&mut body, "name")?.ok_or_else(|| Problem::field("/name", "is missing"))?;
    settings::checked_name(&name)?;
    let given = text(&mut body, "secret")?.map(SecretString::from);
    let made = given.is_none();
    let secrets = secrets(Secrets::new(given))?;
    let since: Option<Time> = body.remove("since").map(|value| within("/since", value)).transpose()?;
    let record: WebhookRecord = settings::read(Value::Object(body))?;
    check(&app, &record)?;
    let _one = app.settings.lock().await;
    let known = app.store.documents(Kind::Webhook).await?;
    if known.iter().any(|document| document.name == name) {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already a webhook \"{name}\"")));
    }
    if known.len() >= MOST {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there are {MOST} webhooks already")));
    }
    // First where it begins: what happens from now on is told, whatever happens to this process.
    app.store.hook_forget(name.clone()).await?;
    app.store.hook_start(name.clone(), since.map_or(HookStart::Now, |since| HookStart::At(since.0))).await?;
    settings::add(&app, Kind::Webhook, &name, &record, SecretChange::Set(secrets.write())).await?;
    app.hooks.changed();
    let shown = shown(&app, &settings::find(&app, Kind::Webhook, &name).await?).await?;
    let new_secret = made.then(|| secrets.current.expose_secret().to_owned());
    Ok((StatusCode::CREATED, axum::Json(WebhookOut { new_secret, ..shown })))
}

/// Changes a webhook by a merge patch (RFC 7396).
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(patch): Json<Map<String, Value>>,
) -> Result<axum::Json<WebhookOut>, Problem> {
    if patch.contains_key("secret") {
        return Err(Problem::field("/secret", "is changed by its own request"));
    }
    let _one = app.settings.lock().await;
    let before = settings::find(&app, Kind::Webhook, &name).await?;
    let old: WebhookRecord = settings::record(&before)?;
    let mut body = before.body.clone();
    settings::merge(&mut body, Value::Object(patch));
    let record: WebhookRecord = settings::read(body)?;
    check(&app, &record)?;
    let work = async {
        if record.wants_changes() && !old.wants_changes() {
            skip_changes(&app, &name).await?;
        }
        settings::write(&app, Kind::Webhook, &name, &record, SecretChange::Keep).await
    };
    app.hooks.alone(&name, work).await?;
    shown(&app, &settings::find(&app, Kind::Webhook, &name).await?).await.map(axum::Json)
}

/// Changes of suppressions that happened while nobody wanted them are not told.
async fn skip_changes(app: &Shared, name: &str) -> Result<(), Problem> {
    only_here(app).await?;
    let Some(place) = app.store.hooks().await?.into_iter().find(|place| place.name == name) else { return Ok(()) };
    let mut cursors = place.cursors;
    cursors.suppressions =
        app.store.suppression_changes(cursors.suppressions, 1).await?.latest.max(cursors.suppressions);
    let progress = HookProgress { cursors: Some(cursors), state: place.state, ..HookProgress::default() };
    app.store.hook_progress(name.to_owned(), progress).await?;
    Ok(())
}

/// Removes a webhook with its log and what waits.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    let work = async {
        settings::remove(&app, Kind::Webhook, &name).await?;
        app.store.hook_forget(name.clone()).await?;
        Ok::<(), Problem>(())
    };
    app.hooks.alone(&name, work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a test found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestOut {
    /// The endpoint took it.
    pub taken: bool,
    /// Id of the event that was sent.
    pub event: String,
    /// What it said.
    pub answer: Answer,
}

/// Sends a sample event, signed like all others; it is not in the log and changes nothing.
pub async fn test(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<TestOut>, Problem> {
    let document = settings::find(&app, Kind::Webhook, &name).await?;
    let record: WebhookRecord = settings::record(&document)?;
    let unusable = |error: String| Problem::new(StatusCode::CONFLICT, error);
    let secrets = Secrets::read(document.secret.as_ref()).map_err(|error| unusable(error.to_string()))?;
    let poster = app.hooks.poster(&record, secrets).map_err(unusable)?;
    let request = payload::sample(app.clock.now_ms());
    let answer = poster.post(&request).await;
    Ok(axum::Json(TestOut { taken: answer.taken(), event: request.id, answer }))
}

/// From when.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayIn {
    /// RFC 3339.
    since: Time,
}

/// Where a webhook stands is changed on the node that tells it: anywhere else it would be overwritten.
async fn only_here(app: &Shared) -> Result<(), Problem> {
    if cluster::leads(app) {
        return Ok(());
    }
    let nodes = app.store.nodes().await?;
    let leader = nodes.iter().find(|node| node.leads);
    let leader =
        leader.map_or_else(|| "none at the moment".to_owned(), |node| format!("{} at {}", node.name, node.address));
    Err(Problem::new(StatusCode::CONFLICT, format!("webhooks are told by the node that leads, {leader}: ask that one")))
}

/// Tells again what happened since a moment, with the same ids.
pub async fn replay(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(body): Json<ReplayIn>,
) -> Result<axum::Json<WebhookOut>, Problem> {
    let document = settings::find(&app, Kind::Webhook, &name).await?;
    only_here(&app).await?;
    app.hooks.alone(&name, app.store.hook_start(name.clone(), HookStart::At(body.since.0))).await?;
    shown(&app, &document).await.map(axum::Json)
}

/// Which entries of the log.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Entries {
    failed: bool,
    after: Option<i64>,
    limit: Option<u32>,
}

/// The delivery log, newest first.
pub async fn deliveries(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Query(query): Query<Entries>,
) -> Result<axum::Json<Page<DeliveryOut>>, Problem> {
    settings::find(&app, Kind::Webhook, &name).await?;
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let found = app.store.hook_deliveries(name, query.failed, query.after, limit).await?;
    let next = (found.len() == limit as usize).then(|| found.last().map(|entry| entry.id.to_string())).flatten();
    let one = |entry: HookDelivery| -> Result<DeliveryOut, Problem> {
        Ok(DeliveryOut { id: entry.id, at: time::show(entry.at_ms), delivery: settings::read(entry.body)? })
    };
    Ok(axum::Json(Page { items: found.into_iter().map(one).collect::<Result<_, _>>()?, next }))
}

/// Goes on after a pause: what waits is tried again at once, each for three days.
pub async fn resume(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<WebhookOut>, Problem> {
    only_here(&app).await?;
    let document = settings::find(&app, Kind::Webhook, &name).await?;
    let work = async {
        let place = app.store.hooks().await?.into_iter().find(|place| place.name == name);
        let mut health = place.map(|place| Health::read(&place.state)).unwrap_or_default();
        health.resume();
        let state = serde_json::to_value(&health).unwrap_or_default();
        app.store.hook_resume(name.clone(), state, app.clock.now_ms()).await
    };
    app.hooks.alone(&name, work).await?;
    shown(&app, &document).await.map(axum::Json)
}

/// How to replace the secret.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateIn {
    /// A secret that is brought along; without it one is made.
    #[serde(default)]
    secret: Option<SecretString>,
    /// Hours during which the old one signs as well; 0: it ends at once.
    #[serde(default)]
    overlap_hours: Option<u32>,
}

/// Replaces the signing secret; the old one signs beside it for a while.
pub async fn rotate(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(body): Json<RotateIn>,
) -> Result<axum::Json<WebhookOut>, Problem> {
    let hours = body.overlap_hours.unwrap_or(OVERLAP_H);
    if hours > MOST_OVERLAP_H {
        return Err(Problem::field("/overlap_hours", format!("is at most {MOST_OVERLAP_H}")));
    }
    let made = body.secret.is_none();
    let _one = app.settings.lock().await;
    let document = settings::find(&app, Kind::Webhook, &name).await?;
    let record: WebhookRecord = settings::record(&document)?;
    let before = secrets(Secrets::read(document.secret.as_ref()))?;
    let until_ms = app.clock.now_ms() + i64::from(hours) * 3_600_000;
    let after = secrets(before.rotated(body.secret, until_ms))?;
    settings::write(&app, Kind::Webhook, &name, &record, SecretChange::Set(after.write())).await?;
    app.hooks.changed();
    let shown = shown(&app, &settings::find(&app, Kind::Webhook, &name).await?).await?;
    let new_secret = made.then(|| after.current.expose_secret().to_owned());
    Ok(axum::Json(WebhookOut { new_secret, ..shown }))
}

fn secrets(result: Result<Secrets, crate::webhook::sign::SecretError>) -> Result<Secrets, Problem> {
    result.map_err(|error| Problem::field("/secret", error.to_string()))
}

fn check(app: &Shared, record: &WebhookRecord) -> Result<(), Problem> {
    let problems = record.problems(app.hooks.networks());
    if problems.is_empty() { Ok(()) } else { Err(Problem::fields(problems)) }
}

/// Reads a value of a field.
fn within<T: serde::de::DeserializeOwned>(pointer: &str, value: Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|error| Problem::field(pointer, error.to_string()))
}
