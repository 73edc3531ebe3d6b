//! The document of the API (OpenAPI 3.1). It is made from these sources by a test of the repository, and kept in docs/.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::http::auth::Caller;

/// The document, JSON.
pub const DOCUMENT: &str = include_str!("../../../../../docs/openapi.json");

/// The document of this API, OpenAPI 3.1.
pub async fn show(_: Caller) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
