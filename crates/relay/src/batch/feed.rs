//! The feeder: makes messages of rows, in order, while there is room for them, and not faster than their batch may go.
//!
//! It keeps nothing that matters: which rows are done with is marked in the transaction that accepts their message. A row that
//! cannot become a message now is tried again; one that never can is marked with the reason.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use proto::message::Protocol;
use store::{BatchChange, BatchId, BatchRow, BatchState, BatchView, Origin, RowRef, StoreError};

use super::{BatchPart, Rendered, Renderer, Template};
use crate::accept::{Door, Submission};
use crate::refusal::{Refusal, RefusalKind};
use crate::sender::Sender;
use crate::shared::Shared;

/// Longest sleep.
const NAP_MS: i64 = 1_000;
/// Shortest sleep while there is no room.
const SOON_MS: i64 = 100;
/// Pause after something stood in the way.
const AGAIN_MS: i64 = 10_000;
/// Messages of one batch that wait for their first attempt.
const FRESH: u64 = 2_000;
/// Octets of one batch's messages that are not final.
const OCTETS: u64 = 256 << 20;
/// Rows made into messages in one turn.
const TURN: usize = 200;
/// Octets rendered in one turn.
const TURN_OCTETS: usize = 4 << 20;
/// Rows read at once.
const PAGE: u32 = 500;
/// Rows that have to be tried again, in memory.
const LATER: usize = 1_000;
/// Batches looked after at once, oldest first.
const BATCHES: u32 = 1_000;

/// A batch at work.
struct Feeding {
    view: BatchView,
    /// While there are rows to make messages of.
    template: Option<Arc<dyn Template>>,
    /// Rows read and not yet made into messages.
    ahead: VecDeque<BatchRow>,
    /// Rows that could not become messages for now.
    later: Vec<BatchRow>,
    /// The last row that was read.
    after: Option<u32>,
    /// All rows have been read.
    read: bool,
    /// Rows done with.
    done: u32,
    /// When rows were last made into messages, Unix milliseconds.
    fed_ms: i64,
    not_before_ms: i64,
    note: Option<String>,
}

/// What became of a row.
enum Fate {
    Message,
    /// Done with already, or the batch has stopped.
    NotWanted,
    /// Never.
    Refused,
    /// Not now: why, and how long to wait at least, milliseconds.
    Later(BatchRow, String, i64),
    /// No row of this batch, until somebody has looked at it.
    Pause(BatchRow, String),
}

/// Feeds until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>, renderer: Arc<dyn Renderer>) {
    let mut all: HashMap<BatchId, Feeding> = HashMap::new();
    while shared.until_lead().await && !shared.is_stopping() {
        let wait_ms = match round(&shared, &renderer, &mut all).await {
            Ok(wait_ms) => wait_ms,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "batches wait");
                NAP_MS
            }
        };
        if wait_ms > 0 {
            tokio::select! {
                () = shared.batch_wake.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(wait_ms.min(NAP_MS) as u64)) => {}
                () = shared.stopping.cancelled() => {}
            }
        }
    }
}

/// One turn of every running batch; gives how long to wait until the next, milliseconds.
async fn round(
    shared: &Arc<Shared>,
    renderer: &Arc<dyn Renderer>,
    all: &mut HashMap<BatchId, Feeding>,
) -> Result<i64, StoreError> {
    let running = shared.store.running_batches(BATCHES).await?;
    all.retain(|id, _| running.iter().any(|view| view.id == *id));
    let mut wait_ms = NAP_MS;
    for view in running {
        if shared.is_stopping() {
            break;
        }
        let id = view.id;
        let feeding = match all.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if view.start_ms > shared.now_ms() => continue,
            Entry::Vacant(place) => place.insert(Feeding::new(view.clone(), shared.now_ms())),
        };
        feeding.view = view;
        wait_ms = wait_ms.min(feeding.turn(shared, renderer).await?);
    }
    Ok(wait_ms)
}

impl Feeding {
    fn new(view: BatchView, now_ms: i64) -> Self {
        Self {
            done: view.fed + view.refused,
            note: view.why.clone(),
            view,
            template: None,
            ahead: VecDeque::new(),
            later: Vec::new(),
            after: None,
            read: false,
            fed_ms: now_ms,
            not_before_ms: 0,
        }
    }

    /// The batch's template; one that cannot be read pauses its batch.
    async fn template(
        &mut self,
        shared: &Shared,
        renderer: &Arc<dyn Renderer>,
    ) -> Result<Option<Arc<dyn Template>>, StoreError> {
        if self.template.is_none() {
            let id = self.view.id;
            let body = match shared.store.batch_body(id).await {
                // Canceled meanwhile.
                Err(StoreError::NotFound) => return Ok(None),
                body => body?,
            };
            match renderer.open(&body) {
                Ok(template) => self.template = Some(template),
                Err(error) => {
                    tracing::error!(batch = %id, %error, "the template of a batch cannot be used: it is paused");
                    let why = format!("its template cannot be used: {error}");
                    shared.store.change_batch(id, BatchChange::Pause { why }, shared.now_ms()).await?;
                }
            }
        }
        Ok(self.template.clone())
    }

