//! Several nodes on one queue: who leads, one incident and one alert for all, a node that dies, one that is drained.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use common::Server;
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::Postgres;
use testkit::client::Client;
use testkit::sink::{Rule, Sink, SinkOptions, Stage};

/// A lead ends after this time without a word, and is taken within five seconds more.
const LEAD: Duration = Duration::from_secs(10);

/// Nodes on a database of their own, named n1, n2 and so on.
struct Nodes {
    all: Vec<Server>,
    url: String,
    /// With the key that all of them have.
    dir: tempfile::TempDir,
}

impl Nodes {
    fn start(count: usize, more: &str) -> Self {
        let url = Postgres::shared().database();
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        std::fs::write(&key, "07".repeat(32)).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut nodes = Self { all: Vec::new(), url, dir };
        for _ in 0..count {
            nodes.add(more);
        }
        nodes
    }

    fn add(&mut self, more: &str) {
        let key = self.dir.path().join("key");
        let name = format!("n{}", self.all.len() + 1);
        let lines = format!("store = \"{}\"\nnode = \"{name}\"\nkey.file = \"{}\"\n{more}", self.url, key.display());
        let mut server = Server::with(&lines);
        if let Some(first) = self.all.first() {
            (server.password, server.key) = (first.password.clone(), first.key.clone());
        } else {
            server.run(&["sender", "set", "app", "--admin"]);
        }
        self.all.push(server);
    }

    fn sql(&self, sql: &str) -> String {
        Postgres::shared().sql(Postgres::name(&self.url), &format!("SET search_path TO pillarbox; {sql}"))
    }

    /// Number of the node that leads, as the database says.
    fn leader(&self) -> Option<usize> {
        let sql = "SELECT name FROM member WHERE run = (SELECT run FROM duty WHERE until >= now())";
        let name = self.sql(sql);
        name.strip_prefix('n').and_then(|number| number.parse::<usize>().ok()).map(|number| number - 1)
    }

    /// Nodes that do not lead.
    fn others(&self) -> Vec<&Server> {
        let leader = self.leader().unwrap();
        self.all.iter().enumerate().filter(|(n, _)| *n != leader).map(|(_, one)| one).collect()
    }
}

async fn send(server: &Server, to: &str) -> u16 {
    let message = json!({"from": "a@shop.test", "to": [to], "subject": "x", "text": "t"});
    server.post("/api/v1/messages", &message, None).await.0
}

fn items(page: &Value) -> &[Value] {
    page["items"].as_array().map_or(&[], Vec::as_slice)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_of_a_route_is_run_on_another_node_and_compared() {
    let nodes = Nodes::start(2, "");
    let (first, second) = (&nodes.all[0], &nodes.all[1]);
    let sink = Sink::start().await;
    first.route_to(sink.port());
    let ended = async |node: &Server, test: &Value| {
        let path = format!("/api/v1/smtp-tests/{}", test["id"].as_str().unwrap());
        let done = async || {
            let test = node.get(&path).await.1;
            (test["test"]["state"] != "running").then_some(test)
        };
        node.until("the test has ended", done).await
    };
    let asked = json!({"route": "sink", "from": "a@shop.test", "to": ["b@one.test"]});
    let here = first.post("/api/v1/smtp-tests", &asked, None).await.1;
    let test = ended(first, &here).await;
    assert_eq!((test["test"]["verdict"]["healthy"].as_bool(), test["test"]["node"].as_str()), (Some(true), None));
    assert_eq!(ended(second, &here).await["test"]["node"], "n1", "seen from the other one");

    // While the other node stands nobody else runs it; what is to be run here is.
    let again = format!("/api/v1/smtp-tests/{}/repeat", here["id"].as_str().unwrap());
    second.pause();
    let (status, there) = first.post(&again, &json!({"node": "n2"}), None).await;
    assert_eq!((status, there["state"].as_str(), there["node"].as_str()), (202, Some("running"), Some("n2")));
    let (status, another) = first.post(&again, &json!({}), None).await;
    assert_eq!((status, another["node"].as_str()), (202, None), "{another}");
    assert_eq!(ended(first, &another).await["test"]["verdict"]["healthy"], true);
    let path = format!("/api/v1/smtp-tests/{}", there["id"].as_str().unwrap());
    assert_eq!(first.get(&path).await.1["test"]["state"], "running");
    second.resume();
    let test = ended(first, &there).await;
    assert_eq!((test["test"]["verdict"]["healthy"].as_bool(), test["test"]["node"].as_str()), (Some(true), Some("n2")));

    let path = format!(
        "/api/v1/smtp-tests/{}/comparison?with={}",
        here["id"].as_str().unwrap(),
        there["id"].as_str().unwrap()
    );
    let compared = first.get(&path).await.1;
    let (with, sign) = (&compared["with"]["node"], &compared["finding"]["sign"]);
    assert_eq!((with.as_str(), sign.as_str()), (Some("n2"), Some("compare_well_in_both")), "{compared:#}");
    let token = first.run(&["login"]);
    let cookie = sign_in(first, &format!("token={}", token.trim())).await;
    let page = format!("/admin/smtp-test/{}", here["id"].as_str().unwrap());
    let page = first.request(Method::GET, &page).header("Cookie", cookie).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Compare with another node") && page.contains("<option value=\"n2\""), "{page}");

    let (status, problem) = first.post(&again, &json!({"node": "n9"}), None).await;
    assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some("/node")), "{problem}");
    let target = format!("127.0.0.1:{}", sink.port());
    let typed =
        json!({"target": target, "tls": "none", "username": "u", "password": "p", "allow_plaintext_auth": true});
    let typed = first.post("/api/v1/smtp-tests", &typed, None).await.1;
    let again = format!("/api/v1/smtp-tests/{}/repeat", typed["id"].as_str().unwrap());
    assert_eq!(first.post(&again, &json!({"node": "n2"}), None).await.0, 409, "its password is nowhere");
}

