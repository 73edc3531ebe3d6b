//! Jobs: everything that runs on a schedule, with its last and next run, to be run, paused and restarted by hand.
//!
//! ```text
//! app.monitor.jobs.register(Job::new("weekly-report", "Weekly report by mail", Group::Report, schedule, work(run)));
//! ```

mod run;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::schedule::Schedule;
use crate::http::Shared;

pub use run::run;
pub use table::{Done, Entry, Refused, State, Table};

/// Longest a job takes unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What sort of job it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// A scheduled check.
    Check,
    /// A report or digest.
    Report,
    /// Looks after what is stored, or published.
    Care,
    /// Part of the way of mail.
    Mail,
}

/// When a job runs that never ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Within a minute.
    Soon,
    /// When its schedule says.
    AsScheduled,
}

/// What a job does.
#[derive(Clone)]
pub struct Work(Arc<dyn Fn(Shared) -> BoxFuture<'static, Done> + Send + Sync>);

impl Work {
    /// From a function.
    pub fn new<F: Future<Output = Done> + Send + 'static>(work: impl Fn(Shared) -> F + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |app| Box::pin(work(app))))
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Unique, `a-z 0-9 . _ - :`.
    pub name: String,
    /// What it does, for people.
    pub title: String,
    /// What sort it is.
    pub group: Group,
    /// When it runs.
    pub schedule: Schedule,
    /// When it runs for the first time.
    pub first: First,
    /// Longest a run may take.
    pub timeout: Duration,
    /// What it does.
    pub work: Work,
}

impl Job {
    /// A job that waits for its schedule, and takes at most ten minutes.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        group: Group,
        schedule: Schedule,
        work: Work,
    ) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            group,
            schedule,
            first: First::AsScheduled,
            timeout: TIMEOUT,
            work,
        }
    }
}

/// All jobs of this server.
#[derive(Debug)]
pub struct Jobs {
    table: Mutex<Table>,
    wake: Notify,
    ended: watch::Sender<u64>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { table: Mutex::default(), wake: Notify::new(), ended: watch::Sender::new(0) }
    }
}

impl Jobs {
    /// Adds a job, or replaces the one of its name.
    pub fn register(&self, job: Job, now_ms: i64) {
        self.table.lock().put(job, None, now_ms);
        self.wake.notify_one();
    }

    /// Forgets a job; a run under way ends.
    pub fn remove(&self, name: &str) {
        self.table.lock().remove(name);
    }

    /// Reads the table.
    pub fn with<T>(&self, read: impl FnOnce(&Table) -> T) -> T {
        read(&self.table.lock())
    }

    /// Runs a job as soon as there is room, also one that is paused.
    ///
    /// # Errors
    /// There is no such job, or it is running.
    pub fn run_now(&self, name: &str) -> Result<(), Refused> {
        self.table.lock().ask(name)?;
        self.wake.notify_one();
        Ok(())
    }

    /// Ends a run under way and runs the job anew.
    ///
    /// # Errors
    /// There is no such job.
    pub fn restart(&self, name: &str) -> Result<(), Refused> {
        self.table.lock().restart(name)?;
        self.wake.notify_one();
        Ok(())
    }
}
