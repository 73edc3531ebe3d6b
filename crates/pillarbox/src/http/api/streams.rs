//! Streams: named classes of mail, their presets, and setting them on and off.
//!
//! The fields of a record are its JSON names in all requests. What the configuration says of a stream cannot be changed here.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use relay::stream::{CONFIGURED_FIELDS, PRESETS, Paused, Source, Stream, StreamRecord, preset};
use relay::verp::ReturnPath;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::GroupBy;
use store::settings::{Kind, SecretChange};

use super::senders::text;
use super::settings;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::{FieldError, Problem};
use crate::http::views::{Names, Page};
use crate::http::{Shared, time};

/// Streams whose queue is counted.
const COUNTED: u32 = 10_000;
/// Longest reason of a pause, characters.
const MOST_WHY: usize = 200;

/// A stream as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamOut {
    /// Name.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// See [`StreamRecord`].
    pub enabled: bool,
    /// See [`StreamRecord`].
    pub priority: u8,
    /// See [`StreamRecord`].
    pub deadline_s: Option<u64>,
    /// See [`StreamRecord`].
    pub per_minute: Option<u32>,
    /// See [`StreamRecord`].
    pub spread_s: Option<u64>,
    /// See [`StreamRecord`].
    pub unsubscribe: bool,
    /// See [`StreamRecord`].
    pub opt_out: bool,
    /// See [`StreamRecord`].
    pub own_suppressions: bool,
    /// See [`StreamRecord`].
    pub allow_duplicates: bool,
    /// See [`StreamRecord`].
    pub digest_s: Option<u64>,
    /// See [`StreamRecord`].
    pub content_retention_s: Option<u64>,
    /// See [`StreamRecord`].
    pub event_retention_s: Option<u64>,
    /// See [`StreamRecord`].
    pub test_mode: bool,
    /// See [`StreamRecord`].
    pub return_path: Option<ReturnPath>,
    /// See [`StreamRecord`].
    pub description: Option<String>,
    /// Since when and why it is paused.
    pub paused: Option<PausedOut>,
    /// Recipients that wait.
    pub pending: u64,
    /// Recipients that are held.
    pub held: u64,
}

/// A pause as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PausedOut {
    /// RFC 3339.
    pub since: String,
    /// Why.
    pub why: String,
}

fn shown(stream: &Stream, pending: u64, held: u64) -> StreamOut {
    let record = stream.record.clone();
    StreamOut {
        name: stream.name.to_string(),
        source: stream.source,
        enabled: record.enabled,
        priority: record.priority,
        deadline_s: record.deadline_s,
        per_minute: record.per_minute,
        spread_s: record.spread_s,
        unsubscribe: record.unsubscribe,
        opt_out: record.opt_out,
        own_suppressions: record.own_suppressions,
        allow_duplicates: record.allow_duplicates,
        digest_s: record.digest_s,
        content_retention_s: record.content_retention_s,
        event_retention_s: record.event_retention_s,
        test_mode: record.test_mode,
        return_path: record.return_path,
        description: record.description,
        paused: record.paused.map(|paused| PausedOut { since: time::show(paused.since_ms), why: paused.why }),
        pending,
        held,
    }
}

/// What somebody said of streams, by name: the store's documents under what the configuration says.
pub async fn known(app: &Shared) -> Result<Vec<Arc<Stream>>, Problem> {
    let mut all = Vec::new();
    for document in app.store.documents(Kind::Stream).await? {
        let record: StreamRecord = settings::record(&document)?;
        let configured = app.streams.iter().find(|one| one.name == document.name);
        all.push(Arc::new(Stream::new(document.name.as_str().into(), Some(record), configured)));
    }
    for one in &app.streams {
        if !all.iter().any(|known: &Arc<Stream>| *known.name == *one.name) {
            all.push(Arc::new(Stream::new(one.name.as_str().into(), None, Some(one))));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

async fn counted(app: &Shared, streams: Vec<Arc<Stream>>) -> Result<Vec<StreamOut>, Problem> {
    let counts = app.store.counts(GroupBy::Stream, COUNTED).await?;
    let out = |stream: &Arc<Stream>| {
        let count = counts.iter().find(|count| count.group == *stream.name);
        shown(stream, count.map_or(0, |count| count.pending), count.map_or(0, |count| count.held))
    };
    Ok(streams.iter().map(out).collect())
}

async fn one(app: &Shared, name: &str) -> Result<StreamOut, Problem> {
    let found = known(app).await?.into_iter().find(|stream| *stream.name == *name);
    let found = found.unwrap_or_else(|| Arc::new(Stream::unconfigured(name.into())));
    counted(app, vec![found]).await?.pop().ok_or_else(Problem::not_found)
}

/// All streams that somebody said something of.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(names): Query<Names>,
) -> Result<axum::Json<Page<StreamOut>>, Problem> {
    let streams = known(&app).await?;
    Ok(axum::Json(names.page(counted(&app, streams).await?, |one| &one.name)))
}

/// One stream; 404 if nobody said anything of it.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<StreamOut>, Problem> {
    let found = known(&app).await?.into_iter().find(|stream| *stream.name == *name).ok_or_else(Problem::not_found)?;
    let out = counted(&app, vec![found]).await?.pop();
    out.map(axum::Json).ok_or_else(Problem::not_found)
}

/// Adds a stream: `name`, perhaps a `preset`, and the fields that differ.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<StreamOut>), Problem> {
    let from = text(&mut body, "preset")?;
    let preset = match &from {
        Some(name) => Some(preset(name).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            Problem::field("/preset", format!("there is no such preset; there are {}", names.join(", ")))
        })?),
        None => None,
    };
    let name = text(&mut body, "name")?.or(from).ok_or_else(|| Problem::field("/name", "is missing"))?;
    settings::checked_name(&name)?;
    let mut value = match preset {
        Some(preset) => serde_json::to_value(preset.record()).unwrap_or_default(),
        None => Value::Object(Map::new()),
    };
    refuse(&app, &name, &body)?;
    settings::merge(&mut value, Value::Object(body));
    let record: StreamRecord = settings::read(value)?;
    check(&app, &record)?;
    let _one = app.settings.lock().await;
    if settings::exists(&app, Kind::Stream, &name).await? {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already a stream \"{name}\"")));
    }
    settings::add(&app, Kind::Stream, &name, &record, SecretChange::Keep).await?;
    Ok((StatusCode::CREATED, axum::Json(one(&app, &name).await?)))
}

