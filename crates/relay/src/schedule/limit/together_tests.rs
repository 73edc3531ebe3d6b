//! Several nodes with one limit, with clocks of their own that are wrong: together never more than it, and nearly all of it.

use std::collections::BTreeMap;

use store::sharing::{Limit, Moment};

use super::ring::WINDOWS;
use super::{Ahead, Meter, Rates, Room, URGENT};

const START_MS: i64 = 1_800_000_000_000;
const STEP_MS: i64 = 10;
/// A silent run's shares are lost so long after its last word, and not valid any more some time before.
const LEASE_MS: i64 = 30_000;
const MARGIN_MS: i64 = 3_000;

/// A small generator: the tests are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

struct Node {
    run: i64,
    meter: Meter,
    /// Its clock is ahead by so much.
    ahead_ms: i64,
    valid_until: i64,
    alive_until: i64,
    asked_ms: i64,
    dark_until: i64,
    /// Ends of messages under way.
    flying: Vec<i64>,
}

struct World {
    rates: Rates,
    limit: Limit,
    nodes: Vec<Node>,
    now_ms: i64,
    runs: i64,
    dice: Dice,
    /// Run and time of what the next hop counted.
    counted: Vec<(i64, i64)>,
}

impl World {
    fn new(rates: Rates, nodes: usize, seed: u64) -> Self {
        let mut world = Self {
            rates,
            limit: Limit::default(),
            nodes: Vec::new(),
            now_ms: START_MS,
            runs: 0,
            dice: Dice(seed),
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
        let mut meter = Meter::together();
        meter.set(&self.rates);
        Node {
            run: self.runs,
            meter,
            ahead_ms: self.dice.below(7_200_000) as i64 - 3_600_000,
            valid_until: 0,
            alive_until: self.now_ms + LEASE_MS,
            asked_ms: i64::MIN,
            dark_until: i64::MIN,
            flying: Vec::new(),
        }
    }

    /// What was under way breaks off; the next run is another one.
    fn dies(&mut self, at: usize) {
        let (dead, now_ms) = (self.nodes[at].run, self.now_ms);
        self.counted.retain(|(run, at)| *run != dead || *at <= now_ms);
        self.nodes[at] = self.born();
    }

    fn ask(&mut self, at: usize) {
        let alive: BTreeMap<i64, i64> = self
            .nodes
            .iter()
            .filter(|node| node.alive_until > self.now_ms)
            .map(|node| (node.run, node.alive_until - self.now_ms - MARGIN_MS))
            .collect();
        let node = &mut self.nodes[at];
        if node.dark_until > self.now_ms {
            return;
        }
        let local_ms = self.now_ms + node.ahead_ms;
        if let Some((request, asked)) = node.meter.ask("provider", Ahead::Block, local_ms) {
            let share = self.limit.apply(node.run, &request, &Moment { now_ms: self.now_ms, alive: &alive });
            node.valid_until = self.now_ms + share.valid_ms;
            node.meter.answered(&asked, &share, local_ms);
            node.asked_ms = self.now_ms;
        }
    }

    /// One step of a node that has mail.
    fn work(&mut self, at: usize) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[at];
        if node.dark_until <= now_ms {
            node.alive_until = now_ms + LEASE_MS;
        }
        if node.valid_until != 0 && node.valid_until <= now_ms {
            node.valid_until = 0;
            node.meter.void();
        }
        let local_ms = now_ms + node.ahead_ms;
        let ended = node.flying.iter().filter(|end| **end <= now_ms).count();
        node.flying.retain(|end| *end > now_ms);
        for _ in 0..ended {
            node.meter.finish(1, 1, local_ms);
        }
        let open = matches!(node.meter.room(URGENT, local_ms), Room::Open { .. });
        if open && node.flying.len() < 4 {
            let takes = 1 + self.dice.below(60) as i64;
            node.meter.hand_out(1);
            node.flying.push(now_ms + takes);
            self.counted.push((node.run, now_ms + self.dice.below(takes as u64 + 1) as i64));
        }
        if node.meter.is_hungry() || now_ms - node.asked_ms >= 1_000 {
            self.ask(at);
        }
    }

