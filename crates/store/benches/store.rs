//! What the store costs: CPU per message on the hot path, and how the verbs fare with a long queue.
//!
//! `cargo bench -p pillarbox-store -- hot|fan|alone|queue|search [number] [directory]`. CPU is that of the whole process, the
//! making of the messages included, because the store hashes and encodes in its callers' threads.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a measurement, not a part of the product")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::smtp::reply::Reply;
use proto::{Address, MailParameters, RcptParameters, ReversePath};
use store::secret::Keyring;
use store::sqlite::{Options, SqliteStore};
use store::*;

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// CPU seconds of this process; ticks of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

struct Maker {
    store: Arc<SqliteStore>,
    run: Incarnation,
    lanes: Vec<Arc<Lane>>,
    content: bytes::Bytes,
    details: Arc<MessageDetails>,
}

impl Maker {
    fn new(dir: &Path, lanes: usize, size: usize) -> Self {
        let store = SqliteStore::open(Options::new(dir, Keyring::from_key(&[1; 32])), now_ms()).unwrap();
        let (run, taken) = store.start_run("bench", now_ms()).wait().unwrap();
        assert_eq!(taken, 0);
        let lanes = (0..lanes)
            .map(|n| {
                Arc::new(Lane::new(LaneKey {
                    route: "mx".into(),
                    domain: format!("d{n}.example").into(),
                    sender: "app".into(),
                    stream: "news".into(),
                    priority: 2,
                }))
            })
            .collect();
        let content = vec![b'x'; size].into();
        let details = Arc::new(MessageDetails {
            subject: Some("A subject of the usual length, for the list".into()),
            from: Some("Application <app@example.org>".into()),
            message_id: Some("<0123456789abcdef@example.org>".into()),
            ..MessageDetails::default()
        });
        Self { store, run, lanes, content, details }
    }

    fn message(&self, number: usize, recipients: usize, start: &Start) -> NewMessage {
        let now = now_ms();
        let recipients = (0..recipients)
            .map(|n| {
                let lane = &self.lanes[(number + n) % self.lanes.len()];
                NewRecipient {
                    address: Address::parse(&format!("user{number}.{n}@{}", lane.key.domain)).unwrap(),
                    parameters: RcptParameters::default(),
                    lane: lane.clone(),
                    start: start.clone(),
                }
            })
            .collect();
        let message = Message {
            id: self.store.next_id(now),
            accepted_ms: now,
            sender: "app".into(),
            stream: "news".into(),
            priority: 2,
            reverse_path: ReversePath(Some(Address::parse("app@example.org").unwrap())),
            parameters: MailParameters { size: Some(self.content.len() as u64), ..MailParameters::default() },
            size: self.content.len() as u32,
            eight_bit: false,
            not_before_ms: None,
            expires_ms: now + 5 * 86_400_000,
            details: self.details.clone(),
        };
        NewMessage::plain(Arc::new(message), self.content.clone(), recipients, self.run)
    }

    fn delivered(&self, message: MessageId, recipients: usize) -> Settlement {
        let attempt = Attempt {
            route: "mx".into(),
            peer: Some("mx.d1.example [192.0.2.25]:25".into()),
            tls: Some("TLSv1.3 TLS13_AES_128_GCM_SHA256".into()),
            started_ms: now_ms(),
            took_ms: 3,
            stage: None,
            reply: Some(Reply::new(250, "2.0.0 Ok: queued as 4XyZ0123456")),
            transcript: None,
        };
        Settlement {
            by: self.run,
            lapses: 0,
            at_ms: now_ms(),
            message,
            attempt: Some(attempt),
            outcomes: (0..recipients).map(|n| (n as u32, Outcome::Delivered)).collect(),
            capture: false,
        }
    }
}

