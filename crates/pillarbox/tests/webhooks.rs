//! Applications are told by HTTP what became of each recipient: signed, in order, at least once, whatever the endpoint does.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use common::Server;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A request as it came.
#[derive(Debug, Clone)]
struct Told {
    id: String,
    signature: String,
    body: Value,
}

impl Told {
    fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }
    fn recipient(&self) -> &str {
        self.body["data"]["recipient"]["id"].as_str().unwrap_or_default()
    }
    fn address(&self) -> &str {
        self.body["data"]["recipient"]["address"].as_str().unwrap_or_default()
    }
}

type Answer = Box<dyn Fn(&Told) -> Response + Send>;

/// An application that keeps what it is told and answers as the test says.
struct Application {
    told: Mutex<Vec<Told>>,
    answer: Mutex<Answer>,
    address: SocketAddr,
}

impl Application {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Answer = Box::new(|_| StatusCode::NO_CONTENT.into_response());
        let application = Arc::new(Self { told: Mutex::default(), answer: Mutex::new(answer), address });
        let router = Router::new().fallback(take).with_state(application.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        application
    }

    fn answers(&self, answer: impl Fn(&Told) -> Response + Send + 'static) {
        *self.answer.lock() = Box::new(answer);
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().clone()
    }

    /// What it has been told about each recipient, in order.
    fn by_recipient(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for one in self.told() {
            all.entry(one.recipient().to_owned()).or_default().push(one.kind().to_owned());
        }
        all
    }
}

async fn take(State(application): State<Arc<Application>>, headers: HeaderMap, body: String) -> Response {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let told = Told {
        id: field("webhook-id"),
        signature: field("webhook-signature"),
        body: serde_json::from_str(&body).unwrap(),
    };
    assert!(field("webhook-timestamp").parse::<i64>().unwrap() > 1_700_000_000);
    let response = (application.answer.lock())(&told);
    application.told.lock().push(told);
    response
}

fn add(server: &Server, name: &str, url: &str, more: &[&str]) -> Value {
    let common = ["webhook", "add", name, url, "--allow-http", "--network", "127.0.0.0/8"];
    server.run_json(&[&common[..], more].concat())
}

async fn send(server: &Server, to: &[String]) {
    let message = json!({"from": "a@shop.test", "to": to, "text": "t", "metadata": {"order": 7}});
    let (status, answer) = server.post("/api/v1/messages", &message, None).await;
    assert_eq!(status, 202, "{answer}");
}

fn ok() -> Response {
    StatusCode::OK.into_response()
}

