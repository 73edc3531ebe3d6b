//! The conversation step by step: dial, greeting, EHLO, STARTTLS, handshake, AUTH, and single commands.
//!
//! Each step is one call and leaves one step in the transcript. Which steps are made, in which order, and what a
//! failure means is the caller's: [`super::connect`] for delivery, the staged probe for diagnosis.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto::smtp::body;
use proto::smtp::capability::Capabilities;
use proto::smtp::reply::Reply;
use proto::transcript::{Fact, Failure, Stage, Step, Transcript};
use tokio::net::TcpStream;

use super::auth::authenticate;
use super::link::{Handshake, Judged, Link};
use super::record::Recorder;
use super::{ClientAuth, ClientSettings, Connection};
use crate::Net;
use crate::dial::dial;
use crate::tls::{Memory, Opening, Verify};

/// Longest wait for the answer to QUIT, with the closing of the link.
const GOOD_BYE: Duration = Duration::from_secs(5);

/// The answer to EHLO, or to HELO where EHLO is not known.
#[derive(Debug, Clone)]
pub struct Hello {
    /// As it came.
    pub reply: Reply,
    /// What it offers; nothing after HELO.
    pub capabilities: Capabilities,
    /// The refusal of EHLO, if HELO had to be used.
    pub refused: Option<Reply>,
}

/// Which replies let a command pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Exactly this code.
    Code(u16),
    /// Any code with this first digit.
    Class(u8),
}

/// How sending the content ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the final dot: the server answers and may deliver.
    Dot,
    /// Without it: the link is closed, and nothing is delivered (RFC 5321 §4.1.1.4).
    Close,
}

/// One conversation in the making. Before [`Session::dial`] it has no link, and every other step fails.
pub struct Session<'a> {
    net: &'a Net,
    host: String,
    settings: &'a ClientSettings,
    source: Option<IpAddr>,
    helo: &'a str,
    opening: Opening,
    recorder: Recorder,
    link: Link,
    peer: Option<SocketAddr>,
    tls: Option<String>,
}

impl<'a> Session<'a> {
    /// A session with `host`, whose name the certificate must have.
    pub fn new(net: &'a Net, host: impl Into<String>, settings: &'a ClientSettings) -> Self {
        let recorder = Recorder::new(net.clock.clone());
        Self {
            net,
            host: host.into(),
            settings,
            source: settings.source,
            helo: &settings.helo,
            opening: Opening::Full,
            recorder,
            link: Link::closed(),
            peer: None,
            tls: None,
        }
    }

    /// The address connected to.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The name of the server.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Speaks with another host from the next dial on: the next MX of a domain.
    pub fn set_host(&mut self, host: impl Into<String>) {
        self.host = host.into();
    }

