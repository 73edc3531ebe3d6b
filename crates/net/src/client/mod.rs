//! One connection to one mail server: opened by [`connect`], then used for any number of transactions.
//!
//! Delivery and diagnosis use the same code, and both get a [`Transcript`]. The conversation of a transaction is
//! `proto`'s; what a failure means for a message is decided by neither.

mod auth;
mod connect;
mod deliver;
mod link;
mod record;
mod session;
pub mod web;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto::smtp::capability::Capabilities;
use proto::smtp::client::{Plan, RecipientResult, TransactionEnd};
use proto::transcript::{Failure, Stage, Transcript};
use secrecy::SecretString;

use crate::tls::Pins;

pub use connect::connect;
pub use session::{End, Expect, Hello, Session};

pub use link::Handshake;
use link::Link;
use record::{Mark, Recorder};

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Never: all in the clear, even if STARTTLS is offered.
    None,
    /// STARTTLS if offered; if it fails, a second connection in the clear. Certificates are noted, not required.
    Opportunistic,
    /// STARTTLS, or no connection.
    Required,
    /// TLS from the first octet (RFC 8314 §3.3).
    Implicit,
}

/// Which server, as the route says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name, IP address or address literal; the name the certificate must have.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How it is secured.
    pub tls: TlsMode,
}

/// Credentials for AUTH.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// User name.
    pub username: String,
    /// Password, or access token for OAUTHBEARER and XOAUTH2.
    pub password: SecretString,
    /// SASL mechanism by its name; `None` takes the strongest that both sides have.
    pub mechanism: Option<String>,
    /// Whether they may cross a link that is not encrypted.
    pub allow_plaintext: bool,
}

/// Time limits of the client; the defaults are those of RFC 5321 §4.5.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connect to one address.
    pub connect: Duration,
    /// Greeting.
    pub banner: Duration,
    /// EHLO, HELO, AUTH, RSET.
    pub ehlo: Duration,
    /// STARTTLS reply and handshake, each.
    pub tls: Duration,
    /// MAIL.
    pub mail: Duration,
    /// RCPT.
    pub rcpt: Duration,
    /// DATA up to its 354.
    pub data: Duration,
    /// Each block of content, and each batch of commands, to be taken by the peer.
    pub block: Duration,
    /// From the final dot to its reply.
    pub dot: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Self {
            connect: Duration::from_secs(30),
            banner: minutes(5),
            ehlo: minutes(5),
            tls: minutes(1),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            block: minutes(3),
            dot: minutes(10),
        }
    }
}

/// How much of a transaction that went well is recorded. One that did not is always recorded in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recording {
    /// The reply to the final dot: what a delivery needs.
    #[default]
    Brief,
    /// Every step: what a diagnosis shows.
    Full,
}

/// An address to connect from, and who we say we are from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// One of this machine's.
    pub address: IpAddr,
    /// Our name in EHLO.
    pub helo: String,
}

/// How we connect, whoever the server is.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Our name in EHLO: a host name or address literal.
    pub helo: String,
    /// Address to connect from; peers of the other IP version are then left out.
    pub source: Option<IpAddr>,
    /// Instead of `source` and `helo`: the first one of the peer's IP version is used, and peers for which there is none
    /// are left out. Empty: not used.
    pub sources: Vec<Source>,
    /// What the certificate must fit under [`TlsMode::Required`], whatever else is wrong with it (RFC 7672 §3).
    pub pins: Option<Arc<Pins>>,
    /// Credentials, for a smart host.
    pub auth: Option<ClientAuth>,
    /// Whether the certificate must verify under [`TlsMode::Required`] and [`TlsMode::Implicit`]. Under
    /// [`TlsMode::Opportunistic`] it matters only with credentials: these need a verified certificate then.
    pub verify: bool,
    /// Time limits.
    pub timeouts: Timeouts,
    /// What to record.
    pub recording: Recording,
}

impl ClientSettings {
    /// No credentials, verification on, default limits.
    pub fn new(helo: impl Into<String>) -> Self {
        Self {
            helo: helo.into(),
            source: None,
            sources: Vec::new(),
            pins: None,
            auth: None,
            verify: true,
            timeouts: Timeouts::default(),
            recording: Recording::default(),
        }
    }
}

/// No connection came about.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot connect ({stage:?}): {failure:?}")]
pub struct ConnectError {
    /// All that was tried, at every address.
    pub transcript: Transcript,
    /// The failure that counts: the most hopeful one if several addresses failed in different ways.
    pub failure: Failure,
    /// Where it happened.
    pub stage: Stage,
}

