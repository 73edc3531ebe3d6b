//! A database that is frozen, gone or not safe: which host is asked, and what is remembered of what it did not answer.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use testkit::Postgres;

use super::Database;
use super::nodes::{NOW, OneServer, open, until};
use crate::model::*;
use crate::postgres::PostgresStore;
use crate::verbs::*;

/// A host in front of a server. While somebody holds the gate it is frozen: its system takes connections, and nobody answers.
struct Host {
    address: SocketAddr,
    gate: Arc<RwLock<()>>,
}

impl Host {
    fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, socket) = (listener.local_addr().unwrap(), socket(url));
        let gate = Arc::new(RwLock::new(()));
        let own = gate.clone();
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                connect(client, UnixStream::connect(&socket).unwrap(), &own);
            }
        });
        Self { address, gate }
    }
}

/// Where the server of a URL listens.
fn socket(url: &str) -> PathBuf {
    let (dir, _) = url.split_once('@').and_then(|(_, rest)| rest.split_once('/')).unwrap();
    PathBuf::from(dir.replace("%2F", "/")).join(".s.PGSQL.5432")
}

fn connect(client: TcpStream, server: UnixStream, gate: &Arc<RwLock<()>>) {
    let (to_client, from_server, own) = (client.try_clone().unwrap(), server.try_clone().unwrap(), gate.clone());
    std::thread::spawn(move || {
        pass(&from_server, &to_client, &own);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let own = gate.clone();
    std::thread::spawn(move || {
        pass(&client, &server, &own);
        let _ = server.shutdown(Shutdown::Both);
    });
}

/// Hands on what comes, as long as it comes.
fn pass(mut from: impl Read, mut to: impl Write, gate: &RwLock<()>) {
    let mut octets = [0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut octets) {
        drop(gate.read());
        if to.write_all(&octets[..count]).is_err() {
            return;
        }
    }
}

/// The same database at this host, and then at its server, each with time enough for a busy machine.
fn behind(address: SocketAddr, url: &str) -> String {
    url.replacen("pillarbox@", &format!("pillarbox@{address},"), 1) + "?sslmode=disable&connect_timeout=7"
}

fn request(by: Incarnation) -> ClaimRequest {
    ClaimRequest { by, now_ms: NOW, max: 100, max_per_lane: 100, skip: Vec::new() }
}

/// Claims several times at once, on connections of their own.
fn claim_at_once(store: &PostgresStore, by: Incarnation) {
    let claims: Vec<_> = (0..6).map(|_| store.claim(request(by))).collect();
    for claimed in claims {
        claimed.wait().unwrap();
    }
}

#[test]
fn a_host_that_takes_connections_and_says_nothing_costs_its_time_once() {
    let database = Database::new();
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = open(&behind(frozen.local_addr().unwrap(), &database.url), 30_000, 30_000);
    let (run, _) = store.start_run("node", NOW).wait().unwrap();
    claim_at_once(&store, run);
    frozen.set_nonblocking(true).unwrap();
    let asked = std::iter::from_fn(|| frozen.accept().ok()).count();
    assert_eq!(asked, 1);
}

#[test]
fn a_host_that_freezes_is_left_with_the_first_answer_that_does_not_come() {
    let database = Database::new();
    let host = Host::before(&database.url);
    let store = open(&behind(host.address, &database.url), 30_000, 5_000);
    let (run, _) = store.start_run("node", NOW).wait().unwrap();
    claim_at_once(&store, run);
    let frozen = host.gate.write();
    let _ = store.claim(request(run)).wait();
    let claimed = store.claim(request(run)).wait();
    assert!(claimed.is_ok(), "nothing that was open to it is used: {claimed:?}");
    drop(frozen);
}

#[test]
fn after_a_commit_that_is_not_safe_nothing_that_was_open_is_used() {
    let server = Postgres::start();
    let url = server.database();
    let store = open(&url, 30_000, 3_000);
    let (run, _) = store.start_run("node", NOW).wait().unwrap();
    claim_at_once(&store, run);
    let database = OneServer { server, url };
    let connections = || -> HashSet<String> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pillarbox'";
        database.server.sql("postgres", sql).lines().map(str::to_owned).collect()
    };
    let before = connections();
    assert!(!before.is_empty());
    database.lose_standby();
    let moved = store.move_cursor("notices", 1).wait();
    assert!(matches!(&moved, Err(StoreError::Away(why)) if why.contains("synchronous replication")), "{moved:?}");
    database.need_no_standby();
    until("the store works again", || store.ready().ok());
    until("all connections are new", || before.is_disjoint(&connections()).then_some(()));
}

#[test]
fn only_a_commit_that_was_sent_is_remembered_as_one_that_nobody_knows_of() {
    let server = Postgres::start();
    let url = server.database();
    let store = open(&url, 30_000, 3_000);
    let (run, _) = store.start_run("node", NOW).wait().unwrap();
    let database = OneServer { server, url };
    database.scene(&store, run).waiting(&["b@example.net"]);
    database.lose_standby();
    let unknown = || -> Vec<i64> { store.shared.orphans.lock().iter().map(|(_, ticket, _)| *ticket).collect() };
    let claimed = store.claim(request(run)).wait();
    assert!(matches!(&claimed, Err(StoreError::Away(why)) if why.contains("synchronous replication")), "{claimed:?}");
    let sent = unknown();
    assert_eq!(sent.len(), 1);
    drop(database);
    for _ in 0..30 {
        let claimed = store.claim(request(run)).wait();
        assert!(matches!(&claimed, Err(StoreError::Away(_))), "{claimed:?}");
    }
    assert_eq!(unknown(), sent);
}
