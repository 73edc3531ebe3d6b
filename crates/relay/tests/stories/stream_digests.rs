//! Equal mails to one recipient: the first goes, the others are told of once, whatever crashes.

use std::collections::HashSet;
use std::time::Duration;

use relay::Noting;
use serde_json::json;
use store::{EventKind, MessageId, Operation, State};
use testkit::{Received, Sink};

use crate::rig::{PATIENCE, Rig, Setup, eventually};

const WINDOW: Duration = Duration::from_secs(600);

fn alert(n: u32, what: &str) -> String {
    format!("From: ops@app.test\r\nSubject: Disk {n}% full\r\n\r\nThe disk of {what} is {n}% full at 09:{n}.\r\n")
}

async fn storm(sink: &Sink) -> Rig {
    Setup::to(sink).stream("alerts", json!({"digest_s": 600})).time_stands().start().await
}

/// Submits; gives the message, and whether it was folded.
async fn submit(rig: &Rig, to: &str, content: &str, key: Option<&str>) -> (MessageId, bool) {
    let mut submission = rig.submission(&[to], content.as_bytes());
    (submission.stream, submission.digest_key) = (Some("alerts".into()), key.map(str::to_owned));
    let receipt = rig.relay.door().submit(submission).await.expect("accepted");
    (receipt.id, receipt.noted.first().is_some_and(|noted| noted.noting == Noting::Held))
}

#[tokio::test]
async fn a_storm_of_equal_alerts_becomes_one_mail_and_one_digest_over_crashes() {
    let sink = Sink::start().await;
    let rig = storm(&sink).await;
    let mut folded = Vec::new();
    for n in 10..15 {
        let (id, held) = submit(&rig, "ann@x.test", &alert(n, "db"), None).await;
        assert_eq!(held, n > 10);
        folded.push(id);
        rig.pass(Duration::from_secs(10));
    }
    let first = folded.remove(0);
    assert!(!submit(&rig, "bob@x.test", &alert(20, "db"), None).await.1, "another recipient");
    assert!(!submit(&rig, "ann@x.test", &alert(20, "web"), None).await.1, "about something else");
    sink.wait_for(3, PATIENCE).await;
    rig.becomes(first, &["delivered"]).await;
    for id in &folded {
        rig.becomes(*id, &["held"]).await;
    }
    let mut rig = rig.crash().await;
    rig.pass(WINDOW);
    sink.wait_for(4, PATIENCE).await;
    for round in 0..3 {
        rig = rig.crash().await;
        for id in &folded {
            let view = &rig.becomes(*id, &["suppressed"]).await[0];
            assert!(view.why.as_deref().unwrap().starts_with("folded: told of by the digest"), "{round}");
        }
    }
    rig.drained().await;
    // A crash may have a mail delivered again before that was written down: the same message.
    let mails = sink.received();
    let (digests, others): (Vec<_>, Vec<_>) = mails.iter().partition(|mail| mail.text().contains("[4 more]"));
    let texts = |mails: &[&Received]| mails.iter().map(|mail| mail.text()).collect::<HashSet<_>>().len();
    assert_eq!((texts(&digests), texts(&others)), (1, 3), "one digest");
    let digest = digests[0];
    assert_eq!(digest.to, ["ann@x.test"]);
    assert_eq!(digest.header("Subject").as_deref().map(str::trim), Some("[4 more] Disk 14% full"));
    assert_eq!(digest.header("From").as_deref().map(str::trim), Some("ops@app.test"));
    let text = String::from_utf8_lossy(digest.body()).into_owned();
    for line in ["4 more mails", "Disk 11% full", "Disk 14% full", "The disk of db is 14% full"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(rig.events(folded[0], 0).await, [EventKind::Held, EventKind::Suppressed]);
    assert!(!submit(&rig, "ann@x.test", &alert(16, "db"), None).await.1, "a new window");
    drop(rig.stop().await);
}

#[tokio::test]
async fn a_key_decides_what_is_equal_and_mail_that_is_released_goes_by_itself() {
    let sink = Sink::start().await;
    let rig = storm(&sink).await;
    assert!(!submit(&rig, "ann@x.test", &alert(1, "one"), Some("disk")).await.1);
    let (released, folded) = submit(&rig, "ann@x.test", &alert(2, "two"), Some("disk")).await;
    assert!(folded);
    let header = format!("X-Pillarbox-Digest-Key: disk\r\n{}", alert(3, "three"));
    let (told, folded) = submit(&rig, "ann@x.test", &header, None).await;
    assert!(folded && !submit(&rig, "ann@x.test", &alert(4, "one"), Some("memory")).await.1);
    rig.operate(released, Operation::Release).await;
    rig.becomes(released, &["delivered"]).await;
    sink.wait_for(3, PATIENCE).await;
    rig.pass(WINDOW);
    sink.wait_for(4, PATIENCE).await;
    let digest = sink.received().pop().unwrap();
    assert_eq!(digest.header("Subject").as_deref().map(str::trim), Some("[1 more] Disk 3% full"));
    rig.becomes(told, &["suppressed"]).await;
    rig.becomes(released, &["delivered"]).await;
    let (alone, folded) = submit(&rig, "ann@x.test", &alert(5, "one"), Some("memory")).await;
    assert!(!folded, "its window was over, without mail");
    let (canceled, _) = submit(&rig, "ann@x.test", &alert(6, "one"), Some("memory")).await;
    rig.operate(canceled, Operation::Cancel).await;
    rig.becomes(alone, &["delivered"]).await;
    rig.pass(WINDOW);
    eventually("an end of the digest of which nothing is left", || async {
        store::Streams::next_digest_ms(&*rig.store).await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!((sink.count(), rig.recipients(canceled).await[0].state), (5, State::Canceled));
    drop(rig.stop().await);
}

#[tokio::test]
async fn the_digest_of_a_paused_stream_is_held_as_all_its_mail() {
    let sink = Sink::start().await;
    let rig = storm(&sink).await;
    submit(&rig, "ann@x.test", &alert(1, "db"), None).await;
    let (folded, _) = submit(&rig, "ann@x.test", &alert(2, "db"), None).await;
    sink.wait_for(1, PATIENCE).await;
    rig.relay.pause_stream("alerts", "x").await.unwrap();
    rig.pass(WINDOW);
    let view = &rig.becomes(folded, &["suppressed"]).await[0];
    let digest: MessageId = view.why.as_deref().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    rig.becomes(digest, &["held"]).await;
    rig.relay.resume_stream("alerts").await.unwrap();
    rig.becomes(digest, &["delivered"]).await;
    assert_eq!(
        rig.store.message(digest, 1).await.unwrap().message.details.subject.as_deref(),
        Some("[1 more] Disk 2% full")
    );
    drop(rig.stop().await);
}
