//! Streams from the outside: the command line, the API, the link in a newsletter that its reader clicks.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{PATIENCE, Server};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::sink::Sink;

const PUBLIC: &str = "";

/// A server that knows where the public finds it.
fn public() -> Server {
    let server = Server::with(PUBLIC);
    let text = std::fs::read_to_string(server.config()).unwrap();
    let with_url = text.replace("[http]\n", "[http]\npublic_url = \"https://mail.example.test/\"\n");
    std::fs::write(server.config(), with_url).unwrap();
    server
}

fn message(stream: &str, to: &[&str], subject: &str) -> Value {
    json!({"from": "app@shop.test", "to": to, "subject": subject, "text": "Dear reader", "stream": stream})
}

/// A command that is refused, with its exit code and words.
fn refused(server: &Server, args: &[&str]) -> (i32, String) {
    let output = server.command(args).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn streams_are_made_from_presets_changed_paused_and_removed_by_the_command_line() {
    let server = Server::with("");
    let presets = server.run_json(&["stream", "presets"]);
    let names: Vec<&str> =
        presets["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    let reset = server.run_json(&["stream", "add", "reset", "--preset", "password-reset"]);
    assert_eq!((&reset["priority"], &reset["deadline_s"], &reset["opt_out"]), (&json!(0), &json!(900), &json!(false)));
    let args = ["stream", "set", "reset", "--deadline", "10m", "--per-minute", "60", "--description", "Codes"];
    let reset = server.run_json(&args);
    assert_eq!((&reset["deadline_s"], &reset["per_minute"]), (&json!(600), &json!(60)));
    assert_eq!(server.run_json(&["stream", "set", "reset", "--clear", "per-minute"])["per_minute"], Value::Null);
    let (code, words) = refused(&server, &["stream", "add", "reset"]);
    assert_eq!(code, 1, "{words}");
    for (args, code, says) in [
        (&["stream", "add", "x", "--preset", "nothing"][..], 1, "password-reset"),
        (&["stream", "add", "x", "--deadline", "soon"], 2, "not a time"),
        (&["stream", "add", "x", "--per-minute", "0"], 1, "pause the stream"),
        (&["stream", "add", "news", "--preset", "newsletter"], 1, "http.public_url"),
        (&["stream", "set", "reset"], 2, "nothing to change"),
        (&["stream", "show", "unheard-of"], 1, "no such thing"),
        (&["preferences", "set", "ann@one.test", "--out", "reset"], 1, "cannot opt out"),
        (&["preferences", "set", "nobody", "--out", "x"], 1, "address"),
        (&["preferences", "set", "ann@one.test"], 2, "nothing to change"),
    ] {
        let (was, words) = refused(&server, args);
        assert!(was == code && words.contains(says), "{args:?}: {was} {words}");
    }

    let paused = server.run_json(&["stream", "pause", "reset", "--why", "the template is wrong"]);
    assert_eq!(paused["paused"]["why"], "the template is wrong");
    let (status, answer) = server.post("/api/v1/messages", &message("reset", &["ann@one.test"], "Code"), None).await;
    assert_eq!((status, &answer["recipients"][0]["status"]), (202, &json!("held")));
    assert!(answer["recipients"][0]["why"].as_str().unwrap().contains("the template is wrong"));
    assert!(server.run(&["stream", "ls"]).contains("paused"));
    server.run(&["stream", "resume", "reset"]);
    let id = answer["id"].as_str().unwrap().to_owned();
    server
        .until("delivery", async || {
            let (_, shown) = server.get(&format!("/api/v1/messages/{id}")).await;
            (shown["recipients"][0]["state"] == "delivered").then_some(())
        })
        .await;

    // One that somebody added stays, also if nothing is said of it; one that was only paused is gone with its pause.
    server.run(&["stream", "add", "plain"]);
    for name in ["plain", "unheard-of"] {
        server.run(&["stream", "pause", name, "--why", "x"]);
        server.run(&["stream", "resume", name]);
    }
    assert_eq!(server.run_json(&["stream", "show", "plain"])["source"], "store");
    let (code, words) = refused(&server, &["stream", "show", "unheard-of"]);
    assert!(code == 1 && words.contains("no such thing"), "{words}");
    server.run(&["stream", "rm", "plain"]);

    server.run(&["stream", "set", "reset", "--enabled=false"]);
    let body = message("reset", &["ann@one.test", "bob@one.test"], "Code");
    let (status, off) = server.post("/api/v1/messages", &body, Some("once")).await;
    assert_eq!(status, 202);
    for n in 0..2 {
        assert_eq!(off["recipients"][n]["status"], "suppressed");
        assert!(off["recipients"][n]["why"].as_str().unwrap().starts_with("stream off"));
    }
    let (_, again) = server.post("/api/v1/messages", &body, Some("once")).await;
    assert_eq!(again, off, "a repeated request hears the same");
    let (_, events) = server.get(&format!("/api/v1/messages/{}/events", off["id"].as_str().unwrap())).await;
    let kinds: Vec<&str> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["event"].as_str().or(one["kind"].as_str()))
        .collect();
    assert!(kinds.contains(&"suppressed"), "{events}");
    server.run(&["stream", "rm", "reset"]);
    assert_eq!(server.run_json(&["stream", "ls"])["items"], json!([]));
}

#[tokio::test]
async fn what_the_configuration_says_of_a_stream_holds_and_the_rest_can_be_added() {
    let server = Server::with("");
    let mut text = std::fs::read_to_string(server.config()).unwrap();
    text.push_str("[[stream]]\nname = \"login\"\npriority = \"urgent\"\ndeadline = \"5m\"\n");
    std::fs::write(server.config(), text).unwrap();
    let mut server = server;
    server.terminate();
    server.restart();
    let shown = server.run_json(&["stream", "show", "login"]);
    assert_eq!((&shown["source"], &shown["deadline_s"]), (&json!("configuration"), &json!(300)));
    let (code, words) = refused(&server, &["stream", "set", "login", "--deadline", "1h"]);
    assert!(code == 1 && words.contains("configuration"), "{words}");
    let shown = server.run_json(&["stream", "set", "login", "--digest", "1m"]);
    assert_eq!((&shown["digest_s"], &shown["priority"]), (&json!(60), &json!(0)));
    server.run(&["stream", "rm", "login"]);
    let shown = server.run_json(&["stream", "show", "login"]);
    assert_eq!((&shown["digest_s"], &shown["priority"]), (&json!(null), &json!(0)));
    let (code, words) = refused(&server, &["stream", "rm", "login"]);
    assert!(code == 1 && words.contains("configuration"), "{words}");
}

#[tokio::test]
async fn a_reader_leaves_a_newsletter_by_the_link_in_it_and_comes_back_by_the_api() {
    let sink = Sink::start().await;
    let mut server = public();
    server.terminate();
    server.restart();
    server.route_to(sink.port());
    server.run(&["stream", "add", "news", "--preset", "newsletter"]);
    let post = async |stream: &str| {
        let (status, answer) = server.post("/api/v1/messages", &message(stream, &["ann@one.test"], "News"), None).await;
        assert_eq!(status, 202, "{answer}");
        answer["recipients"][0].clone()
    };
    assert_eq!(post("news").await["status"], "queued");
    sink.wait_for(1, PATIENCE).await;
    let mail = &sink.received()[0];
    assert_eq!(mail.header("List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    let link = mail.header("List-Unsubscribe").unwrap();
    let path = link.trim().strip_prefix("<https://mail.example.test").unwrap().strip_suffix('>').unwrap().to_owned();
    assert!(!path.contains("ann"), "no address in clear: {path}");

    let ask = server.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(ask.status(), 200);
    let page = ask.text().await.unwrap();
    assert!(page.contains("ann@one.test") && page.contains("<form method=\"post\">"), "{page}");
    assert_eq!(post("news").await["status"], "queued", "a scanner that follows links changes nothing");

    let forged = format!("{}A", &path[..path.len() - 1]);
    let forged = if forged == path { format!("{}B", &path[..path.len() - 1]) } else { forged };
    assert_eq!(server.request(Method::POST, &forged).send().await.unwrap().status(), 404);
    assert_eq!(server.request(Method::POST, "/u/%00x").send().await.unwrap().status(), 404);
    for _ in 0..2 {
        let click = server.request(Method::POST, &path).body("List-Unsubscribe=One-Click").send().await.unwrap();
        assert_eq!(click.status(), 200, "once, and again");
    }
    let shown = server.run_json(&["preferences", "show", "ann@one.test"]);
    assert_eq!((&shown["streams"][0]["wish"], &shown["streams"][0]["by"]), (&json!("out"), &json!("link")));
    let out = server
        .until("a suppression that is known", async || {
            let recipient = post("news").await;
            (recipient["status"] == "suppressed").then_some(recipient)
        })
        .await;
    assert!(out["why"].as_str().unwrap().starts_with("opted out"), "{out}");
    assert_eq!(post("other").await["status"], "queued", "other mail goes on");

    server.run(&["preferences", "set", "ann@one.test", "--in", "news"]);
    server.until("mail again", async || (post("news").await["status"] == "queued").then_some(())).await;
    let (status, problem) =
        server.post("/api/v1/messages", &message("news", &["a@one.test", "b@one.test"], "News"), None).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/to")));
}
