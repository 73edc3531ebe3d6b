//! Stories about records: one open one of a name, changes that do not overwrite each other, and what is forgotten.

use serde_json::{Value, json};

use super::{Scene, Story};
use crate::model::*;

pub(super) const STORIES: &[Story] = &[
    ("a record stands as it was written, over a restart", stands),
    ("of a kind and name one record is open", one_open),
    ("two who change a record do not overwrite each other", compare_and_set),
    ("all writes of a call are done, or none", whole),
    ("records are found by name, time and cursor", found),
    ("old closed records are forgotten, the newest of each name are not", pruned),
];

const KIND: RecordKind = RecordKind::Incident;

fn add(name: &str, open: bool, at_ms: i64, body: Value) -> RecordWrite {
    RecordWrite::Add { kind: KIND, name: name.into(), open, at_ms, body }
}

fn change(id: i64, version: Option<i64>, open: bool, body: Value) -> RecordWrite {
    RecordWrite::Change { kind: KIND, id, version, open, body }
}

fn write(scene: &Scene, list: Vec<RecordWrite>) -> Vec<RecordWritten> {
    scene.store.write_records(list).wait().unwrap()
}

fn added(scene: &Scene, write_: RecordWrite) -> i64 {
    match write(scene, vec![write_])[..] {
        [RecordWritten::Added(id)] => id,
        ref other => panic!("not added: {other:?}"),
    }
}

fn ask(scene: &Scene, query: RecordQuery) -> Vec<Record> {
    scene.store.records(query).wait().unwrap()
}

fn ids(scene: &Scene, query: RecordQuery) -> Vec<i64> {
    ask(scene, query).iter().map(|record| record.id).collect()
}

fn stands(scene: &mut Scene) {
    let body = json!({"counts": {"recipients": 7}, "text": "ümlaut \u{0} \"quoted\"", "list": [1, null, true]});
    let id = added(scene, add("route:o365|credential_rejected", true, scene.now, body.clone()));
    scene.restart();
    let record = Record {
        id,
        kind: KIND,
        name: "route:o365|credential_rejected".into(),
        open: true,
        at_ms: scene.now,
        version: 1,
        body,
    };
    assert_eq!(ask(scene, RecordQuery::one(KIND, id)), [record]);
    assert!(ask(scene, RecordQuery::one(RecordKind::Alert, id)).is_empty(), "another kind's record was shown");
    assert_eq!(write(scene, vec![RecordWrite::Remove { kind: RecordKind::Alert, id }]), [RecordWritten::Missing]);
    assert_eq!(write(scene, vec![RecordWrite::Remove { kind: KIND, id }]), [RecordWritten::Removed]);
    assert_eq!(write(scene, vec![RecordWrite::Remove { kind: KIND, id }]), [RecordWritten::Missing]);
    scene.restart();
    let next = added(scene, add("x", true, scene.now, json!({})));
    assert!(next > id, "an id was used again");
}

fn one_open(scene: &mut Scene) {
    let first = added(scene, add("a", true, scene.now, json!(1)));
    assert_eq!(write(scene, vec![add("a", true, scene.now, json!(2))]), [RecordWritten::There(first)]);
    assert_eq!(ask(scene, RecordQuery::one(KIND, first))[0].body, json!(1));
    // Closed ones do not count, neither another kind nor another name.
    let closed = added(scene, add("a", false, scene.now, json!(3)));
    added(scene, add("b", true, scene.now, json!(4)));
    let other = RecordWrite::Add { kind: RecordKind::Alert, name: "a".into(), open: true, at_ms: 1, body: json!(5) };
    added(scene, other);
    // One that was over does not open again beside it.
    assert_eq!(write(scene, vec![change(closed, None, true, json!(6))]), [RecordWritten::There(first)]);
    assert_eq!(write(scene, vec![change(first, None, false, json!(7))]), [RecordWritten::Changed(2)]);
    let second = added(scene, add("a", true, scene.now, json!(8)));
    assert_eq!(ids(scene, RecordQuery { name: Some("a".into()), ..RecordQuery::open(KIND) }), [second]);
    // In one call the second finds the first.
    let written = write(scene, vec![add("c", true, 1, json!(1)), add("c", true, 1, json!(2))]);
    let [RecordWritten::Added(one), RecordWritten::There(there)] = written[..] else { panic!("{written:?}") };
    assert_eq!(one, there);
}

