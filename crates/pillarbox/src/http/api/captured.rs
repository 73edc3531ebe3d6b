//! The capture mailbox: messages to look at that were never sent.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use mail_parser::{MessageParser, MimeHeaders};
use serde::{Deserialize, Serialize};
use store::MessageId;

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::etag::tagged;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::views::{MessageOut, Page};

/// Most of a body that is shown.
const MOST_SHOWN: usize = 256 * 1024;

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Before {
    before: Option<String>,
    limit: Option<u32>,
}

/// A captured message, read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CapturedOut {
    /// The message.
    pub message: MessageOut,
    /// Header fields in order, decoded.
    pub headers: Vec<HeaderOut>,
    /// Plain text body, shortened.
    pub text: Option<String>,
    /// HTML body as source, shortened.
    pub html: Option<String>,
    /// Attachments.
    pub attachments: Vec<AttachmentOut>,
}

/// A header field.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeaderOut {
    /// Name.
    pub name: String,
    /// Unfolded value.
    pub value: String,
}

/// An attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachmentOut {
    /// Name.
    pub filename: Option<String>,
    /// `type/subtype`.
    pub content_type: Option<String>,
    /// Octets.
    pub size: usize,
}

/// Captured messages, newest first.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<Before>,
) -> Result<axum::Json<Page<MessageOut>>, Problem> {
    let before = query.before.as_deref().map(id).transpose()?;
    page(&app, before, query.limit.unwrap_or(50).clamp(1, 1000)).await.map(axum::Json)
}

/// One page of captured messages.
pub async fn page(app: &Shared, before: Option<MessageId>, limit: u32) -> Result<Page<MessageOut>, Problem> {
    let views = app.store.captured(before, limit).await?;
    let rules = app.rules();
    let next = (views.len() == limit as usize).then(|| views.last().map(|view| view.message.id.to_string())).flatten();
    Ok(Page { items: views.iter().map(|view| MessageOut::of(view, &rules)).collect(), next })
}

/// One captured message, read.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<CapturedOut>, Problem> {
    read(&app, id(&name)?).await.map(axum::Json)
}

/// Its octets.
pub async fn raw(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Ok(tagged(&headers, "message/rfc822", octets(&app, id(&name)?).await?.1))
}

/// A captured message with its parts.
pub async fn read(app: &Shared, id: MessageId) -> Result<CapturedOut, Problem> {
    let (message, octets) = octets(app, id).await?;
    let parsed = MessageParser::default().parse(&octets[..]);
    let mut out = CapturedOut { message, headers: headers(&octets), text: None, html: None, attachments: Vec::new() };
    if let Some(parsed) = parsed {
        out.text = (parsed.text_body_count() > 0).then(|| parsed.body_text(0)).flatten().map(|text| cut(&text));
        // The parser makes HTML of a plain body when asked; only a part that is HTML counts here.
        let part = parsed.html_bodies().find(|part| matches!(part.body, mail_parser::PartType::Html(_)));
        out.html = part.and_then(|part| part.text_contents()).map(cut);
        out.attachments = parsed.attachments().map(attachment).collect();
    }
    Ok(out)
}

async fn octets(app: &Shared, id: MessageId) -> Result<(MessageOut, bytes::Bytes), Problem> {
    let view = app.store.message(id, 1000).await?;
    if !view.captured {
        return Err(Problem::not_found());
    }
    Ok((MessageOut::of(&view, &app.rules()), app.store.content(id).await?))
}

/// Header fields in order, unfolded.
pub fn headers(octets: &[u8]) -> Vec<HeaderOut> {
    let Ok(scan) = proto::message::scan(octets) else { return Vec::new() };
    scan.iter(octets)
        .map(|(name, value)| HeaderOut {
            name: String::from_utf8_lossy(name).into_owned(),
            value: String::from_utf8_lossy(value).split_whitespace().collect::<Vec<_>>().join(" "),
        })
        .collect()
}

/// What is said of an attachment.
pub fn attachment(part: &mail_parser::MessagePart<'_>) -> AttachmentOut {
    let kind = part.content_type().map(|kind| match kind.subtype() {
        Some(subtype) => format!("{}/{subtype}", kind.ctype()),
        None => kind.ctype().to_owned(),
    });
    AttachmentOut {
        filename: part.attachment_name().map(str::to_owned),
        content_type: kind,
        size: part.contents().len(),
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MOST_SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A message id, or 404.
pub fn id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}