/// Accepted leased and delivered at once, by many tasks.
fn hot(dir: &Path, messages: usize, recipients: usize, lanes: usize, tasks: usize) {
    let maker = Arc::new(Maker::new(dir, lanes, 4_096));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (started, cpu_before) = (Instant::now(), cpu());
    runtime.block_on(async {
        let mut joins = Vec::new();
        for task in 0..tasks {
            let maker = maker.clone();
            joins.push(tokio::task::spawn(async move {
                for number in (task..messages).step_by(tasks) {
                    let new = maker.message(number, recipients, &Start::Leased);
                    let id = new.message.id;
                    maker.store.accept(new).await.unwrap();
                    assert_eq!(maker.store.settle(maker.delivered(id, recipients)).await.unwrap() as usize, recipients);
                }
            }));
        }
        for join in joins {
            join.await.unwrap();
        }
    });
    let (took, used) = (started.elapsed().as_secs_f64(), cpu() - cpu_before);
    println!(
        "{messages} messages x {recipients} recipients, {lanes} lanes, {tasks} tasks: {:.0}/s, {:.1} us CPU a message, {} MiB resident",
        messages as f64 / took,
        used * 1e6 / messages as f64,
        resident_mib()
    );
    maker.store.close().wait().unwrap();
}

/// One message at a time: latency.
fn alone(dir: &Path, messages: usize) {
    let maker = Maker::new(dir, 1, 4_096);
    let mut times: Vec<Duration> = (0..messages)
        .map(|number| {
            let new = maker.message(number, 1, &Start::Leased);
            let id = new.message.id;
            let started = Instant::now();
            maker.store.accept(new).wait().unwrap();
            let took = started.elapsed();
            maker.store.settle(maker.delivered(id, 1)).wait().unwrap();
            took
        })
        .collect();
    times.sort_unstable();
    println!("alone: accept p50 {:?}, p99 {:?}", times[messages / 2], times[messages * 99 / 100]);
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let (started, cpu_before) = (Instant::now(), cpu());
    let value = run();
    println!("  {what}: {:?} ({:.2} s CPU)", started.elapsed(), cpu() - cpu_before);
    value
}

/// A long queue: what the verbs cost then.
fn queue(dir: &Path, messages: usize, lanes: usize) {
    println!("{messages} waiting in {lanes} lanes");
    let maker = Maker::new(dir, lanes, 200);
    let before = now_ms() - 1_000;
    timed("accepting them", || {
        let mut pending = std::collections::VecDeque::new();
        for number in 0..messages {
            let first = pending.len() >= 2_000;
            pending.push_back(maker.store.accept(maker.message(number, 1, &Start::Waiting(before))));
            if first {
                pending.pop_front().map(Pending::wait).unwrap().unwrap();
            }
        }
        pending.into_iter().for_each(|answer| assert!(answer.wait().is_ok()));
    });
    println!("  resident {} MiB", resident_mib());
    maker.store.close().wait().unwrap();
    let lanes = maker.lanes.clone();
    drop(maker);
    let store =
        timed("opening", || SqliteStore::open(Options::new(dir, Keyring::from_key(&[1; 32])), now_ms()).unwrap());
    let (run, _) = timed("start_run", || store.start_run("bench", now_ms()).wait().unwrap());
    let claim = |max| {
        let request = ClaimRequest { by: run, now_ms: now_ms(), max, max_per_lane: 100, skip: Vec::new() };
        store.claim(request).wait().unwrap()
    };
    let first = timed("claim of 100", || claim(100));
    timed("claim of 1,000", || claim(1_000));
    timed("content", || store.content(first.claims[0].message.id).wait().unwrap());
    let by_domain = Selector { domain: Some(lanes[lanes.len() / 2].key.domain.to_string()), ..Selector::default() };
    for round in ["cold", "warm"] {
        println!("  {round}");
        timed("counts by domain", || store.counts(GroupBy::Domain, 100).wait().unwrap());
        timed("list all, first page", || store.recipients(Selector::default(), None, 100).wait().unwrap());
        let page = timed("list of a domain", || store.recipients(by_domain.clone(), None, 100).wait().unwrap());
        let by_route = Selector { route: Some("mx".into()), ..Selector::default() };
        timed("list of a route", || store.recipients(by_route, None, 100).wait().unwrap());
        let held = Selector { state: Some(State::Held), ..Selector::default() };
        timed("list of what is held", || store.recipients(held, None, 100).wait().unwrap());
        let recipient = page.last().map(|view| view.address.to_string());
        let by_address = Selector { recipient, ..Selector::default() };
        assert_eq!(timed("search by address", || store.recipients(by_address, None, 100).wait().unwrap()).len(), 1);
    }
    timed("expire", || store.expire(now_ms(), 1_000).wait().unwrap());
    println!("  resident {} MiB", resident_mib());
    let hold = Operation::Hold("x".into());
    timed("hold of a domain", || store.operate(by_domain, hold, "bench".into(), now_ms()).wait().unwrap());
    let started = Instant::now();
    store.close().wait().unwrap();
    println!("  close: {:?}", started.elapsed());
}

