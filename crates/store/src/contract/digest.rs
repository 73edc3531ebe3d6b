//! Stories about what streams need: digests, deadlines, and retention of their own.

use std::sync::Arc;

use super::scene::{HOUR, address, lane, refused};
use super::{Scene, Story};
use crate::model::*;
use crate::verbs::{RETURN_MS, Retention, StoreError, StreamRetention};

pub(super) const STORIES: &[Story] = &[
    ("of equal mails the first goes and the others are told of once", folding),
    ("a window without mail is forgotten, and the next mail opens another", windows),
    ("a digest that grew meanwhile, or was sent, is refused", ended_once),
    ("mail taken out of a digest is not ended with it", taken_out),
    ("mail that could not wait for the digest goes by itself", no_time_to_fold),
    ("that a recipient will be late is told once", lateness),
    ("a deadline ends what was never tried and what is held, to the moment", deadlines),
    ("a hold by its reason is found and released without the others", by_reason),
    ("a stream keeps content and events for its own time", own_retention),
];

const WINDOW: i64 = 600_000;

fn fold(key: u8) -> Fold {
    Fold { key: [key; 16], window_ms: WINDOW }
}

fn equal(scene: &Scene, key: u8) -> NewMessage {
    NewMessage { folds: vec![(0, fold(key))], ..scene.message(&["ann@example.net"], Start::Leased) }
}

/// Accepts a mail of a key; gives it, and whether it was folded.
fn send(scene: &Scene, key: u8) -> (MessageId, bool) {
    let new = equal(scene, key);
    let id = new.message.id;
    match scene.store.accept(new).wait().unwrap() {
        Accepted::Committed(committed) => (id, committed.folded() == [0]),
        other => panic!("not committed: {other:?}"),
    }
}

fn due(scene: &Scene) -> Vec<Digest> {
    scene.store.due_digests(scene.now, 10, 2).wait().unwrap()
}

/// Accepts the message of a digest.
fn tell(scene: &Scene, digest: DigestId, folded: u64) -> Result<MessageId, StoreError> {
    let ends = Some(DigestEnd { digest, folded });
    let new = NewMessage { ends, ..scene.message(&["ann@example.net"], Start::Leased) };
    let id = new.message.id;
    scene.store.accept(new).wait().map(|_| id)
}

fn folding(scene: &mut Scene) {
    let (first, folded) = send(scene, 1);
    assert!(!folded && !send(scene, 2).1, "another key is another window");
    let mut others = Vec::new();
    for _ in 0..4 {
        scene.now += 1_000;
        let (id, folded) = send(scene, 1);
        assert!(folded);
        others.push(id);
    }
    assert_eq!(scene.state(first, 0), State::Leased);
    assert_eq!(scene.kinds(others[0]), [EventKind::Accepted, EventKind::Held]);
    let held = scene.store.events(others[0], 9).wait().unwrap();
    assert_eq!(held[1].detail.until_ms, Some(scene.now - 4_000 + WINDOW));
    assert_eq!((scene.view(others[3], 0).state, due(scene)), (State::Held, vec![]));
    let until = scene.store.next_digest_ms().wait().unwrap().unwrap();
    assert_eq!(until, scene.now - 4_000 + WINDOW);
    // A crash changes nothing.
    scene.restart();
    scene.now = until;
    let digests = due(scene);
    assert_eq!(digests.len(), 1);
    let digest = &digests[0];
    assert_eq!((digest.folded, digest.held, digest.sent), (4, 4, None));
    let listed: Vec<MessageId> = digest.items.iter().map(|item| item.message).collect();
    assert_eq!(listed, [others[0], others[1], others[3]], "the oldest, and the latest");
    let told = tell(scene, digest.id, 4).unwrap();
    scene.restart();
    assert_eq!(due(scene)[0].sent, Some(told), "what was sent is to be finished");
    assert_eq!(scene.store.finish_digest(digest.id, 3, scene.now).wait().unwrap(), 1);
    assert_eq!(scene.store.finish_digest(digest.id, 3, scene.now).wait().unwrap(), 0);
    assert_eq!(scene.store.finish_digest(digest.id, 3, scene.now).wait().unwrap(), 0);
    assert_eq!((due(scene), scene.store.next_digest_ms().wait().unwrap()), (vec![], None));
    for id in &others {
        let view = scene.view(*id, 0);
        assert_eq!((view.state, view.why.unwrap().contains(&told.to_string())), (State::Suppressed, true));
        assert_eq!(scene.kinds(*id), [EventKind::Accepted, EventKind::Held, EventKind::Suppressed]);
    }
    assert!(!send(scene, 1).1, "the next one opens a new window");
    scene.sound();
}

