//! From a leased job to its destination: which route, which hosts, which queue in memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::transcript::{Failure, Stage};

use crate::exchangers::Exchange;
use crate::route::{Route, RouteKind};
use crate::schedule::Job;
use crate::settle::{self, Ended};
use crate::shared::Shared;

/// Jobs whose domain is being looked up: one look-up for all of them.
#[derive(Debug, Default)]
pub(crate) struct Lookups(Mutex<HashMap<Lookup, Vec<Job>>>);

impl Lookups {
    /// Takes out what waits for an answer.
    pub(crate) fn drain(&self) -> Vec<Job> {
        self.0.lock().drain().flat_map(|(_, jobs)| jobs).collect()
    }
}

/// Route and domain.
type Lookup = (Arc<str>, Arc<str>);

/// Schedules a job, or ends it where it is if it cannot be scheduled.
pub(crate) fn dispatch(shared: &Arc<Shared>, job: Job) {
    let Some(route) = shared.directory().route(&job.claim.lane.key.route).cloned() else {
        let reason = format!("route {} does not exist any more", job.claim.lane.key.route);
        return fail(shared, job, Stage::Dns, Failure::Local { reason });
    };
    match route.record.kind {
        RouteKind::Smarthost => match crate::signin::hold_of(shared, &route) {
            Some(hold) => crate::signin::put_off(shared, job, &hold),
            None => add(shared, &route.name, &route, job),
        },
        RouteKind::Mx => match shared.exchangers.known(&job.claim.lane.key.domain, route.wanted()) {
            Some(exchange) => add(shared, &destination_of(&route, &exchange), &route, job),
            None => look_up(shared, route, job),
        },
        RouteKind::Capture | RouteKind::Discard => keep_here(shared, &route, job),
    }
}

/// The name under which a destination's jobs and connections are kept.
pub(crate) fn destination_of(route: &Route, exchange: &Exchange) -> Arc<str> {
    format!("{}/{}", route.name, exchange.group).into()
}

fn add(shared: &Arc<Shared>, destination: &Arc<str>, route: &Route, job: Job) {
    let (action, news) = {
        let mut schedule = shared.schedule.lock();
        let action = schedule.add(destination, route.limits(destination), job, shared.now_ms());
        (action, schedule.take_news())
    };
    shared.heed(news);
    shared.perform(action);
}

fn look_up(shared: &Arc<Shared>, route: Arc<Route>, job: Job) {
    let domain = job.claim.lane.key.domain.clone();
    let key = (route.name.clone(), domain.clone());
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
            found = shared.exchangers.find(&domain, route.wanted()) => found,
            // The jobs are given back by whoever stops the relay.
            () = shared.stopping.cancelled() => return,
        };
        let jobs = shared.lookups.0.lock().remove(&key).unwrap_or_default();
        for job in jobs {
            match &found {
                Ok(exchange) => add(&shared, &destination_of(&route, exchange), &route, job),
                Err(failure) => fail(&shared, job, Stage::Dns, failure.clone()),
            }
        }
    });
}

/// Capture and discard: delivered without leaving the machine.
fn keep_here(shared: &Arc<Shared>, route: &Route, job: Job) {
    let attempt = settle::unconnected(&route.name, shared.now_ms(), None);
    let outcomes = job.claim.recipients.iter().map(|r| (r.n, settle::delivered(r, false))).collect();
    let ended = Ended { attempt: Some(attempt), outcomes, capture: route.record.kind == RouteKind::Capture };
    settle::spawn(shared, &job.claim, ended);
}

fn fail(shared: &Arc<Shared>, job: Job, stage: Stage, failure: Failure) {
    let attempt = settle::unconnected(&job.claim.lane.key.route, shared.now_ms(), Some(stage));
    let ended = settle::all_failed(shared, &job.claim, attempt, stage, &failure);
    settle::spawn(shared, &job.claim, ended);
}
