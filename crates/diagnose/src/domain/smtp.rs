//! One look at one mail host: does it greet, does it offer encryption, which certificate does it have.
//!
//! Says EHLO and QUIT, never MAIL. Uses the dialler and the TLS of the client that delivers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use net::dial::dial;
use net::{Net, Verify};
use proto::smtp::reply::{Reply, ReplyReader, escape};
use proto::transcript::{CertificateProblem, Fact, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::plan::{Plan, Smtp};

/// What became of one address of a mail host.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) ip: IpAddr,
    pub(super) outcome: Result<Seen, Miss>,
}

/// Why nothing can be said about encryption.
#[derive(Debug)]
pub(super) enum Miss {
    /// No connection.
    NoConnection(Failure),
    /// Something else than 220, or nothing.
    Greeting(String),
}

/// A host that greets.
#[derive(Debug)]
pub(super) struct Seen {
    /// What became of the handshake; `None` if the host does not offer STARTTLS.
    pub(super) tls: Option<Result<Shaken, String>>,
}

/// A handshake that came to its end.
#[derive(Debug)]
pub(super) struct Shaken {
    /// What is wrong with the certificate.
    pub(super) problems: Vec<CertificateProblem>,
    /// The certificates as sent, in DER.
    pub(super) chain: Vec<Vec<u8>>,
    /// End of the first one, Unix seconds.
    pub(super) not_after: Option<i64>,
    /// "TLSv1.3".
    pub(super) version: String,
}

/// Looks at one address of a host.
pub(super) async fn probe(net: &Net, plan: &Plan, smtp: &Smtp, host: &str, ip: IpAddr) -> Probe {
    let peer = plan.redirected(SocketAddr::new(ip, smtp.port));
    let limit = plan.timeout;
    let outcome = match dial(peer, None, limit).await {
        Err(failure) => Err(Miss::NoConnection(failure)),
        // Three replies and a handshake, each with the limit of one.
        Ok(tcp) => match tokio::time::timeout(limit * 4, talk(net, tcp, &smtp.helo, host, limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Miss::Greeting("silence".into())),
        },
    };
    Probe { ip, outcome }
}

async fn talk(net: &Net, mut tcp: TcpStream, helo: &str, host: &str, limit: Duration) -> Result<Seen, Miss> {
    let mut reader = ReplyReader::default();
    let greeting = reply(&mut tcp, &mut reader, limit).await.map_err(Miss::Greeting)?;
    if greeting.code != 220 {
        let _ = tcp.write_all(b"QUIT\r\n").await;
        return Err(Miss::Greeting(words(&greeting)));
    }
    let hello = command(&mut tcp, &mut reader, &format!("EHLO {helo}\r\n"), limit).await;
    let starttls = hello.is_ok_and(|reply| {
        reply.code == 250 && reply.lines.iter().any(|line| line.trim().eq_ignore_ascii_case("STARTTLS"))
    });
    if !starttls {
        let _ = tcp.write_all(b"QUIT\r\n").await;
        return Ok(Seen { tls: None });
    }
    let tls = match command(&mut tcp, &mut reader, "STARTTLS\r\n", limit).await {
        Ok(reply) if reply.code == 220 => shake(net, tcp, host, limit).await,
        Ok(reply) => Err(words(&reply)),
        Err(problem) => Err(problem),
    };
    Ok(Seen { tls: Some(tls) })
}

async fn shake(net: &Net, tcp: TcpStream, host: &str, limit: Duration) -> Result<Shaken, String> {
    let secured = tokio::time::timeout(limit, net.tls.handshake_reported(tcp, host, Verify::Opportunistic)).await;
    let mut secured = match secured {
        Ok(Ok(secured)) => secured,
        Ok(Err(unsecured)) => return Err(in_words(&unsecured.failure)),
        Err(_) => return Err("no answer in time".into()),
    };
    let sent = secured.stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = sent.iter().map(|certificate| certificate.as_ref().to_vec()).collect();
    let not_after = match &secured.chain {
        Fact::Chain { certificates } => certificates.first().map(|certificate| certificate.not_after),
        _ => None,
    };
    let version = match &secured.tls {
        Fact::Tls { version, .. } => version.clone(),
        _ => String::new(),
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), secured.stream.write_all(b"QUIT\r\n")).await;
    Ok(Shaken { problems: secured.problems, chain, not_after, version })
}

async fn command(tcp: &mut TcpStream, reader: &mut ReplyReader, line: &str, limit: Duration) -> Result<Reply, String> {
    tcp.write_all(line.as_bytes()).await.map_err(|_| "the connection broke".to_owned())?;
    reply(tcp, reader, limit).await
}

async fn reply(tcp: &mut TcpStream, reader: &mut ReplyReader, limit: Duration) -> Result<Reply, String> {
    let read = async {
        let mut octets = [0; 2048];
        loop {
            match reader.next() {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(bad) => return Err(format!("something that is not SMTP: {}", bad.text)),
            }
            match tcp.read(&mut octets).await {
                Ok(0) | Err(_) => return Err("the connection was closed".into()),
                Ok(count) => reader.push(&octets[..count]),
            }
        }
    };
    tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err("silence".into()))
}

fn words(reply: &Reply) -> String {
    escape(format!("{} {}", reply.code, reply.lines.join(" ")).as_bytes(), 200)
}

/// A failure as a fragment.
pub(super) fn in_words(failure: &Failure) -> String {
    match failure {
        Failure::ConnectRefused { .. } => "connection refused".into(),
        Failure::ConnectTimeout { .. } => "no answer in time".into(),
        Failure::ConnectFailed { reason, .. } | Failure::TlsHandshake { reason } => reason.clone(),
        Failure::TlsVersion { offered } => format!("the server speaks only {offered}"),
        Failure::Certificate { problem, .. } => format!("the certificate is {}", problem_in_words(problem)),
        Failure::DnsUnavailable { reason, .. } => format!("the name cannot be resolved: {reason}"),
        Failure::NameNotFound { .. } => "the name does not exist".into(),
        Failure::NoAddress { .. } => "the name has no address".into(),
        other => escape(format!("{other:?}").as_bytes(), 100),
    }
}

/// Behind "the certificate is".
pub(super) fn problem_in_words(problem: &CertificateProblem) -> String {
    match problem {
        CertificateProblem::Expired => "expired".into(),
        CertificateProblem::NotYetValid => "not yet valid".into(),
        CertificateProblem::UnknownIssuer => "from an authority that is not trusted".into(),
        CertificateProblem::SelfSigned => "self-signed".into(),
        CertificateProblem::MissingIntermediate => "sent without its chain".into(),
        CertificateProblem::NameMismatch => "not for this name".into(),
        CertificateProblem::Weak(words) => format!("too weak: {words}"),
        CertificateProblem::Other(words) => format!("refused: {words}"),
    }
}
