//! Makes the queue as the book says, and the store know the book: what is stopped is held, what may go is let go in parts.
//!
//! The book is written down before the queue follows. A crash in between is made good by the next start; mail that is held for
//! an incident of which nothing is known is found by its reason.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use store::{Cause, GroupBy, Operation, Selector, State, StoreError};

use super::book::{Braked, HELD_FOR, incident_of, prefix};
use super::news::BrakeNews;
use super::others::{self, Seen};
use super::scope::BrakeScope;
use crate::dispatch::{destination_of, route_of};
use crate::node::Word;
use crate::route::{Route, RouteKind};
use crate::run;
use crate::schedule::ramp::Ramp;
use crate::shared::Shared;

/// Under which names the book is written down; no route can be called so.
pub(crate) const PREFIX: &str = "~brake/";
/// Longest sleep while there are brakes.
const NAP_MS: i64 = 1_000;
/// Pause after the store could not do something.
const AGAIN: Duration = Duration::from_secs(1);
/// How often held mail is counted, milliseconds.
const COUNT_MS: i64 = 5_000;
/// When mail of unknown incidents is looked for after a start, milliseconds: who keeps incidents speaks first.
const ORPHANS_MS: i64 = 20_000;
/// Recipients looked at in one question.
const PAGE: u32 = 1_000;
/// Domains whose destination is looked at.
const DOMAINS: u32 = 1_000;

/// Takes up what an earlier run wrote down; gives the other rows.
pub(crate) fn restore(shared: &Shared, rows: Vec<(String, String)>) -> Vec<(String, String)> {
    let (ours, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
    for (name, body) in ours {
        let incident = name.strip_prefix(PREFIX).and_then(|id| id.parse().ok());
        match (incident, serde_json::from_str::<Braked>(&body)) {
            (Some(incident), Ok(braked)) => shared.keeper.book.lock().restore(incident, braked),
            // Its mail is found by its reason.
            (_, result) => tracing::warn!(%name, error = ?result.err(), "a brake cannot be read"),
        }
    }
    let directory = shared.directory();
    let version = |route: &str| directory.route(route).map(|route| route.version);
    shared.keeper.book.lock().changed(version, shared.now_ms());
    shared.keeper.renew();
    others
}

/// Works until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut orphans = Some(shared.now_ms() + ORPHANS_MS);
    let mut counted_ms = i64::MIN;
    let mut seen = Seen::default();
    // What the relay began with was read from the store a moment ago.
    let mut led = shared.leads();
    while !shared.is_stopping() {
        let now_ms = shared.now_ms();
        let leads = shared.leads();
        let result = match (leads, led) {
            (true, true) => step(&shared, &mut orphans, &mut counted_ms).await,
            (true, false) => take_up(&shared, &mut seen, &mut orphans).await,
            (false, _) => {
                if led {
                    seen = Seen::default();
                }
                follow_others(&shared, &mut seen).await
            }
        };
        if result.is_ok() {
            led = leads;
        }
        match result {
            Ok(()) => {}
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "mail is not held or released yet as the brakes say");
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = shared.stopping.cancelled() => return,
                }
            }
        }
        let next = shared.keeper.book.lock().next_ms(now_ms).filter(|_| led);
        let nap = if shared.keeper.is_on() || shared.store.bell().is_some() { NAP_MS } else { ORPHANS_MS };
        let wait_ms = next.map_or(nap, |at| (at - now_ms).clamp(1, nap));
        tokio::select! {
            () = shared.keeper.wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms as u64)) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// This node leads from now on: the brakes are its own to keep.
async fn take_up(shared: &Arc<Shared>, seen: &mut Seen, orphans: &mut Option<i64>) -> Result<(), StoreError> {
    others::read(shared, seen).await?;
    let directory = shared.directory();
    let version = |route: &str| directory.route(route).map(|route| route.version);
    shared.keeper.book.lock().changed(version, shared.now_ms());
    *orphans = Some(shared.now_ms() + ORPHANS_MS);
    Ok(())
}

/// Another node leads: what its brakes stop is held here too.
async fn follow_others(shared: &Arc<Shared>, seen: &mut Seen) -> Result<(), StoreError> {
    others::read(shared, seen).await?;
    hold_what_is_stopped(shared).await.map(drop)
}

