//! Signing in to a server: which mechanism, what is tried after a refusal, and what the server has to prove.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod peer;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::client::{ClientAuth, ClientSettings, ConnectError, Connection, Endpoint, TlsMode, connect};
use peer::{Conn, LOCAL, local, net_with, serve, settings};
use proto::transcript::{Fact, Failure, Stage};
use testkit::ca::Ca;
use tokio_rustls::TlsAcceptor;

const TOKEN: &str = "eyJcanarycanarycanarycanarycanary.canarycanarycanarycanarycanary.canarycanary";

fn auth(password: &str, mechanism: Option<&str>) -> ClientSettings {
    let auth = ClientAuth {
        username: "user".into(),
        password: password.to_owned().into(),
        mechanism: mechanism.map(str::to_owned),
        allow_plaintext: true,
    };
    ClientSettings { auth: Some(auth), ..settings() }
}

/// Greets and offers these mechanisms, then answers each line by the script: what it begins with, and the reply.
async fn signed_in(
    offer: &'static str,
    script: &'static [(&'static str, &'static str)],
    settings: ClientSettings,
) -> (Result<Connection, ConnectError>, Vec<String>) {
    let (address, server) = serve(1, async move |_, mut conn: Conn| {
        conn.send("220 mx.test ESMTP\r\n").await;
        conn.answer("EHLO", &format!("250-mx.test\r\n250 AUTH {offer}\r\n")).await;
        let mut said = Vec::new();
        for (start, reply) in script {
            let line = conn.line().await;
            assert!(line.starts_with(start), "wanted {start:?}, got {line:?}");
            said.push(line.trim_end().to_owned());
            conn.send(reply).await;
        }
        said.extend(conn.rest().await.lines().filter(|line| *line != "QUIT").map(str::to_owned));
        said
    })
    .await;
    let endpoint = Endpoint { host: "mx.test".into(), port: address.port(), tls: TlsMode::None };
    let mut outcome = connect(&net_with(None), &endpoint, &[LOCAL], &settings).await;
    let transcript = match &mut outcome {
        Ok(connection) => connection.take_transcript(),
        Err(error) => error.transcript.clone(),
    };
    let shown = format!("{transcript:?}");
    assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
    let outcome = match outcome {
        Ok(connection) => {
            assert!(transcript.steps.iter().any(|step| matches!(step.fact, Some(Fact::Authenticated { .. }))));
            drop(connection);
            return (
                Err(ConnectError { transcript, failure: Failure::Disconnected, stage: Stage::Quit }),
                said(server).await,
            );
        }
        Err(error) => Err(error),
    };
    (outcome, said(server).await)
}

async fn said(server: tokio::task::JoinHandle<Vec<Vec<String>>>) -> Vec<String> {
    server.await.expect("server").remove(0)
}

/// Stage and failure: [`Stage::Quit`] when signing in went well.
fn end(outcome: Result<Connection, ConnectError>) -> (Stage, Failure) {
    let error = outcome.expect_err("an end");
    (error.stage, error.failure)
}

