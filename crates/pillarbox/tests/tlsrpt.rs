//! Reports about TLS through the program: counted while mail goes to mail exchangers, shown, and sent by hand.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::Read as _;

use common::{PATIENCE, Server};
use serde_json::Value;
use testkit::{Page, Sink, Web, Zones};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_counted_shown_and_reported() {
    let zones = Zones::start().await;
    let head = format!(
        "[dns]\nservers = [\"{}\"]\n[tls]\nroots = \"ca.pem\"\n\
         [tls_report]\ncontact = \"tls@shop.test\"\norganization = \"The Shop\"\nprivate = \"yes\"\n",
        zones.address()
    );
    let (ca, dir) = (testkit::Ca::new(), tempfile::tempdir().unwrap());
    ca.write_pem(dir.path());
    let head = head.replace("ca.pem", dir.path().join("ca.pem").to_str().unwrap());
    let server = Server::with(&head);
    let sink = Sink::start().await;
    let web = Web::start(&ca.issue(&["reports.test"]), Page::Raw("HTTP/1.1 200 OK\r\n\r\n".into())).await;
    zones.mx("one.test", 10, "mx.one.test").loopback("mx.one.test").loopback("reports.test");
    let uri = format!("https://reports.test:{}/in", web.address().port());
    zones.txt("_smtp._tls.one.test", &format!("v=TLSRPTv1; rua={uri},mailto:tls@one.test"));
    let port = sink.port().to_string();
    server.run(&["route", "add", "direct", "--mx", "--port", &port, "--allow-private", "--default"]);

    server.run(&["send", "--from", "app@shop.test", "--to", "ann@one.test", "--text", "x"]);
    sink.wait_for(1, PATIENCE).await;
    let listed = server.run_json(&["tlsrpt", "ls"]);
    let item = &listed["items"][0];
    assert_eq!(
        (item["domain"].as_str(), item["failed"].as_u64(), item["state"].as_str()),
        (Some("one.test"), Some(1), Some("open"))
    );
    let shown = server.run(&["tlsrpt", "show", "one.test"]);
    assert!(shown.contains("1 × starttls-not-supported at mx.one.test [127.0.0.1]"), "{shown}");
    assert!(shown.contains("by The Shop, tls@shop.test"), "{shown}");

    let sent = server.run_json(&["tlsrpt", "send", "one.test"]);
    assert_eq!(sent["sent_to"], serde_json::json!([uri, "mailto:tls@one.test"]));
    let asked = web.wait_for(1).await;
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(&asked[0].body[..]).read_to_end(&mut json).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["organization-name"], "The Shop");
    assert_eq!(report["policies"][0]["failure-details"][0]["result-type"], "starttls-not-supported");
    let mail = &sink.wait_for(2, PATIENCE).await[1];
    assert_eq!((mail.from.as_str(), mail.header("TLS-Report-Submitter").as_deref()), ("", Some("shop.test")));

    web.show(Page::Raw("HTTP/1.1 500 No\r\n\r\n".into()));
    let refused = server.command(&["tlsrpt", "send", "one.test"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let unknown = server.command(&["tlsrpt", "show", "two.test"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

#[test]
fn without_a_contact_the_commands_say_what_to_set() {
    let server = Server::start();
    let output = server.command(&["tlsrpt", "ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("tls_report.contact"), "{output:?}");
    let wrong = Server::start();
    std::fs::write(wrong.dir.path().join("wrong.toml"), "[tls_report]\ncontact = \"nobody\"\n").unwrap();
    let output = wrong.command(&["config", "check", "--config", "wrong.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("a mail address"));
}