/// Makes the queue follow the brakes that are new to it. Gives how many incidents; what fails is done again.
async fn hold_what_is_stopped(shared: &Arc<Shared>) -> Result<usize, StoreError> {
    let mut holds = shared.keeper.book.lock().take_holds().into_iter();
    let count = holds.len();
    while let Some((incident, scopes, why)) = holds.next() {
        tracing::warn!(incident, %why, "mail is held");
        if let Err(error) = hold(shared, &scopes, &why).await {
            let mut book = shared.keeper.book.lock();
            book.hold_again(incident);
            holds.for_each(|(incident, ..)| book.hold_again(incident));
            return Err(error);
        }
    }
    Ok(count)
}

async fn step(shared: &Arc<Shared>, orphans: &mut Option<i64>, counted_ms: &mut i64) -> Result<(), StoreError> {
    let now_ms = shared.now_ms();
    if orphans.is_some_and(|at| at <= now_ms) {
        adopt_orphans(shared).await?;
        *orphans = None;
    }
    if !shared.keeper.is_on() {
        return Ok(());
    }
    save(shared).await?;
    if hold_what_is_stopped(shared).await? > 0 {
        *counted_ms = i64::MIN;
    }
    let due = shared.keeper.book.lock().due(now_ms);
    for (incident, scope) in due {
        shared.tasks.spawn(super::probe::by_turn(shared.clone(), incident, scope));
    }
    let forgotten = shared.keeper.book.lock().forgotten(now_ms);
    for incident in forgotten {
        tracing::info!(incident, "it works again, and nobody let the mail go: it goes by itself");
        unbrake(shared, incident, Ramp::default()).await?;
    }
    release(shared).await?;
    forget(shared).await?;
    if now_ms - COUNT_MS >= *counted_ms {
        *counted_ms = now_ms;
        count(shared).await?;
    }
    Ok(())
}

/// Writes down what has changed.
pub(crate) async fn save(shared: &Shared) -> Result<(), StoreError> {
    let unsaved = shared.keeper.book.lock().unsaved();
    if unsaved.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = unsaved.iter().map(|(incident, _)| *incident).collect();
    let text = |braked: &Braked| serde_json::to_string(braked).map_err(|error| StoreError::Internal(error.to_string()));
    let rows = unsaved.iter().map(|(incident, braked)| Ok((format!("{PREFIX}{incident}"), Some(text(braked)?))));
    let result = match rows.collect::<Result<Vec<_>, StoreError>>() {
        Ok(rows) => shared.store.save_usage(rows).await.map(drop),
        Err(error) => Err(error),
    };
    if result.is_err() {
        let mut book = shared.keeper.book.lock();
        ids.into_iter().for_each(|incident| book.not_saved(incident));
    }
    result
}

/// Holds what waits, in memory and in the store, and what comes back from hands it is in now.
async fn hold(shared: &Arc<Shared>, scopes: &[BrakeScope], why: &str) -> Result<(), StoreError> {
    for scope in scopes {
        match scope {
            BrakeScope::Credential(name) | BrakeScope::Route(name) => hold_route(shared, name, why).await?,
            BrakeScope::Destination(name) => hold_destination(shared, name, why).await?,
            BrakeScope::Source(_) => {
                let routes: Vec<Arc<Route>> = shared.directory().routes().cloned().collect();
                for route in routes {
                    if shared.keeper.next_hop(&route, None).is_some() {
                        hold_route(shared, &route.name, why).await?;
                    }
                }
            }
            BrakeScope::Stream(name) => {
                hold_all(shared, Selector { stream: Some(name.to_string()), ..Selector::default() }, why).await?;
            }
            BrakeScope::SenderDomain(name) => {
                let selector = Selector { sender_domain: Some(name.to_string()), ..Selector::default() };
                hold_all(shared, selector, why).await?;
            }
        }
    }
    Ok(())
}

async fn hold_all(shared: &Arc<Shared>, selector: Selector, why: &str) -> Result<(), StoreError> {
    run::operate(shared.clone(), selector, Operation::Hold(why.to_owned()), String::new()).await.map(drop)
}

