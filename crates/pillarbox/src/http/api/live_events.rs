//! Events of messages as they happen: server-sent events (WHATWG HTML §9.2) of the same cursor that webhooks follow.
//!
//! At least once: whoever comes back with `Last-Event-ID` goes on where the last page began to be sent. A reader who is slow
//! slows only their own stream: events wait in the store, and nothing is kept for anybody.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use store::{EventKind, HookAsk, HookCursors, ToldEvent};

use crate::http::auth::Caller;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::{Shared, time, words};

/// How often it is looked whether there is something new.
const PERIOD: Duration = Duration::from_millis(500);
/// Events read at once.
const AT_ONCE: u32 = 200;
/// A stream ends after so many looks: whoever watches comes back, and has to show their session or key again.
const LOOKS: u32 = 600;
/// Most streams at once.
const MOST: usize = 200;

static WATCHING: AtomicUsize = AtomicUsize::new(0);

/// All kinds, in the order of the document.
const KINDS: [EventKind; 13] = [
    EventKind::Accepted,
    EventKind::Deferred,
    EventKind::Delivered,
    EventKind::Failed,
    EventKind::Expired,
    EventKind::Held,
    EventKind::Released,
    EventKind::Canceled,
    EventKind::Suppressed,
    EventKind::Bounced,
    EventKind::Complained,
    EventKind::Quarantined,
    EventKind::WillBeLate,
];

/// Which events.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Kinds such as `failed`, with commas between them; absent: all.
    kind: Option<String>,
    /// Of messages in this stream.
    stream: Option<String>,
    /// Of attempts on this route.
    route: Option<String>,
    /// Of messages by this sender.
    sender: Option<String>,
    /// Where to go on: the `Last-Event-ID` of before; absent: with what happens from now on.
    after: Option<String>,
}

/// An event of a recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LiveEventOut {
    /// Its number; grows.
    pub seq: i64,
    /// RFC 3339.
    pub at: String,
    /// `accepted`, `deferred`, `delivered`, …
    pub event: String,
    /// Message id.
    pub message: String,
    /// Recipient id.
    pub recipient: String,
    /// The recipient.
    pub address: String,
    /// Stream.
    pub stream: String,
    /// Sender name.
    pub sender: String,
    /// The route of the attempt, if it was one.
    pub route: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// Id of the rule that explained it then.
    pub rule: Option<String>,
    /// Next attempt, RFC 3339.
    pub next: Option<String>,
}

impl LiveEventOut {
    fn of(told: &ToldEvent) -> Self {
        let (event, detail) = (&told.event, &told.event.detail);
        let n = event.n.unwrap_or_default();
        Self {
            seq: event.seq,
            at: time::show(event.at_ms),
            event: words::event(event.kind).into(),
            message: event.message.to_string(),
            recipient: store::RecipientId { message: event.message, n }.to_string(),
            address: told.address.to_string(),
            stream: told.message.stream.to_string(),
            sender: told.message.sender.to_string(),
            route: detail.attempt.as_ref().map(|attempt| attempt.route.to_string()),
            reason: detail.cause.as_ref().map(|cause| words::failure(&cause.failure)).or_else(|| detail.why.clone()),
            rule: detail.cause.as_ref().and_then(|cause| cause.rule.as_deref().map(str::to_owned)),
            next: detail.until_ms.map(time::show),
        }
    }
}

/// One stream while it is there.
struct Watcher;

impl Drop for Watcher {
    fn drop(&mut self) {
        WATCHING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a stream knows.
struct Watch {
    app: Shared,
    kinds: Vec<EventKind>,
    wanted: Arc<Wanted>,
    own: Option<String>,
    at: HookCursors,
    looks: u32,
    _watcher: Watcher,
}

/// Events as they happen; a stream ends after some minutes, to be opened again with `Last-Event-ID`.
pub async fn watch(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let kinds = kinds(wanted.kind.as_deref())?;
    let newest = app.store.newest_event().await?;
    let named = headers.get("last-event-id").and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let from = HookCursors { events: newest, ..HookCursors::default() };
    let at = match named.or(wanted.after.as_deref()) {
        // One of a store that was put back is ahead of all there is.
        Some(text) => cursor(text).map(|at| if at.events > newest { from } else { at })?,
        None => from,
    };
    if WATCHING.fetch_add(1, Ordering::Relaxed) >= MOST {
        WATCHING.fetch_sub(1, Ordering::Relaxed);
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many watch already").retry_after(30));
    }
    let own = caller.own().map(str::to_owned);
    let begin = Watch { app, kinds, wanted: Arc::new(wanted), own, at, looks: 0, _watcher: Watcher };
    let pages = stream::unfold(Some(begin), |watch| async move {
        let mut watch = watch?;
        let page = next(&mut watch).await?;
        Some((stream::iter(page.into_iter().map(Ok::<_, Infallible>)), Some(watch)))
    });
    let events = futures_util::StreamExt::flatten(pages);
    let alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(([(header::CACHE_CONTROL, "no-store")], Sse::new(events).keep_alive(alive)).into_response())
}

/// The next events that are wanted, and the place behind them; `None`: the stream ends.
async fn next(watch: &mut Watch) -> Option<Vec<Sent>> {
    loop {
        if watch.looks >= LOOKS || watch.app.draining.load(Ordering::Relaxed) {
            return None;
        }
        watch.looks += 1;
        let newest = watch.app.store.newest_event().await.ok()?;
        if newest > watch.at.events || watch.at.part > 0 {
            let ask = HookAsk { after: watch.at, kinds: watch.kinds.clone(), limit: AT_ONCE };
            let found = watch.app.store.told_after(ask).await.ok()?;
            let moved = found.upto != watch.at;
            watch.at = found.upto;
            if moved {
                let wanted = found.items.iter().filter(|told| watch.wants(told));
                let mut page: Vec<Sent> = wanted.filter_map(|told| sent(&LiveEventOut::of(told))).collect();
                // Without data nobody is told of it: it only says where to go on.
                page.push(Sent::default().id(format!("{}.{}", watch.at.events, watch.at.part)));
                return Some(page);
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn sent(event: &LiveEventOut) -> Option<Sent> {
    Sent::default().event(&event.event).json_data(event).ok()
}

impl Watch {
    fn wants(&self, told: &ToldEvent) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let route = told.event.detail.attempt.as_ref().map_or("", |attempt| &*attempt.route);
        self.own.as_deref().is_none_or(|own| own == &*told.message.sender)
            && is(&self.wanted.stream, &told.message.stream)
            && is(&self.wanted.sender, &told.message.sender)
            && is(&self.wanted.route, route)
    }
}

fn kinds(text: Option<&str>) -> Result<Vec<EventKind>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(KINDS.to_vec()) };
    let one = |word: &str| {
        let known = || KINDS.map(words::event).join(", ");
        let wrong = || Problem::field("/kind", format!("\"{word}\" is no kind of event: there are {}", known()));
        KINDS.into_iter().find(|kind| words::event(*kind) == word).ok_or_else(wrong)
    };
    text.split(',').map(str::trim).map(one).collect()
}

/// `number.part`, or a number alone: that of an event.
fn cursor(text: &str) -> Result<HookCursors, Problem> {
    let wrong = || Problem::field("/after", "is not the id of an event of this stream");
    let (events, part) = text.split_once('.').unwrap_or((text, "0"));
    let events: i64 = events.parse().ok().filter(|events| *events >= 0).ok_or_else(wrong)?;
    Ok(HookCursors { events, part: part.parse().map_err(|_| wrong())?, ..HookCursors::default() })
}
