//! On the way in: the same request twice, messages for later, messages that are late, and routes that end here.

use std::time::Duration;

use relay::RefusalKind;
use serde_json::json;
use store::EventKind;
use testkit::Sink;

use crate::rig::{FROM, MAIL, PATIENCE, Setup, eventually, smarthost};

#[tokio::test]
async fn the_same_request_twice_is_one_message() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let keyed = |print: u8| {
        let mut submission = rig.submission(&["r@x.test"], MAIL.as_bytes());
        submission.idempotency = Some(("order-7".into(), [print; 32]));
        submission
    };
    let door = rig.relay.door();
    let (first, second) = tokio::join!(door.submit(keyed(1)), door.submit(keyed(1)));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.id, second.id);
    assert_eq!([&first, &second].iter().filter(|receipt| receipt.committed.is_some()).count(), 1);
    let refusal = door.submit(keyed(2)).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::KeyConflict);
    rig.drained().await;
    assert_eq!(sink.count(), 1);
    // A replay leaves nothing in memory.
    rig.idle().await;
}

#[tokio::test]
async fn a_message_for_later_waits_until_then() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).time_stands().start().await;
    let wait = Duration::from_secs(600);
    let at_ms = rig.now_ms() + wait.as_millis() as i64;
    let mut submission = rig.submission(&["r@x.test"], MAIL.as_bytes());
    submission.send_at_ms = Some(at_ms);
    let id = rig.submit(submission).await;
    let views = rig.becomes(id, &["waiting"]).await;
    assert_eq!(views[0].due_ms, Some(at_ms));
    rig.pass(wait - Duration::from_millis(1));
    rig.becomes(id, &["waiting"]).await;
    assert_eq!(sink.count(), 0);
    rig.pass(Duration::from_millis(1));
    sink.wait_for(1, PATIENCE).await;
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn a_message_for_later_survives_a_restart() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let mut submission = rig.submission(&["r@x.test"], MAIL.as_bytes());
    submission.send_at_ms = Some(rig.now_ms() + 800);
    let id = rig.submit(submission).await;
    let rig = rig.restart().await;
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn a_message_that_is_late_already_expires_unsent() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let mut submission = rig.submission(&["r@x.test"], MAIL.as_bytes());
    submission.deliver_by_ms = Some(rig.now_ms() - 1);
    let id = rig.submit(submission).await;
    rig.becomes(id, &["expired"]).await;
    assert_eq!(rig.events(id, 0).await, [EventKind::Expired]);
    assert_eq!(sink.count(), 0);
}

#[tokio::test]
async fn a_message_gets_a_last_attempt_before_it_expires() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).time_stands().config(|config| config.retry_s = vec![900]).start().await;
    let mut submission = rig.submission(&["r+t451@x.test"], MAIL.as_bytes());
    submission.deliver_by_ms = Some(rig.now_ms() + 600_000);
    let id = rig.submit(submission).await;
    rig.becomes(id, &["deferred"]).await;
    rig.pass(Duration::from_secs(599));
    eventually("a last attempt", || async { (rig.recipients(id).await[0].attempts == 2).then_some(()) }).await;
    rig.pass(Duration::from_secs(1));
    rig.becomes(id, &["expired"]).await;
    let events = rig.events(id, 0).await;
    assert_eq!(events[..2], [EventKind::WillBeLate, EventKind::Deferred], "the usual second attempt would be too late");
    assert_eq!(events.last(), Some(&EventKind::Expired));
}

#[tokio::test]
async fn a_stream_has_a_deadline_of_its_own() {
    let sink = Sink::start().await;
    let stream =
        relay::StreamConfig { name: "code".into(), priority: 0, deadline_s: Some(600), allow_duplicates: false };
    let rig = Setup::to(&sink).config(|config| config.streams = vec![stream]).start().await;
    let mut submission = rig.submission(&["r@x.test"], MAIL.as_bytes());
    submission.stream = Some("code".into());
    let id = rig.submit(submission).await;
    let message = rig.store.message(id, 1).await.unwrap().message;
    assert_eq!((message.priority, message.expires_ms - message.accepted_ms), (0, 600_000));
}

#[tokio::test]
async fn captured_mail_is_kept_to_be_looked_at() {
    let rig = Setup::by(json!({"kind": "capture"})).start().await;
    let id = rig.send(&["r@x.test", "s@y.test"]).await;
    rig.becomes(id, &["delivered"; 2]).await;
    let view = rig.store.message(id, 10).await.unwrap();
    assert!(view.captured && view.has_content);
    assert_eq!(rig.store.captured(None, 10).await.unwrap().len(), 1);
    let content = store::Queue::content(&*rig.store, id).await.unwrap();
    assert!(content.ends_with(MAIL.as_bytes()));
}

