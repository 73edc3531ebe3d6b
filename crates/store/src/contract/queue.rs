//! Stories about claiming, settling, expiring and about runs that died.

use super::scene::{HOUR, attempt, lane, refused};
use super::{Scene, Story};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[
    ("a claimed recipient is not claimed twice", claimed_once),
    ("urgent lanes come first, then the longest due", order),
    ("limits and skipped lanes are kept, and the next due time is told", limits),
    ("outcomes become states, events and attempts", outcomes),
    ("leases of a dead run return and its late settle changes nothing", dead_run),
    ("leases of another node stay", other_node),
    ("leases are given back when asked", give_back),
    ("expiry ends what waited and was attempted, not what a clock's jump made old", expiry),
    ("a captured message is found in the mailbox", capture),
    ("a limit does not tear the recipients of a message apart", kept_together),
    ("a due time is never later than the expiry", due_bounded),
    ("recipients settled together have an event each, told once by any cursor", settled_together),
    ("recipients settled together are each judged by their own row", judged_alone),
];

fn claimed_once(scene: &mut Scene) {
    let id = scene.waiting(&["b@example.net", "c@example.net"]);
    assert_eq!(scene.claim()[0].recipients.len(), 2);
    assert!(scene.claim().is_empty());
    assert_eq!(scene.state(id, 0), State::Leased);
    assert_eq!(scene.count("example.net"), (2, 0));
    assert_eq!(scene.settle_all(id, vec![(0, Outcome::Delivered), (1, Outcome::Delivered)]), 2);
    assert_eq!(scene.settle(id, 0, Outcome::Delivered), 0);
    assert_eq!(scene.count("example.net"), (0, 0));
    let events = scene.store.events(id, 10).wait().unwrap();
    assert_eq!(events.len(), 3);
    assert_eq!(events[1].detail.attempt, Some(attempt(scene.now)));
    assert_eq!(events[2].detail.attempt, events[1].detail.attempt);
    scene.sound();
}

fn order(scene: &mut Scene) {
    let accept = |to: &str, priority: u8, due: i64| {
        let mut new = scene.message(&[to], Start::Waiting(due));
        new.recipients[0].lane = lane("mx", to, priority);
        scene.accept_this(new)
    };
    let bulk = accept("a@a.test", 3, scene.now - HOUR);
    let late = accept("b@b.test", 2, scene.now - 1);
    let early = accept("c@c.test", 2, scene.now - 2);
    let first = accept("d@c.test", 2, scene.now - 3);
    let urgent = accept("e@e.test", 0, scene.now);
    let future = accept("f@f.test", 0, scene.now + 1);
    let ids: Vec<MessageId> = scene.claim().iter().map(|claim| claim.message.id).collect();
    assert_eq!(ids, [urgent, first, early, late, bulk]);
    assert_eq!(scene.state(future, 0), State::Waiting);
}

fn limits(scene: &mut Scene) {
    let mut lanes = Vec::new();
    for domain in ["a.test", "b.test", "c.test"] {
        for n in 0..5 {
            scene.waiting(&[&format!("{n}@{domain}")]);
        }
        lanes.push(lane("mx", &format!("x@{domain}"), 2).id);
    }
    let claimed = scene.claim_some(100, 2, &lanes[..1]);
    assert_eq!(claimed.claims.len(), 4);
    assert!(claimed.claims.iter().all(|claim| claim.lane.id != lanes[0]));
    assert_eq!(claimed.next_due_ms, Some(scene.now));
    assert_eq!(scene.claim_some(3, 100, &[]).claims.len(), 3);
    assert_eq!(scene.claim_some(100, 100, &lanes[..2]).claims.len(), 3);
    let rest = scene.claim_some(100, 100, &[]);
    assert_eq!((rest.claims.len(), rest.next_due_ms), (5, None));
    scene.accept(&["z@a.test"], Start::Waiting(scene.now + 7));
    assert_eq!(scene.claim_some(9, 9, &[]).next_due_ms, Some(scene.now + 7));
    assert_eq!(scene.claim_some(9, 9, &lanes[..1]).next_due_ms, None);
    scene.sound();
}

