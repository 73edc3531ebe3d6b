//! Listeners: accept connections, drive one session machine each, and ask a [`Service`] what to answer.
//!
//! The SMTP conversation is `proto`'s. Here are sockets, TLS, time limits, limits per address, PROXY, XCLIENT and an
//! orderly end; what is accepted from whom is the service's.

mod limits;
mod listener;
mod proxy;
mod session;
mod wire;
mod xclient;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::smtp::reply::Reply;
use proto::smtp::sasl::Credentials;
use proto::smtp::server::{Content, SessionFacts, Settings};
use proto::{Envelope, MailParameters, Recipient, ReversePath};

pub use listener::Bound;

use crate::cidr::Cidr;
use crate::tls::ServerTls;

/// How a listener is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenMode {
    /// In the clear, with STARTTLS on offer.
    StartTls,
    /// TLS from the first octet (RFC 8314 §3.3).
    Implicit,
    /// In the clear, without an offer.
    Plain,
}

/// What a listener bears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time from one IPv4 address or one IPv6 /64.
    pub per_address: u32,
    /// Connections at a time in all.
    pub total: u32,
    /// For one whole command, and for silence between commands (RFC 5321 §4.5.3.2.7: at least 5 minutes).
    pub command_timeout: Duration,
    /// For silence within content.
    pub data_timeout: Duration,
    /// Octets of content per second below which a sender is cut off, once it has sent for half a minute.
    pub min_data_rate: u32,
    /// For a TLS handshake, and for the header of PROXY.
    pub handshake_timeout: Duration,
    /// For a write that the peer does not take.
    pub write_timeout: Duration,
    /// For a session in all; looked at when no transaction is open.
    pub session: Duration,
    /// How long transactions may go on after shutdown began.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_address: 100,
            total: 10_000,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            min_data_rate: 500,
            handshake_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            session: Duration::from_secs(86_400),
            grace: Duration::from_secs(60),
        }
    }
}

/// A listener as configured. [`Listener::bind`] makes it real.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where; port 0 picks a free one.
    pub address: SocketAddr,
    /// How it is secured.
    pub mode: ListenMode,
    /// Certificate; needed by [`ListenMode::StartTls`] and [`ListenMode::Implicit`].
    pub tls: Option<Arc<ServerTls>>,
    /// Peers that must begin with a PROXY v2 header; from all others such a header is just a bad command.
    pub proxy: Vec<Cidr>,
    /// Peers that may use XCLIENT.
    pub xclient: Vec<Cidr>,
    /// Settings of the session machine; `starttls` and `xclient` are set from the above.
    pub machine: Arc<Settings>,
    /// Limits.
    pub limits: Limits,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The client, as PROXY or XCLIENT say if they may.
    pub address: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The proxy or gateway in front, if there is one.
    pub via: Option<SocketAddr>,
    /// The listener's mode.
    pub mode: ListenMode,
    /// TLS version and cipher suite, once it is on: `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
    pub tls: Option<String>,
}

/// Decides about one connection. Each answer is sent as it is; 2yz accepts.
pub trait Service: Send + 'static {
    /// AUTH: 235, 535, 454 or 421.
    fn authenticate(&mut self, credentials: Credentials, peer: &Peer) -> impl Future<Output = Reply> + Send;
    /// MAIL.
    fn mail(
        &mut self,
        from: &ReversePath,
        parameters: &MailParameters,
        session: &SessionFacts,
    ) -> impl Future<Output = Reply> + Send;
    /// RCPT.
    fn recipient(&mut self, recipient: &Recipient) -> impl Future<Output = Reply> + Send;
    /// The message is here: 250 once it is safe.
    fn message(
        &mut self,
        envelope: Envelope,
        content: Content,
        session: &SessionFacts,
        peer: &Peer,
    ) -> impl Future<Output = Reply> + Send;
    /// So many octets of an unfinished content are held; an error discards them and the rest, and is the answer.
    fn memory(&mut self, octets: usize) -> Result<(), Reply>;
    /// The transaction ended, however it did. When the connection breaks, the service is dropped instead.
    fn reset(&mut self);
}

/// Makes a [`Service`] for each connection, or refuses it (421 or 554).
pub trait ServiceFactory: Send + Sync + 'static {
    /// What it makes.
    type Service: Service;
    /// A client connected. Called again when XCLIENT says that it is another one.
    fn connected(&self, peer: &Peer) -> Result<Self::Service, Reply>;
}
