//! Changed rows by column: many rows are one statement with an array for each column.

use std::collections::BTreeMap;

use super::tx::{Step, Value};
use super::unit::{AttemptColumn, LaneChange, MessageRow, RecipientRow, StagedEvent, clean};
use crate::encode;
use crate::model::*;

const SAVE_MESSAGES: &str = "UPDATE message SET pending = u.pending, final_at = u.final_at, parked = u.parked,
         captured = u.captured, stored = u.stored, expires = u.expires
     FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::boolean[], $6::boolean[], $7::bigint[])
         AS u(id, pending, final_at, parked, captured, stored, expires)
     WHERE message.id = u.id";
const SAVE_RECIPIENTS: &str = "UPDATE recipient SET state = u.state, lease = u.lease, ticket = u.ticket, due = u.due,
         attempts = u.attempts, wish = u.wish, why = u.why, cause = u.cause, rule = u.rule
     FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[],
             $8::text[], $9::text[], $10::text[], $11::text[])
         AS u(message, n, state, lease, ticket, due, attempts, wish, why, cause, rule)
     WHERE recipient.message = u.message AND recipient.n = u.n";
const DROP_CONTENTS: &str = "DELETE FROM content WHERE message = ANY($1)";
pub(super) const SAVE_LANES: &str = "UPDATE lane SET waiting = lane.waiting + u.waiting, held = lane.held + u.held,
         used = greatest(lane.used, u.used),
         next_due = CASE WHEN u.look
             THEN (SELECT r.due FROM recipient r WHERE r.lane = lane.id AND r.state = 0 ORDER BY r.due LIMIT 1)
             ELSE least(lane.next_due, u.due) END
     FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[])
         AS u(id, waiting, held, used, due, look)
     WHERE lane.id = u.id";
pub(super) const INSERT_EVENTS: &str = "WITH number AS
         (UPDATE event_number SET value = value + $1 WHERE one = 1 RETURNING value - $1 AS before)
     INSERT INTO event(seq, at, message, n, upto, kind, attempt, attempt_at, detail)
     SELECT number.before + u.seq, u.at, u.message, u.n, u.upto, u.kind, u.attempt, number.before + u.attempt_at, u.detail
     FROM number, unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::integer[], $7::smallint[],
         $8::text[], $9::bigint[], $10::text[]) AS u(seq, at, message, n, upto, kind, attempt, attempt_at, detail)";

/// A number of ours in a column without unsigned numbers.
pub(super) fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// Changed messages and recipients, and contents that go.
pub(super) struct Rows {
    messages: MessageColumns,
    recipients: RecipientColumns,
    dropped: Vec<i64>,
}

#[derive(Default)]
struct MessageColumns {
    id: Vec<i64>,
    pending: Vec<i32>,
    final_at: Vec<Option<i64>>,
    parked: Vec<Option<i64>>,
    captured: Vec<bool>,
    stored: Vec<bool>,
    expires: Vec<i64>,
}

#[derive(Default)]
struct RecipientColumns {
    message: Vec<i64>,
    n: Vec<i32>,
    state: Vec<i16>,
    lease: Vec<i64>,
    ticket: Vec<i64>,
    due: Vec<Option<i64>>,
    attempts: Vec<i32>,
    wish: Vec<Option<String>>,
    why: Vec<Option<String>>,
    cause: Vec<Option<String>>,
    rule: Vec<Option<String>>,
}

