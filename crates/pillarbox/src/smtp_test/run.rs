//! One test from the question to its report.

use diagnose::check::Event;
use proto::Address;
use relay::route::{RouteKind, RouteRecord};
use relay::secrets::Secrets;
use serde_json::Value;
use store::settings::Kind;

use super::record::{self, State, Test};
use super::{Progress, Stored};
use crate::arrival::send::default_from;
use crate::check::{CheckIn, MessageStage};
use crate::http::Shared;
use crate::http::api::{checks, settings};
use crate::http::problem::Problem;
use crate::http::words;

/// Begins a test; what is wrong with the question is said now, what is wrong with the server is in the report.
///
/// # Errors
/// 422 with the fields that are wrong, 404 for a route that is not there, 429 when too many checks run.
pub async fn start(app: &Shared, mut asked: CheckIn, by: String) -> Result<Stored, Problem> {
    if asked.to.is_empty() && asked.message == Some(MessageStage::BeforeDot) {
        asked.message = None;
    }
    let subject = match asked.route.clone() {
        Some(route) => {
            complete(app, &route, &mut asked).await?;
            format!("route {route}")
        }
        None => {
            asked.clone().prepare(&app.rules(), &app.hostname).map_err(Problem::fields)?;
            asked.target.clone().unwrap_or_default()
        }
    };
    let place = checks::place(app)?;
    let node = app.tests.node().map(str::to_owned);
    let test = Test { state: State::Running, by, node, subject, asked, problem: None, report: None };
    let at_ms = app.clock.now_ms();
    let stored = Stored { id: record::add(&*app.store, &test, at_ms).await?, at_ms, test };
    begin(app, stored.clone(), place);
    Ok(stored)
}

/// Runs a test that is in the store, and writes down how it ended.
pub(super) fn begin(app: &Shared, Stored { id, test, .. }: Stored, place: checks::Place) {
    app.tests.running.lock().insert(id, Progress::default());
    let task = app.clone();
    app.tests.tasks.spawn(async move {
        let ended = tokio::select! {
            ended = probe(&task, id, test.asked.clone(), place) => ended,
            () = task.tests.stop.cancelled() => Err(None),
        };
        let test = match ended {
            Ok(report) => Test { state: State::Done, report: Some(report), ..test },
            Err(Some(problem)) => Test { state: State::Failed, problem: Some(problem), ..test },
            Err(None) => Test { state: State::Interrupted, ..test },
        };
        if let Err(error) = record::end(&*task.store, id, &test).await {
            tracing::error!(%error, "the result of a test could not be kept");
        }
        task.tests.running.lock().remove(&id);
    });
}

/// Fills in what a route says by itself, and looks at the rest.
async fn complete(app: &Shared, name: &str, asked: &mut CheckIn) -> Result<(), Problem> {
    let document = settings::find(app, Kind::Route, name).await?;
    let route: RouteRecord = settings::record(&document)?;
    if !route.kind.leaves() {
        return Err(Problem::field("/route", "mail on this route stays here: there is no server to test"));
    }
    if route.kind == RouteKind::Graph {
        if asked.message == Some(MessageStage::Send) {
            let detail = "a route to Graph is tested without sending; send a test mail through the queue instead";
            return Err(Problem::field("/message", detail));
        }
        return Ok(());
    }
    if !asked.to.is_empty() && asked.from.is_none() {
        asked.from = Some(own_address(app, name, &route)?);
    }
    if route.kind == RouteKind::Mx && asked.target.is_none() {
        let domain = asked.to.first().and_then(|to| Address::parse(to).ok()).map(|to| to.domain().to_string());
        asked.target = domain;
    }
    // Only the shape of the question is looked at: a token stands for whatever the route signs in with.
    let secrets = Secrets { password: route.username.as_ref().map(|_| "?".into()), ..Secrets::default() };
    let question = CheckIn { route: None, ..asked.clone() };
    let question = checks::of_record(route, &secrets, None, question)?;
    question.prepare(&app.rules(), &app.hostname).map_err(Problem::fields)?;
    Ok(())
}

fn own_address(app: &Shared, name: &str, route: &RouteRecord) -> Result<String, Problem> {
    let by_writer = default_from(app, name);
    match (&by_writer, &route.username) {
        (Err(_), Some(user)) if Address::parse(user).is_ok() => Ok(user.clone()),
        _ => by_writer,
    }
}

/// `Err(None)` does not come from here.
async fn probe(app: &Shared, id: i64, mut asked: CheckIn, place: checks::Place) -> Result<Value, Option<String>> {
    let mut watch = |event: Event<'_>| match event {
        Event::Began(stage) => app.tests.note(id, |progress| progress.stage = Some(words::stage(stage))),
        Event::Ended(report) => app.tests.note(id, |progress| {
            progress.stage = None;
            progress.stages.extend(serde_json::to_value(report).ok());
        }),
        Event::Step(_) | Event::Found(_) => {}
    };
    let route = asked.route.take();
    let report = checks::watched(app, place, route.as_deref(), asked, &mut watch).await;
    let report = report.map_err(|problem| Some(problem.detail))?;
    serde_json::to_value(report).map_err(|error| Some(error.to_string()))
}