fn compare_and_set(scene: &mut Scene) {
    let id = added(scene, add("a", true, scene.now, json!("at first")));
    assert_eq!(write(scene, vec![change(id, Some(1), true, json!("mine"))]), [RecordWritten::Changed(2)]);
    assert_eq!(write(scene, vec![change(id, Some(1), true, json!("yours"))]), [RecordWritten::Stale]);
    assert_eq!(ask(scene, RecordQuery::one(KIND, id))[0].body, json!("mine"));
    assert_eq!(write(scene, vec![change(id, None, false, json!("anyhow"))]), [RecordWritten::Changed(3)]);
    let record = &ask(scene, RecordQuery::one(KIND, id))[0];
    assert_eq!((record.version, record.open, &record.body), (3, false, &json!("anyhow")));
    assert_eq!(write(scene, vec![change(id + 100, None, true, json!(1))]), [RecordWritten::Missing]);
}

fn whole(scene: &mut Scene) {
    let long = "x".repeat(MOST_RECORD_BODY);
    for bad in [
        add("a", true, 1, json!(long)),
        add(&"n".repeat(MOST_RECORD_NAME + 1), true, 1, json!(1)),
        add("", true, 1, json!(1)),
    ] {
        assert!(scene.store.write_records(vec![add("good", true, 1, json!(1)), bad]).wait().is_err());
    }
    let many = vec![add("good", false, 1, json!(1)); MOST_RECORDS + 1];
    assert!(scene.store.write_records(many).wait().is_err());
    assert!(ask(scene, RecordQuery::of(KIND)).is_empty(), "half of a refused call was written");
    assert_eq!(write(scene, vec![add("good", false, 1, json!(1)); MOST_RECORDS]).len(), MOST_RECORDS);
    assert!(write(scene, vec![]).is_empty());
}

fn found(scene: &mut Scene) {
    let all: Vec<i64> = (0..10)
        .map(|n| added(scene, add(if n % 2 == 0 { "even" } else { "odd" }, false, scene.now + n, json!(n))))
        .collect();
    let newest: Vec<i64> = all.iter().rev().copied().collect();
    assert_eq!(ids(scene, RecordQuery::of(KIND)), newest);
    assert_eq!(ids(scene, RecordQuery { limit: 3, ..RecordQuery::of(KIND) }), newest[..3]);
    assert_eq!(ids(scene, RecordQuery { before: Some(newest[2]), limit: 3, ..RecordQuery::of(KIND) }), newest[3..6]);
    assert_eq!(ids(scene, RecordQuery { after: Some(all[3]), limit: 2, ..RecordQuery::of(KIND) }), all[4..6]);
    assert_eq!(ids(scene, RecordQuery::named(KIND, "odd")), [all[9], all[7], all[5], all[3], all[1]]);
    let time = RecordQuery {
        since_ms: Some(scene.now + 2),
        until_ms: Some(scene.now + 5),
        after: Some(0),
        ..RecordQuery::of(KIND)
    };
    assert_eq!(ids(scene, time), all[2..5]);
    assert!(ids(scene, RecordQuery::open(KIND)).is_empty());
    assert_eq!(ids(scene, RecordQuery { open: Some(false), ..RecordQuery::named(KIND, "even") }).len(), 5);
    assert_eq!(ids(scene, RecordQuery { limit: 0, ..RecordQuery::of(KIND) }).len(), 1, "a limit of 0 counts as 1");
}

fn pruned(scene: &mut Scene) {
    let prune = |scene: &Scene, keep| scene.store.prune_records(KIND, scene.now, keep).wait().unwrap();
    let old: Vec<i64> = (0..5).map(|n| added(scene, add("a", false, scene.now - 10 + n, json!(n)))).collect();
    let open = added(scene, add("open", true, scene.now - 10, json!(1)));
    let lonely = added(scene, add("lonely", false, scene.now - 10, json!(1)));
    let recent = added(scene, add("b", false, scene.now, json!(1)));
    assert_eq!(prune(scene, 2), 3);
    assert_eq!(ids(scene, RecordQuery::named(KIND, "a")), [old[4], old[3]]);
    assert_eq!(prune(scene, 2), 0);
    assert_eq!(prune(scene, 0), 3);
    assert_eq!(ids(scene, RecordQuery::of(KIND)), [recent, open]);
    assert!(ask(scene, RecordQuery::one(KIND, lonely)).is_empty());
}
