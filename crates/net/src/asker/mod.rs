//! Questions of a diagnosis, sent by ourselves: a few UDP sockets with many questions each, TCP for what does not fit.
//!
//! A diagnosis asks some dozens of questions for each domain, and lists of domains have thousands. The resolver that
//! delivers opens a socket and starts a task for each question, which costs more than everything else an audit does.
//! Nothing is validated here; whoever wants signatures checked asks the resolver that does.

mod cache;
mod line;
mod read;
mod wire;

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::Name;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::cache::Cache;
use self::line::{Line, in_words};
use self::read::Read;
pub(crate) use self::wire::Recursion;
use self::wire::{Edns, Packet};
use crate::clock::Clock;
use crate::lookup::{Answer, Kind, Outcome, fully_qualified, record_type};

/// Questions on their way at the same time; home routers drop what is more.
const AT_ONCE: usize = 256;
/// Sockets to each server.
const LINES: usize = 4;
/// Questions after which a socket is replaced, so that its port cannot be found out and used for forged answers.
const WORN: u32 = 20_000;
/// An answer that takes longer is asked for again.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
/// Aliases that are followed by asking again (a server that answers for itself names only the next).
const MAX_ALIASES: usize = 8;

/// A client for questions; shared.
pub(crate) struct Asker {
    servers: Vec<Server>,
    timeout: Duration,
    recursion: Recursion,
    /// `None`: every question goes out.
    cache: Option<Cache>,
    /// Of this machine; they win over the DNS, for those who ask the machine's own resolver.
    hosts: Option<Hosts>,
    places: Semaphore,
    secret: RandomState,
    counter: AtomicU64,
}

struct Server {
    address: SocketAddr,
    lines: Mutex<Vec<Arc<Line>>>,
}

impl Asker {
    pub(crate) fn new(servers: Vec<SocketAddr>, timeout: Duration, recursion: Recursion, hosts: Option<Hosts>) -> Self {
        let server = |address| Server { address, lines: Mutex::default() };
        Self {
            servers: servers.into_iter().map(server).collect(),
            timeout,
            recursion,
            cache: (recursion == Recursion::Desired).then(|| Cache::new(Clock::system())),
            hosts,
            places: Semaphore::new(AT_ONCE),
            secret: RandomState::new(),
            counter: AtomicU64::new(0),
        }
    }

    /// Whether the hosts file of this machine has the name.
    pub(crate) fn is_in_hosts_file(&self, name: &Name, kind: Kind) -> bool {
        let Some(hosts) = &self.hosts else { return false };
        hosts.lookup_static_host(&Query::query(name.clone(), record_type(kind))).is_some()
    }

    /// Asks, or knows. Bounded by the time limit.
    pub(crate) async fn query(&self, name: &str, kind: Kind) -> Answer {
        let plain = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match &self.cache {
            // In a box: audits hold dozens of these side by side, and most are answered without asking.
            Some(cache) => cache.get((plain.clone(), kind), || Box::pin(self.find(&plain, kind))).await,
            None => Box::pin(self.find(&plain, kind)).await,
        }
    }

    /// Asks, and follows aliases that the server does not.
    async fn find(&self, name: &str, kind: Kind) -> Answer {
        let (mut at, mut aliases) = (name.to_owned(), Vec::new());
        loop {
            let Some(asked) = fully_qualified(&at) else { return Answer::without(Outcome::NxDomain) };
            let answer = match self.fetch(&at, kind).await {
                Ok(message) => read::answer(&asked, kind, &message),
                Err(reason) => Read::Done(Answer::without(Outcome::Failed(reason))),
            };
            match answer {
                Read::Done(mut answer) => {
                    answer.aliases.splice(..0, aliases);
                    return answer;
                }
                Read::Follow(more) => {
                    at = more.last().cloned().unwrap_or_default();
                    let turns_back = more.iter().any(|alias| *alias == name || aliases.contains(alias));
                    aliases.extend(more);
                    if turns_back || aliases.len() > MAX_ALIASES {
                        return Answer { aliases, ..Answer::without(Outcome::Failed("aliases without an end".into())) };
                    }
                }
            }
        }
    }

