//! What leaves: complete, without what is for us alone, and legal for what the next hop takes.

use proto::smtp::reply::Reply;
use proto::transcript::Failure;
use testkit::{Extensions, Sink, SinkOptions};

use crate::rig::{FROM, MAIL, Rig, Setup};

async fn plain(extensions: Extensions) -> (Sink, Rig) {
    let sink = Sink::with(SinkOptions { extensions, ..SinkOptions::default() }).await;
    let rig = Setup::to(&sink).start().await;
    (sink, rig)
}

#[tokio::test]
async fn required_fields_are_added_and_nothing_else_is_changed() {
    let (sink, rig) = plain(Extensions::default()).await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    let mail = &sink.received()[0];
    assert_eq!(mail.header("Message-ID").unwrap(), format!("<{id}@relay.test>"));
    assert!(mail.header("Date").unwrap().ends_with("+0000"));
    let received = mail.header("Received").unwrap();
    assert!(received.starts_with("from client.test ([127.0.0.1]) by relay.test with ESMTP id "), "{received}");
    assert!(received.contains(&id.to_string()) && received.contains("for <r@x.test>"), "{received}");
    assert!(mail.text().ends_with(MAIL), "{}", mail.text());
}

#[tokio::test]
async fn fields_that_are_there_stay_as_they_are() {
    let (sink, rig) = plain(Extensions::default()).await;
    let mail = "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <own@app.test>\r\nFrom: noreply@app.test\r\n\r\n.\r\n..x\r\n";
    let id = rig.send_mail(&["r@x.test", "s@x.test"], mail).await;
    rig.becomes(id, &["delivered"; 2]).await;
    let received = &sink.received()[0];
    assert!(received.text().ends_with(mail), "{}", received.text());
    assert!(!received.header("Received").unwrap().contains("for <"), "nobody learns of other recipients");
    let view = store::Browse::message(&*rig.store, id, 1).await.unwrap();
    assert_eq!(view.message.details.message_id.as_deref(), Some("<own@app.test>"));
}

