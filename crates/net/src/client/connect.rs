//! From an endpoint and its addresses to a session that is ready for MAIL.
//!
//! In order: dial each address until one greets with 220; EHLO; STARTTLS and EHLO again; AUTH. Failures before any
//! of our secrets or policies are touched move on to the next address; others end the attempt.

use std::net::{IpAddr, SocketAddr};

use proto::smtp::capability::Capabilities;
use proto::transcript::{Fact, Failure, Stage};

use super::session::Session;
use super::{ClientSettings, ConnectError, Connection, Endpoint, TlsMode};
use crate::Net;
use crate::tls::{Habit, Opening, Verify};

/// Most addresses of each IP version that are tried for one connection.
const MAX_TRIED: usize = 10;
/// Most addresses that the transcript tells of.
const MOST_TOLD: usize = 20;

/// Connects to `endpoint` at the first of `addresses`, in their order, that greets with 220.
///
/// With [`TlsMode::Opportunistic`], a failed handshake is followed by one more connection to the same address with a
/// handshake that asks for less, and then by one without TLS, unless credentials would then cross in the clear without
/// leave. What worked is remembered for the host.
pub async fn connect(
    net: &Net,
    endpoint: &Endpoint,
    addresses: &[IpAddr],
    settings: &ClientSettings,
) -> Result<Connection, ConnectError> {
    let session = Session::new(net, endpoint.host.as_str(), settings);
    let mut attempt = Attempt { endpoint, settings, session };
    let mut worst: Option<Stop> = None;
    if !addresses.is_empty() && endpoint.host.parse::<IpAddr>().is_err() {
        let addresses = addresses.iter().take(MOST_TOLD).map(ToString::to_string).collect();
        attempt.session.note(Stage::Dns, 0, Ok(Fact::Resolved { host: endpoint.host.clone(), addresses }));
    }
    for address in chosen(addresses, settings) {
        let peer = SocketAddr::new(address, endpoint.port);
        match attempt.at(peer).await {
            Ok(capabilities) => return Ok(attempt.session.into_connection(peer, capabilities)),
            Err(stop) => {
                let elsewhere = stop.next == Next::Address;
                let later = worst.as_ref().is_none_or(|before| rank(&stop.failure) >= rank(&before.failure));
                if later || !elsewhere {
                    worst = Some(stop);
                }
                if !elsewhere {
                    break;
                }
            }
        }
    }
    let Stop { stage, failure, .. } = worst.unwrap_or_else(|| {
        let failure = Failure::NoAddress { name: endpoint.host.clone() };
        attempt.session.note(Stage::Dns, 0, Err(&failure));
        Stop { stage: Stage::Dns, failure, next: Next::Nothing }
    });
    Err(ConnectError { transcript: attempt.session.take_transcript(), failure, stage })
}

/// Why an address did not lead to a session, and what is left to try.
struct Stop {
    stage: Stage,
    failure: Failure,
    next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another address may do better.
    Address,
    /// The same address without TLS.
    Clear,
    /// It would be the same everywhere.
    Nothing,
}

fn stop(stage: Stage, next: Next) -> impl FnOnce(Failure) -> Stop {
    move |failure| Stop { stage, failure, next }
}

struct Attempt<'a> {
    endpoint: &'a Endpoint,
    settings: &'a ClientSettings,
    session: Session<'a>,
}

