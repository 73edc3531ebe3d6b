//! Tests of routes and servers that people start: they run while somebody looks, and are kept with what was found. Compared
//! with earlier ones, with other machines, and with what the provider documents.

use std::collections::HashMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use diagnose::Judged;
use explain::{ResultWord, RuleBase};
use proto::message::HeaderText;
use proto::transcript::Stage;
use relay::route::RouteRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::settings::Kind;
use store::{RecordKind, RecordQuery};

use crate::check::commands::{self, Equal, Wanted};
use crate::check::documented::{self, DocumentedOut};
use crate::check::view::{Ended, View};
use crate::check::{Aim, CheckIn, Families, MessageStage, compare as comparing};
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time, words};
use crate::smtp_test::{self, LOST_MS, State as TestState, Stored, Test, elsewhere, record};

use super::settings;

/// So many tests before one are looked at for an earlier one of the same thing.
const LOOKED_AT: u32 = 50;
/// Longest name of another machine, characters.
const LONGEST_NODE: usize = 100;

/// What came of a test, in a word and in sentences.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerdictOut {
    /// `Success`, `Connection Failed`, `Authentication Failed`, `TLS Error`, `Relay Denied`, `Timeout`, or `Refused` for what is none of these.
    pub result: String,
    /// Nothing is wrong.
    pub healthy: bool,
    /// What it means.
    pub meaning: String,
    /// What to do next.
    pub next_step: String,
    /// Precise reason, one word.
    pub reason: String,
    /// Where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<String>,
    /// Whose turn it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Microseconds it took.
    pub took_us: u64,
}

/// A test in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SmtpTestOut {
    /// Its number.
    pub id: String,
    /// `running`, `done`, `failed` (it could not be run) or `interrupted` (the server stopped).
    pub state: TestState,
    /// When it began, RFC 3339.
    pub started: String,
    /// Who asked for it.
    pub by: String,
    /// The machine it was made on, if not this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What is tested: `route o365`, or a server.
    pub subject: String,
    /// Recipients.
    pub to: Vec<String>,
    /// A message is sent.
    pub sends: bool,
    /// Why it could not be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictOut>,
}

/// A test with all that is known of it.
#[derive(Debug, Clone, Serialize)]
pub struct SmtpTestDetailOut {
    /// As in a list.
    pub test: SmtpTestOut,
    /// As it was asked for, without the password: what `POST /smtp-tests` takes.
    pub asked: Value,
    /// The stage that runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Stages that have ended, as in the report.
    pub stages: Vec<Value>,
    /// The report, as docs/schemas/check-1.json says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
    /// The same with other tools.
    pub commands: Vec<Equal>,
    /// The settings beside what the provider documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documented: Option<DocumentedOut>,
}

fn view(test: &Test) -> Option<View> {
    test.report.as_ref().and_then(|report| View::of(report).ok())
}

fn sends(test: &Test) -> bool {
    test.asked.message == Some(MessageStage::Send)
}

fn verdict(view: &View, sent: bool) -> VerdictOut {
    let plain = |word: &str| word.replace('_', " ");
    let (meaning, next_step) = match (view.healthy, sent) {
        (true, false) => (
            "Every stage that was asked for went well. No message was sent.".to_owned(),
            "Send a test email, and look into the inbox and the spam folder.".to_owned(),
        ),
        _ => (view.result.meaning().to_owned(), view.result.next_step().to_owned()),
    };
    VerdictOut {
        result: if view.result == ResultWord::None { "Refused".into() } else { view.result.as_str().to_owned() },
        healthy: view.healthy,
        meaning,
        next_step,
        reason: view.reason.clone(),
        failed_at: view.failed_at.map(|stage| words::stage(stage).to_owned()),
        owner: view.owner.map(|owner| plain(owner.as_str())),
        took_us: view.took_us,
    }
}

/// The machine it was made on, if not this one.
fn away<'a>(app: &Shared, test: &'a Test) -> Option<&'a str> {
    test.node.as_deref().filter(|node| Some(*node) != app.tests.node())
}

