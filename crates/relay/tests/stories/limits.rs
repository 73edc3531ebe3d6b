//! Limits of routes: kept by many connections, across restarts and crashes.

use serde_json::json;
use store::settings::Kind;
use testkit::{Sink, SinkOptions};

use crate::rig::{PATIENCE, Rig, Setup, eventually, smarthost, with};

const TO: [&str; 1] = ["someone@x.test"];

/// The quota of the route is used up, as its status says.
async fn used_up(rig: &Rig, used: u32) {
    eventually("a quota that is used up", || async {
        let status = rig.relay.status();
        let full = status.accounts.first().is_some_and(|account| account.windows[0].used >= used);
        (full && status.destinations.first().is_some_and(|one| one.full_until_ms.is_some())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_quota_is_not_exceeded_by_many_connections_nor_by_restarts() {
    let sink = Sink::start().await;
    let rates = json!({"connections": 10, "rates": {"per_hour": 40, "reserve_percent": 0}});
    let rig = Setup::by(with(smarthost(&sink), rates)).start().await;
    for _ in 0..30 {
        rig.send(&TO).await;
    }
    sink.wait_for(30, PATIENCE).await;
    rig.idle().await;
    let rig = rig.restart().await;
    for _ in 0..30 {
        rig.send(&TO).await;
    }
    sink.wait_for(40, PATIENCE).await;
    used_up(&rig, 40).await;
    let rig = rig.restart().await;
    used_up(&rig, 40).await;
    assert_eq!(sink.count(), 40, "an orderly restart neither forgets nor adds");
    drop(rig.stop().await);
}

#[tokio::test]
async fn a_crash_never_lets_more_pass_than_the_quota() {
    let sink = Sink::start().await;
    let rates = json!({"connections": 10, "rates": {"per_day": 200, "reserve_percent": 0}});
    let mut rig = Setup::by(with(smarthost(&sink), rates)).start().await;
    for crash in 0..4 {
        for _ in 0..70 {
            rig.send(&TO).await;
        }
        sink.wait_for(20 * (crash + 1), PATIENCE).await;
        rig = rig.crash().await;
    }
    used_up(&rig, 200).await;
    let sent = sink.count();
    assert!(sent <= 200, "{sent}");
    assert!(sent >= 200 - 4 * 30, "a crash costs no more than a block and what was under way: {sent}");
    drop(rig.stop().await);
}

#[tokio::test]
async fn what_waits_in_memory_goes_on_when_its_quota_is_raised() {
    let sink = Sink::start().await;
    let rates = |per_day: u32| json!({"rates": {"per_day": per_day, "reserve_percent": 0}});
    let rig = Setup::by(with(smarthost(&sink), rates(3))).start().await;
    for _ in 0..8 {
        rig.send(&TO).await;
    }
    sink.wait_for(3, PATIENCE).await;
    used_up(&rig, 3).await;
    rig.put(Kind::Route, "out", with(smarthost(&sink), rates(6))).await;
    rig.relay.reload().await.unwrap();
    sink.wait_for(6, PATIENCE).await;
    used_up(&rig, 6).await;
    assert_eq!(sink.count(), 6);
    drop(rig.stop().await);
}

#[tokio::test]
async fn recipients_count_one_by_one_and_urgent_mail_has_a_reserve() {
    let sink = Sink::start().await;
    let setup = Setup::by(with(smarthost(&sink), json!({"rates": {"recipients_per_day": 20}})));
    let streams =
        vec![relay::StreamConfig { name: "login".into(), priority: 0, deadline_s: None, allow_duplicates: false }];
    let rig = setup.config(|config| config.streams = streams).start().await;
    let many: Vec<String> = (0..30).map(|n| format!("r{n}@x.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let bulk = rig.send(&many).await;
    let delivered = |id| {
        let rig = &rig;
        async move {
            let views = rig.recipients(id).await;
            views.iter().filter(|view| view.state == store::State::Delivered).count()
        }
    };
    eventually("18 recipients", || async { (delivered(bulk).await == 18).then_some(()) }).await;
    let mut urgent = rig.submission(&["login@x.test"], crate::rig::MAIL.as_bytes());
    urgent.stream = Some("login".into());
    let urgent = rig.submit(urgent).await;
    rig.becomes(urgent, &["delivered"]).await;
    assert_eq!(delivered(bulk).await, 18, "the reserve is not for ordinary mail");
    drop(rig.stop().await);
}

#[tokio::test]
async fn destinations_of_an_mx_route_have_limits_of_their_own() {
    let sink = Sink::with(SinkOptions::default()).await;
    let rates = json!({"destination_rates": {"per_day": 5, "reserve_percent": 0}});
    let rig = Setup::by(with(json!({"kind": "mx", "port": sink.port()}), rates)).start().await;
    for domain in ["one.test", "two.test"] {
        rig.zones.mx(domain, 10, &format!("mx.{domain}"));
        rig.zones.loopback(&format!("mx.{domain}"));
    }
    for _ in 0..8 {
        rig.send(&["r@one.test"]).await;
        rig.send(&["r@two.test"]).await;
    }
    sink.wait_for(10, PATIENCE).await;
    used_up(&rig, 5).await;
    let to = |domain: &str| sink.received().iter().filter(|mail| mail.to[0].ends_with(domain)).count();
    assert_eq!((to("one.test"), to("two.test")), (5, 5));
    drop(rig.stop().await);
}
