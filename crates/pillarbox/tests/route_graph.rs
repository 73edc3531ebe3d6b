//! A route to Microsoft Graph as a user makes it: tried before it is saved, checked, documented, and mail by it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::{Output, Stdio};
use std::sync::Arc;

use common::Server;
use serde_json::{Value, json};
use testkit::{Graph, Zones};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const GRAPH: &str = "graph.microsoft.com";
const MAILBOX: &str = "noreply@app.test";
const TOKEN: &str = "t0ken.of.the.application";

/// A server that finds Graph, and an identity provider, on this machine.
struct Place {
    server: Server,
    graph: Graph,
    token_url: String,
    /// What the identity provider was asked.
    asked: Arc<parking_lot::Mutex<Vec<String>>>,
    /// What it says instead of a token.
    refusal: Arc<parking_lot::Mutex<Option<String>>>,
    _zones: Zones,
}

impl Place {
    async fn new() -> Self {
        let zones = Zones::start().await;
        zones.loopback(GRAPH);
        let server = Server::with(&format!("[dns]\nservers = [\"{}\"]\n", zones.address()));
        server.ca.write_pem(server.dir.path());
        std::fs::write(server.dir.path().join("secret"), "s3cret-value\n").unwrap();
        let graph = Graph::start(&server.ca.issue(&[GRAPH]), &[TOKEN], &[MAILBOX]).await;
        let asked = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let refusal = Arc::new(parking_lot::Mutex::new(None));
        let token_url = identity_provider(asked.clone(), refusal.clone()).await;
        Self { server, graph, token_url, asked, refusal, _zones: zones }
    }

    fn run(&self, args: &[&str]) -> Output {
        self.server.command(args).stdin(Stdio::null()).output().unwrap()
    }

    fn add(&self, mailbox: &str, more: &[&str]) -> Output {
        let port = self.graph.port().to_string();
        let args = [
            &["route", "add", "office", "microsoft365-graph", "--port", &port, "--ca-file", "ca.pem"][..],
            &["--username", mailbox, "--tenant", "app.test", "--client-id", "an-id", "--client-secret-file", "secret"],
            &["--token-url", &self.token_url],
            more,
        ];
        self.run(&args.concat())
    }
}

