//! REQUIRETLS (RFC 8689): a message that asks for it leaves by verified TLS to a host that goes on with it, or not at all.

use proto::MailParameters;
use proto::transcript::{Failure, TransportPolicy};
use serde_json::json;
use testkit::{Ca, Extensions, Sink, SinkOptions, Tls, Zones};

use crate::policies::envelope;
use crate::rig::{Rig, Setup};

async fn sink(tls: Tls, offered: bool) -> Sink {
    let further = if offered { vec!["REQUIRETLS".to_owned()] } else { Vec::new() };
    Sink::with(SinkOptions {
        tls,
        extensions: Extensions { further, ..Extensions::default() },
        ..SinkOptions::default()
    })
    .await
}

async fn submit(rig: &Rig, to: &str) -> store::MessageId {
    let mut submission = rig.submission(&[to], b"Subject: secret\r\n\r\n");
    submission.envelope.parameters = MailParameters { require_tls: true, ..MailParameters::default() };
    rig.submit(submission).await
}

#[tokio::test]
async fn a_smart_host_that_promises_it_over_verified_tls_gets_the_message_with_its_demand() {
    for (name, offered, goes) in [("localhost", true, true), ("localhost", false, false), ("other.test", true, false)] {
        let ca = Ca::new();
        let sink = sink(Tls::StartTls(ca.issue(&[name])), offered).await;
        let zones = Zones::start().await;
        zones.loopback("localhost");
        let route = json!({"kind": "smarthost", "host": "localhost", "port": sink.port(), "verify": false});
        let rig = Setup::by(route).start_with(ca, zones).await;
        let id = submit(&rig, "r@x.test").await;
        if goes {
            rig.becomes(id, &["delivered"]).await;
            assert!(sink.received()[0].parameters.contains("REQUIRETLS"), "{:?}", sink.received());
        } else {
            let views = rig.becomes(id, &["failed"]).await;
            let failure = views[0].failure();
            let wanted = matches!(failure, Some(Failure::Policy { policy: TransportPolicy::RequireTls, .. }));
            assert!(wanted, "{name} {offered}: {failure:?}");
            assert_eq!(envelope(&sink), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_mail_exchanger_that_is_only_believed_does_not_get_it_and_other_mail_goes_on() {
    let ca = Ca::new();
    let sink = sink(Tls::StartTls(ca.issue(&["mx.test"])), true).await;
    let zones = Zones::start().await;
    zones.mx("x.test", 10, "mx.test").loopback("mx.test");
    let rig = Setup::mx(sink.port()).start_with(ca, zones).await;
    let (demanding, usual) = (submit(&rig, "r@x.test").await, rig.send(&["r@x.test"]).await);
    rig.becomes(demanding, &["failed"]).await;
    rig.becomes(usual, &["delivered"]).await;
    assert!(!sink.received()[0].parameters.contains("REQUIRETLS"));
    assert_eq!(sink.count(), 1);
}

#[tokio::test]
async fn it_is_neither_offered_nor_taken_in_clear() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let mut client = rig.client().await;
    let answer = client.command("MAIL FROM:<noreply@app.test> REQUIRETLS").await;
    assert!(answer.text().contains("REQUIRETLS needs") && answer.code == 555, "{answer:?}");
    client.quit().await;
}
