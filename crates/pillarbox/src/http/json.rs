//! Request bodies and queries: read with a pointer to the field that is wrong, before any handler runs.

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::problem::Problem;

/// A JSON body: an object.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// A query string.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// Reads the whole body within the limit of the route.
pub async fn body(request: Request) -> Result<Bytes, Problem> {
    Bytes::from_request(request, &()).await.map_err(|rejection: BytesRejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large"),
        _ => Problem::new(StatusCode::BAD_REQUEST, "the request body could not be read"),
    })
}

/// Reads JSON; the problem names the field.
pub fn parse<T: DeserializeOwned>(octets: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(octets);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        if inner.is_data() {
            // serde_json adds a position that means nothing to the caller of an API.
            let text = inner.to_string();
            let detail = text.rsplit_once(" at line ").map_or(text.as_str(), |(detail, _)| detail);
            Problem::field(pointer, detail)
        } else {
            Problem::new(StatusCode::BAD_REQUEST, format!("the request body is not JSON: {inner}"))
        }
    })?;
    deserializer
        .end()
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "there is something behind the JSON of the request body"))?;
    Ok(value)
}

fn pointer(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("/{index}")),
            Segment::Map { key } => text.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { variant } => text.push_str(&format!("/{variant}")),
            Segment::Unknown => {}
        }
    }
    text
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        // An HTML form cannot send these types: a page elsewhere cannot make a browser change anything here.
        if kind != "application/json" && kind != "application/merge-patch+json" {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json"));
        }
        let octets = body(request).await?;
        // serde would take a list for a struct, field by field.
        if octets.trim_ascii_start().starts_with(b"[") {
            return Err(Problem::field("", "expected an object"));
        }
        parse(&octets).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, format!("the query is wrong: {rejection}")))
    }
}

/// Of a merge patch: `null` clears a field, as an empty text does; absent, it stays.
///
/// # Errors
/// Neither a text nor null.
pub fn null_is_empty<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    Ok(Some(<Option<String> as serde::Deserialize>::deserialize(input)?.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[allow(dead_code)]
        to: Vec<String>,
    }

    #[test]
    fn the_field_that_is_wrong_is_pointed_at() {
        let problem = parse::<Body>(br#"{"to":["a@b.example", 7]}"#).unwrap_err();
        assert_eq!(problem.status, 422);
        assert_eq!(problem.errors[0].pointer, "/to/1");
        assert_eq!(problem.errors[0].detail, "invalid type: integer `7`, expected a string");
        let problem = parse::<Body>(br#"{"too":[]}"#).unwrap_err();
        assert_eq!(problem.errors[0].pointer, "/too");
        assert_eq!(parse::<Body>(b"{").unwrap_err().status, 400);
        assert_eq!(parse::<Body>(br#"{"to":[]} x"#).unwrap_err().status, 400);
    }
}
