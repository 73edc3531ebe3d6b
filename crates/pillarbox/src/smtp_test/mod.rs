//! Tests of mail servers and routes that people start on a page: they run in the server, are seen while they run, and the
//! last [`KEPT`] are kept with their reports. The probe itself is that of every check.

pub mod elsewhere;
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

/// A test that says it runs, and does not run here, is over after so long: the server that ran it is gone.
pub const LOST_MS: i64 = 150_000;

/// Tests that run now.
#[derive(Debug, Default)]
pub struct Tests {
    node: Option<String>,
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
    /// Of a node by this name; `None` where no other node can be.
    pub fn of(node: Option<String>) -> Self {
        Self { node, ..Self::default() }
    }

    /// This node's name, where there may be others.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

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
