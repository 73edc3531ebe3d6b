//! Every reply that is a sample of a rule, said by a server at its stage, is diagnosed as that rule.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use std::time::Duration;

use diagnose::check::{Auth, Message, Plan, Tls};
use explain::{Played, RuleBase};
use futures_util::StreamExt;
use proto::smtp::reply::Reply;
use proto::transcript::Stage;
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Probes at once.
const AT_ONCE: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reply_a_rule_knows_is_diagnosed_as_that_rule() {
    let net = rig::net(None, None);
    let base = RuleBase::builtin();
    // A server that says yes, or that asks for more, is no failure. What a relay found in the DNS it says to RCPT.
    let said_to = |played: Played<'static>| match played.stage {
        Stage::Dns | Stage::Tcp => Played { stage: Stage::Recipient, ..played },
        _ => played,
    };
    let negative: Vec<Played<'_>> =
        base.playable().filter(|played| matches!(played.reply.class(), 4 | 5)).map(said_to).collect();
    assert!(negative.len() > 900, "{}", negative.len());
    let probes = negative.iter().map(|played| probe(&net, played));
    let wrong: Vec<String> = futures_util::stream::iter(probes)
        .buffer_unordered(AT_ONCE)
        .filter_map(|wrong| async move { wrong })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), negative.len(), wrong.join("\n"));
}

async fn probe(net: &net::Net, played: &Played<'_>) -> Option<String> {
    let listener = TcpListener::bind((rig::LOCAL, 0)).await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let (stage, reply) = (played.stage, played.reply.clone());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = serve(BufReader::new(stream), stage, &reply).await;
        }
    });
    let report = rig::run(net, &plan(port, played)).await;
    server.abort();
    let first = report.findings.first();
    let found = first.map(|one| one.finding.rule.as_str());
    let right = found == Some(played.rule.id.as_str())
        && report.failed_at == Some(played.stage)
        && first.and_then(|one| one.reply.as_ref()).map(|reply| reply.code) == Some(played.reply.code);
    (!right).then(|| {
        let (rule, at) = (&played.rule.id, report.failed_at);
        format!("{:?} {rule}: {} -> {found:?} at {at:?}", played.stage, played.reply)
    })
}

fn plan(port: u16, played: &Played<'_>) -> Plan {
    let mut plan = rig::plan(port, if played.stage == Stage::Tls { Tls::StartTls } else { Tls::None });
    plan.explore = false;
    plan.timeout = Duration::from_secs(60);
    plan.provider = played.provider.map(str::to_owned);
    plan.from = Some("sender@example.com".into());
    plan.to = vec!["recipient@example.net".into()];
    plan.message = Message::Send;
    if played.stage == Stage::Auth {
        plan.auth = Some(Auth {
            username: "sender@example.com".into(),
            password: SecretString::from("correct horse"),
            mechanism: None,
            allow_plaintext: true,
        });
    }
    plan
}

/// A server that says yes to everything but what comes at `stage`.
async fn serve(mut stream: BufReader<TcpStream>, stage: Stage, reply: &Reply) -> std::io::Result<()> {
    let mut refusal = Vec::new();
    reply.encode_into(&mut refusal);
    let greeting = if stage == Stage::Banner { refusal.as_slice() } else { b"220 mx.test ESMTP\r\n" };
    stream.write_all(greeting).await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let (at, usual): (_, &[u8]) = match verb.as_str() {
            "EHLO" => (Stage::Ehlo, b"250-mx.test\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n"),
            "HELO" => (Stage::Ehlo, b"250 mx.test\r\n"),
            "STAR" => (Stage::Tls, b"454 4.7.0 no\r\n"),
            "AUTH" => (Stage::Auth, b"235 2.7.0 yes\r\n"),
            "MAIL" => (Stage::Sender, b"250 2.1.0 yes\r\n"),
            "RCPT" => (Stage::Recipient, b"250 2.1.5 yes\r\n"),
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                while line != ".\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).await? == 0 {
                        return Ok(());
                    }
                }
                (Stage::Message, b"250 2.0.0 taken\r\n")
            }
            "QUIT" => (Stage::Quit, b"221 2.0.0 bye\r\n"),
            _ => (Stage::Quit, b"250 2.0.0 yes\r\n"),
        };
        stream.write_all(if at == stage { &refusal } else { usual }).await?;
    }
}