/// Until a node sends by a route that was made the default on another one, its mail goes to the capture mailbox. A route is
/// added first and made the default then, and a node may have looked in between: what counts is what it would do.
async fn sends_by(node: &Server, name: &str) {
    let sends = async || (node.get("/api/v1/plan?recipient=a@one.test").await.1["route"] == name).then_some(());
    node.until("the route", sends).await;
}

/// The cookie of a session.
async fn sign_in(server: &Server, form: &str) -> String {
    let request = server.request(Method::POST, "/login").header("Origin", server.url(""));
    let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form.to_owned());
    let answer = request.send().await.unwrap();
    answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

async fn open_incidents(server: &Server) -> Vec<Value> {
    items(&server.get("/api/v1/incidents?open=true").await.1).to_vec()
}

fn auths(sink: &Sink) -> usize {
    sink.commands().iter().filter(|(_, line)| line.starts_with("AUTH")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_listed_one_leads_and_a_drained_one_gives_its_work_to_the_others() {
    let nodes = Nodes::start(2, "");
    let list = nodes.all[0].run_json(&["node", "ls"]);
    let seen: Vec<_> = items(&list).iter().map(|one| (one["name"].as_str().unwrap(), one["leads"] == true)).collect();
    assert_eq!(seen, [("n1", true), ("n2", false)], "{list:#}");
    assert!(items(&list).iter().all(|one| one["state"] == "working" && one["version"] == env!("CARGO_PKG_VERSION")));
    assert!(items(&list)[1]["address"].as_str().is_some_and(|at| nodes.all[1].url("/").contains(at)));
    let text = nodes.all[1].run(&["node", "list"]);
    assert!(text.contains("n1") && text.contains("n2 *") && text.contains("leads"), "{text}");

    // Mail that hangs in the hands of the leader, and mail behind it.
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Data, testkit::sink::Act::Hang).times(1));
    nodes.all[0].route_to(sink.port());
    let (first, second) = (&nodes.all[0], &nodes.all[1]);
    sends_by(second, "sink").await;
    assert_eq!(send(first, "a@one.test").await, 202);
    assert!(sink.wait_until(common::PATIENCE, |sink| sink.hanging() == 1).await);
    let drained = first.run_json(&["node", "drain"]);
    assert_eq!((drained["name"].as_str(), drained["state"].as_str()), (Some("n1"), Some("draining")), "{drained:#}");
    assert!(drained["drain"]["who"] == "control socket" && drained["leases"] == 1, "{drained:#}");

    // It takes no mail, and says where the words are in the manual.
    assert_eq!(send(first, "b@one.test").await, 503);
    assert_eq!(first.request(Method::GET, "/readyz").send().await.unwrap().status(), 503);
    let mut client = Client::raw(first.smtp()).await.unwrap();
    assert_eq!(client.reply().await.code, 421);
    assert_eq!(send(second, "c@one.test").await, 202);
    assert!(sink.wait_until(common::PATIENCE, |sink| sink.count() == 1).await, "the other delivers");
    second.until("another leader", async || (nodes.leader() == Some(1)).then_some(())).await;

    // What is past its beginning is finished, then the node is empty.
    sink.release();
    let waited = first.run_json(&["node", "drain", "n1", "--wait", "30"]);
    assert_eq!((waited["state"].as_str(), waited["leases"].as_u64()), (Some("drained"), Some(0)), "{waited:#}");
    assert!(sink.wait_until(common::PATIENCE, |sink| sink.count() == 2).await);
    let missing = second.command(&["node", "drain", "n9"]).output().unwrap();
    assert!(!missing.status.success());

    // Also over a restart, until it is set to work again.
    let mut nodes = nodes;
    nodes.all[0].terminate();
    // Whoever is not there cannot be set to work, and nothing is changed by that.
    let gone = nodes.all[1].command(&["node", "undrain", "n1"]).output().unwrap();
    assert!(!gone.status.success());
    nodes.all[0].restart();
    assert_eq!(send(&nodes.all[0], "d@one.test").await, 503);
    nodes.all[1].run(&["node", "undrain", "n1"]);
    let first = &nodes.all[0];
    first.until("it works again", async || (send(first, "e@one.test").await == 202).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_on_three_nodes_is_one_incident_one_alert_and_one_try_a_node() {
    let nodes = Nodes::start(3, "");
    let users = vec![("u".to_owned(), "right".to_owned())];
    let sink = Sink::with(SinkOptions { users, ..SinkOptions::default() }).await;
    sink.add(Rule::reply(Stage::Auth, "535 5.7.8 the password was changed"));
    let host = format!("127.0.0.1:{}", sink.port());
    let args = ["route", "add", "out", "--smarthost", &host, "--tls", "none", "--auth-without-tls", "--username", "u"];
    let mut command = nodes.all[0].command(&[&args[..], &["--password-from", "env:PW", "--default"]].concat());
    let added = command.env("PW", "wrong").output().unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    for node in &nodes.all {
        sends_by(node, "out").await;
    }
    // It comes over a node that does not lead first: whoever leads has to hear of it.
    let others = nodes.others();
    for n in 0..20 {
        assert_eq!(send(others[n % 2], &format!("r{n}@one.test")).await, 202);
    }
    let all = nodes.all.iter().collect::<Vec<_>>();
    others[0].until("an incident", async || (open_incidents(others[0]).await.len() == 1).then_some(())).await;
    for node in &all {
        let braked = async || {
            let status = node.get("/api/v1/status").await.1;
            let brakes = status["relay"]["brakes"].as_array()?;
            let of_incident = |one: &Value| one["scope"] == "credential:out" && one["incident"].is_string();
            brakes.iter().any(of_incident).then_some(())
        };
        node.until("the brake on each node", braked).await;
    }
    for n in 0..30 {
        assert_eq!(send(all[n % 3], &format!("s{n}@one.test")).await, 202);
    }
    // Whoever has it and however it is: shown if it is not so.
    let ends = Instant::now() + common::PATIENCE;
    loop {
        let counts = nodes.sql("SELECT state, why, count(*) FROM recipient GROUP BY state, why ORDER BY 1, 2");
        if counts.starts_with("2|incident i-") && counts.ends_with("|50") && counts.lines().count() == 1 {
            break;
        }
        assert!(Instant::now() < ends, "not all mail is held: {counts}; {} AUTH", auths(&sink));
        tokio::task::yield_now().await;
    }
    assert!(auths(&sink) <= 3, "{} AUTH", auths(&sink));
    assert_eq!(nodes.sql("SELECT count(*) FROM record WHERE kind = 'incident'"), "1");
    let alerts = async || {
        let count = nodes.sql("SELECT count(*) FROM record WHERE kind = 'alert' AND name LIKE 'incident:%'");
        (count != "0").then_some(count)
    };
    assert_eq!(all[0].until("an alert", alerts).await, "1");
    for node in &all {
        assert_eq!(open_incidents(node).await.len(), 1);
        let alerts = node.get("/api/v1/alerts").await.1;
        let about = items(&alerts).iter().filter(|one| one.to_string().contains("incident:")).count();
        assert_eq!(about, 1, "each node shows it: {alerts:#}");
    }

    // Repaired on one node, it goes on everywhere.
    sink.behave();
    let mut command = nodes.others()[0].command(&["route", "set", "out", "--password-from", "env:PW"]);
    assert!(command.env("PW", "right").output().unwrap().status.success());
    all[0].until("its end", async || open_incidents(all[0]).await.is_empty().then_some(())).await;
    assert!(sink.wait_until(common::PATIENCE, |sink| sink.count() == 50).await, "{}", sink.count());
    assert_eq!(nodes.sql("SELECT count(*) FROM record WHERE kind = 'incident'"), "1");
}

/// An application that is told of events.
async fn application() -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let take = async |State(told): State<Arc<Mutex<Vec<Value>>>>, headers: HeaderMap, body: String| {
        let mut one: Value = serde_json::from_str(&body).unwrap();
        one["id"] = headers["webhook-id"].to_str().unwrap().into();
        told.lock().push(one);
        StatusCode::NO_CONTENT
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(take).with_state(told.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_are_told_once_and_by_another_node_when_the_leader_is_killed() {
    let mut nodes = Nodes::start(3, "");
    let (address, told) = application().await;
    let url = format!("http://{address}/hook");
    nodes.all[2].run(&["webhook", "add", "shop", &url, "--allow-http", "--network", "127.0.0.0/8"]);
    for n in 0..30 {
        assert_eq!(send(&nodes.all[n % 3], &format!("r{n}@one.test")).await, 202);
    }
    let first = &nodes.all[0];
    first.until("all events", async || (told.lock().len() >= 60).then_some(())).await;

    let noted = async || {
        let noted = nodes.sql("SELECT count(*) FROM hook_delivery");
        (noted == "60").then_some(())
    };
    first.until("the note of each", noted).await;

    let leader = nodes.leader().unwrap();
    nodes.all[leader].kill();
    let died = Instant::now();
    let left: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    let one = &nodes.all[left[0]];
    let sent = async {
        for n in 0..10 {
            assert_eq!(send(&nodes.all[left[n % 2]], &format!("s{n}@one.test")).await, 202);
        }
    };
    let led = async {
        one.until("another leads", async || nodes.leader().filter(|now| *now != leader)).await;
        died.elapsed()
    };
    let ((), took) = tokio::join!(sent, led);
    assert!(took < LEAD + Duration::from_secs(5), "{took:?}");
    one.until("the rest", async || (told.lock().len() >= 80).then_some(())).await;
    let mut ids: Vec<String> =
        told.lock().iter().map(|one| one["id"].as_str().unwrap_or_default().to_owned()).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((all, ids.len()), (80, 80), "each event once");
    let list = one.get("/api/v1/nodes").await.1;
    assert_eq!(items(&list).len(), 3, "one that died is still listed");
}

/// A collector of traces: what each span it was sent is called.
async fn collector() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let spans: Arc<Mutex<Vec<String>>> = Arc::default();
    let take = async |State(spans): State<Arc<Mutex<Vec<String>>>>, body: String| {
        let body: Value = serde_json::from_str(&body).unwrap();
        let all = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned().unwrap_or_default();
        spans.lock().extend(all.iter().map(|one| format!("{} {}", one["traceId"], one["spanId"])));
        StatusCode::OK
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(take).with_state(spans.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_span_is_sent_once_whichever_node_leads() {
    let (address, spans) = collector().await;
    let nodes = Nodes::start(2, &format!("[otlp]\nendpoint = \"http://{address}\"\n"));
    let (first, second) = (&nodes.all[0], &nodes.all[1]);
    let told = async || {
        let waiting = nodes.sql("SELECT count(*) FROM recipient WHERE state IN (0, 1)");
        let at = "(SELECT value FROM meta WHERE name = 'cursor.otlp')";
        let all = nodes.sql(&format!("SELECT value = {at} FROM event_number WHERE one = 1"));
        (waiting == "0" && all == "t").then_some(())
    };
    for leader in [0, 1] {
        if leader == 1 {
            first.run(&["node", "drain", "n1"]);
            second.until("another leader", async || (nodes.leader() == Some(1)).then_some(())).await;
        }
        let before = spans.lock().len();
        for n in 0..10 {
            assert_eq!(send(second, &format!("r{leader}{n}@one.test")).await, 202);
        }
        second.until("all is told", async || told().await).await;
        assert!(spans.lock().len() >= before + 10, "node {leader}: {:?}", spans.lock());
    }
    let mut all = spans.lock().clone();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_sessions_and_suppressions_of_one_node_are_those_of_the_others() {
    let nodes = Nodes::start(2, "");
    let (a, b) = (&nodes.all[0], &nodes.all[1]);
    b.run(&["stream", "add", "news"]);
    a.until("the stream", async || (a.get("/api/v1/streams/news").await.0 == 200).then_some(())).await;
    a.run(&["suppression", "add", "gone@one.test", "--reason", "manual"]);
    let stopped = async || {
        let message = json!({"from": "a@shop.test", "to": ["gone@one.test"], "text": "t"});
        let answer = b.post("/api/v1/messages", &message, None).await.1;
        answer.to_string().contains("suppressed").then_some(())
    };
    b.until("the suppression", stopped).await;
    b.run(&["sender", "add", "other", "--allow-from", "x.test", "--no-password"]);
    a.until("the sender", async || (a.get("/api/v1/senders/other").await.0 == 200).then_some(())).await;

    // Whoever has signed in on one node has signed in.
    let mut command = a.command(&["user", "add", "ann", "--role", "operator", "--password-from", "env:NEW"]);
    assert!(command.env("NEW", "correct horse 1").output().unwrap().status.success());
    let form = "user=ann&password=correct+horse+1&code=";
    let cookie = sign_in(a, form).await;
    let me = b.request(Method::GET, "/api/v1/me").header("Cookie", &cookie).send().await.unwrap();
    assert_eq!(me.status(), 200);
    a.run(&["session", "revoke", "--user", "ann"]);
    let over = async || {
        let me = b.request(Method::GET, "/api/v1/me").header("Cookie", &cookie).send().await.unwrap();
        (me.status() == 401).then_some(())
    };
    b.until("the session is over on the other node", over).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_of_neighbouring_versions_work_side_by_side() {
    let mut nodes = Nodes::start(1, "");
    // A later program has been here: it added something.
    nodes.sql(
        "ALTER TABLE member ADD COLUMN later text;
         INSERT INTO migration(name, checksum, takes_away, applied) VALUES ('9000_later', 'x', false, 0)",
    );
    // An earlier one is at work, which knows nothing of the table of nodes.
    nodes.sql(
        "INSERT INTO node(name, started, version, alive_until) VALUES ('earlier', 1, '0.0.1', now() + INTERVAL '1 hour')",
    );
    nodes.add("");
    let list = nodes.all[1].run_json(&["node", "ls"]);
    let seen: Vec<_> =
        items(&list).iter().map(|one| (one["name"].as_str().unwrap(), one["state"].as_str().unwrap())).collect();
    assert_eq!(seen, [("earlier", "working"), ("n1", "working"), ("n2", "working")], "{list:#}");
    assert_eq!(send(&nodes.all[1], "a@one.test").await, 202);
    // One that takes away keeps earlier programs from starting.
    nodes.sql("INSERT INTO migration(name, checksum, takes_away, applied) VALUES ('9001_gone', 'x', true, 0)");
    nodes.all[1].terminate();
    let refused = nodes.all[1].command(&["serve"]).output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("newer version"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_node_of_an_embedded_store_is_listed_leads_and_can_be_drained() {
    let server = Server::start();
    let list = server.run_json(&["node", "ls"]);
    let [one] = items(&list) else { panic!("{list:#}") };
    assert_eq!(
        (one["name"].as_str(), one["leads"].as_bool(), one["this"].as_bool()),
        (Some("main"), Some(true), Some(true))
    );
    assert_eq!(server.run_json(&["node", "drain", "--wait"])["state"], "drained");
    assert_eq!(send(&server, "a@one.test").await, 503);
    // What is done once is done still.
    assert_eq!(server.run_json(&["node", "ls"])["items"][0]["leads"], true);
    server.run(&["node", "undrain"]);
    assert_eq!(send(&server, "a@one.test").await, 202);
}

/// A period of which one ends in some seconds: they are counted from the epoch.
fn period() -> i64 {
    let soon = jiff::Timestamp::now().as_second() + 15;
    (soon..).find_map(|at| (600..40_000).find(|period| at % period == 0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_check_runs_once_and_goes_on_when_the_node_that_leads_is_drained() {
    let nodes = Nodes::start(2, "");
    let sink = Sink::start().await;
    let host = format!("127.0.0.1:{}", sink.port());
    let (first, second) = (&nodes.all[0], &nodes.all[1]);
    first.run(&["schedule", "add", "partner", "--host", &host, "--at", "every 1h", "--jitter", "0s"]);
    let job = "own:partner";
    let path = format!("/api/v1/jobs/{job}");
    let runs = async |node: &Server| node.get(&path).await.1["runs"].as_u64();
    second.until("the check on the other node", async || runs(second).await.map(drop)).await;
    let greeted = || sink.commands().iter().filter(|(_, line)| line.starts_with("EHLO")).count();

    // By hand it runs where it was asked for.
    first.post(&format!("{path}/run"), &json!({}), None).await;
    first.until("its first run", async || (runs(first).await == Some(1)).then_some(())).await;
    let once = greeted();
    assert!(once > 0);
    for (turn, leader) in [(1, first), (2, second)] {
        if turn == 2 {
            first.run(&["node", "drain", "n1"]);
            second.until("another leader", async || (nodes.leader() == Some(1)).then_some(())).await;
        }
        let before = runs(leader).await.unwrap();
        let at = format!("every {}s", period());
        first.run(&["schedule", "set", "partner", "--at", &at]);
        // Changed, it runs at once, and then when it is due; both nodes know of both runs in the end.
        for node in [first, second] {
            let known = async || (runs(node).await? == before + 2).then_some(());
            node.until("what came of it", known).await;
        }
        assert_eq!(greeted(), once * (1 + 2 * turn), "one node runs it");
    }
    let results = first.get("/api/v1/scheduled-checks/own:partner/results").await.1;
    let counted: u64 = items(&results).iter().map(|one| one["runs"].as_u64().unwrap()).sum();
    assert_eq!(counted, 5, "one history: {results:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_queue_processing_holds_for_all_nodes_over_restarts_until_it_is_resumed() {
    let mut nodes = Nodes::start(2, "");
    let sink = Sink::start().await;
    nodes.all[0].route_to(sink.port());
    sends_by(&nodes.all[1], "sink").await;
    let paused = nodes.all[0].run_json(&["jobs", "pause", "claims", "--why", "the provider moves"]);
    assert_eq!(
        (paused["state"].as_str(), paused["paused"]["why"].as_str()),
        (Some("paused"), Some("the provider moves"))
    );
    let state = async |node: &Server| node.get("/api/v1/jobs/claims").await.1["state"].as_str().unwrap().to_owned();
    nodes.all[1].until("the pause", async || (state(&nodes.all[1]).await == "paused").then_some(())).await;
    for node in &nodes.all {
        assert_eq!(send(node, "a@one.test").await, 202);
    }
    nodes.all[1].terminate();
    nodes.all[1].restart();
    assert_eq!(state(&nodes.all[1]).await, "paused");
    assert_eq!(send(&nodes.all[1], "b@one.test").await, 202);
    // A loop that is paused does not run a single time, and what others rely on cannot be paused.
    for refused in [["run", "claims"], ["pause", "settings"]] {
        assert_eq!(nodes.all[0].command(&["jobs", refused[0], refused[1]]).output().unwrap().status.code(), Some(1));
    }
    let (_, queue) = nodes.all[0].get("/api/v1/queue").await;
    let waiting = items(&queue).iter().filter(|one| one["state"] == "waiting" && one["attempts"] == 0).count();
    assert_eq!((waiting, sink.count()), (3, 0), "{queue:#}");
    let resumed = nodes.all[1].run_json(&["jobs", "resume", "claims"]);
    assert_eq!(resumed["state"], "running", "{resumed:#}");
    assert!(sink.wait_until(common::PATIENCE, |sink| sink.count() == 3).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_given_on_two_nodes_at_once_is_given_once() {
    let nodes = Nodes::start(2, "");
    for number in 0..20 {
        let body = json!({"name": format!("desk{number}"), "role": "viewer"});
        let add = async |node: &Server| node.post("/api/v1/keys", &body, None).await.0;
        let mut answers: [u16; 2] = tokio::join!(add(&nodes.all[0]), add(&nodes.all[1])).into();
        answers.sort_unstable();
        assert_eq!(answers, [201, 409], "{body}");
    }
}
