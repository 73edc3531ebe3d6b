//! What is told about a server's TLS when somebody asks: its chain, all that is wrong with it, and old servers.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use net::tls::legacy::{self, Answer};
use net::tls::{Secured, Unsecured};
use net::{ClientTls, Clock, Roots, Verify};
use proto::transcript::{Certificate, CertificateProblem as Problem, Fact, Failure};
use testkit::ca::{Ca, Issued, Validity};
use testkit::openssl::OpenSsl;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Outcome = Result<Secured, Box<Unsecured>>;

fn trusting(pem: &str) -> ClientTls {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roots.pem");
    std::fs::write(&path, pem).unwrap();
    ClientTls::new(&Roots::Pem(path), Clock::system()).unwrap()
}

async fn at(address: SocketAddr, tls: &ClientTls, host: &str, verify: Verify) -> Outcome {
    let tcp = TcpStream::connect(address).await.unwrap();
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, tls.handshake_reported(tcp, host, verify)).await.expect("in time")
}

/// Serves `issued` once, and shakes hands with it.
async fn met(issued: &Issued, tls: &ClientTls, host: &str, verify: Verify) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(issued.server_config());
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor.accept(tcp).await
    });
    let outcome = at(address, tls, host, verify).await;
    drop(server);
    outcome
}

fn certificates(fact: Option<&Fact>) -> Vec<Certificate> {
    match fact {
        Some(Fact::Chain { certificates }) => certificates.clone(),
        other => panic!("no chain but {other:?}"),
    }
}

/// The problems of a refused certificate, the failure's being the first of them.
fn problems(outcome: Outcome) -> Vec<Problem> {
    let refused = outcome.expect_err("refused");
    let Failure::Certificate { problem, .. } = &refused.failure else { panic!("{refused:?}") };
    assert_eq!(Some(problem), refused.problems.first());
    assert!(!certificates(refused.chain.as_ref()).is_empty());
    refused.problems
}

#[tokio::test]
async fn a_good_chain_is_described_as_sent() {
    let ca = Ca::new();
    let between = ca.intermediate("Pillarbox test between");
    let issued = between.issue(&["mx.test", "192.0.2.7"]).with(&between);
    let secured = met(&issued, &trusting(ca.pem()), "mx.test", Verify::Full).await.expect("good");
    assert_eq!(secured.problems, []);
    assert!(matches!(&secured.tls, Fact::Tls { verified: true, version, .. } if version == "TLSv1.3"));
    let sent = certificates(Some(&secured.chain));
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].names, ["mx.test", "192.0.2.7"]);
    assert!(sent[0].issuer.contains("CN=Pillarbox test between"), "{}", sent[0].issuer);
    assert_eq!((sent[0].key.as_str(), sent[0].signature.as_str()), ("EC P-256", "SHA256-ECDSA"));
    assert_eq!((sent[0].not_before, sent[0].not_after), (1_577_836_800, 4_102_444_800));
    assert_eq!(sent[1].subject, sent[0].issuer);
    assert_ne!(sent[0].sha256, sent[1].sha256);
}

#[tokio::test]
async fn each_problem_of_a_certificate_has_its_name() {
    let (ca, other) = (Ca::new(), Ca::named("Somebody else"));
    let tls = trusting(ca.pem());
    let between = ca.intermediate("Pillarbox Issuing 1");
    let far = other.intermediate("Private TLS");
    for (issued, host, expected) in [
        (ca.issue_for(&["mx.test"], Validity::Past), "mx.test", vec![Problem::Expired]),
        (ca.issue_for(&["mx.test"], Validity::Future), "mx.test", vec![Problem::NotYetValid]),
        (ca.issue(&["else.test"]), "mx.test", vec![Problem::NameMismatch]),
        (ca.issue(&["mx.test"]), "192.0.2.1", vec![Problem::NameMismatch]),
        (ca.issue_for(&["else.test"], Validity::Past), "mx.test", vec![Problem::Expired, Problem::NameMismatch]),
        (other.issue(&["mx.test"]).with(&other), "mx.test", vec![Problem::UnknownIssuer]),
        (other.issue(&["mx.test"]), "mx.test", vec![Problem::UnknownIssuer]),
        (far.issue(&["mx.test"]).with(&far), "mx.test", vec![Problem::UnknownIssuer]),
        (Ca::new().issue(&["mx.test"]), "mx.test", vec![Problem::UnknownIssuer]),
        (between.issue(&["mx.test"]), "mx.test", vec![Problem::MissingIntermediate]),
        (Ca::self_signed(&["mx.test"], Validity::Now, false), "mx.test", vec![Problem::SelfSigned]),
        (Ca::self_signed(&["mx.test"], Validity::Now, true), "mx.test", vec![Problem::SelfSigned]),
        (
            Ca::self_signed(&["else.test"], Validity::Past, true),
            "mx.test",
            vec![Problem::Expired, Problem::SelfSigned, Problem::NameMismatch],
        ),
    ] {
        let found = problems(met(&issued, &tls, host, Verify::Full).await);
        assert_eq!(found, expected, "{host}, {}", issued.cert_pem);
    }
}

