//! How what was stopped starts again: slowly at first, then faster and faster. A curve, nothing more.

use serde::{Deserialize, Serialize};

/// From this rate on, messages a second, nothing is held back any more.
const ENOUGH: f64 = 1_000.0;
/// More doublings than that are no numbers any more.
const DOUBLINGS: f64 = 40.0;

/// A rate that doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// Messages in a second at the start, at least 1.
    pub first_per_s: u32,
    /// Milliseconds in which the rate doubles, at least 1.
    pub double_ms: u32,
}

impl Default for Ramp {
    fn default() -> Self {
        Self { first_per_s: 10, double_ms: 3_000 }
    }
}

impl Ramp {
    fn growth(self, elapsed_ms: i64) -> f64 {
        let doublings = elapsed_ms.max(0) as f64 / f64::from(self.double_ms.max(1));
        doublings.min(DOUBLINGS).exp2()
    }

    /// Messages a second after so long; `None`: as many as there are.
    pub fn rate(self, elapsed_ms: i64) -> Option<f64> {
        let rate = f64::from(self.first_per_s.max(1)) * self.growth(elapsed_ms);
        (rate < ENOUGH).then_some(rate)
    }

    /// Connections at once after so long: one, then two, then four.
    pub fn connections(self, elapsed_ms: i64) -> u32 {
        self.growth(elapsed_ms) as u32
    }

    /// Messages in all after so long; at least one, which starts at once.
    pub fn total(self, elapsed_ms: i64) -> u64 {
        let second = f64::from(self.double_ms.max(1)) / 1_000.0 / std::f64::consts::LN_2;
        1 + (f64::from(self.first_per_s.max(1)) * second * (self.growth(elapsed_ms) - 1.0)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_slowly_and_doubles() {
        let ramp = Ramp { first_per_s: 10, double_ms: 1_000 };
        let rates: Vec<Option<f64>> = [0, 1_000, 2_000, 6_000, 7_000].map(|ms| ramp.rate(ms)).to_vec();
        assert_eq!(rates, [Some(10.0), Some(20.0), Some(40.0), Some(640.0), None]);
        assert_eq!([0, 1_000, 3_500].map(|ms| ramp.connections(ms)), [1, 2, 11]);
        let totals = [0, 100, 1_000, 2_000, 10_000].map(|ms| ramp.total(ms));
        assert_eq!(totals, [1, 2, 15, 44, 14_759]);
    }

    #[test]
    fn no_time_makes_it_endless_and_no_clock_makes_it_run_backwards() {
        let ramp = Ramp::default();
        assert_eq!((ramp.total(-5), ramp.rate(i64::MAX)), (1, None));
        assert!(ramp.total(i64::MAX) > 1_000_000_000_000);
    }
}
