//! The engine passes the suite; what only this engine promises, several nodes on one database, is in the files beside.

mod away;
mod lists;
mod mail;
mod nodes;
mod parts;

use std::sync::Arc;

use secrecy::SecretString;
use testkit::Postgres;

use super::{Options, PostgresStore};
use crate::contract::{Backups, Engine, Scene, stories};
use crate::model::MessageId;
use crate::secret::Keyring;
use crate::verbs::Store;

/// A database of one's own.
pub(super) struct Database {
    pub(super) url: String,
}

impl Database {
    pub(super) fn new() -> Self {
        Self { url: Postgres::shared().database() }
    }
    /// One node's store; several may be open at once.
    pub(super) fn open(&self) -> Arc<PostgresStore> {
        let options = Options {
            connections: 8,
            ..Options::new(SecretString::from(self.url.clone()), Keyring::from_key(&[7; 32]))
        };
        PostgresStore::open(options, 1_800_000_000_000).unwrap()
    }
    /// Asks the database itself.
    pub(super) fn sql(&self, sql: &str) -> String {
        let sql = format!("SET search_path TO pillarbox; {sql}");
        Postgres::shared().sql(Postgres::name(&self.url), &sql)
    }
}

impl Engine for Database {
    fn open(&self) -> Arc<dyn Store> {
        self.open()
    }
    fn backups(&self) -> Option<&dyn Backups> {
        None
    }
    fn damage(&self, id: MessageId) {
        self.sql(&format!("UPDATE content SET data = set_byte(data, 3, 0) WHERE message = {}", id.0));
    }
}

#[test]
fn the_engine_keeps_every_promise() {
    // A few at a time: each story has a database of its own.
    let todo = parking_lot::Mutex::new(stories());
    let broken = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, story)) = todo.lock().pop() else { return };
                    let told = std::panic::catch_unwind(|| story(&mut Scene::new(Box::new(Database::new()))));
                    if told.is_err() {
                        broken.lock().push(name);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner();
    assert!(broken.is_empty(), "broken promises: {broken:#?}");
}
