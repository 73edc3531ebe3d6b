//! Simulated destinations and a simulated store around the schedule, on a virtual clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use proto::{Address, MailParameters, RcptParameters, ReversePath};
use store::{Claim, Lane, LaneId, LaneKey, LeasedRecipient, Message, MessageDetails, MessageId};

use super::super::limit::{self, Rates};
use super::super::*;

/// A small generator: the same seed gives the same run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

/// How a destination behaves.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) limits: Limits,
    /// Milliseconds a transaction takes.
    pub(super) takes_ms: u64,
    /// Connections are refused within these times.
    pub(super) down: Option<(i64, i64)>,
    /// Connections it takes at a time, whatever the limit is set to.
    pub(super) takes: u32,
    /// Messages it takes in a minute before it asks for less; from and until when.
    pub(super) allows: Option<(usize, i64, i64)>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happens {
    Opened(Arc<str>, ConnectionId),
    Sent(Arc<str>, ConnectionId, Vec<(LaneId, i64, u32)>),
    Idle(Arc<str>, ConnectionId, u64),
    Tick(u64),
    Written,
}

/// A destination's connections as the world sees them.
#[derive(Default, Debug)]
pub(super) struct Seen {
    pub(super) open: u32,
    pub(super) most_open: u32,
    /// Of these, the ones that were let in.
    pub(super) taken: u32,
    pub(super) refused: u32,
}

pub(super) struct World {
    pub(super) now_ms: i64,
    pub(super) dice: Dice,
    pub(super) schedule: Schedule<(Arc<str>, ConnectionId)>,
    pub(super) hosts: HashMap<Arc<str>, Host>,
    /// What waits in the store, by lane, urgent ones first; in each the oldest first.
    pub(super) backlog: BTreeMap<(u8, i64), (Arc<Lane>, VecDeque<Claim>)>,
    pub(super) events: BinaryHeap<Reverse<(i64, u64, Happens)>>,
    pub(super) serial: u64,
    pub(super) sleeping: HashMap<ConnectionId, u64>,
    pub(super) seen: HashMap<Arc<str>, Seen>,
    pub(super) open: u32,
    pub(super) opened: u32,
    pub(super) most_open: u32,
    pub(super) most_in_window: usize,
    /// Message, recipient and time of each delivery.
    pub(super) delivered: Vec<(LaneId, i64, u32, i64)>,
    /// Complaints of destinations.
    pub(super) complaints: Vec<i64>,
    pub(super) made: i64,
    pub(super) jobs: HashMap<ConnectionId, Job>,
    /// Of messages under way.
    pub(super) tickets: HashMap<ConnectionId, Ticket>,
    /// The last tick that was asked for: earlier ones are void.
    pub(super) ticks: u64,
    /// Mail waits for something to be written down.
    pub(super) hungry: bool,
    /// Recipients accepted: of urgent mail, and of other.
    pub(super) accepted: [u64; 2],
    /// Lanes of urgent mail.
    pub(super) urgent: HashSet<LaneId>,
    /// When jobs under way began.
    pub(super) began: HashMap<ConnectionId, i64>,
    /// What is being written down.
    pub(super) writing: Option<Permissions>,
}

pub(super) fn limits(connections: u32, recipients: usize) -> Limits {
    Limits { connections, recipients, accounts: None, together: false }
}

/// The same with limited rates for the whole destination.
pub(super) fn limited(connections: u32, rates: Rates) -> Limits {
    let account = Account { name: "account".into(), rates };
    Limits { accounts: Some(Arc::new([account])), ..limits(connections, 1) }
}

impl World {
    pub(super) fn new(seed: u64, window: usize, connections: u32) -> Self {
        Self {
            now_ms: 1_000,
            dice: Dice(seed),
            schedule: Schedule::new(WindowLimits { recipients: window }, connections),
            hosts: HashMap::new(),
            backlog: BTreeMap::new(),
            events: BinaryHeap::new(),
            serial: 0,
            sleeping: HashMap::new(),
            seen: HashMap::new(),
            open: 0,
            opened: 0,
            most_open: 0,
            most_in_window: 0,
            delivered: Vec::new(),
            complaints: Vec::new(),
            jobs: HashMap::new(),
            made: 0,
            tickets: HashMap::new(),
            accepted: [0; 2],
            urgent: HashSet::new(),
            ticks: 0,
            hungry: false,
            began: HashMap::new(),
            writing: None,
        }
    }

