//! Leasing due recipients: urgent lanes first, then the lane whose oldest recipient is due longest.
//!
//! The cost depends on what is claimed and on the lanes skipped, never on what is queued. Messages that are past their
//! expiry are claimed as well: the caller decides, because only it knows whether the clock jumped.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, params};

use super::encode;
use super::fault::Fault;
use super::work::Work;
use crate::StoreError;
use crate::model::*;

/// Lanes read from the index at a time.
const LANES: usize = 256;

/// Columns of [`read_message`], in order.
pub(super) const MESSAGE_COLUMNS: &str = "message.id, message.accepted, message.sender, message.stream, message.priority, \
     message.reverse_path, message.parameters, message.size, message.eight_bit, message.not_before, message.expires, message.details";

/// A row of [`MESSAGE_COLUMNS`].
pub(super) fn read_message(row: &Row<'_>) -> Result<Message, Fault> {
    let text = |index: usize| -> Result<&str, Fault> {
        row.get_ref(index)?.as_str().map_err(|error| Fault::Command(StoreError::Internal(error.to_string())))
    };
    let maybe = |index: usize| -> Result<Option<&str>, Fault> {
        row.get_ref(index)?.as_str_or_null().map_err(|error| Fault::Command(StoreError::Internal(error.to_string())))
    };
    Ok(Message {
        id: MessageId(row.get(0)?),
        accepted_ms: row.get(1)?,
        sender: text(2)?.into(),
        stream: text(3)?.into(),
        priority: row.get(4)?,
        reverse_path: encode::read_reverse_path(text(5)?)?,
        parameters: encode::read_mail_parameters(maybe(6)?)?,
        size: row.get(7)?,
        eight_bit: row.get(8)?,
        not_before_ms: row.get(9)?,
        expires_ms: row.get(10)?,
        details: encode::read_details(maybe(11)?)?,
    })
}

/// A row of `id, route, domain, sender, stream, priority` from `first` on.
pub(super) fn read_lane(row: &Row<'_>, first: usize) -> Result<Lane, rusqlite::Error> {
    Ok(Lane {
        id: LaneId(row.get(first)?),
        key: LaneKey {
            route: row.get(first + 1)?,
            domain: row.get(first + 2)?,
            sender: row.get(first + 3)?,
            stream: row.get(first + 4)?,
            priority: row.get(first + 5)?,
        },
    })
}

/// Where a walk over the lanes stands: priority, due time, lane.
type Cursor = (i64, i64, i64);

/// A due recipient before it is leased.
struct Due {
    message: MessageId,
    recipient: LeasedRecipient,
}

