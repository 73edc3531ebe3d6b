//! Who may send what: nobody without being a sender, and a sender only what it was given.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Sink;

use crate::rig::{FROM, MAIL, PATIENCE, Rig, Setup, hashed};

/// Loopback is not trusted; `app` has the password `right`.
async fn strict(sender: Value) -> (Sink, Rig) {
    let sink = Sink::start().await;
    let sender = crate::rig::with(json!({"password_hash": hashed("right"), "allowed_from": ["app.test"]}), sender);
    let rig = Setup::to(&sink).sender("app", sender).start().await;
    (sink, rig)
}

#[tokio::test]
async fn nobody_sends_without_being_a_sender_not_even_from_this_machine() {
    let (_sink, rig) = strict(json!({})).await;
    let answer = rig.client().await.command("MAIL FROM:<a@app.test>").await.expect(530);
    assert!(answer.text().starts_with("5.7.0"), "{answer:?}");
}

#[tokio::test]
async fn a_sender_sends_by_plain_and_by_login() {
    let (sink, rig) = strict(json!({})).await;
    let mut client = rig.client().await;
    client.auth_plain("app", "right").await.expect(235);
    client.submit(FROM, &["r@x.test"], MAIL).await.expect(250);
    let mut client = rig.client().await;
    client.auth_login("app", "right").await.expect(235);
    client.submit(FROM, &["r@x.test"], MAIL).await.expect(250);
    let received = sink.wait_for(2, PATIENCE).await;
    assert!(received[0].header("Received").unwrap().contains("with ESMTPA "));
}

#[tokio::test]
async fn a_wrong_password_costs_time_and_locks_nobody_out() {
    let (_sink, rig) = strict(json!({})).await;
    let mut guesser = rig.client().await;
    guesser.auth_plain("app", "wrong").await.expect(535);
    guesser.auth_plain("nobody", "right").await.expect(535);
    let start = Instant::now();
    guesser.auth_plain("app", "right").await.expect(235);
    assert!(start.elapsed().as_millis() >= 450, "{:?}", start.elapsed());
    // Of some, since each may meet with a slow moment of the machine.
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        rig.client().await.auth_plain("app", "right").await.expect(235);
        least = least.min(start.elapsed());
    }
    assert!(least.as_millis() < 450, "forgiven after success: {least:?}");
}

#[tokio::test]
async fn a_sender_uses_only_its_own_addresses_in_envelope_and_header() {
    let (_sink, rig) = strict(json!({"allowed_from": ["app.test", "boss@corp.test"]})).await;
    let mut client = rig.client().await;
    client.auth_plain("app", "right").await.expect(235);
    client.command("MAIL FROM:<a@other.test>").await.expect(550);
    client.command("MAIL FROM:<worker@corp.test>").await.expect(550);
    for (from, code) in [
        ("From: a@app.test", 250),
        ("From: \"a@app.test\" <a@other.test>", 550),
        ("From: a@app.test, b@other.test", 550),
        ("From: Boss <BOSS@corp.test>", 250),
        ("From: (a@app.test) b@other.test", 550),
        ("From: undisclosed", 550),
        ("Subject: no From at all", 250),
    ] {
        let answer = client.submit("boss@corp.test", &["r@x.test"], &format!("{from}\r\n\r\nx\r\n")).await;
        assert_eq!(answer.code, code, "{from}: {answer:?}");
    }
    // Reports have no sender; what their header says is checked all the same.
    client.submit("", &["r@x.test"], "From: a@app.test\r\n\r\n").await.expect(250);
    client.submit("", &["r@x.test"], "From: a@other.test\r\n\r\n").await.expect(550);
}

#[tokio::test]
async fn a_sender_comes_only_from_its_networks() {
    let (_sink, rig) = strict(json!({"networks": ["192.0.2.0/24"]})).await;
    rig.client().await.auth_plain("app", "right").await.expect(535);
    let (_sink, rig) = strict(json!({"networks": ["192.0.2.0/24", "127.0.0.1/32"]})).await;
    rig.client().await.auth_plain("app", "right").await.expect(235);
}

#[tokio::test]
async fn a_disabled_sender_is_nobody() {
    let (_sink, rig) = strict(json!({"disabled": true, "trusted_addresses": ["127.0.0.0/8"]})).await;
    let mut client = rig.client().await;
    client.command("MAIL FROM:<a@app.test>").await.expect(530);
    client.auth_plain("app", "right").await.expect(535);
}