    async fn fetch(&self, name: &str, kind: Kind) -> Result<Message, String> {
        // Never closed; and waiting for our turn is no silence of the server.
        let _place = self.places.acquire().await.map_err(|_| "closed".to_owned())?;
        timeout(self.timeout, self.tries(name, kind)).await.unwrap_or_else(|_| Err("timeout".into()))
    }

    /// Servers in turn, at least three tries, longer waits each time; what the last one said counts.
    async fn tries(&self, name: &str, kind: Kind) -> Result<Message, String> {
        let shares = [5, 3, 2];
        let mut last = Err("there is no name server to ask".into());
        for round in 0..self.servers.len().max(shares.len()) {
            let Some(server) = self.servers.get(round % self.servers.len().max(1)) else { break };
            let wait = (self.timeout / shares.get(round).copied().unwrap_or(2)).max(SHORTEST_WAIT);
            match timeout(wait, self.once(server, name, kind)).await {
                Err(_) => last = Err("timeout".into()),
                Ok(Err(reason)) => last = Err(reason),
                Ok(Ok(message)) => {
                    let code = message.metadata.response_code;
                    let refuses = matches!(code, ResponseCode::ServFail | ResponseCode::Refused);
                    last = Ok(message);
                    if !refuses || round + 1 >= self.servers.len() {
                        break;
                    }
                }
            }
        }
        last
    }

    async fn once(&self, server: &Server, name: &str, kind: Kind) -> Result<Message, String> {
        let message = self.exchange(server, &self.packet(name, kind, Edns::Yes)).await?;
        match message.metadata.response_code {
            // RFC 6891 §7: servers from before.
            ResponseCode::FormErr | ResponseCode::NotImp => {
                self.exchange(server, &self.packet(name, kind, Edns::No)).await
            }
            _ => Ok(message),
        }
    }

    fn packet(&self, name: &str, kind: Kind, edns: Edns) -> Packet {
        Packet::new(name, record_type(kind).into(), self.recursion, edns)
    }

    async fn exchange(&self, server: &Server, packet: &Packet) -> Result<Message, String> {
        let line = self.line(server).await?;
        let mut answer = line.ask(packet, || self.id()).await?;
        if wire::is_truncated(&answer) {
            answer = over_tcp(server.address, &packet.clone().with_id(self.id())).await?;
        }
        Message::from_vec(&answer).map_err(|error| format!("an answer that cannot be read: {error}"))
    }

    /// An id nobody can guess.
    fn id(&self) -> u16 {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let [a, b, ..] = self.secret.hash_one(n).to_be_bytes();
        u16::from_be_bytes([a, b])
    }

    /// A socket to a server, opened when needed.
    async fn line(&self, server: &Server) -> Result<Arc<Line>, String> {
        let turn = self.secret.hash_one(self.counter.fetch_add(1, Ordering::Relaxed)) as usize % LINES;
        {
            let mut lines = server.lines.lock();
            lines.retain(|line| line.used() < WORN);
            if let Some(line) = lines.get(turn) {
                return Ok(Arc::clone(line));
            }
        }
        let line = Arc::new(Line::open(server.address).await.map_err(|error| in_words(&error))?);
        let mut lines = server.lines.lock();
        if lines.len() < LINES {
            lines.push(Arc::clone(&line));
        }
        Ok(line)
    }
}

/// RFC 7766 §5.
async fn over_tcp(server: SocketAddr, packet: &Packet) -> Result<Vec<u8>, String> {
    let talk = async {
        let mut tcp = TcpStream::connect(server).await?;
        let length = u16::try_from(packet.octets().len()).unwrap_or_default();
        tcp.write_all(&[&length.to_be_bytes(), packet.octets()].concat()).await?;
        let mut octets = vec![0; tcp.read_u16().await?.into()];
        tcp.read_exact(&mut octets).await?;
        Ok::<_, std::io::Error>(octets)
    };
    let octets = talk.await.map_err(|error| format!("the answer does not fit UDP, and over TCP: {error}"))?;
    if packet.fits(&octets) { Ok(octets) } else { Err("an answer to another question".into()) }
}
