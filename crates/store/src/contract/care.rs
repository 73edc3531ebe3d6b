//! Stories about keeping: restarts, retention, damage, backups, settings, closing.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::scene::{HOUR, refused};
use super::{MESSAGE_BODY, Scene, Story};
use crate::model::*;
use crate::settings::{Expected, Kind, SecretChange};
use crate::verbs::{RETURN_MS, Retention, StoreError};

pub(super) const STORIES: &[Story] = &[
    ("everything answered for survives a restart", restart),
    ("events have one order and a cursor that never goes back", cursor),
    ("what somebody has to be told of is found behind a cursor that survives", notable),
    ("what accounts have used of their limits survives a restart", usage),
    ("what was seen of domains' TLS is kept by day until it is old", tls_days),
    ("a content that a notice may return outlives its last recipient", returned),
    ("retention removes what is past its time and nothing else", retention),
    ("a damaged content is set aside, kept and reported", damage),
    ("a backup opens as a store with the same content", backup),
    ("settings keep documents, versions and secrets", settings),
    ("of those who make a document at once one does, and the others read it", at_once),
    ("a document that is not the one that was read is not written", unexpected),
    ("a closed store says so", closed),
];

fn keep() -> Retention {
    Retention { content_ms: HOUR, events_ms: 10 * HOUR, captured_ms: 20 * HOUR, streams: Arc::default() }
}

fn restart(scene: &mut Scene) {
    let ids: Vec<MessageId> = (0..20).map(|n| scene.waiting(&[&format!("r{n}@example.net")])).collect();
    scene.claim_some(10, 10, &[]);
    scene.settle(ids[0], 0, Outcome::Delivered);
    scene.operate(Selector { message: Some(ids[15]), ..Selector::default() }, Operation::Hold("x".into()));
    let before = scene.store.events_after(0, 100).wait().unwrap();
    assert_eq!(scene.restart(), 9);
    assert_eq!(scene.store.events_after(0, 100).wait().unwrap(), before);
    assert_eq!(scene.count("example.net"), (18, 1));
    for id in &ids[1..] {
        assert_eq!(&scene.store.content(*id).wait().unwrap()[..], MESSAGE_BODY);
    }
    assert_eq!(scene.claim().len(), 18);
    scene.sound();
}

fn cursor(scene: &mut Scene) {
    let ids: Vec<MessageId> = (0..10).map(|_| scene.accept(&["b@example.net"], Start::Leased)).collect();
    for id in ids.iter().rev() {
        scene.settle(*id, 0, Outcome::Delivered);
    }
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = scene.store.events_after(after, 3).wait().unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        seen.extend(page);
    }
    assert_eq!(seen.len(), 20);
    assert!(seen.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    let delivered: Vec<MessageId> = seen[10..].iter().map(|event| event.message).collect();
    assert_eq!(delivered, ids.iter().rev().copied().collect::<Vec<_>>());
    // Removing all events does not let their numbers come again, not even over a restart.
    scene.now += 11 * HOUR;
    assert_eq!(scene.store.retain(keep(), scene.now).wait().unwrap(), 10);
    assert!(scene.store.events_after(0, 10).wait().unwrap().is_empty());
    scene.restart();
    scene.waiting(&["b@example.net"]);
    assert!(scene.store.events_after(0, 10).wait().unwrap()[0].seq > after);
}

