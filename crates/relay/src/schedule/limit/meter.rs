//! What one account has used: handed out, ended, written down ahead.

use serde::{Deserialize, Serialize};
use store::Tally;

use super::ring::{Ring, Unit, WINDOWS};
use super::together::View;
use super::{Rates, Room, URGENT, WindowStatus};

/// A block that is written down ahead is this part of the tightest limit.
const BLOCK_PART: u32 = 20;
/// Most that is written down ahead.
const MOST_AHEAD: u32 = 1_000;
/// When to look again where only mail in flight is in the way, milliseconds.
pub(super) const LOOK_AGAIN_MS: i64 = 100;
/// What is known of other nodes is asked for anew after so long, milliseconds.
const OLD_MS: i64 = 5_000;

/// What one account has used and may use.
#[derive(Debug, Default)]
pub struct Meter {
    pub(super) rates: Rates,
    pub(super) rings: [Ring; 5],
    pub(super) handed: Tally,
    pub(super) done: Tally,
    /// Written down: no more than this is handed out.
    pub(super) permitted: Tally,
    /// Counted since it was last written down.
    pub(super) dirty: bool,
    /// More has to be written down before mail can go on.
    pub(super) hungry: bool,
    /// Where other nodes count for the same limits: what is known of them.
    pub(super) view: Option<Box<View>>,
}

/// A meter as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMeter {
    /// Buckets with their counts, by window.
    windows: Vec<Vec<(i64, u32)>>,
    /// Messages that may have been sent and are not in the windows.
    open_messages: u32,
    /// The same of recipients.
    open_recipients: u32,
}

/// What [`Meter::save`] wrote down, to be told to [`Meter::saved`] when it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission(Tally);

/// How a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// More will be sent.
    Block,
    /// Nothing more is handed out.
    Nothing,
}

impl Meter {
    /// A meter that another run wrote down: what it left open counts as sent now.
    pub fn restore(saved: SavedMeter, now_ms: i64) -> Self {
        let mut meter = Self::default();
        for ((ring, span), buckets) in meter.rings.iter_mut().zip(&WINDOWS).zip(saved.windows) {
            ring.sum = buckets.iter().map(|(_, count)| u64::from(*count)).sum();
            ring.buckets = buckets.into();
            ring.expire(span, now_ms);
            let open = if span.unit == Unit::Messages { saved.open_messages } else { saved.open_recipients };
            ring.count(span, now_ms, open);
        }
        meter.dirty = true;
        meter
    }

    /// Sets the limits. What was counted before counts on.
    pub fn set(&mut self, rates: &Rates) {
        if self.rates != *rates {
            self.rates = rates.clone();
        }
    }

