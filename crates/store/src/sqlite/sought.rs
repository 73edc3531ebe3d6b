//! What searches look into, and how it is kept: a table of keys, and the marks of stretches, filled behind the mail.
//!
//! An index over a million addresses costs a page of the log for each message that comes in, wherever it falls. So keys are
//! added later, many at once and sorted: neighbours share their pages. The order is that of events, which is the order of
//! commits; what is not added yet is the tail, and a search walks it. Whatever changes what a recipient is compared by is an
//! event too, so a message gets its marks again for each of its events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, params};

use super::command::{Command, Job, Upkeep};
use super::fault::Fault;
use super::shared::Shared;
use super::stretch::{Stretch, Stretches};
use super::work::Work;
use crate::StoreError;
use crate::engine::sought::{PLACE, address_keys, details_key};
use crate::model::*;

/// Events read for one round of sorting.
const ROUND: i64 = 40_000;
/// Keys one command of the writer adds: two milliseconds.
const STEP: usize = 500;
/// Keys to add.
pub(super) struct SoughtStep {
    keys: Vec<(String, i64)>,
    /// With the last of a round: all up to this event are added then, and so are the marks.
    upto: Option<i64>,
    stretches: Vec<Stretch>,
}

/// All keys of a message.
fn keys(connection: &Connection, id: i64, into: &mut BTreeSet<(String, i64)>) -> Result<(), Fault> {
    let details: Option<String> = connection
        .prepare_cached("SELECT details FROM message WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?
        .flatten();
    into.extend(details_key(details.as_deref())?.map(|key| (key, id)));
    let mut statement = connection.prepare_cached("SELECT address FROM recipient WHERE message = ?1")?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let address = row.get_ref(0)?.as_str().map_err(|error| StoreError::Internal(error.to_string()))?;
        address_keys(address, id, into);
    }
    Ok(())
}

/// Number of the event up to which keys were added.
pub(super) fn place(connection: &Connection) -> Result<i64, Fault> {
    let found = connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([PLACE], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0))
}

/// Messages that something happened to after an event, at most `most` events behind it, with whether they were accepted there;
/// and the event up to which was looked.
pub(super) fn touched_after(connection: &Connection, seq: i64, most: i64) -> Result<(BTreeMap<i64, bool>, i64), Fault> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT seq FROM event ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let upto = newest.unwrap_or(seq).min(seq.saturating_add(most)).max(seq);
    let mut found = BTreeMap::new();
    let mut statement = connection.prepare_cached("SELECT message, kind FROM event WHERE seq > ?1 AND seq <= ?2")?;
    let mut rows = statement.query(params![seq, upto])?;
    while let Some(row) = rows.next()? {
        *found.entry(row.get(0)?).or_default() |= row.get::<_, i64>(1)? == EventKind::Accepted as i64;
    }
    Ok((found, upto))
}

/// Nothing has happened since all keys were added.
pub(super) fn is_up_to_date(shared: &Shared) -> bool {
    shared.sought.load(Ordering::SeqCst) == shared.newest_event.load(Ordering::SeqCst)
}

/// Adds what is missing; gives the number of messages.
pub(super) fn catch_up(connection: &Connection, shared: &Arc<Shared>) -> Result<u64, StoreError> {
    let _alone = shared.seeking.lock();
    let newest = shared.newest_event.load(Ordering::SeqCst);
    let mut added = 0;
    let mut place = place(connection)?;
    loop {
        let (messages, upto) = touched_after(connection, place, ROUND)?;
        if upto > place {
            let mut found = BTreeSet::new();
            let mut stretches = Stretches::new(connection)?;
            for (id, accepted) in &messages {
                stretches.add(*id, accepted.then_some(&mut found))?;
                added += u64::from(*accepted);
            }
            add(shared, found.into_iter().collect(), stretches.changed(), upto)?;
        }
        if upto - place < ROUND {
            shared.sought.store(newest, Ordering::SeqCst);
            return Ok(added);
        }
        place = upto;
    }
}

fn add(
    shared: &Shared,
    mut keys: Vec<(String, i64)>,
    mut stretches: Vec<Stretch>,
    upto: i64,
) -> Result<(), StoreError> {
    loop {
        let rest = keys.split_off(keys.len().min(STEP));
        let last = rest.is_empty();
        let stretches = if last { std::mem::take(&mut stretches) } else { Vec::new() };
        let step = SoughtStep { keys, upto: last.then_some(upto), stretches };
        let (job, pending) = Job::new(Upkeep::Sought(step));
        shared.queue.push(Command::Upkeep(job));
        pending.wait()?;
        if last {
            return Ok(());
        }
        keys = rest;
    }
}

impl Work<'_> {
    /// Adds keys of messages that are still there, and marks.
    pub(super) fn add_sought(&mut self, step: &SoughtStep) -> Result<u64, Fault> {
        let mut statement = self
            .connection
            .prepare_cached("INSERT OR IGNORE INTO sought(key, message) SELECT ?1, id FROM message WHERE id = ?2")?;
        for (key, message) in &step.keys {
            statement.execute(params![key, message])?;
        }
        for stretch in &step.stretches {
            stretch.write(self.connection)?;
        }
        if let Some(upto) = step.upto {
            super::stretch::forget(self.connection)?;
            self.connection
                .prepare_cached(
                    "INSERT INTO meta(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = max(value, ?2)",
                )?
                .execute(params![PLACE, upto])?;
        }
        Ok(step.keys.len() as u64)
    }

    /// Removes the keys of a message that is about to be removed.
    pub(super) fn remove_sought(&mut self, id: MessageId) -> Result<(), Fault> {
        let mut found = BTreeSet::new();
        keys(self.connection, id.0, &mut found)?;
        let mut statement = self.connection.prepare_cached("DELETE FROM sought WHERE key = ?1 AND message = ?2")?;
        for (key, message) in found {
            statement.execute(params![key, message])?;
        }
        Ok(())
    }
}
