//! Keeps incidents: opens them from evidence, counts, brakes, diagnoses, and closes what is fixed.
//!
//! What is kept is in records; memory only holds what is told with the next write, so a restart takes open incidents up
//! again. A count is written every few seconds at most. What the store cannot keep now is told by the log and tried again.

mod ending;
mod itself;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use net::ServerTls;
use parking_lot::Mutex;
use relay::Relay;
use relay::incident::{Followed, Tally};
use store::{RecordKind, RecordQuery, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::book::{self, Incident};
use super::elsewhere::Elsewhere;
use super::model::{Body, EventKind, Happened, How, MOST_EXAMPLES, State, name};
use super::own::Look;
use super::probe::Probing;
use super::{braking, changes, diagnose, opening, own};
use crate::http::Shared;

pub use ending::probe_now;
pub use itself::keep_for_later;

/// How often evidence is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Rounds between two looks at Pillarbox itself, and at what others changed in the book.
const ROUNDS: u64 = 5;
/// A count is written no more often, milliseconds.
const WRITE_EVERY_MS: i64 = 5_000;
/// So many recipients that were delivered, and no failure for so long, show that it is over; milliseconds.
const DELIVERED: (u32, i64) = (3, 10_000);
/// Fewer do after so long, milliseconds.
const SETTLED_MS: i64 = 60_000;
/// Both become longer each time that an incident comes back, up to this, milliseconds.
const LONGEST_STEADY_MS: i64 = 600_000;
/// What comes back so soon after it ended by itself is the same incident, milliseconds.
const REOPENS_MS: i64 = 600_000;
/// A check that passes shows nothing while mail still fails: so long it must not have, milliseconds.
const STILL_MS: i64 = 5_000;
/// What was not seen for so long is over, milliseconds.
const QUIET_MS: i64 = 86_400_000;
/// Incidents that wait for the store.
const MOST_UNKEPT: usize = 100;
/// Closed incidents that are looked at when this begins to keep them.
const MOST_CLOSED: u32 = 100;
/// Closed incidents named as similar.
const SIMILAR: usize = 5;
/// What is wrong with the program or the machine is over when it was not seen for so long, milliseconds.
const STEADY_MS: i64 = 10_000;

/// For handlers: tells the manager that somebody changed something.
#[derive(Debug, Default)]
pub struct Incidents {
    changed: Notify,
    probes: Mutex<Vec<i64>>,
    /// What was seen of this program, whoever looks.
    pub(super) look: tokio::sync::Mutex<Look>,
    /// What other nodes tell of themselves.
    pub elsewhere: Elsewhere,
    /// What the store could not keep yet, by key: a node whose lead ended meanwhile still has it.
    unkept: Mutex<BTreeMap<String, Body>>,
}

impl Incidents {
    /// To be kept as soon as the store can. False: it is known, or there are too many.
    pub fn keep_later(&self, body: Body) -> bool {
        let key = body.key();
        let mut unkept = self.unkept.lock();
        let is_new = !unkept.contains_key(&key) && unkept.len() < MOST_UNKEPT;
        if is_new {
            unkept.insert(key, body);
        }
        is_new
    }

    /// What waits for the store, for another node to keep.
    pub(super) fn hand_over(&self) -> Vec<Body> {
        std::mem::take(&mut *self.unkept.lock()).into_values().collect()
    }

    /// Somebody changed an incident.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// Somebody wants to know whether it works again.
    pub fn probe(&self, id: i64) {
        let mut probes = self.probes.lock();
        if probes.len() < 100 {
            probes.push(id);
        }
        drop(probes);
        self.changed.notify_one();
    }
}

/// What is known of an open incident beside its record.
struct Live {
    body: Body,
    /// Counted since the last write.
    pending: Tally,
    written_ms: i64,
    /// Recipients delivered inside the scope since the last failure, and the first of them, Unix milliseconds.
    fine: u32,
    probing: Probing,
    /// The route was changed since it was opened.
    changed: bool,
    /// Last time that something of our own was seen to be wrong, steady milliseconds: the clock itself may be what is wrong.
    seen_ms: Option<i64>,
    /// Its alert is raised.
    told: bool,
    /// It is over, how and by what, and the store could not write that down yet.
    unclosed: Option<(How, String)>,
}

impl Live {
    fn new(body: Body, now_ms: i64) -> Self {
        Self {
            body,
            pending: Tally::default(),
            written_ms: now_ms,
            fine: 0,
            probing: Probing::new(now_ms),
            changed: false,
            seen_ms: None,
            told: false,
            unclosed: None,
        }
    }
}

type Open = Arc<Mutex<BTreeMap<i64, Live>>>;

/// What a round needs.
#[derive(Clone)]
struct Manager {
    app: Shared,
    relay: Arc<Relay>,
    open: Open,
    tasks: TaskTracker,
    /// Incidents of our own that somebody closed although it is still wrong, by key.
    dismissed: Arc<Mutex<BTreeSet<String>>>,
}

/// Keeps incidents until the server stops.
pub async fn run(app: Shared, certificates: Vec<(String, Arc<ServerTls>)>, closing: CancellationToken) {
    let Some(relay) = app.relay.clone() else { return };
    let mut news = relay.brake_news();
    let tasks = TaskTracker::new();
    let manager =
        Manager { app: app.clone(), relay: relay.clone(), open: Open::default(), tasks, dismissed: Arc::default() };
    manager.take_up().await;
    let mut round = 0_u64;
    loop {
        if round.is_multiple_of(ROUNDS) {
            manager.refresh().await;
            manager.look_at_self(&certificates).await;
        }
        round += 1;
        manager.round().await;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = relay.incident_bell() => {}
            () = app.incidents.changed.notified() => manager.refresh().await,
            told = news.recv() => match told {
                Ok(told) => manager.braked(told).await,
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
            },
            () = closing.cancelled() => break,
        }
    }
    manager.write_counts(i64::MIN).await;
    manager.tasks.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), manager.tasks.wait()).await;
}