fn notable(scene: &mut Scene) {
    let until_ms = scene.now + HOUR;
    let ids: Vec<MessageId> = (0..6).map(|n| scene.waiting(&[&format!("r{n}@example.net")])).collect();
    scene.claim();
    scene.settle(ids[0], 0, Outcome::Delivered);
    scene.settle(ids[1], 0, Outcome::Deferred { until_ms, cause: refused() });
    scene.settle(ids[2], 0, Outcome::Failed { cause: refused() });
    scene.settle(ids[3], 0, Outcome::Relayed { why: "relayed".into() });
    scene.settle(ids[4], 0, Outcome::Expired { cause: None });
    scene.settle(ids[5], 0, Outcome::Delivered);
    assert_eq!(scene.state(ids[3], 0), State::Delivered);
    let told = |found: &Notable| -> Vec<MessageId> { found.events.iter().map(|event| event.message).collect() };
    let all = scene.store.notable_after(0, 100).wait().unwrap();
    assert_eq!(told(&all), ids[1..5]);
    assert_eq!(all.events[2].detail.why.as_deref(), Some("relayed"));
    let last = scene.store.events_after(0, 100).wait().unwrap().pop().unwrap().seq;
    assert_eq!(all.upto, last);
    let first = scene.store.notable_after(0, 3).wait().unwrap();
    assert_eq!((told(&first), first.upto), (ids[1..4].to_vec(), first.events[2].seq));
    assert_eq!(told(&scene.store.notable_after(first.upto, 3).wait().unwrap()), ids[4..5]);
    assert_eq!(scene.store.notable_after(last, 3).wait().unwrap(), Notable { events: vec![], upto: last });

    assert_eq!(scene.store.cursor("notices").wait().unwrap(), 0);
    scene.store.move_cursor("notices", 7).wait().unwrap();
    scene.store.move_cursor("notices", 5).wait().unwrap();
    scene.store.move_cursor("others", 3).wait().unwrap();
    scene.restart();
    assert_eq!(scene.store.cursor("notices").wait().unwrap(), 7);
}

fn usage(scene: &mut Scene) {
    let row = |name: &str, body: &str| (name.to_owned(), body.to_owned());
    let save = |scene: &Scene, rows: &[(&str, Option<&str>)]| {
        let rows = rows.iter().map(|(name, body)| ((*name).to_owned(), body.map(str::to_owned))).collect();
        scene.store.save_usage(rows).wait().unwrap()
    };
    assert_eq!(scene.store.usage().wait().unwrap(), []);
    save(scene, &[("provider", Some("1")), ("direct", Some("2"))]);
    save(scene, &[("provider", Some("3")), ("never", None)]);
    scene.restart();
    assert_eq!(scene.store.usage().wait().unwrap(), [row("direct", "2"), row("provider", "3")]);
    save(scene, &[("direct", None)]);
    assert_eq!(scene.store.usage().wait().unwrap(), [row("provider", "3")]);
}

fn tls_days(scene: &mut Scene) {
    let row = |day, domain: &str, body: &str| TlsDay {
        day,
        domain: domain.into(),
        body: Some(body.to_owned()).filter(|body| !body.is_empty()),
    };
    let list = |scene: &Scene, which| scene.store.tls_days(which).wait().unwrap();
    let all = || TlsDays { limit: 100, ..TlsDays::default() };
    let rows = vec![row(8, "old.test", "0"), row(9, "a.test", "1"), row(9, "b.test", "2"), row(10, "a.test", "3")];
    scene.store.save_tls_days(rows, 0).wait().unwrap();
    scene.store.save_tls_days(vec![row(9, "b.test", "4"), row(10, "never.test", "")], 9).wait().unwrap();
    scene.restart();
    let left = [row(10, "a.test", "3"), row(9, "a.test", "1"), row(9, "b.test", "4")];
    assert_eq!(list(scene, all()), left);
    let after = Some((left[0].day, left[0].domain.clone()));
    assert_eq!(list(scene, TlsDays { limit: 1, after, ..all() }), left[1..2]);
    assert_eq!(list(scene, TlsDays { domain: Some("a.test".into()), from_day: 10, ..all() }), left[..1]);
    scene.store.save_tls_days(vec![row(9, "a.test", "")], 0).wait().unwrap();
    assert_eq!(list(scene, all()), [left[0].clone(), left[2].clone()]);
}

