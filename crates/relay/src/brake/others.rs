//! The brakes of a node that does not lead: as the one that leads has written them down.
//!
//! It stops what they stop and holds what it has, and lets go what comes off. It probes nothing, releases nothing and writes
//! nothing: what it meets it tells the node that leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use store::StoreError;

use super::book::{Braked, Phase};
use super::follow::{self, PREFIX};
use crate::shared::Shared;

/// What was read last, by incident.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<i64, String>);

/// Reads the brakes, and makes this node follow what has changed.
pub(super) async fn read(shared: &Arc<Shared>, seen: &mut Seen) -> Result<(), StoreError> {
    let rows = shared.store.usage_under(PREFIX).await?;
    let mut found = BTreeMap::new();
    for (name, body) in rows {
        if let Some(incident) = name.strip_prefix(PREFIX).and_then(|id| id.parse::<i64>().ok()) {
            found.insert(incident, body);
        }
    }
    let mut freed = Vec::new();
    {
        let mut book = shared.keeper.book.lock();
        let gone: Vec<i64> = book.all().map(|(incident, _)| incident).filter(|one| !found.contains_key(one)).collect();
        if gone.is_empty() && found == seen.0 {
            return Ok(());
        }
        gone.into_iter().for_each(|incident| book.remove(incident));
        for (incident, body) in found.iter().filter(|(incident, body)| seen.0.get(*incident) != Some(*body)) {
            let Ok(braked) = serde_json::from_str::<Braked>(body) else {
                tracing::warn!(incident, "a brake that another node has written cannot be read");
                continue;
            };
            let was_on = book.get(*incident).is_some_and(|known| known.phase == Phase::On);
            if was_on && braked.phase != Phase::On {
                freed.extend(braked.orders.iter().map(|order| order.scope.clone()));
            }
            // One that is on already, with the same scopes, is followed already.
            let same = |known: &Braked| {
                let scopes = |braked: &Braked| braked.orders.iter().map(|one| one.scope.clone()).collect::<Vec<_>>();
                was_on && scopes(known) == scopes(&braked)
            };
            let known = book.get(*incident).is_some_and(same);
            match known {
                true => book.take_over(*incident, braked),
                false => book.restore(*incident, braked),
            }
        }
    }
    seen.0 = found;
    shared.keeper.renew();
    for scope in &freed {
        follow::set_free(shared, scope);
    }
    Ok(())
}
