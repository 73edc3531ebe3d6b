//! Stories about taking messages in.

use std::sync::Arc;

use proto::{DeliveryNotify, RcptParameters, ReversePath};

use super::scene::{HOUR, MESSAGE_BODY, lane};
use super::{Scene, Story};
use crate::model::*;
use crate::verbs::StoreError;

pub(super) const STORIES: &[Story] = &[
    ("what is accepted is claimed as it was given", given_is_claimed),
    ("content comes back unchanged", content_unchanged),
    ("ids grow, even if the clock goes back", ids_grow),
    ("a first state may be held, suppressed or leased", first_states),
    ("an idempotency key replays its answer and refuses another body", idempotency),
    ("what cannot be stored is refused and leaves nothing", refused),
    ("one bad message does not harm its batch", bad_neighbour),
    ("a message without recipients left is final from the start", all_suppressed),
];

fn given_is_claimed(scene: &mut Scene) {
    let mut new = scene.message(&["b@example.net", "\"b c\"@example.net"], Start::Waiting(scene.now));
    let parameters = RcptParameters {
        notify: Some(DeliveryNotify::On { success: true, failure: false, delay: true }),
        orcpt: Some("rfc822;B@example.net".into()),
    };
    new.recipients[1].parameters = parameters.clone();
    let message = Message {
        reverse_path: ReversePath(None),
        not_before_ms: Some(scene.now - 1),
        eight_bit: true,
        ..(*new.message).clone()
    };
    new.message = Arc::new(message.clone());
    scene.accept_this(new.clone());
    let claims = scene.claim();
    assert_eq!(claims.len(), 1);
    assert_eq!(*claims[0].message, message);
    assert_eq!(claims[0].lane, new.recipients[0].lane);
    let addresses: Vec<&str> = claims[0].recipients.iter().map(|recipient| recipient.address.as_str()).collect();
    assert_eq!(addresses, ["b@example.net", "\"b c\"@example.net"]);
    assert_eq!(claims[0].recipients[1].parameters, parameters);
    let events = scene.store.events_after(0, 10).wait().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].kind, events[0].n, events[0].at_ms), (EventKind::Accepted, None, scene.now));
}

fn content_unchanged(scene: &mut Scene) {
    let mut new = scene.message(&["b@example.net"], Start::Waiting(scene.now));
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    new.content = large.clone().into();
    let (small, big) = (scene.waiting(&["c@example.net"]), scene.accept_this(new));
    assert_eq!(&scene.store.content(small).wait().unwrap()[..], MESSAGE_BODY);
    assert_eq!(scene.store.content(big).wait().unwrap(), large);
    let none = scene.store.content(MessageId(77)).wait();
    assert!(matches!(none, Err(StoreError::NotFound)), "{none:?}");
}

fn ids_grow(scene: &mut Scene) {
    let mut last = MessageId(0);
    for step in 0..5_000 {
        let id = scene.store.next_id(scene.now - i64::from(step % 7) * HOUR);
        assert!(id > last);
        assert_eq!(id.to_string().parse(), Ok(id));
        last = id;
    }
    let stored = scene.waiting(&["b@example.net"]);
    scene.restart();
    assert!(scene.store.next_id(0) > stored);
}

fn first_states(scene: &mut Scene) {
    let mut new = scene.message(&["a@x.test", "b@x.test", "c@x.test", "d@x.test"], Start::Waiting(scene.now + HOUR));
    new.recipients[1].start = Start::Leased;
    new.recipients[2].start = Start::Held("look at it".into());
    new.recipients[3].start = Start::Suppressed("it bounced".into());
    let id = scene.accept_this(new);
    let states: Vec<State> = (0..4).map(|n| scene.state(id, n)).collect();
    assert_eq!(states, [State::Waiting, State::Leased, State::Held, State::Suppressed]);
    assert_eq!(scene.view(id, 0).due_ms, Some(scene.now + HOUR));
    assert_eq!(scene.view(id, 2).why.as_deref(), Some("look at it"));
    assert_eq!(scene.view(id, 3).why.as_deref(), Some("it bounced"));
    assert_eq!(scene.count("x.test"), (2, 1));
    assert_eq!(scene.kinds(id), [EventKind::Accepted, EventKind::Held, EventKind::Suppressed]);
    assert!(scene.claim().is_empty());
    assert_eq!(scene.settle(id, 1, Outcome::Delivered), 1);
    assert_eq!(scene.count("x.test"), (1, 1));
    scene.sound();
}

