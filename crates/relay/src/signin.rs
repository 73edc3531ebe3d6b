//! Signing in under the brake: who may try now, with what, and what becomes of the mail meanwhile.

use std::sync::Arc;

use net::client::{ClientAuth, ConnectError, Delivery};
use proto::transcript::{Failure, Stage, Transcript};
use secrecy::SecretString;
use store::settings::{Expected, Kind, SecretChange};
use store::{Attempt, Outcome};

use crate::brake::auth::{Hold, Leave, is_rejection};
use crate::connection::Worker;
use crate::connection::open::{Errand, Opened, error_at, graph_place, open_graph, open_route};
use crate::route::{Route, RouteKind};
use crate::schedule::Job;
use crate::secrets::Secrets;
use crate::settle::{self, Ended};
use crate::shared::Shared;
use crate::token::Token;
use crate::verdict::Peer;

/// How long after a rotation the credential before it is kept, milliseconds.
const GRACE_MS: i64 = 3_600_000;

/// Why there is no connection.
pub(crate) enum Trouble {
    /// It was tried.
    Failed(Box<ConnectError>),
    /// The credential was rejected before: it is not tried now.
    Held(Hold),
    /// It was tried, and the credential was rejected.
    Rejected(Box<ConnectError>, Hold),
}

/// A turn at signing in; one that is dropped without a word says that nothing was learned.
pub(crate) struct Turn {
    shared: Arc<Shared>,
    route: Arc<Route>,
    said: bool,
}

impl Turn {
    fn accepted(mut self) {
        self.said = true;
        let (name, version) = (&self.route.name, self.route.version);
        if self.shared.brakes.lock().accepted(name, version, self.shared.now_ms()) {
            tracing::info!(route = %name, "the credential is accepted again: mail goes on");
            crate::brake::accepted(&self.shared, name);
        }
    }

    fn rejected(mut self, failure: &Failure) -> Hold {
        self.said = true;
        rejection(&self.shared, &self.route, failure, Leaves::Asked)
    }
}

/// Whether a sign-in had leave, or was a probe beside all others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Asked,
    Probed,
}

fn rejection(shared: &Arc<Shared>, route: &Route, failure: &Failure, leave: Leaves) -> Hold {
    let (name, now_ms) = (&route.name, shared.now_ms());
    let hold = match leave {
        Leaves::Asked => shared.brakes.lock().rejected(name, route.version, failure, now_ms),
        Leaves::Probed => shared.brakes.lock().disproven(name, route.version, failure, now_ms),
    };
    if leave == Leaves::Asked {
        let cause = settle::judged(shared, name, Peer::default(), Stage::Auth, failure).cause;
        crate::brake::rejected(shared, name, cause);
    }
    let minutes = (hold.until_ms - now_ms) / 60_000;
    tracing::warn!(route = %name, minutes, ?failure, "the credential is rejected: nobody signs in for a while");
    hold
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.said {
            self.shared.brakes.lock().undecided(&self.route.name, self.route.version);
        }
        self.shared.brake_news.notify_waiters();
    }
}

pub(crate) fn signs_in(route: &Route) -> bool {
    route.record.kind.has_account() && route.record.username.is_some()
}

/// Waits for the turn.
async fn turn(shared: &Arc<Shared>, route: &Arc<Route>) -> Result<Turn, Hold> {
    loop {
        let news = shared.brake_news.notified();
        tokio::pin!(news);
        // Registered before asking, so that no news are missed.
        news.as_mut().enable();
        let leave = shared.brakes.lock().ask(&route.name, route.version, shared.now_ms());
        match leave {
            Leave::Go => return Ok(Turn { shared: shared.clone(), route: route.clone(), said: false }),
            Leave::Wait(hold) => return Err(hold),
            Leave::Queue => news.await,
        }
    }
}

/// Connects, and signs in if the route says so.
pub(crate) async fn connect(
    shared: &Arc<Shared>,
    route: &Arc<Route>,
    errand: &Errand,
    destination: &str,
) -> Result<Opened, Trouble> {
    if !signs_in(route) {
        return open_route(shared, route, errand, destination, None).await.map_err(Trouble::Failed);
    }
    let turn = turn(shared, route).await.map_err(Trouble::Held)?;
    let graph = route.record.kind == RouteKind::Graph;
    let result = match graph {
        true => with_token(shared, route).await,
        false => with_credential(shared, route, errand, destination).await,
    };
    match result {
        Ok(mut opened) if graph => {
            opened.turn = Some(turn);
            Ok(opened)
        }
        Ok(opened) => {
            turn.accepted();
            Ok(opened)
        }
        Err(error) if is_rejection(error.stage, &error.failure) => {
            let hold = turn.rejected(&error.failure);
            Err(Trouble::Rejected(error, hold))
        }
        Err(error) => Err(Trouble::Failed(error)),
    }
}

