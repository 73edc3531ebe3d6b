//! Reports about TLS to receiving domains (RFC 8460): what was counted, how far each is, and sending one at once.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use relay::tls_report::{TlsReportError, TlsReportSent, TlsReportView};
use serde::Deserialize;

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::Page;

/// Reports without a wish.
const LIMIT: u32 = 100;
/// Most reports at once.
const MOST: u32 = 1_000;

/// Which ones.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    domain: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    limit: Option<u32>,
}

/// Reports, newest day first.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(which): Query<Which>,
) -> Result<axum::Json<Page<TlsReportView>>, Problem> {
    let limit = which.limit.unwrap_or(LIMIT).clamp(1, MOST);
    let domain = which.domain.map(|text| domain_of("/domain", &text)).transpose()?;
    let cursor = |text: String| match text.split_once('/') {
        Some((day, domain)) => Ok((day.to_owned(), domain.to_owned())),
        None => Err(Problem::field("/after", "is not the `next` of a page")),
    };
    let after = which.after.map(cursor).transpose()?;
    let items = app.relay()?.tls_reports(domain, after, limit).await.map_err(problem)?;
    let last = items.last().filter(|_| items.len() == limit as usize);
    let next = last.map(|last| format!("{}/{}", last.day, last.domain));
    Ok(axum::Json(Page { items, next }))
}

/// Which day.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Day {
    /// `2026-11-20`; the newest if there is none.
    day: Option<String>,
}

/// Sends a domain's report to all who ask for it.
pub async fn send(
    State(app): State<Shared>,
    _: Admin,
    Path(domain): Path<String>,
    Json(Day { day }): Json<Day>,
) -> Result<axum::Json<TlsReportSent>, Problem> {
    let domain = domain_of("", &domain)?;
    Ok(axum::Json(app.relay()?.send_tls_report(&domain, day.as_deref()).await.map_err(problem)?))
}

fn domain_of(pointer: &str, text: &str) -> Result<String, Problem> {
    proto::address::parse_domain(text).map_err(|_| Problem::field(pointer, "is no domain"))
}

fn problem(error: TlsReportError) -> Problem {
    match error {
        TlsReportError::Off => Problem::new(StatusCode::CONFLICT, error.to_string()),
        TlsReportError::NotFound => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        TlsReportError::Lookup(_) => Problem::new(StatusCode::BAD_GATEWAY, error.to_string()),
        TlsReportError::Store(error) => error.into(),
    }
}
