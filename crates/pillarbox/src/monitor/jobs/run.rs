//! Starts what is due and notes how it ended. A run that takes too long, panics or is stopped harms no other.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::table::{Done, Start, Which};
use crate::cluster;
use crate::http::Shared;
use crate::monitor::check::Level;
use crate::monitor::sync;

/// Longest sleep: a clock that was set is noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Runs jobs until the server stops.
pub async fn run(app: &Shared, closing: &CancellationToken) {
    let tasks = TaskTracker::new();
    app.monitor.jobs.restore(app).await;
    let company = app.relay.as_ref().is_some_and(|relay| relay.has_company());
    let mut led = cluster::leads(app);
    let mut looked_us = app.clock.mono_us();
    loop {
        let leads = cluster::leads(app);
        if led && !leads {
            app.monitor.jobs.table.lock().stop();
        }
        let stale = app.clock.mono_us() - looked_us >= LONGEST_SLEEP.as_micros() as u64;
        // Whoever takes over knows first what was done before.
        if company && (stale || leads != led) {
            looked_us = app.clock.mono_us();
            let known = app.monitor.jobs.adopt(app).await;
            if leads && !led && known {
                sync::reopen(app).await;
            }
            led = leads && (led || known);
        }
        tick(app, &tasks, if led && leads { Which::Due } else { Which::Asked });
        let jobs = &app.monitor.jobs;
        let until_ms = jobs.with(|table| table.next_ms()).filter(|_| led).map(|next_ms| next_ms - app.clock.now_ms());
        let until = until_ms.map_or(LONGEST_SLEEP, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        tokio::select! {
            // What is due and finds no room waits for a run to end, which wakes us.
            () = tokio::time::sleep(until.clamp(Duration::from_millis(200), LONGEST_SLEEP)) => {}
            () = jobs.wake.notified() => {}
            () = closing.cancelled() => break,
        }
    }
    app.monitor.jobs.table.lock().stop();
    tasks.close();
    tasks.wait().await;
}

/// Starts what is due now.
pub(crate) fn tick(app: &Shared, tasks: &TaskTracker, which: Which) {
    let starts = app.monitor.jobs.table.lock().start_some(app.clock.now_ms(), which);
    for start in starts {
        tasks.spawn(one(app.clone(), start));
    }
}

async fn one(app: Shared, start: Start) {
    let Start { name, timeout, work, stop, number } = start;
    let mut task = tokio::spawn(tokio::time::timeout(timeout, (work.0)(app.clone())));
    let ended = tokio::select! {
        ended = &mut task => ended,
        () = stop.cancelled() => {
            task.abort();
            task.await
        }
    };
    let done = match ended {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Done {
            level: Level::Problem,
            summary: format!("it took longer than {} seconds and was stopped", timeout.as_secs()),
        },
        Err(error) if error.is_panic() => {
            tracing::error!(job = %name, %error, "a job ended by a defect of this program");
            Done { level: Level::Problem, summary: "it ended by a defect of this program: see the log".into() }
        }
        Err(_) => Done { level: Level::Skipped, summary: "it was stopped".into() },
    };
    let jobs = &app.monitor.jobs;
    let state = jobs.table.lock().finished(&name, number, &done, app.clock.now_ms());
    if let Some(state) = state {
        tracing::debug!(job = %name, level = done.level.word(), "{}", done.summary);
        jobs.records.keep(&app, &name, &state).await;
    }
    jobs.ended.send_modify(|ended| *ended += 1);
    jobs.wake.notify_one();
}
