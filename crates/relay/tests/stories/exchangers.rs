//! Delivery by MX: which hosts are tried, in which order, and what the DNS's answers mean (RFC 5321 §5.1).

use std::net::IpAddr;

use proto::transcript::Failure;
use serde_json::json;
use testkit::zones::RecordType;
use testkit::{Act, Rule, Sink, SinkOptions, Stage, Trouble};

use crate::rig::{Rig, Setup, beside};

/// Two sinks on one port, known as `mx1.test` and `mx2.test`.
async fn pair(setup: impl FnOnce(u16) -> Setup) -> (Sink, Sink, Rig) {
    let one = Sink::start().await;
    let two = beside(&one, "127.0.0.2", SinkOptions::default()).await;
    let rig = setup(one.port()).start().await;
    rig.zones.loopback("mx1.test").address_of("mx2.test", IpAddr::from([127, 0, 0, 2]));
    (one, two, rig)
}

#[tokio::test]
async fn the_preferred_host_is_used() {
    let (one, two, rig) = pair(Setup::mx).await;
    rig.zones.mx("x.test", 10, "mx2.test").mx("x.test", 20, "mx1.test");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!((one.connections(), two.count()), (0, 1));
    let events = store::Browse::events(&*rig.store, id, 10).await.unwrap();
    let peer = events.last().unwrap().detail.attempt.clone().unwrap().peer.unwrap();
    assert!(peer.starts_with("mx2.test [127.0.0.2]:"), "{peer}");
}

#[tokio::test]
async fn hosts_of_equal_preference_share_the_load() {
    let (one, two, rig) =
        pair(|port| Setup::by(json!({"kind": "mx", "port": port, "messages_per_connection": 1, "connections": 1})))
            .await;
    rig.zones.mx("x.test", 10, "mx1.test").mx("x.test", 10, "mx2.test");
    for _ in 0..30 {
        rig.submit(rig.submission(&["r@x.test"], b"Subject: x\r\n\r\n")).await;
    }
    rig.drained().await;
    assert_eq!(one.count() + two.count(), 30);
    assert!(one.count() > 0 && two.count() > 0, "{} and {}", one.count(), two.count());
}

#[tokio::test]
async fn the_second_host_is_used_when_the_first_is_down_or_refuses_to_greet() {
    for greeting in [None, Some("554 5.3.2 no service"), Some("421 4.3.2 busy")] {
        let one = Sink::start().await;
        let two = beside(&one, "127.0.0.2", SinkOptions::default()).await;
        let rig = Setup::mx(one.port()).start().await;
        rig.zones.loopback("mx1.test").address_of("mx2.test", IpAddr::from([127, 0, 0, 2]));
        rig.zones.mx("x.test", 10, "mx1.test").mx("x.test", 20, "mx2.test");
        let one = match greeting {
            Some(reply) => {
                one.add(Rule::at(Stage::Connect, Act::Close(reply.into())));
                Some(one)
            }
            None => {
                one.stop().await;
                None
            }
        };
        let id = rig.send(&["r@x.test"]).await;
        let views = rig.becomes(id, &["delivered"]).await;
        assert_eq!((views[0].attempts, two.count()), (1, 1), "{greeting:?}");
        drop(one);
    }
}

#[tokio::test]
async fn an_mx_host_without_a_name_is_skipped() {
    let (one, _two, rig) = pair(Setup::mx).await;
    rig.zones.mx("x.test", 5, "nowhere.test").mx("x.test", 10, "mx1.test");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn when_no_mx_host_has_a_name_the_recipient_fails() {
    let rig = Setup::mx(25).start().await;
    rig.zones.mx("x.test", 5, "nowhere.test").mx("x.test", 10, "neither.test");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["failed"]).await;
}

#[tokio::test]
async fn when_one_mx_host_may_come_back_the_recipient_waits() {
    let rig = Setup::mx(25).start().await;
    rig.zones.mx("x.test", 5, "maybe.test").mx("x.test", 10, "nowhere.test").fail("maybe.test", Trouble::ServFail);
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["deferred"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::DnsUnavailable { .. })), "{views:?}");
}

#[tokio::test]
async fn ipv4_is_tried_in_the_same_attempt_when_ipv6_does_not_answer() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).start().await;
    rig.zones.mx("x.test", 10, "mx.test").address_of("mx.test", "::1".parse().unwrap()).loopback("mx.test");
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["delivered"]).await;
    assert_eq!((views[0].attempts, sink.count()), (1, 1));
}

