//! The disk refuses: nothing is answered for that is not there, and the store comes back by itself.

use super::super::fault::FaultPoint;
use super::Sqlite;
use crate::contract::{MESSAGE_BODY, Scene};
use crate::model::*;
use crate::verbs::StoreError;

/// Waits until the store says it is ready again; it tries each second.
fn recovered(scene: &Scene) {
    for _ in 0..2_000 {
        if scene.store.ready().is_ok() {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    panic!("the store did not recover: {:?}", scene.store.ready());
}

#[test]
fn a_failed_write_or_sync_or_commit_is_never_answered_as_done() {
    for point in [FaultPoint::SegmentWrite, FaultPoint::SegmentSync, FaultPoint::Commit] {
        let (mut scene, faults, _) = Sqlite::new().scene();
        let before = scene.waiting(&["a@example.net"]);
        faults.fail(FaultPoint::Reopen, 1);
        faults.fail(point, 1);
        let answer = scene.store.accept(scene.message(&["b@example.net"], Start::Leased)).wait();
        assert!(matches!(answer, Err(StoreError::Unhealthy(_))), "{point:?}: {answer:?}");
        recovered(&scene);
        assert_eq!(scene.count("example.net"), (1, 0), "{point:?}");
        let after = scene.waiting(&["c@example.net"]);
        assert_eq!(scene.claim().len(), 2);
        for id in [before, after] {
            assert_eq!(&scene.store.content(id).wait().unwrap()[..], MESSAGE_BODY);
        }
        scene.sound();
        scene.restart();
        assert_eq!(scene.count("example.net"), (2, 0), "{point:?}");
    }
}

#[test]
fn a_broken_store_says_so_until_it_was_verified() {
    let (scene, faults, _) = Sqlite::new().scene();
    faults.fail(FaultPoint::Reopen, 1_000);
    faults.fail(FaultPoint::Commit, 1);
    assert!(scene.store.accept(scene.message(&["b@example.net"], Start::Leased)).wait().is_err());
    let settled = scene.store.expire(scene.now, 1).wait();
    assert!(matches!(settled, Err(StoreError::Unhealthy(_))), "{settled:?}");
    assert!(matches!(scene.store.ready(), Err(StoreError::Unhealthy(_))));
    scene.store.close().wait().unwrap();
}

#[test]
fn a_full_disk_refuses_messages_and_still_records_outcomes() {
    let (scene, faults, _) = Sqlite::new().scene();
    let id = scene.accept(&["a@example.net"], Start::Leased);
    for point in [FaultPoint::SegmentFull, FaultPoint::CommitFull] {
        faults.fail(point, 1);
        let answer = scene.store.accept(scene.message(&["b@example.net"], Start::Leased)).wait();
        assert!(matches!(answer, Err(StoreError::Full)), "{point:?}: {answer:?}");
        recovered(&scene);
    }
    faults.fail(FaultPoint::CommitFull, 1);
    assert_eq!(scene.settle(id, 0, Outcome::Delivered), 1);
    assert_eq!(scene.count("example.net"), (0, 0));
    recovered(&scene);
    scene.accept(&["c@example.net"], Start::Leased);
    scene.sound();
}

#[test]
fn below_the_low_water_mark_only_accepts_are_refused() {
    let engine = Sqlite::new();
    let mut options = engine.options(&engine.at());
    let (scene, _, at) = engine.scene();
    let id = scene.accept(&["a@example.net"], Start::Leased);
    scene.store.close().wait().unwrap();
    options.min_free_bytes = u64::MAX;
    let store = super::SqliteStore::open(options, 1).unwrap();
    use crate::verbs::{Intake as _, Queue as _};
    // The first answer of the writer says that it has looked at the disk.
    let (run, taken) = store.start_run("node", scene.now).wait().unwrap();
    assert_eq!(taken, 1);
    assert!(matches!(store.ready(), Err(StoreError::Full)));
    let refused = store.accept(scene.message(&["b@example.net"], Start::Leased)).wait();
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    let request = ClaimRequest { by: run, now_ms: scene.now, max: 9, max_per_lane: 9, skip: Vec::new() };
    assert_eq!(store.claim(request).wait().unwrap().claims[0].message.id, id);
    assert!(at.exists());
}
