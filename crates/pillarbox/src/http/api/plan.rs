//! `GET /plan`: what would become of a message now, without sending it.

use axum::extract::State;
use proto::Address;
use relay::whatif::{Plan, Question};
use serde::Deserialize;

use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;

/// The message in question.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    recipient: Option<String>,
    from: Option<String>,
    stream: Option<String>,
}

/// The plan.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<Plan>, Problem> {
    let address = |pointer: &str, text: &str| {
        Address::parse(text).map_err(|error| Problem::field(pointer, format!("is no address: {error}")))
    };
    let recipient = asked.recipient.ok_or_else(|| Problem::field("/recipient", "is missing"))?;
    let from = asked.from.filter(|from| !from.is_empty());
    let question = Question {
        recipient: address("/recipient", &recipient)?,
        from: from.map(|from| address("/from", &from)).transpose()?,
        stream: asked.stream,
    };
    Ok(axum::Json(app.relay()?.what_if(&question).await))
}