    /// Makes some messages; gives how long to wait until the next turn, milliseconds.
    async fn turn(&mut self, shared: &Arc<Shared>, renderer: &Arc<dyn Renderer>) -> Result<i64, StoreError> {
        let now_ms = shared.now_ms();
        if now_ms < self.not_before_ms {
            return Ok(self.not_before_ms - now_ms);
        }
        if !self.read_ahead(shared, now_ms).await? {
            return Ok(NAP_MS);
        }
        let (due, next_ms) = self.due(now_ms);
        if due == 0 {
            return Ok(next_ms);
        }
        let load = shared.store.batch_load(self.view.id).await?;
        let room = FRESH.saturating_sub(load.fresh).min(u64::from(due)).min(TURN as u64) as usize;
        if room == 0 || load.octets >= OCTETS {
            // Counting costs in proportion to what is open.
            return Ok(SOON_MS + load.open as i64 / 50);
        }
        let Some(sender) = self.sender(shared, renderer).await? else { return Ok(NAP_MS) };
        let Some(template) = self.template(shared, renderer).await? else { return Ok(NAP_MS) };
        let fates = self.make(shared, &sender, template, room.min(self.ahead.len())).await;
        self.fed_ms = now_ms;
        self.heed(shared, fates).await
    }

    /// How many rows may become messages now, and how long to wait if none may, milliseconds. A batch that is behind its
    /// time catches up at twice its pace, not at once.
    fn due(&self, now_ms: i64) -> (u32, i64) {
        let Some(spread_ms) = self.view.spread_ms.filter(|spread| *spread > 0) else { return (u32::MAX, 0) };
        let total = i128::from(self.view.total.max(1));
        let passed = i128::from((now_ms - self.view.start_ms - self.view.paused_ms).max(0));
        let planned = (passed * total / i128::from(spread_ms) + 1).min(total);
        let behind = planned - i128::from(self.done);
        if behind <= 0 {
            let at = i128::from(self.done) * i128::from(spread_ms) / total;
            return (0, i64::try_from(at - passed).unwrap_or(NAP_MS).clamp(1, NAP_MS));
        }
        let since = i128::from((now_ms - self.fed_ms).max(0));
        let pace = (since * total * 2 / i128::from(spread_ms)).max(1);
        (u32::try_from(behind.min(pace)).unwrap_or(u32::MAX), 0)
    }

    /// Sees to it that there are rows; false if there are none now. A batch without any is finished.
    async fn read_ahead(&mut self, shared: &Shared, now_ms: i64) -> Result<bool, StoreError> {
        if self.ahead.is_empty() && !self.read && self.later.len() < LATER {
            let rows = shared.store.next_rows(self.view.id, self.after, PAGE).await?;
            self.after = rows.last().map(|row| row.n).or(self.after);
            self.read = rows.is_empty();
            self.ahead.extend(rows);
        }
        if !self.ahead.is_empty() {
            return Ok(true);
        }
        if !self.later.is_empty() {
            self.ahead.extend(self.later.drain(..));
            self.not_before_ms = now_ms + AGAIN_MS;
            return Ok(false);
        }
        self.template = None;
        let view = shared.store.change_batch(self.view.id, BatchChange::Finish, now_ms).await?;
        if view.state == BatchState::Running {
            let rows_left = view.fed + view.refused < view.total;
            if rows_left {
                // Some were not wanted, though now they are: look at all of them again.
                (self.after, self.read) = (None, false);
            }
            // Otherwise its messages are on their way, for moments or for days.
            let lately = now_ms - self.fed_ms < 60_000 && !rows_left;
            self.not_before_ms = now_ms + if lately { NAP_MS } else { AGAIN_MS };
        }
        Ok(false)
    }

    /// Whose messages these are. Without one the batch is paused.
    async fn sender(&self, shared: &Shared, renderer: &Arc<dyn Renderer>) -> Result<Option<Arc<Sender>>, StoreError> {
        let name = &self.view.sender;
        let found = shared.directory().sender(name).cloned().or_else(|| renderer.sender(name));
        if let Some(sender) = found.filter(|sender| !sender.record.disabled) {
            return Ok(Some(sender));
        }
        let why = format!("sender {name} is disabled or was removed");
        shared.store.change_batch(self.view.id, BatchChange::Pause { why }, shared.now_ms()).await?;
        Ok(None)
    }

