//! One outgoing connection: opened for a destination that has jobs, kept while there are more, closed when there are none.
//!
//! A connection takes jobs from the schedule by itself; no task is made per message. The outcome of one message is made
//! durable while the next one is already under way, but always before that one's final dot: at most one transaction a
//! connection can be repeated by a crash.

pub(crate) mod lost;
pub(crate) mod open;

use std::net::IpAddr;
use std::sync::Arc;

use net::client::ConnectError;
use proto::transcript::{Fact, Transcript};
use store::{Attempt, Claim};
use tokio::sync::Notify;

use self::lost::unless_lost;
use self::open::{Errand, Opened};
use crate::attempt::{self, Next};
use crate::brake::auth::Hold;
use crate::dispatch::{destination_of, route_of};
use crate::hop::Hop;
use crate::incident::watch::Place;
use crate::route::{Route, RouteKind};
use crate::schedule::{ConnectionId, Handed, Job, Sign, Ticket};
use crate::settle::{self, Settling};
use crate::shared::Shared;
use crate::signin::{self, Trouble, Turn};
use crate::tls_report::observe::Witness;
use crate::transport::demand;

/// An open connection with what it needs between messages.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) route: Arc<Route>,
    /// Version of the settings in which the route was last seen unchanged.
    settings: i64,
    pub(crate) connection: Hop,
    /// What its jobs are scheduled for.
    pub(crate) destination: Arc<str>,
    /// `mx.example.net [192.0.2.1]:25`.
    pub(crate) peer: String,
    /// Steps of the connection itself, for the transcript of the first message that fails on it.
    pub(crate) prelude: Option<Transcript>,
    /// What the transport is under, for the record of each attempt.
    pub(crate) note: Option<String>,
    /// The certificate was verified, for a host whose name can be trusted.
    pub(crate) assured: bool,
    /// The turn at signing in, where only the first message's answer says what came of it.
    pub(crate) turn: Option<Turn>,
    /// What it counts as in reports about TLS, for domains that share it.
    pub(crate) witness: Option<Witness>,
    /// The last message's outcome, on its way to the disk.
    pub(crate) settling: Option<Settling>,
    /// What the last attempt said about the destination.
    pub(crate) sign: Sign,
    /// A conversation was cut in the middle: no QUIT.
    pub(crate) broken: bool,
}

impl Worker {
    /// Whether the route is still the one this connection was opened for.
    fn is_current(&mut self) -> bool {
        let directory = self.shared.directory();
        if directory.version != self.settings {
            let same = directory.route(&self.route.name).is_some_and(|route| route.version == self.route.version);
            if !same {
                return false;
            }
            self.settings = directory.version;
        }
        true
    }
}

/// The life of a connection; ends when it is closed and accounted for.
pub(crate) async fn run(shared: Arc<Shared>, destination: Arc<str>, id: ConnectionId) {
    let Some(mut worker) = open(&shared, &destination).await else { return };
    shared.tell(|schedule| schedule.opened(&destination, shared.now_ms()));
    serve(&mut worker, &destination, id).await;
    let settling = worker.settling.take();
    // First: what the outcome waits for may be away for longer than this connection may stay.
    if worker.broken {
        drop(worker.connection);
    } else {
        worker.connection.quit().await;
    }
    if let Some(mut settling) = settling {
        settling.done().await;
    }
    // Only now: a server that counts connections counts this one until it is gone.
    shared.tell(|schedule| schedule.closed(&destination, shared.now_ms()));
    signin::left(&shared, &worker.route);
}

async fn serve(worker: &mut Worker, destination: &Arc<str>, id: ConnectionId) {
    let shared = worker.shared.clone();
    let wake = Arc::new(Notify::new());
    let mut messages = 0;
    let mut took_ms = None;
    while !shared.is_stopping() && messages < worker.route.messages_per_connection() && worker.is_current() {
        if shared.together && gives_up(&shared, destination) {
            return;
        }
        let (job, news) = {
            let mut schedule = shared.schedule.lock();
            if let Some(took_ms) = took_ms.take() {
                schedule.took(destination, took_ms);
            }
            let job = schedule.take(destination, shared.now_ms());
            let news = schedule.take_news();
            if job.is_none() {
                if schedule.is_starving() {
                    drop(schedule);
                    return shared.heed(news);
                }
                schedule.idle(destination, id, wake.clone());
            }
            (job, news)
        };
        shared.heed(news);
        match job {
            Some(Handed { job, ticket, watched }) => {
                worker.sign = Sign::Other;
                let recipients = job.claim.recipients.len();
                let Some(job) = shared.may_begin(job) else {
                    heed(worker, ticket, recipients);
                    continue;
                };
                messages += 1;
                let began_ms = shared.now_ms();
                let next = attempt::run(worker, job).await;
                took_ms = Some(shared.now_ms() - began_ms);
                if ticket.is_some() || watched || matches!(worker.sign, Sign::Slow(_) | Sign::Hold(_)) {
                    heed(worker, ticket, next.left());
                }
                match next {
                    Next::Continue => {}
                    Next::Again(job) => put_back(&shared, destination, job),
                    Next::Close(job) => {
                        if let Some(job) = job {
                            put_back(&shared, destination, job);
                        }
                        return;
                    }
                }
            }
            None => {
                if !sleep(worker, destination, id, &wake).await {
                    return;
                }
            }
        }
    }
}

