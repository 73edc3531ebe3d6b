//! Documents and their sealed secrets.

use rusqlite::{Connection, OptionalExtension, params};

use super::command::{PutRequest, SealedChange};
use super::fault::Fault;
use super::work::Work;
use crate::StoreError;
use crate::secret::Keyring;
use crate::settings::{Document, Expected, Kind, identity, kind_name};

impl Work<'_> {
    fn next_settings_version(&mut self) -> Result<i64, Fault> {
        let version = self.connection.query_row(
            "INSERT INTO meta(name, value) VALUES ('settings', 1)
             ON CONFLICT(name) DO UPDATE SET value = value + 1 RETURNING value",
            [],
            |row| row.get(0),
        )?;
        self.settings_changed(version);
        Ok(version)
    }

    /// Writes a document; its version is the number of the change among all changes.
    pub(super) fn put_document(&mut self, request: &PutRequest) -> Result<i64, Fault> {
        let version = self.next_settings_version()?;
        let (keep, secret) = match &request.secret {
            SealedChange::Keep => (true, None),
            SealedChange::Set(sealed) => (false, Some(sealed.as_slice())),
            SealedChange::Clear => (false, None),
        };
        self.connection
            .prepare_cached(
                "INSERT INTO setting(kind, name, body, secret, version, updated) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT(kind, name) DO UPDATE SET body = ?3, secret = CASE WHEN ?7 THEN secret ELSE ?4 END,
                     version = ?5, updated = ?6",
            )?
            .execute(params![
                kind_name(request.kind),
                request.name,
                request.body,
                secret,
                version,
                request.now_ms,
                keep
            ])?;
        Ok(version)
    }

    /// Writes a document if what is there is as expected.
    pub(super) fn put_document_if(&mut self, request: &PutRequest, expected: Expected) -> Result<Option<i64>, Fault> {
        if self.version_of(request.kind, &request.name)? != expected.version() {
            return Ok(None);
        }
        self.put_document(request).map(Some)
    }

    fn version_of(&self, kind: Kind, name: &str) -> Result<Option<i64>, Fault> {
        let found = self
            .connection
            .prepare_cached("SELECT version FROM setting WHERE kind = ?1 AND name = ?2")?
            .query_row(params![kind_name(kind), name], |row| row.get(0))
            .optional()?;
        Ok(found)
    }

    /// Removes a document.
    pub(super) fn delete_document(&mut self, kind: Kind, name: &str) -> Result<(), Fault> {
        if self.version_of(kind, name)?.is_none() {
            return Err(StoreError::NotFound.into());
        }
        self.connection
            .prepare_cached("DELETE FROM setting WHERE kind = ?1 AND name = ?2")?
            .execute(params![kind_name(kind), name])?;
        self.next_settings_version()?;
        Ok(())
    }
}

/// All documents of a kind, by name, with their secrets opened.
pub(super) fn documents(connection: &Connection, keyring: &Keyring, kind: Kind) -> Result<Vec<Document>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT name, body, secret, version, updated FROM setting WHERE kind = ?1 ORDER BY name")?;
    let mut rows = statement.query([kind_name(kind)])?;
    let mut documents = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let body: String = row.get(1)?;
        let sealed: Option<Vec<u8>> = row.get(2)?;
        let secret = sealed.map(|sealed| keyring.open(&identity(kind, &name), &sealed)).transpose()?;
        let body = serde_json::from_str(&body)
            .map_err(|error| StoreError::Internal(format!("document {name} is not JSON: {error}")))?;
        documents.push(Document { kind, name, body, secret, version: row.get(3)?, updated_ms: row.get(4)? });
    }
    Ok(documents)
}
