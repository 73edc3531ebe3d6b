//! Stories about limits that several nodes keep together. An engine without other nodes has nothing to share.

use super::{Scene, Story};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[
    ("shares of a limit are never more than it, together", together),
    ("what is given back, others may use; what was used counts until its window is over", given_back),
    ("a request that is made again changes nothing more", again),
    ("a run that began anew counts what the one before it held as used", reborn),
];

fn tally(messages: u64) -> Tally {
    Tally { messages, recipients: messages * 2 }
}

/// A window of a day, and what is open at once.
fn request(name: &str, limit: u64, handed: u64, ended: u64, wanted: u64) -> ShareRequest {
    let window = |unit, span_ms, limit| ShareWindow { unit, span_ms, bucket_ms: 600_000, limit };
    ShareRequest {
        name: name.into(),
        windows: vec![
            window(ShareUnit::Messages, 86_400_000, Some(limit)),
            window(ShareUnit::Recipients, 86_400_000, None),
        ],
        handed: tally(handed),
        ended: tally(ended),
        counted: tally(ended),
        known: tally(0),
        wanted: tally(wanted),
        before: Vec::new(),
    }
}

fn share(scene: &Scene, by: Incarnation, list: Vec<ShareRequest>) -> Vec<Share> {
    scene.store.share(by, list).unwrap().wait().unwrap()
}

fn one(scene: &Scene, by: Incarnation, asked: ShareRequest) -> Share {
    share(scene, by, vec![asked]).remove(0)
}

fn is_alone(scene: &Scene) -> bool {
    scene.store.share(scene.run, Vec::new()).is_none()
}

fn other(scene: &Scene, name: &str) -> Incarnation {
    scene.store.start_run(name, scene.now).wait().unwrap().0
}

fn together(scene: &mut Scene) {
    if is_alone(scene) {
        return;
    }
    let (a, b) = (scene.run, other(scene, "other"));
    let first = one(scene, a, request("provider", 10, 0, 0, 7));
    assert_eq!((first.granted, first.others), (tally(7), Tally::default()));
    assert!(first.valid_ms > 0 && first.now_ms > 1_700_000_000_000, "{first:?}");
    let second = one(scene, b, request("provider", 10, 0, 0, 7));
    assert_eq!((second.granted.messages, second.others), (3, tally(7)));
    let list = vec![request("quiet\0one", 5, 0, 0, 2), request("provider", 10, 3, 3, 9)];
    let both = share(scene, b, list);
    assert_eq!((both[0].granted.messages, both[1].granted.messages), (2, 3), "what is used is no room for more");
    assert_eq!(both[1].used[0].iter().map(|(_, count)| count).sum::<u32>(), 3);
    let too_many = (0..=MOST_SHARES).map(|n| request(&n.to_string(), 1, 0, 0, 0)).collect();
    assert!(scene.store.share(a, too_many).unwrap().wait().is_err());
}

fn given_back(scene: &mut Scene) {
    if is_alone(scene) {
        return;
    }
    let (a, b) = (scene.run, other(scene, "other"));
    assert_eq!(one(scene, a, request("provider", 10, 0, 0, 10)).granted.messages, 10);
    assert_eq!(one(scene, b, request("provider", 10, 0, 0, 4)).granted.messages, 0);
    assert_eq!(
        one(scene, a, request("provider", 10, 4, 2, 0)).granted.messages,
        4,
        "what is under way is not given back"
    );
    assert_eq!(one(scene, b, request("provider", 10, 0, 0, 9)).granted.messages, 6);
    assert_eq!(one(scene, a, request("provider", 10, 4, 4, 5)).granted.messages, 4);
    // A limit that is raised has room at once; one that is lowered has none.
    assert_eq!(one(scene, a, request("provider", 12, 4, 4, 9)).granted.messages, 6);
    assert_eq!(one(scene, b, request("provider", 5, 0, 0, 9)).granted.messages, 6, "what was granted stays");
}

fn again(scene: &mut Scene) {
    if is_alone(scene) {
        return;
    }
    let asked = request("provider", 10, 3, 2, 6);
    let first = one(scene, scene.run, asked.clone());
    let second = one(scene, scene.run, asked);
    assert_eq!((first.granted, first.used), (second.granted, second.used));
}

fn reborn(scene: &mut Scene) {
    if is_alone(scene) {
        return;
    }
    let name = "provider";
    assert_eq!(one(scene, scene.run, request(name, 10, 4, 3, 6)).granted.messages, 6);
    scene.restart();
    let share = one(scene, scene.run, request(name, 10, 0, 0, 10));
    assert_eq!((share.granted.messages, share.others), (4, Tally::default()), "three used, three that nobody knows of");
}