/// Whether this connection is one too many for all nodes together, or nobody knows any more whether it may stay.
fn gives_up(shared: &Arc<Shared>, destination: &str) -> bool {
    let (actions, leaves) = {
        let mut schedule = shared.schedule.lock();
        (schedule.look(shared.net.clock.mono_us()), schedule.leaves(destination))
    };
    shared.perform(actions);
    leaves
}

/// Tells the schedule what came of a job whose outcome matters to others.
fn heed(worker: &Worker, ticket: Option<Ticket>, left: usize) {
    let (shared, destination) = (&worker.shared, &worker.destination);
    let now_ms = shared.now_ms();
    match worker.sign {
        Sign::Slow(_) => tracing::warn!(%destination, "it asks for less: slower for a while"),
        Sign::Hold(_) => tracing::warn!(%destination, "it wants nothing from us: its mail waits for a probe"),
        Sign::Taken | Sign::Other => {}
    }
    let mut schedule = shared.schedule.lock();
    if let Some(ticket) = ticket {
        schedule.finish(&ticket, ticket.tried(left), now_ms);
    }
    schedule.heed(destination, worker.sign, now_ms);
}

fn put_back(shared: &Arc<Shared>, destination: &Arc<str>, job: Job) {
    shared.tell(|schedule| schedule.put_back(destination, job, shared.now_ms()));
}

/// Waits for work. False: the connection has been idle long enough, or the peer closed it.
async fn sleep(worker: &mut Worker, destination: &Arc<str>, id: ConnectionId, wake: &Notify) -> bool {
    let shared = worker.shared.clone();
    if let Some(mut settling) = worker.settling.take()
        && unless_lost(&shared, destination, shared.store.lapses(), settling.done()).await.is_none()
    {
        settle::later(settling);
        shared.schedule.lock().leave_idle(destination, id);
        return true;
    }
    let woken = tokio::select! {
        () = wake.notified() => true,
        () = worker.connection.closed() => false,
        () = tokio::time::sleep(worker.route.idle()) => false,
        () = shared.stopping.cancelled() => false,
    };
    // Woken and timed out at once: the work that was meant for this connection must not be left lying.
    woken || !shared.schedule.lock().leave_idle(destination, id)
}

/// Connects, or ends the jobs that share the failure.
async fn open(shared: &Arc<Shared>, destination: &Arc<str>) -> Option<Worker> {
    let claim = shared.schedule.lock().peek(destination).map(|claim| (claim.lane.clone(), claim.message.clone()));
    let started_ms = shared.now_ms();
    let directory = shared.directory();
    let exists = claim.as_ref().is_some_and(|(lane, _)| directory.route(&lane.key.route).is_some());
    let route = directory.route(route_of(destination)).filter(|_| exists).cloned();
    let (Some((lane, message)), Some(route), false) = (claim, route, shared.is_stopping()) else {
        return abandon(shared, destination);
    };
    let errand = Errand {
        domain: lane.key.domain.clone(),
        wanted: route.wanted_for(&message),
        counted: !message.parameters.tls_optional,
    };
    let opening = async {
        if has_moved(shared, &route, &errand, destination).await {
            return None;
        }
        Some(signin::connect(shared, &route, &errand, destination).await)
    };
    let result = tokio::select! {
        result = opening => result,
        () = shared.stopping.cancelled() => return abandon(shared, destination),
    };
    let Some(result) = result else {
        let of_lane =
            |claim: &Claim| claim.lane.key.route == lane.key.route && claim.lane.key.domain == lane.key.domain;
        redispatch(shared, of_lane);
        return abandon(shared, destination);
    };
    match result {
        Ok(Opened { mut connection, demand, named, watch, turn }) => {
            shared.metrics.opened(&route.name);
            let peer = format!("{} [{}]:{}", connection.host(), connection.peer().ip(), connection.peer().port());
            let prelude = connection.take_transcript();
            if let Some(local) = local_address(&prelude) {
                shared.keeper.learn(&route, local);
            }
            let note = demand.note(&prelude);
            let witness = watch.and_then(|watch| {
                let ledger = shared.tls_reports.as_ref()?;
                let session =
                    watch.opened(&demand, connection.tls().is_some(), connection.capabilities().starttls, &prelude);
                if errand.counted {
                    ledger.count(
                        &errand.domain,
                        &watch.unfetched(&prelude).unwrap_or(session.clone()),
                        shared.now_ms(),
                    );
                }
                let witness = Witness::new(ledger, session)?;
                Some(if errand.counted { witness.counted(&errand.domain) } else { witness })
            });
            let assured = named && connection.tls().is_some() && demand::is_verified(&prelude);
            Some(Worker {
                shared: shared.clone(),
                route,
                settings: directory.version,
                connection,
                destination: destination.clone(),
                peer,
                prelude: Some(prelude),
                note,
                assured,
                turn,
                witness,
                settling: None,
                sign: Sign::Other,
                broken: false,
            })
        }
        Err(Trouble::Failed(error)) => {
            shared.metrics.unopened(&route.name, error.stage);
            failed(shared, destination, &route, *error, started_ms);
            None
        }
        Err(Trouble::Held(hold)) => {
            held(shared, destination, &route, None, &hold, started_ms);
            None
        }
        Err(Trouble::Rejected(error, hold)) => {
            shared.metrics.unopened(&route.name, error.stage);
            held(shared, destination, &route, Some(*error), &hold, started_ms);
            None
        }
    }
}