/// Fills a store with delivered messages and searches it: an index that is caught up, and what has none.
fn search(dir: &Path, messages: usize) {
    let maker = Maker::new(dir, 1_000, 200);
    timed("accepting and delivering them", || {
        let mut pending = std::collections::VecDeque::new();
        for number in 0..messages {
            let new = maker.message(number, 1, &Start::Leased);
            let id = new.message.id;
            let accepted = maker.store.accept(new);
            pending.push_back((accepted, maker.store.settle(maker.delivered(id, 1))));
            if pending.len() >= 2_000 {
                let (accepted, settled) = pending.pop_front().unwrap();
                accepted.wait().unwrap();
                settled.wait().unwrap();
            }
        }
        pending.into_iter().for_each(|(_, settled)| assert_eq!(settled.wait().unwrap(), 1));
    });
    timed("catching up", || maker.store.catch_up_search().wait().unwrap());
    let find = |what: &str, make: &dyn Fn(usize) -> SearchQuery| {
        let mut times: Vec<Duration> = Vec::new();
        let (mut found, mut looked) = (0, 0);
        for round in 0..200 {
            let query = make((round * 7_919 + 13) % messages);
            let started = Instant::now();
            let page = maker.store.search(query, None, 50).wait().unwrap();
            times.push(started.elapsed());
            found += page.hits.len();
            looked += page.looked;
        }
        times.sort_unstable();
        println!(
            "  {what}: p50 {:?}, p95 {:?}, most {:?}; found {found}, looked at {looked} in 200",
            times[100], times[190], times[199]
        );
    };
    let plain = SearchQuery::default;
    find("newest", &|_| plain());
    find("recipient", &|n| SearchQuery {
        recipient: Some(Whom::Address(format!("user{n}.0@d{}.example", n % 1_000))),
        ..plain()
    });
    find("beginning of a recipient", &|n| SearchQuery {
        recipient: Some(Whom::Prefix(format!("user{n}."))),
        ..plain()
    });
    find("beginning of all recipients", &|_| SearchQuery { recipient: Some(Whom::Prefix("user".into())), ..plain() });
    find("domain", &|n| SearchQuery { recipient: Some(Whom::Domain(format!("d{}.example", n % 1_000))), ..plain() });
    find("domain and a state nobody has", &|n| SearchQuery {
        recipient: Some(Whom::Domain(format!("d{}.example", n % 1_000))),
        state: Some(State::Failed),
        ..plain()
    });
    find("Message-ID nobody has", &|n| SearchQuery { message_id: Some(format!("<{n}@x>")), ..plain() });
    find("subject nobody has", &|_| SearchQuery { subject: vec!["nowhere".into()], ..plain() });
    find("state nobody has", &|_| SearchQuery { state: Some(State::Failed), ..plain() });
    find("route nobody has, held", &|_| SearchQuery {
        state: Some(State::Held),
        route: Some("nowhere".into()),
        ..plain()
    });
    println!("  resident {} MiB", resident_mib());
    maker.store.close().wait().unwrap();
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let what = arguments.first().map_or("hot", String::as_str);
    let number = |fallback| arguments.get(1).map_or(fallback, |text| text.parse().unwrap());
    let scratch = tempfile::TempDir::new().unwrap();
    let dir = arguments.get(2).map_or_else(|| scratch.path().join("store"), PathBuf::from);
    match what {
        "hot" => hot(&dir, number(100_000), 1, 1, 100),
        "wide" => hot(&dir, number(100_000), 1, 10_000, 100),
        "fan" => hot(&dir, number(10_000), 50, 20, 100),
        "alone" => alone(&dir, number(2_000)),
        "queue" => queue(&dir, number(1_000_000), 1),
        "lanes" => queue(&dir, number(1_000_000), 100_000),
        "search" => search(&dir, number(1_000_000)),
        other => println!("hot, wide, fan, alone, queue, lanes or search, not {other}"),
    }
}
