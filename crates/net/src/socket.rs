//! A TCP stream that is in the clear or under TLS, read through one buffer per thread.
//!
//! Idle connections own no read buffer: ten thousand of them would hold 300 MiB otherwise. What is read is handed
//! on within the same poll, so the thread's buffer is never shared across an await.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

const READ: usize = 32 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// The stream of one connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Taken out for a handshake, or lost in one.
    Closed,
}

impl Socket {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(context, buffer),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, octets),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(context, octets),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Reads once and hands the octets to `take`; `Ok(0)` at the end of the stream. Cancel-safe.
    pub(crate) async fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        poll_fn(|context| {
            BUFFER.with_borrow_mut(|octets| {
                let mut buffer = ReadBuf::new(octets);
                match ready!(self.poll_read(context, &mut buffer)) {
                    Ok(()) => {
                        take(buffer.filled());
                        Poll::Ready(Ok(buffer.filled().len()))
                    }
                    // Many peers close without TLS close_notify; SMTP marks its own ends, so that is an end as well.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
                    Err(error) => Poll::Ready(Err(error)),
                }
            })
        })
        .await
    }

    /// Writes some of the octets.
    pub(crate) async fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match poll_fn(|context| self.poll_write(context, octets)).await {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        }
    }

    /// Hands what TLS still buffers to the kernel.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) | Self::Closed => Ok(()),
            Self::Tls(tls) => poll_fn(|context| Pin::new(tls.as_mut()).poll_flush(context)).await,
        }
    }

    /// Sends close_notify and FIN.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => poll_fn(|context| Pin::new(&mut *tcp).poll_shutdown(context)).await,
            Self::Tls(tls) => poll_fn(|context| Pin::new(tls.as_mut()).poll_shutdown(context)).await,
            Self::Closed => Ok(()),
        }
    }
}
