//! How a limit is shared among runs: what each may hand out, so that no window ever holds more than its limit. Pure.
//!
//! What a run was granted and did not end is open, and counts until it says otherwise, or is dead: then it counts as used at
//! that time. What has ended counts from when that is told until its window has passed, by one clock: the caller's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Buckets, Share, ShareRequest, ShareUnit, ShareWindow, Tally};

/// Who was refused waits so long for others to give something back, milliseconds.
const WAITS_MS: i64 = 3_000;
/// Between two who are told to give one back, milliseconds.
const TURN_MS: i64 = 2_000;

/// A limit as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    windows: Vec<Buckets>,
    runs: BTreeMap<i64, Run>,
    /// When somebody was told to give one back.
    turned_ms: i64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    ended: Tally,
    counted: Tally,
    granted: Tally,
    /// When it was refused something, if it still wants that.
    refused_ms: Option<i64>,
}

impl Run {
    fn open(&self) -> Tally {
        self.granted.less(self.ended)
    }
}

/// When, and which runs are alive.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Unix milliseconds.
    pub now_ms: i64,
    /// Time that runs have left of their leases, milliseconds; one that is not here is dead.
    pub alive: &'a BTreeMap<i64, i64>,
}

impl Limit {
    /// Nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.windows.iter().all(Vec::is_empty) && self.runs.values().all(|run| run.open() == Tally::default())
    }

    /// What a run reports, and what it is granted.
    pub fn apply(&mut self, by: i64, request: &ShareRequest, moment: &Moment<'_>) -> Share {
        let (windows, now_ms) = (&request.windows, moment.now_ms);
        if self.is_empty() && self.runs.is_empty() {
            self.windows.clone_from(&request.before);
        }
        self.windows.resize(windows.len(), Buckets::new());
        self.bury(windows, moment);
        let left_ms = moment.alive.get(&by).copied().unwrap_or(0);
        // Totals that went back are of a count that was begun anew, when nothing was open.
        let goes_on = |run: &Run| {
            request.ended.messages >= run.ended.messages && request.counted.messages >= run.counted.messages
        };
        let earlier = self.runs.remove(&by).filter(goes_on);
        let known = earlier.map_or(request.known, |run| run.counted);
        self.count(windows, request.counted.less(known), now_ms);
        for (buckets, window) in self.windows.iter_mut().zip(windows) {
            expire(buckets, window, now_ms);
        }
        let before = earlier.map_or(request.handed, |run| run.granted.max(request.handed));
        let mut run = Run {
            ended: request.ended,
            counted: request.counted,
            // It gives back what it does not want any more, but not what is under way.
            granted: least(before, request.wanted.max(request.handed)),
            refused_ms: None,
        };
        let others = self.runs.values().fold(Tally::default(), |sum, other| sum.plus(other.open()));
        let more = if left_ms > 0 { self.more(request, &run, others) } else { Tally::default() };
        run.granted = run.granted.plus(more);
        let missing = request.wanted.less(run.granted) != Tally::default();
        run.refused_ms = missing.then_some(now_ms);
        let too_much = self.too_much(windows, &run, now_ms);
        if left_ms > 0 || run.open() != Tally::default() {
            self.runs.insert(by, run);
        }
        Share { granted: run.granted, used: self.windows.clone(), others, too_much, now_ms, valid_ms: left_ms.max(0) }
    }

    /// What a run gets beside what it has.
    fn more(&self, request: &ShareRequest, run: &Run, others: Tally) -> Tally {
        let open = others.plus(run.open());
        let wanted = request.wanted.less(run.granted);
        let left = |unit: ShareUnit| {
            let of_unit = self.windows.iter().zip(&request.windows).filter(|(_, window)| window.unit == unit);
            let left = of_unit.filter_map(|(buckets, window)| {
                let used = open.of(unit).saturating_add(sum(buckets));
                window.limit.map(|limit| limit.saturating_sub(used))
            });
            left.min().unwrap_or(u64::MAX)
        };
        let more = Tally {
            messages: wanted.messages.min(left(ShareUnit::Messages)),
            recipients: wanted.recipients.min(left(ShareUnit::Recipients)),
        };
        // The one is of no use without the other.
        let none = |wanted: u64, more: u64| wanted > 0 && more == 0;
        if none(wanted.messages, more.messages) || none(wanted.recipients, more.recipients) {
            return Tally::default();
        }
        more
    }

    /// What dead runs held counts as used.
    fn bury(&mut self, windows: &[ShareWindow], moment: &Moment<'_>) {
        let dead: Vec<i64> = self.runs.keys().filter(|run| !moment.alive.contains_key(run)).copied().collect();
        for run in dead {
            if let Some(run) = self.runs.remove(&run) {
                self.count(windows, run.open(), moment.now_ms);
            }
        }
    }

    fn count(&mut self, windows: &[ShareWindow], used: Tally, now_ms: i64) {
        for (buckets, window) in self.windows.iter_mut().zip(windows).filter(|(_, window)| window.span_ms > 0) {
            let count = u32::try_from(used.of(window.unit)).unwrap_or(u32::MAX);
            if count > 0 {
                let at = now_ms.div_euclid(window.bucket_ms.max(1));
                rewind(buckets, at);
                add(buckets, at, count);
            }
        }
    }

    /// Of what is only counted while it is open: whether a run has more than its part while another one waits.
    fn too_much(&mut self, windows: &[ShareWindow], own: &Run, now_ms: i64) -> bool {
        let Some(limit) = windows.iter().find(|window| window.span_ms == 0).and_then(|window| window.limit) else {
            return false;
        };
        let open = own.open().messages;
        let waits = |run: &&Run| run.refused_ms.is_some_and(|at| (now_ms - at).abs() < WAITS_MS);
        let sharers = 1 + self.runs.values().filter(|run| waits(run) || run.open().messages > 0).count() as u64;
        let unfair = |run: &Run| {
            let theirs = run.open().messages;
            theirs + 1 < open || (theirs == 0 && open > limit / sharers)
        };
        if (now_ms - self.turned_ms).abs() < TURN_MS || !self.runs.values().filter(waits).any(unfair) {
            return false;
        }
        self.turned_ms = now_ms;
        true
    }
}

fn least(a: Tally, b: Tally) -> Tally {
    Tally { messages: a.messages.min(b.messages), recipients: a.recipients.min(b.recipients) }
}

fn sum(buckets: &[(i64, u32)]) -> u64 {
    buckets.iter().map(|(_, count)| u64::from(*count)).sum()
}

fn add(buckets: &mut Buckets, at: i64, count: u32) {
    match buckets.last_mut() {
        Some((bucket, held)) if *bucket == at => *held = held.saturating_add(count),
        _ => buckets.push((at, count)),
    }
}

/// A clock that was set back: what was counted later counts as of now, and is over no sooner than it must be.
fn rewind(buckets: &mut Buckets, at: i64) {
    let mut late = 0u32;
    while let Some((_, count)) = buckets.pop_if(|(bucket, _)| *bucket > at) {
        late = late.saturating_add(count);
    }
    if late > 0 {
        add(buckets, at, late);
    }
}

fn expire(buckets: &mut Buckets, window: &ShareWindow, now_ms: i64) {
    let bucket_ms = window.bucket_ms.max(1);
    buckets.retain(|(bucket, _)| bucket.saturating_add(1).saturating_mul(bucket_ms) + window.span_ms > now_ms);
    rewind(buckets, now_ms.div_euclid(bucket_ms));
}

#[cfg(test)]
mod tests;
