//! A socket, what was read from it and not yet understood, and the time limits of both directions.

use std::io;
use std::time::Duration;

use proto::smtp::reply::{Reply, ReplyReader};
use proto::smtp::sasl::client::Binding;
use proto::transcript::{CertificateProblem, Fact, Failure};
use tokio::net::TcpStream;

use crate::socket::Socket;
use crate::timer::Timer;
use crate::tls::{self, ClientTls, Opening, Pins, Secured, Unsecured, Verify};

/// Most octets handed to the kernel under one time limit: RFC 5321 §4.5.3.2.5 limits "each" block of DATA.
const BLOCK: usize = 128 * 1024;

/// What a certificate is judged by.
pub(super) enum Judged<'a> {
    /// The authorities we trust, for this host.
    Host(&'a str, Verify),
    /// The DNS.
    Pins(&'a Pins),
}

/// All that a watched handshake told.
#[derive(Debug, Clone, Default)]
pub struct Handshake {
    /// [`Fact::Tls`], if the handshake came to its end.
    pub tls: Option<Fact>,
    /// [`Fact::Chain`], if the server came to send it.
    pub chain: Option<Fact>,
    /// All that is wrong with the certificate, the most telling first.
    pub problems: Vec<CertificateProblem>,
    /// Why the link cannot be used.
    pub failure: Option<Failure>,
}

impl Handshake {
    fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

pub(super) struct Link {
    socket: Socket,
    reader: ReplyReader,
    timer: Timer,
}

impl Link {
    /// A link that leads nowhere yet.
    pub(super) fn closed() -> Self {
        Self { socket: Socket::Closed, reader: ReplyReader::default(), timer: Timer::new() }
    }

    /// Leads over this connection from now on.
    pub(super) fn open(&mut self, tcp: TcpStream) {
        self.socket = Socket::Plain(tcp);
        self.reader = ReplyReader::default();
    }

    /// Drops the connection.
    pub(super) fn close(&mut self) {
        self.socket = Socket::Closed;
    }

    /// Puts the link under TLS. A fresh reader: nothing from before may be read after it. Closed if that fails.
    pub(super) async fn start_tls(
        &mut self,
        tls: &ClientTls,
        judged: Judged<'_>,
        opening: Opening,
        limit: Duration,
    ) -> Result<Fact, Failure> {
        let tcp = self.take_plain()?;
        let shaking = async {
            match judged {
                Judged::Host(host, verify) => tls.handshake_opened(tcp, host, verify, opening).await,
                Judged::Pins(pins) => tls.handshake_pinned(tcp, pins, opening).await,
            }
        };
        match self.timer.within(limit, shaking).await {
            Some(Ok((stream, fact))) => {
                self.socket = Socket::Tls(Box::new(stream.into()));
                Ok(fact)
            }
            Some(Err(failure)) => Err(failure),
            None => Err(timeout(limit)),
        }
    }

    /// As [`Link::start_tls`], with all that can be told of the certificates.
    pub(super) async fn start_tls_reported(
        &mut self,
        tls: &ClientTls,
        host: &str,
        verify: Verify,
        limit: Duration,
    ) -> Handshake {
        let tcp = match self.take_plain() {
            Ok(tcp) => tcp,
            Err(failure) => return Handshake::failed(failure),
        };
        match self.timer.within(limit, tls.handshake_reported(tcp, host, verify)).await {
            Some(Ok(Secured { stream, tls, chain, problems })) => {
                self.socket = Socket::Tls(Box::new(stream.into()));
                Handshake { tls: Some(tls), chain: Some(chain), problems, failure: None }
            }
            Some(Err(unsecured)) => {
                let Unsecured { failure, chain, tls, problems } = *unsecured;
                Handshake { tls, chain, problems, failure: Some(failure) }
            }
            None => Handshake::failed(timeout(limit)),
        }
    }

    fn take_plain(&mut self) -> Result<TcpStream, Failure> {
        let reader = std::mem::take(&mut self.reader);
        match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Plain(_) if !reader.is_empty() => Err(Failure::EarlyOctets),
            Socket::Plain(tcp) => Ok(tcp),
            Socket::Tls(_) => Err(Failure::Local { reason: "TLS is on already".into() }),
            Socket::Closed => Err(Failure::Disconnected),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.socket, Socket::Tls(_))
    }

    /// What ties an authentication to the TLS connection.
    pub(super) fn binding(&self) -> Option<Binding> {
        match &self.socket {
            Socket::Tls(stream) => tls::binding(stream),
            Socket::Plain(_) | Socket::Closed => None,
        }
    }

    /// Whether octets came that no command asked for.
    pub(super) fn has_unread(&self) -> bool {
        !self.reader.is_empty()
    }

    /// Writes all; `limit` applies to each block of [`BLOCK`] octets.
    pub(super) async fn send(&mut self, octets: &[u8], limit: Duration) -> Result<(), Failure> {
        let Self { socket, timer, .. } = self;
        for block in octets.chunks(BLOCK) {
            let write = async {
                let mut rest = block;
                while !rest.is_empty() {
                    let count = socket.write(rest).await?;
                    rest = &rest[count..];
                }
                socket.flush().await
            };
            match timer.within(limit, write).await {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(broken(&error)),
                None => return Err(timeout(limit)),
            }
        }
        Ok(())
    }

    /// The next reply, complete within `limit`.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<Reply, Failure> {
        let Self { socket, reader, timer } = self;
        let read = async {
            loop {
                match reader.next() {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(bad) => return Err(Failure::BadReply { text: bad.text }),
                }
                match socket.read(|octets| reader.push(octets)).await {
                    Ok(0) => return Err(Failure::Disconnected),
                    Ok(_) => {}
                    Err(error) => return Err(broken(&error)),
                }
            }
        };
        timer.within(limit, read).await.unwrap_or_else(|| Err(timeout(limit)))
    }

    /// Reads once into a buffer; false at the end of the stream.
    pub(super) async fn read(&mut self, into: &mut Vec<u8>, limit: Duration) -> Result<bool, Failure> {
        let Self { socket, timer, .. } = self;
        match timer.within(limit, socket.read(|octets| into.extend_from_slice(octets))).await {
            Some(Ok(count)) => Ok(count > 0),
            Some(Err(error)) => Err(broken(&error)),
            None => Err(timeout(limit)),
        }
    }

    /// Returns when the peer sends or closes although nothing was asked. Cancel-safe: what came is kept.
    pub(super) async fn disturbed(&mut self) {
        let Self { socket, reader, .. } = self;
        let _ = socket.read(|octets| reader.push(octets)).await;
    }

    /// Closes our direction, giving TLS the chance to say so.
    pub(super) async fn shutdown(&mut self, limit: Duration) {
        let Self { socket, timer, .. } = self;
        let _ = timer.within(limit, socket.shutdown()).await;
    }
}

fn timeout(limit: Duration) -> Failure {
    Failure::Timeout { seconds: u32::try_from(limit.as_secs()).unwrap_or(u32::MAX) }
}

fn broken(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => Failure::TlsHandshake { reason: tls.to_string() },
        None => Failure::Disconnected,
    }
}
