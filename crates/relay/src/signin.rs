//! Signing in under the brake: who may try now, with what, and what becomes of the mail meanwhile.

use std::sync::Arc;

use net::client::{ClientAuth, ConnectError};
use proto::transcript::{Failure, Stage, Transcript};
use secrecy::SecretString;
use store::settings::{Kind, SecretChange};
use store::{Attempt, Outcome};

use crate::brake::{Hold, Leave, is_rejection};
use crate::connection::{Errand, Opened, error_at, open_route};
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

/// A place among those that may sign in; one that is dropped without a word says that nothing was learned.
struct Place<'a> {
    shared: &'a Shared,
    route: &'a Route,
    said: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.said {
            self.shared.brakes.lock().undecided(&self.route.name, self.route.version);
        }
        self.shared.brake_news.notify_waiters();
    }
}

fn signs_in(route: &Route) -> bool {
    route.record.kind == RouteKind::Smarthost && route.record.username.is_some()
}

/// Waits for the turn.
async fn place<'a>(shared: &'a Shared, route: &'a Route) -> Result<Place<'a>, Hold> {
    loop {
        let news = shared.brake_news.notified();
        tokio::pin!(news);
        // Registered before asking, so that no news are missed.
        news.as_mut().enable();
        let leave = shared.brakes.lock().ask(&route.name, route.version, shared.now_ms());
        match leave {
            Leave::Go => return Ok(Place { shared, route, said: false }),
            Leave::Wait(hold) => return Err(hold),
            Leave::Queue => news.await,
        }
    }
}

/// Connects, and signs in if the route says so.
pub(crate) async fn connect(
    shared: &Shared,
    route: &Route,
    errand: &Errand,
    destination: &str,
) -> Result<Opened, Trouble> {
    if !signs_in(route) {
        return open_route(shared, route, errand, destination, None).await.map_err(Trouble::Failed);
    }
    let mut place = place(shared, route).await.map_err(Trouble::Held)?;
    let result = with_credential(shared, route, errand, destination).await;
    let (name, version, now_ms) = (&route.name, route.version, shared.now_ms());
    match result {
        Ok(connection) => {
            place.said = true;
            if shared.brakes.lock().accepted(name, version, now_ms) {
                tracing::info!(route = %name, "the credential is accepted again: mail goes on");
            }
            Ok(connection)
        }
        Err(error) if is_rejection(error.stage, &error.failure) => {
            place.said = true;
            let hold = shared.brakes.lock().rejected(name, version, &error.failure, now_ms);
            let minutes = (hold.until_ms - now_ms) / 60_000;
            tracing::warn!(route = %name, minutes, failure = ?error.failure, "the credential is rejected: nobody signs in for a while");
            Err(Trouble::Rejected(error, hold))
        }
        Err(error) => Err(Trouble::Failed(error)),
    }
}

/// Signs in and leaves: proves a credential.
pub(crate) async fn prove(
    shared: &Shared,
    route: &Route,
    token: Option<&SecretString>,
) -> Result<(), Box<ConnectError>> {
    let secret = token.or(route.secrets.password.as_ref());
    open_route(shared, route, &Errand::nobody(), &route.name, auth(route, secret)).await?.connection.quit().await;
    Ok(())
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
        match store.put_document(Kind::Route, document.name, document.body, change, now_ms).await {
            Ok(_) => tracing::info!(route = %name, "the credential before the rotation is forgotten"),
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
        let failure = Failure::Local { reason: "this program was started without a source of access tokens".into() };
        return Err(error_at(shared, Stage::Auth, failure));
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

/// What happened before stands before.
fn after(before: Option<Transcript>, mut error: Box<ConnectError>) -> Box<ConnectError> {
    if let Some(mut before) = before {
        error.transcript.steps.drain(..).for_each(|step| before.push(step));
        error.transcript = before;
    }
    error
}

fn auth(route: &Route, secret: Option<&SecretString>) -> Option<ClientAuth> {
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
    let ended = waiting(shared, &job, attempt, hold);
    settle::spawn(shared, &job.claim, ended);
}

/// The probe's own job: it has the transcript.
pub(crate) fn rejected(shared: &Arc<Shared>, job: &Job, attempt: Attempt, hold: &Hold) {
    let mut ended = settle::all_failed(shared, &job.claim, attempt, Stage::Auth, &hold.failure);
    ended.outcomes = ended.outcomes.into_iter().map(|(n, outcome)| (n, until(outcome, hold, job))).collect();
    settle::spawn(shared, &job.claim, ended);
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
