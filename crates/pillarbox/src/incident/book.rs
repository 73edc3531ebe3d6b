//! The book of incidents: reading records, and changing one together with its history in one transaction.
//!
//! Whoever changes an incident does it by [`update`], which reads, changes and writes if nobody else did meanwhile. So a person
//! and the manager, or two nodes, never undo each other.

use store::{Record, RecordKind, RecordQuery, RecordWrite, RecordWritten, Store, StoreError};

use super::model::{Body, Happened, State, name};

/// Tries to change a record that others change too.
const TRIES: usize = 8;
/// Most open incidents that are kept up with.
pub const MOST_OPEN: u32 = 500;

/// An incident with its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Number.
    pub id: i64,
    /// What is kept.
    pub body: Body,
}

fn of_record(record: Record) -> Option<Incident> {
    match serde_json::from_value(record.body) {
        Ok(body) => Some(Incident { id: record.id, body }),
        Err(error) => {
            tracing::error!(id = record.id, %error, "an incident cannot be read");
            None
        }
    }
}

/// Incidents that match, newest first.
pub async fn list(store: &dyn Store, query: RecordQuery) -> Result<Vec<Incident>, StoreError> {
    Ok(store.records(query).await?.into_iter().filter_map(of_record).collect())
}

/// All that are open, newest first.
pub async fn open(store: &dyn Store) -> Result<Vec<Incident>, StoreError> {
    list(store, RecordQuery { limit: MOST_OPEN, ..RecordQuery::open(RecordKind::Incident) }).await
}

/// One.
pub async fn find(store: &dyn Store, id: i64) -> Result<Option<Incident>, StoreError> {
    Ok(list(store, RecordQuery::one(RecordKind::Incident, id)).await?.pop())
}

fn event(id: i64, happened: &Happened, now_ms: i64) -> Result<RecordWrite, StoreError> {
    let body = serde_json::to_value(happened).map_err(|error| StoreError::Internal(error.to_string()))?;
    Ok(RecordWrite::Add { kind: RecordKind::IncidentEvent, name: name(id), open: false, at_ms: now_ms, body })
}

fn encode(body: &Body) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(body).map_err(|error| StoreError::Internal(error.to_string()))
}

/// Opens one, unless one of the same scope and reason is open: gives its number, and whether it is new.
pub async fn add(store: &dyn Store, body: &Body, opened: &Happened) -> Result<(i64, bool), StoreError> {
    let write = RecordWrite::Add {
        kind: RecordKind::Incident,
        name: body.key(),
        open: true,
        at_ms: body.opened_ms,
        body: encode(body)?,
    };
    match store.write_records(vec![write]).await?.first() {
        Some(RecordWritten::Added(id)) => {
            note(store, *id, opened, body.opened_ms).await?;
            Ok((*id, true))
        }
        Some(RecordWritten::There(id)) => Ok((*id, false)),
        other => Err(StoreError::Internal(format!("an incident was not added: {other:?}"))),
    }
}

/// Adds to the history.
pub async fn note(store: &dyn Store, id: i64, happened: &Happened, now_ms: i64) -> Result<(), StoreError> {
    store.write_records(vec![event(id, happened, now_ms)?]).await?;
    Ok(())
}

/// Changes one and adds to its history. `change` says what happened, and `None` if nothing is to be changed; it may be called
/// several times. Gives the incident as it is then, or `None` if there is none.
pub async fn update(
    store: &dyn Store,
    id: i64,
    now_ms: i64,
    change: impl Fn(&mut Body) -> Option<Vec<Happened>>,
) -> Result<Option<Body>, StoreError> {
    for _ in 0..TRIES {
        let Some(record) = store.records(RecordQuery::one(RecordKind::Incident, id)).await?.pop() else {
            return Ok(None);
        };
        let version = record.version;
        let Some(Incident { mut body, .. }) = of_record(record) else { return Ok(None) };
        let Some(happened) = change(&mut body) else { return Ok(Some(body)) };
        let mut writes = vec![RecordWrite::Change {
            kind: RecordKind::Incident,
            id,
            version: Some(version),
            open: body.state != State::Closed,
            body: encode(&body)?,
        }];
        let written = store.write_records(std::mem::take(&mut writes)).await?;
        match written.first() {
            Some(RecordWritten::Changed(_)) => {
                for one in &happened {
                    writes.push(event(id, one, now_ms)?);
                }
                store.write_records(writes).await?;
                return Ok(Some(body));
            }
            Some(RecordWritten::Stale) => {}
            Some(RecordWritten::There(other)) => {
                return Err(StoreError::Invalid(format!("{} is open for the same already", name(*other))));
            }
            _ => return Ok(None),
        }
    }
    Err(StoreError::Overloaded)
}
