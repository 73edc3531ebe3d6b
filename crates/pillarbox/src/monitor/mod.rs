//! What the server does by itself on a schedule: jobs, and the checks among them.
//!
//! A **job** is anything with a schedule: [`jobs`] keeps when each ran, how it went and when it runs next, and lets an
//! administrator run, pause and restart it. A **check** is a job that looks at one subject and gives what it found:
//! results are kept and compared, and a change is what alerts. Nothing here knows HTTP.

pub mod check;
pub mod dns;
pub mod jobs;
pub mod journal;
pub mod kinds;
pub mod lists;
pub mod schedule;
mod sync;

pub use check::{CheckKind, Found, Level, Subject};
pub use jobs::{Done, First, Group, Job, Jobs};
pub use schedule::Schedule;

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::http::Shared;

/// The kinds of checks, and jobs.
#[derive(Default)]
pub struct Monitor {
    /// All jobs.
    pub jobs: Jobs,
    /// Settings were changed: the checks' subjects are looked at again at once.
    pub changed: Notify,
    kinds: RwLock<Vec<Arc<dyn CheckKind>>>,
}

impl Monitor {
    /// Adds a kind of check; one of the same id is replaced.
    pub fn add_kind(&self, kind: Arc<dyn CheckKind>) {
        let mut kinds = self.kinds.write();
        kinds.retain(|known| known.id() != kind.id());
        kinds.push(kind);
        self.changed.notify_one();
    }

    /// All kinds.
    pub fn kinds(&self) -> Vec<Arc<dyn CheckKind>> {
        self.kinds.read().clone()
    }
}

/// Runs jobs and checks until the server stops.
pub async fn run(app: Shared, closing: CancellationToken) {
    kinds::builtin().into_iter().for_each(|kind| app.monitor.add_kind(kind));
    tokio::join!(sync::run(&app, &closing), jobs::run(&app, &closing));
}
