//! What senders are told when mail fails, is late, or leaves for a host that tells nothing.

use std::collections::HashSet;

use proto::{DeliveryNotify, RcptParameters, ReversePath};
use serde_json::json;
use store::MessageId;
use testkit::sink::{Extensions, Received};
use testkit::{Sink, SinkOptions};

use crate::rig::{FROM, MAIL, PATIENCE, Rig, Setup, eventually, queued, smarthost, with};

fn telling(sink: &Sink) -> Setup {
    Setup::to(sink).config(|config| config.notices = true)
}

/// Sends by SMTP with parameters.
async fn send(rig: &Rig, mail: &str, recipients: &[&str], content: &str) -> MessageId {
    let mut client = rig.client().await;
    client.command(mail).await.expect(250);
    for recipient in recipients {
        client.command(&format!("RCPT TO:{recipient}")).await.expect(250);
    }
    client.command("DATA").await.expect(354);
    client.send_raw(content.as_bytes()).await.unwrap();
    let id = queued(&client.command(".").await.expect(250));
    client.quit().await;
    id
}

fn notices(sink: &Sink) -> Vec<Received> {
    sink.received().into_iter().filter(|received| received.from.is_empty()).collect()
}

async fn told(sink: &Sink, n: usize) -> Vec<Received> {
    assert!(sink.wait_until(PATIENCE, |sink| notices(sink).len() >= n).await, "{} notices", notices(sink).len());
    notices(sink)
}

