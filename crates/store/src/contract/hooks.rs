//! Stories about webhooks: what has to be told, what waits, what was answered.

use serde_json::json;

use std::sync::Arc;

use super::scene::HOUR;
use super::{Scene, Story};
use crate::model::*;
use crate::verbs::{Retention, StoreError};

pub(super) const STORIES: &[Story] = &[
    ("a webhook finds its events with their context behind a cursor", told),
    ("a webhook begins now, or at a moment in the past", start),
    ("of what waits for one recipient only the oldest is due", waiting),
    ("a step of a webhook is durable as a whole, and forgotten with it", progress),
    ("the log of deliveries is bounded and past its time removed", log),
];

fn at(events: i64, part: u32) -> HookCursors {
    HookCursors { events, part, suppressions: 3 }
}

fn ask(after: HookCursors, kinds: &[EventKind], limit: u32) -> HookAsk {
    HookAsk { after, kinds: kinds.to_vec(), limit }
}

fn told(scene: &mut Scene) {
    use EventKind::{Accepted, Delivered, Held};
    let all = scene.accept(&["a@example.net", "b@example.net", "c@example.net"], Start::Leased);
    let held = Outcome::Held { why: "x".into() };
    scene.settle_all(all, vec![(0, Outcome::Delivered), (1, Outcome::Delivered), (2, held)]);
    // One for all recipients, then one for each.
    assert_eq!(scene.store.newest_event().wait().unwrap(), 4);
    let page = |after, kinds: &[EventKind], limit| {
        let page = scene.store.told_after(ask(after, kinds, limit)).wait().unwrap();
        let name = |one: &ToldEvent| (one.event.seq, one.event.n.unwrap(), one.address.as_str()[..1].to_owned());
        (page.items.iter().map(name).collect::<Vec<_>>(), page.upto)
    };
    let row = |seq, n, name: &str| (seq, n, name.to_owned());
    let every = [row(1, 0, "a"), row(1, 1, "b"), row(1, 2, "c"), row(2, 0, "a"), row(3, 1, "b")];
    assert_eq!(page(at(0, 0), &[Accepted, Delivered], 100), (every.to_vec(), at(4, 0)));
    assert_eq!(page(at(2, 0), &[Held], 10), (vec![row(4, 2, "c")], at(4, 0)));
    assert_eq!(page(at(4, 0), &[Accepted, Delivered], 10), (vec![], at(4, 0)));
    // Pages may end, and the next begin, within an event of a message and within the events of one row.
    let (mut after, mut seen) = (at(0, 0), Vec::new());
    for _ in 0..10 {
        let (items, upto) = page(after, &[Accepted, Delivered], 1);
        seen.extend(items);
        after = upto;
    }
    assert_eq!((seen, after), (every.to_vec(), at(4, 0)));

    let page = scene.store.told_after(ask(at(0, 0), &[Accepted, Delivered], 100)).wait().unwrap();
    assert_eq!(&*page.items[0].message.stream, "news");
    assert_eq!(page.items[3].event.detail.attempt.as_ref().unwrap().route.as_ref(), "mx");
    let single = scene.store.told(vec![(3, 1), (99, 0), (1, 2), (3, 0), (1, 7)]).wait().unwrap();
    assert_eq!(single, [Some(page.items[4].clone()), None, Some(page.items[2].clone()), None, None]);
    scene.restart();
    assert_eq!(scene.store.newest_event().wait().unwrap(), 4);
}

