//! Room on the disk is used again.

use std::path::Path;
use std::sync::Arc;

use super::Sqlite;
use crate::contract::{MESSAGE_BODY, Scene};
use crate::model::*;
use crate::verbs::Retention;

fn keep() -> Retention {
    Retention { content_ms: 0, events_ms: i64::MAX, captured_ms: i64::MAX, streams: Arc::default() }
}

fn segments(at: &Path) -> usize {
    super::super::segment::list(&at.join("segments")).unwrap().len()
}

fn small_segments() -> (Scene, std::path::PathBuf) {
    let engine = Sqlite { segment_bytes: 10 * MESSAGE_BODY.len() as u64, ..Sqlite::new() };
    let (scene, _, at) = engine.scene();
    (scene, at)
}

#[test]
fn a_segment_goes_with_its_last_content() {
    let (scene, at) = small_segments();
    let ids: Vec<MessageId> = (0..95).map(|_| scene.accept(&["b@example.net"], Start::Leased)).collect();
    assert_eq!(segments(&at), 10);
    for id in &ids {
        scene.settle(*id, 0, Outcome::Delivered);
    }
    assert_eq!(segments(&at), 1);
    // The current one emptied while it was current: it goes when the next has begun.
    for _ in 0..20 {
        let id = scene.accept(&["b@example.net"], Start::Leased);
        scene.settle(id, 0, Outcome::Delivered);
    }
    assert_eq!(segments(&at), 1);
    scene.sound();
}

#[test]
fn one_old_message_does_not_keep_its_segment() {
    let (mut scene, at) = small_segments();
    let mut old = Vec::new();
    for round in 0..9 {
        for n in 0..10 {
            let id = scene.accept(&["b@example.net"], Start::Leased);
            if n == 5 {
                old.push(id);
            } else {
                scene.settle(id, 0, Outcome::Delivered);
            }
        }
        assert_eq!(segments(&at), round + 1);
    }
    scene.store.retain(keep(), scene.now).wait().unwrap();
    assert!(segments(&at) <= 3, "{} segments are left", segments(&at));
    for id in &old {
        assert_eq!(&scene.store.content(*id).wait().unwrap()[..], MESSAGE_BODY);
    }
    scene.sound();
    scene.restart();
    assert_eq!(scene.claim().len(), 9);
    scene.sound();
}

#[test]
fn a_backup_keeps_segments_while_it_copies_them() {
    let (scene, at) = small_segments();
    for _ in 0..55 {
        scene.accept(&["b@example.net"], Start::Waiting(scene.now));
    }
    let to = scene.engine.backups().unwrap().spare_path();
    let backup = scene.store.backup(to.clone());
    for claim in scene.claim() {
        scene.settle(claim.message.id, 0, Outcome::Delivered);
    }
    backup.wait().unwrap();
    let copy = scene.engine.backups().unwrap().open_backup(&to);
    assert!(copy.verify(true).wait().unwrap().is_empty());
    assert!(segments(&at) <= 1);
}
