//! Memory is bounded whatever waits in the store, and what is urgent does not wait behind what is not.

use relay::StreamConfig;
use serde_json::json;
use testkit::{Act, Rule, Sink, SinkOptions, Stage};

use crate::rig::{MAIL, PATIENCE, Rig, Setup, beside, eventually, smarthost, with};

/// Submits many messages at once.
async fn flood(rig: &Rig, count: usize, stream: &str, domain: impl Fn(usize) -> String) {
    let submissions = (0..count).map(|i| {
        let mut submission = rig.submission(&[&format!("r{i}@{}", domain(i))], MAIL.as_bytes());
        submission.stream = Some(stream.to_owned());
        rig.submit(submission)
    });
    futures_util::future::join_all(submissions).await;
}

#[tokio::test]
async fn a_backlog_far_larger_than_memory_drains_completely() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Connect, Act::Hang));
    let rig = Setup::to(&sink).config(|config| config.window_recipients = 100).start().await;
    flood(&rig, 2_000, "default", |i| format!("d{}.test", i % 7)).await;
    assert!(rig.relay.status().window_recipients <= 100);
    sink.behave().release();
    sink.wait_for(2_000, PATIENCE).await;
    rig.drained().await;
    let mut to: Vec<_> = sink.received().into_iter().flat_map(|mail| mail.to).collect();
    to.sort_unstable();
    to.dedup();
    assert_eq!((sink.count(), to.len()), (2_000, 2_000));
    assert!(sink.most_open() <= 20);
}

#[tokio::test]
async fn a_backlog_survives_a_restart_and_drains() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Connect, Act::Hang));
    let rig = Setup::to(&sink).config(|config| config.window_recipients = 100).start().await;
    flood(&rig, 300, "default", |_| "x.test".into()).await;
    sink.behave();
    let rig = rig.restart().await;
    sink.release();
    rig.drained().await;
    assert_eq!(sink.count(), 300);
}

#[tokio::test]
async fn content_that_finds_no_room_in_memory_is_read_from_the_store() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).config(|config| config.window_octets = 2_000).start().await;
    flood(&rig, 50, "default", |_| "x.test".into()).await;
    rig.drained().await;
    assert_eq!(sink.count(), 50);
    assert!(sink.received().iter().all(|mail| mail.text().ends_with(MAIL)));
    eventually("no content in memory", || async { (rig.relay.status().window_octets == 0).then_some(()) }).await;
}

#[tokio::test]
async fn an_urgent_stream_overtakes_what_waits() {
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Message, Act::Hang).times(1));
    let streams = vec![
        StreamConfig { name: "code".into(), priority: 0, deadline_s: None, allow_duplicates: false },
        StreamConfig { name: "news".into(), priority: 3, deadline_s: None, allow_duplicates: false },
    ];
    let rig = Setup::by(with(smarthost(&sink), json!({"connections": 1})))
        .config(|config| {
            config.streams = streams;
            config.window_recipients = 100;
        })
        .start()
        .await;
    flood(&rig, 200, "news", |_| "x.test".into()).await;
    assert!(sink.wait_until(PATIENCE, |sink| sink.hanging() == 1).await);
    flood(&rig, 1, "code", |_| "urgent.test".into()).await;
    sink.release();
    rig.drained().await;
    let at = sink.received().iter().position(|mail| mail.to[0].ends_with("urgent.test")).unwrap();
    assert!(at <= 1, "the urgent one was number {at} of 201");
}

#[tokio::test]
async fn a_slow_destination_does_not_hold_up_the_others() {
    let slow = Sink::start().await;
    let quick = beside(&slow, "127.0.0.2", SinkOptions::default()).await;
    slow.add(Rule::at(Stage::Message, Act::Hang));
    let rig = Setup::mx(slow.port()).config(|config| config.window_recipients = 200).start().await;
    rig.zones.loopback("slow.test").address_of("quick.test", "127.0.0.2".parse().unwrap());
    flood(&rig, 500, "default", |_| "slow.test".into()).await;
    flood(&rig, 300, "default", |_| "quick.test".into()).await;
    quick.wait_for(300, PATIENCE).await;
    assert_eq!(slow.count(), 0);
    slow.behave().release();
    rig.drained().await;
    assert_eq!(slow.count(), 500);
}

#[tokio::test]
async fn many_slow_domains_do_not_keep_the_store_from_being_read_again() {
    let slow = Sink::start().await;
    slow.add(Rule::at(Stage::Message, Act::Hang));
    let rig = Setup::mx(slow.port()).config(|config| config.window_recipients = 100).start().await;
    for i in 0..120 {
        rig.zones.loopback(&format!("d{i}.test"));
    }
    flood(&rig, 240, "default", |i| format!("d{}.test", i % 120)).await;
    assert!(slow.wait_until(PATIENCE, |sink| sink.hanging() > 20).await);
    slow.behave().release();
    rig.drained().await;
    assert_eq!(slow.count(), 240);
}
