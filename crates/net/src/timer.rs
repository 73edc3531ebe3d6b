//! One lazy timer for the many waits of one connection.
//!
//! A connection waits several times for each message, nearly always briefly. Registering and dropping a runtime
//! timer for each wait would touch the shared timer wheel each time; this keeps one entry, at most
//! [`COARSE`] ahead, and looks at the real deadline only when that entry fires.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock::timer_now;

/// Farthest the runtime's timer is set ahead.
const COARSE: Duration = Duration::from_secs(20);

pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(COARSE)) }
    }

    /// Runs `future` for at most `limit`; `None` when the limit passed first.
    pub(crate) async fn within<F: Future>(&mut self, limit: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut deadline = None;
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            // The clock is read only once the wait is a real one.
            let deadline = *deadline.get_or_insert_with(|| timer_now() + limit);
            if self.sleep.deadline() > deadline {
                self.sleep.as_mut().reset(deadline);
            }
            while self.sleep.as_mut().poll(context).is_ready() {
                let now = timer_now();
                if now >= deadline {
                    return Poll::Ready(None);
                }
                self.sleep.as_mut().reset(deadline.min(now + COARSE));
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_limit_whatever_came_before() {
        let mut timer = Timer::new();
        for seconds in [600, 1, 30, 300, 5] {
            let before = timer_now();
            let limit = Duration::from_secs(seconds);
            assert!(timer.within(limit, std::future::pending::<()>()).await.is_none());
            let took = timer_now() - before;
            assert!(took >= limit && took < limit + Duration::from_millis(50), "{seconds}: {took:?}");
        }
        assert_eq!(timer.within(Duration::ZERO, async { 7 }).await, Some(7));
    }
}
