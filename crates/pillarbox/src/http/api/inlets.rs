//! Providers that tell of events: who may, and with what its requests prove themselves.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::settings::{Document, Kind, SecretChange};

use super::senders::text;
use super::settings;
use crate::http::auth::Admin;
use crate::http::json::Json;
use crate::http::problem::{FieldError, Problem};
use crate::http::views::Page;
use crate::http::{Shared, time};
use crate::returned::inlet::InletRecord;

/// A way in as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InletOut {
    /// Name.
    pub name: String,
    /// Settings.
    pub settings: InletRecord,
    /// There is a secret.
    pub has_secret: bool,
    /// Where the provider sends its requests, below the address that leads here.
    pub path: String,
    /// When it was changed last, RFC 3339.
    pub updated: String,
}

fn out(document: &Document) -> Result<InletOut, Problem> {
    let settings: InletRecord = settings::record(document)?;
    Ok(InletOut {
        name: document.name.clone(),
        has_secret: document.secret.is_some(),
        path: format!("/hooks/{}/{}", settings.provider.name(), document.name),
        updated: time::show(document.updated_ms),
        settings,
    })
}

/// Takes the secret out of a body.
fn secret(body: &mut Map<String, Value>) -> Result<SecretChange, Problem> {
    if body.get("secret").is_some_and(Value::is_null) {
        body.remove("secret");
        return Ok(SecretChange::Clear);
    }
    Ok(match text(body, "secret")? {
        Some(secret) if secret.is_empty() => return Err(Problem::field("/secret", "is empty")),
        Some(secret) => SecretChange::Set(secret.into()),
        None => SecretChange::Keep,
    })
}

fn check(record: &InletRecord, had: bool, change: &SecretChange) -> Result<(), Problem> {
    let has = match change {
        SecretChange::Set(_) => true,
        SecretChange::Clear => false,
        SecretChange::Keep => had,
    };
    let problems = record.problems(has);
    if problems.is_empty() {
        return Ok(());
    }
    Err(Problem::fields(problems.into_iter().map(|(field, text)| FieldError::new(field, text)).collect()))
}

/// All of them.
pub async fn list(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<InletOut>>, Problem> {
    let all = app.store.documents(Kind::Inlet).await?;
    Ok(axum::Json(Page { items: all.iter().map(out).collect::<Result<_, _>>()?, next: None }))
}

/// One.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<InletOut>, Problem> {
    out(&settings::find(&app, Kind::Inlet, &name).await?).map(axum::Json)
}

/// Adds one: `name`, the settings, `secret`.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<InletOut>), Problem> {
    let name = text(&mut body, "name")?.ok_or_else(|| Problem::field("/name", "is missing"))?;
    settings::checked_name(&name)?;
    let secret = secret(&mut body)?;
    let record: InletRecord = settings::read(Value::Object(body))?;
    check(&record, false, &secret)?;
    let _one = app.settings.lock().await;
    if settings::exists(&app, Kind::Inlet, &name).await? {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already one named \"{name}\"")));
    }
    settings::add(&app, Kind::Inlet, &name, &record, secret).await?;
    Ok((StatusCode::CREATED, axum::Json(out(&settings::find(&app, Kind::Inlet, &name).await?)?)))
}

/// Changes one by a merge patch (RFC 7396).
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(mut patch): Json<Map<String, Value>>,
) -> Result<axum::Json<InletOut>, Problem> {
    let _one = app.settings.lock().await;
    let before = settings::find(&app, Kind::Inlet, &name).await?;
    let secret = secret(&mut patch)?;
    let mut body = before.body.clone();
    settings::merge(&mut body, Value::Object(patch));
    let record: InletRecord = settings::read(body)?;
    check(&record, before.secret.is_some(), &secret)?;
    settings::write(&app, Kind::Inlet, &name, &record, secret).await?;
    out(&settings::find(&app, Kind::Inlet, &name).await?).map(axum::Json)
}

/// Removes one.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::Inlet, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
