//! What pasted words mean: a reply, a bounce, lines of a log, headers, a stack trace. The same engine as `pillarbox explain`.

use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use crate::http::Shared;
use crate::http::auth::Caller;
use crate::http::json::Json;
use crate::http::problem::Problem;

/// What to explain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainIn {
    /// The words as they are.
    text: String,
    /// Who said them, where the words do not tell: a provider of `/providers`.
    #[serde(default)]
    provider: Option<String>,
}

/// Explains pasted words; nothing is kept.
pub async fn explain(
    State(app): State<Shared>,
    _: Caller,
    Json(body): Json<ExplainIn>,
) -> Result<axum::Json<Value>, Problem> {
    if body.text.trim().is_empty() {
        return Err(Problem::field("/text", "is empty: paste what the server, the bounce or the log says"));
    }
    let rules = app.rules();
    let provider = body.provider.filter(|provider| !provider.is_empty());
    if provider.as_ref().is_some_and(|id| rules.provider(id).is_none()) {
        return Err(Problem::field("/provider", "is not a known provider"));
    }
    let work = move || crate::cli::explain::explain_octets(&rules, provider.as_deref(), body.text.as_bytes());
    let failed = || Problem::field("/text", "could not be read");
    tokio::task::spawn_blocking(work).await.ok().and_then(Result::ok).map(axum::Json).ok_or_else(failed)
}
