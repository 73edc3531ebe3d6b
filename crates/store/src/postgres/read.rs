//! Rows of messages and events as nouns.

use std::sync::Arc;

use tokio_postgres::Row;

use super::fault::Fault;
use super::unit::number;
use crate::encode;
use crate::engine::queued::event_kind;
use crate::model::*;

/// Columns of [`message`], in order; the table goes by its own name.
pub(super) const MESSAGE: &str = "message.id, message.accepted, message.sender, message.stream, message.priority, \
     message.reverse_path, message.parameters, message.size, message.eight_bit, message.not_before, message.expires, \
     message.details";

/// A message, from columns `first` on.
pub(super) fn message(row: &Row, first: usize) -> Result<Message, Fault> {
    let (priority, size): (i16, i64) = (row.try_get(first + 4)?, row.try_get(first + 7)?);
    Ok(Message {
        id: MessageId(row.try_get(first)?),
        accepted_ms: row.try_get(first + 1)?,
        sender: row.try_get::<_, &str>(first + 2)?.into(),
        stream: row.try_get::<_, &str>(first + 3)?.into(),
        priority: u8::try_from(priority).unwrap_or(u8::MAX),
        reverse_path: encode::read_reverse_path(row.try_get(first + 5)?)?,
        parameters: encode::read_mail_parameters(row.try_get(first + 6)?)?,
        size: u32::try_from(size).unwrap_or(u32::MAX),
        eight_bit: row.try_get(first + 8)?,
        not_before_ms: row.try_get(first + 9)?,
        expires_ms: row.try_get(first + 10)?,
        details: encode::read_details(row.try_get(first + 11)?)?,
    })
}

/// A row, which stands for the events of one recipient or of several neighbours.
#[derive(Debug, Clone)]
pub(super) struct EventRow {
    pub(super) first: Event,
    pub(super) count: i64,
}

impl EventRow {
    /// The event of the k-th recipient.
    pub(super) fn event(&self, k: i64) -> Event {
        let n = self.first.n.map(|n| n + u32::try_from(k).unwrap_or(0));
        Event { seq: self.first.seq + k, n, ..self.first.clone() }
    }
}

/// Columns of [`event`], in order, of the table `event AS e`. The event that holds the attempt is of the same moment: it is
/// looked for in one part of the table.
pub(super) const EVENT: &str = "e.seq, e.at, e.message, e.n, e.kind, CASE WHEN e.attempt_at IS NULL THEN e.attempt \
     ELSE (SELECT a.attempt FROM event AS a WHERE a.seq = e.attempt_at AND a.at = e.at) END, e.detail, \
     coalesce(e.upto - e.n, 0) + 1";

/// An event row.
pub(super) fn event(row: &Row) -> Result<EventRow, Fault> {
    let attempt: Option<&str> = row.try_get(5)?;
    let attempt = attempt.map(encode::read_attempt).transpose()?;
    let (kind, count): (i16, i32) = (row.try_get(4)?, row.try_get(7)?);
    Ok(EventRow {
        first: Event {
            seq: row.try_get(0)?,
            at_ms: row.try_get(1)?,
            message: MessageId(row.try_get(2)?),
            n: row.try_get::<_, Option<i32>>(3)?.map(number),
            kind: event_kind(u8::try_from(kind).unwrap_or(u8::MAX))?,
            detail: encode::read_detail(row.try_get(6)?, attempt)?,
        },
        count: count.into(),
    })
}

/// A message that several rows refer to.
pub(super) fn shared_message(row: &Row) -> Result<Arc<Message>, Fault> {
    Ok(Arc::new(message(row, 0)?))
}
