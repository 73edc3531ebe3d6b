//! The pages themselves: data into templates. Templates escape everything; nothing of a message is ever shown as HTML.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;
use store::{GroupBy, Selector};

use super::sign_in::Button;
use crate::http::Shared;
use crate::http::api::admin::{StatusOut, overview as status};
use crate::http::api::captured::{self, CapturedOut};
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::views::{CountOut, MessageOut, RecipientOut};

/// Rows on a page.
const ROWS: u32 = 100;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    wrong: Option<String>,
    providers: Vec<Button>,
    has_users: bool,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    wrong: Option<String>,
}

#[derive(Template)]
#[template(path = "onward.html")]
struct OnwardPage;

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    text: &'a str,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    status: StatusOut,
    counts: Vec<CountOut>,
    captured: Vec<MessageOut>,
}

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    counts: Vec<CountOut>,
    recipients: Vec<RecipientOut>,
    filter: String,
}

#[derive(Template)]
#[template(path = "capture.html")]
struct CapturePage {
    messages: Vec<MessageOut>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "captured.html")]
struct CapturedPage {
    captured: CapturedOut,
}

/// What a page becomes when it cannot be shown.
#[derive(Debug)]
pub struct Failed(Problem);

impl<T: Into<Problem>> From<T> for Failed {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        message(status, &self.0.detail)
    }
}

fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The login form.
pub fn login(status: StatusCode, wrong: Option<String>, providers: Vec<Button>, has_users: bool) -> Response {
    render(status, &LoginPage { wrong, providers, has_users })
}

/// The page of the first start.
pub fn setup(status: StatusCode, wrong: Option<String>) -> Response {
    render(status, &SetupPage { wrong })
}

/// On to the pages, by a step that begins here.
pub fn onward() -> Response {
    render(StatusCode::OK, &OnwardPage)
}

/// A problem as a page.
pub fn failed(problem: Problem) -> Response {
    Failed(problem).into_response()
}

/// A page with one sentence.
pub fn message(status: StatusCode, text: &str) -> Response {
    render(status, &MessagePage { text })
}

/// Is all well, what waits, what was caught last.
pub async fn overview(State(app): State<Shared>) -> Result<Response, Failed> {
    let counts = app.store.counts(GroupBy::Route, ROWS).await?;
    let captured = captured::page(&app, None, 10).await?.items;
    let counts = counts.iter().map(Into::into).collect();
    Ok(render(StatusCode::OK, &OverviewPage { status: status(&app).await, counts, captured }))
}

/// Which part of the queue.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    domain: Option<String>,
}

/// The queue by domain, and its first recipients.
pub async fn queue(State(app): State<Shared>, Query(filter): Query<Filter>) -> Result<Response, Failed> {
    let domain = filter.domain.filter(|domain| !domain.trim().is_empty()).map(|domain| domain.trim().to_lowercase());
    let rules = app.rules();
    let counts = app.store.counts(GroupBy::Domain, 20).await?;
    let selector = Selector { all: domain.is_none(), domain: domain.clone(), ..Selector::default() };
    let recipients = app.store.recipients(selector, None, ROWS).await?;
    let page = QueuePage {
        counts: counts.iter().map(Into::into).collect(),
        recipients: recipients.iter().map(|view| RecipientOut::of(view, &rules)).collect(),
        filter: domain.unwrap_or_default(),
    };
    Ok(render(StatusCode::OK, &page))
}

/// Which page of the mailbox.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Before {
    before: Option<String>,
}

/// The capture mailbox.
pub async fn capture(State(app): State<Shared>, Query(query): Query<Before>) -> Result<Response, Failed> {
    let before = query.before.as_deref().map(captured::id).transpose()?;
    let page = captured::page(&app, before, 50).await?;
    Ok(render(StatusCode::OK, &CapturePage { messages: page.items, next: page.next }))
}

/// One captured message.
pub async fn captured(State(app): State<Shared>, Path(id): Path<String>) -> Result<Response, Failed> {
    let captured = captured::read(&app, captured::id(&id)?).await?;
    Ok(render(StatusCode::OK, &CapturedPage { captured }))
}
