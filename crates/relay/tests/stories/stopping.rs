//! An orderly stop: what is past its final dot gets its answer, the rest goes back, nothing is sent twice.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Act, Rule, Sink, Stage, Trouble};

use crate::rig::{MAIL, PATIENCE, Rig, Setup, eventually, smarthost, with};

/// Far less than the relay's patience, and far more than a stop takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Stops without waiting for the end of the relay's patience, which is 60 s where a test says nothing else.
async fn stopped_soon(rig: Rig) -> Rig {
    let start = Instant::now();
    let (ground, config) = rig.stop().await;
    assert!(start.elapsed() < SOON, "the stop took {:?}", start.elapsed());
    Rig::again(ground, config).await
}

#[tokio::test]
async fn what_is_past_its_dot_is_waited_for_and_recorded() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang));
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["r@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let door = rig.relay.door();
    let (rig, ()) = tokio::join!(rig.restart(), async {
        eventually("the stop", || async { door.ready().is_err().then_some(()) }).await;
        sink.behave().release();
    });
    assert_eq!(rig.relay.taken_back, 0);
    let views = rig.becomes(id, &["delivered"]).await;
    assert_eq!((views[0].attempts, sink.count()), (1, 1));
}

#[tokio::test]
async fn what_is_before_its_dot_is_cut_and_goes_back_without_an_attempt() {
    let stages = [Stage::Connect, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data];
    let cells = stages.map(|stage| async move {
        let sink = Sink::start().await;
        sink.add(Rule::at(stage, Act::Hang));
        let rig = Setup::to(&sink).start().await;
        let id = rig.send(&["r@x.test"]).await;
        assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
        sink.behave();
        let rig = stopped_soon(rig).await;
        assert_eq!(rig.relay.taken_back, 0, "{stage:?}: the lease was given back");
        sink.release();
        let views = rig.becomes(id, &["delivered"]).await;
        assert_eq!((views[0].attempts, sink.count()), (1, 1), "{stage:?}");
    });
    futures_util::future::join_all(cells).await;
}

#[tokio::test]
async fn mail_that_waits_in_memory_goes_back_at_once() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Data, Act::Hang));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 2}))).start().await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(rig.submit(rig.submission(&["r@x.test"], MAIL.as_bytes())).await);
    }
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 2).await);
    let connections = sink.connections();
    sink.behave();
    let rig = stopped_soon(rig).await;
    assert_eq!(sink.connections(), connections, "a relay that stops opens nothing");
    assert_eq!(rig.relay.taken_back, 0);
    sink.release();
    rig.drained().await;
    assert_eq!(sink.count(), 50, "no loss and no duplicate");
    for id in ids {
        assert_eq!(rig.becomes(id, &["delivered"]).await[0].attempts, 1);
    }
}

#[tokio::test]
async fn mail_whose_domain_is_being_looked_up_goes_back_at_once() {
    let rig = Setup::mx(25).start().await;
    rig.zones.fail("slow.test", Trouble::Silent);
    let id = rig.send(&["r@slow.test"]).await;
    rig.becomes(id, &["leased"]).await;
    let rig = stopped_soon(rig).await;
    let views = rig.recipients(id).await;
    assert_eq!((rig.relay.taken_back, views[0].attempts), (0, 0));
}

#[tokio::test]
async fn patience_ends_and_an_unanswered_dot_is_tried_again() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang));
    let rig = Setup::to(&sink).config(|config| config.shutdown_s = 1).start().await;
    let id = rig.send(&["r@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let rig = stopped_soon(rig).await;
    sink.behave();
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn a_relay_that_stops_accepts_nothing() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    rig.relay.stop().await;
    let refusal = rig.relay.door().submit(rig.submission(&["r@x.test"], b"x\r\n")).await.unwrap_err();
    assert_eq!(refusal.reply.code, 421);
    let mut client = testkit::Client::raw(rig.address).await.unwrap();
    client.reply().await.expect(421);
}

#[tokio::test]
async fn stops_under_load_lose_nothing_and_repeat_nothing() {
    let sink = Sink::start().await;
    let mut rig = Setup::to(&sink).start().await;
    let mut sent = 0;
    for round in 0..3 {
        let submissions = (0..60).map(|i| {
            let mail = format!("X-Number: {round}-{i}\r\n{MAIL}");
            rig.submit(rig.submission(&["a@x.test", "b@y.test"], mail.as_bytes()))
        });
        sent += futures_util::future::join_all(submissions).await.len();
        rig = stopped_soon(rig).await;
        assert_eq!(rig.relay.taken_back, 0);
    }
    rig.drained().await;
    let mut numbers: Vec<_> =
        sink.received().iter().map(|mail| (mail.header("X-Number").unwrap(), mail.to.clone())).collect();
    numbers.sort();
    let all = numbers.len();
    numbers.dedup();
    assert_eq!((all, numbers.len()), (2 * sent, 2 * sent));
}

#[tokio::test]
async fn what_a_run_that_died_had_in_hand_is_taken_back_at_the_next_start() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Connect, Act::Hang));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).start().await;
    for _ in 0..6 {
        rig.send(&["r@x.test"]).await;
    }
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    sink.behave();
    let rig = rig.crash().await;
    assert_eq!(rig.relay.taken_back, 6);
    rig.drained().await;
    assert_eq!(sink.count(), 6);
}