fn start(scene: &mut Scene) {
    let begun = scene.now;
    for _ in 0..5 {
        scene.now += HOUR;
        scene.accept(&["a@example.net", "b@example.net"], Start::Leased);
    }
    let at = |scene: &Scene, start| scene.store.hook_start("a".into(), start).wait().unwrap();
    assert_eq!(at(scene, HookStart::Now), 5);
    assert_eq!(at(scene, HookStart::At(0)), 0);
    assert_eq!(at(scene, HookStart::At(begun + 3 * HOUR)), 2);
    assert_eq!(at(scene, HookStart::At(begun + 3 * HOUR + 1)), 3);
    assert_eq!(at(scene, HookStart::At(scene.now + 1)), 5);
    let address = super::scene::address("x@example.net");
    let suppression = |at_ms| Suppression {
        address: address.clone(),
        scope: SuppressionScope::Global,
        reason: SuppressionReason::Manual,
        evidence: Evidence::default(),
        who: "op".into(),
        added_ms: at_ms,
        expires_ms: Some(at_ms + 1_000 * HOUR),
    };
    for at_ms in [begun, begun + 2 * HOUR] {
        scene.store.suppress(vec![suppression(at_ms)], Existing::Replace, at_ms).wait().unwrap();
    }
    for (start, behind) in
        [(HookStart::At(0), 0), (HookStart::At(begun + 1), 1), (HookStart::At(scene.now), 2), (HookStart::Now, 2)]
    {
        at(scene, start);
        assert_eq!(scene.store.hooks().wait().unwrap()[0].cursors.suppressions, behind, "{start:?}");
    }
    let wrong = scene.store.hook_start("No Name".into(), HookStart::Now).wait();
    assert!(matches!(wrong, Err(StoreError::Invalid(_))), "{wrong:?}");
    scene.restart();
    let places = scene.store.hooks().wait().unwrap();
    assert_eq!(places.len(), 1);
    assert_eq!((places[0].name.as_str(), places[0].cursors.events), ("a", 5));
}

fn wait(seq: i64, key: i64, due_ms: i64) -> HookWaiting {
    HookWaiting { source: HookSource::Event, seq, n: 0, key, attempts: 1, first_ms: 5, due_ms }
}

fn waiting(scene: &mut Scene) {
    let store = scene.store.clone();
    store.hook_start("a".into(), HookStart::At(0)).wait().unwrap();
    let step = |waiting: Vec<HookWaiting>, done: Vec<i64>| {
        let done = done.into_iter().map(|seq| (HookSource::Event, seq, 0)).collect();
        store.hook_progress("a".into(), HookProgress { waiting, done, ..HookProgress::default() }).wait().unwrap();
    };
    let due = |now| -> Vec<i64> {
        store.hook_due("a".into(), now, 10).wait().unwrap().into_iter().map(|one| one.seq).collect()
    };
    step(vec![wait(1, 7, 100), wait(2, 7, 10), wait(3, 8, 50), wait(4, 7, 10)], vec![]);
    assert!(due(9).is_empty());
    assert_eq!(due(60), [3], "what is behind the first of its key waits, due or not");
    assert_eq!(due(100), [3, 1]);
    assert_eq!(store.hook_next_due("a".into()).wait().unwrap(), Some(50));
    assert_eq!(store.hook_keys("a".into(), vec![6, 7, 8, 9]).wait().unwrap(), [7, 8]);
    step(vec![HookWaiting { attempts: 2, ..wait(3, 8, 500) }], vec![1]);
    assert_eq!(due(100), [2]);
    step(vec![], vec![2, 4]);
    assert!(due(400).is_empty());
    assert_eq!(store.hook_due("a".into(), 500, 10).wait().unwrap()[0].attempts, 2);
    assert_eq!(store.hook_hasten("a".into(), 20).wait().unwrap(), 1);
    assert_eq!(due(20), [3]);
    assert_eq!(store.hook_due("b".into(), 500, 10).wait().unwrap(), []);
    assert_eq!(store.hook_next_due("b".into()).wait().unwrap(), None);
    assert_eq!(store.hooks().wait().unwrap()[0].waiting, 1);
    assert_eq!(store.hook_resume("a".into(), json!({"paused": null}), 70).wait().unwrap(), 1);
    let fresh = HookWaiting { attempts: 0, first_ms: 0, ..wait(3, 8, 70) };
    assert_eq!(store.hook_due("a".into(), 70, 10).wait().unwrap(), [fresh]);
    assert_eq!(store.hooks().wait().unwrap()[0].state, json!({"paused": null}));
    // Beginning anew reads again what waits behind that place.
    store.hook_start("a".into(), HookStart::At(0)).wait().unwrap();
    assert_eq!(store.hooks().wait().unwrap()[0].waiting, 0);
}

