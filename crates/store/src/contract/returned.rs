//! Stories about mail that came back: it waits until it is read, and what is kept is bounded.

use bytes::Bytes;
use serde_json::json;

use super::{Scene, Story};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[
    ("a returned mail waits over a restart until it is settled", waits),
    ("a mailbox is read once, whatever happens between", mailbox),
    ("what is kept of returned mail is bounded, the oldest give way", bounded),
    ("too much returned mail is refused before it is taken", too_many),
    ("a message is found by its header and by the name the next hop gave it", traced),
];

fn mail(scene: &Scene, text: &str) -> NewReturned {
    NewReturned {
        source: "listener".into(),
        recipient: Some("b-1@bounces.example".into()),
        at_ms: scene.now,
        content: Bytes::from(text.to_owned()),
        place: None,
    }
}

fn keep(scene: &Scene, mail: NewReturned) -> Kept {
    scene.store.keep_returned(mail).wait().unwrap()
}

fn due(scene: &Scene, now_ms: i64) -> Vec<Returned> {
    scene.store.returned_due(now_ms, 100).wait().unwrap()
}

fn listed(scene: &Scene, list: ReturnedList) -> Vec<ReturnedView> {
    scene.store.returned_list(list, None, 1_000).wait().unwrap()
}

fn waits(scene: &mut Scene) {
    for text in ["one", "two", "three"] {
        assert_eq!(keep(scene, mail(scene, text)), Kept::Durable);
    }
    scene.restart();
    let found = due(scene, scene.now);
    assert_eq!(found.iter().map(|one| &one.content[..]).collect::<Vec<_>>(), [&b"one"[..], b"two", b"three"]);
    assert_eq!(found[0].recipient.as_deref(), Some("b-1@bounces.example"));
    let [one, two, three] = [found[0].id, found[1].id, found[2].id];
    let settle = |id, fate| scene.store.settle_returned(id, fate).wait().unwrap();
    assert_eq!(settle(one, ReturnedFate::Done), 1);
    assert_eq!(settle(one, ReturnedFate::Done), 0);
    assert_eq!(settle(two, ReturnedFate::Later(scene.now + 5_000)), 1);
    assert_eq!(settle(three, ReturnedFate::Unmatched(json!({"why": "x"}))), 1);
    assert!(due(scene, scene.now).is_empty());
    assert_eq!(due(scene, scene.now + 5_000)[0].id, two);
    let [kept] = &listed(scene, ReturnedList::Unmatched)[..] else { panic!("one is kept") };
    assert_eq!((kept.id, kept.size, &kept.note), (three, 5, &json!({"why": "x"})));
    assert_eq!(&scene.store.returned_content(three).wait().unwrap()[..], b"three");
    assert!(listed(scene, ReturnedList::Reports).is_empty());
    assert_eq!(scene.store.forget_returned(ReturnedList::Reports, Some(three)).wait().unwrap(), 0);
    assert_eq!(scene.store.forget_returned(ReturnedList::Unmatched, Some(three)).wait().unwrap(), 1);
    assert!(scene.store.returned_content(three).wait().is_err());
}

fn mailbox(scene: &mut Scene) {
    let at = |validity, uid| MailboxPlace { validity, uid };
    let from = |scene: &Scene, place| NewReturned {
        source: "imap:inbox".into(),
        place: Some(("inbox".into(), place)),
        ..mail(scene, "m")
    };
    let place = |scene: &Scene| scene.store.mailbox_place("inbox".into()).wait().unwrap();
    assert_eq!(place(scene), None);
    assert_eq!(keep(scene, from(scene, at(7, 3))), Kept::Durable);
    assert_eq!(keep(scene, from(scene, at(7, 3))), Kept::Repeated);
    assert_eq!(keep(scene, from(scene, at(7, 2))), Kept::Repeated);
    scene.restart();
    assert_eq!(place(scene), Some(at(7, 3)));
    assert_eq!(keep(scene, from(scene, at(7, 9))), Kept::Durable);
    // The numbers began anew.
    assert_eq!(keep(scene, from(scene, at(8, 1))), Kept::Durable);
    assert_eq!(place(scene), Some(at(8, 1)));
    assert_eq!(scene.store.move_mailbox("inbox".into(), at(8, 5)).wait().unwrap(), 1);
    assert_eq!(scene.store.move_mailbox("inbox".into(), at(8, 4)).wait().unwrap(), 0);
    assert_eq!((place(scene), due(scene, scene.now).len()), (Some(at(8, 5)), 3));
}

fn bounded(scene: &mut Scene) {
    let extra = 5;
    for n in 0..MOST_UNMATCHED + extra {
        let _ = keep(scene, mail(scene, &n.to_string()));
        let found = due(scene, scene.now);
        let fate = ReturnedFate::Unmatched(json!({"n": n}));
        let _ = scene.store.settle_returned(found[0].id, fate).wait().unwrap();
    }
    let kept = scene.store.returned_list(ReturnedList::Unmatched, None, 1_000).wait().unwrap();
    assert_eq!(kept.len(), MOST_UNMATCHED as usize);
    assert_eq!(kept[0].note, json!({"n": MOST_UNMATCHED + extra - 1}));
    assert_eq!(kept.last().unwrap().note, json!({"n": extra}));
    let page = scene.store.returned_list(ReturnedList::Unmatched, Some(kept[9].id), 10).wait().unwrap();
    assert_eq!(page.len(), 10);
    assert_eq!(page[0].id, kept[10].id);
    assert_eq!(scene.store.forget_returned(ReturnedList::Unmatched, None).wait().unwrap(), u64::from(MOST_UNMATCHED));
}

fn too_many(scene: &mut Scene) {
    let large = Bytes::from(vec![b'x'; (MOST_RETURNED_OCTETS / 8) as usize + 1]);
    for n in 0..8 {
        let kept = keep(scene, NewReturned { content: large.clone(), ..mail(scene, "") });
        assert_eq!(kept, if n < 7 { Kept::Durable } else { Kept::TooMany });
    }
    assert_eq!(keep(scene, mail(scene, "small")), Kept::Durable);
}

fn traced(scene: &mut Scene) {
    let mut first = scene.message(&["a@example.net"], Start::Leased);
    let mut message = (*first.message).clone();
    let header = "<\"odd\"-17@app.example>";
    message.details =
        std::sync::Arc::new(MessageDetails { message_id: Some(header.into()), ..(*message.details).clone() });
    first.message = std::sync::Arc::new(message);
    let first = scene.accept_this(first);
    let second = scene.accept(&["b@example.net"], Start::Leased);
    scene.settle_all(second, vec![(0, Outcome::Delivered)]);
    let find = |trace| scene.store.traced(trace).wait().unwrap();
    assert_eq!(find(Trace::HeaderId(header.into())), [first]);
    assert!(find(Trace::HeaderId("17@app.example".into())).is_empty());
    // The reply of the scene's attempts: `2.0.0 queued as 1234`.
    assert_eq!(find(Trace::Queued("queued as 1234".into())), [second]);
    assert!(find(Trace::Queued("queued as 123".into())).is_empty());
    assert!(find(Trace::Queued("1234".into())).is_empty());
}
