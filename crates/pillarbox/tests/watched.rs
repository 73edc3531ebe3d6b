//! A server that is watched: figures for those who may see them, health, the watchdog, and a log that nobody reads.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use common::{PATIENCE, Server, program};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::daemon::{Daemon, DaemonPlan};

fn message(n: u32) -> Value {
    json!({ "from": "app@example.org", "to": [format!("r{n}@example.net")], "subject": "hello", "text": "hello",
            "stream": "receipts" })
}

/// A figure's value in a page of `/metrics`.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn page(server: &Server) -> String {
    let answer = server.request(Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

#[tokio::test]
async fn what_happens_is_counted_and_shown_in_both_formats() {
    let server = Server::start();
    for n in 0..3 {
        assert_eq!(server.post("/api/v1/messages", &message(n), None).await.0, 202);
    }
    assert_eq!(
        server.request(Method::GET, "/api/v1/queue").bearer_auth("pbx_wrong").send().await.unwrap().status(),
        401
    );
    let delivered = r#"pillarbox_stream_recipients_settled_total{stream="receipts",outcome="delivered"}"#;
    let text = server
        .until("three are delivered", async || {
            let page = page(&server).await;
            (value(&page, delivered) == Some(3.0)).then_some(page)
        })
        .await;
    assert_eq!(value(&text, r#"pillarbox_messages_accepted_total{stream="receipts"}"#), Some(3.0), "{text}");
    let by_route = r#"pillarbox_recipients_accepted_total{route="capture",stream="receipts"}"#;
    assert_eq!(value(&text, by_route), Some(3.0), "{text}");
    assert_eq!(value(&text, "pillarbox_accept_seconds_count"), Some(3.0), "{text}");
    assert_eq!(value(&text, r#"pillarbox_auth_total{door="http",result="rejected"}"#), Some(1.0), "{text}");
    assert_eq!(value(&text, "pillarbox_ready"), Some(1.0), "{text}");
    assert!(value(&text, "pillarbox_store_commit_seconds_count").is_some_and(|count| count >= 3.0), "{text}");
    assert!(value(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{text}");
    assert!(text.contains("# TYPE pillarbox_messages_accepted_total counter") && !text.contains("# EOF"));
    assert!(!text.contains("example.net") && !text.contains("example.org"), "no addresses: {text}");

    let modern = server.request(Method::GET, "/metrics").header("Accept", "application/openmetrics-text;version=1.0.0");
    let modern = modern.send().await.unwrap();
    let kind = modern.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let modern = modern.text().await.unwrap();
    assert!(modern.contains("# TYPE pillarbox_messages_accepted counter") && modern.ends_with("# EOF\n"), "{modern}");
    let through_a_proxy = server.request(Method::GET, "/metrics").header("X-Forwarded-For", "198.51.100.7");
    assert_eq!(through_a_proxy.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_proxied_scraper_needs_the_token() {
    let server = Server::with("[metrics]\ntoken_file = \"token\"\n");
    std::fs::write(server.dir.path().join("token"), "let-me-look\n").unwrap();
    for (token, status) in [("let-me-look", 200), ("let-me", 401), (server.key.as_str(), 403)] {
        let asked = server.request(Method::GET, "/metrics").header("Forwarded", "for=198.51.100.7").bearer_auth(token);
        assert_eq!(asked.send().await.unwrap().status(), status, "{token}");
    }
}

#[tokio::test]
async fn health_is_told_plain_and_as_json_and_by_the_command() {
    let mut server = Server::start();
    let get = async |path: &str, accept: &str| {
        let answer = server.request(Method::GET, path).header("Accept", accept).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz", "*/*").await, (200, "ok\n".into()));
    assert_eq!(get("/readyz", "*/*").await, (200, "ready\n".into()));
    let (_, text) = get("/readyz", "application/json").await;
    let health: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(health["ready"], true);
    let names: Vec<&str> =
        health["parts"].as_array().unwrap().iter().filter_map(|part| part["name"].as_str()).collect();
    assert_eq!(names, ["store", "relay", "listeners"]);
    assert_eq!(server.run(&["health"]), "ready\n");
    server.terminate();
    let gone = server.command(&["health", "--timeout", "2"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(3), "{}", String::from_utf8_lossy(&gone.stderr));
}

#[tokio::test]
async fn the_log_says_more_when_asked_while_the_server_runs_and_less_after_a_reload() {
    let server = Server::start();
    assert_eq!(server.run(&["log-level"]), "info\n");
    assert_eq!(server.run(&["log-level", "info,relay=debug"]), "info,relay=debug\n");
    let wrong = server.command(&["log-level", "relay=loud"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{}", String::from_utf8_lossy(&wrong.stderr));
    server.hangup();
    assert_eq!(server.run(&["log-level"]), "info\n");
}

fn configuration(dir: &std::path::Path, more: &str) -> std::path::PathBuf {
    let path = dir.join("pillarbox.toml");
    let text = format!(
        "hostname = \"relay.test\"\ndata_dir = \"data\"\n[http]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"smtp\"\naddress = \"127.0.0.1:0\"\nmode = \"plain\"\n{more}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_watchdog_hears_of_a_server_that_lives() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let plan = DaemonPlan::new(program(), "ready")
        .arg("serve")
        .arg("--config")
        .arg(configuration(dir.path(), ""))
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "300000");
    let mut daemon = Daemon::start(&plan);
    let heard = || {
        let mut buffer = [0; 100];
        let length = notified.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    assert!(daemon.terminate(PATIENCE).expect("it ends").success());
}

/// R-34: a log that nobody takes costs lines, not mail.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_mail() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "[log]\nlevel = \"trace\"\nformat = \"json\"\n");
    let mut child = Command::new(program())
        .args(["serve", "--config"])
        .arg(config)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        // Nobody ever reads it.
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .take_while(|line| line != "ready")
        .collect();
    let word = |label: &str, at: usize| {
        let line = said.iter().find(|line| line.trim_start().starts_with(label)).unwrap();
        line.split_whitespace().nth(at).unwrap().trim_end_matches(',').to_owned()
    };
    let (url, key) = (word("HTTP", 1), said.iter().find(|line| line.trim_start().starts_with("API key")).unwrap());
    let key = key.split_whitespace().last().unwrap().to_owned();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let dropped = async || {
        let page = http.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
        value(&page, "pillarbox_log_lines_dropped_total").unwrap()
    };
    let address = url.trim_start_matches("http://").to_owned();
    let mut connections = 0;
    let ends = tokio::time::Instant::now() + PATIENCE;
    while dropped().await == 0.0 {
        assert!(tokio::time::Instant::now() < ends, "the log never stood still: {connections} connections");
        // At this level each one is worth a line.
        for _ in 0..50 {
            drop(std::net::TcpStream::connect(&address).unwrap());
        }
        connections += 50;
    }
    // The pipe is full now, and mail still goes all the way.
    let sent = http.post(format!("{url}/api/v1/messages")).bearer_auth(&key).json(&message(1)).send().await.unwrap();
    let id = sent.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    loop {
        let shown = http.get(format!("{url}/api/v1/messages/{id}")).bearer_auth(&key).send().await.unwrap();
        let shown: Value = shown.json().await.unwrap();
        if shown["recipients"][0]["state"] == "delivered" {
            break;
        }
        assert!(tokio::time::Instant::now() < ends, "{shown}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