    pub(super) fn host(&mut self, name: &str, host: Host) {
        self.hosts.insert(name.into(), host);
    }

    pub(super) fn lane(&self, host: &str, sender: &str, priority: u8) -> Arc<Lane> {
        let key = LaneKey {
            route: host.into(),
            domain: "example.net".into(),
            sender: sender.into(),
            stream: "default".into(),
            priority,
        };
        Arc::new(Lane::new(key))
    }

    pub(super) fn claim(&mut self, lane: &Arc<Lane>, recipients: u32) -> Claim {
        self.made += 1;
        let message = Message {
            id: MessageId(self.made),
            accepted_ms: self.now_ms,
            sender: lane.key.sender.clone(),
            stream: lane.key.stream.clone(),
            priority: lane.key.priority,
            reverse_path: ReversePath(None),
            parameters: MailParameters::default(),
            size: 100,
            eight_bit: false,
            not_before_ms: None,
            expires_ms: i64::MAX,
            details: Arc::new(MessageDetails::default()),
        };
        let recipient = |n| LeasedRecipient {
            n,
            address: Address::parse("someone@example.net").unwrap(),
            parameters: RcptParameters::default(),
            attempts: 0,
            unknown_via: None,
        };
        Claim {
            message: Arc::new(message),
            lane: lane.clone(),
            recipients: (0..recipients).map(recipient).collect(),
            lapses: 0,
        }
    }

    /// A message comes in: straight into memory if there is room, else into the store.
    pub(super) fn accept(&mut self, lane: &Arc<Lane>, recipients: u32) {
        let claim = self.claim(lane, recipients);
        let is_urgent = lane.key.priority == 0;
        self.accepted[usize::from(!is_urgent)] += u64::from(recipients);
        if is_urgent {
            self.urgent.insert(lane.id);
        }
        if self.schedule.window_mut().reserve(lane.id, lane.key.priority, recipients as usize) {
            self.admit(claim);
        } else {
            let entry =
                self.backlog.entry((lane.key.priority, lane.id.0)).or_insert_with(|| (lane.clone(), VecDeque::new()));
            entry.1.push_back(claim);
            self.schedule.window_mut().due_at(self.now_ms);
        }
    }

    pub(super) fn admit(&mut self, claim: Claim) {
        let name = claim.lane.key.route.clone();
        let limits = self.hosts[&name].limits.clone();
        let action = self.schedule.add(&name, limits, Job { claim, content: None }, self.now_ms);
        self.act(action);
        self.most_in_window = self.most_in_window.max(self.schedule.window().recipients());
    }

    pub(super) fn act(&mut self, actions: impl IntoIterator<Item = Action<(Arc<str>, ConnectionId)>>) {
        for action in actions {
            match action {
                Action::Open(name) => {
                    let seen = self.seen.entry(name.clone()).or_default();
                    seen.open += 1;
                    seen.most_open = seen.most_open.max(seen.open);
                    self.open += 1;
                    self.opened += 1;
                    self.most_open = self.most_open.max(self.open);
                    self.serial += 1;
                    let id = ConnectionId(self.serial);
                    let wait = 1 + self.dice.below(5);
                    self.after(wait, Happens::Opened(name, id));
                }
                Action::Wake((name, id)) => {
                    assert!(self.sleeping.remove(&id).is_some(), "only a sleeping connection is woken");
                    self.work(name, id);
                }
            }
        }
    }

    pub(super) fn after(&mut self, ms: u64, happens: Happens) {
        self.serial += 1;
        self.events.push(Reverse((self.now_ms + ms as i64, self.serial, happens)));
    }