fn outcomes(scene: &mut Scene) {
    let to: Vec<String> = (0..6).map(|n| format!("r{n}@example.net")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = scene.waiting(&to);
    scene.claim();
    let until_ms = scene.now + HOUR;
    let changed = scene.settle_all(
        id,
        vec![
            (0, Outcome::Delivered),
            (1, Outcome::Deferred { until_ms, cause: refused() }),
            (2, Outcome::Failed { cause: refused() }),
            (3, Outcome::Expired { cause: Some(refused()) }),
            (4, Outcome::Held { why: "credential".into() }),
            (5, Outcome::Returned { due_ms: scene.now + 5 }),
        ],
    );
    assert_eq!(changed, 6);
    let states: Vec<State> = (0..6).map(|n| scene.state(id, n)).collect();
    use State::*;
    assert_eq!(states, [Delivered, Waiting, Failed, Expired, Held, Waiting]);
    let deferred = scene.view(id, 1);
    assert_eq!((deferred.attempts, deferred.due_ms, deferred.cause), (1, Some(until_ms), Some(refused())));
    assert_eq!((scene.view(id, 5).attempts, scene.view(id, 5).due_ms), (0, Some(scene.now + 5)));
    assert_eq!(scene.view(id, 4).why.as_deref(), Some("credential"));
    assert_eq!(scene.count("example.net"), (2, 1));
    let events = scene.store.events(id, 100).wait().unwrap();
    assert_eq!(events.len(), 6);
    assert_eq!(events[2].detail.until_ms, Some(until_ms));
    assert_eq!(events[2].detail.cause, Some(refused()));
    assert_eq!(events[5].detail.why.as_deref(), Some("credential"));
    assert!(events.iter().skip(1).all(|event| event.detail.attempt == Some(attempt(scene.now))));
    scene.now = until_ms;
    let claims = scene.claim();
    let recipients: Vec<(u32, u32)> = claims.iter().flat_map(|c| &c.recipients).map(|r| (r.n, r.attempts)).collect();
    assert_eq!(recipients, [(5, 0), (1, 1)]);
    scene.sound();
}

fn dead_run(scene: &mut Scene) {
    let id = scene.waiting(&["b@example.net"]);
    let leased = scene.accept(&["c@example.net"], Start::Leased);
    scene.claim();
    let dead = scene.run;
    assert_eq!(scene.restart(), 2);
    assert!(scene.run.0 > dead.0);
    assert_eq!(scene.state(leased, 0), State::Waiting);
    assert_eq!(scene.count("example.net"), (2, 0));
    let late = Settlement {
        by: dead,
        lapses: 0,
        at_ms: scene.now,
        message: id,
        attempt: None,
        outcomes: vec![(0, Outcome::Delivered)],
        capture: false,
    };
    assert_eq!(scene.store.settle(late).wait().unwrap(), 0);
    assert_eq!(scene.claim().len(), 2);
    scene.sound();
}

fn other_node(scene: &mut Scene) {
    let id = scene.waiting(&["b@example.net"]);
    scene.claim();
    let (_, taken) = scene.store.start_run("second", scene.now).wait().unwrap();
    assert_eq!(taken, 0);
    assert_eq!(scene.settle(id, 0, Outcome::Delivered), 1);
}

fn give_back(scene: &mut Scene) {
    let (a, b) = (scene.waiting(&["a@example.net", "b@example.net"]), scene.waiting(&["c@example.net"]));
    scene.claim();
    let recipient = |message, n| RecipientId { message, n };
    let list = vec![
        (recipient(a, 0), scene.now),
        (recipient(a, 1), scene.now + 9),
        (recipient(b, 0), scene.now),
        (recipient(b, 7), scene.now),
    ];
    assert_eq!(scene.store.give_back(scene.run, list.clone()).wait().unwrap(), 3);
    assert_eq!(scene.store.give_back(scene.run, list).wait().unwrap(), 0);
    assert_eq!(scene.claim().len(), 2);
    assert_eq!(scene.view(a, 1).due_ms, Some(scene.now + 9));
    assert_eq!(scene.kinds(a), [EventKind::Accepted]);
    scene.sound();
}

fn expiry(scene: &mut Scene) {
    let tried = scene.waiting(&["b@example.net"]);
    scene.claim();
    scene.defer(tried, 0);
    let held = scene.accept(&["h@example.net"], Start::Held("wait".into()));
    let late = scene.accept(&["c@example.net"], Start::Waiting(scene.now + 121 * HOUR));
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 0);
    scene.now += 120 * HOUR + 1;
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 1);
    assert_eq!(scene.state(tried, 0), State::Expired);
    assert_eq!((scene.state(late, 0), scene.state(held, 0)), (State::Waiting, State::Held));
    let events = scene.store.events(tried, 10).wait().unwrap();
    assert_eq!(events[2].kind, EventKind::Expired);
    assert_eq!(events[2].detail.cause, Some(refused()));
    scene.now += HOUR;
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 1);
    assert_eq!(scene.state(late, 0), State::Expired);
    assert_eq!(scene.operate(Selector { message: Some(held), ..Selector::default() }, Operation::Release), 1);
    scene.now += HOUR;
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 1);
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 0);
    assert_eq!(scene.count("example.net"), (0, 0));
    scene.sound();
}

