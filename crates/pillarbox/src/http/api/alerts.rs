//! Alerts: what is raised now and what was; and what is set for each kind.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::settings::{Kind, SecretChange};
use store::{Record, RecordKind, RecordQuery};

use super::settings;
use crate::alert::entry::Entry;
use crate::alert::rule::{AlertRule, Severity};
use crate::alert::setting::RuleSetting;
use crate::alert::weekly::Report;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};

/// An alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlertOut {
    /// `a-17`.
    pub id: String,
    /// The same for the same thing.
    pub key: String,
    /// `raised`, `acknowledged` or `resolved`.
    pub state: String,
    /// What it is about.
    pub rule: AlertRule,
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// Sentences.
    pub text: String,
    /// Facts, named.
    pub about: Vec<(String, String)>,
    /// A page about it.
    pub link: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// When it was raised last, RFC 3339.
    pub last: String,
    /// How often it was raised.
    pub times: u64,
    /// When somebody acknowledged it, RFC 3339.
    pub acknowledged: Option<String>,
    /// Who that was.
    pub acknowledged_by: Option<String>,
    /// What they said.
    pub note: Option<String>,
    /// When it was over, RFC 3339.
    pub resolved: Option<String>,
    /// What ended it.
    pub resolution: Option<String>,
    /// Who was told.
    pub told: Vec<ToldOut>,
}

/// What one channel was told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToldOut {
    /// The channel.
    pub channel: String,
    /// When it took the alert, RFC 3339.
    pub told: Option<String>,
    /// When it was told of the end, RFC 3339.
    pub end_told: Option<String>,
    /// Attempts that failed since the last that did not.
    pub failures: u32,
    /// Why the last one failed.
    pub problem: Option<String>,
    /// A mail in our queue of which it is not known yet whether it arrives.
    pub message: Option<String>,
}

fn out(app: &Shared, id: i64, entry: Entry) -> AlertOut {
    let state = match (&entry.resolved, &entry.acknowledged) {
        (Some(_), _) => "resolved",
        (None, Some(_)) => "acknowledged",
        (None, None) => "raised",
    };
    let told = entry.told.into_iter().map(|(channel, told)| ToldOut {
        channel,
        told: told.raised_ms.map(time::show),
        end_told: told.resolved_ms.map(time::show),
        failures: told.failures,
        problem: told.problem,
        message: told.posted.map(|posted| posted.message),
    });
    let severity = app.alerts.severity(entry.alert.rule, entry.alert.severity);
    let (acknowledged, resolved) = (entry.acknowledged, entry.resolved);
    AlertOut {
        id: format!("a-{id}"),
        key: entry.alert.key,
        state: state.into(),
        rule: entry.alert.rule,
        severity,
        title: entry.alert.title,
        text: entry.alert.text,
        about: entry.alert.about,
        link: entry.alert.link,
        since: time::show(entry.first_ms),
        last: time::show(entry.last_ms),
        times: entry.times,
        acknowledged: acknowledged.as_ref().map(|one| time::show(one.at_ms)),
        acknowledged_by: acknowledged.as_ref().map(|one| one.who.clone()),
        note: acknowledged.and_then(|one| one.note),
        resolved: resolved.as_ref().map(|one| time::show(one.at_ms)),
        resolution: resolved.map(|one| one.why),
        told: told.collect(),
    }
}

fn of_record(app: &Shared, record: Record) -> Result<AlertOut, Problem> {
    Ok(out(app, record.id, settings::read(record.body)?))
}

fn number(id: &str) -> Result<i64, Problem> {
    id.strip_prefix("a-").unwrap_or(id).parse().map_err(|_| Problem::not_found())
}

/// Which alerts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsQuery {
    /// Also those that are over.
    all: bool,
    /// Since this moment, RFC 3339; with `all`.
    since: Option<super::input::Time>,
    /// Ids below this one: the cursor; with `all`.
    before: Option<String>,
    /// 1 to 1000.
    limit: Option<u32>,
}

/// Alerts that are raised, or with `all` also those of the past, newest first.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<AlertsQuery>,
) -> Result<axum::Json<Page<AlertOut>>, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    if !query.all {
        let mut raised = app.alerts.raised().await;
        raised.sort_by_key(|one| std::cmp::Reverse(one.entry.first_ms));
        raised.truncate(limit as usize);
        let items = raised.into_iter().map(|one| out(&app, one.id.unwrap_or_default(), one.entry)).collect();
        return Ok(axum::Json(Page { items, next: None }));
    }
    let before = query.before.as_deref().map(number).transpose()?;
    let since_ms = query.since.map(|since| since.0);
    let query = RecordQuery { before, since_ms, limit, ..RecordQuery::of(RecordKind::Alert) };
    let found = app.store.records(query).await?;
    let next = (found.len() == limit as usize).then(|| found.last().map(|last| format!("a-{}", last.id))).flatten();
    let items = found.into_iter().map(|record| of_record(&app, record)).collect::<Result<_, _>>()?;
    Ok(axum::Json(Page { items, next }))
}

/// One alert.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<AlertOut>, Problem> {
    found(&app, number(&id)?).await.map(axum::Json)
}

async fn found(app: &Shared, id: i64) -> Result<AlertOut, Problem> {
    let record = app.store.records(RecordQuery::one(RecordKind::Alert, id)).await?.into_iter().next();
    of_record(app, record.ok_or_else(Problem::not_found)?)
}

