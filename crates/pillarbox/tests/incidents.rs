//! An incident from the first failure to its end, as people and programs see it: API, command line, over a restart.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Server;
use serde_json::{Value, json};
use testkit::sink::Sink;

/// A port where nothing listens.
fn dead_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server whose mail goes nowhere, with one message, and the incident that tells of it.
async fn broken() -> (Server, String) {
    let server = Server::with("incidents.recipients = 1");
    server.route_to(dead_port());
    server.run(&["sender", "set", "app", "--admin"]);
    let mail = json!({ "from": "app@shop.test", "to": ["r@one.test"], "subject": "x", "text": "y" });
    let (status, answer) = server.post("/api/v1/messages", &mail, None).await;
    assert_eq!(status, 202, "{answer}");
    let id = server
        .until("an incident", async || {
            let page = server.get("/api/v1/incidents?open=true").await.1;
            page["items"][0]["id"].as_str().map(str::to_owned)
        })
        .await;
    (server, id)
}

async fn shown(server: &Server, id: &str) -> Value {
    server.get(&format!("/api/v1/incidents/{id}")).await.1
}

fn events(one: &Value) -> Vec<&str> {
    one["history"].as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect()
}

/// What is told of an incident.
async fn alert_of(server: &Server, id: &str) -> Option<Value> {
    let page = server.get("/api/v1/alerts?all=true").await.1;
    let key = format!("incident:{id}");
    page["items"].as_array().unwrap().iter().find(|one| one["key"] == key.as_str()).cloned()
}

/// Runs a command; gives its exit code and what it printed.
fn code(server: &Server, args: &[&str]) -> (i32, String) {
    let output = server.command(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text.into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_says_what_to_do_and_closes_when_the_route_is_repaired() {
    let (mut server, id) = broken().await;
    let one = server
        .until("its diagnosis", async || {
            let one = shown(&server, &id).await;
            // Its history is written right after it.
            (one["diagnosis"].is_object() && events(&one).len() > 1).then_some(one)
        })
        .await;
    assert_eq!(
        (&one["incident"]["scope"], &one["incident"]["reason"]),
        (&json!("route:sink"), &json!("connection_refused")),
        "{one:#}"
    );
    assert_eq!(
        (one["incident"]["state"].as_str(), one["incident"]["severity"].as_str()),
        (Some("open"), Some("critical"))
    );
    assert_eq!(
        (&one["diagnosis"]["healthy"], &one["diagnosis"]["reason"]),
        (&json!(false), &json!("connection_refused"))
    );
    assert!(one["fixes"][0]["text"].as_str().is_some_and(|text| !text.is_empty()), "{one:#}");
    assert_eq!(&events(&one)[..2], ["opened", "diagnosed"]);
    assert!(server.get("/api/v1/status").await.1["incidents"][0]["id"] == id.as_str());
    assert!(code(&server, &["status"]).1.contains(&id));

    server.terminate();
    server.restart();
    assert_eq!(shown(&server, &id).await["incident"]["state"], "open");
    let sink = Sink::start().await;
    server.run(&["route", "set", "sink", "--smarthost", &format!("127.0.0.1:{}", sink.port())]);
    let one = server
        .until("its end", async || {
            let one = shown(&server, &id).await;
            (one["incident"]["state"] == "closed").then_some(one)
        })
        .await;
    assert_eq!(one["incident"]["closed_how"], "setting", "{one:#}");
    assert!(
        one["incident"]["closed_what"].as_str().unwrap().contains("route sink")
            || one["incident"]["closed_what"].as_str().unwrap().contains("Route sink")
    );
    server.until("the mail", async || (sink.count() > 0).then_some(())).await;
    assert_eq!(sink.count(), 1);
    assert_eq!(code(&server, &["incident", "show", &id]).0, 0);
    assert_eq!(code(&server, &["incident", "list"]), (0, "No incident.\n".into()));
    assert_eq!(server.get("/api/v1/incidents").await.1["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_acknowledge_snooze_note_and_close() {
    let (server, id) = broken().await;
    let (found, list) = code(&server, &["incident", "list"]);
    assert!(found == 1 && list.contains(&id) && list.contains("route:sink"), "{list}");
    let (found, text) = code(&server, &["incident", "show", &id]);
    assert!(found == 1 && text.contains("What to do") && text.contains("History"), "{text}");
    assert!(code(&server, &["incident", "probe", &id]).1.contains("still fails"));
    server.until("its alert", async || alert_of(&server, &id).await).await;
    assert!(server.run(&["incident", "ack", &id, "--note", "on it"]).contains("acknowledged"));
    let alert = alert_of(&server, &id).await.expect("its alert");
    assert_eq!((&alert["state"], &alert["note"]), (&json!("acknowledged"), &json!("on it")), "nobody else is told");
    for (until, why) in
        [("tomorrow", "RFC 3339"), ("2001-01-01T00:00:00Z", "30 days"), ("2099-01-01T00:00:00Z", "30 days")]
    {
        let (found, text) = code(&server, &["incident", "snooze", &id, "--until", until]);
        assert!(found == 2 && text.contains(why), "{until}: {found} {text}");
    }
    let until = json!({ "until": "2001-01-01T00:00:00Z" });
    assert_eq!(server.post(&format!("/api/v1/incidents/{id}/snooze"), &until, None).await.0, 422);
    server.run(&["incident", "note", &id, "ticket 4711"]);
    let closed = server.run_json(&["incident", "close", &id, "--note", "not needed any more"]);
    assert_eq!((&closed["incident"]["state"], &closed["incident"]["closed_how"]), (&json!("closed"), &json!("manual")));
    let noted: Vec<_> =
        closed["history"].as_array().unwrap().iter().map(|entry| entry["text"].as_str().unwrap()).collect();
    for text in ["on it", "ticket 4711", "not needed any more"] {
        assert!(noted.contains(&text), "{noted:?}");
    }
    let (status, answer) = server.post(&format!("/api/v1/incidents/{id}/acknowledge"), &json!({}), None).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(server.get("/api/v1/incidents/i-9999").await.0, 404);
    assert_eq!(server.get("/api/v1/incidents?scope=planet:mars").await.0, 422);
    // It was not over: there may be another one by now.
    let found = server.get("/api/v1/incidents?scope=route:sink&reason=connection_refused").await.1;
    let found = found["items"].as_array().unwrap();
    assert!(found.iter().any(|one| one["id"] == id.as_str()), "{found:#?}");
    assert!(
        found.iter().all(|one| one["scope"] == "route:sink" && one["reason"] == "connection_refused"),
        "{found:#?}"
    );
    assert_eq!(server.get("/api/v1/incidents?scope=route:other").await.1["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_closed_while_the_server_stands_is_over_when_it_starts() {
    let (mut server, id) = broken().await;
    server.until("its alert", async || alert_of(&server, &id).await.filter(|alert| alert["state"] == "raised")).await;
    server.terminate();
    server.run(&["incident", "close", &id, "--note", "the other side is repaired"]);
    server.restart();
    let alert = server
        .until("its end", async || alert_of(&server, &id).await.filter(|alert| alert["state"] == "resolved"))
        .await;
    assert_eq!(alert["resolution"], "the other side is repaired", "{alert:#}");
}
