//! Follows the store: changes of the list for the set in memory, and events for what they say against addresses.
//!
//! Events are read behind a cursor that is moved when they are done with; what a crash lets read again changes nothing: a day
//! counts once, and what somebody removed meanwhile does not come back on old evidence.

use std::sync::Arc;
use std::time::Duration;

use store::{ChangeKind, Event, EventKind, Evidence, RecipientId, RecipientView, StoreError, Strike, Struck};
use store::{Suppression, SuppressionScope};

use super::policy::{self, Charge};
use crate::rates;
use crate::shared::Shared;

/// Name of the cursor.
const NAME: &str = "~suppression";
/// What is heard of deliveries that may say something against an address.
const KINDS: [EventKind; 4] = [EventKind::Failed, EventKind::Expired, EventKind::Bounced, EventKind::Complained];
/// How often the store is asked for news.
const EVERY: Duration = Duration::from_secs(1);
/// Events read at once.
const PAGE: u32 = 500;
/// The cursor is written at the latest after so many events, though there was nothing to do.
const STRIDE: i64 = 50_000;
/// Changes read at once.
const CHANGES: u32 = 1_000;
/// So many addresses may be in the set that are not suppressed any more, beside a quarter of it: each costs a question to the store.
const STALE: usize = 10_000;
/// Addresses to be forgiven that wait in memory.
const FORGIVEN: usize = 10_000;
/// Addresses forgiven in one transaction.
const FORGIVE_AT_ONCE: usize = 1_000;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Where the follower stands.
#[derive(Default)]
struct Place {
    /// Change of the list; `None`: the set has to be filled.
    change: Option<i64>,
    stale: usize,
    event: Option<i64>,
    saved: i64,
    /// As of which time that this node leads.
    term: Option<u64>,
    begun: bool,
}

