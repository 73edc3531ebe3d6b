//! Making a message durable.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use super::command::AcceptRequest;
use super::encode;
use super::event::AttemptColumn;
use super::fault::Fault;
use super::work::{ALIKE, Fresh, GONE, MessageRow, Work};
use crate::engine::queued::starts;
use crate::model::*;

/// An idempotency key answers for a day.
pub(super) const KEY_MS: i64 = 86_400_000;

impl Work<'_> {
    /// Inserts message, recipients and events; the content is already on the disk.
    pub(super) fn accept(&mut self, request: &AcceptRequest) -> Result<Accepted, Fault> {
        let message = &*request.new.message;
        if let Some(end) = &request.new.ends {
            self.check_digest(end)?;
        }
        if let Some(row) = message.details.row
            && !self.take_row(row, message.id)?
        {
            return Ok(Accepted::NotWanted);
        }
        if let Some(key) = &request.new.idempotency {
            if let Some(answer) = self.replay(key, message.accepted_ms)? {
                return Ok(answer);
            }
            self.remember_key(key, message.accepted_ms)?;
        }
        let mut row = MessageRow {
            id: message.id,
            pending: 0,
            leased: 0,
            last_event: 0,
            segment: None,
            size: request.new.content.len() as i64,
            captured: false,
            expires: message.expires_ms,
            parked: None,
            final_at: None,
            returned: false,
            kept: self.retention.content_ms_of(&message.stream) > 0,
        };
        self.event(&mut row, message.accepted_ms, None, EventKind::Accepted, AttemptColumn::None, None)?;
        let folded = self.fold(&request.new)?;
        let recipients = starts(&request.new.recipients, &folded);
        let rests = self.plan_recipients(request, &recipients, &folded, &mut row)?;
        let place = Self::place_or_defect(request.place)?;
        row.segment = Some(place.segment);
        row.parked = rests.then_some(message.expires_ms);
        self.content_changed(place.segment, 1, row.size);
        self.finish_message(&mut row, message.accepted_ms);
        self.insert_message(request, &row, place.offset)?;
        self.insert_recipients(request, &recipients)?;
        if let Some(end) = &request.new.ends {
            self.digest_sent(end, message.id)?;
        }
        if row.pending > 0 && !rests {
            let lane = |to: &NewRecipient| if to.start == Start::Leased { to.lane.id } else { GONE };
            let lanes = recipients.iter().map(lane).collect();
            self.remember(Fresh { row, by: request.new.by, lanes });
        }
        let mut folded: Vec<u32> = folded.into_keys().collect();
        folded.sort_unstable();
        Ok(Accepted::Committed(Committed { id: message.id, folded }))
    }

    pub(super) fn replay(&mut self, key: &Idempotency, now_ms: i64) -> Result<Option<Accepted>, Fault> {
        let found: Option<([u8; 32], String)> = self
            .connection
            .prepare_cached("SELECT fingerprint, answer FROM idempotency WHERE sender = ?1 AND key = ?2 AND at > ?3")?
            .query_row(params![&*key.sender, key.key, now_ms.saturating_sub(KEY_MS)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found.map(
            |(fingerprint, answer)| {
                if fingerprint == key.fingerprint { Accepted::Replayed(answer) } else { Accepted::KeyConflict }
            },
        ))
    }

    pub(super) fn remember_key(&mut self, key: &Idempotency, now_ms: i64) -> Result<(), Fault> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO idempotency(sender, key, fingerprint, answer, at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![&*key.sender, key.key, key.fingerprint, key.answer, now_ms])?;
        Ok(())
    }

    /// Events and counts of the recipients' first states; true if one of them waits or is held.
    fn plan_recipients(
        &mut self,
        request: &AcceptRequest,
        recipients: &[NewRecipient],
        folded: &HashMap<u32, i64>,
        row: &mut MessageRow,
    ) -> Result<bool, Fault> {
        let at_ms = request.new.message.accepted_ms;
        let mut rests = false;
        for (n, recipient) in recipients.iter().enumerate() {
            let n = Some(n as u32);
            self.know_lane(&recipient.lane, at_ms)?;
            match &recipient.start {
                Start::Waiting(_) => {
                    rests = true;
                    row.pending += 1;
                    self.lane_changed(recipient.lane.id, 1, 0, at_ms);
                }
                Start::Leased => {
                    row.pending += 1;
                    row.leased += 1;
                    self.leased(&recipient.lane, 1);
                }
                Start::Held(why) => {
                    rests = true;
                    row.pending += 1;
                    self.lane_changed(recipient.lane.id, 0, 1, at_ms);
                    let until_ms = n.and_then(|n| folded.get(&n)).copied();
                    let detail = encode::detail(None, until_ms, Some(why))?;
                    self.event(row, at_ms, n, EventKind::Held, AttemptColumn::None, detail.as_deref())?;
                }
                Start::Suppressed(why) => {
                    // A notice returns its header.
                    let notify = recipient.parameters.notify;
                    row.returned |= matches!(notify, Some(proto::DeliveryNotify::On { failure: true, .. }));
                    let detail = Self::why_detail(why)?;
                    self.event(row, at_ms, n, EventKind::Suppressed, AttemptColumn::None, detail.as_deref())?;
                }
            }
        }
        Ok(rests)
    }

    fn insert_message(&mut self, request: &AcceptRequest, row: &MessageRow, offset: u64) -> Result<(), Fault> {
        let message = &*request.new.message;
        self.statements.insert_message.execute(params![
            row.id.0,
            row.pending,
            row.final_at,
            row.last_event,
            row.parked,
            row.segment,
            offset as i64,
            row.size,
            request.hash,
            message.accepted_ms,
            message.not_before_ms,
            message.expires_ms,
            message.priority,
            message.eight_bit,
            &*message.sender,
            &*message.stream,
            encode::reverse_path(&message.reverse_path),
            request.parameters,
            request.details,
            row.leased,
            message.details.row.map(|row| row.batch.0),
        ])?;
        Ok(())
    }

    fn insert_recipients(&mut self, request: &AcceptRequest, recipients: &[NewRecipient]) -> Result<(), Fault> {
        let mut n = 0;
        for group in recipients.chunks(ALIKE) {
            if group.len() == ALIKE && group.iter().all(is_plain) {
                self.insert_alike(request, n, group)?;
            } else {
                for (k, recipient) in group.iter().enumerate() {
                    self.insert_recipient(request, n + k as u32, recipient)?;
                }
            }
            n += group.len() as u32;
        }
        Ok(())
    }

    /// Inserts [`ALIKE`] recipients that are plain, the first of them being number `n`.
    fn insert_alike(&mut self, request: &AcceptRequest, n: u32, group: &[NewRecipient]) -> Result<(), Fault> {
        let statement = &mut self.statements.insert_leased;
        statement.raw_bind_parameter(1, request.new.message.id.0)?;
        statement.raw_bind_parameter(2, request.new.by.0)?;
        statement.raw_bind_parameter(3, n)?;
        for (k, recipient) in group.iter().enumerate() {
            statement.raw_bind_parameter(4 + 2 * k, recipient.lane.id.0)?;
            statement.raw_bind_parameter(5 + 2 * k, recipient.address.as_str())?;
        }
        statement.raw_execute()?;
        Ok(())
    }

    fn insert_recipient(&mut self, request: &AcceptRequest, n: u32, recipient: &NewRecipient) -> Result<(), Fault> {
        let message = &*request.new.message;
        let (state, lease, due, why) = match &recipient.start {
            Start::Waiting(due_ms) => (State::Waiting, 0, Some((*due_ms).min(message.expires_ms)), None),
            Start::Leased => (State::Leased, request.new.by.0, None, None),
            Start::Held(why) => (State::Held, 0, None, Some(why.as_str())),
            Start::Suppressed(why) => (State::Suppressed, 0, None, Some(why.as_str())),
        };
        let parameters = encode::rcpt_parameters(&recipient.parameters)?;
        self.statements.insert_recipient.execute(params![
            message.id.0,
            n,
            state as u8,
            lease,
            recipient.lane.id.0,
            due,
            why,
            parameters,
            recipient.address.as_str(),
        ])?;
        Ok(())
    }
}

/// Leased from the start and without parameters: what most recipients are.
fn is_plain(recipient: &NewRecipient) -> bool {
    recipient.start == Start::Leased && recipient.parameters.notify.is_none() && recipient.parameters.orcpt.is_none()
}
