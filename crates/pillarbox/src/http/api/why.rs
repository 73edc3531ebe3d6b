//! `GET /why`: why mail to an address did not arrive.

use axum::extract::State;
use serde::Deserialize;

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::suppression;
use crate::why::{self, WhyOut};

/// Who did not get it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whom {
    /// The address.
    address: String,
    /// Only mail of this stream.
    #[serde(default)]
    stream: Option<String>,
}

/// What is known of mail to an address, what to check next in order, and whether it is this address, its domain, its provider
/// or everyone.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Query(query): Query<Whom>,
) -> Result<axum::Json<WhyOut>, Problem> {
    let address = suppression::address(query.address.trim()).map_err(|error| Problem::field("/address", error))?;
    let stream = query.stream.filter(|stream| !stream.is_empty());
    why::of(&app, address, stream).await.map(axum::Json)
}