/// Mail of a route that has fallbacks is looked at one by one: it goes by them, or is held where none works.
async fn hold_route(shared: &Arc<Shared>, name: &str, why: &str) -> Result<(), StoreError> {
    let of_route = Selector { route: Some(name.to_owned()), ..Selector::default() };
    let has_fallback = shared.directory().route(name).is_some_and(|route| !route.record.fallback.is_empty());
    if has_fallback {
        let waiting = Selector { state: Some(State::Waiting), ..of_route };
        shared.store.operate(waiting, Operation::Retry, String::new(), shared.now_ms()).await?;
        // A fallback may be new, or work again.
        look_again(shared, name, why).await?;
        shared.due_at(i64::MIN);
    } else {
        hold_all(shared, of_route, why).await?;
    }
    // Also what came here from other routes.
    dispatch_again(shared, |destination| route_of(destination) == name);
    Ok(())
}

/// Lets go what is held of a route, each once: what finds no way is held again.
async fn look_again(shared: &Shared, route: &str, why: &str) -> Result<(), StoreError> {
    let Some(incident) = incident_of(why) else { return Ok(()) };
    let mut left = shared.store.count(Selector::held_for(prefix(incident)), u32::MAX).await?;
    while left > 0 {
        let route = Some(route.to_owned());
        let selector = Selector { why: Some(prefix(incident)), route, ..Selector::default() };
        let some = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE);
        let who = format!("incident i-{incident}: by a fallback");
        let got = shared.store.let_go(selector, some, who, shared.now_ms()).await?;
        left = if got < u64::from(some) { 0 } else { left - got };
    }
    Ok(())
}

async fn hold_destination(shared: &Arc<Shared>, name: &str, why: &str) -> Result<(), StoreError> {
    let directory = shared.directory();
    if directory.route(name).is_some_and(|route| route.record.kind != RouteKind::Mx) {
        return hold_route(shared, name, why).await;
    }
    dispatch_again(shared, |one| *one == *name || one.split_once('/').is_some_and(|(_, group)| group == name));
    let routes: Vec<Arc<Route>> =
        directory.routes().filter(|route| route.record.kind == RouteKind::Mx).cloned().collect();
    let domains = shared.store.counts(GroupBy::Domain, DOMAINS).await?;
    for domain in domains.into_iter().filter(|count| count.pending > 0).map(|count| count.group) {
        let of_domain: Arc<str> = domain.as_str().into();
        for route in routes.iter().filter(|route| route.record.fallback.is_empty()) {
            let known = shared.exchangers.all_known(&of_domain, shared.now_ms());
            let there =
                known.iter().any(|exchange| *exchange.group == *name || *destination_of(route, exchange) == *name);
            if there {
                let (domain, route) = (Some(domain.clone()), Some(route.name.to_string()));
                hold_all(shared, Selector { domain, route, ..Selector::default() }, why).await?;
            }
        }
    }
    // Domains that are not known to lead there are held when their mail is to leave.
    Ok(())
}

/// Looks anew at what waits in memory for some destinations.
fn dispatch_again(shared: &Arc<Shared>, concerns: impl Fn(&str) -> bool) {
    let jobs = shared.schedule.lock().evict_from_all(concerns);
    for job in jobs {
        shared.admit(job);
    }
}

/// Lets an incident's mail go, slowly at first. Gives how many recipients wait; `None`: it has no brake on.
pub(crate) async fn unbrake(shared: &Arc<Shared>, incident: i64, ramp: Ramp) -> Result<Option<u64>, StoreError> {
    let now_ms = shared.now_ms();
    let scopes: Vec<BrakeScope> = {
        let mut book = shared.keeper.book.lock();
        if !book.unbrake(incident, ramp, now_ms) {
            return Ok(None);
        }
        // What it stopped may be somebody else's fallback.
        book.follow_again();
        let braked = book.get(incident).map(|braked| braked.orders.iter().map(|order| order.scope.clone()));
        braked.map(Iterator::collect).unwrap_or_default()
    };
    shared.keeper.renew();
    for scope in &scopes {
        set_free(shared, scope);
    }
    let waiting = shared.store.count(Selector::held_for(prefix(incident)), u32::MAX).await;
    if let Ok(waiting) = &waiting {
        shared.keeper.book.lock().counted(incident, *waiting);
    }
    tracing::info!(incident, waiting = waiting.as_ref().copied().unwrap_or(0), "held mail goes on, slowly at first");
    // Not written down is not forgotten: the next start probes again.
    let saved = save(shared).await;
    shared.keeper.wake.notify_one();
    saved?;
    waiting.map(Some)
}

