//! Looking: recipients, messages, counts, the capture mailbox.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::claim::{MESSAGE_COLUMNS, read_message};
use super::fault::Fault;
use super::operate::state;
use super::shared::Shared;
use super::{encode, select};
use crate::StoreError;
use crate::engine::queued::{Sums, URGENT, largest};
use crate::model::*;

/// Most rows a question may ask for.
const MOST: u32 = 1_000;

pub(super) fn bounded(limit: u32) -> usize {
    limit.clamp(1, MOST) as usize
}

/// Recipients that match, oldest message first.
pub(super) fn recipients(
    connection: &Connection,
    selector: &Selector,
    after: Option<RecipientId>,
    limit: u32,
) -> Result<Vec<RecipientView>, Fault> {
    // One snapshot: what was found is still there when it is read.
    let _snapshot = Snapshot::start(connection)?;
    let mut views = Vec::new();
    for id in select::select(connection, selector, after, bounded(limit))? {
        if let Some(view) = recipient(connection, id)? {
            views.push(view);
        }
    }
    Ok(views)
}

/// How many match: lanes know it of their own, what is held is counted by the index, and the rest is found.
pub(super) fn count(connection: &Connection, shared: &Shared, selector: &Selector, most: u32) -> Result<u64, Fault> {
    let lanes = select::of_lanes(selector);
    if *selector == (Selector { state: selector.state.filter(|state| !state.is_final()), ..lanes.clone() }) {
        return in_lanes(connection, shared, selector);
    }
    if *selector == (Selector { state: Some(State::Held), why: selector.why.clone(), ..lanes }) {
        return select::count_held(connection, selector, most);
    }
    Ok(select::select(connection, selector, None, most as usize)?.len() as u64)
}

/// All that wait, are leased or are held in the lanes that match.
fn in_lanes(connection: &Connection, shared: &Shared, selector: &Selector) -> Result<u64, Fault> {
    let column = match selector.state {
        Some(State::Leased) => "0",
        Some(State::Waiting) => "waiting",
        Some(State::Held) => "held",
        _ => "waiting + held",
    };
    let rest: i64 = select::sum_lanes(connection, selector, column)?;
    let leased: i64 = match selector.state {
        None | Some(State::Leased) => {
            let leased = shared.leased.lock();
            let meant = leased.values().filter(|entry| selector.means_lane(&entry.lane.key));
            meant.map(|entry| entry.count).sum()
        }
        _ => 0,
    };
    Ok(u64::try_from(rest + leased).unwrap_or(0))
}

/// Recipients by their names.
pub(super) fn named(connection: &Connection, names: &[RecipientId]) -> Result<Vec<RecipientView>, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let mut views = Vec::with_capacity(names.len());
    for id in names.iter().take(MOST as usize) {
        views.extend(recipient(connection, *id)?);
    }
    Ok(views)
}

const VIEW: &str = "SELECT r.message, r.n, r.state, r.due, r.attempts, r.why, r.cause, r.address, m.accepted,
     m.reverse_path, m.size, l.route, l.domain, l.sender, l.stream, l.priority, m.sender, m.stream, m.priority, r.parameters
     FROM recipient r JOIN message m ON m.id = r.message LEFT JOIN lane l ON l.id = r.lane";

pub(super) fn recipient(connection: &Connection, id: RecipientId) -> Result<Option<RecipientView>, Fault> {
    let mut statement = connection.prepare_cached(&format!("{VIEW} WHERE r.message = ?1 AND r.n = ?2"))?;
    let mut rows = statement.query(params![id.message.0, id.n])?;
    rows.next()?.map(read_view).transpose()
}

fn read_view(row: &Row<'_>) -> Result<RecipientView, Fault> {
    let state = state(row.get(2)?);
    let address: String = row.get(7)?;
    let address = encode::read_address(&address)?;
    let cause: Option<String> = row.get(6)?;
    let path: String = row.get(9)?;
    let parameters: Option<String> = row.get(19)?;
    // A lane's row is removed long after its last use; an old recipient is shown by its message's words then.
    let route: Option<Arc<str>> = row.get(11)?;
    let lane = match route {
        Some(route) => {
            LaneKey { route, domain: row.get(12)?, sender: row.get(13)?, stream: row.get(14)?, priority: row.get(15)? }
        }
        None => LaneKey {
            route: "".into(),
            domain: address.domain().into(),
            sender: row.get(16)?,
            stream: row.get(17)?,
            priority: row.get(18)?,
        },
    };
    Ok(RecipientView {
        id: RecipientId { message: MessageId(row.get(0)?), n: row.get(1)? },
        address,
        parameters: encode::read_rcpt_parameters(parameters.as_deref())?,
        state,
        due_ms: row.get(3)?,
        attempts: row.get(4)?,
        lane,
        why: match state {
            State::Held | State::Suppressed | State::Delivered | State::Bounced | State::Complained => row.get(5)?,
            _ => None,
        },
        cause: encode::read_cause(cause.as_deref())?,
        accepted_ms: row.get(8)?,
        reverse_path: encode::read_reverse_path(&path)?,
        size: row.get(10)?,
    })
}

