//! What is known of providers: one preset for each thing a route can be made for.

use axum::extract::{Path, State};

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::presets::{PresetOut, shown};

/// All presets.
pub async fn list(State(app): State<Shared>, _: Admin) -> axum::Json<Page<PresetOut>> {
    let rules = app.rules();
    axum::Json(Page { items: explain::presets().iter().filter_map(|one| shown(one, &rules)).collect(), next: None })
}

/// One preset, by its id or another of its names.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<PresetOut>, Problem> {
    let found = explain::preset(&name).and_then(|one| shown(one, &app.rules()));
    found.map(axum::Json).ok_or_else(Problem::not_found)
}
