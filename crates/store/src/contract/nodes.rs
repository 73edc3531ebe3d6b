//! Stories about nodes: who is there, and that one leads.

use serde_json::json;

use super::{Scene, Story};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[
    ("a node is listed as it says it is, with its leases", listed),
    ("the only node leads, also if it would rather not, until it leaves", leads),
];

fn said(scene: &Scene, lead: Lead) -> NodeSaid {
    NodeSaid {
        run: scene.run,
        name: "node".into(),
        version: "1.2.3".into(),
        address: "192.0.2.1:8025".into(),
        started_ms: scene.now,
        load: json!({ "window": 3 }),
        lead,
    }
}

fn listed(scene: &mut Scene) {
    scene.waiting(&["a@example.net", "b@example.net"]);
    assert_eq!(scene.claim().len(), 1);
    scene.store.say(said(scene, Lead::Willing)).wait().unwrap();
    let nodes = scene.store.nodes().wait().unwrap();
    let [node] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!((node.name.as_str(), node.version.as_str(), node.address.as_str()), ("node", "1.2.3", "192.0.2.1:8025"));
    assert_eq!((node.run, node.started_ms, node.leases), (scene.run, scene.now, 2));
    assert!(node.alive && node.leads && node.silent_ms < 5_000, "{node:?}");
    assert_eq!(node.load, json!({ "window": 3 }));
}

fn leads(scene: &mut Scene) {
    let say = |lead| scene.store.say(said(scene, lead)).wait().unwrap().leads_ms;
    assert!(say(Lead::Willing).is_some_and(|ms| ms > 0));
    assert!(say(Lead::Willing).is_some());
    assert!(say(Lead::Unwilling).is_some());
    assert!(scene.store.nodes().wait().unwrap()[0].leads);
    scene.store.leave(scene.run).wait().unwrap();
    // The run itself may still be known where runs are.
    assert!(scene.store.nodes().wait().unwrap().iter().all(|node| !node.leads && node.address.is_empty()));
}
