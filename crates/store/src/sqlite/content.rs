//! Reading a content back, checked against its hash.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::command::{Command, Job};
use super::fault::Fault;
use super::segment::{self, Place};
use super::shared::Shared;
use crate::StoreError;
use crate::model::*;

/// Why a message is quarantined, as people see it.
pub(super) const MISMATCH: &str = "content does not match its hash";
const MISSING: &str = "content is missing from the disk";

/// Where a content should be and what it should be.
pub(super) struct Stored {
    pub(super) place: Place,
    pub(super) size: usize,
    pub(super) hash: [u8; 32],
}

/// Finds a content; `None` if it was dropped.
pub(super) fn find(connection: &Connection, id: MessageId) -> Result<Option<Stored>, Fault> {
    let found = connection
        .prepare_cached("SELECT segment, place, size, hash FROM message WHERE id = ?1")?
        .query_row([id.0], |row| {
            let segment: Option<i64> = row.get(0)?;
            let (offset, size): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok((segment, offset as u64, size as usize, row.get(3)?))
        })
        .optional()?;
    Ok(found.and_then(|(segment, offset, size, hash)| {
        Some(Stored { place: Place { segment: segment?, offset }, size, hash })
    }))
}

/// Why a content could not be read.
pub(super) enum Unreadable {
    /// It was dropped, or there is no such message.
    Gone,
    /// It is not what was stored.
    Damaged(&'static str),
    /// Not now.
    Error(StoreError),
}

/// Reads and checks a content.
pub(super) fn read(connection: &Connection, shared: &Shared, id: MessageId) -> Result<Vec<u8>, Unreadable> {
    let mut last: Option<Place> = None;
    loop {
        let found = find(connection, id).map_err(|fault| Unreadable::Error(fault.into()))?;
        let Some(stored) = found else { return Err(Unreadable::Gone) };
        match segment::read(&shared.segments(), stored.place, stored.size) {
            Ok(content) if blake3::hash(&content) == stored.hash => return Ok(content),
            Ok(_) => return Err(Unreadable::Damaged(MISMATCH)),
            Err(error) => match error.kind() {
                // Moved between our look at the row and at the file: look again; the same place twice is a loss.
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                    if last == Some(stored.place) {
                        return Err(Unreadable::Damaged(MISSING));
                    }
                    last = Some(stored.place);
                }
                _ => return Err(Unreadable::Error(StoreError::Unhealthy(error.to_string()))),
            },
        }
    }
}

/// Reads a content; a damaged one is set aside before anybody hears of it.
pub(super) fn content(connection: &Connection, shared: &Arc<Shared>, id: MessageId) -> Result<Bytes, StoreError> {
    match read(connection, shared, id) {
        Ok(content) => Ok(content.into()),
        Err(Unreadable::Gone) => Err(StoreError::NotFound),
        Err(Unreadable::Error(error)) => Err(error),
        Err(Unreadable::Damaged(why)) => {
            tracing::error!(message_id = %id, why, "a stored message is damaged and was set aside");
            // The verb carries no time: the event gets the time of the message's latest event.
            let at_ms = connection
                .query_row(
                    "SELECT at FROM event WHERE seq = (SELECT last_event FROM message WHERE id = ?1)",
                    [id.0],
                    |row| row.get(0),
                )
                .optional()
                .map_err(|error| StoreError::from(Fault::from(error)))?
                .unwrap_or(0);
            let (job, pending) = Job::new((id, at_ms, why.to_owned()));
            shared.queue.push(Command::Quarantine(job));
            pending.wait()?;
            Err(StoreError::Damaged(why.to_owned()))
        }
    }
}