    /// What is known of servers whose TLS is broken.
    pub(super) fn memory(&self) -> &'a Memory {
        self.net.tls.memory()
    }

    /// Begins handshakes so from now on.
    pub fn set_opening(&mut self, opening: Opening) {
        self.opening = opening;
    }

    /// Dials from one of the sources of the settings from now on, and greets with its name; without one for this IP
    /// version, as the settings say.
    pub(super) fn take_source(&mut self, peer: IpAddr) {
        if let Some(source) = self.settings.sources.iter().find(|source| source.address.is_ipv4() == peer.is_ipv4()) {
            self.source = Some(source.address);
            self.helo = &source.helo;
        }
    }

    /// TLS version and cipher suite, `None` in the clear.
    pub fn tls(&self) -> Option<&str> {
        self.tls.as_deref()
    }

    /// Whether the server said something that no command asked for.
    pub fn has_unread(&self) -> bool {
        self.link.has_unread()
    }

    /// Microseconds since the transcript began.
    pub fn now_us(&self) -> u64 {
        self.recorder.now()
    }

    /// The steps so far.
    pub fn steps(&self) -> &[Step] {
        self.recorder.steps()
    }

    /// Takes the steps out and begins anew.
    pub fn take_transcript(&mut self) -> Transcript {
        self.recorder.take()
    }

    /// Writes a fact or a failure of the caller's own into the transcript, begun at `began_us`.
    pub fn note(&mut self, stage: Stage, began_us: u64, what: Result<Fact, &Failure>) {
        match what {
            Ok(fact) => self.recorder.fact(stage, began_us, fact),
            Err(failure) => self.recorder.failure(stage, began_us, None, failure),
        }
    }

    /// Opens the connection; a link from before is closed.
    pub async fn dial(&mut self, peer: SocketAddr) -> Result<(), Failure> {
        let began = self.recorder.now();
        self.link.close();
        match dial(peer, self.source, self.settings.timeouts.connect).await {
            Ok(tcp) => {
                self.adopt(tcp, peer, began);
                Ok(())
            }
            Err(failure) => Err(self.failed(Stage::Tcp, began, None, failure)),
        }
    }

    /// Takes over a connection that was opened by [`crate::dial::dial`], begun at `began_us`.
    pub fn adopt(&mut self, tcp: TcpStream, peer: SocketAddr, began_us: u64) {
        if let Ok(local) = tcp.local_addr() {
            self.recorder.fact(Stage::Tcp, began_us, Fact::Connected { peer, local });
        }
        self.link.open(tcp);
        self.peer = Some(peer);
        self.tls = None;
    }

    /// Waits for the 220. Any other reply is a failure, and is answered with QUIT (RFC 5321 §3.1).
    ///
    /// Cancel-safe: what came is kept, and nothing is recorded.
    pub async fn greeting(&mut self) -> Result<Reply, Failure> {
        self.greeting_since(self.recorder.now()).await
    }

    /// Goes on waiting for the 220 that was first waited for at `began`, in microseconds of the transcript.
    pub async fn greeting_since(&mut self, began: u64) -> Result<Reply, Failure> {
        let whole = self.settings.timeouts.banner;
        let left = whole.saturating_sub(Duration::from_micros(self.recorder.now().saturating_sub(began)));
        let answer = self.link.reply(left).await.map_err(|failure| match failure {
            Failure::Timeout { .. } => Failure::Timeout { seconds: u32::try_from(whole.as_secs()).unwrap_or(u32::MAX) },
            other => other,
        });
        match Expect::Code(220).of(answer) {
            Ok(reply) => {
                self.recorder.reply(Stage::Banner, began, None, &reply);
                Ok(reply)
            }
            Err(failure) => {
                if matches!(failure, Failure::Refused(_)) {
                    // Nobody waits for the answer.
                    let _ = self.link.send(b"QUIT\r\n", Duration::from_secs(1)).await;
                }
                Err(self.failed(Stage::Banner, began, None, failure))
            }
        }
    }

    /// EHLO, or HELO where EHLO is not known and nothing that needs it is required.
    pub async fn hello(&mut self) -> Result<Hello, Failure> {
        let command = format!("EHLO {}", self.helo);
        let refused = match self.command(Stage::Ehlo, &command, Expect::Code(250)).await {
            Ok(reply) => return Ok(Hello { capabilities: Capabilities::parse(&reply), reply, refused: None }),
            Err(Failure::Refused(reply))
                if matches!(reply.code, 500..=504 | 550) && !self.link.is_tls() && self.settings.auth.is_none() =>
            {
                reply
            }
            Err(failure) => return Err(failure),
        };
        let command = format!("HELO {}", self.helo);
        let reply = self.command(Stage::Ehlo, &command, Expect::Code(250)).await?;
        Ok(Hello { reply, capabilities: Capabilities::default(), refused: Some(refused) })
    }

    /// Asks for TLS; [`Session::handshake`] must follow.
    pub async fn start_tls(&mut self) -> Result<Reply, Failure> {
        self.command(Stage::Tls, "STARTTLS", Expect::Code(220)).await
    }

    /// Puts the link under TLS, and judges the certificate by `verify`; in full means by the settings' pins if there are some.
    pub async fn handshake(&mut self, verify: Verify) -> Result<(), Failure> {
        let began = self.recorder.now();
        let judged = match (&self.settings.pins, verify) {
            (Some(pins), Verify::Full) => Judged::Pins(pins),
            _ => Judged::Host(&self.host, verify),
        };
        match self.link.start_tls(&self.net.tls, judged, self.opening, self.settings.timeouts.tls).await {
            Ok(fact) => {
                if let Fact::Tls { version, cipher, .. } = &fact {
                    self.tls = Some(format!("{version} {cipher}"));
                }
                self.recorder.fact(Stage::Tls, began, fact);
                Ok(())
            }
            Err(failure) => Err(self.failed(Stage::Tls, began, None, failure)),
        }
    }

    /// As [`Session::handshake`], with all that can be told of the certificates; also in the transcript.
    ///
    /// Costs more than delivery wants to pay: the chain is taken apart, and no session is resumed.
    pub async fn handshake_reported(&mut self, verify: Verify) -> Handshake {
        let began = self.recorder.now();
        let limit = self.settings.timeouts.tls;
        let report = self.link.start_tls_reported(&self.net.tls, &self.host, verify, limit).await;
        if let (Some(Fact::Tls { version, cipher, .. }), None) = (&report.tls, &report.failure) {
            self.tls = Some(format!("{version} {cipher}"));
        }
        // The time of the handshake is that of the first step; what else was learned took none.
        let mut began = began;
        let facts = [&report.tls, &report.chain];
        for fact in facts.into_iter().flatten() {
            self.recorder.fact(Stage::Tls, began, fact.clone());
            began = self.recorder.now();
        }
        if let Some(failure) = &report.failure {
            self.recorder.failure(Stage::Tls, began, None, failure);
        }
        report
    }

    /// Signs in with one of the mechanisms offered; nothing secret is recorded.
    ///
    /// With the one that the credentials name, or else with the best of both sides.
    pub async fn authenticate(&mut self, offered: &[String], auth: &ClientAuth) -> Result<(), Failure> {
        let Self { link, recorder, settings, host, peer, .. } = self;
        let server = (host.as_str(), peer.map_or(0, |peer| peer.port()));
        authenticate(link, server, offered, auth, &settings.timeouts, recorder).await
    }

    /// Sends one command, without its CR LF and without secrets, and waits for its reply.
    pub async fn command(&mut self, stage: Stage, command: &str, expect: Expect) -> Result<Reply, Failure> {
        let began = self.recorder.now();
        let timeouts = &self.settings.timeouts;
        let limit = match stage {
            Stage::Tls => timeouts.tls,
            Stage::Sender => timeouts.mail,
            Stage::Recipient => timeouts.rcpt,
            Stage::Message => timeouts.data,
            _ => timeouts.ehlo,
        };
        let outcome = match self.link.send(format!("{command}\r\n").as_bytes(), timeouts.block).await {
            Ok(()) => expect.of(self.link.reply(limit).await),
            Err(failure) => Err(failure),
        };
        self.recorder.outcome(stage, began, Some(command), &outcome);
        outcome
    }

    /// Sends the content after DATA was granted: CR LF line ends, dots not yet doubled.
    ///
    /// `Ok(None)` when it ends without the dot: the link is closed then.
    pub async fn content(&mut self, content: &[u8], end: End) -> Result<Option<Reply>, Failure> {
        let began = self.recorder.now();
        let mut octets = Vec::with_capacity(content.len() + 64);
        body::stuff_into(content, &mut octets);
        let timeouts = &self.settings.timeouts;
        let outcome = match end {
            End::Close => {
                let without_dot = octets.strip_suffix(b".\r\n").unwrap_or(&octets);
                let sent = self.link.send(without_dot, timeouts.block).await;
                self.link.shutdown(Duration::from_secs(1)).await;
                self.link.close();
                if let Err(failure) = sent {
                    return Err(self.failed(Stage::Message, began, None, failure));
                }
                return Ok(None);
            }
            End::Dot => match self.link.send(&octets, timeouts.block).await {
                Ok(()) => Expect::Class(2).of(self.link.reply(timeouts.dot).await),
                // A server that refuses and closes has often said why.
                Err(failure) => match self.link.reply(Duration::from_secs(1)).await {
                    Ok(reply) => Err(Failure::Refused(reply)),
                    Err(_) => Err(failure),
                },
            },
        };
        let sent = format!("({} octets).", content.len());
        self.recorder.outcome(Stage::Message, began, Some(&sent), &outcome);
        outcome.map(Some)
    }

    /// QUIT, waiting for the answer at most `limit`, or five seconds if that is less.
    pub async fn quit(&mut self, limit: Duration) {
        let limit = limit.min(GOOD_BYE);
        let began = self.recorder.now();
        let outcome = match self.link.send(b"QUIT\r\n", limit).await {
            Ok(()) => self.link.reply(limit).await,
            Err(failure) => Err(failure),
        };
        self.recorder.outcome(Stage::Quit, began, Some("QUIT"), &outcome);
        self.link.shutdown(Duration::from_millis(200).min(limit)).await;
        self.link.close();
    }

    /// Drops the link without a word.
    pub fn hang_up(&mut self) {
        self.link.close();
    }

    pub(super) fn into_connection(self, peer: SocketAddr, capabilities: Capabilities) -> Connection {
        Connection {
            link: self.link,
            host: self.host,
            peer,
            capabilities: Arc::new(capabilities),
            tls: self.tls,
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

    pub(super) fn into_parts(self) -> (Link, Recorder, Option<String>) {
        (self.link, self.recorder, self.tls)
    }

    fn failed(&mut self, stage: Stage, began: u64, sent: Option<&str>, failure: Failure) -> Failure {
        self.recorder.failure(stage, began, sent, &failure);
        failure
    }
}

impl Expect {
    fn of(self, reply: Result<Reply, Failure>) -> Result<Reply, Failure> {
        reply.and_then(|reply| {
            let passes = match self {
                Self::Code(code) => reply.code == code,
                Self::Class(class) => reply.class() == class,
            };
            if passes { Ok(reply) } else { Err(Failure::Refused(reply)) }
        })
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("host", &self.host)
            .field("peer", &self.peer)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