#[tokio::test]
async fn the_strongest_is_taken_and_no_password_crosses_where_none_need() {
    local(async {
        let script = &[("AUTH CRAM-MD5\r\n", "334 PDE4OTZAbXgudGVzdD4=\r\n"), ("", "235 2.7.0 ok\r\n")][..];
        let (outcome, said) = signed_in("PLAIN LOGIN CRAM-MD5", script, auth("canary", None)).await;
        assert_eq!(end(outcome).0, Stage::Quit);
        let answer = String::from_utf8(STANDARD.decode(&said[1]).unwrap()).unwrap();
        assert!(answer.starts_with("user ") && answer.len() == 5 + 32, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_refused_password_is_tried_once_and_an_unsupported_mechanism_is_followed_by_the_next() {
    for (reply, tried) in [
        ("535 5.7.8 wrong password\r\n", 1),
        ("535 5.7.3 Authentication unsuccessful\r\n", 1),
        ("454 4.7.0 later\r\n", 1),
        ("504 5.7.4 Unrecognized authentication type\r\n", 2),
        ("535 5.7.4 not for this account\r\n", 2),
    ] {
        local(async {
            let script = Box::leak(Box::new([("AUTH CRAM-MD5\r\n", reply), ("AUTH PLAIN ", "235 2.7.0 ok\r\n")]));
            let (outcome, said) = signed_in("CRAM-MD5 PLAIN LOGIN", &script[..tried], auth("canary", None)).await;
            let (stage, failure) = end(outcome);
            match tried {
                1 => assert!(stage == Stage::Auth && matches!(failure, Failure::Refused(_)), "{failure:?}"),
                _ => assert_eq!(stage, Stage::Quit),
            }
            assert_eq!(said.len(), tried, "{said:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_third_mechanism_is_never_tried() {
    local(async {
        let script = &[("AUTH CRAM-MD5\r\n", "504 5.7.4 no\r\n"), ("AUTH PLAIN ", "504 5.7.4 no\r\n")][..];
        let (outcome, said) = signed_in("CRAM-MD5 PLAIN LOGIN", script, auth("canary", None)).await;
        assert!(matches!(end(outcome), (Stage::Auth, Failure::Refused(_))));
        assert_eq!(said.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn the_configured_mechanism_is_the_only_one() {
    local(async {
        let script = &[("AUTH LOGIN\r\n", "504 5.7.4 no\r\n")][..];
        let (outcome, said) = signed_in("CRAM-MD5 PLAIN LOGIN", script, auth("canary", Some("login"))).await;
        assert!(matches!(end(outcome), (Stage::Auth, Failure::Refused(_))));
        assert_eq!(said.len(), 1);
        let (outcome, said) = signed_in("PLAIN LOGIN", &[], auth("canary", Some("NTLM"))).await;
        let offered = vec!["PLAIN".to_owned(), "LOGIN".to_owned()];
        assert_eq!(end(outcome), (Stage::Auth, Failure::NoMechanism { offered }));
        assert_eq!(said, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn the_reason_of_a_refused_token_is_in_the_failure() {
    local(async {
        // {"status":"400","schemes":"Bearer","scope":"https://mail.example.net/"}
        let challenge =
            "334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZXhhbXBsZS5uZXQvIn0=\r\n";
        let script = Box::leak(Box::new([
            ("AUTH XOAUTH2 dXNlcj11c2VyAWF1dGg9QmVhcmVyI", challenge),
            ("\r\n", "535 5.7.8 no\r\n"),
        ]));
        let (outcome, _) = signed_in("PLAIN XOAUTH2", script, auth(TOKEN, None)).await;
        let error = outcome.expect_err("refused");
        let Failure::Refused(reply) = &error.failure else { panic!("{error:?}") };
        assert_eq!(reply.lines, ["5.7.8 no", "(OAuth: status=400 scope=https://mail.example.net/)"]);
        let challenges = error.transcript.steps.iter().filter_map(|step| step.reply.as_ref());
        assert!(challenges.clone().any(|reply| reply.code == 334 && reply.lines[0].starts_with("eyJzdGF0dXMi")));
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_too_long_for_a_command_waits_for_its_turn() {
    local(async {
        let script = &[("AUTH OAUTHBEARER\r\n", "334 \r\n"), ("bixhPXVzZXIs", "235 2.7.0 ok\r\n")][..];
        let token = format!("ya29.{}", "canary".repeat(300));
        let (outcome, said) = signed_in("OAUTHBEARER", script, auth(&token, None)).await;
        assert_eq!(end(outcome).0, Stage::Quit);
        assert!(said[1].len() > 2000);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_asks_for_endless_hashing_is_left() {
    local(async {
        let (address, server) = serve(1, async |_, mut conn: Conn| {
            conn.send("220 mx.test ESMTP\r\n").await;
            conn.answer("EHLO", "250-mx.test\r\n250 AUTH SCRAM-SHA-1\r\n").await;
            let line = conn.line().await;
            let first =
                String::from_utf8(STANDARD.decode(line.trim_end().rsplit(' ').next().unwrap()).unwrap()).unwrap();
            let nonce = first.split_once("r=").unwrap().1;
            let answer = STANDARD.encode(format!("r={nonce}more,s=QSXCR+Q6sek8bf92,i=2000000000"));
            conn.send(&format!("334 {answer}\r\n")).await;
            conn.answer("*", "501 5.7.0 cancelled\r\n").await;
        })
        .await;
        let endpoint = Endpoint { host: "mx.test".into(), port: address.port(), tls: TlsMode::None };
        let error = connect(&net_with(None), &endpoint, &[LOCAL], &auth("canary", None)).await.unwrap_err();
        assert!(
            matches!(&error.failure, Failure::BadReply { text } if text.contains("2000000000 rounds")),
            "{error:?}"
        );
        server.await.expect("server");
    })
    .await;
}

#[tokio::test]
async fn scram_is_bound_to_the_tls_connection_and_the_server_has_to_prove_itself() {
    local(async {
        let ca = Ca::new();
        let issued = ca.issue(&["mx.test"]);
        let (address, server) = serve(1, async move |_, conn: Conn| {
            let stream = TlsAcceptor::from(issued.server_config()).accept(conn.stream).await.expect("TLS");
            let exported =
                stream.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
            let mut conn = Conn { stream, buffer: Vec::new() };
            conn.send("220 mx.test ESMTP\r\n").await;
            conn.answer("EHLO", "250-mx.test\r\n250 AUTH SCRAM-SHA-256 SCRAM-SHA-256-PLUS\r\n").await;
            let text = |line: &str| String::from_utf8_lossy(&STANDARD.decode(line.trim_end()).unwrap()).into_owned();
            let line = conn.line().await;
            let first = text(line.strip_prefix("AUTH SCRAM-SHA-256-PLUS ").expect("bound"));
            let nonce = first.strip_prefix("p=tls-exporter,,n=user,r=").expect("a first message");
            let answer = STANDARD.encode(format!("r={nonce}more,s=QSXCR+Q6sek8bf92,i=4096"));
            conn.send(&format!("334 {answer}\r\n")).await;
            let last = text(&conn.line().await);
            let binding = last.strip_prefix("c=").unwrap().split(',').next().unwrap();
            let expected = [b"p=tls-exporter,,".as_slice(), &exported].concat();
            assert_eq!(STANDARD.decode(binding).unwrap(), expected);
            conn.send("235 2.7.0 welcome\r\n").await;
        })
        .await;
        let endpoint = Endpoint { host: "mx.test".into(), port: address.port(), tls: TlsMode::Implicit };
        let error = connect(&net_with(Some(&ca)), &endpoint, &[LOCAL], &auth("canary", None)).await.unwrap_err();
        assert!(matches!(&error.failure, Failure::BadReply { text } if text.contains("did not prove")), "{error:?}");
        server.await.expect("server");
    })
    .await;
}
