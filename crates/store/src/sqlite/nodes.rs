//! The one node of an embedded store: it leads, whether it likes to or not, and is known as long as it runs.

use super::SqliteStore;
use crate::Pending;
use crate::model::*;
use crate::verbs::Nodes;

impl Nodes for SqliteStore {
    fn say(&self, said: NodeSaid) -> Pending<NodeTold> {
        *self.shared.node.lock() = Some(said);
        Pending::ready(Ok(NodeTold { leads_ms: Some(i64::MAX) }))
    }

    fn nodes(&self) -> Pending<Vec<Node>> {
        let said = self.shared.node.lock().clone();
        let leases = self.shared.leased.lock().values().map(|lane| lane.count.unsigned_abs()).sum();
        let node = said.map(|said| Node {
            name: said.name,
            run: said.run,
            version: said.version,
            address: said.address,
            started_ms: said.started_ms,
            silent_ms: 0,
            alive: true,
            leads: true,
            leases,
            load: said.load,
        });
        Pending::ready(Ok(node.into_iter().collect()))
    }

    fn lapses(&self) -> u64 {
        0
    }

    fn leave(&self, run: Incarnation) -> Pending<()> {
        self.shared.node.lock().take_if(|said| said.run == run);
        Pending::ready(Ok(()))
    }
}
