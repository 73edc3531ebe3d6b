//! What a transaction has loaded and changed, written with a few statements at its end.
//!
//! Rows are locked in one order, so that transactions of several nodes wait for each other and never in a circle: messages,
//! recipients, lanes, the number of the newest event. The last two are taken in [`Tx::flush_and`] only.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio_postgres::Row;

use super::columns::{EventColumns, LaneColumns, Rows};
use super::fault::Fault;
use super::tx::{Step, Tx, Value};
use super::{columns, parts};
use crate::StoreError;
use crate::encode::{self, Wish};
use crate::model::*;

/// What a message row says that changes, and what decides how.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageRow {
    pub(super) id: MessageId,
    pub(super) pending: i32,
    pub(super) final_at: Option<i64>,
    pub(super) parked: Option<i64>,
    pub(super) captured: bool,
    /// The content is there.
    pub(super) stored: bool,
    pub(super) expires: i64,
    pub(super) not_before: Option<i64>,
    /// Its end was asked for.
    pub(super) deadline: bool,
    /// A notice may have to return the content: it is not dropped at once.
    pub(super) returned: bool,
    /// The content is kept for a while after the end.
    pub(super) kept: bool,
}

/// A cause as it is stored, with the rule that it is found by.
#[derive(Debug, Clone)]
pub(super) struct CauseText {
    pub(super) text: String,
    pub(super) rule: Option<String>,
}

impl CauseText {
    pub(super) fn new(cause: &Cause) -> Result<Self, StoreError> {
        Ok(Self { text: encode::cause(cause)?, rule: cause.rule.as_deref().map(str::to_owned) })
    }
}

/// What a recipient row says that changes.
#[derive(Debug, Clone)]
pub(super) struct RecipientRow {
    pub(super) id: RecipientId,
    pub(super) lane: LaneId,
    pub(super) state: State,
    pub(super) lease: i64,
    pub(super) ticket: i64,
    pub(super) due: Option<i64>,
    pub(super) attempts: i32,
    pub(super) wish: Option<Wish>,
    pub(super) why: Option<String>,
    pub(super) cause: Option<CauseText>,
}

/// An event's attempt: none, stored with it, or stored with an earlier event of the same transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AttemptColumn {
    None,
    Here(String),
    /// What [`Tx::event`] gave for the event that holds it.
    At(usize),
}

pub(super) struct StagedEvent {
    pub(super) message: MessageId,
    pub(super) at_ms: i64,
    /// First and last recipient.
    pub(super) span: Option<(u32, u32)>,
    pub(super) kind: EventKind,
    pub(super) attempt: AttemptColumn,
    pub(super) detail: Option<String>,
}

#[derive(Default)]
pub(super) struct LaneChange {
    pub(super) waiting: i64,
    pub(super) held: i64,
    pub(super) used_ms: i64,
    /// Earliest due time that was added.
    pub(super) due: Option<i64>,
    /// A due time went or changed: the next one has to be looked for.
    pub(super) look: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Unit {
    messages: HashMap<MessageId, MessageRow>,
    changed_messages: BTreeSet<MessageId>,
    recipients: HashMap<RecipientId, RecipientRow>,
    changed_recipients: BTreeSet<RecipientId>,
    dropped: Vec<MessageId>,
    lanes: BTreeMap<LaneId, LaneChange>,
    events: Vec<StagedEvent>,
}

impl Unit {
    /// Takes what changed; what was loaded is forgotten.
    fn take_rows(&mut self) -> Rows {
        let messages = std::mem::take(&mut self.messages);
        let recipients = std::mem::take(&mut self.recipients);
        let (changed, changed_recipients) =
            (std::mem::take(&mut self.changed_messages), std::mem::take(&mut self.changed_recipients));
        Rows::of(
            changed.iter().filter_map(|id| messages.get(id)),
            changed_recipients.iter().filter_map(|id| recipients.get(id)),
            std::mem::take(&mut self.dropped),
        )
    }
}

/// A state by its number.
pub(super) fn state(number: i16) -> State {
    match number {
        0 => State::Waiting,
        1 => State::Leased,
        2 => State::Held,
        3 => State::Delivered,
        4 => State::Failed,
        5 => State::Expired,
        6 => State::Canceled,
        7 => State::Suppressed,
        8 => State::Bounced,
        _ => State::Complained,
    }
}

/// Text as the database takes it: it knows no NUL.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

const LOAD_MESSAGES: &str =
    "SELECT id, pending, final_at, parked, captured, stored, expires, not_before, deadline, stream FROM message
     WHERE id = ANY($1) ORDER BY id FOR UPDATE";
const LOAD_RECIPIENTS: &str =
    "SELECT r.message, r.n, r.lane, r.state, r.lease, r.ticket, r.due, r.attempts, r.wish, r.why, r.cause, r.rule
     FROM recipient r JOIN unnest($1::bigint[], $2::integer[]) AS u(message, n) ON r.message = u.message AND r.n = u.n
     ORDER BY r.message, r.n FOR UPDATE OF r";

fn read_recipient(row: &Row) -> Result<RecipientRow, Fault> {
    let wish: Option<&str> = row.try_get(8)?;
    let cause: Option<String> = row.try_get(10)?;
    let rule: Option<String> = row.try_get(11)?;
    Ok(RecipientRow {
        id: RecipientId { message: MessageId(row.try_get(0)?), n: number(row.try_get(1)?) },
        lane: LaneId(row.try_get(2)?),
        state: state(row.try_get(3)?),
        lease: row.try_get(4)?,
        ticket: row.try_get(5)?,
        due: row.try_get(6)?,
        attempts: row.try_get(7)?,
        wish: encode::read_wish(wish)?,
        why: row.try_get(9)?,
        cause: cause.map(|text| CauseText { text, rule }),
    })
}

/// A column that is never negative.
pub(super) fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

impl Tx {
    // ---- messages and recipients ----

