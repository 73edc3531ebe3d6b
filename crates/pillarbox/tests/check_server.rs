//! Checks that a server makes: by its API, for its routes, and for somebody elsewhere who compares.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
mod schema;

use common::{PATIENCE, Server, repository_file};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::sink::{Act, Rule, Sink, SinkOptions, Stage};

fn check_schema() -> Value {
    serde_json::from_str(&repository_file("docs/schemas/check-1.json")).unwrap()
}

/// Makes the sender of the first start an administrator.
fn promote(server: &Server) {
    server.run(&["sender", "set", "app", "--admin"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_has_a_server_checked_from_there() {
    let server = Server::start();
    let sink = Sink::start().await;
    let body = json!({ "target": sink.address().to_string(), "tls": "none", "from": "", "to": ["a@b.test"] });
    let anonymous = server.request(Method::POST, "/api/v1/checks").json(&body).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    promote(&server);
    let (status, report) = server.post("/api/v1/checks", &body, None).await;
    assert_eq!((status, report["healthy"].as_bool()), (200, Some(true)), "{report:#}");
    assert_eq!(schema::faults(&check_schema(), &report), [""; 0]);
    assert_eq!(sink.count(), 0);
    let (status, problem) = server.post("/api/v1/checks", &json!({ "target": "a b" }), None).await;
    assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some("/target")), "{problem}");
    let (status, _) = server.post("/api/v1/checks", &json!({ "target": "a", "surprise": 1 }), None).await;
    assert_eq!(status, 422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_administrator_may_not_check() {
    let server = Server::start();
    server.run(&["sender", "set", "app", "--admin=false"]);
    let (status, problem) = server.post("/api/v1/checks", &json!({ "target": "mail.test" }), None).await;
    assert_eq!(status, 403, "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_checks_run_at_once_and_the_fifth_waits_outside() {
    let server = Server::start();
    promote(&server);
    let sink =
        Sink::with(SinkOptions { rules: vec![Rule::at(Stage::Connect, Act::Hang)], ..SinkOptions::default() }).await;
    let body = json!({ "target": sink.address().to_string(), "tls": "none", "timeout_s": 60, "no_explore": true });
    let check = || server.post("/api/v1/checks", &body, None);
    let fifth = async {
        assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 4).await);
        let (status, problem) = check().await;
        sink.behave();
        sink.release();
        (status, problem)
    };
    let (a, b, c, d, (status, problem)) = tokio::join!(check(), check(), check(), check(), fifth);
    assert_eq!(status, 429, "{problem}");
    for (status, report) in [a, b, c, d] {
        assert_eq!((status, report["healthy"].as_bool()), (200, Some(true)), "{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_checked_with_its_own_password_which_stays_where_it_is() {
    let mut server = Server::start();
    let users = vec![("shop".to_owned(), "Rk9-quokka-77".to_owned())];
    let sink = Sink::with(SinkOptions { users, ..SinkOptions::default() }).await;
    let host = format!("127.0.0.1:{}", sink.port());
    std::fs::write(server.dir.path().join("secret"), "Rk9-quokka-77\n").unwrap();
    let add = ["route", "add", "provider", "--smarthost", &host, "--tls", "none", "--username", "shop"];
    server.run(&[&add[..], &["--password-from", "file:secret", "--auth-without-tls"]].concat());
    let check = ["check", "--route", "provider", "--from", "a@b.test", "--to", "c@d.test"];
    let shown = server.run(&[&check[..], &["--transcript", "--commands"]].concat());
    assert!(shown.contains("ok   auth") && !shown.contains("quokka"), "{shown}");
    let report = server.run_json(&check);
    assert_eq!(report["healthy"], true);
    assert_eq!(schema::faults(&check_schema(), &report), [""; 0]);

    // Its password cannot be led to another host.
    promote(&server);
    for body in [
        json!({ "route": "provider", "target": "evil.test" }),
        json!({ "route": "provider", "connect_to": "127.0.0.9:25" }),
        json!({ "route": "provider", "resolver": "127.0.0.9" }),
    ] {
        let (status, problem) = server.post("/api/v1/checks", &body, None).await;
        assert_eq!(status, 422, "{problem}");
    }
    let output = server.command(&["check", "--route", "capture"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // Without a server the data is opened here.
    server.terminate();
    assert_eq!(server.run_json(&check)["healthy"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_check_from_two_places_says_what_differs() {
    let (here, there) = (Server::start(), Server::start());
    promote(&there);
    let config = std::fs::read_to_string(here.config()).unwrap().replace("relay.test", "here.test");
    std::fs::write(here.config(), config).unwrap();
    std::fs::write(here.dir.path().join("key"), &there.key).unwrap();
    let sink = Sink::start().await;
    let (address, url) = (sink.address().to_string(), there.url(""));
    let check = ["check", &address, "--tls", "none", "--no-explore", "--via", &url, "--via-key-file", "key"];
    let shown = here.run(&check);
    assert!(shown.contains("It works from both places"), "{shown}");
    // Which name asks decides: the other one is let in.
    sink.add(Rule::reply(Stage::Ehlo, "550 5.7.1 not from you").with_text("here.test"));
    let output = here.command(&check).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains(&format!("It works from {url}; from here the server is reached")), "{shown}");
    let output = here.command(&[&check[..], &["--json"]].concat()).output().unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((all["here"]["healthy"].as_bool(), all["there"]["healthy"].as_bool()), (Some(false), Some(true)));
    assert_eq!(all["finding"]["sign"], "compare_refused_only_here", "{all:#}");
    // Its own server is another place as well: it has the old name.
    let shown = String::from_utf8(
        here.command(&["check", &address, "--tls", "none", "--no-explore", "--via", "server"]).output().unwrap().stdout,
    )
    .unwrap();
    assert!(shown.contains("It works from server"), "{shown}");
    // A key that is none: the other place could not be asked.
    std::fs::write(here.dir.path().join("key"), "wrong").unwrap();
    let output = here.command(&check).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}
