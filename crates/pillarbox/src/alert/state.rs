//! How a channel is at the moment: what it took lately, and how long it is left alone after it failed. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::channel::ChannelRecord;
use super::rule::AlertRule;

/// Pauses after failures, seconds; the last one repeats.
const WAITS_S: [i64; 8] = [5, 15, 30, 60, 120, 300, 600, 900];
/// Longest pause a channel may ask for, seconds.
const LONGEST_WISH_S: i64 = 3_600;
const HOUR_MS: i64 = 3_600_000;

/// How a channel is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// A message is on its way.
    pub busy: bool,
    /// Failures since the last success.
    pub failures: u32,
    /// First of them, Unix milliseconds.
    pub failing_ms: Option<i64>,
    /// Not before, Unix milliseconds.
    pub next_ms: i64,
    /// Why it failed last.
    pub problem: Option<String>,
    /// Last time it took something, Unix milliseconds.
    pub taken_ms: Option<i64>,
    /// Messages of the last hour, oldest first.
    pub(super) sent: VecDeque<i64>,
    /// Last message by kind of alert.
    pub(super) by_rule: BTreeMap<AlertRule, i64>,
}

impl ChannelState {
    /// It took a message about these.
    pub(super) fn took(&mut self, rules: &[AlertRule], now_ms: i64) {
        self.failures = 0;
        self.failing_ms = None;
        self.problem = None;
        self.next_ms = 0;
        self.taken_ms = Some(now_ms);
        while self.sent.front().is_some_and(|at| *at <= now_ms - HOUR_MS) || self.sent.len() >= 3_600 {
            self.sent.pop_front();
        }
        self.sent.push_back(now_ms);
        for rule in rules {
            self.by_rule.insert(*rule, now_ms);
        }
    }

    /// A message that it seemed to take did not arrive: it does not count.
    pub(super) fn lost(&mut self, rules: &[AlertRule]) {
        self.sent.pop_back();
        for rule in rules {
            self.by_rule.remove(rule);
        }
    }

    /// It did not; it may have asked for a pause, seconds.
    pub(super) fn failed(&mut self, problem: &str, wish_s: Option<i64>, now_ms: i64) {
        self.failing_ms.get_or_insert(now_ms);
        let step = usize::try_from(self.failures).unwrap_or(usize::MAX).min(WAITS_S.len() - 1);
        self.failures = self.failures.saturating_add(1);
        let wait_s = WAITS_S[step].max(wish_s.unwrap_or(0).clamp(0, LONGEST_WISH_S));
        self.next_ms = now_ms + wait_s * 1_000;
        self.problem = Some(problem.to_owned());
    }

    /// When it may be told of this kind of alert, Unix milliseconds. `gather_ms`: how long it gathers after a message. What
    /// seems to have been in the future was before the clock was set back: it puts nothing off.
    pub(super) fn free_ms(&self, record: &ChannelRecord, rule: AlertRule, gather_ms: i64, now_ms: i64) -> i64 {
        let mut at = if self.next_ms - now_ms > LONGEST_WISH_S * 1_000 { now_ms } else { self.next_ms };
        let past = |at: &&i64| **at <= now_ms;
        if let Some(last) = self.sent.iter().rfind(past) {
            at = at.max(last + gather_ms);
        }
        if let Some(last) = self.by_rule.get(&rule).filter(past) {
            at = at.max(last + i64::from(record.interval_s()) * 1_000);
        }
        let recent = self.sent.iter().filter(|at| past(at) && **at > now_ms - HOUR_MS);
        let most = usize::try_from(record.per_hour()).unwrap_or(usize::MAX);
        let over = recent.clone().count().saturating_sub(most.saturating_sub(1));
        if let Some(first) = over.checked_sub(1).and_then(|n| recent.clone().nth(n)) {
            at = at.max(first + HOUR_MS);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(interval_s: u32, per_hour: u32) -> ChannelRecord {
        let body = serde_json::json!({ "kind": "slack", "interval_s": interval_s, "per_hour": per_hour });
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_channel_that_fails_is_left_alone_for_longer_and_longer() {
        let mut state = ChannelState::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            state.failed("no", None, 1_000);
            waits.push((state.next_ms - 1_000) / 1_000);
        }
        assert_eq!(waits, [5, 15, 30, 60, 120, 300, 600, 900, 900]);
        state.took(&[], 2_000);
        state.failed("no", Some(100), 2_000);
        assert_eq!(state.next_ms, 102_000, "a wish is heard");
    }

    #[test]
    fn one_message_for_a_kind_of_alert_in_its_interval() {
        let mut state = ChannelState::default();
        state.took(&[AlertRule::Errors], 1_000);
        let record = record(300, 60);
        assert_eq!(state.free_ms(&record, AlertRule::Errors, 0, 2_000), 301_000);
        assert_eq!(state.free_ms(&record, AlertRule::QueueAge, 0, 2_000), 1_000);
        assert_eq!(state.free_ms(&record, AlertRule::QueueAge, 60_000, 2_000), 61_000);
    }

    #[test]
    fn a_clock_that_was_set_back_puts_nothing_off() {
        let (record, now_ms) = (record(300, 3), 5 * HOUR_MS);
        let mut state = ChannelState::default();
        for n in 0..4 {
            state.took(&[AlertRule::Errors], now_ms + 2 * HOUR_MS + n);
        }
        assert!(state.free_ms(&record, AlertRule::Errors, 60_000, now_ms) <= now_ms);
        state.failed("no", None, now_ms + 2 * HOUR_MS);
        assert!(state.free_ms(&record, AlertRule::Errors, 60_000, now_ms) <= now_ms);
        state.took(&[AlertRule::Errors], now_ms);
        assert_eq!(state.free_ms(&record, AlertRule::Errors, 0, now_ms + 1), now_ms + 300_000);
    }

    #[test]
    fn no_more_than_so_many_in_an_hour() {
        let mut state = ChannelState::default();
        let record = record(0, 3);
        for at in [10, 20, 30] {
            assert!(state.free_ms(&record, AlertRule::Errors, 0, at) <= at);
            state.took(&[AlertRule::Errors], at);
        }
        assert_eq!(state.free_ms(&record, AlertRule::Errors, 0, 40), 10 + HOUR_MS);
        state.took(&[AlertRule::Errors], 40);
        assert_eq!(state.free_ms(&record, AlertRule::Errors, 0, 50), 20 + HOUR_MS);
    }
}
