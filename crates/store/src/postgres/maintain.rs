//! Retention: small steps, each one transaction, so that mail goes on in between. Several nodes may do it at once: each
//! passes over what another one is at.

use std::sync::Arc;

use super::fault::Fault;
use super::shared::Shared;
use super::tx::{self, Mode, Tx, Value};
use super::unit::clean;
use super::{batch, digest, hooks, keys, parts, report, returned, sought, suppress};
use crate::engine::listed::DAY_MS;
use crate::model::*;
use crate::verbs::{CHANGES_MS, RETURN_MS, Retention, STRIKE_DAYS};

/// Messages a step touches.
const STEP: i64 = 500;
/// How long a lane's row outlives its last use beyond the events' retention: longer than any message waits.
const LANE_MS: i64 = 40 * DAY_MS;
/// How long events outlive their retention before their part of the table goes: a message's first events are older than its end.
const PART_MS: i64 = 7 * DAY_MS;

/// What a step is about: streams, all others if `but`, and until when.
struct Past {
    streams: Vec<String>,
    but: bool,
    before_ms: i64,
    /// The events are to go at once, because the part that they are in stays for others.
    events: bool,
}

/// One kind of step.
#[derive(Debug, Clone, Copy)]
enum Chore {
    Captured,
    Deliveries,
    Windows,
    Keys,
    Lanes,
    Batches,
    Suppressions,
    Returned,
    Changes,
    Strikes,
    Reports,
}

/// Repeats a step until it finds nothing to do. What a step did not get because another node is at it is that node's.
async fn repeat<R, F, Fut>(shared: &Arc<Shared>, request: R, verb: F) -> Result<u64, Fault>
where
    F: Fn(Arc<Tx>, Arc<R>) -> Fut,
    Fut: Future<Output = Result<u64, Fault>>,
{
    let request = Arc::new(request);
    let mut total = 0;
    loop {
        match tx::run(shared, Mode::Write, request.clone(), &verb).await? {
            0 => return Ok(total),
            done => total += done,
        }
    }
}

/// Removes what is past its time; gives the number of messages removed.
pub(super) async fn retain(shared: &Arc<Shared>, retention: &Retention, now_ms: i64) -> Result<u64, Fault> {
    *shared.retention.lock() = retention.clone();
    let own = retention.streams.iter().filter_map(|own| Some((own.stream.clone(), own.content_ms?.max(RETURN_MS))));
    for past in classes(own.collect(), retention.content_ms.max(RETURN_MS), now_ms) {
        repeat(shared, past, |tx, past| async move { drop_contents(&tx, &past).await }).await?;
    }
    let ago = |ms: i64| now_ms.saturating_sub(ms);
    let chore = async |chore: Chore, before_ms: i64| {
        repeat(shared, (chore, before_ms), |tx, r| async move { do_chore(&tx, r.0, r.1).await }).await
    };
    chore(Chore::Captured, ago(retention.captured_ms)).await?;
    chore(Chore::Deliveries, ago(retention.events_ms)).await?;
    let own = retention.streams.iter().filter_map(|own| Some((own.stream.clone(), own.events_ms?)));
    let mut removed = 0;
    for past in classes(own.collect(), retention.events_ms, now_ms) {
        removed += repeat(shared, past, |tx, past| async move { remove_messages(&tx, &past).await }).await?;
    }
    chore(Chore::Windows, now_ms).await?;
    chore(Chore::Keys, ago(keys::KEY_MS)).await?;
    chore(Chore::Lanes, ago(retention.events_ms.saturating_add(LANE_MS))).await?;
    chore(Chore::Batches, ago(retention.events_ms)).await?;
    chore(Chore::Suppressions, now_ms).await?;
    chore(Chore::Returned, ago(retention.events_ms)).await?;
    chore(Chore::Changes, ago(CHANGES_MS)).await?;
    chore(Chore::Strikes, ago(i64::from(STRIKE_DAYS) * DAY_MS)).await?;
    // A message that is still there may be reported again.
    chore(Chore::Reports, ago(retention.events_ms.max(retention.captured_ms))).await?;
    let longest = retention.streams.iter().filter_map(|own| own.events_ms).max().unwrap_or(0);
    parts::drop_before(shared, ago(longest.max(retention.events_ms).saturating_add(PART_MS))).await?;
    Ok(removed)
}

