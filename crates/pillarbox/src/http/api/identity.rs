//! Identity providers that users may sign in with (OpenID Connect). Secrets go in and never come out.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use store::settings::{Document, Kind, SecretChange};

use super::settings;
use crate::access::oidc::{IdentityRecord, Mapped, check_url};
use crate::access::role::Role;
use crate::http::auth::Admin;
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};

/// A provider without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdentityOut {
    /// Name, also in the address that the provider sends browsers back to.
    pub name: String,
    /// The issuer.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// There is a client secret.
    pub has_secret: bool,
    /// What the button says.
    pub label: Option<String>,
    /// Scopes besides `openid`.
    pub scopes: Vec<String>,
    /// Claim with the groups of a user.
    pub claim: String,
    /// Values of the claim, and the role of those who have one.
    pub roles: Vec<Mapped>,
    /// Role of those who have none of the values; absent: they are not let in.
    pub default_role: Option<Role>,
    /// Verified addresses and domains that are let in; empty: whoever has a role.
    pub allow: Vec<String>,
    /// Nobody signs in with it.
    pub disabled: bool,
    /// What the provider has to know as redirect URI, below our public address.
    pub callback: String,
    /// Last change, RFC 3339.
    pub updated: String,
}

fn shown(app: &Shared, document: &Document) -> Result<IdentityOut, Problem> {
    let record: IdentityRecord = settings::record(document)?;
    let base = app.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
    Ok(IdentityOut {
        name: document.name.clone(),
        issuer: record.issuer,
        client_id: record.client_id,
        has_secret: document.secret.is_some(),
        label: record.label,
        scopes: record.scopes,
        claim: record.claim,
        roles: record.roles,
        default_role: record.default_role,
        allow: record.allow,
        disabled: record.disabled,
        callback: format!("{base}/login/{}/callback", document.name),
        updated: time::show(document.updated_ms),
    })
}

/// All providers.
pub async fn list(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<IdentityOut>>, Problem> {
    let all = app.store.documents(Kind::Identity).await?;
    Ok(axum::Json(Page { items: all.iter().map(|one| shown(&app, one)).collect::<Result<_, _>>()?, next: None }))
}

/// One provider.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<IdentityOut>, Problem> {
    Ok(axum::Json(shown(&app, &settings::find(&app, Kind::Identity, &name).await?)?))
}

/// A provider with its secret.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityIn {
    /// As it is kept.
    settings: IdentityRecord,
    /// The client's secret; without one the secret stays as it is.
    #[serde(default)]
    client_secret: Option<SecretString>,
}

/// Adds or replaces a provider.
pub async fn put(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(body): Json<IdentityIn>,
) -> Result<axum::Json<IdentityOut>, Problem> {
    settings::checked_name(&name)?;
    let record = body.settings;
    check_url(&record.issuer).map_err(|why| Problem::field("/settings/issuer", why))?;
    if record.client_id.is_empty() || record.client_id.len() > 500 {
        return Err(Problem::field("/settings/client_id", "has 1 to 500 characters"));
    }
    if record.roles.is_empty() && record.default_role.is_none() {
        let detail = "nobody could sign in: say which values of the claim mean which role, or give a default role";
        return Err(Problem::field("/settings/roles", detail));
    }
    if record.allow.is_empty() && record.default_role.is_some() {
        let detail = "with a default role everybody at the provider would be let in: say which domains or addresses";
        return Err(Problem::field("/settings/allow", detail));
    }
    let secret = body.client_secret.map_or(SecretChange::Keep, SecretChange::Set);
    let _one = app.settings.lock().await;
    settings::write(&app, Kind::Identity, &name, &record, secret).await?;
    Ok(axum::Json(shown(&app, &settings::find(&app, Kind::Identity, &name).await?)?))
}

/// Removes a provider; its users stay, and cannot sign in.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::Identity, &name).await?;
    let users = app.access.users().await?;
    for user in users.values().filter(|user| user.record.linked.as_ref().is_some_and(|linked| linked.provider == name))
    {
        app.access.sessions.end_all(&user.name, None).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
