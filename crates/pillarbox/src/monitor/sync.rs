//! Keeps one job for each subject of each kind of check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::check::{CheckKind, Subject, name_of};
use super::jobs::{Done, First, Group, Job, Work};
use crate::http::Shared;

/// How often subjects are looked at without a change of settings.
const ROUND: Duration = Duration::from_secs(60);

/// Follows until the server stops.
pub(super) async fn run(app: &Shared, closing: &CancellationToken) {
    let mut known: BTreeMap<String, i64> = BTreeMap::new();
    loop {
        tokio::select! {
            () = round(app, &mut known) => {}
            () = closing.cancelled() => return,
        }
        tokio::select! {
            () = app.monitor.changed.notified() => {}
            () = tokio::time::sleep(ROUND) => {}
            () = closing.cancelled() => return,
        }
    }
}

async fn round(app: &Shared, known: &mut BTreeMap<String, i64>) {
    let mut now: BTreeMap<String, i64> = BTreeMap::new();
    for kind in app.monitor.kinds() {
        for subject in kind.subjects(app).await {
            let name = name_of(kind.id(), &subject.id);
            let before = known.get(&name).copied();
            now.insert(name.clone(), subject.version);
            if before == Some(subject.version) {
                continue;
            }
            app.monitor.jobs.register(job(&name, &kind, subject), app.clock.now_ms());
            // Settings were changed: whether they work is looked at now. One that runs already looks at them anew.
            if before.is_some() {
                let _ = app.monitor.jobs.restart(&name);
            }
        }
    }
    for gone in known.keys().filter(|name| !now.contains_key(*name)) {
        app.monitor.jobs.remove(gone);
    }
    *known = now;
}

fn job(name: &str, kind: &Arc<dyn CheckKind>, subject: Subject) -> Job {
    let title = format!("{}: {}", kind.title(), subject.title);
    let of = kind.clone();
    let work = Work::new(move |app: Shared| {
        let (kind, subject) = (of.clone(), subject.clone());
        async move {
            let found = kind.run(&app, &subject).await;
            Done { level: found.level, summary: found.summary }
        }
    });
    Job { first: First::Soon, timeout: kind.timeout(), ..Job::new(name, title, Group::Check, kind.schedule(), work) }
}
