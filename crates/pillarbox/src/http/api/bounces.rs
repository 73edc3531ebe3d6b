//! Mail that came back and is kept: what could not be matched, and what brings reports.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use store::{ReturnedList, ReturnedView};

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::time;
use crate::http::views::Page;

/// Which list, and where in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// `unmatched` or `reports`.
    list: Option<ReturnedList>,
    before: Option<String>,
    limit: Option<u32>,
}

/// A kept mail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReturnedOut {
    /// Cursor and name.
    pub id: String,
    /// When it came, RFC 3339.
    pub received: String,
    /// Where it came in.
    pub source: String,
    /// Envelope recipient.
    pub recipient: Option<String>,
    /// Octets.
    pub size: u64,
    /// What is known of it: `why` for an unmatched one, `reports` for one that brings some.
    pub about: serde_json::Value,
}

impl ReturnedOut {
    fn of(view: &ReturnedView) -> Self {
        Self {
            id: view.id.to_string(),
            received: time::show(view.at_ms),
            source: view.source.clone(),
            recipient: view.recipient.clone(),
            size: view.size,
            about: view.note.clone(),
        }
    }
}

fn list_of(list: Option<ReturnedList>) -> ReturnedList {
    list.unwrap_or(ReturnedList::Unmatched)
}

fn id(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// Kept mails, newest first.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<Which>,
) -> Result<axum::Json<Page<ReturnedOut>>, Problem> {
    let before = query.before.as_deref().map(id).transpose()?;
    let limit = query.limit.unwrap_or(100).clamp(1, 1_000);
    let views = app.store.returned_list(list_of(query.list), before, limit).await?;
    let next = (views.len() == limit as usize).then(|| views.last().map(|view| view.id.to_string())).flatten();
    Ok(axum::Json(Page { items: views.iter().map(ReturnedOut::of).collect(), next }))
}

/// The octets of one.
pub async fn raw(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<Response, Problem> {
    let octets = app.store.returned_content(id(&name)?).await?;
    Ok(([(header::CONTENT_TYPE, "message/rfc822")], octets).into_response())
}

/// Removes one.
pub async fn remove(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Query(query): Query<Which>,
) -> Result<StatusCode, Problem> {
    match app.store.forget_returned(list_of(query.list), Some(id(&name)?)).await? {
        0 => Err(Problem::not_found()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// Removes a whole list, which has to be named.
pub async fn clear(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<Which>,
) -> Result<axum::Json<serde_json::Value>, Problem> {
    let Some(list) = query.list else { return Err(Problem::field("/list", "name the list: unmatched or reports")) };
    let removed = app.store.forget_returned(list, None).await?;
    Ok(axum::Json(serde_json::json!({ "removed": removed })))
}
