//! Loops that have to go on: one that ends by a defect of the program is started again. What they know is shared, so the next
//! one goes on where it was. Whoever tells people of defects is not here: a panic hook sees each.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::pulse::Part;
use crate::shared::Shared;

/// Pauses before a loop is started again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Runs a loop of the relay until it stops.
pub(super) fn keep<F>(part: &'static str, shared: &Arc<Shared>, work: impl Fn(Arc<Shared>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (of, stopping) = (shared.clone(), shared.stopping.clone());
    shared.tasks.spawn(again(part, stopping, move || work(of.clone())));
}

/// The same of one that people may begin anew: it ends, and goes on.
pub(super) fn keep_part<F>(part: Part, shared: &Arc<Shared>, work: impl Fn(Arc<Shared>) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (of, stopping) = (shared.clone(), shared.stopping.clone());
    shared.tasks.spawn(async move {
        while !stopping.is_cancelled() {
            again(part.name(), stopping.clone(), || work(of.clone())).await;
        }
    });
}

async fn again<F>(part: &'static str, stopping: CancellationToken, work: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut pause = PAUSES.0;
    loop {
        match tokio::spawn(work()).await {
            Err(error) if error.is_panic() => {
                tracing::error!(part, %error, "a part of the relay ended by a defect of this program and is started again");
            }
            _ => return,
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ends_by_a_defect_goes_on_and_one_that_is_done_does_not() {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        again("test", CancellationToken::new(), move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(run >= 3, "a defect") }
        })
        .await;
        assert_eq!(runs.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_stops_starts_nothing_again() {
        let stopping = CancellationToken::new();
        stopping.cancel();
        again("test", stopping, || async { panic!("a defect") }).await;
    }
}
