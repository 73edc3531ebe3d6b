//! Probes: whether what is braked works again, with as little as shows it.

use std::sync::Arc;
use std::time::Duration;

use net::client::ConnectError;
use store::{Cause, RecipientView, Selector, State};

use super::follow;
use super::gate::Tried;
use super::news::BrakeNews;
use super::scope::{BrakeScope, Proof};
use crate::connection::open::{Errand, graph_place, open_route};
use crate::dispatch::route_of;
use crate::route::{Route, RouteKind};
use crate::settle;
use crate::shared::Shared;
use crate::signin;
use crate::verdict::Peer;

/// How long the message of a probe may be on its way.
const PATIENCE: Duration = Duration::from_secs(900);

/// How often it is looked whether another node took it.
const LOOK: Duration = Duration::from_secs(2);

/// What a probe came to.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeOutcome {
    /// It works.
    Succeeded,
    /// It does not.
    Failed {
        /// What happened.
        cause: Box<Cause>,
        /// When the next one goes, Unix milliseconds; `None`: the brake came off meanwhile.
        next_ms: Option<i64>,
    },
    /// It needs mail to find out, and none is held.
    NothingToTry,
    /// One is under way, or nothing is braked there.
    NotNow,
}

/// What was found.
enum Found {
    Works,
    Fails(Box<Cause>),
    /// Nothing could be tried.
    Nothing,
}

/// A probe whose time has come.
pub(crate) async fn by_turn(shared: Arc<Shared>, incident: i64, scope: BrakeScope) {
    probe(&shared, incident, &scope).await;
}

/// Probes what counts as being probed already.
pub(crate) async fn probe(shared: &Arc<Shared>, incident: i64, scope: &BrakeScope) -> ProbeOutcome {
    let found = tokio::select! {
        found = find_out(shared, incident, scope) => found,
        () = shared.stopping.cancelled() => Found::Nothing,
    };
    let at_ms = shared.now_ms();
    let keeper = &shared.keeper;
    let (news, outcome) = match found {
        Found::Works => {
            if !keeper.book.lock().probe_succeeded(incident, scope, at_ms) {
                return ProbeOutcome::Succeeded;
            }
            tracing::info!(incident, %scope, "a probe went well");
            let news = BrakeNews::ProbeSucceeded { scope: scope.clone(), incident: Some(incident), at_ms };
            (Some(news), ProbeOutcome::Succeeded)
        }
        Found::Fails(cause) => {
            let next_ms = keeper.book.lock().probe_failed(incident, scope, at_ms);
            tracing::info!(incident, %scope, failure = ?cause.failure, "a probe failed");
            let news = next_ms.map(|next_ms| BrakeNews::ProbeFailed {
                scope: scope.clone(),
                incident,
                cause: cause.clone(),
                at_ms,
                next_ms,
            });
            (news, ProbeOutcome::Failed { cause, next_ms })
        }
        Found::Nothing => {
            keeper.book.lock().probe_undecided(incident, scope, at_ms);
            (None, ProbeOutcome::NothingToTry)
        }
    };
    if let Some(news) = news {
        let _ = keeper.news.send(news);
    }
    keeper.wake.notify_one();
    outcome
}

async fn find_out(shared: &Arc<Shared>, incident: i64, scope: &BrakeScope) -> Found {
    let order = {
        let book = shared.keeper.book.lock();
        let braked = book.get(incident);
        braked.and_then(|braked| braked.orders.iter().find(|order| order.scope == *scope)).cloned()
    };
    let Some(order) = order else { return Found::Nothing };
    let held = match follow::next_held(shared, incident, order.tested).await {
        Ok(held) => held,
        Err(error) => {
            tracing::warn!(%error, "a probe finds no mail: the store does not answer");
            return Found::Nothing;
        }
    };
    let Some(route) = route(shared, scope, held.as_ref()) else { return Found::Nothing };
    match (order.proof, held) {
        (Proof::Message, Some(view)) => {
            shared.keeper.book.lock().tests(incident, scope, Some(view.id));
            with_mail(shared, incident, view).await
        }
        // Mail that goes by a fallback is not there to try: what can be seen without any has to do.
        (Proof::Message, None) if scope.route().is_none() => Found::Nothing,
        (Proof::SignIn | Proof::Message, _) if route.record.kind.has_account() && signin::signs_in(&route) => {
            judged(shared, &route, signin::probe(shared, &route).await)
        }
        (_, held) => {
            let result = connect(shared, &route, scope, held.as_ref()).await;
            match result {
                Some(result) => judged(shared, &route, result),
                None => Found::Nothing,
            }
        }
    }
}

