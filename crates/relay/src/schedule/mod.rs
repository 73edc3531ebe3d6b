//! What is attempted next, where, and when: a pure function of what was put in and the time it is told.
//!
//! The schedule holds a bounded window over the store's queue. Jobs are grouped by destination (what shares a next hop);
//! within one, urgent priorities go first, and senders and streams of the same priority take turns. It opens no socket and
//! reads no clock: callers tell it what happened, it answers with [`Action`]s. A slow destination only ever fills its own
//! share of the window and its own connections.
//!
//! `W` is what wakes an idle connection: a handle in the relay, a number in the simulation.

mod connections;
mod destination;
pub mod forecast;
pub mod limit;
mod meters;
mod paced;
mod pause;
pub mod ramp;
mod shape;
#[cfg(test)]
mod simulation;
mod slots;
mod status;
mod together;
mod window;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use store::Claim;

use crate::budget::Held;

pub use destination::Limits;
use destination::{Destination, Turn};
use limit::Room;
pub use meters::{Account, AccountStatus, Accounts, Meters, Permissions, SavedAccount, Ticket};
use paced::Paces;
use ramp::Ramp;
pub use shape::Sign;
use slots::{Slot, Slots};
pub use status::{DestinationStatus, InMemory};
pub use together::{Answers, Question, Questions};
pub use window::{Window, WindowLimits};

/// Recipients of one message that can go in one transaction, in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Message, lane and recipients, leased by this run.
    pub claim: Claim,
    /// The content, if it is in memory.
    pub content: Option<Arc<Held>>,
}

/// A connection's name, unique within the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<W> {
    /// Open a connection to this destination; it counts as open from now on.
    Open(Arc<str>),
    /// Wake an idle connection: it shall call [`Schedule::take`].
    Wake(W),
}

/// The schedule.
#[derive(Debug)]
pub struct Schedule<W> {
    destinations: HashMap<Arc<str>, Destination<W>>,
    window: Window,
    /// Destinations that may be tried again, by time (Unix milliseconds).
    paused: BTreeSet<(i64, Arc<str>)>,
    /// Destinations that wait for one of the connections there are in all.
    starved: BTreeSet<Arc<str>>,
    connections: u32,
    max_connections: u32,
    meters: Meters,
    /// Connections, where they are counted together with other nodes.
    slots: Slots,
    /// Until when what the store granted is valid, [`net::Clock::mono_us`]; 0: nothing is. `None`: no other node counts.
    valid_until_us: Option<u64>,
    /// Destinations whose mail waits until a block of their quota is written down.
    unwritten: BTreeSet<Arc<str>>,
    /// A destination is to be looked at again sooner than was known.
    sooner: bool,
    /// Streams with a pace.
    paces: Paces,
    /// When the first job in memory may be past its time, Unix milliseconds.
    deadline_ms: Option<i64>,
}

/// A deadline that comes so soon, milliseconds, is told to who waits for the next one.
const DEADLINE_NEAR_MS: i64 = 10_000;
/// Connections that are woken or opened at once for one destination whose quota is free again.
const AT_ONCE: u32 = 100;

impl<W> Schedule<W> {
    /// An empty schedule; `max_connections` is for all destinations together.
    pub fn new(limits: WindowLimits, max_connections: u32) -> Self {
        Self {
            destinations: HashMap::new(),
            window: Window::new(limits),
            paused: BTreeSet::new(),
            starved: BTreeSet::new(),
            connections: 0,
            max_connections,
            meters: Meters::default(),
            slots: Slots::default(),
            valid_until_us: None,
            unwritten: BTreeSet::new(),
            sooner: false,
            paces: Paces::default(),
            deadline_ms: None,
        }
    }

    /// What is counted.
    pub fn meters_mut(&mut self) -> &mut Meters {
        &mut self.meters
    }

    /// What the loops beside the connections should hear of; said once.
    pub fn take_news(&mut self) -> News {
        News { hungry: self.meters.take_hunger() | self.slots.take_hunger(), sooner: std::mem::take(&mut self.sooner) }
    }

