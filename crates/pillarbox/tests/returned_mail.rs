//! Next hops get return paths of our own; what comes back to them becomes an event of its message, once, and nothing
//! else is taken at that door.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;

use common::{PATIENCE, Server};
use serde_json::{Value, json};
use testkit::client::Client;
use testkit::sink::Sink;

const BOUNCE: &str = "[bounce]\ndomain = \"bounces.shop.test\"\nreport_address = \"dmarc@shop.test\"\n\
                      [[listener]]\nname = \"bounce\"\nkind = \"bounce\"\naddress = \"127.0.0.1:0\"\nmode = \"plain\"\n";

/// The two listeners, by what the server says of them.
fn listener(server: &Server, bounce: bool) -> SocketAddr {
    let output = server.output();
    let mut lines = output.lines().filter(|line| line.trim_start().starts_with("SMTP"));
    let line = lines.find(|line| line.contains("only reports") == bounce).expect("a listener");
    line.split_whitespace().nth(1).unwrap().trim_end_matches(',').parse().unwrap()
}

async fn delivered(server: &Server, sink: &Sink, to: &[&str]) -> (String, String) {
    let before = sink.count() as usize;
    let message = json!({"from": "app@shop.test", "to": to, "subject": "hello", "text": "t"});
    let (status, answer) = server.post("/api/v1/messages", &message, None).await;
    assert_eq!(status, 202, "{answer}");
    let id = answer["id"].as_str().unwrap().to_owned();
    let received = sink.wait_for(before + 1, PATIENCE).await;
    let from = received[before].from.clone();
    until_state(server, &id, 0, "delivered").await;
    (id, from)
}

async fn until_state(server: &Server, id: &str, n: usize, state: &str) -> Value {
    server
        .until(state, async || {
            let shown = server.get(&format!("/api/v1/messages/{id}")).await.1;
            (shown["recipients"][n]["state"] == state).then_some(shown)
        })
        .await
}

async fn events(server: &Server, id: &str, kind: &str) -> Vec<Value> {
    let (_, page) = server.get(&format!("/api/v1/messages/{id}/events")).await;
    let all = page["items"].as_array().or(page.as_array()).cloned().unwrap_or_default();
    all.into_iter().filter(|event| event["event"] == kind).collect()
}

async fn come_back(server: &Server, to: &str, mail: &str) {
    let mut client = Client::connect(listener(server, true)).await;
    client.ehlo().await;
    client.submit("", &[to], &mail.replace('\n', "\r\n")).await.expect(250);
    client.quit().await;
}

fn failed(recipient: &str, status: &str, words: &str) -> String {
    report("failed", recipient, status, words)
}

fn report(action: &str, recipient: &str, status: &str, words: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.one.test\nTo: somebody\nSubject: Delivery Status Notification\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n\
         MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n\
         --b\nContent-Type: text/plain\n\nYour message could not be delivered.\n\n\
         --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.one.test\n\n\
         Final-Recipient: rfc822; {recipient}\nAction: {action}\nStatus: {status}\n\
         Diagnostic-Code: smtp; {words}\n\n--b--\n"
    )
}

const UNKNOWN: &str = "550 5.1.1 <ann@one.test>: Recipient address rejected: User unknown in local recipient table";

#[tokio::test]
async fn a_bounce_to_our_return_path_is_an_event_of_its_message_once() {
    let server = Server::with(BOUNCE);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    let (id, path) = delivered(&server, &sink, &["ann@one.test"]).await;
    assert!(path.starts_with(&format!("b-{id}-0-")) && path.ends_with("@bounces.shop.test"), "{path}");

    let bounce = failed("ann@one.test", "5.1.1", UNKNOWN);
    come_back(&server, &path.to_ascii_uppercase(), &bounce).await;
    let shown = until_state(&server, &id, 0, "bounced").await;
    assert_eq!(shown["envelope_from"], "app@shop.test", "the sender's own return path is kept: {shown}");
    let rule = shown["recipients"][0]["finding"]["rule"].as_str().unwrap_or_default().to_owned();
    assert!(!rule.is_empty(), "{shown}");
    // The same mail again, over another way with other trace fields.
    come_back(&server, &path, &format!("Received: from elsewhere\n{bounce}")).await;
    let (_, second) = delivered(&server, &sink, &["bob@one.test"]).await;
    come_back(&server, &second, &failed("bob@one.test", "5.1.1", UNKNOWN)).await;
    server
        .until("all is read", async || {
            let bounced = server.run_json(&["queue", "ls", "--state", "bounced"]);
            (bounced["items"].as_array().unwrap().len() == 2).then_some(())
        })
        .await;
    assert_eq!(events(&server, &id, "bounced").await.len(), 1);
    assert_eq!(server.run(&["bounce", "ls", "--unmatched"]), "Nothing is kept in this list.\n");
}

