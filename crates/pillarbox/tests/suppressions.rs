//! Suppressions by command line and API: added, asked for, followed, removed with a reason, imported and exported as CSV; rates.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Server;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::sink::{Rule, Sink, SinkOptions, Stage};

/// A server whose API key may manage it.
fn managed() -> Server {
    let server = Server::start();
    server.run(&["sender", "set", "app", "--admin"]);
    server
}

async fn send(server: &Server, to: &[&str]) -> String {
    let message = json!({"from": "app@shop.test", "to": to, "text": "t"});
    let (status, body) = server.post("/api/v1/messages", &message, None).await;
    assert_eq!(status, 202, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

async fn recipients(server: &Server, id: &str, states: &[&str]) -> Vec<Value> {
    server
        .until("the recipients are as wanted", async || {
            let (_, body) = server.get(&format!("/api/v1/messages/{id}")).await;
            let recipients = body["recipients"].as_array().cloned().unwrap_or_default();
            let are: Vec<&str> = recipients.iter().filter_map(|one| one["state"].as_str()).collect();
            (are == states).then_some(recipients)
        })
        .await
}

#[tokio::test]
async fn an_address_is_suppressed_asked_for_and_removed_with_a_reason_that_stays_visible() {
    let server = managed();
    let (_, now) = server.get("/api/v1/suppressions?since=now").await;
    let since = now["next"].as_str().unwrap().to_owned();
    let added = server.run(&["suppression", "add", "Ann@Shop.test", "--reason", "complaint", "--note", "by phone"]);
    assert_eq!(added, "1 suppression added.\n");
    server.run(&["suppression", "add", "bob@shop.test", "--scope", "news", "--until", "30d"]);
    let listed = server.run(&["suppression", "ls", "--domain", "shop.test"]);
    assert!(
        listed.contains("Ann@shop.test") && listed.contains("complaint") && listed.contains("by phone"),
        "{listed}"
    );
    let check = server.command(&["suppression", "check", "ann@shop.test", "bob@shop.test"]).output().unwrap();
    assert_eq!(check.status.code(), Some(1));
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(said.contains("ann@shop.test: suppressed: complaint since "), "{said}");
    assert!(said.contains("bob@shop.test: gets mail"), "{said}");
    server.run(&["suppression", "check", "--stream", "other", "bob@shop.test"]);
    let news = server.command(&["suppression", "check", "--stream", "news", "bob@shop.test"]).output().unwrap();
    assert_eq!(news.status.code(), Some(1));
    let id = send(&server, &["ann@shop.test", "bob@shop.test"]).await;
    let found = recipients(&server, &id, &["suppressed", "delivered"]).await;
    assert!(found[0]["meaning"].as_str().unwrap().starts_with("suppressed: complaint since "), "{}", found[0]);
    let (_, events) = server.get(&format!("/api/v1/messages/{id}/events")).await;
    let events = events["items"].as_array().unwrap();
    assert!(events.iter().any(|event| event["event"] == "suppressed" && event["reason"].is_string()), "{events:?}");

    let removed = server.run(&["suppression", "rm", "ANN@shop.test", "--why", "it was a mistake"]);
    assert_eq!(removed, "1 suppression removed.\n");
    let again = server.command(&["suppression", "rm", "ann@shop.test"]).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    let shown = server.run(&["suppression", "show", "ann@shop.test"]);
    assert!(shown.contains("is not suppressed") && shown.contains("it was a mistake"), "{shown}");
    assert!(server.run(&["suppression", "log"]).contains("control socket"));
    recipients(&server, &send(&server, &["ann@shop.test"]).await, &["delivered"]).await;

    let (_, first) = server.get(&format!("/api/v1/suppressions?since={since}&limit=2")).await;
    assert_eq!((first["items"].as_array().unwrap().len(), &first["more"]), (2, &json!(true)));
    let (_, rest) = server.get(&format!("/api/v1/suppressions?since={}", first["next"].as_str().unwrap())).await;
    let last = &rest["items"][0];
    assert_eq!(
        (&last["change"], &last["why"], &rest["more"]),
        (&json!("removed"), &json!("it was a mistake"), &json!(false))
    );
    let (_, none) = server.get(&format!("/api/v1/suppressions?since={}", rest["next"].as_str().unwrap())).await;
    assert_eq!((&none["items"], &none["next"]), (&json!([]), &rest["next"]));
}

#[tokio::test]
async fn the_api_adds_shows_and_removes_and_points_at_what_is_wrong() {
    let server = managed();
    let path = "/api/v1/suppressions";
    let body =
        json!({"addresses": ["a@x.test", "B@x.test"], "reason": "opt-out", "scope": "news", "until": "2099-01-01"});
    assert_eq!(server.post(path, &body, None).await, (200, json!({"added": 2, "changed": 0, "kept": 0})));
    let (status, shown) = server.get(&format!("{path}/b%40x.test?stream=news")).await;
    assert_eq!((status, &shown["suppressed"]), (200, &json!(true)));
    assert!(shown["words"].as_str().unwrap().starts_with("opted out: since "), "{shown}");
    assert_eq!(shown["suppressions"][0]["expires"], "2099-01-01T00:00:00Z");
    assert_eq!(shown["suppressions"][0]["who"], "API key of app");
    for (body, pointer) in [
        (json!({"addresses": ["a@x.test", "nobody"]}), "/addresses/1"),
        (json!({"addresses": []}), "/addresses"),
        (json!({"addresses": ["a@x.test"], "scope": "No Stream"}), "/scope"),
        (json!({"addresses": ["a@x.test"], "until": "yesterday"}), "/until"),
        (json!({"addresses": ["a@x.test"], "reason": "boredom"}), "/reason"),
        (json!({"addresses": ["a@x.test"], "note": "x".repeat(501)}), "/note"),
    ] {
        let (status, problem) = server.post(path, &body, None).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{problem}");
    }
    let (status, page) = server.get(&format!("{path}?limit=1&scope=news")).await;
    assert_eq!((status, &page["items"][0]["address"]), (200, &json!("a@x.test")));
    let (_, page) = server
        .get(&format!("{path}?limit=1&scope=news&after={}", page["next"].as_str().unwrap().replace(' ', "%20")))
        .await;
    assert_eq!(page["items"][0]["address"], "B@x.test");
    for query in ["since=never", "after=x", "added_from=soon"] {
        assert_eq!(server.get(&format!("{path}?{query}")).await.0, 422, "{query}");
    }
    let remove = |path: String| server.request(Method::DELETE, &path).bearer_auth(&server.key).send();
    assert_eq!(remove(format!("{path}/b%40x.test?why=asked")).await.unwrap().status(), 200);
    assert_eq!(remove(format!("{path}/b%40x.test")).await.unwrap().status(), 404);
    // Only who manages the server.
    server.run(&["sender", "set", "app", "--admin=false"]);
    assert_eq!(server.get(path).await.0, 403);
    assert_eq!(server.post(path, &json!({"addresses": ["a@x.test"]}), None).await.0, 403);
}

#[tokio::test]
async fn an_address_with_a_slash_is_freed_by_its_page() {
    let server = Server::start();
    let origin = server.url("");
    let post = async |path: &str, cookie: &str, fields: &[(&str, &str)]| {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = server.request(Method::POST, path).header("Origin", &origin).header("Cookie", cookie);
        let kind = "application/x-www-form-urlencoded";
        request.header("Content-Type", kind).body(body).send().await.unwrap()
    };
    let token = server.run(&["login"]);
    let opened = post("/login", "", &[("token", token.trim())]).await;
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    server.run(&["suppression", "add", "a/b@x.test"]);
    let back = "/admin/suppressions/a%2Fb@x.test";
    let page = server.request(Method::GET, back).header("Cookie", &cookie).send().await.unwrap();
    let html = page.text().await.unwrap();
    assert!(html.contains("/admin/do/suppressions/a%2Fb@x.test"), "{html}");

    let remove = [("_method", "DELETE"), ("_back", back), ("?scope", "*"), ("?why", "it was a mistake")];
    let removed = post("/admin/do/suppressions/a%2Fb@x.test", &cookie, &remove).await;
    assert_eq!(removed.status(), 303);
    assert_eq!(removed.headers()["location"], back);
    server.run(&["suppression", "check", "a/b@x.test"]);
    let wish = [("_method", "PATCH"), ("_back", back), ("all", "out")];
    let wished = post("/admin/do/preferences/a%2Fb%40x.test", &cookie, &wish).await;
    assert_eq!(wished.status(), 303);
    assert!(server.run(&["suppression", "ls", "--reason", "opt-out"]).contains("a/b@x.test"));
}

#[tokio::test]
async fn a_list_comes_in_as_csv_with_its_wrong_rows_named_and_goes_out_and_in_again_as_it_was() {
    let server = managed();
    let rows: String = (0..20_000).map(|n| format!("r{n}@x.test,complaint,\"said \"\"no\"\", {n}\",blue\n")).collect();
    let table = format!("Email,Reason,Note,Colour\nnobody,,,\n{rows}late@x.test,boredom,,\n");
    std::fs::write(server.dir.path().join("list.csv"), &table).unwrap();
    let dry = server.command(&["suppression", "import", "list.csv", "--dry-run", "--json"]).output().unwrap();
    let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((&dry["rows"], &dry["wrong"], &dry["added"]), (&json!(20_002), &json!(2), &json!(0)));
    let import = server.command(&["suppression", "import", "list.csv"]).output().unwrap();
    assert_eq!(import.status.code(), Some(1));
    let (out, err) = (String::from_utf8(import.stdout).unwrap(), String::from_utf8(import.stderr).unwrap());
    assert_eq!(out, "20002 rows: 20000 added, 0 changed, 0 as before, 2 wrong.\n");
    assert!(err.contains("line 2: nobody: ") && err.contains("line 20003: boredom: "), "{err}");
    assert!(err.contains("mean nothing here: colour"), "{err}");
    server.run(&["suppression", "export", "out.csv"]);
    let out = std::fs::read_to_string(server.dir.path().join("out.csv")).unwrap();
    assert_eq!(out.lines().count(), 20_001);
    assert!(out.contains("r7@x.test,*,complaint,") && out.contains("\"said \"\"no\"\", 7\""));
    let again = server.command(&["suppression", "export", "out.csv"]).output().unwrap();
    assert_eq!(again.status.code(), Some(3), "a file is not overwritten");
    let answer =
        server.request(Method::GET, "/api/v1/suppressions/export?reason=complaint").bearer_auth(&server.key).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    assert_eq!(answer.text().await.unwrap(), out);
    // What somebody removed does not come back by the same list, unless it is meant to.
    server.run(&["suppression", "rm", "r7@x.test"]);
    let known = server.run(&["suppression", "import", "out.csv"]);
    assert_eq!(known, "20000 rows: 0 added, 0 changed, 20000 as before.\n");
    let replaced = server.run(&["suppression", "import", "out.csv", "--replace"]);
    assert_eq!(replaced, "20000 rows: 1 added, 0 changed, 19999 as before.\n");
    let wrong = |kind: &str, body: &'static str| {
        server
            .request(Method::POST, "/api/v1/suppressions/import")
            .bearer_auth(&server.key)
            .header("content-type", kind)
            .body(body)
            .send()
    };
    assert_eq!(wrong("text/plain", "address\na@x.test\n").await.unwrap().status(), 415);
    assert_eq!(wrong("text/csv", "name\nx\n").await.unwrap().status(), 422);
    assert_eq!(wrong("text/csv", "address\na@x.test\n").await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_a_server_says_of_a_recipient_suppresses_it_and_the_rates_show_it() {
    let server = managed();
    let gone = Rule::reply(Stage::Rcpt, "550 5.1.1 user unknown").with_text("<gone");
    let sink = Sink::with(SinkOptions { rules: vec![gone], ..SinkOptions::default() }).await;
    server.route_to(sink.port());
    let id = send(&server, &["ok@x.test", "gone@x.test"]).await;
    recipients(&server, &id, &["delivered", "failed"]).await;
    let shown = server
        .until("it is suppressed", async || {
            let (_, shown) = server.get("/api/v1/suppressions/gone%40x.test").await;
            (shown["suppressed"] == true).then_some(shown)
        })
        .await;
    let one = &shown["suppressions"][0];
    assert_eq!(
        (&one["reason"], &one["who"], &one["scope"]),
        (&json!("unknown-user"), &json!("pillarbox"), &json!("*"))
    );
    assert_eq!(one["evidence"]["message"], format!("{id}.1"));
    assert!(one["evidence"]["reply"].as_str().unwrap().contains("user unknown"));
    let rates = server.run_json(&["rates"]);
    let stream = rates["items"].as_array().unwrap().iter().find(|rate| rate["of"] == "stream").unwrap().clone();
    assert_eq!((&stream["name"], &stream["sent"], &stream["bounced"]), (&json!("default"), &json!(2), &json!(1)));
    assert_eq!(stream["bounces"], "fine", "one of two says nothing");
    assert!(server.run(&["rates"]).contains("50.00 %"));
    assert!(server.run(&["status"]).contains("suppressed addresses"));
}

#[tokio::test]
async fn thresholds_are_settings_and_wrong_ones_are_told() {
    let server = Server::with(
        "suppression.unknown_user = \"off\"\nsuppression.mailbox_full = \"1 in 1d, for 30d\"\nrates.bounces = \"1%, 3%\"",
    );
    let gone = Rule::reply(Stage::Rcpt, "550 5.1.1 user unknown").with_text("<gone");
    let full = Rule::reply(Stage::Rcpt, "552 5.2.2 not one more").with_text("<full");
    let sink = Sink::with(SinkOptions { rules: vec![gone, full], ..SinkOptions::default() }).await;
    server.route_to(sink.port());
    recipients(&server, &send(&server, &["gone@x.test", "full@x.test"]).await, &["failed", "failed"]).await;
    server
        .until("the other is suppressed", async || {
            let check = server.command(&["suppression", "check", "full@x.test"]).output().unwrap();
            (check.status.code() == Some(1)).then_some(())
        })
        .await;
    server.run(&["suppression", "check", "gone@x.test"]);
    let path = server.dir.path().join("wrong.toml");
    std::fs::write(&path, "[suppression]\ncomplaint = \"often\"\n[rates]\nbounces = \"5%, 2%\"\n").unwrap();
    let check = server.command(&["config", "check", "--config", path.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success() && said.contains("2 in 30d, for 180d") && said.contains("2%, 5%"), "{said}");
}
