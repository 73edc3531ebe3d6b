//! Windows and mail on their way through time.

use std::collections::VecDeque;

use super::{Limit, Outlook, Pace};
use crate::schedule::limit::WindowStatus;

/// Steps after which nothing is said: far more than any sensible limit needs.
const MOST_STEPS: u32 = 2_000_000;
/// How finely a growing rate is followed, milliseconds.
const RAMP_STEP_MS: f64 = 2_000.0;
/// A window no longer than this is a pace where there are longer ones, milliseconds.
const SHORT_MS: i64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Urgent,
    Ordinary,
}

/// A window on its way through time.
#[derive(Debug)]
struct Gauge {
    limit: Limit,
    span_ms: f64,
    bucket_ms: f64,
    all: f64,
    ordinary: f64,
    /// It counts recipients, so many for each message.
    weight: f64,
    used: f64,
    /// When how much of it is free again, soonest first.
    frees: VecDeque<(f64, f64)>,
    /// How long it was in the way.
    waited_ms: f64,
}

impl Gauge {
    fn new(status: &WindowStatus, per_message: f64, now_ms: i64, took_ms: f64) -> Self {
        let mut gauge = Self {
            limit: Limit::Window { limit: status.limit, unit: status.unit, per: status.per },
            span_ms: status.span_ms as f64,
            bucket_ms: status.bucket_ms as f64,
            all: f64::from(status.limit),
            ordinary: f64::from(status.ordinary),
            weight: if status.unit == "recipients" { per_message } else { 1.0 },
            used: 0.0,
            frees: status.recent.iter().map(|(at, count)| (*at as f64, f64::from(*count))).collect(),
            waited_ms: 0.0,
        };
        gauge.used = gauge.frees.iter().map(|(_, count)| count).sum();
        let flying = f64::from(status.used) - gauge.used;
        if flying > 0.0 {
            gauge.count(now_ms as f64 + took_ms / 2.0, flying);
        }
        gauge
    }

    fn share(&self, class: Class) -> f64 {
        if class == Class::Urgent { self.all } else { self.ordinary }
    }

    /// So much ends at a time.
    fn count(&mut self, ends_ms: f64, count: f64) {
        let free = ((ends_ms / self.bucket_ms).floor() + 1.0) * self.bucket_ms + self.span_ms;
        self.used += count;
        match self.frees.back_mut() {
            Some((at, held)) if *at >= free => *held += count,
            _ => self.frees.push_back((free, count)),
        }
    }

    fn expire(&mut self, now_ms: f64) {
        while let Some((_, count)) = self.frees.pop_front_if(|(at, _)| *at <= now_ms) {
            self.used -= count;
        }
        if self.frees.is_empty() {
            self.used = 0.0;
        }
    }

    /// Messages there is room for: at least a part of one, or none.
    fn room(&self, class: Class) -> f64 {
        let left = self.share(class) - self.used;
        if left < 0.999 { 0.0 } else { (left / self.weight + 1e-6).floor().max(1.0) }
    }

    /// When there is room for one again.
    fn over_ms(&self, class: Class) -> Option<f64> {
        let excess = self.used + 0.999 - self.share(class);
        let mut gone = 0.0;
        self.frees.iter().find_map(|(at, count)| {
            gone += count;
            (gone >= excess).then_some(*at)
        })
    }
}

/// The mail of one account on its way through time.
pub(super) struct Play {
    t_ms: f64,
    started_ms: f64,
    today_ends_ms: f64,
    gauges: Vec<Gauge>,
    per_message: f64,
    pace: Option<Pace>,
    /// A short window taken as a pace, messages a millisecond.
    short: Option<(f64, Limit)>,
    /// Nothing can be foreseen any more.
    lost: bool,
    /// Already handed out.
    flying: f64,
    held: Option<(f64, Limit)>,
    /// Time spent sending, and what set the pace.
    sending_ms: f64,
    sent_by: Option<Limit>,
    /// When the last message sent so far has ended.
    ended_ms: f64,
    pub(super) not_today: Option<f64>,
    pub(super) today_limit: Option<Limit>,
    steps: u32,
}

