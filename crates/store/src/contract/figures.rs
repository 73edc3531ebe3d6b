//! Stories about being watched: the queue by route and stream, and what the writer counts.

use std::sync::Arc;

use super::scene::HOUR;
use super::{MESSAGE_BODY, Scene, Story};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[
    ("the queue is told by route and stream, with the age of its oldest", queue),
    ("commits are counted, and how many shared one", commits),
];

fn queue(scene: &mut Scene) {
    assert_eq!(scene.store.queue_figures().wait().unwrap(), QueueFigures::default());
    let began = scene.now;
    let first = scene.waiting(&["a@example.net", "b@example.net"]);
    scene.now += HOUR;
    scene.waiting(&["c@example.com"]);
    let held = scene.waiting(&["d@example.com"]);
    scene.operate(Selector { message: Some(held), ..Selector::default() }, Operation::Hold("x".into()));
    let mut other = scene.message(&["e@example.org"], Start::Waiting(scene.now + HOUR));
    other.recipients[0].lane = Arc::new(Lane::new(LaneKey {
        route: "out".into(),
        stream: "receipts".into(),
        ..other.recipients[0].lane.key.clone()
    }));
    scene.accept_this(other);
    let share = |scene: &Scene, route: &str| {
        let all = scene.store.queue_figures().wait().unwrap().shares;
        all.into_iter().find(|share| &*share.route == route).unwrap()
    };
    let expected = QueueShare {
        route: "mx".into(),
        stream: "news".into(),
        waiting: 3,
        held: 1,
        oldest_ms: Some(began),
        next_due_ms: Some(began),
        leased: 0,
    };
    assert_eq!(share(scene, "mx"), expected);
    let far = share(scene, "out");
    assert_eq!((far.waiting, far.oldest_ms, far.next_due_ms), (1, Some(scene.now), Some(scene.now + HOUR)));
    // What is in somebody's hands has an age too.
    scene.claim();
    let taken = share(scene, "mx");
    assert_eq!((taken.waiting, taken.leased, taken.oldest_ms), (0, 3, Some(began)));
    scene.settle_all(first, vec![(0, Outcome::Delivered), (1, Outcome::Delivered)]);
    assert_eq!(share(scene, "mx").oldest_ms, Some(scene.now));
    let contents = scene.store.queue_figures().wait().unwrap();
    let stored = (4 * MESSAGE_BODY.len()) as u64;
    assert!(contents.content_bytes >= contents.content_live_bytes, "{contents:?}");
    assert!((stored - MESSAGE_BODY.len() as u64..=stored).contains(&contents.content_live_bytes), "{contents:?}");
}

fn commits(scene: &mut Scene) {
    let sum = |distribution: &Distribution| distribution.counts.iter().sum::<u64>();
    let before = scene.store.figures();
    for _ in 0..5 {
        scene.waiting(&["a@example.net"]);
    }
    let after = scene.store.figures();
    assert_eq!(sum(&after.batches) - sum(&before.batches), 5);
    assert!((after.batches.sum - before.batches.sum - 5.0).abs() < 1e-9);
    assert_eq!(after.commits.counts.len(), after.commits.bounds.len() + 1);
    assert!(after.database_bytes > 0 && after.free_bytes > 0 && after.failures == 0, "{after:?}");
}