#[tokio::test]
async fn opportunistic_tls_is_used_and_told_what_is_wrong() {
    let issued = Ca::self_signed(&["else.test"], Validity::Now, false);
    let tls = trusting(Ca::new().pem());
    let secured = met(&issued, &tls, "mx.test", Verify::Opportunistic).await.expect("used all the same");
    assert_eq!(secured.problems, [Problem::SelfSigned, Problem::NameMismatch]);
    assert!(matches!(&secured.tls, Fact::Tls { verified: false, problem: Some(_), .. }));
}

#[tokio::test]
async fn a_self_signed_certificate_among_the_roots_is_trusted_for_its_name_and_time() {
    for is_authority in [false, true] {
        let issued = Ca::self_signed(&["mx.test"], Validity::Now, is_authority);
        let tls = trusting(&issued.cert_pem);
        assert!(met(&issued, &tls, "mx.test", Verify::Full).await.is_ok());
        assert_eq!(problems(met(&issued, &tls, "else.test", Verify::Full).await), [Problem::NameMismatch]);
        let forged = Ca::self_signed(&["mx.test"], Validity::Now, is_authority);
        assert_eq!(problems(met(&forged, &tls, "mx.test", Verify::Full).await), [Problem::SelfSigned]);
        let old = Ca::self_signed(&["mx.test"], Validity::Past, is_authority);
        assert_eq!(problems(met(&old, &trusting(&old.cert_pem), "mx.test", Verify::Full).await), [Problem::Expired]);
    }
}

#[tokio::test]
async fn short_keys_and_broken_digests_are_called_weak() {
    let ca = Ca::new();
    let tls = trusting(ca.pem());
    for (bits, digest, words) in [(1024, "sha256", "RSA key of 1024 bits"), (2048, "sha1", "signature with SHA-1")] {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = OpenSsl::issue(&ca, dir.path(), "mx.test", bits, digest);
        for version in ["-tls1_2", "-tls1_3"] {
            let server = OpenSsl::serve(&certificate, &key, &[version]);
            let refused = at(server.address(), &tls, "mx.test", Verify::Full).await;
            assert_eq!(problems(refused), [Problem::Weak(words.into())], "{version}");
            let tcp = TcpStream::connect(server.address()).await.unwrap();
            let failure = tls.handshake(tcp, "mx.test", Verify::Full).await.expect_err("refused");
            assert!(matches!(&failure, Failure::Certificate { names, .. } if names == &["mx.test"]), "{failure:?}");
        }
    }
}

#[tokio::test]
async fn an_old_server_is_named_by_its_version_or_its_ciphers() {
    let ca = Ca::new();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = OpenSsl::issue(&ca, dir.path(), "mx.test", 2048, "sha256");
    let tls = trusting(ca.pem());
    for (arguments, version, cipher) in [
        (&["-tls1"][..], "TLSv1.0", "TLS_ECDHE_RSA"),
        (&["-tls1_1"], "TLSv1.1", "TLS_ECDHE_RSA"),
        (&["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"], "TLSv1.2", "TLS_RSA_WITH_AES_128_CBC_SHA"),
    ] {
        let server = OpenSsl::serve(&certificate, &key, arguments);
        let refused = at(server.address(), &tls, "mx.test", Verify::Full).await.expect_err("too old");
        assert!(matches!(refused.failure, Failure::TlsHandshake { .. }), "{refused:?}");
        let mut tcp = TcpStream::connect(server.address()).await.unwrap();
        let answer = legacy::ask(&mut tcp, "mx.test", Duration::from_secs(20)).await;
        let Answer::Chosen { version: chosen, cipher: with } = &answer else { panic!("{answer:?}") };
        assert_eq!(chosen, version);
        assert!(with.starts_with(cipher), "{with}");
        match answer.failure().expect("a reason") {
            Failure::TlsVersion { offered } => assert_eq!((offered.as_str(), version != "TLSv1.2"), (version, true)),
            Failure::TlsHandshake { reason } => assert!(reason.contains(cipher) && version == "TLSv1.2", "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let modern = OpenSsl::serve(&certificate, &key, &["-tls1_3"]);
    let mut tcp = TcpStream::connect(modern.address()).await.unwrap();
    let answer = legacy::ask(&mut tcp, "mx.test", Duration::from_secs(20)).await;
    assert_eq!(answer, Answer::Alert { description: "protocol_version".into() });
    assert_eq!(answer.failure(), None);
}

#[tokio::test]
async fn a_server_that_speaks_plain_text_or_nothing_is_told_from_an_old_one() {
    for (said, expected) in [
        ("220 mx.test ESMTP\r\n", Answer::Text { text: "220 mx.test ESMTP".into() }),
        ("HTTP/1.0 400 Bad", Answer::Text { text: "HTTP/1.0 400 Bad".into() }),
        ("", Answer::Closed),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(said.as_bytes()).await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(legacy::ask(&mut tcp, "mx.test", Duration::from_secs(20)).await, expected);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let _kept = listener.accept().await.unwrap();
    assert_eq!(legacy::ask(&mut tcp, "mx.test", Duration::from_millis(20)).await, Answer::Silent);
}
