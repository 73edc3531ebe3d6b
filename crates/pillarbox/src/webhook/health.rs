//! When to try again, when to leave an endpoint alone for a while, when to stop: pure, time is an argument.
//!
//! A single event that is refused is tried for three days, with growing pauses. An endpoint that refuses everything is asked
//! with one event at a time, and paused when that has gone on for three days: then nothing is given up, all of it waits.

use serde::{Deserialize, Serialize};

/// Pauses after the first failures of an event, seconds; the last one repeats.
const WAITS_S: &[i64] = &[5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200];
/// Pauses between questions to an endpoint that fails, seconds; the last one repeats.
const PROBES_S: &[i64] = &[5, 15, 30, 60, 120, 300, 600, 900];
/// How long an event is tried, and how long an endpoint may fail before it is paused.
pub const TRY_MS: i64 = 3 * 86_400_000;
/// Failures in a row after which an endpoint counts as failing as a whole.
pub const DOWN_AFTER: u32 = 10;
/// Longest pause an endpoint may ask for (`Retry-After`), seconds.
const LONGEST_WISH_S: i64 = 86_400;

/// A pause that somebody has to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// Why, in words.
    pub why: String,
}

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// In words.
    pub why: String,
}

/// How an endpoint is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Nothing is sent until somebody resumes it.
    pub paused: Option<Paused>,
    /// First failure after the last success, Unix milliseconds.
    pub failing_since_ms: Option<i64>,
    /// Failures since the last success.
    pub failures: u32,
    /// While it fails as a whole: when it is asked again, Unix milliseconds.
    pub probe_ms: Option<i64>,
    /// Last success, Unix milliseconds.
    pub last_taken_ms: Option<i64>,
    /// Last failure.
    pub last_failure: Option<LastFailure>,
}

/// What an endpoint may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Everything.
    Open,
    /// One event, to see whether it works again.
    Probe,
    /// Nothing before this moment, Unix milliseconds.
    Shut(i64),
    /// Nothing.
    Paused,
}

/// What a failure says about the endpoint as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Nothing in particular.
    Usual,
    /// It wants no more (410 Gone).
    Gone,
    /// It wants a pause, seconds.
    Later(i64),
}

impl Health {
    /// Reads what was noted; what cannot be read is forgotten.
    pub fn read(state: &serde_json::Value) -> Self {
        serde_json::from_value(state.clone()).unwrap_or_default()
    }

    /// What may be asked now.
    pub fn gate(&self, now_ms: i64) -> Gate {
        match (&self.paused, self.probe_ms) {
            (Some(_), _) => Gate::Paused,
            (None, Some(probe_ms)) if now_ms < probe_ms => Gate::Shut(probe_ms),
            (None, Some(_)) => Gate::Probe,
            (None, None) => Gate::Open,
        }
    }

    /// The endpoint took something. True: it had been failing as a whole.
    pub fn taken(&mut self, now_ms: i64) -> bool {
        self.last_taken_ms = Some(now_ms);
        self.failing_since_ms = None;
        self.failures = 0;
        self.probe_ms.take().is_some()
    }

    /// The endpoint did not take something.
    pub fn refused(&mut self, now_ms: i64, why: &str, refused: Refused) {
        self.last_failure = Some(LastFailure { at_ms: now_ms, why: why.to_owned() });
        let since_ms = *self.failing_since_ms.get_or_insert(now_ms);
        self.failures = self.failures.saturating_add(1);
        if refused == Refused::Gone {
            let why = "it answered 410 Gone: it wants no more events".to_owned();
            self.paused.get_or_insert(Paused { since_ms: now_ms, why });
            return;
        }
        let probes = self.failures.saturating_sub(DOWN_AFTER);
        let mut wait_s = (self.failures >= DOWN_AFTER).then(|| step(PROBES_S, probes));
        if let Refused::Later(wish_s) = refused {
            wait_s = wait_s.max(Some(wish_s.clamp(1, LONGEST_WISH_S)));
        }
        self.probe_ms = wait_s.map(|wait_s| now_ms + wait_s * 1_000).max(self.probe_ms);
        if self.failures >= DOWN_AFTER && now_ms - since_ms >= TRY_MS {
            let why = format!("nothing was taken for 3 days, at last: {why}");
            self.paused.get_or_insert(Paused { since_ms: now_ms, why });
        }
    }

