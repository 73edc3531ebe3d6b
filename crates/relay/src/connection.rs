//! One outgoing connection: opened for a destination that has jobs, kept while there are more, closed when there are none.
//!
//! A connection takes jobs from the schedule by itself; no task is made per message. The outcome of one message is made
//! durable while the next one is already under way, but always before that one's final dot: at most one transaction a
//! connection can be repeated by a crash.

use std::net::IpAddr;
use std::sync::Arc;

use net::Net;
use net::client::{ClientAuth, ClientSettings, ConnectError, Connection, Endpoint, TlsMode};
use proto::policy::tlsrpt::report::Session;
use proto::transcript::{Failure, PolicyProblem, Stage, Transcript};
use store::{Attempt, Claim};
use tokio::sync::Notify;

use crate::attempt::{self, Next};
use crate::brake::Hold;
use crate::dispatch::{destination_of, route_of};
use crate::exchangers::{self, Exchange, Wanted};
use crate::graph::{GraphConnection, Place};
use crate::hop::Hop;
use crate::route::{Route, RouteKind, RouteTls};
use crate::schedule::{ConnectionId, Handed, Job, Sign, Ticket};
use crate::settle::{self, Settling};
use crate::shared::Shared;
use crate::signin::{self, Trouble, Turn};
use crate::tls_report::observe::{self, Watch, Witness};
use crate::token::Tokens;
use crate::transport::demand::{self, Demand};
use crate::transport::sources;

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
    let action = shared.schedule.lock().opened(&destination, shared.now_ms());
    shared.perform(action);
    serve(&mut worker, &destination, id).await;
    if let Some(mut settling) = worker.settling.take() {
        settling.done().await;
    }
    if !worker.broken {
        worker.connection.quit().await;
    }
    // Only now: a server that counts connections counts this one until it is gone.
    let actions = shared.schedule.lock().closed(&destination, shared.now_ms());
    shared.perform(actions);
    signin::left(&shared, &worker.route);
}

