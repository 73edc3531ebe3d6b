//! Keeps one job for each subject of each kind of check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::check::{CheckKind, Subject, name_of};
use super::jobs::{First, Group, Job, Work};
use super::results::{self, Whose};
use crate::cluster;
use crate::http::Shared;

/// How often subjects are looked at without a change of settings.
const ROUND: Duration = Duration::from_secs(60);

/// Follows until the server stops.
pub(super) async fn run(app: &Shared, closing: &CancellationToken) {
    // Settings that were changed on another node.
    let mut renewed = app.relay.as_ref().map(|relay| relay.renewals());
    loop {
        tokio::select! {
            () = round(app) => {}
            () = closing.cancelled() => return,
        }
        tokio::select! {
            () = app.monitor.changed.notified() => {}
            () = renewal(&mut renewed) => {}
            () = tokio::time::sleep(ROUND) => {}
            () = closing.cancelled() => return,
        }
    }
}

async fn renewal(renewed: &mut Option<watch::Receiver<u64>>) {
    let has_come = match renewed {
        Some(renewed) => renewed.changed().await.is_ok(),
        None => false,
    };
    if !has_come {
        std::future::pending::<()>().await;
    }
}

/// One job for each subject there is now.
pub(super) async fn round(app: &Shared) {
    let mut known = app.monitor.subjects.lock().await;
    let mut now: BTreeMap<String, i64> = BTreeMap::new();
    for kind in app.monitor.kinds() {
        for subject in kind.subjects(app).await {
            let name = name_of(kind.id(), &subject.id);
            let before = known.get(&name).copied();
            now.insert(name.clone(), subject.version);
            if before == Some(subject.version) {
                continue;
            }
            if before.is_none()
                && let Err(error) = app.monitor.results.open(app, &name).await
            {
                tracing::error!(check = %name, %error, "earlier results of a check could not be read");
            }
            app.monitor.jobs.register(job(&name, &kind, subject), app.clock.now_ms());
            // Settings were changed: whether they work is looked at now. One that runs already looks at them anew.
            if before.is_some() && cluster::leads(app) {
                let _ = app.monitor.jobs.restart(app, &name);
            }
        }
    }
    for gone in known.keys().filter(|name| !now.contains_key(*name)) {
        app.monitor.jobs.remove(gone);
        app.monitor.results.close(app, gone).await;
    }
    *known = now;
    drop(known);
    if !cluster::leads(app) {
        reopen(app).await;
    }
}

/// Reads what checks on other nodes have found: it is shown here, and gone on from when this node leads.
pub(super) async fn reopen(app: &Shared) {
    let names: Vec<String> = app.monitor.subjects.lock().await.keys().cloned().collect();
    for name in names {
        if let Err(error) = app.monitor.results.open(app, &name).await {
            tracing::debug!(check = %name, %error, "results of a check could not be read");
        }
    }
}

fn job(name: &str, kind: &Arc<dyn CheckKind>, subject: Subject) -> Job {
    let title = format!("{}: {}", kind.title(), subject.title);
    let whose = Whose {
        name: name.to_owned(),
        title: title.clone(),
        rule: kind.rule(),
        alerting: kind.alerting_of(&subject),
        confirm: kind.confirm_of(&subject),
    };
    let (of, schedule, timeout) = (kind.clone(), kind.schedule_of(&subject), kind.timeout_of(&subject));
    let first = if kind.waits() { First::AsScheduled } else { First::Soon };
    let work = Work::new(move |app: Shared| {
        let (kind, subject, whose) = (of.clone(), subject.clone(), whose.clone());
        async move {
            let began_ms = app.clock.now_ms();
            let found = kind.run(&app, &subject).await;
            results::take(&app, &whose, found, began_ms).await
        }
    });
    Job { first, timeout, ..Job::new(name, title, Group::Check, schedule, work) }
}