    /// Renders and submits at most `most` rows, all at the same time so that they share a commit.
    async fn make(
        &mut self,
        shared: &Arc<Shared>,
        sender: &Arc<Sender>,
        template: Arc<dyn Template>,
        most: usize,
    ) -> Vec<Fate> {
        let rows: Vec<BatchRow> = self.ahead.drain(..most).collect();
        let now_ms = shared.now_ms();
        let work = move || {
            let mut octets = 0;
            let mut rows = rows.into_iter();
            let mut made = Vec::new();
            for row in rows.by_ref() {
                let rendered = template.render(&row.data, now_ms);
                octets += rendered.as_ref().map_or(0, |rendered| rendered.content.len());
                made.push((row, rendered));
                if octets >= TURN_OCTETS {
                    break;
                }
            }
            (made, rows.collect::<Vec<_>>())
        };
        // A panic in a renderer loses nothing: the rows are read again after a restart.
        let Ok((made, rest)) = tokio::task::spawn_blocking(work).await else { return Vec::new() };
        rest.into_iter().rev().for_each(|row| self.ahead.push_front(row));
        let door = Door { shared: shared.clone() };
        let view = &self.view;
        let submitting: FuturesUnordered<_> =
            made.into_iter().map(|(row, rendered)| submit(&door, view, sender, row, rendered)).collect();
        submitting.collect().await
    }

    /// Records what became of rows; gives how long to wait until the next turn, milliseconds.
    async fn heed(&mut self, shared: &Shared, fates: Vec<Fate>) -> Result<i64, StoreError> {
        let (mut done, mut wait_ms, mut note, mut pause) = (0, 0, None, None);
        for fate in fates {
            match fate {
                Fate::Message | Fate::NotWanted | Fate::Refused => done += 1,
                Fate::Later(row, why, least_ms) => {
                    self.later.push(row);
                    wait_ms = wait_ms.max(least_ms);
                    note = Some(why);
                }
                Fate::Pause(row, why) => {
                    self.later.push(row);
                    pause = Some(why);
                }
            }
        }
        self.done += done;
        let (id, now_ms) = (self.view.id, shared.now_ms());
        if let Some(why) = pause {
            tracing::warn!(batch = %id, %why, "a batch is paused");
            shared.store.change_batch(id, BatchChange::Pause { why }, now_ms).await?;
            return Ok(0);
        }
        if done == 0 || wait_ms > 0 {
            self.not_before_ms = now_ms + wait_ms.max(SOON_MS);
        }
        // At a stop the door is shut: that is no news of the batch.
        if note != self.note && !shared.is_stopping() {
            shared.store.change_batch(id, BatchChange::Note(note.clone()), now_ms).await?;
            self.note = note;
        }
        Ok((self.not_before_ms - now_ms).max(0))
    }
}

async fn submit(
    door: &Door,
    view: &BatchView,
    sender: &Arc<Sender>,
    row: BatchRow,
    rendered: Result<Rendered, String>,
) -> Fate {
    let at = RowRef { batch: view.id, row: row.n };
    let rendered = match rendered {
        Ok(rendered) => rendered,
        Err(why) => return refuse(door, at, row, why).await,
    };
    if rendered.deliver_by_ms.is_some_and(|by| by <= door.shared.now_ms()) {
        return refuse(door, at, row, "its time was over (`deliver_by`) before it could be sent".into()).await;
    }
    let submission = Submission {
        sender: sender.clone(),
        envelope: rendered.envelope,
        content: rendered.content,
        eight_bit: rendered.eight_bit,
        longest_line: rendered.longest_line,
        origin: Origin { protocol: "HTTP".into(), address: None, helo: None },
        protocol: Protocol::Http,
        stream: Some(view.stream.to_string()),
        tags: rendered.tags,
        metadata: rendered.metadata,
        send_at_ms: None,
        deliver_by_ms: rendered.deliver_by_ms,
        idempotency: None,
        batch: Some(BatchPart { row: at, priority: rendered.priority, test: view.test }),
        digest_key: None,
    };
    match door.submit(submission).await {
        Ok(_) => Fate::Message,
        Err(refusal) => fate(door, at, row, refusal).await,
    }
}

async fn fate(door: &Door, at: RowRef, row: BatchRow, refusal: Refusal) -> Fate {
    let why = refusal.detail();
    match refusal.kind {
        RefusalKind::NotWanted => Fate::NotWanted,
        RefusalKind::RateLimited { retry_after_s } => Fate::Later(row, why, i64::from(retry_after_s) * 1_000),
        RefusalKind::Overloaded => Fate::Later(row, why, SOON_MS),
        RefusalKind::Unauthorized | RefusalKind::Forbidden => Fate::Pause(row, why),
        _ if refusal.reply.code < 500 => Fate::Later(row, why, 0),
        _ => refuse(door, at, row, why).await,
    }
}

async fn refuse(door: &Door, at: RowRef, row: BatchRow, why: String) -> Fate {
    match door.shared.store.refuse_row(at, why).await {
        Ok(_) => Fate::Refused,
        Err(error) => Fate::Later(row, error.to_string(), SOON_MS),
    }
}
