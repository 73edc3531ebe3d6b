//! The link by which a recipient leaves a stream: one click for mail programs (RFC 8058), a page with a button for people.
//!
//! GET changes nothing: links are followed by scanners. Nobody logs in; the token says who and what, and nothing else can be
//! learned from it or done with it.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use proto::Address;
use store::SuppressionScope;

use super::Shared;
use super::api::preferences::{self, Source, Wish};
use super::problem::Problem;

/// The pages of links.
pub fn router() -> Router<Shared> {
    Router::new().route("/u/{token}", get(ask).post(leave))
}

fn known(app: &Shared, token: &str) -> Option<(String, Address)> {
    app.relay.as_ref()?.links().read(token)
}

/// Asks whether the recipient wants to leave.
async fn ask(State(app): State<Shared>, Path(token): Path<String>) -> Response {
    let Some((stream, address)) = known(&app, &token) else { return unknown() };
    let text = format!(
        "<p>Shall <b>{}</b> get no more mail of the kind <b>{}</b>?</p>\
         <form method=\"post\"><input type=\"hidden\" name=\"List-Unsubscribe\" value=\"One-Click\">\
         <button type=\"submit\">Unsubscribe</button></form>",
        escape(address.as_str()),
        escape(&stream)
    );
    page(StatusCode::OK, "Unsubscribe", &text)
}

/// Leaves. Whatever is in the body: the link alone says all.
async fn leave(State(app): State<Shared>, Path(token): Path<String>) -> Result<Response, Problem> {
    let Some((stream, address)) = known(&app, &token) else { return Ok(unknown()) };
    let scope = SuppressionScope::Stream(stream.as_str().into());
    preferences::set(&app, &address, &[(scope, Wish::Out)], Source { who: "recipient", source: "link" }).await?;
    tracing::info!(%stream, "a recipient has unsubscribed");
    let text = format!(
        "<p><b>{}</b> gets no more mail of the kind <b>{}</b>. Mail that has left already may still arrive.</p>",
        escape(address.as_str()),
        escape(&stream)
    );
    Ok(page(StatusCode::OK, "Unsubscribed", &text))
}

fn unknown() -> Response {
    let text = "<p>This link is not complete, or not one of ours. Copy it from the message as a whole.</p>";
    page(StatusCode::NOT_FOUND, "Unknown link", text)
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title}</title><link rel=\"stylesheet\" href=\"/style.css\"></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::REFERRER_POLICY, "no-referrer")], html)
        .into_response()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
