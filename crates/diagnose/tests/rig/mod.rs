//! A probe with its surroundings: resolver, trust, plan, and servers that say what a test wants.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use diagnose::check::{self, Event, Outcome, Plan, Report, Target, Tls};
use explain::{RuleBase, Severity};
use net::{ClientTls, Clock, Net, Resolver, ResolverSettings, Roots};
use proto::transcript::Stage;
use testkit::ca::Ca;
use testkit::zones::Zones;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Net with this authority and these zones; without zones, every question fails quickly.
pub(crate) fn net(ca: Option<&Ca>, zones: Option<&Zones>) -> Net {
    let clock = Clock::system();
    let roots = match ca {
        Some(ca) => {
            let dir = tempfile::tempdir().expect("dir");
            Roots::Pem(ca.write_pem(&dir.keep()))
        }
        None => Roots::Web,
    };
    Net { tls: ClientTls::new(&roots, clock.clone()).expect("roots"), resolver: resolver(zones), clock }
}

pub(crate) fn resolver(zones: Option<&Zones>) -> Resolver {
    let server = zones.map_or(SocketAddr::new(LOCAL, 1), Zones::address);
    let settings =
        ResolverSettings { servers: vec![server], timeout: Duration::from_secs(2), ..ResolverSettings::default() };
    Resolver::new(settings).expect("resolver")
}

/// A plan for a server on the loopback address that is called `mx.test`; no other ports are tried.
pub(crate) fn plan(port: u16, tls: Tls) -> Plan {
    let mut plan = Plan::new(Target { host: "mx.test".into(), port: Some(port) }, "client.test");
    plan.connect_to = Some(SocketAddr::new(LOCAL, port));
    plan.tls = tls;
    plan.siblings = Vec::new();
    plan.timeout = Duration::from_secs(3);
    plan
}

pub(crate) async fn run(net: &Net, plan: &Plan) -> Report {
    static RULES: LazyLock<Arc<RuleBase>> = LazyLock::new(|| Arc::new(RuleBase::with_user_rules(&[]).expect("rules")));
    let rules = Arc::clone(&RULES);
    let mut told = Vec::new();
    let report = check::run(net, rules, plan, &mut |event| {
        if let Event::Ended(stage) = event {
            told.push(stage.clone());
        }
    })
    .await;
    assert!(report.stages.starts_with(&told), "what is told live is what is reported");
    assert_eq!(report.healthy, report.findings.iter().all(|one| one.severity != Severity::Problem));
    report
}

/// Kinds of the signs found, in order.
pub(crate) fn signs(report: &Report) -> Vec<&str> {
    report.findings.iter().filter_map(|one| one.sign.as_deref()).collect()
}

/// A value of a sign.
pub(crate) fn value<'r>(report: &'r Report, sign: &str, name: &str) -> &'r str {
    let found = report.findings.iter().find(|one| one.sign.as_deref() == Some(sign));
    let found = found.unwrap_or_else(|| panic!("no {sign} in {:?}", signs(report)));
    found.finding.values.get(name).map_or("", String::as_str)
}

/// How a stage ended, the last time it was made.
pub(crate) fn outcome(report: &Report, stage: Stage) -> Outcome {
    report.stages.iter().rev().find(|one| one.stage == stage).expect("every stage is reported").outcome
}

/// Asserts that no problem and no warning was found.
pub(crate) fn assert_clean(report: &Report) {
    let bad: Vec<_> = report.findings.iter().filter(|one| one.severity != Severity::Note).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(report.healthy);
    assert_eq!(report.result, explain::ResultWord::Success);
}

/// A server that answers each line by the first entry whose words the line begins with; the entry `""` is said at the
/// connection. `!close` hangs up after what is before it, `!hang` says nothing more. Serves until dropped.
pub(crate) struct Scripted {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Scripted {
    pub(crate) async fn start(entries: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((LOCAL, 0)).await.expect("bind");
        Self::on(listener, entries)
    }

    pub(crate) fn on(listener: TcpListener, entries: &[(&str, &str)]) -> Self {
        let port = listener.local_addr().expect("address").port();
        let entries: Arc<Vec<(String, String)>> =
            Arc::new(entries.iter().map(|(words, answer)| ((*words).to_owned(), (*answer).to_owned())).collect());
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let entries = Arc::clone(&entries);
                all.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    loop {
                        let usual = if line.is_empty() { "" } else { "500 what?\r\n" };
                        let found = entries.iter().find(|(words, _)| {
                            words.is_empty() == line.is_empty()
                                && line.to_ascii_uppercase().starts_with(&words.to_ascii_uppercase())
                        });
                        let answer = found.map_or(usual, |(_, answer)| answer.as_str());
                        let text = answer.trim_end_matches("!close").trim_end_matches("!hang");
                        if stream.write_all(text.as_bytes()).await.is_err() || answer.ends_with("!close") {
                            return;
                        }
                        if answer.ends_with("!hang") {
                            std::future::pending::<()>().await;
                        }
                        line.clear();
                        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port of the loopback address on which nothing listens.
pub(crate) async fn closed_port() -> u16 {
    let listener = TcpListener::bind((LOCAL, 0)).await.expect("bind");
    listener.local_addr().expect("address").port()
}

/// A port of the loopback address that answers nobody: its queue of connections is full, and stays so.
pub(crate) struct Deaf {
    pub(crate) port: u16,
    _listener: TcpListener,
    _queue: Vec<tokio::net::TcpStream>,
}

impl Deaf {
    pub(crate) async fn start() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("socket");
        socket.bind(SocketAddr::new(LOCAL, 0)).expect("bind");
        let listener = socket.listen(1).expect("listen");
        let address = listener.local_addr().expect("address");
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
        {
            queue.push(stream);
            assert!(queue.len() < 100, "the queue never fills");
        }
        Self { port: address.port(), _listener: listener, _queue: queue }
    }
}
