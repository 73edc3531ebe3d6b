//! What people and time do to recipients: hold, release, retry, cancel, expire, quarantine.

use std::collections::BTreeSet;

use super::fault::Fault;
use super::settle::load;
use super::tx::Tx;
use super::unit::{AttemptColumn, MessageRow, RecipientRow, number};
use crate::encode::{self, Wish};
use crate::engine::queued::{FURTHEST_MS, GRACE_MS, LEFT_MS, hold_words, note_wish};
use crate::model::*;

/// What became of a message's age while it was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aging {
    /// It grew older.
    Counts,
    /// It did not.
    Stood,
}

/// An operator's wish for recipients that were found before.
#[derive(Debug, Clone)]
pub(super) struct OperateRequest {
    pub(super) ids: Vec<RecipientId>,
    /// Only those in this state.
    pub(super) state: Option<State>,
    pub(super) wish: Wish,
    pub(super) aging: Aging,
    pub(super) now_ms: i64,
}

/// Loads recipients that are not final, with their messages.
async fn load_open(tx: &Tx, ids: &[RecipientId]) -> Result<(), Fault> {
    let messages: BTreeSet<MessageId> = ids.iter().map(|id| id.message).collect();
    load(tx, messages, ids.iter().copied().collect()).await
}

fn open(tx: &Tx, id: RecipientId) -> Option<(MessageRow, RecipientRow)> {
    let row = tx.loaded_recipient(id).filter(|row| !row.state.is_final())?;
    Some((tx.loaded_message(id.message)?, row))
}

/// Moves a row to a new state and counts it; a final one loses its message a pending recipient.
fn change_state(tx: &Tx, message: &mut MessageRow, row: &mut RecipientRow, to: State, at_ms: i64) {
    match row.state {
        State::Waiting => tx.lane_changed(row.lane, -1, 0, None, at_ms),
        State::Held => tx.lane_changed(row.lane, 0, -1, None, at_ms),
        _ => {}
    }
    row.due = None;
    match to {
        State::Waiting => {
            row.due = Some(at_ms.min(message.expires));
            tx.lane_changed(row.lane, 1, 0, row.due, at_ms);
            message.parked = Some(message.expires);
        }
        State::Held => tx.lane_changed(row.lane, 0, 1, None, at_ms),
        _ => message.pending -= 1,
    }
    if to != State::Held {
        row.why = None;
    }
    row.lease = 0;
    row.ticket = 0;
    row.wish = None;
    row.state = to;
}

/// Applies an operator's wish; gives how many recipients it changed.
pub(super) async fn operate(tx: &Tx, request: &OperateRequest) -> Result<u64, Fault> {
    load_open(tx, &request.ids).await?;
    let mut changed = 0;
    for id in &request.ids {
        let Some((mut message, mut row)) = open(tx, *id) else { continue };
        if request.state.is_some_and(|wanted| wanted != row.state) {
            continue;
        }
        if operate_one(tx, &mut message, &mut row, request)? {
            tx.save_recipient(row);
            tx.save_message(&mut message, request.now_ms);
            changed += 1;
        }
    }
    Ok(changed)
}

/// Applies a wish to one row; false if it changes nothing.
fn operate_one(
    tx: &Tx,
    message: &mut MessageRow,
    row: &mut RecipientRow,
    request: &OperateRequest,
) -> Result<bool, Fault> {
    let (wish, at_ms) = (&request.wish, request.now_ms);
    if row.state == State::Leased {
        return Ok(note_wish(&mut row.wish, wish));
    }
    let not_before = message.not_before.filter(|from| *from > at_ms);
    let (kind, to, words) = match (&wish.operation, row.state) {
        (Operation::Retry, State::Waiting) => {
            if wish.who.is_empty() && not_before.is_some() {
                return Ok(false);
            }
            row.due = Some(at_ms.min(message.expires));
            tx.lane_due_changed(row.lane, at_ms);
            return Ok(true);
        }
        (Operation::Hold(why), State::Waiting) => (EventKind::Held, State::Held, hold_words(why, &wish.who)),
        (Operation::Release, State::Held) => (EventKind::Released, State::Waiting, wish.who.clone()),
        (Operation::Cancel, _) => (EventKind::Canceled, State::Canceled, wish.who.clone()),
        _ => return Ok(false),
    };
    let let_go = request.aging == Aging::Stood && to == State::Waiting;
    if let_go && !message.deadline {
        // It was held and did not grow older meanwhile.
        message.expires = message.expires.max(at_ms.saturating_add(LEFT_MS));
    }
    change_state(tx, message, row, to, at_ms);
    // Whoever lets it go: mail that is not to be sent yet waits for its time.
    if let (State::Waiting, Some(from)) = (to, not_before) {
        row.due = Some(from.min(message.expires));
        tx.lane_due_changed(row.lane, at_ms);
    }
    if let Operation::Hold(why) = &wish.operation {
        row.why = Some(why.clone());
        message.parked = Some(message.expires);
    }
    tx.event_why(message.id, at_ms, Some(row.id.n), kind, &words)?;
    Ok(true)
}