impl Manager {
    fn now_ms(&self) -> i64 {
        self.app.clock.now_ms()
    }

    /// At the start: open incidents go on; their brakes are on again.
    async fn take_up(&self) {
        self.refresh().await;
        let mut bodies: Vec<(i64, Body)> = Vec::new();
        for (id, live) in self.open.lock().iter() {
            bodies.push((*id, live.body.clone()));
        }
        self.end_what_was_closed().await;
        for (id, body) in bodies {
            // A defect ended with the process that had it.
            if body.reason == own::WORKER_DIED && !own::had_defects() {
                self.close(id, How::Recovered, "The server was started again.").await;
                continue;
            }
            braking::put_on(&self.relay, id, &body).await;
        }
        self.tell().await;
    }

    /// What was closed while nobody kept incidents, or just before: its brake comes off, and its alert is over.
    async fn end_what_was_closed(&self) {
        let query = RecordQuery { open: Some(false), limit: MOST_CLOSED, ..RecordQuery::open(RecordKind::Incident) };
        let closed = match book::list(&*self.app.store, query).await {
            Ok(closed) => closed,
            Err(error) => return tracing::warn!(%error, "closed incidents cannot be read"),
        };
        let brakes = self.relay.brakes().into_iter().filter(|brake| brake.released.is_none());
        let braked: BTreeSet<String> = brakes.filter_map(|brake| brake.incident).collect();
        for Incident { id, body } in closed {
            let key = opening::alert_key(Some(id), &body);
            let told = !body.is_own() && self.app.alerts.is_raised(&key).await;
            if told || braked.contains(&name(id)) {
                self.let_go(id, &body).await;
            }
        }
    }

    /// Raises alerts of what is open, unless it is snoozed.
    async fn tell(&self) {
        let now_ms = self.now_ms();
        let mut changed = Vec::new();
        for (id, live) in self.open.lock().iter_mut() {
            let tells = live.body.tells(now_ms);
            if tells != live.told {
                live.told = tells;
                changed.push((*id, live.body.clone(), tells));
            }
        }
        for (id, body, tells) in changed {
            match tells {
                true => self.app.alerts.raise(opening::alert(Some(id), &body, &self.app.rules())).await,
                false => self.app.alerts.resolve(&opening::alert_key(Some(id), &body), "snoozed").await,
            }
        }
    }

