//! `GET /routes/{name}/audit`: the settings of a route judged, without asking its server.

use axum::extract::{Path, State};
use diagnose::Judged;
use relay::sender::SenderRecord;
use serde::Serialize;
use store::settings::Kind;

use super::routes::read_secrets;
use super::settings;
use crate::check::route::{Subject, settings as judged};
use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::problem::Problem;

/// What was noticed.
#[derive(Debug, Serialize)]
pub struct AuditOut {
    /// Findings, problems first.
    items: Vec<Judged>,
}

/// Judges the settings.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<AuditOut>, Problem> {
    Ok(axum::Json(AuditOut { items: audit(&app, &name).await? }))
}

/// What is noticed in the settings of a route, problems first.
pub async fn audit(app: &Shared, name: &str) -> Result<Vec<Judged>, Problem> {
    let document = settings::find(app, Kind::Route, name).await?;
    let record = settings::record(&document)?;
    let secrets = read_secrets(&document)?;
    let mut senders: Vec<(String, SenderRecord)> = Vec::new();
    for sender in app.store.documents(Kind::Sender).await? {
        senders.push((sender.name.clone(), settings::record(&sender)?));
    }
    let subject = Subject {
        name,
        record: &record,
        secret: secrets.password.as_ref(),
        senders: &senders,
        now_s: app.clock.now_ms() / 1000,
    };
    Ok(judged(&subject, &app.rules()))
}
