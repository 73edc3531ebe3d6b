//! Keeps what accounts have used of their limits in the store, so that no restart and no crash forgets it.
//!
//! What may be handed out is written down before it is, in blocks; a crash finds the rest of a block counted as sent. Where
//! other nodes count for the same limits the store grants those blocks, and knows what all used.

use std::sync::Arc;
use std::time::Duration;

use store::{MOST_SHARES, StoreError};

use crate::schedule::limit::{Ahead, SavedMeter};
use crate::schedule::{Answers, Permissions, SavedAccount};
use crate::shared::Shared;

/// How often what was used is written down, if nothing waits for it.
const EVERY: Duration = Duration::from_secs(1);
/// Pause after the store could not do it.
const AGAIN: Duration = Duration::from_millis(250);

/// Takes up what an earlier run wrote down, and gives the names. What cannot be read is said and forgotten.
pub(crate) fn restore(shared: &Shared, rows: Vec<(String, String)>) -> Vec<String> {
    let names = rows.iter().map(|(name, _)| name.clone()).collect();
    let saved = rows.into_iter().filter_map(|(name, body)| match serde_json::from_str::<SavedMeter>(&body) {
        Ok(saved) => Some((name, saved)),
        Err(error) => {
            tracing::warn!(account = %name, %error, "what was used of a limit cannot be read");
            None
        }
    });
    let now_ms = shared.now_ms();
    shared.schedule.lock().meters_mut().restore(saved, now_ms);
    names
}

/// How often it is looked at whether what the store granted is still valid. Who takes something looks too.
const LOOK: Duration = Duration::from_millis(250);

/// Ends what is not valid any more, even if nobody takes anything.
pub(crate) async fn watch(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        shared.tell(|schedule| schedule.look(shared.net.clock.mono_us()));
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Keeps limits together with other nodes until the relay stops.
async fn keep_together(shared: Arc<Shared>, mut restored: Vec<String>) {
    while !shared.is_stopping() {
        match share(&shared, Ahead::Block).await {
            Ok(()) if restored.is_empty() => {}
            Ok(()) => {
                // It is in what the nodes share now.
                let rows = std::mem::take(&mut restored).into_iter().map(|name| (name, None)).collect();
                if let Err(error) = shared.store.save_usage(rows).await {
                    tracing::warn!(%error, "what was used before is told twice");
                }
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "the store grants nothing of limits: limited mail waits");
                tokio::time::sleep(AGAIN).await;
            }
        }
        tokio::select! {
            () = shared.usage_wake.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Tells the store what was used, and takes what it grants.
async fn share(shared: &Arc<Shared>, ahead: Ahead) -> Result<(), StoreError> {
    let mut questions = shared.schedule.lock().ask(ahead, shared.now_ms());
    let mut done = Ok(());
    while !questions.list.is_empty() {
        let some = questions.list.len().min(MOST_SHARES);
        let (list, by) = (questions.list.drain(..some).collect(), questions.by.drain(..some).collect::<Vec<_>>());
        let asked_us = shared.net.clock.mono_us();
        let asked = if done.is_ok() { shared.store.share(shared.run, list) } else { None };
        let answer = match asked {
            Some(pending) => pending.await,
            None => Err(StoreError::Internal("not asked".into())),
        };
        match answer {
            Ok(shares) => {
                let answers = Answers { by, shares, asked_us };
                let clock = &shared.net.clock;
                shared.tell(|schedule| schedule.answered(&answers, clock.now_ms(), clock.mono_us()));
            }
            Err(error) => {
                shared.schedule.lock().unanswered(&by);
                done = done.and(Err(error));
            }
        }
    }
    done
}

/// Writes down until the relay stops. `restored`: what an earlier run wrote down.
pub(crate) async fn run(shared: Arc<Shared>, restored: Vec<String>) {
    if shared.together {
        return keep_together(shared, restored).await;
    }
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
    shared.tell(|schedule| schedule.written(permissions, shared.now_ms()));
}

/// Writes down exactly what was sent: nothing more is handed out.
pub(crate) async fn close(shared: &Arc<Shared>) {
    if shared.together {
        if let Err(error) = share(shared, Ahead::Nothing).await {
            tracing::warn!(%error, "what is left of limits was not given back: others have it when this run's lease ends");
        }
        return;
    }
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
