//! Paused streams and streams that are off: their queued mail is held, and goes on when they do.
//!
//! The document is written first; what follows from it is done by a task that compares documents with the queue, at the
//! start and after each change. So a crash in between is made good by the next start.

use std::collections::HashSet;
use std::sync::Arc;

use store::settings::{Kind, SecretChange};
use store::{GroupBy, Operation, Selector, State, Store, StoreError};

use super::{OFF, PAUSED, Paused, StreamRecord};
use crate::run;
use crate::shared::Shared;

/// Streams whose held mail is looked at.
const STREAMS: u32 = 1_000;
/// Pause after the store could not do something.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Writes down that a stream is paused, or not any more; gives whether that is news. A stream of which nothing else is said
/// has a document only while it is paused.
pub async fn set(store: &dyn Store, name: &str, paused: Option<Paused>, now_ms: i64) -> Result<bool, StoreError> {
    let documents = store.documents(Kind::Stream).await?;
    let known = documents.into_iter().find(|document| document.name == name).map(|document| document.body);
    let mut record: StreamRecord = match known.clone() {
        Some(body) => serde_json::from_value(body).map_err(|error| StoreError::Invalid(error.to_string()))?,
        None => StreamRecord::default(),
    };
    if record.paused.is_some() == paused.is_some() {
        return Ok(false);
    }
    record.paused = paused;
    if record == StreamRecord::default() {
        store.delete_document(Kind::Stream, name.to_owned()).await?;
        return Ok(true);
    }
    let body = serde_json::to_value(&record).map_err(|error| StoreError::Internal(error.to_string()))?;
    store.put_document(Kind::Stream, name.to_owned(), body, SecretChange::Keep, now_ms).await?;
    Ok(true)
}

/// Keeps the queue as the documents say until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    // What an earlier run held is known by its reason.
    let mut stopped: Option<HashSet<Arc<str>>> = None;
    while !shared.is_stopping() {
        let wanted = wanted(&shared);
        let result = follow(&shared, &wanted, stopped.as_ref()).await;
        match result {
            Ok(()) => stopped = Some(wanted.into_iter().map(|(name, _)| name).collect()),
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "mail of paused streams is not held or released yet");
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => continue,
                    () = shared.stopping.cancelled() => return,
                }
            }
        }
        tokio::select! {
            () = shared.stream_wake.notified() => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}

/// Streams whose mail does not go on, and why.
fn wanted(shared: &Shared) -> Vec<(Arc<str>, String)> {
    let directory = shared.directory();
    let stops = directory.streams().filter_map(|stream| Some((stream.name.clone(), stream.record.stops()?)));
    stops.collect()
}

async fn follow(
    shared: &Arc<Shared>,
    wanted: &[(Arc<str>, String)],
    before: Option<&HashSet<Arc<str>>>,
) -> Result<(), StoreError> {
    for (name, why) in wanted {
        if before.is_some_and(|before| before.contains(name)) {
            continue;
        }
        tracing::warn!(stream = %name, %why, "mail of this stream is held");
        let selector = Selector { stream: Some(name.to_string()), ..Selector::default() };
        run::operate(shared.clone(), selector, Operation::Hold(why.clone()), String::new()).await?;
    }
    let goes = |name: &str| !wanted.iter().any(|(stopped, _)| **stopped == *name);
    let candidates: Vec<String> = match before {
        Some(before) => before.iter().map(ToString::to_string).collect(),
        None => {
            let counts = shared.store.counts(GroupBy::Stream, STREAMS).await?;
            counts.into_iter().filter(|count| count.held > 0).map(|count| count.group).collect()
        }
    };
    for name in candidates.into_iter().filter(|name| goes(name)) {
        for why in [PAUSED, OFF] {
            let selector = Selector {
                stream: Some(name.clone()),
                state: Some(State::Held),
                why: Some(why.to_owned()),
                ..Selector::default()
            };
            let who = format!("stream {name} goes on");
            let released = run::operate(shared.clone(), selector, Operation::Release, who).await?;
            if released > 0 {
                tracing::info!(stream = %name, released, "mail of this stream goes on");
            }
        }
        // A hold that was noted on mail in somebody's hands is taken back with it.
        let selector = Selector { stream: Some(name.clone()), state: Some(State::Leased), ..Selector::default() };
        shared.store.operate(selector, Operation::Release, String::new(), shared.now_ms()).await?;
    }
    Ok(())
}