#[tokio::test]
async fn ipv6_comes_first() {
    let four = Sink::start().await;
    let Ok(address) = "::1".parse::<IpAddr>() else { return };
    if std::net::TcpListener::bind((address, 0)).is_err() {
        return; // A machine without IPv6.
    }
    let six = beside(&four, "::1", SinkOptions::default()).await;
    let rig = Setup::mx(four.port()).start().await;
    rig.zones.mx("x.test", 10, "mx.test").address_of("mx.test", address).loopback("mx.test");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!((six.count(), four.connections()), (1, 0));
}

#[tokio::test]
async fn a_domain_that_takes_no_mail_or_does_not_exist_fails_at_once() {
    let rig = Setup::mx(25).start().await;
    rig.zones.mx("null.test", 0, ".").loopback("null.test").empty("bare.test");
    let to = ["r@null.test", "r@nowhere.test", "r@bare.test"];
    let id = rig.send(&to).await;
    let views = rig.becomes(id, &["failed"; 3]).await;
    assert!(matches!(views[0].failure(), Some(Failure::NullMx { .. })), "{:?}", views[0]);
    assert!(matches!(views[1].failure(), Some(Failure::NameNotFound { .. })), "{:?}", views[1]);
    assert!(matches!(views[2].failure(), Some(Failure::NoAddress { .. })), "{:?}", views[2]);
}

#[tokio::test]
async fn a_name_server_in_trouble_defers_and_never_falls_back_to_the_address() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).start().await;
    for (name, trouble) in [("servfail.test", Trouble::ServFail), ("refused.test", Trouble::Refused)] {
        rig.zones.loopback(name).fail_type(name, RecordType::MX, trouble);
    }
    let id = rig.send(&["r@servfail.test", "r@refused.test"]).await;
    let views = rig.becomes(id, &["deferred"; 2]).await;
    assert!(views.iter().all(|view| matches!(view.failure(), Some(Failure::DnsUnavailable { .. }))), "{views:?}");
    assert_eq!(sink.connections(), 0);
}

#[tokio::test]
async fn a_silent_name_server_defers() {
    let rig = Setup::mx(25).start().await;
    rig.zones.fail("silent.test", Trouble::Silent);
    let id = rig.send(&["r@silent.test"]).await;
    let views = rig.becomes(id, &["deferred"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::DnsUnavailable { .. })), "{views:?}");
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_host() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).start().await;
    rig.zones.loopback("x.test");
    rig.zones.cname("alias.test", "x.test");
    let id = rig.send(&["r@x.test", "r@alias.test"]).await;
    rig.becomes(id, &["delivered"; 2]).await;
}

#[tokio::test]
async fn an_address_literal_is_its_own_host() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).start().await;
    let id = rig.send(&["r@[127.0.0.1]"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!(sink.received()[0].to, ["r@[127.0.0.1]"]);
}

#[tokio::test]
async fn mail_that_would_come_back_to_us_fails_as_a_loop() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).start().await;
    rig.zones.loopback("relay.test").loopback("backup.test").loopback("better.test");
    rig.zones.mx("self.test", 10, "Relay.test").mx("self.test", 20, "backup.test");
    rig.zones.mx("ours.test", 10, "better.test").mx("ours.test", 20, "relay.test");
    let id = rig.send(&["r@self.test", "r@ours.test"]).await;
    let views = rig.becomes(id, &["failed", "delivered"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::MxLoop { .. })), "{views:?}");
    assert_eq!(sink.received()[0].to, ["r@ours.test"]);
}

#[tokio::test]
async fn domains_that_share_their_hosts_share_a_destination_and_its_connection() {
    let sink = Sink::start().await;
    let rig = Setup::by(json!({"kind": "mx", "port": sink.port(), "connections": 1})).start().await;
    rig.zones.loopback("mx.test");
    for i in 0..5 {
        let domain = format!("d{i}.test");
        rig.zones.mx(&domain, 10, "mx.test");
        let id = rig.send(&[&format!("r@{domain}")]).await;
        rig.becomes(id, &["delivered"]).await;
    }
    assert_eq!((sink.count(), sink.connections()), (5, 1));
    assert_eq!(rig.relay.status().destinations.len(), 1);
}

#[tokio::test]
async fn many_messages_to_one_domain_ask_the_name_server_once() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).start().await;
    rig.zones.loopback("mx.test").mx("x.test", 10, "mx.test");
    let submissions = (0..20).map(|_| rig.submit(rig.submission(&["r@x.test"], b"Subject: x\r\n\r\n")));
    futures_util::future::join_all(submissions).await;
    rig.drained().await;
    assert_eq!(sink.count(), 20);
    assert_eq!(rig.zones.queries("x.test", RecordType::MX), 1);
}
