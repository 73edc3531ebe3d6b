//! Webhooks: events to tell of, and how far each webhook has come.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::browse::{Snapshot, bounded};
use super::claim::{MESSAGE_COLUMNS, read_message};
use super::encode;
use super::events::{Attempts, EVENT, LOOK, read_event};
use super::fault::Fault;
use super::upkeep::STEP;
use super::work::Work;
use crate::StoreError;
use crate::model::*;

/// Entries of the log that a webhook keeps.
const LOG: i64 = 10_000;
/// The log is cut when its numbers pass a multiple of this.
const CUT: i64 = 100;
/// Events are noted when their transaction is written, a little after the moment they carry: how far these may be apart.
const SKEW_MS: i64 = 60_000;

/// A step of a webhook, for the writer.
pub(super) enum HookChange {
    /// Begins behind these.
    Start { name: String, cursors: Option<HookCursors> },
    /// Writes down a step.
    Progress { name: String, progress: Box<HookProgress>, state: String, log: Vec<String> },
    /// Lets everything that waits be due.
    Hasten { name: String, due_ms: i64 },
    /// Goes on after a pause.
    Resume { name: String, state: String, due_ms: i64 },
    /// Forgets all.
    Forget { name: String },
}

impl Work<'_> {
    /// One step; gives a number that depends on the step.
    pub(super) fn hook(&mut self, change: &HookChange) -> Result<i64, Fault> {
        match change {
            HookChange::Start { name, cursors } => self.start_hook(name, *cursors),
            HookChange::Progress { name, progress, state, log } => self.hook_progress(name, progress, state, log),
            HookChange::Hasten { name, due_ms } => {
                let changed = self
                    .connection
                    .prepare_cached("UPDATE hook_waiting SET due = ?2 WHERE name = ?1 AND due > ?2")?
                    .execute(params![name, due_ms])?;
                Ok(changed as i64)
            }
            HookChange::Resume { name, state, due_ms } => {
                let changed = self
                    .connection
                    .prepare_cached("UPDATE hook SET state = ?2 WHERE name = ?1")?
                    .execute(params![name, state])?;
                if changed == 0 {
                    return Err(StoreError::NotFound.into());
                }
                let changed = self
                    .connection
                    .prepare_cached("UPDATE hook_waiting SET due = ?2, attempts = 0, first = 0 WHERE name = ?1")?
                    .execute(params![name, due_ms])?;
                Ok(changed as i64)
            }
            HookChange::Forget { name } => {
                for table in ["hook", "hook_waiting", "hook_delivery"] {
                    self.connection.execute(&format!("DELETE FROM {table} WHERE name = ?1"), [name])?;
                }
                Ok(0)
            }
        }
    }

    fn start_hook(&mut self, name: &str, cursors: Option<HookCursors>) -> Result<i64, Fault> {
        let cursors = match cursors {
            Some(cursors) => cursors,
            None => {
                HookCursors { events: self.next_seq() - 1, part: 0, suppressions: newest_suppression(self.connection)? }
            }
        };
        self.connection
            .prepare_cached(
                "INSERT INTO hook(name, event, part, suppression, state) VALUES (?1, ?2, 0, ?3, 'null')
                 ON CONFLICT(name) DO UPDATE SET event = ?2, part = 0, suppression = ?3",
            )?
            .execute(params![name, cursors.events, cursors.suppressions])?;
        for (source, after) in [(HookSource::Event, cursors.events), (HookSource::Suppression, cursors.suppressions)] {
            self.connection
                .prepare_cached("DELETE FROM hook_waiting WHERE name = ?1 AND source = ?2 AND seq > ?3")?
                .execute(params![name, source as u8, after])?;
        }
        Ok(cursors.events)
    }

    fn hook_progress(
        &mut self,
        name: &str,
        progress: &HookProgress,
        state: &str,
        log: &[String],
    ) -> Result<i64, Fault> {
        let changed = match progress.cursors {
            Some(HookCursors { events, part, suppressions }) => self
                .connection
                .prepare_cached("UPDATE hook SET state = ?2, event = ?3, part = ?4, suppression = ?5 WHERE name = ?1")?
                .execute(params![name, state, events, part, suppressions])?,
            None => self
                .connection
                .prepare_cached("UPDATE hook SET state = ?2 WHERE name = ?1")?
                .execute(params![name, state])?,
        };
        if changed == 0 {
            return Err(StoreError::NotFound.into());
        }
        for (source, seq, n) in &progress.done {
            self.connection
                .prepare_cached("DELETE FROM hook_waiting WHERE name = ?1 AND source = ?2 AND seq = ?3 AND n = ?4")?
                .execute(params![name, *source as u8, seq, n])?;
        }
        for one in &progress.waiting {
            self.connection
                .prepare_cached(
                    "INSERT INTO hook_waiting(name, source, seq, n, key, attempts, first, due)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                     ON CONFLICT(name, source, seq, n) DO UPDATE SET attempts = ?6, first = ?7, due = ?8",
                )?
                .execute(params![
                    name,
                    one.source as u8,
                    one.seq,
                    one.n,
                    one.key,
                    one.attempts,
                    one.first_ms,
                    one.due_ms
                ])?;
        }
        self.write_log(name, &progress.log, log)?;
        Ok(0)
    }

    fn write_log(&mut self, name: &str, entries: &[HookDelivery], bodies: &[String]) -> Result<(), Fault> {
        let mut last = 0;
        for (entry, body) in entries.iter().zip(bodies) {
            last = self
                .connection
                .prepare_cached("INSERT INTO hook_delivery(name, at, taken, body) VALUES (?1, ?2, ?3, ?4)")?
                .insert(params![name, entry.at_ms, entry.taken, body])?;
        }
        if last / CUT != (last - entries.len() as i64) / CUT {
            self.connection
                .prepare_cached(
                    "DELETE FROM hook_delivery WHERE name = ?1 AND id <=
                         (SELECT id FROM hook_delivery WHERE name = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                )?
                .execute(params![name, LOG])?;
        }
        Ok(())
    }

    /// Numbers grow with time, so the oldest are looked at only.
    pub(super) fn remove_deliveries(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let removed = self
            .connection
            .prepare_cached(
                "DELETE FROM hook_delivery WHERE id IN
                     (SELECT id FROM (SELECT id, at FROM hook_delivery ORDER BY id LIMIT ?2) WHERE at <= ?1)",
            )?
            .execute(params![before_ms, STEP as i64])?;
        Ok(removed as u64)
    }
}

