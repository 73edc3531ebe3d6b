//! Batches over HTTP: whole or not at all, every bad row named, each row one message, and a kill at any moment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;

use common::{PATIENCE, Server};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::sink::{Act, Rule, Sink, SinkOptions, Stage};

fn header(more: &Value) -> Value {
    let mut header = json!({
        "template": {"subject": "Hello {{ name }}", "text": "Dear {{ name }},\n", "html": "<p>Dear {{ name }}"},
        "from": "Shop <app@shop.test>",
    });
    header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    header
}

fn row(n: u32) -> Value {
    json!({"email": format!("u{n}@d{}.test", n % 9), "name": format!("N{n}")})
}

fn lines(header: &Value, rows: impl IntoIterator<Item = Value>) -> String {
    std::iter::once(header.clone()).chain(rows).map(|line| line.to_string() + "\n").collect()
}

async fn post(server: &Server, path: &str, body: String, key: Option<&str>) -> (u16, Value) {
    let mut request = server.request(Method::POST, path).bearer_auth(&server.key).body(body);
    request = request.header("content-type", "application/x-ndjson");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

async fn submit(server: &Server, body: String) -> String {
    let (status, answer) = post(server, "/api/v1/batches", body, None).await;
    assert_eq!(status, 202, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

async fn becomes(server: &Server, id: &str, what: impl Fn(&Value) -> bool) -> Value {
    server
        .until("the batch's state", async || {
            let (status, batch) = server.get(&format!("/api/v1/batches/{id}")).await;
            assert_eq!(status, 200, "{batch}");
            what(&batch).then_some(batch)
        })
        .await
}

fn arrived(sink: &Sink) -> HashMap<String, u32> {
    let mut arrived = HashMap::new();
    for message in sink.received() {
        *arrived.entry(message.to.concat()).or_default() += 1;
    }
    arrived
}

#[tokio::test]
async fn a_batch_is_merged_sent_and_shown_row_by_row() {
    let server = Server::start();
    let sink = Sink::with(SinkOptions::default()).await;
    server.route_to(sink.port());
    let more = json!({"name": "October", "tags": ["oct"], "stream": "news"});
    let mut rows: Vec<Value> = (0..40).map(row).collect();
    rows[7]["name"] = "<b>Ann & Bob".into();
    let id = submit(&server, lines(&header(&more), rows)).await;
    let batch = becomes(&server, &id, |batch| batch["rows"]["delivered"] == 40 && batch["state"] == "finished").await;
    assert_eq!(
        (&batch["total"], &batch["made"], &batch["name"]),
        (&json!(40), &json!(40), &json!("October")),
        "{batch}"
    );
    assert_eq!(arrived(&sink).len(), 40);
    let merged = sink.received().into_iter().find(|message| message.to == ["u7@d7.test"]).unwrap();
    let text = merged.text();
    assert!(text.contains("Dear <b>Ann & Bob,") && text.contains("<p>Dear &lt;b&gt;Ann &amp; Bob"), "{text}");
    let (_, page) = server.get(&format!("/api/v1/batches/{id}/rows?state=delivered&after=7&limit=1")).await;
    let shown = &page["items"][0];
    assert_eq!((&shown["row"], &shown["email"], &page["next"]), (&json!(8), &json!("u7@d7.test"), &json!("8")));
    let (_, message) = server.get(&format!("/api/v1/messages/{}", shown["message"].as_str().unwrap())).await;
    assert_eq!(message["batch"], json!({"id": id, "row": 8}));
    assert_eq!((&message["stream"], &message["tags"]), (&json!("news"), &json!(["oct"])));
    let (_, none) = server.get(&format!("/api/v1/batches/{id}/rows?state=failed")).await;
    assert_eq!(none["items"], json!([]));
    assert_eq!(server.run_json(&["batch", "ls"])["items"][0]["id"], json!(id));
    assert!(server.run(&["batch", "show", &id]).contains("delivered  40"));
    assert!(server.run(&["batch", "rows", &id, "--limit", "2"]).contains("More: --after 2"));
}

#[tokio::test]
async fn one_bad_row_and_nothing_is_accepted_but_every_bad_row_is_named() {
    let server = Server::start();
    let mut rows: Vec<Value> = (0..1_500).map(row).collect();
    rows[2] = json!({"email": "u2@d.test"});
    rows[600]["email"] = "not an address".into();
    rows[1_400]["name"] = "a\r\nBcc: x@y.test".into();
    let body = lines(&header(&json!({})), rows).replacen("{\"email\":\"u9@", "{\"email:\"u9@", 1);
    let (status, problem) = post(&server, "/api/v1/batches", body, None).await;
    assert_eq!((status, &problem["bad_rows"]), (422, &json!(4)), "{problem}");
    let named: Vec<(u64, &str)> = problem["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["field"].as_str().unwrap()))
        .collect();
    assert_eq!(named, [(4, "name"), (11, ""), (602, "email"), (1402, "subject")]);
    let (_, all) = server.get("/api/v1/batches").await;
    assert_eq!(all["items"], json!([]));
    let bad = (0..3_000).map(|_| json!({"email": "x"}));
    let (status, problem) = post(&server, "/api/v1/batches", lines(&header(&json!({})), bad), None).await;
    assert_eq!((status, &problem["bad_rows"]), (422, &json!(3000)));
    assert_eq!(problem["rows"].as_array().unwrap().len(), 1_000);
}

#[tokio::test]
async fn what_the_first_line_gets_wrong_is_pointed_at() {
    let server = Server::start();
    for (more, pointer) in [
        (json!({"from": "x"}), "/from"),
        (json!({"stream": "A B"}), "/stream"),
        (json!({"spread": "2"}), "/spread"),
        (json!({"priority": 4}), "/priority"),
        (json!({"template": {"subject": "{{ x", "text": "y"}}), "/template/subject"),
        (json!({"template": {"subject": "x", "text": "{% set a = 1 %}"}}), "/template/text"),
        (json!({"template": {"subject": "x", "text": "x", "headers": {"Bcc": "x"}}}), "/template/headers/Bcc"),
        (json!({"template": {"subject": "x"}}), "/template/text"),
        (json!({"unknown": 1}), "/unknown"),
    ] {
        let (status, problem) = post(&server, "/api/v1/batches", lines(&header(&more), [row(0)]), None).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{more}: {problem}");
    }
    for (body, status) in [(String::new(), 400), ("{\n".into(), 400), (lines(&header(&json!({})), []), 422)] {
        assert_eq!(post(&server, "/api/v1/batches", body.clone(), None).await.0, status, "{body}");
    }
    let twice = lines(&header(&json!({"duplicates": "refuse"})), [row(1), row(2), row(1)]);
    let (_, problem) = post(&server, "/api/v1/batches", twice, None).await;
    assert_eq!(problem["rows"][0], json!({"line": 4, "field": "email", "detail": "is the same as in line 2"}));
    let (status, _) = server.post("/api/v1/batches", &header(&json!({})), None).await;
    assert_eq!(status, 415);
}

#[tokio::test]
async fn a_key_gives_one_batch_and_a_dry_run_none() {
    let server = Server::start();
    let sink = Sink::with(SinkOptions::default()).await;
    server.route_to(sink.port());
    let body = lines(&header(&json!({})), (0..3).map(row));
    let (status, checked) = post(&server, "/api/v1/batches?dry_run=true&show=2", body.clone(), None).await;
    assert_eq!((status, &checked["rows"]), (200, &json!(3)), "{checked}");
    assert_eq!(checked["shown"][1]["subject"], "Hello N1");
    assert_eq!(server.get("/api/v1/batches").await.1["items"], json!([]));
    let (status, first) = post(&server, "/api/v1/batches", body.clone(), Some("k")).await;
    assert_eq!(status, 202, "{first}");
    let (status, again) = post(&server, "/api/v1/batches", body.clone(), Some("k")).await;
    assert_eq!((status, &again["id"]), (202, &first["id"]));
    assert_eq!(post(&server, "/api/v1/batches", body + "\n", Some("k")).await.0, 409);
    becomes(&server, first["id"].as_str().unwrap(), |batch| batch["rows"]["delivered"] == 3).await;
    assert_eq!(sink.received().len(), 3);
}

#[tokio::test]
async fn others_do_not_see_it_and_the_command_line_changes_it() {
    let server = Server::start();
    let sink = Sink::with(SinkOptions {
        rules: vec![Rule::at(Stage::Mail, Act::Reply("451 4.3.0 no".into()))],
        ..SinkOptions::default()
    })
    .await;
    server.route_to(sink.port());
    server.run(&["sender", "add", "other", "--allow-from", "other.test"]);
    let key = server.run_json(&["sender", "key", "add", "other"])["new_api_key"].as_str().unwrap().to_owned();
    let id = submit(&server, lines(&header(&json!({})), (0..5).map(row))).await;
    let as_other = async |method: Method, path: &str| {
        server.request(method, path).bearer_auth(&key).send().await.unwrap().status().as_u16()
    };
    for path in ["", "/rows"] {
        assert_eq!(as_other(Method::GET, &format!("/api/v1/batches/{id}{path}")).await, 404);
    }
    assert_eq!(as_other(Method::POST, &format!("/api/v1/batches/{id}/cancel")).await, 404);
    becomes(&server, &id, |batch| batch["made"] == 5).await;
    // A row whose attempt is under way is canceled when that ends.
    server.run(&["batch", "cancel", &id]);
    becomes(&server, &id, |batch| batch["rows"]["canceled"] == 5).await;
    let (status, problem) = server.post(&format!("/api/v1/batches/{id}/resume"), &json!({}), None).await;
    assert_eq!(status, 409, "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_is_sent_and_its_bad_lines_are_named() {
    let server = Server::start();
    let sink = Sink::with(SinkOptions::default()).await;
    server.route_to(sink.port());
    let write = |name: &str, text: &str| std::fs::write(server.dir.path().join(name), text).unwrap();
    write("t.html", "---\nsubject: Hi {{ First_name }}\nfrom: Shop <app@shop.test>\n---\n<p>{{ First_name }}</p>\n");
    write("good.csv", "Email;First name\nann@a.test;\"Ann\n\"\"A\"\"\"\nbob@b.test;Bob\n");
    // A line end in a header is the one thing that is wrong with the first file.
    let output = server.command(&["batch", "send", "t.html", "good.csv"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("line 2: `subject` has a line end"), "{told}");
    write("good.csv", "Email;First name\nann@a.test;Ann\nbob@b.test;Bob\n");
    let dry = server.run(&["batch", "send", "t.html", "good.csv", "--dry-run", "--show", "1"]);
    assert!(dry.contains("Subject: Hi Ann") && dry.contains("2 rows would be accepted"), "{dry}");
    write("bad.csv", "Email,First name\n\"x\n\",Ann\nann@a.test,Ann\nnobody,N\n");
    let output = server.command(&["batch", "send", "t.html", "bad.csv", "--json"]).output().unwrap();
    let problem: Value = serde_json::from_slice(&output.stdout).unwrap();
    let named: Vec<_> = problem["rows"].as_array().unwrap().iter().map(|row| row["line"].as_u64().unwrap()).collect();
    assert_eq!((output.status.code(), named), (Some(1), vec![2, 5]), "{problem}");
    let sent = server.run_json(&["batch", "send", "t.html", "good.csv", "--follow"]);
    assert_eq!((&sent["state"], &sent["rows"]["delivered"]), (&json!("finished"), &json!(2)), "{sent}");
    assert_eq!(arrived(&sink).len(), 2);
    assert_eq!(server.command(&["batch", "send", "t.html", "none.csv"]).output().unwrap().status.code(), Some(3));
}

#[tokio::test]
async fn a_suppressed_recipient_is_a_row_that_says_so() {
    let server = Server::start();
    let sink = Sink::with(SinkOptions::default()).await;
    server.route_to(sink.port());
    server.run(&["suppression", "add", "u1@d1.test", "--reason", "complaint"]);
    let id = submit(&server, lines(&header(&json!({})), (0..3).map(row))).await;
    let batch = becomes(&server, &id, |batch| batch["state"] == "finished").await;
    assert_eq!(batch["rows"], json!({"delivered": 2, "suppressed": 1}));
    let (_, rows) = server.get(&format!("/api/v1/batches/{id}/rows?state=suppressed")).await;
    assert_eq!(rows["items"][0]["email"], "u1@d1.test");
    assert!(rows["items"][0]["reason"].as_str().unwrap().contains("complaint"), "{rows}");
    assert!(rows["items"][0]["message"].is_string());
}

#[tokio::test]
async fn a_test_sends_nothing_and_shows_what_it_would_have_sent() {
    let server = Server::start();
    let sink = Sink::with(SinkOptions::default()).await;
    server.route_to(sink.port());
    let id = submit(&server, lines(&header(&json!({"test": true})), (0..3).map(row))).await;
    becomes(&server, &id, |batch| batch["rows"]["delivered"] == 3).await;
    assert!(sink.received().is_empty());
    assert_eq!(server.run_json(&["capture", "ls"])["items"].as_array().unwrap().len(), 3);
    let (_, rows) = server.get(&format!("/api/v1/batches/{id}/rows")).await;
    let message = rows["items"][0]["message"].as_str().unwrap();
    let (_, events) = server.get(&format!("/api/v1/messages/{message}/events")).await;
    let told = events["items"].to_string();
    assert!(told.contains("test: not sent by route sink"), "{told}");
}

/// Killed at one moment after the other of an upload, and then while the rows become messages.
#[tokio::test]
async fn a_kill_at_any_moment_leaves_it_whole_or_not_at_all_and_each_row_one_message() {
    const ROWS: u32 = 1_500;
    let mut server = Server::start();
    // Nothing leaves before the end: what is there twice was made twice.
    let down = Rule::at(Stage::Mail, Act::Reply("451 4.3.0 not now".into()));
    let sink = Sink::with(SinkOptions { rules: vec![down], ..SinkOptions::default() }).await;
    server.route_to(sink.port());
    let body = lines(&header(&json!({})), (0..ROWS).map(row));
    let pieces = body.len() / PIECE + 1;
    let mut answered = 0;
    for moment in [0, pieces / 3, pieces - 1, pieces, pieces] {
        let (body, reached) = told_at(&body, moment);
        let request = server.request(Method::POST, "/api/v1/batches").bearer_auth(&server.key);
        let request = request.header("content-type", "application/x-ndjson").body(body);
        let upload = tokio::spawn(async move { request.send().await.is_ok_and(|answer| answer.status() == 202) });
        reached.await.unwrap();
        server.kill();
        answered += usize::from(upload.await.unwrap());
        server.restart();
        let (_, all) = server.get("/api/v1/batches").await;
        let all = all["items"].as_array().unwrap().clone();
        assert!(all.len() >= answered, "{answered} were answered, there are {all:?}");
        assert!(all.iter().all(|batch| batch["total"] == ROWS), "{all:?}");
    }
    if answered == 0 {
        submit(&server, body).await;
    }
    let (_, all) = server.get("/api/v1/batches").await;
    let ids: Vec<String> =
        all["items"].as_array().unwrap().iter().map(|batch| batch["id"].as_str().unwrap().to_owned()).collect();
    for least in [1, ROWS / 3, ROWS / 2] {
        becomes(&server, &ids[0], |batch| batch["made"].as_u64() >= Some(u64::from(least))).await;
        server.kill();
        server.restart();
    }
    sink.behave();
    for id in &ids {
        server
            .until("every row", async || {
                let (_, batch) = server.get(&format!("/api/v1/batches/{id}")).await;
                // What is in memory is tried anyway; it would be taken out of there.
                if batch["rows"]["leased"].is_null() && batch["rows"]["waiting"].is_u64() {
                    server.run(&["queue", "retry", "--all"]);
                }
                (batch["rows"]["delivered"] == ROWS).then_some(())
            })
            .await;
    }
    let arrived = arrived(&sink);
    assert_eq!(arrived.len() as u32, ROWS);
    assert!(
        arrived.values().all(|count| *count as usize == ids.len()),
        "each address is once in each of {}",
        ids.len()
    );
    server.terminate();
    assert_eq!(server.run(&["verify", "--deep"]), "no problems\n");
}

/// Octets of a piece of a body.
const PIECE: usize = 4 * 1024;

/// A body in pieces that says when so many of them are on their way.
fn told_at(body: &str, moment: usize) -> (reqwest::Body, tokio::sync::oneshot::Receiver<()>) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let pieces: Vec<Vec<u8>> = body.as_bytes().chunks(PIECE).map(<[u8]>::to_vec).collect();
    let state = (pieces.into_iter().enumerate(), Some(sender));
    let stream = futures_util::stream::unfold(state, move |(mut pieces, mut sender)| async move {
        let next = pieces.next();
        if next.as_ref().is_none_or(|(n, _)| *n >= moment)
            && let Some(sender) = sender.take()
        {
            let _ = sender.send(());
        }
        next.map(|(_, piece)| (Ok::<_, std::io::Error>(piece), (pieces, sender)))
    });
    (reqwest::Body::wrap_stream(stream), receiver)
}

#[tokio::test]
async fn a_pause_holds_and_a_resume_lets_go() {
    let server = Server::start();
    let sink = Sink::with(SinkOptions::default()).await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let host = format!("127.0.0.1:{}", sink.port());
    server.run(&["route", "add", "sink", "--smarthost", &host, "--tls", "none", "--connections", "1", "--default"]);
    let id = submit(&server, lines(&header(&json!({})), (0..30).map(row))).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    assert_eq!(server.run_json(&["batch", "pause", &id])["state"], "paused");
    sink.release();
    becomes(&server, &id, |batch| batch["rows"]["delivered"] == 1).await;
    assert_eq!(server.run_json(&["batch", "resume", &id])["state"], "running");
    becomes(&server, &id, |batch| batch["rows"]["delivered"] == 30).await;
    assert!(arrived(&sink).values().all(|count| *count == 1));
}