/// Changes a stream by a merge patch (RFC 7396). A stream that only the configuration knows gets additions.
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(patch): Json<Map<String, Value>>,
) -> Result<axum::Json<StreamOut>, Problem> {
    refuse(&app, &name, &patch)?;
    let _one = app.settings.lock().await;
    let configured = app.streams.iter().any(|one| one.name == name);
    let mut body = match settings::find(&app, Kind::Stream, &name).await {
        Ok(document) => document.body,
        Err(_) if configured => Value::Object(Map::new()),
        Err(problem) => return Err(problem),
    };
    settings::merge(&mut body, Value::Object(patch));
    let record: StreamRecord = settings::read(body)?;
    check(&app, &record)?;
    settings::write(&app, Kind::Stream, &name, &record, SecretChange::Keep).await?;
    Ok(axum::Json(one(&app, &name).await?))
}

/// Removes a stream, or what was added to one of the configuration. Mail that names it goes on as mail of any stream.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    let exists = settings::exists(&app, Kind::Stream, &name).await?;
    if !exists && app.streams.iter().any(|one| one.name == name) {
        let detail = "this stream is in the configuration: remove its [[stream]] there";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    settings::remove(&app, Kind::Stream, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Why a stream is paused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseIn {
    #[serde(default)]
    why: Option<String>,
}

/// Pauses a stream, also one of which nothing is said: its mail is held.
pub async fn pause(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
    Json(body): Json<PauseIn>,
) -> Result<axum::Json<StreamOut>, Problem> {
    settings::checked_name(&name)?;
    let why = body.why.unwrap_or_else(|| format!("by {}", caller.who()));
    if why.is_empty() || why.chars().count() > MOST_WHY || why.contains(char::is_control) {
        return Err(Problem::field("/why", format!("has 1 to {MOST_WHY} characters in one line")));
    }
    let _one = app.settings.lock().await;
    match &app.relay {
        Some(relay) => relay.pause_stream(&name, &why).await?,
        None => {
            let paused = Paused { since_ms: app.clock.now_ms(), why, only: false };
            relay::stream::set_paused(&*app.store, &name, Some(paused), app.clock.now_ms()).await?
        }
    };
    Ok(axum::Json(one(&app, &name).await?))
}

/// Lets a paused stream go on, with what was held.
pub async fn resume(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<StreamOut>, Problem> {
    settings::checked_name(&name)?;
    let _one = app.settings.lock().await;
    match &app.relay {
        Some(relay) => relay.resume_stream(&name).await?,
        None => relay::stream::set_paused(&*app.store, &name, None, app.clock.now_ms()).await?,
    };
    Ok(axum::Json(one(&app, &name).await?))
}

/// A preset as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PresetOut {
    /// Name.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// Its fields.
    pub stream: StreamRecord,
}

/// Streams to begin with.
pub async fn presets(_: Admin) -> axum::Json<Page<PresetOut>> {
    let out = |preset: &relay::stream::Preset| PresetOut {
        name: preset.name.into(),
        about: preset.about.into(),
        stream: preset.record(),
    };
    axum::Json(Page { items: PRESETS.iter().map(out).collect(), next: None })
}

/// Fields that are not set here.
fn refuse(app: &Shared, name: &str, body: &Map<String, Value>) -> Result<(), Problem> {
    if body.contains_key("paused") {
        return Err(Problem::field("/paused", "is changed by its own requests, /pause and /resume"));
    }
    let configured = app.streams.iter().any(|one| one.name == name);
    let wrong: Vec<FieldError> = CONFIGURED_FIELDS
        .iter()
        .filter(|field| configured && body.contains_key(**field))
        .map(|field| FieldError::new(format!("/{field}"), "is decided by the configuration of this stream"))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Problem::fields(wrong)) }
}

fn check(app: &Shared, record: &StreamRecord) -> Result<(), Problem> {
    let problems = record.problems();
    if !problems.is_empty() {
        let error = |(field, detail): (&str, String)| FieldError::new(format!("/{field}"), detail);
        return Err(Problem::fields(problems.into_iter().map(error).collect()));
    }
    if record.unsubscribe && app.public_url.is_none() {
        let detail = "needs the address at which recipients reach this server: set `http.public_url`";
        return Err(Problem::field("/unsubscribe", detail));
    }
    Ok(())
}
