//! From a leased job to its destination: which route, which hosts, which queue in memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::transcript::{Failure, Stage};
use store::{Claim, Outcome};

use crate::batch::CAPTURED_ROWS;
use crate::deadline;
use crate::exchangers::{Exchange, Wanted};
use crate::route::{Route, RouteKind};
use crate::schedule::Job;
use crate::settle::{self, Ended};
use crate::shared::Shared;
use crate::stream::pace::Pace;

/// Jobs whose domain is being looked up: one look-up for all of them.
#[derive(Debug, Default)]
pub(crate) struct Lookups(Mutex<HashMap<Lookup, Vec<Job>>>);

impl Lookups {
    /// Takes out what waits for an answer.
    pub(crate) fn drain(&self) -> Vec<Job> {
        self.0.lock().drain().flat_map(|(_, jobs)| jobs).collect()
    }
}

/// Route, domain, what is asked for, and whether a fallback may take it.
type Lookup = (Arc<str>, Arc<str>, Wanted, Other);

/// Schedules a job, or ends it where it is if it cannot be scheduled. Recipients that may have it by some route already
/// stay with that route, unless their stream allows duplicates.
pub(crate) fn dispatch(shared: &Arc<Shared>, job: Job) {
    let Some(job) = stream_lets(shared, job) else { return };
    let Some(mut job) = crate::brake::gate::lets(shared, job) else { return };
    let may_have_it = job.claim.recipients.iter().any(|recipient| recipient.unknown_via.is_some());
    if !may_have_it || shared.allows_duplicates(&job.claim.message.stream) {
        return send(shared, job, None);
    }
    let mut recipients = std::mem::take(&mut job.claim.recipients);
    while let Some(via) = recipients.first().map(|recipient| recipient.unknown_via.clone()) {
        let (same, others) = recipients.into_iter().partition(|recipient| recipient.unknown_via == via);
        recipients = others;
        let claim = Claim { recipients: same, ..job.claim.clone() };
        send(shared, Job { claim, content: job.content.clone() }, via);
    }
}

/// A job that its stream lets go on. Mail of a stream that is paused or off, or of a paused sender, is held; what a paced stream has too much of in
/// memory waits in the store until its turn.
fn stream_lets(shared: &Arc<Shared>, job: Job) -> Option<Job> {
    let directory = shared.directory();
    let stream = directory.stream(&job.claim.message.stream);
    let paused = || directory.sender(&job.claim.message.sender).and_then(|sender| sender.record.hold());
    if let Some(why) = stream.and_then(|stream| stream.record.stops()).or_else(paused) {
        let outcomes = job.claim.recipients.iter().map(|r| (r.n, Outcome::Held { why: why.clone() })).collect();
        settle::spawn(shared, &job.claim, Ended { attempt: None, outcomes, capture: false });
        return None;
    }
    let Some((stream, per_minute)) = stream.and_then(|stream| Some((stream, stream.record.per_minute?))) else {
        return Some(job);
    };
    if !shared.schedule.lock().has_enough(&stream.name) {
        return Some(job);
    }
    let pace = Pace::of(&stream.name, per_minute);
    let now_ms = shared.now_ms();
    let mut late = Vec::new();
    let outcomes = {
        let mut all = shared.slots.lock();
        let slots = all.entry(stream.name.clone()).or_default();
        let mut returned = |n: u32| {
            // What is in memory comes first.
            let due_ms = slots.take(&pace, now_ms + pace.in_memory_ms());
            if deadline::is_late(&job.claim.message, due_ms) {
                late.push(deadline::late(&job.claim.message, n, due_ms, "the stream's pace"));
            }
            (n, Outcome::Returned { due_ms })
        };
        job.claim.recipients.iter().map(|recipient| returned(recipient.n)).collect()
    };
    deadline::tell(shared, late);
    settle::spawn(shared, &job.claim, Ended { attempt: None, outcomes, capture: false });
    None
}

/// Schedules a job by one route and no other, or by its own or a fallback of it.
fn send(shared: &Arc<Shared>, job: Job, via: Option<Arc<str>>) {
    let name = via.as_ref().unwrap_or(&job.claim.lane.key.route);
    let Some(route) = shared.directory().route(name).cloned() else {
        let reason = format!("route {name} does not exist any more");
        return fail(shared, job, Stage::Dns, Failure::Local { reason });
    };
    let other = if via.is_some() || route.record.fallback.is_empty() { Other::Never } else { Other::Allowed };
    by(shared, route, job, other);
}

/// Whether a fallback may take a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Other {
    Allowed,
    Never,
}

