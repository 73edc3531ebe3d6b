//! Connections are kept and used again; one that died while it was idle costs nobody an attempt.

use std::time::Duration;

use serde_json::json;
use store::EventKind::Delivered;
use store::settings::Kind;
use testkit::{Act, Extensions, Rule, Sink, SinkOptions, Stage};

use crate::rig::{PATIENCE, Setup, eventually, smarthost, with};

#[tokio::test]
async fn messages_to_one_destination_share_a_connection() {
    let sink = Sink::start().await;
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1}))).start().await;
    for i in 0..5 {
        let id = rig.send(&[&format!("r{i}@d{i}.test")]).await;
        rig.becomes(id, &["delivered"]).await;
    }
    assert_eq!((sink.count(), sink.connections()), (5, 1));
}

#[tokio::test]
async fn a_connection_takes_only_as_many_messages_as_the_route_says() {
    let sink = Sink::start().await;
    let route = with(smarthost(&sink), json!({"connections": 1, "messages_per_connection": 2}));
    let rig = Setup::by(route).start().await;
    for _ in 0..5 {
        rig.send(&["r@x.test"]).await;
    }
    let received = sink.wait_for(5, PATIENCE).await;
    let connections: Vec<u64> = received.iter().map(|mail| mail.connection).collect();
    assert_eq!(connections, [1, 1, 2, 2, 3]);
}

#[tokio::test]
async fn no_more_connections_are_opened_than_the_route_allows() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 3}))).start().await;
    for _ in 0..10 {
        rig.send(&["r@x.test"]).await;
    }
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 3).await);
    sink.behave();
    sink.release();
    sink.wait_for(10, PATIENCE).await;
    assert_eq!(sink.most_open(), 3);
}

/// Sends three messages; before the second one the sink has done something to the idle connection.
async fn survives(how: Rule, pipelining: bool) {
    let extensions = Extensions { pipelining, ..Extensions::default() };
    let sink = Sink::with(SinkOptions { extensions, ..SinkOptions::default() }).await;
    let rig = Setup::to(&sink).start().await;
    let first = rig.send(&["one@x.test"]).await;
    rig.becomes(first, &["delivered"]).await;
    sink.add(how.clone());
    let second = rig.send(&["two@x.test"]).await;
    let views = rig.becomes(second, &["delivered"]).await;
    assert_eq!(views[0].attempts, 1, "{how:?}: a stale connection is no attempt");
    assert_eq!(rig.events(second, 0).await, [Delivered], "{how:?}");
    assert_eq!((sink.count(), sink.connections()), (2, 2), "{how:?}");
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_not_an_attempt() {
    for pipelining in [true, false] {
        survives(Rule::at(Stage::Mail, Act::Drop).times(1), pipelining).await;
        survives(Rule::at(Stage::Mail, Act::Close("421 4.4.2 idle for too long".into())).times(1), pipelining).await;
    }
}

#[tokio::test]
async fn all_idle_connections_may_be_stale_at_once() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang));
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 4}))).start().await;
    for _ in 0..4 {
        rig.send(&["r@x.test"]).await;
    }
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 4).await);
    sink.behave().add(Rule::at(Stage::Mail, Act::Drop).times(4));
    sink.release();
    rig.drained().await;
    let id = rig.send(&["late@x.test"]).await;
    let views = rig.becomes(id, &["delivered"]).await;
    assert_eq!(views[0].attempts, 1);
}

#[tokio::test]
async fn a_fresh_connection_that_drops_at_mail_is_an_attempt() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Mail, Act::Drop));
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["deferred"]).await;
    assert_eq!(sink.connections(), 1, "it is not hammered");
}

#[tokio::test]
async fn an_unknown_fate_is_tried_again_because_a_duplicate_is_better_than_a_loss() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::AcceptThenDrop).times(1));
    let rig = Setup::to(&sink).config(|config| config.retry_s = vec![1]).start().await;
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["delivered"]).await;
    assert_eq!((views[0].attempts, sink.count()), (2, 2));
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_quit_after_its_time() {
    let sink = Sink::start().await;
    let rig = Setup::by(with(smarthost(&sink), json!({"idle_s": 0}))).start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.open() == 0).await);
    assert_eq!(sink.commands().last().unwrap().1, "QUIT");
    eventually("no connections", || async { (rig.relay.status().connections == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_server_that_allows_one_connection_is_not_hammered_for_more() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let rig = Setup::to(&sink).start().await;
    let first = rig.send(&["r@x.test"]).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    sink.add(Rule::at(Stage::Connect, Act::Close("421 4.7.0 one connection is enough".into())));
    for _ in 0..3 {
        rig.send(&["r@x.test"]).await;
    }
    let often = sink.wait_until(Duration::from_millis(700), |sink| sink.connections() > 10).await;
    assert!(!often, "{} connections in less than a second", sink.connections());
    sink.release();
    rig.drained().await;
    rig.becomes(first, &["delivered"]).await;
    assert_eq!(sink.count(), 4, "all went over the one connection there may be");
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_a_destination_that_has_none() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).config(|config| config.max_connections = 1).start().await;
    rig.zones.loopback("mx1.test").loopback("mx2.test").mx("a.test", 10, "mx1.test").mx("b.test", 10, "mx2.test");
    let start = std::time::Instant::now();
    for to in ["r@a.test", "r@b.test", "r@a.test"] {
        let id = rig.send(&[to]).await;
        rig.becomes(id, &["delivered"]).await;
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}: they waited for an idle one's time-out", start.elapsed());
    assert_eq!((sink.count(), sink.connections()), (3, 3));
}

#[tokio::test]
async fn a_changed_route_does_not_use_its_old_connections() {
    let (old, new) = (Sink::start().await, Sink::start().await);
    let rig = Setup::to(&old).start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    rig.put(Kind::Route, "out", smarthost(&new)).await;
    rig.relay.reload().await.unwrap();
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!((old.count(), new.count()), (1, 1));
}
