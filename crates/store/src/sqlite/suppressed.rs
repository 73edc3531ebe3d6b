//! Looking at the list of addresses that get no mail, and at its log.

use proto::Address;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::browse::{Snapshot, bounded};
use super::encode;
use super::fault::Fault;
use super::suppress::{COLUMNS, read};
use crate::engine::listed::{change_kind, unreadable};
use crate::model::*;

/// What stops mail of a stream to each of these addresses.
pub(super) fn suppressed(
    connection: &Connection,
    list: &[Address],
    stream: &str,
    now_ms: i64,
) -> Result<Vec<Option<Suppression>>, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    // What holds for all mail is told first: '*' sorts before every name.
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM suppression
         WHERE key = ?1 AND scope IN ('*', ?2) AND (expires IS NULL OR expires > ?3) ORDER BY scope LIMIT 1"
    ))?;
    let mut found = Vec::with_capacity(list.len());
    for address in list {
        let mut rows = statement.query(params![address_key(address), stream, now_ms])?;
        found.push(rows.next()?.map(read).transpose()?);
    }
    Ok(found)
}

/// All that stops mail to an address.
pub(super) fn of(connection: &Connection, address: &Address, now_ms: i64) -> Result<Vec<Suppression>, Fault> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM suppression WHERE key = ?1 AND (expires IS NULL OR expires > ?2) ORDER BY scope"
    ))?;
    collect(statement.query(params![address_key(address), now_ms])?, read)
}

fn collect<T>(mut rows: rusqlite::Rows<'_>, read: impl Fn(&Row<'_>) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Suppressions that match, in order of address and scope.
pub(super) fn list(
    connection: &Connection,
    filter: &SuppressionFilter,
    after: Option<&SuppressionCursor>,
    limit: u32,
    now_ms: i64,
) -> Result<Vec<Suppression>, Fault> {
    let mut sql = format!("SELECT {COLUMNS} FROM suppression WHERE (expires IS NULL OR expires > ?)");
    let mut values = vec![Value::Integer(now_ms)];
    let mut condition = |words: &str, found: Vec<Value>| {
        sql.push_str(" AND ");
        sql.push_str(words);
        values.extend(found);
    };
    let text = |text: &str| Value::Text(text.to_owned());
    if let Some(scope) = &filter.scope {
        condition("scope = ?", vec![text(scope.as_str())]);
    }
    if let Some(reason) = filter.reason {
        condition("reason = ?", vec![text(reason.as_str())]);
    }
    if let Some(domain) = &filter.domain {
        let domain = proto::address::parse_domain(domain).unwrap_or_else(|_| domain.to_lowercase());
        let end = format!("@{domain}");
        condition("substr(key, ?) = ?", vec![Value::Integer(-(end.chars().count() as i64)), Value::Text(end)]);
    }
    if let Some(from) = filter.added_from_ms {
        condition("added >= ?", vec![Value::Integer(from)]);
    }
    if let Some(before) = filter.added_before_ms {
        condition("added < ?", vec![Value::Integer(before)]);
    }
    if let Some(part) = &filter.text {
        condition("instr(key, ?) > 0", vec![Value::Text(part.to_lowercase())]);
    }
    if let Some(after) = after {
        condition("(key, scope) > (?, ?)", vec![Value::Text(address_key(&after.address)), text(after.scope.as_str())]);
    }
    sql.push_str(" ORDER BY key, scope LIMIT ?");
    values.push(Value::Integer(bounded(limit) as i64));
    let mut statement = connection.prepare_cached(&sql)?;
    collect(statement.query(params_from_iter(values))?, read)
}

/// How many there are, by scope and reason.
pub(super) fn counts(
    connection: &Connection,
    now_ms: i64,
) -> Result<Vec<(SuppressionScope, SuppressionReason, u64)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT scope, reason, count(*) FROM suppression WHERE expires IS NULL OR expires > ?1
         GROUP BY scope, reason ORDER BY scope, reason",
    )?;
    collect(statement.query([now_ms])?, |row| {
        let (scope, reason): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((SuppressionScope::from(scope), reason.parse().map_err(unreadable)?, row.get::<_, i64>(2)? as u64))
    })
}

const CHANGE: &str = "SELECT seq, at, change, address, scope, reason, expires, who, why FROM suppression_change";

fn read_change(row: &Row<'_>) -> Result<SuppressionChange, Fault> {
    let (address, scope, reason): (String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?);
    Ok(SuppressionChange {
        seq: row.get(0)?,
        at_ms: row.get(1)?,
        change: change_kind(row.get(2)?)?,
        address: encode::read_address(&address)?,
        scope: SuppressionScope::from(scope),
        reason: reason.parse().map_err(unreadable)?,
        expires_ms: row.get(6)?,
        who: row.get(7)?,
        why: row.get(8)?,
    })
}

/// Changes after a cursor.
pub(super) fn changes(connection: &Connection, since: i64, limit: u32) -> Result<SuppressionChanges, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let forgotten: Option<i64> = connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'suppression'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let forgotten = forgotten.unwrap_or(0);
    let latest: Option<i64> =
        connection.prepare_cached("SELECT max(seq) FROM suppression_change")?.query_row([], |row| row.get(0))?;
    let mut statement = connection.prepare_cached(&format!("{CHANGE} WHERE seq > ?1 ORDER BY seq LIMIT ?2"))?;
    let changes = collect(statement.query(params![since, bounded(limit) as i64])?, read_change)?;
    Ok(SuppressionChanges { changes, latest: latest.unwrap_or(forgotten), forgotten })
}

/// Changes about one address, oldest first; of more than `limit` the latest.
pub(super) fn history(connection: &Connection, address: &Address, limit: u32) -> Result<Vec<SuppressionChange>, Fault> {
    let mut statement = connection.prepare_cached(&format!("{CHANGE} WHERE key = ?1 ORDER BY seq DESC LIMIT ?2"))?;
    let mut changes = collect(statement.query(params![address_key(address), bounded(limit) as i64])?, read_change)?;
    changes.reverse();
    Ok(changes)
}

/// Keys asked for at once.
const MOST_KEYS: u32 = 50_000;

fn some_keys(connection: &Connection, table: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Fault> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT DISTINCT key FROM {table} WHERE key > ?1 ORDER BY key LIMIT ?2"))?;
    let limit = limit.clamp(1, MOST_KEYS);
    collect(statement.query(params![after.unwrap_or_default(), limit])?, |row| Ok(row.get(0)?))
}

/// Keys of addresses that something is counted against.
pub(super) fn struck(connection: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<String>, Fault> {
    some_keys(connection, "strike", after, limit)
}

/// Keys of suppressed addresses.
pub(super) fn keys(connection: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<String>, Fault> {
    some_keys(connection, "suppression", after, limit)
}