/// A session that is ready for MAIL.
pub struct Connection {
    link: Link,
    host: String,
    peer: SocketAddr,
    capabilities: Arc<Capabilities>,
    tls: Option<String>,
    recorder: Recorder,
    timeouts: Timeouts,
    recording: Recording,
    transactions: u32,
    /// The last transaction was left open at the server.
    dirty: bool,
    /// Nothing more can be said on this connection.
    dead: bool,
    /// Content with its dots, kept for the next message.
    out: Vec<u8>,
    marks: Vec<Mark>,
}

/// What one transaction came to.
#[derive(Debug)]
pub struct Delivery {
    /// One per recipient of the plan, in its order.
    pub results: Vec<RecipientResult>,
    /// How the transaction ended; `None` if it did not, because of `failure`.
    pub end: Option<TransactionEnd>,
    /// Why the transaction did not end: the link died, a time limit passed, the server lacks an extension, or
    /// `before_dot` said no.
    pub failure: Option<(Stage, Failure)>,
    /// The whole content was sent and its reply never came: the server may have taken it (RFC 1047).
    pub past_dot: bool,
    /// The connection may be used for another transaction.
    pub reusable: bool,
    /// A reused connection turned out dead before the server answered anything: connect anew, same attempt.
    pub stale: bool,
    /// The steps of this transaction, without those of the connection before it. If all went well and
    /// [`Recording::Brief`] is set, only the last one.
    pub transcript: Transcript,
}

impl Connection {
    /// What the server offers. Clone the `Arc` to put it into a [`Plan`].
    pub fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    /// The address connected to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The endpoint's host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TLS version and cipher suite, `TLSv1.3 TLS13_AES_256_GCM_SHA384`, or `None` in the clear.
    pub fn tls(&self) -> Option<&str> {
        self.tls.as_deref()
    }

    /// Transactions begun so far.
    pub fn transactions(&self) -> u32 {
        self.transactions
    }

    /// The steps recorded outside of transactions (connect, TLS, AUTH, RSET) since this was last called.
    pub fn take_transcript(&mut self) -> Transcript {
        self.recorder.take()
    }

    /// Does one transaction.
    ///
    /// `content` is what goes between DATA and the final dot, with CRLF line ends and not dot-stuffed. `before_dot`
    /// is awaited when the server has granted DATA and nothing but the end of the content remains to be sent; if it
    /// says `false`, the connection is closed without the dot and nothing is delivered. It is dropped unpolled if the
    /// transaction ends earlier.
    ///
    /// Not cancel-safe: a connection whose `deliver` was dropped must be dropped.
    pub async fn deliver(
        &mut self,
        plan: &Plan<'_>,
        content: &[u8],
        before_dot: impl Future<Output = bool>,
    ) -> Delivery {
        deliver::deliver(self, plan, content, before_dot).await
    }

    /// RSET: makes sure that the connection lives and has no transaction open.
    pub async fn reset(&mut self) -> Result<(), Failure> {
        let began = self.recorder.now();
        let outcome = self.reset_quietly().await;
        self.recorder.outcome(Stage::Quit, began, Some("RSET"), &outcome);
        outcome.map(|_| ())
    }

    /// QUIT, waiting for the answer at most five seconds in all.
    pub async fn quit(mut self) {
        const LIMIT: Duration = Duration::from_secs(5);
        if !self.dead {
            let _ = tokio::time::timeout(LIMIT, async {
                if self.link.send(b"QUIT\r\n", LIMIT).await.is_ok() {
                    let _ = self.link.reply(LIMIT).await;
                }
                self.link.shutdown(LIMIT).await;
            })
            .await;
        }
    }

    /// Resolves when the peer closes the idle connection or says something unasked (421): drop it then.
    ///
    /// Cancel-safe.
    pub async fn closed(&mut self) {
        if !self.dead && !self.link.has_unread() {
            self.link.disturbed().await;
        }
        self.dead = true;
    }

    async fn reset_quietly(&mut self) -> Result<proto::smtp::reply::Reply, Failure> {
        if self.dead || self.link.has_unread() {
            self.dead = true;
            return Err(Failure::Disconnected);
        }
        let outcome = async {
            self.link.send(b"RSET\r\n", self.timeouts.block).await?;
            let reply = self.link.reply(self.timeouts.ehlo).await?;
            if reply.is_positive() { Ok(reply) } else { Err(Failure::Refused(reply)) }
        }
        .await;
        self.dirty = false;
        self.dead = outcome.is_err();
        outcome
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("host", &self.host)
            .field("peer", &self.peer)
            .field("tls", &self.tls)
            .field("transactions", &self.transactions)
            .finish_non_exhaustive()
    }
}
