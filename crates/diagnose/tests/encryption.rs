//! Encryption and signing in where servers, devices and clocks are odd.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use diagnose::check::{Auth, Tls};
use explain::Reason;
use net::Clock;
use proto::transcript::{Failure, Stage};
use rig::{LOCAL, Scripted, assert_clean, net, plan, run, signs, value};
use testkit::ca::{Ca, Validity};
use testkit::sink::{Extensions, Rule, Sink, SinkOptions, Stage as At, Tls as SinkTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn starttls(issued: testkit::ca::Issued) -> Sink {
    Sink::with(SinkOptions { tls: SinkTls::StartTls(issued), ..SinkOptions::default() }).await
}

fn auth(mechanism: Option<&str>) -> Option<Auth> {
    Some(Auth {
        username: "user@mx.test".into(),
        password: "ya29.canary-token".to_owned().into(),
        mechanism: mechanism.map(str::to_owned),
        allow_plaintext: true,
    })
}

#[tokio::test]
async fn a_certificate_that_ends_within_days_is_a_warning() {
    let ca = Ca::new();
    let sink = starttls(ca.issue(&["mx.test"])).await;
    let mut net = net(Some(&ca), None);
    // The certificates of the tests end with the year 2099.
    let clock = Clock::manual(4_102_444_800_000 - 5 * 86_400_000);
    let dir = tempfile::tempdir().unwrap();
    net.tls = net::ClientTls::new(&net::Roots::Pem(ca.write_pem(dir.path())), clock.clone()).unwrap();
    net.clock = clock;
    let report = run(&net, &plan(sink.port(), Tls::StartTls)).await;
    assert!(report.healthy);
    assert_eq!(signs(&report), ["certificate_ends_soon"]);
    assert_eq!(value(&report, "certificate_ends_soon", "days"), "5");
    assert_eq!(value(&report, "certificate_ends_soon", "not_after"), "2100-01-01");
}

#[tokio::test]
async fn an_inspecting_device_is_named_before_its_authority_is_distrusted() {
    let (ca, device) = (Ca::new(), Ca::named("Zscaler Intermediate Root CA"));
    let sink = starttls(device.issue(&["mx.test"])).await;
    let report = run(&net(Some(&ca), None), &plan(sink.port(), Tls::Auto)).await;
    assert_eq!(report.failed_at, Some(Stage::Tls));
    assert_eq!(signs(&report), ["certificate_intercepted"]);
    assert_eq!(report.reason, Reason::Middlebox);
    // The device's own certificate, met under another name, is no interception.
    let own = starttls(device.issue(&["appliance.test"])).await;
    let report = run(&net(Some(&ca), None), &plan(own.port(), Tls::Auto)).await;
    assert!(signs(&report).is_empty());
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_told_from_one_of_an_unknown_authority() {
    let ca = Ca::new();
    let sink = starttls(Ca::self_signed(&["mx.test"], Validity::Now, false)).await;
    let report = run(&net(Some(&ca), None), &plan(sink.port(), Tls::Auto)).await;
    assert_eq!(report.reason, Reason::CertificateUntrusted);
    assert_eq!(report.findings[0].finding.rule, "failure-certificate-self-signed", "{:?}", report.findings[0]);
}

#[tokio::test]
async fn a_server_of_old_versions_only_is_named_with_its_version() {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                for answer in ["220 mx.test\r\n", "250-mx.test\r\n250 STARTTLS\r\n", "220 go\r\n"] {
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
                }
                // TLS 1.0 with TLS_RSA_WITH_AES_128_CBC_SHA, whatever was asked.
                let mut hello = vec![0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
                hello.extend([7; 32]);
                hello.extend([0, 0, 0x2f, 0]);
                stream.write_all(&hello).await.ok()?;
                stream.read(&mut buffer).await.ok()
            });
        }
    });
    let report = run(&net(None, None), &plan(port, Tls::StartTls)).await;
    server.abort();
    assert_eq!((report.failed_at, report.reason), (Some(Stage::Tls), Reason::TlsVersion), "{:#?}", report.findings);
    let stage = report.stages.iter().find(|one| one.stage == Stage::Tls).unwrap();
    assert!(stage.summary.contains("TLSv1.0"), "{}", stage.summary);
}