fn returned(scene: &mut Scene) {
    let keep = Retention { content_ms: 0, ..keep() };
    scene.store.retain(keep.clone(), scene.now).wait().unwrap();
    let [good, noted, told, bad] = ["a", "b", "c", "d"].map(|name| scene.waiting(&[&format!("{name}@example.net")]));
    scene.claim();
    scene.settle(good, 0, Outcome::Delivered);
    scene.settle(noted, 0, Outcome::Noted { why: "by another route".into() });
    scene.settle(told, 0, Outcome::Relayed { why: "relayed".into() });
    scene.settle(bad, 0, Outcome::Failed { cause: refused() });
    assert_eq!(scene.view(noted, 0).why.as_deref(), Some("by another route"), "the word stays with the recipient");
    for gone in [good, noted] {
        assert!(matches!(scene.store.content(gone).wait(), Err(StoreError::NotFound)));
    }
    scene.now += RETURN_MS - 1;
    scene.store.retain(keep.clone(), scene.now).wait().unwrap();
    for kept in [told, bad] {
        assert_eq!(&scene.store.content(kept).wait().unwrap()[..], MESSAGE_BODY);
    }
    scene.now += 1;
    scene.store.retain(keep.clone(), scene.now).wait().unwrap();
    assert!(matches!(scene.store.content(bad).wait(), Err(StoreError::NotFound)));
    scene.sound();
}

fn retention(scene: &mut Scene) {
    assert_eq!(scene.store.retain(keep(), scene.now).wait().unwrap(), 0);
    let done = scene.accept(&["a@example.net"], Start::Leased);
    let open = scene.accept(&["b@example.net", "c@example.net"], Start::Leased);
    let kept = scene.accept(&["d@example.net"], Start::Leased);
    let deliver = |message, capture| Settlement {
        by: scene.run,
        lapses: 0,
        at_ms: scene.now,
        message,
        attempt: None,
        outcomes: vec![(0, Outcome::Delivered)],
        capture,
    };
    for (message, capture) in [(done, false), (open, false), (kept, true)] {
        scene.store.settle(deliver(message, capture)).wait().unwrap();
    }
    let has = |scene: &Scene, id| scene.store.message(id, 1).wait().map(|view| view.has_content).ok();
    assert_eq!(has(scene, done), Some(true));
    scene.now += HOUR + 1;
    assert_eq!(scene.store.retain(keep(), scene.now).wait().unwrap(), 0);
    assert_eq!([has(scene, done), has(scene, open), has(scene, kept)], [Some(false), Some(true), Some(true)]);
    assert!(matches!(scene.store.content(done).wait(), Err(StoreError::NotFound)));
    scene.now += 10 * HOUR;
    assert_eq!(scene.store.retain(keep(), scene.now).wait().unwrap(), 1);
    assert_eq!([has(scene, done), has(scene, open), has(scene, kept)], [None, Some(true), Some(true)]);
    assert!(scene.store.events(done, 10).wait().unwrap().is_empty());
    scene.now += 10 * HOUR;
    assert_eq!(scene.store.retain(keep(), scene.now).wait().unwrap(), 1);
    assert!(scene.store.captured(None, 10).wait().unwrap().is_empty());
    assert_eq!(has(scene, open), Some(true));
    let none = Retention { content_ms: 0, ..keep() };
    scene.store.retain(none, scene.now).wait().unwrap();
    scene.settle(open, 1, Outcome::Delivered);
    assert_eq!(has(scene, open), Some(false));
    scene.sound();
}

fn damage(scene: &mut Scene) {
    let id = scene.waiting(&["b@example.net", "c@example.net"]);
    let other = scene.waiting(&["d@example.net"]);
    scene.claim_some(1, 1, &[]);
    scene.engine.damage(id);
    for _ in 0..2 {
        let answer = scene.store.content(id).wait();
        assert!(matches!(answer, Err(StoreError::Damaged(_))), "{answer:?}");
    }
    for n in 0..2 {
        let view = scene.view(id, n);
        assert_eq!((view.state, view.why.as_deref()), (State::Held, Some("content does not match its hash")));
    }
    assert_eq!(scene.kinds(id), [EventKind::Accepted, EventKind::Quarantined]);
    assert_eq!(scene.settle(id, 0, Outcome::Delivered), 0);
    assert_eq!(&scene.store.content(other).wait().unwrap()[..], MESSAGE_BODY);
    assert!(scene.store.message(id, 1).wait().unwrap().has_content);
    let problems = scene.store.verify(true).wait().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(scene.store.verify(false).wait().unwrap().is_empty());
}

