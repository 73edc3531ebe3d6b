//! `TLS-Required: No` (RFC 8689 §3): a message that would rather arrive than be protected. What receiving domains demand is left
//! aside for it, and for no other message.

use proto::MailParameters;
use proto::transcript::{Failure, TransportPolicy};
use serde_json::json;
use testkit::ca::Validity;
use testkit::{Ca, Rule, Sink, SinkOptions, Stage, Tls};

use crate::pinned::{Host, pin, starttls, world};
use crate::policies::{Scene, policy, with_tls};
use crate::rig::{Setup, with};

/// A message with these further header fields.
fn mail(fields: &str) -> String {
    format!("From: noreply@app.test\r\n{fields}Subject: how to mend your TLS\r\n\r\nonce upon a time\r\n")
}

#[tokio::test]
async fn it_is_sent_where_an_enforced_policy_keeps_other_mail_back_and_by_tls_if_there_is_some() {
    for clear in [false, true] {
        let scene = Scene::new(policy("enforce", &["mx.test"])).await;
        let issued = scene.ca.issue_for(&["mx.test"], Validity::Past);
        let tls = if clear { Tls::None } else { Tls::StartTls(issued) };
        let sink = Sink::with(SinkOptions { tls, ..SinkOptions::default() }).await;
        let (rig, _web) = scene.start(&sink).await;
        let kept = rig.send_mail(&["r@x.test"], &mail("")).await;
        rig.becomes(kept, &["deferred"]).await;
        let sent = rig.send_mail(&["r@x.test"], &mail("tls-required:  no\r\n")).await;
        rig.becomes(sent, &["delivered"]).await;
        assert_eq!((sink.count(), sink.received()[0].tls), (1, !clear));
        // The other message is under the policy still, also while a connection without it is open.
        rig.operate(kept, store::Operation::Retry).await;
        crate::rig::eventually("a second attempt", || async {
            (rig.recipients(kept).await[0].attempts == 2).then_some(())
        })
        .await;
        assert_eq!(sink.count(), 1);
    }
}

#[tokio::test]
async fn it_is_sent_though_the_policy_lists_other_hosts_and_also_after_a_restart() {
    let scene = Scene::new(policy("enforce", &["other.test"])).await;
    let later = vec![Rule::reply(Stage::Mail, "451 4.3.0 later").times(1)];
    let tls = Tls::StartTls(scene.ca.issue(&["mx.test"]));
    let sink = Sink::with(SinkOptions { tls, rules: later, ..SinkOptions::default() }).await;
    let (rig, _web) = scene.start(&sink).await;
    let id = rig.send_mail(&["r@x.test"], &mail("TLS-Required: No\r\n")).await;
    rig.becomes(id, &["deferred"]).await;
    let rig = rig.restart().await;
    rig.operate(id, store::Operation::Retry).await;
    rig.becomes(id, &["delivered"]).await;
    assert!(sink.received()[0].header("TLS-Required").as_deref() == Some("No"), "it goes on with it");
}

#[tokio::test]
async fn pins_that_do_not_fit_keep_other_mail_back_only() {
    let own = Ca::self_signed(&["nobody.test"], Validity::Now, false);
    let hash = format!("3 1 1 {}", "0".repeat(64));
    let hosts = vec![
        Host::new("wrong", starttls(&own), std::slice::from_ref(&hash)),
        Host::new("clear", Tls::None, &[pin(3, 1, 1, &own.der())]),
    ];
    let (sinks, rig) = world(hosts, &[]).await;
    // The usual name server knows the unsigned view of the same names.
    for (name, address) in [("wrong", [127, 0, 1, 1]), ("clear", [127, 0, 1, 2])] {
        let host = format!("mx-{name}.secure");
        rig.zones.mx(&format!("{name}.secure"), 10, &host).address_of(&host, address.into());
    }
    let to = ["r@wrong.secure", "r@clear.secure"];
    let kept = rig.send_mail(&to, &mail("")).await;
    rig.becomes(kept, &["deferred", "deferred"]).await;
    let sent = rig.send_mail(&to, &mail("TLS-Required: No\r\n")).await;
    rig.becomes(sent, &["delivered", "delivered"]).await;
    assert_eq!((sinks[0].received()[0].tls, sinks[1].received()[0].tls), (true, false));
}

#[tokio::test]
async fn only_one_such_field_with_that_one_word_counts() {
    let scene = Scene::new(policy("enforce", &["mx.test"])).await;
    let sink = Sink::start().await;
    let (rig, _web) = scene.start(&sink).await;
    for fields in ["TLS-Required: Yes\r\n", "TLS-Required:\r\n", "TLS-Required: No\r\nTLS-Required: No\r\n"] {
        let id = rig.send_mail(&["r@x.test"], &mail(fields)).await;
        rig.becomes(id, &["deferred"]).await;
    }
    assert_eq!(sink.count(), 0);
}

#[tokio::test]
async fn beside_requiretls_it_means_nothing() {
    let scene = Scene::new(policy("none", &[])).await;
    let sink = Sink::with(with_tls(scene.ca.issue(&["mx.test"]))).await;
    let (rig, _web) = scene.start(&sink).await;
    let mut submission = rig.submission(&["r@x.test"], mail("TLS-Required: No\r\n").as_bytes());
    submission.envelope.parameters = MailParameters { require_tls: true, ..MailParameters::default() };
    let id = rig.submit(submission).await;
    let views = rig.becomes(id, &["failed"]).await;
    let failure = views[0].failure();
    assert!(matches!(failure, Some(Failure::Policy { policy: TransportPolicy::RequireTls, .. })), "{failure:?}");
    assert_eq!(sink.count(), 0);
}

#[tokio::test]
async fn what_the_route_itself_demands_stays() {
    let sink = Sink::start().await;
    let route = with(json!({"kind": "mx", "port": sink.port()}), json!({"tls": "required"}));
    let rig = Setup::by(route).start().await;
    rig.zones.mx("x.test", 10, "mx.test").loopback("mx.test");
    let id = rig.send_mail(&["r@x.test"], &mail("TLS-Required: No\r\n")).await;
    rig.becomes(id, &["deferred"]).await;
    assert_eq!(sink.count(), 0);
}