fn windows(scene: &mut Scene) {
    assert!(!send(scene, 1).1);
    scene.now += WINDOW;
    assert!(!send(scene, 1).1, "the window was over");
    scene.now += 1;
    assert!(send(scene, 1).1);
    assert!(!send(scene, 2).1);
    scene.now += WINDOW;
    let keep = Retention { content_ms: 0, events_ms: HOUR, captured_ms: HOUR, streams: Arc::default() };
    scene.store.retain(keep, scene.now).wait().unwrap();
    assert_eq!(due(scene).len(), 1, "a window with mail stays");
    assert!(send(scene, 1).1, "it has not been told of: this one still belongs to it");
    assert!(!send(scene, 2).1);
    scene.sound();
}

fn ended_once(scene: &mut Scene) {
    send(scene, 1);
    send(scene, 1);
    scene.now += WINDOW;
    let id = due(scene)[0].id;
    send(scene, 1);
    assert!(matches!(tell(scene, id, 1), Err(StoreError::Invalid(_))), "it has two by now");
    tell(scene, id, 2).unwrap();
    assert!(matches!(tell(scene, id, 2), Err(StoreError::Invalid(_))), "it was sent");
    assert!(!send(scene, 1).1, "a window that was told of takes nothing more");
    assert!(send(scene, 1).1);
    assert_eq!(scene.store.finish_digest(id, 100, scene.now).wait().unwrap(), 0);
    scene.now += WINDOW;
    assert_eq!(due(scene).len(), 1);
}

fn taken_out(scene: &mut Scene) {
    send(scene, 1);
    let (out, _) = send(scene, 1);
    let (inside, _) = send(scene, 1);
    scene.operate(Selector { message: Some(out), ..Selector::default() }, Operation::Release);
    scene.now += WINDOW;
    let digest = &due(scene)[0];
    assert_eq!((digest.folded, digest.held, digest.items.len()), (2, 1, 1));
    tell(scene, digest.id, 2).unwrap();
    assert_eq!(scene.store.finish_digest(digest.id, 100, scene.now).wait().unwrap(), 0);
    assert_eq!((scene.state(out, 0), scene.state(inside, 0)), (State::Waiting, State::Suppressed));
    send(scene, 2);
    let (alone, _) = send(scene, 2);
    scene.operate(Selector { message: Some(alone), ..Selector::default() }, Operation::Cancel);
    scene.now += WINDOW;
    let digest = due(scene)[0].clone();
    assert_eq!((digest.folded, digest.held), (1, 0));
    assert_eq!(scene.store.finish_digest(digest.id, 100, scene.now).wait().unwrap(), 0);
    assert_eq!(due(scene), vec![]);
    scene.sound();
}

fn no_time_to_fold(scene: &mut Scene) {
    send(scene, 1);
    let mut hasty = equal(scene, 1);
    hasty.message = Arc::new(Message { expires_ms: scene.now + WINDOW / 2, ..(*hasty.message).clone() });
    let id = scene.accept_this(hasty);
    assert_eq!(scene.state(id, 0), State::Leased);
}

fn late(id: MessageId, n: u32) -> Late {
    Late { recipient: RecipientId { message: id, n }, until_ms: Some(7), why: "the route is full".into() }
}

fn lateness(scene: &mut Scene) {
    let id = scene.accept(&["a@example.net", "b@example.net", "c@example.net"], Start::Leased);
    let warn = |scene: &Scene, ns: &[u32]| {
        let late = ns.iter().map(|n| late(id, *n)).collect();
        scene.store.warn_late(late, scene.now).wait().unwrap()
    };
    assert_eq!(warn(scene, &[0, 1]), 2);
    assert_eq!(warn(scene, &[0, 1, 2]), 1);
    scene.settle(id, 2, Outcome::Delivered);
    scene.defer(id, 0);
    assert_eq!(warn(scene, &[0, 1, 2]), 0);
    let other = scene.accept(&["a@example.net"], Start::Leased);
    scene.settle(other, 0, Outcome::Delivered);
    assert_eq!(scene.store.warn_late(vec![late(other, 0)], scene.now).wait().unwrap(), 0, "it is over");
    let told: Vec<Event> = scene.store.events(id, 100).wait().unwrap();
    let told: Vec<_> = told.iter().filter(|event| event.kind == EventKind::WillBeLate).collect();
    assert_eq!(told.iter().map(|event| event.n).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    assert_eq!(told[0].detail.why.as_deref(), Some("the route is full"));
    assert_eq!(told[0].detail.until_ms, Some(7));
    scene.restart();
    assert_eq!(warn(scene, &[0, 1, 2]), 0);
    scene.sound();
}

fn with_end(scene: &Scene, start: Start, deadline: bool) -> NewMessage {
    let mut new = scene.message(&["a@example.net"], start);
    let details = MessageDetails { deadline, ..MessageDetails::default() };
    let expires_ms = scene.now + 60_000;
    new.message = Arc::new(Message { expires_ms, details: Arc::new(details), ..(*new.message).clone() });
    new
}

fn deadlines(scene: &mut Scene) {
    let never_tried = scene.accept_this(with_end(scene, Start::Waiting(scene.now), true));
    let held = scene.accept_this(with_end(scene, Start::Held("paused".into()), true));
    let patient = scene.accept_this(with_end(scene, Start::Waiting(scene.now), false));
    let kept = scene.accept_this(with_end(scene, Start::Held("looked at".into()), false));
    let later = scene.accept_this(with_end(scene, Start::Waiting(scene.now), true));
    scene.operate(Selector { message: Some(later), ..Selector::default() }, Operation::Hold("paused".into()));
    let at = scene.store.next_expiry_ms().wait().unwrap().unwrap();
    assert_eq!(at, scene.now + 60_000);
    scene.now = at - 1;
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 0);
    scene.now = at;
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 3);
    for (id, state) in [
        (never_tried, State::Expired),
        (held, State::Expired),
        (later, State::Expired),
        (patient, State::Waiting),
        (kept, State::Held),
    ] {
        assert_eq!(scene.state(id, 0), state);
    }
    let next = scene.store.next_expiry_ms().wait().unwrap();
    assert!(next.is_some_and(|next| next > scene.now), "{next:?}");
    scene.sound();
}

