//! Binds, accepts, and ends: the life of a listener without the life of its sessions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::smtp::server::Settings;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::{Counters, Place};
use super::{ListenMode, Listener, ServiceFactory, session};
use crate::tls::{RELOAD_EVERY, ServerTls};

/// Waiting connections the kernel keeps for us.
const BACKLOG: u32 = 1024;
/// Pause after a failed accept; doubled up to [`LONGEST_PAUSE`] while it goes on.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A listener with its socket.
pub struct Bound {
    socket: TcpListener,
    shared: Arc<Shared>,
}

/// What all sessions of a listener share.
pub(super) struct Shared {
    pub(super) listener: Listener,
    pub(super) acceptor: Option<TlsAcceptor>,
    /// Machine settings of ordinary peers and of those that may use XCLIENT.
    pub(super) ordinary: Arc<Settings>,
    pub(super) gateway: Arc<Settings>,
    pub(super) counters: Arc<Counters>,
}

impl Listener {
    /// Binds the address and prepares TLS. Connections wait in the kernel until [`Bound::serve`].
    pub async fn bind(self) -> io::Result<Bound> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        let socket = socket.listen(BACKLOG)?;
        let acceptor = match (self.mode, &self.tls) {
            (ListenMode::Plain, _) => None,
            (_, Some(tls)) => Some(tls.acceptor().map_err(io::Error::other)?),
            (_, None) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS needs a certificate")),
        };
        let mut settings = Settings { starttls: self.mode == ListenMode::StartTls, ..(*self.machine).clone() };
        settings.xclient = false;
        let ordinary = Arc::new(settings.clone());
        settings.xclient = true;
        let shared =
            Shared { listener: self, acceptor, ordinary, gateway: Arc::new(settings), counters: Arc::default() };
        Ok(Bound { socket, shared: Arc::new(shared) })
    }
}

impl Bound {
    /// The address in use, with the real port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until `shutdown`, then waits for the sessions: idle ones are told 421 and closed at once, the others
    /// after their transaction or [`super::Limits::grace`].
    pub async fn serve<F: ServiceFactory>(self, factory: Arc<F>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let Self { socket, shared } = self;
        let reload = async {
            match &shared.listener.tls {
                Some(tls) => watch(tls.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = accept(&socket, &shared, &factory, &shutdown, &tasks) => {}
            () = reload => {}
            () = shutdown.cancelled() => {}
        }
        // Refuse new connections at once instead of leaving them in the backlog.
        drop(socket);
        tasks.close();
        tasks.wait().await;
    }
}

async fn accept<F: ServiceFactory>(
    socket: &TcpListener,
    shared: &Arc<Shared>,
    factory: &Arc<F>,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                pause = SHORTEST_PAUSE;
                match shared.counters.place(shared.listener.limits.total) {
                    Some(place) => {
                        let (shared, factory) = (shared.clone(), factory.clone());
                        // A token of its own: all sessions looking at one would contend for its lock.
                        let token = shutdown.child_token();
                        tasks.spawn(serve_one(shared, factory, stream, peer, token, place));
                    }
                    None => refuse(&stream, shared),
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: trying again at once would only burn the processor.
                tracing::warn!(%error, listener = %shared.listener.address, "cannot accept connections");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn serve_one<F: ServiceFactory>(
    shared: Arc<Shared>,
    factory: Arc<F>,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: CancellationToken,
    place: Place,
) {
    session::run(&shared, &*factory, stream, peer, shutdown).await;
    drop(place);
}

/// Says why without a task for it: when the house is full, refusing must cost next to nothing.
fn refuse(stream: &TcpStream, shared: &Shared) {
    if shared.listener.mode != ListenMode::Implicit {
        let _ = stream.try_write(b"421 4.7.0 too many connections, try again later\r\n");
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn watch(tls: Arc<ServerTls>) {
    loop {
        tokio::time::sleep(RELOAD_EVERY).await;
        let again = tls.clone();
        match tokio::task::spawn_blocking(move || again.reload_if_changed()).await {
            Ok(Ok(false)) | Err(_) => {}
            Ok(Ok(true)) => tracing::info!(certificate = %tls.certificate_path().display(), "certificate reloaded"),
            Ok(Err(error)) => tracing::warn!(%error, "changed certificate not loaded, the old one stays in use"),
        }
    }
}
