//! Scheduled checks: those that are there by themselves, those of one's own, and what they found.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::settings::{Kind, SecretChange};

use super::jobs::{self, JobOut, JobState, RunIn, RunOut, run_and_wait};
use super::senders::text;
use super::settings;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};
use crate::monitor::Level;
use crate::monitor::check::name_of;
use crate::monitor::jobs::Group;
use crate::monitor::kinds::own::{CheckRecord, OWN};
use crate::monitor::results::{self, Kept};

/// A period of equal results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResultOut {
    /// Place in the history.
    pub id: i64,
    /// First run of the period, RFC 3339.
    pub since: String,
    /// Last run of the period, RFC 3339.
    pub until: String,
    /// Runs in it.
    pub runs: u64,
    /// How it was.
    pub level: Level,
    /// How it was before.
    pub before: Option<Level>,
    /// In a sentence.
    pub summary: String,
    /// What differs from before.
    pub changes: Vec<String>,
    /// What to do.
    pub advice: Vec<String>,
    /// What is compared.
    pub facts: Value,
    /// What else was found.
    pub detail: Value,
}

fn result_out(kept: Kept) -> ResultOut {
    let result = kept.result;
    ResultOut {
        id: kept.id,
        since: time::show(kept.at_ms),
        until: time::show(result.last_ms),
        runs: result.runs,
        level: result.level,
        before: result.before,
        summary: result.summary,
        changes: result.changes,
        advice: result.advice,
        facts: result.facts,
        detail: result.detail,
    }
}

/// A check as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScheduledOut {
    /// Name: `kind:subject`.
    pub name: String,
    /// What it looks at.
    pub title: String,
    /// When it runs.
    pub schedule: String,
    /// Where it stands.
    pub state: JobState,
    /// Next run, RFC 3339.
    pub next: Option<String>,
    /// The last run, also one that was skipped.
    pub last: Option<RunOut>,
    /// Why it is paused.
    pub paused: Option<String>,
    /// What it found last.
    pub result: Option<ResultOut>,
    /// An alert about it is raised.
    pub alert: bool,
    /// It goes up and down.
    pub flapping: bool,
    /// Settings of a check of one's own.
    pub settings: Option<CheckRecord>,
}

fn shown(app: &Shared, job: JobOut, settings: Option<CheckRecord>) -> ScheduledOut {
    let kept = app.monitor.results.latest(&job.name);
    let memory = kept.as_ref().map(|kept| kept.result.memory.clone()).unwrap_or_default();
    ScheduledOut {
        title: job.title,
        schedule: job.schedule,
        state: job.state,
        next: job.next,
        last: job.last,
        paused: job.paused.map(|paused| paused.why),
        result: kept.map(result_out),
        alert: memory.raised,
        flapping: memory.flaps(app.clock.now_ms()),
        settings,
        name: job.name,
    }
}

/// The name of a check of one's own in the settings: `nightly` and `own:nightly` are the same.
fn own_name(name: &str) -> &str {
    name.strip_prefix(OWN).and_then(|rest| rest.strip_prefix(':')).unwrap_or(name)
}

/// One that is off, or that the server has not taken up yet.
fn idle(name: &str, record: &CheckRecord) -> ScheduledOut {
    ScheduledOut {
        name: name_of(OWN, name),
        title: format!("Own check: {name} ({})", record.target),
        schedule: record.schedule.clone(),
        state: JobState::Ended,
        next: None,
        last: None,
        paused: record.disabled.then(|| "it is switched off".to_owned()),
        result: None,
        alert: false,
        flapping: false,
        settings: Some(record.clone()),
    }
}

/// Which checks.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Only of this kind: `certificate`.
    kind: Option<String>,
    /// Only those that are at least so bad.
    level: Option<Level>,
}

/// All checks, by name.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<Page<ScheduledOut>>, Problem> {
    let mut own = std::collections::BTreeMap::new();
    for document in app.store.documents(Kind::Check).await? {
        own.insert(name_of(OWN, &document.name), settings::record::<CheckRecord>(&document)?);
    }
    let jobs: Vec<JobOut> = app
        .monitor
        .jobs
        .with(|table| table.all().filter(|entry| entry.job.group == Group::Check).map(jobs::of_entry).collect());
    let mut items = Vec::new();
    for job in jobs {
        let record = own.remove(&job.name);
        items.push(shown(&app, job, record));
    }
    items.extend(own.iter().map(|(name, record)| idle(own_name(name), record)));
    items.retain(|one: &ScheduledOut| {
        let kind = wanted.kind.as_ref().is_none_or(|kind| one.name.split(':').next() == Some(kind.as_str()));
        let level = one.result.as_ref().map_or(Level::Skipped, |result| result.level);
        kind && wanted.level.is_none_or(|least| level >= least)
    });
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(axum::Json(Page { items, next: None }))
}