pub(crate) fn by(shared: &Arc<Shared>, route: Arc<Route>, job: Job, other: Other) {
    if job.claim.message.details.test {
        return keep_test(shared, &route, job);
    }
    match route.record.kind {
        RouteKind::Smarthost | RouteKind::Graph => add(shared, &route.name, &route, job, other),
        RouteKind::Mx => {
            let wanted = route.wanted_for(&job.claim.message);
            match shared.exchangers.known(&job.claim.lane.key.domain, wanted) {
                Some(exchange) => add(shared, &destination_of(&route, &exchange), &route, job, other),
                None => look_up(shared, route, job, wanted, other),
            }
        }
        RouteKind::Capture | RouteKind::Discard => keep_here(shared, &route, job),
    }
}

/// The route that serves a destination.
pub(crate) fn route_of(destination: &str) -> &str {
    destination.split('/').next().unwrap_or(destination)
}

/// The name under which a destination's jobs and connections are kept.
pub(crate) fn destination_of(route: &Route, exchange: &Exchange) -> Arc<str> {
    format!("{}/{}", route.name, exchange.group).into()
}

fn add(shared: &Arc<Shared>, destination: &Arc<str>, route: &Route, job: Job, other: Other) {
    if other == Other::Allowed
        && let Some(fallback) = crate::divert::fallback(shared, destination, route, &job)
    {
        return by(shared, fallback, job, Other::Never);
    }
    if let Some(why) = crate::brake::gate::stop(shared, route, destination, &job) {
        return crate::brake::gate::hold(shared, &job, &why);
    }
    if route.record.kind.has_account()
        && let Some(hold) = crate::signin::hold_of(shared, route)
    {
        return crate::signin::put_off(shared, job, &hold);
    }
    let (action, news) = {
        let ramp = if shared.keeper.is_on() { shared.keeper.ramp(route, destination) } else { None };
        let mut schedule = shared.schedule.lock();
        if let Some((since_ms, ramp)) = ramp {
            schedule.begin_slowly(destination, route.limits(destination), ramp, since_ms);
        }
        let action = schedule.add(destination, route.limits(destination), job, shared.now_ms());
        (action, schedule.take_news())
    };
    shared.heed(news);
    shared.perform(action);
}

fn look_up(shared: &Arc<Shared>, route: Arc<Route>, job: Job, wanted: Wanted, other: Other) {
    let domain = job.claim.lane.key.domain.clone();
    let key = (route.name.clone(), domain.clone(), wanted, other);
    {
        let mut lookups = shared.lookups.0.lock();
        if let Some(jobs) = lookups.get_mut(&key) {
            return jobs.push(job);
        }
        lookups.insert(key.clone(), vec![job]);
    }
    let shared = shared.clone();
    shared.tasks.clone().spawn(async move {
        let found = tokio::select! {
            found = shared.exchangers.find(&domain, wanted) => found,
            // The jobs are given back by whoever stops the relay.
            () = shared.stopping.cancelled() => return,
        };
        let jobs = shared.lookups.0.lock().remove(&key).unwrap_or_default();
        for job in jobs {
            match &found {
                Ok(exchange) => add(&shared, &destination_of(&route, exchange), &route, job, other),
                Err(failure) => fail(&shared, job, Stage::Dns, failure.clone()),
            }
        }
    });
}

/// Capture and discard: delivered without leaving the machine.
fn keep_here(shared: &Arc<Shared>, route: &Route, job: Job) {
    let attempt = settle::unconnected(&route.name, shared.now_ms(), None);
    let outcomes = job.claim.recipients.iter().map(|r| (r.n, settle::delivered(r, false, None))).collect();
    let ended = Ended { attempt: Some(attempt), outcomes, capture: route.record.kind == RouteKind::Capture };
    settle::spawn(shared, &job.claim, ended);
}

/// A test ends before the last hop. Of a batch only the first rows are kept to be looked at.
fn keep_test(shared: &Arc<Shared>, route: &Route, job: Job) {
    let kept = job.claim.message.details.row.is_none_or(|row| row.row < CAPTURED_ROWS);
    let place = if kept { "kept in the capture mailbox" } else { "dropped" };
    let word = format!("test: not sent by route {}, {place}", route.name);
    let attempt = settle::unconnected(&route.name, shared.now_ms(), None);
    let outcomes = job.claim.recipients.iter().map(|r| (r.n, Outcome::Relayed { why: word.clone() })).collect();
    settle::spawn(shared, &job.claim, Ended { attempt: Some(attempt), outcomes, capture: kept });
}

fn fail(shared: &Arc<Shared>, job: Job, stage: Stage, failure: Failure) {
    let attempt = settle::unconnected(&job.claim.lane.key.route, shared.now_ms(), Some(stage));
    let ended = settle::all_failed(shared, &job.claim, attempt, stage, &failure);
    settle::spawn(shared, &job.claim, ended);
}
