//! Who is told what and when. Pure: entries, settings, how channels are, and the time go in; messages to send come out.
//!
//! Channels of the first step have their turn at once. Those of the next step have it when nobody of this one could be told,
//! or nobody has acknowledged in time. Quiet hours, gathering, intervals and limits only put a message off.

use std::collections::BTreeMap;

use super::entry::{Entry, Told};
use super::rule::Severity;
use super::setting::{Channel, Settings};
use super::state::ChannelState;

/// What comes at once is gathered for so long, milliseconds.
const GATHER_MS: i64 = 1_000;
/// With something critical a message is not gathered for longer than this, milliseconds.
const CRITICAL_MS: i64 = 5_000;
/// Most alerts of one message.
pub(super) const MOST_ITEMS: usize = 50;
/// After so long of failures a channel is not told of an alert any more that others know of or that is over, milliseconds.
const GIVE_UP_MS: i64 = 86_400_000;

/// What a channel is told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It has been raised.
    Raised,
    /// It has become worse.
    Worse,
    /// It is over.
    Resolved,
    /// It was raised and is over; nobody was told in between.
    Passed,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// To this channel.
    pub channel: String,
    /// Keys of the alerts, and what is told of them.
    pub items: Vec<(String, What)>,
}

/// What there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Messages to send now.
    pub messages: Vec<Message>,
    /// When to look again at the latest, Unix milliseconds.
    pub wake_ms: Option<i64>,
    /// Keys of alerts whose turn came to another step.
    pub stepped: Vec<(String, u8)>,
    /// Keys of alerts of which nothing is to be told any more.
    pub closed: Vec<String>,
}

impl Plan {
    fn wake(&mut self, at_ms: i64) {
        self.wake_ms = Some(self.wake_ms.map_or(at_ms, |wake| wake.min(at_ms)));
    }
}

/// Plans for all entries.
pub fn plan<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Entry)>,
    settings: &Settings,
    states: &BTreeMap<String, ChannelState>,
    now_ms: i64,
) -> Plan {
    let mut plan = Plan::default();
    let mut due: BTreeMap<&str, Vec<(String, What)>> = BTreeMap::new();
    for (key, entry) in entries {
        let severity = settings.severity(entry.alert.rule, entry.alert.severity);
        let channels = settings.channels_for(entry.alert.rule, severity);
        let step = step(entry, &channels, settings.escalate_ms(entry.alert.rule, severity), now_ms, &mut plan);
        if step != entry.step {
            plan.stepped.push((key.to_owned(), step));
        }
        let mut open = entry.resolved.is_none();
        for channel in channels.into_iter().filter(|channel| channel.record.step <= step) {
            let told = entry.told.get(&channel.name);
            open |= told.is_some_and(|told| told.posted.is_some());
            let Some(what) = wanted(entry, told, channel, severity, now_ms) else { continue };
            open = true;
            let state = states.get(&channel.name);
            if state.is_some_and(|state| state.busy) {
                continue;
            }
            let at_ms = eligible_ms(entry, what, channel, state, severity, now_ms);
            if at_ms > now_ms {
                plan.wake(at_ms);
                continue;
            }
            let items = due.entry(&channel.name).or_default();
            if items.len() < MOST_ITEMS {
                items.push((key.to_owned(), what));
            }
        }
        if !open {
            plan.closed.push(key.to_owned());
        }
    }
    plan.messages = due.into_iter().map(|(name, items)| Message { channel: name.to_owned(), items }).collect();
    plan
}

/// The step that channels have their turn up to.
fn step(entry: &Entry, channels: &[&Channel], escalate_ms: Option<i64>, now_ms: i64, plan: &mut Plan) -> u8 {
    let mut step = entry.step;
    let next_after = |step: u8| channels.iter().map(|channel| channel.record.step).find(|next| *next > step);
    if step == 0 {
        step = next_after(0).unwrap_or(0);
    }
    if entry.resolved.is_some() {
        return step;
    }
    while let Some(next) = next_after(step) {
        let at = channels.iter().filter(|channel| channel.record.step == step);
        let told: Vec<Option<&Told>> = at.map(|channel| entry.told.get(&channel.name)).collect();
        let since = told.iter().filter_map(|told| told.and_then(|told| told.raised_ms)).min();
        let go_on = match (since, escalate_ms) {
            // A mail that is under way in vain counts as failed when that is known.
            (None, _) => told.iter().all(|told| told.is_some_and(|told| told.failures > 0)),
            (Some(_), _) if entry.acknowledged.is_some() => false,
            (Some(_), None) => false,
            (Some(since), Some(wait)) => {
                let at_ms = since.saturating_add(wait);
                if at_ms > now_ms {
                    plan.wake(at_ms);
                }
                at_ms <= now_ms
            }
        };
        if !go_on {
            break;
        }
        step = next;
    }
    step
}

/// What a channel has to be told, if anything.
fn wanted(entry: &Entry, told: Option<&Told>, channel: &Channel, severity: Severity, now_ms: i64) -> Option<What> {
    let empty = Told::default();
    let told = told.unwrap_or(&empty);
    if told.given_up || told.posted.is_some() {
        return None;
    }
    let failing = told.failing_ms.is_some_and(|since| now_ms - since >= GIVE_UP_MS);
    match (&entry.resolved, told.raised_ms) {
        (None, Some(_)) => told.severity.is_some_and(|known| known < severity).then_some(What::Worse),
        // Somebody knows and looks after it.
        (None, None) if entry.is_told() && (entry.acknowledged.is_some() || failing) => None,
        (None, None) => Some(What::Raised),
        (Some(_), Some(_)) => {
            (told.resolved_ms.is_none() && channel.record.resolved && !failing).then_some(What::Resolved)
        }
        (Some(_), None) => (!entry.is_told() && !failing).then_some(What::Passed),
    }
}

/// When a message may leave, Unix milliseconds.
fn eligible_ms(
    entry: &Entry,
    what: What,
    channel: &Channel,
    state: Option<&ChannelState>,
    severity: Severity,
    now_ms: i64,
) -> i64 {
    let critical = severity == Severity::Critical;
    let mut at_ms = match what {
        What::Raised | What::Passed => entry.first_ms,
        What::Worse | What::Resolved => entry.resolved.as_ref().map_or(entry.last_ms, |resolved| resolved.at_ms),
    };
    // A clock that was set back must not put anything off.
    at_ms = if at_ms > now_ms { now_ms } else { at_ms + GATHER_MS };
    if let Some(state) = state {
        let mut gather_ms = i64::from(channel.record.group_s) * 1_000;
        if critical {
            gather_ms = gather_ms.min(CRITICAL_MS);
        }
        at_ms = at_ms.max(state.free_ms(&channel.record, entry.alert.rule, gather_ms, now_ms));
    }
    if !critical && let Some(end_ms) = channel.hours.as_ref().and_then(|hours| hours.until_ms(now_ms)) {
        at_ms = at_ms.max(end_ms);
    }
    at_ms
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