fn by_reason(scene: &mut Scene) {
    let paused: Vec<_> =
        (0..3).map(|_| scene.accept(&["a@example.net"], Start::Held("stream paused: x".into()))).collect();
    let other = scene.accept(&["a@example.net"], Start::Held("an operator".into()));
    let mut elsewhere = scene.message(&["a@example.net"], Start::Held("stream paused: x".into()));
    let key = LaneKey { stream: "other".into(), ..lane("mx", "a@example.net", 2).key.clone() };
    elsewhere.recipients[0].lane = Arc::new(Lane::new(key));
    let elsewhere = scene.accept_this(elsewhere);
    let selector = Selector {
        stream: Some("news".into()),
        state: Some(State::Held),
        why: Some("stream paused".into()),
        ..Selector::default()
    };
    assert_eq!(scene.store.recipients(selector.clone(), None, 10).wait().unwrap().len(), 3);
    assert_eq!(scene.operate(selector, Operation::Release), 3);
    assert_eq!(scene.state(paused[2], 0), State::Waiting);
    assert_eq!((scene.state(other, 0), scene.state(elsewhere, 0)), (State::Held, State::Held));
    assert_eq!(scene.view(other, 0).address, address("a@example.net"));
}

fn own_retention(scene: &mut Scene) {
    let stream = |name: &str, content_ms, events_ms| StreamRetention {
        stream: name.into(),
        content_ms: Some(content_ms),
        events_ms: Some(events_ms),
    };
    let streams = Arc::new([stream("short", 0, HOUR), stream("long", 5 * HOUR, 50 * HOUR)]);
    let keep = Retention { content_ms: 2 * HOUR, events_ms: 10 * HOUR, captured_ms: HOUR, streams };
    scene.store.retain(keep.clone(), scene.now).wait().unwrap();
    let accept = |stream: &str, by: Outcome| {
        let mut new = scene.message(&["a@example.net"], Start::Leased);
        new.message = Arc::new(Message { stream: stream.into(), ..(*new.message).clone() });
        let id = scene.accept_this(new);
        scene.settle(id, 0, by);
        id
    };
    let ids = ["short", "other", "long"].map(|stream| accept(stream, Outcome::Delivered));
    let failed = accept("short", Outcome::Failed { cause: refused() });
    let at = |scene: &mut Scene, after: i64| {
        scene.now += after;
        scene.store.retain(keep.clone(), scene.now).wait().unwrap();
        ids.map(|id| scene.store.message(id, 1).wait().map_or('-', |view| if view.has_content { 'c' } else { 'e' }))
    };
    assert_eq!(at(scene, 0), ['e', 'c', 'c'], "dropped at once, or kept");
    assert!(scene.store.content(failed).wait().is_ok());
    assert_eq!(at(scene, RETURN_MS), ['e', 'c', 'c']);
    assert!(scene.store.content(failed).wait().is_err());
    assert_eq!(at(scene, HOUR), ['-', 'c', 'c']);
    assert_eq!(at(scene, HOUR), ['-', 'e', 'c']);
    assert_eq!(at(scene, 3 * HOUR), ['-', 'e', 'e']);
    assert_eq!(at(scene, 5 * HOUR), ['-', '-', 'e']);
    assert_eq!(at(scene, 39 * HOUR), ['-', '-', 'e']);
    assert_eq!(at(scene, HOUR), ['-', '-', '-']);
    scene.sound();
}
