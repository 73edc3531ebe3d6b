//! The document of the API (OpenAPI 3.1). It is made from these sources by a test of the repository, and kept in docs/.

use axum::http::HeaderMap;
use axum::response::Response;

use crate::http::auth::Caller;
use crate::http::etag::tagged;

/// The document, JSON.
pub const DOCUMENT: &str = include_str!("../../../../../docs/openapi.json");

/// The document of this API, OpenAPI 3.1.
pub async fn show(_: Caller, headers: HeaderMap) -> Response {
    tagged(&headers, "application/json", DOCUMENT)
}
