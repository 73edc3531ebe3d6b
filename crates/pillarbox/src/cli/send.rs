//! `pillarbox send`: a message from options, composed by the server.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Fault;
use super::args::{Global, SendArgs};
use super::client::{Call, Client, Need, read};
use super::output::{clean, json as print_json, plural, print};
use crate::http::auth::SENDER_HEADER;
use crate::http::views::{Door, Submitted};

/// Does what was asked.
pub async fn run(global: &Global, args: &SendArgs) -> Result<(), Fault> {
    if args.to.is_empty() && args.cc.is_empty() && args.bcc.is_empty() {
        return Err(Fault::Usage("name at least one recipient: --to user@example.com".into()));
    }
    let loaded = super::load(global)?;
    let body = body(args)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let mut headers = Vec::new();
    headers.extend(args.idempotency_key.clone().map(|key| ("idempotency-key", key)));
    headers.extend(args.sender.clone().map(|name| (SENDER_HEADER, name)));
    let body = Some(("application/json", Bytes::from(body.to_string())));
    let answer = client.call(Call { method: Method::POST, path: "/messages", headers, body }).await?;
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if global.json {
        return print_json(&value);
    }
    let submitted: Submitted = read(value)?;
    print(&format!("{} accepted for {}\n", submitted.id, plural(submitted.recipients.len() as u64, "recipient")))?;
    for recipient in submitted.recipients {
        let word = match recipient.status {
            Door::Queued => continue,
            Door::Held => "is held",
            Door::Suppressed => "gets nothing",
        };
        print(&format!("{} {word}: {}\n", clean(&recipient.address), clean(&recipient.why.unwrap_or_default())))?;
    }
    Ok(())
}

fn body(args: &SendArgs) -> Result<Value, Fault> {
    let text = text(args.text.as_deref(), args.text_file.as_deref())?;
    let html = match (&args.html, &args.html_file) {
        (Some(html), _) => Some(html.clone()),
        (None, Some(path)) => Some(file_text(path)?),
        (None, None) => None,
    };
    let mut headers = serde_json::Map::new();
    for field in &args.header {
        let (name, value) =
            field.split_once(':').ok_or_else(|| Fault::Usage(format!("{field} is not 'Name: value'")))?;
        headers.insert(name.trim().to_owned(), value.trim().into());
    }
    let attachments = args.attach.iter().map(|path| attachment(path)).collect::<Result<Vec<_>, _>>()?;
    // Without any body the message is an empty text: `--subject` alone is a fair message.
    let text = if text.is_none() && html.is_none() && attachments.is_empty() { Some(String::new()) } else { text };
    let mut body = json!({
        "from": args.from, "to": args.to, "cc": args.cc, "bcc": args.bcc, "reply_to": args.reply_to,
        "headers": headers, "attachments": attachments, "tags": args.tag,
    });
    let options = [
        ("subject", args.subject.clone()),
        ("text", text),
        ("html", html),
        ("stream", args.stream.clone()),
        ("send_at", args.send_at.clone()),
        ("deliver_by", args.deliver_by.clone()),
    ];
    if let Some(body) = body.as_object_mut() {
        body.extend(args.require_tls.then(|| ("require_tls".to_owned(), true.into())));
        body.extend(options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    }
    Ok(body)
}

fn text(given: Option<&str>, file: Option<&Path>) -> Result<Option<String>, Fault> {
    match (given, file) {
        (Some("-"), _) => {
            let mut text = String::new();
            let read = std::io::stdin().lock().read_to_string(&mut text).context("cannot read standard input");
            read.map(|_| Some(text)).map_err(Fault::cannot)
        }
        (Some(text), _) => Ok(Some(text.to_owned())),
        (None, Some(path)) => file_text(path).map(Some),
        (None, None) => Ok(None),
    }
}

fn file_text(path: &Path) -> Result<String, Fault> {
    let read = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    read.map_err(Fault::cannot)
}

/// A file as the API takes it.
pub fn attachment(path: &Path) -> Result<Value, Fault> {
    let read = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let octets = read.map_err(Fault::cannot)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(json!({ "filename": name, "content_type": media_type(path), "content": STANDARD.encode(octets) }))
}

/// The types that people attach; anything else is octets.
fn media_type(path: &Path) -> &'static str {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "txt" | "log" | "md" => "text/plain",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "ics" => "text/calendar",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        _ => "application/octet-stream",
    }
}
