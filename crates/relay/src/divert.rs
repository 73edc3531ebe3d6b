//! Mail of a route that does not work, by another: when, by which, and the way back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use net::client::Delivery;
use proto::transcript::Failure;
use store::{Claim, Operation, Outcome, Selector, State};

use crate::connection::Worker;
use crate::dispatch::route_of;
use crate::failover::{BY_FALLBACK, Way, order};
use crate::route::{Route, RouteKind};
use crate::schedule::{Job, Sign};
use crate::settle::Ended;
use crate::shared::Shared;

/// How often outages are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The route that takes a job for a destination of `route` instead, if that is out and another works.
pub(crate) fn fallback(shared: &Shared, destination: &Arc<str>, route: &Route, job: &Job) -> Option<Arc<Route>> {
    let now_ms = shared.now_ms();
    let after_ms = route.failover_after_ms();
    if shared.keeper.passes(job.claim.message.id) {
        return None;
    }
    if shared.keeper.next_hop(route, Some(destination)).is_none() {
        let way = shared.failover.lock().way(destination, after_ms, now_ms);
        let spent = || is_spent(shared, route, destination, job.claim.lane.key.priority, after_ms);
        if way == Way::Probe || way == Way::Own && !spent() {
            return None;
        }
    }
    let found = stand_in(shared, route, &job.claim, now_ms)?;
    shared.failover.lock().divert(destination);
    Some(found)
}

/// The fallback of a route that takes a message, if one works.
fn stand_in(shared: &Shared, route: &Route, claim: &Claim, now_ms: i64) -> Option<Arc<Route>> {
    let after_ms = route.failover_after_ms();
    let directory = shared.directory();
    let chance = (claim.message.id.0 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
    order(&route.record.fallback, chance).into_iter().find_map(|name| {
        let other = directory.route(name).filter(|other| other.name != route.name)?;
        if shared.keeper.next_hop(other, Some(&other.name)).is_some() {
            return None;
        }
        let works = match other.record.kind {
            RouteKind::Smarthost | RouteKind::Graph => {
                !shared.failover.lock().is_out(&other.name, after_ms, now_ms)
                    && !is_spent(shared, other, &other.name, claim.lane.key.priority, after_ms)
            }
            RouteKind::Mx => true,
            RouteKind::Capture | RouteKind::Discard => false,
        };
        works.then(|| other.clone())
    })
}

/// A message that has just found its destination out, as a probe or before that was known, need not wait for its next
/// attempt where a fallback works. What the destination may have stays with it.
pub(crate) fn hasten(shared: &Shared, destination: &str, route: &Route, claim: &Claim, ended: &mut Ended) {
    if claim.lane.key.route != route.name || route.record.fallback.is_empty() {
        return;
    }
    let now_ms = shared.now_ms();
    let out = shared.keeper.next_hop(route, Some(destination)).is_some()
        || shared.failover.lock().stays_out(destination, route.failover_after_ms(), now_ms);
    if !out || stand_in(shared, route, claim, now_ms).is_none() {
        return;
    }
    for (_, outcome) in &mut ended.outcomes {
        match outcome {
            Outcome::Deferred { until_ms, cause } if cause.unknown_via.is_none() => *until_ms = now_ms,
            Outcome::Returned { due_ms } => *due_ms = now_ms,
            _ => {}
        }
    }
}

/// A quota is used up for longer than the route's patience.
fn is_spent(shared: &Shared, route: &Route, destination: &Arc<str>, priority: u8, after_ms: i64) -> bool {
    let now_ms = shared.now_ms();
    let full = shared.schedule.lock().full_until(&route.limits(destination), priority, now_ms);
    full.is_some_and(|until| until - now_ms > after_ms)
}

/// What an attempt says about its destination, whatever became of the message.
pub(crate) fn heed(worker: &Worker, claim: &Claim, delivery: &Delivery) {
    let mut failover = worker.shared.failover.lock();
    // Who wants nothing from us is no way out for mail, though it answers.
    let held = matches!(worker.sign, Sign::Hold(_));
    let refused = matches!(&delivery.failure, Some((_, Failure::Api { status: ..500, .. })));
    if delivery.end.is_none() && !refused || held {
        if delivery.failure.is_some() || held {
            failover.failed(&worker.destination, worker.shared.now_ms());
        }
        return;
    }
    if delivery.end.is_some() && claim.lane.key.route != worker.route.name {
        failover.delivered += 1;
    }
    if failover.worked(&worker.destination) {
        tracing::warn!(destination = %worker.destination, "works again: mail goes by it as before");
    }
}

/// What the event of a delivery by a fallback says.
pub(crate) fn words(worker: &Worker, claim: &Claim) -> Option<String> {
    let own = &claim.lane.key.route;
    (*own != worker.route.name).then(|| format!("{BY_FALLBACK}{} instead of {own}", worker.route.name))
}

/// Schedules anew what waits for a destination.
pub(crate) fn redispatch(shared: &Arc<Shared>, destination: &str) {
    let jobs = shared.schedule.lock().evict_from(destination);
    for job in jobs {
        shared.admit(job);
    }
}

/// Notices outages, and gives what waits for them to the fallbacks, until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut spent = HashSet::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shared.stopping.cancelled() => return,
        }
        outages(&shared).await;
        quotas(&shared, &mut spent);
    }
}

/// The route of a destination, if it has fallbacks.
fn with_fallback(shared: &Shared, destination: &str) -> Option<Arc<Route>> {
    shared.directory().route(route_of(destination)).filter(|route| !route.record.fallback.is_empty()).cloned()
}

async fn outages(shared: &Arc<Shared>) {
    let failing = shared.failover.lock().failing();
    for destination in failing {
        let Some(route) = with_fallback(shared, &destination) else { continue };
        let after_ms = route.failover_after_ms();
        if !shared.failover.lock().gone_out(&destination, after_ms, shared.now_ms()) {
            continue;
        }
        tracing::warn!(%destination, seconds = after_ms / 1_000, "nothing works there: mail goes by a fallback route");
        redispatch(shared, &destination);
        if route.record.kind.has_account() {
            // What was put off for later need not wait: its next attempt goes by the fallback.
            let waiting =
                Selector { route: Some(route.name.to_string()), state: Some(State::Waiting), ..Selector::default() };
            match shared.store.operate(waiting, Operation::Retry, String::new(), shared.now_ms()).await {
                Ok(_) => shared.due_at(i64::MIN),
                Err(error) => tracing::warn!(%error, "what waits for a route that does not work waits on"),
            }
        }
    }
}

fn quotas(shared: &Arc<Shared>, known: &mut HashSet<String>) {
    let now_ms = shared.now_ms();
    let full = shared.schedule.lock().full();
    let mut spent = HashSet::new();
    for (destination, until_ms) in full {
        let Some(route) = with_fallback(shared, &destination) else { continue };
        if until_ms - now_ms > route.failover_after_ms() {
            if !known.contains(&*destination) {
                tracing::warn!(%destination, "the quota is used up: mail goes by a fallback route");
            }
            spent.insert(destination.to_string());
            redispatch(shared, &destination);
        }
    }
    *known = spent;
}
