//! From an endpoint and its addresses to a session that is ready for MAIL.
//!
//! In order: dial each address until one greets with 220; EHLO; STARTTLS and EHLO again; AUTH. Failures before any
//! of our secrets or policies are touched move on to the next address; others end the attempt.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proto::smtp::capability::Capabilities;
use proto::smtp::reply::Reply;
use proto::transcript::{Fact, Failure, Stage};

use super::auth::authenticate;
use super::link::Link;
use super::record::Recorder;
use super::{ClientSettings, ConnectError, Connection, Endpoint, TlsMode};
use crate::Net;
use crate::dial::dial;
use crate::tls::Verify;

/// Most addresses of each IP version that are tried for one connection.
const MAX_TRIED: usize = 10;

/// Connects to `endpoint` at the first of `addresses`, in their order, that greets with 220.
///
/// With [`TlsMode::Opportunistic`], a failed handshake is followed by one more connection to the same address
/// without TLS, unless credentials would then cross in the clear without leave.
pub async fn connect(
    net: &Net,
    endpoint: &Endpoint,
    addresses: &[IpAddr],
    settings: &ClientSettings,
) -> Result<Connection, ConnectError> {
    let mut attempt = Attempt { net, endpoint, settings, recorder: Recorder::new(net.clock.clone()) };
    let mut worst: Option<Stop> = None;
    for address in chosen(addresses, settings.source) {
        let peer = SocketAddr::new(address, endpoint.port);
        match attempt.at(peer).await {
            Ok(connection) => return Ok(attempt.finish(connection)),
            Err(stop) => {
                let elsewhere = stop.next == Next::Address;
                let later = worst.as_ref().is_none_or(|before| rank(&stop.failure) >= rank(&before.failure));
                if later || !elsewhere {
                    worst = Some(stop);
                }
                if !elsewhere {
                    break;
                }
            }
        }
    }
    let Stop { stage, failure, .. } = worst.unwrap_or_else(|| {
        let failure = Failure::NoAddress { name: endpoint.host.clone() };
        attempt.recorder.failure(Stage::Dns, 0, None, &failure);
        Stop { stage: Stage::Dns, failure, next: Next::Nothing }
    });
    Err(ConnectError { transcript: attempt.recorder.take(), failure, stage })
}

/// Why an address did not lead to a session, and what is left to try.
struct Stop {
    stage: Stage,
    failure: Failure,
    next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another address may do better.
    Address,
    /// The same address without TLS.
    Clear,
    /// It would be the same everywhere.
    Nothing,
}

struct Session {
    link: Link,
    peer: SocketAddr,
    capabilities: Capabilities,
    tls: Option<String>,
}

struct Attempt<'a> {
    net: &'a Net,
    endpoint: &'a Endpoint,
    settings: &'a ClientSettings,
    recorder: Recorder,
}