async fn serve(worker: &mut Worker, destination: &Arc<str>, id: ConnectionId) {
    let shared = worker.shared.clone();
    let wake = Arc::new(Notify::new());
    let mut messages = 0;
    let mut took_ms = None;
    while !shared.is_stopping() && messages < worker.route.messages_per_connection() && worker.is_current() {
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
                messages += 1;
                worker.sign = Sign::Other;
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
    let action = shared.schedule.lock().put_back(destination, job, shared.now_ms());
    shared.perform(action);
}

/// Waits for work. False: the connection has been idle long enough, or the peer closed it.
async fn sleep(worker: &mut Worker, destination: &Arc<str>, id: ConnectionId, wake: &Notify) -> bool {
    let shared = worker.shared.clone();
    if let Some(mut settling) = worker.settling.take() {
        settling.done().await;
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
            let peer = format!("{} [{}]:{}", connection.host(), connection.peer().ip(), connection.peer().port());
            let prelude = connection.take_transcript();
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
            failed(shared, destination, &route, *error, started_ms);
            None
        }
        Err(Trouble::Held(hold)) => {
            held(shared, destination, &route, None, &hold, started_ms);
            None
        }
        Err(Trouble::Rejected(error, hold)) => {
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
    let actions = shared.schedule.lock().abandoned(destination, shared.now_ms());
    shared.perform(actions);
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

fn failed(shared: &Arc<Shared>, destination: &Arc<str>, route: &Route, error: ConnectError, started_ms: i64) {
    let now_ms = shared.now_ms();
    let (jobs, actions) = shared.schedule.lock().failed(destination, now_ms);
    tracing::warn!(%destination, stage = ?error.stage, failure = ?error.failure, messages = jobs.len(), "no connection");
    shared.failover.lock().failed(destination, now_ms);
    for job in jobs {
        let attempt = Attempt {
            took_ms: u32::try_from(now_ms - started_ms).unwrap_or(0),
            transcript: Some(error.transcript.clone()),
            ..settle::unconnected(&route.name, started_ms, Some(error.stage))
        };
        let mut ended = settle::all_failed(shared, &job.claim, attempt, error.stage, &error.failure);
        crate::divert::hasten(shared, destination, route, &job.claim, &mut ended);
        settle::spawn(shared, &job.claim, ended);
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

/// For whom a connection is opened: the domain, and what of its demands counts.
pub(crate) struct Errand {
    pub(crate) domain: Arc<str>,
    pub(crate) wanted: Wanted,
    /// The session is one that a report tells of: not one for mail that goes whatever is wrong with TLS.
    pub(crate) counted: bool,
}

impl Errand {
    /// For no mail at all.
    pub(crate) fn nobody() -> Self {
        Self { domain: Arc::from(""), wanted: Wanted { dane: false, sts: false }, counted: false }
    }
}

/// A connection, with what it was made under.
pub(crate) struct Opened {
    pub(crate) connection: Hop,
    demand: Demand,
    /// What it counts as in reports about TLS, if it is one to a domain's mail exchanger.
    watch: Option<Watch>,
    /// The host's name is the operator's own, or is proven, or stands in a policy (RFC 8689 §4.2.1).
    named: bool,
    /// Where signing in is not over yet.
    pub(crate) turn: Option<Turn>,
}

impl Opened {
    fn smtp(connection: Connection, demand: Demand, named: bool) -> Self {
        Self { connection: Hop::Smtp(Box::new(connection)), demand, watch: None, named, turn: None }
    }
}

/// Connects to the first of the route's hosts that takes us.
pub(crate) async fn open_route(
    shared: &Shared,
    route: &Route,
    errand: &Errand,
    destination: &str,
    auth: Option<ClientAuth>,
) -> Result<Opened, Box<ConnectError>> {
    let settings = client_settings(shared, route, destination).map_err(|failure| dns_error(shared, failure))?;
    let settings = ClientSettings { auth, ..settings };
    let tls = match route.tls() {
        RouteTls::None => TlsMode::None,
        RouteTls::Opportunistic => TlsMode::Opportunistic,
        RouteTls::Required => TlsMode::Required,
        RouteTls::Implicit => TlsMode::Implicit,
    };
    let net = shared.net_for(route).map_err(|reason| dns_error(shared, Failure::Local { reason }))?;
    match (route.record.kind, &route.record.host) {
        (RouteKind::Mx, _) => open_exchanger(shared, &net, route, errand, tls, &settings).await,
        (_, Some(host)) => {
            let addresses = net.resolver.addresses(host).await.map_err(|failure| dns_error(shared, failure))?;
            let endpoint = Endpoint { host: host.clone(), port: route.port(), tls };
            let connection = net::client::connect(&net, &endpoint, &addresses, &settings).await.map_err(Box::new)?;
            Ok(Opened::smtp(connection, Demand::Nothing, true))
        }
        (_, None) => Err(dns_error(shared, Failure::Local { reason: "route has no host".into() })),
    }
}

/// Where a Graph route leads, and how it is connected to.
pub(crate) async fn graph_place(shared: &Shared, route: &Route) -> Result<Place, Box<ConnectError>> {
    let local = |reason: String| dns_error(shared, Failure::Local { reason });
    let settings = client_settings(shared, route, &route.name).map_err(|failure| dns_error(shared, failure))?;
    let net = shared.net_for(route).map_err(local)?;
    let host = route.record.next_host().ok_or_else(|| local("route has no host".into()))?;
    let addresses = net.resolver.addresses(host).await.map_err(|failure| dns_error(shared, failure))?;
    Ok(Place { net, settings, host: host.to_owned(), port: route.port(), addresses })
}

/// Connects to Graph. Whether the token is good, the first message tells.
pub(crate) async fn open_graph(
    shared: &Shared,
    route: &Arc<Route>,
    tokens: &Arc<dyn Tokens>,
) -> Result<Opened, Box<ConnectError>> {
    let place = graph_place(shared, route).await?;
    let connection = GraphConnection::open(place, route.clone(), tokens.clone()).await?;
    Ok(Opened {
        connection: Hop::Graph(Box::new(connection)),
        demand: Demand::Nothing,
        watch: None,
        named: true,
        turn: None,
    })
}

/// The first of a domain's hosts with which a connection comes about that meets its demands.
async fn open_exchanger(
    shared: &Shared,
    net: &Net,
    route: &Route,
    Errand { domain, wanted, counted }: &Errand,
    tls: TlsMode,
    settings: &ClientSettings,
) -> Result<Opened, Box<ConnectError>> {
    let exchange = shared.exchangers.find(domain, *wanted).await.map_err(|failure| dns_error(shared, failure))?;
    let mut last: Option<Box<ConnectError>> = None;
    let ledger = shared.tls_reports.as_ref();
    let count = |session: Option<Session>| {
        if let (Some(ledger), Some(session), true) = (ledger, session, *counted) {
            ledger.count(domain, &session, shared.now_ms());
        }
    };
    for mx in exchangers::order(&exchange.hosts) {
        let host = mx.host.as_str();
        let pins = shared.exchangers.pins(&exchange, host, route.port(), domain).await;
        let outcome = match Demand::of(&exchange, host, pins) {
            Ok(demand) => match exchanger_addresses(shared, route, &exchange, host).await {
                Ok(addresses) => {
                    let (tls, settings) = demand.apply(tls, settings);
                    let endpoint = Endpoint { host: host.to_owned(), port: route.port(), tls };
                    let watch = ledger.map(|_| Watch::new(&exchange, domain, host, &demand));
                    match net::client::connect(net, &endpoint, &addresses, &settings).await {
                        Ok(connection) => {
                            let named = exchange.secure || demand.names_host();
                            let opened = Opened::smtp(connection, demand, named);
                            Ok(Opened { watch, ..opened })
                        }
                        Err(error) => {
                            count(watch.and_then(|watch| watch.failed(&error)));
                            Err(demand.explain(host, Box::new(error)))
                        }
                    }
                }
                Err(failure) => Err(dns_error(shared, failure)),
            },
            Err(failure) => {
                count(observe::passed_over(&exchange, domain, host, &failure));
                Err(demand_error(shared, failure))
            }
        };
        match outcome {
            Ok(opened) => return Ok(opened),
            Err(error) => last = Some(more_hopeful(last, error)),
        }
    }
    Err(last.unwrap_or_else(|| dns_error(shared, Failure::Local { reason: "no mail exchanger".into() })))
}

pub(crate) async fn exchanger_addresses(
    shared: &Shared,
    route: &Route,
    exchange: &Exchange,
    host: &str,
) -> Result<Vec<IpAddr>, Failure> {
    let mut addresses = shared.exchangers.addresses(exchange, host).await?;
    let first = addresses.first().copied();
    if !route.record.allow_private {
        addresses.retain(|address| net::address::is_public(*address));
    }
    match (first, addresses.is_empty()) {
        (Some(first), true) => Err(Failure::PrivateAddress { host: host.to_owned(), address: first.to_string() }),
        _ => Ok(addresses),
    }
}

/// Of two hosts' failures the one that may pass counts: a message fails for ever only if every host says so.
fn more_hopeful(before: Option<Box<ConnectError>>, now: Box<ConnectError>) -> Box<ConnectError> {
    let final_now = matches!(
        now.failure,
        Failure::NameNotFound { .. } | Failure::NoAddress { .. } | Failure::PrivateAddress { .. }
    );
    match before {
        Some(mut before) if final_now => {
            before.transcript.steps.extend(now.transcript.steps);
            before
        }
        Some(before) => {
            let mut now = now;
            now.transcript.steps.splice(0..0, before.transcript.steps);
            now
        }
        None => now,
    }
}

fn dns_error(shared: &Shared, failure: Failure) -> Box<ConnectError> {
    error_at(shared, Stage::Dns, failure)
}

/// A host that must not be used now, before anything was said to it.
fn demand_error(shared: &Shared, failure: Failure) -> Box<ConnectError> {
    let stage = match &failure {
        Failure::Policy { problem: PolicyProblem::Lookup, .. } => Stage::Dns,
        _ => Stage::Tls,
    };
    error_at(shared, stage, failure)
}

/// A failure of our own, before anything was said to a server.
pub(crate) fn error_at(shared: &Shared, stage: Stage, failure: Failure) -> Box<ConnectError> {
    let mut transcript = Transcript { started_ms: shared.now_ms(), ..Transcript::default() };
    transcript.push(proto::transcript::Step {
        stage,
        started_us: 0,
        took_us: 0,
        sent: None,
        reply: None,
        fact: None,
        failure: Some(failure.clone()),
    });
    Box::new(ConnectError { transcript, failure, stage })
}

fn client_settings(shared: &Shared, route: &Route, destination: &str) -> Result<ClientSettings, Failure> {
    let mut settings = ClientSettings::new(route.record.helo.clone().unwrap_or_else(|| shared.config.hostname.clone()));
    settings.source = route.record.source_address;
    if !route.record.sources.is_empty() {
        settings.sources = sources::choose(&route.record.sources, destination, &settings.helo);
        if settings.sources.is_empty() {
            let reason = format!("none of the source addresses of route {} is this machine's", route.name);
            return Err(Failure::Local { reason });
        }
    }
    settings.verify = route.record.verify;
    if shared.config.keep_transcripts == crate::config::Keep::All {
        settings.recording = net::client::Recording::Full;
    }
    Ok(settings)
}
