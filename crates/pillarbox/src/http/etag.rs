//! Answers that say which version they are (RFC 9110 §8.8.3): who has it already gets 304 and no content.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// An answer with its tag, or 304.
pub fn tagged(asked: &HeaderMap, kind: &'static str, body: impl Into<Bytes>) -> Response {
    let body: Bytes = body.into();
    let tag = format!("\"{}\"", &blake3::hash(&body).to_hex()[..32]);
    // Kept by whoever asked, shown again only after asking: what one may see can change.
    let mut about = HeaderMap::new();
    about.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        about.insert(header::ETAG, value);
    }
    if has(asked, &tag) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    about.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    (about, body).into_response()
}

/// `If-None-Match` names it, strongly or weakly (RFC 9110 §13.1.2).
fn has(asked: &HeaderMap, tag: &str) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|one| one.trim().trim_start_matches("W/"));
    tags.any(|one| one == tag || one == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_this_version_gets_no_content() {
        let first = tagged(&HeaderMap::new(), "text/plain", "a");
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        for (value, status) in [
            (tag.clone(), StatusCode::NOT_MODIFIED),
            (format!("\"x\", W/{tag}"), StatusCode::NOT_MODIFIED),
            ("\"x\"".to_owned(), StatusCode::OK),
        ] {
            let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, value.parse().unwrap())]);
            assert_eq!(tagged(&asked, "text/plain", "a").status(), status, "{value}");
            assert_eq!(tagged(&asked, "text/plain", "b").status(), StatusCode::OK);
        }
    }
}
