//! REQUIRETLS asked for by HTTP and on the command line: the next hop gets the demand, or the sender is told in words why nothing went.

mod common;

use common::{PATIENCE, Server};
use serde_json::json;
use testkit::Zones;
use testkit::sink::{Extensions, Sink, SinkOptions, Tls};

#[tokio::test]
async fn a_demand_by_http_or_command_line_goes_with_the_message_or_keeps_it_here() {
    let zones = Zones::start().await;
    zones.loopback("localhost");
    let server = Server::with(&format!("[dns]\nservers = [\"{}\"]\n", zones.address()));
    let promising = Sink::with(SinkOptions {
        tls: Tls::StartTls(server.ca.issue(&["localhost"])),
        extensions: Extensions { further: vec!["REQUIRETLS".to_owned()], ..Extensions::default() },
        ..SinkOptions::default()
    })
    .await;
    let clear = Sink::start().await;
    server.ca.write_pem(server.dir.path());
    let host = |sink: &Sink| format!("localhost:{}", sink.port());
    let add = ["route", "add", "promising", "--smarthost", &host(&promising), "--ca-file", "ca.pem", "--default"];
    server.run(&add);
    server.run(&["route", "add", "clear", "--smarthost", &host(&clear), "--tls", "none", "--retry", "1h"]);
    server.run(&["route", "rule", "add", "clear", "--route", "clear", "--to-domain", "clear.test"]);

    let body = |to: &str| json!({"from": "app@shop.test", "to": to, "text": "secret", "require_tls": true});
    let (status, _) = server.post("/api/v1/messages", &body("ann@one.test"), None).await;
    assert_eq!(status, 202);
    let raw = server
        .request(reqwest::Method::POST, "/api/v1/messages?from=app%40shop.test&to=bob%40one.test&require_tls=true")
        .bearer_auth(&server.key)
        .header("Content-Type", "message/rfc822")
        .body("Subject: x\n\ny\n");
    assert_eq!(raw.send().await.unwrap().status().as_u16(), 202);
    server.run(&["send", "--from", "app@shop.test", "--to", "eve@one.test", "--text", "secret", "--require-tls"]);
    let received = promising.wait_for(3, PATIENCE).await;
    assert!(received.iter().all(|mail| mail.tls && mail.parameters.contains("REQUIRETLS")), "{received:?}");

    let sent = server.run_json(&["send", "--from", "app@shop.test", "--to", "ann@clear.test", "--require-tls"]);
    let id = sent["id"].as_str().unwrap();
    let words = server
        .until("the refusal", async || {
            let shown = server.run(&["queue", "show", id]);
            shown.contains("failed").then_some(shown)
        })
        .await;
    assert!(words.contains("REQUIRETLS"), "{words}");
    assert!(words.contains("The message was not sent"), "{words}");
    assert_eq!(clear.count(), 0);
}

#[tokio::test]
async fn a_message_that_says_both_is_refused() {
    let server = Server::start();
    let body = json!({
        "from": "app@shop.test", "to": "ann@one.test", "text": "x", "require_tls": true, "headers": {"TLS-Required": "No"},
    });
    let (status, problem) = server.post("/api/v1/messages", &body, None).await;
    assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some("/require_tls")), "{problem}");
    let body = json!({"from": "app@shop.test", "to": "ann@one.test", "text": "x", "require_tls": "yes"});
    assert_eq!(server.post("/api/v1/messages", &body, None).await.0, 422);
}