fn backup(scene: &mut Scene) {
    let ids: Vec<MessageId> = (0..50).map(|n| scene.waiting(&[&format!("r{n}@example.net")])).collect();
    let Some(backups) = scene.engine.backups() else {
        // Whoever asks is told what to do instead, and nothing is written.
        let nowhere = std::path::PathBuf::from("no-backup-is-made-here");
        let answer = scene.store.backup(nowhere.clone()).wait();
        assert!(matches!(&answer, Err(StoreError::Invalid(why)) if why.contains("backed up by")), "{answer:?}");
        assert!(!nowhere.exists());
        return;
    };
    let path = backups.spare_path();
    assert!(scene.store.backup(path.clone()).wait().unwrap() > 0);
    assert!(matches!(scene.store.backup(path.clone()).wait(), Err(StoreError::Invalid(_))));
    let later = scene.waiting(&["later@example.net"]);
    scene
        .store
        .operate(Selector { all: true, ..Selector::default() }, Operation::Cancel, "op".into(), scene.now)
        .wait()
        .unwrap();
    let copy = backups.open_backup(&path);
    assert!(copy.verify(true).wait().unwrap().is_empty());
    for id in &ids {
        assert_eq!(&copy.content(*id).wait().unwrap()[..], MESSAGE_BODY);
    }
    assert!(matches!(copy.message(later, 1).wait(), Err(StoreError::NotFound)));
    let (run, _) = copy.start_run("node", scene.now).wait().unwrap();
    let request = ClaimRequest { by: run, now_ms: scene.now, max: 100, max_per_lane: 100, skip: Vec::new() };
    assert_eq!(copy.claim(request).wait().unwrap().claims.len(), 50);
    copy.close().wait().unwrap();
}

fn settings(scene: &mut Scene) {
    let store = scene.store.clone();
    let put = |name: &str, body, secret| store.put_document(Kind::Route, name.into(), body, secret, 5).wait();
    let start = store.settings_version().wait().unwrap();
    let first = put("smart", json!({"host": "a"}), SecretChange::Set(SecretString::from("s3cret"))).unwrap();
    let second = put("smart", json!({"host": "b"}), SecretChange::Keep).unwrap();
    assert!(second > first && store.settings_version().wait().unwrap() > start);
    put("plain", json!({}), SecretChange::Keep).unwrap();
    assert!(matches!(put("No Name", json!({}), SecretChange::Keep), Err(StoreError::Invalid(_))));
    let documents = store.documents(Kind::Route).wait().unwrap();
    let names: Vec<&str> = documents.iter().map(|document| document.name.as_str()).collect();
    assert_eq!(names, ["plain", "smart"]);
    assert_eq!(documents[1].body, json!({"host": "b"}));
    assert_eq!(documents[1].secret.as_ref().map(|secret| secret.expose_secret()), Some("s3cret"));
    assert!(documents[0].secret.is_none() && documents[1].version == second);
    let long = format!("{}.example", ["label"; 20].join("."));
    let put_domain = |name: &str| {
        let secret = SecretChange::Set(SecretString::from("keys"));
        store.put_document(Kind::Domain, name.into(), json!({"keys": []}), secret, 5).wait()
    };
    put_domain(&long).unwrap();
    assert!(matches!(put_domain(&"a".repeat(254)), Err(StoreError::Invalid(_))));
    assert!(matches!(put(&long, json!({}), SecretChange::Keep), Err(StoreError::Invalid(_))));
    let domains = store.documents(Kind::Domain).wait().unwrap();
    assert_eq!((domains.len(), domains[0].name.as_str()), (1, long.as_str()));
    assert_eq!(domains[0].secret.as_ref().map(|secret| secret.expose_secret()), Some("keys"));
    assert_eq!(store.documents(Kind::Route).wait().unwrap().len(), 2);
    put("smart", json!({"host": "b"}), SecretChange::Clear).unwrap();
    assert!(store.documents(Kind::Sender).wait().unwrap().is_empty());
    let version = store.settings_version().wait().unwrap();
    drop(store);
    scene.restart();
    assert_eq!(scene.store.settings_version().wait().unwrap(), version);
    assert!(scene.store.documents(Kind::Route).wait().unwrap()[1].secret.is_none());
    scene.store.delete_document(Kind::Route, "smart".into()).wait().unwrap();
    let again = scene.store.delete_document(Kind::Route, "smart".into()).wait();
    assert!(matches!(again, Err(StoreError::NotFound)), "{again:?}");
    assert!(scene.store.settings_version().wait().unwrap() > version);
}

