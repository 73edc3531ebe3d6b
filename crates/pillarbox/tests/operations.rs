//! What the pages for operators ask of the API: recipients picked one by one, the oldest of each part of the queue and why it
//! is there, one cause with its ordered fixes, and what became of mail over time, also after a restart.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{PATIENCE, Server};
use serde_json::{Value, json};
use testkit::sink::{Act, Rule, Sink, SinkOptions, Stage};

async fn submit(server: &Server, to: &str) {
    let message = json!({"from": "app@shop.test", "to": to, "text": "t"});
    assert_eq!(server.post("/api/v1/messages", &message, None).await.0, 202);
}

/// From here on the server is asked by somebody who runs it, not by a sender.
fn operate(server: &mut Server) {
    let made = server.run_json(&["key", "add", "desk", "--role", "operator", "--rate", "60000"]);
    server.key = made["key"].as_str().unwrap().to_owned();
}

#[tokio::test]
async fn recipients_are_picked_one_by_one_and_the_queue_says_why_they_wait() {
    let mut server = Server::start();
    let down = Rule::at(Stage::Rcpt, Act::Reply("450 4.2.1 mailbox is busy, try later".into()));
    let sink = Sink::with(SinkOptions { rules: vec![down], ..SinkOptions::default() }).await;
    server.route_to(sink.port());
    for to in ["a@one.test", "b@one.test", "c@two.test"] {
        submit(&server, to).await;
    }
    operate(&mut server);
    let items: Vec<Value> = server
        .until("each was tried once", async || {
            let queue = server.run_json(&["queue", "ls", "--state", "waiting"]);
            let items = queue["items"].as_array().unwrap().clone();
            (items.iter().filter(|one| one["attempts"] == 1).count() == 3).then_some(items)
        })
        .await;

    let (_, counts) = server.get("/api/v1/queue/counts?by=domain&oldest=true").await;
    let one = &counts["items"][0];
    assert_eq!((one["group"].as_str(), one["pending"].as_u64()), (Some("one.test"), Some(2)));
    assert_eq!(one["oldest"], items[0]["accepted"], "the oldest message of the group");
    assert!(one["why"].as_str().unwrap().contains("450 4.2.1"), "{one}");
    let (_, plain) = server.get("/api/v1/queue/counts?by=domain").await;
    assert!(plain["items"][0].get("oldest").is_none(), "only where it is asked for: {plain}");

    let rule = items[0]["finding"]["rule"].as_str().unwrap();
    let (_, cause) = server.get(&format!("/api/v1/queue/causes/{rule}")).await;
    assert_eq!(cause["cause"]["pending"], 3);
    assert!(!cause["fixes"].as_array().unwrap().is_empty(), "{cause}");
    assert_eq!(cause["domains"][0], json!({"name": "one.test", "recipients": 2}));
    assert!(cause["example"].as_str().unwrap().contains("450 4.2.1"));
    assert_eq!(server.get("/api/v1/queue/causes/nothing-of-this-name").await.0, 404);

    let picked = json!({"ids": [items[0]["id"], items[2]["id"]], "dry_run": true, "reason": "wrong list"});
    let (status, preview) = server.post("/api/v1/queue/hold", &picked, None).await;
    assert_eq!((status, preview["recipients"].as_u64()), (200, Some(2)), "{preview}");
    assert_eq!(preview["examples"], json!(["a@one.test", "c@two.test"]));
    let held = async || server.run_json(&["queue", "ls", "--state", "held"])["items"].as_array().unwrap().clone();
    assert!(held().await.is_empty(), "a preview changes nothing");
    let picked = json!({"ids": [items[0]["id"], items[2]["id"]], "reason": "wrong list"});
    let (_, done) = server.post("/api/v1/queue/hold", &picked, None).await;
    assert_eq!(done["recipients"], 2);
    let addresses: Vec<Value> = held().await.iter().map(|one| one["address"].clone()).collect();
    assert_eq!(addresses, [json!("a@one.test"), json!("c@two.test")]);

    for (body, pointer) in [
        (json!({}), "/selector"),
        (json!({"ids": ["nobody"]}), "/ids"),
        (json!({"ids": [items[0]["id"]], "selector": {"all": true}}), "/ids"),
    ] {
        let (status, problem) = server.post("/api/v1/queue/cancel", &body, None).await;
        assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some(pointer)), "{body}");
    }
}

