//! Several nodes, and a server that fails: leases, fencing, ids, commits that are not safe, a server that crashes under load.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use secrecy::SecretString;
use testkit::Postgres;

use super::Database;
use crate::contract::Scene;
use crate::model::*;
use crate::postgres::{Options, PostgresStore};
use crate::secret::Keyring;
use crate::verbs::*;

pub(super) const NOW: i64 = 1_800_000_000_000;
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks; the server needs the processor too.
const LOOK: Duration = Duration::from_millis(5);

pub(super) fn open(url: &str, lease_ms: u32, statement_ms: u32) -> Arc<PostgresStore> {
    let options = Options {
        connections: 8,
        lease_ms,
        statement_ms,
        ..Options::new(SecretString::from(url.to_owned()), Keyring::from_key(&[7; 32]))
    };
    PostgresStore::open(options, NOW).unwrap()
}

fn claim(store: &PostgresStore, by: Incarnation) -> Vec<Claim> {
    let request = ClaimRequest { by, now_ms: NOW, max: 100, max_per_lane: 100, skip: Vec::new() };
    store.claim(request).wait().map(|claimed| claimed.claims).unwrap_or_default()
}

fn delivered(store: &PostgresStore, by: Incarnation, message: MessageId) -> u32 {
    let outcomes = vec![(0, Outcome::Delivered)];
    let settlement =
        Settlement { by, lapses: store.lapses(), at_ms: NOW, message, attempt: None, outcomes, capture: false };
    store.settle(settlement).wait().unwrap()
}

/// Asks again until there is an answer.
pub(super) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(LOOK);
    }
}

#[test]
fn a_late_settle_of_a_node_that_lost_its_lease_changes_nothing() {
    let database = Database::new();
    let url = database.url.clone();
    // The scene's own node is the one that is late: it says that it is alive every five seconds only.
    let scene = Scene::new(Box::new(database));
    let id = scene.waiting(&["b@example.net"]);
    assert_eq!(scene.claim().len(), 1);
    let sql =
        |sql: String| Postgres::shared().sql(Postgres::name(&url), &format!("SET search_path TO pillarbox; {sql}"));
    let other = open(&url, 4_000, 30_000);
    let (run, _) = other.start_run("other", NOW).wait().unwrap();
    let claims = until("the other node claims what the late one held", || {
        sql(format!("UPDATE node SET alive_until = now() - INTERVAL '1 second' WHERE incarnation = {}", scene.run.0));
        Some(claim(&other, run)).filter(|claims| !claims.is_empty())
    });
    assert_eq!(claims[0].message.id, id);
    assert_eq!(scene.settle(id, 0, Outcome::Delivered), 0, "the lease is not its own any more");
    assert_eq!(scene.state(id, 0), State::Leased);
    assert_eq!(delivered(&other, run, id), 1);
    assert_eq!(scene.state(id, 0), State::Delivered);
    // It says that it is alive, and goes on with new leases under its old number.
    until("the late node is back", || {
        let alive =
            sql(format!("SELECT count(*) FROM node WHERE alive_until > now() AND incarnation = {}", scene.run.0));
        (alive == "1").then_some(())
    });
    let next = scene.waiting(&["c@example.net"]);
    assert_eq!(
        until("the late node claims again", || Some(scene.claim()).filter(|claims| !claims.is_empty())).len(),
        1
    );
    assert_eq!(scene.settle(next, 0, Outcome::Delivered), 1);
    scene.sound();
}

#[test]
fn a_node_whose_time_was_over_by_the_databases_clock_alone_is_told_so() {
    let database = Database::new();
    // It has no clock of its own: as if its machine had been suspended.
    let store = open(&database.url, 30_000, 30_000);
    let (run, _) = store.start_run("node", NOW).wait().unwrap();
    let row = |sql: &str| database.sql(&format!("{sql} WHERE incarnation = {}", run.0));
    let first = row("SELECT alive_until FROM node");
    until("it says that it is alive", || (row("SELECT alive_until FROM node") != first).then_some(()));
    assert_eq!(store.lapses(), 0);
    row("UPDATE node SET alive_until = now() - INTERVAL '1 second'");
    until("it is told of what it had leased before, and until now", || (store.lapses() == 2).then_some(()));
    // Its leases were taken.
    row("DELETE FROM node");
    until("it is told that it is not known any more", || (store.lapses() == 4).then_some(()));
    let back = row("SELECT alive_until FROM node");
    until("it says that it is alive", || (row("SELECT alive_until FROM node") != back).then_some(()));
    assert_eq!(store.lapses(), 4);
}