/// What the answer to a message says about signing in, where messages carry the credential themselves.
///
/// A hold: the credential is rejected, and nobody tries it for a while.
pub(crate) fn told(worker: &mut Worker, delivery: &Delivery) -> Option<Hold> {
    if worker.route.record.kind != RouteKind::Graph {
        return None;
    }
    let failure = delivery.failure.as_ref().map(|(_, failure)| failure);
    match failure {
        Some(failure) if is_rejection(Stage::Auth, failure) => Some(match worker.turn.take() {
            Some(turn) => turn.rejected(failure),
            None => {
                let hold = rejection(&worker.shared, &worker.route, failure, Leaves::Asked);
                worker.shared.brake_news.notify_waiters();
                hold
            }
        }),
        // Anything else that Graph itself says, it says to whom it knows.
        None | Some(Failure::Api { status: ..500, .. }) => {
            worker.turn.take().into_iter().for_each(Turn::accepted);
            None
        }
        Some(_) => None,
    }
}

/// Signs in and leaves: proves a credential.
pub(crate) async fn prove(
    shared: &Shared,
    route: &Route,
    token: Option<&SecretString>,
) -> Result<(), Box<ConnectError>> {
    if route.record.kind == RouteKind::Graph {
        let place = graph_place(shared, route).await?;
        let token = token.ok_or_else(|| error_at(shared, Stage::Auth, without_source()))?;
        return place.probe(route.record.username.as_deref().unwrap_or_default(), token).await;
    }
    let secret = token.or(route.secrets.password.as_ref());
    open_route(shared, route, &Errand::nobody(), &route.name, auth(route, secret)).await?.connection.quit().await;
    Ok(())
}

/// Signs in with what the route has and leaves, whoever else must not: the probe of a brake. What it finds holds for all.
pub(crate) async fn probe(shared: &Arc<Shared>, route: &Arc<Route>) -> Result<(), Box<ConnectError>> {
    let result = match route.record.kind {
        RouteKind::Graph => match shared.config.tokens.as_ref() {
            Some(tokens) => match tokens.token(route).await {
                Ok(token) => prove(shared, route, Some(&token.secret)).await,
                Err(failure) => Err(error_at(shared, Stage::Auth, failure)),
            },
            None => Err(error_at(shared, Stage::Auth, without_source())),
        },
        _ => match with_credential(shared, route, &Errand::nobody(), &route.name).await {
            Ok(opened) => {
                opened.connection.quit().await;
                Ok(())
            }
            Err(error) => Err(error),
        },
    };
    match &result {
        Ok(()) => {
            shared.brakes.lock().proven(&route.name, route.version, shared.now_ms());
        }
        Err(error) if is_rejection(error.stage, &error.failure) => {
            rejection(shared, route, &error.failure, Leaves::Probed);
        }
        Err(_) => {}
    }
    shared.brake_news.notify_waiters();
    result
}

