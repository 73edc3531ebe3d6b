//! From addresses to a session: greetings, STARTTLS, certificates, AUTH, and which failure is told.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod peer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use net::Net;
use net::client::{ClientAuth, ClientSettings, ConnectError, Connection, Endpoint, TlsMode, connect};
use peer::{Conn, LOCAL, MODERN, deliver, endpoint, local, net_with, serve, settings};
use proto::smtp::client::TransactionEnd;
use proto::transcript::{CertificateProblem, Fact, Failure, Stage};
use testkit::ca::{Ca, Issued, Validity};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const OFFER: &str = "250-mx.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n";

async fn secure(conn: Conn, issued: &Issued) -> Option<Conn<TlsStream<TcpStream>>> {
    let stream = TlsAcceptor::from(issued.server_config()).accept(conn.stream).await.ok()?;
    Some(Conn { stream, buffer: Vec::new() })
}

/// Greets, offers STARTTLS, shakes hands, takes EHLO again.
async fn starttls(mut conn: Conn, issued: &Issued) -> Option<Conn<TlsStream<TcpStream>>> {
    conn.send("220 mx.test ESMTP\r\n").await;
    conn.answer("EHLO", OFFER).await;
    conn.answer("STARTTLS", "220 go\r\n").await;
    let mut conn = secure(conn, issued).await?;
    if conn.line().await.is_empty() {
        return None;
    }
    conn.send("250-mx.test\r\n250-PIPELINING\r\n250 AUTH LOGIN PLAIN\r\n").await;
    Some(conn)
}

fn auth(allow_plaintext: bool) -> Option<ClientAuth> {
    Some(ClientAuth {
        username: "user".into(),
        password: "s3cret-canary".to_owned().into(),
        mechanism: None,
        allow_plaintext,
    })
}

async fn with(net: &Net, port: u16, tls: TlsMode, settings: &ClientSettings) -> Result<Connection, ConnectError> {
    let endpoint = Endpoint { host: "mx.test".into(), port, tls };
    connect(net, &endpoint, &[LOCAL], settings).await
}

#[tokio::test]
async fn starttls_required_with_a_good_certificate_carries_mail() {
    local(async {
        let ca = Ca::new();
        let issued = ca.issue(&["mx.test"]);
        let (address, _server) = serve(1, async move |_, conn| {
            let mut conn = starttls(conn, &issued).await.expect("TLS");
            conn.envelope().await;
            conn.content().await;
            conn.send("250 ok\r\n").await;
        })
        .await;
        let mut connection =
            with(&net_with(Some(&ca)), address.port(), TlsMode::Required, &settings()).await.expect("connection");
        assert!(connection.tls().is_some_and(|tls| tls.starts_with("TLSv1.3 TLS13_")));
        assert!(connection.capabilities().auth.contains(&"PLAIN".to_owned()), "EHLO is said again");
        let transcript = connection.take_transcript();
        let verified = transcript.steps.iter().any(|step| matches!(step.fact, Some(Fact::Tls { verified: true, .. })));
        assert!(verified);
        let delivery = deliver(&mut connection, &["to@mx.test"], b"x\r\n", true).await;
        assert!(matches!(delivery.end, Some(TransactionEnd::Delivered(_))));
    })
    .await;
}

