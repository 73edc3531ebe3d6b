//! This node among the others: says that it is there and how much it does, learns whether it leads and whether it is to be drained.
//!
//! The node that **leads** does what is to be done once for all. It believes so for less time than the store gave it, by a clock
//! that only goes forward: so it has stopped before another begins. A node that **drains** takes no mail, claims nothing and gives
//! back what it has not begun; what is past its final dot is waited for. It leads only where no other node would: what has to be
//! done once is done by somebody.

pub(crate) mod words;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store::{Lead, Node, NodeSaid, RecordKind, RecordQuery, RecordWrite, RecordWritten, Store, StoreError};
use tokio::sync::{Notify, watch};

use crate::pulse::Part;
use crate::run::{Relay, give_back, give_back_surely};
use crate::schedule::Job;
use crate::shared::Shared;
pub(crate) use words::Word;

/// How often a node says that it is there.
const EVERY: Duration = Duration::from_secs(2);
/// Longest wait for an answer of the store.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of the time that the store gives the lead for, this part is used.
const USED: (u64, u64) = (4, 5);
/// Attempts are counted over this time, microseconds.
const MINUTE_US: u64 = 60_000_000;

/// That a node is to be drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// Who wants it.
    pub who: String,
}

/// How much a node does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Recipients in memory.
    pub window: u64,
    /// Connections to next hops.
    pub connections: u32,
    /// Attempts that ended in the last minute.
    pub attempts_per_minute: u64,
    /// It knows that it is to be drained.
    pub draining: bool,
}

/// Where this node stands.
#[derive(Debug)]
pub(crate) struct Standing {
    leads: watch::Sender<bool>,
    /// It led when the store answered last.
    led_last: watch::Sender<bool>,
    /// How often it has begun to lead.
    terms: AtomicU64,
    /// End of the lead, microseconds of the clock that only goes forward.
    until_us: AtomicU64,
    drain: watch::Sender<Option<Drain>>,
    /// Somebody changed something: look at once.
    pub(crate) wake: Notify,
    started_ms: i64,
    attempts: Mutex<VecDeque<(u64, u64)>>,
    /// [`store::Nodes::lapses`] when memory was last looked through for what is not ours any more.
    lapses: AtomicU64,
    /// What was met that is not to be begun.
    aside: Mutex<Vec<Job>>,
}

impl Standing {
    pub(crate) fn new(started_ms: i64) -> Self {
        Self {
            leads: watch::Sender::new(false),
            led_last: watch::Sender::new(false),
            terms: AtomicU64::new(0),
            until_us: AtomicU64::new(0),
            drain: watch::Sender::new(None),
            wake: Notify::new(),
            started_ms,
            attempts: Mutex::default(),
            lapses: AtomicU64::new(0),
            aside: Mutex::default(),
        }
    }

    /// The node is to be drained.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.borrow().is_some()
    }

    /// Waits until it begins or ends to drain.
    pub(crate) async fn drain_changed(&self) {
        let mut drain = self.drain.subscribe();
        let _ = drain.changed().await;
    }

    /// How long it may still believe that it leads; `None`: it does not.
    fn left(&self, now_us: u64) -> Option<Duration> {
        let left = self.until_us.load(Ordering::SeqCst).checked_sub(now_us).filter(|left| *left > 0)?;
        self.leads.borrow().then(|| Duration::from_micros(left))
    }

    /// Gives whether that is news.
    fn lead(&self, until_us: Option<u64>) -> bool {
        self.until_us.store(until_us.unwrap_or(0), Ordering::SeqCst);
        if until_us.is_some() && !*self.leads.borrow() {
            self.terms.fetch_add(1, Ordering::SeqCst);
        }
        self.leads.send_if_modified(|leads| std::mem::replace(leads, until_us.is_some()) != until_us.is_some())
    }

    fn attempts_per_minute(&self, settled: u64, now_us: u64) -> u64 {
        let mut seen = self.attempts.lock();
        while seen.front().is_some_and(|(at_us, _)| now_us.saturating_sub(*at_us) > MINUTE_US) {
            seen.pop_front();
        }
        seen.push_back((now_us, settled));
        seen.front().map_or(0, |(_, before)| settled.saturating_sub(*before))
    }
}

impl Shared {
    /// Nothing is begun: this node is drained, or somebody has paused claims.
    pub(crate) fn rests(&self) -> bool {
        self.node.is_draining() || self.pulses.of(Part::Claims).is_paused()
    }

    /// This node does what is to be done once for all nodes.
    pub(crate) fn leads(&self) -> bool {
        self.node.left(self.net.clock.mono_us()).is_some()
    }