#[test]
fn a_late_settle_changes_nothing_either_when_the_lease_has_come_back_to_the_same_run() {
    let database = Database::new();
    let url = database.url.clone();
    let scene = Scene::new(Box::new(database));
    let id = scene.waiting(&["b@example.net"]);
    let before = scene.claim().remove(0).lapses;
    let other = open(&url, 4_000, 30_000);
    let (run, _) = other.start_run("other", NOW).wait().unwrap();
    let lapse =
        format!("UPDATE node SET alive_until = now() - INTERVAL '1 second' WHERE incarnation = {}", scene.run.0);
    until("the other node claims what the late one held", || {
        Postgres::shared().sql(Postgres::name(&url), &format!("SET search_path TO pillarbox; {lapse}"));
        Some(claim(&other, run)).filter(|claims| !claims.is_empty())
    });
    let recipient = RecipientId { message: id, n: 0 };
    assert_eq!(other.give_back(run, vec![(recipient, scene.now)]).wait().unwrap(), 1);
    let again = until("the late node claims it again", || scene.claim().pop());
    assert!(again.message.id == id && again.lapses > before, "{again:?}");
    let settle = |lapses, outcome| {
        let outcomes = vec![(0, outcome)];
        let (by, at_ms) = (scene.run, scene.now);
        let settlement = Settlement { by, lapses, at_ms, message: id, attempt: None, outcomes, capture: false };
        scene.store.settle(settlement).wait().unwrap()
    };
    assert_eq!(settle(before, Outcome::Held { why: "late".into() }), 0);
    assert_eq!(scene.state(id, 0), State::Leased);
    assert_eq!(settle(again.lapses, Outcome::Delivered), 1);
    assert_eq!(scene.state(id, 0), State::Delivered);
    scene.sound();
}

#[test]
fn a_dead_nodes_share_of_a_limit_is_lost_only_until_its_lease_ends_and_then_counts_as_used() {
    let database = Database::new();
    let survivor = open(&database.url, 8_000, 30_000);
    let (run, _) = survivor.start_run("survivor", NOW).wait().unwrap();
    let dying = open(&database.url, 8_000, 30_000);
    let (dead, _) = dying.start_run("dying", NOW).wait().unwrap();
    let tally = |messages| Tally { messages, recipients: 0 };
    // Short, so that what counts as used is soon over.
    let window = ShareWindow { unit: ShareUnit::Messages, span_ms: 5_000, bucket_ms: 20, limit: Some(4) };
    let ask = |store: &PostgresStore, by, wanted| {
        let request = ShareRequest {
            name: "provider".into(),
            windows: vec![window],
            handed: tally(0),
            ended: tally(0),
            counted: tally(0),
            known: tally(0),
            wanted: tally(wanted),
            before: Vec::new(),
        };
        store.share(by, vec![request]).unwrap().wait().unwrap().remove(0)
    };
    let held = ask(&dying, dead, 3);
    assert_eq!(held.granted.messages, 3);
    assert!((1..=5_000).contains(&held.valid_ms), "no longer than the lease, less what a message takes: {held:?}");
    drop(dying);
    let died = Instant::now();
    assert_eq!(ask(&survivor, run, 4).granted.messages, 1);
    let used = until("what it held counts as used", || {
        let share = ask(&survivor, run, 4);
        let used: u32 = share.used[0].iter().map(|(_, count)| count).sum();
        if used == 0 {
            assert_eq!((share.granted.messages, share.others.messages), (1, 3), "before its lease ended");
        }
        (used > 0).then_some(used)
    });
    assert_eq!(used, 3);
    assert!(died.elapsed().as_millis() > held.valid_ms as u128, "{:?}", died.elapsed());
    assert!(died.elapsed() < Duration::from_secs(8 + 5), "its lease and five seconds: {:?}", died.elapsed());
    until("the window is over", || (ask(&survivor, run, 4).granted.messages == 4).then_some(()));
}

#[test]
fn leases_of_a_dead_node_are_claimed_by_another_one_in_time() {
    let database = Database::new();
    let survivor = open(&database.url, 6_000, 30_000);
    let (run, _) = survivor.start_run("survivor", NOW).wait().unwrap();
    let dying = open(&database.url, 6_000, 30_000);
    let (dead, _) = dying.start_run("dying", NOW).wait().unwrap();
    let scene = Scene::new(Box::new(database));
    let waiting = scene.waiting(&["b@example.net"]);
    let mut leased = scene.message(&["c@example.net"], Start::Leased);
    leased.by = dead;
    let leased = scene.accept_this(leased);
    assert_eq!(claim(&dying, dead).len(), 1);
    // While it lives nobody takes them, however long that is.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        assert!(claim(&survivor, run).is_empty());
        std::thread::sleep(LOOK);
    }
    drop(dying);
    let died = Instant::now();
    let mut found = HashSet::new();
    until("the survivor claims what the dead node held", || {
        found.extend(claim(&survivor, run).into_iter().map(|claim| claim.message.id));
        (found.len() == 2).then_some(())
    });
    assert!(died.elapsed() < Duration::from_secs(6 + 5), "its lease and five seconds: {:?}", died.elapsed());
    assert_eq!(found, HashSet::from([waiting, leased]));
    scene.sound();
}

