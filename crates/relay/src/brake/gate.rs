//! Keeping mail back: at the door, and before each next hop. Costs one look at a flag while no brake is on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use explain::Scope;
use parking_lot::{Mutex, RwLock};
use store::{Cause, Claim, MessageId, Outcome};
use tokio::sync::{Notify, broadcast, oneshot};

use super::book::{Book, Phase};
use super::news::BrakeNews;
use super::scope::BrakeScope;
use crate::route::Route;
use crate::schedule::Job;
use crate::schedule::ramp::Ramp;
use crate::settle::{self, Ended};
use crate::shared::Shared;
use crate::transport::sources::SourceRecord;

/// News that wait for a slow listener.
const NEWS: usize = 256;
/// Routes whose address is remembered.
const ROUTES: usize = 1_000;

/// By name of what is stopped: the reason that held mail gets.
type Stopped = HashMap<Arc<str>, Arc<str>>;

/// What is stopped at the moment.
#[derive(Debug, Default)]
struct Stops {
    credentials: Stopped,
    routes: Stopped,
    destinations: Stopped,
    sources: HashMap<IpAddr, Arc<str>>,
    streams: Stopped,
    sender_domains: Stopped,
    /// What goes slowly, and since when.
    ramps: Vec<(BrakeScope, i64, Ramp)>,
}

/// What became of the message of a probe.
#[derive(Debug)]
pub(crate) enum Tried {
    /// It was taken, or what was wrong with it is its own affair.
    Taken,
    /// Not that either.
    Refused(Box<Cause>),
    /// It was not tried.
    Not,
}

/// A message that a brake lets through as a probe.
struct Passing {
    why: Arc<str>,
    tell: oneshot::Sender<Tried>,
}

/// The brakes of a running relay.
pub(crate) struct Keeper {
    /// There is something to look at.
    on: AtomicBool,
    stops: RwLock<Arc<Stops>>,
    pub(crate) book: Mutex<Book>,
    pub(crate) wake: Notify,
    pub(crate) news: broadcast::Sender<BrakeNews>,
    /// The address from which a route was last connected, where its settings do not say.
    seen: Mutex<HashMap<Arc<str>, IpAddr>>,
    passing: Mutex<HashMap<MessageId, Passing>>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            stops: RwLock::default(),
            book: Mutex::default(),
            wake: Notify::new(),
            news: broadcast::Sender::new(NEWS),
            seen: Mutex::default(),
            passing: Mutex::default(),
        }
    }
}

impl Keeper {
    /// Whether any brake is on, or mail goes slowly after one.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Takes over what the book says.
    pub(crate) fn renew(&self) {
        let mut stops = Stops::default();
        let book = self.book.lock();
        for (incident, braked) in book.all() {
            let why: Arc<str> = braked.held_why(incident).into();
            for order in &braked.orders {
                if let Some((since_ms, ramp)) = braked.ramp() {
                    stops.ramps.push((order.scope.clone(), since_ms, ramp));
                }
                if braked.phase == Phase::On {
                    stops.add(&order.scope, why.clone());
                }
            }
        }
        let on = book.all().next().is_some();
        // Under the book's lock: an older picture must not take the place of a newer one.
        *self.stops.write() = Arc::new(stops);
        self.on.store(on, Ordering::Relaxed);
    }

    fn stops(&self) -> Arc<Stops> {
        self.stops.read().clone()
    }

    /// Why a next hop gets no mail. Without a destination: why the whole route does not.
    pub(crate) fn next_hop(&self, route: &Route, destination: Option<&str>) -> Option<Arc<str>> {
        if !self.is_on() {
            return None;
        }
        let stops = self.stops();
        let by_destination = || {
            let name = destination?;
            let group = name.split_once('/').map_or("", |(_, group)| group);
            stops.destinations.get(name).or_else(|| stops.destinations.get(group))
        };
        let found = stops.credentials.get(&route.name).or_else(|| stops.routes.get(&route.name));
        found.or_else(by_destination).or_else(|| self.by_source(&stops, route)).cloned()
    }