fn out(app: &Shared, stored: &Stored) -> SmtpTestOut {
    let Stored { id, at_ms, test } = stored;
    let lost = test.state == TestState::Running
        && app.tests.progress(*id).is_none()
        && app.clock.now_ms().saturating_sub(*at_ms) > LOST_MS;
    SmtpTestOut {
        id: id.to_string(),
        state: if lost { TestState::Interrupted } else { test.state },
        started: time::show(*at_ms),
        by: test.by.clone(),
        node: away(app, test).map(str::to_owned),
        subject: test.subject.clone(),
        to: test.asked.to.clone(),
        sends: sends(test),
        problem: test.problem.clone(),
        verdict: view(test).map(|view| verdict(&view, sends(test))),
    }
}

/// Which tests.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// `next` of the page before.
    before: Option<String>,
    /// At most 100; by default 25.
    limit: Option<u32>,
}

/// Tests, newest first; the last 300 are kept.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(which): Query<Which>,
) -> Result<axum::Json<Page<SmtpTestOut>>, Problem> {
    let wrong = |_| Problem::field("/before", "is not the `next` of a page");
    let before = which.before.map(|text| text.parse::<i64>().map_err(wrong)).transpose()?;
    let limit = which.limit.unwrap_or(25).clamp(1, 100);
    let query = RecordQuery { before, limit, ..RecordQuery::of(RecordKind::SmtpTest) };
    let found = record::find(&*app.store, query).await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| last.id.to_string());
    Ok(axum::Json(Page { items: found.iter().map(|one| out(&app, one)).collect(), next }))
}

/// Begins a test of a route or a server, and does not wait for it. Without `from` a route is tried with an address that may use it.
pub async fn add(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Json(asked): Json<CheckIn>,
) -> Result<(StatusCode, axum::Json<SmtpTestOut>), Problem> {
    let stored = smtp_test::start(&app, asked, caller.who()).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(out(&app, &stored))))
}

async fn find(app: &Shared, id: &str) -> Result<Stored, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    record::one(&*app.store, id).await?.ok_or_else(Problem::not_found)
}

/// One test, with the stages that have ended while it runs and the report when it is done.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<axum::Json<SmtpTestDetailOut>, Problem> {
    // First what runs: a test that ends in between has its report in the store.
    let progress = id.parse().ok().and_then(|id| app.tests.progress(id)).unwrap_or_default();
    let stored = find(&app, &id).await?;
    let test = &stored.test;
    let route = match &test.asked.route {
        Some(name) => route(&app, name).await?,
        _ => None,
    };
    let user = route.as_ref().and_then(|route| route.username.clone()).or_else(|| user_of(&test.asked));
    let mechanism = test.asked.auth.clone().or_else(|| route.and_then(|route| route.mechanism));
    let seen = view(test);
    let stages = |report: &Value| report["stages"].as_array().cloned();
    let commands = seen.as_ref().map(|view| equal(view, test, user.clone(), mechanism.as_deref(), &app.hostname));
    let documented =
        seen.as_ref().and_then(|view| documented::compare(view, user.as_deref(), mechanism.as_deref(), &app.rules()));
    Ok(axum::Json(SmtpTestDetailOut {
        asked: serde_json::to_value(&test.asked).unwrap_or_default(),
        stage: progress.stage.map(str::to_owned),
        stages: test.report.as_ref().and_then(stages).unwrap_or(progress.stages),
        commands: commands.unwrap_or_default(),
        documented,
        report: test.report.clone(),
        test: out(&app, &stored),
    }))
}

/// The route as it is now; it may be gone since.
async fn route(app: &Shared, name: &str) -> Result<Option<RouteRecord>, Problem> {
    match settings::exists(app, Kind::Route, name).await? {
        true => settings::record(&settings::find(app, Kind::Route, name).await?).map(Some),
        false => Ok(None),
    }
}

fn aim(asked: &CheckIn) -> Option<Aim> {
    asked.target.as_deref().and_then(|target| Aim::parse(target).ok())
}

fn user_of(asked: &CheckIn) -> Option<String> {
    asked.username.clone().or_else(|| aim(asked).and_then(|aim| aim.user))
}

