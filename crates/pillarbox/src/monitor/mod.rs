//! What the server does by itself on a schedule: jobs, and the checks among them.
//!
//! A **job** is anything with a schedule: [`jobs`] keeps when each ran, how it went and when it runs next, and lets an
//! administrator run, pause and restart it. A **check** is a job that looks at one subject and gives what it found:
//! results are kept and compared, and a change is what alerts.

pub mod check;
pub mod dns;
pub mod jobs;
pub mod journal;
mod judge;
pub mod kinds;
pub mod lists;
pub mod results;
pub mod schedule;
mod sync;
pub mod version;
pub mod weakness;

pub use check::{CheckKind, Found, Level, Subject};
pub use jobs::{Done, Group, Job, Jobs};
pub use schedule::Schedule;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use net::{Net, ServerTls};
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::http::Shared;

/// The key of alerts about the end of a listener's certificate: of the check, and of the incident that takes it over.
pub fn alert_of_listener(listener: &str) -> String {
    results::key(&format!("certificate:listener.{listener}"))
}

/// Listeners by the file of their certificate, in their order: what ends is a certificate, however many show it.
pub fn by_certificate(listeners: &[(String, Arc<ServerTls>)]) -> Vec<(Vec<&str>, &Arc<ServerTls>)> {
    let mut all: Vec<(Vec<&str>, &Arc<ServerTls>)> = Vec::new();
    for (name, tls) in listeners {
        match all.iter_mut().find(|(_, known)| known.certificate_path() == tls.certificate_path()) {
            Some((names, _)) => names.push(name.as_str()),
            None => all.push((vec![name.as_str()], tls)),
        }
    }
    all
}

/// The kinds of checks, and jobs.
#[derive(Default)]
pub struct Monitor {
    /// All jobs.
    pub jobs: Jobs,
    /// What the checks found.
    pub results: results::Results,
    /// Settings were changed: the checks' subjects are looked at again at once.
    pub changed: Notify,
    kinds: RwLock<Vec<Arc<dyn CheckKind>>>,
    wiring: OnceLock<Wiring>,
    /// Checks there are, with the versions of their subjects.
    subjects: tokio::sync::Mutex<BTreeMap<String, i64>>,
}

/// What checks need of the server beside its settings.
pub struct Wiring {
    /// Resolver, dialler and trust of the configuration.
    pub net: Net,
    /// Certificates of the listeners, with their names.
    pub listeners: Vec<(String, Arc<ServerTls>)>,
}

impl Monitor {
    /// Adds a kind of check; one of the same id is replaced.
    pub fn add_kind(&self, kind: Arc<dyn CheckKind>) {
        let mut kinds = self.kinds.write();
        kinds.retain(|known| known.id() != kind.id());
        kinds.push(kind);
        self.changed.notify_one();
    }

    /// Certificates of the listeners.
    pub fn listeners(&self) -> &[(String, Arc<ServerTls>)] {
        self.wiring.get().map_or(&[], |wiring| &wiring.listeners)
    }

    /// The network of the configuration, while the server runs.
    pub fn net(&self) -> Option<&Net> {
        self.wiring.get().map(|wiring| &wiring.net)
    }

    /// All kinds.
    pub fn kinds(&self) -> Vec<Arc<dyn CheckKind>> {
        self.kinds.read().clone()
    }
}

/// Runs jobs and checks until the server stops.
pub async fn run(app: Shared, wiring: Wiring, closing: CancellationToken) {
    // Once: a second call would be another server.
    let _ = app.monitor.wiring.set(wiring);
    kinds::all(app.checks.config().checks.builtin).into_iter().for_each(|kind| app.monitor.add_kind(kind));
    app.monitor.jobs.register(pruning(), app.clock.now_ms());
    tokio::join!(sync::run(&app, &closing), jobs::run(&app, &closing));
}

/// Takes changed settings up at once, while the server runs.
pub async fn refresh(app: &Shared) {
    if app.monitor.wiring.get().is_some() {
        sync::round(app).await;
    }
}

/// Forgets old results once a day.
fn pruning() -> Job {
    let work = jobs::Work::new(|app: Shared| async move {
        match results::prune(&app).await {
            Ok(0) => Done { level: Level::Ok, summary: "nothing was old enough".into() },
            Ok(gone) => Done { level: Level::Ok, summary: format!("{gone} old results forgotten") },
            Err(error) => Done { level: Level::Problem, summary: error.to_string() },
        }
    });
    let schedule = Schedule::every(std::time::Duration::from_secs(86_400));
    Job::new("check-results", "Forgets results of checks after 90 days", Group::Care, schedule, work)
}
