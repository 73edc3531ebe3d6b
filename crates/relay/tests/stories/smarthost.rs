//! A smart host's troubles are the operator's, never the recipients': mail waits until somebody mends them.

use proto::transcript::{CertificateProblem, Failure};
use serde_json::{Value, json};
use testkit::ca::Validity;
use testkit::{Ca, Issued, Rule, Sink, SinkOptions, Stage, Tls, Trouble};

use crate::rig::{Rig, Setup, code, smarthost, with};

async fn secured(issued: Issued, users: &[(&str, &str)]) -> Sink {
    let users = users.iter().map(|(user, password)| ((*user).to_owned(), (*password).to_owned())).collect();
    Sink::with(SinkOptions { tls: Tls::StartTls(issued), users, ..SinkOptions::default() }).await
}

/// A route to `smtp.test` with a name that the name server knows and authorities of its own.
async fn by_name(sink: &Sink, ca: &Ca, change: Value) -> (Rig, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let route = json!({
        "kind": "smarthost", "host": "smtp.test", "port": sink.port(), "ca_file": ca.write_pem(dir.path()),
    });
    let rig = Setup::bare()
        .rule("default", json!({"order": 1000, "route": "out"}))
        .secret_route(with(route, change), "open sesame")
        .start()
        .await;
    rig.zones.loopback("smtp.test");
    (rig, dir)
}

fn verbs(sink: &Sink) -> Vec<String> {
    sink.commands().into_iter().map(|(_, line)| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn mail_goes_out_under_tls_with_the_routes_password() {
    let ca = Ca::new();
    let sink = secured(ca.issue(&["smtp.test"]), &[("relay", "open sesame")]).await;
    let (rig, _dir) = by_name(&sink, &ca, json!({"username": "relay"})).await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    let received = sink.received();
    assert!(received[0].tls);
    assert_eq!((received[0].user.as_deref(), received[0].helo.as_str()), (Some("relay"), "relay.test"));
    let events = store::Browse::events(&*rig.store, id, 10).await.unwrap();
    let attempt = events.last().unwrap().detail.attempt.clone().unwrap();
    assert!(attempt.tls.unwrap().starts_with("TLSv1.3"));
    assert_eq!(attempt.reply.unwrap().code, 250);
}

#[tokio::test]
async fn implicit_tls_needs_no_command() {
    let ca = Ca::new();
    let options = SinkOptions { tls: Tls::Implicit(ca.issue(&["smtp.test"])), ..SinkOptions::default() };
    let sink = Sink::with(options).await;
    let (rig, _dir) = by_name(&sink, &ca, json!({"tls": "implicit"})).await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert!(sink.received()[0].tls);
}

#[tokio::test]
async fn a_smart_host_that_the_dns_does_not_know_defers() {
    for trouble in [None, Some(Trouble::ServFail)] {
        let rig = Setup::by(json!({"kind": "smarthost", "host": "smtp.test", "tls": "none"})).start().await;
        if let Some(trouble) = trouble {
            rig.zones.fail("smtp.test", trouble);
        }
        let id = rig.send(&["r@x.test"]).await;
        rig.becomes(id, &["deferred"]).await;
    }
}

#[tokio::test]
async fn a_rejected_password_defers_and_never_fails_the_recipient() {
    let ca = Ca::new();
    let sink = secured(ca.issue(&["smtp.test"]), &[("relay", "another")]).await;
    let (rig, _dir) = by_name(&sink, &ca, json!({"username": "relay"})).await;
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["deferred"]).await;
    assert_eq!(code(&views[0]), Some(535));
    let commands = sink.commands();
    assert!(!verbs(&sink).contains(&"MAIL".to_owned()), "{commands:?}");
    let events = store::Browse::events(&*rig.store, id, 10).await.unwrap();
    let told = format!("{events:?}");
    assert!(!told.contains("sesame") && !told.contains("b3BlbiBzZXNhbWU"), "the password is in no event");
}

#[tokio::test]
async fn a_server_that_wants_a_password_we_do_not_have_defers() {
    let sink = Sink::with(SinkOptions { users: vec![("a".into(), "b".into())], ..SinkOptions::default() }).await;
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["deferred"]).await;
    assert_eq!(code(&views[0]), Some(530));
}

#[tokio::test]
async fn without_the_required_tls_nothing_is_sent() {
    let sink = Sink::start().await;
    let rig = Setup::by(with(smarthost(&sink), json!({"tls": "required"}))).start().await;
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["deferred"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::StartTlsMissing)), "{views:?}");
    assert!(!verbs(&sink).contains(&"MAIL".to_owned()));
}

#[tokio::test]
async fn a_password_does_not_cross_in_clear() {
    let sink = Sink::with(SinkOptions { users: vec![("a".into(), "b".into())], ..SinkOptions::default() }).await;
    let ca = Ca::new();
    let (rig, _dir) = by_name(&sink, &ca, json!({"username": "a", "tls": "opportunistic"})).await;
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["deferred"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::AuthNeedsTls)), "{views:?}");
    assert!(!verbs(&sink).contains(&"AUTH".to_owned()));
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_defers_and_says_what_is_wrong() {
    let (ca, other) = (Ca::new(), Ca::new());
    let cases = [
        (other.issue(&["smtp.test"]), CertificateProblem::UnknownIssuer),
        (ca.issue(&["wrong.test"]), CertificateProblem::NameMismatch),
        (ca.issue_for(&["smtp.test"], Validity::Past), CertificateProblem::Expired),
    ];
    for (issued, wanted) in cases {
        let sink = secured(issued, &[]).await;
        let (rig, _dir) = by_name(&sink, &ca, json!({})).await;
        let id = rig.send(&["r@x.test"]).await;
        let views = rig.becomes(id, &["deferred"]).await;
        let Some(Failure::Certificate { problem, names, .. }) = views[0].failure() else {
            panic!("{wanted:?}: {views:?}")
        };
        assert_eq!(*problem, wanted);
        assert_eq!(names.len(), 1);
        assert!(!verbs(&sink).contains(&"MAIL".to_owned()));
    }
}

#[tokio::test]
async fn an_mx_host_with_any_certificate_still_gets_its_mail_under_tls() {
    let sink = secured(Ca::new().issue(&["wrong.test"]), &[]).await;
    let rig = Setup::mx(sink.port()).start().await;
    rig.zones.loopback("mx.test").mx("x.test", 10, "mx.test");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert!(sink.received()[0].tls);
}

#[tokio::test]
async fn a_refused_greeting_is_not_held_against_the_recipient() {
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Ehlo, "554 5.7.1 go away"));
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["deferred"]).await;
}