fn said(run: Incarnation, name: &str, lead: Lead) -> NodeSaid {
    NodeSaid {
        run,
        name: name.into(),
        version: "1.0.0".into(),
        address: String::new(),
        started_ms: NOW,
        load: serde_json::Value::Null,
        lead,
    }
}

#[test]
fn one_node_leads_until_it_is_silent_or_unwilling_and_one_that_led_changes_no_cursor() {
    let database = Database::new();
    let (first, second) = (open(&database.url, 9_000, 30_000), open(&database.url, 9_000, 30_000));
    let (a, _) = first.start_run("a", NOW).wait().unwrap();
    let (b, _) = second.start_run("b", NOW).wait().unwrap();
    let say = |store: &PostgresStore, run, name| store.say(said(run, name, Lead::Willing)).wait().unwrap().leads_ms;
    assert_eq!(say(&first, a, "a"), Some(3_000));
    assert_eq!(say(&second, b, "b"), None);
    first.hook_start("shop".into(), HookStart::Now).wait().unwrap();
    let step = || HookProgress { cursors: Some(HookCursors::default()), ..HookProgress::default() };
    first.hook_progress("shop".into(), step()).wait().unwrap();
    assert!(second.hook_progress("shop".into(), step()).wait().is_err(), "it does not lead");

    // Silent for too long, it has lost the lead; its own word for it changes nothing.
    let silent = Instant::now();
    until("the other node leads", || say(&second, b, "b"));
    assert!(silent.elapsed() < Duration::from_secs(8), "{:?}", silent.elapsed());
    assert!(first.hook_progress("shop".into(), step()).wait().is_err(), "it leads no more");
    second.hook_progress("shop".into(), step()).wait().unwrap();
    let nodes = first.nodes().wait().unwrap();
    assert_eq!(
        nodes.iter().map(|node| (node.name.as_str(), node.leads)).collect::<Vec<_>>(),
        [("a", false), ("b", true)]
    );

    // Who would rather not leaves it at once to one that would, and has it where nobody would.
    let rather_not =
        |store: &PostgresStore, run, name| store.say(said(run, name, Lead::Unwilling)).wait().unwrap().leads_ms;
    assert_eq!(say(&first, a, "a"), None);
    assert_eq!(rather_not(&second, b, "b"), None);
    assert_eq!(say(&first, a, "a"), Some(3_000));
    assert_eq!(rather_not(&first, a, "a"), Some(3_000), "nobody else would");
    assert_eq!(rather_not(&second, b, "b"), None, "it is done already");
    assert_eq!(say(&second, b, "b"), None);
    assert_eq!(rather_not(&first, a, "a"), None, "another would again");
    assert_eq!(say(&second, b, "b"), Some(3_000));
    assert_eq!(say(&first, a, "a"), None);
    assert_eq!(rather_not(&second, b, "b"), None);
    assert_eq!(say(&first, a, "a"), Some(3_000));

    // A later run of the name takes the place of an earlier one.
    let (later, _) = first.start_run("a", NOW).wait().unwrap();
    say(&first, later, "a");
    assert_eq!(say(&first, a, "a"), None, "an earlier run under the same name");
    first.leave(later).wait().unwrap();
    assert!(until("the lead is free", || say(&second, b, "b")) > 0);
}

#[test]
fn nodes_that_claim_at_once_share_the_work() {
    let database = Database::new();
    let url = database.url.clone();
    let scene = Scene::new(Box::new(database));
    let to: Vec<String> = (0..400).map(|n| format!("r{n}@d{}.test", n % 7)).collect();
    let ids: Vec<MessageId> = to.iter().map(|to| scene.waiting(&[to.as_str()])).collect();
    let claimed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for node in 0..3 {
            let (claimed, url) = (&claimed, &url);
            scope.spawn(move || {
                let store = open(url, 30_000, 30_000);
                let (run, _) = store.start_run(&format!("node{node}"), NOW).wait().unwrap();
                let mut none = 0;
                while none < 3 {
                    let request = ClaimRequest { by: run, now_ms: NOW, max: 20, max_per_lane: 5, skip: Vec::new() };
                    let claims = store.claim(request).wait().unwrap().claims;
                    none = if claims.is_empty() { none + 1 } else { 0 };
                    for claim in claims {
                        assert_eq!(delivered(&store, run, claim.message.id), 1);
                        claimed.lock().push(claim.message.id);
                    }
                }
                store.close().wait().unwrap();
            });
        }
    });
    let mut claimed = claimed.into_inner();
    claimed.sort_unstable();
    assert_eq!(claimed, ids, "each once, and none left");
    scene.sound();
}