#[tokio::test]
async fn nothing_but_reports_about_our_mail_is_taken_and_nothing_is_relayed() {
    let server = Server::with(BOUNCE);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    let (id, path) = delivered(&server, &sink, &["ann@one.test"]).await;
    let mut client = Client::connect(listener(&server, true)).await;
    let offer = client.ehlo().await;
    assert!(!offer.offers("AUTH"), "{offer:?}");
    client.command("MAIL FROM:<>").await.expect(250);
    let forged = path.replace("-0-", "-1-");
    for to in [
        "ann@one.test",
        "postmaster@bounces.shop.test",
        &format!("b-{id}@bounces.shop.test"),
        &forged,
        &format!("{path}.evil.test"),
    ] {
        let answer = client.command(&format!("RCPT TO:<{to}>")).await.expect(550);
        assert!(answer.text().contains("5.1.1"), "{answer:?}");
    }
    client.command(&format!("RCPT TO:<{path}>")).await.expect(250);
    client.quit().await;
    // And at the door of senders there is no bounce domain.
    let mut client = Client::connect(listener(&server, false)).await;
    client.ehlo().await;
    client.command("MAIL FROM:<>").await.expect(530);
    client.quit().await;
    assert_eq!(sink.count(), 1);
}

#[tokio::test]
async fn late_mail_complaints_and_answers_are_told_apart() {
    let server = Server::with(BOUNCE);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    let (late, path) = delivered(&server, &sink, &["ann@one.test"]).await;
    come_back(&server, &path, &report("delayed", "ann@one.test", "4.4.1", "connection timed out")).await;
    let answer = "From: ann@one.test\nTo: x\nSubject: Out of office\nAuto-Submitted: auto-replied\n\nI am away.\n";
    come_back(&server, &path, answer).await;
    let (spam, path) = delivered(&server, &sink, &["bob@one.test"]).await;
    let complaint = format!(
        "From: fbl@one.test\nTo: fbl\nSubject: complaint\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\nContent-Type: text/plain\n\nspam\n\n\
         --b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: fbl/1\nVersion: 1\n\
         Original-Mail-From: <{path}>\nArrival-Date: Sat, 21 Nov 2026 10:00:00 +0000\n\n\
         --b\nContent-Type: message/rfc822\n\nFrom: app@shop.test\nSubject: hello\n\nt\n--b--\n"
    );
    // It comes to the address of reports: its message is named inside.
    come_back(&server, "dmarc@shop.test", &complaint).await;
    until_state(&server, &spam, 0, "complained").await;
    let shown = server.get(&format!("/api/v1/messages/{late}")).await.1;
    assert_eq!(shown["recipients"][0]["state"], "delivered", "{shown}");
    assert_eq!(events(&server, &late, "bounced").await.len(), 1, "the delay is in its history");
}

#[tokio::test]
async fn what_was_taken_survives_a_kill_and_what_fits_nothing_is_kept_to_be_looked_at() {
    let mut server = Server::with(BOUNCE);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    let (id, path) = delivered(&server, &sink, &["ann@one.test", "bob@one.test"]).await;
    assert!(!path.starts_with(&format!("b-{id}-1-")), "one address for a transaction of two: {path}");
    for n in 0..20 {
        come_back(&server, &path, &failed(&format!("stranger{n}@two.test"), "5.1.1", UNKNOWN)).await;
    }
    come_back(&server, &path, &failed("BOB@one.test", "5.2.2", "552 5.2.2 mailbox full")).await;
    server.kill();
    server.restart();
    let shown = until_state(&server, &id, 1, "bounced").await;
    assert_eq!(shown["recipients"][0]["state"], "delivered", "{shown}");
    server
        .until("the others are kept", async || {
            let kept = server.run_json(&["bounce", "ls", "--unmatched"]);
            (kept["items"].as_array().unwrap().len() == 20).then_some(())
        })
        .await;
    let kept = server.run_json(&["bounce", "ls", "--unmatched", "--limit", "1"]);
    let first = kept["items"][0]["id"].as_str().unwrap();
    assert!(server.run(&["bounce", "raw", first]).contains("Final-Recipient"));
    server.run(&["bounce", "rm", first, "--unmatched"]);
    server.run(&["bounce", "rm", "--all", "--unmatched"]);
    assert_eq!(server.run(&["bounce", "ls", "--unmatched"]), "Nothing is kept in this list.\n");
}

