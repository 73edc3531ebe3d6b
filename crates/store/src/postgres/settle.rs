//! The end of leases: outcomes of attempts, leases given back.
//!
//! A lease belongs to a run: what it settles after others took the lease changes nothing, not even when the lease has come back
//! to it since. Settlements of one transaction are
//! applied one after the other to the rows it has loaded, and written together.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::fault::Fault;
use super::shared::{Shared, lapses_before};
use super::tx::{self, Mode, Tx};
use super::unit::{AttemptColumn, CauseText, MessageRow, RecipientRow};
use crate::StoreError;
use crate::encode::{self, Wish};
use crate::engine::queued::hold_words;
use crate::model::*;

/// A settlement whose attempt was encoded by whoever brought it.
#[derive(Clone)]
pub(super) struct SettleRequest {
    pub(super) settlement: Arc<Settlement>,
    pub(super) attempt: Option<String>,
}

/// The attempt of a settlement: stored with its first event, referred to by the others.
struct AttemptCell<'a> {
    text: Option<&'a str>,
    at: Option<usize>,
}

impl AttemptCell<'_> {
    fn column(&self) -> AttemptColumn {
        match (self.text, self.at) {
            (None, _) => AttemptColumn::None,
            (Some(text), None) => AttemptColumn::Here(text.to_owned()),
            (Some(_), Some(at)) => AttemptColumn::At(at),
        }
    }

    /// The first event with it is this one.
    fn stored(&mut self, event: usize) {
        if self.text.is_some() {
            self.at.get_or_insert(event);
        }
    }
}

/// Where a recipient goes when its lease ends.
#[derive(Default)]
struct Next {
    state: Option<State>,
    due: Option<i64>,
    why: Option<String>,
    cause: Option<CauseText>,
}

/// Settles many in one transaction.
pub(super) async fn run(
    shared: &Arc<Shared>,
    requests: Arc<Vec<SettleRequest>>,
) -> Result<Vec<Result<u32, StoreError>>, Fault> {
    let changed = tx::run(shared, Mode::Write, requests, |tx, requests| async move { settle(&tx, &requests).await });
    Ok(changed.await?.into_iter().map(Ok).collect())
}

async fn settle(tx: &Tx, requests: &[SettleRequest]) -> Result<Vec<u32>, Fault> {
    let all = requests.iter().map(|request| &*request.settlement);
    let messages: BTreeSet<MessageId> = all.clone().map(|settlement| settlement.message).collect();
    let recipients: BTreeSet<RecipientId> = all
        .flat_map(|settlement| {
            settlement.outcomes.iter().map(|(n, _)| RecipientId { message: settlement.message, n: *n })
        })
        .collect();
    load(tx, messages, recipients).await?;
    requests.iter().map(|request| settle_one(tx, request)).collect()
}

/// Locks and loads messages and recipients.
pub(super) async fn load(
    tx: &Tx,
    messages: BTreeSet<MessageId>,
    recipients: BTreeSet<RecipientId>,
) -> Result<(), Fault> {
    tx.load_messages(&messages.into_iter().collect::<Vec<_>>()).await?;
    tx.load_recipients(&recipients.into_iter().collect::<Vec<_>>()).await
}

fn settle_one(tx: &Tx, request: &SettleRequest) -> Result<u32, Fault> {
    let settlement = &*request.settlement;
    let Some(mut row) = tx.loaded_message(settlement.message) else { return Ok(0) };
    let mut cell = AttemptCell { text: request.attempt.as_deref(), at: None };
    let mut changed = 0;
    for (n, outcome) in &settlement.outcomes {
        let id = RecipientId { message: settlement.message, n: *n };
        let Some(leased) = leased(tx, id, settlement.by) else { continue };
        if lapses_before(leased.ticket) != settlement.lapses {
            continue;
        }
        end_lease(tx, &mut row, leased, outcome, settlement.at_ms, &mut cell)?;
        changed += 1;
    }
    if changed > 0 {
        row.captured |= settlement.capture;
        tx.save_message(&mut row, settlement.at_ms);
    }
    Ok(changed)
}

/// A loaded recipient, if this run holds it.
fn leased(tx: &Tx, id: RecipientId, by: Incarnation) -> Option<RecipientRow> {
    tx.loaded_recipient(id).filter(|row| row.state == State::Leased && row.lease == by.0)
}