/// Gives the same token to whoever asks, or says why not.
async fn identity_provider(
    asked: Arc<parking_lot::Mutex<Vec<String>>>,
    refusal: Arc<parking_lot::Mutex<Option<String>>>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (asked, refusal) = (asked.clone(), refusal.clone());
            tokio::spawn(async move {
                let mut text = String::new();
                let mut buffer = [0; 4096];
                while !text.contains("client_secret=") {
                    let Ok(count @ 1..) = socket.read(&mut buffer).await else { return };
                    text.push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
                asked.lock().push(text);
                let (status, body) = match refusal.lock().clone() {
                    None => ("200 OK", json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600})),
                    Some(why) => ("401 Unauthorized", json!({"error": "invalid_client", "error_description": why})),
                };
                let body = body.to_string();
                let answer =
                    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://127.0.0.1:{port}/token")
}

fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_by_graph_is_tried_saved_and_carries_mail() {
    let place = Place::new().await;
    let output = place.add(MAILBOX, &["--default"]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    assert!(place.asked.lock()[0].contains("scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"), "{:?}", place.asked);
    assert!(place.graph.sent().is_empty() && place.graph.requests().len() == 1, "{:?}", place.graph.requests());
    let route = place.server.run_json(&["route", "show", "office"]);
    assert_eq!((&route["kind"], &route["username"], route.get("host")), (&json!("graph"), &json!(MAILBOX), None));
    let shown = place.server.run(&["route", "show", "office"]);
    assert!(shown.contains(GRAPH) && shown.contains("25 (preset microsoft365-graph)"), "{shown}");
    let document = place.server.run(&["route", "export", "office", "--no-dns"]);
    for part in [
        "| kind | graph |",
        "| messages a minute | 25 | preset microsoft365-graph |",
        "Mail.Send",
        "rules show graph-access-denied",
    ] {
        assert!(document.contains(part), "{part}: {document}");
    }
    let texts = shown + &document + &all(&output);
    assert!(!texts.contains("s3cret") && !texts.contains(TOKEN), "{texts}");

    place.server.run(&["sender", "set", "app", "--allow-from", "app.test"]);
    let mail = json!({ "from": MAILBOX, "to": ["ann@one.test"], "subject": "x", "text": "y" });
    let (status, accepted) = place.server.post("/api/v1/messages", &mail, None).await;
    assert_eq!(status, 202, "{accepted}");
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while place.graph.sent().is_empty() {
        assert!(tokio::time::Instant::now() < until, "{}", place.server.output());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(place.graph.sent()[0].recipients, ["ann@one.test"]);

    let now = &place.server.run_json(&["route", "show", "office"])["now"];
    let token = |field: &str| now["token"][field].as_str().unwrap().to_owned();
    assert!(token("renews") < token("expires") && now["token"].get("failure").is_none(), "{now:#}");
    let shown = place.server.run(&["route", "show", "office"]);
    let line = shown.lines().find(|line| line.contains("access token")).unwrap();
    assert!(line.contains("ends 2") && line.contains("is renewed 2"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_cannot_be_had_and_a_secret_that_ends_are_told_with_what_to_do() {
    let place = Place::new().await;
    let tomorrow = jiff::Timestamp::from_millisecond(net::Clock::system().now_ms() + 86_400_000).unwrap();
    let tomorrow = tomorrow.strftime("%Y-%m-%d").to_string();
    let more = ["--default", "--secret-expires", &tomorrow];
    assert_eq!(place.add(MAILBOX, &more).status.code(), Some(0));
    place.server.run(&["sender", "set", "app", "--admin", "--allow-from", "app.test"]);
    let refusal = "AADSTS7000222: The provided client secret keys for app 'an-id' are expired.";
    *place.refusal.lock() = Some(refusal.into());
    let mail = json!({ "from": MAILBOX, "to": ["ann@one.test"], "subject": "x", "text": "y" });
    assert_eq!(place.server.post("/api/v1/messages", &mail, None).await.0, 202);
    place
        .server
        .until("the failure", async || {
            let now = place.server.get("/api/v1/routes/office/status").await.1;
            now["token"]["failure"].as_str().map(str::to_owned)
        })
        .await;
    let ending = format!("the client secret of route office expires tomorrow, on {tomorrow}");
    let shown = place.server.run(&["route", "show", "office"]);
    for part in ["the last renewal failed", "AADSTS7000222", &ending] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(place.server.run(&["status"]).contains(&format!("T{}", &ending[1..])), "{}", place.server.run(&["status"]));
    let causes = place.server.run(&["queue", "causes"]);
    assert!(causes.contains("client secret"), "{causes}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_work_is_named_and_not_saved() {
    let place = Place::new().await;
    let output = place.add("gone@app.test", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(all(&output).contains("The mailbox of the route is not found"), "{}", all(&output));
    assert!(
        place.server.run_json(&["route", "ls"])["items"].as_array().unwrap().iter().all(|one| one["name"] != "office")
    );
    let output = place.run(&["route", "add", "office", "graph"]);
    let said = all(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--username") && said.contains("--tenant") && said.contains("--client-secret-file"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_goes_from_the_name_to_the_leave_to_send_and_sends_nothing() {
    let place = Place::new().await;
    assert_eq!(place.add(MAILBOX, &[]).status.code(), Some(0));
    let report = place.server.run_json(&["route", "check", "office"]);
    assert_eq!(report["healthy"], true, "{report:#}");
    let stages = |report: &Value| -> Vec<String> {
        let stages = report["server"]["stages"].as_array().unwrap().iter();
        stages.map(|one| format!("{} {}", one["stage"].as_str().unwrap(), one["outcome"].as_str().unwrap())).collect()
    };
    assert_eq!(stages(&report), ["dns passed", "tcp passed", "tls passed", "auth passed"]);
    place.graph.tokens(&["another"]);
    let output = place.run(&["--json", "route", "check", "office"]);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stages(&report)[3], "auth failed");
    assert_eq!(report["server"]["findings"][0]["explanation"]["rule"], "graph-unauthorized", "{report:#}");
    let shown = all(&place.run(&["route", "check", "office"]));
    assert!(shown.contains("Graph does not accept the token") && !shown.contains(TOKEN), "{shown}");
    assert!(place.graph.sent().is_empty());
}