/// What stood still for its own reasons as well need not wait for the end of its pause.
pub(super) fn set_free(shared: &Arc<Shared>, scope: &BrakeScope) {
    let now_ms = shared.now_ms();
    if let BrakeScope::Credential(name) | BrakeScope::Route(name) = scope {
        shared.brakes.lock().release_of(name, now_ms);
        shared.brake_news.notify_waiters();
    }
    let directory = shared.directory();
    let concerned = |destination: &str| {
        let route = directory.route(route_of(destination));
        route.is_some_and(|route| shared.keeper.concerns(scope, route, destination))
    };
    let actions = shared.schedule.lock().resume_of(concerned, now_ms);
    shared.perform(actions);
}

async fn release(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let now_ms = shared.now_ms();
    let plan = shared.keeper.book.lock().to_release(now_ms);
    for (incident, most) in plan {
        let asked = u32::try_from(most).unwrap_or(u32::MAX).min(PAGE * 10);
        let selector = Selector { why: Some(prefix(incident)), ..Selector::default() };
        let who = format!("incident i-{incident}");
        let got = shared.store.let_go(selector, asked, who, now_ms).await?;
        if got > 0 {
            shared.due_at(i64::MIN);
        }
        let all = shared.keeper.book.lock().released(incident, u64::from(asked), got, now_ms);
        if let Some(recipients) = all {
            tracing::info!(incident, recipients, "all mail that was held for it goes on");
            let _ = shared.keeper.news.send(BrakeNews::Released { incident, recipients, at_ms: now_ms });
        }
    }
    Ok(())
}

async fn forget(shared: &Shared) -> Result<(), StoreError> {
    let gone = shared.keeper.book.lock().forget(shared.now_ms());
    if gone.is_empty() {
        return Ok(());
    }
    shared.keeper.renew();
    // A row that stays is a brake that drains again after the next start.
    shared.store.save_usage(gone.into_iter().map(|id| (format!("{PREFIX}{id}"), None)).collect()).await.map(drop)
}

async fn count(shared: &Shared) -> Result<(), StoreError> {
    let incidents: Vec<i64> = shared.keeper.book.lock().all().map(|(incident, _)| incident).collect();
    for incident in incidents {
        let waiting = shared.store.count(Selector::held_for(prefix(incident)), u32::MAX).await?;
        shared.keeper.book.lock().counted(incident, waiting);
    }
    Ok(())
}

/// Mail that is held for an incident of which nothing is known any more goes on.
async fn adopt_orphans(shared: &Arc<Shared>) -> Result<(), StoreError> {
    if shared.store.count(Selector::held_for(HELD_FOR), 1).await? == 0 {
        return Ok(());
    }
    let known: BTreeSet<i64> = shared.keeper.book.lock().all().map(|(incident, _)| incident).collect();
    let (mut unknown, mut after) = (BTreeSet::new(), None);
    loop {
        let selector = Selector { state: Some(State::Held), why: Some(HELD_FOR.to_owned()), ..Selector::default() };
        let page = shared.store.recipients(selector, after, PAGE).await?;
        after = page.last().map(|view| view.id);
        let incidents = page.iter().filter_map(|view| incident_of(view.why.as_deref()?));
        unknown.extend(incidents.filter(|incident| !known.contains(incident)));
        if page.len() < PAGE as usize || shared.is_stopping() {
            break;
        }
    }
    for incident in unknown {
        tracing::warn!(incident, "mail is held for an incident of which nothing is known: it goes on");
        shared.keeper.book.lock().adopt(incident, shared.now_ms());
    }
    shared.keeper.renew();
    Ok(())
}

/// A next hop failed as a whole. Where mail was being let go to it, its brake is on again.
pub(crate) fn noticed(shared: &Arc<Shared>, route: &Route, destination: &str, cause: impl FnOnce() -> Cause) {
    let keeper = &shared.keeper;
    if !keeper.is_on() {
        return;
    }
    let now_ms = shared.now_ms();
    let again = keeper.book.lock().failed(|scope| keeper.concerns(scope, route, destination), now_ms);
    if let Some((incident, scope)) = again {
        keeper.renew();
        if !shared.leads() {
            let (route, destination) = (route.name.clone(), destination.into());
            shared.words.say(Word::Again { route, destination, cause: Box::new(cause()) });
            return;
        }
        tracing::warn!(incident, %scope, "it fails as before: its mail is held again");
        let cause = Box::new(cause());
        let _ = keeper.news.send(BrakeNews::Braked { scope, incident: Some(incident), cause, at_ms: now_ms });
        keeper.wake.notify_one();
    }
}

