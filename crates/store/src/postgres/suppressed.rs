//! Looking at the list of addresses that get no mail, and at its log.

use std::collections::HashMap;

use proto::Address;
use tokio_postgres::Row;

use super::ask::Ask;
use super::fault::Fault;
use super::suppress::{COLUMNS, FORGOTTEN, read};
use super::tx::Tx;
use super::unit::clean;
use crate::encode;
use crate::engine::bounded;
use crate::engine::listed::{change_kind, unreadable};
use crate::model::*;

/// Keys asked for at once.
const MOST_KEYS: u32 = 50_000;

fn collect<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    rows.iter().map(read).collect()
}

/// What stops mail of a stream to each of these addresses.
pub(super) async fn suppressed(
    tx: &Tx,
    list: &[Address],
    stream: &str,
    now_ms: i64,
) -> Result<Vec<Option<Suppression>>, Fault> {
    let keys: Vec<String> = list.iter().map(address_key).collect();
    let rows = tx
        .query(
            &format!(
                "SELECT {COLUMNS}, key FROM suppression
                 WHERE key = ANY($1) AND scope IN ('*', $2) AND (expires IS NULL OR expires > $3)"
            ),
            &[&keys, &stream, &now_ms],
        )
        .await?;
    let mut found: HashMap<String, Suppression> = HashMap::new();
    for row in &rows {
        let (key, one): (String, Suppression) = (row.try_get(7)?, read(row)?);
        // What holds for all mail is told first.
        if one.scope == SuppressionScope::Global || !found.contains_key(&key) {
            found.insert(key, one);
        }
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

/// All that stops mail to an address.
pub(super) async fn of(tx: &Tx, address: &Address, now_ms: i64) -> Result<Vec<Suppression>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM suppression WHERE key = $1 AND (expires IS NULL OR expires > $2) ORDER BY scope"
    );
    collect(&tx.query(&sql, &[&address_key(address), &now_ms]).await?, read)
}

/// Suppressions that match, in order of address and scope.
pub(super) async fn list(
    tx: &Tx,
    filter: &SuppressionFilter,
    after: Option<&SuppressionCursor>,
    limit: u32,
    now_ms: i64,
) -> Result<Vec<Suppression>, Fault> {
    let scope = filter.scope.as_ref().map(SuppressionScope::as_str);
    let reason = filter.reason.map(SuppressionReason::as_str);
    let end = filter.domain.as_ref().map(|domain| {
        let domain = proto::address::parse_domain(domain).unwrap_or_else(|_| domain.to_lowercase());
        format!("@{domain}")
    });
    let end = end.as_deref().map(clean);
    let part = filter.text.as_ref().map(|part| part.to_lowercase());
    let part = part.as_deref().map(clean);
    let after = after.map(|after| (address_key(&after.address), after.scope.as_str()));
    let limit = bounded(limit) as i64;
    let mut ask =
        Ask::new(format!("SELECT {COLUMNS} FROM suppression WHERE (expires IS NULL OR expires > $1)"), &now_ms);
    ask.maybe("scope = ?", scope.as_ref());
    ask.maybe("reason = ?", reason.as_ref());
    ask.maybe("right(key, length(?)) = ?", end.as_ref());
    ask.maybe("added >= ?", filter.added_from_ms.as_ref());
    ask.maybe("added < ?", filter.added_before_ms.as_ref());
    ask.maybe("strpos(key, ?) > 0", part.as_ref());
    if let Some((key, scope)) = &after {
        ask.pair("(key, scope) > (?, ??)", key, scope);
    }
    ask.tail("ORDER BY key, scope LIMIT ?", &limit);
    collect(&tx.query(&ask.sql, &ask.values).await?, read)
}

/// How many there are, by scope and reason.
pub(super) async fn counts(tx: &Tx, now_ms: i64) -> Result<Vec<(SuppressionScope, SuppressionReason, u64)>, Fault> {
    let rows = tx
        .query(
            "SELECT scope, reason, count(*) FROM suppression WHERE expires IS NULL OR expires > $1
             GROUP BY scope, reason ORDER BY scope, reason",
            &[&now_ms],
        )
        .await?;
    collect(&rows, |row| {
        let (scope, reason): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let number: i64 = row.try_get(2)?;
        Ok((SuppressionScope::from(scope), reason.parse().map_err(unreadable)?, number.unsigned_abs()))
    })
}

const CHANGE: &str = "SELECT seq, at, change, address, scope, reason, expires, who, why FROM suppression_change";

fn read_change(row: &Row) -> Result<SuppressionChange, Fault> {
    let (scope, reason): (&str, &str) = (row.try_get(4)?, row.try_get(5)?);
    Ok(SuppressionChange {
        seq: row.try_get(0)?,
        at_ms: row.try_get(1)?,
        change: change_kind(row.try_get::<_, i16>(2)?.into())?,
        address: encode::read_address(row.try_get(3)?)?,
        scope: SuppressionScope::from(scope),
        reason: reason.parse().map_err(unreadable)?,
        expires_ms: row.try_get(6)?,
        who: row.try_get(7)?,
        why: row.try_get(8)?,
    })
}

/// Changes after a cursor.
pub(super) async fn changes(tx: &Tx, since: i64, limit: u32) -> Result<SuppressionChanges, Fault> {
    let known = tx
        .query_one(
            "SELECT (SELECT value FROM counter WHERE name = $1), (SELECT max(seq) FROM suppression_change)",
            &[&FORGOTTEN],
        )
        .await?;
    let forgotten = known.try_get::<_, Option<i64>>(0)?.unwrap_or(0);
    let latest: Option<i64> = known.try_get(1)?;
    let sql = format!("{CHANGE} WHERE seq > $1 ORDER BY seq LIMIT $2");
    let changes = collect(&tx.query(&sql, &[&since, &(bounded(limit) as i64)]).await?, read_change)?;
    Ok(SuppressionChanges { changes, latest: latest.unwrap_or(forgotten), forgotten })
}

/// Changes about one address, oldest first; of more than `limit` the latest.
pub(super) async fn history(tx: &Tx, address: &Address, limit: u32) -> Result<Vec<SuppressionChange>, Fault> {
    // By scope too, as the index has it: of an address there are few changes.
    let sql = format!("{CHANGE} WHERE key = $1 ORDER BY seq DESC LIMIT $2");
    let rows = tx.query(&sql, &[&address_key(address), &(bounded(limit) as i64)]).await?;
    let mut changes = collect(&rows, read_change)?;
    changes.reverse();
    Ok(changes)
}

/// Keys of addresses that something is counted against.
pub(super) async fn struck(tx: &Tx, after: Option<&str>, limit: u32) -> Result<Vec<String>, Fault> {
    some_keys(tx, "strike", after, limit).await
}

/// Keys of suppressed addresses.
pub(super) async fn keys(tx: &Tx, after: Option<&str>, limit: u32) -> Result<Vec<String>, Fault> {
    some_keys(tx, "suppression", after, limit).await
}

async fn some_keys(tx: &Tx, table: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Fault> {
    let sql = format!("SELECT DISTINCT key FROM {table} WHERE key > $1 ORDER BY key LIMIT $2");
    let limit = i64::from(limit.clamp(1, MOST_KEYS));
    collect(&tx.query(&sql, &[&clean(after.unwrap_or_default()), &limit]).await?, |row| Ok(row.try_get(0)?))
}