#[tokio::test]
async fn a_trusted_address_is_its_sender_without_a_password() {
    let (sink, rig) = strict(json!({"trusted_addresses": ["127.0.0.1/32"]})).await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert!(sink.received()[0].header("Received").unwrap().contains("with ESMTP "));
    rig.client().await.command("MAIL FROM:<a@other.test>").await.expect(550);
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let (_sink, rig) = strict(json!({"trusted_addresses": ["127.0.0.0/8"], "messages_per_minute": 2})).await;
    let mut client = rig.client().await;
    for code in [250, 250, 450] {
        let answer = client.submit(FROM, &["r@x.test"], MAIL).await.expect(code);
        assert_eq!(answer.text().contains("try again in"), code == 450, "{answer:?}");
    }
}

#[tokio::test]
async fn a_size_limit_holds_for_what_is_declared_and_for_what_comes() {
    let (_sink, rig) = strict(json!({"trusted_addresses": ["127.0.0.0/8"], "max_size": 200})).await;
    let mut client = rig.client().await;
    client.command("MAIL FROM:<a@app.test> SIZE=201").await.expect(552);
    let answer = client.submit(FROM, &["r@x.test"], &format!("{MAIL}{}", "x".repeat(200))).await.expect(552);
    assert!(answer.text().starts_with("5.3.4"));
    client.submit(FROM, &["r@x.test"], MAIL).await.expect(250);
}

#[tokio::test]
async fn a_session_ends_with_the_right_to_it() {
    let before = json!({"password_hash": hashed("right"), "allowed_from": ["app.test"]});
    let changes =
        [json!({"disabled": true}), json!({"password_hash": hashed("new")}), json!({"networks": ["192.0.2.1"]})];
    let cells = changes.map(|change| {
        let before = before.clone();
        async move {
            let sink = Sink::start().await;
            let rig = Setup::to(&sink).sender("app", before.clone()).start().await;
            let mut client = rig.client().await;
            client.auth_plain("app", "right").await.expect(235);
            client.submit(FROM, &["r@x.test"], MAIL).await.expect(250);
            rig.put(store::settings::Kind::Sender, "app", crate::rig::with(before, change.clone())).await;
            rig.relay.reload().await.unwrap();
            let answer = client.submit(FROM, &["r@x.test"], MAIL).await;
            assert_eq!(answer.code, 421, "{change}: {answer:?}");
        }
    });
    futures_util::future::join_all(cells).await;
}

#[tokio::test]
async fn a_session_goes_on_when_its_sender_gets_other_rights() {
    let (_sink, rig) = strict(json!({})).await;
    let mut client = rig.client().await;
    client.auth_plain("app", "right").await.expect(235);
    client.command("MAIL FROM:<a@new.test>").await.expect(550);
    let now = rig.relay.door().sender("app").unwrap().record.clone();
    let now = serde_json::to_value(now).unwrap();
    rig.put(store::settings::Kind::Sender, "app", crate::rig::with(now, json!({"allowed_from": ["new.test"]}))).await;
    rig.relay.reload().await.unwrap();
    client.command("MAIL FROM:<a@new.test>").await.expect(250);
}

#[tokio::test]
async fn a_changed_setting_elsewhere_does_not_refill_the_rate() {
    let (_sink, rig) = strict(json!({"trusted_addresses": ["127.0.0.0/8"], "messages_per_minute": 1})).await;
    rig.send(&["r@x.test"]).await;
    rig.put(store::settings::Kind::Sender, "other", json!({"allowed_from": ["other.test"]})).await;
    rig.relay.reload().await.unwrap();
    rig.client().await.submit(FROM, &["r@x.test"], MAIL).await.expect(450);
}

#[tokio::test]
async fn an_api_key_is_its_sender() {
    let (key, record) = relay::credential::new_api_key(0);
    let (_sink, rig) = strict(json!({"api_keys": [record]})).await;
    let door = rig.relay.door();
    let here = "127.0.0.1".parse().unwrap();
    let sender = door.authenticate_key(secrecy::ExposeSecret::expose_secret(&key), here).await.unwrap();
    assert_eq!(&*sender.name, "app");
    let refusal = door.authenticate_key("pbx_00000000000000000000000000000000", here).await.unwrap_err();
    assert_eq!(refusal.kind, relay::RefusalKind::Unauthorized);
}
