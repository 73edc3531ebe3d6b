//! Stories about operators: selecting, holding, releasing, retrying, cancelling.

use super::scene::{HOUR, because, lane};
use super::{Scene, Story};
use crate::model::*;
use crate::verbs::StoreError;

pub(super) const STORIES: &[Story] = &[
    ("an empty selection changes nothing and says so", empty_selector),
    ("each condition of a selection selects", selectors),
    ("hold, release, retry and cancel do what they say", operations),
    ("an operator's wish about a leased recipient is granted when its lease ends", wishes),
    ("a wish does not undo a delivery", wish_too_late),
    ("a list goes on after its cursor, oldest message first", paging),
    ("a large selection is changed completely", many),
    ("the queue is counted by each group", counted),
    ("what waits is found and counted by the cause of its last failure", by_cause),
];

fn by(change: impl FnOnce(&mut Selector)) -> Selector {
    let mut selector = Selector::default();
    change(&mut selector);
    selector
}

fn empty_selector(scene: &mut Scene) {
    scene.waiting(&["b@example.net"]);
    let answer = scene.store.operate(Selector::default(), Operation::Cancel, "op".into(), scene.now).wait();
    assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}");
    let answer = scene.store.operate(by(|s| s.n = Some(1)), Operation::Cancel, "op".into(), scene.now).wait();
    assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}");
    assert_eq!(scene.count("example.net"), (1, 0));
}

fn selectors(scene: &mut Scene) {
    let a = scene.waiting(&["a@one.test", "b@two.test"]);
    let mut other = scene.message(&["a@one.test"], Start::Held("x".into()));
    other.recipients[0].lane = lane("smart", "a@one.test", 1);
    let b = scene.accept_this(other);
    let c = scene.accept(&["c@one.test"], Start::Leased);
    let find = |selector: Selector| -> Vec<(MessageId, u32)> {
        let found = scene.store.recipients(selector.clone(), None, 100).wait().unwrap();
        assert_eq!(scene.store.count(selector, 100).wait().unwrap(), found.len() as u64);
        found.iter().map(|view| (view.id.message, view.id.n)).collect()
    };
    assert_eq!(find(Selector::default()), [(a, 0), (a, 1), (b, 0), (c, 0)]);
    assert_eq!(find(by(|s| s.all = true)), [(a, 0), (a, 1), (b, 0), (c, 0)]);
    assert_eq!(find(by(|s| s.message = Some(a))), [(a, 0), (a, 1)]);
    assert_eq!(
        find(by(|s| {
            s.message = Some(a);
            s.n = Some(1);
        })),
        [(a, 1)]
    );
    assert_eq!(find(by(|s| s.recipient = Some("a@ONE.test".into()))), [(a, 0), (b, 0)]);
    assert_eq!(find(by(|s| s.recipient = Some("c@one.test".into()))), [(c, 0)]);
    assert_eq!(find(by(|s| s.domain = Some("one.test".into()))), [(a, 0), (b, 0), (c, 0)]);
    assert_eq!(find(by(|s| s.route = Some("smart".into()))), [(b, 0)]);
    assert_eq!(find(by(|s| s.sender = Some("nobody".into()))), []);
    assert_eq!(find(by(|s| s.stream = Some("news".into()))).len(), 4);
    assert_eq!(find(by(|s| s.state = Some(State::Held))), [(b, 0)]);
    assert_eq!(find(by(|s| s.state = Some(State::Leased))), [(c, 0)]);
    assert_eq!(
        find(by(|s| {
            s.state = Some(State::Waiting);
            s.domain = Some("one.test".into());
        })),
        [(a, 0)]
    );
    scene.settle(c, 0, Outcome::Delivered);
    assert_eq!(find(by(|s| s.state = Some(State::Delivered))), [(c, 0)]);
    assert_eq!(find(by(|s| s.domain = Some("one.test".into()))), [(a, 0), (b, 0)]);
}

