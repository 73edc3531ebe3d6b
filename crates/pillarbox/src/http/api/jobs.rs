//! Jobs: what runs by itself, when it ran, how it went, and when it runs next.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};
use crate::monitor::Level;
use crate::monitor::jobs::{Entry, Group, Loop, Refused};

/// Longest a request waits for a run, seconds.
pub const MOST_WAIT_S: u32 = 110;
/// Longest reason of a pause, characters.
const MOST_WHY: usize = 200;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// For its next run.
    Waiting,
    /// Is under way, or waiting for room to begin.
    Running,
    /// Until somebody resumes it.
    Paused,
    /// It ended, and nothing starts it by itself.
    Ended,
}

/// A run that ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunOut {
    /// RFC 3339.
    pub started: String,
    /// Milliseconds it took; nothing for a loop that does not end.
    pub took_ms: Option<u64>,
    /// How it went.
    pub level: Option<Level>,
    /// The same in words.
    pub summary: String,
}

/// A pause of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobPausedOut {
    /// RFC 3339.
    pub since: String,
    /// Why.
    pub why: String,
}

/// A job as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobOut {
    /// Name.
    pub name: String,
    /// What it does.
    pub title: String,
    /// What sort it is.
    pub group: Group,
    /// When it runs, in words.
    pub schedule: String,
    /// Where it stands.
    pub state: JobState,
    /// Next run, RFC 3339.
    pub next: Option<String>,
    /// Start of the run under way, RFC 3339.
    pub running_since: Option<String>,
    /// The last run.
    pub last: Option<RunOut>,
    /// Runs so far; of a loop: starts, or rounds.
    pub runs: u64,
    /// Runs in a row that went wrong.
    pub problems: u32,
    /// Why it is paused.
    pub paused: Option<JobPausedOut>,
    /// It goes round as long as the server runs: `running` is its normal state.
    pub endless: bool,
    /// What can be done with it: `run`, `pause`, `resume`, `restart`.
    pub can: Vec<String>,
}

/// A job of the table.
pub fn of_entry(entry: &Entry) -> JobOut {
    let state = &entry.state;
    let last = state.last_start_ms.map(|start_ms| RunOut {
        started: time::show(start_ms),
        took_ms: Some(state.duration_ms),
        level: state.level,
        summary: state.summary.clone(),
    });
    JobOut {
        name: entry.job.name.clone(),
        title: entry.job.title.clone(),
        group: entry.job.group,
        schedule: entry.job.schedule.words(),
        state: match (&entry.running, &state.paused) {
            (Some(_), _) => JobState::Running,
            (None, Some(_)) => JobState::Paused,
            (None, None) => JobState::Waiting,
        },
        next: entry.next_ms.map(time::show),
        running_since: entry.running.as_ref().map(|running| time::show(running.since_ms)),
        last,
        runs: state.runs,
        problems: state.problems,
        paused: state.paused.clone().map(|(since_ms, why)| JobPausedOut { since: time::show(since_ms), why }),
        endless: false,
        can: ["run", "pause", "resume", "restart"].map(str::to_owned).to_vec(),
    }
}

fn of_loop(one: &Loop) -> JobOut {
    let state = one.state();
    JobOut {
        name: one.name.clone(),
        title: one.title.clone(),
        group: one.group,
        schedule: one.schedule.clone(),
        state: match (&state.paused, state.running) {
            (Some(_), _) => JobState::Paused,
            (None, true) => JobState::Running,
            (None, false) => JobState::Ended,
        },
        next: state.next_ms.map(time::show),
        running_since: state.since_ms.filter(|_| state.running).map(time::show),
        last: state.last_ms.map(|last_ms| RunOut {
            started: time::show(last_ms),
            took_ms: state.took_ms,
            level: Some(state.level),
            summary: state.summary.clone(),
        }),
        runs: state.runs,
        problems: state.problems,
        paused: state.paused.map(|(since_ms, why)| JobPausedOut { since: time::show(since_ms), why }),
        endless: true,
        can: one.can().iter().map(|what| (*what).to_owned()).collect(),
    }
}

