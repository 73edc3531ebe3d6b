//! Tests of routes and servers that people start: seen while they run, kept, compared; and the pages they are started from.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{PATIENCE, Server};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::sink::{Act, Rule, Sink, SinkOptions, Stage};

/// A server whose first sender may manage, and a route to a sink.
async fn with_route(options: SinkOptions) -> (Server, Sink) {
    let server = Server::start();
    server.run(&["sender", "set", "app", "--admin"]);
    let sink = Sink::with(options).await;
    let host = format!("127.0.0.1:{}", sink.port());
    server.run(&["route", "add", "provider", "--smarthost", &host, "--tls", "none", "--force"]);
    (server, sink)
}

async fn ended(server: &Server, id: &str) -> Value {
    let path = format!("/api/v1/smtp-tests/{id}");
    let done = async || {
        let (_, test) = server.get(&path).await;
        (test["test"]["state"] != "running").then_some(test)
    };
    server.until("the test has ended", done).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_seen_while_it_runs_and_is_kept_with_what_it_found() {
    let options = SinkOptions { rules: vec![Rule::at(Stage::Rcpt, Act::Hang)], ..SinkOptions::default() };
    let (mut server, sink) = with_route(options).await;
    let asked = json!({ "route": "provider", "from": "a@shop.test", "to": ["b@one.test"], "message": "send" });
    let (status, begun) = server.post("/api/v1/smtp-tests", &asked, None).await;
    assert_eq!((status, begun["state"].as_str()), (202, Some("running")), "{begun}");
    let id = begun["id"].as_str().unwrap().to_owned();
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let (_, now) = server.get(&format!("/api/v1/smtp-tests/{id}")).await;
    let stages = |test: &Value| -> Vec<String> {
        let all = test["stages"].as_array().unwrap().iter().filter(|one| one["outcome"] == "passed");
        all.map(|one| one["stage"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (now["stage"].as_str(), stages(&now).last().map(String::as_str)),
        (Some("recipient"), Some("sender")),
        "{now:#}"
    );
    sink.behave();
    sink.release();
    let test = ended(&server, &id).await;
    assert_eq!(test["test"]["verdict"]["result"], "Success", "{test:#}");
    assert!(stages(&test).contains(&"message".to_owned()) && sink.count() == 1);
    let commands = test["commands"].to_string();
    assert!(commands.contains("swaks --server 127.0.0.1") && commands.contains("telnet 127.0.0.1"), "{commands}");

    server.terminate();
    server.restart();
    let (_, list) = server.get("/api/v1/smtp-tests").await;
    assert_eq!(
        (list["items"][0]["id"].as_str(), list["items"][0]["subject"].as_str()),
        (Some(&*id), Some("route provider"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_compared_with_the_one_before_and_with_another_machine() {
    let (server, sink) = with_route(SinkOptions::default()).await;
    let asked = json!({ "route": "provider", "from": "a@shop.test", "to": ["b@one.test"] });
    let test = async || {
        let (_, begun) = server.post("/api/v1/smtp-tests", &asked, None).await;
        let id = begun["id"].as_str().unwrap().to_owned();
        (ended(&server, &id).await, id)
    };
    let (first, first_id) = test().await;
    assert_eq!(first["test"]["verdict"]["healthy"], true, "{first:#}");
    assert_eq!(sink.count(), 0, "nothing was sent");
    let (status, _) = server.get(&format!("/api/v1/smtp-tests/{first_id}/comparison")).await;
    assert_eq!(status, 404, "there is none before");
    drop(sink);
    let (second, id) = test().await;
    assert_eq!(second["test"]["verdict"]["result"], "Connection Failed", "{second:#}");
    let (_, compared) = server.get(&format!("/api/v1/smtp-tests/{id}/comparison")).await;
    assert_eq!(compared["with"]["id"].as_str(), Some(&*first_id));
    assert!(compared["words"].as_str().unwrap().starts_with("It went well then and fails now, at tcp"), "{compared:#}");

    let import = json!({ "node": "office", "report": first["report"] });
    let (status, other) = server.post("/api/v1/smtp-tests/import", &import, None).await;
    assert_eq!(status, 201, "{other}");
    let with = format!("/api/v1/smtp-tests/{id}/comparison?with={}", other["id"].as_str().unwrap());
    let (_, compared) = server.get(&with).await;
    assert_eq!(compared["finding"]["sign"], "compare_fails_only_here", "{compared:#}");
    let strange = json!({ "node": "office", "report": { "x": 1 } });
    let (status, problem) = server.post("/api/v1/smtp-tests/import", &strange, None).await;
    assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some("/report")), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_the_question_is_said_before_anything_runs() {
    let (server, _sink) = with_route(SinkOptions::default()).await;
    for (asked, status, pointer) in [
        (json!({ "route": "nothing" }), 404, None),
        (json!({ "route": "capture" }), 422, Some("/route")),
        (json!({ "route": "provider", "target": "a.test" }), 422, Some("/target")),
        (json!({ "target": "a b" }), 422, Some("/target")),
        (json!({ "target": "a.test", "message": "send" }), 422, Some("/to")),
    ] {
        let (is, problem) = server.post("/api/v1/smtp-tests", &asked, None).await;
        assert_eq!((is, problem["errors"][0]["pointer"].as_str()), (status, pointer), "{asked}: {problem}");
    }
    let (_, list) = server.get("/api/v1/smtp-tests").await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_up_pages_work_by_forms_alone() {
    let (server, sink) = with_route(SinkOptions::default()).await;
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
    let page = async |path: &str| {
        let response = server.request(Method::GET, path).header("Cookie", &cookie).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };

    let asked = [
        ("_back", "/admin/smtp-test"),
        ("_next", "/admin/smtp-test/{id}"),
        ("route", "provider"),
        ("from", "a@shop.test"),
        ("to", "b@one.test"),
        ("target", ""),
        ("insecure", "false"),
        ("message", "send"),
    ];
    let begun = post("/admin/do/smtp-tests", &cookie, &asked).await;
    let place = begun.headers()["location"].to_str().unwrap().to_owned();
    ended(&server, place.rsplit('/').next().unwrap()).await;
    let (status, html) = page(&place).await;
    assert!(status == 200 && html.contains("Success") && html.contains("swaks --server"), "{html}");
    assert_eq!(sink.count(), 1);
    assert!(!html.contains("another node"), "there is none");
    let again = [("_back", &*place), ("_next", "/admin/smtp-test/{id}")];
    let place =
        post(&format!("/admin/do/smtp-tests/{}/repeat", place.rsplit('/').next().unwrap()), &cookie, &again).await;
    ended(&server, place.headers()["location"].to_str().unwrap().rsplit('/').next().unwrap()).await;
    assert_eq!(sink.count(), 2);

    let free = sink.port();
    drop(sink);
    let route = |test: &'static str| {
        let port = free.to_string();
        [
            ("_back", "/admin/routes/new?provider=smarthost".to_owned()),
            ("_next", "/admin/routes/{name}".into()),
            ("name", "second".into()),
            ("kind", "smarthost".into()),
            ("host", "127.0.0.1".into()),
            ("port", port),
            ("tls", "none".into()),
            ("?test", test.into()),
        ]
    };
    let sent = async |test: &'static str| {
        let fields = route(test);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        post("/admin/do/routes", &cookie, &fields).await
    };
    let refused = sent("true").await;
    assert_eq!(refused.status(), 422);
    let html = refused.text().await.unwrap();
    assert!(
        html.contains("does not work, so nothing was saved") && html.contains("What to do, in this order"),
        "{html}"
    );
    assert_eq!(page("/admin/routes/second").await.0, 404);
    assert_eq!(sent("false").await.headers()["location"], "/admin/routes/second");
    assert_eq!(page("/admin/routes/second").await.0, 200);

    let rule = [
        ("_method", "PUT"),
        ("_back", "/admin/routes"),
        ("name", "shop"),
        ("order", "5"),
        ("route", "second"),
        ("sender_domain", "shop.test"),
    ];
    assert_eq!(post("/admin/do/rules/%7Bname%7D", &cookie, &rule).await.status(), 303);
    let (_, rules) = server.get("/api/v1/rules").await;
    assert!(rules.to_string().contains(r#""sender_domain":"shop.test""#), "{rules}");

    let sender = [
        ("_back", "/admin/senders"),
        ("_show", "sender-secret.html"),
        ("name", "crm"),
        ("allowed_from", "crm.test"),
        ("make", "both"),
    ];
    let shown = post("/admin/do/senders", &cookie, &sender).await.text().await.unwrap();
    assert!(shown.contains("SMTP password") && shown.contains("pbx_"), "{shown}");
    let (_, document) = page("/api/v1/routes/second/document").await;
    assert!(document.starts_with("# Route second"), "{document}");
    for path in [
        "/admin/start",
        "/admin/smtp-test",
        "/admin/routes",
        "/admin/domains",
        "/admin/streams",
        "/admin/senders",
        "/admin/senders/crm",
    ] {
        assert_eq!(page(path).await.0, 200, "{path}");
    }
}
