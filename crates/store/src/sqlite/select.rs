//! Finding recipients by selector, in order of message id, each way of asking through the index that serves it.
//!
//! A message or a final state: the primary key. An address: its index. A condition on lanes: the matching lanes' sorted
//! lists are merged, which costs the lanes and the rows shown, not the queue. Everything else: the open recipients in
//! order of age. Leased recipients are few and filtered.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::fault::Fault;
use crate::engine::queued::stored_address;
use crate::model::*;

/// More lanes than this are not merged: with so many matches the walk by age finds some soon.
const MERGE: usize = 20_000;

/// Conditions on lanes as SQL over `lane`, with their values.
fn lane_conditions(selector: &Selector) -> (String, Vec<Value>) {
    let mut sql = String::new();
    let mut values = Vec::new();
    for (column, value) in [
        ("domain", &selector.domain),
        ("route", &selector.route),
        ("sender", &selector.sender),
        ("stream", &selector.stream),
    ] {
        if let Some(value) = value {
            sql.push_str(" AND lane.");
            sql.push_str(column);
            sql.push_str(" = ?");
            values.push(Value::Text(value.clone()));
        }
    }
    (sql, values)
}

/// What a selector says of lanes, and nothing else.
pub(super) fn of_lanes(selector: &Selector) -> Selector {
    Selector {
        all: selector.all,
        domain: selector.domain.clone(),
        route: selector.route.clone(),
        sender: selector.sender.clone(),
        stream: selector.stream.clone(),
        ..Selector::default()
    }
}

/// Sums a column over the lanes that match.
pub(super) fn sum_lanes(connection: &Connection, selector: &Selector, column: &str) -> Result<i64, Fault> {
    let (conditions, values) = lane_conditions(selector);
    let sql = format!("SELECT coalesce(sum({column}), 0) FROM lane WHERE (waiting > 0 OR held > 0){conditions}");
    Ok(connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?)
}

/// Held recipients of the lanes that match, at most `most`, by the reason.
pub(super) fn count_held(connection: &Connection, selector: &Selector, most: u32) -> Result<u64, Fault> {
    let (conditions, mut values) = lane_conditions(selector);
    let why = selector.why.clone().unwrap_or_default();
    values.extend([Value::Integer(why.chars().count() as i64), Value::Text(why), Value::Integer(i64::from(most))]);
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM lane INDEXED BY lane_held
             CROSS JOIN recipient r INDEXED BY recipient_rest ON r.lane = lane.id
             WHERE lane.held > 0{conditions} AND r.state = 2 AND substr(r.why, 1, ?) = ? LIMIT ?)"
    );
    let count: i64 = connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Recipients that match, after the cursor, oldest message first, at most `limit`.
pub(super) fn select(
    connection: &Connection,
    selector: &Selector,
    after: Option<RecipientId>,
    limit: usize,
) -> Result<Vec<RecipientId>, Fault> {
    let after = after.unwrap_or(RecipientId { message: MessageId(-1), n: 0 });
    if selector.message.is_some() || selector.state.is_some_and(State::is_final) {
        return by_key(connection, selector, after, limit);
    }
    if let Some(batch) = selector.batch {
        return by_batch(connection, selector, batch, after, limit);
    }
    // Where no other way serves what is at rest, the walk by age does, over all open messages.
    let resting = match selector.state {
        Some(State::Leased) if selector.cause.is_none() => Some(Vec::new()),
        _ if selector.cause.is_some() => {
            return at_rest(connection, "recipient_cause", "r.cause IS NOT NULL", selector, after, limit);
        }
        _ if selector.recipient.is_some() => {
            Some(at_rest(connection, "recipient_address", "true", selector, after, limit)?)
        }
        // Lanes do not know it.
        _ if selector.sender_domain.is_some() => None,
        None if lane_conditions(selector).1.is_empty() => None,
        _ => by_lanes(connection, selector, after, limit)?,
    };
    let leased = matches!(selector.state, None | Some(State::Leased));
    let mut found = match resting {
        Some(found) if !leased => return Ok(found),
        Some(mut found) => {
            let leased = Selector { state: Some(State::Leased), ..selector.clone() };
            found.extend(by_age(connection, &leased, Open::Leased, after, limit)?);
            found
        }
        None => {
            let mut found = by_age(connection, selector, Open::AtRest, after, limit)?;
            found.extend(by_age(connection, selector, Open::Leased, after, limit)?);
            found
        }
    };
    found.sort_unstable();
    found.truncate(limit);
    Ok(found)
}

