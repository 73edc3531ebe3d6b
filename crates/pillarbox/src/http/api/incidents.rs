//! Incidents: what fails for many, what it was, and what fixed it.
//!
//! Words are made from the rules as they are now. People acknowledge, snooze, close, write notes and ask for a probe.

use axum::extract::{Path, State};
use proto::transcript::Stage;
use serde::{Deserialize, Serialize};
use store::{IncidentScope, RecordKind, RecordQuery};

use super::input::Time;
use crate::cluster;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time, words as plain};
use crate::incident::book::{self, Incident};
use crate::incident::model::{Closed, EventKind, Happened, How, MOST_NOTE, State as Handling, name, number};
use crate::incident::opening::alert_key;
use crate::incident::words::{self, FixOut};

/// Entries of the history that are shown with an incident, the newest.
const HISTORY: u32 = 200;
/// Longest snooze, milliseconds.
const LONGEST_SNOOZE_MS: i64 = 30 * 86_400_000;

/// Whether one can be snoozed until then.
pub fn can_snooze(until_ms: i64, now_ms: i64) -> bool {
    (now_ms + 1..=now_ms + LONGEST_SNOOZE_MS).contains(&until_ms)
}

/// Which incidents, and where in the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// Only open ones, or only closed ones.
    open: Option<bool>,
    /// Only of this scope, `route:out`.
    scope: Option<String>,
    /// Only of this reason.
    reason: Option<String>,
    /// Cursor.
    before: Option<String>,
    /// 1 to 1,000, by default 100.
    limit: Option<u32>,
}

/// An incident in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IncidentOut {
    /// Name, `i-17`; a cursor too.
    pub id: String,
    /// Whom it touches: `credential:out`, `domain:example.net`, `everyone`.
    pub scope: String,
    /// Reason of the rules, or one of our own.
    pub reason: String,
    /// `warning`, `problem` or `critical`.
    pub severity: String,
    /// `open`, `acknowledged`, `snoozed` or `closed`.
    pub state: String,
    /// Until when nobody is told, RFC 3339.
    pub snoozed_until: Option<String>,
    /// One line.
    pub title: String,
    /// What to do first.
    pub fix: Option<String>,
    /// When it was opened, RFC 3339.
    pub opened: String,
    /// The first failure, RFC 3339.
    pub since: String,
    /// The last failure, RFC 3339.
    pub last: String,
    /// Attempts that failed.
    pub attempts: u64,
    /// Recipients, counted for each attempt.
    pub recipients: u64,
    /// Messages, counted for each attempt.
    pub messages: u64,
    /// What stands still for it: `credential:out`.
    pub brake: Option<String>,
    /// When it ended, RFC 3339.
    pub closed: Option<String>,
    /// How: `probe`, `setting`, `delivered`, `recovered`, `quiet` or `manual`.
    pub closed_how: Option<String>,
    /// What fixed it.
    pub closed_what: Option<String>,
}

/// An entry of the history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IncidentEventOut {
    /// RFC 3339.
    pub at: String,
    /// `opened`, `braked`, `diagnosed`, `probe_failed`, `probe_succeeded`, `changed`, `acknowledged`, `snoozed`, `note`,
    /// `released` or `closed`.
    pub what: String,
    /// In words.
    pub text: String,
    /// Who, if somebody did.
    pub by: Option<String>,
}

/// What a check found when it was opened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiagnosisOut {
    /// RFC 3339.
    pub at: String,
    /// `check` or `domain`.
    pub kind: String,
    /// Nothing was wrong.
    pub healthy: bool,
    /// What decides.
    pub title: String,
    /// Reason of it.
    pub reason: String,
    /// The report without transcripts.
    pub report: Option<serde_json::Value>,
}

/// Another scope that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LookedAtOut {
    /// Scope.
    pub scope: String,
    /// Percentage that failed inside of it.
    pub inside: u8,
    /// Percentage that failed outside of it.
    pub outside: u8,
}

