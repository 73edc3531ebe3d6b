//! Digests, batches and reports, with two nodes on one database that do the same at once.

use std::sync::Arc;

use super::Database;
use crate::contract::Scene;
use crate::model::*;
use crate::verbs::*;

const NOW: i64 = 1_800_000_000_000;
const WINDOW: i64 = 600_000;

/// Two nodes, each with a run of its own.
fn nodes() -> (Database, [Scene; 2]) {
    let database = Database::new();
    let scenes = ["one", "two"].map(|name| {
        let own = Database { url: database.url.clone() };
        let store: Arc<dyn Store> = own.open();
        let (run, _) = store.start_run(name, NOW).wait().unwrap();
        Scene { engine: Box::new(own), store, run, now: NOW }
    });
    (database, scenes)
}

/// Both nodes do it `times` at once; what came of it.
fn both<T>(scenes: &[Scene; 2], times: usize, ask: impl Fn(&Scene) -> Pending<T>) -> Vec<Result<T, StoreError>> {
    let asked: Vec<_> = (0..times).flat_map(|_| scenes.iter().map(&ask)).collect();
    asked.into_iter().map(Pending::wait).collect()
}

fn equal(scene: &Scene, start: Start) -> NewMessage {
    NewMessage {
        folds: vec![(0, Fold { key: [1; 16], window_ms: WINDOW })],
        ..scene.message(&["ann@example.net"], start)
    }
}

fn folded(answer: &Result<Accepted, StoreError>) -> bool {
    match answer {
        Ok(Accepted::Committed(committed)) => committed.folded() == [0],
        other => panic!("not committed: {other:?}"),
    }
}

#[test]
fn of_equal_mails_at_two_nodes_one_goes_and_the_others_are_told_of_once() {
    let (database, mut scenes) = nodes();
    let answers = both(&scenes, 12, |scene| scene.store.accept(equal(scene, Start::Leased)));
    assert_eq!(answers.iter().filter(|answer| !folded(answer)).count(), 1, "{answers:?}");
    assert_eq!(database.sql("SELECT count(*), sum(folded) FROM digest"), "1|23");
    scenes.iter_mut().for_each(|scene| scene.now += WINDOW);
    let digest = scenes[0].store.due_digests(scenes[0].now, 10, 100).wait().unwrap().remove(0);
    assert_eq!((digest.folded, digest.held), (23, 23));
    let ends = DigestEnd { digest: digest.id, folded: 23 };
    let told = both(&scenes, 4, |scene| {
        let new = scene.message(&["ann@example.net"], Start::Leased);
        scene.store.accept(NewMessage { ends: Some(ends), ..new })
    });
    assert_eq!(told.iter().filter(|answer| answer.is_ok()).count(), 1, "{told:?}");
    let left = both(&scenes, 4, |scene| scene.store.finish_digest(digest.id, 5, scene.now));
    assert!(left.iter().all(Result::is_ok), "{left:?}");
    assert_eq!(database.sql("SELECT count(*) FROM digest"), "0");
    assert_eq!(database.sql("SELECT count(*) FROM recipient WHERE state = 7"), "23");
    assert_eq!(database.sql("SELECT count(*) FROM event WHERE kind = 8"), "23", "each was ended once");
    scenes[0].sound();
}

#[test]
fn a_row_that_two_nodes_take_becomes_one_message_and_counts_are_exact() {
    let (database, scenes) = nodes();
    let id = BatchId(scenes[0].store.next_id(NOW).0);
    let new = NewBatch {
        id,
        by: scenes[0].run,
        sender: "app".into(),
        stream: "news".into(),
        label: String::new(),
        created_ms: NOW,
        start_ms: NOW,
        spread_ms: None,
        test: false,
        body: "{}".into(),
    };
    let store = &scenes[0].store;
    store.begin_batch(new).wait().unwrap();
    let row = |n: u32| NewRow { n, address: proto::Address::parse("u@example.net").unwrap(), data: "{}".into() };
    store.add_rows(id, (0..40).map(row).collect()).wait().unwrap();
    // Another node's upkeep leaves alone what a living run takes in.
    let keep = Retention { content_ms: 0, events_ms: WINDOW, captured_ms: WINDOW, streams: Arc::default() };
    scenes[1].store.retain(keep, NOW).wait().unwrap();
    store.commit_batch(id, BatchCommit { rows: 40, idempotency: None, now_ms: NOW }).wait().unwrap();
    let of_row = |scene: &Scene, row: u32| {
        let mut new = scene.message(&["u@example.net"], Start::Waiting(NOW));
        let details = MessageDetails { row: Some(RowRef { batch: id, row }), ..MessageDetails::default() };
        new.message = Arc::new(Message { details: Arc::new(details), ..(*new.message).clone() });
        scene.store.accept(new)
    };
    let mut asked = Vec::new();
    let mut refused = Vec::new();
    for row in 0..40 {
        asked.extend(scenes.iter().map(|scene| of_row(scene, row)));
        if row % 4 == 0 {
            refused.push(scenes[1].store.refuse_row(RowRef { batch: id, row }, "x".into()));
        }
    }
    let taken = asked.into_iter().map(|pending| pending.wait().unwrap());
    let taken = taken.filter(|answer| matches!(answer, Accepted::Committed(_))).count();
    let refused = refused.into_iter().map(|pending| pending.wait().unwrap()).filter(|refused| *refused).count();
    assert_eq!(taken + refused, 40);
    let view = store.batch(id).wait().unwrap();
    assert_eq!((view.fed as usize, view.refused as usize), (taken, refused));
    assert_eq!(database.sql("SELECT count(*) FROM message"), taken.to_string());
    scenes[0].sound();
}

#[test]
fn a_report_told_to_two_nodes_counts_once_and_lateness_is_told_once() {
    let (database, scenes) = nodes();
    let id = scenes[0].accept(&["a@example.net"], Start::Leased);
    let late = || vec![Late { recipient: RecipientId { message: id, n: 0 }, until_ms: None, why: "full".into() }];
    let told = both(&scenes, 4, |scene| scene.store.warn_late(late(), NOW));
    assert_eq!(told.into_iter().map(Result::unwrap).sum::<u64>(), 1);
    scenes[0].settle(id, 0, Outcome::Delivered);
    let report = || LaterReport {
        message: id,
        n: None,
        at_ms: NOW,
        kind: ReportKind::Bounced,
        severity: Severity::Hard,
        cause: None,
        why: None,
        source: "listener".into(),
        key: "k".into(),
    };
    let told = both(&scenes, 4, |scene| scene.store.report(report()));
    let recorded = told.iter().filter(|told| matches!(told, Ok(Reported::Recorded(_)))).count();
    assert_eq!((recorded, told.iter().all(Result::is_ok)), (1, true), "{told:?}");
    assert_eq!(database.sql("SELECT count(*) FROM event WHERE kind IN (9, 12)"), "2");
    let caught = both(&scenes, 3, |scene| scene.store.catch_up_search());
    assert_eq!(caught.into_iter().map(Result::unwrap).sum::<u64>(), 1, "each message gets its keys once");
    scenes[0].sound();
}