impl Work<'_> {
    /// Leases due recipients.
    pub(super) fn claim(&mut self, request: &ClaimRequest) -> Result<Claimed, Fault> {
        // Lanes changed earlier in this batch have to be right before they are looked at.
        self.flush_lanes()?;
        let skip: HashSet<LaneId> = request.skip.iter().copied().collect();
        let mut claimed = Claimed::default();
        let mut left = request.max;
        let mut messages: HashMap<MessageId, Arc<Message>> = HashMap::new();
        let mut cursor: Cursor = (-1, i64::MAX, i64::MAX);
        while left > 0 {
            let lanes = self.due_lanes(&mut cursor, request.now_ms, &skip, (left as usize).min(LANES))?;
            if lanes.is_empty() {
                break;
            }
            for lane in lanes {
                if left == 0 {
                    break;
                }
                left = left.saturating_sub(self.claim_lane(request, lane, left, &mut messages, &mut claimed)?);
            }
        }
        self.flush_lanes()?;
        claimed.next_due_ms = self.next_due(&skip)?;
        Ok(claimed)
    }

    /// The next lanes that have something due, in order.
    fn due_lanes(
        &mut self,
        cursor: &mut Cursor,
        now_ms: i64,
        skip: &HashSet<LaneId>,
        enough: usize,
    ) -> Result<Vec<Arc<Lane>>, Fault> {
        let mut found = Vec::new();
        loop {
            let wanted = enough.saturating_sub(found.len());
            if wanted == 0 {
                return Ok(found);
            }
            let mut rows_seen = 0;
            let mut statement = self.connection.prepare_cached(
                "SELECT id, route, domain, sender, stream, priority, next_due FROM lane INDEXED BY lane_due
                 WHERE priority = ?1 AND next_due IS NOT NULL AND next_due <= ?2 AND (next_due, id) > (?3, ?4)
                 ORDER BY next_due, id LIMIT ?5",
            )?;
            let mut rows =
                statement.query(params![cursor.0, now_ms, cursor.1, cursor.2, (wanted + skip.len()) as i64])?;
            while let Some(row) = rows.next()? {
                rows_seen += 1;
                let id = LaneId(row.get(0)?);
                (cursor.1, cursor.2) = (row.get(6)?, id.0);
                if !skip.contains(&id) {
                    found.push(Arc::new(read_lane(row, 0)?));
                    if found.len() >= enough {
                        return Ok(found);
                    }
                }
            }
            if rows_seen == 0 {
                match self.priority_after(cursor.0)? {
                    Some(priority) => *cursor = (priority, i64::MIN, i64::MIN),
                    None => return Ok(found),
                }
            }
        }
    }

    /// The next priority that any lane with a due time has.
    fn priority_after(&mut self, priority: i64) -> Result<Option<i64>, Fault> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT priority FROM lane INDEXED BY lane_due WHERE next_due IS NOT NULL AND priority > ?1
                 ORDER BY priority LIMIT 1",
            )?
            .query_row([priority], |row| row.get(0))
            .optional()?;
        Ok(found)
    }

    /// Leases from one lane; gives how many recipients.
    fn claim_lane(
        &mut self,
        request: &ClaimRequest,
        lane: Arc<Lane>,
        left: u32,
        messages: &mut HashMap<MessageId, Arc<Message>>,
        claimed: &mut Claimed,
    ) -> Result<u32, Fault> {
        let due = self.due_recipients(lane.id, request.now_ms, left.min(request.max_per_lane))?;
        let count = due.len() as u32;
        let first = claimed.claims.len();
        let mut places: HashMap<MessageId, usize> = HashMap::new();
        for Due { message, recipient } in due {
            self.connection
                .prepare_cached(
                    "UPDATE recipient SET state = 1, lease = ?3, due = NULL, wish = NULL WHERE message = ?1 AND n = ?2",
                )?
                .execute(params![message.0, recipient.n, request.by.0])?;
            let place = match places.get(&message) {
                Some(place) => *place,
                None => {
                    let message_row = self.message(message, messages)?;
                    let (lane, recipients) = (lane.clone(), Vec::new());
                    claimed.claims.push(Claim { message: message_row, lane, recipients, lapses: 0 });
                    let place = claimed.claims.len() - 1;
                    places.insert(message, place);
                    place
                }
            };
            debug_assert!(place >= first);
            claimed.claims[place].recipients.push(recipient);
        }
        for claim in &claimed.claims[first..] {
            self.message_leased(claim.message.id, claim.recipients.len())?;
        }
        if count > 0 {
            self.leased(&lane, i64::from(count));
        }
        self.lane_changed(lane.id, -i64::from(count), 0, request.now_ms);
        Ok(count)
    }

    /// Notes in a message's row that more of its recipients are leased.
    fn message_leased(&mut self, id: MessageId, count: usize) -> Result<(), Fault> {
        self.recall(id);
        self.connection
            .prepare_cached("UPDATE message SET leased = leased + ?2 WHERE id = ?1")?
            .execute(params![id.0, count as i64])?;
        Ok(())
    }

    /// Due recipients of a lane: `max`, and those that belong to the last message of them and are due with it.
    fn due_recipients(&mut self, lane: LaneId, now_ms: i64, max: u32) -> Result<Vec<Due>, Fault> {
        let mut statement = self.connection.prepare_cached(
            "SELECT message, n, attempts, address, parameters, due, cause FROM recipient INDEXED BY recipient_due
             WHERE lane = ?1 AND state = 0 AND due <= ?2 ORDER BY due, message, n",
        )?;
        // No LIMIT: the index gives the rows in order, and only those that are asked for.
        let mut rows = statement.query(params![lane.0, now_ms])?;
        let mut due = Vec::new();
        let mut last: Option<(i64, i64)> = None;
        while let Some(row) = rows.next()? {
            let place = Some((row.get(5)?, row.get(0)?));
            // A message torn in two would be two transactions with its next hop.
            if due.len() >= max as usize && last != place {
                break;
            }
            last = place;
            let address: String = row.get(3)?;
            let parameters: Option<String> = row.get(4)?;
            due.push(Due {
                message: MessageId(row.get(0)?),
                recipient: LeasedRecipient {
                    n: row.get(1)?,
                    attempts: row.get(2)?,
                    address: encode::read_address(&address)?,
                    parameters: encode::read_rcpt_parameters(parameters.as_deref())?,
                    unknown_via: encode::read_via(row.get::<_, Option<String>>(6)?.as_deref())?,
                },
            });
        }
        Ok(due)
    }

    /// A message, once per claim however many lanes its recipients are in.
    fn message(
        &mut self,
        id: MessageId,
        messages: &mut HashMap<MessageId, Arc<Message>>,
    ) -> Result<Arc<Message>, Fault> {
        if let Some(found) = messages.get(&id) {
            return Ok(found.clone());
        }
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {MESSAGE_COLUMNS} FROM message WHERE id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        let row = rows.next()?.ok_or_else(|| StoreError::Internal(format!("message {id} is missing")))?;
        let message = Arc::new(read_message(row)?);
        messages.insert(id, message.clone());
        Ok(message)
    }

    /// Earliest due time of the lanes that are not skipped.
    fn next_due(&mut self, skip: &HashSet<LaneId>) -> Result<Option<i64>, Fault> {
        let mut earliest: Option<i64> = None;
        let mut priority = -1;
        while let Some(next) = self.priority_after(priority)? {
            priority = next;
            let mut statement = self.connection.prepare_cached(
                "SELECT id, next_due FROM lane INDEXED BY lane_due WHERE priority = ?1 AND next_due IS NOT NULL
                 ORDER BY next_due",
            )?;
            let mut rows = statement.query([priority])?;
            while let Some(row) = rows.next()? {
                if !skip.contains(&LaneId(row.get(0)?)) {
                    let due: i64 = row.get(1)?;
                    earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
                    break;
                }
            }
        }
        Ok(earliest)
    }
}