fn fails() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "<b>no\x1b[2J").into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_is_told_of_in_order_and_a_secret_is_replaced_without_a_gap() {
    let server = Server::start();
    let application = Application::start().await;
    let made = add(&server, "shop", &application.url(), &[]);
    assert!(made["new_secret"].as_str().unwrap().starts_with("whsec_"));
    assert!(server.run_json(&["webhook", "show", "shop"]).get("new_secret").is_none(), "shown once");
    send(&server, &["ann@one.test".into(), "bob@two.test".into()]).await;
    server.until("events", async || (application.told().len() == 4).then_some(())).await;
    for (recipient, kinds) in application.by_recipient() {
        assert_eq!(kinds, ["message.accepted", "message.delivered"], "{recipient}");
    }
    let told = application.told();
    let data = &told.iter().find(|one| one.kind() == "message.delivered").unwrap().body["data"];
    assert_eq!(
        (data["message"]["sender"].as_str(), data["message"]["metadata"]["order"].as_i64()),
        (Some("app"), Some(7))
    );
    assert_eq!(data["event"]["attempt"]["route"], "capture");
    assert!(told.iter().all(|one| one.signature.starts_with("v1,") && !one.signature.contains(' ')));

    let rotated = server.run_json(&["webhook", "rotate-secret", "shop"]);
    assert_ne!(rotated["new_secret"], made["new_secret"]);
    let tested = server.run_json(&["webhook", "test", "shop"]);
    assert_eq!((tested["taken"].as_bool(), tested["answer"]["status"].as_i64()), (Some(true), Some(204)));
    let sample = application.told().pop().unwrap();
    assert_eq!((sample.kind(), sample.signature.matches("v1,").count()), ("webhook.test", 2));
    let log = server.run_json(&["webhook", "deliveries", "shop"]);
    assert_eq!(log["items"].as_array().unwrap().len(), 4, "a test is not in the log");
    assert_eq!(log["items"][0]["delivery"]["result"], "taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_waits_behind_its_failure_and_the_others_go_on() {
    let server = Server::start();
    let application = Application::start().await;
    let fails_still = Arc::new(AtomicBool::new(true));
    let fails_now = fails_still.clone();
    application.answers(move |told| {
        let fail = told.address() == "bad@one.test" && fails_now.load(Ordering::Relaxed);
        if fail { fails() } else { ok() }
    });
    add(&server, "shop", &application.url(), &[]);
    send(&server, &["bad@one.test".into()]).await;
    for n in 0..20 {
        send(&server, &[format!("r{n}@two.test")]).await;
    }
    let of_bad = || {
        let (bad, others): (Vec<Told>, Vec<Told>) =
            application.told().into_iter().partition(|one| one.address() == "bad@one.test");
        (bad.iter().map(|one| one.kind().to_owned()).collect::<Vec<_>>(), others.len())
    };
    server.until("the others' events", async || matches!(of_bad(), (bad, 40) if !bad.is_empty()).then_some(())).await;
    server
        .until("the note of each", async || {
            let state = server.run_json(&["webhook", "show", "shop"]);
            assert_eq!(state["status"], "ok", "{state}");
            (state["waiting"].as_i64() == Some(2)).then_some(())
        })
        .await;
    let (bad, _) = of_bad();
    assert!(bad.iter().all(|kind| kind == "message.accepted"), "what comes behind waits: {bad:?}");
    let failed = server.run_json(&["webhook", "deliveries", "shop", "--failed"]);
    let answer = &failed["items"][0]["delivery"]["answer"];
    assert_eq!((answer["status"].as_i64(), answer["body"].as_str()), (Some(500), Some("<b>no\\u{1b}[2J")), "{answer}");
    fails_still.store(false, Ordering::Relaxed);
    let both = async || of_bad().0.contains(&"message.delivered".to_owned()).then_some(());
    server.until("the failed one's events", both).await;
    for (recipient, mut kinds) in application.by_recipient() {
        kinds.dedup();
        assert_eq!(kinds, ["message.accepted", "message.delivered"], "{recipient}");
    }
    let ids: Vec<String> =
        application.told().iter().filter(|one| one.address() == "bad@one.test").map(|one| one.id.clone()).collect();
    let (last, attempts) = ids.split_last().unwrap();
    assert!(
        attempts.len() >= 2 && attempts.iter().all(|id| *id == attempts[0]),
        "an attempt again has the same id: {ids:?}"
    );
    assert_ne!(last, &attempts[0], "another event has another id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_and_keeps_the_order() {
    let mut server = Server::start();
    let application = Application::start().await;
    add(&server, "shop", &application.url(), &[]);
    const MESSAGES: usize = 60;
    for round in 0..3 {
        for n in 0..MESSAGES / 3 {
            send(&server, &[format!("r{round}-{n}@one.test")]).await;
        }
        server.kill();
        server.restart();
    }
    let whole = || {
        let by_recipient = application.by_recipient();
        let done = |kinds: &Vec<String>| kinds.iter().any(|kind| kind == "message.delivered");
        (by_recipient.len() == MESSAGES && by_recipient.values().all(done)).then_some(())
    };
    server.until("all events", async || whole()).await;
    let mut bodies: HashMap<String, Value> = HashMap::new();
    let mut first: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in application.told() {
        if let Some(before) = bodies.insert(one.id.clone(), one.body.clone()) {
            assert_eq!(before, one.body, "a repetition is the same");
            continue;
        }
        first.entry(one.recipient().to_owned()).or_default().push(one.kind().to_owned());
    }
    for (recipient, kinds) in first {
        assert_eq!(kinds, ["message.accepted", "message.delivered"], "{recipient}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_inside_is_not_called_unless_it_is_allowed_and_redirects_lead_nowhere() {
    let server = Server::start();
    let (inside, outside) = (Application::start().await, Application::start().await);
    let target = inside.url();
    outside.answers(move |_| (StatusCode::TEMPORARY_REDIRECT, [("location", target.clone())]).into_response());
    let refused = server.command(&["webhook", "add", "x", &inside.url(), "--allow-http"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("private network"), "{said}");
    let named = format!("http://localhost:{}/hook", inside.address.port());
    server.run(&["webhook", "add", "named", &named, "--allow-http"]);
    let tested = server.command(&["webhook", "test", "named", "--json"]).output().unwrap();
    let tested: Value = serde_json::from_slice(&tested.stdout).unwrap();
    let problem = tested["answer"]["problem"].as_str().unwrap();
    assert!(problem.contains("localhost leads to this machine"), "{tested}");

    add(&server, "moved", &outside.url(), &[]);
    send(&server, &["ann@one.test".into()]).await;
    let failed = server
        .until("a failure", async || {
            let log = server.run_json(&["webhook", "deliveries", "moved", "--failed"]);
            log["items"].get(0).cloned()
        })
        .await;
    let problem = failed["delivery"]["answer"]["problem"].as_str().unwrap();
    assert!(problem.contains("307") && problem.contains("redirects are not followed"), "{problem}");
    assert!(inside.told().is_empty(), "nobody reached it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_paused_and_told_all_when_somebody_resumes_it() {
    let server = Server::start();
    let application = Application::start().await;
    application.answers(|_| StatusCode::GONE.into_response());
    add(&server, "shop", &application.url(), &["--event", "delivered", "--event", "message.failed"]);
    send(&server, &["ann@one.test".into()]).await;
    let state = server
        .until("the pause", async || {
            let state = server.run_json(&["webhook", "show", "shop"]);
            (state["status"] == "paused").then_some(state)
        })
        .await;
    assert!(state["reason"].as_str().unwrap().contains("410"), "{state}");
    let status = server.run_json(&["status"]);
    assert!(status["notes"].to_string().contains("webhook shop is paused"), "{status}");
    for n in 0..5 {
        send(&server, &[format!("r{n}@one.test")]).await;
    }
    assert!(application.told().len() == 1, "a paused one is left alone");
    application.answers(|_| ok());
    server.run(&["webhook", "resume", "shop"]);
    server.until("all events", async || (application.by_recipient().len() == 6).then_some(())).await;
    assert!(application.told().iter().all(|one| one.kind() == "message.delivered"), "only what was asked for");
    server
        .until("the end of the alarm", async || {
            (!server.run_json(&["status"])["notes"].to_string().contains("shop")).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_since_a_moment_is_told_again_with_the_same_ids() {
    let server = Server::start();
    let application = Application::start().await;
    send(&server, &["early@one.test".into()]).await;
    add(&server, "shop", &application.url(), &["--event", "accepted"]);
    send(&server, &["ann@one.test".into()]).await;
    server.until("its event", async || (application.told().len() == 1).then_some(())).await;
    server.run(&["webhook", "replay", "shop", "--since", "2026-01-01T00:00:00Z"]);
    server.until("all events", async || (application.told().len() == 3).then_some(())).await;
    let mut told = application.told();
    // Recipients overtake each other.
    told.sort_by(|a, b| a.address().cmp(b.address()));
    let addresses: Vec<&str> = told.iter().map(Told::address).collect();
    assert_eq!(addresses, ["ann@one.test", "ann@one.test", "early@one.test"]);
    assert_eq!(told[0].id, told[1].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_or_lies_costs_the_others_nothing() {
    let server = Server::start();
    let good = Application::start().await;
    // One that says nothing at all, and one that says something else each time.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let liar = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let answered = Arc::new(Mutex::new(0));
    add(&server, "silent", &format!("http://{}/", silent.local_addr().unwrap()), &["--timeout", "1"]);
    add(&server, "liar", &format!("http://{}/", liar.local_addr().unwrap()), &["--timeout", "1"]);
    tokio::spawn(lie(liar, answered.clone()));
    add(&server, "good", &good.url(), &[]);
    for n in 0..10 {
        send(&server, &[format!("r{n}@one.test")]).await;
    }
    let started = std::time::Instant::now();
    server.until("all events", async || (good.told().len() == 20).then_some(())).await;
    assert!(started.elapsed() < Duration::from_secs(19), "not one after the other: {:?}", started.elapsed());
    let seen = server
        .until("the lies", async || {
            let log = server.run_json(&["webhook", "deliveries", "liar", "--failed", "--limit", "1000"]);
            let items = log["items"].as_array().unwrap().clone();
            let text = log.to_string();
            let all = ["no HTTP response", "two content lengths", "closed without an answer", "no answer within 1 s"];
            all.iter().all(|one| text.contains(one)).then_some(items)
        })
        .await;
    assert!(seen.iter().all(|one| one["delivery"]["result"] == "again"), "nothing is lost");
    assert!(*answered.lock() >= 6);
    server
        .until("the silent one's failure", async || {
            let state = server.run_json(&["webhook", "show", "silent"]);
            (state["status"] == "failing" && state["waiting"] == 20).then_some(())
        })
        .await;
    drop(silent);
}

/// Answers each connection with the next lie.
async fn lie(listener: TcpListener, answered: Arc<Mutex<usize>>) {
    const LIES: [&str; 6] = [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 500 No\r\nContent-Length: 99999999999\r\n\r\nendless",
        "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\ndrip",
    ];
    while let Ok((mut socket, _)) = listener.accept().await {
        let n = *answered.lock();
        *answered.lock() += 1;
        tokio::spawn(async move {
            let mut octets = vec![0; 65_536];
            let _ = socket.read(&mut octets).await;
            let lie = LIES[n % LIES.len()];
            let _ = socket.write_all(lie.as_bytes()).await;
            if lie.starts_with("HTTP/1.1 500") || lie.ends_with("200") {
                // It goes on for ever, or never ends.
                while lie.starts_with("HTTP/1.1 500") && socket.write_all(b"drip").await.is_ok() {
                    tokio::task::yield_now().await;
                }
                std::future::pending::<()>().await;
            }
        });
    }
}