/// Which jobs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Only of this sort.
    group: Option<Group>,
}

/// All jobs, by name.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<Page<JobOut>>, Problem> {
    let jobs = &app.monitor.jobs;
    let mut items: Vec<JobOut> = jobs.with(|table| table.all().map(of_entry).collect());
    items.extend(jobs.loops(&app).iter().map(|one| of_loop(one)));
    items.retain(|one| wanted.group.is_none_or(|group| one.group == group));
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(axum::Json(Page { items, next: None }))
}

/// One job.
pub fn find(app: &Shared, name: &str) -> Result<JobOut, Problem> {
    let jobs = &app.monitor.jobs;
    if let Some(job) = jobs.with(|table| table.get(name).map(of_entry)) {
        return Ok(job);
    }
    jobs.loops(app).iter().find(|one| one.name == name).map(|one| of_loop(one)).ok_or_else(Problem::not_found)
}

/// One job.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<JobOut>, Problem> {
    find(&app, &name).map(axum::Json)
}

/// How a job is run by hand.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunIn {
    /// Seconds to wait for its end (0 to 110).
    pub wait_s: u32,
}

/// Why a job is paused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PauseIn {
    /// For people.
    why: String,
}

/// What a refusal means to a caller.
pub fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Unknown => Problem::not_found(),
        Refused::Running => Problem::new(StatusCode::CONFLICT, "it is running already"),
        Refused::GoesOn => {
            Problem::new(StatusCode::CONFLICT, "it goes on as long as the server runs: there is no run of it to begin")
        }
        Refused::Paused => Problem::new(StatusCode::CONFLICT, "it is paused: resume it to let it go on"),
        Refused::Unwritten => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store is away: it could not be written down and was not done",
        ),
        Refused::Needed => {
            Problem::new(StatusCode::CONFLICT, "it cannot be paused: the way of mail relies on it at every moment")
        }
    }
}

/// Runs a job by hand and waits for its end.
pub async fn run_and_wait(app: &Shared, name: &str, wait_s: u32) -> Result<(), Problem> {
    if wait_s > MOST_WAIT_S {
        return Err(Problem::field("/wait_s", format!("is at most {MOST_WAIT_S}")));
    }
    let jobs = &app.monitor.jobs;
    let before = find(app, name)?.runs;
    jobs.run_now(app, name).map_err(refused)?;
    if wait_s > 0 {
        jobs.has_run(app, name, before, Duration::from_secs(wait_s.into())).await;
    }
    Ok(())
}

/// Runs a job as soon as there is room, also one that is paused.
pub async fn run(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(input): Json<RunIn>,
) -> Result<axum::Json<JobOut>, Problem> {
    run_and_wait(&app, &name, input.wait_s).await?;
    find(&app, &name).map(axum::Json)
}

/// Pauses a job until it is resumed, also over restarts of the server; a run under way ends by itself.
pub async fn pause(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(input): Json<PauseIn>,
) -> Result<axum::Json<JobOut>, Problem> {
    if input.why.chars().count() > MOST_WHY {
        return Err(Problem::field("/why", format!("has at most {MOST_WHY} characters")));
    }
    app.monitor.jobs.pause(&app, &name, &input.why).await.map_err(refused)?;
    find(&app, &name).map(axum::Json)
}

/// Lets a paused job go on.
pub async fn resume(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<JobOut>, Problem> {
    app.monitor.jobs.resume(&app, &name).await.map_err(refused)?;
    find(&app, &name).map(axum::Json)
}

/// Ends the run under way and begins another.
pub async fn restart(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<JobOut>, Problem> {
    app.monitor.jobs.restart(&app, &name).map_err(refused)?;
    find(&app, &name).map(axum::Json)
}