impl Attempt<'_> {
    fn finish(self, session: Session) -> Connection {
        Connection {
            link: session.link,
            host: self.endpoint.host.clone(),
            peer: session.peer,
            capabilities: Arc::new(session.capabilities),
            tls: session.tls,
            recorder: self.recorder,
            timeouts: self.settings.timeouts,
            recording: self.settings.recording,
            transactions: 0,
            dirty: false,
            dead: false,
            out: Vec::new(),
            marks: Vec::new(),
        }
    }

    async fn at(&mut self, peer: SocketAddr) -> Result<Session, Stop> {
        match self.session(peer, self.endpoint.tls).await {
            Err(stop) if stop.next == Next::Clear => self.session(peer, TlsMode::None).await,
            other => other,
        }
    }

    async fn session(&mut self, peer: SocketAddr, mode: TlsMode) -> Result<Session, Stop> {
        let mut link = self.dial(peer).await?;
        let mut tls = None;
        if mode == TlsMode::Implicit {
            (link, tls) = self.handshake(link, mode, self.recorder.now()).await?;
        }
        self.greeting(&mut link).await?;
        let mut capabilities = self.hello(&mut link).await?;
        if let Some(began) = self.start_tls(&mut link, &capabilities, mode).await? {
            (link, tls) = self.handshake(link, mode, began).await?;
            capabilities = self.hello(&mut link).await?;
        }
        if let Some(auth) = &self.settings.auth {
            let timeouts = &self.settings.timeouts;
            authenticate(&mut link, &capabilities.auth, auth, timeouts, &mut self.recorder)
                .await
                .map_err(|failure| Stop { stage: Stage::Auth, failure, next: Next::Nothing })?;
        }
        Ok(Session { link, peer, capabilities, tls })
    }

    async fn dial(&mut self, peer: SocketAddr) -> Result<Link, Stop> {
        let began = self.recorder.now();
        match dial(peer, self.settings.source, self.settings.timeouts.connect).await {
            Ok(tcp) => {
                if let Ok(local) = tcp.local_addr() {
                    self.recorder.fact(Stage::Tcp, began, Fact::Connected { peer, local });
                }
                Ok(Link::new(tcp))
            }
            Err(failure) => Err(self.stop(Stage::Tcp, began, None, failure, Next::Address)),
        }
    }

    async fn greeting(&mut self, link: &mut Link) -> Result<(), Stop> {
        let began = self.recorder.now();
        match expect(link.reply(self.settings.timeouts.banner).await, 220) {
            Ok(reply) => {
                self.recorder.reply(Stage::Banner, began, None, &reply);
                Ok(())
            }
            Err(failure) => {
                if matches!(failure, Failure::Refused(_)) {
                    // RFC 5321 §3.1: a client that meets 554 at connect still says QUIT; nobody waits for the answer.
                    let _ = link.send(b"QUIT\r\n", std::time::Duration::from_secs(1)).await;
                }
                Err(self.stop(Stage::Banner, began, None, failure, Next::Address))
            }
        }
    }

    /// EHLO, or HELO where EHLO is not known and nothing that needs it is required.
    async fn hello(&mut self, link: &mut Link) -> Result<Capabilities, Stop> {
        let command = format!("EHLO {}", self.settings.helo);
        match self.command(link, Stage::Ehlo, &command, 250).await {
            Ok(reply) => return Ok(Capabilities::parse(&reply)),
            Err(stop) => {
                let unknown = matches!(&stop.failure, Failure::Refused(reply) if matches!(reply.code, 500..=504 | 550));
                if !unknown || link.is_tls() || self.settings.auth.is_some() {
                    return Err(stop);
                }
            }
        }
        let command = format!("HELO {}", self.settings.helo);
        self.command(link, Stage::Ehlo, &command, 250).await.map(|_| Capabilities::default())
    }

    /// STARTTLS where the mode wants it; says when the handshake may begin.
    async fn start_tls(&mut self, link: &mut Link, caps: &Capabilities, mode: TlsMode) -> Result<Option<u64>, Stop> {
        if matches!(mode, TlsMode::None | TlsMode::Implicit) {
            return Ok(None);
        }
        let began = self.recorder.now();
        if !caps.starttls {
            return match mode {
                TlsMode::Required => Err(self.stop(Stage::Tls, began, None, Failure::StartTlsMissing, Next::Nothing)),
                _ => Ok(None),
            };
        }
        match self.command(link, Stage::Tls, "STARTTLS", 220).await {
            Ok(_) => Ok(Some(self.recorder.now())),
            Err(stop) => match (mode, &stop.failure) {
                // Refused in order: the session goes on as it is.
                (TlsMode::Opportunistic, Failure::Refused(reply)) if reply.code != 421 => Ok(None),
                (TlsMode::Opportunistic, Failure::Refused(_) | Failure::Disconnected) => {
                    Err(Stop { next: Next::Address, ..stop })
                }
                _ => Err(Stop { next: Next::Nothing, ..stop }),
            },
        }
    }

    async fn handshake(&mut self, link: Link, mode: TlsMode, began: u64) -> Result<(Link, Option<String>), Stop> {
        let with_secrets = self.settings.auth.as_ref().is_some_and(|auth| !auth.allow_plaintext);
        let verify = match mode {
            TlsMode::Opportunistic if !with_secrets => Verify::Opportunistic,
            _ if self.settings.verify => Verify::Full,
            _ => Verify::Opportunistic,
        };
        let limit = self.settings.timeouts.tls;
        match link.start_tls(&self.net.tls, &self.endpoint.host, verify, limit).await {
            Ok((link, fact)) => {
                let text = match &fact {
                    Fact::Tls { version, cipher, .. } => Some(format!("{version} {cipher}")),
                    _ => None,
                };
                self.recorder.fact(Stage::Tls, began, fact);
                Ok((link, text))
            }
            Err(failure) => {
                let next = match mode {
                    TlsMode::Opportunistic if !with_secrets => Next::Clear,
                    _ => Next::Nothing,
                };
                Err(self.stop(Stage::Tls, began, None, failure, next))
            }
        }
    }

    async fn command(&mut self, link: &mut Link, stage: Stage, command: &str, code: u16) -> Result<Reply, Stop> {
        let began = self.recorder.now();
        let timeouts = &self.settings.timeouts;
        let limit = if stage == Stage::Tls { timeouts.tls } else { timeouts.ehlo };
        let outcome = match link.send(format!("{command}\r\n").as_bytes(), timeouts.block).await {
            Ok(()) => expect(link.reply(limit).await, code),
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(reply) => {
                self.recorder.reply(stage, began, Some(command), &reply);
                Ok(reply)
            }
            Err(failure) => Err(self.stop(stage, began, Some(command), failure, Next::Address)),
        }
    }

    fn stop(&mut self, stage: Stage, began: u64, sent: Option<&str>, failure: Failure, next: Next) -> Stop {
        self.recorder.failure(stage, began, sent, &failure);
        Stop { stage, failure, next }
    }
}

fn expect(reply: Result<Reply, Failure>, code: u16) -> Result<Reply, Failure> {
    reply.and_then(|reply| if reply.code == code { Ok(reply) } else { Err(Failure::Refused(reply)) })
}

/// Which of several failures stands for all: one that may pass with time before one that says "never", and a word
/// of the server before the lack of a route.
fn rank(failure: &Failure) -> u8 {
    match failure {
        Failure::Refused(reply) if reply.class() == 5 => 1,
        Failure::ConnectFailed { .. } => 0,
        Failure::Refused(_) => 3,
        _ => 2,
    }
}

fn chosen(addresses: &[IpAddr], source: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (mut six, mut four) = (0, 0);
    addresses.iter().copied().filter(move |address| {
        if source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
            return false;
        }
        let count = if address.is_ipv4() { &mut four } else { &mut six };
        *count += 1;
        *count <= MAX_TRIED
    })
}