/// Ends one lease: the outcome's event, an operator's wish if there is one, and the row.
fn end_lease(
    tx: &Tx,
    row: &mut MessageRow,
    leased: RecipientRow,
    outcome: &Outcome,
    at_ms: i64,
    cell: &mut AttemptCell<'_>,
) -> Result<(), Fault> {
    let id = leased.id;
    let mut next = record_outcome(tx, &leased, outcome, at_ms, cell)?;
    let is_final = next.state.is_some_and(State::is_final);
    if let (false, Some(wish)) = (is_final, &leased.wish) {
        grant_wish(tx, id, wish, at_ms, &mut next)?;
    }
    row.returned |= is_final && !matches!(outcome, Outcome::Delivered | Outcome::Noted { .. });
    let attempted = cell.text.is_some() && !matches!(outcome, Outcome::Returned { .. } | Outcome::Suppressed { .. });
    let state = next.state.unwrap_or(State::Waiting);
    let due = next.due.filter(|_| state == State::Waiting).map(|due| due.min(row.expires));
    match state {
        State::Waiting => {
            tx.lane_changed(leased.lane, 1, 0, due, at_ms);
            row.parked = Some(row.expires);
        }
        State::Held => {
            tx.lane_changed(leased.lane, 0, 1, None, at_ms);
            row.parked = Some(row.expires);
        }
        _ => row.pending -= 1,
    }
    tx.save_recipient(RecipientRow {
        state,
        lease: 0,
        ticket: 0,
        due,
        attempts: leased.attempts + i32::from(attempted),
        wish: None,
        why: next.why,
        cause: next.cause,
        ..leased
    });
    Ok(())
}

/// Writes the event of an outcome and says where the recipient goes.
fn record_outcome(
    tx: &Tx,
    leased: &RecipientRow,
    outcome: &Outcome,
    at_ms: i64,
    cell: &mut AttemptCell<'_>,
) -> Result<Next, Fault> {
    let id = leased.id;
    let last_cause = || leased.cause.clone();
    let why_detail = |why: &str| encode::detail(None, None, Some(why));
    let (kind, detail, next) = match outcome {
        Outcome::Delivered => (EventKind::Delivered, None, Next { state: Some(State::Delivered), ..Next::default() }),
        Outcome::Relayed { why } | Outcome::Noted { why } => (
            EventKind::Delivered,
            why_detail(why)?,
            Next { state: Some(State::Delivered), why: Some(why.clone()), ..Next::default() },
        ),
        Outcome::Deferred { until_ms, cause } => (
            EventKind::Deferred,
            encode::detail(Some(cause), Some(*until_ms), None)?,
            Next { due: Some(*until_ms), cause: Some(CauseText::new(cause)?), ..Next::default() },
        ),
        Outcome::Failed { cause } => (
            EventKind::Failed,
            encode::detail(Some(cause), None, None)?,
            Next { state: Some(State::Failed), cause: Some(CauseText::new(cause)?), ..Next::default() },
        ),
        Outcome::Expired { cause } => {
            let kept = cause.as_ref().map(CauseText::new).transpose()?.or_else(last_cause);
            let next = Next { state: Some(State::Expired), cause: kept, ..Next::default() };
            (EventKind::Expired, encode::detail(cause.as_ref(), None, None)?, next)
        }
        Outcome::Held { why } => (
            EventKind::Held,
            why_detail(why)?,
            Next { state: Some(State::Held), why: Some(why.clone()), cause: last_cause(), due: None },
        ),
        Outcome::Suppressed { why } => (
            EventKind::Suppressed,
            why_detail(why)?,
            Next { state: Some(State::Suppressed), why: Some(why.clone()), cause: last_cause(), due: None },
        ),
        Outcome::Returned { due_ms } => {
            return Ok(Next { due: Some(*due_ms), cause: last_cause(), ..Next::default() });
        }
    };
    let event = tx.event(id.message, at_ms, Some(id.n), kind, cell.column(), detail);
    cell.stored(event);
    Ok(next)
}

/// Lets an operator's wish win over another attempt.
fn grant_wish(tx: &Tx, id: RecipientId, wish: &Wish, at_ms: i64, next: &mut Next) -> Result<(), Fault> {
    let (kind, words) = match &wish.operation {
        Operation::Hold(why) if next.state.is_none() => {
            next.state = Some(State::Held);
            next.why = Some(why.clone());
            (EventKind::Held, hold_words(why, &wish.who))
        }
        Operation::Cancel => {
            next.state = Some(State::Canceled);
            next.why = None;
            (EventKind::Canceled, wish.who.clone())
        }
        Operation::Retry if next.state.is_none() => {
            next.due = Some(at_ms);
            return Ok(());
        }
        _ => return Ok(()),
    };
    tx.event_why(id.message, at_ms, Some(id.n), kind, &words)
}

/// Gives back leases that were not attempted.
pub(super) async fn give_back(tx: &Tx, by: Incarnation, recipients: &[(RecipientId, i64)]) -> Result<u32, Fault> {
    let messages = recipients.iter().map(|(id, _)| id.message).collect();
    load(tx, messages, recipients.iter().map(|(id, _)| *id).collect()).await?;
    let mut changed = 0;
    for (id, due_ms) in recipients {
        let Some(leased) = leased(tx, *id, by) else { continue };
        let Some(mut row) = tx.loaded_message(id.message) else { continue };
        let mut cell = AttemptCell { text: None, at: None };
        // The verb carries no time; a wish granted here is dated with the due time, which is now or later.
        end_lease(tx, &mut row, leased, &Outcome::Returned { due_ms: *due_ms }, *due_ms, &mut cell)?;
        tx.save_message(&mut row, *due_ms);
        changed += 1;
    }
    Ok(changed)
}