/// An aggregate report of DMARC about our domain.
fn dmarc_report() -> String {
    let xml = "<feedback><report_metadata><org_name>receiver.test</org_name><report_id>7</report_id></report_metadata>\
        <policy_published><domain>shop.test</domain><p>none</p></policy_published><record><row><source_ip>192.0.2.1</source_ip>\
        <count>3</count><policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>\
        <identifiers><header_from>shop.test</header_from></identifiers><auth_results><dkim><domain>service.test</domain>\
        <result>pass</result></dkim></auth_results></record></feedback>";
    format!(
        "From: dmarc@receiver.test\nTo: dmarc@shop.test\nSubject: Report Domain: shop.test\nMIME-Version: 1.0\n\
         Content-Type: text/xml; name=\"report.xml\"\n\n{xml}\n"
    )
}

/// The mails with reports, when there are so many.
async fn with_reports(server: &Server, count: usize) -> Vec<Value> {
    server
        .until("they are read", async || {
            let kept = server.run_json(&["bounce", "ls", "--reports"])["items"].as_array().unwrap().clone();
            (kept.len() == count).then_some(kept)
        })
        .await
}

#[tokio::test]
async fn reports_of_dmarc_that_come_in_are_read_together() {
    let server = Server::with(BOUNCE);
    for _ in 0..2 {
        come_back(&server, "dmarc@shop.test", &dmarc_report()).await;
    }
    with_reports(&server, 2).await;
    let output = server.command(&["report", "--received", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((summary["reports"].as_u64(), summary["repeated"].as_u64()), (Some(1), Some(1)));
    assert_eq!(summary["findings"][0]["sign"], "aggregate_unaligned");
    assert_eq!(summary["findings"][0]["explanation"]["owner"], "you");
}

#[tokio::test]
async fn what_came_back_is_read_by_an_operator_and_not_by_a_viewer() {
    const PASSWORD: &str = "correct-horse-battery";
    let server = Server::with(BOUNCE);
    come_back(&server, "dmarc@shop.test", &dmarc_report()).await;
    let kept = with_reports(&server, 1).await;
    let raw = format!("/api/v1/bounces/{}/raw", kept[0]["id"].as_str().unwrap());
    for (role, status) in [("viewer", 403), ("operator", 200)] {
        let mut command = server.command(&["user", "add", role, "--role", role, "--password-from", "env:NEW"]);
        assert!(command.env("NEW", PASSWORD).status().unwrap().success());
        let login = server
            .request(reqwest::Method::POST, "/login")
            .header("Origin", server.url(""))
            .header("Content-Type", "application/x-www-form-urlencoded");
        let opened = login.body(format!("user={role}&password={PASSWORD}")).send().await.unwrap();
        let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let get = async |path: &str| {
            let response = server.request(reqwest::Method::GET, path).header("Cookie", &cookie).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        assert_eq!(get(&raw).await.0, status, "{role}");
        let (shown, list) = get("/admin/returned?list=reports").await;
        assert!(shown == 200 && list.contains("dmarc@shop.test"), "{role}: {list}");
        assert_eq!(list.contains(&raw), status == 200, "{role}: {list}");
    }
}

#[tokio::test]
async fn a_route_may_keep_the_return_path_of_the_sender() {
    let server = Server::with(BOUNCE);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    server.run(&["route", "set", "sink", "--return-path", "original", "--force"]);
    let (id, path) = delivered(&server, &sink, &["ann@one.test"]).await;
    assert_eq!(path, "app@shop.test");
    // The returned header names the message all the same.
    let header = format!(
        "--b\nContent-Type: text/rfc822-headers\n\nReceived: from app (x [192.0.2.1])\n\tby relay.test with HTTP id {id};\n\tdate\n\
         From: app@shop.test\nSubject: hello\n\n--b--\n"
    );
    let bounce = failed("ann@one.test", "5.1.1", UNKNOWN).replace("--b--\n", &header);
    come_back(&server, "dmarc@shop.test", &bounce).await;
    until_state(&server, &id, 0, "bounced").await;
}

#[tokio::test]
async fn what_a_provider_tells_becomes_an_event_once_and_strangers_are_not_believed() {
    let server = Server::start();
    let sink = Sink::start().await;
    server.route_to(sink.port());
    let (id, _) = delivered(&server, &sink, &["ann@one.test", "bob@one.test"]).await;
    std::fs::write(server.dir.path().join("token"), "brevo-token\n").unwrap();
    let added = server.run(&["provider-events", "add", "main", "--provider", "brevo", "--secret-from", "file:token"]);
    assert!(added.contains("/hooks/brevo/main"), "{added}");
    assert!(!server.run(&["provider-events", "ls", "--json"]).contains("brevo-token"));
    let message_id = server.get(&format!("/api/v1/messages/{id}")).await.1["message_id"].as_str().unwrap().to_owned();
    let event = |email: &str, what: &str| json!({"event": what, "email": email, "message-id": message_id, "ts_event": 1_795_230_500, "reason": "550 5.1.1 no such user"});
    let post = async |path: &str, token: &str, body: &Value| {
        let request = server.request(reqwest::Method::POST, path).bearer_auth(token).json(body);
        request.send().await.unwrap().status().as_u16()
    };
    let bounce = event("ann@one.test", "hard_bounce");
    assert_eq!(post("/hooks/brevo/main", "wrong", &bounce).await, 401);
    assert_eq!(post("/hooks/mailgun/main", "brevo-token", &bounce).await, 404);
    assert_eq!(post("/hooks/brevo/other", "brevo-token", &bounce).await, 404);
    for _ in 0..2 {
        assert_eq!(post("/hooks/brevo/main", "brevo-token", &bounce).await, 200);
    }
    assert_eq!(post("/hooks/brevo/main", "brevo-token", &event("bob@one.test", "spam")).await, 200);
    assert_eq!(post("/hooks/brevo/main", "brevo-token", &event("eve@one.test", "delivered")).await, 200);
    assert_eq!(post("/hooks/brevo/main", "brevo-token", &event("eve@two.test", "hard_bounce")).await, 200);
    until_state(&server, &id, 0, "bounced").await;
    until_state(&server, &id, 1, "complained").await;
    server
        .until("the stranger is kept", async || {
            let kept = server.run_json(&["bounce", "ls", "--unmatched"]);
            (kept["items"].as_array().unwrap().len() == 1).then_some(())
        })
        .await;
    let bounced = events(&server, &id, "bounced").await;
    assert_eq!((bounced.len(), bounced[0]["source"].as_str()), (1, Some("brevo:main")), "{bounced:?}");
}

#[tokio::test]
async fn a_sender_by_smtp_is_told_of_a_bounce_that_only_we_got() {
    let server = Server::with(BOUNCE);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    let mut client = Client::connect(listener(&server, false)).await;
    client.ehlo().await;
    let mut client = client.start_tls("localhost", &server.ca).await;
    client.auth_plain("app", &server.password).await.expect(235);
    client.submit("app@shop.test", &["ann@one.test"], "Subject: hello\r\n\r\nHi\r\n").await.expect(250);
    client.quit().await;
    let path = sink.wait_for(1, PATIENCE).await[0].from.clone();
    come_back(&server, &path, &report("delayed", "ann@one.test", "4.4.1", "connection timed out")).await;
    come_back(&server, &path, &failed("ann@one.test", "5.1.1", UNKNOWN)).await;
    let notice = sink.wait_for(2, PATIENCE).await.remove(1);
    assert_eq!((notice.from.as_str(), notice.to.as_slice()), ("", &["app@shop.test".to_owned()][..]));
    let text = notice.text();
    for part in ["Final-Recipient: rfc822; ann@one.test", "Action: failed", "Status: 5.1.1", "User unknown"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_stream_may_keep_the_return_path_of_the_sender() {
    let server = Server::with(BOUNCE);
    let sink = Sink::start().await;
    server.route_to(sink.port());
    server.run(&["stream", "add", "letters", "--return-path", "original"]);
    for (stream, signed) in [("letters", false), ("default", true)] {
        let before = sink.count() as usize;
        let message = json!({"from": "app@shop.test", "to": "ann@one.test", "text": "t", "stream": stream});
        assert_eq!(server.post("/api/v1/messages", &message, None).await.0, 202);
        let from = sink.wait_for(before + 1, PATIENCE).await[before].from.clone();
        assert_eq!(from.ends_with("@bounces.shop.test"), signed, "{stream}: {from}");
    }
}
