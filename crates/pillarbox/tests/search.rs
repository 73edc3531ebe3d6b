//! Messages are found by whom they went to and what became of them: by the API and by the command line.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Server;
use serde_json::{Value, json};
use testkit::sink::{Rule, Sink, Stage};

async fn submit(server: &Server, to: &[&str], subject: &str) -> String {
    let message = json!({"from": "Shop <app@shop.test>", "to": to, "subject": subject, "text": "the body"});
    let (status, answer) = server.post("/api/v1/messages", &message, None).await;
    assert_eq!(status, 202, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

fn ids(found: &Value) -> Vec<String> {
    found["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

async fn find(server: &Server, query: &str) -> Vec<String> {
    let (status, found) = server.get(&format!("/api/v1/messages?{query}")).await;
    assert_eq!(status, 200, "{query}: {found}");
    ids(&found)
}

#[tokio::test]
async fn mail_is_found_by_recipient_words_and_fate() {
    let server = Server::start();
    let sink = Sink::start().await;
    sink.add(
        Rule::reply(Stage::Rcpt, "550 5.1.1 <ghost@two.test>: Recipient address rejected: User unknown")
            .with_text("ghost@two.test"),
    );
    server.route_to(sink.port());
    let first = submit(&server, &["ann@one.test"], "Your invoice for May").await;
    let second = submit(&server, &["Ann@One.test", "ghost@two.test"], "Password reset").await;
    server
        .until("a delivery and a failure", async || {
            let (_, message) = server.get(&format!("/api/v1/messages/{second}")).await;
            let states: Vec<_> = message["recipients"].as_array()?.iter().map(|one| one["state"].clone()).collect();
            (states == ["delivered", "failed"]).then_some(())
        })
        .await;
    assert_eq!(find(&server, "recipient=ANN%40one.test").await, [second.clone(), first.clone()]);
    assert_eq!(find(&server, "recipient=an").await, [second.clone(), first.clone()]);
    assert_eq!(find(&server, "domain=two.test").await, std::slice::from_ref(&second));
    assert_eq!(find(&server, "q=ghost%40two.test").await, std::slice::from_ref(&second));
    assert_eq!(find(&server, "q=invoice+may").await, std::slice::from_ref(&first));
    assert_eq!(find(&server, &format!("q={first}")).await, std::slice::from_ref(&first));
    assert_eq!(find(&server, "state=failed").await, std::slice::from_ref(&second));
    assert_eq!(find(&server, "state=failed&domain=one.test").await, Vec::<String>::new());
    assert_eq!(find(&server, "from=%40shop.test&route=sink&sender=app&stream=default").await.len(), 2);
    assert_eq!(find(&server, "until=2026-01-01T00:00:00Z").await, Vec::<String>::new());
    let (_, one) = server.get("/api/v1/messages?limit=1").await;
    assert_eq!(ids(&one), std::slice::from_ref(&second));
    let next = one["next"].as_str().unwrap();
    assert_eq!(find(&server, &format!("limit=1&before={next}")).await, std::slice::from_ref(&first));
    let (_, failed) = server.get("/api/v1/messages?state=failed").await;
    let recipient = &failed["items"][0]["recipients"][0];
    assert_eq!(recipient["address"], "ghost@two.test");
    let rule = recipient["finding"]["rule"].as_str().unwrap();
    assert_eq!(find(&server, &format!("reason={rule}")).await, std::slice::from_ref(&second));
    let header = failed["items"][0]["message_id"].as_str().unwrap().to_owned();
    let url = reqwest::Url::parse_with_params("http://x/", [("message_id", &header)]).unwrap();
    assert_eq!(find(&server, url.query().unwrap()).await, [second]);
    for wrong in ["state=lost", "since=yesterday", "before=x", "id=x", "domain=a.test&recipient=b", "nonsense=1"] {
        let (status, problem) = server.get(&format!("/api/v1/messages?{wrong}")).await;
        assert!(matches!(status, 400 | 422), "{wrong}: {problem}");
    }
}

/// A failure for good, a delivery, and what is known of both.
async fn two_fates() -> (Server, Sink, String) {
    let server = Server::start();
    let sink = Sink::start().await;
    let refusal = "550 5.1.1 <ghost@two.test>: Recipient address rejected: User unknown, ghost";
    sink.add(Rule::reply(Stage::Rcpt, refusal).with_text("ghost@two.test"));
    server.route_to(sink.port());
    submit(&server, &["bob@two.test"], "Hello").await;
    let id = submit(&server, &["ann@one.test", "ghost@two.test"], "<b>Password reset</b>").await;
    server
        .until("a delivery and a failure", async || {
            let (_, message) = server.get(&format!("/api/v1/messages/{id}")).await;
            let states: Vec<_> = message["recipients"].as_array()?.iter().map(|one| one["state"].clone()).collect();
            (states == ["delivered", "failed"]).then_some(())
        })
        .await;
    (server, sink, id)
}

#[tokio::test]
async fn a_dossier_tells_what_happened_and_what_to_do_and_is_masked_for_strangers() {
    let (server, _sink, id) = two_fates().await;
    let dossier = server.run_json(&["messages", "show", &id]);
    let events: Vec<_> = dossier["timeline"].as_array().unwrap().iter().map(|one| one["event"].clone()).collect();
    assert_eq!(events[0], "accepted");
    assert!(events.contains(&json!("delivered")) && events.contains(&json!("failed")), "{events:?}");
    let attempts = dossier["attempts"].as_array().unwrap();
    let attempt = attempts.iter().find(|one| one["failure"].is_string()).expect("the one that failed");
    assert_eq!(attempt["route"], "sink");
    assert!(attempt["peer"].as_str().unwrap().contains("127.0.0.1"), "{attempt}");
    let steps = attempt["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["sent"] == "RCPT TO:<ghost@two.test>"), "{attempt}");
    let finding = &dossier["findings"][0];
    assert_eq!((&finding["reason"], &finding["recipients"]), (&json!("mailbox_unknown"), &json!(["ghost@two.test"])));
    assert!(!finding["fixes"].as_array().unwrap().is_empty());

    let masked = server.run(&["messages", "export", &id]);
    for secret in ["ann@", "ghost", "Password", "the body", "app@"] {
        assert!(!masked.contains(secret), "{secret}: {masked}");
    }
    assert!(masked.contains("user-2@two.test") && masked.contains("550 5.1.1"), "{masked}");

    let text = server.run(&["messages", "show", &id]);
    assert!(text.contains("RCPT TO:<ghost@two.test>") && text.contains("Failed for good"), "{text}");
    let found = server.run(&["messages", "search", "ghost@two.test"]);
    assert!(found.contains(&id) && found.contains("failed"), "{found}");
    let found = server.run_json(&["messages", "search", "--state", "failed", "--since", "1h"]);
    assert_eq!(ids(&found), std::slice::from_ref(&id));
    // A remote node: by URL, with a key in a file or in the environment.
    std::fs::write(server.dir.path().join("key"), &server.key).unwrap();
    let remote =
        server.run_json(&["--server", &server.url(""), "--token-file", "key", "messages", "search", "ann@one.test"]);
    assert_eq!(ids(&remote), std::slice::from_ref(&id));
    let output = server
        .command(&["--server", &server.url(""), "messages", "show", &id, "--json"])
        .env("PILLARBOX_TOKEN", &server.key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (status, _) = server.get("/api/v1/messages/0000000000000/dossier").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn why_it_did_not_arrive_is_told_for_each_fate() {
    let (server, _sink, id) = two_fates().await;
    let why = |address: &str, code: i32| -> Value {
        let output = server.command(&["why", address, "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{address}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let failed = why("ghost@two.test", 1);
    assert_eq!(failed["state"], "failed", "{failed:#}");
    assert_eq!(failed["scope"]["scope"], "address:ghost@two.test", "{:#}", failed["scope"]);
    let rows = failed["scope"]["rows"].as_array().unwrap();
    assert_eq!((&rows[0]["failed"], &rows[1]["accepted"]), (&json!(1), &json!(1)), "{rows:?}");
    assert_eq!(
        failed["known"].as_array().unwrap().iter().find(|one| one["what"] == "accepted").unwrap()["answer"],
        "no"
    );

    let accepted = why("ann@one.test", 0);
    assert_eq!(accepted["state"], "accepted");
    let first = accepted["next"][0]["text"].as_str().unwrap();
    assert!(first.contains("spam"), "the spam folder first: {first}");
    let known = accepted["known"].as_array().unwrap().iter().find(|one| one["what"] == "accepted").unwrap().clone();
    assert!(known["text"].as_str().unwrap().contains("250"), "{known}");
    assert_eq!(known["message"], id.as_str());

    let slip = why("anna@one.test", 1);
    assert_eq!((&slip["state"], &slip["alike"]), (&json!("not_submitted"), &json!(["ann@one.test"])));

    server.run(&["suppression", "add", "carl@two.test", "--reason", "complaint"]);
    let suppressed = why("carl@two.test", 1);
    assert_eq!(suppressed["state"], "suppressed");
    server.run(&["stream", "pause", "default", "--why", "wrong template"]);
    submit(&server, &["dora@two.test"], "Hello").await;
    let paused = why("dora@two.test", 1);
    assert_eq!(paused["state"], "stream_off", "{paused:#}");
    assert!(paused["next"].to_string().contains("stream resume default"), "{:#}", paused["next"]);
    let text = server.command(&["why", "ghost@two.test"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("It is this address alone") && text.contains("What to check next"), "{text}");
    assert_eq!(server.command(&["why", "nobody"]).output().unwrap().status.code(), Some(1), "no address");
}

#[tokio::test]
async fn what_would_stop_the_next_mail_is_told_though_the_latest_was_accepted() {
    let (server, _sink, _) = two_fates().await;
    server.run(&["suppression", "add", "ann@one.test", "--reason", "complaint"]);
    server.run(&["stream", "pause", "default", "--why", "wrong template"]);
    let told = server.run_json(&["why", "ann@one.test"]);
    assert_eq!(told["state"], "accepted", "{told:#}");
    let meaning = told["meaning"].as_str().unwrap();
    for words in ["A next mail would be stopped", "suppressed: complaint since", "wrong template"] {
        assert!(meaning.contains(words), "{words}: {meaning}");
    }
    let next = told["next"].as_array().unwrap();
    assert_eq!(next[0]["run"], "pillarbox suppression show ann@one.test", "{next:#?}");
    let text = told["next"].to_string();
    assert!(text.contains("stream resume default") && !text.contains("has not opted out"), "{next:#?}");
}

#[tokio::test]
async fn the_pages_of_messages_work_without_script() {
    let (server, _sink, id) = two_fates().await;
    let token = server.run(&["login"]);
    let opened = server
        .request(reqwest::Method::POST, "/login")
        .header("Origin", server.url(""))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("token={}", token.trim()))
        .send()
        .await
        .unwrap();
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = async |path: &str| {
        let response = server.request(reqwest::Method::GET, path).header("Cookie", &cookie).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, list) = page("/admin/logging?q=ghost%40two.test").await;
    assert_eq!(status, 200, "{list}");
    assert!(list.contains(&format!("/admin/messages/{id}")) && !list.contains("<b>Password"), "{list}");
    let (status, none) = page("/admin/logging?q=&state=&recipient=nobody%40two.test&since=2026-01-01T00%3A00").await;
    assert!(status == 200 && none.contains("No message meets these conditions"), "{none}");
    let (status, wrong) = page("/admin/logging?since=yesterday").await;
    assert!(status == 200 && wrong.contains("RFC 3339") && wrong.contains("yesterday"), "{wrong}");
    let (status, dossier) = page(&format!("/admin/messages/{id}")).await;
    assert_eq!(status, 200, "{dossier}");
    for part in ["What went wrong", "RCPT TO:&lt;ghost@two.test&gt;", "/export", "Failed for good"] {
        assert!(dossier.contains(part), "{part}: {dossier}");
    }
    assert!(!dossier.contains("<b>Password"), "{dossier}");
    let (status, form) = page("/admin/why").await;
    assert!(status == 200 && form.contains("name=\"address\""), "{form}");
    let (status, why) = page("/admin/why?address=ghost%40two.test").await;
    assert_eq!(status, 200, "{why}");
    assert!(why.contains("It is this address alone") && why.contains(&format!("/admin/messages/{id}")), "{why}");
    let (status, wrong) = page("/admin/why?address=nobody").await;
    assert!(status == 200 && wrong.contains("role=\"alert\""), "{wrong}");
    assert_eq!(page("/admin/messages/0000000000000").await.0, 404);
}
