//! One destination's jobs: priorities first, then senders and streams in turn, then oldest first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use store::Claim;

use super::meters::Accounts;
use super::pause::Pause;
use super::shape::Shape;
use super::{ConnectionId, Job};

/// Priorities 0 (urgent) to 3 (bulk).
const PRIORITIES: usize = 4;

/// After this many batches of more urgent priorities in a row, one batch of a lower one goes.
pub(super) const URGENT_RUN: u32 = 50;

/// What a destination takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, at least 1.
    pub connections: u32,
    /// Recipients in one transaction, at least 1.
    pub recipients: usize,
    /// Accounts whose rates are limited; `None`: nothing is counted.
    pub accounts: Option<Accounts>,
    /// An operator said how many connections: that is for all nodes together.
    pub together: bool,
}

/// Which mail may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// All.
    Any,
    /// What may use the reserve of a quota.
    Urgent,
}

/// Who shares a turn: all jobs of one sender and stream.
type Flow = (Arc<str>, Arc<str>);

/// Jobs of one priority.
#[derive(Debug, Default)]
struct Turns {
    flows: HashMap<Flow, VecDeque<Job>>,
    /// Flows that have jobs, next one first.
    order: VecDeque<Flow>,
    jobs: usize,
    recipients: usize,
}

impl Turns {
    fn flow_of(job: &Job) -> Flow {
        (job.claim.lane.key.sender.clone(), job.claim.lane.key.stream.clone())
    }

    fn push_back(&mut self, job: Job) {
        let flow = Self::flow_of(&job);
        let queue = self.flows.entry(flow.clone()).or_default();
        if queue.is_empty() {
            self.order.push_back(flow);
        }
        self.recipients += job.claim.recipients.len();
        queue.push_back(job);
        self.jobs += 1;
    }

    fn push_front(&mut self, job: Job) {
        let flow = Self::flow_of(&job);
        let queue = self.flows.entry(flow.clone()).or_default();
        if queue.is_empty() {
            self.order.push_front(flow);
        }
        self.recipients += job.claim.recipients.len();
        queue.push_front(job);
        self.jobs += 1;
    }

    /// Whether any flow may go.
    fn may_go(&self, may: &mut impl FnMut(&str) -> Option<usize>) -> bool {
        self.jobs > 0 && self.order.iter().any(|flow| may(&flow.1).is_some())
    }

    /// The oldest recipients of the next flow that may go, at most `most`; the rest of that job stays first in its flow.
    fn pop(&mut self, most: usize, may: &mut impl FnMut(&str) -> Option<usize>) -> Option<Job> {
        let (at, cap) = self.order.iter().enumerate().find_map(|(at, flow)| Some((at, may(&flow.1)?)))?;
        let most = most.min(cap);
        let flow = self.order.remove(at)?;
        let queue = self.flows.get_mut(&flow)?;
        let mut job = queue.pop_front()?;
        self.jobs -= 1;
        if job.claim.recipients.len() > most {
            let rest = job.claim.recipients.split_off(most);
            let (message, lane) = (job.claim.message.clone(), job.claim.lane.clone());
            let claim = Claim { message, lane, recipients: rest, lapses: job.claim.lapses };
            queue.push_front(Job { claim, content: job.content.clone() });
            self.jobs += 1;
        }
        self.recipients -= job.claim.recipients.len();
        if queue.is_empty() {
            self.flows.remove(&flow);
        } else {
            self.order.push_back(flow);
        }
        Some(job)
    }

    fn evict(&mut self, matches: &mut impl FnMut(&Job) -> bool) -> Vec<Job> {
        let mut evicted = Vec::new();
        for queue in self.flows.values_mut() {
            for job in std::mem::take(queue) {
                if matches(&job) { evicted.push(job) } else { queue.push_back(job) }
            }
        }
        self.flows.retain(|_, queue| !queue.is_empty());
        self.order.retain(|flow| self.flows.contains_key(flow));
        self.jobs -= evicted.len();
        self.recipients -= evicted.iter().map(|job| job.claim.recipients.len()).sum::<usize>();
        evicted
    }
}

/// One destination in memory.
#[derive(Debug)]
pub(super) struct Destination<W> {
    pub(super) limits: Limits,
    priorities: [Turns; PRIORITIES],
    /// Batches of more urgent priorities taken while a lower one waited.
    urgent_run: u32,
    /// Connections open or being opened.
    pub(super) open: u32,
    /// Of these, the ones that got as far as accepting mail.
    pub(super) established: u32,
    pub(super) idle: Vec<(ConnectionId, W)>,
    /// Milliseconds that a message takes on a connection, on average over the last ones.
    pub(super) took_ms: Option<f64>,
    /// Set while it cannot be reached at all.
    pub(super) pause: Pause,
    /// Set while it refuses further connections beside those it has.
    pub(super) crowd: Pause,
    /// Set while it wants less, or nothing.
    pub(super) shape: Shape,
    /// When it is looked at again because of that.
    pub(super) shaped_until: Option<i64>,
    /// When its quota has room again, if it was used up.
    pub(super) full_until: Option<i64>,
    /// When it is looked at again because all of its mail waits for the pace of streams.
    pub(super) paced_until: Option<i64>,
}

