//! Events as they happen, by server-sent events: filtered, in order, and on from where one left.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::{PATIENCE, Server};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use testkit::sink::Sink;

/// A stream that is read event by event.
struct Events {
    response: Response,
    text: String,
}

/// Name, data, id of an event.
type Event = (String, Value, String);

impl Events {
    async fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        let mut request = server.request(Method::GET, &format!("/api/v1/events/live{query}")).bearer_auth(&server.key);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    async fn next(&mut self) -> Event {
        let read = async {
            loop {
                if let Some((one, rest)) = self.text.split_once("\n\n") {
                    let field = |name: &str| {
                        let line = one.lines().find_map(|line| line.strip_prefix(name));
                        line.map(|value| value.trim_start().to_owned()).unwrap_or_default()
                    };
                    let data = serde_json::from_str(&field("data:")).unwrap_or_default();
                    let event = (field("event:"), data, field("id:"));
                    self.text = rest.to_owned();
                    if !event.0.is_empty() || !event.2.is_empty() {
                        return event;
                    }
                    continue;
                }
                let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an event comes")
    }

    /// The next event of this kind, and the id that comes behind it.
    async fn until(&mut self, kind: &str) -> (Value, String) {
        loop {
            let (name, data, _) = self.next().await;
            if name != kind {
                continue;
            }
            loop {
                let (_, _, id) = self.next().await;
                if !id.is_empty() {
                    return (data, id);
                }
            }
        }
    }
}

async fn send(server: &Server, to: &str) {
    let message = json!({"from": "a@shop.test", "to": to, "subject": "s", "text": "t"});
    let (status, answer) = server.post("/api/v1/messages", &message, None).await;
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test]
async fn what_happens_is_told_at_once_and_again_from_where_one_left() {
    let server = Server::start();
    let sink = Sink::start().await;
    server.route_to(sink.port());
    send(&server, "before@one.test").await;

    let mut all = Events::open(&server, "", None).await;
    let mut delivered = Events::open(&server, "?kind=delivered&route=sink", None).await;
    send(&server, "ann@one.test").await;
    let (accepted, id) = all.until("accepted").await;
    assert!(accepted["address"].as_str().unwrap().ends_with("@one.test"), "{accepted}");
    let mut seen = delivered.next().await;
    while seen.1["address"] != "ann@one.test" {
        assert!(seen.0 == "delivered" || seen.0.is_empty(), "only what was asked for: {seen:?}");
        seen = delivered.next().await;
    }
    assert_eq!((seen.1["route"].as_str(), seen.1["sender"].as_str()), (Some("sink"), Some("app")));

    // Somebody was away meanwhile.
    drop(all);
    send(&server, "bob@one.test").await;
    let mut again = Events::open(&server, "?kind=accepted", Some(&id)).await;
    let (missed, _) = again.until("accepted").await;
    assert_eq!(missed["address"], "bob@one.test");

    let mut from_the_start = Events::open(&server, "?kind=accepted&after=0", None).await;
    assert_eq!(from_the_start.until("accepted").await.0["event"], "accepted");
    for query in ["?kind=nonsense", "?after=-1", "?after=x", "?colour=red"] {
        let (status, problem) = server.get(&format!("/api/v1/events/live{query}")).await;
        assert!((400..=422).contains(&status), "{query}: {status} {problem}");
    }
}
