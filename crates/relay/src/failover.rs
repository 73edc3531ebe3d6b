//! Which destinations are out, and since when: mail whose route names fallbacks goes by one of them meanwhile.
//!
//! A destination is out when nothing has worked there for the route's patience. From then on one message at a time, after
//! growing pauses, probes it; the first that gets an answer ends it, and all mail goes back. A used-up quota is the
//! schedule's to say. Pure: callers tell the time.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How long nothing works before a fallback is used, unless a route says otherwise, seconds.
pub const DEFAULT_AFTER_S: u32 = 300;
/// First and longest pause between two probes, milliseconds.
const PROBE_MS: (i64, i64) = (30_000, 600_000);

/// What the word about a delivery by a fallback begins with; the route's name follows.
pub const BY_FALLBACK: &str = "by the fallback route ";

/// Destinations that are remembered.
const REMEMBERED: usize = 10_000;

/// A route that stands in for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Its name.
    pub route: String,
    /// Neighbours in the list that have a weight share mail by it; one without comes after those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// The order in which a chain is tried for one message: neighbours with a weight are put in an order by chance, so that
/// each comes first as often as its weight says. `chance` is any number, the same for the same message.
pub fn order(chain: &[Fallback], chance: u64) -> Vec<&str> {
    let mut ordered = Vec::with_capacity(chain.len());
    for group in chain.chunk_by(|a, b| a.weight.is_some() && b.weight.is_some()) {
        let mut left: Vec<&Fallback> = group.iter().collect();
        let mut chance = chance;
        while !left.is_empty() {
            let total: u64 = left.iter().map(|one| u64::from(one.weight.unwrap_or(1).max(1))).sum();
            let mut point = chance % total;
            chance = chance / total + chance % 7;
            let at = left.iter().position(|one| {
                let weight = u64::from(one.weight.unwrap_or(1).max(1));
                let here = point < weight;
                point = point.saturating_sub(weight);
                here
            });
            ordered.push(left.remove(at.unwrap_or(0)).route.as_str());
        }
    }
    ordered
}

#[derive(Debug, Default)]
struct Health {
    /// Since when nothing worked.
    failing_ms: i64,
    /// It was said that it is out.
    out: bool,
    /// Length of the pause before the next probe.
    pause_ms: i64,
    probe_ms: i64,
    /// Messages that went by a fallback.
    diverted: u64,
}

/// What becomes of a message for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It goes there, as always.
    Own,
    /// It goes there to see whether anything works again.
    Probe,
    /// It goes by a fallback, if one works.
    Other,
}

/// A destination that is out, as status pages show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutStatus {
    /// Route, or `route/mx group`.
    pub name: String,
    /// Since when nothing worked there, Unix milliseconds.
    pub since_ms: i64,
    /// Next probe, Unix milliseconds.
    pub probe_ms: i64,
    /// Messages that went by a fallback meanwhile.
    pub diverted: u64,
}

/// What is known of destinations where something fails.
#[derive(Debug, Default)]
pub struct Failover {
    failing: HashMap<Arc<str>, Health>,
    /// Messages that a fallback delivered since the start.
    pub delivered: u64,
}

impl Failover {
    /// A connection or a conversation failed without the next hop saying anything about the message.
    pub fn failed(&mut self, name: &Arc<str>, now_ms: i64) {
        if self.failing.len() >= REMEMBERED && !self.failing.contains_key(name) {
            return;
        }
        let health =
            self.failing.entry(name.clone()).or_insert_with(|| Health { failing_ms: now_ms, ..Health::default() });
        // A clock that was set back must not make an outage endless.
        health.failing_ms = health.failing_ms.min(now_ms);
    }

    /// The next hop answered. True: it was out.
    pub fn worked(&mut self, name: &str) -> bool {
        // Nearly always there is nothing to remove, and nothing to pay for it.
        !self.failing.is_empty() && self.failing.remove(name).is_some_and(|health| health.out)
    }

    /// Whether nothing has worked for so long.
    pub fn is_out(&self, name: &str, after_ms: i64, now_ms: i64) -> bool {
        self.failing.get(name).is_some_and(|health| now_ms - health.failing_ms >= after_ms)
    }

    /// Says once that a destination is out.
    pub fn gone_out(&mut self, name: &str, after_ms: i64, now_ms: i64) -> bool {
        let out = self.is_out(name, after_ms, now_ms);
        self.failing.get_mut(name).is_some_and(|health| out && !std::mem::replace(&mut health.out, true))
    }