fn operations(scene: &mut Scene) {
    let id = scene.accept(&["a@one.test", "b@two.test"], Start::Waiting(scene.now + HOUR));
    let all = || by(|s| s.all = true);
    assert_eq!(scene.operate(by(|s| s.domain = Some("one.test".into())), Operation::Retry), 1);
    assert_eq!(scene.view(id, 0).due_ms, Some(scene.now));
    assert_eq!(scene.operate(all(), Operation::Hold("maintenance".into())), 2);
    assert_eq!(scene.view(id, 1).why.as_deref(), Some("maintenance"));
    assert_eq!(scene.count("one.test"), (0, 1));
    assert_eq!(scene.operate(all(), Operation::Retry), 0);
    assert_eq!(scene.operate(all(), Operation::Hold("again".into())), 0);
    assert!(scene.claim().is_empty());
    assert_eq!(scene.operate(by(|s| s.recipient = Some("a@one.test".into())), Operation::Release), 1);
    assert_eq!(scene.view(id, 0).why, None);
    assert_eq!(scene.claim().len(), 1);
    assert_eq!(scene.operate(by(|s| s.state = Some(State::Held)), Operation::Cancel), 1);
    assert_eq!(scene.state(id, 1), State::Canceled);
    assert_eq!(scene.operate(by(|s| s.state = Some(State::Canceled)), Operation::Release), 0);
    let events = scene.store.events(id, 100).wait().unwrap();
    let words: Vec<(EventKind, Option<u32>, Option<&str>)> =
        events.iter().skip(1).map(|event| (event.kind, event.n, event.detail.why.as_deref())).collect();
    let hold = Some("maintenance (by op)");
    assert_eq!(
        words,
        [
            (EventKind::Held, Some(0), hold),
            (EventKind::Held, Some(1), hold),
            (EventKind::Released, Some(0), Some("op")),
            (EventKind::Canceled, Some(1), Some("op")),
        ]
    );
    scene.sound();
}

fn wishes(scene: &mut Scene) {
    let ids: Vec<MessageId> = (0..5).map(|n| scene.waiting(&[&format!("r{n}@example.net")])).collect();
    scene.claim();
    let one = |index: usize| by(|s| s.message = Some(ids[index]));
    assert_eq!(scene.operate(one(0), Operation::Hold("stop".into())), 1);
    assert_eq!(scene.operate(one(1), Operation::Cancel), 1);
    assert_eq!(scene.operate(one(2), Operation::Retry), 1);
    assert_eq!(scene.operate(one(3), Operation::Hold("stop".into())), 1);
    assert_eq!(scene.operate(one(3), Operation::Release), 1);
    assert_eq!(scene.operate(one(4), Operation::Cancel), 1);
    assert_eq!(scene.state(ids[0], 0), State::Leased);
    for id in &ids[..4] {
        assert_eq!(scene.defer(*id, 0), 1);
    }
    assert_eq!(scene.settle(ids[4], 0, Outcome::Returned { due_ms: scene.now }), 1);
    let states: Vec<State> = ids.iter().map(|id| scene.state(*id, 0)).collect();
    assert_eq!(states, [State::Held, State::Canceled, State::Waiting, State::Waiting, State::Canceled]);
    assert_eq!(scene.view(ids[0], 0).why.as_deref(), Some("stop"));
    assert_eq!(scene.view(ids[2], 0).due_ms, Some(scene.now));
    assert_eq!(scene.view(ids[3], 0).due_ms, Some(scene.now + HOUR));
    assert_eq!(scene.kinds(ids[0]), [EventKind::Accepted, EventKind::Deferred, EventKind::Held]);
    assert_eq!(scene.kinds(ids[4]), [EventKind::Accepted, EventKind::Canceled]);
    scene.sound();
}

fn wish_too_late(scene: &mut Scene) {
    let id = scene.waiting(&["b@example.net"]);
    scene.claim();
    assert_eq!(scene.operate(by(|s| s.message = Some(id)), Operation::Cancel), 1);
    scene.settle(id, 0, Outcome::Delivered);
    assert_eq!(scene.state(id, 0), State::Delivered);
    assert_eq!(scene.kinds(id), [EventKind::Accepted, EventKind::Delivered]);
}

fn paging(scene: &mut Scene) {
    let mut wanted = Vec::new();
    for n in 0..25 {
        // Due in the opposite order, over several lanes and states.
        let start = if n % 3 == 0 { Start::Held("x".into()) } else { Start::Waiting(scene.now - n) };
        let (a, b) = (format!("a@d{}.test", n % 4), format!("b@d{}.test", n % 2));
        let id = scene.accept(&[&a, &b], if n % 5 == 0 { Start::Leased } else { start });
        wanted.extend([(id, 0), (id, 1)]);
    }
    for selector in [Selector::default(), by(|s| s.route = Some("mx".into()))] {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = scene.store.recipients(selector.clone(), after, 7).wait().unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            found.extend(page.iter().map(|view| (view.id.message, view.id.n)));
        }
        assert_eq!(found, wanted);
    }
}