/// A credential was rejected: nobody signs in with it for a while.
pub(crate) fn rejected(shared: &Arc<Shared>, route: &Arc<str>, cause: Cause) {
    let keeper = &shared.keeper;
    let now_ms = shared.now_ms();
    if shared.tells(|| Word::Rejected { route: route.clone(), cause: Box::new(cause.clone()) }) {
        if keeper.is_on() && keeper.book.lock().failed(|one| one.route() == Some(&**route), now_ms).is_some() {
            keeper.renew();
        }
        return;
    }
    let scope = BrakeScope::Credential(route.clone());
    let again = match keeper.is_on() {
        true => keeper.book.lock().failed(|one| one.route() == Some(&**route), now_ms),
        false => None,
    };
    let incident = again.map(|(incident, _)| {
        keeper.renew();
        tracing::warn!(incident, %scope, "it is rejected as before: its mail is held again");
        keeper.wake.notify_one();
        incident
    });
    let _ = keeper.news.send(BrakeNews::Braked { scope, incident, cause: Box::new(cause), at_ms: now_ms });
}

/// A credential that nobody could sign in with is accepted again, without a probe.
pub(crate) fn accepted(shared: &Shared, route: &Arc<str>) {
    if shared.tells(|| Word::Accepted { route: route.clone() }) {
        return;
    }
    let (scope, at_ms) = (BrakeScope::Credential(route.clone()), shared.now_ms());
    let _ = shared.keeper.news.send(BrakeNews::ProbeSucceeded { scope, incident: None, at_ms });
}

/// Settings changed: what they concern is probed at once.
pub(crate) fn settings_changed(shared: &Arc<Shared>) {
    let keeper = &shared.keeper;
    if !keeper.is_on() {
        return;
    }
    if !shared.leads() {
        return;
    }
    let (directory, at_ms) = (shared.directory(), shared.now_ms());
    let changed = keeper.book.lock().changed(|route| directory.route(route).map(|route| route.version), at_ms);
    if !changed.is_empty() {
        keeper.book.lock().follow_again();
    }
    for (incident, scope) in changed {
        tracing::info!(incident, %scope, "the route has changed: it is probed");
        let _ = keeper.news.send(BrakeNews::SettingChanged { scope, incident, at_ms });
    }
    keeper.wake.notify_one();
}

/// An operator thinks that it is worth a try.
pub(crate) fn hasten(shared: &Shared) {
    if shared.keeper.is_on() {
        if shared.tells(|| Word::Hasten) {
            return;
        }
        shared.keeper.book.lock().hasten(shared.now_ms());
        shared.keeper.wake.notify_one();
    }
}

/// An operator's reason must not look like a brake's: its mail would go when that comes off.
pub(crate) fn operators_words(operation: Operation) -> Operation {
    match operation {
        Operation::Hold(why) if incident_of(&why).is_some() => Operation::Hold(format!("held by hand: {why}")),
        other => other,
    }
}

/// A probe's recipient and why others like it are held.
pub(super) async fn next_held(
    shared: &Shared,
    incident: i64,
    after: Option<store::RecipientId>,
) -> Result<Option<store::RecipientView>, StoreError> {
    let selector = || Selector { state: Some(State::Held), why: Some(prefix(incident)), ..Selector::default() };
    let next = shared.store.recipients(selector(), after, 1).await?.pop();
    match (next, after) {
        (None, Some(_)) => Ok(shared.store.recipients(selector(), None, 1).await?.pop()),
        (next, _) => Ok(next),
    }
}

/// Holds what was to be a probe and did not leave.
pub(super) async fn hold_one(shared: &Arc<Shared>, view: &store::RecipientView, why: &str) -> Result<(), StoreError> {
    let selector = Selector { message: Some(view.id.message), n: Some(view.id.n), ..Selector::default() };
    hold_all(shared, selector, why).await
}