    pub(super) fn work(&mut self, name: Arc<str>, id: ConnectionId) {
        if let Some(began) = self.began.remove(&id) {
            self.schedule.took(&name, self.now_ms - began);
        }
        match self.schedule.take(&name, self.now_ms) {
            Some(Handed { job, ticket, watched: _ }) => {
                let host = &self.hosts[&name];
                assert!(job.claim.recipients.len() <= host.limits.recipients, "a transaction is never too large");
                let sent =
                    job.claim.recipients.iter().map(|r| (job.claim.lane.id, job.claim.message.id.0, r.n)).collect();
                let takes = host.takes_ms + self.dice.below(3);
                if let Some(ticket) = ticket {
                    self.tickets.insert(id, ticket);
                }
                self.jobs.insert(id, job);
                self.began.insert(id, self.now_ms);
                self.after(takes, Happens::Sent(name, id, sent));
            }
            None => {
                self.schedule.idle(&name, id, (name.clone(), id));
                self.serial += 1;
                self.sleeping.insert(id, self.serial);
                let nap = self.serial;
                self.after(10_000, Happens::Idle(name, id, nap));
            }
        }
    }

    pub(super) fn close(&mut self, name: &Arc<str>) {
        self.open -= 1;
        self.seen.get_mut(name).unwrap().open -= 1;
    }

    pub(super) fn refill(&mut self) {
        while self.schedule.window().next_claim_ms().is_some_and(|at| at <= self.now_ms) {
            let Some(plan) = self.schedule.window_mut().plan_claim() else { return };
            let skip: HashSet<LaneId> = plan.skip.iter().copied().collect();
            let mut claims = Vec::new();
            let mut full = Vec::new();
            let mut left = plan.most;
            for (lane, waiting) in self.backlog.values_mut().filter(|(lane, _)| !skip.contains(&lane.id)) {
                let mut taken = 0;
                while taken < plan.per_lane && left > 0 {
                    let Some(claim) = waiting.pop_front() else { break };
                    taken += claim.recipients.len();
                    left = left.saturating_sub(claim.recipients.len());
                    claims.push(claim);
                }
                if taken >= plan.per_lane {
                    full.push(lane.id);
                }
            }
            let more = self.backlog.values().any(|(lane, waiting)| !skip.contains(&lane.id) && !waiting.is_empty());
            let now_ms = self.now_ms;
            for claim in &claims {
                self.schedule.window_mut().add(claim.lane.id, claim.recipients.len());
            }
            self.schedule.window_mut().claimed(more.then_some(now_ms), full);
            let none = claims.is_empty();
            for claim in claims {
                self.admit(claim);
            }
            if none {
                return;
            }
        }
    }

