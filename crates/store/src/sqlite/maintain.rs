//! Retention and compaction: the job that looks, and asks the writer for small steps.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::accept::KEY_MS;
use super::command::{Command, Job, Moved, Of, Past, Upkeep};
use super::content::{self, Unreadable};
use super::fault::Fault;
use super::segment::Place;
use super::shared::Shared;
use super::upkeep::STEP;
use crate::StoreError;
use crate::engine::listed::DAY_MS;
use crate::model::*;
use crate::verbs::{CHANGES_MS, RETURN_MS, Retention, STRIKE_DAYS, StreamRetention};

/// How long a lane's row outlives its last use beyond the events' retention: longer than any message waits.
const LANE_MS: i64 = 40 * 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// Classes of streams whose place is remembered.
const CLASSES: usize = 10_000;
/// A segment with less than this share of its octets in use is emptied.
const SPARSE: i64 = 4;
/// Messages looked at in one step of the search for a sparse segment's contents.
const LOOK: i64 = 5_000;
/// Octets copied in one step.
const COPY: usize = 2 << 20;

fn step(shared: &Shared, upkeep: Upkeep) -> Result<u64, StoreError> {
    let (job, pending) = Job::new(upkeep);
    shared.queue.push(Command::Upkeep(job));
    pending.wait()
}

/// Repeats a step until there is no more to do.
fn repeat(shared: &Shared, upkeep: impl Fn() -> Upkeep) -> Result<u64, StoreError> {
    let mut total = 0;
    loop {
        let done = step(shared, upkeep())?;
        total += done;
        if done < STEP as u64 {
            return Ok(total);
        }
    }
}

/// Removes from each class of streams what is past its own time: those that differ, and all others.
///
/// Where streams differ, what one class keeps stands in the others' way. So each goes on where it ended last time: what
/// becomes final later lies behind.
fn classes(
    shared: &Shared,
    upkeep: impl Fn(Past) -> Upkeep,
    what: &'static str,
    (keep_ms, streams): (i64, Vec<(Arc<str>, i64)>),
    now_ms: i64,
) -> Result<u64, StoreError> {
    let names: Vec<Arc<str>> = streams.iter().map(|(name, _)| name.clone()).collect();
    let alone = names.is_empty();
    let others = (Of::AllBut(names), keep_ms);
    let mut removed = 0;
    for (of, keep_ms) in streams.into_iter().map(|(name, keep_ms)| (Of::Stream(name), keep_ms)).chain([others]) {
        let before_ms = now_ms.saturating_sub(keep_ms);
        // The class is known by what it means: another set of streams begins anew.
        let class = (what, format!("{of:?}"));
        let known = shared.looked.lock().get(&class).copied();
        // What was looked at with a clock that was ahead is looked at again; and all is now and then, for what was in the
        // capture mailbox at its turn.
        let known = known.filter(|(hour, known)| !alone && *hour == now_ms / HOUR_MS && *known <= before_ms);
        let after_ms = known.map_or(i64::MIN, |(_, known)| known);
        removed += repeat(shared, || upkeep(Past { after_ms, before_ms, of: of.clone() }))?;
        let mut looked = shared.looked.lock();
        if looked.len() > CLASSES {
            looked.clear();
        }
        looked.insert(class, (now_ms / HOUR_MS, before_ms));
    }
    Ok(removed)
}

