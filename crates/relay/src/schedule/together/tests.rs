//! Connections of two nodes to one destination: together never more than its limit, and none that nobody vouches for.

use std::collections::{BTreeMap, HashMap};

use proto::{Address, MailParameters, RcptParameters, ReversePath};
use store::sharing::{Limit, Moment};
use store::{Claim, Lane, LaneKey, LeasedRecipient, Message, MessageDetails, MessageId};

use super::super::*;
use super::*;

const LEASE_MS: i64 = 27_000;
const START_MS: i64 = 1_800_000_000_000;

fn job(number: i64) -> Job {
    let key = LaneKey {
        route: "out".into(),
        domain: "example.net".into(),
        sender: "app".into(),
        stream: "default".into(),
        priority: 2,
    };
    let message = Message {
        id: MessageId(number),
        accepted_ms: START_MS,
        sender: "app".into(),
        stream: "default".into(),
        priority: 2,
        reverse_path: ReversePath(None),
        parameters: MailParameters::default(),
        size: 100,
        eight_bit: false,
        not_before_ms: None,
        expires_ms: i64::MAX,
        details: Arc::new(MessageDetails::default()),
    };
    let recipient = LeasedRecipient {
        n: 0,
        address: Address::parse("someone@example.net").unwrap(),
        parameters: RcptParameters::default(),
        attempts: 0,
        unknown_via: None,
    };
    let claim =
        Claim { message: Arc::new(message), lane: Arc::new(Lane::new(key)), recipients: vec![recipient], lapses: 0 };
    Job { claim, content: None }
}

fn together() -> Limits {
    Limits { connections: 3, recipients: 1, accounts: None, together: true }
}

struct Node {
    run: i64,
    schedule: Schedule<u32>,
    open: u32,
}

/// What the store knows, and the time.
struct World {
    limits: HashMap<String, Limit>,
    now_ms: i64,
    name: Arc<str>,
    asked: usize,
    /// When the store last answered.
    heard_ms: i64,
}

impl World {
    fn node(&self, run: i64, jobs: i64) -> Node {
        let mut node = Node { run, schedule: Schedule::new(WindowLimits { recipients: 100 }, 100), open: 0 };
        node.schedule.keep_together();
        for number in 0..jobs {
            let action = node.schedule.add(&self.name, together(), job(number), self.now_ms);
            assert!(action.is_none(), "nothing is opened before the store has said so");
        }
        node
    }

    fn mono_us(&self) -> u64 {
        (self.now_ms - START_MS + 1_000) as u64 * 1_000
    }

    fn act(&self, node: &mut Node, mut actions: Vec<Action<u32>>) {
        while let Some(action) = actions.pop() {
            assert!(matches!(action, Action::Open(_)), "nobody sleeps here");
            node.open += 1;
            actions.extend(node.schedule.opened(&self.name, self.now_ms));
        }
    }

    fn ask(&mut self, node: &mut Node) {
        let alive = BTreeMap::from([(1, LEASE_MS), (2, LEASE_MS)]);
        let questions = node.schedule.ask(Ahead::Block, self.now_ms);
        self.asked += questions.list.len();
        if !questions.list.is_empty() {
            self.heard_ms = self.now_ms;
        }
        let moment = Moment { now_ms: self.now_ms, alive: &alive };
        let one = |request: &ShareRequest| {
            self.limits.entry(request.name.clone()).or_default().apply(node.run, request, &moment)
        };
        let shares = questions.list.iter().map(one).collect();
        let answers = Answers { by: questions.by, shares, asked_us: self.mono_us() };
        let actions = node.schedule.answered(&answers, self.now_ms, self.mono_us());
        self.act(node, actions);
    }

    fn close(&self, node: &mut Node) {
        node.open -= 1;
        let actions = node.schedule.closed(&self.name, self.now_ms);
        self.act(node, actions);
    }
}

fn world() -> World {
    World { limits: HashMap::new(), now_ms: START_MS, name: "sink".into(), asked: 0, heard_ms: 0 }
}