    /// Where a message for a destination goes.
    pub fn way(&mut self, name: &str, after_ms: i64, now_ms: i64) -> Way {
        if !self.is_out(name, after_ms, now_ms) {
            return Way::Own;
        }
        let Some(health) = self.failing.get_mut(name) else { return Way::Own };
        if now_ms < health.probe_ms {
            return Way::Other;
        }
        health.pause_ms = (health.pause_ms * 2).clamp(PROBE_MS.0, PROBE_MS.1);
        health.probe_ms = now_ms + health.pause_ms;
        Way::Probe
    }

    /// Whether a destination is out and no probe is due: nothing goes there for now.
    pub fn stays_out(&self, name: &str, after_ms: i64, now_ms: i64) -> bool {
        self.is_out(name, after_ms, now_ms) && self.failing.get(name).is_some_and(|health| now_ms < health.probe_ms)
    }

    /// A fallback takes a message.
    pub fn divert(&mut self, name: &str) {
        if let Some(health) = self.failing.get_mut(name) {
            health.diverted += 1;
        }
    }

    /// Names of destinations where something fails.
    pub fn failing(&self) -> Vec<Arc<str>> {
        self.failing.keys().cloned().collect()
    }

    /// The destinations that are out, longest first.
    pub fn overview(&self) -> Vec<OutStatus> {
        let mut all: Vec<_> = self
            .failing
            .iter()
            .filter(|(_, health)| health.out)
            .map(|(name, health)| OutStatus {
                name: name.to_string(),
                since_ms: health.failing_ms,
                probe_ms: health.probe_ms,
                diverted: health.diverted,
            })
            .collect();
        all.sort_by(|a, b| (a.since_ms, &a.name).cmp(&(b.since_ms, &b.name)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(text: &str) -> Vec<Fallback> {
        let one = |part: &str| match part.split_once('=') {
            Some((route, weight)) => Fallback { route: route.into(), weight: weight.parse().ok() },
            None => Fallback { route: part.into(), weight: None },
        };
        text.split(' ').map(one).collect()
    }

    #[test]
    fn a_chain_is_tried_in_order_and_neighbours_share_by_weight() {
        let chain = chain("first a=3 b=1 last");
        let mut firsts = HashMap::new();
        for chance in 0..4_000u64 {
            let ordered = order(&chain, chance.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            assert_eq!((ordered[0], ordered[3], ordered.len()), ("first", "last", 4));
            *firsts.entry(ordered[1]).or_insert(0) += 1;
        }
        assert!((2_800..3_200).contains(&firsts["a"]), "{firsts:?}");
    }

    #[test]
    fn mail_stays_while_patience_lasts_and_comes_back_after_a_probe_that_is_answered() {
        let name: Arc<str> = "main".into();
        let mut failover = Failover::default();
        let after_ms = 300_000;
        failover.failed(&name, 1_000);
        assert_eq!(failover.way("main", after_ms, 300_999), Way::Own);
        assert!(!failover.gone_out("main", after_ms, 300_999));
        assert!(failover.gone_out("main", after_ms, 301_000) && !failover.gone_out("main", after_ms, 301_001));
        assert!(!failover.stays_out("main", after_ms, 301_000), "the probe comes first");
        assert_eq!(failover.way("main", after_ms, 301_000), Way::Probe);
        assert!(failover.stays_out("main", after_ms, 330_999) && !failover.stays_out("main", after_ms, 331_000));
        let mut probes = 0;
        for second in 302..3_902 {
            failover.failed(&name, second * 1_000);
            match failover.way("main", after_ms, second * 1_000) {
                Way::Probe => probes += 1,
                Way::Other => failover.divert("main"),
                Way::Own => panic!("it is out"),
            }
        }
        assert!((5..=10).contains(&probes), "{probes} probes in an hour");
        assert_eq!(failover.overview()[0].diverted, 3_600 - probes);
        assert!(failover.worked("main"));
        assert_eq!(failover.way("main", after_ms, 3_903_000), Way::Own);
        assert!(failover.overview().is_empty());
    }

    #[test]
    fn one_answer_in_between_begins_the_patience_anew() {
        let name: Arc<str> = "main".into();
        let mut failover = Failover::default();
        failover.failed(&name, 0);
        assert!(!failover.worked("main"), "it was not out");
        failover.failed(&name, 200_000);
        assert_eq!(failover.way("main", 300_000, 499_999), Way::Own);
        assert_eq!(failover.way("main", 300_000, 500_000), Way::Probe);
    }
}