async fn do_chore(tx: &Tx, chore: Chore, before_ms: i64) -> Result<u64, Fault> {
    match chore {
        Chore::Captured => drop_captured(tx, before_ms).await,
        Chore::Deliveries => hooks::remove_deliveries(tx, before_ms).await,
        Chore::Windows => digest::remove_windows(tx, before_ms).await,
        Chore::Keys => keys::remove(tx, before_ms, STEP).await,
        Chore::Lanes => remove_lanes(tx, before_ms).await,
        Chore::Batches => batch::remove(tx, before_ms).await,
        Chore::Suppressions => suppress::expire(tx, before_ms).await,
        Chore::Returned => returned::forget_old(tx, before_ms).await,
        Chore::Changes => suppress::forget_changes(tx, before_ms).await,
        Chore::Strikes => suppress::forget_strikes(tx, before_ms).await,
        Chore::Reports => report::forget(tx, before_ms).await,
    }
}

/// The streams that keep for another time, each for itself, and all others.
fn classes(own: Vec<(Arc<str>, i64)>, usual_ms: i64, now_ms: i64) -> Vec<Past> {
    let longest = own.iter().map(|(_, ms)| *ms).max().unwrap_or(usual_ms).max(usual_ms);
    let all: Vec<String> = own.iter().map(|(stream, _)| clean(stream)).collect();
    let class = |streams, but, keep_ms: i64| Past {
        streams,
        but,
        before_ms: now_ms.saturating_sub(keep_ms),
        events: keep_ms < longest,
    };
    let mut classes: Vec<Past> =
        own.iter().map(|(stream, keep_ms)| class(vec![clean(stream)], false, *keep_ms)).collect();
    classes.push(class(all, true, usual_ms));
    classes
}

/// Ids of some messages that were final by then and are not captured; they are locked.
fn past_sql(condition: &str) -> String {
    format!(
        "SELECT id FROM message WHERE final_at IS NOT NULL AND final_at <= $1 AND NOT captured {condition}
         AND (stream = ANY($2)) <> $3 ORDER BY final_at LIMIT $4 FOR UPDATE SKIP LOCKED"
    )
}

async fn drop_contents(tx: &Tx, past: &Past) -> Result<u64, Fault> {
    let sql = format!(
        "WITH old AS MATERIALIZED ({}), gone AS (DELETE FROM content USING old WHERE content.message = old.id)
         UPDATE message SET stored = false FROM old WHERE message.id = old.id",
        past_sql("AND stored")
    );
    tx.execute(&sql, &[&past.before_ms, &past.streams, &past.but, &STEP]).await
}

async fn drop_captured(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    tx.execute(
        "WITH old AS MATERIALIZED (SELECT id FROM message WHERE captured AND final_at IS NOT NULL AND final_at <= $1
             ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED),
             gone AS (DELETE FROM content USING old WHERE content.message = old.id)
         UPDATE message SET stored = false, captured = false FROM old WHERE message.id = old.id",
        &[&before_ms, &STEP],
    )
    .await
}

async fn remove_messages(tx: &Tx, past: &Past) -> Result<u64, Fault> {
    let rows = tx.query(&past_sql(""), &[&past.before_ms, &past.streams, &past.but, &STEP]).await?;
    let ids = rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<i64>, Fault>>()?;
    if ids.is_empty() {
        return Ok(0);
    }
    sought::forget(tx, &ids).await?;
    let values: [Value<'_>; 1] = [&ids];
    let mut steps = vec![
        ("DELETE FROM recipient WHERE message = ANY($1)", &values[..]),
        ("DELETE FROM content WHERE message = ANY($1)", &values[..]),
        ("DELETE FROM message WHERE id = ANY($1)", &values[..]),
    ];
    if past.events {
        steps.push(("DELETE FROM event WHERE message = ANY($1)", &values[..]));
    }
    tx.pipeline(&steps).await?;
    Ok(ids.len() as u64)
}

async fn remove_lanes(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    let removed = tx
        .execute(
            "DELETE FROM lane WHERE id IN (SELECT id FROM lane l WHERE waiting = 0 AND held = 0 AND used <= $1
                 AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.lane = l.id AND r.state = 1)
                 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            &[&before_ms, &STEP],
        )
        .await?;
    if removed > 0 {
        tx.shared.lanes.lock().clear();
    }
    Ok(removed)
}

