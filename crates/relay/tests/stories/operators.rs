//! Hold, release, retry and cancel: for mail that waits in the store, waits in memory, or is on its way right now.

use serde_json::json;
use store::{EventKind, MessageId, Operation, Selector, State};
use testkit::{Act, Rule, Sink, Stage};

use crate::rig::{PATIENCE, Rig, Setup, smarthost, with};

/// One connection whose first message hangs after its dot; the second message waits in memory behind it.
async fn busy() -> (Sink, Rig, MessageId, MessageId) {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).start().await;
    let flying = rig.send(&["flying@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let queued = rig.send(&["queued@x.test"]).await;
    rig.becomes(queued, &["leased"]).await;
    (sink, rig, flying, queued)
}

fn hold() -> Operation {
    Operation::Hold("looks odd".into())
}

#[tokio::test]
async fn mail_in_memory_can_be_held_and_released() {
    let (sink, rig, flying, queued) = busy().await;
    assert_eq!(rig.operate(queued, hold()).await, 1);
    let views = rig.becomes(queued, &["held"]).await;
    assert_eq!(views[0].why.as_deref(), Some("looks odd"));
    sink.release();
    rig.becomes(flying, &["delivered"]).await;
    rig.idle().await;
    assert_eq!(rig.operate(queued, Operation::Release).await, 1);
    let views = rig.becomes(queued, &["delivered"]).await;
    assert_eq!(views[0].attempts, 1);
    assert_eq!(rig.events(queued, 0).await, [EventKind::Held, EventKind::Released, EventKind::Delivered]);
    assert_eq!(sink.count(), 2);
}

#[tokio::test]
async fn mail_in_memory_can_be_canceled() {
    let (sink, rig, flying, queued) = busy().await;
    assert_eq!(rig.operate(queued, Operation::Cancel).await, 1);
    rig.becomes(queued, &["canceled"]).await;
    sink.release();
    rig.becomes(flying, &["delivered"]).await;
    assert_eq!(sink.count(), 1);
    assert_eq!(rig.operate(queued, Operation::Cancel).await, 0, "final is final");
}

#[tokio::test]
async fn one_recipient_of_a_message_can_be_canceled() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).start().await;
    rig.send(&["flying@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let id = rig.send(&["a@x.test", "b@x.test", "c@x.test"]).await;
    let selector = Selector { message: Some(id), n: Some(1), ..Selector::default() };
    assert_eq!(rig.relay.operate(selector, Operation::Cancel, "tester".into()).await.unwrap(), 1);
    sink.release();
    rig.becomes(id, &["delivered", "canceled", "delivered"]).await;
    assert_eq!(sink.received()[1].to, ["a@x.test", "c@x.test"]);
}

#[tokio::test]
async fn what_is_delivered_while_it_is_being_canceled_stays_delivered() {
    let (sink, rig, flying, _) = busy().await;
    assert_eq!(rig.operate(flying, Operation::Cancel).await, 1);
    sink.release();
    rig.becomes(flying, &["delivered"]).await;
}

#[tokio::test]
async fn a_wish_for_mail_on_its_way_is_granted_when_the_attempt_fails() {
    for (operation, wanted) in [(hold(), "held"), (Operation::Cancel, "canceled")] {
        let sink = Sink::start().await;
        sink.add(Rule::at(Stage::Data, Act::Hang).times(1)).add(Rule::reply(Stage::Message, "451 4.3.0 later"));
        let rig = Setup::to(&sink).start().await;
        let id = rig.send(&["r@x.test"]).await;
        assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
        assert_eq!(rig.operate(id, operation).await, 1);
        sink.release();
        let views = rig.becomes(id, &[wanted]).await;
        assert_eq!(views[0].attempts, 1);
        assert!(rig.events(id, 0).await.contains(&EventKind::Deferred));
    }
}

#[tokio::test]
async fn retry_now_makes_the_next_attempt_now_and_keeps_the_age() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["r+n2@x.test"]).await;
    let accepted_ms = rig.becomes(id, &["deferred"]).await[0].accepted_ms;
    assert_eq!(rig.operate(id, Operation::Retry).await, 1);
    crate::rig::eventually("a second attempt", || async {
        let view = rig.recipients(id).await.remove(0);
        (view.attempts == 2 && view.state == State::Waiting).then_some(())
    })
    .await;
    assert_eq!(rig.operate(id, Operation::Retry).await, 1);
    let views = rig.becomes(id, &["delivered"]).await;
    assert_eq!((views[0].attempts, views[0].accepted_ms), (3, accepted_ms));
}

#[tokio::test]
async fn retry_now_ends_the_pause_of_a_host_that_was_down() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Connect, Act::Close("421 4.3.2 not yet".into())));
    let rig = Setup::to(&sink).time_stands().start().await;
    let first = rig.send(&["first@x.test"]).await;
    // Each failure to connect doubles the pause: the last ones are so long that mail leaves memory.
    for failures in 1..=7 {
        crate::rig::eventually("a failed attempt", || async {
            let view = rig.recipients(first).await.remove(0);
            (view.attempts == failures && view.state == State::Waiting).then_some(())
        })
        .await;
        if failures < 7 {
            assert_eq!(rig.operate(first, Operation::Retry).await, 1);
        }
    }
    let second = rig.send(&["second@x.test"]).await;
    sink.behave();
    let all = Selector { all: true, ..Selector::default() };
    assert_eq!(rig.relay.operate(all, Operation::Retry, "tester".into()).await.unwrap(), 2);
    // No time passes: nothing but the wish brings them on their way.
    rig.drained().await;
    for id in [first, second] {
        rig.becomes(id, &["delivered"]).await;
    }
    assert_eq!(sink.count(), 2);
}

#[tokio::test]
async fn a_whole_domain_can_be_held_wherever_its_mail_is() {
    let (sink, rig, flying, queued) = busy().await;
    let other = rig.send(&["other@y.test"]).await;
    let mut later = rig.submission(&["later@x.test"], crate::rig::MAIL.as_bytes());
    later.send_at_ms = Some(rig.now_ms() + 3_600_000);
    let later = rig.submit(later).await;
    let domain = Selector { domain: Some("X.test".into()), ..Selector::default() };
    assert_eq!(rig.relay.operate(domain.clone(), hold(), "tester".into()).await.unwrap(), 3);
    sink.release();
    rig.becomes(flying, &["delivered"]).await;
    rig.becomes(other, &["delivered"]).await;
    rig.becomes(queued, &["held"]).await;
    rig.becomes(later, &["held"]).await;
    assert_eq!(rig.relay.operate(domain, Operation::Release, "tester".into()).await.unwrap(), 2);
    rig.becomes(queued, &["delivered"]).await;
}

#[tokio::test]
async fn an_empty_selector_changes_nothing_and_loses_nothing() {
    let (sink, rig, _, queued) = busy().await;
    let nothing = rig.relay.operate(Selector::default(), Operation::Cancel, "tester".into()).await;
    assert!(nothing.is_err());
    sink.release();
    rig.becomes(queued, &["delivered"]).await;
}

#[tokio::test]
async fn an_operator_who_goes_away_in_the_middle_loses_no_mail() {
    let (sink, rig, _, queued) = busy().await;
    let selector = Selector { message: Some(queued), ..Selector::default() };
    let operation = rig.relay.operate(selector, Operation::Retry, "tester".into());
    let _ = tokio::time::timeout(std::time::Duration::ZERO, operation).await;
    sink.release();
    rig.becomes(queued, &["delivered"]).await;
}
