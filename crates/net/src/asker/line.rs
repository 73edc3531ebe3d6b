//! One UDP socket to one server, with many questions on their way at the same time.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::wire::{self, MAX_UDP, Packet};

/// Answers may be longer than we asked for: read, and not taken for broken ones.
const ROOM: usize = 4 * MAX_UDP;

/// What comes back: an answer that fits, or why the way is closed.
type Back = Result<Vec<u8>, String>;

/// A socket of our own port, connected: what others send does not get in.
pub(super) struct Line {
    shared: Arc<Shared>,
    used: AtomicU32,
    _reader: AbortOnDropHandle<()>,
}

struct Shared {
    socket: UdpSocket,
    waiting: Mutex<HashMap<u16, (Packet, oneshot::Sender<Back>)>>,
}

/// A place among those that wait; given up when dropped.
struct Place<'l> {
    line: &'l Line,
    id: u16,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.shared.waiting.lock().remove(&self.id);
    }
}

impl Line {
    /// A socket at a port the system picks.
    pub(super) async fn open(server: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        let shared = Arc::new(Shared { socket, waiting: Mutex::default() });
        let reader = AbortOnDropHandle::new(tokio::spawn(read(Arc::clone(&shared))));
        Ok(Self { shared, used: AtomicU32::new(0), _reader: reader })
    }

    /// How many questions went out.
    pub(super) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Sends a question and waits for its answer, without a limit. `ids` gives ids until one is free.
    pub(super) async fn ask(&self, packet: &Packet, mut ids: impl FnMut() -> u16) -> Back {
        self.used.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let (place, octets) = {
            let mut waiting = self.shared.waiting.lock();
            // Places are given up at the end of each question, and there are never as many as ids.
            let id = loop {
                let id = ids();
                if !waiting.contains_key(&id) {
                    break id;
                }
            };
            let packet = packet.clone().with_id(id);
            let octets = packet.octets().to_vec();
            waiting.insert(id, (packet, sender));
            (Place { line: self, id }, octets)
        };
        if let Err(error) = self.shared.socket.send(&octets).await {
            return Err(in_words(&error));
        }
        let back = receiver.await.unwrap_or_else(|_| Err("the socket was closed".into()));
        drop(place);
        back
    }
}

async fn read(shared: Arc<Shared>) {
    let mut octets = vec![0; ROOM];
    loop {
        match shared.socket.try_recv(&mut octets) {
            Ok(count) => shared.deliver(&octets[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if shared.socket.readable().await.is_err() {
                    return;
                }
            }
            // The server's machine says that nobody listens there: true for all that wait.
            Err(error) => {
                let reason = in_words(&error);
                for (_, (_, sender)) in shared.waiting.lock().drain() {
                    let _ = sender.send(Err(reason.clone()));
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Shared {
    fn deliver(&self, octets: &[u8]) {
        let Some(id) = wire::id(octets) else { return };
        let mut waiting = self.waiting.lock();
        // A forged answer must not cost the real one its place.
        let taken = match waiting.get(&id) {
            Some((packet, _)) if packet.fits(octets) => waiting.remove(&id),
            _ => None,
        };
        drop(waiting);
        if let Some((_, sender)) = taken {
            let _ = sender.send(Ok(octets.to_vec()));
        }
    }
}

/// As a reason in a finding.
pub(super) fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "no name server answers there: connection refused".into(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "no route to the name server".into(),
        _ => format!("the name server cannot be asked: {error}"),
    }
}