fn capture(scene: &mut Scene) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = scene.accept(&["b@example.net"], Start::Leased);
        let settlement = Settlement {
            by: scene.run,
            lapses: 0,
            at_ms: scene.now,
            message: id,
            attempt: None,
            outcomes: vec![(0, Outcome::Delivered)],
            capture: true,
        };
        assert_eq!(scene.store.settle(settlement).wait().unwrap(), 1);
        ids.push(id);
    }
    let newest = scene.store.captured(None, 2).wait().unwrap();
    assert_eq!(newest.iter().map(|view| view.message.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
    assert!(newest[0].captured && newest[0].has_content);
    let older = scene.store.captured(Some(ids[1]), 2).wait().unwrap();
    assert_eq!(older.iter().map(|view| view.message.id).collect::<Vec<_>>(), [ids[0]]);
    assert_eq!(&scene.store.content(ids[0]).wait().unwrap()[..], super::MESSAGE_BODY);
    scene.sound();
}

fn kept_together(scene: &mut Scene) {
    let to: Vec<String> = (0..5).map(|n| format!("r{n}@{}.test", if n < 4 { "a" } else { "b" })).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let ids = [scene.waiting(&to), scene.waiting(&to)];
    let claimed = |scene: &Scene, max, max_per_lane| -> Vec<(MessageId, usize)> {
        let claimed = scene.claim_some(max, max_per_lane, &[]);
        claimed.claims.iter().map(|claim| (claim.message.id, claim.recipients.len())).collect()
    };
    assert!(matches!(claimed(scene, 1, 1)[..], [(_, 1 | 4)]));
    assert!(claimed(scene, 100, 1).iter().all(|(_, count)| [1, 4].contains(count)));
    claimed(scene, 100, 100);
    let give_back = |scene: &Scene, n: std::ops::Range<u32>, due_ms| {
        let recipients = n.map(|n| (RecipientId { message: ids[0], n }, due_ms)).collect();
        scene.store.give_back(scene.run, recipients).wait().unwrap()
    };
    // One with a due time of its own is claimed on its own.
    assert_eq!((give_back(scene, 2..3, scene.now - 5), give_back(scene, 0..4, scene.now)), (1, 3));
    assert_eq!(claimed(scene, 1, 100), [(ids[0], 1)]);
    assert_eq!(claimed(scene, 2, 100), [(ids[0], 3)]);
    scene.sound();
}

fn due_bounded(scene: &mut Scene) {
    let id = scene.waiting(&["b@example.net"]);
    scene.claim();
    scene.settle(id, 0, Outcome::Deferred { until_ms: scene.now + 500 * HOUR, cause: refused() });
    assert_eq!(scene.view(id, 0).due_ms, Some(scene.now + 120 * HOUR));
}

/// Ten recipients, accepted leased or claimed.
fn ten(scene: &Scene, leased: bool) -> MessageId {
    let to: Vec<String> = (0..10).map(|n| format!("r{n}@d{}.test", n / 4)).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = scene.accept(&to, if leased { Start::Leased } else { Start::Waiting(scene.now) });
    if !leased {
        assert_eq!(scene.claim().iter().map(|claim| claim.recipients.len()).sum::<usize>(), 10);
    }
    id
}

fn all(outcome: &Outcome) -> Vec<(u32, Outcome)> {
    (0..10).map(|n| (n, outcome.clone())).collect()
}

fn settled_together(scene: &mut Scene) {
    let until_ms = scene.now + HOUR;
    let deferred = Outcome::Deferred { until_ms, cause: refused() };
    for (leased, outcome) in [(true, &Outcome::Delivered), (false, &Outcome::Delivered), (true, &deferred)] {
        let before = scene.store.events_after(0, 1_000).wait().unwrap().len();
        let id = ten(scene, leased);
        assert_eq!(scene.settle_all(id, all(outcome)), 10);
        assert_eq!(scene.settle_all(id, all(outcome)), 0);
        let events = scene.store.events(id, 100).wait().unwrap();
        let recipients: Vec<Option<u32>> = events.iter().map(|event| event.n).collect();
        assert_eq!(recipients, [None].into_iter().chain((0..10).map(Some)).collect::<Vec<_>>());
        assert!(events[1..].iter().all(|event| event.detail.attempt == Some(attempt(scene.now))));
        assert_eq!(scene.store.events(id, 4).wait().unwrap(), events[7..]);
        let whole = scene.store.events_after(0, 1_000).wait().unwrap();
        assert_eq!(whole[before..], events);
        for size in [1, 3, 7] {
            let (mut seen, mut after) = (Vec::new(), 0);
            loop {
                let page = scene.store.events_after(after, size).wait().unwrap();
                let Some(last) = page.last() else { break };
                assert!(page.len() <= size as usize);
                after = last.seq;
                seen.extend(page);
            }
            assert_eq!(seen, whole);
        }
        scene.sound();
    }
    let last = scene.store.events_after(0, 1_000).wait().unwrap().pop().unwrap().seq;
    scene.restart();
    scene.waiting(&["b@example.net"]);
    assert_eq!(scene.store.events_after(last, 10).wait().unwrap().len(), 1);
}

fn judged_alone(scene: &mut Scene) {
    for leased in [true, false] {
        let id = ten(scene, leased);
        let one = Selector { message: Some(id), n: Some(3), ..Selector::default() };
        assert_eq!(scene.operate(one, Operation::Cancel), 1);
        assert_eq!(scene.settle(id, 5, Outcome::Delivered), 1);
        assert_eq!(scene.settle(id, 8, Outcome::Held { why: "x".into() }), 1);
        let dead = Settlement {
            by: Incarnation(scene.run.0 + 1),
            lapses: 0,
            at_ms: scene.now,
            message: id,
            attempt: None,
            outcomes: all(&Outcome::Delivered),
            capture: false,
        };
        assert_eq!(scene.store.settle(dead).wait().unwrap(), 0);
        assert_eq!(scene.settle_all(id, all(&Outcome::Delivered)), 8);
        let delivered = (0..10).filter(|n| scene.state(id, *n) == State::Delivered).count();
        assert_eq!((delivered, scene.state(id, 8)), (9, State::Held));
        let mut told: Vec<u32> = scene.store.events(id, 100).wait().unwrap().iter().filter_map(|e| e.n).collect();
        assert_eq!(told.len(), 10);
        told.sort_unstable();
        assert_eq!(told, (0..10).collect::<Vec<_>>());
        scene.sound();
    }
}
