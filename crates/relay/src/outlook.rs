//! When the mail of each route will be gone: what waits in the store, what the schedule knows, and the forecast over both.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use store::{GroupBy, QueueCount, StoreError};

use crate::route::{Route, RouteKind};
use crate::run::Relay;
use crate::schedule::forecast::{Forecast, Limit, Outlook, Pace, forecast};
use crate::schedule::limit::WindowStatus;
use crate::schedule::{Account, InMemory};
use crate::shared::Shared;

/// Most routes that are looked at.
const MOST: u32 = 1_000;
/// Most destinations of a route whose own windows are looked at.
const DESTINATIONS: usize = 50;

/// What is to be expected of the mail of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteForecast {
    /// Route.
    pub route: String,
    /// Recipients that somebody has to release: the forecast is not about them.
    pub held: u64,
    /// The rest.
    pub forecast: Forecast,
}

impl Relay {
    /// What is to be expected of each route that has mail, most of it first. `today_ends_ms`: Unix milliseconds.
    pub async fn forecasts(&self, today_ends_ms: i64) -> Result<Vec<RouteForecast>, StoreError> {
        let shared = self.shared().clone();
        let counts = shared.store.counts(GroupBy::Route, MOST).await?;
        // Many routes with long backlogs take a while to play forward: no connection waits for that.
        let played = tokio::task::spawn_blocking(move || {
            counts.iter().map(|count| of_route(&shared, count, today_ends_ms)).collect()
        });
        played.await.map_err(|error| StoreError::Internal(format!("the forecast was not made: {error}")))
    }
}

fn of_route(shared: &Shared, count: &QueueCount, today_ends_ms: i64) -> RouteForecast {
    let route = shared.directory().route(&count.group).cloned();
    let forecast = match route.as_deref().map(|route| route.record.kind) {
        Some(RouteKind::Smarthost | RouteKind::Mx) if count.pending > 0 => {
            // It is there: its kind was just looked at.
            route.map_or_else(|| nothing(shared, count), |route| looked_at(shared, &route, count, today_ends_ms))
        }
        _ => nothing(shared, count),
    };
    RouteForecast { route: count.group.clone(), held: count.held, forecast }
}

/// Mail that leaves at once, or a route that is not there any more.
fn nothing(shared: &Shared, count: &QueueCount) -> Forecast {
    let mut forecast = Forecast::unknown(count.urgent, count.pending - count.urgent, None);
    if count.pending == 0 {
        forecast.drains_ms = Some(shared.now_ms());
    }
    forecast
}

/// What the schedule knows of a route.
struct Known {
    now_ms: i64,
    memory: Vec<InMemory>,
    /// Windows by account: the route's own, and those of its destinations.
    windows: HashMap<Arc<str>, Vec<WindowStatus>>,
    per_message: f64,
}

fn known(shared: &Shared, route: &Route) -> Known {
    let mut schedule = shared.schedule.lock();
    let now_ms = shared.now_ms();
    let mut memory = schedule.in_memory(&route.name, now_ms);
    memory.truncate(DESTINATIONS.max(1));
    let meters = schedule.meters_mut();
    if let Some(rates) = &route.record.rates {
        // Of a route that had no mail since the start it may not be known yet.
        meters.set(&[Account { name: route.name.clone(), rates: rates.clone() }]);
    }
    let mut windows: HashMap<_, _> = HashMap::new();
    windows.insert(route.name.clone(), meters.account(&route.name, now_ms));
    if route.record.destination_rates.is_some() {
        for one in &memory {
            windows.insert(one.name.clone(), meters.account(&one.name, now_ms));
        }
    }
    let (recipients, jobs) = memory.iter().fold((0, 0), |(r, j), one| (r + one.recipients, j + one.jobs));
    let per_message =
        if jobs > 0 { recipients as f64 / jobs as f64 } else { meters.per_message(&route.name).unwrap_or(1.0) };
    let most = memory.iter().map(|one| one.most_recipients).max().unwrap_or(usize::MAX);
    Known { now_ms, memory, windows, per_message: per_message.clamp(1.0, most.max(1) as f64) }
}

fn looked_at(shared: &Shared, route: &Arc<Route>, count: &QueueCount, today_ends_ms: i64) -> Forecast {
    let known = known(shared, route);
    let (urgent, ordinary) = (count.urgent, count.pending - count.urgent);
    let out = shared.failover.lock().is_out(&route.name, route.failover_after_ms(), known.now_ms);
    if out && !route.record.fallback.is_empty() {
        return Forecast::unknown(urgent, ordinary, Some(Limit::Failover));
    }
    let none: &[WindowStatus] = &[];
    let windows = |name: &str| known.windows.get(name).map_or(none, Vec::as_slice);
    let outlook = Outlook {
        now_ms: known.now_ms,
        today_ends_ms,
        urgent,
        ordinary,
        per_message: known.per_message,
        windows: windows(&route.name),
        pace: together(&known.memory),
        not_before: not_before(shared, route, count, &known),
    };
    let whole = forecast(&outlook);
    let in_memory: u64 = known.memory.iter().map(|one| one.recipients).sum();
    if route.record.destination_rates.is_none() || in_memory == 0 {
        return whole;
    }
    // Each destination has a share of what waits, as far as one can tell from what is in memory.
    let parts = known.memory.iter().filter(|one| one.recipients > 0).map(|one| {
        let share = |count: u64| (count as f64 * one.recipients as f64 / in_memory as f64).ceil() as u64;
        forecast(&Outlook {
            urgent: share(urgent),
            ordinary: share(ordinary),
            windows: windows(&one.name),
            pace: one.pace,
            not_before: one.not_before,
            ..outlook.clone()
        })
    });
    let Some(parts) = parts.reduce(Forecast::beside) else { return whole };
    let later = match (whole.drains_ms, parts.drains_ms) {
        (Some(whole), Some(parts)) => parts > whole,
        (known, _) => known.is_some() && parts.drains_ms.is_none(),
    };
    if later { Forecast { waiting: whole.waiting, urgent: whole.urgent, ..parts } } else { whole }
}

/// All destinations of a route that have mail, as one.
fn together(memory: &[InMemory]) -> Option<Pace> {
    let mut paces = memory.iter().filter(|one| one.recipients > 0 || one.connections > 0).filter_map(|one| one.pace);
    let first = paces.next()?;
    let (mut connections, mut rate) = (first.connections, first.connections / first.took_ms.max(0.01));
    let mut slowed = first.slowed;
    for pace in paces {
        connections += pace.connections;
        rate += pace.connections / pace.took_ms.max(0.01);
        // One of several that asks for less is not what the others are slowed by.
        slowed = None;
    }
    Some(Pace { connections, took_ms: connections / rate, slowed })
}

/// What keeps all of a route's mail, and until when.
fn not_before(shared: &Shared, route: &Route, count: &QueueCount, known: &Known) -> Option<(i64, Limit)> {
    let brakes = shared.brakes.lock();
    let brake = brakes.hold(&route.name, route.version, known.now_ms).map(|hold| (hold.until_ms, Limit::Brake));
    drop(brakes);
    let busy = known.memory.iter().any(|one| one.recipients > 0 || one.connections > 0);
    let retry = count.next_due_ms.filter(|due| !busy && *due > known.now_ms).map(|due| (due, Limit::Retry));
    // One destination that waits does not keep the mail of others.
    let here = match known.memory.as_slice() {
        [only] => only.not_before,
        _ => None,
    };
    brake.or_else(|| here.into_iter().chain(retry).max_by_key(|(until, _)| *until))
}
