//! The loops of a running relay: claims, times that have come, settings, chores.

use std::sync::Arc;
use std::time::Duration;

use store::{ClaimRequest, StoreError};

use super::STORE_PAUSE;
use crate::directory::Directory;
use crate::pulse::Part;
use crate::schedule::Job;
use crate::shared::Shared;

/// Longest sleep of a loop: a wall clock that was set must be noticed.
const NAP_MS: i64 = 5_000;
/// How often settings are looked at for changes by other processes.
const SETTINGS_EVERY: Duration = Duration::from_secs(1);
/// How often what is past its time is looked for.
const CHORES_EVERY: Duration = Duration::from_secs(10);

/// Keeps the window filled from the store.
pub(super) async fn claims(shared: Arc<Shared>) {
    let (bell, pulse) = (shared.store.bell(), shared.pulses.of(Part::Claims));
    while !shared.is_stopping() && !pulse.begins_anew() {
        let now_ms = shared.now_ms();
        if let Err(error) = crate::node::give_aside_back(&shared).await {
            tracing::debug!(%error, "what is not to be begun is not given back yet");
            pulse.beat(now_ms, 0, true);
            pause(&shared, STORE_PAUSE).await;
            continue;
        }
        if shared.rests() {
            pulse.beat(now_ms, 0, true);
            tokio::select! {
                () = shared.node.drain_changed() => {}
                () = shared.claim_wake.notified() => {}
                () = pulse.wanted() => {}
                () = tokio::time::sleep(Duration::from_millis(NAP_MS as u64)) => {}
                () = shared.stopping.cancelled() => {}
            }
            continue;
        }
        let (plan, wait_ms) = {
            let mut schedule = shared.schedule.lock();
            let window = schedule.window_mut();
            match window.next_claim_ms() {
                Some(at) if at <= now_ms => (window.plan_claim(), 0),
                Some(at) => (None, (at - now_ms).min(NAP_MS)),
                None => (None, NAP_MS),
            }
        };
        match plan {
            Some(plan) => {
                let request = ClaimRequest {
                    by: shared.run,
                    now_ms,
                    max: plan.most as u32,
                    max_per_lane: plan.per_lane as u32,
                    skip: plan.skip,
                };
                let began_us = shared.net.clock.mono_us();
                let well = claim(&shared, request).await;
                pulse.beat(now_ms, shared.net.clock.mono_us().saturating_sub(began_us), well);
                if !well {
                    pause(&shared, STORE_PAUSE).await;
                }
            }
            None => {
                pulse.beat(now_ms, 0, true);
                tokio::select! {
                    () = shared.claim_wake.notified() => {}
                    () = pulse.wanted() => {}
                    () = rung(bell.as_deref()) => shared.due_at(shared.now_ms()),
                    () = tokio::time::sleep(Duration::from_millis(wait_ms.max(1) as u64)) => {}
                    () = shared.stopping.cancelled() => {}
                }
            }
        }
    }
}

/// Other nodes may have made work; never, where there are none.
async fn rung(bell: Option<&tokio::sync::Notify>) {
    match bell {
        Some(bell) => bell.notified().await,
        None => std::future::pending().await,
    }
}

/// False: the store gave nothing.
async fn claim(shared: &Arc<Shared>, request: ClaimRequest) -> bool {
    let per_lane = request.max_per_lane as usize;
    let claimed = match shared.store.claim(request).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::warn!(%error, "nothing can be claimed");
            shared.schedule.lock().window_mut().due_at(shared.now_ms());
            return false;
        }
    };
    {
        let mut schedule = shared.schedule.lock();
        let window = schedule.window_mut();
        let mut per: std::collections::HashMap<_, usize> = std::collections::HashMap::new();
        for claim in &claimed.claims {
            window.add(claim.lane.id, claim.recipients.len());
            *per.entry(claim.lane.id).or_default() += claim.recipients.len();
        }
        let full = per.into_iter().filter(|(_, count)| *count >= per_lane).map(|(lane, _)| lane);
        window.claimed(claimed.next_due_ms, full);
    }
    for claim in claimed.claims {
        shared.admit(Job { claim, content: None });
    }
    true
}

