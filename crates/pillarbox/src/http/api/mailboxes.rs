//! Mailboxes that are polled for what comes back.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use relay::secrets::Secrets;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::settings::{Document, Kind, SecretChange};

use super::senders::text;
use super::{route_secrets, settings};
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::{FieldError, Problem};
use crate::http::views::{Names, Page};
use crate::http::{Shared, time};
use crate::returned::mailbox::{MailboxRecord, MailboxState, token_name};

/// A mailbox as it is shown. What is secret is only named.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MailboxOut {
    /// Name.
    pub name: String,
    /// Settings.
    pub settings: MailboxRecord,
    /// Which secrets there are.
    pub secrets: Vec<String>,
    /// When it was changed last, RFC 3339.
    pub updated: String,
    /// How it is, while the server runs.
    pub state: Option<MailboxState>,
    /// Last look that went well, RFC 3339.
    pub looked: Option<String>,
}

fn out(app: &Shared, document: &Document) -> Result<MailboxOut, Problem> {
    let state = app.mailboxes.get(&document.name);
    Ok(MailboxOut {
        name: document.name.clone(),
        settings: settings::record(document)?,
        secrets: secrets_of(document)?.names(),
        updated: time::show(document.updated_ms),
        looked: state.as_ref().and_then(|state| state.looked_ms).map(time::show),
        state,
    })
}

fn secrets_of(document: &Document) -> Result<Secrets, Problem> {
    Secrets::read(document.secret.as_ref())
        .map_err(|error| store::StoreError::Internal(format!("mailbox {}: {error}", document.name)).into())
}

fn check(record: &MailboxRecord, secrets: &Secrets) -> Result<(), Problem> {
    let problems = record.problems(secrets);
    if problems.is_empty() {
        return Ok(());
    }
    Err(Problem::fields(problems.into_iter().map(|(field, text)| FieldError::new(field, text)).collect()))
}

fn sealed(secrets: &Secrets) -> SecretChange {
    secrets.store().map_or(SecretChange::Clear, SecretChange::Set)
}

/// All mailboxes.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(names): Query<Names>,
) -> Result<axum::Json<Page<MailboxOut>>, Problem> {
    let all = app.store.documents(Kind::Mailbox).await?;
    let items = all.iter().map(|document| out(&app, document)).collect::<Result<_, _>>()?;
    Ok(axum::Json(names.page(items, |one| &one.name)))
}

/// One mailbox.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<MailboxOut>, Problem> {
    out(&app, &settings::find(&app, Kind::Mailbox, &name).await?).map(axum::Json)
}

/// Adds one: `name`, the settings, and what is secret (see [`super::route_secrets`]).
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<MailboxOut>), Problem> {
    let name = text(&mut body, "name")?.ok_or_else(|| Problem::field("/name", "is missing"))?;
    settings::checked_name(&name)?;
    let mut secrets = Secrets::default();
    route_secrets::take(&mut body, &mut secrets)?;
    let record: MailboxRecord = settings::read(Value::Object(body))?;
    check(&record, &secrets)?;
    let _one = app.settings.lock().await;
    if settings::exists(&app, Kind::Mailbox, &name).await? {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already a mailbox \"{name}\"")));
    }
    settings::add(&app, Kind::Mailbox, &name, &record, sealed(&secrets)).await?;
    app.mailboxes_changed.notify_one();
    let document = settings::find(&app, Kind::Mailbox, &name).await?;
    Ok((StatusCode::CREATED, axum::Json(out(&app, &document)?)))
}

/// Changes one by a merge patch (RFC 7396).
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(mut patch): Json<Map<String, Value>>,
) -> Result<axum::Json<MailboxOut>, Problem> {
    let _one = app.settings.lock().await;
    let before = settings::find(&app, Kind::Mailbox, &name).await?;
    let mut secrets = secrets_of(&before)?;
    let secret = match route_secrets::take(&mut patch, &mut secrets)? {
        true => sealed(&secrets),
        false => SecretChange::Keep,
    };
    let mut body = before.body.clone();
    settings::merge(&mut body, Value::Object(patch));
    let record: MailboxRecord = settings::read(body)?;
    check(&record, &secrets)?;
    settings::write(&app, Kind::Mailbox, &name, &record, secret).await?;
    app.mailboxes_changed.notify_one();
    out(&app, &settings::find(&app, Kind::Mailbox, &name).await?).map(axum::Json)
}

/// Removes one. Its place is kept: added again it goes on there.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::Mailbox, &name).await?;
    app.mailboxes_changed.notify_one();
    match app.store.delete_document(Kind::Token, token_name(&name).to_string()).await {
        Ok(()) | Err(store::StoreError::NotFound) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}
