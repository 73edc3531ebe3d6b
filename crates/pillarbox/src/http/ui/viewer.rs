//! The viewer of the API's document at `/api/docs`: Swagger UI, served from this program. Nothing comes from elsewhere.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Path, type, content packed with gzip.
pub const FILES: &[(&str, &str, &[u8])] = &[
    (
        "/assets/swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz")),
    ),
    (
        "/assets/swagger-ui.css",
        "text/css; charset=utf-8",
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz")),
    ),
];

/// The viewer sets styles on its elements; scripts are ours alone here too.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A file of the viewer, packed for those who can unpack it.
pub async fn file(headers: HeaderMap, kind: &'static str, packed: &'static [u8]) -> Response {
    let takes = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let about = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=86400")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if takes.split(',').any(|one| one.split(';').next().unwrap_or_default().trim() == "gzip") {
        return (about, [(header::CONTENT_ENCODING, "gzip")], packed).into_response();
    }
    let mut plain = Vec::new();
    match std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut plain) {
        Ok(_) => (about, plain).into_response(),
        Err(_) => axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The policy of the viewer's page, and of no other.
pub async fn policy(request: Request, next: Next) -> Response {
    let viewer = request.uri().path() == super::pages::VIEWER;
    let mut response = next.run(request).await;
    if viewer {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    }
    response
}