    /// Runs until nothing happens any more, or the time is over.
    pub(super) fn run(&mut self, until_ms: i64) {
        self.refill();
        self.tick_after(1);
        while let Some(Reverse((at, _, happens))) = self.events.pop() {
            if at > until_ms {
                self.events.push(Reverse((at, 0, happens)));
                break;
            }
            self.now_ms = at;
            self.step(happens);
            self.refill();
            let news = self.schedule.take_news();
            self.hungry |= news.hungry;
            if self.writing.is_none() && std::mem::take(&mut self.hungry) {
                self.writing = Some(self.schedule.meters_mut().save(limit::Ahead::Block, self.now_ms).1);
                self.after(3, Happens::Written);
            }
            if news.sooner {
                self.tick_when_due();
            }
            if self.is_done() {
                break;
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.schedule.window().recipients() == 0 && self.backlog.values().all(|(_, waiting)| waiting.is_empty())
    }

    pub(super) fn step(&mut self, happens: Happens) {
        let now_ms = self.now_ms;
        match happens {
            Happens::Opened(name, id) => {
                let host = &self.hosts[&name];
                let seen = self.seen.get_mut(&name).unwrap();
                let down = host.down.is_some_and(|(from, to)| (from..to).contains(&now_ms));
                if down || seen.taken >= host.takes {
                    self.close(&name);
                    self.seen.get_mut(&name).unwrap().refused += 1;
                    let (jobs, actions) = self.schedule.failed(&name, now_ms);
                    self.act(actions);
                    for job in jobs {
                        self.defer(job);
                    }
                } else {
                    seen.taken += 1;
                    let action = self.schedule.opened(&name, now_ms);
                    self.act(action);
                    self.work(name, id);
                }
            }
            Happens::Sent(name, id, sent) => {
                if let Some(ticket) = self.tickets.remove(&id) {
                    self.schedule.finish(&ticket, sent.len() as u32, now_ms);
                }
                let job = self.jobs.remove(&id).unwrap();
                if self.is_too_much(&name) {
                    self.complaints.push(now_ms);
                    self.schedule.heed(&name, Sign::Slow(0), now_ms);
                    self.defer(job);
                    return self.work(name, id);
                }
                self.schedule.heed(&name, Sign::Taken, now_ms);
                for (lane, message, n) in &sent {
                    self.delivered.push((*lane, *message, *n, now_ms));
                }
                self.schedule.window_mut().remove(sent[0].0, sent.len());
                self.work(name, id);
            }
            Happens::Idle(name, id, nap) => {
                if self.sleeping.get(&id) == Some(&nap) {
                    assert!(self.schedule.leave_idle(&name, id));
                    self.sleeping.remove(&id);
                    self.close(&name);
                    self.seen.get_mut(&name).unwrap().taken -= 1;
                    let actions = self.schedule.closed(&name, now_ms);
                    self.act(actions);
                }
            }
            Happens::Tick(number) if number == self.ticks => {
                let actions = self.schedule.tick(now_ms);
                self.act(actions);
                self.tick_when_due();
            }
            Happens::Tick(_) => {}
            Happens::Written => {
                if let Some(permissions) = self.writing.take() {
                    let actions = self.schedule.written(permissions, now_ms);
                    self.act(actions);
                }
            }
        }
    }

    fn tick_when_due(&mut self) {
        let pause = self.schedule.next_tick_ms().map_or(200, |at| (at - self.now_ms).clamp(1, 2_000));
        self.tick_after(pause as u64);
    }

    fn tick_after(&mut self, ms: u64) {
        self.ticks += 1;
        self.after(ms, Happens::Tick(self.ticks));
    }

    /// A destination has taken more than it likes within the last minute.
    pub(super) fn is_too_much(&self, name: &Arc<str>) -> bool {
        let Some((allows, from, until)) = self.hosts[name].allows else { return false };
        let lately = self.delivered.iter().rev().take_while(|(.., at)| *at > self.now_ms - 60_000).count();
        (from..until).contains(&self.now_ms) && lately >= allows
    }

    /// Back to the store, due at once: the backoff is not what is simulated here.
    pub(super) fn defer(&mut self, job: Job) {
        let lane = job.claim.lane.clone();
        self.schedule.window_mut().remove(lane.id, job.claim.recipients.len());
        self.backlog
            .entry((lane.key.priority, lane.id.0))
            .or_insert_with(|| (lane, VecDeque::new()))
            .1
            .push_back(job.claim);
        self.schedule.window_mut().due_at(self.now_ms + 1_000);
    }

    /// Recipients that are not delivered yet: of urgent mail, and of other.
    pub(super) fn waiting(&self) -> [u64; 2] {
        let mut waiting = self.accepted;
        for (lane, ..) in &self.delivered {
            waiting[usize::from(!self.urgent.contains(lane))] -= 1;
        }
        waiting
    }

    pub(super) fn finished_at(&self, lane: &Lane) -> i64 {
        self.delivered.iter().filter(|(id, ..)| *id == lane.id).map(|(.., at)| *at).max().unwrap_or(0)
    }

    pub(super) fn check_all_delivered_once(&self, recipients: usize) {
        let distinct: HashSet<_> = self.delivered.iter().map(|(lane, message, n, _)| (*lane, *message, *n)).collect();
        assert_eq!(distinct.len(), recipients, "everything was delivered");
        assert_eq!(self.delivered.len(), recipients, "nothing was delivered twice");
    }
}
