//! When a deferred recipient is tried again. Pure: randomness and time are arguments.

/// Seconds between attempts; the last one repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    intervals_s: Vec<u32>,
}

/// 1, 5, 15, 30 minutes, 1, 2, 4 hours.
pub const DEFAULT_INTERVALS_S: [u32; 7] = [60, 300, 900, 1_800, 3_600, 7_200, 14_400];

/// Longest interval that is accepted: one day.
pub const LONGEST_INTERVAL_S: u32 = 86_400;

impl Backoff {
    /// From a list of seconds; an empty one means the default, each is kept within one second and one day.
    pub fn new(intervals_s: &[u32]) -> Self {
        let source = if intervals_s.is_empty() { &DEFAULT_INTERVALS_S[..] } else { intervals_s };
        Self { intervals_s: source.iter().map(|s| (*s).clamp(1, LONGEST_INTERVAL_S)).collect() }
    }

    /// Milliseconds until the next attempt after `attempts` failed ones (at least 1), spread by ±15 % so that what failed
    /// together does not come back together. `random` is any number.
    pub fn delay_ms(&self, attempts: u32, random: u64) -> i64 {
        let at = (attempts.max(1) as usize - 1).min(self.intervals_s.len() - 1);
        let base = i64::from(self.intervals_s[at]) * 1_000;
        let spread = base * 3 / 10;
        base - spread / 2 + (random % (spread as u64 + 1)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_follow_the_list_and_the_last_repeats() {
        let backoff = Backoff::new(&[10, 100]);
        for random in [0, 1, u64::MAX, 12_345] {
            for (attempts, seconds) in [(0, 10), (1, 10), (2, 100), (3, 100), (1_000_000, 100)] {
                let delay = backoff.delay_ms(attempts, random);
                assert!((seconds * 850..=seconds * 1_150).contains(&delay), "{attempts} {delay}");
            }
        }
    }

    #[test]
    fn an_empty_or_absurd_list_is_tamed() {
        assert_eq!(Backoff::new(&[]), Backoff::new(&DEFAULT_INTERVALS_S));
        assert!(Backoff::new(&[0]).delay_ms(1, 0) >= 850);
        assert!(Backoff::new(&[u32::MAX]).delay_ms(1, u64::MAX) <= 86_400_000 * 115 / 100);
    }
}
