//! What webhooks are to tell: events with their messages and addresses, read in as few statements as the page allows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::columns::signed;
use super::fault::Fault;
use super::hooks::newest_event;
use super::read::{self, EVENT, EventRow, MESSAGE};
use super::tx::Tx;
use super::unit::number;
use crate::encode;
use crate::engine::bounded;
use crate::model::*;
use proto::Address;

/// Events looked at in one question.
const LOOK: i64 = 100_000;
/// Rows whose context is read at once.
const ROWS: usize = 100;

/// Recipients of an event row that have to be told of.
struct Part {
    message: MessageId,
    first: u32,
    last: u32,
}

/// Messages and addresses behind some event rows.
#[derive(Default)]
struct Context {
    messages: HashMap<MessageId, Arc<Message>>,
    addresses: HashMap<MessageId, BTreeMap<u32, Address>>,
}

impl Context {
    /// Reads what these need, of each at most `most` recipients.
    async fn of(tx: &Tx, parts: &[Part], most: usize) -> Result<Self, Fault> {
        let mut context = Self::default();
        if parts.is_empty() {
            return Ok(context);
        }
        let messages: Vec<i64> = parts.iter().map(|part| part.message.0).collect();
        let first: Vec<i32> = parts.iter().map(|part| signed(part.first)).collect();
        let last: Vec<i32> = parts.iter().map(|part| signed(part.last)).collect();
        for row in tx.query(&format!("SELECT {MESSAGE} FROM message WHERE id = ANY($1)"), &[&messages]).await? {
            let message = read::shared_message(&row)?;
            context.messages.insert(message.id, message);
        }
        let rows = tx
            .query(
                "SELECT r.message, r.n, r.address FROM unnest($1::bigint[], $2::integer[], $3::integer[]) AS w(message, first, last)
                 CROSS JOIN LATERAL (SELECT message, n, address FROM recipient
                     WHERE recipient.message = w.message AND n BETWEEN w.first AND w.last ORDER BY n LIMIT $4) AS r",
                &[&messages, &first, &last, &(most as i64)],
            )
            .await?;
        for row in &rows {
            let address = encode::read_address(row.try_get(2)?)?;
            let of = context.addresses.entry(MessageId(row.try_get(0)?)).or_default();
            of.insert(number(row.try_get(1)?), address);
        }
        Ok(context)
    }

    /// A recipient's event, unless message or recipient are gone.
    fn tell(&self, event: Event, n: u32) -> Option<ToldEvent> {
        let message = self.messages.get(&event.message)?.clone();
        let address = self.addresses.get(&event.message)?.get(&n)?.clone();
        Some(ToldEvent { event: Event { n: Some(n), ..event }, message, address })
    }

    /// An event of a whole message for its recipients from `part` on; and whether there are more.
    fn tell_all(&self, event: &Event, part: u32, limit: usize) -> (Vec<ToldEvent>, bool) {
        let Some(all) = self.addresses.get(&event.message) else { return (Vec::new(), false) };
        let more = all.range(part..).nth(limit).is_some();
        let told = all.range(part..).take(limit).filter_map(|(n, _)| self.tell(event.clone(), *n));
        (told.collect(), more)
    }
}

/// A page in the making.
struct Page {
    after: HookCursors,
    limit: usize,
    items: Vec<ToldEvent>,
    upto: HookCursors,
}

impl Page {
    /// Recipients of the whole message that were told already.
    fn part(&self, seq: i64) -> u32 {
        if seq == self.after.events + 1 { self.after.part } else { 0 }
    }

    /// Events of a row that were told already.
    fn told(&self, row: &EventRow) -> i64 {
        self.after.events.saturating_add(1).saturating_sub(row.first.seq).clamp(0, row.count)
    }

    /// Recipients whose addresses a row needs.
    fn needs(&self, row: &EventRow) -> Part {
        let message = row.first.message;
        match row.first.n {
            None => Part { message, first: self.part(row.first.seq), last: u32::MAX },
            Some(first) => {
                let told = u32::try_from(self.told(row)).unwrap_or(0);
                let last = u32::try_from(row.count - 1).unwrap_or(0);
                Part { message, first: first + told, last: first + last }
            }
        }
    }