fn at_once(scene: &mut Scene) {
    let store = &scene.store;
    let put = |n: usize| {
        let secret = SecretChange::Set(SecretString::from(format!("secret {n}")));
        store.put_document_if(Kind::Key, "one".into(), json!({ "by": n }), secret, Expected::Absent, 5)
    };
    let pending: Vec<_> = (0..8).map(put).collect();
    let answers: Vec<Option<i64>> = pending.into_iter().map(|pending| pending.wait().unwrap()).collect();
    let made: Vec<usize> = (0..8).filter(|n| answers[*n].is_some()).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    let kept = store.documents(Kind::Key).wait().unwrap();
    assert_eq!((kept.len(), Some(kept[0].version)), (1, answers[made[0]]));
    assert_eq!(kept[0].body, json!({ "by": made[0] }));
    let secret = format!("secret {}", made[0]);
    assert_eq!(kept[0].secret.as_ref().map(|secret| secret.expose_secret()), Some(secret.as_str()));
    // A name belongs to its kind.
    let other = store.put_document_if(Kind::Route, "one".into(), json!({}), SecretChange::Keep, Expected::Absent, 5);
    assert!(other.wait().unwrap().is_some());
}

fn unexpected(scene: &mut Scene) {
    let store = scene.store.clone();
    let put = |host: &str, expected| {
        let body = json!({ "host": host });
        store.put_document_if(Kind::Route, "smart".into(), body, SecretChange::Keep, expected, 5).wait()
    };
    let host = || store.documents(Kind::Route).wait().unwrap()[0].body["host"].clone();
    assert_eq!(put("a", Expected::Version(1)).unwrap(), None, "there is none");
    let secret = SecretChange::Set(SecretString::from("s3cret"));
    let first = store.put_document(Kind::Route, "smart".into(), json!({"host": "b"}), secret, 5).wait().unwrap();
    let read = store.documents(Kind::Route).wait().unwrap();
    assert_eq!(Expected::of(read.first()), Expected::Version(first));
    let second = put("c", Expected::of(read.first())).unwrap().unwrap();
    assert!(second > first);
    let version = store.settings_version().wait().unwrap();
    for expected in [Expected::Absent, Expected::Version(first), Expected::Version(second + 1)] {
        assert_eq!(put("d", expected).unwrap(), None, "{expected:?}");
    }
    assert_eq!((host(), store.settings_version().wait().unwrap()), (json!("c"), version));
    let kept = store.documents(Kind::Route).wait().unwrap();
    assert_eq!(kept[0].secret.as_ref().map(|secret| secret.expose_secret()), Some("s3cret"));
    let named =
        store.put_document_if(Kind::Route, "No Name".into(), json!({}), SecretChange::Keep, Expected::Absent, 5);
    assert!(matches!(named.wait(), Err(StoreError::Invalid(_))));
    store.delete_document(Kind::Route, "smart".into()).wait().unwrap();
    assert_eq!(put("e", Expected::Version(second)).unwrap(), None, "it is gone");
    assert!(put("e", Expected::Absent).unwrap().unwrap() > second, "versions are never used again");
    assert_eq!(host(), json!("e"));
}

fn closed(scene: &mut Scene) {
    scene.store.ready().unwrap();
    let last = scene.store.accept(scene.message(&["b@example.net"], Start::Leased));
    scene.store.close().wait().unwrap();
    assert!(last.wait().is_ok());
    assert!(matches!(scene.store.ready(), Err(StoreError::Closed)));
    let late = scene.store.accept(scene.message(&["b@example.net"], Start::Leased)).wait();
    assert!(matches!(late, Err(StoreError::Closed)), "{late:?}");
    assert!(matches!(scene.store.counts(GroupBy::Route, 1).wait(), Err(StoreError::Closed)));
    assert!(matches!(scene.store.close().wait(), Err(StoreError::Closed)));
}