/// Tries paused destinations again when their time has come.
pub(super) async fn ticks(shared: Arc<Shared>) {
    let pulse = shared.pulses.of(Part::Ticks);
    while !shared.is_stopping() && !pulse.begins_anew() {
        let (now_ms, began_us) = (shared.now_ms(), shared.net.clock.mono_us());
        let (actions, overdue, next) = {
            let mut schedule = shared.schedule.lock();
            let overdue = schedule.overdue(now_ms);
            (schedule.tick(now_ms), overdue, schedule.next_tick_ms())
        };
        crate::deadline::over(&shared, overdue);
        let news = shared.schedule.lock().take_news();
        if news.hungry {
            shared.usage_wake.notify_one();
        }
        shared.perform(actions);
        pulse.beat(now_ms, shared.net.clock.mono_us().saturating_sub(began_us), true);
        let wait_ms = next.map_or(NAP_MS, |at| (at - now_ms).clamp(1, NAP_MS));
        tokio::select! {
            () = shared.tick_wake.notified() => {}
            () = pulse.wanted() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms as u64)) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Notices settings that another process changed.
pub(super) async fn settings(shared: Arc<Shared>) {
    rounds(shared, Part::Settings, SETTINGS_EVERY, look_at_settings).await;
}

/// Ends what is past its time, and mends due times of a broken clock.
pub(super) async fn expiry(shared: Arc<Shared>) {
    rounds(shared, Part::Expiry, CHORES_EVERY, expire).await;
}

/// Removes what was kept long enough.
pub(super) async fn retention(shared: Arc<Shared>) {
    rounds(shared, Part::Retention, CHORES_EVERY, retain).await;
}

async fn look_at_settings(shared: Arc<Shared>) -> Result<(), StoreError> {
    if shared.store.settings_version().await? == shared.directory().version {
        return Ok(());
    }
    match Directory::load(&*shared.store).await {
        Ok(directory) => {
            for problem in &directory.problems {
                tracing::warn!(%problem, "setting is not usable");
            }
            shared.renew_directory(directory).await;
        }
        Err(error) => tracing::warn!(%error, "settings cannot be read"),
    }
    Ok(())
}

async fn expire(shared: Arc<Shared>) -> Result<(), StoreError> {
    if !shared.leads() {
        return Ok(());
    }
    let expired = shared.store.expire(shared.now_ms(), crate::deadline::AT_ONCE).await.map(drop);
    expired.inspect_err(|error| tracing::warn!(%error, "expired mail cannot be marked"))
}

async fn retain(shared: Arc<Shared>) -> Result<(), StoreError> {
    if !shared.leads() || shared.pulses.of(Part::Retention).is_paused() {
        return Ok(());
    }
    let retention = crate::stream::retention(&shared.config.retention, shared.directory().streams());
    let retained = shared.store.retain(retention, shared.now_ms()).await.map(drop);
    retained.inspect_err(|error| tracing::warn!(%error, "old messages cannot be removed"))
}

/// Goes round so often, and whenever somebody wants it, until the relay stops or it is to begin anew.
async fn rounds<F>(shared: Arc<Shared>, part: Part, every: Duration, round: impl Fn(Arc<Shared>) -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let pulse = shared.pulses.of(part);
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = pulse.wanted() => {}
            () = shared.stopping.cancelled() => return,
        }
        if pulse.begins_anew() {
            return;
        }
        let began_us = shared.net.clock.mono_us();
        let done = round(shared.clone()).await;
        pulse.beat(shared.now_ms(), shared.net.clock.mono_us().saturating_sub(began_us), done.is_ok());
    }
}

/// Waits, unless the relay stops.
async fn pause(shared: &Shared, length: Duration) {
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = shared.stopping.cancelled() => {}
    }
}