#[tokio::test]
async fn what_changes_with_tls_is_noticed() {
    let ca = Ca::new();
    let sink = starttls(ca.issue(&["mx.test"])).await;
    let before = "250-sink.test\n250-XOLD\n250-PIPELINING\n250-8BITMIME\n250-SMTPUTF8\n250-CHUNKING\n250-DSN\n\
                  250-ENHANCEDSTATUSCODES\n250-AUTH CRAM-MD5\n250 STARTTLS";
    sink.add(Rule::reply(At::Ehlo, before).times(1));
    let net = net(Some(&ca), None);
    let mut plan = plan(sink.port(), Tls::StartTls);
    let report = run(&net, &plan).await;
    assert_clean(&report);
    assert_eq!(signs(&report), ["capabilities_differ"]);
    assert_eq!(value(&report, "capabilities_differ", "lost"), "XOLD");

    sink.add(Rule::reply(At::Ehlo, before).times(1));
    plan.auth = auth(None);
    let report = run(&net, &plan).await;
    assert_eq!(signs(&report)[0], "auth_only_before_tls");
    assert_eq!((report.failed_at, report.reason), (Some(Stage::Auth), Reason::AuthNotOffered));
}

#[tokio::test]
async fn starttls_offered_again_under_tls_is_a_note() {
    let ca = Ca::new();
    let sink = Sink::with(SinkOptions {
        tls: SinkTls::StartTls(ca.issue(&["mx.test"])),
        extensions: Extensions { further: vec!["STARTTLS".into()], ..Extensions::default() },
        ..SinkOptions::default()
    })
    .await;
    let report = run(&net(Some(&ca), None), &plan(sink.port(), Tls::StartTls)).await;
    assert_clean(&report);
    assert_eq!(signs(&report), ["starttls_twice"]);
}

#[tokio::test]
async fn the_challenge_of_a_refused_token_is_read_and_the_token_is_nowhere() {
    // {"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}
    let challenge =
        "334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2xlLmNvbS8ifQ==\r\n";
    let server = Scripted::start(&[
        ("", "220 mx.test ESMTP\r\n"),
        ("EHLO", "250-mx.test\r\n250 AUTH XOAUTH2\r\n"),
        ("AUTH XOAUTH2", challenge),
        ("\r\n", "535 5.7.8 refused\r\n"),
    ])
    .await;
    let mut plan = plan(server.port, Tls::None);
    plan.auth = auth(Some("XOAUTH2"));
    let report = run(&net(None, None), &plan).await;
    assert_eq!(report.failed_at, Some(Stage::Auth), "{:#?}", report.findings);
    assert_eq!(value(&report, "oauth_challenge", "status"), "400");
    assert_eq!(value(&report, "oauth_challenge", "scope"), "https://mail.google.com/");
    assert!(!format!("{report:?}").contains("canary"));
}

#[tokio::test]
async fn a_handshake_that_is_cut_off_is_a_failed_handshake() {
    let server = Scripted::start(&[
        ("", "220 mx.test ESMTP\r\n"),
        ("EHLO", "250-mx.test\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go\r\n!close"),
    ])
    .await;
    let report = run(&net(None, None), &plan(server.port, Tls::StartTls)).await;
    assert_eq!((report.failed_at, report.reason), (Some(Stage::Tls), Reason::TlsHandshake));
    let failures: Vec<&Failure> = report.transcripts[0].steps.iter().filter_map(|step| step.failure.as_ref()).collect();
    assert!(matches!(failures[..], [Failure::TlsHandshake { .. }]), "{failures:?}");
}
