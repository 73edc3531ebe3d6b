//! What an account may send in a second, a minute, an hour, a day: counted in rolling windows of bounded memory.
//!
//! A message counts from the moment it is handed out until its window has passed after its end, so the next hop, which
//! counts somewhere in between, never sees more than the limit. Counts survive the process: what may be handed out is
//! written down first, in blocks, and what a crash left open counts as sent. Pure: time is an argument.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Share of each quota of a minute or more that only urgent mail may use, percent.
pub const DEFAULT_RESERVE: u8 = 10;
/// Priority of urgent mail.
const URGENT: u8 = 0;
/// A block that is written down ahead is this part of the tightest limit.
const BLOCK_PART: u32 = 20;
/// Most that is written down ahead.
const MOST_AHEAD: u32 = 1_000;
/// When to look again where only mail in flight is in the way, milliseconds.
const LOOK_AGAIN_MS: i64 = 100;

/// How much may be sent. What is left out is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Messages in any second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Messages in any minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Messages in any hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Messages in any 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// Recipients in any 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients_per_day: Option<u32>,
    /// Percent of each quota (but that of a second) that is kept for urgent mail; by default [`DEFAULT_RESERVE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve_percent: Option<u8>,
}

impl Rates {
    /// Limits by window, in the order of [`WINDOWS`].
    fn all(&self) -> [Option<u32>; 5] {
        [self.per_second, self.per_minute, self.per_hour, self.per_day, self.recipients_per_day]
    }

    /// Nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.all().iter().all(Option::is_none)
    }

    /// What a person has to mend, in full sentences.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.all().contains(&Some(0)) {
            problems.push("A limit of 0 would stop all mail: hold the queue instead.".to_owned());
        }
        if self.reserve_percent.is_some_and(|percent| percent > 90) {
            problems.push("At most 90 percent of a quota can be kept for urgent mail.".to_owned());
        }
        problems
    }

    /// What mail of a priority may use of a limit.
    fn share(&self, window: &Span, limit: u32, priority: u8) -> u32 {
        if priority == URGENT || window.span_ms <= 1_000 {
            return limit;
        }
        let percent = u64::from(self.reserve_percent.unwrap_or(DEFAULT_RESERVE).min(90));
        (limit - (u64::from(limit) * percent / 100) as u32).max(1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Messages,
    Recipients,
}

/// A window and how finely it is counted.
#[derive(Debug)]
struct Span {
    unit: Unit,
    span_ms: i64,
    bucket_ms: i64,
}

const DAY_MS: i64 = 86_400_000;

/// All windows.
const WINDOWS: [Span; 5] = [
    Span { unit: Unit::Messages, span_ms: 1_000, bucket_ms: 20 },
    Span { unit: Unit::Messages, span_ms: 60_000, bucket_ms: 1_000 },
    Span { unit: Unit::Messages, span_ms: 3_600_000, bucket_ms: 30_000 },
    Span { unit: Unit::Messages, span_ms: DAY_MS, bucket_ms: 600_000 },
    Span { unit: Unit::Recipients, span_ms: DAY_MS, bucket_ms: 600_000 },
];

/// What was used lately, oldest first: at most one more bucket than fit into the window.
#[derive(Debug, Clone, Default)]
struct Ring {
    buckets: VecDeque<(i64, u32)>,
    sum: u64,
}

impl Ring {
    fn count(&mut self, span: &Span, now_ms: i64, count: u32) {
        if count == 0 {
            return;
        }
        let at = now_ms.div_euclid(span.bucket_ms);
        self.sum += u64::from(count);
        self.rewind(at);
        self.add(at, count);
    }

    /// A clock that was set back: what was counted later counts as of now, and is over no sooner than it must be.
    fn rewind(&mut self, at: i64) {
        let mut late = 0u32;
        while let Some((_, count)) = self.buckets.pop_back_if(|(bucket, _)| *bucket > at) {
            late = late.saturating_add(count);
        }
        if late > 0 {
            self.add(at, late);
        }
    }

    fn add(&mut self, at: i64, count: u32) {
        match self.buckets.back_mut() {
            Some((bucket, held)) if *bucket == at => *held = held.saturating_add(count),
            _ => self.buckets.push_back((at, count)),
        }
    }

    fn expire(&mut self, span: &Span, now_ms: i64) {
        while let Some((_, count)) =
            self.buckets.pop_front_if(|(bucket, _)| (*bucket + 1) * span.bucket_ms + span.span_ms <= now_ms)
        {
            self.sum -= u64::from(count);
        }
        self.rewind(now_ms.div_euclid(span.bucket_ms));
    }

    /// When `excess` of what is counted is over.
    fn over_ms(&self, span: &Span, excess: u64) -> Option<i64> {
        let mut gone = 0;
        self.buckets.iter().find_map(|(bucket, count)| {
            gone += u64::from(*count);
            (gone >= excess).then_some((bucket + 1) * span.bucket_ms + span.span_ms)
        })
    }
}

/// What may be handed out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So many messages, and recipients in all.
    Open {
        /// At least 1.
        messages: u32,
        /// At least 1.
        recipients: u32,
    },
    /// Nothing before this time, Unix milliseconds.
    Full(i64),
    /// Nothing before the next block is written down.
    Unwritten,
}