impl<W> Destination<W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            priorities: Default::default(),
            urgent_run: 0,
            open: 0,
            established: 0,
            idle: Vec::new(),
            took_ms: None,
            pause: Pause::default(),
            crowd: Pause::default(),
            shape: Shape::default(),
            shaped_until: None,
            full_until: None,
            paced_until: None,
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.priorities.iter().map(|turns| turns.jobs).sum()
    }

    pub(super) fn recipients(&self) -> usize {
        self.priorities.iter().map(|turns| turns.recipients).sum()
    }

    /// Connections it may have now.
    pub(super) fn allowed(&self, now_ms: i64) -> u32 {
        let shaped = self.shape.connections(self.limits.connections.max(1), now_ms);
        // It refused more than it has.
        if self.crowd.is_pausing(now_ms) { shaped.min(self.established.max(1)) } else { shaped }
    }

    pub(super) fn push_back(&mut self, job: Job) {
        self.turns(&job).push_back(job);
    }

    pub(super) fn push_front(&mut self, job: Job) {
        self.turns(&job).push_front(job);
    }

    fn turns(&mut self, job: &Job) -> &mut Turns {
        &mut self.priorities[usize::from(job.claim.lane.key.priority).min(PRIORITIES - 1)]
    }

    /// Most urgent first, but a lower priority is never starved for ever. `may`: how many recipients of
    /// a stream may go at once, if any.
    pub(super) fn pop(&mut self, turn: Turn, most: usize, may: &mut impl FnMut(&str) -> Option<usize>) -> Option<Job> {
        let most = most.min(self.limits.recipients).max(1);
        if turn == Turn::Urgent {
            return self.priorities[0].pop(most, may);
        }
        let first = self.priorities.iter().position(|turns| turns.may_go(may))?;
        let lower = (first + 1..PRIORITIES).find(|i| self.priorities[*i].may_go(may));
        let chosen = match lower {
            Some(lower) if self.urgent_run >= URGENT_RUN => {
                self.urgent_run = 0;
                lower
            }
            Some(_) => {
                self.urgent_run += 1;
                first
            }
            None => {
                self.urgent_run = 0;
                first
            }
        };
        self.priorities[chosen].pop(most, may)
    }

    /// It has mail that may go.
    pub(super) fn may_go(&self, may: &mut impl FnMut(&str) -> Option<usize>) -> bool {
        self.priorities.iter().any(|turns| turns.may_go(may))
    }

    /// Jobs of one stream.
    pub(super) fn jobs_of(&self, stream: &str) -> usize {
        let flows = self.priorities.iter().flat_map(|turns| &turns.flows);
        flows.filter(|(flow, _)| *flow.1 == *stream).map(|(_, jobs)| jobs.len()).sum()
    }

    /// All jobs, in no order.
    pub(super) fn each_job(&self) -> impl Iterator<Item = &Job> {
        self.priorities.iter().flat_map(|turns| turns.flows.values().flatten())
    }

    /// It has mail that may use the reserve of a quota.
    pub(super) fn has_urgent(&self) -> bool {
        self.priorities[0].jobs > 0
    }

    pub(super) fn peek(&self) -> Option<&Claim> {
        let turns = self.priorities.iter().find(|turns| turns.jobs > 0)?;
        turns.flows.get(turns.order.front()?)?.front().map(|job| &job.claim)
    }

    /// More jobs than connections that can still take one, and a connection more is allowed.
    ///
    /// After a failure one connection probes alone until it is established, so an outage ends without a stampede.
    pub(super) fn wants_connection(&self, now_ms: i64) -> bool {
        let allowed =
            if self.pause.is_set() { 1 } else { self.shape.connections(self.limits.connections.max(1), now_ms) };
        let opening = self.open.saturating_sub(self.established);
        let waits = self.pause.is_pausing(now_ms) || self.crowd.is_pausing(now_ms);
        !waits && self.open < allowed && self.queued() > opening as usize
    }

    pub(super) fn evict(&mut self, matches: &mut impl FnMut(&Claim) -> bool) -> Vec<Job> {
        self.evict_jobs(&mut |job| matches(&job.claim))
    }

    pub(super) fn evict_jobs(&mut self, matches: &mut impl FnMut(&Job) -> bool) -> Vec<Job> {
        self.priorities.iter_mut().flat_map(|turns| turns.evict(matches)).collect()
    }

    pub(super) fn is_forgettable(&self, now_ms: i64) -> bool {
        self.is_without_mail() && !self.pause.is_pausing(now_ms) && !self.shape.is_active(now_ms)
    }

    /// When to look whether it can be forgotten, if it has no mail and is kept for a hold's sake.
    pub(super) fn look_again(&self, now_ms: i64) -> Option<i64> {
        self.shape.hold_forgotten().filter(|at| *at > now_ms && self.is_without_mail())
    }

    fn is_without_mail(&self) -> bool {
        self.queued() == 0 && self.open == 0
    }
}
