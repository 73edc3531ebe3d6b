//! What people and time do to recipients: hold, release, retry, cancel, expire, quarantine.

use rusqlite::{OptionalExtension, params};

use super::command::{Aging, OperateRequest};
use super::encode::{self, Wish};
use super::event::AttemptColumn;
use super::fault::Fault;
use super::work::{MessageRow, RecipientRow, Work};
use crate::engine::queued::{FURTHEST_MS, GRACE_MS, LEFT_MS, hold_words, note_wish};
use crate::model::*;

/// A recipient that is not final.
struct OpenRow {
    id: RecipientId,
    state: State,
    lane: LaneId,
    lease: i64,
    due: Option<i64>,
    attempts: i64,
    wish: Option<Wish>,
    why: Option<String>,
    cause: Option<String>,
}

/// A state by its number.
pub(super) fn state(number: u8) -> State {
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

/// Whether a message's end was asked for.
fn has_deadline(work: &Work<'_>, message: MessageId) -> Result<bool, Fault> {
    let details: Option<String> = work
        .connection
        .prepare_cached("SELECT details FROM message WHERE id = ?1")?
        .query_row([message.0], |row| row.get(0))?;
    // Seldom: most messages have none.
    match details.filter(|text| text.contains("\"deadline\"")) {
        Some(text) => Ok(encode::read_details(Some(&text))?.deadline),
        None => Ok(false),
    }
}

impl Work<'_> {
    fn load_open(&mut self, id: RecipientId) -> Result<Option<OpenRow>, Fault> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT state, lane, lease, due, attempts, wish, why, cause FROM recipient
                 WHERE message = ?1 AND n = ?2 AND state <= 2",
            )?
            .query_row(params![id.message.0, id.n], |row| {
                let wish: Option<String> = row.get(5)?;
                Ok((
                    OpenRow {
                        id,
                        state: state(row.get(0)?),
                        lane: LaneId(row.get(1)?),
                        lease: row.get(2)?,
                        due: row.get(3)?,
                        attempts: row.get(4)?,
                        wish: None,
                        why: row.get(6)?,
                        cause: row.get(7)?,
                    },
                    wish,
                ))
            })
            .optional()?;
        let Some((mut row, wish)) = found else { return Ok(None) };
        row.wish = encode::read_wish(wish.as_deref())?;
        Ok(Some(row))
    }

    fn save_open(&mut self, row: &OpenRow) -> Result<(), Fault> {
        let wish = row.wish.as_ref().map(encode::wish).transpose()?;
        self.save_recipient(
            row.id,
            &RecipientRow {
                state: row.state as u8,
                lease: row.lease,
                due: row.due,
                attempts: row.attempts,
                wish: wish.as_deref(),
                why: row.why.as_deref(),
                cause: row.cause.as_deref(),
            },
        )
    }

    /// Moves a row that is not leased to a new state and counts it.
    fn change_state(&mut self, message: &mut MessageRow, row: &mut OpenRow, to: State, at_ms: i64) {
        match row.state {
            State::Waiting => self.lane_changed(row.lane, -1, 0, at_ms),
            State::Held => self.lane_changed(row.lane, 0, -1, at_ms),
            State::Leased => self.unleased(message, &[row.lane]),
            _ => {}
        }
        match to {
            State::Waiting => {
                self.lane_changed(row.lane, 1, 0, at_ms);
                row.due = Some(at_ms.min(message.expires));
                message.parked = Some(message.expires);
            }
            State::Held => self.lane_changed(row.lane, 0, 1, at_ms),
            _ => message.pending -= 1,
        }
        if to != State::Waiting {
            row.due = None;
        }
        if to != State::Held {
            row.why = None;
        }
        row.lease = 0;
        row.wish = None;
        row.state = to;
    }

    /// Applies an operator's wish to recipients found before; gives how many it changed.
    pub(super) fn operate(&mut self, request: &OperateRequest) -> Result<u64, Fault> {
        let mut changed = 0;
        let mut open: Option<MessageRow> = None;
        for id in &request.ids {
            let Some(mut row) = self.load_open(*id)? else { continue };
            if request.state.is_some_and(|wanted| wanted != row.state) {
                continue;
            }
            if open.is_none_or(|message| message.id != id.message) {
                if let Some(mut message) = open.take() {
                    self.save_message(&mut message, request.now_ms)?;
                }
                open = self.load_message(id.message)?;
            }
            let Some(message) = &mut open else { continue };
            if self.operate_one(message, &mut row, request)? {
                self.save_open(&row)?;
                changed += 1;
            }
        }
        if let Some(mut message) = open {
            self.save_message(&mut message, request.now_ms)?;
        }
        Ok(changed)
    }

    /// Applies a wish to one row; false if it changes nothing.
    fn operate_one(
        &mut self,
        message: &mut MessageRow,
        row: &mut OpenRow,
        request: &OperateRequest,
    ) -> Result<bool, Fault> {
        let (wish, at_ms) = (&request.wish, request.now_ms);
        if row.state == State::Leased {
            return Ok(note_wish(&mut row.wish, wish));
        }
        let (kind, to, words) = match (&wish.operation, row.state) {
            (Operation::Retry, State::Waiting) => {
                if wish.who.is_empty() && self.not_before(message.id)?.is_some_and(|from| from > at_ms) {
                    return Ok(false);
                }
                row.due = Some(at_ms.min(message.expires));
                self.lane_changed(row.lane, 0, 0, at_ms);
                return Ok(true);
            }
            (Operation::Hold(why), State::Waiting) => (EventKind::Held, State::Held, hold_words(why, &wish.who)),
            (Operation::Release, State::Held) => (EventKind::Released, State::Waiting, wish.who.clone()),
            (Operation::Cancel, _) => (EventKind::Canceled, State::Canceled, wish.who.clone()),
            _ => return Ok(false),
        };
        if request.aging == Aging::Stood && to == State::Waiting {
            self.prolong(message, at_ms)?;
        }
        self.change_state(message, row, to, at_ms);
        // Whoever lets it go: mail that is not to be sent yet waits for its time.
        if to == State::Waiting
            && let Some(from) = self.not_before(message.id)?.filter(|from| *from > at_ms)
        {
            row.due = Some(from.min(message.expires));
        }
        if let Operation::Hold(why) = &wish.operation {
            row.why = Some(why.clone());
            message.parked = Some(message.expires);
        }
        let detail = Self::why_detail(&words)?;
        self.event(message, at_ms, Some(row.id.n), kind, AttemptColumn::None, detail.as_deref())?;
        Ok(true)
    }

    /// Before when a message is not to be sent.
    fn not_before(&self, message: MessageId) -> Result<Option<i64>, Fault> {
        let mut statement = self.connection.prepare_cached("SELECT not_before FROM message WHERE id = ?1")?;
        Ok(statement.query_row([message.0], |row| row.get(0))?)
    }

    /// A message was held and did not grow older meanwhile.
    fn prolong(&self, message: &mut MessageRow, at_ms: i64) -> Result<(), Fault> {
        let expires = at_ms.saturating_add(LEFT_MS);
        if message.expires >= expires || has_deadline(self, message.id)? {
            return Ok(());
        }
        message.expires = expires;
        let mut statement = self.connection.prepare_cached("UPDATE message SET expires = ?2 WHERE id = ?1")?;
        statement.execute(params![message.id.0, expires])?;
        Ok(())
    }

    /// Expires waiting recipients whose time is over, and mends due times of a broken clock.
    pub(super) fn expire(&mut self, now_ms: i64, max: u32) -> Result<u32, Fault> {
        self.mend_due_times(now_ms)?;
        let ids: Vec<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM message INDEXED BY message_parked WHERE parked IS NOT NULL AND parked <= ?1
                 ORDER BY parked LIMIT ?2",
            )?
            .query_map(params![now_ms, max], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut expired = 0;
        for id in ids {
            if expired >= max {
                break;
            }
            if let Some(row) = self.load_message(MessageId(id))? {
                expired += self.expire_message(row, now_ms, max - expired)?;
            }
        }
        Ok(expired)
    }

    fn expire_message(&mut self, mut message: MessageRow, now_ms: i64, max: u32) -> Result<u32, Fault> {
        let resting: Vec<u32> = self
            .connection
            .prepare_cached("SELECT n FROM recipient WHERE message = ?1 AND (state = 0 OR state = 2) ORDER BY n")?
            .query_map([message.id.0], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let deadline = has_deadline(self, message.id)?;
        let mut expired = 0;
        // Looked at again when the first of those left may expire; when none waits, when one waits again.
        let mut again: Option<i64> = None;
        for n in resting {
            let Some(mut row) = self.load_open(RecipientId { message: message.id, n })? else { continue };
            // What is held waits for a person, unless it is worth nothing after its time.
            if row.state == State::Held && !deadline {
                continue;
            }
            let from = row.due.unwrap_or(now_ms).saturating_add(GRACE_MS);
            let ripe = deadline || row.attempts > 0 || from <= now_ms;
            if !ripe || expired >= max {
                let at = if ripe { now_ms } else { from };
                again = Some(again.map_or(at, |again| again.min(at)));
                continue;
            }
            self.change_state(&mut message, &mut row, State::Expired, now_ms);
            message.returned = true;
            let cause = encode::read_cause(row.cause.as_deref())?;
            let detail = encode::detail(cause.as_ref(), None, None)?;
            self.event(&mut message, now_ms, Some(n), EventKind::Expired, AttemptColumn::None, detail.as_deref())?;
            self.save_open(&row)?;
            expired += 1;
        }
        message.parked = again;
        self.save_message(&mut message, now_ms)?;
        Ok(expired)
    }

    /// Due times beyond what any schedule gives become due now, unless the message says otherwise.
    fn mend_due_times(&mut self, now_ms: i64) -> Result<(), Fault> {
        let horizon = now_ms.saturating_add(FURTHEST_MS);
        let lanes: Vec<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM lane INDEXED BY lane_due WHERE next_due IS NOT NULL AND priority IN (0, 1, 2, 3)
                 AND next_due > ?1 LIMIT 100",
            )?
            .query_map([horizon], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for lane in lanes {
            let rows: Vec<(i64, u32, i64)> = self
                .connection
                .prepare_cached(
                    "SELECT r.message, r.n, max(?2, coalesce(m.not_before, 0)) FROM recipient r
                         INDEXED BY recipient_due JOIN message m ON m.id = r.message
                     WHERE r.lane = ?1 AND r.state = 0 AND r.due > ?3 ORDER BY r.due LIMIT 1000",
                )?
                .query_map(params![lane, now_ms, horizon], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, _>>()?;
            for (message, n, due) in rows {
                self.connection
                    .prepare_cached("UPDATE recipient SET due = ?3 WHERE message = ?1 AND n = ?2")?
                    .execute(params![message, n, due])?;
            }
            self.lane_changed(LaneId(lane), 0, 0, now_ms);
        }
        Ok(())
    }

    /// Ends a recipient that a digest told of.
    pub(super) fn end_folded(&mut self, id: RecipientId, why: &str, now_ms: i64) -> Result<(), Fault> {
        let Some(mut row) = self.load_open(id)?.filter(|row| row.state == State::Held) else { return Ok(()) };
        let Some(mut message) = self.load_message(id.message)? else { return Ok(()) };
        self.change_state(&mut message, &mut row, State::Suppressed, now_ms);
        row.why = Some(why.to_owned());
        self.save_open(&row)?;
        let detail = Self::why_detail(why)?;
        let (n, kind) = (Some(id.n), EventKind::Suppressed);
        self.event(&mut message, now_ms, n, kind, AttemptColumn::None, detail.as_deref())?;
        self.save_message(&mut message, now_ms)
    }

    /// Sets a message aside whose content does not match its hash: kept, held, never delivered.
    pub(super) fn quarantine(&mut self, id: MessageId, now_ms: i64, why: &str) -> Result<(), Fault> {
        let Some(mut message) = self.load_message(id)? else { return Ok(()) };
        let open: Vec<u32> = self
            .connection
            .prepare_cached("SELECT n FROM recipient WHERE message = ?1 AND state <= 2 ORDER BY n")?
            .query_map([id.0], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut news = open.is_empty();
        for n in open {
            let Some(mut row) = self.load_open(RecipientId { message: id, n })? else { continue };
            if row.state == State::Held && row.why.as_deref() == Some(why) {
                continue;
            }
            news = true;
            self.change_state(&mut message, &mut row, State::Held, now_ms);
            row.why = Some(why.to_owned());
            self.save_open(&row)?;
        }
        // Reading it again and again says nothing new.
        if news {
            let detail = Self::why_detail(why)?;
            self.event(&mut message, now_ms, None, EventKind::Quarantined, AttemptColumn::None, detail.as_deref())?;
            self.save_message(&mut message, now_ms)?;
        }
        Ok(())
    }
}
