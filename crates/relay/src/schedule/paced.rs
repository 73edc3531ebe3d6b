//! Streams with a pace: which of a destination's jobs may go now, counted wherever they go.
//!
//! Mail whose stream has to wait is passed by: it keeps its place, and others go before it.

use std::collections::HashMap;
use std::sync::Arc;

use super::destination::Turn;
use super::limit::Room;
use super::meters::{Account, Accounts, Meters};
use super::{Handed, Schedule};
use crate::stream::pace::{Gate, Pace};

/// Streams with a pace, by name.
#[derive(Debug, Default)]
pub(super) struct Paces(HashMap<Arc<str>, Paced>);

#[derive(Debug)]
struct Paced {
    pace: Pace,
    gate: Gate,
}

/// Why mail of a stream has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Until(i64),
    /// For a block that is written down.
    Unwritten,
}

impl Paces {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many recipients of a stream may go in one transaction; of one with a pace each goes alone.
    fn may(&self, stream: &str, meters: &mut Meters, way: &mut InTheWay, now_ms: i64) -> Option<usize> {
        if !self.0.contains_key(stream) {
            return Some(usize::MAX);
        }
        match self.wait(stream, meters, now_ms) {
            Some(wait) => {
                way.note(wait);
                None
            }
            None => Some(1),
        }
    }

    fn wait(&self, stream: &str, meters: &mut Meters, now_ms: i64) -> Option<Wait> {
        let paced = self.0.get(stream)?;
        if let Some(until) = paced.gate.wait(&paced.pace, now_ms) {
            return Some(Wait::Until(until));
        }
        match meters.room(&paced.pace.accounts, 0, now_ms) {
            Room::Open { .. } => None,
            Room::Full(until) => Some(Wait::Until(until)),
            Room::Unwritten => Some(Wait::Unwritten),
        }
    }
}

/// What was found in the way of a destination's mail.
#[derive(Debug, Default)]
struct InTheWay {
    until: Option<i64>,
    unwritten: bool,
}

impl InTheWay {
    fn note(&mut self, wait: Wait) {
        match wait {
            Wait::Until(at) => self.until = Some(self.until.map_or(at, |known| known.min(at))),
            Wait::Unwritten => self.unwritten = true,
        }
    }
}

impl<W> Schedule<W> {
    /// Sets the paces of all streams. What was counted before counts on.
    pub fn set_paces(&mut self, paces: HashMap<Arc<str>, Pace>) {
        let mut before = std::mem::take(&mut self.paces.0);
        for (name, pace) in paces {
            self.meters.set(&pace.accounts);
            let gate = before.remove(&name).map_or_else(Gate::default, |paced| paced.gate);
            self.paces.0.insert(name, Paced { pace, gate });
        }
        for gone in before.values() {
            let free = |account: &Account| Account { name: account.name.clone(), rates: Default::default() };
            self.meters.set(&gone.pace.accounts.iter().map(free).collect::<Vec<_>>());
        }
    }

    /// Whether all mail of a destination waits for the pace of its streams; it is looked at again when some may go.
    pub(super) fn is_paced(&mut self, name: &Arc<str>, now_ms: i64) -> bool {
        let Some(destination) = self.destinations.get(name) else { return false };
        let mut way = InTheWay::default();
        let (paces, meters) = (&self.paces, &mut self.meters);
        let goes = destination.may_go(&mut |stream| paces.may(stream, meters, &mut way, now_ms));
        if !goes {
            self.look_again(name, &way, now_ms);
        }
        !goes
    }

    /// [`Schedule::take`] where streams have a pace: one recipient a transaction for those that have.
    pub(super) fn take_paced(
        &mut self,
        name: &Arc<str>,
        accounts: Option<Accounts>,
        (turn, most): (Turn, usize),
        now_ms: i64,
    ) -> Option<Handed> {
        let destination = self.destinations.get_mut(name)?;
        let mut way = InTheWay::default();
        let (paces, meters) = (&self.paces, &mut self.meters);
        let popped = destination.pop(turn, most, &mut |stream| paces.may(stream, meters, &mut way, now_ms));
        let Some(job) = popped else {
            self.look_again(name, &way, now_ms);
            return None;
        };
        let watched = destination.shape.hand_out(now_ms);
        let own = self.paces.0.get_mut(&job.claim.lane.key.stream).map(|paced| {
            paced.gate.pass(&paced.pace, now_ms);
            paced.pace.accounts.clone()
        });
        let accounts = match (accounts, own) {
            (Some(accounts), Some(own)) => Some(accounts.iter().chain(own.iter()).cloned().collect()),
            (accounts, own) => accounts.or(own),
        };
        let ticket = accounts.map(|accounts| self.meters.hand_out(&accounts, job.claim.recipients.len() as u32));
        Some(Handed { job, ticket, watched })
    }

    fn look_again(&mut self, name: &Arc<str>, way: &InTheWay, now_ms: i64) {
        if way.unwritten {
            self.unwritten.insert(name.clone());
        }
        let Some(until) = way.until else { return };
        let Some(destination) = self.destinations.get_mut(name) else { return };
        if destination.paced_until.is_none_or(|known| known <= now_ms || until < known) {
            destination.paced_until = Some(until);
            self.paused.insert((until, name.clone()));
            self.sooner = true;
        }
    }

    /// Whether a stream has a pace and as many jobs in memory as it should have at most.
    pub fn has_enough(&self, stream: &str) -> bool {
        let Some(paced) = self.paces.0.get(stream) else { return false };
        let waiting: usize = self.destinations.values().map(|destination| destination.jobs_of(stream)).sum();
        waiting >= paced.pace.most_in_memory()
    }
}