fn many(scene: &mut Scene) {
    let pending: Vec<_> = (0..700)
        .map(|n| {
            let (a, b) = (format!("a@m{}.test", n % 10), format!("b@m{}.test", n % 7));
            scene.store.accept(scene.message(&[&a, &b], Start::Waiting(scene.now)))
        })
        .collect();
    assert!(pending.into_iter().all(|answer| answer.wait().is_ok()));
    let all = || by(|s| s.all = true);
    assert_eq!(scene.operate(all(), Operation::Hold("all".into())), 1_400);
    assert_eq!(scene.operate(by(|s| s.state = Some(State::Held)), Operation::Release), 1_400);
    assert_eq!(scene.operate(by(|s| s.stream = Some("news".into())), Operation::Cancel), 1_400);
    assert!(scene.store.counts(GroupBy::Route, 10).wait().unwrap().is_empty());
    scene.sound();
}

fn by_cause(scene: &mut Scene) {
    let later = scene.now + HOUR;
    let deferred = |rule: &str| Outcome::Deferred { until_ms: later, cause: because(rule) };
    let ids: Vec<MessageId> = (0..4).map(|n| scene.waiting(&[&format!("r{n}@d{n}.test")])).collect();
    scene.claim();
    scene.settle(ids[0], 0, deferred("mailbox-full"));
    scene.settle(ids[1], 0, deferred("mailbox-full"));
    scene.settle(ids[2], 0, deferred("greylisted"));
    scene.settle(ids[3], 0, Outcome::Failed { cause: because("mailbox-full") });
    scene.waiting(&["fresh@d9.test"]);
    let full = || by(|s| s.cause = Some("mailbox-full".into()));
    let find = |selector: Selector| -> Vec<MessageId> {
        scene.store.recipients(selector, None, 10).wait().unwrap().iter().map(|view| view.id.message).collect()
    };
    assert_eq!(find(full()), ids[..2]);
    assert_eq!(find(by(|s| s.state = Some(State::Failed))), ids[3..]);
    assert_eq!(scene.operate(by(|s| s.cause = Some("greylisted".into())), Operation::Hold("x".into())), 1);
    let line = |group: &str, pending, held, next_due_ms| QueueCount {
        group: group.into(),
        pending,
        urgent: 0,
        held,
        next_due_ms,
    };
    assert_eq!(
        scene.store.counts(GroupBy::Cause, 10).wait().unwrap(),
        [line("mailbox-full", 2, 0, Some(later)), line("greylisted", 0, 1, None)]
    );
    assert_eq!(scene.operate(full(), Operation::Retry), 2);
    scene.claim();
    scene.settle(ids[0], 0, Outcome::Delivered);
    assert_eq!(scene.view(ids[0], 0).cause, None);
    assert_eq!(scene.view(ids[2], 0).cause, Some(because("greylisted")));
    scene.sound();
}

fn counted(scene: &mut Scene) {
    scene.accept(&["a@one.test", "b@one.test"], Start::Waiting(scene.now + 5));
    scene.accept(&["a@two.test"], Start::Leased);
    scene.accept(&["b@two.test"], Start::Held("x".into()));
    let by_domain = scene.store.counts(GroupBy::Domain, 10).wait().unwrap();
    let one = QueueCount { group: "one.test".into(), pending: 2, urgent: 0, held: 0, next_due_ms: Some(scene.now + 5) };
    let two = QueueCount { group: "two.test".into(), pending: 1, urgent: 0, held: 1, next_due_ms: None };
    assert_eq!(by_domain, [one, two]);
    for group in [GroupBy::Route, GroupBy::Sender, GroupBy::Stream] {
        let counts = scene.store.counts(group, 10).wait().unwrap();
        assert_eq!((counts.len(), counts[0].pending, counts[0].held), (1, 3, 1));
    }
    assert_eq!(scene.store.counts(GroupBy::Domain, 1).wait().unwrap().len(), 1);
    for start in [Start::Waiting(scene.now), Start::Leased, Start::Held("x".into())] {
        let mut urgent = scene.message(&["c@two.test"], start);
        urgent.recipients[0].lane = lane("mx", "c@two.test", 0);
        scene.accept_this(urgent);
    }
    let by_route = scene.store.counts(GroupBy::Route, 1).wait().unwrap().remove(0);
    assert_eq!((by_route.pending, by_route.urgent, by_route.held), (5, 2, 2));
}
