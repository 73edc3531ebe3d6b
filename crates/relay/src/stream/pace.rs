//! Pace: when the next mail of a stream may leave, and when mail that comes in shall.
//!
//! Two clocks, both pure: [`Gate`] keeps mails apart when they leave, whatever brought them together; [`Slots`] gives mail
//! that comes in the time at which it is due, so that what has to wait waits in the store and not in memory.

use std::sync::Arc;

use crate::schedule::limit::Rates;
use crate::schedule::{Account, Accounts};

/// A minute as it is kept: counts are kept in whole seconds, so a minute is over after one more.
const MINUTE_MS: i64 = 61_000;
/// Mail may catch up what it was hindered for so long, milliseconds.
const BURST_MS: i64 = 1_000;
/// Fewest mails of a stream that may wait in memory, whatever its pace.
const LEAST_IN_MEMORY: usize = 20;
/// The golden ratio's fraction: its multiples divide any span more and more evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// A pace as it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Most recipients in any minute.
    pub per_minute: u32,
    /// What counts them, over restarts as well.
    pub accounts: Accounts,
}

impl Pace {
    /// The pace of a stream.
    pub fn of(stream: &str, per_minute: u32) -> Self {
        let rates = Rates { per_minute: Some(per_minute), reserve_percent: Some(0), ..Rates::default() };
        // No route can be called so.
        let account = Account { name: format!("~stream/{stream}").into(), rates };
        Self { per_minute, accounts: Arc::new([account]) }
    }

    fn gap_ms(&self, mails: u32) -> i64 {
        (i64::from(mails) * MINUTE_MS).div_euclid(i64::from(self.per_minute.max(1)))
    }

    /// How long what may wait in memory takes, milliseconds.
    pub fn in_memory_ms(&self) -> i64 {
        self.gap_ms(u32::try_from(self.most_in_memory()).unwrap_or(u32::MAX))
    }

    /// Most mails that may wait in memory: a minute's worth.
    pub fn most_in_memory(&self) -> usize {
        (self.per_minute as usize).max(LEAST_IN_MEMORY)
    }
}

/// Keeps the mails of a stream apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gate {
    /// In mails times milliseconds: a gap need not be a whole number of milliseconds.
    next: i64,
}

impl Gate {
    /// When the next may leave, if not now, Unix milliseconds.
    pub fn wait(&self, pace: &Pace, now_ms: i64) -> Option<i64> {
        let per_minute = i64::from(pace.per_minute.max(1));
        let next_ms = self.next.div_euclid(per_minute) + i64::from(self.next.rem_euclid(per_minute) > 0);
        // A clock that was set back must not stop it.
        (next_ms > now_ms && next_ms - now_ms <= 120_000).then_some(next_ms)
    }

    /// One leaves now.
    pub fn pass(&mut self, pace: &Pace, now_ms: i64) {
        let per_minute = i64::from(pace.per_minute.max(1));
        let now = now_ms.saturating_mul(per_minute);
        let earliest = now - BURST_MS.min(MINUTE_MS / per_minute).saturating_mul(per_minute);
        let next = if self.next > now.saturating_add(120_000 * per_minute) { now } else { self.next };
        self.next = next.max(earliest) + MINUTE_MS;
    }
}

/// The times at which mail that comes in is due.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slots {
    next_ms: i64,
    spread: u32,
}

impl Slots {
    /// The next mail of a paced stream is due at this time, Unix milliseconds.
    pub fn take(&mut self, pace: &Pace, now_ms: i64) -> i64 {
        let at = self.next_ms.max(now_ms);
        self.next_ms = at + pace.gap_ms(1).max(1);
        at
    }

    /// The next mail of a stream that is spread is due so much later, milliseconds.
    pub fn spread(&mut self, window_ms: i64) -> i64 {
        self.spread = self.spread.wrapping_add(1);
        ((f64::from(self.spread) * GOLDEN).fract() * window_ms.max(0) as f64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_no_more_than_the_pace_through_and_evenly() {
        for per_minute in [1, 7, 60, 999, 6_000] {
            let pace = Pace::of("x", per_minute);
            let (mut gate, mut now, mut passed) = (Gate::default(), 1_000_000, Vec::new());
            while now < 1_000_000 + 180_000 {
                match gate.wait(&pace, now) {
                    Some(at) => now = at,
                    None => {
                        gate.pass(&pace, now);
                        passed.push(now);
                    }
                }
            }
            let expected = (180_000 * per_minute as usize).div_ceil(MINUTE_MS as usize);
            assert!((expected..=expected + 101).contains(&passed.len()), "{per_minute}: {}", passed.len());
            let gap = MINUTE_MS / i64::from(per_minute);
            let late = passed.iter().skip(150).zip(passed.iter().skip(151)).map(|(a, b)| b - a);
            assert!(late.clone().all(|apart| (gap - 1..=gap + 2).contains(&apart)), "{per_minute}: {:?}", late.max());
        }
    }

    #[test]
    fn a_gate_forgets_a_clock_that_was_ahead() {
        let pace = Pace::of("x", 1);
        let mut gate = Gate::default();
        gate.pass(&pace, 10_000_000);
        assert_eq!(gate.wait(&pace, 1_000), None);
        gate.pass(&pace, 1_000);
        assert_eq!(gate.wait(&pace, 2_000), Some(62_000));
    }

    #[test]
    fn slots_follow_one_another_and_start_anew_after_a_pause() {
        let pace = Pace::of("x", 61);
        let mut slots = Slots::default();
        assert_eq!([0, 0, 0, 0].map(|_| slots.take(&pace, 5_000)), [5_000, 6_000, 7_000, 8_000]);
        assert_eq!(slots.take(&pace, 100_000), 100_000);
    }

    #[test]
    fn what_is_spread_is_spread_evenly_however_much_it_is() {
        let mut slots = Slots::default();
        let mut at: Vec<i64> = (0..1_000).map(|_| slots.spread(1_000_000)).collect();
        at.sort_unstable();
        let widest = at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(at[0] >= 0 && at[999] < 1_000_000 && widest < 3_000, "{widest}");
    }
}