    /// All addresses that a route may use are stopped.
    fn by_source<'a>(&self, stops: &'a Stops, route: &Route) -> Option<&'a Arc<str>> {
        if stops.sources.is_empty() {
            return None;
        }
        let used = self.sources_of(route);
        let first = stops.sources.get(used.first()?)?;
        used.iter().all(|address| stops.sources.contains_key(address)).then_some(first)
    }

    /// Addresses that a route connects from.
    pub(crate) fn sources_of(&self, route: &Route) -> Vec<IpAddr> {
        let record = &route.record;
        if !record.sources.is_empty() {
            return record.sources.iter().map(|source| source.address).collect();
        }
        record.source_address.or_else(|| self.seen.lock().get(&route.name).copied()).into_iter().collect()
    }

    /// The addresses of a pool that are not stopped; all of them if none is left.
    pub(crate) fn usable<'a>(&self, pool: &'a [SourceRecord]) -> Cow<'a, [SourceRecord]> {
        if !self.is_on() {
            return Cow::Borrowed(pool);
        }
        let stops = self.stops();
        let free: Vec<_> = pool.iter().filter(|one| !stops.sources.contains_key(&one.address)).cloned().collect();
        if free.is_empty() { Cow::Borrowed(pool) } else { Cow::Owned(free) }
    }

    /// A connection of a route came from this address.
    pub(crate) fn learn(&self, route: &Route, local: IpAddr) {
        if route.record.source_address.is_some() || !route.record.sources.is_empty() {
            return;
        }
        let mut seen = self.seen.lock();
        if seen.len() < ROUTES || seen.contains_key(&route.name) {
            seen.insert(route.name.clone(), local);
        }
    }

    /// Why mail gets nowhere, whatever its next hop.
    fn mail(&self, stream: &str, sender_domain: &str) -> Option<Arc<str>> {
        let stops = self.stops();
        stops.streams.get(stream).or_else(|| stops.sender_domains.get(sender_domain)).cloned()
    }

    /// How slowly mail goes to a next hop after a brake.
    pub(crate) fn ramp(&self, route: &Route, destination: &str) -> Option<(i64, Ramp)> {
        let stops = self.stops();
        let found = stops.ramps.iter().find(|(scope, ..)| self.concerns(scope, route, destination));
        found.map(|(_, since_ms, ramp)| (*since_ms, *ramp))
    }

    /// Whether a brake is about this next hop.
    pub(crate) fn concerns(&self, scope: &BrakeScope, route: &Route, destination: &str) -> bool {
        match scope {
            BrakeScope::Credential(name) | BrakeScope::Route(name) => *name == route.name,
            BrakeScope::Destination(name) => {
                **name == *destination || destination.split_once('/').is_some_and(|(_, group)| *group == **name)
            }
            BrakeScope::Source(address) => self.sources_of(route).contains(address),
            BrakeScope::Stream(_) | BrakeScope::SenderDomain(_) => false,
        }
    }

    /// Lets a message through; what becomes of it is told once.
    pub(crate) fn let_pass(&self, message: MessageId, why: Arc<str>) -> oneshot::Receiver<Tried> {
        let (tell, told) = oneshot::channel();
        self.passing.lock().insert(message, Passing { why, tell });
        told
    }

    /// A probe has waited long enough.
    pub(crate) fn stop_passing(&self, message: MessageId) {
        self.passing.lock().remove(&message);
    }

    /// Whether a message is a probe.
    pub(crate) fn passes(&self, message: MessageId) -> bool {
        self.is_on() && self.passing.lock().contains_key(&message)
    }
}

impl Stops {
    fn add(&mut self, scope: &BrakeScope, why: Arc<str>) {
        let (map, name) = match scope {
            BrakeScope::Credential(name) => (&mut self.credentials, name),
            BrakeScope::Route(name) => (&mut self.routes, name),
            BrakeScope::Destination(name) => (&mut self.destinations, name),
            BrakeScope::Stream(name) => (&mut self.streams, name),
            BrakeScope::SenderDomain(name) => (&mut self.sender_domains, name),
            BrakeScope::Source(address) => {
                self.sources.entry(*address).or_insert(why);
                return;
            }
        };
        map.entry(name.clone()).or_insert(why);
    }
}