fn newest_suppression(connection: &Connection) -> Result<i64, Fault> {
    let newest = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'suppression_change'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(newest.unwrap_or(0))
}

/// Where to begin so that nothing of this moment or later is left out.
pub(super) fn cursors_at(connection: &Connection, at_ms: i64) -> Result<HookCursors, StoreError> {
    let events = event_before(connection, at_ms)?;
    let suppressions: Option<i64> = connection
        .prepare_cached("SELECT seq - 1 FROM suppression_change WHERE at >= ?1 ORDER BY seq LIMIT 1")
        .and_then(|mut statement| statement.query_row([at_ms], |row| row.get(0)).optional())
        .map_err(Fault::from)?;
    let suppressions = match suppressions {
        Some(before) => before,
        None => newest_suppression(connection)?,
    };
    Ok(HookCursors { events, part: 0, suppressions })
}

/// The last event before a moment. Numbers grow with time but for [`SKEW_MS`]: found by halving, then step by step.
fn event_before(connection: &Connection, at_ms: i64) -> Result<i64, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let newest = newest(connection)?.unwrap_or(0);
    let (mut low, mut high) = (0, newest + 1);
    let mut next = connection.prepare_cached("SELECT seq, at FROM event WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(i64, i64)> = next.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match found {
            Some((seq, at)) if at < at_ms.saturating_sub(SKEW_MS) => low = seq + 1,
            _ => high = middle,
        }
    }
    let first: Option<i64> = connection
        .prepare_cached("SELECT seq FROM event WHERE seq >= ?1 AND at >= ?2 ORDER BY seq LIMIT 1")?
        .query_row(params![low, at_ms], |row| row.get(0))
        .optional()?;
    Ok(first.map_or(newest, |seq| seq - 1))
}

