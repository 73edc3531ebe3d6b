//! Keeps what accounts have used of their limits in the store, so that no restart and no crash forgets it.
//!
//! What may be handed out is written down before it is, in blocks; a crash finds the rest of a block counted as sent.

use std::sync::Arc;
use std::time::Duration;

use store::StoreError;

use crate::schedule::limit::{Ahead, SavedMeter};
use crate::schedule::{Permissions, SavedAccount};
use crate::shared::Shared;

/// How often what was used is written down, if nothing waits for it.
const EVERY: Duration = Duration::from_secs(1);
/// Pause after the store could not do it.
const AGAIN: Duration = Duration::from_millis(250);

/// Takes up what an earlier run wrote down. What cannot be read is said and forgotten.
pub(crate) fn restore(shared: &Shared, rows: Vec<(String, String)>) {
    let saved = rows.into_iter().filter_map(|(name, body)| match serde_json::from_str::<SavedMeter>(&body) {
        Ok(saved) => Some((name, saved)),
        Err(error) => {
            tracing::warn!(account = %name, %error, "what was used of a limit cannot be read");
            None
        }
    });
    let now_ms = shared.now_ms();
    shared.schedule.lock().meters_mut().restore(saved, now_ms);
}

/// Writes down until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        let (rows, permissions) = shared.schedule.lock().meters_mut().save(Ahead::Block, shared.now_ms());
        if !rows.is_empty() {
            match write(&shared, rows).await {
                Ok(()) => go_on(&shared, permissions),
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "what was used of limits cannot be written down: limited mail waits");
                    shared.schedule.lock().meters_mut().not_saved(&permissions);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        tokio::select! {
            () = shared.usage_wake.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

fn go_on(shared: &Arc<Shared>, permissions: Permissions) {
    let (actions, news) = {
        let mut schedule = shared.schedule.lock();
        (schedule.written(permissions, shared.now_ms()), schedule.take_news())
    };
    shared.heed(news);
    shared.perform(actions);
}

/// Writes down exactly what was sent: nothing more is handed out.
pub(crate) async fn close(shared: &Shared) {
    let (rows, _) = shared.schedule.lock().meters_mut().save(Ahead::Nothing, shared.now_ms());
    if rows.is_empty() {
        return;
    }
    if let Err(error) = write(shared, rows).await {
        tracing::warn!(%error, "what was used of limits was not written down: the next start counts a block too many");
    }
}

async fn write(shared: &Shared, rows: Vec<SavedAccount>) -> Result<(), StoreError> {
    let text = |saved: Option<SavedMeter>| saved.map(|saved| serde_json::to_string(&saved)).transpose();
    let rows = rows
        .into_iter()
        .map(|(name, saved)| Ok((name, text(saved)?)))
        .collect::<Result<Vec<_>, serde_json::Error>>()
        .map_err(|error| StoreError::Internal(error.to_string()))?;
    shared.store.save_usage(rows).await.map(drop)
}
