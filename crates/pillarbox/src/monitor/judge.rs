//! What a result means beside the ones before it: whether somebody is told. Pure.
//!
//! A level that became bad is told once it is confirmed, and its end when it is over. What goes up and down all the time is
//! told once: it is over only when it has been well for a while.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::{Alerting, Found, Level};

/// Turns between good and bad that count are younger than this, milliseconds.
const TURNS_MS: i64 = 86_400_000;
/// With so many of them a check flaps.
const FLAPS: usize = 4;
/// Good results in a row that end what flaps.
const CALM: u32 = 3;
/// Most turns that are remembered.
const MOST_TURNS: usize = 20;
/// Most differences that are named.
const MOST_CHANGES: usize = 20;
/// Longest of them, characters.
const LONGEST_CHANGE: usize = 300;

/// What is remembered of the results of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// An alert is raised.
    pub raised: bool,
    /// Bad results in a row.
    pub bad: u32,
    /// Good results in a row.
    pub good: u32,
    /// When it turned from good to bad or back lately, Unix milliseconds.
    pub turns: Vec<i64>,
    /// Key of the alert about facts that changed.
    pub changed: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// Nothing.
    Nothing,
    /// It is bad once: look again soon before anybody is told.
    LookAgain,
    /// It is bad.
    Raise,
    /// It is well again.
    Resolve,
}

impl Memory {
    /// Goes up and down.
    pub fn flaps(&self, now_ms: i64) -> bool {
        self.turns.iter().filter(|at| now_ms - **at < TURNS_MS).count() >= FLAPS
    }

    /// Takes a result in, which is not `Skipped`.
    pub fn take(&mut self, level: Level, confirm: u32, now_ms: i64) -> Say {
        let turned = if level.is_bad() { self.good > 0 } else { self.bad > 0 };
        if turned {
            self.turns.retain(|at| now_ms - *at < TURNS_MS);
            self.turns.push(now_ms);
            let surplus = self.turns.len().saturating_sub(MOST_TURNS);
            self.turns.drain(..surplus);
        }
        if level.is_bad() {
            self.bad = self.bad.saturating_add(1);
            self.good = 0;
            if !self.raised && self.bad < confirm {
                return Say::LookAgain;
            }
            self.raised = true;
            return Say::Raise;
        }
        self.good = self.good.saturating_add(1);
        self.bad = 0;
        let enough = if self.flaps(now_ms) { CALM } else { 1 };
        if !self.raised || self.good < enough {
            return Say::Nothing;
        }
        self.raised = false;
        Say::Resolve
    }
}

/// Whether facts that differ are told of.
pub fn tells_changes(alerting: Alerting, before: Option<&Value>, found: &Found) -> bool {
    alerting == Alerting::LevelAndFacts && before.is_some_and(|before| *before != found.facts)
}

/// How facts differ, a line each: `mx: "a" → "b"`.
pub fn changes(before: &Value, now: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", before, now, &mut lines);
    let more = lines.len().saturating_sub(MOST_CHANGES);
    lines.truncate(MOST_CHANGES);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn compare(at: &str, before: &Value, now: &Value, lines: &mut Vec<String>) {
    let line = |text: String| text.chars().take(LONGEST_CHANGE).collect::<String>();
    let within = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match (before, now) {
        (a, b) if a == b => {}
        (Value::Object(a), Value::Object(b)) => {
            for (key, old) in a {
                compare(&within(key), old, b.get(key).unwrap_or(&Value::Null), lines);
            }
            for (key, new) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                compare(&within(key), &Value::Null, new, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            lines.extend(a.iter().filter(|one| !b.contains(one)).map(|one| line(format!("{at}: no longer {one}"))));
            lines.extend(b.iter().filter(|one| !a.contains(one)).map(|one| line(format!("{at}: now also {one}"))));
        }
        (Value::Null, b) => lines.push(line(format!("{at}: now {b}"))),
        (a, Value::Null) => lines.push(line(format!("{at}: no longer {a}"))),
        (a, b) => lines.push(line(format!("{at}: {a} → {b}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn said(levels: &[Level], confirm: u32, every_ms: i64) -> Vec<Say> {
        let mut memory = Memory::default();
        levels.iter().enumerate().map(|(n, level)| memory.take(*level, confirm, n as i64 * every_ms)).collect()
    }

    #[test]
    fn what_becomes_bad_is_told_and_its_end_once() {
        use Level::{Note, Ok, Problem, Warning};
        use Say::{Nothing, Raise, Resolve};
        let levels = [Ok, Note, Warning, Problem, Ok, Ok];
        assert_eq!(said(&levels, 1, MINUTE), [Nothing, Nothing, Raise, Raise, Resolve, Nothing]);
        // The very first result can be bad.
        assert_eq!(said(&[Problem, Ok], 1, MINUTE), [Raise, Resolve]);
    }

    #[test]
    fn a_single_slip_is_looked_at_again_before_anybody_is_told() {
        use Level::{Ok, Problem};
        use Say::{LookAgain, Nothing, Raise, Resolve};
        assert_eq!(said(&[Ok, Problem, Ok], 2, MINUTE), [Nothing, LookAgain, Nothing]);
        let levels = [Ok, Problem, Problem, Problem, Ok];
        assert_eq!(said(&levels, 2, MINUTE), [Nothing, LookAgain, Raise, Raise, Resolve]);
    }

    #[test]
    fn what_flaps_is_told_once_and_is_over_when_it_stays_well() {
        use Level::{Ok, Problem};
        let mut memory = Memory::default();
        let mut told = Vec::new();
        for n in 0..20 {
            let level = if n % 2 == 0 { Problem } else { Ok };
            told.push(memory.take(level, 1, n * MINUTE));
        }
        assert_eq!(told.iter().filter(|say| **say == Say::Resolve).count(), 2, "{told:?}");
        assert!(memory.flaps(20 * MINUTE) && memory.raised);
        let calm: Vec<Say> = (20..23).map(|n| memory.take(Ok, 1, n * MINUTE)).collect();
        assert_eq!(calm, [Say::Nothing, Say::Resolve, Say::Nothing]);
        // The same, spread over days, does not flap.
        let levels = [Problem, Ok, Problem, Ok, Problem, Ok];
        assert_eq!(said(&levels, 1, TURNS_MS).iter().filter(|say| **say == Say::Resolve).count(), 3);
    }

    #[test]
    fn differences_are_named_by_their_place() {
        let before = json!({ "mx": ["a", "b"], "spf": { "text": "v=spf1 -all" }, "old": 1 });
        let now = json!({ "mx": ["b", "c"], "spf": { "text": "v=spf1 ~all" }, "new": true });
        let lines = [
            "mx: no longer \"a\"",
            "mx: now also \"c\"",
            "old: no longer 1",
            "spf.text: \"v=spf1 -all\" → \"v=spf1 ~all\"",
            "new: now true",
        ];
        assert_eq!(changes(&before, &now), lines);
        assert_eq!(changes(&before, &before), [""; 0]);
        let many: Vec<i32> = (0..100).collect();
        assert_eq!(changes(&json!({ "n": [] }), &json!({ "n": many })).len(), MOST_CHANGES + 1);
    }
}
