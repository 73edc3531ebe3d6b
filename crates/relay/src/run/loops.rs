//! The loops of a running relay: claims, times that have come, settings, chores.

use std::sync::Arc;
use std::time::Duration;

use store::ClaimRequest;

use super::STORE_PAUSE;
use crate::directory::Directory;
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
    let bell = shared.store.bell();
    while !shared.is_stopping() {
        let now_ms = shared.now_ms();
        shared.pulses.claims.beat(now_ms, true);
        if let Err(error) = crate::node::let_lapsed_go(&shared).await {
            tracing::debug!(%error, "what is not ours any more is not given back yet");
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                () = shared.stopping.cancelled() => {}
            }
            continue;
        }
        if shared.node.is_draining() {
            tokio::select! {
                () = shared.node.drain_changed() => {}
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
                claim(&shared, request).await;
            }
            None => {
                tokio::select! {
                    () = shared.claim_wake.notified() => {}
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

async fn claim(shared: &Arc<Shared>, request: ClaimRequest) {
    let per_lane = request.max_per_lane as usize;
    let lapses = shared.store.lapses();
    let claimed = match shared.store.claim(request).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::warn!(%error, "nothing can be claimed");
            shared.schedule.lock().window_mut().due_at(shared.now_ms());
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                () = shared.stopping.cancelled() => {}
            }
            return;
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
        shared.admit(Job { claim, content: None, lapses });
    }
}

/// Tries paused destinations again when their time has come.
pub(super) async fn ticks(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        let now_ms = shared.now_ms();
        shared.pulses.ticks.beat(now_ms, true);
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
        let wait_ms = next.map_or(NAP_MS, |at| (at - now_ms).clamp(1, NAP_MS));
        tokio::select! {
            () = shared.tick_wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms as u64)) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Notices settings that another process changed.
pub(super) async fn settings(shared: Arc<Shared>) {
    while pause(&shared, SETTINGS_EVERY).await {
        let version = shared.store.settings_version().await;
        shared.pulses.settings.beat(shared.now_ms(), version.is_ok());
        let Ok(version) = version else { continue };
        if version == shared.directory().version {
            continue;
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
    }
}

/// Retention; and due times of a broken clock, which are mended when expiry is looked at.
pub(super) async fn chores(shared: Arc<Shared>) {
    while pause(&shared, CHORES_EVERY).await {
        if !shared.leads() {
            shared.pulses.expiry.beat(shared.now_ms(), true);
            shared.pulses.retention.beat(shared.now_ms(), true);
            continue;
        }
        let expired = shared.store.expire(shared.now_ms(), crate::deadline::AT_ONCE).await;
        shared.pulses.expiry.beat(shared.now_ms(), expired.is_ok());
        if let Err(error) = expired {
            tracing::warn!(%error, "expired mail cannot be marked");
        }
        let retention = crate::stream::retention(&shared.config.retention, shared.directory().streams());
        let retained = shared.store.retain(retention, shared.now_ms()).await;
        shared.pulses.retention.beat(shared.now_ms(), retained.is_ok());
        if let Err(error) = retained {
            tracing::warn!(%error, "old messages cannot be removed");
        }
    }
}

/// False: the relay stops.
async fn pause(shared: &Shared, length: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => true,
        () = shared.stopping.cancelled() => false,
    }
}
