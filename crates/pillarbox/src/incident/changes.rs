//! What changed before an incident, as its record keeps it. How changes are found and weighed is in [`crate::changes`].

use super::model::Body;
use crate::changes::{self, Trouble};
use crate::http::Shared;

/// What changed before, the likeliest first, a sentence each.
pub async fn before(app: &Shared, body: &Body) -> Vec<String> {
    let trouble = Trouble {
        scope: &body.scope,
        reason: &body.reason,
        provider: body.provider.as_deref(),
        route: body.aim.route.as_deref(),
        sender_domain: body.aim.sender_domain.as_deref(),
        since_ms: body.since_ms,
    };
    match changes::before(&*app.store, &trouble).await {
        Ok(found) => changes::sentences(&found),
        Err(error) => {
            tracing::warn!(%error, "what changed before an incident cannot be read");
            Vec::new()
        }
    }
}
