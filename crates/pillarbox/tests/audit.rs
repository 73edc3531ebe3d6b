//! The audit log: every change of settings and every operation, by key and by control socket, and never a secret.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Server;
use reqwest::Method;
use serde_json::{Value, json};

async fn acts(server: &Server, query: &str) -> Vec<Value> {
    let (status, page) = server.get(&format!("/api/v1/audit{query}")).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn changes_and_operations_are_noted_with_who_what_and_before_and_after() {
    let server = Server::start();
    server.run(&["sender", "set", "app", "--admin"]);
    let route =
        ["route", "add", "out", "--smarthost", "mail.test:587", "--username", "u", "--password-from", "env:CANARY"];
    let mut command = server.command(&route);
    assert!(command.env("CANARY", "canary-0123456789").output().unwrap().status.success());
    let patch = json!({ "port": 465 });
    let changed =
        server.request(Method::PATCH, "/api/v1/routes/out").bearer_auth(&server.key).json(&patch).send().await.unwrap();
    assert_eq!(changed.status(), 200, "{}", changed.text().await.unwrap());
    let (status, _) = server.post("/api/v1/queue/hold", &json!({ "selector": { "all": true } }), None).await;
    assert_eq!(status, 200);
    let preview = json!({ "selector": { "all": true }, "dry_run": true });
    assert_eq!(server.post("/api/v1/queue/cancel", &preview, None).await.0, 200);
    assert_eq!(server.post("/api/v1/routes", &json!({ "name": "out" }), None).await.0, 422);
    server.run(&["stream", "pause", "news", "--why", "wrong template"]);
    server.run(&["sender", "password", "app"]);
    server.run(&["route", "remove", "out"]);

    let all = acts(&server, "").await;
    let told: Vec<(&str, &str, &str)> = all
        .iter()
        .rev()
        // What the server notes of itself at the start is not asked for here.
        .filter(|one| one["who"] != "Pillarbox")
        .map(|one| (one["who"].as_str().unwrap(), one["action"].as_str().unwrap(), one["what"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("control socket", "change", "sender/app"),
            ("control socket", "add", "route/out"),
            ("API key of app", "change", "route/out"),
            ("API key of app", "hold", "queue"),
            ("control socket", "pause", "stream/news"),
            ("control socket", "change", "sender/app"),
            ("control socket", "remove", "route/out"),
        ],
        "a preview and a refusal change nothing"
    );
    let change = &acts(&server, "?what=route/out&action=change").await[0];
    assert_eq!(change["changes"], json!([{ "field": "/port", "before": 587, "after": 465 }]));
    assert_eq!(change["address"], "127.0.0.1");
    assert_eq!(acts(&server, "?action=hold").await[0]["detail"]["selector"]["all"], true);
    let password = &acts(&server, "?what=sender/app").await[0];
    assert_eq!(password["changes"], json!([{ "field": "/password_hash", "secret": true }]));
    let text = serde_json::to_string(&all).unwrap();
    assert!(!text.contains("canary") && !text.contains("$argon2"), "{text}");

    assert_eq!(acts(&server, "?who=socket").await.len(), 5);
    assert_eq!(acts(&server, "?what=route").await.len(), 3);
    assert_eq!(acts(&server, "?since=2999-01-01T00:00:00Z").await.len(), 0);
    let (_, page) = server.get("/api/v1/audit?limit=2").await;
    let more = acts(&server, &format!("?before={}", page["next"].as_str().unwrap())).await;
    assert_eq!(more.len(), all.len() - 2);
    let shown = server.run(&["audit", "--since", "1h", "--what", "route"]);
    assert!(shown.contains("port: 587 -> 465") && shown.contains("and 6 more"), "{shown}");
}