impl Room {
    /// The lesser of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open { messages: a, recipients: b }, Self::Open { messages: c, recipients: d }) => {
                Self::Open { messages: a.min(c), recipients: b.min(d) }
            }
            (Self::Full(a), Self::Full(b)) => Self::Full(a.max(b)),
            (Self::Full(at), _) | (_, Self::Full(at)) => Self::Full(at),
            _ => Self::Unwritten,
        }
    }
}

/// Messages and recipients, always growing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    messages: u64,
    recipients: u64,
}

/// What one account has used and may use.
#[derive(Debug, Default)]
pub struct Meter {
    rates: Rates,
    rings: [Ring; 5],
    handed: Tally,
    done: Tally,
    /// Written down: no more than this is handed out.
    permitted: Tally,
    /// Counted since it was last written down.
    dirty: bool,
    /// More has to be written down before mail can go on.
    hungry: bool,
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
        match unit {
            Unit::Messages => self.handed.messages.saturating_sub(self.done.messages),
            Unit::Recipients => self.handed.recipients.saturating_sub(self.done.recipients),
        }
    }

    /// What mail of a priority may be handed out.
    pub fn room(&mut self, priority: u8, now_ms: i64) -> Room {
        let (mut messages, mut recipients, mut full) = (u32::MAX, u32::MAX, None::<i64>);
        for (at, span) in WINDOWS.iter().enumerate() {
            let Some(limit) = self.rates.all()[at] else { continue };
            let share = u64::from(self.rates.share(span, limit, priority));
            let flying = self.in_flight(span.unit);
            let ring = &mut self.rings[at];
            ring.expire(span, now_ms);
            let used = ring.sum + flying;
            if used >= share {
                let over = ring.over_ms(span, used + 1 - share).unwrap_or(now_ms + LOOK_AGAIN_MS);
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
        let low = |permitted: u64, handed: u64, block: u64| permitted.saturating_sub(handed) < block / 2;
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
        for (ring, span) in self.rings.iter_mut().zip(&WINDOWS) {
            ring.expire(span, now_ms);
            ring.count(span, now_ms, if span.unit == Unit::Messages { 1 } else { tried_recipients });
        }
    }

    fn block(&self) -> Tally {
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

    /// Used and allowed of each window that is limited, for status pages and forecasts.
    pub fn overview(&mut self, now_ms: i64) -> Vec<WindowStatus> {
        let mut all = Vec::new();
        for (at, span) in WINDOWS.iter().enumerate() {
            let Some(limit) = self.rates.all()[at] else { continue };
            let flying = self.in_flight(span.unit);
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

/// One limited window of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WindowStatus {
    /// `second`, `minute`, `hour` or `day`.
    pub per: &'static str,
    /// `messages` or `recipients`.
    pub unit: &'static str,
    /// Length, milliseconds.
    #[serde(skip)]
    pub span_ms: i64,
    /// Most in any such time.
    pub limit: u32,
    /// Of these, what mail that is not urgent may use.
    pub ordinary: u32,
    /// Used now.
    pub used: u32,
    /// When something of it is free again, Unix milliseconds, if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frees_ms: Option<i64>,
    /// When how much of what was used is free again, soonest first.
    #[serde(skip)]
    pub recent: Vec<(i64, u32)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as it may, one recipient each, each taking `takes_ms`; gives the times at which the next hop counted.
    fn drain(rates: &Rates, priority: u8, takes_ms: i64, until_ms: i64, restart_every: usize) -> Vec<i64> {
        let mut meter = Meter::default();
        meter.set(rates);
        let (mut now_ms, mut counted) = (1_700_000_000_123_i64, Vec::new());
        let end = now_ms + until_ms;
        while now_ms < end {
            match meter.room(priority, now_ms) {
                Room::Open { .. } => {
                    meter.hand_out(1);
                    counted.push(now_ms + takes_ms / 2);
                    if restart_every > 0 && counted.len() % restart_every == 0 {
                        // The process died: only what was written down is left, and that this message was sent is not.
                        let (saved, _) = meter.save(Ahead::Block, now_ms);
                        meter = Meter::restore(saved.unwrap(), now_ms);
                        meter.set(rates);
                    } else {
                        now_ms += takes_ms;
                        meter.finish(1, 1, now_ms);
                    }
                }
                Room::Full(at) => {
                    assert!(at > now_ms, "a time to come");
                    now_ms = at;
                }
                Room::Unwritten => {
                    let (_, permission) = meter.save(Ahead::Block, now_ms);
                    meter.saved(permission);
                }
            }
        }
        counted
    }

    fn most_in(counted: &[i64], span_ms: i64) -> usize {
        let mut from = 0;
        let mut most = 0;
        for (at, time) in counted.iter().enumerate() {
            while counted[from] <= time - span_ms {
                from += 1;
            }
            most = most.max(at + 1 - from);
        }
        most
    }

    fn only(window: usize, limit: u32) -> Rates {
        let mut rates = Rates::default();
        match window {
            0 => rates.per_second = Some(limit),
            1 => rates.per_minute = Some(limit),
            2 => rates.per_hour = Some(limit),
            3 => rates.per_day = Some(limit),
            _ => rates.recipients_per_day = Some(limit),
        }
        rates
    }

    #[test]
    fn no_window_ever_holds_more_than_its_limit_and_each_is_used_nearly_in_full() {
        for (window, span) in WINDOWS.iter().enumerate() {
            for limit in [1, 2, 7, 30, 500] {
                for takes_ms in [0, 3, span.span_ms / 200] {
                    let counted = drain(&only(window, limit), URGENT, takes_ms, span.span_ms * 5, 0);
                    assert!(most_in(&counted, span.span_ms) <= limit as usize, "{span:?} {limit} {takes_ms}");
                    // A bucket, and the time mail is under way, are lost of each window.
                    let ideal = 5.0 * f64::from(limit);
                    let lost = (span.bucket_ms + 2 * takes_ms * i64::from(limit)) as f64 / span.span_ms as f64;
                    assert!(
                        counted.len() as f64 >= ideal / (1.0 + lost) - f64::from(limit) * 0.2,
                        "{span:?} {limit} {takes_ms}: {}",
                        counted.len()
                    );
                }
            }
        }
    }

    #[test]
    fn a_process_that_dies_again_and_again_never_sends_more_than_the_limit() {
        for (window, span) in WINDOWS.iter().enumerate() {
            for every in [1, 3, 10] {
                let counted = drain(&only(window, 100), URGENT, 0, span.span_ms * 4, every);
                assert!(most_in(&counted, span.span_ms) <= 100, "{span:?}, dying after each {every}");
                assert!(!counted.is_empty());
            }
        }
    }

    #[test]
    fn ordinary_mail_leaves_a_tenth_of_each_quota_to_urgent_mail() {
        let mut meter = Meter::default();
        meter.set(&Rates { per_minute: Some(30), per_day: Some(2_000), ..Rates::default() });
        let now_ms = 1_700_000_000_000;
        let mut sent = 0;
        loop {
            match meter.room(2, now_ms) {
                Room::Open { .. } => {
                    meter.hand_out(1);
                    meter.finish(1, 1, now_ms);
                    sent += 1;
                }
                Room::Unwritten => {
                    let permission = meter.save(Ahead::Block, now_ms).1;
                    meter.saved(permission);
                }
                Room::Full(at) => {
                    assert!((now_ms + 60_000..=now_ms + 61_000).contains(&at));
                    break;
                }
            }
        }
        assert_eq!(sent, 27);
        let permission = meter.save(Ahead::Block, now_ms).1;
        meter.saved(permission);
        assert!(matches!(meter.room(0, now_ms), Room::Open { .. }));
    }

    #[test]
    fn an_orderly_stop_leaves_no_more_behind_than_was_sent() {
        let mut meter = Meter::default();
        meter.set(&only(3, 100));
        let permission = meter.save(Ahead::Block, 0).1;
        meter.saved(permission);
        for _ in 0..4 {
            meter.hand_out(3);
            meter.finish(3, 3, 5);
        }
        meter.hand_out(3);
        meter.finish(3, 0, 5);
        let (saved, _) = meter.save(Ahead::Nothing, 10);
        let mut meter = Meter::restore(saved.unwrap(), 20);
        meter.set(&only(3, 100));
        assert_eq!(meter.overview(20)[0].used, 4, "what was not tried at all does not count");
        let (saved, _) = meter.save(Ahead::Nothing, DAY_MS + 600_001);
        assert_eq!(saved, None, "a day later nothing is left to remember");
    }

    #[test]
    fn a_clock_that_is_set_back_neither_frees_a_quota_nor_blocks_it_for_longer_than_its_window() {
        let mut meter = Meter::default();
        meter.set(&only(1, 1));
        let permission = meter.save(Ahead::Block, 10_000_000).1;
        meter.saved(permission);
        meter.hand_out(1);
        meter.finish(1, 1, 10_000_000);
        let back = 10_000_000 - 3_600_000;
        let Room::Full(at) = meter.room(0, back) else { panic!("the minute is used up") };
        assert!((back + 60_000..=back + 61_000).contains(&at), "{}", at - back);
    }

    #[test]
    fn memory_is_bounded_however_much_is_sent() {
        let mut meter = Meter::default();
        meter.set(&only(3, u32::MAX));
        for at in 0..400_000 {
            meter.hand_out(1);
            meter.finish(1, 1, at * 977);
        }
        for (ring, span) in meter.rings.iter().zip(&WINDOWS) {
            assert!(ring.buckets.len() as i64 <= span.span_ms / span.bucket_ms + 2, "{span:?} {}", ring.buckets.len());
        }
    }
}