/// A message with its recipients.
pub(super) fn message(connection: &Connection, id: MessageId, limit: u32) -> Result<MessageView, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    message_view(connection, id, bounded(limit))?.ok_or(Fault::Command(StoreError::NotFound))
}

fn message_view(connection: &Connection, id: MessageId, limit: usize) -> Result<Option<MessageView>, Fault> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS}, message.segment IS NOT NULL, message.captured FROM message WHERE id = ?1"
    ))?;
    let mut rows = statement.query([id.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let message = Arc::new(read_message(row)?);
    let (has_content, captured) = (row.get(12)?, row.get(13)?);
    let mut statement = connection.prepare_cached(&format!("{VIEW} WHERE r.message = ?1 ORDER BY r.n LIMIT ?2"))?;
    let mut rows = statement.query(params![id.0, limit as i64])?;
    let mut recipients = Vec::new();
    while let Some(row) = rows.next()? {
        recipients.push(read_view(row)?);
    }
    Ok(Some(MessageView { message, recipients, has_content, captured }))
}

/// The queue by group: lane rows, and the leases that are counted in memory.
pub(super) fn counts(
    connection: &Connection,
    shared: &Shared,
    by: GroupBy,
    limit: u32,
) -> Result<Vec<QueueCount>, Fault> {
    let column = match by {
        GroupBy::Domain => "domain",
        GroupBy::Route => "route",
        GroupBy::Sender => "sender",
        GroupBy::Stream => "stream",
        GroupBy::Cause => return causes(connection, bounded(limit)),
    };
    // One walk through the table and sums here: an index on the group would cost a seek for each of 100,000 lanes.
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {column}, waiting, held, next_due, priority FROM lane NOT INDEXED WHERE waiting > 0 OR held > 0"
    ))?;
    let mut groups: HashMap<String, Sums> = HashMap::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let group =
            row.get_ref(0)?.as_str().map_err(|error| Fault::Command(StoreError::Internal(error.to_string())))?;
        let pending: i64 = row.get(1)?;
        let urgent = if row.get::<_, u8>(4)? == URGENT { pending } else { 0 };
        let sums = Sums { pending, urgent, held: row.get(2)?, due: row.get(3)? };
        match groups.get_mut(group) {
            Some(found) => found.add(&sums),
            None => {
                groups.insert(group.to_owned(), sums);
            }
        }
    }
    for entry in shared.leased.lock().values() {
        let key = &entry.lane.key;
        let group = match by {
            GroupBy::Domain => &key.domain,
            GroupBy::Route => &key.route,
            GroupBy::Sender => &key.sender,
            GroupBy::Stream => &key.stream,
            GroupBy::Cause => continue,
        };
        let sums = groups.entry(group.to_string()).or_default();
        sums.pending += entry.count;
        sums.urgent += if key.priority == URGENT { entry.count } else { 0 };
    }
    Ok(largest(groups, bounded(limit)))
}

/// Waiting and held recipients by the rule of their last failure. Reads the index alone.
fn causes(connection: &Connection, limit: usize) -> Result<Vec<QueueCount>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT rule, sum(state = 0), sum(state = 2), min(due) FROM recipient INDEXED BY recipient_cause
         WHERE (state = 0 OR state = 2) AND cause IS NOT NULL GROUP BY rule",
    )?;
    let mut groups = HashMap::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let rule: Option<String> = row.get(0)?;
        let sums = Sums { pending: row.get(1)?, urgent: 0, held: row.get(2)?, due: row.get(3)? };
        groups.insert(rule.unwrap_or_default(), sums);
    }
    Ok(largest(groups, limit))
}

/// The capture mailbox, newest first.
pub(super) fn captured(
    connection: &Connection,
    before: Option<MessageId>,
    limit: u32,
) -> Result<Vec<MessageView>, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let ids: Vec<i64> = connection
        .prepare_cached(
            "SELECT id FROM message INDEXED BY message_captured WHERE captured = 1 AND id < ?1 ORDER BY id DESC LIMIT ?2",
        )?
        .query_map(params![before.map_or(i64::MAX, |id| id.0), bounded(limit) as i64], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut views = Vec::new();
    for id in ids {
        views.extend(message_view(connection, MessageId(id), MOST as usize)?);
    }
    Ok(views)
}

/// A read transaction: all questions until its end see the same moment.
pub(super) struct Snapshot<'c>(&'c Connection);

impl<'c> Snapshot<'c> {
    pub(super) fn start(connection: &'c Connection) -> Result<Self, Fault> {
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Self(connection))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
            tracing::warn!(%error, "a reading transaction did not end");
        }
    }
}
