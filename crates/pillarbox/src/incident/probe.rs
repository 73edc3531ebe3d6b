//! Probes of incidents without a brake: the check that fits, again after growing pauses. What is braked is probed by its brake.

/// Pauses after the first probe that found nothing changed, the second, and so on, milliseconds; the last one repeats.
const PAUSES_MS: [i64; 6] = [15_000, 30_000, 60_000, 120_000, 300_000, 600_000];

/// When an incident is probed again. In memory only: a restart begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probing {
    failures: u32,
    /// Unix milliseconds.
    pub next_ms: i64,
    /// One is under way.
    pub running: bool,
}

impl Probing {
    /// The first one.
    pub fn new(now_ms: i64) -> Self {
        Self { failures: 0, next_ms: now_ms + PAUSES_MS[0], running: false }
    }

    /// Whether it is time; then it counts as under way.
    pub fn begin(&mut self, now_ms: i64) -> bool {
        if self.running || now_ms < self.next_ms {
            return false;
        }
        self.running = true;
        true
    }

    /// Nothing has changed, or nothing is known.
    pub fn failed(&mut self, now_ms: i64) {
        self.running = false;
        self.failures = self.failures.saturating_add(1);
        self.next_ms = now_ms + PAUSES_MS[(self.failures as usize).min(PAUSES_MS.len() - 1)];
    }

    /// It passed, but is believed only later.
    pub fn passed_too_soon(&mut self, next_ms: i64) {
        self.running = false;
        self.next_ms = next_ms;
    }

    /// Something may have changed: at once, and with short pauses again.
    pub fn hasten(&mut self, now_ms: i64) {
        self.failures = 0;
        self.next_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_something_changes() {
        let mut probing = Probing::new(0);
        let mut now = 0;
        for pause in [15, 30, 60, 120, 300, 600, 600] {
            assert!(!probing.begin(now + pause * 1_000 - 1));
            now += pause * 1_000;
            assert!(probing.begin(now));
            assert!(!probing.begin(now), "one at a time");
            probing.failed(now);
        }
        probing.hasten(now);
        assert!(probing.begin(now));
        probing.failed(now);
        assert_eq!(probing.next_ms, now + 30_000);
    }
}