    /// Locks messages and loads them, all at once: in their order, as every transaction has to.
    pub(super) async fn load_messages(&self, ids: &[MessageId]) -> Result<(), Fault> {
        let missing: Vec<i64> = {
            let unit = self.unit.lock();
            ids.iter().filter(|id| !unit.messages.contains_key(id)).map(|id| id.0).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        for row in self.query(LOAD_MESSAGES, &[&missing]).await? {
            let loaded = MessageRow {
                id: MessageId(row.try_get(0)?),
                pending: row.try_get(1)?,
                final_at: row.try_get(2)?,
                parked: row.try_get(3)?,
                captured: row.try_get(4)?,
                stored: row.try_get(5)?,
                expires: row.try_get(6)?,
                not_before: row.try_get(7)?,
                deadline: row.try_get(8)?,
                returned: false,
                kept: self.shared.retention.lock().content_ms_of(row.try_get(9)?) > 0,
            };
            self.unit.lock().messages.insert(loaded.id, loaded);
        }
        Ok(())
    }

    /// A message as this transaction left it, if it was loaded.
    pub(super) fn loaded_message(&self, id: MessageId) -> Option<MessageRow> {
        self.unit.lock().messages.get(&id).copied()
    }

    /// Locks one message and loads it. Whoever needs several has to take them in order: [`Tx::load_messages`].
    pub(super) async fn message(&self, id: MessageId) -> Result<Option<MessageRow>, Fault> {
        self.load_messages(&[id]).await?;
        Ok(self.loaded_message(id))
    }

    /// Writes a message row back; a message without pending recipients becomes final and may lose its content.
    pub(super) fn save_message(&self, row: &mut MessageRow, at_ms: i64) {
        let mut unit = self.unit.lock();
        finish(row, at_ms);
        if !row.stored && unit.messages.get(&row.id).is_none_or(|before| before.stored) {
            unit.dropped.push(row.id);
        }
        unit.messages.insert(row.id, *row);
        unit.changed_messages.insert(row.id);
    }

    /// Locks recipients and loads them; their messages have to be locked before.
    pub(super) async fn load_recipients(&self, ids: &[RecipientId]) -> Result<(), Fault> {
        let (messages, numbers): (Vec<i64>, Vec<i32>) = {
            let unit = self.unit.lock();
            let missing = ids.iter().filter(|id| !unit.recipients.contains_key(id));
            missing.map(|id| (id.message.0, i32::try_from(id.n).unwrap_or(i32::MAX))).unzip()
        };
        if messages.is_empty() {
            return Ok(());
        }
        for row in self.query(LOAD_RECIPIENTS, &[&messages, &numbers]).await? {
            let loaded = read_recipient(&row)?;
            self.unit.lock().recipients.insert(loaded.id, loaded);
        }
        Ok(())
    }

    /// A recipient as this transaction left it, if it was loaded.
    pub(super) fn loaded_recipient(&self, id: RecipientId) -> Option<RecipientRow> {
        self.unit.lock().recipients.get(&id).cloned()
    }

    /// Locks one recipient and loads it.
    pub(super) async fn recipient(&self, id: RecipientId) -> Result<Option<RecipientRow>, Fault> {
        self.load_recipients(&[id]).await?;
        Ok(self.loaded_recipient(id))
    }

    /// Writes a recipient row back.
    pub(super) fn save_recipient(&self, row: RecipientRow) {
        let mut unit = self.unit.lock();
        unit.changed_recipients.insert(row.id);
        unit.recipients.insert(row.id, row);
    }

    // ---- lanes ----

    /// Recipients of a lane that wait or are held became more or fewer; `due` is that of one that waits now.
    pub(super) fn lane_changed(&self, lane: LaneId, waiting: i64, held: i64, due: Option<i64>, at_ms: i64) {
        let mut unit = self.unit.lock();
        let change = unit.lanes.entry(lane).or_default();
        change.waiting += waiting;
        change.held += held;
        change.used_ms = change.used_ms.max(at_ms);
        change.due = [change.due, due].into_iter().flatten().min();
        change.look |= waiting < 0;
    }

    /// A due time of a lane changed: its next one is looked for.
    pub(super) fn lane_due_changed(&self, lane: LaneId, at_ms: i64) {
        let mut unit = self.unit.lock();
        let change = unit.lanes.entry(lane).or_default();
        change.used_ms = change.used_ms.max(at_ms);
        change.look = true;
    }

    // ---- events ----

    /// Adds an event; what it gives names it for [`AttemptColumn::At`]. Equal events of neighbouring recipients share a row.
    pub(super) fn event(
        &self,
        message: MessageId,
        at_ms: i64,
        n: Option<u32>,
        kind: EventKind,
        attempt: AttemptColumn,
        detail: Option<String>,
    ) -> usize {
        let mut unit = self.unit.lock();
        let index = unit.events.len();
        if let (Some(last), Some(n)) = (unit.events.last_mut(), n)
            && last.continues(index - 1, message, at_ms, n, kind, &attempt, detail.as_deref())
        {
            last.span = last.span.map(|(first, _)| (first, n));
            return index - 1;
        }
        unit.events.push(StagedEvent { message, at_ms, span: n.map(|n| (n, n)), kind, attempt, detail });
        index
    }

    /// An event that says in words why, or who.
    pub(super) fn event_why(
        &self,
        message: MessageId,
        at_ms: i64,
        n: Option<u32>,
        kind: EventKind,
        why: &str,
    ) -> Result<(), Fault> {
        let detail = encode::detail(None, None, Some(why))?;
        self.event(message, at_ms, n, kind, AttemptColumn::None, detail);
        Ok(())
    }

    // ---- the end ----

    /// Writes all that is staged, with these statements behind it, in one round trip.
    pub(super) async fn flush_and(&self, last: &[Step<'_>]) -> Result<(), Fault> {
        let mut unit = std::mem::take(&mut *self.unit.lock());
        parts::ensure(&self.shared, unit.events.iter().map(|event| event.at_ms)).await?;
        let rows = unit.take_rows();
        let lanes = LaneColumns::of(&unit.lanes);
        let events = EventColumns::of(unit.events);
        let (values, lane_values, event_values) = (rows.values(), lanes.values(), events.values());
        let lock: [Value<'_>; 1] = [&lanes.id];
        let mut steps: Vec<Step<'_>> = Vec::new();
        rows.steps(&mut steps, &values);
        if !lanes.id.is_empty() {
            steps.push(("SELECT id FROM lane WHERE id = ANY($1) ORDER BY id FOR UPDATE", &lock));
            steps.push((columns::SAVE_LANES, &lane_values));
        }
        if !events.at.is_empty() {
            steps.push((columns::INSERT_EVENTS, &event_values));
        }
        steps.extend_from_slice(last);
        if !steps.is_empty() {
            self.pipeline(&steps).await?;
        }
        Ok(())
    }
}

/// Makes a row without pending recipients final.
pub(super) fn finish(row: &mut MessageRow, at_ms: i64) {
    if row.pending > 0 {
        return;
    }
    row.parked = None;
    row.final_at.get_or_insert(at_ms);
    if !row.kept && !row.captured && !row.returned {
        row.stored = false;
    }
}

impl StagedEvent {
    #[expect(clippy::too_many_arguments, reason = "all that has to be equal")]
    fn continues(
        &self,
        index: usize,
        message: MessageId,
        at_ms: i64,
        n: u32,
        kind: EventKind,
        attempt: &AttemptColumn,
        detail: Option<&str>,
    ) -> bool {
        let attempt_is_same = match attempt {
            AttemptColumn::None => self.attempt == AttemptColumn::None,
            AttemptColumn::Here(_) => false,
            AttemptColumn::At(at) => {
                self.attempt == AttemptColumn::At(*at)
                    || (*at == index && matches!(self.attempt, AttemptColumn::Here(_)))
            }
        };
        attempt_is_same
            && self.span.is_some_and(|(_, last)| last.checked_add(1) == Some(n))
            && self.message == message
            && self.at_ms == at_ms
            && self.kind == kind
            && self.detail.as_deref() == detail
    }

    /// Events that the row stands for.
    pub(super) fn count(&self) -> i64 {
        self.span.map_or(1, |(first, last)| i64::from(last - first) + 1)
    }
}
