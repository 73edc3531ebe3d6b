//! API keys of their own: for programs that look at the server or work on it. A new key is in the answer once.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use net::cidr::Cidr;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use store::settings::{Document, Kind, SecretChange};

use super::settings;
use crate::access::key::{self, KeyRecord};
use crate::access::role::{Role, SEND};
use crate::access::table;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::{Names, Page};
use crate::http::{Shared, time};

/// Most requests a minute that a key can be given.
const MOST_PER_MINUTE: u32 = 60_000;

/// A key without what is secret about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiKeyOut {
    /// Name.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// Of that, only this; empty: all.
    pub scopes: Vec<String>,
    /// Its first characters.
    pub prefix: String,
    /// RFC 3339.
    pub created: String,
    /// When it ends, RFC 3339.
    pub expires: Option<String>,
    /// It has ended.
    pub expired: bool,
    /// Most requests a minute.
    pub per_minute: u32,
    /// Addresses it may come from; empty: any.
    pub networks: Vec<String>,
    /// Refused while true.
    pub disabled: bool,
    /// Its last use, to the minute, RFC 3339.
    pub used: Option<String>,
    /// From where that was.
    pub used_from: Option<String>,
    /// The key, when it was made just now; shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

async fn shown(app: &Shared, name: &str, record: &KeyRecord) -> Result<ApiKeyOut, Problem> {
    let used = app.access.last_use(name).await?;
    Ok(ApiKeyOut {
        name: name.to_owned(),
        role: record.role,
        scopes: record.scopes.clone(),
        prefix: record.prefix.clone(),
        created: time::show(record.created_ms),
        expires: record.expires_ms.map(time::show),
        expired: record.expires_ms.is_some_and(|ends| ends <= app.clock.now_ms()),
        per_minute: record.per_minute.unwrap_or(key::PER_MINUTE),
        networks: record.networks.iter().map(ToString::to_string).collect(),
        disabled: record.disabled,
        used: used.as_ref().map(|(at_ms, _)| time::show(*at_ms)),
        used_from: used.map(|(_, from)| from),
        key: None,
    })
}

async fn of(app: &Shared, document: &Document) -> Result<ApiKeyOut, Problem> {
    shown(app, &document.name, &settings::record(document)?).await
}

/// All keys.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(names): Query<Names>,
) -> Result<axum::Json<Page<ApiKeyOut>>, Problem> {
    let mut items = Vec::new();
    for document in app.store.documents(Kind::ApiKey).await? {
        items.push(of(&app, &document).await?);
    }
    Ok(axum::Json(names.page(items, |one| &one.name)))
}

/// One key.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<ApiKeyOut>, Problem> {
    Ok(axum::Json(of(&app, &settings::find(&app, Kind::ApiKey, &name).await?).await?))
}

/// A new key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyIn {
    /// Name.
    name: String,
    /// What it may do at most.
    role: Role,
    /// Of that, only this, such as `queue:read`; empty: all.
    #[serde(default)]
    scopes: Vec<String>,
    /// When it ends, RFC 3339; without it: never.
    #[serde(default)]
    expires: Option<String>,
    /// Most requests a minute.
    #[serde(default)]
    per_minute: Option<u32>,
    /// Addresses and networks it may come from; empty: any.
    #[serde(default)]
    networks: Vec<Cidr>,
}

/// Makes a key.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(body): Json<ApiKeyIn>,
) -> Result<(StatusCode, axum::Json<ApiKeyOut>), Problem> {
    settings::checked_name(&body.name)?;
    check_scopes(&body.scopes)?;
    check_rate(body.per_minute)?;
    let (made, prefix, hash) = key::new();
    let record = KeyRecord {
        role: body.role,
        scopes: body.scopes,
        prefix,
        hash,
        created_ms: app.clock.now_ms(),
        expires_ms: body.expires.as_deref().map(moment).transpose()?,
        per_minute: body.per_minute,
        networks: body.networks,
        disabled: false,
    };
    let _one = app.settings.lock().await;
    if settings::exists(&app, Kind::ApiKey, &body.name).await? {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already an API key \"{}\"", body.name)));
    }
    settings::add(&app, Kind::ApiKey, &body.name, &record, SecretChange::Keep).await?;
    let out = shown(&app, &body.name, &record).await?;
    Ok((StatusCode::CREATED, axum::Json(ApiKeyOut { key: Some(made.expose_secret().to_owned()), ..out })))
}

fn moment(text: &str) -> Result<i64, Problem> {
    time::read(text).ok_or_else(|| Problem::field("/expires", "is not a time such as 2027-01-01T00:00:00Z"))
}

fn check_rate(per_minute: Option<u32>) -> Result<(), Problem> {
    match per_minute {
        Some(rate) if !(1..=MOST_PER_MINUTE).contains(&rate) => {
            Err(Problem::field("/per_minute", format!("is 1 to {MOST_PER_MINUTE}")))
        }
        _ => Ok(()),
    }
}

/// A scope with a slip in it would allow nothing, and nobody would know why.
fn check_scopes(scopes: &[String]) -> Result<(), Problem> {
    let resources = table::resources();
    let known = |scope: &String| {
        scope == SEND
            || scope
                .split_once(':')
                .is_some_and(|(resource, what)| matches!(what, "read" | "write") && resources.contains(&resource))
    };
    match scopes.iter().position(|scope| !known(scope)) {
        Some(n) => {
            let detail = format!("is not {SEND}, or NAME:read or NAME:write with one of {}", resources.join(", "));
            Err(Problem::field(format!("/scopes/{n}"), detail))
        }
        None => Ok(()),
    }
}

/// What of a key can be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyPatch {
    /// What it may do at most.
    #[serde(default)]
    role: Option<Role>,
    /// Of that, only this; empty: all.
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// When it ends, RFC 3339; empty: never.
    #[serde(default, deserialize_with = "crate::http::json::null_is_empty")]
    expires: Option<String>,
    /// Most requests a minute.
    #[serde(default)]
    per_minute: Option<u32>,
    /// Addresses it may come from; empty: any.
    #[serde(default)]
    networks: Option<Vec<Cidr>>,
    /// Refused while true.
    #[serde(default)]
    disabled: Option<bool>,
}

/// Changes what a key may do; the key stays the same.
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(patch): Json<ApiKeyPatch>,
) -> Result<axum::Json<ApiKeyOut>, Problem> {
    check_scopes(patch.scopes.as_deref().unwrap_or_default())?;
    check_rate(patch.per_minute)?;
    let _one = app.settings.lock().await;
    let mut record: KeyRecord = settings::record(&settings::find(&app, Kind::ApiKey, &name).await?)?;
    record.role = patch.role.unwrap_or(record.role);
    record.scopes = patch.scopes.unwrap_or(record.scopes);
    record.networks = patch.networks.unwrap_or(record.networks);
    record.disabled = patch.disabled.unwrap_or(record.disabled);
    record.per_minute = patch.per_minute.or(record.per_minute);
    match patch.expires.as_deref() {
        Some("") => record.expires_ms = None,
        Some(text) => record.expires_ms = Some(moment(text)?),
        None => {}
    }
    settings::write(&app, Kind::ApiKey, &name, &record, SecretChange::Keep).await?;
    Ok(axum::Json(shown(&app, &name, &record).await?))
}

/// Revokes a key.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::ApiKey, &name).await?;
    app.access.drop_kept(&format!("key:{name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}