fn newest(connection: &Connection) -> Result<Option<i64>, Fault> {
    let found = connection
        .prepare_cached("SELECT seq + coalesce(upto - n, 0) FROM event ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(found)
}

/// Where all webhooks stand.
pub(super) fn hooks(connection: &Connection) -> Result<Vec<HookPlace>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT name, event, part, suppression, state,
             (SELECT count(*) FROM hook_waiting WHERE hook_waiting.name = hook.name) FROM hook ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    let mut places = Vec::new();
    while let Some(row) = rows.next()? {
        places.push(HookPlace {
            name: row.get(0)?,
            cursors: HookCursors { events: row.get(1)?, part: row.get(2)?, suppressions: row.get(3)? },
            waiting: row.get::<_, i64>(5)?.unsigned_abs(),
            state: read_json(row, 4)?,
        });
    }
    Ok(places)
}

fn read_json(row: &Row<'_>, column: usize) -> Result<serde_json::Value, Fault> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| StoreError::Internal(format!("a webhook's note: {error}")).into())
}

/// Messages and addresses behind events, each message read once.
struct Context<'c> {
    connection: &'c Connection,
    messages: HashMap<MessageId, Option<Arc<Message>>>,
}

impl Context<'_> {
    /// A recipient's event, unless message or recipient are gone.
    fn tell(&mut self, event: Event, n: u32) -> Result<Option<ToldEvent>, Fault> {
        let Some(message) = self.message(event.message)? else { return Ok(None) };
        let address: Option<String> = self
            .connection
            .prepare_cached("SELECT address FROM recipient WHERE message = ?1 AND n = ?2")?
            .query_row(params![event.message.0, n], |row| row.get(0))
            .optional()?;
        let Some(address) = address.as_deref().map(encode::read_address).transpose()? else { return Ok(None) };
        Ok(Some(ToldEvent { event: Event { n: Some(n), ..event }, message, address }))
    }

    /// An event of a whole message for its recipients from `part` on; and whether there are more.
    fn tell_all(&mut self, event: &Event, part: u32, limit: usize) -> Result<(Vec<ToldEvent>, bool), Fault> {
        let Some(message) = self.message(event.message)? else { return Ok((Vec::new(), false)) };
        let mut statement = self
            .connection
            .prepare_cached("SELECT n, address FROM recipient WHERE message = ?1 AND n >= ?2 ORDER BY n LIMIT ?3")?;
        let mut rows = statement.query(params![event.message.0, part, limit as i64 + 1])?;
        let mut told = Vec::new();
        while let Some(row) = rows.next()? {
            if told.len() == limit {
                return Ok((told, true));
            }
            let address: String = row.get(1)?;
            let address = encode::read_address(&address)?;
            let event = Event { n: row.get(0)?, ..event.clone() };
            told.push(ToldEvent { event, message: message.clone(), address });
        }
        Ok((told, false))
    }

    fn message(&mut self, id: MessageId) -> Result<Option<Arc<Message>>, Fault> {
        if let Some(known) = self.messages.get(&id) {
            return Ok(known.clone());
        }
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {MESSAGE_COLUMNS} FROM message WHERE id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        let message = rows.next()?.map(read_message).transpose()?.map(Arc::new);
        self.messages.insert(id, message.clone());
        Ok(message)
    }
}

/// Events of some kinds behind a cursor.
pub(super) fn told_after(connection: &Connection, ask: &HookAsk) -> Result<ToldEvents, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let limit = bounded(ask.limit);
    let after = ask.after.events;
    let upto = newest(connection)?.unwrap_or(after).min(after.saturating_add(LOOK)).max(after);
    let kinds: i64 = ask.kinds.iter().fold(0, |mask, kind| mask | 1 << (*kind as u8));
    // The cursor may stand within a row.
    let mut statement = connection.prepare_cached(&format!(
        "{EVENT} WHERE seq >= coalesce((SELECT max(seq) FROM event WHERE seq <= ?1), ?1) AND seq <= ?2
             AND (1 << kind) & ?3 ORDER BY seq LIMIT ?4"
    ))?;
    let mut rows = statement.query(params![after, upto, kinds, limit as i64 + 1])?;
    let mut context = Context { connection, messages: HashMap::new() };
    let mut attempts = Attempts::new();
    let mut items: Vec<ToldEvent> = Vec::new();
    let mut reached = HookCursors { events: upto, part: 0, ..ask.after };
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let row = read_event(connection, row, &mut attempts)?;
        let seq = row.first.seq;
        count += 1;
        if count > limit {
            // There may be more rows than were asked for.
            reached.events = seq + row.count - 1;
        }
        if items.len() >= limit {
            reached.events = seq.max(after + 1) - 1;
            break;
        }
        if row.first.n.is_none() {
            if seq <= after {
                continue;
            }
            let part = if seq == after + 1 { ask.after.part } else { 0 };
            let (told, more) = context.tell_all(&row.first, part, limit - items.len())?;
            if more {
                let part = told.last().and_then(|last| last.event.n).map_or(part, |n| n + 1);
                items.extend(told);
                reached = HookCursors { events: seq - 1, part, ..ask.after };
                break;
            }
            items.extend(told);
            continue;
        }
        let told = after.saturating_add(1).saturating_sub(seq).clamp(0, row.count);
        let mut k = told;
        while k < row.count && items.len() < limit {
            let event = row.event(k);
            let n = event.n.unwrap_or_default();
            items.extend(context.tell(event, n)?);
            k += 1;
        }
        if k < row.count {
            reached.events = seq + k - 1;
            break;
        }
    }
    Ok(ToldEvents { items, upto: reached })
}

