//! The server itself: status, reload, backup, verification.

use std::path::PathBuf;

use axum::extract::State;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::incidents::{self, IncidentOut};
use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::forecast::{self, ForecastOut};
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::oauth::expiry::{Expiring, expiring};

/// What the server says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusOut {
    /// Version of the program.
    pub version: String,
    /// A message would be accepted now.
    pub accepting: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Our name.
    pub hostname: String,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Client secrets and certificates of routes that end within 30 days.
    #[serde(default)]
    pub expiring: Vec<Expiring>,
    /// The relay's own figures; absent while no server runs.
    pub relay: Option<serde_json::Value>,
    /// When the mail of each route will be gone; those that have some.
    #[serde(default)]
    pub forecasts: Vec<ForecastOut>,
    /// Open incidents, newest first.
    #[serde(default)]
    pub incidents: Vec<IncidentOut>,
    /// What an operator should know, in sentences.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl StatusOut {
    /// One of the relay's figures.
    pub fn figure<T: DeserializeOwned + Default>(&self, name: &str) -> T {
        let value = self.relay.as_ref().and_then(|relay| relay.get(name)).cloned();
        value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    }
}

/// The status.
pub async fn status(State(app): State<Shared>, _: Admin) -> axum::Json<StatusOut> {
    axum::Json(overview(&app).await)
}

/// The status, for API and pages.
pub async fn overview(app: &Shared) -> StatusOut {
    let ready = match &app.relay {
        Some(relay) => relay.door().ready().map_err(|refusal| refusal.detail()),
        None => Err("the server is not running".into()),
    };
    StatusOut {
        version: env!("CARGO_PKG_VERSION").into(),
        accepting: ready.is_ok(),
        reason: ready.err(),
        hostname: app.hostname.clone(),
        data_dir: app.data_dir.clone(),
        expiring: app
            .relay
            .as_ref()
            .map_or_else(Vec::new, |relay| expiring(relay.routes().iter().map(|route| &**route), app.clock.now_ms())),
        relay: app.relay.as_ref().and_then(|relay| serde_json::to_value(relay.status()).ok()),
        // The rest is worth showing although the queue cannot be counted.
        forecasts: forecast::all(app).await.unwrap_or_default(),
        incidents: incidents::open(app).await,
        notes: app.domains.notes(),
    }
}

/// What a reload found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// Documents that make no sense, in words.
    pub problems: Vec<String>,
}

/// As SIGHUP: certificates, senders, routes and rules are read again, the configuration file is checked.
pub async fn reload(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Reloaded>, Problem> {
    let mut problems = app.relay()?.reload().await?;
    problems.extend(app.reload_rules().err());
    app.reload.notify_one();
    Ok(axum::Json(Reloaded { problems }))
}

/// Where to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupIn {
    /// A directory on the server that does not exist or is empty.
    to: PathBuf,
}

/// What a backup wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupOut {
    /// Where.
    pub to: PathBuf,
    /// Octets.
    pub octets: u64,
}

/// A consistent copy while running.
pub async fn backup(
    State(app): State<Shared>,
    _: Admin,
    Json(body): Json<BackupIn>,
) -> Result<axum::Json<BackupOut>, Problem> {
    if !body.to.is_absolute() {
        return Err(Problem::field("/to", "an absolute path is needed"));
    }
    let octets = app.store.backup(body.to.clone()).await?;
    Ok(axum::Json(BackupOut { to: body.to, octets }))
}

/// How thorough.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyIn {
    #[serde(default)]
    deep: bool,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyOut {
    /// In words; empty: all is well.
    pub problems: Vec<String>,
}

/// Checks the store.
pub async fn verify(
    State(app): State<Shared>,
    _: Admin,
    Json(body): Json<VerifyIn>,
) -> Result<axum::Json<VerifyOut>, Problem> {
    Ok(axum::Json(VerifyOut { problems: app.store.verify(body.deep).await? }))
}

/// A way in to the pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenOut {
    /// Good once, for ten minutes.
    pub token: String,
}

/// A one-time token for the pages.
pub async fn login_token(State(app): State<Shared>, _: Admin) -> axum::Json<TokenOut> {
    axum::Json(TokenOut { token: app.access.tokens.make(app.clock.now_ms()) })
}