    /// Which time it is that this node leads; `None`: another does.
    pub(crate) fn term(&self) -> Option<u64> {
        self.leads().then(|| self.node.terms.load(Ordering::SeqCst))
    }

    /// Waits until this node leads, or the relay stops. True: it leads.
    pub(crate) async fn until_lead(&self) -> bool {
        let mut leads = self.node.leads.subscribe();
        tokio::select! {
            found = leads.wait_for(|leads| *leads) => found.is_ok(),
            () = self.stopping.cancelled() => false,
        }
    }
}

/// Says it for the first time: whoever starts knows whether it leads.
pub(crate) async fn begin(shared: &Arc<Shared>) {
    round(shared).await;
}

/// Says it until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        let left = shared.node.left(shared.net.clock.mono_us());
        tokio::select! {
            () = tokio::time::sleep(left.map_or(EVERY, |left| left.min(EVERY))) => {}
            () = shared.node.wake.notified() => {}
            () = shared.stopping.cancelled() => return,
        }
        round(&shared).await;
    }
}

/// Gives back what was not to be begun, and what this node had not begun when the leases of its run lapsed: others have it, or may.
/// Before anything new is claimed: that would be given back too.
pub(crate) async fn give_aside_back(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let lapses = shared.store.lapses();
    let mut jobs = std::mem::take(&mut *shared.node.aside.lock());
    if shared.node.lapses.swap(lapses, Ordering::Relaxed) != lapses {
        jobs.extend(shared.schedule.lock().evict_lapsed(lapses));
        jobs.extend(shared.lookups.drain());
        tracing::warn!(
            messages = jobs.len(),
            "the database did not hear of this node for too long: what it had not begun is not its own any more"
        );
    }
    if jobs.is_empty() {
        return Ok(());
    }
    let done = give_back(shared, &jobs, shared.now_ms()).await;
    match done {
        Ok(()) => shared.due_at(i64::MIN),
        Err(_) => shared.node.aside.lock().extend(jobs),
    }
    done
}

impl Shared {
    /// A job that may be begun: its lease has not lapsed, and nothing rests here. Gives it back if it may not.
    pub(crate) fn may_begin(&self, job: Job) -> Option<Job> {
        if job.claim.lapses == self.store.lapses() && !self.rests() {
            return Some(job);
        }
        self.node.aside.lock().push(job);
        self.claim_wake.notify_one();
        None
    }
}

async fn round(shared: &Arc<Shared>) {
    let clock = &shared.net.clock;
    let asked_us = clock.mono_us();
    // It may have slept past the end.
    if shared.node.left(asked_us).is_none() && shared.node.lead(None) {
        tracing::warn!("this node leads no more: its time is over");
    }
    let patience = shared.node.left(asked_us).map_or(PATIENCE, |left| left.min(PATIENCE));
    let told = tokio::time::timeout(patience, shared.store.say(said(shared, asked_us))).await;
    match told {
        Ok(Ok(told)) => {
            let leads = told.leads_ms.is_some();
            shared.node.led_last.send_if_modified(|led| std::mem::replace(led, leads) != leads);
            let until = |ms: i64| asked_us.saturating_add(ms.unsigned_abs().saturating_mul(1_000) / USED.1 * USED.0);
            if shared.node.lead(told.leads_ms.map(until)) {
                match told.leads_ms {
                    Some(_) if shared.store.bell().is_none() => {}
                    Some(_) => tracing::info!("this node leads: it does what is done once for all nodes"),
                    None => tracing::info!("this node leads no more"),
                }
            }
        }
        failed => {
            if let Ok(Err(error)) = failed {
                tracing::debug!(%error, "the other nodes do not hear of this one");
            }
            if shared.node.left(clock.mono_us()).is_none() && shared.node.lead(None) {
                tracing::warn!("this node leads no more: the store does not answer");
            }
        }
    }
    look_at_drain(shared).await;
}

fn said(shared: &Shared, now_us: u64) -> NodeSaid {
    let (window, connections) = {
        let schedule = shared.schedule.lock();
        (schedule.window().recipients() as u64, schedule.connections())
    };
    let settled = shared.watch.settled.load(Ordering::Relaxed);
    let draining = shared.node.is_draining();
    let attempts_per_minute = shared.node.attempts_per_minute(settled, now_us);
    let load = Load { window, connections, attempts_per_minute, draining };
    NodeSaid {
        run: shared.run,
        name: shared.config.node.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        address: shared.config.address.clone(),
        started_ms: shared.node.started_ms,
        load: serde_json::to_value(load).unwrap_or_default(),
        lead: if draining { Lead::Unwilling } else { Lead::Willing },
    }
}

