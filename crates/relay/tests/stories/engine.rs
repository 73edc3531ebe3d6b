//! The engine under the stories: the embedded one, or PostgreSQL where `PILLARBOX_TEST_STORE=postgres` says so.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use store::postgres::{self, PostgresStore};
use store::secret::Keyring;
use store::sqlite::{self, Faults, SqliteStore};
use store::{MessageId, Store};
use testkit::Postgres;

/// In the directory of a rig: the URL of its database.
const URL: &str = "database.url";

/// Which engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// The one that was asked for.
    pub fn chosen() -> Self {
        if Postgres::wanted() { Self::Postgres } else { Self::Sqlite }
    }

    /// Opens the store of a directory: new at first, with its content after that.
    pub fn open(self, dir: &Path, faults: &Arc<Faults>, now_ms: i64) -> Arc<dyn Store> {
        let keyring = Keyring::from_key(&[7; 32]);
        match self {
            Self::Sqlite => {
                let options = sqlite::Options {
                    faults: faults.clone(),
                    min_free_bytes: 0,
                    ballast_bytes: 0,
                    ..sqlite::Options::new(dir.join("store"), keyring)
                };
                SqliteStore::open(options, now_ms).expect("open the store")
            }
            Self::Postgres => {
                if !dir.join(URL).exists() {
                    std::fs::write(dir.join(URL), Postgres::shared().database()).expect("a note");
                }
                let url = SecretString::from(url(dir));
                let options = postgres::Options { connections: 4, ..postgres::Options::new(url, keyring) };
                PostgresStore::open(options, now_ms).expect("open the store")
            }
        }
    }

    /// Sets a reader of events back to the beginning, while the store is closed.
    pub fn rewind(self, dir: &Path, reader: &str) {
        let sql = format!("DELETE FROM meta WHERE name = 'cursor.{reader}'");
        match self {
            Self::Sqlite => {
                let script =
                    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
                let mut python = std::process::Command::new("python3");
                let done = python.args(["-c", script]).arg(dir.join("store/queue.db")).arg(sql).status();
                assert!(done.expect("python3").success());
            }
            Self::Postgres => drop(run(dir, &sql)),
        }
    }

    /// Changes an octet in the middle of a message's stored content, behind the store's back.
    pub fn damage(self, dir: &Path, id: MessageId, near: &[u8]) {
        if self == Self::Postgres {
            let (id, near) = (id.0, String::from_utf8_lossy(near));
            let changed = run(
                dir,
                &format!(
                    "UPDATE content SET data = set_byte(data, position('{near}'::bytea IN data) - 1, 0) \
                 WHERE message = {id} AND position('{near}'::bytea IN data) > 0 RETURNING 1"
                ),
            );
            assert_eq!(changed, "1", "the content of {id} has {near} in one part");
            return;
        }
        for segment in std::fs::read_dir(dir.join("store/segments")).expect("segments") {
            let path = segment.expect("a segment").path();
            let mut octets = std::fs::read(&path).expect("a segment");
            let at = octets.windows(near.len()).position(|window| window == near).expect("the content");
            octets[at] ^= 1;
            std::fs::write(&path, octets).expect("a segment");
        }
    }
}

fn url(dir: &Path) -> String {
    std::fs::read_to_string(dir.join(URL)).expect("the URL of the database")
}

fn run(dir: &Path, sql: &str) -> String {
    Postgres::shared().sql(Postgres::name(&url(dir)), &format!("SET search_path TO pillarbox; {sql}"))
}
