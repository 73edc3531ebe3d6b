//! Where providers tell of events: `/hooks/{provider}/{name}`, without an API key. Each request proves itself in the
//! provider's own way, and is in the store before it is answered.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use store::settings::Kind;
use store::{Kept, NewReturned};

use super::Shared;
use super::api::settings;
use super::problem::Problem;
use crate::returned::inlet::{self, Incoming, InletRecord, Provider, Refused, Told};

/// Largest request: SendGrid sends up to a thousand events at once.
const MOST_BODY: usize = 4 << 20;

/// The routes.
pub fn router() -> Router<Shared> {
    Router::new().route("/hooks/{provider}/{name}", post(take)).layer(DefaultBodyLimit::max(MOST_BODY))
}

async fn take(
    State(app): State<Shared>,
    Path((provider, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let document = settings::find(&app, Kind::Inlet, &name).await?;
    let record: InletRecord = settings::record(&document)?;
    if record.provider.name() != provider || record.disabled {
        return Err(Problem::not_found());
    }
    let Some(sns) = &app.sns else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is not running"));
    };
    let incoming = Incoming { headers: &headers, body: &body, now_ms: app.clock.now_ms() };
    let told = inlet::take(&record, document.secret.as_ref(), sns, &app.seen, incoming).await;
    let events = match told {
        Ok(Told::Events(events)) => events,
        Ok(Told::Confirmed) | Err(Refused::Replayed) => return Ok(StatusCode::OK),
        Err(refused) => {
            tracing::warn!(%provider, %name, %refused, "events of a provider are not taken");
            return Err(match refused {
                Refused::Unreadable(why) => Problem::new(StatusCode::BAD_REQUEST, why),
                Refused::Later(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "try again later").retry_after(30),
                _ => Problem::new(StatusCode::UNAUTHORIZED, "this request does not prove where it is from"),
            });
        }
    };
    let mut pending = Vec::with_capacity(events.len());
    for event in &events {
        let content = serde_json::to_vec(event).map_err(|error| store::StoreError::Internal(error.to_string()))?;
        pending.push(app.store.keep_returned(NewReturned {
            source: source(record.provider, &name),
            recipient: None,
            at_ms: app.clock.now_ms(),
            content: content.into(),
            place: None,
        }));
    }
    for kept in pending {
        if kept.await? == Kept::TooMany {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too much waits to be read");
            return Err(problem.retry_after(60));
        }
    }
    if record.provider == Provider::Mailgun
        && let Some(token) = inlet::mailgun_token(&body)
    {
        app.seen.remember(&token);
    }
    app.returned_came.notify_one();
    Ok(StatusCode::OK)
}

/// Where events of a provider are from, as it stands with them.
fn source(provider: Provider, name: &str) -> String {
    format!("{}:{name}", provider.name())
}
