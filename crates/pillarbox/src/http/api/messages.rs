//! `POST /messages`, and looking at one's own messages.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::message::Protocol;
use relay::accept::TRACE_HEADER;
use relay::{Noting, Submission};
use serde::Deserialize;
use store::{MessageId, Origin};

use super::compose::{self, Composed, Surroundings};
use super::input::{EnvelopeIn, MessageIn, PlainAddress, Time};
use crate::http::Shared;
use crate::http::auth::{Caller, SENDER_HEADER, submitter};
use crate::http::json::{self, Query};
use crate::http::problem::Problem;
use crate::http::views::{Door, EventOut, MessageOut, Page, Submitted, SubmittedRecipient};
use crate::telemetry::context::Parent;

const MAX_TAGS: usize = 20;
const MAX_TAG: usize = 64;
const MAX_METADATA: usize = 8192;

/// Takes a message: 202 only after it is durable.
pub async fn submit(State(app): State<Shared>, caller: Caller, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let named = text_header(&parts.headers, SENDER_HEADER)?;
    let sender = submitter(&app, &caller, named)?;
    let idempotency = idempotency_key(&parts.headers)?;
    let kind = text_header(&parts.headers, "content-type")?.unwrap_or("").split(';').next().unwrap_or("").trim();
    let octets = json::body(Request::from_parts(parts.clone(), body)).await?;
    let fingerprint = idempotency.map(|key| {
        let mut hash = blake3::Hasher::new();
        hash.update(parts.uri.query().unwrap_or("").as_bytes()).update(&[0]).update(&octets);
        (key, *hash.finalize().as_bytes())
    });
    let (mut input, composed) = match kind.to_ascii_lowercase().as_str() {
        "application/json" => {
            let input: MessageIn = json::parse(&octets)?;
            let composed =
                compose::compose(&input, Surroundings { hostname: &app.hostname, now_ms: app.clock.now_ms() })?;
            (input, composed)
        }
        "message/rfc822" => raw_with_query(parts.uri.query().unwrap_or(""), octets.into())?,
        _ => {
            let detail = "send Content-Type: application/json or message/rfc822";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    };
    check_options(&input, app.clock.now_ms())?;
    let content = traced(&parts.headers, composed.content);
    let origin = Origin {
        protocol: if matches!(caller, Caller::Local) { "LOCAL" } else { "HTTP" }.into(),
        address: caller.address(),
        helo: None,
    };
    let (eight_bit, longest_line) = shape(&content);
    let addresses: Vec<String> = composed.envelope.recipients.iter().map(|to| to.address.to_string()).collect();
    let submission = Submission {
        sender,
        envelope: composed.envelope,
        content,
        eight_bit,
        longest_line,
        origin,
        protocol: Protocol::Http,
        stream: input.stream.take(),
        tags: input.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        metadata: std::mem::take(&mut input.metadata),
        send_at_ms: input.send_at.map(|time| time.0),
        deliver_by_ms: input.deliver_by.map(|time| time.0),
        idempotency: fingerprint,
        batch: None,
        digest_key: input.digest_key.take().map(|key| key.as_str().to_owned()),
    };
    let receipt = app.relay()?.door().submit(submission).await?;
    let recipients = addresses
        .into_iter()
        .enumerate()
        .map(|(n, address)| {
            let noted = receipt.noted.iter().find(|noted| noted.n as usize == n);
            let status = match noted.map(|noted| noted.noting) {
                None => Door::Queued,
                Some(Noting::Held) => Door::Held,
                Some(Noting::Suppressed) => Door::Suppressed,
            };
            let why = noted.map(|noted| noted.why.clone());
            SubmittedRecipient { id: format!("{}.{n}", receipt.id), address, status, why }
        })
        .collect();
    let answer = Submitted { id: receipt.id.to_string(), recipients };
    let mut response = (StatusCode::ACCEPTED, axum::Json(answer)).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/messages/{}", receipt.id)) {
        headers.insert(header::LOCATION, location);
    }
    if receipt.committed.is_none() {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A header as text.
pub fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let wrong = |_| Problem::new(StatusCode::BAD_REQUEST, format!("the header {name} is not ASCII"));
    headers.get(name).map(|value| value.to_str().map_err(wrong)).transpose()
}

/// The `Idempotency-Key`.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    match text_header(headers, "idempotency-key")? {
        None => Ok(None),
        Some(key) if (1..=255).contains(&key.len()) => Ok(Some(key.to_owned())),
        Some(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "an Idempotency-Key has 1 to 255 characters")),
    }
}