/// Single events.
pub(super) fn told(connection: &Connection, wanted: &[(i64, u32)]) -> Result<Vec<Option<ToldEvent>>, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let mut context = Context { connection, messages: HashMap::new() };
    let mut attempts = Attempts::new();
    let mut statement = connection.prepare_cached(&format!("{EVENT} WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1"))?;
    let mut found = Vec::new();
    for (seq, n) in wanted {
        let mut rows = statement.query([seq])?;
        let row = rows.next()?.map(|row| read_event(connection, row, &mut attempts)).transpose()?;
        let row = row.filter(|row| seq - row.first.seq < row.count);
        let event = row.map(|row| row.event(seq - row.first.seq));
        found.push(match event.filter(|event| event.n.is_none_or(|of| of == *n)) {
            Some(event) => context.tell(event, *n)?,
            None => None,
        });
    }
    Ok(found)
}

const WAITING: &str = "SELECT source, seq, n, key, attempts, first, due FROM hook_waiting AS w WHERE name = ?1";
/// Nothing older with the same key.
const FIRST: &str = "NOT EXISTS (SELECT 1 FROM hook_waiting AS v WHERE v.name = w.name AND v.key = w.key
     AND v.source = w.source AND v.seq < w.seq)";

/// What waits and is due.
pub(super) fn due(connection: &Connection, name: &str, now_ms: i64, limit: u32) -> Result<Vec<HookWaiting>, Fault> {
    let mut statement =
        connection.prepare_cached(&format!("{WAITING} AND due <= ?2 AND {FIRST} ORDER BY due, seq LIMIT ?3"))?;
    let rows = statement.query_map(params![name, now_ms, bounded(limit) as i64], |row| {
        Ok(HookWaiting {
            source: if row.get::<_, u8>(0)? == 0 { HookSource::Event } else { HookSource::Suppression },
            seq: row.get(1)?,
            n: row.get(2)?,
            key: row.get(3)?,
            attempts: row.get(4)?,
            first_ms: row.get(5)?,
            due_ms: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When the next one falls due.
pub(super) fn next_due(connection: &Connection, name: &str) -> Result<Option<i64>, Fault> {
    let found = connection
        .prepare_cached(&format!("SELECT due FROM hook_waiting AS w WHERE name = ?1 AND {FIRST} ORDER BY due LIMIT 1"))?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(found)
}

/// Keys for which something waits.
pub(super) fn keys(connection: &Connection, name: &str, keys: &[i64]) -> Result<Vec<i64>, Fault> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM hook_waiting WHERE name = ?1 AND key = ?2 LIMIT 1")?;
    let mut found = Vec::new();
    for key in keys {
        if statement.exists(params![name, key])? {
            found.push(*key);
        }
    }
    Ok(found)
}

/// The delivery log, newest first.
pub(super) fn deliveries(
    connection: &Connection,
    name: &str,
    only_refused: bool,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<HookDelivery>, Fault> {
    let wanted = if only_refused { "AND taken = 0" } else { "" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, at, taken, body FROM hook_delivery WHERE name = ?1 AND id < ?2 {wanted} ORDER BY id DESC LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![name, before.unwrap_or(i64::MAX), bounded(limit) as i64])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(HookDelivery {
            id: row.get(0)?,
            at_ms: row.get(1)?,
            taken: row.get(2)?,
            body: read_json(row, 3)?,
        });
    }
    Ok(entries)
}