/// Nothing to open for: the slot is given back. Jobs of a route that is gone are ended where they are.
fn abandon(shared: &Arc<Shared>, destination: &Arc<str>) -> Option<Worker> {
    if !shared.is_stopping() {
        let directory = shared.directory();
        redispatch(shared, |claim| directory.route(&claim.lane.key.route).is_none());
        if directory.route(route_of(destination)).is_none() {
            crate::divert::redispatch(shared, destination);
        }
    }
    shared.tell(|schedule| schedule.abandoned(destination, shared.now_ms()));
    None
}

/// Schedules jobs anew: they wait at the wrong place.
fn redispatch(shared: &Arc<Shared>, matches: impl FnMut(&Claim) -> bool) {
    let jobs = shared.schedule.lock().evict(matches);
    for job in jobs {
        shared.admit(job);
    }
}

/// Whether a lane's mail belongs elsewhere by now, because its route or its domain's mail exchangers changed while it
/// waited. Another domain's hosts would refuse it for ever.
async fn has_moved(shared: &Shared, route: &Route, errand: &Errand, destination: &Arc<str>) -> bool {
    match route.record.kind {
        RouteKind::Smarthost | RouteKind::Graph => route.name != *destination,
        RouteKind::Mx => match shared.exchangers.find(&errand.domain, errand.wanted).await {
            Ok(exchange) => destination_of(route, &exchange) != *destination,
            // The attempt to connect meets the same and records it.
            Err(_) => false,
        },
        RouteKind::Capture | RouteKind::Discard => true,
    }
}

/// The address that a connection came from.
fn local_address(transcript: &Transcript) -> Option<IpAddr> {
    transcript.steps.iter().rev().find_map(|step| match &step.fact {
        Some(Fact::Connected { local, .. }) => Some(local.ip()),
        _ => None,
    })
}

fn failed(shared: &Arc<Shared>, destination: &Arc<str>, route: &Route, error: ConnectError, started_ms: i64) {
    let now_ms = shared.now_ms();
    let (jobs, actions) = shared.schedule.lock().failed(destination, now_ms);
    tracing::warn!(%destination, stage = ?error.stage, failure = ?error.failure, messages = jobs.len(), "no connection");
    shared.failover.lock().failed(destination, now_ms);
    crate::brake::noticed(shared, route, destination, || crate::brake::probe::cause_of(shared, route, &error));
    for job in jobs {
        let attempt = Attempt {
            took_ms: u32::try_from(now_ms - started_ms).unwrap_or(0),
            transcript: Some(error.transcript.clone()),
            ..settle::unconnected(&route.name, started_ms, Some(error.stage))
        };
        let mut ended = settle::all_failed(shared, &job.claim, attempt, error.stage, &error.failure);
        crate::divert::hasten(shared, destination, route, &job.claim, &mut ended);
        let place = Place { destination: Some(destination), prelude: None };
        settle::spawn_at(shared, &job.claim, ended, place);
    }
    shared.perform(actions);
    shared.tick_wake.notify_one();
}

/// Nobody signs in for a while: mail waits for that, unless other connections take it. The one that was tried has its story.
fn held(
    shared: &Arc<Shared>,
    destination: &Arc<str>,
    route: &Route,
    tried: Option<ConnectError>,
    hold: &Hold,
    started_ms: i64,
) {
    let now_ms = shared.now_ms();
    shared.failover.lock().failed(destination, now_ms);
    let (jobs, actions) = shared.schedule.lock().held(destination, hold.until_ms, now_ms);
    let mut tried = tried;
    for job in jobs {
        match tried.take() {
            Some(error) => {
                let attempt = Attempt {
                    took_ms: u32::try_from(now_ms - started_ms).unwrap_or(0),
                    transcript: Some(error.transcript),
                    ..settle::unconnected(&route.name, started_ms, Some(error.stage))
                };
                signin::rejected(shared, &job, attempt, hold);
            }
            None => signin::put_off(shared, job, hold),
        }
    }
    shared.perform(actions);
    shared.tick_wake.notify_one();
}