fn check_options(input: &MessageIn, now_ms: i64) -> Result<(), Problem> {
    if input.tags.len() > MAX_TAGS {
        return Err(Problem::field("/tags", format!("at most {MAX_TAGS} tags")));
    }
    if let Some(n) = input.tags.iter().position(|tag| tag.as_str().is_empty() || tag.as_str().len() > MAX_TAG) {
        return Err(Problem::field(format!("/tags/{n}"), format!("a tag has 1 to {MAX_TAG} octets")));
    }
    if !input.metadata.is_empty() && serde_json::to_vec(&input.metadata).map_or(0, |json| json.len()) > MAX_METADATA {
        return Err(Problem::field("/metadata", format!("at most {MAX_METADATA} octets of JSON")));
    }
    match (input.send_at, input.deliver_by) {
        (_, Some(to)) if to.0 <= now_ms => Err(Problem::field("/deliver_by", "is in the past")),
        (Some(from), Some(to)) if to.0 <= from.0 => Err(Problem::field("/deliver_by", "is not after `send_at`")),
        _ => Ok(()),
    }
}

/// `?from=…&to=…&to=…&stream=…&tag=…&require_tls=…&send_at=…&deliver_by=…` beside a body that is the message itself.
fn raw_with_query(query: &str, raw: Vec<u8>) -> Result<(MessageIn, Composed), Problem> {
    let mut envelope = EnvelopeIn::default();
    let mut input = MessageIn::default();
    for (name, value) in form_pairs(query) {
        let wrong = |detail: String| Problem::field(format!("/{name}"), detail);
        match name.as_str() {
            "from" => envelope.from = value,
            "to" => envelope.to.push(PlainAddress::try_from(value).map_err(wrong)?),
            "stream" => input.stream = Some(value),
            "tag" => input.tags.push(value.try_into().map_err(wrong)?),
            "send_at" => input.send_at = Some(Time::try_from(value).map_err(wrong)?),
            "require_tls" => {
                input.require_tls = value.parse().map_err(|_| wrong("is neither true nor false".into()))?
            }
            "deliver_by" => input.deliver_by = Some(Time::try_from(value).map_err(wrong)?),
            _ => return Err(wrong("is not known here".into())),
        }
    }
    let envelope = compose::raw_envelope(&envelope, input.require_tls)?;
    Ok((input, Composed { envelope, content: compose::finished(raw, "")? }))
}

fn form_pairs(query: &str) -> Vec<(String, String)> {
    // The extractor's own format; a query that is not one gives nothing and is refused for its missing recipients.
    let uri = format!("/?{query}").parse::<axum::http::Uri>().unwrap_or_default();
    axum::extract::Query::try_from_uri(&uri).map_or_else(|_| Vec::new(), |axum::extract::Query(pairs)| pairs)
}

/// Whether there are octets over 127, and the longest line without its CRLF.
pub fn shape(content: &[u8]) -> (bool, usize) {
    let longest =
        content.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line).len()).max();
    (!content.is_ascii(), longest.unwrap_or(0))
}

fn id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// One message; those of others do not exist.
pub async fn show(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<MessageOut>, Problem> {
    let view = app.store.message(id(&name)?, 1000).await?;
    if !caller.may_see(&view.message.sender) {
        return Err(Problem::not_found());
    }
    Ok(axum::Json(MessageOut::of(&view, &app.rules())))
}

/// How many events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    #[serde(default)]
    limit: Option<u32>,
}

/// Its events, oldest first.
pub async fn events(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(limit): Query<Limit>,
) -> Result<axum::Json<Page<EventOut>>, Problem> {
    let id = id(&name)?;
    let view = app.store.message(id, 1).await?;
    if !caller.may_see(&view.message.sender) {
        return Err(Problem::not_found());
    }
    let events = app.store.events(id, limit.limit.unwrap_or(1000).clamp(1, 10_000)).await?;
    Ok(axum::Json(Page { items: events.iter().map(Into::into).collect(), next: None }))
}

/// The content with the client's trace on top, where the door finds it and takes it off again.
fn traced(headers: &HeaderMap, content: Vec<u8>) -> Vec<u8> {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
    match given.filter(|text| Parent::parse(text).is_some()) {
        Some(text) => [format!("{TRACE_HEADER}: {}\r\n", text.trim()).as_bytes(), &content].concat(),
        None => content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_message_takes_its_envelope_from_the_query() {
        let query = "from=a%40b.example&to=c%40d.example&to=e%2Bf%40d.example&stream=bulk";
        let (input, composed) = raw_with_query(query, b"Subject: x\r\n\r\ny\r\n".to_vec()).unwrap();
        let to: Vec<_> = composed.envelope.recipients.iter().map(|to| to.address.as_str()).collect();
        assert_eq!(to, ["c@d.example", "e+f@d.example"]);
        assert_eq!(input.stream.as_deref(), Some("bulk"));
        assert!(raw_with_query("from=a%40b.example", Vec::new()).is_err());
        assert!(!composed.envelope.parameters.require_tls);
        let (_, composed) = raw_with_query("from=a%40b.example&to=c%40d.example&require_tls=true", Vec::new()).unwrap();
        assert!(composed.envelope.parameters.require_tls);
        assert!(raw_with_query("from=a%40b.example&to=c%40d.example&require_tls=yes", Vec::new()).is_err());
    }

    #[test]
    fn the_shape_of_content_is_measured_without_line_ends() {
        assert_eq!(shape(b"ab\r\ncde\r\n"), (false, 3));
        assert_eq!(shape("aé\r\n".as_bytes()), (true, 3));
    }
}