fn rows(connection: &Connection, sql: &str, values: Vec<Value>) -> Result<Vec<RecipientId>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_map(params_from_iter(values), |row| Ok(RecipientId { message: MessageId(row.get(0)?), n: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

/// Conditions on the row itself and on its lane.
fn row_conditions(selector: &Selector, sql: &mut String, values: &mut Vec<Value>) {
    match selector.state {
        Some(state) => {
            sql.push_str(" AND r.state = ?");
            values.push(Value::Integer(state as i64));
        }
        None => sql.push_str(" AND r.state <= 2"),
    }
    if let Some(n) = selector.n {
        sql.push_str(" AND r.n = ?");
        values.push(Value::Integer(i64::from(n)));
    }
    if let Some(recipient) = &selector.recipient {
        sql.push_str(" AND r.address = ?");
        values.push(Value::Text(stored_address(recipient)));
    }
    if let Some(cause) = &selector.cause {
        sql.push_str(" AND r.rule = ?");
        values.push(Value::Text(cause.clone()));
    }
    if let Some(why) = &selector.why {
        sql.push_str(" AND substr(r.why, 1, ?) = ?");
        values.push(Value::Integer(why.chars().count() as i64));
        values.push(Value::Text(why.clone()));
    }
    if let Some(domain) = &selector.sender_domain {
        sql.push_str(" AND EXISTS (SELECT 1 FROM message s WHERE s.id = r.message AND substr(s.reverse_path, ?) = ?)");
        values.push(Value::Integer(-(domain.chars().count() as i64 + 1)));
        values.push(Value::Text(format!("@{}", domain.to_lowercase())));
    }
    let (lanes, lane_values) = lane_conditions(selector);
    if !lane_values.is_empty() {
        sql.push_str(" AND EXISTS (SELECT 1 FROM lane WHERE lane.id = r.lane");
        sql.push_str(&lanes);
        sql.push(')');
        values.extend(lane_values);
    }
}

fn by_key(
    connection: &Connection,
    selector: &Selector,
    after: RecipientId,
    limit: usize,
) -> Result<Vec<RecipientId>, Fault> {
    let mut sql = String::from("SELECT r.message, r.n FROM recipient r WHERE (r.message, r.n) > (?, ?)");
    let mut values = vec![Value::Integer(after.message.0), Value::Integer(i64::from(after.n))];
    if let Some(message) = selector.message {
        sql.push_str(" AND r.message = ?");
        values.push(Value::Integer(message.0));
    }
    row_conditions(selector, &mut sql, &mut values);
    sql.push_str(" ORDER BY r.message, r.n LIMIT ?");
    values.push(Value::Integer(limit as i64));
    rows(connection, &sql, values)
}

/// Open recipients of a batch's messages.
fn by_batch(
    connection: &Connection,
    selector: &Selector,
    batch: BatchId,
    after: RecipientId,
    limit: usize,
) -> Result<Vec<RecipientId>, Fault> {
    let mut sql = String::from(
        "SELECT r.message, r.n FROM message m INDEXED BY message_batch CROSS JOIN recipient r ON r.message = m.id
         WHERE m.batch = ? AND m.pending > 0 AND m.id >= ? AND (r.message, r.n) > (?, ?)",
    );
    let message = Value::Integer(after.message.0);
    let mut values = vec![Value::Integer(batch.0), message.clone(), message, Value::Integer(i64::from(after.n))];
    row_conditions(selector, &mut sql, &mut values);
    sql.push_str(" ORDER BY m.id, r.n LIMIT ?");
    values.push(Value::Integer(limit as i64));
    rows(connection, &sql, values)
}

/// Recipients that wait or are held, through an index that has only those.
fn at_rest(
    connection: &Connection,
    index: &str,
    condition: &str,
    selector: &Selector,
    after: RecipientId,
    limit: usize,
) -> Result<Vec<RecipientId>, Fault> {
    let mut sql = format!(
        "SELECT r.message, r.n FROM recipient r INDEXED BY {index}
         WHERE (r.state = 0 OR r.state = 2) AND {condition} AND (r.message, r.n) > (?, ?)"
    );
    let mut values = vec![Value::Integer(after.message.0), Value::Integer(i64::from(after.n))];
    row_conditions(selector, &mut sql, &mut values);
    sql.push_str(" ORDER BY r.message, r.n LIMIT ?");
    values.push(Value::Integer(limit as i64));
    rows(connection, &sql, values)
}

/// Messages of which some recipients are leased, and messages of which some are open but none is leased.
#[derive(Clone, Copy)]
enum Open {
    Leased = 1,
    AtRest = 0,
}

/// Open recipients in order of age, from messages of one kind.
fn by_age(
    connection: &Connection,
    selector: &Selector,
    open: Open,
    after: RecipientId,
    limit: usize,
) -> Result<Vec<RecipientId>, Fault> {
    let mut sql = format!(
        "SELECT r.message, r.n FROM message m INDEXED BY message_open CROSS JOIN recipient r ON r.message = m.id
         WHERE m.pending > 0 AND (m.leased > 0) = {} AND m.id >= ? AND (r.message, r.n) > (?, ?)",
        open as u8
    );
    let message = Value::Integer(after.message.0);
    let mut values = vec![message.clone(), message, Value::Integer(i64::from(after.n))];
    row_conditions(selector, &mut sql, &mut values);
    sql.push_str(" ORDER BY m.id, r.n LIMIT ?");
    values.push(Value::Integer(limit as i64));
    rows(connection, &sql, values)
}

/// One lane's recipients of one state, in order.
struct Lister {
    lane: i64,
    state: State,
    rows: VecDeque<RecipientId>,
    more: bool,
}

/// Merges the sorted lists of all lanes that match; `None` if they are too many.
fn by_lanes(
    connection: &Connection,
    selector: &Selector,
    after: RecipientId,
    limit: usize,
) -> Result<Option<Vec<RecipientId>>, Fault> {
    let Some(mut lists) = listers(connection, selector)? else { return Ok(None) };
    let chunk = (2 * limit / lists.len().max(1)).clamp(1, limit.max(1));
    let mut heap = BinaryHeap::new();
    for (index, list) in lists.iter_mut().enumerate() {
        fill(connection, list, selector.why.as_deref(), after, chunk)?;
        if let Some(first) = list.rows.front() {
            heap.push(Reverse((*first, index)));
        }
    }
    let mut found = Vec::new();
    while let Some(Reverse((id, index))) = heap.pop() {
        found.push(id);
        if found.len() >= limit {
            break;
        }
        let list = &mut lists[index];
        list.rows.pop_front();
        if list.rows.is_empty() && list.more {
            fill(connection, list, selector.why.as_deref(), id, chunk.max(8))?;
        }
        if let Some(next) = list.rows.front() {
            heap.push(Reverse((*next, index)));
        }
    }
    Ok(Some(found))
}

/// The lists of the lanes that match; `None` if they are too many to merge.
fn listers(connection: &Connection, selector: &Selector) -> Result<Option<Vec<Lister>>, Fault> {
    let (conditions, values) = lane_conditions(selector);
    // What is held is mostly in few lanes, which have an index.
    let wanted = match selector.state {
        Some(State::Held) => "held > 0",
        Some(State::Waiting) => "waiting > 0",
        _ => "(waiting > 0 OR held > 0)",
    };
    let sql = format!("SELECT id, waiting > 0, held > 0 FROM lane WHERE {wanted}{conditions} LIMIT {}", MERGE + 1);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut lists = Vec::new();
    let mut lanes = HashSet::new();
    while let Some(row) = rows.next()? {
        let lane: i64 = row.get(0)?;
        lanes.insert(lane);
        for (column, state) in [(1, State::Waiting), (2, State::Held)] {
            if row.get(column)? && selector.state.is_none_or(|wanted| wanted == state) {
                lists.push(Lister { lane, state, rows: VecDeque::new(), more: true });
            }
        }
    }
    Ok((lanes.len() <= MERGE).then_some(lists))
}

fn fill(
    connection: &Connection,
    list: &mut Lister,
    why: Option<&str>,
    after: RecipientId,
    chunk: usize,
) -> Result<(), Fault> {
    let condition = if why.is_some() { "AND substr(why, 1, length(?6)) = ?6" } else { "AND ?6 IS NULL" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT message, n FROM recipient INDEXED BY recipient_rest
         WHERE lane = ?1 AND state = ?2 AND (state = 0 OR state = 2) AND (message, n) > (?3, ?4) {condition}
         ORDER BY message, n LIMIT ?5"
    ))?;
    let values = params![list.lane, list.state as u8, after.message.0, after.n, chunk as i64, why];
    list.rows = statement
        .query_map(values, |row| Ok(RecipientId { message: MessageId(row.get(0)?), n: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    list.more = list.rows.len() == chunk;
    Ok(())
}
