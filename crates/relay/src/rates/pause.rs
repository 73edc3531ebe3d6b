//! Pausing a stream whose mail burns an account, and beginning anew when somebody lets it go on.
//!
//! A stream is paused in its document, as an operator does it: its mail is held with the reason, none is lost.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use store::settings::{Kind, SecretChange};
use store::{Store, StoreError};

/// Streams that are paused, by whomever.
pub(crate) async fn paused(store: &dyn Store) -> Result<HashSet<Arc<str>>, StoreError> {
    let documents = store.documents(Kind::Stream).await?;
    let paused = documents.into_iter().filter(|document| document.body.get("paused").is_some_and(Value::is_object));
    Ok(paused.map(|document| document.name.as_str().into()).collect())
}

/// Pauses a stream; false if it is paused already.
pub(crate) async fn pause(store: &dyn Store, stream: &str, why: &str, now_ms: i64) -> Result<bool, StoreError> {
    let documents = store.documents(Kind::Stream).await?;
    let known = documents.into_iter().find(|document| document.name == stream);
    let mut body = known.map_or_else(|| json!({}), |document| document.body);
    if body.get("paused").is_some_and(Value::is_object) {
        return Ok(false);
    }
    let Some(fields) = body.as_object_mut() else {
        return Err(StoreError::Invalid(format!("the document of stream {stream} is no object")));
    };
    fields.insert("paused".into(), json!({ "since_ms": now_ms, "why": why }));
    store.put_document(Kind::Stream, stream.to_owned(), body, SecretChange::Keep, now_ms).await?;
    Ok(true)
}
