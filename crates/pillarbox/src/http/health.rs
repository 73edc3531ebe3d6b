//! Health: whether the process lives, and whether it would take mail. For people plain, for machines as JSON.
//!
//! `/healthz` says only that requests are answered: who restarts what is merely full would make it worse. `/readyz` says
//! whether a message would be accepted now. Neither needs a key, neither tells particulars of the machine.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::{App, Shared};

/// Whether a message would be accepted, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthOut {
    /// All parts are ready.
    pub ready: bool,
    /// The parts.
    pub parts: Vec<PartOut>,
}

/// A part that has to be ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOut {
    /// `store`, `relay`, `listeners`.
    pub name: String,
    /// It is.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Both pages.
pub fn router() -> Router<Shared> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready))
}

async fn alive(headers: HeaderMap) -> Response {
    match wants_json(&headers) {
        true => axum::Json(serde_json::json!({ "alive": true })).into_response(),
        false => "ok\n".into_response(),
    }
}

async fn ready(State(app): State<Shared>, headers: HeaderMap) -> Response {
    let health = health(&app);
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match wants_json(&headers) {
        true => (status, axum::Json(health)).into_response(),
        false => (status, words(&health)).into_response(),
    }
}

/// `ready`, or one line for each part that is not.
pub fn words(health: &HealthOut) -> String {
    if health.ready {
        return "ready\n".into();
    }
    let lines = health.parts.iter().filter(|part| !part.ready);
    lines
        .map(|part| format!("not ready: {}: {}\n", part.name, part.why.as_deref().unwrap_or("it does not work")))
        .collect()
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|value| value.contains("application/json"))
}

/// Why a message would not be accepted, if it would not.
pub fn readiness(app: &App) -> Result<(), String> {
    match health(app).parts.into_iter().find(|part| !part.ready) {
        Some(part) => Err(part.why.unwrap_or(part.name)),
        None => Ok(()),
    }
}

/// All parts.
pub fn health(app: &App) -> HealthOut {
    let store = app.store.ready().map_err(|error| match error {
        store::StoreError::Full => "there is not enough room on the disk".to_owned(),
        store::StoreError::Overloaded => "too much waits to be written".to_owned(),
        // Particulars of our disk are for the log.
        _ => "the store does not work".to_owned(),
    });
    let relay = match &app.relay {
        // The store has its own line.
        Some(relay) if relay.is_stopping() => Err("the server is stopping".to_owned()),
        Some(relay) if relay.draining().is_some() => Err("this node is drained".to_owned()),
        Some(_) => Ok(()),
        None => Err("the server is not running".to_owned()),
    };
    let listeners = match (app.serving.load(Ordering::SeqCst), app.draining.load(Ordering::SeqCst)) {
        (_, true) => Err("the server is stopping and takes no more connections".to_owned()),
        (false, false) => Err("the server is starting".to_owned()),
        (true, false) => Ok(()),
    };
    let part =
        |name: &str, state: Result<(), String>| PartOut { name: name.into(), ready: state.is_ok(), why: state.err() };
    let parts = vec![part("store", store), part("relay", relay), part("listeners", listeners)];
    HealthOut { ready: parts.iter().all(|part| part.ready), parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_is_told_line_by_line() {
        let part = |name: &str, why: Option<&str>| PartOut {
            name: name.into(),
            ready: why.is_none(),
            why: why.map(str::to_owned),
        };
        let parts = vec![part("store", Some("there is not enough room on the disk")), part("relay", None)];
        let text = words(&HealthOut { ready: false, parts });
        assert_eq!(text, "not ready: store: there is not enough room on the disk\n");
        assert_eq!(words(&HealthOut { ready: true, parts: vec![part("store", None)] }), "ready\n");
    }
}