#[tokio::test]
async fn discarded_mail_is_gone() {
    let rig = Setup::by(json!({"kind": "discard"})).start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    let view = rig.store.message(id, 10).await.unwrap();
    assert!(!view.captured && !view.has_content);
}

#[tokio::test]
async fn each_recipient_takes_the_route_of_the_first_rule_that_fits() {
    let (partner, rest) = (Sink::start().await, Sink::start().await);
    let rig = Setup::bare()
        .route("partner", smarthost(&partner))
        .route("rest", smarthost(&rest))
        .route("nowhere", json!({"kind": "discard"}))
        .rule("default", json!({"order": 1000, "route": "rest"}))
        .rule("p", json!({"order": 10, "route": "partner", "recipient_domain": ".partner.test"}))
        .rule("gone", json!({"order": 1, "route": "no-such-route"}))
        .rule("tests", json!({"order": 5, "route": "nowhere", "stream": "tests"}))
        .start()
        .await;
    let id = rig.send(&["a@partner.test", "b@mx.partner.test", "c@x.test"]).await;
    let views = rig.becomes(id, &["delivered"; 3]).await;
    let routes: Vec<&str> = views.iter().map(|view| &*view.lane.route).collect();
    assert_eq!(routes, ["partner", "partner", "rest"]);
    let mut to: Vec<String> = partner.received().into_iter().flat_map(|mail| mail.to).collect();
    to.sort_unstable();
    assert_eq!(to, ["a@partner.test", "b@mx.partner.test"]);
    let mut submission = rig.submission(&["a@partner.test"], MAIL.as_bytes());
    submission.stream = Some("tests".into());
    let id = rig.submit(submission).await;
    let views = rig.becomes(id, &["delivered"]).await;
    assert_eq!(&*views[0].lane.route, "nowhere");
}

#[tokio::test]
async fn without_a_route_nothing_is_accepted() {
    let rig = Setup::bare().start().await;
    let answer = rig.client().await.submit(FROM, &["r@x.test"], MAIL).await.expect(451);
    assert!(answer.text().contains("no route is set up"), "{answer:?}");
}

#[tokio::test]
async fn too_many_recipients_are_refused_by_the_door() {
    let rig = Setup::by(json!({"kind": "discard"})).config(|config| config.max_recipients = 2).start().await;
    let refusal = rig.relay.door().submit(rig.submission(&["a@x.test", "b@x.test", "c@x.test"], b"x\r\n")).await;
    assert_eq!(refusal.unwrap_err().kind, RefusalKind::TooManyRecipients);
    let refusal = rig.relay.door().submit(rig.submission(&[], b"x\r\n")).await.unwrap_err();
    assert!(matches!(refusal.kind, RefusalKind::Invalid { .. }));
}

#[tokio::test]
async fn too_much_mail_at_once_is_refused_before_memory_runs_out() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).config(|config| config.memory_in_flight = 100_000).start().await;
    let mut client = rig.client().await;
    let mail = format!("{MAIL}{}", "a long story\r\n".repeat(20_000));
    let answer = client.submit(FROM, &["r@x.test"], &mail).await.expect(452);
    assert!(answer.text().starts_with("4.3.1"), "{answer:?}");
    client.submit(FROM, &["r@x.test"], MAIL).await.expect(250);
    assert_eq!(rig.relay.status().receiving_octets, 0);
}

#[tokio::test]
async fn a_client_that_vanishes_after_the_dot_leaves_no_lease_behind() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    for _ in 0..10 {
        let mut client = rig.client().await;
        client.command(&format!("MAIL FROM:<{FROM}>")).await.expect(250);
        client.command("RCPT TO:<r@x.test>").await.expect(250);
        client.command("DATA").await.expect(354);
        client.send_raw(testkit::client::stuffed(MAIL).as_bytes()).await.unwrap();
        drop(client);
    }
    // Submitters that give up while the store works.
    for _ in 0..10 {
        let (door, submission) = (rig.relay.door(), rig.submission(&["r@x.test"], MAIL.as_bytes()));
        let _ = tokio::time::timeout(Duration::ZERO, door.submit(submission)).await;
    }
    sink.wait_for(10, PATIENCE).await;
    rig.drained().await;
    rig.idle().await;
}