/// Begins and ends to drain as it is written down, and gives back what has come since.
async fn look_at_drain(shared: &Arc<Shared>) {
    let wanted = match wanted(&*shared.store, &shared.config.node).await {
        Ok(wanted) => wanted,
        Err(error) => return tracing::debug!(%error, "whether this node is to be drained is not known"),
    };
    let before = shared.node.is_draining();
    shared.node.drain.send_if_modified(|drain| {
        let news = *drain != wanted;
        drain.clone_from(&wanted);
        news
    });
    match (before, &wanted) {
        (false, Some(drain)) => {
            tracing::warn!(who = %drain.who, "this node is drained: it takes no mail and gives its leases back");
            shared.node.wake.notify_one();
        }
        (true, None) => {
            tracing::info!("this node works again");
            shared.due_at(i64::MIN);
            shared.claim_wake.notify_one();
            shared.node.wake.notify_one();
        }
        _ => {}
    }
    if shared.rests() {
        give_all_back(shared).await;
    }
}

/// Gives back what was not begun.
pub(crate) async fn give_all_back(shared: &Arc<Shared>) {
    let mut jobs = shared.schedule.lock().evict(|_| true);
    jobs.extend(shared.lookups.drain());
    if let Err(error) = give_back_surely(shared, jobs).await {
        tracing::warn!(%error, "leases are not given back");
    }
}

async fn wanted(store: &dyn Store, name: &str) -> Result<Option<Drain>, StoreError> {
    let query = RecordQuery { open: Some(true), limit: 1, ..RecordQuery::named(RecordKind::Node, name) };
    let found = store.records(query).await?.pop();
    Ok(found.map(|record| {
        let who = String::new();
        // One of a later version that says more is a drain all the same.
        serde_json::from_value(record.body).unwrap_or(Drain { since_ms: record.at_ms, who })
    }))
}

/// All nodes, with those that are to be drained.
pub async fn list(store: &dyn Store) -> Result<Vec<(Node, Option<Drain>)>, StoreError> {
    let nodes = store.nodes().await?;
    let mut list = Vec::with_capacity(nodes.len());
    for node in nodes {
        let drain = wanted(store, &node.name).await?;
        list.push((node, drain));
    }
    Ok(list)
}

/// Writes down that a node is to be drained, or not any more. False: that was so already. `NotFound`: there is no such node.
pub async fn set_drain(store: &dyn Store, name: &str, drain: Option<Drain>, now_ms: i64) -> Result<bool, StoreError> {
    let (kind, named) = (RecordKind::Node, name.to_owned());
    // One that was stopped in order is not there: it stays drained until it is back and somebody wants it to work.
    if !store.nodes().await?.iter().any(|node| node.name == name) {
        return Err(StoreError::NotFound);
    }
    match drain {
        Some(drain) => {
            let body = serde_json::to_value(&drain).map_err(|error| StoreError::Internal(error.to_string()))?;
            let add = RecordWrite::Add { kind, name: named, open: true, at_ms: now_ms, body };
            let written = store.write_records(vec![add]).await?;
            Ok(matches!(written.first(), Some(RecordWritten::Added(_))))
        }
        None => {
            let query = RecordQuery { open: Some(true), ..RecordQuery::named(kind, named) };
            let found = store.records(query).await?;
            let gone: Vec<_> = found.iter().map(|record| RecordWrite::Remove { kind, id: record.id }).collect();
            let news = !gone.is_empty();
            if news {
                store.write_records(gone).await?;
            }
            Ok(news)
        }
    }
}

impl Relay {
    /// This node's name.
    pub fn node(&self) -> &str {
        &self.shared().config.node
    }

    /// Whether this node leads, now and whenever that changes.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.shared().node.leads.subscribe()
    }

    /// This node does what is to be done once for all nodes.
    pub fn leads(&self) -> bool {
        self.shared().leads()
    }

    /// Whether this node led when the store answered last, now and whenever that changes. While nobody can ask the store there may
    /// be nobody else to tell people that it is away.
    pub fn led_last(&self) -> watch::Receiver<bool> {
        self.shared().node.led_last.subscribe()
    }

    /// Which time it is that this node leads; `None`: another does. What is remembered of an earlier time may be old.
    pub fn term(&self) -> Option<u64> {
        self.shared().term()
    }

    /// There may be other nodes.
    pub fn has_company(&self) -> bool {
        self.shared().store.bell().is_some()
    }

    /// Why this node takes no mail, if it is to be drained.
    pub fn draining(&self) -> Option<Drain> {
        self.shared().node.drain.borrow().clone()
    }

    /// Looks at once whether it is to be drained, and says how it is.
    pub async fn say_now(&self) {
        round(self.shared()).await;
    }
}
