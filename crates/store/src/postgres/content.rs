//! Reading a content back, checked against its hash.

use std::sync::Arc;

use bytes::Bytes;

use super::fault::Fault;
use super::operate;
use super::shared::Shared;
use super::tx::{self, Mode, Tx};
use crate::StoreError;
use crate::model::*;

const MISMATCH: &str = "content does not match its hash";
const MISSING: &str = "content is missing from the store";

/// What reading found.
pub(super) enum Found {
    Content(Bytes),
    /// It was dropped, or there is no such message.
    Gone,
    /// It is not what was stored.
    Damaged(&'static str),
}

/// Reads and checks a content.
pub(super) async fn read(tx: &Tx, id: MessageId) -> Result<Found, Fault> {
    let rows = tx
        .query(
            "SELECT m.hash, c.data FROM message m LEFT JOIN content c ON c.message = m.id
             WHERE m.id = $1 AND m.stored ORDER BY c.part",
            &[&id.0],
        )
        .await?;
    let Some(first) = rows.first() else { return Ok(Found::Gone) };
    let hash: &[u8] = first.try_get(0)?;
    let mut content = Vec::new();
    for row in &rows {
        match row.try_get::<_, Option<&[u8]>>(1)? {
            Some(part) => content.extend_from_slice(part),
            None => return Ok(Found::Damaged(MISSING)),
        }
    }
    let whole = *blake3::hash(&content).as_bytes() == *hash;
    Ok(if whole { Found::Content(content.into()) } else { Found::Damaged(MISMATCH) })
}

/// Reads a content; a damaged one is set aside before anybody hears of it.
pub(super) async fn content(shared: &Arc<Shared>, id: MessageId) -> Result<Bytes, Fault> {
    match tx::run(shared, Mode::Snapshot, Arc::new(id), |tx, id| async move { read(&tx, *id).await }).await? {
        Found::Content(content) => Ok(content),
        Found::Gone => Err(StoreError::NotFound.into()),
        Found::Damaged(why) => {
            tracing::error!(message_id = %id, why, "a stored message is damaged and was set aside");
            let verb = |tx: Arc<Tx>, r: Arc<(MessageId, &'static str)>| async move {
                // The verb carries no time: the event gets the time of the message's latest event.
                let row = tx.query_one("SELECT coalesce(max(at), 0) FROM event WHERE message = $1", &[&r.0.0]).await?;
                operate::quarantine(&tx, r.0, row.try_get(0)?, r.1).await
            };
            tx::run(shared, Mode::Write, Arc::new((id, why)), verb).await?;
            Err(StoreError::Damaged(why.to_owned()).into())
        }
    }
}
