//! No window ever holds more than its limit, whatever becomes of the nodes; and what is there is used.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Limit, Moment};
use crate::model::{ShareRequest, ShareUnit, ShareWindow, Tally};

const LEASE_MS: i64 = 30_000;
/// A node stops using its shares so long before its lease ends, and no message takes longer.
const MARGIN_MS: i64 = 3_000;
const START_MS: i64 = 1_800_000_000_000;

fn windows(per_second: u64, per_minute: u64) -> Vec<ShareWindow> {
    let of =
        |span_ms, bucket_ms, limit| ShareWindow { unit: ShareUnit::Messages, span_ms, bucket_ms, limit: Some(limit) };
    vec![of(1_000, 20, per_second), of(60_000, 1_000, per_minute)]
}

/// A node that sends as fast as it may.
#[derive(Debug, Clone, Default)]
struct Node {
    run: i64,
    handed: u64,
    ended: u64,
    known: u64,
    granted: u64,
    /// Its shares are good until then.
    valid_ms: i64,
    /// Its lease, as the database knows it.
    alive_ms: i64,
    /// Ends of messages under way.
    flying: Vec<i64>,
    dark_until: i64,
}

struct World {
    limit: Limit,
    windows: Vec<ShareWindow>,
    nodes: Vec<Node>,
    now_ms: i64,
    runs: i64,
    /// Run and time of what the next hop counted.
    counted: Vec<(i64, i64)>,
}

impl World {
    fn new(nodes: usize, windows: Vec<ShareWindow>) -> Self {
        let mut world = Self {
            limit: Limit::default(),
            windows,
            nodes: Vec::new(),
            now_ms: START_MS,
            runs: 0,
            counted: Vec::new(),
        };
        for _ in 0..nodes {
            let node = world.born();
            world.nodes.push(node);
        }
        world
    }

    fn born(&mut self) -> Node {
        self.runs += 1;
        Node { run: self.runs, alive_ms: self.now_ms + LEASE_MS, ..Node::default() }
    }

    fn ask(&mut self, at: usize, block: u64, answered: bool) {
        let alive: BTreeMap<i64, i64> = self
            .nodes
            .iter()
            .filter(|node| node.alive_ms > self.now_ms)
            .map(|node| (node.run, node.alive_ms - self.now_ms - MARGIN_MS))
            .collect();
        let node = &mut self.nodes[at];
        let tally = |messages| Tally { messages, recipients: 0 };
        let request = ShareRequest {
            name: "provider".into(),
            windows: self.windows.clone(),
            handed: tally(node.handed),
            ended: tally(node.ended),
            counted: tally(node.ended),
            known: tally(node.known),
            wanted: tally(node.handed + block),
            before: Vec::new(),
        };
        // What is given back is not used any more, even if nobody hears the answer.
        node.granted = node.granted.min(request.wanted.messages);
        let share = self.limit.apply(node.run, &request, &Moment { now_ms: self.now_ms, alive: &alive });
        let again: Limit = serde_json::from_str(&serde_json::to_string(&self.limit).unwrap()).unwrap();
        assert_eq!(again, self.limit);
        if answered {
            node.known = node.ended;
            node.granted = share.granted.messages;
            node.valid_ms = self.now_ms + share.valid_ms;
        }
    }