#[test]
fn message_ids_of_several_nodes_never_meet() {
    let database = Database::new();
    let stores = [database.open(), database.open(), database.open()];
    let mut seen = HashSet::new();
    for _ in 0..5_000 {
        for store in &stores {
            assert!(seen.insert(store.next_id(NOW)));
        }
    }
}

#[test]
fn a_commit_that_its_standby_did_not_take_is_no_success() {
    let server = Postgres::start();
    let url = server.database();
    let store = open(&url, 30_000, 3_000);
    let (run, _) = store.start_run("node", NOW).wait().unwrap();
    let database = OneServer { server, url };
    let scene = database.scene(&store, run);
    scene.waiting(&["before@example.net"]);
    assert_eq!(claim(&store, run).len(), 1);
    database.lose_standby();
    let new = scene.message(&["b@example.net"], Start::Leased);
    let id = new.message.id;
    let answer = store.accept(new).wait();
    assert!(matches!(&answer, Err(StoreError::Away(why)) if why.contains("synchronous replication")), "{answer:?}");
    assert!(matches!(store.ready(), Err(StoreError::Away(_))), "the next one is refused at MAIL");
    database.need_no_standby();
    until("the store takes mail again", || store.ready().ok());
    // It is on this server all the same, and the client may have sent it again: nobody holds it, so it is delivered.
    let claims = until("the lease that nobody knows of is undone", || {
        Some(claim(&store, run)).filter(|claims| !claims.is_empty())
    });
    assert_eq!(claims[0].message.id, id);
    assert_eq!(delivered(&store, run, id), 1);
    scene.sound();
}

#[test]
fn a_server_that_crashes_under_load_loses_nothing_that_was_answered_for() {
    let server = Postgres::start();
    let url = server.database();
    let store = open(&url, 30_000, 10_000);
    let (run, _) = store.start_run("node", NOW).wait().unwrap();
    let database = OneServer { server, url };
    let scene = database.scene(&store, run);
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let usual = scene.message(&["b@example.net"], Start::Leased);
    let answered: Mutex<Vec<(MessageId, bool)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut new = usual.clone();
                    let id = store.next_id(NOW);
                    Arc::make_mut(&mut new.message).id = id;
                    if let Ok(Accepted::Committed(_)) = store.accept(new).wait() {
                        let outcomes = vec![(0, Outcome::Delivered)];
                        let done = Settlement {
                            by: run,
                            lapses: 0,
                            at_ms: NOW,
                            message: id,
                            attempt: None,
                            outcomes,
                            capture: false,
                        };
                        let settled = store.settle(done).wait().is_ok();
                        answered.lock().push((id, settled));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..3 {
            let before = count.load(Ordering::Relaxed);
            until("mail is accepted", || (count.load(Ordering::Relaxed) > before + 50).then_some(()));
            let pid = until("a server process of the store", || {
                let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pillarbox' LIMIT 1";
                database.server.try_sql("postgres", sql).ok().filter(|pid| !pid.is_empty())
            });
            // One server process that is killed takes all others with it: the log is replayed as after a crash.
            assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
        }
        let before = count.load(Ordering::Relaxed);
        until("mail is accepted again", || (count.load(Ordering::Relaxed) > before + 50).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    until("the store is well", || store.ready().ok());
    for (id, settled) in answered.into_inner() {
        let view = store.message(id, 1).wait().unwrap();
        let state = view.recipients[0].state;
        // A settlement without an answer may have happened, or will be offered again.
        assert!(state == State::Delivered || (!settled && state == State::Leased), "{id}: {state:?}");
    }
    scene.sound();
}

/// A store on a server of its own.
pub(super) struct OneServer {
    pub(super) server: Postgres,
    pub(super) url: String,
}

impl OneServer {
    pub(super) fn scene(&self, store: &Arc<PostgresStore>, run: Incarnation) -> Scene {
        Scene { engine: Box::new(Database { url: self.url.clone() }), store: store.clone(), run, now: NOW }
    }

    /// From now on a commit waits for a standby that is not there.
    pub(super) fn lose_standby(&self) {
        self.server.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        self.server.sql("postgres", "SELECT pg_reload_conf()");
        until("the server waits for a standby", || {
            (self.server.sql("postgres", "SHOW synchronous_standby_names") == "nobody").then_some(())
        });
    }

    pub(super) fn need_no_standby(&self) {
        self.server.sql("postgres", "SET synchronous_commit TO local; ALTER SYSTEM RESET synchronous_standby_names");
        self.server.sql("postgres", "SELECT pg_reload_conf()");
    }
}
