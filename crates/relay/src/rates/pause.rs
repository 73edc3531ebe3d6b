//! Pausing a stream whose mail burns an account, and beginning anew when somebody lets it go on.
//!
//! A stream is paused in its document, as an operator does it: its mail is held with the reason, none is lost.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use store::settings::Kind;
use store::{Store, StoreError};

use crate::stream::{Paused, hold};

/// Streams that are paused, by whomever.
pub(crate) async fn paused(store: &dyn Store) -> Result<HashSet<Arc<str>>, StoreError> {
    let documents = store.documents(Kind::Stream).await?;
    let paused = documents.into_iter().filter(|document| document.body.get("paused").is_some_and(Value::is_object));
    Ok(paused.map(|document| document.name.as_str().into()).collect())
}

/// Pauses a stream; false if it is paused already.
pub(crate) async fn pause(store: &dyn Store, stream: &str, why: &str, now_ms: i64) -> Result<bool, StoreError> {
    let paused = Paused { since_ms: now_ms, why: why.to_owned(), only: false };
    hold::set(store, stream, Some(paused), now_ms).await
}