    /// The limits.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    fn in_flight(&self, unit: Unit) -> u64 {
        self.handed.less(self.done).of(unit.into())
    }

    /// Open at other nodes.
    fn elsewhere(&self, unit: Unit) -> u64 {
        self.view.as_ref().map_or(0, |view| view.others.of(unit.into()))
    }

    /// What mail of a priority may be handed out.
    pub fn room(&mut self, priority: u8, now_ms: i64) -> Room {
        let (mut messages, mut recipients, mut full) = (u32::MAX, u32::MAX, None::<i64>);
        for (at, span) in WINDOWS.iter().enumerate() {
            let Some(limit) = self.rates.all()[at] else { continue };
            let share = u64::from(self.rates.share(span, limit, priority));
            let flying = self.in_flight(span.unit);
            let elsewhere = self.elsewhere(span.unit);
            let ring = &mut self.rings[at];
            ring.expire(span, now_ms);
            let used = ring.sum + flying + elsewhere;
            if used >= share {
                let mut over = ring.over_ms(span, used + 1 - share).unwrap_or(now_ms + LOOK_AGAIN_MS);
                if used - elsewhere < share {
                    // Others may give it back at any time.
                    over = over.min(now_ms + LOOK_AGAIN_MS);
                    self.hungry |= self.view.as_ref().is_some_and(|view| view.is_older_than(LOOK_AGAIN_MS, now_ms));
                }
                // Our clock may have been set: what is full by it need not be full.
                self.hungry |= self.view.as_ref().is_some_and(|view| view.is_older_than(OLD_MS, now_ms));
                full = Some(full.unwrap_or(i64::MIN).max(over.max(now_ms + 1)));
            } else {
                let left = (share - used).min(u64::from(u32::MAX)) as u32;
                match span.unit {
                    Unit::Messages => messages = messages.min(left),
                    Unit::Recipients => recipients = recipients.min(left),
                }
            }
        }
        if let Some(at) = full {
            return Room::Full(at);
        }
        let left = |permitted: u64, handed: u64| permitted.saturating_sub(handed).min(u64::from(u32::MAX)) as u32;
        let messages = messages.min(left(self.permitted.messages, self.handed.messages));
        let recipients = recipients.min(left(self.permitted.recipients, self.handed.recipients));
        if messages == 0 || recipients == 0 {
            if let Some(view) = &mut self.view {
                if let Some(until) = view.refused_until(priority, now_ms) {
                    return Room::Full(until);
                }
                view.urgent |= priority == URGENT;
            }
            self.hungry = true;
            return Room::Unwritten;
        }
        Room::Open { messages, recipients }
    }

    /// A message was handed out.
    pub fn hand_out(&mut self, recipients: u32) {
        self.handed.messages += 1;
        self.handed.recipients += u64::from(recipients);
        let block = self.block();
        let low = |permitted: u64, handed: u64, block: u64| permitted.saturating_sub(handed) <= block / 2;
        self.hungry |= low(self.permitted.messages, self.handed.messages, block.messages)
            || low(self.permitted.recipients, self.handed.recipients, block.recipients);
    }

    /// A message that was handed out has ended, and so many of its recipients with it; none: it was not tried at all.
    pub fn finish(&mut self, handed_recipients: u32, tried_recipients: u32, now_ms: i64) {
        self.done.messages += 1;
        self.done.recipients += u64::from(handed_recipients);
        self.dirty = true;
        if tried_recipients == 0 {
            return;
        }
        if let Some(view) = &mut self.view {
            view.counted = view.counted.plus(Tally { messages: 1, recipients: u64::from(tried_recipients) });
        }
        for (ring, span) in self.rings.iter_mut().zip(&WINDOWS) {
            ring.expire(span, now_ms);
            ring.count(span, now_ms, if span.unit == Unit::Messages { 1 } else { tried_recipients });
        }
    }

    pub(super) fn block(&self) -> Tally {
        let [second, minute, hour, day, recipients] = self.rates.all();
        let part = |limit: Option<u32>| u64::from((limit.unwrap_or(u32::MAX) / BLOCK_PART).clamp(1, MOST_AHEAD));
        let tightest = [second, minute, hour, day].into_iter().flatten().min();
        Tally { messages: part(tightest), recipients: part(recipients) }
    }

    /// It has something to write down.
    pub fn wants_saving(&self) -> bool {
        self.dirty || self.hungry
    }

    /// Mail waits for it to be written down.
    pub fn is_hungry(&self) -> bool {
        self.hungry
    }

    /// What to write down; nothing is left of an account that was not used for a day.
    pub fn save(&mut self, ahead: Ahead, now_ms: i64) -> (Option<SavedMeter>, Permission) {
        let block = self.block();
        let permitted = match ahead {
            Ahead::Nothing => {
                self.permitted = self.handed;
                self.handed
            }
            Ahead::Block => Tally {
                messages: self.permitted.messages.max(self.handed.messages + block.messages),
                recipients: self.permitted.recipients.max(self.handed.recipients + block.recipients),
            },
        };
        for (ring, span) in self.rings.iter_mut().zip(&WINDOWS) {
            ring.expire(span, now_ms);
        }
        let open = |permitted: u64, done: u64| permitted.saturating_sub(done).min(u64::from(u32::MAX)) as u32;
        let saved = SavedMeter {
            windows: self.rings.iter().map(|ring| ring.buckets.iter().copied().collect()).collect(),
            open_messages: open(permitted.messages, self.done.messages),
            open_recipients: open(permitted.recipients, self.done.recipients),
        };
        self.dirty = false;
        self.hungry = false;
        let empty = saved.open_messages == 0 && saved.windows.iter().all(Vec::is_empty);
        ((!empty).then_some(saved), Permission(permitted))
    }

    /// It is durable.
    pub fn saved(&mut self, permission: Permission) {
        self.permitted.messages = self.permitted.messages.max(permission.0.messages);
        self.permitted.recipients = self.permitted.recipients.max(permission.0.recipients);
    }

    /// It was not written down after all.
    pub fn not_saved(&mut self) {
        self.dirty = true;
    }

    /// Recipients of a transaction, on average, if there was one.
    pub fn per_message(&self) -> Option<f64> {
        (self.handed.messages > 0).then(|| self.handed.recipients as f64 / self.handed.messages as f64)
    }

    /// Used and allowed of each window that is limited, for status pages and forecasts.
    pub fn overview(&mut self, now_ms: i64) -> Vec<WindowStatus> {
        let mut all = Vec::new();
        for (at, span) in WINDOWS.iter().enumerate() {
            let Some(limit) = self.rates.all()[at] else { continue };
            let flying = self.in_flight(span.unit) + self.elsewhere(span.unit);
            let ring = &mut self.rings[at];
            ring.expire(span, now_ms);
            let used = ring.sum + flying;
            let frees_ms =
                (used >= u64::from(limit)).then(|| ring.over_ms(span, used + 1 - u64::from(limit))).flatten();
            let per = ["second", "minute", "hour", "day", "day"][at];
            let unit = if span.unit == Unit::Messages { "messages" } else { "recipients" };
            all.push(WindowStatus {
                per,
                unit,
                span_ms: span.span_ms,
                bucket_ms: span.bucket_ms,
                limit,
                ordinary: self.rates.share(span, limit, URGENT + 1),
                used: used.min(u64::from(u32::MAX)) as u32,
                frees_ms,
                recent: ring
                    .buckets
                    .iter()
                    .map(|(bucket, count)| ((bucket + 1) * span.bucket_ms + span.span_ms, *count))
                    .collect(),
            });
        }
        all
    }
}