impl Play {
    pub(super) fn new(outlook: &Outlook<'_>) -> Self {
        let per_message = outlook.per_message.max(1.0);
        let took_ms = outlook.pace.map_or(0.0, |pace| pace.took_ms);
        let longest = outlook.windows.iter().map(|window| window.span_ms).max().unwrap_or(0);
        let (short, long): (Vec<_>, Vec<_>) =
            outlook.windows.iter().partition(|window| window.span_ms <= SHORT_MS && longest > SHORT_MS);
        let gauge = |window: &WindowStatus| Gauge::new(window, per_message, outlook.now_ms, took_ms);
        let short: Option<(f64, Limit)> = short
            .iter()
            .map(|window| {
                let bucket = window.bucket_ms as f64;
                let again_ms = window.span_ms as f64 + bucket * ((took_ms / bucket).floor() + 1.0);
                (f64::from(window.limit) / again_ms, gauge(window).limit)
            })
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let flying = outlook
            .windows
            .iter()
            .filter(|window| window.unit == "messages")
            .map(|window| f64::from(window.used) - window.recent.iter().map(|(_, n)| f64::from(*n)).sum::<f64>())
            .fold(0.0, f64::max);
        let held = outlook.not_before.filter(|(at, _)| *at > outlook.now_ms).map(|(at, limit)| (at as f64, limit));
        let now = outlook.now_ms as f64;
        let begin = held.map_or(now, |(at, _)| at);
        let mut play = Self {
            t_ms: begin,
            started_ms: now,
            today_ends_ms: outlook.today_ends_ms as f64,
            gauges: long.into_iter().map(gauge).collect(),
            per_message,
            pace: outlook.pace,
            short,
            lost: false,
            flying,
            held,
            sending_ms: 0.0,
            sent_by: None,
            ended_ms: begin,
            not_today: None,
            today_limit: None,
            steps: 0,
        };
        let (most, _) = play.rate(f64::INFINITY);
        // A window that cannot be filled at this pace is never in the way.
        play.gauges.retain(|gauge| {
            let filled = gauge.used + most * gauge.weight * (gauge.span_ms + gauge.bucket_ms);
            most == f64::INFINITY || filled > gauge.ordinary
        });
        play.cross(begin, (outlook.urgent + outlook.ordinary) as f64, held.map(|(_, limit)| limit));
        play
    }

    /// Messages a millisecond at a time, and what sets it.
    fn rate(&self, at_ms: f64) -> (f64, Option<Limit>) {
        let mut rate = (f64::INFINITY, None);
        if let Some(pace) = self.pace {
            let connections = Limit::Connections { connections: pace.connections.round().max(1.0) as u32 };
            rate = (pace.connections / pace.took_ms.max(0.01), Some(connections));
            if let Some(slowed) = pace.slowed {
                let elapsed = at_ms - self.started_ms;
                let now = if elapsed >= slowed.recovers_ms {
                    slowed.full
                } else {
                    slowed.now + (slowed.full - slowed.now) * elapsed / slowed.recovers_ms
                };
                if now < rate.0 {
                    rate = (now, Some(Limit::Slowed { per_minute: (now * 60_000.0).ceil() as u32 }));
                }
            }
        }
        match self.short {
            Some((short, limit)) if short < rate.0 => (short, Some(limit)),
            _ => rate,
        }
    }

    /// Time passes until then while so many recipients wait; `why` they do.
    fn cross(&mut self, until_ms: f64, left: f64, why: Option<Limit>) {
        if self.not_today.is_none() && until_ms > self.today_ends_ms {
            self.not_today = Some(left);
            self.today_limit = why;
        }
    }

    /// Sends so many recipients while others wait behind them.
    pub(super) fn send(&mut self, recipients: f64, behind: f64, class: Class) {
        let mut left = (recipients / self.per_message).ceil();
        // What is under way is gone soon, and has been counted.
        let under_way = self.flying.min(left);
        self.flying -= under_way;
        left -= under_way;
        self.ended_ms = self.ended_ms.max(self.t_ms);
        let longest = self.gauges.iter().map(|gauge| gauge.span_ms + gauge.bucket_ms).fold(0.0, f64::max);
        let steady_ms = self.t_ms.max(self.started_ms + self.recovers_ms()) + longest;
        let mut mark: Option<(f64, f64)> = None;
        while left >= 0.5 && !self.lost {
            self.steps += 1;
            self.lost = self.steps > MOST_STEPS;
            if longest > 0.0 && self.t_ms >= steady_ms {
                match mark {
                    None => mark = Some((self.t_ms, left)),
                    Some((at, before)) if self.t_ms >= at + longest => {
                        left = self.skip(self.t_ms - at, before - left, left, behind);
                        mark = Some((f64::INFINITY, left));
                    }
                    Some(_) => {}
                }
            }
            left -= self.step(left, behind, class);
        }
    }

