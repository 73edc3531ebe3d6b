//! The wire of one session: timed writes, a close that lets the last reply arrive, the handshake, and the end of the
//! whole server as one session sees it.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Peer;
use super::listener::Shared;
use crate::clock::timer_now;
use crate::socket::Socket;
use crate::timer::Timer;

/// A socket with the timer of its reads and writes.
pub(super) struct Line {
    pub(super) socket: Socket,
    pub(super) timer: Timer,
}

impl Line {
    pub(super) async fn write(&mut self, octets: &[u8], limit: Duration) -> io::Result<()> {
        let Self { socket, timer } = self;
        let write = async {
            let mut rest = octets;
            while !rest.is_empty() {
                let count = socket.write(rest).await?;
                rest = &rest[count..];
            }
            socket.flush().await
        };
        timer.within(limit, write).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Closes so that the last reply arrives: what the peer still sends is read, or the kernel would answer it with a
    /// reset that overtakes the reply.
    pub(super) async fn close(&mut self, limit: Duration) {
        let Self { socket, timer } = self;
        let linger = async {
            if socket.shutdown().await.is_ok() {
                let mut budget = 64 * 1024_usize;
                while let Ok(count @ 1..) = socket.read(|_| ()).await {
                    budget = budget.saturating_sub(count);
                    if budget == 0 {
                        break;
                    }
                }
            }
        };
        let _ = timer.within(limit.min(Duration::from_secs(2)), linger).await;
    }
}

/// Why a read returned.
pub(super) enum Woken {
    Read(io::Result<usize>),
    Stopped,
    GraceOver,
}

/// The end of the whole server as one session sees it.
pub(super) struct Stop {
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    seen: Option<Instant>,
}

impl Stop {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { cancelled: Box::pin(token.cancelled_owned()), seen: None }
    }

    /// Waits for the read, or for the end: at once when the session is idle, else after its grace.
    pub(super) async fn or(
        &mut self,
        read: impl Future<Output = io::Result<usize>>,
        idle: bool,
        grace: Duration,
    ) -> Woken {
        let mut read = pin!(read);
        let mut over = None;
        std::future::poll_fn(|context| {
            // Looked at before the read, so that a busy client does not begin one transaction after the other.
            if self.seen.is_none() && self.cancelled.as_mut().poll(context).is_ready() {
                self.seen = Some(timer_now());
            }
            if self.seen.is_some() && idle {
                return Poll::Ready(Woken::Stopped);
            }
            if let Poll::Ready(result) = read.as_mut().poll(context) {
                return Poll::Ready(Woken::Read(result));
            }
            if let Some(seen) = self.seen {
                let over = over.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(seen + grace)));
                if over.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Woken::GraceOver);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Puts a session under TLS and notes it in the peer.
pub(super) async fn handshake(
    shared: &Shared,
    socket: Socket,
    peer: &mut Peer,
    timer: &mut Timer,
) -> io::Result<Socket> {
    let (Socket::Plain(tcp), Some(acceptor)) = (socket, &shared.acceptor) else {
        return Err(io::Error::other("TLS is not available"));
    };
    let limit = shared.listener.limits.handshake_timeout;
    let stream =
        timer.within(limit, acceptor.accept(tcp)).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    let connection = stream.get_ref().1;
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown");
    peer.tls = Some(format!("{version} {cipher}"));
    Ok(Socket::Tls(Box::new(stream.into())))
}
