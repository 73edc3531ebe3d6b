//! An application submits by HTTP; on a fresh server the message is captured and can be looked at.

mod common;

use common::Server;
use serde_json::json;

#[tokio::test]
async fn a_message_by_http_is_captured_and_readable() {
    let server = Server::start();
    let message = json!({
        "from": "App <app@shop.test>", "to": ["ann@one.test"], "bcc": ["hidden@two.test"], "subject": "Grüße",
        "text": "Hallo", "html": "<script>alert(1)</script>", "tags": ["order"], "metadata": {"order": 7},
        "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content": "aGk="}],
    });
    let (status, answer) = server.post("/api/v1/messages", &message, None).await;
    assert_eq!(status, 202, "{answer}");
    let id = answer["id"].as_str().unwrap();
    assert_eq!(answer["recipients"][1]["id"], format!("{id}.1"));
    assert_eq!(answer["recipients"][1]["address"], "hidden@two.test");

    let path = format!("/api/v1/messages/{id}");
    let seen = server
        .until("the delivery into the mailbox", async || {
            let (_, seen) = server.get(&path).await;
            (seen["captured"] == true && seen["recipients"][0]["state"] == "delivered").then_some(seen)
        })
        .await;
    assert_eq!(seen["recipients"][0]["meaning"], "accepted by capture", "a 250 is not an inbox");
    assert_eq!(seen["subject"], "Grüße");
    assert_eq!(seen["metadata"]["order"], 7);
    let (_, events) = server.get(&format!("{path}/events")).await;
    let kinds: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "accepted");
    assert!(kinds.contains(&"delivered"), "{kinds:?}");

    let captured = server.run_json(&["capture", "show", id]);
    assert_eq!(captured["text"].as_str().unwrap().trim(), "Hallo");
    assert_eq!(captured["attachments"][0]["filename"], "a.txt");
    let raw = server.run(&["capture", "raw", id]);
    assert!(!raw.contains("hidden@two.test"), "a blind copy is nobody's business:\n{raw}");
    assert!(raw.contains("\r\nMessage-ID: <") && raw.starts_with("Received: "), "{raw}");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_field_and_without_a_key_nothing_is() {
    let server = Server::start();
    let wrong = json!({"from": "a@b.test", "to": ["x"], "text": "t"});
    let (status, problem) = server.post("/api/v1/messages", &wrong, None).await;
    assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some("/to/0")), "{problem}");
    let wrong = json!({"from": "a@b.test", "to": ["x@y.test"], "text": "t", "subject": "a\r\nBcc: z@y.test"});
    let (status, problem) = server.post("/api/v1/messages", &wrong, None).await;
    assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some("/subject")), "{problem}");

    let late = json!({"from": "a@b.test", "to": "x@y.test", "text": "t", "deliver_by": "2020-01-01T00:00:00Z"});
    let (status, problem) = server.post("/api/v1/messages", &late, None).await;
    assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some("/deliver_by")), "{problem}");

    let response = server.request(reqwest::Method::POST, "/api/v1/messages").json(&wrong).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let (status, _) = server.get("/api/v1/queue").await;
    assert_eq!(status, 403, "only a sender with admin sees the queue");
    let (status, _) = server.get("/api/v1/messages/0000000000000").await;
    assert_eq!(status, 404);
    let (status, _) = server.get("/readyz").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_sender_sees_its_own_messages_only() {
    let server = Server::start();
    let (_, answer) =
        server.post("/api/v1/messages", &json!({"from": "a@b.test", "to": "x@y.test", "text": "t"}), None).await;
    let path = format!("/api/v1/messages/{}", answer["id"].as_str().unwrap());
    let made = server.run_json(&["sender", "add", "other", "--allow-from", "*", "--api-key", "--no-password"]);
    let key = made["new_api_key"].as_str().unwrap();
    let other = server.request(reqwest::Method::GET, &path).bearer_auth(key).send().await.unwrap();
    assert_eq!(other.status(), 404, "not even that it exists");
    assert_eq!(server.get(&path).await.0, 200);
}

#[tokio::test]
async fn a_finished_message_is_taken_with_its_envelope() {
    let server = Server::start();
    let request = server
        .request(reqwest::Method::POST, "/api/v1/messages?from=b%40shop.test&to=ann%40one.test&to=bob%40one.test");
    let request = request.bearer_auth(&server.key).header("Content-Type", "message/rfc822");
    let response = request.body("From: a@shop.test\nSubject: raw\n\nbody\n").send().await.unwrap();
    assert_eq!(response.status(), 202);
    let page = server.run_json(&["capture", "ls"]);
    assert_eq!(page["items"][0]["envelope_from"], "b@shop.test");
    assert_eq!(page["items"][0]["recipients"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_command_line_works_on_a_server_elsewhere_with_a_key() {
    let server = Server::start();
    let made = server.run_json(&["sender", "add", "ops", "--allow-from", "*", "--api-key", "--admin", "--no-password"]);
    let key = made["new_api_key"].as_str().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |args: &[&str], key: &str| {
        let mut command = std::process::Command::new(common::program());
        command.args(args).args(["--json", "--server", &server.url("")]).current_dir(elsewhere.path());
        command.env_remove("PILLARBOX_CONFIG").env("PILLARBOX_API_KEY", key).output().unwrap()
    };
    let sent = run(&["send", "--from", "a@shop.test", "--to", "b@one.test", "--text", "t"], &server.key);
    assert!(sent.status.success(), "{sent:?}");
    let routes = run(&["route", "ls"], key);
    let routes: serde_json::Value = serde_json::from_slice(&routes.stdout).unwrap();
    assert_eq!(
        (routes["items"][0]["name"].as_str(), routes["items"][0]["kind"].as_str()),
        (Some("capture"), Some("capture"))
    );
    assert_eq!(run(&["route", "ls"], &server.key).status.code(), Some(1), "`app` may not manage");
    assert_eq!(run(&["backup", "x"], key).status.code(), Some(1), "paths of the server are for its own machine");
}