#[tokio::test]
async fn implicit_tls_speaks_only_inside() {
    local(async {
        let ca = Ca::new();
        let issued = ca.issue(&["mx.test"]);
        let (address, _server) = serve(1, async move |_, conn| {
            let mut conn = secure(conn, &issued).await.expect("TLS");
            conn.send("220 mx.test\r\n").await;
            conn.answer("EHLO", MODERN).await;
            conn.rest().await
        })
        .await;
        let net = net_with(Some(&ca));
        let connection = with(&net, address.port(), TlsMode::Implicit, &settings()).await.expect("connection");
        assert!(connection.tls().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_bad_certificate_is_named_with_what_is_in_it_and_nothing_is_sent() {
    let ca = Ca::new();
    let stranger = Ca::new();
    for (issued, problem) in [
        (ca.issue_for(&["mx.test"], Validity::Past), CertificateProblem::Expired),
        (ca.issue_for(&["mx.test"], Validity::Future), CertificateProblem::NotYetValid),
        (ca.issue(&["other.test", "www.other.test"]), CertificateProblem::NameMismatch),
        (stranger.issue(&["mx.test"]), CertificateProblem::UnknownIssuer),
    ] {
        let net = net_with(Some(&ca));
        let expected = problem.clone();
        let wrong = expected == CertificateProblem::NameMismatch;
        local(async {
            let (address, server) = serve(1, async move |_, conn| starttls(conn, &issued).await.is_some()).await;
            let error = with(&net, address.port(), TlsMode::Required, &settings()).await.unwrap_err();
            assert_eq!(error.stage, Stage::Tls);
            match &error.failure {
                Failure::Certificate { problem, names, not_after } => {
                    assert_eq!(*problem, expected);
                    assert_eq!(names[0], if wrong { "other.test" } else { "mx.test" });
                    assert!(not_after.is_some());
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(error.transcript.failure().map(|(stage, _)| stage), Some(Stage::Tls));
            assert_eq!(server.await.expect("server"), [false], "not even EHLO after the handshake");
        })
        .await;

        // The same certificates under opportunistic TLS, and with verification off: noted and used.
        let issued = match problem {
            CertificateProblem::Expired => ca.issue_for(&["mx.test"], Validity::Past),
            _ => stranger.issue(&["mx.test"]),
        };
        for (mode, verify) in [(TlsMode::Opportunistic, true), (TlsMode::Required, false)] {
            let (net, issued) = (net_with(Some(&ca)), issued.clone());
            local(async {
                let (address, _server) = serve(1, async move |_, conn| starttls(conn, &issued).await.is_some()).await;
                let settings = ClientSettings { verify, ..settings() };
                let mut connection = with(&net, address.port(), mode, &settings).await.expect("connection");
                assert!(connection.tls().is_some());
                let noted = connection.take_transcript().steps.into_iter().find_map(|step| step.fact.filter(is_tls));
                assert!(matches!(noted, Some(Fact::Tls { verified: false, problem: Some(_), .. })));
            })
            .await;
        }
    }
}

fn is_tls(fact: &Fact) -> bool {
    matches!(fact, Fact::Tls { .. })
}

#[tokio::test]
async fn replies_slipped_in_before_the_handshake_end_the_connection() {
    local(async {
        let (address, server) = serve(1, async |_, mut conn| {
            conn.send("220 mx.test\r\n").await;
            conn.answer("EHLO", OFFER).await;
            conn.answer("STARTTLS", "220 go\r\n250-mx.test\r\n250 AUTH PLAIN\r\n").await;
            conn.rest().await
        })
        .await;
        let error = with(&net_with(None), address.port(), TlsMode::Required, &settings()).await.unwrap_err();
        assert_eq!((error.stage, error.failure), (Stage::Tls, Failure::EarlyOctets));
        assert_eq!(server.await.expect("server"), [""]);
    })
    .await;
}

#[tokio::test]
async fn a_server_without_starttls_is_refused_if_it_is_required_and_used_if_not() {
    for (reply, tls, expected) in [
        (MODERN, TlsMode::Required, Some(Failure::StartTlsMissing)),
        (MODERN, TlsMode::Opportunistic, None),
        (OFFER, TlsMode::None, None),
    ] {
        local(async {
            let (address, _server) = serve(1, async move |_, mut conn| {
                conn.send("220 mx.test\r\n").await;
                conn.answer("EHLO", reply).await;
                conn.rest().await
            })
            .await;
            let outcome = with(&net_with(None), address.port(), tls, &settings()).await;
            assert_eq!(outcome.err().map(|error| error.failure), expected);
        })
        .await;
    }
}

#[tokio::test]
async fn opportunistic_tls_that_fails_twice_is_followed_by_one_connection_in_the_clear_and_remembered() {
    local(async {
        let (address, server) = serve(4, async |number, mut conn| {
            conn.send("220 mx.test\r\n").await;
            conn.answer("EHLO", OFFER).await;
            if number < 2 {
                conn.answer("STARTTLS", "220 go\r\n").await;
                conn.read().await;
                conn.send("this is no handshake\r\n").await;
                return String::new();
            }
            conn.line().await
        })
        .await;
        let net = net_with(None);
        let mut connection = with(&net, address.port(), TlsMode::Opportunistic, &settings()).await.expect("connection");
        assert_eq!(connection.tls(), None);
        let failures: Vec<_> = connection.take_transcript().steps.into_iter().filter_map(|step| step.failure).collect();
        assert!(matches!(&failures[..], [Failure::TlsHandshake { .. }, Failure::TlsHandshake { .. }]), "{failures:?}");
        connection.quit().await;
        let again = with(&net, address.port(), TlsMode::Opportunistic, &settings()).await.expect("connection");
        assert_eq!(again.tls(), None, "nothing is tried again for a while");
        again.quit().await;
        assert_eq!(server.await.expect("server")[2..], ["QUIT\r\n", "QUIT\r\n"]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_fails_at_a_long_handshake_gets_a_short_one_at_once_from_then_on() {
    local(async {
        let ca = Ca::new();
        let issued = ca.issue(&["mx.test"]);
        let (address, server) = serve(3, async move |number, mut conn| {
            conn.send("220 mx.test\r\n").await;
            conn.answer("EHLO", OFFER).await;
            if number == 0 {
                conn.answer("STARTTLS", "220 go\r\n").await;
                conn.read().await;
                return String::new();
            }
            conn.answer("STARTTLS", "220 go\r\n").await;
            let Some(mut conn) = secure(conn, &issued).await else { return "no handshake".into() };
            conn.answer("EHLO", "250 mx.test\r\n").await;
            conn.line().await
        })
        .await;
        let net = net_with(Some(&ca));
        for _ in 0..2 {
            let connection = with(&net, address.port(), TlsMode::Opportunistic, &settings()).await.expect("connection");
            assert!(connection.tls().is_some_and(|tls| tls.starts_with("TLSv1.2")), "{:?}", connection.tls());
            connection.quit().await;
        }
        assert_eq!(server.await.expect("server"), ["", "QUIT\r\n", "QUIT\r\n"]);
    })
    .await;
}

#[tokio::test]
async fn a_refused_starttls_goes_on_in_the_clear_only_without_secrets() {
    for (auth, expected) in [(None, None), (auth(false), Some(Failure::AuthNeedsTls))] {
        local(async {
            let (address, server) = serve(1, async |_, mut conn| {
                conn.send("220 mx.test\r\n").await;
                conn.answer("EHLO", "250-mx.test\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n").await;
                conn.answer("STARTTLS", "454 4.7.0 not now\r\n").await;
                conn.rest().await
            })
            .await;
            let settings = ClientSettings { auth, ..settings() };
            let outcome = with(&net_with(None), address.port(), TlsMode::Opportunistic, &settings).await;
            assert_eq!(outcome.as_ref().err().map(|error| error.failure.clone()), expected);
            drop(outcome);
            assert!(!server.await.expect("server")[0].contains("AUTH"));
        })
        .await;
    }
}

#[tokio::test]
async fn credentials_go_by_the_best_mechanism_and_never_into_the_transcript() {
    for (offer, lines, sent) in [
        ("AUTH LOGIN PLAIN", &["AUTH PLAIN AHVzZXIAczNjcmV0LWNhbmFyeQ==\r\n"][..], "AUTH PLAIN ***"),
        ("AUTH LOGIN", &["AUTH LOGIN\r\n", "dXNlcg==\r\n", "czNjcmV0LWNhbmFyeQ==\r\n"][..], "AUTH LOGIN"),
    ] {
        local(async {
            let (address, server) = serve(1, async move |_, mut conn| {
                conn.send("220 mx.test\r\n").await;
                conn.answer("EHLO", &format!("250-mx.test\r\n250 {offer}\r\n")).await;
                let mut seen = Vec::new();
                for number in 0..lines.len() {
                    seen.push(conn.line().await);
                    let last = number + 1 == lines.len();
                    conn.send(if last { "235 2.7.0 welcome\r\n" } else { "334 VXNlcm5hbWU6\r\n" }).await;
                }
                seen
            })
            .await;
            let settings = ClientSettings { auth: auth(true), ..settings() };
            let net = net_with(None);
            let mut connection = with(&net, address.port(), TlsMode::None, &settings).await.expect("connection");
            assert_eq!(server.await.expect("server"), [lines]);
            let transcript = connection.take_transcript();
            assert!(transcript.steps.iter().any(|step| step.sent.as_deref() == Some(sent)));
            let shown = format!("{transcript:?} {connection:?} {settings:?}");
            assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5") && !shown.contains("czNjcmV0"));
        })
        .await;
    }
}

#[tokio::test]
async fn each_way_authentication_fails_has_its_name() {
    let refused = Failure::Refused(proto::smtp::reply::Reply::new(535, "5.7.8 no"));
    for (offer, reply, allow, expected) in [
        ("AUTH PLAIN", "535 5.7.8 no\r\n", true, refused.clone()),
        ("AUTH PLAIN", "", false, Failure::AuthNeedsTls),
        ("AUTH GSSAPI XOAUTH2", "", true, Failure::NoMechanism { offered: vec!["GSSAPI".into(), "XOAUTH2".into()] }),
        ("PIPELINING", "", true, Failure::NoMechanism { offered: Vec::new() }),
        // A challenge too many is answered by giving up.
        ("AUTH PLAIN", "334 \r\n535 5.7.8 no\r\n", true, refused.clone()),
    ] {
        local(async {
            let (address, _server) = serve(1, async move |_, mut conn| {
                conn.send("220 mx.test\r\n").await;
                conn.answer("EHLO", &format!("250-mx.test\r\n250 {offer}\r\n")).await;
                if !reply.is_empty() {
                    conn.answer("AUTH", reply).await;
                }
                conn.rest().await
            })
            .await;
            let settings = ClientSettings { auth: auth(allow), ..settings() };
            let error = with(&net_with(None), address.port(), TlsMode::None, &settings).await.unwrap_err();
            assert_eq!((error.stage, error.failure), (Stage::Auth, expected));
        })
        .await;
    }
}

#[tokio::test]
async fn credentials_do_not_follow_an_unverified_certificate() {
    local(async {
        let (ca, stranger) = (Ca::new(), Ca::new());
        let issued = stranger.issue(&["mx.test"]);
        let (address, server) = serve(1, async move |_, conn| starttls(conn, &issued).await.is_some()).await;
        let settings = ClientSettings { auth: auth(false), ..settings() };
        let net = net_with(Some(&ca));
        let error = with(&net, address.port(), TlsMode::Opportunistic, &settings).await.unwrap_err();
        assert!(matches!(error.failure, Failure::Certificate { problem: CertificateProblem::UnknownIssuer, .. }));
        assert_eq!(server.await.expect("server"), [false]);
    })
    .await;
}

#[tokio::test]
async fn a_greeting_that_is_not_220_is_the_reason() {
    for (greeting, expected) in [
        ("421 4.3.2 busy\r\n", Some(421)),
        ("554 5.7.1 go away\r\n", Some(554)),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", None),
    ] {
        local(async {
            let (address, _server) = serve(1, async move |_, mut conn| {
                conn.send(greeting).await;
                conn.rest().await
            })
            .await;
            let error = with(&net_with(None), address.port(), TlsMode::None, &settings()).await.unwrap_err();
            assert_eq!(error.stage, Stage::Banner);
            match expected {
                Some(code) => assert_eq!(error.failure.codes().map(|codes| codes.0), Some(code)),
                None => assert!(matches!(error.failure, Failure::BadReply { .. })),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_or_closes_is_told_apart() {
    local(async {
        let (address, _server) = serve(2, async |number, mut conn| {
            if number == 0 {
                return;
            }
            tokio::time::pause();
            conn.rest().await;
        })
        .await;
        let net = net_with(None);
        let closed = with(&net, address.port(), TlsMode::None, &settings()).await.unwrap_err();
        assert_eq!((closed.stage, closed.failure), (Stage::Banner, Failure::Disconnected));
        let silent = with(&net, address.port(), TlsMode::None, &settings()).await.unwrap_err();
        assert_eq!((silent.stage, silent.failure), (Stage::Banner, Failure::Timeout { seconds: 300 }));
    })
    .await;
}

#[tokio::test]
async fn the_next_address_is_tried_and_all_attempts_are_recorded() {
    local(async {
        let (address, _server) = serve(1, async |_, mut conn| {
            conn.open().await;
            conn.rest().await
        })
        .await;
        let dead: IpAddr = "127.0.0.9".parse().expect("address");
        let endpoint = endpoint(address, TlsMode::None);
        let mut connection =
            connect(&net_with(None), &endpoint, &[dead, LOCAL], &settings()).await.expect("connection");
        assert_eq!(connection.peer(), address);
        let transcript = connection.take_transcript();
        let refused = transcript.steps.iter().find_map(|step| step.failure.as_ref());
        assert!(matches!(refused, Some(Failure::ConnectRefused { peer }) if peer.ip() == dead));
    })
    .await;
}

#[tokio::test]
async fn of_several_failures_the_one_that_may_pass_is_told() {
    local(async {
        let (address, _server) = serve(1, async |_, mut conn| {
            conn.send("554 5.7.1 not you\r\n").await;
            conn.rest().await
        })
        .await;
        let dead: IpAddr = "127.0.0.9".parse().expect("address");
        let endpoint = endpoint(address, TlsMode::None);
        let error = connect(&net_with(None), &endpoint, &[LOCAL, dead], &settings()).await.unwrap_err();
        assert!(matches!(error.failure, Failure::ConnectRefused { .. }), "{:?}", error.failure);
        let none = connect(&net_with(None), &endpoint, &[], &settings()).await.unwrap_err();
        assert!(matches!((none.stage, none.failure), (Stage::Dns, Failure::NoAddress { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_off() {
    local(async {
        let (address, _server) = serve(1, async |_, mut conn| {
            conn.send("220 mx.test\r\n").await;
            conn.answer("EHLO", OFFER).await;
            conn.answer("STARTTLS", "220 go\r\n").await;
            conn.read().await;
            tokio::time::pause();
            conn.rest().await
        })
        .await;
        let error = with(&net_with(None), address.port(), TlsMode::Required, &settings()).await.unwrap_err();
        assert_eq!((error.stage, error.failure), (Stage::Tls, Failure::Timeout { seconds: 60 }));
    })
    .await;
}

#[tokio::test]
async fn many_deliveries_share_one_connection_and_two_connections_share_nothing() {
    local(async {
        let (address, _server) = serve(2, async |_, mut conn| {
            conn.open().await;
            for _ in 0..3 {
                conn.envelope().await;
                conn.content().await;
                conn.send("250 ok\r\n").await;
            }
        })
        .await;
        let net = Arc::new(net_with(None));
        for _ in 0..2 {
            let mut connection = with(&net, address.port(), TlsMode::None, &settings()).await.expect("connection");
            for count in 1..=3 {
                let delivery = deliver(&mut connection, &["to@mx.test"], b"x\r\n", true).await;
                assert!(delivery.reusable && !delivery.stale);
                assert_eq!(connection.transactions(), count);
            }
            tokio::time::timeout(Duration::from_secs(30), connection.closed()).await.expect("closed by the server");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_began_unverified_is_not_trusted_when_it_is_resumed() {
    local(async {
        let (ca, stranger) = (Ca::new(), Ca::new());
        let acceptor = TlsAcceptor::from(stranger.issue(&["mx.test"]).server_config());
        let (address, server) = serve(2, async move |_, conn| {
            let stream = acceptor.accept(conn.stream).await.expect("TLS");
            let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            let mut conn = Conn { stream, buffer: Vec::new() };
            conn.send("220 mx.test\r\n").await;
            let line = conn.line().await;
            conn.send("250 mx.test\r\n").await;
            (resumed, line)
        })
        .await;
        let net = net_with(Some(&ca));
        let lax = ClientSettings { verify: false, ..settings() };
        let connection = with(&net, address.port(), TlsMode::Implicit, &lax).await.expect("connection");
        connection.quit().await;
        let error = with(&net, address.port(), TlsMode::Implicit, &settings()).await.unwrap_err();
        assert!(matches!(error.failure, Failure::Certificate { problem: CertificateProblem::UnknownIssuer, .. }));
        let seen = server.await.expect("server");
        assert_eq!(seen[1], (true, String::new()), "resumed, judged again, and nothing said");
    })
    .await;
}