    /// Somebody has mended it.
    pub fn resume(&mut self) {
        *self = Self { last_taken_ms: self.last_taken_ms, last_failure: self.last_failure.take(), ..Self::default() };
    }

    /// Fails as a whole, and nobody has stopped it yet.
    pub fn is_down(&self) -> bool {
        self.paused.is_none() && self.failures >= DOWN_AFTER
    }
}

fn step(steps: &[i64], n: u32) -> i64 {
    let n = usize::try_from(n).unwrap_or(usize::MAX).min(steps.len() - 1);
    steps[n]
}

/// When an event is tried again after this many attempts, Unix milliseconds; `None`: it is given up. `luck` spreads what
/// failed together.
pub fn next_attempt(attempts: u32, first_ms: i64, now_ms: i64, luck: u8) -> Option<i64> {
    let ends_ms = first_ms.saturating_add(TRY_MS);
    if now_ms >= ends_ms {
        return None;
    }
    let wait_ms = step(WAITS_S, attempts.saturating_sub(1)) * 1_000;
    let spread_ms = wait_ms / 10 * i64::from(luck) / 255;
    Some((now_ms + wait_ms + spread_ms).min(ends_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_tried_for_three_days_with_growing_pauses() {
        let mut now_ms = 1_000;
        let mut attempts = 1;
        let mut waits = Vec::new();
        while let Some(next_ms) = next_attempt(attempts, 1_000, now_ms, 0) {
            waits.push((next_ms - now_ms) / 1_000);
            now_ms = next_ms;
            attempts += 1;
        }
        assert_eq!(now_ms, 1_000 + TRY_MS, "the last attempt is at the very end");
        assert_eq!(waits[..4], [5, 30, 120, 600]);
        assert!((12..20).contains(&waits.len()), "{waits:?}");
        assert_eq!(next_attempt(1, 0, 0, 255), Some(5_500));
    }

    #[test]
    fn an_endpoint_that_fails_is_asked_seldom_and_paused_after_three_days() {
        let mut health = Health::default();
        let mut now_ms = 0;
        for _ in 0..DOWN_AFTER {
            assert_eq!(health.gate(now_ms), Gate::Open);
            health.refused(now_ms, "status 500", Refused::Usual);
        }
        assert!(health.is_down());
        let mut asked = 0;
        while let Gate::Shut(at_ms) = health.gate(now_ms) {
            assert_eq!(health.gate(at_ms), Gate::Probe);
            now_ms = at_ms;
            health.refused(now_ms, "status 500", Refused::Usual);
            asked += 1;
        }
        assert_eq!(health.gate(now_ms), Gate::Paused);
        assert!((TRY_MS..TRY_MS + 3_600_000).contains(&now_ms), "{now_ms}");
        assert!(asked < 400, "{asked}");
        assert!(health.paused.as_ref().unwrap().why.contains("status 500"));
        health.resume();
        assert_eq!(health.gate(now_ms), Gate::Open);
    }

    #[test]
    fn one_success_ends_the_trouble() {
        let mut health = Health::default();
        for _ in 0..50 {
            health.refused(0, "x", Refused::Usual);
        }
        assert!(health.taken(9_000_000));
        assert_eq!((health.gate(9_000_000), health.failing_since_ms), (Gate::Open, None));
        assert!(!health.taken(9_000_001));
        let again = Health::read(&serde_json::to_value(&health).unwrap());
        assert_eq!((again, Health::read(&serde_json::Value::Null)), (health, Health::default()));
    }

    #[test]
    fn a_wish_for_a_pause_is_kept_within_reason_and_gone_means_gone() {
        let mut health = Health::default();
        health.refused(0, "status 429", Refused::Later(120));
        assert_eq!(health.gate(0), Gate::Shut(120_000));
        health.refused(0, "status 503", Refused::Later(i64::MAX));
        assert_eq!(health.gate(0), Gate::Shut(86_400_000));
        health.refused(0, "status 410", Refused::Gone);
        assert_eq!(health.gate(0), Gate::Paused);
    }
}