    /// Reads what is open, with what others changed.
    async fn refresh(&self) {
        let found = match book::open(&*self.app.store).await {
            Ok(found) => found,
            Err(error) => return tracing::warn!(%error, "open incidents cannot be read"),
        };
        let now_ms = self.now_ms();
        let asked: Vec<i64> = std::mem::take(&mut *self.app.incidents.probes.lock());
        let gone: Vec<i64> = {
            let mut open = self.open.lock();
            let ids: Vec<i64> = found.iter().map(|one| one.id).collect();
            for Incident { id, body } in found {
                match open.get_mut(&id) {
                    Some(live) => live.body = body,
                    None => {
                        open.insert(id, Live::new(body, now_ms));
                    }
                }
            }
            let gone = open.keys().copied().filter(|id| !ids.contains(id)).collect();
            for id in asked {
                if let Some(live) = open.get_mut(&id) {
                    live.probing.hasten(now_ms);
                }
            }
            gone
        };
        // Somebody closed them. Those of which that cannot be read now are looked at with the next round.
        let mut over = Vec::new();
        for id in gone {
            match book::find(&*self.app.store, id).await {
                Ok(found) => {
                    self.open.lock().remove(&id);
                    over.extend(found);
                }
                Err(error) => tracing::warn!(incident = %name(id), %error, "an incident cannot be read"),
            }
        }
        self.follow();
        self.tell().await;
        for Incident { id, body } in over {
            if body.is_own() {
                self.dismissed.lock().insert(body.key());
            }
            self.let_go(id, &body).await;
        }
    }

    fn follow(&self) {
        let open = self.open.lock();
        let followed = open.iter().map(|(id, live)| Followed {
            id: *id,
            scope: live.body.scope.clone(),
            reason: live.body.reason.as_str().into(),
        });
        self.relay.follow_incidents(followed.collect());
    }

    async fn round(&self) {
        let now_ms = self.now_ms();
        for tally in self.relay.incident_tallies() {
            self.count(tally);
        }
        for seen in self.relay.suspicions() {
            let route = self.relay.routes().into_iter().find(|route| *route.name == *seen.latest.sample.route);
            self.open(opening::body(&seen, route.map(|route| route.version), now_ms)).await;
        }
        // A store that says itself that it cannot is not asked again and again.
        if !matches!(self.app.store.ready(), Err(StoreError::Unhealthy(_) | StoreError::Away(_))) {
            let unkept: Vec<Body> = self.app.incidents.unkept.lock().values().cloned().collect();
            for body in unkept {
                self.open(body).await;
            }
        }
        self.write_counts(now_ms - WRITE_EVERY_MS).await;
        self.close_what_works(now_ms).await;
        self.probe_what_is_due(now_ms);
    }

    fn count(&self, tally: Tally) {
        let mut open = self.open.lock();
        let Some(live) = open.get_mut(&tally.id) else { return };
        let pending = &mut live.pending;
        pending.attempts = pending.attempts.saturating_add(tally.attempts);
        pending.recipients = pending.recipients.saturating_add(tally.recipients);
        pending.messages = pending.messages.saturating_add(tally.messages);
        pending.examples.extend(tally.examples);
        pending.examples.truncate(MOST_EXAMPLES);
        pending.last_ms = pending.last_ms.max(tally.last_ms);
        if let Some(last_ms) = tally.last_ms {
            live.body.last_ms = live.body.last_ms.max(last_ms);
            // What was fine before the failure shows nothing.
            let after = tally.fine_ms.is_some_and(|fine_ms| fine_ms > last_ms);
            live.fine = if after { tally.fine.min(1) } else { 0 };
            if live.body.brake.is_none() && live.unclosed.take().is_some() {
                live.probing.failed(last_ms);
            }
        } else {
            live.fine = live.fine.saturating_add(tally.fine);
        }
    }