/// Expires recipients whose time is over; gives how many.
pub(super) async fn expire(tx: &Tx, now_ms: i64, max: u32) -> Result<u32, Fault> {
    let rows = tx
        .query(
            "SELECT id FROM message WHERE parked IS NOT NULL AND parked <= $1 ORDER BY parked LIMIT $2",
            &[&now_ms, &i64::from(max)],
        )
        .await?;
    let mut ids = rows.iter().map(|row| Ok(MessageId(row.try_get(0)?))).collect::<Result<Vec<_>, Fault>>()?;
    ids.sort_unstable();
    // Another node may do the same: what it did is seen when the rows are ours.
    tx.load_messages(&ids).await?;
    let resting = recipients_of(tx, &ids, "state IN (0, 2)").await?;
    tx.load_recipients(&resting).await?;
    let mut expired = 0;
    for id in ids {
        if expired >= max {
            break;
        }
        let Some(row) = tx.loaded_message(id).filter(|row| row.parked.is_some_and(|parked| parked <= now_ms)) else {
            continue;
        };
        let own: Vec<RecipientId> = resting.iter().copied().filter(|one| one.message == id).collect();
        expired += expire_message(tx, row, &own, now_ms, max - expired)?;
    }
    Ok(expired)
}

/// Recipients of messages in some states, in order.
async fn recipients_of(tx: &Tx, messages: &[MessageId], states: &str) -> Result<Vec<RecipientId>, Fault> {
    let ids: Vec<i64> = messages.iter().map(|id| id.0).collect();
    let sql = format!("SELECT message, n FROM recipient WHERE message = ANY($1) AND {states} ORDER BY message, n");
    let rows = tx.query(&sql, &[&ids]).await?;
    rows.iter().map(|row| Ok(RecipientId { message: MessageId(row.try_get(0)?), n: number(row.try_get(1)?) })).collect()
}

fn expire_message(
    tx: &Tx,
    mut message: MessageRow,
    resting: &[RecipientId],
    now_ms: i64,
    max: u32,
) -> Result<u32, Fault> {
    let mut expired = 0;
    // Looked at again when the first of those left may expire; when none waits, when one waits again.
    let mut again: Option<i64> = None;
    for id in resting {
        let resting = |row: &RecipientRow| matches!(row.state, State::Waiting | State::Held);
        let Some(mut row) = tx.loaded_recipient(*id).filter(resting) else { continue };
        // What is held waits for a person, unless it is worth nothing after its time.
        if row.state == State::Held && !message.deadline {
            continue;
        }
        let from = row.due.unwrap_or(now_ms).saturating_add(GRACE_MS);
        let ripe = message.deadline || row.attempts > 0 || from <= now_ms;
        if !ripe || expired >= max {
            let at = if ripe { now_ms } else { from };
            again = Some(again.map_or(at, |again| again.min(at)));
            continue;
        }
        change_state(tx, &mut message, &mut row, State::Expired, now_ms);
        message.returned = true;
        let cause = encode::read_cause(row.cause.as_ref().map(|cause| cause.text.as_str()))?;
        let detail = encode::detail(cause.as_ref(), None, None)?;
        tx.event(id.message, now_ms, Some(id.n), EventKind::Expired, AttemptColumn::None, detail);
        tx.save_recipient(row);
        expired += 1;
    }
    message.parked = again;
    tx.save_message(&mut message, now_ms);
    Ok(expired)
}

/// Due times beyond what any schedule gives become due now, unless the message says otherwise.
pub(super) async fn mend_due_times(tx: &Tx, now_ms: i64) -> Result<(), Fault> {
    let horizon = now_ms.saturating_add(FURTHEST_MS);
    let rows = tx
        .query(
            "SELECT id FROM lane WHERE next_due IS NOT NULL AND priority IN (0, 1, 2, 3) AND next_due > $1 ORDER BY id LIMIT 100",
            &[&horizon],
        )
        .await?;
    let lanes = rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<i64>, Fault>>()?;
    if lanes.is_empty() {
        return Ok(());
    }
    tx.execute(
        "UPDATE recipient SET due = u.due FROM (
             SELECT r.message, r.n, greatest($2, coalesce(m.not_before, 0)) AS due FROM recipient r
             JOIN message m ON m.id = r.message
             WHERE r.lane = ANY($1) AND r.state = 0 AND r.due > $3 ORDER BY r.message, r.n LIMIT 1000 FOR UPDATE OF r) u
         WHERE recipient.message = u.message AND recipient.n = u.n AND recipient.due <> u.due",
        &[&lanes, &now_ms, &horizon],
    )
    .await?;
    lanes.into_iter().for_each(|lane| tx.lane_due_changed(LaneId(lane), now_ms));
    Ok(())
}

/// Sets a message aside whose content does not match its hash: kept, held, never delivered.
pub(super) async fn quarantine(tx: &Tx, id: MessageId, now_ms: i64, why: &str) -> Result<(), Fault> {
    let Some(mut message) = tx.message(id).await? else { return Ok(()) };
    let all = recipients_of(tx, &[id], "state <= 2").await?;
    tx.load_recipients(&all).await?;
    let mut news = all.is_empty();
    for id in all {
        let Some(mut row) = tx.loaded_recipient(id).filter(|row| !row.state.is_final()) else { continue };
        if row.state == State::Held && row.why.as_deref() == Some(why) {
            continue;
        }
        news = true;
        change_state(tx, &mut message, &mut row, State::Held, now_ms);
        row.why = Some(why.to_owned());
        tx.save_recipient(row);
    }
    // Reading it again and again says nothing new.
    if news {
        tx.event_why(id, now_ms, None, EventKind::Quarantined, why)?;
        tx.save_message(&mut message, now_ms);
    }
    Ok(())
}