fn equal(view: &View, test: &Test, user: Option<String>, mechanism: Option<&str>, hostname: &str) -> Vec<Equal> {
    let asked = &test.asked;
    commands::all(&Wanted {
        target: &view.target,
        domain: aim(asked).map(|aim| aim.host),
        user,
        mechanism,
        from: asked.from.as_deref(),
        to: &asked.to,
        helo: asked.helo.as_deref().unwrap_or(hostname),
        send: sends(test),
        four: asked.families == Some(Families::Four),
        six: asked.families == Some(Families::Six),
        timeout: asked.timeout_s.unwrap_or(10),
    })
}

/// Where a test is run once more.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepeatIn {
    /// Name of a node that works on the same queue; by default the one that answers.
    node: Option<String>,
}

/// Runs a test once more, here or on another node, and does not wait for it. Compared with the first it tells whether it is
/// the network of one node that fails.
pub async fn repeat(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(RepeatIn { node }): Json<RepeatIn>,
) -> Result<(StatusCode, axum::Json<SmtpTestOut>), Problem> {
    let Stored { test, .. } = find(&app, &id).await?;
    let conflict = |detail: &str| Err(Problem::new(StatusCode::CONFLICT, detail));
    if test.asked.route.is_none() {
        if test.asked.target.is_none() {
            return conflict("what was asked for on that machine is not known: begin a test of your own");
        }
        if user_of(&test.asked).is_some() {
            return conflict("its password was not kept: begin a new test, or make a route and test that");
        }
    }
    let here = app.relay.as_ref().map(|relay| relay.node());
    let stored = match node {
        Some(node) if Some(&*node) != here => elsewhere::ask(&app, &node, test, caller.who()).await?,
        _ => smtp_test::start(&app, test.asked, caller.who()).await?,
    };
    Ok((StatusCode::ACCEPTED, axum::Json(out(&app, &stored))))
}

/// A report made elsewhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportIn {
    /// Name of the machine it was made on, at most 100 characters.
    node: String,
    /// What `pillarbox check … --json` printed there.
    report: Value,
}

/// Keeps a report that another machine made, to compare with.
pub async fn import(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Json(ReportIn { node, report }): Json<ReportIn>,
) -> Result<(StatusCode, axum::Json<SmtpTestOut>), Problem> {
    let node = node.trim().to_owned();
    if node.is_empty() || node.chars().count() > LONGEST_NODE || HeaderText::new(node.clone()).is_err() {
        return Err(Problem::field("/node", "is the name of a machine: 1 to 100 characters, no line ends"));
    }
    let seen = View::of(&report).map_err(|error| {
        let detail = format!("is not what `pillarbox check --json` prints: {error}");
        Problem::field("/report", proto::smtp::reply::escape(detail.as_bytes(), 300))
    })?;
    let test = Test {
        state: TestState::Done,
        by: caller.who(),
        node: Some(node),
        subject: format!("{}:{}", seen.target.host, seen.target.port),
        asked: CheckIn::default(),
        problem: None,
        report: Some(report),
    };
    let at_ms = app.clock.now_ms();
    let id = record::add(&*app.store, &test, at_ms).await?;
    Ok((StatusCode::CREATED, axum::Json(out(&app, &Stored { id, at_ms, test }))))
}

/// With what.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct With {
    /// Another test; by default the one before of the same route or server.
    with: Option<String>,
}

/// Two tests side by side.
#[derive(Debug, Clone, Serialize)]
pub struct ComparisonOut {
    /// The other test.
    pub with: SmtpTestOut,
    /// What the two say together.
    pub words: String,
    /// The same with causes and fixes, where the other is of another machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Judged>,
    /// Stage by stage.
    pub stages: Vec<PairOut>,
}

/// A stage in both.
#[derive(Debug, Clone, Serialize)]
pub struct PairOut {
    /// Stage.
    pub stage: String,
    /// In this test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub this: Option<CellOut>,
    /// In the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<CellOut>,
    /// They ended alike.
    pub alike: bool,
}