fn sender_domain(message: &store::Message) -> &str {
    message.reverse_path.0.as_ref().map_or("", |address| address.domain())
}

/// Why a new recipient is held from the start, where that can be said before its next hop is known.
pub(crate) fn at_door(shared: &Shared, route: &Route, domain: &Arc<str>, message: &store::Message) -> Option<String> {
    let keeper = &shared.keeper;
    if !keeper.is_on() {
        return None;
    }
    if let Some(why) = keeper.mail(&message.stream, sender_domain(message)) {
        return Some(why.to_string());
    }
    // Whether a fallback takes it is seen when it is to leave.
    if !route.record.fallback.is_empty() {
        return None;
    }
    let known = match route.record.kind {
        crate::route::RouteKind::Mx => shared.exchangers.known(domain, route.wanted_for(message)),
        _ => None,
    };
    let destination = match &known {
        Some(exchange) => crate::dispatch::destination_of(route, exchange),
        None => route.name.clone(),
    };
    keeper.next_hop(route, Some(&destination)).map(|why| why.to_string())
}

/// A job that no brake on its stream or sender keeps back.
pub(crate) fn lets(shared: &Arc<Shared>, job: Job) -> Option<Job> {
    let (keeper, message) = (&shared.keeper, &job.claim.message);
    if !keeper.is_on() {
        return Some(job);
    }
    match keeper.mail(&message.stream, sender_domain(message)) {
        Some(why) if !keeper.passes(message.id) => {
            hold(shared, &job, &why);
            None
        }
        _ => Some(job),
    }
}

/// Why a job does not go to this next hop.
pub(crate) fn stop(shared: &Shared, route: &Route, destination: &str, job: &Job) -> Option<Arc<str>> {
    let why = shared.keeper.next_hop(route, Some(destination))?;
    (!shared.keeper.passes(job.claim.message.id)).then_some(why)
}

/// Holds a job for an incident.
pub(crate) fn hold(shared: &Arc<Shared>, job: &Job, why: &str) {
    let outcomes = job.claim.recipients.iter().map(|r| (r.n, Outcome::Held { why: why.to_owned() })).collect();
    settle::spawn(shared, &job.claim, Ended { attempt: None, outcomes, capture: false });
}

/// The end of a probe that was a message. What it did not get through is held again: a probe makes nothing bounce.
pub(crate) fn settled(shared: &Shared, claim: &Claim, ended: &mut Ended) {
    let keeper = &shared.keeper;
    if !keeper.is_on() {
        return;
    }
    let Some(Passing { why, tell }) = keeper.passing.lock().remove(&claim.message.id) else { return };
    let mut tried = Tried::Not;
    for (_, outcome) in &mut ended.outcomes {
        match outcome {
            Outcome::Delivered | Outcome::Relayed { .. } | Outcome::Noted { .. } => tried = Tried::Taken,
            Outcome::Failed { cause } | Outcome::Deferred { cause, .. } if is_its_own(shared, cause) => {
                tried = Tried::Taken;
            }
            Outcome::Failed { cause } | Outcome::Deferred { cause, .. } => {
                if !matches!(tried, Tried::Taken) {
                    tried = Tried::Refused(Box::new(cause.clone()));
                }
                // What may have been taken has to be remembered with its route: it is held when it is due again.
                if cause.unknown_via.is_none() {
                    *outcome = Outcome::Held { why: why.to_string() };
                }
            }
            Outcome::Returned { .. } => *outcome = Outcome::Held { why: why.to_string() },
            Outcome::Expired { .. } | Outcome::Held { .. } | Outcome::Suppressed { .. } => {}
        }
    }
    let _ = tell.send(tried);
}

/// What is wrong is wrong with this recipient or message, and says that all others are welcome.
fn is_its_own(shared: &Shared, cause: &Cause) -> bool {
    let rules = shared.rules();
    let scope = cause.rule.as_deref().and_then(|id| rules.rule(id)).map(|rule| rule.scope);
    matches!(scope, Some(Scope::Recipient | Scope::Message))
}
