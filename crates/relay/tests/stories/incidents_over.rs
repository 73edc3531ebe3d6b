//! An incident ends: what waited for it goes, and nothing else is tried before its time.

use relay::brake::Ramp;
use relay::incident::Over;
use serde_json::json;
use store::{IncidentScope, MessageId, State};
use testkit::{Rule, Sink, SinkOptions, Stage};

use crate::rig::{Rig, Setup, eventually, smarthost, with};

/// Waits for its next attempt, and why.
async fn waits(rig: &Rig, id: MessageId) -> String {
    eventually("a failure", || async {
        let view = rig.recipients(id).await.remove(0);
        (view.state == State::Waiting && view.attempts > 0).then(|| rule_of(&view)).flatten()
    })
    .await
}

fn rule_of(view: &store::RecipientView) -> Option<String> {
    view.cause.as_ref()?.rule.as_deref().map(str::to_owned)
}

fn signed_in(sink: &Sink) -> usize {
    sink.commands().iter().filter(|(_, line)| line.starts_with("AUTH")).count()
}

#[tokio::test]
async fn the_end_of_one_failure_is_no_reason_to_try_another_credential_or_domain() {
    let slow = json!({"retry_s": [86_400]});
    let sink = Sink::start().await;
    let locked =
        Sink::with(SinkOptions { users: vec![("relay".into(), "right".into())], ..SinkOptions::default() }).await;
    let signs_in = with(with(smarthost(&locked), slow.clone()), json!({"username": "relay", "auth_without_tls": true}));
    sink.add(Rule::reply(Stage::Rcpt, "451 4.3.0 Temporary lookup failure").times(2));
    let rig = Setup::to(&sink)
        .secret_route(signs_in, "wrong")
        .route("open", with(smarthost(&sink), slow))
        .rule("open", json!({"order": 1, "route": "open", "recipient_domain": ".open.test"}))
        .start()
        .await;
    let (a, b) = (rig.send(&["a@a.open.test"]).await, rig.send(&["b@b.open.test"]).await);
    let rule = waits(&rig, a).await;
    assert_eq!(waits(&rig, b).await, rule);
    let rejected = rig.send(&["c@locked.test"]).await;
    waits(&rig, rejected).await;
    let before = signed_in(&locked);
    assert!(before > 0, "it was tried");

    let over = |scope| Over { scope, rule: rule.clone(), route: Some("open".into()), ramp: Some(Ramp::default()) };
    let count = rig.relay.let_go_of(&over(IncidentScope::Domain("a.open.test".into())), "incident i-1").await.unwrap();
    assert_eq!(count, 1);
    rig.becomes(a, &["delivered"]).await;
    assert_eq!(rig.recipients(b).await[0].state, State::Waiting, "it failed for another domain");
    let count = rig.relay.let_go_of(&over(IncidentScope::Route("open".into())), "incident i-2").await.unwrap();
    assert_eq!(count, 1);
    rig.becomes(b, &["delivered"]).await;
    assert_eq!(signed_in(&locked), before, "a credential that is rejected is tried in its own time");
    assert_eq!(sink.count(), 2);
}

#[tokio::test]
async fn a_provider_that_works_again_gets_what_waits_for_it_and_no_other_does() {
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Rcpt, "451 4.3.0 Temporary lookup failure").times(2));
    let rig = Setup::by(json!({"kind": "mx", "port": sink.port(), "retry_s": [86_400]})).start().await;
    for (domain, host) in [("a.test", "mx.known.example"), ("b.test", "mx.other.example")] {
        rig.zones.mx(domain, 10, host);
        rig.zones.loopback(host);
    }
    let (a, b) = (rig.send(&["a@a.test"]).await, rig.send(&["b@b.test"]).await);
    let rule = waits(&rig, a).await;
    assert_eq!(waits(&rig, b).await, rule);
    let scope = IncidentScope::Destination("out/mx.known.example".into());
    let over = Over { scope, rule, route: Some("out".into()), ramp: None };
    assert_eq!(rig.relay.let_go_of(&over, "incident i-1").await.unwrap(), 1);
    rig.becomes(a, &["delivered"]).await;
    assert_eq!(rig.recipients(b).await[0].state, State::Waiting);
}
