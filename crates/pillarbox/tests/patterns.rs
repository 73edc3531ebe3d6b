//! A server that refuses mail of a route: the patterns name the cause, its share, and the change of the route before it; so does an
//! incident.

mod common;

use common::Server;
use serde_json::json;
use testkit::sink::{Rule, Sink, SinkOptions, Stage};

#[tokio::test]
async fn what_fails_is_shown_by_cause_with_what_changed_before() {
    let server = Server::start();
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Rcpt, "451 4.7.1 Greylisted, try again later"));
    server.route_to(sink.port());
    let empty = server.run_json(&["patterns"]);
    assert_eq!(empty["failures"], 0, "{empty}");
    for n in 0..8 {
        let message = json!({"from": "app@shop.test", "to": [format!("p{n}@one.test")], "text": "t"});
        let (status, answer) = server.post("/api/v1/messages", &message, None).await;
        assert_eq!(status, 202, "{answer}");
    }
    let found = server
        .until("eight failures", async || {
            let found = server.run_json(&["patterns", "--days", "7"]);
            (found["failures"] == 8).then_some(found)
        })
        .await;
    let cause = &found["causes"][0];
    assert_eq!(
        (cause["percent"].as_f64(), cause["failures"].as_u64(), cause["last"].as_u64()),
        (Some(100.0), Some(8), Some(0))
    );
    assert_eq!(cause["reason"], "greylisted", "{cause}");
    assert_eq!(cause["routes"][0]["name"], "sink");
    assert_eq!(found["stages"][0]["name"], "recipient");
    assert!(cause["began"].is_string(), "it was not there two days ago: {cause}");
    let changes = cause["changes_before"].as_array().unwrap();
    let first = changes[0].as_str().unwrap();
    assert!(first.contains("route sink") && first.contains("add"), "{changes:?}");

    let text = server.run(&["patterns"]);
    assert!(text.contains("100.0 %") && text.contains("changed before"), "{text}");
    let wrong = server.command(&["patterns", "--days", "0"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[tokio::test]
async fn an_incident_of_a_rejected_credential_names_the_change_of_its_route() {
    let server = Server::start();
    let users = vec![("app".to_owned(), "the right one".to_owned())];
    let sink = Sink::with(SinkOptions { users, ..SinkOptions::default() }).await;
    let host = format!("127.0.0.1:{}", sink.port());
    std::fs::write(server.dir.path().join("secret"), "canary-password").unwrap();
    server.run(&[
        "route",
        "add",
        "out",
        "--smarthost",
        &host,
        "--tls",
        "none",
        "--username",
        "app",
        "--password-from",
        "file:secret",
        "--auth-without-tls",
        "--default",
    ]);
    let message = json!({"from": "app@shop.test", "to": ["ann@one.test"], "text": "t"});
    let (status, answer) = server.post("/api/v1/messages", &message, None).await;
    assert_eq!(status, 202, "{answer}");
    let shown = server
        .until("the incident", async || {
            let list = server.command(&["incident", "list", "--json"]).output().unwrap();
            let list: serde_json::Value = serde_json::from_slice(&list.stdout).ok()?;
            let id = list["items"][0]["id"].as_str()?.to_owned();
            let shown = server.command(&["incident", "show", &id, "--json"]).output().unwrap();
            serde_json::from_slice::<serde_json::Value>(&shown.stdout).ok()
        })
        .await;
    let changes = shown["changes_before"].as_array().unwrap();
    let first = changes.first().and_then(|change| change.as_str()).unwrap_or_default();
    assert!(first.contains("route out"), "{shown:#}");
    assert!(!shown.to_string().contains("canary"), "{shown:#}");
}