/// Removes what is past its time; gives the number of messages removed.
pub(super) fn retain(
    connection: &Connection,
    shared: &Arc<Shared>,
    retention: &Retention,
    now_ms: i64,
) -> Result<u64, StoreError> {
    step(shared, Upkeep::Retention(retention.clone()))?;
    let own = |own: &StreamRetention| Some((own.stream.clone(), own.content_ms?.max(RETURN_MS)));
    let streams = retention.streams.iter().filter_map(own).collect();
    classes(shared, Upkeep::Contents, "content", (retention.content_ms.max(RETURN_MS), streams), now_ms)?;
    repeat(shared, || Upkeep::Captured { before_ms: now_ms.saturating_sub(retention.captured_ms) })?;
    repeat(shared, || Upkeep::Deliveries { before_ms: now_ms.saturating_sub(retention.events_ms) })?;
    let own = |own: &StreamRetention| Some((own.stream.clone(), own.events_ms?));
    let streams = retention.streams.iter().filter_map(own).collect();
    let removed = classes(shared, Upkeep::Messages, "events", (retention.events_ms, streams), now_ms)?;
    repeat(shared, || Upkeep::Windows { before_ms: now_ms })?;
    repeat(shared, || Upkeep::Keys { before_ms: now_ms.saturating_sub(KEY_MS) })?;
    let lanes_before = now_ms.saturating_sub(retention.events_ms.saturating_add(LANE_MS));
    repeat(shared, || Upkeep::Lanes { before_ms: lanes_before })?;
    repeat(shared, || Upkeep::Batches { before_ms: now_ms.saturating_sub(retention.events_ms) })?;
    repeat(shared, || Upkeep::Suppressions { now_ms })?;
    repeat(shared, || Upkeep::Returned { before_ms: now_ms.saturating_sub(retention.events_ms) })?;
    repeat(shared, || Upkeep::Changes { before_ms: now_ms.saturating_sub(CHANGES_MS) })?;
    repeat(shared, || Upkeep::Strikes { before_ms: now_ms.saturating_sub(i64::from(STRIKE_DAYS) * DAY_MS) })?;
    // A message that is still there may be reported again.
    let kept_ms = retention.events_ms.max(retention.captured_ms);
    repeat(shared, || Upkeep::Reports { before_ms: now_ms.saturating_sub(kept_ms) })?;
    for segment in sparse(connection)? {
        compact(connection, shared, segment)?;
    }
    Ok(removed)
}

/// Segments worth emptying. The current one is the last.
fn sparse(connection: &Connection) -> Result<Vec<i64>, Fault> {
    let found = connection
        .prepare_cached(
            "SELECT id FROM segment WHERE live > 0 AND live_bytes * ?1 < bytes AND id < (SELECT max(id) FROM segment)
             ORDER BY id",
        )?
        .query_map([SPARSE], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

/// Copies the live contents of a segment to the current one; it is removed with its last content.
fn compact(connection: &Connection, shared: &Arc<Shared>, segment: i64) -> Result<(), StoreError> {
    let mut after = -1_i64;
    let mut contents: Vec<Moved> = Vec::new();
    let mut bytes = 0;
    loop {
        let (found, last) = live_in(connection, segment, after)?;
        for (message, offset) in found {
            let content = match content::read(connection, shared, message) {
                Ok(content) => content,
                Err(Unreadable::Gone) => continue,
                // What is damaged stays where it is; the next reader sets the message aside.
                Err(Unreadable::Damaged(_)) => continue,
                Err(Unreadable::Error(error)) => return Err(error),
            };
            bytes += content.len();
            contents.push(Moved { message, from: Place { segment, offset: offset as u64 }, content, to: None });
            if bytes >= COPY || contents.len() >= STEP {
                step(shared, Upkeep::Move { from: segment, contents: std::mem::take(&mut contents) })?;
                bytes = 0;
            }
        }
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    if !contents.is_empty() {
        step(shared, Upkeep::Move { from: segment, contents })?;
    }
    Ok(())
}

/// Contents of a segment among the next messages, and the last message looked at.
///
/// There is no index by segment: every message would pay for it, and only the few that outlive theirs would use it.
#[expect(clippy::type_complexity, reason = "the two halves of one small answer")]
fn live_in(connection: &Connection, segment: i64, after: i64) -> Result<(Vec<(MessageId, i64)>, Option<i64>), Fault> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(id) FROM (SELECT id FROM message WHERE id > ?1 ORDER BY id LIMIT ?2)")?
        .query_row(params![after, LOOK], |row| row.get(0))?;
    let Some(last) = last else { return Ok((Vec::new(), None)) };
    let found = connection
        .prepare_cached("SELECT id, place FROM message WHERE id > ?1 AND id <= ?2 AND segment = ?3 ORDER BY id")?
        .query_map(params![after, last, segment], |row| Ok((MessageId(row.get(0)?), row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok((found, Some(last)))
}