    /// What was to be written down is durable: mail that waited for it goes on.
    pub fn written(&mut self, permissions: Permissions, now_ms: i64) -> Vec<Action<W>> {
        self.meters.saved(permissions);
        let waiting = std::mem::take(&mut self.unwritten);
        waiting.iter().flat_map(|name| self.stir_all(name, now_ms)).collect()
    }

    /// A message that was handed out has ended: so many of its recipients were tried.
    pub fn finish(&mut self, ticket: &Ticket, tried: u32, now_ms: i64) {
        self.meters.finish(ticket, tried, now_ms);
    }

    /// The window's accounts.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// The window's accounts, for claims and reservations.
    pub fn window_mut(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Connections open or being opened.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// Adds a job whose recipients were reserved in the window before.
    pub fn add(&mut self, name: &Arc<str>, limits: Limits, job: Job, now_ms: i64) -> Option<Action<W>> {
        let destination = self.destinations.entry(name.clone()).or_insert_with(|| Destination::new(limits.clone()));
        if let Some(accounts) = &limits.accounts {
            self.meters.set(accounts);
        }
        destination.limits = limits;
        let expires_ms = job.claim.message.expires_ms;
        if self.deadline_ms.is_none_or(|known| expires_ms < known) {
            self.deadline_ms = Some(expires_ms);
            self.sooner |= expires_ms - now_ms < DEADLINE_NEAR_MS;
        }
        destination.push_back(job);
        self.stir(name, now_ms)
    }

    /// Puts recipients back at the head of their destination: they go in the next transaction.
    pub fn put_back(&mut self, name: &Arc<str>, job: Job, now_ms: i64) -> Option<Action<W>> {
        self.destinations.get_mut(name)?.push_front(job);
        self.stir(name, now_ms)
    }

    /// The next batch for an open connection, at most as many recipients as the destination takes in a transaction and
    /// as its quota has room for. With a ticket if that is counted: it goes to [`Schedule::finish`].
    pub fn take(&mut self, name: &Arc<str>, now_ms: i64) -> Option<Handed> {
        let destination = self.destinations.get_mut(name)?;
        if destination.queued() == 0 || self.is_shaped(name, now_ms) {
            return None;
        }
        let destination = self.destinations.get_mut(name)?;
        let accounts = destination.limits.accounts.clone();
        let (turn, most) = match &accounts {
            Some(accounts) => self.turn(name, accounts, now_ms)?,
            None => (Turn::Any, u32::MAX),
        };
        if !self.paces.is_empty() {
            return self.take_paced(name, accounts, (turn, most as usize), now_ms);
        }
        let destination = self.destinations.get_mut(name)?;
        let job = destination.pop(turn, most as usize, &mut |_| Some(usize::MAX))?;
        let watched = destination.shape.hand_out(now_ms);
        let ticket = accounts.map(|accounts| self.meters.hand_out(&accounts, job.claim.recipients.len() as u32));
        Some(Handed { job, ticket, watched })
    }

    /// What an attempt said about its destination.
    pub fn heed(&mut self, name: &Arc<str>, sign: Sign, now_ms: i64) {
        let Some(destination) = self.destinations.get_mut(name) else { return };
        let open = destination.established;
        if let Some(at) = destination.shape.heed(sign, open, now_ms) {
            self.paused.insert((at, name.clone()));
        }
    }

    /// A destination that wants less has had enough for now; it is looked at again when it may have more.
    fn is_shaped(&mut self, name: &Arc<str>, now_ms: i64) -> bool {
        let Some(destination) = self.destinations.get_mut(name) else { return false };
        let Some(until) = destination.shape.wait(now_ms) else { return false };
        if destination.shaped_until.is_none_or(|known| known <= now_ms || until < known) {
            destination.shaped_until = Some(until);
            self.paused.insert((until, name.clone()));
            self.sooner = true;
        }
        true
    }

    /// Whose turn it is at a destination with limits: anybody's, urgent mail's, or nobody's, and when it is looked at again.
    fn turn(&mut self, name: &Arc<str>, accounts: &Accounts, now_ms: i64) -> Option<(Turn, u32)> {
        let urgent = self.destinations.get(name)?.has_urgent();
        let ordinary = self.meters.room(accounts, 1, now_ms);
        if let Room::Open { recipients, .. } = ordinary {
            return Some((Turn::Any, recipients));
        }
        let room = if urgent { self.meters.room(accounts, 0, now_ms) } else { ordinary };
        match room {
            Room::Open { recipients, .. } => return Some((Turn::Urgent, recipients)),
            Room::Unwritten => drop(self.unwritten.insert(name.clone())),
            Room::Full(until) => {
                let until = match ordinary {
                    Room::Full(at) => at.min(until),
                    _ => until,
                };
                let destination = self.destinations.get_mut(name)?;
                if destination.full_until.is_none_or(|known| known <= now_ms || until < known) {
                    destination.full_until = Some(until);
                    self.paused.insert((until, name.clone()));
                    self.sooner = true;
                }
            }
        }
        None
    }

    /// The job that [`Schedule::take`] would give: a connection is opened for it.
    pub fn peek(&self, name: &str) -> Option<&Claim> {
        self.destinations.get(name)?.peek()
    }

    /// Does what has become due: paused destinations are tried again, with one connection first.
    pub fn tick(&mut self, now_ms: i64) -> Vec<Action<W>> {
        let mut actions = Vec::new();
        while let Some((until, name)) = self.paused.first().cloned() {
            if until > now_ms {
                break;
            }
            self.paused.remove(&(until, name.clone()));
            actions.extend(self.stir_all(&name, now_ms));
            self.forget_if_empty(&name, now_ms);
            let kept = self.destinations.get(&name).and_then(|destination| destination.look_again(now_ms));
            self.paused.extend(kept.map(|at| (at, name)));
        }
        actions
    }

    /// Ends the wait of all paused destinations: an operator says that it is worth a try now.
    pub fn resume(&mut self, now_ms: i64) -> Vec<Action<W>> {
        for (_, name) in std::mem::take(&mut self.paused) {
            if let Some(destination) = self.destinations.get_mut(&name) {
                destination.pause.end_wait(now_ms);
                destination.shape.end_wait(now_ms);
            }
            self.paused.insert((now_ms, name));
        }
        self.tick(now_ms)
    }

    /// The same for some destinations.
    pub fn resume_of(&mut self, concerns: impl Fn(&str) -> bool, now_ms: i64) -> Vec<Action<W>> {
        for (name, destination) in &mut self.destinations {
            if concerns(name) {
                destination.pause.end_wait(now_ms);
                destination.crowd.end_wait(now_ms);
                destination.shape.end_wait(now_ms);
                self.paused.insert((now_ms, name.clone()));
            }
        }
        self.tick(now_ms)
    }

    /// A destination that stood still gets mail slowly at first, since this time. What is known of that is not begun anew.
    pub fn begin_slowly(&mut self, name: &Arc<str>, limits: Limits, ramp: Ramp, since_ms: i64) {
        let destination = self.destinations.entry(name.clone()).or_insert_with(|| Destination::new(limits));
        destination.shape.begin_slowly(ramp, since_ms);
    }

    /// When [`Schedule::tick`] or [`Schedule::overdue`] has something to do, Unix milliseconds.
    pub fn next_tick_ms(&self) -> Option<i64> {
        let tick = self.paused.first().map(|(until, _)| *until);
        [tick, self.deadline_ms].into_iter().flatten().min()
    }

    /// Removes queued jobs whose time is over; their recipients are still counted in the window.
    pub fn overdue(&mut self, now_ms: i64) -> Vec<Job> {
        if self.deadline_ms.is_none_or(|at| at > now_ms) {
            return Vec::new();
        }
        let jobs = self.evict(|claim| claim.message.expires_ms <= now_ms);
        let left = self.destinations.values().flat_map(Destination::each_job);
        self.deadline_ms = left.map(|job| job.claim.message.expires_ms).min();
        jobs
    }

    /// Removes queued jobs that match; their recipients are still counted in the window.
    pub fn evict(&mut self, mut matches: impl FnMut(&Claim) -> bool) -> Vec<Job> {
        self.destinations.values_mut().flat_map(|destination| destination.evict(&mut matches)).collect()
    }

    /// Removes queued jobs that were leased before leases lapsed; their recipients are still counted in the window.
    pub fn evict_lapsed(&mut self, lapses: u64) -> Vec<Job> {
        let all = self.destinations.values_mut();
        all.flat_map(|destination| destination.evict_jobs(&mut |job| job.claim.lapses != lapses)).collect()
    }

    /// Removes all jobs queued for one destination; their recipients are still counted in the window.
    pub fn evict_from(&mut self, name: &str) -> Vec<Job> {
        self.destinations.get_mut(name).map_or_else(Vec::new, |destination| destination.evict(&mut |_| true))
    }

    /// Removes all jobs queued for some destinations; their recipients are still counted in the window.
    pub fn evict_from_all(&mut self, concerns: impl Fn(&str) -> bool) -> Vec<Job> {
        let concerned = self.destinations.iter_mut().filter(|(name, _)| concerns(name));
        concerned.flat_map(|(_, destination)| destination.evict(&mut |_| true)).collect()
    }

    /// Wakes or opens as many connections as there is work for: several may have waited for the same.
    fn stir_all(&mut self, name: &Arc<str>, now_ms: i64) -> Vec<Action<W>> {
        let Some(destination) = self.destinations.get_mut(name) else { return Vec::new() };
        destination.full_until = destination.full_until.filter(|until| *until > now_ms);
        let Some(accounts) = destination.limits.accounts.clone() else {
            return self.stir(name, now_ms).into_iter().collect();
        };
        let hands = match self.meters.room(&accounts, 0, now_ms) {
            Room::Open { messages, .. } => messages.min(AT_ONCE),
            // Asked once, so that it is known when to look again.
            _ => 1,
        };
        let actions: Vec<_> = (0..hands).map_while(|_| self.stir(name, now_ms)).collect();
        if actions.len() == hands as usize {
            // There may be work for more of them as soon as more is written down.
            self.unwritten.insert(name.clone());
        }
        actions
    }

    /// Wakes or opens a connection if the destination has more jobs than hands.
    fn stir(&mut self, name: &Arc<str>, now_ms: i64) -> Option<Action<W>> {
        let destination = self.destinations.get_mut(name)?;
        if destination.queued() == 0 {
            return None;
        }
        let accounts = destination.limits.accounts.clone();
        if self.is_shaped(name, now_ms) {
            return None;
        }
        if let Some(accounts) = accounts {
            self.turn(name, &accounts, now_ms)?;
        }
        if !self.paces.is_empty() && self.is_paced(name, now_ms) {
            return None;
        }
        let destination = self.destinations.get_mut(name)?;
        if let Some((_, wake)) = destination.idle.pop() {
            return Some(Action::Wake(wake));
        }
        if !destination.wants_connection(now_ms) {
            return None;
        }
        if self.connections >= self.max_connections {
            // A connection that idles elsewhere is in the way: it is woken, finds nothing to do, and closes.
            let idle = self.starved.insert(name.clone()).then(|| self.any_idle());
            return idle.flatten().map(Action::Wake);
        }
        if destination.limits.together {
            match self.slots.take(name, destination.limits.connections, now_ms) {
                Slot::Taken => {}
                Slot::Asked => {
                    self.unwritten.insert(name.clone());
                    return None;
                }
                Slot::NotBefore(until) => {
                    self.paused.insert((until, name.clone()));
                    self.sooner = true;
                    return None;
                }
            }
        }
        let destination = self.destinations.get_mut(name)?;
        destination.open += 1;
        self.connections += 1;
        Some(Action::Open(name.clone()))
    }
}

/// A job in a connection's hands.
#[derive(Debug)]
pub struct Handed {
    /// The job.
    pub job: Job,
    /// If it is counted: for [`Schedule::finish`].
    pub ticket: Option<Ticket>,
    /// What becomes of it is to be told to [`Schedule::heed`].
    pub watched: bool,
}

/// See [`Schedule::take_news`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// Mail waits for [`Meters::save`].
    pub hungry: bool,
    /// [`Schedule::next_tick_ms`] may be earlier.
    pub sooner: bool,
}