/// An incident with all that is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IncidentDetailOut {
    /// What a list shows.
    pub incident: IncidentOut,
    /// Full sentences.
    pub meaning: String,
    /// Likely causes, the likeliest first.
    pub causes: Vec<String>,
    /// What to do, in order.
    pub fixes: Vec<FixOut>,
    /// Id of the rule.
    pub rule: Option<String>,
    /// Who spoke.
    pub provider: Option<String>,
    /// Where in the conversation it failed.
    pub stage: Option<Stage>,
    /// The last failure in words.
    pub failure: Option<String>,
    /// Messages.
    pub examples: Vec<String>,
    /// Recipients outside of the scope that were fine when it was opened.
    pub others_ok: u32,
    /// Other scopes that were looked at.
    pub looked_at: Vec<LookedAtOut>,
    /// What changed before, the likeliest first.
    pub changes_before: Vec<String>,
    /// When the next probe goes, RFC 3339, where a brake is on.
    pub next_probe: Option<String>,
    /// What a check found.
    pub diagnosis: Option<DiagnosisOut>,
    /// Earlier ones of the same scope and reason.
    pub similar: Vec<IncidentOut>,
    /// What happened, oldest first.
    pub history: Vec<IncidentEventOut>,
}

impl IncidentOut {
    /// With its words.
    pub fn of(app: &Shared, one: &Incident) -> Self {
        let body = &one.body;
        let words = words::of(&app.rules(), body);
        let closed = body.closed.as_ref();
        Self {
            id: name(one.id),
            scope: body.scope.to_string(),
            reason: body.reason.clone(),
            severity: body.severity.as_str().into(),
            state: body.state.as_str().into(),
            snoozed_until: match body.state {
                Handling::Snoozed { until_ms } => Some(time::show(until_ms)),
                _ => None,
            },
            title: words.title,
            fix: words.fixes.into_iter().next().map(|fix| fix.text),
            opened: time::show(body.opened_ms),
            since: time::show(body.since_ms),
            last: time::show(body.last_ms),
            attempts: body.counts.attempts,
            recipients: body.counts.recipients,
            messages: body.counts.messages,
            brake: body.brake.as_ref().map(|brake| brake.scope.clone()),
            closed: closed.map(|closed| time::show(closed.at_ms)),
            closed_how: closed.map(|closed| closed.how.as_str().into()),
            closed_what: closed.map(|closed| closed.what.clone()),
        }
    }
}

/// Open incidents, newest first, for the status.
pub async fn open(app: &Shared) -> Vec<IncidentOut> {
    let found = book::open(&*app.store).await.unwrap_or_default();
    found.iter().map(|one| IncidentOut::of(app, one)).collect()
}

/// Incidents, newest first.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(which): Query<Which>,
) -> Result<axum::Json<Page<IncidentOut>>, Problem> {
    let cursor = |text: &str| number(text).ok_or_else(|| Problem::field("before", "is no incident, like i-17"));
    let scope = match &which.scope {
        Some(text) => {
            Some(text.parse::<IncidentScope>().map_err(|error| Problem::field("scope", error.to_string()))?.to_string())
        }
        None => None,
    };
    let limit = which.limit.unwrap_or(100).clamp(1, 1_000);
    let both = scope.as_ref().zip(which.reason.as_ref()).map(|(scope, reason)| format!("{scope}|{reason}"));
    let mut query = RecordQuery {
        name: both,
        open: which.open,
        before: which.before.as_deref().map(cursor).transpose()?,
        limit: 1_000,
        ..RecordQuery::of(RecordKind::Incident)
    };
    let fits = |one: &Incident| {
        scope.as_ref().is_none_or(|scope| one.body.scope.to_string() == *scope)
            && which.reason.as_ref().is_none_or(|reason| one.body.reason == *reason)
    };
    let mut items = Vec::new();
    loop {
        let found = book::list(&*app.store, query.clone()).await?;
        let (more, last) = (found.len() == 1_000, found.last().map(|one| one.id));
        items.extend(found.into_iter().filter(fits));
        if items.len() > limit as usize || !more {
            break;
        }
        query.before = last;
    }
    let next = (items.len() > limit as usize).then(|| name(items[limit as usize - 1].id));
    items.truncate(limit as usize);
    Ok(axum::Json(Page { items: items.iter().map(|one| IncidentOut::of(&app, one)).collect(), next }))
}

