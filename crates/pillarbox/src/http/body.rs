//! Room for message bodies: a bounded sum of octets being received over HTTP at once.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::problem::Problem;

/// Octets per permit.
const UNIT: usize = 1024;

/// The room.
#[derive(Debug, Clone)]
pub struct Room {
    permits: Arc<Semaphore>,
    /// Largest body of one request.
    pub largest: usize,
}

impl Room {
    /// For messages of at most `message_size`, all in `memory` octets, but always room for one.
    pub fn new(message_size: u64, memory: usize) -> Self {
        // Base64 makes it a third more; the rest is for headers and JSON.
        let largest = usize::try_from(message_size).unwrap_or(usize::MAX / 4).saturating_mul(4) / 3 + super::SMALL_BODY;
        let permits = (memory.max(largest) / UNIT + 1).min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(permits)), largest }
    }

    /// Takes room; 503 when there is none.
    pub fn take(&self, octets: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let permits = u32::try_from(octets / UNIT + 1).unwrap_or(u32::MAX);
        self.permits.clone().try_acquire_many_owned(permits).map_err(|_| {
            let detail = "too many messages are being received at once";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
        })
    }
}

/// Takes room for the body before it is read; 503 when there is none.
pub async fn reserve(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let octets: usize = declared.unwrap_or(app.room.largest);
    if octets > app.room.largest {
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large").into_response();
    }
    match app.room.take(octets) {
        Ok(_held) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
