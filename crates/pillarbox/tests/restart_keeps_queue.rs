//! What was accepted is there after a stop and after a kill, and leaves when the next hop is there again.

mod common;

use common::{PATIENCE, Server};
use serde_json::json;
use testkit::sink::{Act, Rule, Sink, SinkOptions, Stage};

#[tokio::test]
async fn a_restart_keeps_the_queue_and_delivers_it_once() {
    let mut server = Server::start();
    let down = Rule::at(Stage::Mail, Act::Reply("451 4.3.0 not now".into()));
    let sink = Sink::with(SinkOptions { rules: vec![down], ..SinkOptions::default() }).await;
    server.route_to(sink.port());
    for n in 0..3 {
        let message =
            json!({"from": "app@shop.test", "to": format!("u{n}@one.test"), "subject": n.to_string(), "text": "t"});
        assert_eq!(server.post("/api/v1/messages", &message, None).await.0, 202);
    }
    server.kill();
    server.restart();
    let page = server.run_json(&["queue", "ls"]);
    assert_eq!(page["items"].as_array().unwrap().len(), 3, "{page}");
    server.terminate();
    let offline = server.run_json(&["queue", "ls"]);
    assert_eq!(offline["items"].as_array().unwrap().len(), 3, "without a server the store itself is asked");

    sink.behave();
    server.restart();
    server.run(&["queue", "retry", "--all"]);
    let received = sink.wait_for(3, PATIENCE).await;
    let mut to: Vec<_> = received.iter().flat_map(|message| message.to.clone()).collect();
    to.sort();
    assert_eq!(to, ["u0@one.test", "u1@one.test", "u2@one.test"]);
}
