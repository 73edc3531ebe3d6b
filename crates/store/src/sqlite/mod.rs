//! The embedded engine: metadata in SQLite, contents in segment files, one writer with group commit.
//!
//! `store` verbs map to commands of the writer thread ([`writer`], [`work`] and its verbs [`accept`], [`claim`],
//! [`settle`], [`operate`], [`batch`]), to questions to the readers ([`browse`], [`content`]) or to jobs ([`maintain`], [`backup`]).

mod accept;
mod backup;
mod batch;
mod batch_read;
mod browse;
mod candidates;
mod claim;
mod command;
mod content;
mod digest;
mod event;
mod events;
mod export;
mod fault;
mod figures;
mod hooks;
mod maintain;
mod nodes;
mod open;
mod operate;
mod reader;
mod records;
mod report;
mod returned;
mod schema;
mod search;
mod segment;
mod select;
mod settings;
mod settle;
mod shared;
mod sought;
mod stretch;
mod suppress;
mod suppressed;
mod tls;
mod upkeep;
mod verbs;
mod verbs_hooks;
mod verbs_returned;
mod verify;
mod work;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use self::command::{Command, CommandQueue, Job, Limits};
pub(crate) use self::export::Source;
pub use self::fault::{FaultPoint, Faults};
use self::reader::ReaderPool;
use self::shared::Shared;
use self::writer::{Setup, Writer};
pub use crate::engine::figures::Stopwatch;
use crate::secret::Keyring;
use crate::verbs::Retention;
use crate::{StoreError, encode};

/// How a store is opened.
#[derive(Debug)]
pub struct Options {
    /// Directory of the store; it is created if it is not there.
    pub dir: PathBuf,
    /// Keys of the secrets in settings.
    pub keyring: Keyring,
    /// Size at which a content segment is complete, octets.
    pub segment_bytes: u64,
    /// Low-water mark of the disk's free room, octets: below it accepts are [`StoreError::Full`], settles still work.
    pub min_free_bytes: u64,
    /// Room held in reserve so that outcomes can be recorded on a full disk, octets; 0: none.
    pub ballast_bytes: u64,
    /// Threads that answer questions.
    pub reader_threads: usize,
    /// Retention until the first [`crate::Maintain::retain`] says otherwise; only `content_ms` matters.
    pub retention: Retention,
    /// Faults to inject, for tests.
    pub faults: Arc<Faults>,
    /// Times the commits, for those who watch.
    pub stopwatch: Stopwatch,
}

impl Options {
    /// The usual: segments of 64 MiB, 256 MiB low-water mark, 32 MiB ballast, two readers, contents dropped when final.
    pub fn new(dir: impl Into<PathBuf>, keyring: Keyring) -> Self {
        Self {
            dir: dir.into(),
            keyring,
            segment_bytes: 64 << 20,
            min_free_bytes: 256 << 20,
            ballast_bytes: 32 << 20,
            reader_threads: 2,
            retention: Retention { content_ms: 0, events_ms: i64::MAX, captured_ms: i64::MAX, streams: Arc::default() },
            faults: Arc::default(),
            stopwatch: Stopwatch::default(),
        }
    }
}

/// The embedded store. Dropping it closes it.
pub struct SqliteStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteStore({})", self.shared.dir.display())
    }
}

impl SqliteStore {
    /// Opens or creates a store. One process at a time: a second one is told which directory is in use.
    pub fn open(options: Options, now_ms: i64) -> Result<Arc<Self>, StoreError> {
        let lock = open::lock(&options.dir)?;
        let database = options.dir.join("queue.db");
        let connection = open::writer(&database, now_ms)?;
        let next_segment = open::tidy_segments(&connection, &options.dir.join("segments"))?;
        let last_id = writer::last_id(&connection)?;
        let shared = Arc::new(Shared::new(
            options.dir,
            options.keyring,
            options.faults,
            CommandQueue::new(Limits::default()),
            ReaderPool::start(&database, options.reader_threads)?,
            last_id.0,
            options.stopwatch,
        ));
        let setup = Setup {
            segment_bytes: options.segment_bytes,
            min_free_bytes: options.min_free_bytes,
            ballast_bytes: options.ballast_bytes,
            retention: options.retention,
        };
        let writer = Writer::new(shared.clone(), setup, lock);
        let thread = std::thread::Builder::new()
            .name("store-write".into())
            .spawn(move || writer.run(connection, next_segment))
            .map_err(|error| StoreError::Internal(format!("writer thread: {error}")))?;
        Ok(Arc::new(Self { shared, writer: Mutex::new(Some(thread)) }))
    }

    /// Gives a job a thread and a connection of its own.
    fn job<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce(&rusqlite::Connection, &Arc<Shared>) -> Result<T, StoreError> + Send + 'static,
    ) -> crate::Pending<T> {
        let place = match self.shared.job() {
            Ok(place) => place,
            Err(error) => return crate::Pending::ready(Err(error)),
        };
        let (sender, pending) = crate::Pending::channel();
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name(format!("store-{name}")).spawn(move || {
            let outcome = open::read_only(&shared.database()).and_then(|connection| job(&connection, &shared));
            drop(place);
            let _ = sender.send(outcome);
        });
        // The sender went with the closure that was not started: the caller hears `Closed`.
        if let Err(error) = spawned {
            tracing::error!(%error, job = name, "a thread could not be started");
        }
        pending
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        let (job, pending) = Job::new(());
        self.shared.queue.push(Command::Close(job));
        drop(pending);
        if let Some(thread) = self.writer.lock().take() {
            let _ = thread.join();
        }
    }
}
