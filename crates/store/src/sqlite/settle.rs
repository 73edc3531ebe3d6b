//! The end of leases: outcomes of attempts, leases given back, leases of dead runs.

use rusqlite::{OptionalExtension, params};

use super::command::SettleRequest;
use super::encode::{self, Wish};
use super::event::AttemptColumn;
use super::fault::Fault;
use super::work::{Fresh, GONE, MessageRow, RecipientRow, Work};
use crate::StoreError;
use crate::engine::queued::hold_words;
use crate::model::*;

/// The parts of a leased row that decide how the lease ends.
struct LeasedRow {
    lane: LaneId,
    attempts: i64,
    wish: Option<Wish>,
}

/// The attempt of a settlement: stored with its first event, referred to by the others.
struct AttemptCell<'a> {
    text: Option<&'a str>,
    at: Option<i64>,
}

impl<'a> AttemptCell<'a> {
    fn column(&self) -> AttemptColumn<'a> {
        match (self.text, self.at) {
            (None, _) => AttemptColumn::None,
            (Some(text), None) => AttemptColumn::Here(text),
            (Some(_), Some(at)) => AttemptColumn::At(at),
        }
    }

    /// An event with this column got the row `seq`.
    fn stored(&mut self, seq: i64) {
        if self.text.is_some() {
            self.at.get_or_insert(seq);
        }
    }
}

/// Neighbours that one statement may deliver.
fn are_delivered_neighbours(a: &(u32, Outcome), b: &(u32, Outcome)) -> bool {
    a.0.checked_add(1) == Some(b.0) && a.1 == Outcome::Delivered && b.1 == Outcome::Delivered
}

/// Where a recipient goes when its lease ends.
#[derive(Default)]
struct Next {
    state: Option<State>,
    due: Option<i64>,
    why: Option<String>,
    cause: Option<String>,
}

