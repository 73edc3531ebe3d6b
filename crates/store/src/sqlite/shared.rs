//! What the writer, the readers and the callers of a store share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::command::CommandQueue;
use super::fault::Faults;
use super::reader::ReaderPool;
use super::segment;
use crate::StoreError;
use crate::engine::figures::{Counted, Stopwatch};
use crate::model::*;
use crate::secret::Keyring;

/// Jobs that may run at the same time, each with a connection of its own.
const JOBS: usize = 6;

/// A lane that has leased recipients.
pub(super) struct LeasedLane {
    pub(super) lane: Arc<Lane>,
    pub(super) count: i64,
}

/// Hour and time up to where retention has looked, by what it looks for and of which streams.
type Looked = HashMap<(&'static str, String), (i64, i64)>;

#[derive(Default)]
struct Pins {
    holders: usize,
    deferred: Vec<(PathBuf, i64)>,
}

/// State that outlives a connection.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) keyring: Keyring,
    pub(super) faults: Arc<Faults>,
    pub(super) queue: Arc<CommandQueue>,
    pub(super) readers: ReaderPool,
    /// Leases per lane: the only copy of these counts; made from the rows when the store is opened.
    pub(super) leased: Mutex<HashMap<LaneId, LeasedLane>>,
    pub(super) settings_version: AtomicI64,
    /// Number of the newest event that is durable.
    pub(super) newest_event: AtomicI64,
    /// Free room is below the low-water mark.
    pub(super) low: AtomicBool,
    broken: AtomicBool,
    why_broken: Mutex<String>,
    last_id: AtomicI64,
    pins: Mutex<Pins>,
    jobs: AtomicUsize,
    /// Number of the newest event when searches last had all keys; -1: not in this run.
    pub(super) sought: AtomicI64,
    /// Held while keys and marks are added: what is written down of a stretch is made of what was read of it.
    pub(super) seeking: Mutex<()>,
    /// What the writer counts.
    pub(super) counted: Counted,
    /// Up to where retention has looked and in which hour, by what it looks for.
    pub(super) looked: Mutex<Looked>,
    /// The node that runs here.
    pub(super) node: Mutex<Option<NodeSaid>>,
}

impl Shared {
    pub(super) fn new(
        dir: PathBuf,
        keyring: Keyring,
        faults: Arc<Faults>,
        queue: Arc<CommandQueue>,
        readers: ReaderPool,
        last_id: i64,
        stopwatch: Stopwatch,
    ) -> Self {
        Self {
            dir,
            keyring,
            faults,
            queue,
            readers,
            leased: Mutex::default(),
            settings_version: AtomicI64::new(0),
            newest_event: AtomicI64::new(0),
            low: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            why_broken: Mutex::default(),
            last_id: AtomicI64::new(last_id),
            pins: Mutex::default(),
            jobs: AtomicUsize::new(0),
            sought: AtomicI64::new(-1),
            seeking: Mutex::default(),
            counted: Counted::new(stopwatch),
            looked: Mutex::default(),
            node: Mutex::default(),
        }
    }

    /// Directory of the segments.
    pub(super) fn segments(&self) -> PathBuf {
        self.dir.join("segments")
    }

    /// The database file.
    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("queue.db")
    }

    /// Marks the store as unusable until it is verified, or as usable again.
    pub(super) fn set_broken(&self, why: Option<&str>) {
        *self.why_broken.lock() = why.unwrap_or_default().to_owned();
        self.broken.store(why.is_some(), Ordering::SeqCst);
    }

    /// `Unhealthy` while the store is.
    pub(super) fn healthy(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Unhealthy(self.why_broken.lock().clone()));
        }
        Ok(())
    }

    /// A new message id, larger than any before, even if the clock goes back.
    pub(super) fn next_id(&self, now_ms: i64) -> MessageId {
        // 20 random bits of 21: there is room for a million more within the same millisecond.
        let fresh = ((now_ms - EPOCH_MS).max(1) << 21) | i64::from(rand::random::<u32>() & 0xf_ffff);
        let step = |last: i64| Some(if fresh > last { fresh } else { last + 1 });
        match self.last_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) {
            Ok(last) | Err(last) => MessageId(if fresh > last { fresh } else { last + 1 }),
        }
    }

    /// Removes a segment's file, later if somebody copies segments.
    pub(super) fn unlink(&self, dir: &Path, id: i64) {
        let mut pins = self.pins.lock();
        if pins.holders > 0 {
            pins.deferred.push((dir.to_owned(), id));
            return;
        }
        drop(pins);
        remove(dir, id);
    }

    /// Keeps segment files until the pin is dropped.
    pub(super) fn pin(self: &Arc<Self>) -> Pin {
        self.pins.lock().holders += 1;
        Pin(self.clone())
    }

    /// Takes a place for a job; `Overloaded` if there is none.
    pub(super) fn job(self: &Arc<Self>) -> Result<JobPlace, StoreError> {
        if self.jobs.fetch_add(1, Ordering::SeqCst) >= JOBS {
            self.jobs.fetch_sub(1, Ordering::SeqCst);
            return Err(StoreError::Overloaded);
        }
        Ok(JobPlace(self.clone()))
    }
}

fn remove(dir: &Path, id: i64) {
    if let Err(error) = std::fs::remove_file(segment::path(dir, id)) {
        // Nothing refers to it: the next start removes it.
        tracing::warn!(segment = id, %error, "a content segment that is no longer used could not be removed");
    }
}

/// Segment files stay while this lives.
pub(super) struct Pin(Arc<Shared>);

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.0.pins.lock();
        pins.holders -= 1;
        if pins.holders > 0 {
            return;
        }
        let deferred = std::mem::take(&mut pins.deferred);
        drop(pins);
        for (dir, id) in deferred {
            remove(&dir, id);
        }
    }
}

/// A job's place among those that may run.
pub(super) struct JobPlace(Arc<Shared>);

impl Drop for JobPlace {
    fn drop(&mut self) {
        self.0.jobs.fetch_sub(1, Ordering::SeqCst);
    }
}
