//! Pages that keep themselves new: the part of a page in the block `live` is sent again when it has changed (server-sent
//! events). All who look at the same page with the same role share one rendering, at most one in [`PERIOD`], and so rare that
//! all pages together take [`SHARE`] of one core, unless they would have to be older than [`OLDEST`] for it: mail goes first,
//! and the more there is to make the more slowly it is made. Nobody is sent what is older than what they see.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
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
/// But a page is never older than this. Pages that take up to 0.6 s to make, all together, keep to their share with that.
const OLDEST: Duration = Duration::from_secs(60);
/// The first making counts at most so much, microseconds: it may have waited for something else.
const FIRST_US: i64 = 100_000;
/// How often a watcher sees that the server stops.
const STEP: Duration = Duration::from_millis(250);
/// A connection ends after so many periods: the browser comes again, and has to show its session again.
const PERIODS: u32 = 30;
/// Most watchers at once.
const WATCHERS: usize = 500;
/// A watcher asks in every period: what nobody has asked for in this time is not watched.
const WATCHED: Duration = Duration::from_secs(6);
/// A page is kept so long for those whose connection ended and who come again.
const KEPT: Duration = Duration::from_secs(20);

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
    /// When somebody asked for it the last time.
    asked_ms: AtomicI64,
    /// How long it takes to make, microseconds.
    took_us: AtomicI64,
}

#[derive(Debug, Default)]
struct Latest {
    /// When it was made; 0: never.
    at_ms: i64,
    /// How long that took, microseconds.
    took_us: Option<i64>,
    html: Arc<str>,
}

impl Place {
    /// Whether somebody has asked for it in this time.
    fn was_asked(&self, now_ms: i64, time: Duration) -> bool {
        now_ms - self.asked_ms.load(Ordering::Relaxed) < time.as_millis() as i64
    }
}

impl Live {
    /// A page's place, and how long all pages that are watched take to make, once each, microseconds.
    fn place(&self, shown: Shown, now_ms: i64) -> (Arc<Place>, i64) {
        let mut all = self.shown.lock();
        let kept = if all.len() < WATCHERS { KEPT } else { WATCHED };
        all.retain(|_, place| place.was_asked(now_ms, kept) || Arc::strong_count(place) > 1);
        let place = all.entry(shown).or_default().clone();
        place.asked_ms.store(now_ms, Ordering::Relaxed);
        let watched = all.values().filter(|place| place.was_asked(now_ms, WATCHED));
        let took_us = watched.map(|place| place.took_us.load(Ordering::Relaxed)).sum();
        (place, took_us)
    }
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
pub async fn watch(
    Extension(ui): Extension<Arc<Ui>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    caller: Caller,
) -> Response {
    let looked = Looked::at(Vec::new(), query.as_deref().unwrap_or_default());
    // A browser does not come again after this answer.
    let Some(at) = looked.asked("at").filter(|at| has_part(at)).map(str::to_owned) else {
        return Problem::not_found().into_response();
    };
    // What is seen was made when the stream sent it the last time, or else when the page was opened.
    let sent_ms: Option<i64> = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let seen_ms = sent_ms.unwrap_or_else(|| ui.app.clock.now_ms());
    let watcher = Watcher(ui.clone());
    if ui.live.watchers.fetch_add(1, Ordering::Relaxed) >= WATCHERS {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many watch already").retry_after(30).into_response();
    }
    let begin = (watcher, at, caller, (seen_ms, Arc::<str>::default()), 0_u32);
    let events = stream::unfold(begin, |(watcher, at, caller, (seen_ms, before), mut period)| async move {
        loop {
            if period >= PERIODS || !waited(&watcher.0).await {
                return None;
            }
            period += 1;
            let (made_ms, html) = latest(&watcher.0, &at, &caller).await?;
            if made_ms > seen_ms && html != before {
                let event = Event::default().event("live").id(made_ms.to_string()).data(&*html);
                return Some((Ok::<_, Infallible>(event), (watcher, at, caller, (made_ms, html), period)));
            }
        }
    });
    ([(header::CACHE_CONTROL, "no-store")], Sse::new(events)).into_response()
}

/// Whether there is a page with a part to watch.
fn has_part(at: &str) -> bool {
    pages::find(at).is_some_and(|(page, _)| template::has_live(page.template))
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

/// The page's live part and when it was made, anew by the first who asks in a period. `None`: it cannot be shown.
async fn latest(ui: &Ui, at: &str, caller: &Caller) -> Option<(i64, Arc<str>)> {
    let role = caller.role().map_or("", |role| role.name());
    let (place, took_us) = ui.live.place((at.to_owned(), role), ui.app.clock.now_ms());
    let mut latest = place.latest.lock().await;
    let now_ms = ui.app.clock.now_ms();
    if latest.at_ms == 0 || now_ms - latest.at_ms >= period_ms(took_us) {
        let began_us = ui.app.clock.mono_us();
        latest.html = made(ui, at, caller).await?.into();
        latest.at_ms = now_ms;
        let took_us = (ui.app.clock.mono_us() - began_us) as i64;
        // One alone may have waited for something else: the shorter of the last two counts.
        let before_us = latest.took_us.replace(took_us).unwrap_or(FIRST_US);
        place.took_us.store(took_us.min(before_us), Ordering::Relaxed);
    }
    Some((latest.at_ms, latest.html.clone()))
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
        assert_eq!(period_ms(i64::from(u32::MAX)), 60_000);
    }

    #[test]
    fn fifty_expensive_pages_take_their_share_and_no_more() {
        let live = Live::default();
        let look = |n: usize, now_ms: i64| live.place((format!("/admin/routes/{n}"), "viewer"), now_ms);
        for n in 0..50 {
            look(n, 1_000).0.took_us.store(10_000, Ordering::Relaxed);
        }
        let (_, took_us) = look(0, 2_000);
        assert_eq!(took_us, 500_000);
        assert!(took_us * SHARE <= period_ms(took_us) * 1_000, "made once in a period: a hundredth of one core");
        assert_eq!(look(0, 8_000).1, 10_000, "nobody watches the others any more");
        assert_eq!(live.shown.lock().len(), 50, "but they may come again");
        assert_eq!(look(0, 22_000).1, 10_000);
        assert_eq!(live.shown.lock().len(), 1);
    }

    #[test]
    fn however_many_are_watched_none_is_made_anew_for_each_who_asks() {
        let live = Live::default();
        let look = |n: usize| live.place((format!("/admin/routes/{n}"), "viewer"), 1_000);
        for n in 0..=WATCHERS {
            look(n).0.took_us.store(1_000, Ordering::Relaxed);
        }
        assert_eq!(look(0).1, 1_000 * (WATCHERS as i64 + 1));
    }

    #[test]
    fn only_pages_with_a_part_that_changes_are_watched() {
        assert!(has_part("/admin/overview") && has_part("/admin/incidents/x?a=b"));
        assert!(!has_part("/admin/account") && !has_part("/admin/nothing"));
        for page in pages::PAGES {
            let source = template::pages().get_template(page.template).unwrap();
            assert_eq!(template::has_live(page.template), source.source().contains("data-live"), "{}", page.path);
        }
    }
}
