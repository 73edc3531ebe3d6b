//! Routes looked after: their settings compared with the provider's, documented, and what would become of a message.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::{Output, Stdio};

use common::Server;
use serde_json::{Value, json};
use testkit::Zones;
use testkit::sink::{Sink, SinkOptions, Tls};

const KEY: &str = "SG.aaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const SENDGRID: &str = "smtp.sendgrid.net";

async fn server() -> (Server, Zones) {
    let zones = Zones::start().await;
    let server = Server::with(&format!("[dns]\nservers = [\"{}\"]\n", zones.address()));
    server.ca.write_pem(server.dir.path());
    std::fs::write(server.dir.path().join("key"), format!("{KEY}\n")).unwrap();
    (server, zones)
}

fn run(server: &Server, args: &[&str]) -> Output {
    server.command(args).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A route to a sink that is known as SendGrid.
async fn sendgrid(server: &Server, zones: &Zones, more: &[&str]) -> Sink {
    zones.loopback(SENDGRID);
    let users = vec![("apikey".to_owned(), KEY.to_owned())];
    let tls = Tls::StartTls(server.ca.issue(&[SENDGRID]));
    let sink = Sink::with(SinkOptions { tls, users, ..SinkOptions::default() }).await;
    let port = sink.port().to_string();
    let add =
        ["route", "add", "mail", "sendgrid", "--port", &port, "--ca-file", "ca.pem", "--password-from", "file:key"];
    let output = run(server, &[&add[..], more].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    sink
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_checked_against_its_provider_and_its_server() {
    let (server, zones) = server().await;
    let sink = sendgrid(&server, &zones, &[]).await;
    server.run(&["sender", "set", "app", "--allow-from", "shop.test"]);
    // The port is that of the test.
    let report = server.run_json(&["route", "check", "mail", "--from", "app@shop.test", "--to", "ann@one.test"]);
    let signs = |report: &Value| -> Vec<String> {
        report["settings"].as_array().unwrap().iter().map(|one| one["sign"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((report["healthy"].as_bool(), signs(&report)), (Some(true), vec!["route_port_not_offered".into()]));
    assert_eq!(report["server"]["healthy"], true);
    assert_eq!(sink.count(), 0);

    server.run(&["route", "set", "mail", "--verify", "false"]);
    server.run(&["sender", "set", "app", "--allow-from", "*"]);
    let output = run(&server, &["route", "check", "mail"]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for part in [
        "ok   auth",
        "problem: The certificate of the smart host is not verified (route-not-verified)",
        "pillarbox route set mail --verify true",
        "warning: app may send as anybody",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("SG."), "{shown}");
    let connections = sink.connections();
    let report =
        serde_json::from_slice::<Value>(&run(&server, &["route", "check", "mail", "--settings-only", "--json"]).stdout);
    let report = report.unwrap();
    assert_eq!((report["server"].is_null(), report["healthy"].as_bool()), (true, Some(false)), "{report:#}");
    assert_eq!(sink.connections(), connections);
    assert_eq!(run(&server, &["route", "check", "nowhere"]).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_documented_without_its_secret() {
    let (server, zones) = server().await;
    let _sink = sendgrid(&server, &zones, &["--default"]).await;
    server.run(&["sender", "set", "app", "--allow-from", "shop.test"]);
    zones.txt("shop.test", "v=spf1 include:sendgrid.net -all").txt("s1._domainkey.shop.test", "v=DKIM1; p=AAAA");
    let shown = server.run(&["route", "export", "mail"]);
    for part in [
        "# Route mail",
        "| host | smtp.sendgrid.net |",
        "| username | apikey |",
        "all mail that no other rule takes",
        "| shop.test | SPF | include:sendgrid.net | there |",
        "| s1._domainkey.shop.test | DKIM | a key, where this selector is used | there |",
        "| s2._domainkey.shop.test | DKIM | a key, where this selector is used | missing |",
        "| _dmarc.shop.test | DMARC | v=DMARC1; p=… | missing |",
        "pillarbox route check mail",
        "rules show sendgrid-credentials",
        "https://app.sendgrid.com/",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("SG.a"), "{shown}");
    let document = server.run_json(&["route", "export", "mail", "--domain", "other.test"]);
    assert_eq!(document["domains"], json!(["other.test"]));
    assert_eq!(document["records"][0]["state"], "missing", "{document:#}");
    assert!(!document.to_string().contains("SG.a"));
    // A name server that does not answer is no missing record.
    zones.fail("shop.test", testkit::Trouble::ServFail);
    let shown = server.run(&["route", "export", "mail"]);
    assert!(shown.contains("| shop.test | SPF | include:sendgrid.net | not known"), "{shown}");
    assert!(!server.run(&["route", "export", "mail", "--no-dns"]).contains("_dmarc"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_happen_is_what_then_happens() {
    let (server, zones) = server().await;
    server.run(&["sender", "set", "app", "--admin"]);
    let sink = Sink::start().await;
    zones.loopback("mx1.test").mx("x.test", 20, "nowhere.test").mx("x.test", 10, "mx1.test");
    let route = json!({ "name": "direct", "kind": "mx", "port": sink.port(), "connections": 3, "allow_private": true });
    let (status, answer) = server.post("/api/v1/routes", &route, None).await;
    assert_eq!(status, 201, "{answer}");
    server.run(&["route", "rule", "add", "x", "--route", "direct", "--to-domain", "x.test"]);

    let (status, plan) = server.get("/api/v1/plan?recipient=ann%40x.test&from=app%40shop.test").await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!((plan["route"].as_str(), plan["connections"].as_u64()), (Some("direct"), Some(3)), "{plan:#}");
    assert_eq!(plan["hosts"][0], json!({ "preference": 10, "host": "mx1.test", "addresses": ["127.0.0.1"] }));
    assert!(plan["hosts"][1]["failure"].is_object(), "{plan:#}");
    assert_eq!(plan["next_slot_ms"], plan["now_ms"]);
    assert_eq!(sink.connections(), 0, "nothing is sent");

    let mail = json!({ "from": "app@shop.test", "to": ["ann@x.test"], "subject": "x", "text": "y" });
    let (status, accepted) = server.post("/api/v1/messages", &mail, None).await;
    assert_eq!(status, 202, "{accepted}");
    let path = format!("/api/v1/messages/{}/events", accepted["id"].as_str().unwrap());
    let events = server
        .until("the delivery", async || {
            let events = server.get(&path).await.1;
            events.to_string().contains("mx1.test").then_some(events)
        })
        .await;
    let (host, address) =
        (plan["hosts"][0]["host"].as_str().unwrap(), plan["hosts"][0]["addresses"][0].as_str().unwrap());
    let peer = format!("{host} [{address}]:{}", plan["port"]);
    assert!(events.to_string().contains(&peer), "{peer}: {events:#}");
    assert_eq!(sink.received()[0].helo, plan["helo"].as_str().unwrap());

    let output = run(&server, &["explain", "ann@x.test", "--from", "app@shop.test"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output);
    for part in ["direct (mx)", "mx1.test port", "where it is offered", "3 connections", "at once"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // A domain without mail hosts; one that stays here; an address that is none.
    let output = run(&server, &["explain", "ann@nowhere.x.test"]);
    assert!(text(&output).contains("capture") || output.status.code() == Some(1), "{output:?}");
    server.run(&["route", "rule", "add", "gone", "--route", "direct", "--to-domain", "gone.test"]);
    let output = run(&server, &["explain", "ann@gone.test"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("Fails"), "{}", text(&output));
    let (status, _) = server.get("/api/v1/plan?recipient=nobody").await;
    assert_eq!(status, 422);
}
