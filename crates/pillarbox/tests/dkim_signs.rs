//! Mail of a domain with keys is signed, and the signatures hold on the octets that a next hop receives: whatever the
//! body, with and without 8BITMIME.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fmt::Write as _;

use common::{PATIENCE, Server};
use reqwest::Method;
use testkit::sink::{Extensions, Received, Sink, SinkOptions};
use testkit::{Client, Zones};

/// A server whose resolver is `zones`, with active keys of shop.test published there.
fn signing(zones: &Zones) -> Server {
    let server = Server::with(&format!("[dns]\nservers = [\"{}\"]", zones.address()));
    let shown = server.run_json(&["dkim", "add", "shop.test", "--selector", "s1"]);
    for key in shown["keys"].as_array().unwrap() {
        assert_eq!(key["state"], "prepared");
        let record = &key["record"];
        let strings: String =
            record["strings"].as_array().unwrap().iter().filter_map(|string| string.as_str()).collect();
        assert_eq!(record["value"], strings.as_str());
        zones.txt(record["name"].as_str().unwrap(), &strings);
    }
    server.run(&["dkim", "activate", "shop.test", "--force"]);
    server
}

/// The two signatures of a message as `dkim verify` sees them.
fn verify(server: &Server, zones: &Zones, content: &[u8]) -> Vec<(String, String, String)> {
    let file = server.dir.path().join("received.eml");
    std::fs::write(&file, content).unwrap();
    let resolver = zones.address().to_string();
    let output = server
        .command(&["dkim", "verify", file.to_str().unwrap(), "--resolver", &resolver, "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let signatures = report["signatures"].as_array().unwrap().iter();
    signatures.map(|one| (text(&one["result"]), text(&one["algorithm"]), text(&one["signature"]["domain"]))).collect()
}

fn good(domain: &str) -> Vec<(String, String, String)> {
    ["rsa-sha256", "ed25519-sha256"].map(|name| ("pass".into(), name.into(), domain.into())).into()
}

/// Header fields (without From and To) and bodies that signers get wrong.
fn odd_messages() -> Vec<Vec<u8>> {
    let long_line = "word ".repeat(300);
    let headers = [
        "Subject: plain\r\n",
        "Subject: folded\r\n \t over\r\n   three lines \r\nReferences: <a@x>\r\n\t<b@x>\r\n",
        "SUBJECT:no blank\r\nComments: one\r\nComments: two\r\nComments: one\r\n",
        "Cc: a@x.test\r\nCc: b@x.test\r\nReply-To: ann@shop.test\r\nSubject:\r\n",
        "Date : Sat, 21 Nov 2026 07:00:00 +0000\r\nMessage-ID: <own@shop.test>\r\nSubject: \t tabs \t and  blanks \r\n",
    ];
    let multipart = "Content-Type: multipart/mixed; boundary=b\r\n";
    let mut bodies: Vec<(&str, Vec<u8>)> = vec![("", b"".to_vec()), ("", b"\r\n".to_vec())];
    for text in [
        "Hi\r\n",
        "no end of line",
        "blank lines at the end\r\n\r\n\r\n\r\n",
        "\r\n\r\nblank lines first\r\n",
        "blanks at the end \t \r\n  of lines\t\r\n \r\n\t\r\n",
        ".\r\n..\r\n.dot\r\n...three\r\n.",
        "From here on\r\nFrom: not a header\r\n",
        "two  blanks,\ttabs\t\tand   more\r\n",
    ] {
        bodies.push(("", text.into()));
    }
    bodies.push(("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n", "Grüße, € 5\r\n".into()));
    bodies.push(("Content-Type: text/plain; charset=iso-8859-1\r\n", b"Gr\xfc\xdfe \r\n\r\n".to_vec()));
    bodies.push(("", long_line.into_bytes()));
    bodies.push((
        multipart,
        "--b\r\n\r\nGrüße\r\n--b\r\nContent-Type: application/x\r\n\r\n\u{1}é\r\n--b--\r\nafter\r\n".into(),
    ));
    bodies.push((multipart, "--b\r\n\r\nplain\r\n\r\n--b--\r\n\r\n".into()));
    let mut all = Vec::new();
    for (n, (fields, body)) in bodies.iter().enumerate() {
        for (m, header) in headers.iter().enumerate().skip(n % 2) {
            let head = format!("From: Shop <mail@shop.test>\r\nTo: <r{n}.{m}@one.test>\r\n{header}{fields}\r\n");
            all.push([head.as_bytes(), body].concat());
        }
    }
    all
}

/// Submits by SMTP, octets as they are.
async fn submit(client: &mut Client, content: &[u8]) {
    client.command("MAIL FROM:<bounces@shop.test> BODY=8BITMIME").await.expect(250);
    client.command("RCPT TO:<r@one.test>").await.expect(250);
    client.command("DATA").await.expect(354);
    let mut wire = Vec::new();
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    client.send_raw(&wire).await.unwrap();
    client.reply().await.expect(250);
}

async fn log_in(server: &Server) -> Client {
    let mut client = Client::connect(server.smtp()).await;
    client.ehlo().await;
    let mut client = client.start_tls("localhost", &server.ca).await;
    client.auth_plain("app", &server.password).await.expect(235);
    client
}

async fn all_hold(extensions: Extensions) -> Vec<Received> {
    let zones = Zones::start().await;
    let server = signing(&zones);
    let sink = Sink::with(SinkOptions { extensions, ..SinkOptions::default() }).await;
    server.route_to(sink.port());
    let messages = odd_messages();
    assert!(messages.len() >= 50, "{}", messages.len());
    let mut client = log_in(&server).await;
    for message in &messages {
        submit(&mut client, message).await;
    }
    client.quit().await;
    // By HTTP the last line may lack its end.
    let by_http = server.request(Method::POST, "/api/v1/messages?to=h@one.test&from=mail@shop.test");
    let by_http = by_http.bearer_auth(&server.key).header("Content-Type", "message/rfc822");
    let answer = by_http.body("From: mail@shop.test\r\nSubject: by HTTP\r\n\r\nno end").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202, "{}", answer.text().await.unwrap());
    let received = sink.wait_for(messages.len() + 1, PATIENCE).await;
    let mut wrong = String::new();
    for one in &received {
        let found = verify(&server, &zones, &one.content);
        if found != good("shop.test") {
            let _ = writeln!(wrong, "{found:?}\n{}\n", one.text());
        }
    }
    assert_eq!(wrong, "");
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_odd_messages_hold_at_the_next_hop() {
    let received = all_hold(Extensions::default()).await;
    let first = received.iter().find(|one| one.text().contains("Subject: plain")).unwrap();
    assert!(first.text().starts_with("DKIM-Signature:"), "{}", first.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_hold_where_nothing_but_seven_bits_is_taken() {
    let received = all_hold(Extensions { eight_bit_mime: false, chunking: false, ..Extensions::default() }).await;
    assert!(received.iter().all(|one| one.content.is_ascii()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_mail_of_domains_with_active_keys_is_signed_and_domains_below_are() {
    let zones = Zones::start().await;
    let server = signing(&zones);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    server.run(&["dkim", "add", "prepared.test"]);
    let mut client = log_in(&server).await;
    for from in ["a@shop.test", "a@news.shop.test", "a@other.test", "a@prepared.test", "a@myshop.test"] {
        submit(&mut client, format!("From: <{from}>\r\nSubject: {from}\r\n\r\nHi\r\n").as_bytes()).await;
    }
    submit(&mut client, b"Subject: nobody\r\n\r\nHi\r\n").await;
    let received = sink.wait_for(6, PATIENCE).await;
    for (from, domain) in [
        ("a@shop.test", Some("shop.test")),
        ("a@news.shop.test", Some("shop.test")),
        ("a@other.test", None),
        ("a@prepared.test", None),
        ("a@myshop.test", None),
        ("nobody", None),
    ] {
        let one = received.iter().find(|one| one.header("Subject").as_deref() == Some(from)).unwrap();
        assert_eq!(verify(&server, &zones, &one.content), domain.map(good).unwrap_or_default(), "{from}");
    }
    server.run(&["dkim", "set", "shop.test", "--subdomains", "false", "--leave-out", "date,message-id"]);
    submit(&mut client, b"From: <a@news.shop.test>\r\nSubject: below\r\n\r\nHi\r\n").await;
    submit(&mut client, b"From: <a@shop.test>\r\nSubject: itself\r\n\r\nHi\r\n").await;
    let received = sink.wait_for(8, PATIENCE).await;
    let find = |subject: &str| received.iter().find(|one| one.header("Subject").as_deref() == Some(subject)).unwrap();
    assert_eq!(find("below").header("DKIM-Signature"), None);
    let signature = find("itself").header("DKIM-Signature").unwrap();
    assert!(!signature.contains("Message-ID") && signature.contains("From"), "{signature}");
    client.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_signed_for_the_domain_of_our_host_name() {
    let zones = Zones::start().await;
    let server = signing(&zones);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    for key in server.run_json(&["dkim", "add", "relay.test", "--algorithm", "rsa"])["keys"].as_array().unwrap() {
        zones.txt(key["record"]["name"].as_str().unwrap(), key["record"]["value"].as_str().unwrap());
    }
    server.run(&["dkim", "activate", "relay.test", "--force"]);
    let mut client = log_in(&server).await;
    client.submit("a@shop.test", &["bob+p550@one.test"], "From: a@shop.test\r\n\r\nHi\r\n").await.expect(250);
    let received = sink.wait_for(1, PATIENCE).await;
    assert_eq!((received[0].from.as_str(), received[0].to[0].as_str()), ("", "a@shop.test"));
    let found = verify(&server, &zones, &received[0].content);
    assert_eq!(found, [("pass".into(), "rsa-sha256".into(), "relay.test".into())]);
    client.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_keys_never_come_out_and_refusals_are_in_words() {
    let server = Server::start();
    let pem = std::process::Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output().unwrap().stdout;
    let file = server.dir.path().join("own.pem");
    std::fs::write(&file, &pem).unwrap();
    let file = file.to_str().unwrap();
    let shown = server.run_json(&["dkim", "add", "Shop.Test.", "--selector", "old", "--import", file]);
    assert_eq!((&shown["domain"], &shown["keys"][0]["bits"]), (&"shop.test".into(), &2048.into()));
    let fails = |args: &[&str], code: i32, words: &str| {
        let output = server.command(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
    };
    fails(&["dkim", "add", "shop.test", "--selector", "old", "--algorithm", "rsa"], 1, "already a key");
    fails(&["dkim", "add", "shop.test", "--selector", "bad..one"], 1, "selector");
    fails(&["dkim", "add", "localhost"], 1, "not a domain");
    fails(&["dkim", "add", "shop.test", "--import", file], 2, "selector");
    fails(&["dkim", "rotate", "shop.test"], 1, "no key of this domain signs");
    fails(&["dkim", "set", "shop.test", "--leave-out", "from"], 1, "cannot be left unsigned");
    fails(&["dkim", "show", "other.test"], 1, "no such thing");
    server.run(&["dkim", "activate", "shop.test", "--force"]);
    fails(&["dkim", "rm", "shop.test"], 1, "would not be signed");
    fails(&["dkim", "rm", "shop.test", "--selector", "old"], 1, "signs");
    server.run(&["dkim", "rotate", "shop.test"]);
    fails(&["dkim", "rotate", "shop.test"], 1, "under way");
    let (status, all) = server.get("/api/v1/domains").await;
    assert_eq!(status, 403, "{all}");
    let all = server.run(&["dkim", "ls", "--json"]) + &server.run(&["dkim", "show", "shop.test", "--json"]);
    let inner: Vec<&str> = std::str::from_utf8(&pem).unwrap().lines().filter(|line| line.len() == 64).collect();
    assert!(inner.len() > 10 && !all.contains("private"), "{all}");
    assert!(inner.iter().skip(6).all(|line| !all.contains(line)));
    server.run(&["dkim", "rm", "shop.test", "--force"]);
    assert_eq!(server.run_json(&["dkim", "ls"])["items"], serde_json::json!([]));
}
