//! Errors as `application/problem+json` (RFC 9457): what went wrong, where in the request, and when to come back.

use std::num::NonZeroU32;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use relay::{Refusal, RefusalKind};
use serde::{Deserialize, Serialize};
use store::StoreError;

/// A problem; becomes the response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of problem, a word of ours; `about:blank` has no meaning beyond the status.
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// The status in words.
    pub title: Box<str>,
    /// HTTP status.
    pub status: u16,
    /// This very problem, in a sentence.
    pub detail: String,
    /// Fields of the request that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Rows of a batch that are wrong: the first 1,000.
    #[serde(default, skip_serializing_if = "<[RowError]>::is_empty")]
    pub rows: Box<[RowError]>,
    /// How many there are in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_rows: Option<NonZeroU32>,
    /// What a test found, for settings that were not saved because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<serde_json::Value>>,
    /// Seconds to wait; also the header `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) into the request, such as `/to/1`.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// A row of a batch that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// Line of the request's body, from 1; the first is the batch's header.
    pub line: u32,
    /// Field of the row, or part of the template; empty for the row as a whole.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl FieldError {
    /// A field by its pointer.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

impl Problem {
    /// A problem with a status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            rows: Box::default(),
            bad_rows: None,
            report: None,
            retry_after: None,
        }
    }
    /// 404, the same words for what is not there and what may not be seen.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such thing, or you may not see it")
    }
    /// 422 with the fields that are wrong.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields of the request are wrong", many.len()),
        };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }
    /// 422 with one field.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError::new(pointer, detail)])
    }
    /// 422 with the rows of a batch that are wrong, the first of so many.
    pub fn rows(rows: Vec<RowError>, in_all: u32) -> Self {
        let first = rows.first().map_or_else(String::new, |row| {
            let field = if row.field.is_empty() { String::new() } else { format!("`{}` ", row.field) };
            format!(": line {}: {field}{}", row.line, row.detail)
        });
        let what =
            if in_all == 1 { "1 row is wrong".to_owned() } else { format!("{in_all} rows are wrong, the first") };
        let detail = format!("nothing was accepted, {what}{first}");
        Self {
            kind: "bad_rows".into(),
            rows: rows.into(),
            bad_rows: NonZeroU32::new(in_all),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
    }
    /// 422 with the report of a test that did not go well.
    pub fn untested(detail: impl Into<String>, report: serde_json::Value) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        Self { kind: "route_test_failed".into(), report: Some(Box::new(report)), ..problem }
    }
    /// With a time to wait.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::not_found(),
            StoreError::Invalid(detail) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            StoreError::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "no room on the disk").retry_after(60),
            StoreError::Overloaded => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "too much is waiting to be written").retry_after(1)
            }
            StoreError::Unhealthy(_) | StoreError::Away(_) | StoreError::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be used now").retry_after(30)
            }
            StoreError::Damaged(detail) => {
                tracing::error!(%detail, "stored content is damaged");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the stored content is damaged")
            }
            StoreError::Internal(detail) => {
                tracing::error!(%detail, "store error");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed; the log says more")
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.detail();
        let of = |status| Self::new(status, detail.clone());
        match refusal.kind {
            RefusalKind::Unauthorized => of(StatusCode::UNAUTHORIZED),
            RefusalKind::Forbidden => of(StatusCode::FORBIDDEN),
            RefusalKind::TooLarge => of(StatusCode::PAYLOAD_TOO_LARGE),
            RefusalKind::TooManyRecipients => Self::field("/to", detail),
            RefusalKind::RateLimited { retry_after_s } => of(StatusCode::TOO_MANY_REQUESTS).retry_after(retry_after_s),
            RefusalKind::Full => of(StatusCode::INSUFFICIENT_STORAGE).retry_after(60),
            RefusalKind::Unhealthy => of(StatusCode::SERVICE_UNAVAILABLE).retry_after(30),
            RefusalKind::Overloaded => of(StatusCode::SERVICE_UNAVAILABLE).retry_after(1),
            RefusalKind::Invalid { field: Some(field) } => Self::field(pointer(&field), detail),
            RefusalKind::Invalid { field: None } => of(StatusCode::UNPROCESSABLE_ENTITY),
            RefusalKind::KeyConflict | RefusalKind::NotWanted => of(StatusCode::CONFLICT),
            RefusalKind::Loop => of(StatusCode::UNPROCESSABLE_ENTITY),
        }
    }
}

/// A pointer begins with a slash; the whole request is the empty one.
fn pointer(field: &str) -> String {
    if field.is_empty() || field.starts_with('/') { field.to_owned() } else { format!("/{field}") }
}
