//! What senders, routes and rules have in common: reading one, merging a patch into it, writing it back.

use axum::http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::settings::{Document, Expected, Kind, SecretChange};

use crate::config::values::is_name;
use crate::http::Shared;
use crate::http::problem::Problem;

/// A document, or 404.
pub async fn find(app: &Shared, kind: Kind, name: &str) -> Result<Document, Problem> {
    let all = app.store.documents(kind).await?;
    all.into_iter().find(|document| document.name == name).ok_or_else(Problem::not_found)
}

/// Whether there is one.
pub async fn exists(app: &Shared, kind: Kind, name: &str) -> Result<bool, Problem> {
    Ok(app.store.documents(kind).await?.iter().any(|document| document.name == name))
}

/// Reads the record of a document.
pub fn record<T: DeserializeOwned>(document: &Document) -> Result<T, Problem> {
    read(document.body.clone())
}

/// Reads a record from JSON; the problem names the field.
pub fn read<T: DeserializeOwned>(body: Value) -> Result<T, Problem> {
    crate::http::json::parse(body.to_string().as_bytes())
}

/// Adds a record of a new name, notes it in the audit log and lets the relay know. 409: another node has just added one.
pub async fn add<T: Serialize>(
    app: &Shared,
    kind: Kind,
    name: &str,
    record: &T,
    secret: SecretChange,
) -> Result<(), Problem> {
    let (body, named) = (body(record)?, name.to_owned());
    let (expected, now_ms) = (Expected::Absent, app.clock.now_ms());
    let added = app.store.put_document_if(kind, named, body.clone(), secret.clone(), expected, now_ms).await?;
    if added.is_none() {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already one named \"{name}\"")));
    }
    app.audit.document(kind, name, None, Some(&body), &secret).await;
    changed(app).await
}

/// Writes a record, notes it in the audit log and lets the relay know.
pub async fn write<T: Serialize>(
    app: &Shared,
    kind: Kind,
    name: &str,
    record: &T,
    secret: SecretChange,
) -> Result<(), Problem> {
    let body = body(record)?;
    let before = body_of(app, kind, name).await?;
    app.store.put_document(kind, name.to_owned(), body.clone(), secret.clone(), app.clock.now_ms()).await?;
    app.audit.document(kind, name, before.as_ref(), Some(&body), &secret).await;
    changed(app).await
}

fn body<T: Serialize>(record: &T) -> Result<Value, Problem> {
    Ok(serde_json::to_value(record).map_err(|error| store::StoreError::Internal(error.to_string()))?)
}

async fn body_of(app: &Shared, kind: Kind, name: &str) -> Result<Option<Value>, Problem> {
    let all = app.store.documents(kind).await?;
    Ok(all.into_iter().find(|document| document.name == name).map(|document| document.body))
}

/// Removes one, notes it and lets the relay know.
pub async fn remove(app: &Shared, kind: Kind, name: &str) -> Result<(), Problem> {
    let before = body_of(app, kind, name).await?;
    app.store.delete_document(kind, name.to_owned()).await?;
    app.audit.document(kind, name, before.as_ref(), None, &SecretChange::Keep).await;
    changed(app).await
}

async fn changed(app: &Shared) -> Result<(), Problem> {
    app.access.forget();
    if let Some(relay) = &app.relay {
        // What this very change made wrong has been refused before; older problems are in the log since the start.
        relay.reload().await?;
        app.monitor.changed.notify_one();
    }
    Ok(())
}

/// A name that the store takes, or 422.
pub fn checked_name(name: &str) -> Result<(), Problem> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Problem::field("/name", "a name has 1 to 64 characters of a-z 0-9 . _ -")),
    }
}

/// RFC 7396: objects are merged, `null` removes, anything else replaces.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            match value {
                Value::Null => {
                    target.remove(&key);
                }
                value => merge(target.entry(key).or_insert(Value::Null), value),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_only_what_it_names() {
        for (before, patch, after) in [
            (json!({"a": 1, "b": 2}), json!({"b": 3}), json!({"a": 1, "b": 3})),
            (json!({"a": 1, "b": 2}), json!({"b": null}), json!({"a": 1})),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": null}}), json!({"a": {"y": 2}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
        ] {
            let mut target = before.clone();
            merge(&mut target, patch);
            assert_eq!(target, after, "{before}");
        }
    }
}
