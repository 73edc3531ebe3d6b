//! A route's credential: signing in by device code, and replacing one without a gap.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use proto::transcript::{Failure, Stage};
use relay::oauth::{Grant, OauthRecord};
use relay::route::{Route, RouteRecord};
use relay::secrets::{Previous, Secrets};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::settings::{Document, Kind, SecretChange};

use super::routes::{RouteOut, check, out, read_secrets};
use super::{route_secrets, settings};
use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::words;
use crate::oauth::device::Progress;

/// What a person has to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginOut {
    /// Names the sign-in.
    pub id: String,
    /// To be typed at the address.
    pub user_code: String,
    /// Address to open in any browser.
    pub verification_uri: String,
    /// Seconds it holds.
    pub expires_in_s: i64,
    /// Seconds between questions.
    pub interval_s: i64,
}

/// How far a sign-in has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProgressOut {
    /// `pending` or `done`.
    pub state: String,
    /// Seconds until the next question makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<i64>,
}

/// 422 with what failed and what it means.
pub fn failed(app: &Shared, stage: Stage, failure: &Failure) -> Problem {
    let rules = app.rules();
    let finding = rules.judge(&explain::Query::failure(stage, failure));
    let mut detail = words::failure(failure);
    if let Some(told) = finding.and_then(|finding| rules.explain(&finding)) {
        detail = format!("{detail}\n{}: {}", told.title, told.meaning);
        if let Some(fix) = told.fixes.first() {
            detail = format!("{detail}\n{}", fix.text);
        }
    }
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

fn oauth_of(document: &Document) -> Result<(RouteRecord, OauthRecord), Problem> {
    let record: RouteRecord = settings::record(document)?;
    match record.token_settings() {
        Some(oauth) if oauth.grant == Grant::RefreshToken => Ok((record, oauth)),
        _ => Err(Problem::field("/oauth/grant", "only a route with the grant refresh_token is signed in by a person")),
    }
}

/// Begins a sign-in by device code.
pub async fn begin(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<LoginOut>), Problem> {
    let document = settings::find(&app, Kind::Route, &name).await?;
    let (_, oauth) = oauth_of(&document)?;
    let http = app.tokens()?.http();
    let begun = app.logins.begin(http, &name, &oauth, app.clock.now_ms()).await;
    let begun = begun.map_err(|failure| failed(&app, Stage::Auth, &failure))?;
    Ok((
        StatusCode::CREATED,
        axum::Json(LoginOut {
            id: begun.id,
            user_code: begun.user_code,
            verification_uri: begun.verification_uri,
            expires_in_s: begun.expires_in_s,
            interval_s: begun.interval_s,
        }),
    ))
}

/// Asks about a sign-in; the refresh token is stored when it is there.
pub async fn ask(
    State(app): State<Shared>,
    _: Admin,
    Path((name, id)): Path<(String, String)>,
) -> Result<axum::Json<ProgressOut>, Problem> {
    let document = settings::find(&app, Kind::Route, &name).await?;
    let (_, oauth) = oauth_of(&document)?;
    let secrets = read_secrets(&document)?;
    let tokens = app.tokens()?;
    let asked = app.logins.ask(tokens.http(), (&name, &id), &oauth, &secrets, app.clock.now_ms()).await;
    match asked.ok_or_else(Problem::not_found)? {
        Progress::Pending(wait_s) => Ok(axum::Json(ProgressOut { state: "pending".into(), wait_s: Some(wait_s) })),
        Progress::Failed(failure) => Err(failed(&app, Stage::Auth, &failure)),
        Progress::Done(refresh) => {
            let _one = app.settings.lock().await;
            let document = settings::find(&app, Kind::Route, &name).await?;
            let mut secrets = read_secrets(&document)?;
            secrets.refresh_token = Some(refresh);
            let (record, _) = oauth_of(&document)?;
            settings::write(&app, Kind::Route, &name, &record, stored(&secrets)).await?;
            Ok(axum::Json(ProgressOut { state: "done".into(), wait_s: None }))
        }
    }
}

fn stored(secrets: &Secrets) -> SecretChange {
    secrets.store().map_or(SecretChange::Clear, SecretChange::Set)
}

/// Replaces a route's credential by one that has just been proven at the server; the old one is kept until the new one has
/// worked for a while.
pub async fn rotate(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<axum::Json<RouteOut>, Problem> {
    let relay = app.relay()?.clone();
    let _one = app.settings.lock().await;
    let document = settings::find(&app, Kind::Route, &name).await?;
    let old = read_secrets(&document)?;
    let mut new = Secrets { previous: None, ..old.clone() };
    let patch = route_secrets::only_secrets(body, &mut new)?;
    let mut fields = document.body.clone();
    settings::merge(&mut fields, patch);
    let record: RouteRecord = settings::read(fields)?;
    check(&record, &new)?;
    let token = match record.token_settings() {
        Some(oauth) => {
            super::routes::keep_newest(&app, &name, (&settings::record(&document)?, &old), &mut new).await?;
            let asked = app.tokens()?.try_once(&oauth, &mut new).await;
            Some(asked.map_err(|failure| failed(&app, Stage::Auth, &failure))?)
        }
        None => None,
    };
    let route = Route::new(Arc::from(name.as_str()), record, new, document.version);
    relay.prove(&route, token).await.map_err(|error| failed(&app, error.stage, &error.failure))?;
    let Route { record, secrets: mut new, .. } = route;
    let now_ms = app.clock.now_ms();
    // With OAuth the settings belong to the secret: only a lone secret can go back by itself.
    if record.oauth.is_none() {
        let secrets = Secrets { previous: None, ..old };
        new.previous = Some(Box::new(Previous { secrets, since_ms: now_ms }));
    }
    settings::write(&app, Kind::Route, &name, &record, stored(&new)).await?;
    tracing::info!(route = %name, "the credential was replaced by one that the server accepts");
    Ok(axum::Json(out(name, &new, now_ms, record)))
}
