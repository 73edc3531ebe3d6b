//! Who is told, by the minute.

use serde_json::json;

use super::*;
use crate::alert::entry::{Acknowledged, Alert, Resolved};
use crate::alert::rule::AlertRule;

const MINUTE: i64 = 60_000;
/// 2026-11-21 12:00 UTC, a Saturday.
const NOON: i64 = 1_795_262_400_000;

/// Alerts and channels over time; every message is taken unless its channel is dead.
struct World {
    now_ms: i64,
    settings: Settings,
    states: BTreeMap<String, ChannelState>,
    entries: BTreeMap<String, Entry>,
    dead: Vec<&'static str>,
    /// Time since noon in seconds, channel, what was told.
    log: Vec<(i64, String, String)>,
}

impl World {
    fn new(channels: serde_json::Value) -> Self {
        let mut settings = Settings::default();
        for (name, body) in channels.as_object().unwrap() {
            let mut body = body.clone();
            body.as_object_mut().unwrap().entry("kind").or_insert(json!("slack"));
            let record = serde_json::from_value(body).unwrap();
            settings.channels.push(Channel::new(name.clone(), 1, record, None).unwrap());
        }
        let (states, entries) = (BTreeMap::new(), BTreeMap::new());
        Self { now_ms: NOON, settings, states, entries, dead: Vec::new(), log: Vec::new() }
    }

    fn raise(&mut self, key: &str, rule: AlertRule, severity: Severity) {
        let alert = Alert {
            key: key.into(),
            rule,
            severity,
            title: key.into(),
            text: String::new(),
            about: Vec::new(),
            avoid: Vec::new(),
            link: None,
        };
        match self.entries.get_mut(key) {
            Some(entry) => entry.again(alert, self.now_ms),
            None => drop(self.entries.insert(key.into(), Entry::new(alert, self.now_ms))),
        }
    }

    fn resolve(&mut self, key: &str) {
        let at_ms = self.now_ms;
        self.entries.get_mut(key).unwrap().resolved = Some(Resolved { at_ms, why: "mended".into() });
    }

    fn acknowledge(&mut self, key: &str) {
        let at_ms = self.now_ms;
        self.entries.get_mut(key).unwrap().acknowledged = Some(Acknowledged { at_ms, who: "ann".into(), note: None });
    }

    /// Lets time go by, as far as the plan says there is something to do.
    fn run(&mut self, until_ms: i64) {
        loop {
            let plan = self.step();
            match plan.wake_ms {
                Some(at_ms) if at_ms <= until_ms => self.now_ms = at_ms.max(self.now_ms + 1),
                _ => break,
            }
        }
        self.now_ms = until_ms;
    }

    fn step(&mut self) -> Plan {
        let entries = self.entries.iter().map(|(key, entry)| (key.as_str(), entry));
        let mut all = plan(entries, &self.settings, &self.states, self.now_ms);
        for (key, step) in &all.stepped {
            self.entries.get_mut(key).unwrap().step = *step;
        }
        for message in &all.messages {
            self.send(message);
        }
        all.closed.iter().for_each(|key| drop(self.entries.remove(key)));
        if !all.messages.is_empty() {
            all.wake_ms = Some(self.now_ms);
        }
        all
    }

    fn send(&mut self, message: &Message) {
        let state = self.states.entry(message.channel.clone()).or_default();
        let dead = self.dead.contains(&message.channel.as_str());
        let mut rules = Vec::new();
        let mut words = Vec::new();
        for (key, what) in &message.items {
            let entry = self.entries.get_mut(key).unwrap();
            rules.push(entry.alert.rule);
            words.push(format!("{key} {what:?}"));
            let severity = entry.alert.severity;
            let told = entry.told.entry(message.channel.clone()).or_default();
            match (dead, what) {
                (true, _) => {
                    told.failures += 1;
                    told.failing_ms.get_or_insert(self.now_ms);
                }
                (false, What::Raised | What::Worse) => {
                    (told.raised_ms, told.severity) = (Some(self.now_ms), Some(severity));
                }
                (false, What::Resolved | What::Passed) => {
                    told.raised_ms.get_or_insert(self.now_ms);
                    told.resolved_ms = Some(self.now_ms);
                }
            }
        }
        if dead {
            state.failed("no", None, self.now_ms);
        } else {
            state.took(&rules, self.now_ms);
            self.log.push(((self.now_ms - NOON) / 1_000, message.channel.clone(), words.join(", ")));
        }
    }

