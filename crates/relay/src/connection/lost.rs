//! What ends a connection in the middle of something: that nobody vouches for it any more.
//!
//! A node that the database does not hear has to be gone from connections that are counted for all nodes before others open
//! theirs, and from mail before others send it. It cannot wait for the database then.

use std::time::Duration;

use crate::shared::Shared;

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until connections to a destination are not this node's any more, or what was leased before so many lapses is not.
pub(crate) async fn lost(shared: &Shared, destination: &str, lapses: u64) {
    if !shared.together {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let mono_us = shared.net.clock.mono_us();
        if shared.store.lapses() != lapses || shared.schedule.lock().is_void(destination, mono_us) {
            return;
        }
    }
}

/// What comes of something; `None`: it took until the connection was lost.
pub(crate) async fn unless_lost<T>(
    shared: &Shared,
    destination: &str,
    lapses: u64,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = lost(shared, destination, lapses) => None,
    }
}