    fn send(&mut self, at: usize, most: u64, takes_ms: i64, counts_after: i64) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[at];
        for _ in 0..most {
            if node.handed >= node.granted || node.valid_ms <= now_ms {
                break;
            }
            node.handed += 1;
            node.flying.push(now_ms + takes_ms);
            self.counted.push((node.run, now_ms + counts_after.min(takes_ms)));
        }
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let now_ms = self.now_ms;
        for node in &mut self.nodes {
            let before = node.flying.len();
            node.flying.retain(|end| *end > now_ms);
            node.ended += (before - node.flying.len()) as u64;
            if node.dark_until <= now_ms {
                // Beats come every two seconds.
                node.alive_ms = node.alive_ms.max(now_ms - now_ms % 2_000 + LEASE_MS);
            }
        }
    }

    fn most_in(&self, span_ms: i64) -> u64 {
        let mut times: Vec<i64> = self.counted.iter().map(|(_, at)| *at).collect();
        times.sort_unstable();
        let (mut from, mut most) = (0, 0);
        for (at, time) in times.iter().enumerate() {
            while times[from] <= time - span_ms {
                from += 1;
            }
            most = most.max(at + 1 - from);
        }
        most as u64
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask { node: usize, block: u64, answered: bool },
    Send { node: usize, most: u64, takes_ms: i64, counts_after: i64 },
    Dies(usize),
    Dark { node: usize, for_ms: i64 },
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    // Of those that there are: see where they are taken.
    let node = 0..12usize;
    prop_oneof![
        6 => (node.clone(), 0..8u64, prop::bool::weighted(0.9))
            .prop_map(|(node, block, answered)| Step::Ask { node, block, answered }),
        6 => (node.clone(), 1..8u64, 0..MARGIN_MS, 0..MARGIN_MS)
            .prop_map(|(node, most, takes_ms, counts_after)| Step::Send { node, most, takes_ms, counts_after }),
        1 => node.clone().prop_map(Step::Dies),
        1 => (node, 1_000..90_000i64).prop_map(|(node, for_ms)| Step::Dark { node, for_ms }),
        6 => prop_oneof![3 => 1..50i64, 3 => 50..2_000i64, 1 => 2_000..40_000i64].prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_window_ever_holds_more_than_its_limit_whatever_becomes_of_the_nodes(
        nodes in 1..5usize, steps in prop::collection::vec(step(), 1..250), per_second in 1..12u64, per_minute in 1..40u64,
    ) {
        let mut world = World::new(nodes, windows(per_second, per_minute));
        for step in steps {
            match step {
                Step::Ask { node, block, answered } => {
                    if world.nodes[node % nodes].dark_until <= world.now_ms {
                        world.ask(node % nodes, block, answered);
                    }
                }
                Step::Send { node, most, takes_ms, counts_after } => {
                    world.send(node % nodes, most, takes_ms, counts_after);
                }
                // What was under way breaks off; the next run is another one. The dead one's lease goes with its row.
                Step::Dies(node) => {
                    let (now_ms, dead) = (world.now_ms, world.nodes[node % nodes].run);
                    world.counted.retain(|(run, at)| *run != dead || *at <= now_ms);
                    world.nodes[node % nodes] = world.born();
                }
                Step::Dark { node, for_ms } => world.nodes[node % nodes].dark_until = world.now_ms + for_ms,
                Step::Pass(ms) => world.pass(ms),
            }
        }
        prop_assert!(world.most_in(1_000) <= per_second, "{} in a second", world.most_in(1_000));
        prop_assert!(world.most_in(60_000) <= per_minute, "{} in a minute", world.most_in(60_000));
    }
}

#[test]
fn three_nodes_use_nearly_all_of_a_limit_and_one_that_died_is_soon_made_up_for() {
    let mut world = World::new(3, windows(1_000, 60));
    for second in 0..600 {
        for node in 0..3 {
            if second > 200 && node == 0 {
                world.nodes[0].dark_until = i64::MAX;
                continue;
            }
            world.ask(node, 3, true);
            world.send(node, 10, 50, 20);
        }
        world.pass(1_000);
    }
    assert!(world.most_in(60_000) <= 60);
    assert!(world.counted.len() > 540, "{}", world.counted.len());
}

#[test]
fn a_request_that_is_made_again_changes_nothing_more() {
    let mut world = World::new(2, windows(10, 10));
    world.ask(0, 4, false);
    let first = world.limit.clone();
    world.ask(0, 4, true);
    assert_eq!(world.limit, first);
    world.ask(1, 9, true);
    assert_eq!((world.nodes[0].granted, world.nodes[1].granted), (4, 6));
    world.ask(0, 0, true);
    world.ask(1, 9, true);
    assert_eq!((world.nodes[0].granted, world.nodes[1].granted), (0, 9), "what is given back goes to others");
}

/// Connections: only what is open counts.
fn connections(limit: &mut Limit, run: i64, opened: u64, closed: u64, wanted: u64, now_ms: i64) -> (u64, bool) {
    let tally = |messages| Tally { messages, recipients: 0 };
    let request = ShareRequest {
        name: "connections".into(),
        windows: vec![ShareWindow { unit: ShareUnit::Messages, span_ms: 0, bucket_ms: 1, limit: Some(4) }],
        handed: tally(opened),
        ended: tally(closed),
        counted: tally(closed),
        known: tally(closed),
        wanted: tally(wanted),
        before: Vec::new(),
    };
    let alive = (1..=3).map(|run| (run, LEASE_MS)).collect();
    let share = limit.apply(run, &request, &Moment { now_ms, alive: &alive });
    (share.granted.messages, share.too_much)
}

#[test]
fn who_has_too_many_connections_is_told_so_while_another_one_waits() {
    let mut limit = Limit::default();
    let now = START_MS;
    assert_eq!(connections(&mut limit, 1, 0, 0, 9, now), (4, false));
    assert_eq!(connections(&mut limit, 2, 0, 0, 2, now), (0, false));
    assert_eq!(connections(&mut limit, 1, 4, 0, 4, now), (4, true), "one of four");
    assert_eq!(connections(&mut limit, 1, 4, 0, 4, now + 100), (4, false), "one at a time");
    assert_eq!(connections(&mut limit, 1, 4, 1, 4, now + 200), (4, false));
    assert_eq!(connections(&mut limit, 2, 0, 0, 2, now + 300), (1, false));
    assert!(connections(&mut limit, 1, 4, 1, 4, now + 2_300).1, "three against one that wants two");
    assert_eq!(connections(&mut limit, 1, 4, 2, 4, now + 2_400).0, 4);
    assert_eq!(connections(&mut limit, 2, 1, 0, 2, now + 2_500), (2, false));
    assert!(!connections(&mut limit, 1, 4, 2, 6, now + 9_000).1, "two each");
    assert!(!connections(&mut limit, 2, 2, 0, 4, now + 9_000).1);
}