    fn told(&self) -> Vec<(i64, &str, &str)> {
        self.log.iter().map(|(at, channel, words)| (*at, channel.as_str(), words.as_str())).collect()
    }
}

#[test]
fn raised_and_over_is_told_once_each_however_often_it_is_raised() {
    let mut world = World::new(json!({ "chat": {} }));
    for _ in 0..50 {
        world.raise("a", AlertRule::Incident, Severity::Problem);
        world.run(world.now_ms + MINUTE);
    }
    world.resolve("a");
    world.run(NOON + 60 * MINUTE);
    assert_eq!(world.told(), [(1, "chat", "a Raised"), (3_001, "chat", "a Resolved")]);
    assert!(world.entries.is_empty(), "nothing is left to tell");
}

#[test]
fn what_comes_within_a_window_is_one_message() {
    let mut world = World::new(json!({ "chat": { "group_s": 60 } }));
    for (n, key) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        world.run(NOON + n as i64 * 10_000);
        world.raise(key, AlertRule::Incident, Severity::Problem);
    }
    world.run(NOON + 10 * MINUTE);
    let wanted = [(1, "chat", "a Raised"), (61, "chat", "b Raised, c Raised, d Raised, e Raised")];
    assert_eq!(world.told(), wanted);
}

#[test]
fn a_channel_that_is_dead_is_replaced_within_seconds_and_told_when_it_lives_again() {
    let mut world = World::new(json!({ "chat": {}, "mail": { "step": 2, "kind": "command" } }));
    world.dead.push("chat");
    world.raise("a", AlertRule::Incident, Severity::Critical);
    world.run(NOON + 10_000);
    assert_eq!(world.told(), [(1, "mail", "a Raised")]);
    world.dead.clear();
    world.run(NOON + 5 * MINUTE);
    // Tried after 1, 6 and 21 seconds.
    assert_eq!(world.told()[1..], [(21, "chat", "a Raised")]);
}

#[test]
fn who_does_not_acknowledge_is_followed_by_the_next_step() {
    let channels = json!({ "first": {}, "second": { "step": 2 }, "third": { "step": 5 } });
    let mut world = World::new(channels.clone());
    world.raise("a", AlertRule::Incident, Severity::Critical);
    world.run(NOON + 20 * MINUTE);
    world.acknowledge("a");
    world.run(NOON + 200 * MINUTE);
    assert_eq!(world.told(), [(1, "first", "a Raised"), (901, "second", "a Raised")]);
    world.resolve("a");
    world.run(NOON + 300 * MINUTE);
    let ends = [(12_001, "first", "a Resolved"), (12_001, "second", "a Resolved")];
    assert_eq!(world.told()[2..], ends, "who was told hears of the end");

    let mut world = World::new(channels);
    world.raise("a", AlertRule::Incident, Severity::Warning);
    world.run(NOON + 2_000 * MINUTE);
    assert_eq!(world.told(), [(1, "first", "a Raised")], "a warning wakes nobody");
}

#[test]
fn quiet_hours_put_off_all_but_what_is_critical() {
    let quiet = json!({ "from": "11:00", "to": "13:00", "zone": "UTC" });
    let mut world = World::new(json!({ "chat": { "quiet": quiet }, "pager": { "step": 2 } }));
    world.raise("a", AlertRule::Incident, Severity::Problem);
    world.raise("b", AlertRule::Incident, Severity::Problem);
    world.raise("c", AlertRule::Incident, Severity::Critical);
    world.run(NOON + MINUTE);
    world.acknowledge("c");
    world.resolve("b");
    world.run(NOON + 50 * MINUTE);
    assert_eq!(world.told(), [(1, "chat", "c Raised")]);
    world.run(NOON + 70 * MINUTE);
    assert_eq!(world.told()[1..], [(3_600, "chat", "a Raised, b Passed")]);
}