    fn recovers_ms(&self) -> f64 {
        self.pace.and_then(|pace| pace.slowed).map_or(0.0, |slowed| slowed.recovers_ms)
    }

    fn took_ms(&self) -> f64 {
        self.pace.map_or(0.0, |pace| pace.took_ms)
    }

    /// Sends what there is room for within a bucket, or waits until there is room; gives the messages sent.
    fn step(&mut self, left: f64, behind: f64, class: Class) -> f64 {
        let waits = left * self.per_message + behind;
        let mut room = left;
        let mut wait: Option<(f64, usize)> = None;
        for (at, gauge) in self.gauges.iter_mut().enumerate() {
            gauge.expire(self.t_ms);
            let here = gauge.room(class);
            room = room.min(here);
            if here <= 0.0 {
                let Some(over) = gauge.over_ms(class) else {
                    self.lost = true;
                    return 0.0;
                };
                wait = wait.filter(|(known, _)| *known >= over).or(Some((over, at)));
            }
        }
        if let Some((over, at)) = wait {
            let until = over.max(self.t_ms + 1.0);
            self.gauges[at].waited_ms += until - self.t_ms;
            self.cross(until, waits, Some(self.gauges[at].limit));
            self.t_ms = until;
            return 0.0;
        }
        let (rate, why) = self.rate(self.t_ms);
        let bucket = self.gauges.iter().map(|gauge| gauge.bucket_ms).fold(f64::INFINITY, f64::min);
        let mut count = room;
        if rate < f64::INFINITY {
            let mut until = ((self.t_ms / bucket).floor() + 1.0) * bucket - self.t_ms;
            if !until.is_finite() {
                until = f64::INFINITY;
            }
            if self.t_ms < self.started_ms + self.recovers_ms() {
                until = until.min(RAMP_STEP_MS);
            }
            count = count.min((rate * until + 1e-6).floor().max(1.0));
        }
        let (took, lasts) = (self.took_ms(), if rate < f64::INFINITY { count / rate } else { 0.0 });
        // They end one after the other: all of a step count from the middle of that.
        let ends = self.t_ms + took.max((took + lasts) / 2.0);
        for gauge in &mut self.gauges {
            gauge.count(ends, count * gauge.weight);
        }
        if self.not_today.is_none() && self.t_ms + lasts > self.today_ends_ms {
            let sent = if rate < f64::INFINITY { (self.today_ends_ms - self.t_ms).max(0.0) * rate } else { 0.0 };
            self.not_today = Some((waits - sent * self.per_message).max(0.0));
            self.today_limit = why;
        }
        self.ended_ms = self.t_ms + lasts.max(took);
        self.sending_ms += lasts;
        self.sent_by = why.or(self.sent_by);
        self.t_ms += lasts;
        count
    }

    /// Windows come round: as many messages in the same time again and again. Gives what is left after whole rounds.
    fn skip(&mut self, round_ms: f64, sent: f64, left: f64, behind: f64) -> f64 {
        // The last round is played to its end.
        let rounds = (left / sent.max(1.0)).ceil() - 1.0;
        if sent < 1.0 || rounds < 1.0 {
            return left;
        }
        let skipped = rounds * round_ms;
        if self.not_today.is_none() && self.t_ms + skipped > self.today_ends_ms {
            let until = ((self.today_ends_ms - self.t_ms) / round_ms).floor().max(0.0);
            self.not_today = Some((left - until * sent) * self.per_message + behind);
            self.today_limit = self.limit();
        }
        let more = 1.0 + skipped / (self.t_ms - self.started_ms).max(1.0);
        self.sending_ms *= more;
        for gauge in &mut self.gauges {
            gauge.waited_ms *= more;
            gauge.frees.iter_mut().for_each(|(at, _)| *at += skipped);
        }
        self.t_ms += skipped;
        left - rounds * sent
    }

    /// When all that was sent has arrived, Unix milliseconds.
    pub(super) fn ends(&self) -> Option<i64> {
        (!self.lost).then(|| self.ended_ms.ceil() as i64)
    }

    /// What took most of the time.
    pub(super) fn limit(&self) -> Option<Limit> {
        let held = self.held.map(|(until, limit)| (until - self.started_ms, limit));
        let sending = self.sent_by.map(|limit| (self.sending_ms, limit));
        let waited = self.gauges.iter().map(|gauge| (gauge.waited_ms, gauge.limit));
        let all = waited.chain(held).chain(sending).filter(|(ms, _)| *ms > 0.0);
        all.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, limit)| limit)
    }
}