    /// Opens one, or finds that it is open.
    async fn open(&self, mut body: Body) {
        let key = body.key();
        body.similar = self.similar(&key).await;
        if let Some(latest) = body.similar.first()
            && self.reopen(*latest, &body).await
        {
            self.app.incidents.unkept.lock().remove(&key);
            return;
        }
        body.changes_before = changes::before(&self.app, &body).await;
        let opened = Happened::new(EventKind::Opened, opening::summary(&body));
        match book::add(&*self.app.store, &body, &opened).await {
            Ok((id, true)) => {
                self.app.incidents.unkept.lock().remove(&key);
                tracing::warn!(incident = %name(id), scope = %body.scope, reason = %body.reason, "incident: {}", opened.text);
                self.open.lock().insert(id, Live::new(body.clone(), self.now_ms()));
                self.follow();
                self.opened(id, body).await;
            }
            Ok((_, false)) => {
                self.app.incidents.unkept.lock().remove(&key);
                self.refresh().await;
            }
            Err(error) => keep_for_later(&self.app, body, &error).await,
        }
    }

    /// Stops what has to stop, tells, and looks for the cause.
    async fn opened(&self, id: i64, body: Body) {
        if let Some(note) = braking::put_on(&self.relay, id, &body).await {
            let text =
                format!("{} stands still: mail waits, and one probe at a time finds out when it works.", note.scope);
            self.change(id, vec![Happened::new(EventKind::Braked, text)], |body| body.brake = Some(note.clone())).await;
        }
        self.tell().await;
        if body.is_own() {
            return;
        }
        let manager = self.clone();
        self.tasks.spawn(async move { manager.diagnose(id, &body).await });
    }

    async fn diagnose(&self, id: i64, body: &Body) {
        let Some(checked) = diagnose::run(&self.app, body).await else { return };
        let text = format!("A {} was run: {}.", checked.diagnosis.kind, checked.diagnosis.title.trim_end_matches('.'));
        let found = checked.diagnosis;
        self.change(id, vec![Happened::new(EventKind::Diagnosed, text)], |body| body.diagnosis = Some(found.clone()))
            .await;
    }

    async fn similar(&self, key: &str) -> Vec<i64> {
        let query =
            RecordQuery { open: Some(false), limit: SIMILAR as u32, ..RecordQuery::named(RecordKind::Incident, key) };
        let found = self.app.store.records(query).await.unwrap_or_default();
        found.iter().map(|record| record.id).collect()
    }

    /// Changes one that is open, here and in the book.
    async fn change(&self, id: i64, happened: Vec<Happened>, change: impl Fn(&mut Body)) {
        let changed = book::update(&*self.app.store, id, self.now_ms(), |body| {
            if body.state == State::Closed {
                return None;
            }
            change(body);
            Some(happened.clone())
        });
        match changed.await {
            Ok(Some(body)) => {
                if let Some(live) = self.open.lock().get_mut(&id) {
                    live.body = body;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(incident = %name(id), %error, "an incident is not changed"),
        }
    }

    /// Writes counts of incidents that were not written since then.
    async fn write_counts(&self, written_before_ms: i64) {
        let now_ms = self.now_ms();
        let due: Vec<(i64, Tally)> = {
            let mut open = self.open.lock();
            let ready = |live: &Live| {
                live.pending.attempts > 0 && (live.written_ms <= written_before_ms || written_before_ms == i64::MIN)
            };
            open.iter_mut()
                .filter(|(_, live)| ready(live))
                .map(|(id, live)| {
                    live.written_ms = now_ms;
                    (*id, std::mem::take(&mut live.pending))
                })
                .collect()
        };
        for (id, tally) in due {
            let counted = |body: &mut Body| {
                body.counts.attempts += u64::from(tally.attempts);
                body.counts.recipients += u64::from(tally.recipients);
                body.counts.messages += u64::from(tally.messages);
                body.last_ms = body.last_ms.max(tally.last_ms.unwrap_or(0));
                for example in &tally.examples {
                    let example = example.to_string();
                    if body.examples.len() < MOST_EXAMPLES && !body.examples.contains(&example) {
                        body.examples.push(example);
                    }
                }
            };
            self.change(id, Vec::new(), counted).await;
        }
    }
}

/// What `serve` begins with: defects are remembered.
pub fn prepare() {
    own::remember_defects();
}