#[tokio::test]
async fn blind_copies_and_our_own_fields_do_not_leave() {
    let (sink, rig) = plain(Extensions::default()).await;
    let mail = "Bcc: secret@x.test,\r\n more@x.test\r\nReturn-Path: <forged@x.test>\r\nX-Pillarbox-Stream: reset\r\n\
                x-pillarbox-anything: else\r\nFrom: noreply@app.test\r\nSubject: kept\r\n\r\nbody\r\n";
    let id = rig.send_mail(&["r@x.test"], mail).await;
    rig.becomes(id, &["delivered"]).await;
    let text = sink.received()[0].text().to_ascii_lowercase();
    for gone in ["bcc", "secret", "more@", "return-path", "x-pillarbox"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    let view = store::Browse::message(&*rig.store, id, 1).await.unwrap();
    assert_eq!(&*view.message.stream, "reset");
    assert_eq!(view.message.details.subject.as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_stream_name_that_cannot_be_one_is_refused() {
    let (sink, rig) = plain(Extensions::default()).await;
    let mail = "X-Pillarbox-Stream: No Such!\r\nFrom: noreply@app.test\r\n\r\n";
    let answer = rig.client().await.submit(FROM, &["r@x.test"], mail).await.expect(554);
    assert!(answer.text().starts_with("5.6.0"), "{answer:?}");
    assert_eq!(sink.count(), 0);
}

#[tokio::test]
async fn a_message_that_goes_in_circles_is_refused() {
    let (_sink, rig) = plain(Extensions::default()).await;
    let hops = |n: usize| format!("{}From: noreply@app.test\r\n\r\n", "Received: from a by b; now\r\n".repeat(n));
    let answer = rig.client().await.submit(FROM, &["r@x.test"], &hops(100)).await.expect(554);
    assert!(answer.text().starts_with("5.4.6"), "{answer:?}");
    rig.send_mail(&["r@x.test"], &hops(99)).await;
}

#[tokio::test]
async fn more_than_one_from_field_is_refused() {
    let (_sink, rig) = plain(Extensions::default()).await;
    let mail = "From: noreply@app.test\r\nFrom: boss@app.test\r\n\r\n";
    rig.client().await.submit(FROM, &["r@x.test"], mail).await.expect(554);
}

const EIGHT_BIT: &str = "From: noreply@app.test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                         Content-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n";

#[tokio::test]
async fn eight_bit_content_goes_as_it_is_where_it_may() {
    let (sink, rig) = plain(Extensions::default()).await;
    let id = rig.send_mail(&["r@x.test"], EIGHT_BIT).await;
    rig.becomes(id, &["delivered"]).await;
    let mail = &sink.received()[0];
    assert_eq!(mail.body(), "Grüße\r\n".as_bytes());
    assert!(mail.parameters.contains("BODY=8BITMIME"), "{}", mail.parameters);
}

#[tokio::test]
async fn eight_bit_content_is_encoded_for_a_host_that_takes_seven() {
    let (sink, rig) = plain(Extensions { eight_bit_mime: false, ..Extensions::default() }).await;
    let id = rig.send_mail(&["r@x.test"], EIGHT_BIT).await;
    rig.becomes(id, &["delivered"]).await;
    let mail = &sink.received()[0];
    assert!(mail.content.is_ascii() && !mail.parameters.contains("BODY"), "{}", mail.text());
    assert_eq!(mail.header("Content-Transfer-Encoding").as_deref(), Some("quoted-printable"));
    assert_eq!(mail.body(), b"Gr=C3=BC=C3=9Fe\r\n");
}

#[tokio::test]
async fn eight_bit_headers_cannot_be_encoded_so_the_recipient_fails_with_the_reason() {
    let (sink, rig) = plain(Extensions::none()).await;
    let mail = "From: noreply@app.test\r\nSubject: Grüße\r\n\r\nbody\r\n";
    let id = rig.send_mail(&["r@x.test"], mail).await;
    let views = rig.becomes(id, &["failed"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::MissingExtension { .. })), "{views:?}");
    assert_eq!(sink.count(), 0);
    // The connection is as good as before.
    let next = rig.send(&["r@x.test"]).await;
    rig.becomes(next, &["delivered"]).await;
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn an_international_recipient_needs_a_host_that_knows_smtputf8() {
    for (smtputf8, wanted) in [(true, "delivered"), (false, "failed")] {
        let (sink, rig) = plain(Extensions { smtputf8, ..Extensions::default() }).await;
        let mut client = rig.client().await;
        client.command(&format!("MAIL FROM:<{FROM}> SMTPUTF8")).await.expect(250);
        client.command("RCPT TO:<grüße@x.test>").await.expect(250);
        client.command("DATA").await.expect(354);
        client.send_raw(testkit::client::stuffed(MAIL).as_bytes()).await.unwrap();
        let id = crate::rig::queued(&client.reply().await.expect(250));
        let views = rig.becomes(id, &[wanted]).await;
        if smtputf8 {
            assert_eq!(sink.received()[0].to, ["grüße@x.test"]);
            assert!(sink.received()[0].parameters.contains("SMTPUTF8"));
        } else {
            assert!(matches!(views[0].failure(), Some(Failure::MissingExtension { .. })), "{views:?}");
        }
    }
}

#[tokio::test]
async fn a_message_over_the_next_hops_size_fails_without_being_sent() {
    let (sink, rig) = plain(Extensions { size: Some(1_000), ..Extensions::default() }).await;
    let mail = format!("{MAIL}{}", "a long story\r\n".repeat(100));
    let id = rig.send_mail(&["r@x.test"], &mail).await;
    let views = rig.becomes(id, &["failed"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::TooLarge { limit: 1_000, .. })), "{views:?}");
    assert!(!sink.commands().iter().any(|(_, line)| line.starts_with("MAIL")));
}

#[tokio::test]
async fn a_large_message_arrives_as_it_was() {
    let (sink, rig) = plain(Extensions::default()).await;
    let mail = format!("{MAIL}{}", ".a line that begins with a dot\r\n".repeat(40_000));
    let id = rig.send_mail(&["r@x.test"], &mail).await;
    rig.becomes(id, &["delivered"]).await;
    assert!(sink.received()[0].text().ends_with(&mail));
}

#[tokio::test]
async fn an_answer_keeps_the_words_of_the_next_hop() {
    let (sink, rig) = plain(Extensions::default()).await;
    sink.add(testkit::Rule::reply(testkit::Stage::Rcpt, "550-5.1.1 no such\n550 5.1.1 user"));
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["failed"]).await;
    let Some(Failure::Refused(reply)) = views[0].failure() else { panic!("{views:?}") };
    assert_eq!(*reply, Reply::lines(550, vec!["5.1.1 no such".into(), "5.1.1 user".into()]));
    let told = store::Browse::events(&*rig.store, id, 10).await.unwrap();
    let attempt = told.last().unwrap().detail.attempt.clone().unwrap();
    let transcript = attempt.transcript.expect("a failure keeps its conversation");
    assert!(transcript.steps.iter().any(|step| step.sent.as_deref() == Some("RCPT TO:<r@x.test>")));
    assert!(transcript.steps.iter().any(|step| step.stage == proto::transcript::Stage::Ehlo), "{transcript:?}");
}

#[tokio::test]
async fn wishes_for_notifications_go_on_to_a_host_that_knows_them() {
    for dsn in [true, false] {
        let (sink, rig) = plain(Extensions { dsn, ..Extensions::default() }).await;
        let mut client = rig.client().await;
        client.command(&format!("MAIL FROM:<{FROM}> RET=HDRS ENVID=order+2B7")).await.expect(250);
        client.command("RCPT TO:<r@x.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;r@old.test").await.expect(250);
        client.command("DATA").await.expect(354);
        client.send_raw(testkit::client::stuffed(MAIL).as_bytes()).await.unwrap();
        let id = crate::rig::queued(&client.reply().await.expect(250));
        rig.becomes(id, &["delivered"]).await;
        let commands: Vec<String> = sink.commands().into_iter().map(|(_, line)| line).collect();
        for wish in ["RET=HDRS", "ENVID=order+2B7", "NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;r@old.test"] {
            assert_eq!(commands.iter().any(|line| line.contains(wish)), dsn, "{wish} in {commands:?}");
        }
    }
}

#[tokio::test]
async fn a_report_leaves_without_a_sender() {
    let (sink, rig) = plain(Extensions::default()).await;
    let mut client = rig.client().await;
    let id = crate::rig::queued(&client.submit("", &["r@x.test"], MAIL).await.expect(250));
    rig.becomes(id, &["delivered"]).await;
    assert_eq!(sink.received()[0].from, "");
}

#[tokio::test]
async fn content_that_was_damaged_on_the_disk_is_held_and_never_sent() {
    let sink = Sink::start().await;
    sink.add(testkit::Rule::at(testkit::Stage::Connect, testkit::Act::Hang));
    let rig = Setup::to(&sink).config(|config| config.window_octets = 0).start().await;
    let damaged = rig.send(&["r@x.test", "s@y.test"]).await;
    assert!(sink.wait_until(crate::rig::PATIENCE, |sink| sink.hanging() > 0).await);
    rig.damage(damaged, b"once");
    sink.behave().release();
    rig.becomes(damaged, &["held"; 2]).await;
    let sound = rig.send(&["t@x.test"]).await;
    rig.becomes(sound, &["delivered"]).await;
    assert_eq!(sink.count(), 1);
}
