//! The rows of lanes: there before anybody waits in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::Fault;
use super::shared::Shared;
use super::tx::{self, Mode, Tx};
use crate::model::*;

/// Lanes that are known to be there; beyond that all are forgotten and asked for again.
const KNOWN: usize = 50_000;
/// A lane's `used` is exact to a day: often enough for rows that are removed after months.
const DAY_MS: i64 = 86_400_000;

/// Makes sure that lanes have rows.
///
/// In a transaction of its own, so that the locks of new rows are not held while others are waited for. It is not waited for
/// until it is on the disk: whatever refers to the lanes is committed later, and a later commit takes it along.
pub(super) async fn know(shared: &Arc<Shared>, lanes: &[Arc<Lane>], now_ms: i64) -> Result<(), Fault> {
    let day = now_ms.div_euclid(DAY_MS);
    let missing: BTreeMap<i64, Arc<Lane>> = {
        let known = shared.lanes.lock();
        lanes.iter().filter(|lane| known.get(&lane.id) != Some(&day)).map(|lane| (lane.id.0, lane.clone())).collect()
    };
    if missing.is_empty() {
        return Ok(());
    }
    let ids: Vec<LaneId> = missing.values().map(|lane| lane.id).collect();
    let request = Arc::new((missing, now_ms));
    tx::run(shared, Mode::Write, request, |tx, r| async move { insert(&tx, &r.0, r.1).await }).await?;
    let mut known = shared.lanes.lock();
    if known.len() > KNOWN {
        known.clear();
    }
    known.extend(ids.into_iter().map(|id| (id, day)));
    Ok(())
}

async fn insert(tx: &Tx, lanes: &BTreeMap<i64, Arc<Lane>>, now_ms: i64) -> Result<(), Fault> {
    let mut columns: [Vec<&str>; 4] = Default::default();
    let (mut ids, mut priorities) = (Vec::new(), Vec::new());
    for lane in lanes.values() {
        let key = &lane.key;
        ids.push(lane.id.0);
        priorities.push(i16::from(key.priority));
        for (column, text) in columns.iter_mut().zip([&key.route, &key.domain, &key.sender, &key.stream]) {
            column.push(text);
        }
    }
    let [routes, domains, senders, streams] = &columns;
    tx.pipeline(&[
        ("SET LOCAL synchronous_commit TO off", &[]),
        (
            "INSERT INTO lane AS l (id, route, domain, sender, stream, priority, used)
             SELECT u.id, u.route, u.domain, u.sender, u.stream, u.priority, $7
             FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[])
                 AS u(id, route, domain, sender, stream, priority)
             ORDER BY u.id
             ON CONFLICT (id) DO UPDATE SET used = greatest(l.used, excluded.used)",
            &[&ids, routes, domains, senders, streams, &priorities, &now_ms],
        ),
    ])
    .await?;
    Ok(())
}