/// What somebody says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoteIn {
    /// At most 1,000 characters.
    note: Option<String>,
}

impl NoteIn {
    fn checked(self) -> Result<Option<String>, Problem> {
        match self.note {
            Some(note) if note.chars().count() > 1_000 => Err(Problem::field("/note", "has at most 1,000 characters")),
            note => Ok(note),
        }
    }
}

/// Somebody looks after it: the next step is not told.
pub async fn acknowledge(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(body): Json<NoteIn>,
) -> Result<axum::Json<AlertOut>, Problem> {
    let id = number(&id)?;
    let raised = app.alerts.acknowledge(id, &caller.who(), body.checked()?).await;
    raised.map(|raised| axum::Json(out(&app, id, raised.entry))).ok_or_else(Problem::not_found)
}

/// Ends an alert by hand. What is still wrong is raised again.
pub async fn close(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(body): Json<NoteIn>,
) -> Result<axum::Json<AlertOut>, Problem> {
    let id = number(&id)?;
    let note = body.checked()?.map_or_else(String::new, |note| format!(": {note}"));
    let why = format!("closed by hand ({}){note}", caller.who());
    app.alerts.close(id, &why).await.ok_or_else(Problem::not_found)?;
    found(&app, id).await.map(axum::Json)
}

/// A kind of alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlertRuleOut {
    /// Name.
    pub name: String,
    /// In words.
    pub title: String,
    /// Nobody is told of it.
    pub off: bool,
    /// How bad it is, whatever was found; absent: as it was found.
    pub severity: Option<Severity>,
    /// From where on it is told, for kinds that have a threshold.
    pub threshold: Option<f64>,
    /// Of what.
    pub unit: Option<String>,
    /// Channels that are told; empty: all that want it.
    pub channels: Vec<String>,
    /// Minutes until the next step is told; absent: 15 if it is critical, 60 if it is a problem, else never.
    pub escalate_min: Option<u32>,
    /// Something of it was set.
    pub changed: bool,
}

fn rule_out(rule: AlertRule, setting: Option<RuleSetting>) -> AlertRuleOut {
    let changed = setting.is_some();
    let setting = setting.unwrap_or_default();
    let threshold = rule.threshold();
    AlertRuleOut {
        name: rule.as_str().into(),
        title: rule.title().into(),
        off: setting.off,
        severity: setting.severity,
        threshold: threshold.map(|threshold| setting.threshold.unwrap_or(threshold.usual)),
        unit: threshold.map(|threshold| threshold.unit.into()),
        channels: setting.channels,
        escalate_min: setting.escalate_min,
        changed,
    }
}

async fn setting(app: &Shared, rule: AlertRule) -> Result<Option<RuleSetting>, Problem> {
    match settings::find(app, Kind::AlertRule, rule.as_str()).await {
        Ok(document) => settings::record(&document).map(Some),
        Err(problem) if problem.status == 404 => Ok(None),
        Err(problem) => Err(problem),
    }
}

fn named(name: &str) -> Result<AlertRule, Problem> {
    AlertRule::named(name).ok_or_else(Problem::not_found)
}

/// All kinds of alerts.
pub async fn rules(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<AlertRuleOut>>, Problem> {
    let mut items = Vec::new();
    for rule in AlertRule::ALL {
        items.push(rule_out(rule, setting(&app, rule).await?));
    }
    Ok(axum::Json(Page { items, next: None }))
}

/// One kind.
pub async fn show_rule(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<AlertRuleOut>, Problem> {
    let rule = named(&name)?;
    Ok(axum::Json(rule_out(rule, setting(&app, rule).await?)))
}

/// Changes what is set for a kind by a merge patch (RFC 7396).
pub async fn change_rule(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(patch): Json<Map<String, Value>>,
) -> Result<axum::Json<AlertRuleOut>, Problem> {
    let rule = named(&name)?;
    let _one = app.settings.lock().await;
    let before = setting(&app, rule).await?.unwrap_or_default();
    let mut body = serde_json::to_value(before).unwrap_or_default();
    settings::merge(&mut body, Value::Object(patch));
    let after: RuleSetting = settings::read(body)?;
    let mut problems = after.problems(rule);
    let known = app.store.documents(Kind::Channel).await?;
    for (n, channel) in after.channels.iter().enumerate() {
        if !known.iter().any(|document| document.name == *channel) {
            problems.push(crate::http::problem::FieldError::new(
                format!("/channels/{n}"),
                format!("there is no channel \"{channel}\""),
            ));
        }
    }
    if !problems.is_empty() {
        return Err(Problem::fields(problems));
    }
    settings::write(&app, Kind::AlertRule, rule.as_str(), &after, SecretChange::Keep).await?;
    app.alerts.reload().await?;
    Ok(axum::Json(rule_out(rule, Some(after))))
}

/// Everything as usual again for a kind.
pub async fn reset_rule(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<AlertRuleOut>, Problem> {
    let rule = named(&name)?;
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::AlertRule, rule.as_str()).await?;
    app.alerts.reload().await?;
    Ok(axum::Json(rule_out(rule, None)))
}

/// From when.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeeklyQuery {
    /// RFC 3339; by default a week ago.
    since: Option<super::input::Time>,
}

/// The report of the week, or since another moment.
pub async fn weekly(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<WeeklyQuery>,
) -> Result<axum::Json<Report>, Problem> {
    let since_ms = query.since.map(|since| since.0);
    Ok(axum::Json(crate::alert::weekly::report(&app, since_ms).await?))
}