    fn most_in(&self, span_ms: i64) -> u32 {
        let mut times: Vec<i64> = self.counted.iter().map(|(_, at)| *at).collect();
        times.sort_unstable();
        let (mut from, mut most) = (0, 0);
        for (at, time) in times.iter().enumerate() {
            while times[from] <= time - span_ms {
                from += 1;
            }
            most = most.max(at + 1 - from);
        }
        most as u32
    }
}

#[test]
fn nodes_with_wrong_clocks_that_die_and_are_cut_off_never_send_more_than_a_limit_together() {
    for seed in 0..6 {
        let rates = Rates { per_second: Some(7), per_minute: Some(120), ..Rates::default() };
        let mut world = World::new(rates, 3, seed);
        for step in 0..30_000 {
            for node in 0..3 {
                world.work(node);
            }
            if step % 500 == 499 {
                let (node, what, long) =
                    (world.dice.below(3) as usize, world.dice.below(4), world.dice.below(60_000) as i64);
                match what {
                    0 => world.dies(node),
                    1 => world.nodes[node].dark_until = world.now_ms + long,
                    2 => world.nodes[node].ahead_ms += long - 30_000,
                    _ => {}
                }
            }
            world.now_ms += STEP_MS;
        }
        assert!(world.most_in(1_000) <= 7, "seed {seed}: {} in a second", world.most_in(1_000));
        assert!(world.most_in(60_000) <= 120, "seed {seed}: {} in a minute", world.most_in(60_000));
        // 300 s, with nodes that are dead, dark or set their clocks: half of what would be possible is the least.
        assert!(world.counted.len() > 300, "seed {seed}: {}", world.counted.len());
    }
}

#[test]
fn three_healthy_nodes_use_nearly_all_of_every_window() {
    for (window, limit) in [(0, 5), (0, 40), (1, 3), (1, 30), (1, 600)] {
        let mut rates = Rates::default();
        match window {
            0 => rates.per_second = Some(limit),
            _ => rates.per_minute = Some(limit),
        }
        let mut world = World::new(rates, 3, 9);
        let spans = if window == 0 { 30 } else { 5 };
        while world.now_ms < START_MS + spans * WINDOWS[window].span_ms {
            for node in 0..3 {
                world.work(node);
            }
            world.now_ms += STEP_MS;
        }
        assert!(world.most_in(WINDOWS[window].span_ms) <= limit, "{window} {limit}");
        let ideal = f64::from(limit) * spans as f64;
        let part = world.counted.len() as f64 / ideal;
        assert!(part > 0.75, "{window} {limit}: {part:.2} of what was allowed");
    }
}

#[test]
fn what_ordinary_mail_must_leave_for_urgent_mail_it_leaves_to_that_of_other_nodes_too() {
    let rates = Rates { per_minute: Some(20), reserve_percent: Some(50), ..Rates::default() };
    let mut world = World::new(rates, 2, 3);
    let mut sent = [0, 0];
    for step in 0..400 {
        for (at, sent) in sent.iter_mut().enumerate() {
            let local_ms = world.now_ms + world.nodes[at].ahead_ms;
            let node = &mut world.nodes[at];
            // The second has urgent mail, and only later.
            let priority = if at == 1 { URGENT } else { URGENT + 1 };
            if at == 1 && step < 200 {
                continue;
            }
            if matches!(node.meter.room(priority, local_ms), Room::Open { .. }) {
                node.meter.hand_out(1);
                node.meter.finish(1, 1, local_ms);
                *sent += 1;
            }
            node.alive_until = world.now_ms + LEASE_MS;
            world.ask(at);
        }
        world.now_ms += 100;
    }
    assert_eq!(sent, [10, 10]);
}
