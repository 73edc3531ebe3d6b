//! Shares of limits: the rows of the limits that are asked for are held, in order, while [`Limit`] decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PostgresStore;
use super::fault::Fault;
use super::tx::Tx;
use super::unit::clean;
use crate::engine::shares::{Limit, Moment};
use crate::model::*;
use crate::verbs::Shares;
use crate::{Pending, StoreError};

/// Shares are used no longer than until so long before the lease ends, milliseconds: what is under way then may end.
const MARGIN_MS: i64 = 3_000;

impl Shares for PostgresStore {
    fn share(&self, by: Incarnation, list: Vec<ShareRequest>) -> Option<Pending<Vec<Share>>> {
        if list.len() > MOST_SHARES {
            let why = format!("at most {MOST_SHARES} shares at a time");
            return Some(Pending::ready(Err(StoreError::Invalid(why))));
        }
        Some(self.write((by, list), |tx, r| async move { take(&tx, r).await }))
    }
}

async fn take(tx: &Tx, request: Arc<(Incarnation, Vec<ShareRequest>)>) -> Result<Vec<Share>, Fault> {
    let (by, list) = (request.0.0, &request.1);
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = list.iter().map(|one| clean(&one.name)).collect();
    let ordered: Vec<&String> = names.iter().collect::<BTreeSet<_>>().into_iter().collect();
    tx.execute(
        "INSERT INTO share(name, body) SELECT name, '' FROM unnest($1::text[]) AS u(name) ORDER BY name COLLATE \"C\"
         ON CONFLICT (name) DO NOTHING",
        &[&ordered],
    )
    .await?;
    let rows =
        tx.query("SELECT name, body FROM share WHERE name = ANY($1) ORDER BY name FOR UPDATE", &[&ordered]).await?;
    let mut limits = BTreeMap::new();
    for row in rows {
        let (name, body): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let limit = if body.is_empty() { Limit::default() } else { read(&name, &body) };
        limits.insert(name, limit);
    }
    if limits.len() < ordered.len() {
        return Err(Fault::Again("a limit was let go of meanwhile".into()));
    }
    // Only now, with the rows in hand: whoever had them before us is not later than we are.
    let rows = tx
        .query(
            "SELECT incarnation, (extract(epoch FROM alive_until - clock_timestamp()) * 1000)::bigint,
                 (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM node",
            &[],
        )
        .await?;
    let (mut alive, mut now_ms) = (BTreeMap::new(), None::<i64>);
    for row in rows {
        let (run, left_ms): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        now_ms = Some(row.try_get(2)?);
        if left_ms > 0 {
            alive.insert(run, left_ms - MARGIN_MS);
        }
    }
    let Some(now_ms) = now_ms else {
        return Err(StoreError::Internal("no run is known".into()).into());
    };
    let moment = Moment { now_ms, alive: &alive };
    let mut shares = Vec::with_capacity(list.len());
    for (name, one) in names.iter().zip(list) {
        let limit = limits.entry(name.clone()).or_default();
        shares.push(limit.apply(by, one, &moment));
    }
    let (mut kept, mut bodies, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for (name, limit) in &limits {
        if limit.is_empty() {
            gone.push(name.as_str());
        } else {
            kept.push(name.as_str());
            bodies.push(serde_json::to_string(limit).map_err(|error| StoreError::Internal(error.to_string()))?);
        }
    }
    tx.pipeline(&[
        ("DELETE FROM share WHERE name = ANY($1)", &[&gone]),
        (
            "UPDATE share AS s SET body = u.body FROM unnest($1::text[], $2::text[]) AS u(name, body) WHERE s.name = u.name",
            &[&kept, &bodies],
        ),
    ])
    .await?;
    Ok(shares)
}

fn read(name: &str, body: &str) -> Limit {
    serde_json::from_str(body).unwrap_or_else(|error| {
        tracing::error!(limit = name, %error, "what was used of a limit cannot be read");
        Limit::default()
    })
}
