//! Making messages durable, many at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::columns::signed;
use super::digest::Windows;
use super::fault::Fault;
use super::shared::Shared;
use super::tx::{self, Mode, Step, Tx, Value};
use super::unit::{AttemptColumn, MessageRow, clean, finish};
use super::{batch, keys, lanes};
use crate::engine::queued::starts;
use crate::model::*;
use crate::{StoreError, encode};

/// Octets of a content that are one row.
const PART: usize = 4 << 20;

/// A message that was encoded by whoever brought it.
#[derive(Clone)]
pub(super) struct AcceptRequest {
    pub(super) new: Arc<NewMessage>,
    pub(super) hash: [u8; 32],
    pub(super) parameters: Option<String>,
    pub(super) details: Option<String>,
}

impl AcceptRequest {
    pub(super) fn new(new: NewMessage) -> Result<Self, StoreError> {
        Ok(Self {
            hash: *blake3::hash(&new.content).as_bytes(),
            parameters: encode::mail_parameters(&new.message.parameters)?,
            details: encode::details(&new.message.details)?,
            new: Arc::new(new),
        })
    }
}

/// A batch, with the number that its leases carry.
pub(super) struct Batch {
    requests: Arc<Vec<AcceptRequest>>,
    ticket: i64,
}

/// Accepts a batch in one transaction.
pub(super) async fn run(
    shared: &Arc<Shared>,
    requests: Arc<Vec<AcceptRequest>>,
) -> Result<Vec<Result<Accepted, StoreError>>, Fault> {
    let all: Vec<Arc<Lane>> =
        requests.iter().flat_map(|request| request.new.recipients.iter().map(|to| to.lane.clone())).collect();
    let now_ms = requests.iter().map(|request| request.new.message.accepted_ms).max().unwrap_or(0);
    lanes::know(shared, &all, now_ms).await?;
    let batch = Arc::new(Batch { requests: requests.clone(), ticket: shared.next_ticket() });
    let done = tx::run(shared, Mode::Write, batch.clone(), |tx, batch| async move { accept(&tx, &batch).await }).await;
    if let Err(Fault::Unknown(_)) = &done {
        // Whoever brought them hears that they were not committed, and knows of no lease.
        let mut holders: Vec<i64> = requests.iter().map(|request| request.new.by.0).collect();
        holders.dedup();
        holders.into_iter().for_each(|by| shared.orphaned(by, batch.ticket));
    }
    if requests.iter().any(|request| request.new.recipients.iter().any(|to| matches!(to.start, Start::Waiting(_)))) {
        shared.news.store(true, Ordering::Relaxed);
    }
    done.map(|answers| answers.into_iter().map(Ok).collect())
}

async fn accept(tx: &Tx, batch: &Batch) -> Result<Vec<Accepted>, Fault> {
    let mut answers: Vec<Option<Accepted>> = refused(tx, &batch.requests).await?;
    let open: Vec<&NewMessage> = batch.requests.iter().map(|request| &*request.new).collect();
    let mut windows = Windows::of(tx, &open).await?;
    let mut columns = Columns::default();
    for (request, answer) in batch.requests.iter().zip(&mut answers) {
        if answer.is_some() {
            continue;
        }
        let new = &*request.new;
        if let Some(end) = &new.ends {
            windows.check(end)?;
        }
        let folded = windows.fold(new);
        columns.add(tx, request, &folded, batch.ticket)?;
        if let Some(end) = &new.ends {
            windows.sent(end, new.message.id);
        }
        let mut folded: Vec<u32> = folded.into_keys().collect();
        folded.sort_unstable();
        *answer = Some(Accepted::Committed(Committed { id: new.message.id, folded }));
    }
    windows.write(tx).await?;
    columns.write(tx).await?;
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Accepted::NotWanted)).collect())
}

/// Answers of those that are not stored: their row was done with, or their key was used.
async fn refused(tx: &Tx, requests: &[AcceptRequest]) -> Result<Vec<Option<Accepted>>, Fault> {
    let mut answers: Vec<Option<Accepted>> = vec![None; requests.len()];
    let rows: Vec<(usize, (RowRef, MessageId))> = requests
        .iter()
        .enumerate()
        .filter_map(|(index, request)| Some((index, (request.new.message.details.row?, request.new.message.id))))
        .collect();
    if !rows.is_empty() {
        let wanted: Vec<(RowRef, MessageId)> = rows.iter().map(|(_, row)| *row).collect();
        for ((index, _), taken) in rows.iter().zip(batch::take_rows(tx, &wanted).await?) {
            if !taken {
                answers[*index] = Some(Accepted::NotWanted);
            }
        }
    }
    let keyed: Vec<(usize, (&Idempotency, i64))> = requests
        .iter()
        .enumerate()
        .filter(|(index, _)| answers[*index].is_none())
        .filter_map(|(index, request)| {
            let key = request.new.idempotency.as_ref()?;
            Some((index, (key, request.new.message.accepted_ms)))
        })
        .collect();
    let wanted: Vec<(&Idempotency, i64)> = keyed.iter().map(|(_, key)| *key).collect();
    for ((index, _), answer) in keyed.iter().zip(keys::take(tx, &wanted).await?) {
        answers[*index] = answer;
    }
    Ok(answers)
}

