//! `GET /config-audit`: what is weak in configuration and settings.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::problem::Problem;
use crate::monitor::Level;
use crate::monitor::weakness::{self, Weakness};

/// The audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigAuditOut {
    /// Nothing is a problem.
    pub healthy: bool,
    /// What is weak, the worst first.
    pub items: Vec<Weakness>,
}

/// Looks at configuration, routes, senders, webhooks and the records of domains; no server is asked.
pub async fn show(State(app): State<Shared>, _: Admin) -> Result<axum::Json<ConfigAuditOut>, Problem> {
    let items = weakness::all(&app).await?;
    let healthy = !items.iter().any(|one| one.level == Level::Problem);
    Ok(axum::Json(ConfigAuditOut { healthy, items }))
}
