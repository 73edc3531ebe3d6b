//! An operator holds a stream, releases it, cancels the rest; previews change nothing.

mod common;

use common::{PATIENCE, Server};
use serde_json::json;
use testkit::sink::{Act, Rule, Sink, SinkOptions, Stage};

#[tokio::test]
async fn held_mail_waits_until_released_and_cancelled_mail_never_leaves() {
    let server = Server::start();
    let down = Rule::at(Stage::Mail, Act::Reply("451 4.3.0 not now".into()));
    let sink = Sink::with(SinkOptions { rules: vec![down], ..SinkOptions::default() }).await;
    server.route_to(sink.port());
    for (stream, to) in [("news", "a@one.test"), ("news", "b@one.test"), ("reset", "c@two.test")] {
        let message = json!({"from": "app@shop.test", "to": to, "text": "t", "stream": stream});
        assert_eq!(server.post("/api/v1/messages", &message, None).await.0, 202);
    }
    // What is in the hands of a connection may still be delivered; here nothing is.
    server
        .until("each was tried once", async || {
            let queue = server.run_json(&["queue", "ls", "--state", "waiting"]);
            let tried = |one: &&serde_json::Value| one["attempts"] == 1;
            (queue["items"].as_array().unwrap().iter().filter(tried).count() == 3).then_some(())
        })
        .await;
    let listed = server.run_json(&["queue", "ls"]);
    let first = &listed["items"][0];
    assert!(first["finding"]["rule"].is_string() && first["finding"]["codes_only"].is_boolean(), "{first}");
    assert!(server.run(&["queue", "ls"]).contains(first["finding"]["reason"].as_str().unwrap()));
    let shown = server.run(&["queue", "show", first["id"].as_str().unwrap()]);
    assert!(shown.contains("meaning") && shown.contains("first fix"), "{shown}");
    let preview = server.run_json(&["queue", "hold", "--stream", "news", "--dry-run"]);
    assert_eq!((preview["recipients"].as_u64(), preview["dry_run"].as_bool()), (Some(2), Some(true)));
    server.run(&["queue", "hold", "--stream", "news", "--reason", "wrong template"]);
    server
        .until("both are held", async || {
            let held = server.run_json(&["queue", "ls", "--state", "held"]);
            (held["items"].as_array().unwrap().len() == 2).then_some(())
        })
        .await;
    assert!(server.run(&["queue", "ls", "--state", "held"]).contains("wrong template"));
    assert_eq!(server.run(&["queue", "cancel", "--domain", "two.test"]), "1 recipient canceled\n");
    sink.behave();
    server.run(&["queue", "release", "--stream", "news"]);
    let received = sink.wait_for(2, PATIENCE).await;
    let to: Vec<_> = received.iter().flat_map(|message| message.to.clone()).collect();
    assert!(
        to.iter().all(|to| to.ends_with("@one.test")),
        "{to:?}\n{}",
        server.run(&["queue", "ls", "--state", "canceled"])
    );
    server
        .until("the queue is empty", async || {
            let left = server.run_json(&["queue", "ls"]);
            left["items"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
    assert_eq!(sink.count(), 2);
}

#[tokio::test]
async fn an_operation_without_a_condition_is_refused() {
    let server = Server::start();
    let output = server.command(&["queue", "cancel"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