#[tokio::test]
async fn the_queue_by_destination_says_how_many_there_are_and_shows_more_to_who_asks() {
    let mut server = Server::start();
    let login = format!("token={}", server.run(&["login"]).trim());
    let opened = server
        .request(reqwest::Method::POST, "/login")
        .header("Origin", server.url(""))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(login)
        .send()
        .await
        .unwrap();
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    server.run(&["stream", "pause", "default", "--why", "wrong template"]);
    let to: Vec<String> = (0..120).map(|n| format!("a@d{n}.test")).collect();
    let message = json!({"from": "app@shop.test", "to": to, "text": "t"});
    assert_eq!(server.post("/api/v1/messages", &message, None).await.0, 202);
    operate(&mut server);
    server
        .until("all are held", async || {
            let (_, counts) = server.get("/api/v1/queue/counts?by=domain&limit=1000").await;
            (counts["items"].as_array()?.len() == 120).then_some(())
        })
        .await;
    for (query, caption, rows, link, blank) in [
        ("by=domain", "The first 100 of 120, most waiting first", 100, true, true),
        ("by=domain&limit=1000", "All 120, most waiting first", 120, false, true),
        ("by=domain&limit=20", "The first 20 of 120, most waiting first", 20, true, false),
    ] {
        let path = format!("/admin/processing-center?{query}");
        let page = server.request(reqwest::Method::GET, &path).header("Cookie", &cookie).send().await.unwrap();
        let html = page.text().await.unwrap();
        assert!(html.contains(caption), "{query}: {html}");
        assert_eq!(html.matches("by=recipients&amp;domain=").count(), rows, "{query}");
        assert_eq!(html.contains("by=domain&amp;limit=1000\">Show all 120"), link, "{query}: {html}");
        assert_eq!(html.contains("not looked up"), blank, "{query}");
    }
}

#[tokio::test]
async fn what_became_of_mail_is_counted_and_outlives_a_restart() {
    let mut server = Server::start();
    let refuse = Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 no such user".into())).with_text("gone@one.test");
    let sink = Sink::with(SinkOptions { rules: vec![refuse], ..SinkOptions::default() }).await;
    server.route_to(sink.port());
    for to in ["a@one.test", "b@one.test", "gone@one.test"] {
        submit(&server, to).await;
    }
    operate(&mut server);
    sink.wait_for(2, PATIENCE).await;
    let counted = async |server: &Server| {
        let (status, series) = server.get("/api/v1/series?over=hour").await;
        assert_eq!(status, 200, "{series}");
        let total = &series["total"];
        let sums = ["accepted", "delivered", "failed"].map(|name| total[name].as_u64().unwrap());
        (sums == [3, 2, 1]).then_some(series)
    };
    let series = server.until("all three are counted", async || counted(&server).await).await;
    assert_eq!((series["step_s"].as_i64(), series["points"].as_array().unwrap().len()), (Some(60), 60));
    assert!(series["total"]["p50_ms"].as_u64() <= series["total"]["p95_ms"].as_u64(), "{}", series["total"]);
    assert_eq!(
        (series["causes"][0]["times"].as_u64(), series["causes"][0]["percent"].as_f64()),
        (Some(1), Some(100.0))
    );

    // What was not written down yet is when the server stops.
    server.terminate();
    server.restart();
    let again = server.until("they are still counted", async || counted(&server).await).await;
    assert_eq!(again["causes"], series["causes"]);
    let (_, week) = server.get("/api/v1/series?over=week").await;
    assert_eq!((week["step_s"].as_i64(), week["total"]["accepted"].as_u64()), (Some(3_600), Some(3)));
    assert_eq!(server.get("/api/v1/series?over=year").await.0, 400);
}
