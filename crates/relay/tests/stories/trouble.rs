//! When the store has trouble: nothing is promised that is not durable, and no known outcome is forgotten. Faults are put
//! into the embedded engine; what a database that is away does is told in the cluster's tests.

use std::time::Duration;

use serde_json::json;
use store::sqlite::FaultPoint;
use store::{EventKind, Operation};
use testkit::{Act, Rule, Sink, Stage};

use crate::rig::{FROM, MAIL, PATIENCE, Setup, eventually, smarthost, with};

#[tokio::test]
async fn a_message_that_could_not_be_stored_is_refused_for_now_and_not_delivered() {
    let points = [
        (FaultPoint::SegmentWrite, 451, "4.3.0"),
        (FaultPoint::SegmentSync, 451, "4.3.0"),
        (FaultPoint::Commit, 451, "4.3.0"),
        (FaultPoint::SegmentFull, 452, "4.3.1"),
        (FaultPoint::CommitFull, 452, "4.3.1"),
    ];
    let cells = points.map(|(point, code, text)| async move {
        let sink = Sink::start().await;
        let rig = Setup::to(&sink).embedded().start().await;
        let mut client = rig.client().await;
        // As often as it is asked: a round of bookkeeping that commits first must not take the fault away.
        rig.faults.fail(point, u32::MAX);
        let answer = client.submit(FROM, &["lost@x.test"], MAIL).await.expect(code);
        rig.faults.fail(point, 0);
        assert!(answer.text().starts_with(text), "{point:?}: {answer:?}");
        assert_eq!(rig.relay.status().window_recipients, 0, "{point:?}");
        // It recovers by itself, and says so by accepting again.
        eventually("acceptance again", || async {
            let mut client = rig.client().await;
            (client.submit(FROM, &["kept@x.test"], MAIL).await.code == 250).then_some(())
        })
        .await;
        rig.drained().await;
        let to: Vec<_> = sink.received().into_iter().flat_map(|mail| mail.to).collect();
        assert_eq!(to, ["kept@x.test"], "{point:?}");
    });
    futures_util::future::join_all(cells).await;
}

#[tokio::test]
async fn an_outcome_that_cannot_be_recorded_yet_is_not_lost_and_not_repeated() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::to(&sink).embedded().start().await;
    let id = rig.send(&["r@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    rig.faults.fail(FaultPoint::Commit, 3);
    sink.release();
    let views = rig.becomes(id, &["delivered"]).await;
    assert_eq!((views[0].attempts, sink.count()), (1, 1));
    assert_eq!(rig.events(id, 0).await, [EventKind::Delivered]);
    rig.idle().await;
}

#[tokio::test]
async fn the_next_message_waits_before_its_dot_until_the_last_outcome_is_durable() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).embedded().start().await;
    let first = rig.send(&["first@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let second = rig.send(&["second@x.test"]).await;
    rig.faults.fail(FaultPoint::Commit, 1);
    rig.faults.fail(FaultPoint::Reopen, 2);
    sink.release();
    sink.wait_for(2, PATIENCE).await;
    // The second message is there, so the first one's outcome is on the disk.
    assert_eq!(rig.events(first, 0).await, [EventKind::Delivered]);
    rig.becomes(second, &["delivered"]).await;
}

#[tokio::test]
async fn an_outcome_is_recorded_although_the_relay_is_told_to_stop() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).embedded().start().await;
    let first = rig.send(&["first@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let second = rig.send(&["second@x.test"]).await;
    rig.faults.fail(FaultPoint::Commit, 1);
    sink.release();
    // Now the first one's outcome cannot be stored, and the second one waits before its dot for that.
    let asked = |sink: &Sink| sink.commands().iter().filter(|(_, line)| line == "DATA").count() == 2;
    assert!(sink.wait_until(PATIENCE, asked).await);
    let rig = rig.restart().await;
    rig.becomes(first, &["delivered"]).await;
    rig.becomes(second, &["delivered"]).await;
    let to: Vec<_> = sink.received().into_iter().flat_map(|mail| mail.to).collect();
    assert_eq!(to, ["first@x.test", "second@x.test"]);
}

#[tokio::test]
async fn deliveries_go_on_after_the_store_was_away() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).config(|config| config.retry_s = vec![1]).embedded().start().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(rig.submit(rig.submission(&["r+n1@x.test", "s@x.test"], MAIL.as_bytes())).await);
    }
    rig.faults.fail(FaultPoint::Commit, 2);
    rig.drained().await;
    let delivered: usize = sink.received().iter().map(|mail| mail.to.len()).sum();
    assert_eq!(delivered, 40);
}

#[tokio::test]
async fn an_operator_is_told_of_the_trouble_and_no_mail_is_lost_by_it() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).embedded().start().await;
    rig.send(&["flying@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let queued = rig.send(&["queued@x.test"]).await;
    rig.faults.fail(FaultPoint::Commit, 1);
    let selector = store::Selector { message: Some(queued), ..store::Selector::default() };
    let limit = Duration::from_secs(5);
    let _ = tokio::time::timeout(limit, rig.relay.operate(selector, Operation::Retry, "tester".into())).await;
    sink.release();
    rig.becomes(queued, &["delivered"]).await;
    rig.drained().await;
    assert_eq!(sink.count(), 2);
}
