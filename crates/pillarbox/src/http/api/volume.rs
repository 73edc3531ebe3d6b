//! How much comes in, and who could not sign in.

use axum::extract::State;
use relay::incident::volume::{Count, Spike, Window};
use serde::{Deserialize, Serialize};

use crate::http::auth::Admin;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};

/// A sender or a stream at this moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VolumeOut {
    /// `sender` or `stream`.
    pub of: String,
    /// Name.
    pub name: String,
    /// It is in its first week: nothing is told yet.
    pub learning: bool,
    /// Recipients of the last 5 minutes.
    pub lately: u64,
    /// More than this in 5 minutes would be told now.
    pub limit: u64,
    /// Most recipients in 5 minutes in the busiest hour of the week.
    pub busiest: u64,
    /// What stands out now.
    pub spike: Option<SpikeOut>,
    /// Nothing comes, where something always came, since; RFC 3339.
    pub silent_since: Option<String>,
}

/// A spike as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpikeOut {
    /// RFC 3339.
    pub since: String,
    /// What stands out: `recipients` or `new-recipients`.
    pub count: Count,
    /// Over which time: `burst` (5 minutes) or `hour`.
    pub window: Window,
    /// How many came.
    pub seen: u64,
    /// Most that came in this hour of the week before.
    pub usual: u64,
    /// How many would have passed.
    pub limit: u64,
}

fn spike(spike: Spike) -> SpikeOut {
    let Spike { at_ms, count, window, seen, usual, limit } = spike;
    SpikeOut { since: time::show(at_ms), count, window, seen, usual, limit }
}

/// All senders and streams whose volume is watched.
pub async fn list(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<VolumeOut>>, Problem> {
    app.relay()?;
    let all = app.volumes.overview(app.clock.now_ms());
    let out = |state: crate::volume::State| VolumeOut {
        of: state.whose.kind().to_owned(),
        name: state.whose.name().to_owned(),
        learning: state.learning,
        lately: state.lately,
        limit: state.limit,
        busiest: state.busiest,
        spike: state.spike.map(spike),
        silent_since: state.silent_ms.map(time::show),
    };
    Ok(axum::Json(Page { items: all.into_iter().map(out).collect(), next: None }))
}

/// Failed sign-ins with one name from one address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedSignInsOut {
    /// From where.
    pub address: String,
    /// The name that was given, at most 64 characters; empty for API keys.
    pub name: String,
    /// There is a sender of that name.
    pub exists: bool,
    /// `smtp` or `api-key`.
    pub by: String,
    /// How often since the first.
    pub times: u64,
    /// RFC 3339.
    pub first: String,
    /// RFC 3339.
    pub last: String,
    /// It was right after having been wrong; RFC 3339.
    pub right: Option<String>,
}

/// Who could not sign in here in the last day, the most recent first; of at most 2,000 pairs of address and name.
pub async fn failed_sign_ins(
    State(app): State<Shared>,
    _: Admin,
) -> Result<axum::Json<Page<FailedSignInsOut>>, Problem> {
    let out = |one: relay::incident::signins::FailedSignIns| FailedSignInsOut {
        address: one.address.to_string(),
        name: one.name,
        exists: one.exists,
        by: one.by.as_str().to_owned(),
        times: one.times,
        first: time::show(one.first_ms),
        last: time::show(one.last_ms),
        right: one.right_ms.map(time::show),
    };
    Ok(axum::Json(Page { items: app.relay()?.failed_sign_ins().into_iter().map(out).collect(), next: None }))
}
