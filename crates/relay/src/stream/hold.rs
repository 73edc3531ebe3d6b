//! Paused streams and senders, and streams that are off: their queued mail is held, and goes on when they do.
//!
//! The document is written first; what follows from it is done by a task that compares documents with the queue, at the
//! start and after each change. So a crash in between is made good by the next start.

use std::collections::HashSet;
use std::sync::Arc;

use store::settings::{Expected, Kind, SecretChange};
use store::{GroupBy, Operation, Selector, State, Store, StoreError};

use super::{OFF, PAUSED, Paused, StreamRecord};
use crate::run;
use crate::sender::SENDER_PAUSED;
use crate::shared::Shared;

/// Streams, and senders, whose held mail is looked at.
const LOOKED_AT: u32 = 1_000;

/// Whose mail it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Stream(Arc<str>),
    Sender(Arc<str>),
}

impl Whose {
    fn selector(&self) -> Selector {
        match self {
            Self::Stream(name) => Selector { stream: Some(name.to_string()), ..Selector::default() },
            Self::Sender(name) => Selector { sender: Some(name.to_string()), ..Selector::default() },
        }
    }

    /// How the reasons begin that mail is held for.
    fn reasons(&self) -> &'static [&'static str] {
        match self {
            Self::Stream(_) => &[PAUSED, OFF],
            Self::Sender(_) => &[SENDER_PAUSED],
        }
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Sender(name) => write!(f, "sender {name}"),
        }
    }
}
/// Pause after the store could not do something.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Writes down that a stream is paused, or not any more; gives whether that is news. A stream that nobody set up has a
/// document only while it is paused.
pub async fn set(store: &dyn Store, name: &str, paused: Option<Paused>, now_ms: i64) -> Result<bool, StoreError> {
    loop {
        let documents = store.documents(Kind::Stream).await?;
        let known = documents.into_iter().find(|document| document.name == name);
        let expected = Expected::of(known.as_ref());
        let only = known.is_none();
        let mut record: StreamRecord = match known {
            Some(document) => {
                serde_json::from_value(document.body).map_err(|error| StoreError::Invalid(error.to_string()))?
            }
            None => StreamRecord::default(),
        };
        if record.paused.is_some() == paused.is_some() {
            return Ok(false);
        }
        let was_only = record.paused.as_ref().is_some_and(|paused| paused.only);
        record.paused = paused.clone().map(|paused| Paused { only, ..paused });
        if was_only && record == StreamRecord::default() {
            store.delete_document(Kind::Stream, name.to_owned()).await?;
            return Ok(true);
        }
        let body = serde_json::to_value(&record).map_err(|error| StoreError::Internal(error.to_string()))?;
        let written =
            store.put_document_if(Kind::Stream, name.to_owned(), body, SecretChange::Keep, expected, now_ms).await?;
        // Else somebody changed the stream since it was read, perhaps on another node: that change stays.
        if written.is_some() {
            return Ok(true);
        }
    }
}

/// Keeps the queue as the documents say until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    // What an earlier run held is known by its reason.
    let mut stopped: Option<HashSet<Whose>> = None;
    while !shared.is_stopping() {
        let wanted = wanted(&shared);
        let result = follow(&shared, &wanted, stopped.as_ref()).await;
        match result {
            Ok(()) => stopped = Some(wanted.into_iter().map(|(whose, _)| whose).collect()),
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "mail of paused streams and senders is not held or released yet");
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

/// Whose mail does not go on, and why.
fn wanted(shared: &Shared) -> Vec<(Whose, String)> {
    let directory = shared.directory();
    let streams = directory.streams();
    let streams = streams.filter_map(|stream| Some((Whose::Stream(stream.name.clone()), stream.record.stops()?)));
    let senders = directory.senders();
    let senders = senders.filter_map(|sender| Some((Whose::Sender(sender.name.clone()), sender.record.hold()?)));
    streams.chain(senders).collect()
}

/// Whose mail is held now.
async fn held(shared: &Shared) -> Result<Vec<Whose>, StoreError> {
    let mut all = Vec::new();
    for (by, whose) in [(GroupBy::Stream, Whose::Stream as fn(_) -> _), (GroupBy::Sender, Whose::Sender)] {
        let counts = shared.store.counts(by, LOOKED_AT).await?;
        all.extend(counts.into_iter().filter(|count| count.held > 0).map(|count| whose(count.group.into())));
    }
    Ok(all)
}

async fn follow(
    shared: &Arc<Shared>,
    wanted: &[(Whose, String)],
    before: Option<&HashSet<Whose>>,
) -> Result<(), StoreError> {
    for (whose, why) in wanted {
        if before.is_some_and(|before| before.contains(whose)) {
            continue;
        }
        tracing::warn!(%whose, %why, "mail is held");
        run::operate(shared.clone(), whose.selector(), Operation::Hold(why.clone()), String::new()).await?;
    }
    let candidates: Vec<Whose> = match before {
        Some(before) => before.iter().cloned().collect(),
        None => held(shared).await?,
    };
    for whose in candidates.into_iter().filter(|whose| !wanted.iter().any(|(stopped, _)| stopped == whose)) {
        for why in whose.reasons() {
            let selector = Selector { state: Some(State::Held), why: Some((*why).to_owned()), ..whose.selector() };
            let released =
                run::operate(shared.clone(), selector, Operation::Release, format!("{whose} goes on")).await?;
            if released > 0 {
                tracing::info!(%whose, released, "mail goes on");
            }
        }
        // A hold that was noted on mail in somebody's hands is taken back with it.
        let selector = Selector { state: Some(State::Leased), ..whose.selector() };
        shared.store.operate(selector, Operation::Release, String::new(), shared.now_ms()).await?;
    }
    Ok(())
}
