//! Tells: does what the plan says, writes down what came of it, looks after mails that are under way.
//!
//! What was sent is written down afterwards: a crash in between tells it twice, and never not at all. A channel that fails
//! shows in the status and the log, and raises nothing: alerts are never about alerts.

use std::time::Duration;

use store::{RecordKind, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::entry::Posted;
use super::plan::{self, Message, What};
use super::rule::{AlertRule, Severity};
use super::send::mail::{self, Became};
use super::send::{self, Sent};
use super::setting::{Channel, Settings};
use super::text::Item;
use crate::http::Shared;
use crate::serve::domains::NoteOf;

/// Longest sleep: settings may have changed, and a clock that was set must be noticed.
const NAP: Duration = Duration::from_secs(10);
/// How often mails under way are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A mail that has failed once and waits in the queue is replaced after this, milliseconds.
const FAILED_MS: i64 = 3_000;
/// One that has not arrived and of which nothing is heard, after this.
const SILENT_MS: i64 = 60_000;
/// How long messages on their way are waited for at a stop.
const GRACE: Duration = Duration::from_secs(3);
/// How long what is over is kept, milliseconds.
const KEPT_MS: i64 = 400 * 86_400_000;
const DAY_MS: i64 = 86_400_000;

/// What came of a message.
struct Done {
    channel: String,
    items: Vec<Item>,
    sent: Sent,
}

/// Tells alerts until the server stops.
pub async fn run(app: Shared, closing: CancellationToken) {
    let mut sending: JoinSet<Done> = JoinSet::new();
    // What an earlier run of this loop had on its way went with it.
    app.alerts.states.lock().values_mut().for_each(|state| state.busy = false);
    let mut pruned_ms = 0;
    while !closing.is_cancelled() {
        let wait = match round(&app, &mut sending).await {
            Ok(wait) => wait,
            Err(StoreError::Closed) => break,
            Err(error) => {
                tracing::warn!(%error, "alerts wait for the store");
                NAP
            }
        };
        let now_ms = app.clock.now_ms();
        if now_ms - pruned_ms >= DAY_MS {
            pruned_ms = now_ms;
            let _ = app.store.prune_records(RecordKind::Alert, now_ms - KEPT_MS, 0).await;
        }
        tokio::select! {
            () = app.alerts.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = closing.cancelled() => break,
            Some(done) = sending.join_next(), if !sending.is_empty() => match done {
                Ok(done) => conclude(&app, done).await,
                Err(error) => {
                    tracing::error!(%error, "telling an alert did not end well");
                    // Which one it was is not known: twice is better than never.
                    app.alerts.states.lock().values_mut().for_each(|state| state.busy = false);
                }
            },
        }
    }
    let rest = async {
        while let Some(Ok(done)) = sending.join_next().await {
            conclude(&app, done).await;
        }
    };
    let _ = tokio::time::timeout(GRACE, rest).await;
}

/// Starts what is due; gives how long there is nothing to do.
async fn round(app: &Shared, sending: &mut JoinSet<Done>) -> Result<Duration, StoreError> {
    let alerts = &app.alerts;
    // An alert about the store is told although the store cannot be read.
    let loaded = alerts.load().await;
    if loaded.is_ok()
        && let Ok(version) = app.store.settings_version().await
        && version != alerts.settings.read().version
    {
        alerts.reload().await?;
    }
    let settings = alerts.settings.read().clone();
    let now_ms = app.clock.now_ms();
    let under_way = follow(app, now_ms).await;
    let plan = {
        let states = alerts.states.lock();
        alerts.with(|slots| {
            let open = slots.iter().filter(|(_, slot)| alerts.tells(slot));
            let plan = plan::plan(open.map(|(key, slot)| (key.as_str(), &slot.entry)), &settings, &states, now_ms);
            for (key, step) in &plan.stepped {
                if let Some(slot) = slots.get_mut(key) {
                    slot.change().step = *step;
                }
            }
            for key in &plan.closed {
                if let Some(slot) = slots.get_mut(key) {
                    slot.close();
                }
            }
            plan
        })
    };
    for message in &plan.messages {
        start(app, &settings, message, sending);
    }
    alerts.flush().await;
    loaded?;
    let mut wait = if under_way { LOOK } else { NAP };
    if let Some(at_ms) = plan.wake_ms {
        wait = wait.min(Duration::from_millis(u64::try_from(at_ms - now_ms).unwrap_or(0).max(10)));
    }
    Ok(wait)
}

fn start(app: &Shared, settings: &Settings, message: &Message, sending: &mut JoinSet<Done>) {
    let Some(channel) = settings.channels.iter().find(|channel| channel.name == message.channel).cloned() else {
        return;
    };
    let items = items(app, settings, &message.items);
    let avoid = avoid(&channel, &items);
    app.alerts.states.lock().entry(channel.name.clone()).or_default().busy = true;
    let app = app.clone();
    sending.spawn(async move {
        let sent = send::send(&app, &channel, &items, &avoid).await;
        Done { channel: channel.name, items, sent }
    });
}

fn items(app: &Shared, settings: &Settings, wanted: &[(String, What)]) -> Vec<Item> {
    app.alerts.with(|slots| {
        let item = |(key, what): &(String, What)| {
            let slot = slots.get(key)?;
            let severity = settings.severity(slot.entry.alert.rule, slot.entry.alert.severity);
            Some(Item { id: slot.id, entry: slot.entry.clone(), severity, what: *what })
        };
        wanted.iter().filter_map(item).collect()
    })
}

/// Routes that alerts are about, as long as they last, and those that mails about them took in vain.
fn avoid(channel: &Channel, items: &[Item]) -> Vec<String> {
    let mut avoid: Vec<String> = Vec::new();
    for item in items {
        if !item.is_over() {
            avoid.extend(item.entry.alert.avoid.iter().cloned());
        }
        avoid.extend(item.entry.told.get(&channel.name).into_iter().flat_map(|told| told.tried.iter().cloned()));
    }
    avoid.sort_unstable();
    avoid.dedup();
    avoid
}

fn rules(items: &[Item]) -> Vec<AlertRule> {
    items.iter().map(|item| item.entry.alert.rule).collect()
}

/// Notes what came of a message.
async fn conclude(app: &Shared, done: Done) {
    let Done { channel, items, sent } = done;
    let now_ms = app.clock.now_ms();
    {
        let mut states = app.alerts.states.lock();
        let state = states.entry(channel.clone()).or_default();
        state.busy = false;
        match &sent {
            Sent::Taken(_) | Sent::Posted(_) => state.took(&rules(&items), now_ms),
            Sent::Failed { problem, wish_s } => state.failed(problem, *wish_s, now_ms),
        }
    }
    let keys: Vec<(String, bool, Severity)> =
        items.iter().map(|item| (item.entry.alert.key.clone(), item.is_over(), item.severity)).collect();
    app.alerts.with(|slots| {
        for (key, over, severity) in &keys {
            let Some(slot) = slots.get_mut(key) else { continue };
            let told = slot.change().told.entry(channel.clone()).or_default();
            match &sent {
                Sent::Taken(_) => {
                    told.is_well();
                    told.took(*over, *severity, now_ms);
                }
                Sent::Posted(posted) => {
                    told.took(*over, *severity, now_ms);
                    told.posted = Some(Posted { over: *over, ..posted.clone() });
                }
                Sent::Failed { problem, .. } => {
                    told.failed(problem, now_ms);
                    // All were tried: next time from the beginning.
                    told.tried.clear();
                }
            }
        }
    });
    app.alerts.flush().await;
    show(app, &channel, &sent);
}

fn show(app: &Shared, channel: &str, sent: &Sent) {
    let lines = match sent {
        Sent::Failed { problem, .. } => vec![format!("The alert channel {channel} takes no alerts: {problem}")],
        Sent::Taken(_) | Sent::Posted(_) => Vec::new(),
    };
    app.domains.note(NoteOf::AlertChannel, &format!("alert channel {channel}"), lines);
}

/// Looks after mails in our queue; gives whether there are any.
async fn follow(app: &Shared, now_ms: i64) -> bool {
    // One mail may tell of many alerts.
    let mut mails: Vec<(String, Posted, Vec<String>)> = Vec::new();
    app.alerts.with(|slots| {
        for (key, slot) in slots.iter() {
            for (channel, told) in &slot.entry.told {
                let Some(posted) = &told.posted else { continue };
                let same = |mail: &&mut (String, Posted, Vec<String>)| mail.1.message == posted.message;
                match mails.iter_mut().find(same) {
                    Some((_, _, keys)) => keys.push(key.clone()),
                    None => mails.push((channel.clone(), posted.clone(), vec![key.clone()])),
                }
            }
        }
    });
    let mut under_way = false;
    for (channel, posted, keys) in mails {
        let age_ms = now_ms - posted.at_ms;
        let lost = match mail::look(app, &posted).await {
            Became::Delivered => None,
            Became::Lost(why) => Some(why),
            Became::UnderWay(Some(why)) if age_ms >= FAILED_MS => Some(why),
            Became::UnderWay(None) if age_ms >= SILENT_MS => Some("it has not left within a minute".into()),
            Became::UnderWay(_) => {
                under_way = true;
                continue;
            }
        };
        if lost.is_some() {
            mail::withdraw(app, &posted).await;
        }
        arrived(app, &channel, &posted, &keys, lost.as_deref(), now_ms);
    }
    under_way
}

/// Notes what became of a mail.
fn arrived(app: &Shared, channel: &str, posted: &Posted, keys: &[String], lost: Option<&str>, now_ms: i64) {
    let mut rules = Vec::new();
    app.alerts.with(|slots| {
        for key in keys {
            let Some(slot) = slots.get_mut(key) else { continue };
            rules.push(slot.entry.alert.rule);
            let Some(told) = slot.change().told.get_mut(channel) else { continue };
            let Some(own) = told.posted.take_if(|own| own.message == posted.message) else { continue };
            match lost {
                Some(why) => told.lost(own, why, now_ms),
                None => told.is_well(),
            }
        }
    });
    if let Some(why) = lost {
        tracing::warn!(channel, message_id = %posted.message, routes = %posted.routes.join(" "), why, "a mail with alerts did not get away: another way is tried");
        let mut states = app.alerts.states.lock();
        let state = states.entry(channel.to_owned()).or_default();
        state.lost(&rules);
        state.failed(why, None, now_ms);
        // The next route may be tried at once.
        state.next_ms = now_ms;
    }
}