fn idempotency(scene: &mut Scene) {
    let keyed = |sender: &str, fingerprint: u8, answer: &str| {
        let mut new = scene.message(&["b@example.net"], Start::Waiting(scene.now));
        new.idempotency = Some(Idempotency {
            sender: sender.into(),
            key: "k".into(),
            fingerprint: [fingerprint; 32],
            answer: answer.into(),
        });
        new
    };
    scene.accept_this(keyed("app", 1, "first"));
    let again = scene.store.accept(keyed("app", 1, "second")).wait().unwrap();
    assert_eq!(again, Accepted::Replayed("first".into()));
    let other = scene.store.accept(keyed("app", 2, "third")).wait().unwrap();
    assert_eq!(other, Accepted::KeyConflict);
    scene.accept_this(keyed("shop", 2, "fourth"));
    assert_eq!(scene.claim().len(), 2);
    // At the same moment: one is accepted, the others are told of it.
    let racing: Vec<_> = (0..8).map(|_| scene.store.accept(keyed("race", 1, "once"))).collect();
    let answers: Vec<Accepted> = racing.into_iter().map(|pending| pending.wait().unwrap()).collect();
    let committed = answers.iter().filter(|answer| matches!(answer, Accepted::Committed(_))).count();
    assert_eq!(committed, 1);
    scene.now += 25 * HOUR;
    let mut late = keyed_late(scene);
    late.message = Arc::new(Message { accepted_ms: scene.now, ..(*late.message).clone() });
    assert!(matches!(scene.store.accept(late).wait().unwrap(), Accepted::Committed(_)));
    scene.sound();
}

/// The same key as before, a day later.
fn keyed_late(scene: &Scene) -> NewMessage {
    let mut new = scene.message(&["b@example.net"], Start::Waiting(scene.now));
    new.idempotency =
        Some(Idempotency { sender: "app".into(), key: "k".into(), fingerprint: [9; 32], answer: "later".into() });
    new
}

fn refused(scene: &mut Scene) {
    let empty = scene.message(&[], Start::Leased);
    assert!(matches!(scene.store.accept(empty).wait(), Err(StoreError::Invalid(_))));
    let twice = scene.message(&["b@example.net"], Start::Waiting(scene.now));
    scene.accept_this(twice.clone());
    assert!(scene.store.accept(twice).wait().is_err());
    assert_eq!(scene.count("example.net"), (1, 0));
    assert_eq!(scene.claim().len(), 1);
    scene.sound();
}

fn bad_neighbour(scene: &mut Scene) {
    let twice = scene.message(&["b@example.net"], Start::Waiting(scene.now));
    scene.accept_this(twice.clone());
    let mut pending = Vec::new();
    for index in 0..60 {
        let good = scene.message(&["c@example.net"], Start::Leased);
        pending.push((scene.store.accept(if index == 30 { twice.clone() } else { good }), index != 30));
    }
    for (answer, good) in pending {
        assert_eq!(answer.wait().is_ok(), good);
    }
    assert_eq!(scene.count("example.net"), (60, 0));
    scene.sound();
}

fn all_suppressed(scene: &mut Scene) {
    let mut new = scene.message(&["b@example.net"], Start::Suppressed("it bounced".into()));
    new.recipients[0].lane = lane("smart", "b@example.net", 0);
    let id = scene.accept_this(new);
    assert_eq!(scene.state(id, 0), State::Suppressed);
    assert_eq!(scene.count("example.net"), (0, 0));
    assert_eq!(scene.view(id, 0).lane.route.as_ref(), "smart");
    scene.sound();
}