/// With the password; where it has just been replaced and does not work, with the one before.
async fn with_password(
    shared: &Shared,
    route: &Route,
    errand: &Errand,
    destination: &str,
) -> Result<Opened, Box<ConnectError>> {
    let result = open_route(shared, route, errand, destination, auth(route, route.secrets.password.as_ref())).await;
    let Some(previous) = &route.secrets.previous else { return result };
    match result {
        Ok(connection) => {
            if shared.now_ms() - previous.since_ms > GRACE_MS {
                forget_previous(shared, route);
            }
            Ok(connection)
        }
        Err(error) if is_rejection(error.stage, &error.failure) => {
            let old = auth(route, previous.secrets.password.as_ref());
            if old.is_none() {
                return Err(error);
            }
            let connection = open_route(shared, route, errand, destination, old).await;
            match connection {
                Ok(connection) => {
                    tracing::warn!(route = %route.name, "the new credential is rejected; the one before still works and is used");
                    Ok(connection)
                }
                Err(_) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// What is new has worked long enough: the credential before it is forgotten.
fn forget_previous(shared: &Shared, route: &Route) {
    let (store, name, version) = (shared.store.clone(), route.name.clone(), route.version);
    let secrets = Secrets { previous: None, ..route.secrets.clone() };
    let now_ms = shared.now_ms();
    shared.tasks.spawn(async move {
        let Ok(documents) = store.documents(Kind::Route).await else { return };
        let same = documents.into_iter().find(|document| *document.name == *name && document.version == version);
        let (Some(document), Some(secret)) = (same, secrets.store()) else { return };
        let change = SecretChange::Set(secret);
        let expected = Expected::Version(version);
        match store.put_document_if(Kind::Route, document.name, document.body, change, expected, now_ms).await {
            Ok(Some(_)) => tracing::info!(route = %name, "the credential before the rotation is forgotten"),
            // Another node did it, or somebody changed the route.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(route = %name, %error, "the credential before the rotation is not forgotten yet")
            }
        }
    });
}

/// With the route's password; or with its token, and with a new one if that was refused.
async fn with_credential(
    shared: &Shared,
    route: &Route,
    errand: &Errand,
    destination: &str,
) -> Result<Opened, Box<ConnectError>> {
    if route.record.oauth.is_none() {
        return with_password(shared, route, errand, destination).await;
    }
    let Some(tokens) = shared.config.tokens.as_ref() else {
        return Err(error_at(shared, Stage::Auth, without_source()));
    };
    let mut before: Option<Transcript> = None;
    loop {
        let Token { secret, fresh } = match tokens.token(route).await {
            Ok(token) => token,
            Err(failure) => return Err(after(before, error_at(shared, Stage::Auth, failure))),
        };
        match open_route(shared, route, errand, destination, auth(route, Some(&secret))).await {
            Err(error) if is_rejection(error.stage, &error.failure) => {
                tokens.refused(route, &secret);
                if fresh || before.is_some() {
                    return Err(after(before, error));
                }
                before = Some(error.transcript);
            }
            other => return other.map_err(|error| after(before, error)),
        }
    }
}

/// A token in hand, and a connection: Graph sees the one with the first message that comes over the other.
async fn with_token(shared: &Shared, route: &Arc<Route>) -> Result<Opened, Box<ConnectError>> {
    let tokens = shared.config.tokens.as_ref().ok_or_else(|| error_at(shared, Stage::Auth, without_source()))?;
    tokens.token(route).await.map_err(|failure| error_at(shared, Stage::Auth, failure))?;
    open_graph(shared, route, tokens).await
}

fn without_source() -> Failure {
    Failure::Local { reason: "this program was started without a source of access tokens".into() }
}

/// What happened before stands before.
fn after(before: Option<Transcript>, mut error: Box<ConnectError>) -> Box<ConnectError> {
    if let Some(mut before) = before {
        error.transcript.steps.drain(..).for_each(|step| before.push(step));
        error.transcript = before;
    }
    error
}

pub(crate) fn auth(route: &Route, secret: Option<&SecretString>) -> Option<ClientAuth> {
    let token = route.record.oauth.is_some().then(|| "XOAUTH2".to_owned());
    Some(ClientAuth {
        username: route.record.username.clone()?,
        password: secret?.clone(),
        mechanism: route.record.mechanism.clone().or(token),
        allow_plaintext: route.record.auth_without_tls,
    })
}

/// Why mail of this route has to wait; nothing if there are connections that have signed in and take it.
pub(crate) fn hold_of(shared: &Shared, route: &Route) -> Option<Hold> {
    let hold = shared.brakes.lock().hold(&route.name, route.version, shared.now_ms()).cloned()?;
    (!shared.schedule.lock().is_served(&route.name)).then_some(hold)
}

/// A connection has ended. If it was the last one that had signed in, and no other may now, its mail waits in the store.
pub(crate) fn left(shared: &Arc<Shared>, route: &Route) {
    if !signs_in(route) || shared.is_stopping() {
        return;
    }
    if let Some(hold) = hold_of(shared, route) {
        let jobs = shared.schedule.lock().evict_from(&route.name);
        jobs.into_iter().for_each(|job| put_off(shared, job, &hold));
    }
}

/// Lets a job wait until the next probe. What has waited before only waits on, without a word.
pub(crate) fn put_off(shared: &Arc<Shared>, job: Job, hold: &Hold) {
    let attempt = settle::unconnected(&job.claim.lane.key.route, shared.now_ms(), Some(Stage::Auth));
    let mut ended = waiting(shared, &job, attempt, hold);
    hasten(shared, &job, &mut ended);
    settle::spawn(shared, &job.claim, ended);
}

/// The probe's own job: it has the transcript.
pub(crate) fn rejected(shared: &Arc<Shared>, job: &Job, attempt: Attempt, hold: &Hold) {
    let mut ended = settle::all_failed(shared, &job.claim, attempt, Stage::Auth, &hold.failure);
    ended.outcomes = ended.outcomes.into_iter().map(|(n, outcome)| (n, until(outcome, hold, job))).collect();
    hasten(shared, job, &mut ended);
    settle::spawn(shared, &job.claim, ended);
}

/// Routes with an account have one destination, which has their name.
fn hasten(shared: &Shared, job: &Job, ended: &mut Ended) {
    let name = &job.claim.lane.key.route;
    if let Some(route) = shared.directory().route(name) {
        crate::divert::hasten(shared, name, route, &job.claim, ended);
    }
}

fn waiting(shared: &Shared, job: &Job, attempt: Attempt, hold: &Hold) -> Ended {
    let judgement = settle::judged(shared, &attempt.route, Peer::default(), Stage::Auth, &hold.failure);
    let mut told = false;
    let outcomes = job.claim.recipients.iter().map(|recipient| {
        if recipient.attempts > 0 {
            return (recipient.n, Outcome::Returned { due_ms: hold.until_ms });
        }
        told = true;
        let outcome = settle::outcome_of(shared, &job.claim, recipient, judgement.clone());
        (recipient.n, until(outcome, hold, job))
    });
    let outcomes = outcomes.collect();
    Ended { attempt: told.then_some(attempt), outcomes, capture: false }
}

/// Due when the brake lets a probe through, or before the message is too old.
fn until(outcome: Outcome, hold: &Hold, job: &Job) -> Outcome {
    match outcome {
        Outcome::Deferred { cause, .. } => {
            Outcome::Deferred { until_ms: hold.until_ms.min(job.claim.message.expires_ms), cause }
        }
        other => other,
    }
}
