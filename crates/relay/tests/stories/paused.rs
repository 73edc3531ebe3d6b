//! Loops of the relay that somebody pauses, runs and begins anew: mail is taken and kept, and goes on where it stood.

use std::time::Duration;

use relay::pulse::Part;
use serde_json::json;
use testkit::{Act, Rule, Sink, Stage};

use crate::rig::{PATIENCE, Rig, Setup, eventually, smarthost, with};

/// Another round of a loop.
async fn round(rig: &Rig, part: Part) {
    let before = rig.relay.beat(part).rounds;
    rig.relay.run_part(part);
    eventually("a round", || async { (rig.relay.beat(part).rounds > before).then_some(()) }).await;
}

#[tokio::test]
async fn paused_claims_take_mail_and_keep_it_and_what_is_under_way_ends() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).start().await;
    let under_way = rig.send(&["a@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let queued = rig.send(&["b@x.test", "c@y.test"]).await;
    rig.relay.pause_part(Part::Claims, true).await;
    let later = rig.send(&["d@x.test"]).await;
    sink.release();
    rig.becomes(under_way, &["delivered"]).await;
    round(&rig, Part::Claims).await;
    rig.relay.say_now().await;
    rig.idle().await;
    rig.becomes(queued, &["waiting"; 2]).await;
    rig.becomes(later, &["waiting"]).await;
    assert_eq!(sink.count(), 1, "nothing new was begun");
    rig.relay.pause_part(Part::Claims, false).await;
    let views = rig.becomes(queued, &["delivered"; 2]).await;
    assert!(views.iter().all(|view| view.attempts == 1), "{views:?}");
    rig.becomes(later, &["delivered"]).await;
}

#[tokio::test]
async fn claims_that_are_paused_from_the_start_begin_when_they_are_let_go() {
    let sink = Sink::start().await;
    let mut rig = Setup::to(&sink).start().await;
    rig.config.paused = vec![Part::Claims];
    let mut rig = rig.restart().await;
    let id = rig.send(&["a@x.test"]).await;
    round(&rig, Part::Claims).await;
    rig.becomes(id, &["waiting"]).await;
    assert!(rig.relay.beat(Part::Claims).paused && sink.count() == 0);
    rig.config.paused = Vec::new();
    let rig = rig.restart().await;
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn retention_can_be_paused_and_all_parts_run_and_begun_anew() {
    let setup = Setup::by(json!({"kind": "capture"})).time_stands();
    let rig = setup.config(|config| config.retention.captured_ms = 1_000).start().await;
    let id = rig.send(&["a@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    rig.relay.pause_part(Part::Retention, true).await;
    rig.pass(Duration::from_secs(3_600));
    round(&rig, Part::Retention).await;
    assert_eq!(rig.store.captured(None, 10).await.unwrap().len(), 1, "it is paused");
    rig.relay.pause_part(Part::Expiry, true).await;
    assert!(!rig.relay.beat(Part::Expiry).paused, "others rely on it");
    rig.relay.pause_part(Part::Retention, false).await;
    round(&rig, Part::Retention).await;
    eventually("its end", || async { rig.store.captured(None, 10).await.unwrap().is_empty().then_some(()) }).await;
    for part in Part::ALL {
        let before = rig.relay.beat(part).rounds;
        rig.relay.restart_part(part);
        eventually(part.name(), || async {
            rig.relay.run_part(part);
            (rig.relay.beat(part).rounds > before + 1).then_some(())
        })
        .await;
    }
    let id = rig.send(&["b@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
}
