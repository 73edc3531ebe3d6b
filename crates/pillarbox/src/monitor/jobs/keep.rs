//! What is known of jobs, kept across restarts: one open record each.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use store::{RecordKind, RecordQuery, RecordWrite, RecordWritten, Store, StoreError};

use super::table::State;
use crate::http::Shared;

/// Records of jobs by name, with their ids.
#[derive(Debug, Default)]
pub(super) struct Records(Mutex<BTreeMap<String, (i64, State)>>);

impl Records {
    /// Reads them all.
    pub(super) async fn read(&self, store: &dyn Store) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let query = RecordQuery { after: Some(after), ..RecordQuery::open(RecordKind::Job) };
            let page = store.records(query).await?;
            let Some(last) = page.last().map(|record| record.id) else { return Ok(()) };
            after = last;
            let mut known = self.0.lock();
            for record in page {
                // One of a later version that says something else begins anew.
                let state = serde_json::from_value(record.body).unwrap_or_default();
                known.insert(record.name, (record.id, state));
            }
        }
    }

    /// Those that are paused, with when and why.
    pub(super) fn paused(&self) -> BTreeMap<String, (i64, String)> {
        let known = self.0.lock();
        known.iter().filter_map(|(name, (_, state))| Some((name.clone(), state.paused.clone()?))).collect()
    }

    /// What is known of one.
    pub(super) fn known(&self, name: &str) -> Option<State> {
        self.0.lock().get(name).map(|(_, state)| state.clone())
    }

    /// Writes it down. A failure costs a run too many after the next start.
    pub(super) async fn keep(&self, app: &Shared, name: &str, state: &State) {
        if let Err(error) = self.try_keep(app, name, state).await {
            tracing::warn!(job = %name, %error, "when a job ran could not be written down");
        }
    }

    /// The same, and says whether it could.
    pub(super) async fn try_keep(&self, app: &Shared, name: &str, state: &State) -> Result<(), StoreError> {
        let kind = RecordKind::Job;
        let body = serde_json::to_value(state).map_err(|error| StoreError::Internal(error.to_string()))?;
        let change = |id| RecordWrite::Change { kind, id, version: None, open: true, body: body.clone() };
        let known = self.0.lock().get(name).map(|(id, _)| *id);
        let write = match known {
            Some(id) => change(id),
            None => RecordWrite::Add {
                kind,
                name: name.to_owned(),
                open: true,
                at_ms: app.clock.now_ms(),
                body: body.clone(),
            },
        };
        let written = app.store.write_records(vec![write]).await?.into_iter().next();
        let id = match (written, known) {
            (Some(RecordWritten::Added(id)), _) => id,
            (Some(RecordWritten::There(id)), _) => {
                app.store.write_records(vec![change(id)]).await?;
                id
            }
            (_, Some(id)) => id,
            _ => return Ok(()),
        };
        self.0.lock().insert(name.to_owned(), (id, state.clone()));
        Ok(())
    }
}
