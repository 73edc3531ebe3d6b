//! One connection from accept to close: octets into the machine, its events to the service, its replies out.
//!
//! Replies leave in one write when the machine has run out of input, so a pipelined batch costs one read and one
//! write.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proto::smtp::reply::Reply;
use proto::smtp::server::{Event, Server};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::Seat;
use super::listener::Shared;
use super::proxy::{self, Header};
use super::wire::{Line, Stop, Woken, handshake};
use super::{ListenMode, Peer, Service, ServiceFactory, xclient};
use crate::clock::timer_now;
use crate::socket::Socket;
use crate::timer::Timer;

/// A slow sender gets this long before its rate is looked at.
const RATE_AFTER: Duration = Duration::from_secs(30);
/// Output buffers above this are not kept for an idle session.
const KEEP: usize = 4 * 1024;

/// Why a session ends before the machine says so.
enum End {
    /// The peer closed, or its socket broke.
    Gone,
    /// The handshake failed, or nothing can be written to the peer.
    Broken(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

pub(super) async fn run<F: ServiceFactory>(
    shared: &Shared,
    factory: &F,
    stream: TcpStream,
    address: SocketAddr,
    shutdown: CancellationToken,
) {
    // On the heap while it lasts: what the opening needs would be kept in the task as long as the session lives.
    let outcome = match Box::pin(open(shared, factory, stream, address, shutdown)).await {
        Ok(Some(mut session)) => session.converse().await,
        Ok(None) => Ok(()),
        Err(end) => Err(end),
    };
    if let Err(End::Broken(error)) = outcome {
        tracing::debug!(peer = %address, %error, "connection ended");
    }
}

/// PROXY, counting, TLS, service: what comes before the first reply.
async fn open<'a, F: ServiceFactory>(
    shared: &'a Shared,
    factory: &'a F,
    mut stream: TcpStream,
    address: SocketAddr,
    shutdown: CancellationToken,
) -> Result<Option<Session<'a, F>>, End> {
    stream.set_nodelay(true)?;
    let limits = &shared.listener.limits;
    let mut timer = Timer::new();
    let mut peer = Peer {
        address: canonical(address),
        local: canonical(stream.local_addr()?),
        via: None,
        mode: shared.listener.mode,
        tls: None,
    };
    if shared.listener.proxy.iter().any(|block| block.contains(address.ip())) {
        let header = timer.within(limits.handshake_timeout, proxy::read(&mut stream)).await;
        match header.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))? {
            Header::Local => {}
            Header::Proxied { client, local } => {
                peer = Peer { address: client, local, via: Some(peer.address), ..peer };
            }
        }
    }
    // The client's own address counts: XCLIENT is not for everyone behind a trusted proxy.
    let gateway = shared.listener.xclient.iter().any(|block| block.contains(peer.address.ip()));
    let seat = shared.counters.seat(peer.address.ip(), limits.per_address);
    let mut socket = Socket::Plain(stream);
    if peer.mode == ListenMode::Implicit {
        if seat.is_none() {
            // No handshake for those who are too many: it is the dear part.
            return Err(End::Gone);
        }
        socket = handshake(shared, socket, &mut peer, &mut timer).await?;
    }
    let settings = if gateway { &shared.gateway } else { &shared.ordinary };
    let mut machine = Server::new(settings.clone(), peer.tls.is_some());
    let service = match seat {
        Some(_) => factory.connected(&peer),
        None => Err(Reply::new(421, "4.7.0 too many connections from your address, try again later")),
    };
    let mut line = Line { socket, timer };
    match service {
        Err(reply) => {
            machine.greet(Some(reply));
            line.write(machine.output(), limits.write_timeout).await?;
            line.close(limits.write_timeout).await;
            Ok(None)
        }
        Ok(service) => {
            machine.greet(None);
            Ok(Some(Session {
                shared,
                factory,
                service,
                machine,
                line,
                peer,
                stop: Stop::new(shutdown),
                started: timer_now(),
                progress: timer_now(),
                content: None,
                open: false,
                _seat: seat,
            }))
        }
    }
}

struct Session<'a, F: ServiceFactory> {
    shared: &'a Shared,
    factory: &'a F,
    service: F::Service,
    machine: Server,
    line: Line,
    peer: Peer,
    stop: Stop,
    started: Instant,
    /// When the machine last had something to say or the service something to decide.
    progress: Instant,
    /// When the content that is arriving began to, and its octets so far.
    content: Option<(Instant, u64)>,
    /// The service was asked about a sender and not yet told that the transaction ended.
    open: bool,
    _seat: Option<Seat>,
}

