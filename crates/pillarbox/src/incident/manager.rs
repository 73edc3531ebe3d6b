//! Keeps incidents: opens them from evidence, counts, brakes, diagnoses, and closes what is fixed.
//!
//! What is kept is in records; memory only holds what is told with the next write, so a restart takes open incidents up
//! again. A count is written every few seconds at most. What the store cannot keep now is told by the log and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use net::ServerTls;
use parking_lot::Mutex;
use relay::Relay;
use relay::brake::{BrakeScope, ProbeOutcome};
use relay::incident::{Followed, Tally};
use store::{IncidentScope, Operation, RecordKind, RecordQuery, Selector, State as RecipientState};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::book::{self, Incident};
use super::model::{Body, Closed, EventKind, Happened, How, MOST_EXAMPLES, State, name};
use super::own::{Look, Wrong};
use super::probe::Probing;
use super::{braking, changes, diagnose, opening, own};
use crate::http::Shared;
use crate::http::api::incidents::ProbeOut;

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
/// A check that passes shows nothing while mail still fails: so long it must not have, milliseconds.
const STILL_MS: i64 = 5_000;
/// What was not seen for so long is over, milliseconds.
const QUIET_MS: i64 = 86_400_000;
/// Closed incidents named as similar.
const SIMILAR: usize = 5;
/// What is wrong with the program or the machine is over when it was not seen for so long, milliseconds.
const STEADY_MS: i64 = 10_000;

/// For handlers: tells the manager that somebody changed something.
#[derive(Debug, Default)]
pub struct Incidents {
    changed: Notify,
    probes: Mutex<Vec<i64>>,
}

impl Incidents {
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
    /// Last time that something of our own was seen to be wrong, Unix milliseconds.
    seen_ms: i64,
    /// Its alert is raised.
    told: bool,
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
            seen_ms: now_ms,
            told: false,
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
    /// Incidents the store could not keep yet, by key.
    unkept: Arc<Mutex<BTreeMap<String, Body>>>,
    /// Incidents of our own that somebody closed although it is still wrong, by key.
    dismissed: Arc<Mutex<BTreeSet<String>>>,
}

