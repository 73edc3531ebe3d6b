//! Pages that keep themselves new: the part of a page in the block `live` is sent again when it has changed (server-sent
//! events). All who look at the same page with the same role share one rendering, at most one in [`PERIOD`], and so rare that
//! all pages together take [`SHARE`] of one core: mail goes first, and where it leaves no room pages are made more slowly.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use parking_lot::Mutex;

use super::page::{self, Looked, Ui};
use super::{pages, template};
use crate::http::auth::Caller;
use crate::http::problem::Problem;

/// How often a page is looked at again.
const PERIOD: Duration = Duration::from_secs(2);
/// Making pages may take one part of so many of the time of one core.
const SHARE: i64 = 100;
/// But a page is never older than this.
const OLDEST: Duration = Duration::from_secs(10);
/// How often a watcher sees that the server stops.
const STEP: Duration = Duration::from_millis(250);
/// A connection ends after so many periods: the browser comes again, and has to show its session again.
const PERIODS: u32 = 30;
/// Most watchers at once.
const WATCHERS: usize = 500;
/// Most different pages kept.
const KEPT: usize = 100;

/// A page's address with its query, and the role that looks.
type Shown = (String, &'static str);

/// The latest renderings.
#[derive(Debug, Default)]
pub struct Live {
    shown: Mutex<HashMap<Shown, Arc<Place>>>,
    watchers: AtomicUsize,
}

/// One page for one role.
#[derive(Debug, Default)]
struct Place {
    latest: tokio::sync::Mutex<Latest>,
    /// When it was made the last time, and how long that took, microseconds.
    made_ms: AtomicI64,
    took_us: AtomicI64,
}

#[derive(Debug, Default)]
struct Latest {
    at_ms: i64,
    html: Arc<str>,
}

/// How long pages are shown that took so long to make, all together, milliseconds.
fn period_ms(took_us: i64) -> i64 {
    // A little less than a watcher waits, so that the same one does not find it too young and then too old.
    let shortest = PERIOD.as_millis() as i64 * 9 / 10;
    (took_us * SHARE / 1_000).clamp(shortest, OLDEST.as_millis() as i64)
}

/// Counts a watcher while it is there.
struct Watcher(Arc<Ui>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.live.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stream of one page, named by `at=/admin/…`.
pub async fn watch(Extension(ui): Extension<Arc<Ui>>, RawQuery(query): RawQuery, caller: Caller) -> Response {
    let looked = Looked::at(Vec::new(), query.as_deref().unwrap_or_default());
    let Some(at) = looked.asked("at").map(str::to_owned).filter(|at| pages::find(at).is_some()) else {
        return Problem::not_found().into_response();
    };
    let watcher = Watcher(ui.clone());
    if ui.live.watchers.fetch_add(1, Ordering::Relaxed) >= WATCHERS {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many watch already").retry_after(30).into_response();
    }
    let begin = (watcher, at, caller, Arc::<str>::default(), 0_u32);
    let events = stream::unfold(begin, |(watcher, at, caller, before, mut period)| async move {
        loop {
            if period >= PERIODS || !waited(&watcher.0).await {
                return None;
            }
            period += 1;
            let html = latest(&watcher.0, &at, &caller).await?;
            if html != before {
                let event = Event::default().event("live").data(&*html);
                return Some((Ok::<_, Infallible>(event), (watcher, at, caller, html, period)));
            }
        }
    });
    ([(header::CACHE_CONTROL, "no-store")], Sse::new(events)).into_response()
}

/// Waits a period; false when the server stops.
async fn waited(ui: &Ui) -> bool {
    for _ in 0..PERIOD.as_millis() / STEP.as_millis() {
        tokio::time::sleep(STEP).await;
        if ui.app.draining.load(Ordering::Relaxed) {
            return false;
        }
    }
    true
}

/// The page's live part, made anew by the first who asks in a period. `None`: it cannot be shown.
async fn latest(ui: &Ui, at: &str, caller: &Caller) -> Option<Arc<str>> {
    let role = caller.role().map_or("", |role| role.name());
    let now_ms = ui.app.clock.now_ms();
    let (place, took_us) = {
        let mut shown = ui.live.shown.lock();
        if shown.len() >= KEPT {
            shown.retain(|_, place| Arc::strong_count(place) > 1);
        }
        let place = shown.entry((at.to_owned(), role)).or_default().clone();
        // What nobody has looked at for a while costs nothing.
        let since_ms = now_ms - 2 * OLDEST.as_millis() as i64;
        let watched = shown.values().filter(|place| place.made_ms.load(Ordering::Relaxed) >= since_ms);
        let took_us = watched.map(|place| place.took_us.load(Ordering::Relaxed)).sum();
        (place, took_us)
    };
    let mut latest = place.latest.lock().await;
    let now_ms = ui.app.clock.now_ms();
    if latest.html.is_empty() || now_ms - latest.at_ms >= period_ms(took_us) {
        let began_us = ui.app.clock.mono_us();
        latest.html = made(ui, at, caller).await?.into();
        latest.at_ms = now_ms;
        place.made_ms.store(now_ms, Ordering::Relaxed);
        let took_us = ui.app.clock.mono_us() - began_us;
        place.took_us.store(took_us as i64, Ordering::Relaxed);
    }
    Some(latest.html.clone())
}

async fn made(ui: &Ui, at: &str, caller: &Caller) -> Option<String> {
    let (page, looked) = pages::find(at)?;
    let door = ui.inside.door(caller.clone(), None);
    let context = page::contents(ui, page, &looked, &door).await.ok()?;
    match template::live(page.template, context) {
        Ok(html) => Some(html),
        Err(error) => {
            tracing::error!(page = page.path, error = %template::chain(&error), "a live page could not be rendered");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_take_long_to_make_are_made_less_often() {
        assert_eq!(period_ms(0), 1_800);
        assert_eq!(period_ms(18_000), 1_800, "18 ms of 1.8 s is a hundredth");
        assert_eq!(period_ms(50_000), 5_000);
        assert_eq!(period_ms(i64::from(u32::MAX)), 10_000);
    }
}
