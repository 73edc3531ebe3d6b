//! Open sessions of users: who is logged in from where, and ending it.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::me;
use crate::access::session::{Open, Proof};
use crate::http::auth::{Admin, Caller};
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionOut {
    /// Its number.
    pub id: i64,
    /// Whose; absent: of whoever had a one-time token.
    pub user: Option<String>,
    /// How they proved who they are.
    pub proof: Proof,
    /// From where it was opened.
    pub address: IpAddr,
    /// What the browser says it is.
    pub agent: String,
    /// RFC 3339.
    pub created: String,
    /// The last request, to the minute, RFC 3339.
    pub seen: String,
    /// When it ends if nothing happens, RFC 3339.
    pub ends: String,
    /// It is the one that is asking.
    pub current: bool,
}

fn shown(open: &Open, current: Option<i64>) -> SessionOut {
    let session = &open.session;
    SessionOut {
        id: open.id,
        user: session.user.clone(),
        proof: session.proof,
        address: session.address,
        agent: session.agent.clone(),
        created: time::show(session.created_ms),
        seen: time::show(session.seen_ms),
        ends: time::show(session.ends_ms()),
        current: Some(open.id) == current,
    }
}

/// Those that are open, of one user or of all; the newest first.
pub async fn of(app: &Shared, caller: &Caller, user: Option<&str>) -> Result<Vec<SessionOut>, Problem> {
    let now_ms = app.clock.now_ms();
    let all = app.access.sessions.list().await?;
    let wanted = all.iter().filter(|open| now_ms < open.session.ends_ms());
    let wanted = wanted.filter(|open| user.is_none() || open.session.user.as_deref() == user);
    Ok(wanted.map(|open| shown(open, me::current(caller))).collect())
}

/// Whose.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Whose {
    /// Of this user.
    user: Option<String>,
}

/// Open sessions, the newest first.
pub async fn list(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Query(query): Query<Whose>,
) -> Result<axum::Json<Page<SessionOut>>, Problem> {
    Ok(axum::Json(Page { items: of(&app, &caller, query.user.as_deref()).await?, next: None }))
}

/// The number of a session.
pub fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| Problem::not_found())
}

/// Ends one.
pub async fn revoke(State(app): State<Shared>, _: Admin, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    match app.access.sessions.revoke(number(&id)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found()),
    }
}

/// Whose sessions to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeAll {
    /// Of this user.
    user: String,
}

/// How many were ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revoked {
    /// Sessions.
    pub revoked: usize,
}

/// Ends all sessions of a user.
pub async fn revoke_all(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<RevokeAll>,
) -> Result<axum::Json<Revoked>, Problem> {
    let revoked = app.access.sessions.end_all(&query.user, None).await?;
    crate::audit::tell(serde_json::json!({ "user": query.user, "revoked": revoked }));
    Ok(axum::Json(Revoked { revoked }))
}
