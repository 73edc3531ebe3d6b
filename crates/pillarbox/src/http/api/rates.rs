//! Rates of bounces and complaints.

use axum::extract::State;
use relay::rates::Rate;

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::problem::Problem;
use crate::http::views::Page;

/// The rates of all streams, senders, routes and providers, the worst first.
pub async fn list(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<Rate>>, Problem> {
    Ok(axum::Json(Page { items: app.relay()?.rates(), next: None }))
}