async fn find(app: &Shared, id: &str) -> Result<Incident, Problem> {
    let id = number(id).ok_or_else(Problem::not_found)?;
    book::find(&*app.store, id).await?.ok_or_else(Problem::not_found)
}

/// One incident.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<IncidentDetailOut>, Problem> {
    let one = find(&app, &id).await?;
    detail(&app, &one).await.map(axum::Json)
}

async fn detail(app: &Shared, one: &Incident) -> Result<IncidentDetailOut, Problem> {
    let body = &one.body;
    let words = words::of(&app.rules(), body);
    let mut similar = Vec::new();
    for id in &body.similar {
        similar.extend(book::find(&*app.store, *id).await?.map(|one| IncidentOut::of(app, &one)));
    }
    Ok(IncidentDetailOut {
        incident: IncidentOut::of(app, one),
        meaning: words.meaning,
        causes: words.causes,
        fixes: words.fixes,
        rule: body.rule.clone(),
        provider: body.provider.clone(),
        stage: body.cause.as_ref().map(|cause| cause.stage),
        failure: body.cause.as_ref().map(|cause| plain::failure(&cause.failure)),
        examples: body.examples.clone(),
        others_ok: body.others_ok,
        looked_at: body
            .looked_at
            .iter()
            .map(|(scope, inside, outside)| LookedAtOut {
                scope: scope.to_string(),
                inside: *inside,
                outside: *outside,
            })
            .collect(),
        changes_before: body.changes_before.clone(),
        next_probe: body.brake.as_ref().and_then(|brake| brake.next_ms).map(time::show),
        diagnosis: body.diagnosis.as_ref().map(|found| DiagnosisOut {
            at: time::show(found.at_ms),
            kind: found.kind.clone(),
            healthy: found.healthy,
            title: found.title.clone(),
            reason: found.reason.clone(),
            report: found.report.clone(),
        }),
        similar,
        history: history(app, one.id).await?,
    })
}

async fn history(app: &Shared, id: i64) -> Result<Vec<IncidentEventOut>, Problem> {
    let query = RecordQuery { limit: HISTORY, ..RecordQuery::named(RecordKind::IncidentEvent, name(id)) };
    let found = app.store.records(query).await?;
    let out = |record: &store::Record| {
        let happened: Happened = serde_json::from_value(record.body.clone()).ok()?;
        let Happened { what, text, by } = happened;
        Some(IncidentEventOut { at: time::show(record.at_ms), what: what.as_str().into(), text, by })
    };
    Ok(found.iter().rev().filter_map(out).collect())
}

/// What is said with an acknowledgement or a closing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoteIn {
    /// A note, at most 2,000 characters.
    note: Option<String>,
}

/// For how long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnoozeIn {
    /// Until when, RFC 3339; at most 30 days.
    until: Time,
    /// A note, at most 2,000 characters.
    #[serde(default)]
    note: Option<String>,
}

/// A note.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenIn {
    /// 1 to 2,000 characters.
    note: String,
}

fn checked(note: Option<String>) -> Result<Option<String>, Problem> {
    match note.map(|note| note.trim().to_owned()).filter(|note| !note.is_empty()) {
        Some(note) if note.chars().count() > MOST_NOTE => {
            Err(Problem::field("/note", format!("has at most {MOST_NOTE} characters")))
        }
        other => Ok(other),
    }
}