async fn find(app: &Shared, name: &str) -> Result<ScheduledOut, Problem> {
    let full = if name.contains(':') { name.to_owned() } else { name_of(OWN, name) };
    let of_own = || settings::find(app, Kind::Check, own_name(&full));
    let record = match full.starts_with("own:") {
        true => Some(settings::record::<CheckRecord>(&of_own().await?)?),
        false => None,
    };
    let job = app
        .monitor
        .jobs
        .with(|table| table.get(&full).filter(|entry| entry.job.group == Group::Check).map(jobs::of_entry));
    match (job, record) {
        (Some(job), record) => Ok(shown(app, job, record)),
        (None, Some(record)) => Ok(idle(own_name(&full), &record)),
        (None, None) => Err(Problem::not_found()),
    }
}

/// One check with its last result.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<ScheduledOut>, Problem> {
    find(&app, &name).await.map(axum::Json)
}

/// Which results.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    after: Option<i64>,
    limit: Option<u32>,
}

/// The history of a check: each period of equal results, newest first. It outlives the check for 90 days.
pub async fn history(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Query(query): Query<Which>,
) -> Result<axum::Json<Page<ResultOut>>, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let name = if name.contains(':') { name } else { name_of(OWN, &name) };
    let all = results::history(&app, &name, query.after, limit).await?;
    let next = (all.len() == limit as usize).then(|| all.last().map(|kept| kept.id.to_string())).flatten();
    Ok(axum::Json(Page { items: all.into_iter().map(result_out).collect(), next }))
}

/// Runs a check now, and waits for its end if that is wanted.
pub async fn run(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(input): Json<RunIn>,
) -> Result<axum::Json<ScheduledOut>, Problem> {
    let check = find(&app, &name).await?;
    run_and_wait(&app, &check.name, input.wait_s).await?;
    find(&app, &check.name).await.map(axum::Json)
}

fn checked(app: &Shared, record: &CheckRecord) -> Result<(), Problem> {
    let mut problems = record.problems();
    use crate::monitor::kinds::own::What;
    if matches!(record.what, What::Route | What::Arrival)
        && let Some(relay) = &app.relay
        && !relay.routes().iter().any(|route| *route.name == *record.target)
    {
        problems.push(crate::http::problem::FieldError::new("/target", "there is no such route"));
    }
    if problems.is_empty() { Ok(()) } else { Err(Problem::fields(problems)) }
}

/// Adds a check of one's own: `name` and its settings.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<ScheduledOut>), Problem> {
    let name = text(&mut body, "name")?.ok_or_else(|| Problem::field("/name", "is missing"))?;
    settings::checked_name(&name)?;
    let record: CheckRecord = settings::read(Value::Object(body))?;
    checked(&app, &record)?;
    {
        let _one = app.settings.lock().await;
        if settings::exists(&app, Kind::Check, &name).await? {
            return Err(Problem::new(StatusCode::CONFLICT, format!("there is already a check \"{name}\"")));
        }
        settings::add(&app, Kind::Check, &name, &record, SecretChange::Keep).await?;
    }
    crate::monitor::refresh(&app).await;
    Ok((StatusCode::CREATED, axum::Json(find(&app, &name).await?)))
}

/// Changes one by a merge patch (RFC 7396).
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(patch): Json<Map<String, Value>>,
) -> Result<axum::Json<ScheduledOut>, Problem> {
    let name = own_name(&name).to_owned();
    {
        let _one = app.settings.lock().await;
        let mut body = settings::find(&app, Kind::Check, &name).await?.body;
        settings::merge(&mut body, Value::Object(patch));
        let record: CheckRecord = settings::read(body)?;
        checked(&app, &record)?;
        settings::write(&app, Kind::Check, &name, &record, SecretChange::Keep).await?;
    }
    crate::monitor::refresh(&app).await;
    find(&app, &name).await.map(axum::Json)
}

/// Removes one of one's own; its results are kept for 90 days.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    {
        let _one = app.settings.lock().await;
        settings::remove(&app, Kind::Check, own_name(&name)).await?;
    }
    crate::monitor::refresh(&app).await;
    Ok(StatusCode::NO_CONTENT)
}
