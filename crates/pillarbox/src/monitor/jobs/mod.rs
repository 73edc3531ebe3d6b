//! Jobs: everything that runs on a schedule, with its last and next run, to be run, paused and restarted by hand.
//!
//! ```text
//! app.monitor.jobs.register(Job::new("weekly-report", "Weekly report by mail", Group::Report, schedule, work(run)));
//! ```

mod keep;
mod loops;
mod relay;
mod run;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::relay::pulse::Part;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use store::{Store, StoreError};
use tokio::sync::{Notify, watch};

use super::schedule::Schedule;
use crate::http::Shared;

pub use loops::{Loop, Spec, supervise};
pub use run::run;
use table::State;
pub use table::{Done, Entry, Refused, Table};

/// Longest a job takes unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Between two looks at a loop that was asked to go round.
const LOOK: Duration = Duration::from_millis(50);

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
    /// Within two minutes.
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
    loops: Mutex<Vec<Arc<Loop>>>,
    /// Loops that are paused, since when and why.
    pauses: Mutex<BTreeMap<String, (i64, String)>>,
    pausing: tokio::sync::Mutex<()>,
    records: keep::Records,
    wake: Notify,
    ended: watch::Sender<u64>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            loops: Mutex::default(),
            pauses: Mutex::default(),
            pausing: tokio::sync::Mutex::default(),
            records: keep::Records::default(),
            wake: Notify::new(),
            ended: watch::Sender::new(0),
        }
    }
}

/// The relay's loops that somebody paused before this start: they are not to begin.
///
/// # Errors
/// The store cannot be read.
pub async fn paused_before(store: &dyn Store) -> Result<Vec<Part>, StoreError> {
    let records = keep::Records::default();
    records.read(store).await?;
    Ok(records.paused().keys().filter_map(|name| relay::part(name)).collect())
}

impl Jobs {
    /// Adds a job, or replaces the one of its name.
    pub fn register(&self, job: Job, now_ms: i64) {
        let known = self.records.known(&job.name);
        self.table.lock().put(job, known, now_ms);
        self.wake.notify_one();
    }

    fn add_loop(&self, one: Arc<Loop>) -> Arc<Loop> {
        let mut loops = self.loops.lock();
        loops.retain(|known| known.name != one.name);
        loops.push(one.clone());
        one
    }

    fn find_loop(&self, app: &Shared, name: &str) -> Option<Arc<Loop>> {
        self.loops(app).into_iter().find(|one| one.name == name)
    }

    /// What keeps its own time: ours, and the relay's.
    pub fn loops(&self, app: &Shared) -> Vec<Arc<Loop>> {
        let mut all = self.loops.lock().clone();
        all.extend(relay::seen(app));
        all
    }

    /// Besides its schedule a job runs at this moment, Unix milliseconds; said by a run of it.
    pub fn again(&self, name: &str, at_ms: i64) {
        self.table.lock().again(name, at_ms);
    }

    /// Pauses a job, for a reason.
    ///
    /// # Errors
    /// There is no such job, others rely on it, or the store is away.
    pub async fn pause(&self, app: &Shared, name: &str, why: &str) -> Result<(), Refused> {
        self.set_pause(app, name, Some(why)).await
    }

    /// Lets a paused job go on.
    ///
    /// # Errors
    /// There is no such job, others rely on it, or the store is away.
    pub async fn resume(&self, app: &Shared, name: &str) -> Result<(), Refused> {
        self.set_pause(app, name, None).await?;
        self.wake.notify_one();
        Ok(())
    }

    async fn set_pause(&self, app: &Shared, name: &str, why: Option<&str>) -> Result<(), Refused> {
        let now_ms = app.clock.now_ms();
        let Some(one) = self.find_loop(app, name) else {
            let state = self.table.lock().pause(name, why.map(str::to_owned), now_ms)?;
            self.records.keep(app, name, &state).await;
            return Ok(());
        };
        if !one.can().contains(&"pause") {
            return Err(Refused::Needed);
        }
        let _one_at_a_time = self.pausing.lock().await;
        let state = State { paused: why.map(|why| (now_ms, why.to_owned())), ..State::default() };
        self.records.try_keep(app, name, &state).await.map_err(|error| {
            tracing::warn!(job = %name, %error, "a pause could not be written down");
            Refused::Unwritten
        })?;
        self.pause_as_known(app).await;
        Ok(())
    }

    /// Since when a loop is paused, and why.
    fn pause_of(&self, name: &str) -> Option<(i64, String)> {
        self.pauses.lock().get(name).cloned()
    }

    /// Loops are paused and let go on as it is written down.
    async fn pause_as_written(&self, app: &Shared) {
        let _one_at_a_time = self.pausing.lock().await;
        self.pause_as_known(app).await;
    }

    async fn pause_as_known(&self, app: &Shared) {
        self.pauses.lock().clone_from(&self.records.paused());
        for one in self.loops(app) {
            let wanted = self.pause_of(&one.name);
            if wanted.is_some() != one.state().paused.is_some() {
                one.pause(app, wanted).await;
            }
        }
    }

    /// Waits until a job that was asked for has run, at most so long; gives whether it has.
    pub async fn has_run(&self, app: &Shared, name: &str, runs_before: u64, most: Duration) -> bool {
        let mut ended = self.ended.subscribe();
        let has_run = || match self.find_loop(app, name) {
            Some(one) => one.state().runs > runs_before,
            None => self.with(|table| table.get(name).is_none_or(|entry| entry.state.runs > runs_before)),
        };
        let waiting = async {
            while !has_run() {
                // Loops do not tell.
                let _ = tokio::time::timeout(LOOK, ended.changed()).await;
            }
        };
        let _ = tokio::time::timeout(most, waiting).await;
        has_run()
    }

    /// Reads what earlier runs of the server left.
    async fn restore(&self, app: &Shared) {
        match self.records.read(&*app.store).await {
            Ok(()) => self.table.lock().restore(|name| self.records.known(name), app.clock.now_ms()),
            Err(error) => tracing::error!(%error, "when jobs ran last could not be read: they begin anew"),
        }
        self.pause_as_written(app).await;
    }

    /// Reads what other nodes have done meanwhile; false: the store does not say.
    async fn adopt(&self, app: &Shared) -> bool {
        if let Err(error) = self.records.read(&*app.store).await {
            tracing::debug!(%error, "what other nodes did cannot be read");
            return false;
        }
        self.table.lock().adopt(|name| self.records.known(name), app.clock.now_ms());
        self.pause_as_written(app).await;
        true
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
    /// There is no such job, it is running, or it does not end anyway.
    pub fn run_now(&self, app: &Shared, name: &str) -> Result<(), Refused> {
        if let Some(one) = self.find_loop(app, name) {
            return one.run(app);
        }
        self.table.lock().ask(name)?;
        self.wake.notify_one();
        Ok(())
    }

    /// Ends a run under way and runs the job anew.
    ///
    /// # Errors
    /// There is no such job.
    pub fn restart(&self, app: &Shared, name: &str) -> Result<(), Refused> {
        if let Some(one) = self.find_loop(app, name) {
            one.restart(app);
            return Ok(());
        }
        self.table.lock().restart(name)?;
        self.wake.notify_one();
        Ok(())
    }
}
