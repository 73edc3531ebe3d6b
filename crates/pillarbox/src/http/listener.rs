//! The HTTP listener: at most so many connections, and none on which nothing goes to and fro for ever.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at once; more wait in the kernel.
const CONNECTIONS: usize = 512;
/// How often it is looked whether a connection is still in use.
const LOOK: Duration = Duration::from_secs(15);
/// Looks in a row at a connection that is not in use before it ends: after a minute.
const LOOKS: u32 = 4;

/// A TCP listener with limits.
#[derive(Debug)]
pub struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
    look: Duration,
}

impl Limited {
    /// Puts limits around a bound listener.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS)), look: LOOK }
    }
}

/// The client, as handlers see it.
#[derive(Debug, Clone)]
pub struct Client {
    peer: SocketAddr,
    /// Requests on its connection that are being worked on.
    requests: Arc<AtomicUsize>,
}

impl Client {
    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }
}

impl From<IpAddr> for Client {
    /// Somebody for whom another part of the program asks.
    fn from(address: IpAddr) -> Self {
        Self { peer: (address, 0).into(), requests: Arc::default() }
    }
}

impl Connected<IncomingStream<'_, Limited>> for Client {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        Self { peer: *stream.remote_addr(), requests: stream.io().requests.clone() }
    }
}

/// A request in hand.
struct InHand(Arc<AtomicUsize>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Marks a connection as in use while a request on it is worked on, however long that takes: its own limit ends that.
pub async fn in_hand(request: Request, next: Next) -> Response {
    let _in_hand = request.extensions().get::<ConnectInfo<Client>>().map(|ConnectInfo(client)| {
        client.requests.fetch_add(1, Ordering::Relaxed);
        InHand(client.requests.clone())
    });
    next.run(request).await
}

impl axum::serve::Listener for Limited {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        let _ = stream.set_nodelay(true);
        let look = Box::pin(tokio::time::sleep(self.look));
        let (every, requests) = (self.look, Arc::default());
        (Patient { stream, look, every, quiet: 0, requests, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing comes and nothing goes for too long, unless a request is in hand.
#[derive(Debug)]
pub struct Patient {
    stream: TcpStream,
    look: Pin<Box<Sleep>>,
    every: Duration,
    /// Looks at which it was not in use.
    quiet: u32,
    requests: Arc<AtomicUsize>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Patient {
    /// Ready when the connection was not in use for too long.
    fn poll_unused(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.quiet < LOOKS {
            ready!(self.look.as_mut().poll(context));
            let next = self.look.deadline() + self.every;
            self.look.as_mut().reset(next);
            self.quiet = if self.requests.load(Ordering::Relaxed) > 0 { 0 } else { self.quiet + 1 };
        }
        Poll::Ready(())
    }

    /// What became of octets that were to go.
    fn went(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(octets)) if octets > 0) {
            self.quiet = 0;
        }
        result
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, into) {
            self.quiet = 0;
            return Poll::Ready(result);
        }
        self.poll_unused(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, octets);
        self.went(result)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.went(result)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::sse::{Event, KeepAlive, Sse};
    use axum::routing::get;
    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    /// Twice as long as a connection may be unused.
    const LONG: Duration = Duration::from_millis(100 * 2 * LOOKS as u64);
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A server whose connections end after 400 ms.
    async fn serve() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let never = || async {
            let events = stream::pending::<Result<Event, io::Error>>().take_until(tokio::time::sleep(LONG));
            Sse::new(events).keep_alive(KeepAlive::new().interval(SHORT))
        };
        let late = || async {
            tokio::time::sleep(LONG).await;
            "late"
        };
        let app = Router::new().route("/events", get(never)).route("/late", get(late));
        let app = app.layer(axum::middleware::from_fn(in_hand)).into_make_service_with_connect_info::<Client>();
        let limited = Limited { look: SHORT, ..Limited::new(listener) };
        tokio::spawn(axum::serve(limited, app).into_future());
        address
    }

    async fn whole(stream: &mut TcpStream) -> String {
        let mut said = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut said)).await.expect("the connection ends").unwrap();
        said
    }

    async fn ask(path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(serve().await).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_cut_off() {
        let mut silent = TcpStream::connect(serve().await).await.unwrap();
        assert_eq!(whole(&mut silent).await, "");
    }

    #[tokio::test]
    async fn an_answer_that_takes_long_comes_and_the_connection_ends_after_it() {
        let said = whole(&mut ask("/late").await).await;
        assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("\r\n\r\nlate"), "{said}");
    }

    #[tokio::test]
    async fn a_stream_on_which_something_goes_from_time_to_time_comes_to_its_own_end() {
        let said = whole(&mut ask("/events").await).await;
        assert!(said.contains("text/event-stream") && said.ends_with("\r\n0\r\n\r\n"), "{said}");
    }
}