/// Follows until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut place = Place::default();
    while !shared.is_stopping() {
        let more = match round(&shared, &mut place).await {
            Ok(more) => more,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "the list of suppressions is not followed");
                false
            }
        };
        if more {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Reads what is new. True: there may be more at once.
async fn round(shared: &Arc<Shared>, place: &mut Place) -> Result<bool, StoreError> {
    let more_changes = follow_changes(shared, place).await?;
    forgive(shared).await?;
    let term = shared.term();
    if term != place.term {
        place.event = None;
        // What the relay began with was read a moment ago.
        if term.is_some() && place.begun {
            rates::watch::take_up(shared).await?;
        }
        place.term = term;
    }
    place.begun = true;
    let more_events = match term {
        Some(_) => follow_events(shared, place).await?,
        None => false,
    };
    Ok(more_changes || more_events)
}

async fn follow_changes(shared: &Arc<Shared>, place: &mut Place) -> Result<bool, StoreError> {
    let since = match place.change {
        Some(since) if place.stale <= STALE + shared.suppressed.len() / 4 => since,
        // Changes first: what is added while the set is filled is read again after it.
        _ => {
            let latest = shared.store.suppression_changes(i64::MAX, 1).await?.latest;
            shared.suppressed.fill(|after, limit| shared.store.suppressed_keys(after, limit)).await?;
            shared.struck.fill(|after, limit| shared.store.struck(after, limit)).await?;
            place.stale = 0;
            *place.change.insert(latest)
        }
    };
    let found = shared.store.suppression_changes(since, CHANGES).await?;
    if found.forgotten > since {
        place.change = None;
        return Ok(true);
    }
    for change in &found.changes {
        match change.change {
            ChangeKind::Added | ChangeKind::Changed => shared.suppressed.insert(&change.address),
            // It may be suppressed in another scope: what is too much in the set costs a question, what is missing a mail.
            ChangeKind::Removed | ChangeKind::Expired => place.stale += 1,
        }
    }
    place.change = Some(found.changes.last().map_or(since, |change| change.seq));
    Ok(found.changes.len() == CHANGES as usize)
}

/// Forgets what was counted against addresses that took mail.
async fn forgive(shared: &Shared) -> Result<(), StoreError> {
    let mut list = std::mem::take(&mut *shared.forgiven.lock());
    while !list.is_empty() {
        let some = list.split_off(list.len().saturating_sub(FORGIVE_AT_ONCE));
        shared.store.forgive(some.clone()).await?;
        some.iter().for_each(|address| shared.struck.remove(address));
    }
    Ok(())
}

/// An address took mail: what was counted against it is to be forgotten.
pub(crate) fn delivered(shared: &Shared, address: &proto::Address) {
    if !shared.struck.may_have(address) {
        return;
    }
    let mut list = shared.forgiven.lock();
    if list.len() < FORGIVEN {
        list.push(address.clone());
    }
}

async fn follow_events(shared: &Arc<Shared>, place: &mut Place) -> Result<bool, StoreError> {
    let at = match place.event {
        Some(at) => at,
        None => {
            place.saved = shared.store.cursor(NAME).await?;
            *place.event.insert(place.saved)
        }
    };
    let found = shared.store.events_of(at, KINDS.to_vec(), PAGE).await?;
    if !found.events.is_empty() {
        heed(shared, &found.events, found.upto).await?;
    }
    place.event = Some(found.upto);
    if !found.events.is_empty() || found.upto - place.saved >= STRIDE {
        shared.store.move_cursor(NAME, found.upto).await?;
        place.saved = found.upto;
    }
    Ok(found.events.len() == PAGE as usize || (found.upto - at >= STRIDE))
}

/// Draws conclusions from a page of events.
async fn heed(shared: &Arc<Shared>, events: &[Event], upto: i64) -> Result<(), StoreError> {
    let mut names: Vec<RecipientId> =
        events.iter().filter_map(|event| Some(RecipientId { message: event.message, n: event.n? })).collect();
    names.dedup();
    let views = shared.store.recipients_named(names).await?;
    let rules = shared.rules();
    let mut strikes = Vec::new();
    let mut bad = Vec::new();
    for event in events {
        let view = views.iter().find(|view| view.id.message == event.message && Some(view.id.n) == event.n);
        let Some(view) = view else { continue };
        let severity = event.detail.report.as_ref().map(|report| report.severity);
        let cause = event.detail.cause.as_ref();
        if let Some(charge) = policy::charge(&rules, event.kind, severity, cause) {
            strikes.extend(strike(shared, event, view, charge));
        }
        if event.kind == EventKind::Complained {
            bad.push((event, view, rates::Bad::Complaint));
        } else if policy::is_bounce(&rules, event.kind, severity, cause) {
            let later = event.kind == EventKind::Bounced;
            bad.push((event, view, if later { rates::Bad::Returned } else { rates::Bad::Refused }));
        }
    }
    apply(shared, strikes).await?;
    rates::watch::count(shared, &bad, upto).await
}

/// The suppression that an event leads to, once or after more of its kind.
fn strike(shared: &Shared, event: &Event, view: &RecipientView, charge: Charge) -> Option<Strike> {
    let threshold = shared.config.suppression.of(charge.reason)?;
    let detail = &event.detail;
    let cause = detail.cause.as_ref();
    let reply = cause.and_then(|cause| cause.failure.reply()).map(|reply| reply.text());
    let own = charge.reason == store::SuppressionReason::Complaint && shared.owns_suppressions(&view.lane.stream);
    let suppression = Suppression {
        address: view.address.clone(),
        scope: if own { SuppressionScope::Stream(view.lane.stream.clone()) } else { SuppressionScope::Global },
        reason: charge.reason,
        evidence: Evidence {
            at_ms: Some(event.at_ms),
            message: Some(event.message),
            n: event.n,
            rule: cause.and_then(|cause| cause.rule.as_deref()).map(str::to_owned),
            reply: reply.or_else(|| detail.why.clone()),
            source: Some(detail.report.as_ref().map_or_else(|| "delivery".into(), |report| report.source.clone())),
            note: None,
        },
        who: "pillarbox".into(),
        added_ms: shared.now_ms(),
        expires_ms: threshold.keep_days.map(|days| event.at_ms.saturating_add(i64::from(days) * DAY_MS)),
    };
    let need = if charge.certain { 1 } else { threshold.need };
    Some(Strike { suppression, need, within_days: threshold.within_days })
}

async fn apply(shared: &Arc<Shared>, strikes: Vec<Strike>) -> Result<(), StoreError> {
    if strikes.is_empty() {
        return Ok(());
    }
    let struck = shared.store.strike(strikes.clone(), shared.now_ms()).await?;
    for (strike, struck) in strikes.iter().zip(struck) {
        let suppression = &strike.suppression;
        match struck {
            Struck::Suppressed => {
                shared.suppressed.insert(&suppression.address);
                shared.struck.remove(&suppression.address);
                let (address, reason) = (&suppression.address, suppression.reason);
                tracing::info!(%address, %reason, scope = suppression.scope.as_str(), "suppressed");
            }
            Struck::Counted(_) => shared.struck.insert(&suppression.address),
            Struck::Forgiven => {}
        }
    }
    Ok(())
}