/// Keeps incidents until the server stops.
pub async fn run(app: Shared, certificates: Vec<(String, Arc<ServerTls>)>, closing: CancellationToken) {
    let Some(relay) = app.relay.clone() else { return };
    let mut news = relay.brake_news();
    let tasks = TaskTracker::new();
    let manager = Manager {
        app: app.clone(),
        relay: relay.clone(),
        open: Open::default(),
        tasks,
        unkept: Arc::default(),
        dismissed: Arc::default(),
    };
    manager.take_up().await;
    let mut look = Look::default();
    let mut round = 0_u64;
    loop {
        if round.is_multiple_of(ROUNDS) {
            manager.refresh().await;
            manager.look_at_self(&mut look, &certificates).await;
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
        for (id, body) in bodies {
            // A defect ended with the process that had it.
            if body.reason == own::WORKER_DIED {
                self.close(id, How::Recovered, "The server was started again.").await;
                continue;
            }
            braking::put_on(&self.relay, id, &body).await;
        }
        self.tell().await;
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
                true => self.app.alerts.raise(opening::alert(id, &body, &self.app.rules())).await,
                false => self.app.alerts.resolve(&opening::alert_key(id), "snoozed").await,
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
            open.retain(|id, _| ids.contains(id));
            for id in asked {
                if let Some(live) = open.get_mut(&id) {
                    live.probing.hasten(now_ms);
                }
            }
            gone
        };
        self.follow();
        self.tell().await;
        // Somebody closed them.
        for id in gone {
            if let Ok(Some(Incident { body, .. })) = book::find(&*self.app.store, id).await {
                if body.is_own() {
                    self.dismissed.lock().insert(body.key());
                }
                self.let_go(id, &body).await;
            }
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
        let unkept: Vec<Body> = self.unkept.lock().values().cloned().collect();
        for body in unkept {
            self.open(body).await;
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
        } else {
            live.fine = live.fine.saturating_add(tally.fine);
        }
    }

    /// Opens one, or finds that it is open.
    async fn open(&self, mut body: Body) {
        let key = body.key();
        body.similar = self.similar(&key).await;
        body.changes_before = changes::before(&self.app, &body).await;
        let opened = Happened::new(EventKind::Opened, opening::summary(&body));
        match book::add(&*self.app.store, &body, &opened).await {
            Ok((id, true)) => {
                self.unkept.lock().remove(&key);
                tracing::warn!(incident = %name(id), scope = %body.scope, reason = %body.reason, "incident: {}", opened.text);
                self.open.lock().insert(id, Live::new(body.clone(), self.now_ms()));
                self.follow();
                self.opened(id, body).await;
            }
            Ok((_, false)) => {
                self.unkept.lock().remove(&key);
                self.refresh().await;
            }
            Err(error) => {
                let mut unkept = self.unkept.lock();
                if !unkept.contains_key(&key) && unkept.len() < 100 {
                    tracing::error!(%error, %key, "an incident that the store cannot keep: {}", opened.text);
                    unkept.insert(key, body);
                }
            }
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

    /// Closes incidents whose mail is delivered again, and those that were not seen for long.
    async fn close_what_works(&self, now_ms: i64) {
        let verdict = |live: &Live| {
            let since = now_ms - live.body.last_ms;
            if live.body.is_own() || live.body.brake.is_some() {
                None
            } else if (live.fine >= DELIVERED.0 && since >= DELIVERED.1) || (live.fine > 0 && since >= SETTLED_MS) {
                Some((
                    How::Delivered,
                    format!("Mail is delivered again: {} recipients since the last failure.", live.fine),
                ))
            } else {
                (since >= QUIET_MS).then(|| (How::Quiet, "It was not seen for a day.".to_owned()))
            }
        };
        let over: Vec<_> = self
            .open
            .lock()
            .iter()
            .filter_map(|(id, live)| verdict(live).map(|(how, what)| (*id, how, what)))
            .collect();
        for (id, how, what) in over {
            self.close(id, how, &what).await;
        }
    }

    /// Closes one and lets its mail go.
    async fn close(&self, id: i64, how: How, what: &str) {
        let now_ms = self.now_ms();
        let closed = book::update(&*self.app.store, id, now_ms, |body| {
            if body.state == State::Closed {
                return None;
            }
            body.state = State::Closed;
            body.closed = Some(Closed { at_ms: now_ms, how, what: what.to_owned(), by: None });
            Some(vec![Happened::new(EventKind::Closed, what)])
        });
        match closed.await {
            Ok(Some(body)) => {
                self.open.lock().remove(&id);
                self.follow();
                self.let_go(id, &body).await;
            }
            Ok(None) => {
                self.open.lock().remove(&id);
            }
            Err(error) => tracing::warn!(incident = %name(id), %error, "an incident is not closed yet"),
        }
    }

    /// What was closed, by whomever: brakes come off, mail is due, the alert is over.
    async fn let_go(&self, id: i64, body: &Body) {
        let what = body.closed.as_ref().map_or("closed", |closed| closed.what.as_str());
        tracing::info!(incident = %name(id), scope = %body.scope, reason = %body.reason, "incident is over: {what}");
        self.relay.forget_evidence(&body.scope, &body.reason);
        self.app.alerts.resolve(&opening::alert_key(id), what).await;
        if braking::take_off(&self.relay, id).await {
            return;
        }
        if let Some(selector) = waiting(body) {
            let retried = self.relay.operate(selector, Operation::Retry, format!("incident {}", name(id))).await;
            match retried {
                Ok(0) => {}
                Ok(count) => {
                    let text = format!("{count} recipients that waited are due.");
                    let noted = Happened::new(EventKind::Released, text);
                    let _ = book::note(&*self.app.store, id, &noted, self.now_ms()).await;
                }
                Err(error) => tracing::warn!(incident = %name(id), %error, "mail waits until it would have been due"),
            }
        }
    }

    /// Probes those without a brake whose time has come. One that shows that it works closes the incident.
    fn probe_what_is_due(&self, now_ms: i64) {
        let routes = self.relay.routes();
        let version = |name: &Option<String>| {
            routes.iter().find(|route| Some(&*route.name) == name.as_deref()).map(|route| route.version)
        };
        let mut due = Vec::new();
        for (id, live) in self.open.lock().iter_mut() {
            let aim = &live.body.aim;
            if !live.changed && aim.route.is_some() && version(&aim.route) != aim.route_version {
                live.changed = true;
                live.probing.hasten(now_ms);
            }
            if live.body.is_own() || live.body.brake.is_some() || !live.probing.begin(now_ms) {
                continue;
            }
            due.push((*id, live.body.clone(), live.changed));
        }
        for (id, body, changed) in due {
            let manager = self.clone();
            self.tasks.spawn(async move { manager.probe(id, &body, changed).await });
        }
    }

    async fn probe(&self, id: i64, body: &Body, changed: bool) {
        let works = diagnose::run(&self.app, body).await.and_then(|checked| checked.works);
        // Only a check that has seen the failure can show that it is gone.
        let reproduced = body.diagnosis.as_ref().is_some_and(|before| !before.healthy);
        let last_ms = self.open.lock().get(&id).map_or(i64::MAX, |live| live.body.last_ms);
        let still_ms = self.now_ms().saturating_sub(last_ms);
        if works == Some(true) && reproduced && still_ms < STILL_MS {
            if let Some(live) = self.open.lock().get_mut(&id) {
                live.probing.passed_too_soon(self.now_ms() + STILL_MS - still_ms.max(0));
            }
            return;
        }
        if works == Some(true) && reproduced {
            let route = body.aim.route.as_deref().unwrap_or_default();
            return match changed {
                true => {
                    self.close(id, How::Setting, &format!("Route {route} was changed, and its check passes.")).await
                }
                false => self.close(id, How::Probe, "A probe went well: what failed works again.").await,
            };
        }
        let now_ms = self.now_ms();
        if let Some(live) = self.open.lock().get_mut(&id) {
            live.probing.failed(now_ms);
        }
    }

    /// What brakes tell.
    async fn braked(&self, told: relay::brake::BrakeNews) {
        use relay::brake::BrakeNews as News;
        match told {
            News::Braked { incident: Some(incident), cause, at_ms, .. } => self.again(incident, &cause, at_ms).await,
            // Evidence opens what is not open yet: the rejected sign-in is settled as an attempt.
            News::Braked { incident: None, .. } => {}
            News::ProbeFailed { incident, next_ms, cause, .. } => {
                let text = format!("A probe failed: {}", crate::http::words::failure(&cause.failure));
                let note = move |body: &mut Body| {
                    if let Some(brake) = &mut body.brake {
                        brake.next_ms = Some(next_ms);
                    }
                };
                self.change(incident, vec![Happened::new(EventKind::ProbeFailed, text)], note).await;
            }
            News::SettingChanged { scope, incident, .. } => {
                if let Some(live) = self.open.lock().get_mut(&incident) {
                    live.changed = true;
                }
                let text = format!("{scope}: its route was changed, it is probed at once.");
                self.change(incident, vec![Happened::new(EventKind::Changed, text)], |_| {}).await;
            }
            News::ProbeSucceeded { scope, incident, .. } => self.probe_succeeded(&scope, incident).await,
            News::Released { incident, recipients, .. } => {
                let text = format!("All held mail was let go: {recipients} recipients.");
                let noted = Happened::new(EventKind::Released, text);
                if let Err(error) = book::note(&*self.app.store, incident, &noted, self.now_ms()).await {
                    tracing::warn!(incident = %name(incident), %error, "its history is not written");
                }
            }
        }
    }

    /// While its mail was let go it failed as before: the same incident goes on, and there is no second one.
    async fn again(&self, id: i64, cause: &store::Cause, at_ms: i64) {
        let text = format!("It fails as before: {}", crate::http::words::failure(&cause.failure));
        let opened = book::update(&*self.app.store, id, at_ms, |body| {
            if body.state != State::Closed {
                return None;
            }
            (body.state, body.closed, body.last_ms) = (State::Open, None, body.last_ms.max(at_ms));
            Some(vec![Happened::new(EventKind::Opened, text.as_str())])
        });
        match opened.await {
            Ok(Some(body)) => {
                tracing::warn!(incident = %name(id), scope = %body.scope, "incident is open again: {text}");
                self.open.lock().insert(id, Live::new(body.clone(), self.now_ms()));
                self.follow();
                self.app.alerts.raise(opening::alert(id, &body, &self.app.rules())).await;
            }
            Ok(None) => {}
            // Another one was opened for the same meanwhile: it has the brake too.
            Err(error) => tracing::warn!(incident = %name(id), %error, "an incident is not opened again"),
        }
    }

    async fn probe_succeeded(&self, scope: &relay::brake::BrakeScope, incident: Option<i64>) {
        let of_scope = |(id, live): (&i64, &Live)| {
            let braked = live.body.brake.as_ref().is_some_and(|brake| brake.scope == scope.to_string());
            (Some(*id) == incident || braked).then_some((*id, live.changed, live.body.aim.route.clone()))
        };
        let over: Vec<_> = self.open.lock().iter().filter_map(of_scope).collect();
        for (id, changed, route) in over {
            let text = format!("A probe of {scope} went well.");
            self.change(id, vec![Happened::new(EventKind::ProbeSucceeded, text)], |_| {}).await;
            match (changed, route) {
                (true, Some(route)) => {
                    self.close(id, How::Setting, &format!("Route {route} was changed, and its probe went well.")).await;
                }
                _ => self.close(id, How::Probe, &format!("A probe of {scope} went well without a change here.")).await,
            }
        }
    }

    /// Opens and closes incidents of Pillarbox itself.
    async fn look_at_self(&self, look: &mut Look, certificates: &[(String, Arc<ServerTls>)]) {
        let now_ms = self.now_ms();
        let steady_ms = i64::try_from(self.app.clock.mono_us() / 1_000).unwrap_or(i64::MAX);
        if look.clocks(now_ms, steady_ms) {
            self.relay.time_has_leapt();
        }
        let wrong = look.look(&*self.app.store, &self.relay, certificates, now_ms, steady_ms).await;
        let same = |body: &Body, one: &Wrong| {
            matches!(&body.scope, IncidentScope::Itself(part) if *part == one.part) && body.reason == one.reason
        };
        let key = |one: &Wrong| format!("{}|{}", IncidentScope::Itself(one.part.clone()), one.reason);
        self.dismissed.lock().retain(|known| wrong.iter().any(|one| key(one) == *known));
        let mut over = Vec::new();
        {
            let mut open = self.open.lock();
            for (id, live) in open.iter_mut().filter(|(_, live)| live.body.is_own()) {
                if wrong.iter().any(|one| same(&live.body, one)) {
                    live.seen_ms = now_ms;
                } else if now_ms - live.seen_ms >= STEADY_MS && live.body.reason != own::WORKER_DIED {
                    over.push(*id);
                }
            }
            self.unkept.lock().retain(|_, body| {
                !body.is_own() || body.reason == own::WORKER_DIED || wrong.iter().any(|one| same(body, one))
            });
        }
        for one in wrong {
            let known = self.open.lock().values().any(|live| same(&live.body, &one));
            if !known && !self.dismissed.lock().contains(&key(&one)) {
                self.open(opening::own(&one.part, one.reason, one.severity, one.detail, now_ms)).await;
            }
        }
        for id in over {
            self.close(id, How::Recovered, "It is as it should be again.").await;
        }
    }
}

/// The mail that waits for what an incident is about.
fn waiting(body: &Body) -> Option<Selector> {
    let mut selector = Selector {
        state: Some(RecipientState::Waiting),
        cause: Some(body.rule.clone()?),
        route: body.aim.route.clone(),
        ..Selector::default()
    };
    match &body.scope {
        IncidentScope::Domain(domain) => selector.domain = Some(domain.clone()),
        IncidentScope::Stream(stream) => selector.stream = Some(stream.clone()),
        IncidentScope::Sender(sender) => selector.sender = Some(sender.clone()),
        IncidentScope::Route(_) | IncidentScope::Credential(_) => {}
        // Other routes may have met it too.
        _ => selector.route = None,
    }
    Some(selector)
}

/// What `serve` begins with: defects are remembered.
pub fn prepare() {
    own::remember_defects();
}

/// A probe that somebody asks for: of the brake, or the check that fits. One that shows that it works closes the incident.
pub async fn probe_now(app: &Shared, one: &Incident) -> ProbeOut {
    let told = |works, text: String| ProbeOut { works, text };
    let Some(relay) = &app.relay else { return told(None, "The server is not running.".into()) };
    let brake = one.body.brake.as_ref().and_then(|brake| brake.scope.parse::<BrakeScope>().ok());
    let Some(scope) = brake else {
        let checked = diagnose::run(app, &one.body).await;
        let Some(checked) = checked else { return told(None, "There is nothing to probe for it.".into()) };
        if checked.works == Some(true) {
            app.incidents.probe(one.id);
        }
        return match checked.works {
            Some(true) => told(Some(true), "What failed works again.".into()),
            Some(false) => told(Some(false), format!("It still fails: {}.", checked.diagnosis.title)),
            None => told(None, format!("The check cannot tell: {}.", checked.diagnosis.title)),
        };
    };
    match relay.probe(&scope).await {
        ProbeOutcome::Succeeded => told(Some(true), format!("{scope} works again: the incident is being closed.")),
        ProbeOutcome::Failed { cause, next_ms } => {
            let next = next_ms.map(|at| format!(" The next probe goes at {}.", crate::http::time::show(at)));
            let what = crate::http::words::failure(&cause.failure);
            told(Some(false), format!("It still fails: {what}.{}", next.unwrap_or_default()))
        }
        ProbeOutcome::NothingToTry => told(None, "Only mail could show it, and none is held.".into()),
        ProbeOutcome::NotNow => told(None, "A probe is under way, or the brake has come off.".into()),
    }
}
