//! Tests of mail servers and routes that people start on a page: they run in the server, are seen while they run, and the
//! last [`KEPT`] are kept with their reports. The probe itself is that of every check.

pub mod record;
mod run;

use std::collections::HashMap;

use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::Shared;

pub use record::{State, Stored, Test};
pub use run::start;

/// So many are kept, the newest.
pub const KEPT: u32 = 300;

/// Tests that run now.
#[derive(Debug, Default)]
pub struct Tests {
    running: Mutex<HashMap<i64, Progress>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How far a test is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The stage that runs.
    pub stage: Option<&'static str>,
    /// Those that have ended, as in the report.
    pub stages: Vec<Value>,
}

impl Tests {
    /// How far this one is; `None`: it does not run here.
    pub fn progress(&self, id: i64) -> Option<Progress> {
        self.running.lock().get(&id).cloned()
    }

    fn note(&self, id: i64, change: impl FnOnce(&mut Progress)) {
        if let Some(progress) = self.running.lock().get_mut(&id) {
            change(progress);
        }
    }
}

/// Waits for the end of the server, and for tests to see it.
pub async fn until_closing(app: Shared, closing: CancellationToken) {
    closing.cancelled().await;
    app.tests.stop.cancel();
    app.tests.tasks.close();
    app.tests.tasks.wait().await;
}
