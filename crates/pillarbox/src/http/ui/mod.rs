//! The pages: rendered on the server, readable without scripts, for those who have logged in.

pub mod pages;
pub mod session;
pub mod sign_in;

use axum::Router;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};

use super::Shared;

/// All pages.
pub fn router(app: &Shared) -> Router<Shared> {
    let inside = Router::new()
        .route("/", get(pages::overview))
        .route("/queue", get(pages::queue))
        .route("/capture", get(pages::capture))
        .route("/capture/{id}", get(pages::captured))
        .route("/logout", post(session::logout))
        .route("/setup", get(session::setup_form).post(session::setup))
        .layer(from_fn_with_state(app.clone(), session::required));
    Router::new()
        .route("/login", get(session::form).post(session::login))
        .route("/login/{name}", get(sign_in::begin))
        .route("/login/{name}/callback", get(sign_in::back))
        .route("/style.css", get(style))
        .merge(inside)
}

async fn style() -> impl IntoResponse {
    const CSS: &str = include_str!("../../../assets/style.css");
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")], CSS)
}
