//! Starts what is due and notes how it ended. A run that takes too long, panics or is stopped harms no other.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::table::{Done, Start};
use crate::http::Shared;
use crate::monitor::check::Level;

/// Longest sleep: a clock that was set is noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Runs jobs until the server stops.
pub async fn run(app: &Shared, closing: &CancellationToken) {
    let tasks = TaskTracker::new();
    app.monitor.jobs.restore(app).await;
    loop {
        tick(app, &tasks);
        let jobs = &app.monitor.jobs;
        let until_ms = jobs.with(|table| table.next_ms()).map(|next_ms| next_ms - app.clock.now_ms());
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
pub(crate) fn tick(app: &Shared, tasks: &TaskTracker) {
    let starts = app.monitor.jobs.table.lock().start(app.clock.now_ms());
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