impl Attempt<'_> {
    async fn at(&mut self, peer: SocketAddr) -> Result<Capabilities, Stop> {
        self.session.take_source(peer.ip());
        let (memory, host) = (self.session.memory(), self.endpoint.host.as_str());
        let opportunistic = self.endpoint.tls == TlsMode::Opportunistic && self.settings.auth.is_none();
        let habit = memory.of(host, peer.ip());
        if opportunistic && habit == Some(Habit::Clear) {
            return self.session(peer, TlsMode::None).await;
        }
        let known = if habit == Some(Habit::Reduced) { Opening::Reduced } else { Opening::Full };
        self.session.set_opening(known);
        let mut outcome = self.session(peer, self.endpoint.tls).await;
        if known == Opening::Full && is_clear(&outcome) {
            self.session.set_opening(Opening::Reduced);
            outcome = self.session(peer, self.endpoint.tls).await;
            if outcome.is_ok() && self.session.tls().is_some() {
                memory.learn(host, peer.ip(), Habit::Reduced);
            }
        }
        if is_clear(&outcome) {
            outcome = self.session(peer, TlsMode::None).await;
            match (&outcome, known) {
                // It worked once: the next connection finds out what does now.
                (_, Opening::Reduced) => memory.forget(host, peer.ip()),
                (Ok(_), Opening::Full) if opportunistic => memory.learn(host, peer.ip(), Habit::Clear),
                _ => {}
            }
        }
        outcome
    }

    async fn session(&mut self, peer: SocketAddr, mode: TlsMode) -> Result<Capabilities, Stop> {
        self.session.dial(peer).await.map_err(stop(Stage::Tcp, Next::Address))?;
        if mode == TlsMode::Implicit {
            self.handshake(mode).await?;
        }
        self.session.greeting().await.map_err(stop(Stage::Banner, Next::Address))?;
        let mut hello = self.session.hello().await.map_err(stop(Stage::Ehlo, Next::Address))?;
        if self.start_tls(hello.capabilities.starttls, mode).await? {
            self.handshake(mode).await?;
            hello = self.session.hello().await.map_err(stop(Stage::Ehlo, Next::Address))?;
        }
        if let Some(auth) = &self.settings.auth {
            let offered = &hello.capabilities.auth;
            self.session.authenticate(offered, auth).await.map_err(stop(Stage::Auth, Next::Nothing))?;
        }
        Ok(hello.capabilities)
    }

    /// STARTTLS where the mode wants it; says whether the handshake may begin.
    async fn start_tls(&mut self, offered: bool, mode: TlsMode) -> Result<bool, Stop> {
        match mode {
            TlsMode::None | TlsMode::Implicit => return Ok(false),
            TlsMode::Opportunistic if !offered => return Ok(false),
            TlsMode::Required if !offered => {
                let failure = Failure::StartTlsMissing;
                self.session.note(Stage::Tls, self.session.now_us(), Err(&failure));
                return Err(Stop { stage: Stage::Tls, failure, next: Next::Nothing });
            }
            TlsMode::Opportunistic | TlsMode::Required => {}
        }
        match (self.session.start_tls().await, mode) {
            (Ok(_), _) => Ok(true),
            // Refused in order: the session goes on as it is.
            (Err(Failure::Refused(reply)), TlsMode::Opportunistic) if reply.code != 421 => Ok(false),
            (Err(failure @ (Failure::Refused(_) | Failure::Disconnected)), TlsMode::Opportunistic) => {
                Err(Stop { stage: Stage::Tls, failure, next: Next::Address })
            }
            (Err(failure), _) => Err(Stop { stage: Stage::Tls, failure, next: Next::Nothing }),
        }
    }

    async fn handshake(&mut self, mode: TlsMode) -> Result<(), Stop> {
        let with_secrets = self.settings.auth.as_ref().is_some_and(|auth| !auth.allow_plaintext);
        let verify = match mode {
            TlsMode::Opportunistic if !with_secrets => Verify::Opportunistic,
            _ if self.settings.verify => Verify::Full,
            _ => Verify::Opportunistic,
        };
        let next = match mode {
            TlsMode::Opportunistic if !with_secrets => Next::Clear,
            _ => Next::Nothing,
        };
        self.session.handshake(verify).await.map_err(stop(Stage::Tls, next))
    }
}

fn is_clear<T>(outcome: &Result<T, Stop>) -> bool {
    matches!(outcome, Err(Stop { next: Next::Clear, .. }))
}

/// Which of several failures stands for all: one that may pass with time before one that says "never", and a word
/// of the server before the lack of a route.
fn rank(failure: &Failure) -> u8 {
    match failure {
        Failure::Refused(reply) if reply.class() == 5 => 1,
        Failure::ConnectFailed { .. } => 0,
        Failure::Refused(_) => 3,
        _ => 2,
    }
}

fn chosen(addresses: &[IpAddr], settings: &ClientSettings) -> impl Iterator<Item = IpAddr> {
    let (mut six, mut four) = (0, 0);
    addresses.iter().copied().filter(move |address| {
        let from: Vec<bool> = match settings.sources.as_slice() {
            [] => settings.source.iter().map(IpAddr::is_ipv4).collect(),
            sources => sources.iter().map(|source| source.address.is_ipv4()).collect(),
        };
        if !from.is_empty() && !from.contains(&address.is_ipv4()) {
            return false;
        }
        let count = if address.is_ipv4() { &mut four } else { &mut six };
        *count += 1;
        *count <= MAX_TRIED
    })
}
