//! A client that is not sure sends again with the same key: one message, the same answer; another body is a conflict.

mod common;

use common::Server;
use serde_json::json;

#[tokio::test]
async fn the_same_key_and_body_is_one_message() {
    let mut server = Server::start();
    let message = json!({"from": "app@shop.test", "to": ["ann@one.test"], "text": "t"});
    let (status, first) = server.post("/api/v1/messages", &message, Some("order-7")).await;
    assert_eq!(status, 202);
    let (status, again) = server.post("/api/v1/messages", &message, Some("order-7")).await;
    assert_eq!((status, &again), (202, &first));
    server.terminate();
    server.restart();
    let (status, again) = server.post("/api/v1/messages", &message, Some("order-7")).await;
    assert_eq!((status, &again), (202, &first), "also after a restart");
    let other = json!({"from": "app@shop.test", "to": ["ann@one.test"], "text": "other"});
    let (status, problem) = server.post("/api/v1/messages", &other, Some("order-7")).await;
    assert_eq!(status, 409, "{problem}");
    let captured = server.run_json(&["capture", "ls"]);
    assert_eq!(captured["items"].as_array().unwrap().len(), 1);
}