impl<F: ServiceFactory> Session<'_, F> {
    async fn converse(&mut self) -> Result<(), End> {
        let limit = self.shared.listener.limits.write_timeout;
        loop {
            match self.machine.poll() {
                Event::NeedInput => {
                    self.flush().await?;
                    if self.machine.idle() {
                        self.end_transaction();
                    }
                    self.check_content();
                    if !self.read().await? {
                        return Err(End::Gone);
                    }
                }
                Event::Close => {
                    let flushed = self.flush().await;
                    self.end_transaction();
                    flushed?;
                    self.line.close(limit).await;
                    return Ok(());
                }
                Event::StartTls => self.start_tls().await?,
                event => self.serve(event).await,
            }
        }
    }

    /// Asks the service and hands its answer to the machine.
    async fn serve(&mut self, event: Event) {
        self.content = None;
        let reply = match event {
            Event::Authenticate(credentials) => self.service.authenticate(credentials, &self.peer).await,
            Event::Mail(from, parameters) => {
                // A transaction before it in the same batch may have ended in RSET.
                self.end_transaction();
                self.open = true;
                self.service.mail(&from, &parameters, self.machine.session()).await
            }
            Event::Recipient(recipient) => self.service.recipient(&recipient).await,
            Event::Message(envelope, content) => {
                let session = self.machine.session();
                let reply = self.service.message(envelope, content, session, &self.peer).await;
                self.end_transaction();
                reply
            }
            Event::XClient(attributes) => self.replace_peer(&attributes),
            Event::NeedInput | Event::Close | Event::StartTls => return,
        };
        self.machine.answer(reply);
    }

    fn end_transaction(&mut self) {
        if std::mem::take(&mut self.open) {
            self.service.reset();
        }
    }

    fn replace_peer(&mut self, attributes: &[(String, String)]) -> Reply {
        let Some(peer) = xclient::apply(&self.peer, attributes) else {
            return Reply::new(501, "5.5.4 bad XCLIENT attribute");
        };
        match self.factory.connected(&peer) {
            Ok(service) => {
                self.service = service;
                self.peer = peer;
                self.machine.greeting()
            }
            Err(reply) => reply,
        }
    }

    async fn start_tls(&mut self) -> Result<(), End> {
        self.flush().await?;
        let clear = std::mem::replace(&mut self.line.socket, Socket::Closed);
        self.line.socket = Box::pin(handshake(self.shared, clear, &mut self.peer, &mut self.line.timer)).await?;
        self.machine.tls_started();
        self.end_transaction();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), End> {
        let output = self.machine.output();
        if output.is_empty() {
            return Ok(());
        }
        self.progress = timer_now();
        self.line.write(output, self.shared.listener.limits.write_timeout).await?;
        output.clear();
        if output.capacity() > KEEP {
            *output = Vec::new();
        }
        Ok(())
    }

    /// Lets the service refuse a content that is too much for it, and cuts off one that drips.
    fn check_content(&mut self) {
        if !self.machine.in_content() {
            self.content = None;
            return;
        }
        if let Err(reply) = self.service.memory(self.machine.content_len()) {
            self.machine.refuse_content(reply);
        }
        let now = timer_now();
        let (began, octets) = *self.content.get_or_insert((now, 0));
        let took = now - began;
        let least = u64::from(self.shared.listener.limits.min_data_rate) * took.as_secs();
        if took > RATE_AFTER && octets < least {
            self.machine.timeout();
        }
    }

    /// Reads once and feeds the machine; `false` when the peer closed.
    async fn read(&mut self) -> Result<bool, End> {
        let limit = self.patience();
        let idle = self.machine.idle();
        let Self { line: Line { socket, timer }, machine, stop, content, shared, .. } = self;
        let read = socket.read(|octets| {
            if let Some((_, total)) = content {
                *total += octets.len() as u64;
            }
            machine.receive(octets);
        });
        match timer.within(limit, stop.or(read, idle, shared.listener.limits.grace)).await {
            Some(Woken::Read(Ok(0))) => Ok(false),
            Some(Woken::Read(Ok(_))) => Ok(true),
            Some(Woken::Read(Err(error))) => Err(error.into()),
            Some(Woken::Stopped) => {
                self.machine.shutdown();
                Ok(true)
            }
            Some(Woken::GraceOver) => Ok(false),
            None => {
                self.machine.timeout();
                Ok(true)
            }
        }
    }

    /// How long the next read may take.
    fn patience(&self) -> Duration {
        let limits = &self.shared.listener.limits;
        if self.content.is_some() {
            return limits.data_timeout;
        }
        // A command has a limit from its first octet to its last: dripping does not extend it.
        let command = limits.command_timeout.saturating_sub(timer_now() - self.progress);
        if self.machine.idle() {
            return command.min(limits.session.saturating_sub(timer_now() - self.started));
        }
        command
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