/// How a stage ended.
#[derive(Debug, Clone, Serialize)]
pub struct CellOut {
    /// `passed`, `failed`, `skipped` or `not_reached`.
    pub outcome: &'static str,
    /// Microseconds it took.
    pub took_us: u64,
    /// What it found.
    pub summary: String,
}

fn cells(view: &View) -> HashMap<(Stage, usize), CellOut> {
    let mut seen: HashMap<Stage, usize> = HashMap::new();
    let mut cells = HashMap::new();
    for one in &view.stages {
        let nth = seen.entry(one.stage).or_default();
        let outcome = match one.outcome {
            Ended::Passed => "passed",
            Ended::Failed => "failed",
            Ended::Skipped => "skipped",
            Ended::NotReached => "not_reached",
        };
        cells.insert((one.stage, *nth), CellOut { outcome, took_us: one.took_us, summary: one.summary.clone() });
        *nth += 1;
    }
    cells
}

fn pairs(this: &View, other: &View) -> Vec<PairOut> {
    let (mut left, mut right) = (cells(this), cells(other));
    let mut order: Vec<(Stage, usize)> = Vec::new();
    for view in [this, other] {
        let mut seen: HashMap<Stage, usize> = HashMap::new();
        for one in &view.stages {
            let nth = seen.entry(one.stage).or_default();
            if !order.contains(&(one.stage, *nth)) {
                order.push((one.stage, *nth));
            }
            *nth += 1;
        }
    }
    let pair = |key: (Stage, usize)| {
        let (this, other) = (left.remove(&key), right.remove(&key));
        let outcome = |cell: &Option<CellOut>| cell.as_ref().map(|cell| cell.outcome);
        let alike = outcome(&this) == outcome(&other);
        PairOut { stage: words::stage(key.0).to_owned(), this, other, alike }
    };
    order.into_iter().map(pair).collect()
}

/// The test before of the same thing.
async fn earlier(app: &Shared, stored: &Stored) -> Result<Stored, Problem> {
    let query = RecordQuery { before: Some(stored.id), limit: LOOKED_AT, ..RecordQuery::of(RecordKind::SmtpTest) };
    let found = record::find(&*app.store, query).await?;
    let same = |one: &Stored| one.test.subject == stored.test.subject && one.test.report.is_some();
    found.into_iter().find(same).ok_or_else(Problem::not_found)
}

/// Compares a test with another one: an earlier one, or one of another machine.
pub async fn compare(
    State(app): State<Shared>,
    _: Admin,
    Path(id): Path<String>,
    Query(With { with }): Query<With>,
) -> Result<axum::Json<ComparisonOut>, Problem> {
    let stored = find(&app, &id).await?;
    let other = match with {
        Some(with) => find(&app, &with).await.map_err(|_| Problem::field("/with", "there is no such test"))?,
        None => earlier(&app, &stored).await?,
    };
    let none = |_: ()| Problem::new(StatusCode::CONFLICT, "one of the two has no report: it runs, or could not be run");
    let this_view = view(&stored.test).ok_or(()).map_err(none)?;
    let other_view = view(&other.test).ok_or(()).map_err(none)?;
    let at = |test| away(&app, test);
    let finding = judged(&app.rules(), (at(&stored.test), &this_view), (at(&other.test), &other_view));
    let words = match &finding {
        Some(finding) => finding.explanation.title.clone(),
        None if other.id > stored.id => comparing::since(&other_view, &this_view),
        None => comparing::since(&this_view, &other_view),
    };
    let stages = pairs(&this_view, &other_view);
    Ok(axum::Json(ComparisonOut { with: out(&app, &other), words, finding, stages }))
}

/// Only where the two are of different machines there is a place to blame.
fn judged(
    rules: &std::sync::Arc<RuleBase>,
    (this, this_view): (Option<&str>, &View),
    (other, other_view): (Option<&str>, &View),
) -> Option<Judged> {
    match (this, other) {
        (None, Some(there)) => comparing::machines(rules, this_view, other_view, there),
        (Some(there), None) => comparing::machines(rules, other_view, this_view, there),
        _ => None,
    }
}
