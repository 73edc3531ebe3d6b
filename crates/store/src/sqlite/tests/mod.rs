//! The engine passes the suite; what only this engine promises is in the files beside.

mod crash;
mod faults;
mod space;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{Faults, Options, SqliteStore};
use crate::contract::{Backups, Engine, Scene, stories};
use crate::secret::Keyring;
use crate::verbs::Store;
use crate::{MessageId, StoreError};

pub(super) struct Sqlite {
    pub(super) dir: TempDir,
    pub(super) faults: Arc<Faults>,
    pub(super) segment_bytes: u64,
}

impl Sqlite {
    pub(super) fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), faults: Arc::default(), segment_bytes: 64 << 20 }
    }
    pub(super) fn at(&self) -> PathBuf {
        self.dir.path().join("store")
    }
    pub(super) fn options(&self, dir: &Path) -> Options {
        Options {
            segment_bytes: self.segment_bytes,
            ballast_bytes: 1 << 20,
            min_free_bytes: 0,
            faults: self.faults.clone(),
            ..Options::new(dir, Keyring::from_key(&[7; 32]))
        }
    }
    pub(super) fn try_open(&self, dir: &Path) -> Result<Arc<SqliteStore>, StoreError> {
        SqliteStore::open(self.options(dir), 1_800_000_000_000)
    }
    pub(super) fn scene(self) -> (Scene, Arc<Faults>, PathBuf) {
        let (faults, at) = (self.faults.clone(), self.at());
        (Scene::new(Box::new(self)), faults, at)
    }
}

impl Engine for Sqlite {
    fn open(&self) -> Arc<dyn Store> {
        self.try_open(&self.at()).unwrap()
    }
    fn backups(&self) -> Option<&dyn Backups> {
        Some(self)
    }
    fn damage(&self, id: MessageId) {
        let connection = rusqlite::Connection::open(self.at().join("queue.db")).unwrap();
        let (segment, place): (i64, i64) = connection
            .query_row("SELECT segment, place FROM message WHERE id = ?1", [id.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        let path = super::segment::path(&self.at().join("segments"), segment);
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"\x00", place as u64 + 3).unwrap();
    }
}

impl Backups for Sqlite {
    fn open_backup(&self, at: &Path) -> Arc<dyn Store> {
        self.try_open(at).unwrap()
    }
    fn spare_path(&self) -> PathBuf {
        self.dir.path().join("spare")
    }
}

#[test]
fn the_engine_keeps_every_promise() {
    // In parallel: each story has a directory of its own.
    std::thread::scope(|scope| {
        for (name, story) in stories() {
            scope.spawn(move || {
                let told = std::panic::catch_unwind(|| story(&mut Scene::new(Box::new(Sqlite::new()))));
                assert!(told.is_ok(), "broken promise: {name}");
            });
        }
    });
}

#[test]
fn a_second_process_is_told_which_directory_is_in_use() {
    let engine = Sqlite::new();
    let store = engine.try_open(&engine.at()).unwrap();
    let error = engine.try_open(&engine.at()).unwrap_err().to_string();
    assert!(error.contains("in use by another process") && error.contains("store"), "{error}");
    drop(store);
    engine.try_open(&engine.at()).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let engine = Sqlite::new();
    drop(engine.try_open(&engine.at()).unwrap());
    let connection = rusqlite::Connection::open(engine.at().join("queue.db")).unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    drop(connection);
    let error = engine.try_open(&engine.at()).unwrap_err().to_string();
    assert!(error.contains("newer version"), "{error}");
    let connection = rusqlite::Connection::open(engine.at().join("queue.db")).unwrap();
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 999);
}

#[test]
fn an_edited_schema_is_refused() {
    let engine = Sqlite::new();
    drop(engine.try_open(&engine.at()).unwrap());
    let connection = rusqlite::Connection::open(engine.at().join("queue.db")).unwrap();
    connection.execute("UPDATE migration SET checksum = 'x'", []).unwrap();
    drop(connection);
    assert!(engine.try_open(&engine.at()).is_err());
}

#[test]
fn a_secret_needs_its_key_after_a_restart() {
    use crate::settings::{Kind, SecretChange};
    use crate::verbs::Settings as _;
    let engine = Sqlite::new();
    let store = engine.try_open(&engine.at()).unwrap();
    let secret = SecretChange::Set(secrecy::SecretString::from("hunter2"));
    store.put_document(Kind::Route, "a".into(), serde_json::json!({}), secret, 1).wait().unwrap();
    drop(store);
    let mut options = engine.options(&engine.at());
    options.keyring = Keyring::from_key(&[8; 32]);
    let store = SqliteStore::open(options, 1).unwrap();
    let error = store.documents(Kind::Route).wait().unwrap_err().to_string();
    assert!(error.contains("another key") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_suppression_that_differs_from_its_log_is_found() {
    let engine = Sqlite::new();
    let (scene, _, at) = engine.scene();
    let suppression = |to: &str| crate::Suppression {
        address: proto::Address::parse(to).unwrap(),
        scope: crate::SuppressionScope::Global,
        reason: crate::SuppressionReason::Manual,
        evidence: crate::Evidence::default(),
        who: "ann".into(),
        added_ms: scene.now,
        expires_ms: None,
    };
    let list = vec![suppression("a@example.net"), suppression("b@example.net")];
    scene.store.suppress(list, crate::Existing::Keep, scene.now).wait().unwrap();
    scene.sound();
    let connection = rusqlite::Connection::open(at.join("queue.db")).unwrap();
    connection.execute("DELETE FROM suppression WHERE key = 'a@example.net'", []).unwrap();
    connection.execute("UPDATE suppression_change SET change = 2 WHERE key = 'b@example.net'", []).unwrap();
    let problems = scene.store.verify(false).wait().unwrap();
    assert!(problems.iter().any(|problem| problem.contains("gone that was not removed")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("says that it was removed")), "{problems:?}");
}
