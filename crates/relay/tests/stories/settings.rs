//! Settings change while mail waits: routes go, come back and change; other processes may do it.

use serde_json::json;
use store::settings::Kind;
use store::{Operation, State};
use testkit::{Act, Rule, Sink, SinkOptions, Stage};

use crate::rig::{FROM, MAIL, PATIENCE, Setup, beside, eventually, smarthost, with};

#[tokio::test]
async fn mail_of_a_removed_route_waits_until_the_route_is_back() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["r+n1@x.test"]).await;
    rig.becomes(id, &["deferred"]).await;
    rig.delete(Kind::Route, "out").await;
    rig.relay.reload().await.unwrap();
    rig.operate(id, Operation::Retry).await;
    eventually("a second attempt", || async {
        let view = rig.recipients(id).await.remove(0);
        (view.attempts == 2 && view.state == State::Waiting).then_some(())
    })
    .await;
    rig.put(Kind::Route, "out", smarthost(&sink)).await;
    rig.relay.reload().await.unwrap();
    rig.operate(id, Operation::Retry).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!(sink.count(), 1);
}

#[tokio::test]
async fn mail_in_memory_of_a_removed_route_is_deferred() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).start().await;
    let flying = rig.send(&["flying@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let queued = rig.send(&["queued@x.test"]).await;
    rig.delete(Kind::Route, "out").await;
    rig.relay.reload().await.unwrap();
    sink.release();
    rig.becomes(flying, &["delivered"]).await;
    rig.becomes(queued, &["deferred"]).await;
    rig.idle().await;
}

#[tokio::test]
async fn a_change_by_another_process_is_noticed() {
    let (old, new) = (Sink::start().await, Sink::start().await);
    let rig = Setup::to(&old).start().await;
    rig.client().await.submit(FROM, &["r@x.test"], MAIL).await.expect(250);
    old.wait_for(1, PATIENCE).await;
    rig.put(Kind::Route, "out", smarthost(&new)).await;
    eventually("mail at the new host", || async {
        rig.send(&["r@x.test"]).await;
        (new.count() > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_setting_that_makes_no_sense_stops_nothing_else() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    rig.put(Kind::Route, "broken", json!({"kind": "teleport"})).await;
    rig.put(Kind::Sender, "broken", json!({"allowed": 7})).await;
    rig.put(Kind::Rule, "broken", json!({})).await;
    let problems = rig.relay.reload().await.unwrap();
    assert_eq!(problems.len(), 3, "{problems:?}");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn mail_in_memory_follows_a_route_that_became_local() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).start().await;
    let flying = rig.send(&["flying@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let queued = rig.send(&["queued@x.test"]).await;
    rig.put(Kind::Route, "out", json!({"kind": "capture"})).await;
    rig.relay.reload().await.unwrap();
    sink.release();
    rig.becomes(flying, &["delivered"]).await;
    rig.becomes(queued, &["delivered"]).await;
    assert_eq!(sink.count(), 1);
    assert!(store::Browse::message(&*rig.store, queued, 1).await.unwrap().captured);
}

#[tokio::test]
async fn mail_in_memory_of_a_route_that_became_mx_goes_to_each_domains_own_host() {
    let one = Sink::start().await;
    let two = beside(&one, "127.0.0.2", SinkOptions::default()).await;
    one.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::by(with(smarthost(&one), json!({"connections": 1}))).start().await;
    rig.zones.loopback("a.test").address_of("b.test", "127.0.0.2".parse().unwrap());
    rig.send(&["flying@x.test"]).await;
    assert!(one.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    let ids = [rig.send(&["r@a.test"]).await, rig.send(&["r@b.test"]).await];
    rig.put(Kind::Route, "out", json!({"kind": "mx", "port": one.port()})).await;
    rig.relay.reload().await.unwrap();
    one.release();
    for id in ids {
        rig.becomes(id, &["delivered"]).await;
    }
    assert_eq!(one.received().last().unwrap().to, ["r@a.test"]);
    assert_eq!(two.received().first().map(|mail| mail.to.clone()), Some(vec!["r@b.test".to_owned()]));
}