impl Work<'_> {
    /// Applies the outcomes of one attempt; gives how many recipients it changed.
    pub(super) fn settle(&mut self, request: &SettleRequest) -> Result<u32, Fault> {
        let settlement = &request.settlement;
        let (mut row, mut lanes) = match self.recall(settlement.message) {
            // What another run leased is for the rows to say.
            Some(fresh) if fresh.by == settlement.by => (fresh.row, fresh.lanes),
            Some(fresh) => (fresh.row, Box::default()),
            None => match self.load_message(settlement.message)? {
                Some(row) => (row, Box::default()),
                None => return Ok(0),
            },
        };
        let mut cell = AttemptCell { text: request.attempt.as_deref(), at: None };
        let mut changed = 0;
        for run in settlement.outcomes.chunk_by(are_delivered_neighbours) {
            if run[0].1 == Outcome::Delivered
                && self.deliver(&mut row, (run[0].0, run.len()), &mut lanes, settlement, &mut cell)?
            {
                changed += run.len() as u32;
                continue;
            }
            for (n, outcome) in run {
                if let Some(lane) = lanes.get_mut(*n as usize) {
                    *lane = GONE;
                }
                let id = RecipientId { message: settlement.message, n: *n };
                let Some(leased) = self.load_leased(id, settlement.by)? else { continue };
                self.end_lease(&mut row, id, leased, outcome, settlement.at_ms, &mut cell)?;
                changed += 1;
            }
        }
        if changed > 0 {
            row.captured |= settlement.capture;
            self.save_message(&mut row, settlement.at_ms)?;
        }
        if row.pending > 0 && !lanes.is_empty() {
            self.remember(Fresh { row, by: settlement.by, lanes });
        }
        Ok(changed)
    }

    /// The commonest outcome: a run of neighbours was delivered. One statement for all of them if all are leased and no
    /// operator wished otherwise; false if there is more to it.
    fn deliver(
        &mut self,
        row: &mut MessageRow,
        (first, count): (u32, usize),
        lanes: &mut [LaneId],
        settlement: &Settlement,
        cell: &mut AttemptCell<'_>,
    ) -> Result<bool, Fault> {
        let last = first + (count - 1) as u32;
        let (message, by) = (settlement.message.0, settlement.by.0);
        let mut read: Vec<LaneId>;
        let remembered = !lanes.is_empty();
        let known = match lanes.get_mut(first as usize..=last as usize) {
            Some(known) if !known.contains(&GONE) => known,
            Some(_) => return Ok(false),
            // Not remembered: worth a look at the rows only if there are some.
            None if count < 2 || remembered => return Ok(false),
            None => {
                let rows = self.statements.load_run.query_map(params![message, first, by, last], |row| row.get(0))?;
                read = rows.map(|lane| lane.map(LaneId)).collect::<Result<_, _>>()?;
                if read.len() != count {
                    return Ok(false);
                }
                &mut read[..]
            }
        };
        let attempted = i64::from(cell.text.is_some());
        let changed = self.statements.deliver.execute(params![message, first, by, attempted, last])?;
        if changed != count {
            return Err(StoreError::Internal(format!("message {}: the leases are not as remembered", row.id)).into());
        }
        let column = cell.column();
        let seq = self.events(row, settlement.at_ms, Some((first, last)), EventKind::Delivered, column, None)?;
        cell.stored(seq);
        self.unleased(row, known);
        known.fill(GONE);
        row.pending -= count as i64;
        Ok(true)
    }

    fn load_leased(&mut self, id: RecipientId, by: Incarnation) -> Result<Option<LeasedRow>, Fault> {
        let found = self.statements.load_leased.query_row(params![id.message.0, id.n, by.0], |row| {
            let wish = row.get_ref(2)?.as_str_or_null()?.map(str::to_owned);
            Ok((LaneId(row.get(0)?), row.get(1)?, wish))
        });
        let Some((lane, attempts, wish)) = found.optional()? else { return Ok(None) };
        Ok(Some(LeasedRow { lane, attempts, wish: encode::read_wish(wish.as_deref())? }))
    }

    /// Ends one lease: the outcome's event, an operator's wish if there is one, and the row.
    fn end_lease(
        &mut self,
        row: &mut MessageRow,
        id: RecipientId,
        leased: LeasedRow,
        outcome: &Outcome,
        at_ms: i64,
        cell: &mut AttemptCell<'_>,
    ) -> Result<(), Fault> {
        let mut next = self.record_outcome(row, id.n, outcome, at_ms, cell)?;
        let is_final = next.state.is_some_and(State::is_final);
        if let (false, Some(wish)) = (is_final, &leased.wish) {
            self.grant_wish(row, id.n, wish, at_ms, &mut next)?;
        }
        row.returned |= is_final && !matches!(outcome, Outcome::Delivered | Outcome::Noted { .. });
        let attempted =
            cell.text.is_some() && !matches!(outcome, Outcome::Returned { .. } | Outcome::Suppressed { .. });
        let state = next.state.unwrap_or(State::Waiting);
        self.count_end(row, leased.lane, state, next.due, at_ms);
        self.save_recipient(
            id,
            &RecipientRow {
                state: state as u8,
                lease: 0,
                due: next.due.filter(|_| state == State::Waiting).map(|due| due.min(row.expires)),
                attempts: leased.attempts + i64::from(attempted),
                wish: None,
                why: next.why.as_deref(),
                cause: next.cause.as_deref(),
            },
        )
    }

    /// Writes the event of an outcome and says where the recipient goes.
    fn record_outcome(
        &mut self,
        row: &mut MessageRow,
        n: u32,
        outcome: &Outcome,
        at_ms: i64,
        cell: &mut AttemptCell<'_>,
    ) -> Result<Next, Fault> {
        let (kind, detail, next) = match outcome {
            Outcome::Delivered => {
                (EventKind::Delivered, None, Next { state: Some(State::Delivered), ..Next::default() })
            }
            Outcome::Relayed { why } | Outcome::Noted { why } => (
                EventKind::Delivered,
                Self::why_detail(why)?,
                Next { state: Some(State::Delivered), why: Some(why.clone()), ..Next::default() },
            ),
            Outcome::Deferred { until_ms, cause } => (
                EventKind::Deferred,
                encode::detail(Some(cause), Some(*until_ms), None)?,
                Next { due: Some(*until_ms), cause: Some(encode::cause(cause)?), ..Next::default() },
            ),
            Outcome::Failed { cause } => (
                EventKind::Failed,
                encode::detail(Some(cause), None, None)?,
                Next { state: Some(State::Failed), cause: Some(encode::cause(cause)?), ..Next::default() },
            ),
            Outcome::Expired { cause } => (
                EventKind::Expired,
                encode::detail(cause.as_ref(), None, None)?,
                Next {
                    state: Some(State::Expired),
                    cause: self.cause_or_last(row.id, n, cause.as_ref())?,
                    ..Next::default()
                },
            ),
            Outcome::Held { why } => (
                EventKind::Held,
                Self::why_detail(why)?,
                Next {
                    state: Some(State::Held),
                    why: Some(why.clone()),
                    cause: self.cause_or_last(row.id, n, None)?,
                    ..Next::default()
                },
            ),
            Outcome::Suppressed { why } => (
                EventKind::Suppressed,
                Self::why_detail(why)?,
                Next {
                    state: Some(State::Suppressed),
                    why: Some(why.clone()),
                    cause: self.cause_or_last(row.id, n, None)?,
                    ..Next::default()
                },
            ),
            Outcome::Returned { due_ms } => {
                return Ok(Next { due: Some(*due_ms), cause: self.cause_or_last(row.id, n, None)?, ..Next::default() });
            }
        };
        let seq = self.event(row, at_ms, Some(n), kind, cell.column(), detail.as_deref())?;
        cell.stored(seq);
        Ok(next)
    }

    /// The cause to keep in the row: the new one, or the one that is there.
    fn cause_or_last(&mut self, message: MessageId, n: u32, cause: Option<&Cause>) -> Result<Option<String>, Fault> {
        if let Some(cause) = cause {
            return Ok(Some(encode::cause(cause)?));
        }
        Ok(self
            .connection
            .prepare_cached("SELECT cause FROM recipient WHERE message = ?1 AND n = ?2")?
            .query_row(params![message.0, n], |row| row.get(0))?)
    }

    /// Lets an operator's wish win over another attempt.
    fn grant_wish(
        &mut self,
        row: &mut MessageRow,
        n: u32,
        wish: &Wish,
        at_ms: i64,
        next: &mut Next,
    ) -> Result<(), Fault> {
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
        let detail = Self::why_detail(&words)?;
        self.event(row, at_ms, Some(n), kind, AttemptColumn::None, detail.as_deref())?;
        Ok(())
    }

    /// Counts of a lease that ends in `state`.
    fn count_end(&mut self, row: &mut MessageRow, lane: LaneId, state: State, due: Option<i64>, at_ms: i64) {
        self.unleased(row, &[lane]);
        match state {
            State::Waiting => {
                debug_assert!(due.is_some());
                self.lane_changed(lane, 1, 0, at_ms);
                row.parked = Some(row.expires);
            }
            State::Held => {
                self.lane_changed(lane, 0, 1, at_ms);
                row.parked = Some(row.expires);
            }
            _ => row.pending -= 1,
        }
    }

    /// Gives back leases that were not attempted.
    pub(super) fn give_back(&mut self, by: Incarnation, recipients: &[(RecipientId, i64)]) -> Result<u32, Fault> {
        let mut changed = 0;
        let mut open: Option<MessageRow> = None;
        for (id, due_ms) in recipients {
            let Some(leased) = self.load_leased(*id, by)? else { continue };
            // Neighbours are mostly of one message: its row is read and written once.
            if open.is_none_or(|row| row.id != id.message) {
                if let Some(mut row) = open.take() {
                    self.save_message(&mut row, *due_ms)?;
                }
                open = self.load_message(id.message)?;
            }
            let Some(row) = &mut open else { continue };
            let mut cell = AttemptCell { text: None, at: None };
            // The verb carries no time; a wish granted here is dated with the due time, which is now or later.
            self.end_lease(row, *id, leased, &Outcome::Returned { due_ms: *due_ms }, *due_ms, &mut cell)?;
            changed += 1;
        }
        if let (Some(mut row), Some((_, due_ms))) = (open, recipients.last()) {
            self.save_message(&mut row, *due_ms)?;
        }
        Ok(changed)
    }

    /// Registers a run and takes back what earlier runs of the node hold.
    pub(super) fn start_run(&mut self, node: &str, now_ms: i64) -> Result<(Incarnation, u64), Fault> {
        self.connection
            .prepare_cached("INSERT INTO node(name, started) VALUES (?1, ?2)")?
            .execute(params![node, now_ms])?;
        let incarnation = Incarnation(self.connection.last_insert_rowid());
        let earlier: Vec<i64> = self
            .connection
            .prepare_cached("SELECT incarnation FROM node WHERE name = ?1 AND incarnation < ?2")?
            .query_map(params![node, incarnation.0], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut taken = 0;
        for run in earlier {
            let leases: Vec<(RecipientId, i64)> = self
                .connection
                .prepare_cached(
                    "SELECT r.message, r.n FROM message m INDEXED BY message_open CROSS JOIN recipient r ON r.message = m.id
                     WHERE m.pending > 0 AND (m.leased > 0) = 1 AND r.lease = ?1 AND r.state = 1
                     ORDER BY m.id, r.n",
                )?
                .query_map([run], |row| Ok((RecipientId { message: MessageId(row.get(0)?), n: row.get(1)? }, now_ms)))?
                .collect::<Result<_, _>>()?;
            taken += u64::from(self.give_back(Incarnation(run), &leases)?);
            self.connection.prepare_cached("DELETE FROM node WHERE incarnation = ?1")?.execute([run])?;
        }
        Ok((incarnation, taken))
    }
}
