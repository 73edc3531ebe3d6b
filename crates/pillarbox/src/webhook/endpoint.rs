//! One webhook at work: reads what is new and what is due, tells it, writes down what came of it; then the cursor moves.
//!
//! The queue is the events themselves. What is noted besides is only what failed and what came behind it for the same
//! recipient, up to [`MOST_WAITING`]; then nothing new is read until some of it has gone. A crash repeats one round at most.

use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use store::{HookAsk, HookCursors, HookPlace, HookProgress, HookSource, HookWaiting, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::chains::{self, Fate, From, Item};
use super::health::{Gate, Health, next_attempt};
use super::payload::{self, Request};
use super::post::Poster;
use super::record::WebhookRecord;
use crate::http::{Shared, time};
use crate::serve::domains::NoteOf;

/// Events read at once.
const PAGE: u32 = 100;
/// Of those that wait, so many at once.
const AGAIN: u32 = 50;
/// Requests on their way at the same time.
const IN_FLIGHT: usize = 8;
/// Most that waits; more stays where it is, among the events.
const MOST_WAITING: u64 = 10_000;
/// The cursor is written at the latest after so many events, though there was nothing to tell.
const STRIDE: i64 = 10_000;
/// How often changes of suppressions are looked for.
const CHANGES: Duration = Duration::from_secs(2);
/// How long an answer is waited for when the server stops.
const GRACE: Duration = Duration::from_secs(3);
/// Pause when the store cannot be used.
const STORE: Duration = Duration::from_secs(2);

/// A webhook at work.
pub(super) struct Endpoint {
    pub(super) app: Shared,
    pub(super) name: String,
    pub(super) record: WebhookRecord,
    pub(super) poster: Poster,
    pub(super) stop: CancellationToken,
}

/// Where it stands.
struct Course {
    cursors: HookCursors,
    saved: HookCursors,
    waiting: u64,
    health: Health,
}

/// When there is something to do.
enum Next {
    Now,
    /// At this moment, Unix milliseconds, or when there is news.
    At(Option<i64>),
    /// At this moment and no sooner.
    NotBefore(i64),
    /// When somebody says so.
    Never,
}

/// What there is to tell.
struct Page {
    waited: Vec<Item>,
    fresh: Vec<Item>,
    /// Where the cursors stand behind it.
    upto: HookCursors,
    /// There is more.
    full: bool,
}

impl Endpoint {
    /// Works until it is stopped.
    pub(super) async fn run(self, place: HookPlace, mut news: watch::Receiver<i64>) {
        let health = Health::read(&place.state);
        let mut course = Course { cursors: place.cursors, saved: place.cursors, waiting: place.waiting, health };
        self.tell(&course.health);
        while !self.stop.is_cancelled() {
            let newest = *news.borrow_and_update();
            let next = match self.round(&mut course, newest).await {
                Ok(next) => next,
                Err(StoreError::Closed | StoreError::NotFound) => return,
                Err(error) => {
                    tracing::warn!(webhook = %self.name, %error, "a webhook waits for the store");
                    self.sleep(STORE).await;
                    continue;
                }
            };
            match next {
                Next::Now => {}
                Next::Never => self.stop.cancelled().await,
                Next::NotBefore(at_ms) => self.sleep(self.until(at_ms)).await,
                Next::At(at_ms) => {
                    let mut wait = at_ms.map(|at_ms| self.until(at_ms));
                    if self.record.wants_changes() {
                        wait = Some(wait.map_or(CHANGES, |wait| wait.min(CHANGES)));
                    }
                    tokio::select! {
                        changed = news.changed() => if changed.is_err() { return },
                        () = self.sleep(wait.unwrap_or(Duration::MAX)) => {}
                    }
                }
            }
        }
    }

    fn until(&self, at_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(at_ms - self.app.clock.now_ms()).unwrap_or(0))
    }

    async fn sleep(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Tells a page, and writes down what came of it.
    async fn round(&self, course: &mut Course, newest: i64) -> Result<Next, StoreError> {
        let now_ms = self.app.clock.now_ms();
        let most = match course.health.gate(now_ms) {
            Gate::Paused => return Ok(Next::Never),
            Gate::Shut(at_ms) => return Ok(Next::NotBefore(at_ms)),
            Gate::Probe => 1,
            Gate::Open => PAGE,
        };
        let page = self.read(course, most, newest).await?;
        let full = page.full;
        if page.waited.is_empty() && page.fresh.is_empty() {
            course.cursors = page.upto;
            if page.upto.events - course.saved.events >= STRIDE || page.upto.suppressions != course.saved.suppressions {
                self.save(course, HookProgress::default()).await?;
            }
        } else {
            self.tell_page(course, page, most == 1).await?;
        }
        if full || newest > course.cursors.events && course.waiting < MOST_WAITING {
            return Ok(Next::Now);
        }
        Ok(Next::At(self.app.store.hook_next_due(self.name.clone()).await?))
    }

    async fn read(&self, course: &Course, most: u32, newest: i64) -> Result<Page, StoreError> {
        let (store, now_ms) = (&self.app.store, self.app.clock.now_ms());
        let due = store.hook_due(self.name.clone(), now_ms, most.min(AGAIN)).await?;
        let mut full = due.len() as u32 == most.min(AGAIN);
        let mut page =
            Page { waited: self.remembered(due).await?, fresh: Vec::new(), upto: course.cursors, full: false };
        let room = most.saturating_sub(u32::try_from(page.waited.len()).unwrap_or(u32::MAX));
        if room > 0 && course.waiting < MOST_WAITING {
            full |= self.read_events(&mut page, room, newest).await?;
            let room = room.saturating_sub(u32::try_from(page.fresh.len()).unwrap_or(u32::MAX));
            if room > 0 && self.record.wants_changes() {
                full |= self.read_changes(&mut page, room).await?;
            }
        }
        page.full = full;
        Ok(page)
    }

    async fn read_events(&self, page: &mut Page, room: u32, newest: i64) -> Result<bool, StoreError> {
        let kinds = self.record.kinds();
        if newest <= page.upto.events {
            return Ok(false);
        }
        if kinds.is_empty() {
            page.upto = HookCursors { events: newest, part: 0, ..page.upto };
            return Ok(false);
        }
        let found = self.app.store.told_after(HookAsk { after: page.upto, kinds, limit: room }).await?;
        page.upto = found.upto;
        let full = found.items.len() as u32 >= room;
        let rules = self.app.rules();
        let now_ms = self.app.clock.now_ms();
        for told in found.items.iter().filter(|told| self.record.wants(told)) {
            let (seq, n) = (told.event.seq, told.event.n.unwrap_or_default());
            let parts: [&[u8]; 2] = [&told.event.message.0.to_le_bytes(), &n.to_le_bytes()];
            let key = payload::key(HookSource::Event, &parts);
            let note = chains::untried(HookSource::Event, seq, n, key, now_ms);
            page.fresh.push(Item { from: From::Fresh, note, request: Some(payload::of_event(told, &rules)) });
        }
        Ok(full)
    }

    async fn read_changes(&self, page: &mut Page, room: u32) -> Result<bool, StoreError> {
        let found = self.app.store.suppression_changes(page.upto.suppressions, room).await?.changes;
        let now_ms = self.app.clock.now_ms();
        for change in &found {
            page.upto.suppressions = change.seq;
            if self.record.wants_change(change) {
                let address = store::address_key(&change.address);
                let key = payload::key(HookSource::Suppression, &[address.as_bytes()]);
                let note = chains::untried(HookSource::Suppression, change.seq, 0, key, now_ms);
                page.fresh.push(Item { from: From::Fresh, note, request: Some(payload::of_change(change)) });
            }
        }
        Ok(found.len() as u32 >= room)
    }

    /// What waited, with its requests made anew.
    async fn remembered(&self, due: Vec<HookWaiting>) -> Result<Vec<Item>, StoreError> {
        let store = &self.app.store;
        let events: Vec<(i64, u32)> =
            due.iter().filter(|one| one.source == HookSource::Event).map(|one| (one.seq, one.n)).collect();
        let mut told = Vec::new();
        if !events.is_empty() {
            let rules = self.app.rules();
            let found = store.told(events).await?;
            told = found.iter().map(|told| told.as_ref().map(|told| payload::of_event(told, &rules))).collect();
        }
        let mut told = told.into_iter();
        let mut items = Vec::new();
        for note in due {
            let request: Option<Request> = match note.source {
                HookSource::Event => told.next().flatten(),
                HookSource::Suppression => {
                    let found = store.suppression_changes(note.seq - 1, 1).await?.changes;
                    found.first().filter(|change| change.seq == note.seq).map(payload::of_change)
                }
            };
            items.push(Item { from: From::Waiting, note, request });
        }
        Ok(items)
    }

    async fn tell_page(&self, course: &mut Course, page: Page, probing: bool) -> Result<(), StoreError> {
        let keys: Vec<i64> = page.fresh.iter().map(|item| item.note.key).collect();
        let blocked = match keys.is_empty() || course.waiting == 0 {
            true => Vec::new(),
            false => self.app.store.hook_keys(self.name.clone(), keys).await?,
        };
        let (behind, fresh): (Vec<Item>, Vec<Item>) =
            page.fresh.into_iter().partition(|item| blocked.contains(&item.note.key));
        let health = Mutex::new((course.health.clone(), false));
        let walks = chains::chains(page.waited, fresh).into_iter().map(|chain| self.walk(chain, &health, probing));
        let walked: Vec<Vec<(Item, Fate)>> =
            futures_util::stream::iter(walks).buffer_unordered(IN_FLIGHT).collect().await;
        let mut items: Vec<(Item, Fate)> = behind.into_iter().map(|item| (item, Fate::Untried)).collect();
        items.extend(walked.into_iter().flatten());

        let mut progress = HookProgress::default();
        let now_ms = self.app.clock.now_ms();
        for (item, fate) in &items {
            chains::note(&mut progress, item, fate, now_ms);
        }
        let (more, fewer) = chains::difference(&progress, &items);
        let (health, recovered) = health.into_inner();
        course.health = health;
        course.cursors = page.upto;
        self.save(course, progress).await?;
        course.waiting = (course.waiting + more).saturating_sub(fewer);
        if recovered {
            self.app.store.hook_hasten(self.name.clone(), now_ms).await?;
        }
        self.tell(&course.health);
        Ok(())
    }

    /// Tells the items of a chain, each only if the one before was taken.
    async fn walk(&self, chain: Vec<Item>, health: &Mutex<(Health, bool)>, probing: bool) -> Vec<(Item, Fate)> {
        let mut walked = Vec::new();
        let mut goes_on = true;
        for item in chain {
            let fate = if goes_on { self.attempt(&item, health, probing).await } else { Fate::Untried };
            goes_on = matches!(fate, Fate::Taken(_) | Fate::GivenUp(_) | Fate::Gone);
            walked.push((item, fate));
        }
        walked
    }

    async fn attempt(&self, item: &Item, health: &Mutex<(Health, bool)>, probing: bool) -> Fate {
        let Some(request) = &item.request else { return Fate::Gone };
        let is_open = health.lock().0.gate(self.app.clock.now_ms()) == Gate::Open;
        if self.stop.is_cancelled() || !(is_open || probing) {
            return Fate::Untried;
        }
        let answer = tokio::select! {
            answer = self.poster.post(request) => answer,
            // What is not known to have been taken is told again.
            () = async { self.stop.cancelled().await; tokio::time::sleep(GRACE).await } => return Fate::Untried,
        };
        let now_ms = self.app.clock.now_ms();
        let mut health = health.lock();
        if answer.taken() {
            health.1 |= health.0.taken(now_ms);
            return Fate::Taken(answer);
        }
        health.0.refused(now_ms, &answer.problem, answer.refused());
        let first_ms = if item.note.first_ms == 0 { now_ms } else { item.note.first_ms };
        match next_attempt(item.note.attempts + 1, first_ms, now_ms, rand::random()) {
            Some(due_ms) => Fate::Again(answer, due_ms),
            // Nothing is given up because of an endpoint that takes nothing at all: it will be paused.
            None if health.0.failures > 1 && (health.0.is_down() || health.0.paused.is_some()) => {
                Fate::Again(answer, now_ms)
            }
            None => Fate::GivenUp(answer),
        }
    }

    /// Writes down where it stands. What was told is told: it is offered to the store until it takes it.
    async fn save(&self, course: &mut Course, progress: HookProgress) -> Result<(), StoreError> {
        let state = serde_json::to_value(&course.health).unwrap_or_default();
        let progress = HookProgress { cursors: Some(course.cursors), state, ..progress };
        loop {
            match self.app.store.hook_progress(self.name.clone(), progress.clone()).await {
                Ok(_) => {
                    course.saved = course.cursors;
                    return Ok(());
                }
                Err(error @ (StoreError::Closed | StoreError::NotFound)) => return Err(error),
                Err(error) => {
                    tracing::warn!(webhook = %self.name, %error, "the progress of a webhook cannot be written yet");
                    self.sleep(STORE).await;
                    if self.stop.is_cancelled() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Says in status and log when an operator has to do something.
    fn tell(&self, health: &Health) {
        let name = &self.name;
        let since = health.failing_since_ms.map(time::show).unwrap_or_default();
        let why = health.last_failure.as_ref().map_or("", |failure| failure.why.as_str());
        let line = match &health.paused {
            Some(paused) => format!(
                "The webhook {name} is paused since {}: {}. Nothing is lost; when it is mended: pillarbox webhook resume {name}",
                time::show(paused.since_ms),
                paused.why
            ),
            None if health.is_down() => {
                format!(
                    "The webhook {name} takes nothing since {since}: {why}. See: pillarbox webhook deliveries {name}"
                )
            }
            None => String::new(),
        };
        let lines = if line.is_empty() { Vec::new() } else { vec![line] };
        self.app.domains.note(NoteOf::Webhook, &note_subject(name), lines);
    }
}

/// What the notes on a webhook are filed under.
pub(super) fn note_subject(name: &str) -> String {
    format!("webhook {name}")
}