/// Remembers where a reader of events stands.
pub(super) async fn move_cursor(tx: &Tx, name: &str, seq: i64) -> Result<u64, Fault> {
    tx.execute(
        "INSERT INTO meta AS m (name, value) VALUES ('cursor.' || $1, $2)
         ON CONFLICT (name) DO UPDATE SET value = $2 WHERE m.value < $2",
        &[&name, &seq],
    )
    .await
}

/// Where a reader of events stands.
pub(super) async fn cursor(tx: &Tx, name: &str) -> Result<i64, Fault> {
    let row = tx.query_opt("SELECT value FROM meta WHERE name = 'cursor.' || $1", &[&name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

/// What accounts have used of their limits.
pub(super) async fn usage(tx: &Tx, prefix: &str) -> Result<Vec<(String, String)>, Fault> {
    let sql = "SELECT account, body FROM usage WHERE account >= $1 AND left(account, length($1)) = $1 ORDER BY account";
    let rows = tx.query(sql, &[&prefix]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Writes down what accounts have used.
pub(super) async fn save_usage(tx: &Tx, rows: &[(String, Option<String>)]) -> Result<u64, Fault> {
    // Of several for one account the last counts.
    let last: std::collections::BTreeMap<String, Option<&str>> =
        rows.iter().map(|(account, body)| (clean(account), body.as_deref())).collect();
    let gone: Vec<&str> = last.iter().filter(|(_, body)| body.is_none()).map(|(account, _)| account.as_str()).collect();
    let kept: Vec<(&str, String)> =
        last.iter().filter_map(|(account, body)| Some((account.as_str(), clean((*body)?)))).collect();
    let (accounts, bodies): (Vec<&str>, Vec<String>) = kept.into_iter().unzip();
    let changed = tx
        .pipeline(&[
            ("DELETE FROM usage WHERE account = ANY($1)", &[&gone]),
            (
                "INSERT INTO usage(account, body) SELECT * FROM unnest($1::text[], $2::text[])
                 ON CONFLICT (account) DO UPDATE SET body = excluded.body",
                &[&accounts, &bodies],
            ),
        ])
        .await?;
    Ok(changed.iter().sum())
}

/// Writes down what was seen of domains' TLS, and forgets what is of days before `before_day`.
pub(super) async fn save_tls_days(tx: &Tx, rows: &[TlsDay], before_day: i64) -> Result<u64, Fault> {
    let mut changed = 0;
    for TlsDay { day, domain, body } in rows {
        changed += match body {
            Some(body) => {
                tx.execute(
                    "INSERT INTO tls_report(day, domain, body) VALUES ($1, $2, $3)
                     ON CONFLICT (day, domain) DO UPDATE SET body = $3",
                    &[day, &clean(domain), &clean(body)],
                )
                .await?
            }
            None => tx.execute("DELETE FROM tls_report WHERE day = $1 AND domain = $2", &[day, &clean(domain)]).await?,
        };
    }
    changed += tx.execute("DELETE FROM tls_report WHERE day < $1", &[&before_day]).await?;
    Ok(changed)
}

/// What was seen of domains' TLS: newest day first, then by domain.
pub(super) async fn tls_days(tx: &Tx, which: &TlsDays) -> Result<Vec<TlsDay>, Fault> {
    let (day, domain) = which.after.clone().unwrap_or((i64::MAX, String::new()));
    let rows = tx
        .query(
            "SELECT day, domain, body FROM tls_report
             WHERE day >= $1 AND ($2::text IS NULL OR domain = $2) AND (day < $3 OR (day = $3 AND domain > $4))
             ORDER BY day DESC, domain LIMIT $5",
            &[&which.from_day, &which.domain, &day, &domain, &i64::from(which.limit)],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(TlsDay { day: row.try_get(0)?, domain: row.try_get(1)?, body: Some(row.try_get(2)?) }))
        .collect()
}
