//! Stories about mail that is held by a brake and let go again, beside what operators hold.

use super::scene::HOUR;
use super::{Scene, Story};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[
    ("what is let go is what was held for that reason, oldest first and no more than asked", let_go),
    ("mail that was held does not expire when it is let go, unless its end was asked for", prolonged),
    ("mail that is not to be sent yet waits for its time when it is let go", not_yet),
    ("mail with a time of its own keeps it over a pause, whoever ends that", paused_before_its_time),
    ("a hold by nobody leaves alone what an operator holds", operators_hold),
    ("mail is selected by the domain of its sender", by_sender_domain),
];

const WHY: &str = "incident i-7: no";

fn held(scene: &Scene, why: &str) -> MessageId {
    scene.accept(&["a@one.test"], Start::Held(why.into()))
}

fn go(scene: &Scene, most: u32) -> u64 {
    let selector = Selector { why: Some("incident i-7:".into()), ..Selector::default() };
    scene.store.let_go(selector, most, "incident i-7".into(), scene.now).wait().unwrap()
}

fn let_go(scene: &mut Scene) {
    let ids: Vec<MessageId> = (0..5).map(|_| held(scene, WHY)).collect();
    let others = [held(scene, "incident i-71: no"), held(scene, "maintenance")];
    let count = |why: &str| scene.store.count(Selector::held_for(why), u32::MAX).wait().unwrap();
    assert_eq!([count("incident i-7:"), count("incident i-"), count("")], [5, 6, 7]);
    assert_eq!(go(scene, 3), 3);
    let states: Vec<State> = ids.iter().map(|id| scene.state(*id, 0)).collect();
    assert_eq!(states, [State::Waiting, State::Waiting, State::Waiting, State::Held, State::Held]);
    assert_eq!(count("incident i-7:"), 2);
    assert_eq!([go(scene, 10_000), go(scene, 10_000)], [2, 0]);
    assert!(others.iter().all(|id| scene.state(*id, 0) == State::Held));
    assert_eq!(scene.claim().len(), 5);
    let events = scene.store.events(ids[0], 10).wait().unwrap();
    assert_eq!(events.last().and_then(|event| event.detail.why.as_deref()), Some("incident i-7"));
    scene.sound();
}

fn prolonged(scene: &mut Scene) {
    let plain = held(scene, WHY);
    let mut asked = scene.message(&["b@one.test"], Start::Held(WHY.into()));
    let message = std::sync::Arc::make_mut(&mut asked.message);
    message.details = std::sync::Arc::new(MessageDetails { deadline: true, ..MessageDetails::default() });
    let asked = scene.accept_this(asked);
    scene.now += 1_000 * HOUR;
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 1);
    assert_eq!([scene.state(plain, 0), scene.state(asked, 0)], [State::Held, State::Expired]);
    assert_eq!(go(scene, 100), 1);
    assert_eq!(scene.store.expire(scene.now, 100).wait().unwrap(), 0);
    let claims = scene.claim();
    assert_eq!((claims.len(), claims[0].message.expires_ms), (1, scene.now + 24 * HOUR));
    scene.sound();
}

fn not_yet(scene: &mut Scene) {
    let mut later = scene.message(&["b@one.test"], Start::Held(WHY.into()));
    std::sync::Arc::make_mut(&mut later.message).not_before_ms = Some(scene.now + HOUR);
    let later = scene.accept_this(later);
    assert_eq!(go(scene, 1), 1);
    assert_eq!(scene.view(later, 0).due_ms, Some(scene.now + HOUR));
    let of = Selector { message: Some(later), ..Selector::default() };
    let retry = |who: &str| scene.store.operate(of.clone(), Operation::Retry, who.into(), scene.now).wait().unwrap();
    assert_eq!((retry(""), scene.claim().len()), (0, 0));
    assert_eq!((retry("op"), scene.claim().len()), (1, 1));
    scene.sound();
}

fn paused_before_its_time(scene: &mut Scene) {
    let at_ms = scene.now + 2 * HOUR;
    let mut later = scene.message(&["b@one.test"], Start::Waiting(at_ms));
    std::sync::Arc::make_mut(&mut later.message).not_before_ms = Some(at_ms);
    let later = scene.accept_this(later);
    let of = Selector { message: Some(later), ..Selector::default() };
    for who in ["op", ""] {
        let wish = |operation| scene.store.operate(of.clone(), operation, who.into(), scene.now).wait().unwrap();
        assert_eq!(wish(Operation::Hold("stream paused".into())), 1);
        assert_eq!((scene.state(later, 0), wish(Operation::Release)), (State::Held, 1));
        assert_eq!(scene.view(later, 0).due_ms, Some(at_ms), "released by {who:?}");
        assert_eq!(scene.claim().len(), 0);
    }
    // A pause that lasted longer than that: it goes at once.
    assert_eq!(scene.operate(of.clone(), Operation::Hold("stream paused".into())), 1);
    scene.now = at_ms + HOUR;
    assert_eq!(scene.operate(of, Operation::Release), 1);
    assert_eq!(scene.view(later, 0).due_ms, Some(scene.now));
    assert_eq!(scene.claim().len(), 1);
    scene.sound();
}

fn operators_hold(scene: &mut Scene) {
    let ids = [scene.waiting(&["a@one.test"]), scene.waiting(&["b@one.test"])];
    scene.claim();
    let all = Selector { all: true, ..Selector::default() };
    let first = Selector { message: Some(ids[0]), ..Selector::default() };
    assert_eq!(scene.operate(first, Operation::Hold("mine".into())), 1);
    let hold = Operation::Hold(WHY.into());
    assert_eq!(scene.store.operate(all, hold, String::new(), scene.now).wait().unwrap(), 1);
    ids.iter().for_each(|id| assert_eq!(scene.defer(*id, 0), 1));
    let why = |id: MessageId| scene.view(id, 0).why;
    assert_eq!((why(ids[0]).as_deref(), why(ids[1]).as_deref()), (Some("mine"), Some(WHY)));
    assert_eq!(go(scene, 100), 1);
    assert_eq!(scene.state(ids[0], 0), State::Held);
    scene.sound();
}

fn by_sender_domain(scene: &mut Scene) {
    let ours = scene.waiting(&["a@one.test"]);
    let mut other = scene.message(&["b@one.test"], Start::Waiting(scene.now));
    let path = proto::ReversePath(Some("x@sub.example.org".parse().unwrap()));
    std::sync::Arc::make_mut(&mut other.message).reverse_path = path;
    let other = scene.accept_this(other);
    let of = |domain: &str, route: Option<&str>| {
        let (sender_domain, route) = (Some(domain.to_owned()), route.map(str::to_owned));
        let selector = Selector { sender_domain, route, ..Selector::default() };
        let found = scene.store.recipients(selector, None, 10).wait().unwrap();
        found.into_iter().map(|view| view.id.message).collect::<Vec<_>>()
    };
    assert_eq!(of("example.org", None), [ours]);
    assert_eq!(of("sub.Example.org", Some("mx")), [other]);
    assert!(of("sub.example.org", Some("smart")).is_empty() && of("org", None).is_empty());
}
