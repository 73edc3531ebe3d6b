//! The pages: rendered on the server, readable without scripts, behind a one-time token.

pub mod pages;
pub mod session;

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
        .layer(from_fn_with_state(app.clone(), session::required));
    Router::new().route("/login", get(session::form).post(session::login)).route("/style.css", get(style)).merge(inside)
}

async fn style() -> impl IntoResponse {
    const CSS: &str = include_str!("../../../assets/style.css");
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")], CSS)
}