    /// Adds what a row tells; false if the page ends within it.
    fn add(&mut self, row: &EventRow, context: &Context) -> bool {
        let seq = row.first.seq;
        if self.items.len() >= self.limit {
            self.upto.events = seq.max(self.after.events + 1) - 1;
            return false;
        }
        if row.first.n.is_none() {
            if seq <= self.after.events {
                return true;
            }
            let part = self.part(seq);
            let (told, more) = context.tell_all(&row.first, part, self.limit - self.items.len());
            let next = told.last().and_then(|last| last.event.n).map_or(part, |n| n + 1);
            self.items.extend(told);
            if more {
                self.upto = HookCursors { events: seq - 1, part: next, ..self.after };
            }
            return !more;
        }
        let mut k = self.told(row);
        while k < row.count && self.items.len() < self.limit {
            let event = row.event(k);
            let n = event.n.unwrap_or_default();
            self.items.extend(context.tell(event, n));
            k += 1;
        }
        if k < row.count {
            self.upto.events = seq + k - 1;
        }
        k >= row.count
    }
}

/// Events of some kinds behind a cursor.
pub(super) async fn after(tx: &Tx, ask: &HookAsk) -> Result<ToldEvents, Fault> {
    let limit = bounded(ask.limit);
    let after = ask.after.events;
    let upto = newest_event(tx).await?.min(after.saturating_add(LOOK)).max(after);
    let kinds: Vec<i16> = ask.kinds.iter().map(|kind| *kind as i16).collect();
    // The cursor may stand within a row.
    let sql = format!(
        "SELECT {EVENT} FROM event AS e WHERE e.seq >= coalesce((SELECT max(seq) FROM event WHERE seq <= $1), $1)
             AND e.seq <= $2 AND e.kind = ANY($3) ORDER BY e.seq LIMIT $4"
    );
    let rows = tx.query(&sql, &[&after, &upto, &kinds, &(limit as i64 + 1)]).await?;
    let rows = rows.iter().map(read::event).collect::<Result<Vec<_>, _>>()?;
    let reached = HookCursors { events: upto, part: 0, ..ask.after };
    let mut page = Page { after: ask.after, limit, items: Vec::new(), upto: reached };
    if let Some(last) = rows.get(limit) {
        // There may be more rows than were asked for.
        page.upto.events = last.first.seq + last.count - 1;
    }
    'rows: for some in rows.chunks(ROWS) {
        let parts: Vec<Part> = some.iter().map(|row| page.needs(row)).collect();
        let context = Context::of(tx, &parts, limit + 1).await?;
        for row in some {
            if !page.add(row, &context) {
                break 'rows;
            }
        }
    }
    Ok(ToldEvents { items: page.items, upto: page.upto })
}

/// Single events.
pub(super) async fn single(tx: &Tx, wanted: &[(i64, u32)]) -> Result<Vec<Option<ToldEvent>>, Fault> {
    let seqs: Vec<i64> = wanted.iter().map(|(seq, _)| *seq).collect();
    let sql = format!(
        "SELECT {EVENT}, w.place FROM unnest($1::bigint[]) WITH ORDINALITY AS w(seq, place)
         CROSS JOIN LATERAL (SELECT * FROM event WHERE event.seq <= w.seq ORDER BY event.seq DESC LIMIT 1) AS e"
    );
    let mut events: Vec<Option<Event>> = vec![None; wanted.len()];
    for row in &tx.query(&sql, &[&seqs]).await? {
        let place = usize::try_from(row.try_get::<_, i64>(8)? - 1).unwrap_or(usize::MAX);
        let (Some((seq, n)), Some(slot)) = (wanted.get(place), events.get_mut(place)) else { continue };
        let row = read::event(row)?;
        if seq - row.first.seq < row.count {
            let event = row.event(seq - row.first.seq);
            *slot = Some(event).filter(|event| event.n.is_none_or(|of| of == *n));
        }
    }
    let both = || wanted.iter().zip(&events).filter_map(|((_, n), event)| Some((*n, event.as_ref()?)));
    let parts: Vec<Part> = both().map(|(n, event)| Part { message: event.message, first: n, last: n }).collect();
    let context = Context::of(tx, &parts, 1).await?;
    let told = wanted.iter().zip(events).map(|((_, n), event)| context.tell(event?, *n));
    Ok(told.collect())
}