#[tokio::test]
async fn the_sender_hears_of_the_failed_recipients_only_and_why() {
    let sink = Sink::start().await;
    let rig = telling(&sink).start().await;
    let id = rig.send(&["a+p550@x.test", "good@x.test", "b+p550@x.test"]).await;
    rig.becomes(id, &["failed", "delivered", "failed"]).await;
    let notice = told(&sink, 1).await.remove(0);
    assert_eq!(notice.to, [FROM]);
    assert_eq!(notice.header("Auto-Submitted").as_deref(), Some("auto-replied"));
    let text = notice.text();
    for part in [
        "Final-Recipient: rfc822; a+p550@x.test\r\nAction: failed\r\nStatus: 5.",
        "Final-Recipient: rfc822; b+p550@x.test\r\n",
        "Reporting-MTA: dns; relay.test\r\n",
        "Diagnostic-Code: smtp; 550 ",
        "Content-Type: text/rfc822-headers\r\n",
        "\r\nSubject: story\r\n",
        "Whose turn: ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("good@x.test") && !text.contains("once upon a time"), "{text}");
}

#[tokio::test]
async fn who_asks_for_failures_hears_of_suppressed_recipients_and_who_does_not_has_the_event() {
    let sink = Sink::start().await;
    let rig = telling(&sink).start().await;
    let list = ["bob@x.test", "tom@x.test"].map(|to| store::Suppression {
        address: to.parse().unwrap(),
        scope: store::SuppressionScope::Global,
        reason: store::SuppressionReason::Complaint,
        evidence: store::Evidence::default(),
        who: "tester".into(),
        added_ms: rig.now_ms(),
        expires_ms: None,
    });
    rig.relay.suppress(list.to_vec(), store::Existing::Keep).await.unwrap();
    let id = send(&rig, &format!("MAIL FROM:<{FROM}>"), &["<bob@x.test> NOTIFY=FAILURE", "<tom@x.test>"], MAIL).await;
    rig.becomes(id, &["suppressed", "suppressed"]).await;
    let text = told(&sink, 1).await.remove(0).text();
    for part in [
        "Final-Recipient: rfc822; bob@x.test\r\nAction: failed\r\nStatus: 5.7.1\r\n",
        "Diagnostic-Code: x-pillarbox; suppressed: complaint since ",
        "Not sent here: suppressed: complaint since ",
        "\r\nSubject: story\r\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("tom@x.test"), "{text}");
}

#[tokio::test]
async fn ret_full_returns_the_message_and_envid_and_orcpt_come_back() {
    let sink = Sink::start().await;
    let rig = telling(&sink).start().await;
    let mail = format!("MAIL FROM:<{FROM}> RET=FULL ENVID=order+2B7");
    send(&rig, &mail, &["<a+p550@x.test> NOTIFY=FAILURE ORCPT=rfc822;old@y.test"], MAIL).await;
    let text = told(&sink, 1).await.remove(0).text();
    for part in
        ["message/rfc822", "once upon a time", "Original-Envelope-Id: order+7", "Original-Recipient: rfc822;old@y.test"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn who_wants_no_notice_and_who_has_no_address_gets_none() {
    let sink = Sink::start().await;
    let rig = telling(&sink).start().await;
    let mail = format!("MAIL FROM:<{FROM}>");
    send(&rig, &mail, &["<a+p550@x.test> NOTIFY=NEVER"], MAIL).await;
    send(&rig, &mail, &["<b+p550@x.test> NOTIFY=SUCCESS,DELAY"], MAIL).await;
    send(&rig, "MAIL FROM:<>", &["<c+p550@x.test>"], MAIL).await;
    let by_api = rig.submit(rig.submission(&["d+p550@x.test"], MAIL.as_bytes())).await;
    rig.becomes(by_api, &["failed"]).await;
    // Events are told in order: what comes behind them shows that the others were passed over.
    let mut asked = rig.submission(&["e+p550@x.test"], MAIL.as_bytes());
    let on = DeliveryNotify::On { success: false, failure: true, delay: false };
    asked.envelope.recipients[0].parameters = RcptParameters { notify: Some(on), orcpt: None };
    rig.submit(asked).await;
    let notices = told(&sink, 1).await;
    assert!(notices.len() == 1 && notices[0].text().contains("e+p550@x.test"));
}

#[tokio::test]
async fn a_notice_that_cannot_be_delivered_ends_there() {
    let sink = Sink::start().await;
    let rig = telling(&sink).start().await;
    let id = send(&rig, "MAIL FROM:<gone+p550@app.test>", &["<a+p550@x.test>"], MAIL).await;
    rig.becomes(id, &["failed"]).await;
    rig.send(&["b+p550@x.test"]).await;
    let notices = told(&sink, 1).await;
    assert!(notices.len() == 1 && notices[0].text().contains("b+p550@x.test"));
}

#[tokio::test]
async fn success_is_told_by_us_only_where_the_next_hop_tells_nothing() {
    for (dsn, expected) in [(true, 0), (false, 1)] {
        let extensions = Extensions { dsn, ..Extensions::default() };
        let sink = Sink::with(SinkOptions { extensions, ..SinkOptions::default() }).await;
        let rig = telling(&sink).start().await;
        let mail = format!("MAIL FROM:<{FROM}>");
        let id = send(&rig, &mail, &["<a@x.test> NOTIFY=SUCCESS"], MAIL).await;
        rig.becomes(id, &["delivered"]).await;
        rig.send(&["b+p550@x.test"]).await;
        let notices = told(&sink, expected + 1).await;
        assert_eq!(notices.len(), expected + 1);
        assert_eq!(notices[0].text().contains("Action: relayed\r\nStatus: 2.0.0\r\n"), !dsn);
    }
}

#[tokio::test]
async fn mail_that_is_kept_here_is_told_as_delivered() {
    let sink = Sink::start().await;
    let rig = Setup::bare()
        .config(|config| config.notices = true)
        .route("keep", json!({"kind": "capture"}))
        .route("out", smarthost(&sink))
        .rule("kept", json!({"order": 1, "route": "keep", "recipient_domain": "kept.test"}))
        .rule("default", json!({"order": 1000, "route": "out"}))
        .start()
        .await;
    send(&rig, &format!("MAIL FROM:<{FROM}>"), &["<a@kept.test> NOTIFY=SUCCESS"], MAIL).await;
    assert!(told(&sink, 1).await[0].text().contains("Action: delivered\r\n"));
}

#[tokio::test]
async fn a_delay_is_told_once_to_those_who_asked() {
    let sink = Sink::start().await;
    let route = with(smarthost(&sink), json!({"retry_s": [1]}));
    let rig = Setup::by(route)
        .config(|config| {
            config.notices = true;
            config.delay_notice_s = 0;
        })
        .start()
        .await;
    let mail = format!("MAIL FROM:<{FROM}>");
    let id = send(&rig, &mail, &["<a+n3@x.test> NOTIFY=DELAY,FAILURE", "<b+n3@x.test>"], MAIL).await;
    rig.becomes(id, &["delivered", "delivered"]).await;
    rig.send(&["c+p550@x.test"]).await;
    let notices = told(&sink, 2).await;
    assert_eq!(notices.len(), 2);
    let text = notices[0].text();
    assert!(text.contains("Action: delayed\r\nStatus: 4.") && text.contains("Will-Retry-Until: "), "{text}");
    assert!(!text.contains("b+n3@x.test"), "{text}");
}

#[tokio::test]
async fn a_crash_behind_the_notice_does_not_repeat_it_and_one_before_it_does_not_lose_it() {
    let sink = Sink::start().await;
    let mut rig = telling(&sink).start().await;
    for n in 0..5 {
        let id = rig.send(&[&format!("r{n}+p550@x.test")]).await;
        rig.becomes(id, &["failed"]).await;
        if n % 2 == 0 {
            told(&sink, n).await;
        }
        rig = rig.crash().await;
    }
    // A delivery that the crash cut may be repeated; the notice itself is made once.
    let made =
        |sink: &Sink| notices(sink).iter().filter_map(|one| one.header("Message-ID")).collect::<HashSet<_>>().len();
    assert!(sink.wait_until(PATIENCE, |sink| made(sink) >= 5).await, "{} notices", made(&sink));
    rig.send(&["last+p550@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| made(sink) >= 6).await, "{} notices", made(&sink));
    for n in 0..5 {
        let about = format!("r{n}+p550@x.test");
        let made: HashSet<_> = notices(&sink)
            .iter()
            .filter(|one| one.text().contains(&about))
            .filter_map(|one| one.header("Message-ID"))
            .collect();
        assert_eq!(made.len(), 1, "{about}");
    }
}

#[tokio::test]
async fn a_sender_whose_domain_has_no_route_is_passed_over() {
    let sink = Sink::start().await;
    let rig = Setup::bare()
        .config(|config| config.notices = true)
        .route("out", smarthost(&sink))
        .rule("x", json!({"order": 1, "route": "out", "recipient_domain": "x.test"}))
        .start()
        .await;
    for from in [FROM, "me@x.test"] {
        let mut asked = rig.submission(&["a+p550@x.test"], MAIL.as_bytes());
        let on = DeliveryNotify::On { success: false, failure: true, delay: false };
        asked.envelope.recipients[0].parameters.notify = Some(on);
        asked.envelope.reverse_path = ReversePath(Some(from.parse().unwrap()));
        let id = rig.submit(asked).await;
        rig.becomes(id, &["failed"]).await;
    }
    let notices = told(&sink, 1).await;
    assert_eq!(notices[0].to, ["me@x.test"]);
    eventually("the cursor", || async { (rig.store.cursor("~notices").await.unwrap() > 0).then_some(()) }).await;
}