fn progress(scene: &mut Scene) {
    scene.store.hook_start("a".into(), HookStart::At(0)).wait().unwrap();
    scene.store.hook_start("b".into(), HookStart::At(0)).wait().unwrap();
    let step = HookProgress {
        cursors: Some(HookCursors { events: 9, part: 2, suppressions: 4 }),
        state: json!({"failing": 3}),
        waiting: vec![wait(8, 1, 10)],
        log: vec![HookDelivery { id: 0, at_ms: scene.now, taken: false, body: json!({"status": 500}) }],
        ..HookProgress::default()
    };
    scene.store.hook_progress("a".into(), step.clone()).wait().unwrap();
    let unknown = scene.store.hook_progress("c".into(), step).wait();
    assert!(matches!(unknown, Err(StoreError::NotFound)), "{unknown:?}");
    scene
        .store
        .hook_progress("a".into(), HookProgress { state: json!({"failing": 4}), ..HookProgress::default() })
        .wait()
        .unwrap();
    scene.restart();
    let places = scene.store.hooks().wait().unwrap();
    let expected = HookPlace {
        name: "a".into(),
        cursors: HookCursors { events: 9, part: 2, suppressions: 4 },
        waiting: 1,
        state: json!({"failing": 4}),
    };
    assert_eq!(places[0], expected);
    assert_eq!((places.len(), places[1].waiting), (2, 0));
    assert_eq!(scene.store.hook_deliveries("c".into(), false, None, 10).wait().unwrap(), []);
    assert_eq!(
        scene.store.hook_deliveries("a".into(), false, None, 10).wait().unwrap()[0].body,
        json!({"status": 500})
    );
    scene.store.hook_forget("a".into()).wait().unwrap();
    assert_eq!(scene.store.hook_deliveries("a".into(), false, None, 10).wait().unwrap(), []);
    assert_eq!(scene.store.hook_due("a".into(), i64::MAX, 10).wait().unwrap(), []);
    assert_eq!(scene.store.hooks().wait().unwrap().len(), 1);
    scene.sound();
}

fn log(scene: &mut Scene) {
    let store = scene.store.clone();
    for name in ["a", "b"] {
        store.hook_start(name.into(), HookStart::Now).wait().unwrap();
    }
    let write = |name: &str, at_ms: i64, count: usize, taken| {
        let entry = HookDelivery { id: 0, at_ms, taken, body: json!({}) };
        let step = HookProgress { log: vec![entry; count], ..HookProgress::default() };
        store.hook_progress(name.into(), step).wait().unwrap();
    };
    write("b", 5, 1, false);
    write("a", 5, 10_050, true);
    write("a", scene.now, 100, false);
    let page =
        |name: &str, only, before, limit| store.hook_deliveries(name.into(), only, before, limit).wait().unwrap();
    let newest = page("a", false, None, 1_000);
    assert_eq!((newest.len(), newest[0].taken, newest[100].taken), (1_000, false, true));
    assert!(newest.windows(2).all(|pair| pair[0].id > pair[1].id));
    assert_eq!(page("a", true, None, 1_000).len(), 100);
    assert_eq!(page("a", true, Some(newest[98].id), 1_000)[0].id, newest[99].id);
    let oldest = page("a", false, Some(newest[0].id - 9_999), 1_000);
    assert!(oldest.len() <= 100, "{} are more than were to be kept", oldest.len());
    assert_eq!(page("b", true, None, 10).len(), 1, "each has its own");
    store
        .retain(Retention { content_ms: HOUR, events_ms: HOUR, captured_ms: HOUR, streams: Arc::default() }, scene.now)
        .wait()
        .unwrap();
    assert_eq!((page("a", false, None, 1_000).len(), page("b", false, None, 10).len()), (100, 0));
}