/// The route that a probe takes.
fn route(shared: &Shared, scope: &BrakeScope, held: Option<&RecipientView>) -> Option<Arc<Route>> {
    let directory = shared.directory();
    let named = match scope {
        BrakeScope::Destination(name) => directory.route(route_of(name)),
        scope => directory.route(scope.route().unwrap_or_default()),
    };
    named.or_else(|| directory.route(&held?.lane.route)).cloned()
}

fn judged(shared: &Shared, route: &Route, result: Result<(), Box<ConnectError>>) -> Found {
    match result {
        Ok(()) => Found::Works,
        Err(error) => Found::Fails(Box::new(cause_of(shared, route, &error))),
    }
}

/// What stands behind a failed connection.
pub(crate) fn cause_of(shared: &Shared, route: &Route, error: &ConnectError) -> Cause {
    let peer = Peer { host: None, transcript: Some(&error.transcript) };
    settle::judged(shared, &route.name, peer, error.stage, &error.failure).cause
}

/// Connects as far as EHLO. `None`: it is not known whither.
async fn connect(
    shared: &Shared,
    route: &Route,
    scope: &BrakeScope,
    held: Option<&RecipientView>,
) -> Option<Result<(), Box<ConnectError>>> {
    let (errand, destination) = match route.record.kind {
        RouteKind::Smarthost => (Errand::nobody(), route.name.to_string()),
        RouteKind::Graph => {
            let place = graph_place(shared, route).await;
            return Some(match place {
                Ok(place) => place.connect().await.map(drop),
                Err(error) => Err(error),
            });
        }
        RouteKind::Mx => {
            let domain: Arc<str> = held?.lane.domain.clone();
            let wanted = route.wanted();
            let destination = match scope {
                BrakeScope::Destination(name) => name.to_string(),
                _ => route.name.to_string(),
            };
            (Errand { domain, wanted, counted: false }, destination)
        }
        RouteKind::Capture | RouteKind::Discard => return Some(Ok(())),
    };
    let opened = open_route(shared, route, &errand, &destination, None).await;
    Some(match opened {
        Ok(opened) => {
            opened.connection.quit().await;
            Ok(())
        }
        Err(error) => Err(error),
    })
}

/// Waits until the message of a probe is held again because another node took it, which does not let it through.
async fn taken_by_another(shared: &Shared, id: store::RecipientId) {
    if shared.store.bell().is_none() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let views = shared.store.recipients_named(vec![id]).await.unwrap_or_default();
        if views.iter().any(|view| view.state == State::Held) {
            return;
        }
    }
}

/// Lets one message through, and sees what becomes of it.
async fn with_mail(shared: &Arc<Shared>, incident: i64, view: RecipientView) -> Found {
    let why = {
        let book = shared.keeper.book.lock();
        book.get(incident).map(|braked| braked.held_why(incident))
    };
    let Some(why) = why else { return Found::Nothing };
    let message = view.id.message;
    let told = shared.keeper.let_pass(message, why.as_str().into());
    let selector = Selector {
        message: Some(message),
        n: Some(view.id.n),
        why: Some(super::book::prefix(incident)),
        state: Some(State::Held),
        ..Selector::default()
    };
    let let_go = shared.store.let_go(selector, 1, format!("incident i-{incident}: a probe"), shared.now_ms()).await;
    let went = matches!(let_go, Ok(1..));
    if went {
        shared.due_at(i64::MIN);
    }
    let tried = match went {
        true => {
            tokio::select! {
                told = tokio::time::timeout(PATIENCE, told) => told.ok().and_then(Result::ok),
                () = taken_by_another(shared, view.id) => None,
            }
        }
        false => None,
    };
    shared.keeper.stop_passing(message);
    match tried {
        Some(Tried::Taken) => Found::Works,
        Some(Tried::Refused(cause)) => Found::Fails(cause),
        Some(Tried::Not) => Found::Nothing,
        None => {
            if went && let Err(error) = follow::hold_one(shared, &view, &why).await {
                tracing::warn!(%error, "the message of a probe is held when it is to leave");
            }
            Found::Nothing
        }
    }
}