#[test]
fn no_more_than_one_mail_for_a_rule_in_its_interval() {
    let mut world = World::new(json!({ "mail": { "kind": "email", "per_hour": 3_600 } }));
    // An alert that comes and goes each half minute, and another one in between.
    for n in 0..120 {
        let key = format!("flap {n}");
        world.raise(&key, AlertRule::Errors, Severity::Critical);
        world.run(world.now_ms + 20_000);
        world.resolve(&key);
        world.run(world.now_ms + 10_000);
    }
    world.raise("other", AlertRule::QueueAge, Severity::Problem);
    world.run(NOON + 120 * MINUTE);
    let flaps: Vec<i64> = world.told().iter().filter(|one| one.2.contains("flap")).map(|one| one.0).collect();
    assert!(flaps.windows(2).all(|two| two[1] - two[0] >= 300), "{flaps:?}");
    assert!(flaps.len() <= 14, "{flaps:?}");
    assert!(world.told().iter().any(|one| one.2.contains("other Raised")));
    assert!(world.entries.keys().all(|key| key == "other"));
}

#[test]
fn every_alert_is_told_though_there_are_far_more_than_a_message_holds() {
    let mut world = World::new(json!({ "chat": { "per_hour": 10 } }));
    for n in 0..333 {
        world.raise(&format!("a{n:03}"), AlertRule::DnsChanged, Severity::Warning);
    }
    world.run(NOON + 24 * 60 * MINUTE);
    let told: usize = world.told().iter().map(|one| one.2.matches("Raised").count()).sum();
    assert_eq!((told, world.told().len()), (333, 7));
}

#[test]
fn what_has_become_worse_is_told_again() {
    let mut world = World::new(json!({ "chat": { "group_s": 0 } }));
    world.raise("a", AlertRule::Incident, Severity::Warning);
    world.run(NOON + MINUTE);
    world.raise("a", AlertRule::Incident, Severity::Critical);
    world.run(NOON + 2 * MINUTE);
    world.raise("a", AlertRule::Incident, Severity::Problem);
    world.run(NOON + 3 * MINUTE);
    assert_eq!(world.told(), [(1, "chat", "a Raised"), (61, "chat", "a Worse")]);
}

#[test]
fn a_clock_that_is_set_back_puts_nothing_off() {
    let mut world = World::new(json!({ "ops": {} }));
    world.raise("first", AlertRule::Incident, Severity::Warning);
    world.run(NOON + MINUTE);
    world.raise("second", AlertRule::Errors, Severity::Warning);
    world.now_ms = NOON - 120 * MINUTE;
    world.resolve("first");
    world.run(world.now_ms + MINUTE);
    let told: Vec<&str> = world.told().into_iter().map(|(_, _, words)| words).collect();
    assert_eq!(told[0], "first Raised");
    for words in ["first Resolved", "second Raised"] {
        assert!(told.iter().any(|one| one.contains(words)), "{told:?}");
    }
}

#[test]
fn an_alert_without_a_channel_waits_for_one() {
    let mut world = World::new(json!({}));
    world.raise("a", AlertRule::Incident, Severity::Problem);
    world.run(NOON + MINUTE);
    assert_eq!(world.entries.len(), 1);
    let record = serde_json::from_value(json!({ "kind": "slack" })).unwrap();
    world.settings.channels.push(Channel::new("chat".into(), 1, record, None).unwrap());
    world.run(NOON + 2 * MINUTE);
    assert_eq!(world.told(), [(60, "chat", "a Raised")]);
    world.resolve("a");
    world.settings.channels.clear();
    world.run(NOON + 3 * MINUTE);
    assert!(world.entries.is_empty());
}
