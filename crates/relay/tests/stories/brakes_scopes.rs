//! What a brake stops, and what it does not: routes with fallbacks, destinations, addresses, streams, sender domains.

use relay::brake::{BrakeNews, ProbeOutcome};
use serde_json::json;
use store::State;
use testkit::{Rule, Sink, Stage};

use crate::brakes::{FAST, delivered_once, hear, probe_when_free, scope};
use crate::rig::{MAIL, Rig, Setup, eventually, smarthost, with};

#[tokio::test]
async fn mail_goes_by_the_fallback_and_is_held_only_where_that_is_braked_too() {
    let (main, spare) = (Sink::start().await, Sink::start().await);
    let fallback = json!({"fallback": [{"route": "spare"}], "failover_after_s": 300, "retry_s": [3600]});
    let rig = Setup::by(with(smarthost(&main), fallback)).route("spare", smarthost(&spare)).start().await;
    main.add(Rule::reply(Stage::Connect, "421 4.3.2 closed"));
    let waits = rig.send(&["waits@x.test"]).await;
    rig.becomes(waits, &["deferred"]).await;
    rig.relay.brake(scope("route:out"), 1, "closed".into()).await.expect("a brake");
    let new = rig.send(&["new@x.test"]).await;
    rig.becomes(waits, &["delivered"]).await;
    rig.becomes(new, &["delivered"]).await;
    assert_eq!(delivered_once(&spare), 2);

    rig.relay.brake(scope("route:spare"), 2, "closed too".into()).await.expect("a brake");
    let nowhere = rig.send(&["nowhere@x.test"]).await;
    let views = rig.becomes(nowhere, &["held"]).await;
    assert_eq!(views[0].why.as_deref(), Some("incident i-1: closed"));
    // A fallback that works again takes what was held for want of one.
    rig.relay.unbrake(2, FAST).await.expect("unbrake");
    rig.becomes(nowhere, &["delivered"]).await;
    assert_eq!((main.count(), spare.count()), (0, 3));
    main.behave();
    rig.relay.unbrake(1, FAST).await.expect("unbrake");
    let back = rig.send(&["back@x.test"]).await;
    rig.becomes(back, &["delivered"]).await;
    assert_eq!((main.count(), spare.count()), (1, 3));
}

#[tokio::test]
async fn a_destination_is_stopped_with_all_its_domains_and_no_other() {
    let sink = Sink::start().await;
    let rig = Setup::mx(sink.port()).start().await;
    for (domain, host) in [("a.test", "mx.big.test"), ("b.test", "mx.big.test"), ("c.test", "mx.small.test")] {
        rig.zones.mx(domain, 10, host);
    }
    for host in ["mx.big.test", "mx.small.test"] {
        rig.zones.loopback(host);
    }
    let first = rig.send(&["r@a.test"]).await;
    rig.becomes(first, &["delivered"]).await;
    let name = rig.relay.status().destinations[0].name.clone();
    assert!(name.starts_with("out/") && name.contains("mx.big.test"), "{name}");
    rig.relay.brake(scope(&format!("destination:{name}")), 1, "no".into()).await.expect("a brake");
    let [a, b, c] = [rig.send(&["r@a.test"]).await, rig.send(&["r@b.test"]).await, rig.send(&["r@c.test"]).await];
    rig.becomes(c, &["delivered"]).await;
    rig.becomes(a, &["held"]).await;
    rig.becomes(b, &["held"]).await;
    assert_eq!(probe_when_free(&rig, &format!("destination:{name}")).await, ProbeOutcome::Succeeded);
    assert_eq!(sink.count(), 2);
    rig.relay.unbrake(1, FAST).await.expect("unbrake");
    rig.drained().await;
    assert_eq!(sink.count(), 4);
}

#[tokio::test]
async fn a_stopped_address_is_left_out_and_mail_waits_only_when_none_is_left() {
    let sink = Sink::start().await;
    let sources = json!({"sources": [{"address": "127.0.0.2", "helo": "two.test"}, {"address": "127.0.0.3", "helo": "three.test"}]});
    let rig = Setup::by(with(smarthost(&sink), sources)).start().await;
    let helos = |sink: &Sink| sink.received().iter().map(|mail| mail.helo.clone()).collect::<Vec<_>>();
    rig.relay.brake(scope("source:127.0.0.2"), 1, "listed".into()).await.expect("a brake");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!(helos(&sink), ["three.test"]);
    rig.relay.brake(scope("source:127.0.0.3"), 2, "listed too".into()).await.expect("a brake");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["held"]).await;
    rig.relay.unbrake(1, FAST).await.expect("unbrake");
    rig.relay.unbrake(2, FAST).await.expect("unbrake");
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn a_stopped_stream_is_probed_with_one_message_that_does_not_bounce() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let mut news = rig.relay.brake_news();
    rig.relay.brake(scope("stream:news"), 1, "complaints".into()).await.expect("a brake");
    let send = async |rig: &Rig, to: &str, stream: &str| {
        let mut mail = rig.submission(&[to], MAIL.as_bytes());
        mail.stream = Some(stream.into());
        rig.submit(mail).await
    };
    assert_eq!(probe_when_free(&rig, "stream:news").await, ProbeOutcome::NothingToTry);
    let ids = [send(&rig, "a@x.test", "news").await, send(&rig, "b@x.test", "news").await];
    let urgent = send(&rig, "c@x.test", "urgent").await;
    rig.becomes(urgent, &["delivered"]).await;
    sink.add(Rule::reply(Stage::Mail, "550 5.7.1 contract violated"));
    let tried = probe_when_free(&rig, "stream:news").await;
    assert!(matches!(&tried, ProbeOutcome::Failed { next_ms: Some(_), .. }), "{tried:?}");
    for id in ids {
        let views = rig.becomes(id, &["held"]).await;
        assert_eq!(views[0].why.as_deref(), Some("incident i-1: complaints"));
    }
    sink.behave();
    assert_eq!(probe_when_free(&rig, "stream:news").await, ProbeOutcome::Succeeded);
    hear(&mut news, |one| matches!(one, BrakeNews::ProbeSucceeded { incident: Some(1), .. }).then_some(())).await;
    assert_eq!(sink.count(), 2, "one message was the probe");
    rig.relay.unbrake(1, FAST).await.expect("unbrake");
    rig.drained().await;
    assert_eq!(delivered_once(&sink), 3);
}

#[tokio::test]
async fn mail_of_a_sender_domain_is_held_also_what_waits_and_a_refused_recipient_proves_that_others_are_welcome() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    sink.add(Rule::reply(Stage::Rcpt, "450 4.7.1 sender domain in quarantine").times(1));
    let waits = rig.send(&["waits@x.test"]).await;
    rig.becomes(waits, &["deferred"]).await;
    rig.relay.brake(scope("sender_domain:app.test"), 1, "quarantine".into()).await.expect("a brake");
    rig.becomes(waits, &["held"]).await;
    let mut other = rig.submission(&["o@x.test"], MAIL.as_bytes());
    other.envelope.reverse_path = proto::ReversePath(Some("x@other.test".parse().expect("an address")));
    let other = rig.submit(other).await;
    rig.becomes(other, &["delivered"]).await;
    sink.add(Rule::reply(Stage::Rcpt, "550 5.1.1 no such user").times(1));
    assert_eq!(probe_when_free(&rig, "sender_domain:app.test").await, ProbeOutcome::Succeeded);
    eventually("the end of its own", || async {
        (rig.recipients(waits).await[0].state == State::Failed).then_some(())
    })
    .await;
}