/// New rows by column.
#[derive(Default)]
struct Columns {
    id: Vec<i64>,
    pending: Vec<i32>,
    final_at: Vec<Option<i64>>,
    parked: Vec<Option<i64>>,
    stored: Vec<bool>,
    size: Vec<i64>,
    hash: Vec<Vec<u8>>,
    accepted: Vec<i64>,
    not_before: Vec<Option<i64>>,
    expires: Vec<i64>,
    deadline: Vec<bool>,
    priority: Vec<i16>,
    eight_bit: Vec<bool>,
    sender: Vec<String>,
    stream: Vec<String>,
    reverse_path: Vec<String>,
    parameters: Vec<Option<String>>,
    details: Vec<Option<String>>,
    batch: Vec<Option<i64>>,
    to: ToColumns,
    content_of: Vec<i64>,
    part: Vec<i32>,
    data: Vec<bytes::Bytes>,
}

#[derive(Default)]
struct ToColumns {
    message: Vec<i64>,
    n: Vec<i32>,
    state: Vec<i16>,
    lease: Vec<i64>,
    ticket: Vec<i64>,
    lane: Vec<i64>,
    due: Vec<Option<i64>>,
    why: Vec<Option<String>>,
    parameters: Vec<Option<String>>,
    address: Vec<String>,
}

impl Columns {
    /// Adds a message with its recipients, events and content.
    fn add(&mut self, tx: &Tx, request: &AcceptRequest, folded: &HashMap<u32, i64>, ticket: i64) -> Result<(), Fault> {
        let (new, message) = (&*request.new, &*request.new.message);
        let mut row = MessageRow {
            id: message.id,
            pending: 0,
            final_at: None,
            parked: None,
            captured: false,
            stored: true,
            expires: message.expires_ms,
            not_before: message.not_before_ms,
            deadline: message.details.deadline,
            returned: false,
            kept: tx.shared.retention.lock().content_ms_of(&message.stream) > 0,
        };
        tx.event(message.id, message.accepted_ms, None, EventKind::Accepted, AttemptColumn::None, None);
        for (n, recipient) in starts(&new.recipients, folded).iter().enumerate() {
            let n = n as u32;
            start(tx, &mut row, message, (n, recipient), folded.get(&n).copied())?;
            self.to.add(message, n, recipient, (new.by, ticket))?;
        }
        finish(&mut row, message.accepted_ms);
        self.id.push(message.id.0);
        self.pending.push(row.pending);
        self.final_at.push(row.final_at);
        self.parked.push(row.parked);
        self.stored.push(row.stored);
        self.size.push(new.content.len() as i64);
        self.hash.push(request.hash.to_vec());
        self.accepted.push(message.accepted_ms);
        self.not_before.push(message.not_before_ms);
        self.expires.push(message.expires_ms);
        self.deadline.push(message.details.deadline);
        self.priority.push(i16::from(message.priority));
        self.eight_bit.push(message.eight_bit);
        self.sender.push(clean(&message.sender));
        self.stream.push(clean(&message.stream));
        self.reverse_path.push(clean(encode::reverse_path(&message.reverse_path)));
        self.parameters.push(request.parameters.clone());
        self.details.push(request.details.clone());
        self.batch.push(message.details.row.map(|row| row.batch.0));
        if row.stored {
            let parts = new.content.len().div_ceil(PART).max(1);
            for part in 0..parts {
                self.content_of.push(message.id.0);
                self.part.push(part as i32);
                self.data.push(new.content.slice(part * PART..((part + 1) * PART).min(new.content.len())));
            }
        }
        Ok(())
    }

