//! The pages: rendered on the server, complete without scripts, for those who have logged in.
//!
//! A page is a line in [`pages`]: a path, a template of `crates/pillarbox/pages`, and what it asks of the API ([`door`]). Forms
//! post to [`action`], which asks the API too. [`live`] sends the block `live` of a template again when it changes.

pub mod action;
pub mod bundle;
pub mod chart;
pub mod conversation;
pub mod done;
pub mod door;
pub mod live;
pub mod mail;
pub mod markdown;
pub mod outside;
pub mod overview;
pub mod page;
pub mod pages;
pub mod people;
pub mod processing;
pub mod schema;
pub mod session;
pub mod setup;
pub mod sign_in;
pub mod template;
pub mod upload;
pub mod viewer;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Extension, Router};

use super::Shared;

/// What pages are made of besides themselves: path, type, content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("/assets/style.css", "text/css; charset=utf-8", include_str!("../../../assets/style.css")),
    ("/assets/pillarbox.js", "text/javascript; charset=utf-8", include_str!("../../../assets/pillarbox.js")),
    ("/assets/docs.js", "text/javascript; charset=utf-8", include_str!("../../../assets/docs.js")),
    ("/assets/icon.svg", "image/svg+xml", include_str!("../../../assets/icon.svg")),
];

/// All pages.
pub fn router(app: &Shared) -> Router<Shared> {
    let ui = page::Ui::new(app);
    let mut inside = Router::new()
        .route("/", get(async || Redirect::to("/admin/overview")))
        .route("/admin", get(async || Redirect::to("/admin/overview")))
        .route("/admin/live", get(live::watch))
        .route("/admin/do/{*path}", post(action::act))
        .route("/admin/support/bundle", post(bundle::make))
        .route("/admin/upload/{what}", post(upload::take).layer(DefaultBodyLimit::max(upload::LARGEST + (1 << 20))))
        .route("/logout", post(session::logout))
        .route("/setup", get(session::setup_form).post(session::setup));
    for one in pages::PAGES {
        let ui = ui.clone();
        inside = inside.route(
            one.path,
            get(move |params, query, jar, caller, Extension(id)| page::get(ui, one, params, query, jar, caller, id)),
        );
    }
    let inside = inside
        .layer(Extension(ui))
        .layer(from_fn(viewer::policy))
        .layer(from_fn_with_state(app.clone(), session::required));
    let assets = ASSETS
        .iter()
        .fold(Router::new(), |router, &(path, kind, content)| router.route(path, get(move || asset(kind, content))));
    let assets = viewer::FILES.iter().fold(assets, |router, &(path, kind, packed)| {
        router.route(path, get(move |headers| viewer::file(headers, kind, packed)))
    });
    Router::new()
        .route("/login", get(session::form).post(session::login))
        .route("/login/{name}", get(sign_in::begin))
        .route("/login/{name}/callback", get(sign_in::back))
        .merge(assets)
        .merge(inside)
}

async fn asset(kind: &'static str, content: &'static str) -> impl IntoResponse {
    let short = HeaderValue::from_static("max-age=300");
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, short)], content)
}