/// Changes an open one for somebody, and shows it.
async fn handle(
    app: &Shared,
    id: &str,
    who: &str,
    (what, text): (EventKind, String),
    change: impl Fn(&mut crate::incident::model::Body),
) -> Result<axum::Json<IncidentDetailOut>, Problem> {
    let one = find(app, id).await?;
    if one.body.state == Handling::Closed {
        return Err(Problem::new(axum::http::StatusCode::CONFLICT, format!("{} is closed already", name(one.id))));
    }
    let happened = Happened::by(what, text, who);
    book::update(&*app.store, one.id, app.clock.now_ms(), |body| {
        if body.state == Handling::Closed {
            return None;
        }
        change(body);
        Some(vec![happened.clone()])
    })
    .await?;
    if !cluster::tell(app, || cluster::Word::IncidentChanged) {
        app.incidents.changed();
    }
    let one = find(app, id).await?;
    detail(app, &one).await.map(axum::Json)
}

/// Somebody works on it: escalation ends.
pub async fn acknowledge(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(input): Json<NoteIn>,
) -> Result<axum::Json<IncidentDetailOut>, Problem> {
    let note = checked(input.note)?;
    let happened = (EventKind::Acknowledged, note.clone().unwrap_or_default());
    let shown = handle(&app, &id, &caller.who(), happened, |body| body.state = Handling::Acknowledged).await?;
    let one = find(&app, &id).await?;
    app.alerts.acknowledge_of(&alert_key(Some(one.id), &one.body), &caller.who(), note).await;
    Ok(shown)
}

/// Nobody is told of it for a while.
pub async fn snooze(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(input): Json<SnoozeIn>,
) -> Result<axum::Json<IncidentDetailOut>, Problem> {
    let until_ms = input.until.0;
    let now_ms = app.clock.now_ms();
    if !can_snooze(until_ms, now_ms) {
        return Err(Problem::field("/until", "is within the next 30 days"));
    }
    let note = checked(input.note)?.map(|note| format!(": {note}")).unwrap_or_default();
    let text = format!("until {}{note}", time::show(until_ms));
    handle(&app, &id, &caller.who(), (EventKind::Snoozed, text), |body| body.state = Handling::Snoozed { until_ms })
        .await
}

/// Somebody says that it is over: brakes come off, mail goes.
pub async fn close(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(input): Json<NoteIn>,
) -> Result<axum::Json<IncidentDetailOut>, Problem> {
    let what = checked(input.note)?.unwrap_or_else(|| "Closed by hand.".into());
    let (who, now_ms) = (caller.who(), app.clock.now_ms());
    handle(&app, &id, &who, (EventKind::Closed, what.clone()), |body| {
        body.state = Handling::Closed;
        body.closed = Some(Closed { at_ms: now_ms, how: How::Manual, what: what.clone(), by: Some(who.clone()) });
    })
    .await
}

/// Writes a note into the history.
pub async fn write(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(input): Json<WrittenIn>,
) -> Result<axum::Json<IncidentDetailOut>, Problem> {
    let one = find(&app, &id).await?;
    let note = checked(Some(input.note))?.ok_or_else(|| Problem::field("/note", "is empty"))?;
    let happened = Happened::by(EventKind::Note, note, &caller.who());
    book::note(&*app.store, one.id, &happened, app.clock.now_ms()).await?;
    detail(&app, &one).await.map(axum::Json)
}

/// What a probe found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeOut {
    /// It works: the incident is being closed. `None`: nothing could be found out now.
    pub works: Option<bool>,
    /// In words.
    pub text: String,
}

/// Finds out whether it works again, now.
pub async fn probe(
    State(app): State<Shared>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<ProbeOut>, Problem> {
    let one = find(&app, &id).await?;
    if one.body.state == Handling::Closed {
        return Err(Problem::new(axum::http::StatusCode::CONFLICT, format!("{} is closed already", name(one.id))));
    }
    app.relay()?;
    Ok(axum::Json(crate::incident::manager::probe_now(&app, &one).await))
}
