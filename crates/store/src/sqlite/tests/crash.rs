//! What a copy of the directory taken without closing still holds: everything that was answered for.

use std::fs;
use std::path::Path;

use super::Sqlite;
use crate::contract::MESSAGE_BODY;
use crate::model::*;
use crate::verbs::{Intake, Maintain, Queue};

/// Copies a directory as a crash would leave it: files as they are, the log included, the lock not held.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn everything_answered_for_is_there_after_a_crash() {
    let (scene, _, at) = Sqlite::new().scene();
    let ids: Vec<MessageId> = (0..100).map(|n| scene.waiting(&[&format!("r{n}@example.net")])).collect();
    scene.claim_some(20, 20, &[]);
    scene.settle(ids[0], 0, Outcome::Delivered);
    let crashed = at.with_file_name("crashed");
    copy(&at, &crashed);
    let engine = Sqlite::new();
    let store = engine.try_open(&crashed).unwrap();
    let (run, taken) = store.start_run("node", scene.now).wait().unwrap();
    assert_eq!(taken, 19);
    let request = ClaimRequest { by: run, now_ms: scene.now, max: 1_000, max_per_lane: 1_000, skip: Vec::new() };
    let claims = store.claim(request).wait().unwrap().claims;
    assert_eq!(claims.len(), 99);
    for claim in claims {
        assert_eq!(&store.content(claim.message.id).wait().unwrap()[..], MESSAGE_BODY);
    }
    assert!(store.verify(true).wait().unwrap().is_empty());
}

#[test]
fn an_orphan_tail_and_unreferenced_segments_are_harmless() {
    let (scene, _, at) = Sqlite::new().scene();
    let id = scene.waiting(&["b@example.net"]);
    let crashed = at.with_file_name("crashed");
    copy(&at, &crashed);
    let segments = crashed.join("segments");
    let segment = fs::read_dir(&segments).unwrap().next().unwrap().unwrap().path();
    let mut content = fs::read(&segment).unwrap();
    content.extend_from_slice(b"half a message that was never answered for");
    fs::write(&segment, content).unwrap();
    fs::write(segments.join("00000099.seg"), b"not referred to").unwrap();
    let store = Sqlite::new().try_open(&crashed).unwrap();
    assert!(!segments.join("00000099.seg").exists());
    assert_eq!(&store.content(id).wait().unwrap()[..], MESSAGE_BODY);
    assert!(store.verify(true).wait().unwrap().is_empty());
}

#[test]
fn a_copy_taken_at_any_moment_opens_sound() {
    let (scene, _, at) = Sqlite::new().scene();
    for round in 0..5 {
        let pending: Vec<_> = (0..40)
            .map(|n| {
                let store: &dyn Intake = &*scene.store;
                store.accept(scene.message(&[&format!("r{n}@d{round}.test")], Start::Leased))
            })
            .collect();
        // The database first, contents later: contents are written before the rows that refer to them, so a content may
        // be there without its row, never a row without its content.
        let crashed = at.with_file_name(format!("crashed{round}"));
        fs::create_dir_all(crashed.join("segments")).unwrap();
        for name in ["queue.db", "queue.db-wal"] {
            fs::copy(at.join(name), crashed.join(name)).unwrap();
        }
        copy(&at.join("segments"), &crashed.join("segments"));
        for answer in pending {
            answer.wait().unwrap();
        }
        let store = Sqlite::new().try_open(&crashed).unwrap();
        assert_eq!(store.verify(true).wait().unwrap(), Vec::<String>::new());
    }
}
