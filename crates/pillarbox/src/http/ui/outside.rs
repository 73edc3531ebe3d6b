//! Pages for those who have not logged in, or are about to.

use axum::http::StatusCode;
use axum::response::Response;
use minijinja::value::Serde;
use minijinja::{Value, context};

use super::sign_in::Button;
use super::template;
use crate::http::problem::Problem;

/// The login form.
pub fn login(status: StatusCode, wrong: Option<String>, providers: Vec<Button>, has_users: bool) -> Response {
    let providers = Value::from(Serde(providers));
    template::render(status, "login.html", &context! { wrong, providers, has_users })
}

/// The page of the first start.
pub fn setup(status: StatusCode, wrong: Option<String>) -> Response {
    template::render(status, "setup.html", &context! { wrong })
}

/// On to the pages, by a step that begins here.
pub fn onward() -> Response {
    template::render(StatusCode::OK, "onward.html", &context! {})
}

/// A problem as a page.
pub fn failed(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    message(status, &problem.detail)
}

/// A page with one sentence.
pub fn message(status: StatusCode, text: &str) -> Response {
    template::render(status, "message.html", &context! { text })
}