#[test]
fn connections_of_two_nodes_are_together_never_more_than_their_limit_and_both_have_some() {
    let mut world = world();
    let (mut first, mut second) = (world.node(1, 20), world.node(2, 20));
    let mut turns = [0, 0];
    for _ in 0..200 {
        world.ask(&mut first);
        world.ask(&mut second);
        assert!(first.open + second.open <= 3, "{} and {}", first.open, second.open);
        for (turn, node) in turns.iter_mut().zip([&mut first, &mut second]) {
            *turn += node.open;
            while node.schedule.leaves("sink") {
                world.close(node);
            }
        }
        world.now_ms += 100;
        for node in [&mut first, &mut second] {
            let actions = node.schedule.tick(world.now_ms);
            world.act(node, actions);
        }
    }
    assert!(turns[0] + turns[1] > 500, "{turns:?} of 600 hundred-millisecond turns");
    assert!(turns.iter().all(|turn| *turn > 100), "{turns:?}");
}

#[test]
fn a_node_that_hears_nothing_of_the_store_gives_its_connections_up_and_opens_none() {
    let mut world = world();
    let mut node = world.node(1, 20);
    for _ in 0..5 {
        world.ask(&mut node);
        world.now_ms += 100;
    }
    assert_eq!(node.open, 3);
    world.now_ms = world.heard_ms + LEASE_MS - 1;
    assert!(node.schedule.look(world.mono_us()).is_empty() && !node.schedule.leaves("sink"), "it may still use them");
    world.now_ms += 1;
    node.schedule.look(world.mono_us());
    while node.schedule.leaves("sink") {
        world.close(&mut node);
    }
    assert_eq!(node.open, 0);
    for _ in 0..20 {
        world.now_ms += 1_000;
        let mut actions = node.schedule.look(world.mono_us());
        actions.extend(node.schedule.tick(world.now_ms));
        world.act(&mut node, actions);
    }
    assert_eq!(node.open, 0);
    for _ in 0..5 {
        world.ask(&mut node);
        world.now_ms += 100;
    }
    assert_eq!(node.open, 3, "the store is back");
}

#[test]
fn what_is_asked_for_anew_is_no_less_than_what_was_granted_meanwhile() {
    let mut world = world();
    let mut node = world.node(1, 20);
    let alive = BTreeMap::from([(1, LEASE_MS)]);
    let ask = |node: &mut Node, world: &World| {
        let questions = node.schedule.ask(Ahead::Block, world.now_ms);
        let request = questions.list[0].clone();
        let moment = Moment { now_ms: world.now_ms, alive: &alive };
        let share = world.limits.get(&request.name).cloned().unwrap_or_default().apply(1, &request, &moment);
        (request, Answers { by: questions.by, shares: vec![share], asked_us: world.mono_us() })
    };
    let (_, answer) = ask(&mut node, &world);
    // Somebody wants one while that answer is under way.
    drop(node.schedule.add(&world.name, together(), job(99), world.now_ms));
    let opened = node.schedule.answered(&answer, world.now_ms, world.mono_us());
    node.open += opened.len() as u32;
    world.now_ms += 100;
    let (request, _) = ask(&mut node, &world);
    assert_eq!((request.handed.messages, request.wanted.messages), (1, 3));
}

#[test]
fn a_node_without_others_asks_nobody() {
    let mut world = world();
    let mut node = Node { run: 1, schedule: Schedule::new(WindowLimits { recipients: 100 }, 100), open: 0 };
    for number in 0..5 {
        let actions = node.schedule.add(&world.name, together(), job(number), world.now_ms).into_iter().collect();
        world.act(&mut node, actions);
    }
    assert!(!node.schedule.take_news().hungry && !node.schedule.is_together());
    assert_eq!((node.open, node.schedule.ask(Ahead::Block, world.now_ms).list.len()), (3, 0));
    world.ask(&mut node);
    assert_eq!(world.asked, 0);
}

#[test]
fn what_was_leased_before_leases_lapsed_is_taken_out_and_what_was_leased_since_stays() {
    let mut schedule: Schedule<u32> = Schedule::new(WindowLimits { recipients: 100 }, 100);
    let name: Arc<str> = "out".into();
    for number in 0..4_u64 {
        let mut job = job(number.cast_signed());
        job.claim.lapses = number % 2;
        schedule.add(&name, Limits { together: false, ..together() }, job, START_MS);
    }
    let numbers = |jobs: Vec<Job>| jobs.iter().map(|job| job.claim.message.id.0).collect::<Vec<_>>();
    assert_eq!(numbers(schedule.evict_lapsed(1)), [0, 2]);
    assert_eq!(numbers(schedule.evict_lapsed(1)), [0; 0]);
    assert_eq!(numbers(schedule.evict_from("out")), [1, 3]);
}