    async fn write(&self, tx: &Tx) -> Result<(), Fault> {
        if self.id.is_empty() {
            return Ok(());
        }
        // Octets are sent as they are, not copied into vectors.
        let data: Vec<&[u8]> = self.data.iter().map(|part| &part[..]).collect();
        let messages: [Value<'_>; 19] = [
            &self.id,
            &self.pending,
            &self.final_at,
            &self.parked,
            &self.stored,
            &self.size,
            &self.hash,
            &self.accepted,
            &self.not_before,
            &self.expires,
            &self.deadline,
            &self.priority,
            &self.eight_bit,
            &self.sender,
            &self.stream,
            &self.reverse_path,
            &self.parameters,
            &self.details,
            &self.batch,
        ];
        let to = &self.to;
        let recipients: [Value<'_>; 10] = [
            &to.message,
            &to.n,
            &to.state,
            &to.lease,
            &to.ticket,
            &to.lane,
            &to.due,
            &to.why,
            &to.parameters,
            &to.address,
        ];
        let contents: [Value<'_>; 3] = [&self.content_of, &self.part, &data];
        let steps: [Step<'_>; 3] =
            [(INSERT_MESSAGES, &messages), (INSERT_RECIPIENTS, &recipients), (INSERT_CONTENTS, &contents)];
        tx.pipeline(&steps).await?;
        Ok(())
    }
}

impl ToColumns {
    fn add(
        &mut self,
        message: &Message,
        n: u32,
        recipient: &NewRecipient,
        (by, ticket): (Incarnation, i64),
    ) -> Result<(), Fault> {
        let (state, lease, ticket, due, why) = match &recipient.start {
            Start::Waiting(due_ms) => (State::Waiting, 0, 0, Some((*due_ms).min(message.expires_ms)), None),
            Start::Leased => (State::Leased, by.0, ticket, None, None),
            Start::Held(why) => (State::Held, 0, 0, None, Some(clean(why))),
            Start::Suppressed(why) => (State::Suppressed, 0, 0, None, Some(clean(why))),
        };
        self.message.push(message.id.0);
        self.n.push(signed(n));
        self.state.push(state as i16);
        self.lease.push(lease);
        self.ticket.push(ticket);
        self.lane.push(recipient.lane.id.0);
        self.due.push(due);
        self.why.push(why);
        self.parameters.push(encode::rcpt_parameters(&recipient.parameters)?);
        self.address.push(clean(recipient.address.as_str()));
        Ok(())
    }
}

/// Events and counts of a recipient's first state.
fn start(
    tx: &Tx,
    row: &mut MessageRow,
    message: &Message,
    (n, recipient): (u32, &NewRecipient),
    until_ms: Option<i64>,
) -> Result<(), Fault> {
    let at_ms = message.accepted_ms;
    match &recipient.start {
        Start::Waiting(due_ms) => {
            row.pending += 1;
            row.parked = Some(message.expires_ms);
            tx.lane_changed(recipient.lane.id, 1, 0, Some((*due_ms).min(message.expires_ms)), at_ms);
        }
        Start::Leased => row.pending += 1,
        Start::Held(why) => {
            row.pending += 1;
            row.parked = Some(message.expires_ms);
            tx.lane_changed(recipient.lane.id, 0, 1, None, at_ms);
            let detail = encode::detail(None, until_ms, Some(why))?;
            tx.event(row.id, at_ms, Some(n), EventKind::Held, AttemptColumn::None, detail);
        }
        Start::Suppressed(why) => {
            // A notice returns its header.
            let notify = recipient.parameters.notify;
            row.returned |= matches!(notify, Some(proto::DeliveryNotify::On { failure: true, .. }));
            tx.event_why(row.id, at_ms, Some(n), EventKind::Suppressed, why)?;
        }
    }
    Ok(())
}

const INSERT_MESSAGES: &str = "INSERT INTO message(id, pending, final_at, parked, stored, size, hash, accepted, not_before,
         expires, deadline, priority, eight_bit, sender, stream, reverse_path, parameters, details, batch)
     SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::boolean[], $6::bigint[], $7::bytea[],
         $8::bigint[], $9::bigint[], $10::bigint[], $11::boolean[], $12::smallint[], $13::boolean[], $14::text[], $15::text[],
         $16::text[], $17::text[], $18::text[], $19::bigint[])";
const INSERT_RECIPIENTS: &str =
    "INSERT INTO recipient(message, n, state, lease, ticket, lane, due, attempts, why, parameters,
         address)
     SELECT u.message, u.n, u.state, u.lease, u.ticket, u.lane, u.due, 0, u.why, u.parameters, u.address
     FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
             $8::text[], $9::text[], $10::text[])
         AS u(message, n, state, lease, ticket, lane, due, why, parameters, address)";
const INSERT_CONTENTS: &str = "INSERT INTO content(message, part, data)
     SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bytea[])";