/// Values of [`Rows`]' statements.
pub(super) struct RowValues<'a> {
    messages: [Value<'a>; 7],
    recipients: [Value<'a>; 11],
    dropped: [Value<'a>; 1],
}

impl Rows {
    pub(super) fn of<'a>(
        messages: impl Iterator<Item = &'a MessageRow>,
        recipients: impl Iterator<Item = &'a RecipientRow>,
        dropped: Vec<MessageId>,
    ) -> Self {
        let mut m = MessageColumns::default();
        for row in messages {
            m.id.push(row.id.0);
            m.pending.push(row.pending);
            m.final_at.push(row.final_at);
            m.parked.push(row.parked);
            m.captured.push(row.captured);
            m.stored.push(row.stored);
            m.expires.push(row.expires);
        }
        let mut r = RecipientColumns::default();
        for row in recipients {
            r.message.push(row.id.message.0);
            r.n.push(signed(row.id.n));
            r.state.push(row.state as i16);
            r.lease.push(row.lease);
            r.ticket.push(row.ticket);
            r.due.push(row.due);
            r.attempts.push(row.attempts);
            // An operator's words were clean when they were read back; a wish that cannot be written is none.
            r.wish.push(row.wish.as_ref().and_then(|wish| encode::wish(wish).ok()));
            r.why.push(row.why.as_deref().map(clean));
            r.cause.push(row.cause.as_ref().map(|cause| cause.text.clone()));
            r.rule.push(row.cause.as_ref().and_then(|cause| cause.rule.as_deref().map(clean)));
        }
        Self { messages: m, recipients: r, dropped: dropped.into_iter().map(|id| id.0).collect() }
    }

    pub(super) fn values(&self) -> RowValues<'_> {
        let (m, r) = (&self.messages, &self.recipients);
        RowValues {
            messages: [&m.id, &m.pending, &m.final_at, &m.parked, &m.captured, &m.stored, &m.expires],
            recipients: [
                &r.message,
                &r.n,
                &r.state,
                &r.lease,
                &r.ticket,
                &r.due,
                &r.attempts,
                &r.wish,
                &r.why,
                &r.cause,
                &r.rule,
            ],
            dropped: [&self.dropped],
        }
    }

    /// The statements that write them.
    pub(super) fn steps<'a>(&'a self, steps: &mut Vec<Step<'a>>, values: &'a RowValues<'a>) {
        if !self.messages.id.is_empty() {
            steps.push((SAVE_MESSAGES, &values.messages));
        }
        if !self.recipients.n.is_empty() {
            steps.push((SAVE_RECIPIENTS, &values.recipients));
        }
        if !self.dropped.is_empty() {
            steps.push((DROP_CONTENTS, &values.dropped));
        }
    }
}

/// Changes of lanes.
#[derive(Default)]
pub(super) struct LaneColumns {
    pub(super) id: Vec<i64>,
    waiting: Vec<i64>,
    held: Vec<i64>,
    used: Vec<i64>,
    due: Vec<Option<i64>>,
    look: Vec<bool>,
}

impl LaneColumns {
    pub(super) fn of(changes: &BTreeMap<LaneId, LaneChange>) -> Self {
        let mut own = Self::default();
        for (lane, change) in changes {
            own.id.push(lane.0);
            own.waiting.push(change.waiting);
            own.held.push(change.held);
            own.used.push(change.used_ms);
            own.due.push(change.due);
            own.look.push(change.look);
        }
        own
    }

    pub(super) fn values(&self) -> [Value<'_>; 6] {
        [&self.id, &self.waiting, &self.held, &self.used, &self.due, &self.look]
    }
}

/// New events.
#[derive(Default)]
pub(super) struct EventColumns {
    /// Numbers they take.
    count: i64,
    seq: Vec<i64>,
    pub(super) at: Vec<i64>,
    message: Vec<i64>,
    n: Vec<Option<i32>>,
    upto: Vec<Option<i32>>,
    kind: Vec<i16>,
    attempt: Vec<Option<String>>,
    attempt_at: Vec<Option<i64>>,
    detail: Vec<Option<String>>,
}

impl EventColumns {
    pub(super) fn of(events: Vec<StagedEvent>) -> Self {
        let mut own = Self::default();
        for event in events {
            let seq = own.count + 1;
            own.count += event.count();
            own.seq.push(seq);
            own.at.push(event.at_ms);
            own.message.push(event.message.0);
            own.n.push(event.span.map(|(first, _)| signed(first)));
            own.upto.push(event.span.filter(|(first, last)| first < last).map(|(_, last)| signed(last)));
            own.kind.push(event.kind as i16);
            let (here, at) = match event.attempt {
                AttemptColumn::None => (None, None),
                AttemptColumn::Here(text) => (Some(text), None),
                AttemptColumn::At(index) => (None, own.seq.get(index).copied()),
            };
            own.attempt.push(here);
            own.attempt_at.push(at);
            own.detail.push(event.detail);
        }
        own
    }

    pub(super) fn values(&self) -> [Value<'_>; 10] {
        [
            &self.count,
            &self.seq,
            &self.at,
            &self.message,
            &self.n,
            &self.upto,
            &self.kind,
            &self.attempt,
            &self.attempt_at,
            &self.detail,
        ]
    }
}
