//! Documents and their sealed secrets.

use secrecy::ExposeSecret;

use super::PostgresStore;
use super::fault::Fault;
use super::tx::Tx;
use super::unit::clean;
use crate::secret::Keyring;
use crate::settings::{Document, Expected, Kind, SecretChange, check_name, identity, kind_name};
use crate::verbs::Settings;
use crate::{Pending, StoreError};

struct Put {
    kind: Kind,
    name: String,
    body: String,
    /// The sealed secret takes the place of the old one, even if there is none.
    replace: bool,
    secret: Option<Vec<u8>>,
    now_ms: i64,
}

impl PostgresStore {
    fn put_request(
        &self,
        kind: Kind,
        name: String,
        body: &serde_json::Value,
        secret: &SecretChange,
        now_ms: i64,
    ) -> Result<Put, StoreError> {
        check_name(kind, &name)?;
        let (replace, secret) = match secret {
            SecretChange::Keep => (false, None),
            SecretChange::Clear => (true, None),
            SecretChange::Set(secret) => {
                (true, Some(self.shared.keyring.seal(&identity(kind, &name), secret.expose_secret())?))
            }
        };
        Ok(Put { kind, name, body: body.to_string(), replace, secret, now_ms })
    }
}

impl Settings for PostgresStore {
    fn documents(&self, kind: Kind) -> Pending<Vec<Document>> {
        self.read(kind, |tx, kind| async move { documents(&tx, &tx.shared.keyring, *kind).await })
    }

    fn put_document(
        &self,
        kind: Kind,
        name: String,
        body: serde_json::Value,
        secret: SecretChange,
        now_ms: i64,
    ) -> Pending<i64> {
        match self.put_request(kind, name, &body, &secret, now_ms) {
            Ok(request) => self.write(request, |tx, request| async move { put(&tx, &request).await }),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn put_document_if(
        &self,
        kind: Kind,
        name: String,
        body: serde_json::Value,
        secret: SecretChange,
        expected: Expected,
        now_ms: i64,
    ) -> Pending<Option<i64>> {
        match self.put_request(kind, name, &body, &secret, now_ms) {
            Ok(request) => {
                self.write((request, expected), |tx, request| async move { put_if(&tx, &request.0, request.1).await })
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn delete_document(&self, kind: Kind, name: String) -> Pending<()> {
        self.write((kind, clean(&name)), |tx, request| async move { delete(&tx, request.0, &request.1).await })
    }

    fn settings_version(&self) -> Pending<i64> {
        self.read((), |tx, _| async move {
            let row = tx.query_opt("SELECT value FROM meta WHERE name = 'settings'", &[]).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
        })
    }
}

/// The row is held until the commit: versions become visible in their order.
async fn next_version(tx: &Tx) -> Result<i64, Fault> {
    let row = tx
        .query_one(
            "INSERT INTO meta AS m (name, value) VALUES ('settings', 1)
             ON CONFLICT (name) DO UPDATE SET value = m.value + 1 RETURNING value",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Waits for whoever changes settings now: what is found after this stays until the commit.
async fn hold(tx: &Tx) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO meta AS m (name, value) VALUES ('settings', 0) ON CONFLICT (name) DO UPDATE SET value = m.value",
        &[],
    )
    .await?;
    Ok(())
}

async fn put_if(tx: &Tx, request: &Put, expected: Expected) -> Result<Option<i64>, Fault> {
    hold(tx).await?;
    let sql = "SELECT version FROM setting WHERE kind = $1 AND name = $2";
    let found = tx.query_opt(sql, &[&kind_name(request.kind), &request.name]).await?;
    let version: Option<i64> = found.map(|row| row.try_get(0)).transpose()?;
    if version != expected.version() {
        return Ok(None);
    }
    put(tx, request).await.map(Some)
}

async fn put(tx: &Tx, request: &Put) -> Result<i64, Fault> {
    let version = next_version(tx).await?;
    tx.execute(
        "INSERT INTO setting AS s (kind, name, body, secret, version, updated) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (kind, name) DO UPDATE SET body = $3, secret = CASE WHEN $7 THEN $4 ELSE s.secret END,
             version = $5, updated = $6",
        &[
            &kind_name(request.kind),
            &request.name,
            &request.body,
            &request.secret,
            &version,
            &request.now_ms,
            &request.replace,
        ],
    )
    .await?;
    Ok(version)
}

async fn delete(tx: &Tx, kind: Kind, name: &str) -> Result<(), Fault> {
    next_version(tx).await?;
    let removed = tx.execute("DELETE FROM setting WHERE kind = $1 AND name = $2", &[&kind_name(kind), &name]).await?;
    if removed == 0 { Err(StoreError::NotFound.into()) } else { Ok(()) }
}

/// All documents of a kind, by name, with their secrets opened.
async fn documents(tx: &Tx, keyring: &Keyring, kind: Kind) -> Result<Vec<Document>, Fault> {
    let rows = tx
        .query(
            "SELECT name, body, secret, version, updated FROM setting WHERE kind = $1 ORDER BY name",
            &[&kind_name(kind)],
        )
        .await?;
    let mut documents = Vec::with_capacity(rows.len());
    for row in rows {
        let name: String = row.try_get(0)?;
        let sealed: Option<&[u8]> = row.try_get(2)?;
        let secret = sealed.map(|sealed| keyring.open(&identity(kind, &name), sealed)).transpose()?;
        let body = serde_json::from_str(row.try_get(1)?)
            .map_err(|error| StoreError::Internal(format!("document {name} is not JSON: {error}")))?;
        documents.push(Document { kind, name, body, secret, version: row.try_get(3)?, updated_ms: row.try_get(4)? });
    }
    Ok(documents)
}
