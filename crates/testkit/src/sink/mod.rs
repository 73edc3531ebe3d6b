//! An SMTP server that does what the test says: takes mail and keeps it, refuses, hangs, hangs up, talks rubbish.
//!
//! Behaviour comes from rules ([`Rule`]: stage, text, how often, what) and from tags in recipients' local parts:
//! `+p550` refuses with 550 at RCPT, `+t451` with 451, `+n2` refuses twice with 451 and then accepts, `+d550`
//! answers 550 after the final dot. It is not a model of good manners: it accepts anything the rules allow.

mod session;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::ca::Issued;
use crate::ledger::Entry;

/// Where in the conversation a rule acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before the banner.
    Connect,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// AUTH, with its first line.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA or BDAT.
    Data,
    /// The content has arrived; the text is the content's header.
    Message,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Answers with this (without the last CRLF; may have several lines) instead of the usual.
    Reply(String),
    /// Answers with this and hangs up.
    Close(String),
    /// Hangs up at once.
    Drop,
    /// Says nothing until [`Sink::release`], then goes on as usual.
    Hang,
    /// Sends octets that are no reply, then goes on as usual.
    Garbage(Vec<u8>),
    /// Goes on as usual, then hangs up instead of (or after) answering: the fate of the message is unknown.
    AcceptThenDrop,
}

/// One behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    stage: Stage,
    text: Option<String>,
    left: Option<u32>,
    act: Act,
}

impl Rule {
    /// Does `act` whenever the conversation comes to `stage`.
    pub fn at(stage: Stage, act: Act) -> Self {
        Self { stage, text: None, left: None, act }
    }
    /// Answers with a reply.
    pub fn reply(stage: Stage, reply: &str) -> Self {
        Self::at(stage, Act::Reply(reply.to_owned()))
    }
    /// Only where the command line (or the header) has this text.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.text = Some(text.to_ascii_lowercase());
        self
    }
    /// Only the first `n` times.
    #[must_use]
    pub fn times(mut self, n: u32) -> Self {
        self.left = Some(n);
        self
    }
}

/// TLS of the sink.
#[derive(Clone, Default)]
pub enum Tls {
    /// None.
    #[default]
    None,
    /// STARTTLS is offered.
    StartTls(Issued),
    /// From the first octet.
    Implicit(Issued),
}

/// What EHLO offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extensions {
    /// PIPELINING.
    pub pipelining: bool,
    /// 8BITMIME.
    pub eight_bit_mime: bool,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// SIZE with this limit, enforced after the content.
    pub size: Option<usize>,
    /// CHUNKING.
    pub chunking: bool,
    /// DSN.
    pub dsn: bool,
    /// ENHANCEDSTATUSCODES.
    pub enhanced_status_codes: bool,
    /// Further lines.
    pub further: Vec<String>,
    /// Most recipients a transaction may have; more get 452 4.5.3.
    pub max_recipients: Option<usize>,
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            pipelining: true,
            eight_bit_mime: true,
            smtputf8: true,
            size: None,
            chunking: true,
            dsn: true,
            enhanced_status_codes: true,
            further: Vec::new(),
            max_recipients: None,
        }
    }
}

impl Extensions {
    /// Nothing but RFC 5321 §4.5.1.
    pub fn none() -> Self {
        Self {
            pipelining: false,
            eight_bit_mime: false,
            smtputf8: false,
            size: None,
            chunking: false,
            dsn: false,
            enhanced_status_codes: false,
            further: Vec::new(),
            max_recipients: None,
        }
    }
}

/// How to start a [`Sink`].
#[derive(Clone, Default)]
pub struct SinkOptions {
    /// TLS.
    pub tls: Tls,
    /// Users with passwords; AUTH PLAIN LOGIN is offered if there are any, and required for MAIL.
    pub users: Vec<(String, String)>,
    /// What EHLO offers.
    pub extensions: Extensions,
    /// The greeting behind its code; `sink.test ESMTP` if not given.
    pub greeting: Option<String>,
    /// Rules from the start.
    pub rules: Vec<Rule>,
    /// A file that gets one synced JSON line per accepted message before its 250; see [`crate::ledger`].
    pub ledger: Option<PathBuf>,
    /// Where to listen; a free port of 127.0.0.1 if not given. For a sink that comes back after [`Sink::stop`].
    pub address: Option<SocketAddr>,
    /// Counts messages and writes the ledger, but keeps nothing in memory.
    pub forget: bool,
}

/// A message the sink has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Which connection, from 1.
    pub connection: u64,
    /// EHLO or HELO name.
    pub helo: String,
    /// Came over TLS.
    pub tls: bool,
    /// Authenticated user.
    pub user: Option<String>,
    /// Address in MAIL, without brackets.
    pub from: String,
    /// Parameters of MAIL as written.
    pub parameters: String,
    /// Accepted recipients, without brackets.
    pub to: Vec<String>,
    /// Content without dot-stuffing, CRLF lines.
    pub content: Vec<u8>,
}

impl Received {
    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
    /// First value of a header field, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.content, name)
    }
    /// What follows the empty line.
    pub fn body(&self) -> &[u8] {
        let start = self.content.windows(4).position(|w| w == b"\r\n\r\n").map_or(self.content.len(), |at| at + 4);
        &self.content[start..]
    }
}

/// First value of a header field, unfolded.
pub(crate) fn header(content: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(content);
    let head = text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
    let line = head.lines().find(|line| {
        line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && line[name.len()..].trim_start().starts_with(':')
    })?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

pub(crate) struct Shared {
    options: SinkOptions,
    rules: Mutex<Vec<Rule>>,
    refusals: Mutex<HashMap<String, u32>>,
    received: Mutex<Vec<Received>>,
    commands: Mutex<Vec<(u64, String)>>,
    ledger: Mutex<Option<File>>,
    news: Notify,
    released: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    connections: AtomicU64,
    count: AtomicU64,
    open: AtomicUsize,
    most: AtomicUsize,
    hanging: AtomicUsize,
}

/// A running sink. Stops, with all its connections, when dropped.
pub struct Sink {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Sink {
    /// A sink without TLS and AUTH that accepts everything.
    pub async fn start() -> Self {
        Self::with(SinkOptions::default()).await
    }

    /// A sink as described.
    pub async fn with(options: SinkOptions) -> Self {
        let wanted = options.address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(wanted).await.expect("bind");
        let address = listener.local_addr().expect("address");
        let ledger = options
            .ledger
            .as_ref()
            .map(|path| OpenOptions::new().create(true).append(true).open(path).expect("open the ledger"));
        let shared = Arc::new(Shared {
            rules: Mutex::new(options.rules.clone()),
            refusals: Mutex::default(),
            received: Mutex::default(),
            commands: Mutex::default(),
            ledger: Mutex::new(ledger),
            news: Notify::new(),
            released: watch::channel(0).0,
            closing: watch::channel(false).0,
            connections: AtomicU64::new(0),
            count: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            hanging: AtomicUsize::new(0),
            options,
        });
        let task = tokio::spawn(session::listen(listener, Arc::clone(&shared)));
        Self { shared, address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
    /// Adds a rule; earlier rules go first.
    pub fn add(&self, rule: Rule) -> &Self {
        self.shared.rules.lock().push(rule);
        self
    }
    /// Removes all rules.
    pub fn behave(&self) -> &Self {
        self.shared.rules.lock().clear();
        self
    }
    /// Lets everything that hangs now go on.
    pub fn release(&self) {
        self.shared.released.send_modify(|n| *n += 1);
    }
    /// How many connections hang now.
    pub fn hanging(&self) -> usize {
        self.shared.hanging.load(Ordering::SeqCst)
    }
    /// Accepted messages so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }
    /// Number of accepted messages so far.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::SeqCst)
    }
    /// Every command line so far, with its connection's number; AUTH lines are shortened.
    pub fn commands(&self) -> Vec<(u64, String)> {
        self.shared.commands.lock().clone()
    }
    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
    /// Most connections open at one time.
    pub fn most_open(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// Waits for at least `n` messages and gives all; panics when it takes longer than `patience`.
    pub async fn wait_for(&self, n: usize, patience: Duration) -> Vec<Received> {
        let enough = self.wait_until(patience, |sink| sink.count() >= n as u64).await;
        assert!(enough, "expected {n} messages, have {} after {patience:?}", self.count());
        self.received()
    }

    /// Waits until a condition of this sink holds; false when it takes longer than `patience`. The condition is looked
    /// at whenever a connection, command, message or hang-up happens.
    pub async fn wait_until(&self, patience: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let news = self.shared.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if condition(self) {
                return true;
            }
            if tokio::time::timeout_at(until, news).await.is_err() {
                return condition(self);
            }
        }
    }

    /// Closes the listener and all connections, and gives the address for [`SinkOptions::address`].
    pub async fn stop(mut self) -> SocketAddr {
        self.shared.closing.send_replace(true);
        let _ = (&mut self.task).await;
        self.address
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.closing.send_replace(true);
        self.task.abort();
    }
}

impl Shared {
    /// The act of the first rule that fits; its count goes down.
    fn act(&self, stage: Stage, text: &str) -> Option<Act> {
        let text = text.to_ascii_lowercase();
        let mut rules = self.rules.lock();
        let rule = rules.iter_mut().find(|rule| {
            rule.stage == stage
                && rule.left != Some(0)
                && rule.text.as_ref().is_none_or(|wanted| text.contains(wanted.as_str()))
        })?;
        rule.left = rule.left.map(|left| left - 1);
        Some(rule.act.clone())
    }

    /// Keeps a message; durable in the ledger before the caller says 250.
    fn keep(&self, received: Received) {
        if let Some(file) = self.ledger.lock().as_mut() {
            let id = header(&received.content, "X-Load-Id").or_else(|| header(&received.content, "Message-ID"));
            let entry = Entry { id: id.unwrap_or_default(), to: received.to.clone() };
            let mut line = serde_json::to_vec(&entry).expect("entry");
            line.push(b'\n');
            file.write_all(&line).and_then(|()| file.sync_data()).expect("write the ledger");
        }
        if !self.options.forget {
            self.received.lock().push(received);
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        self.news.notify_waiters();
    }

    /// The refusal a recipient's tag asks for.
    fn tagged(&self, address: &str) -> Option<String> {
        let tag = tag(address)?;
        let number: u32 = tag.get(1..)?.parse().ok()?;
        match tag.as_bytes()[0] {
            b'p' => Some(format!("{number} 5.7.1 refused as the tag says")),
            b't' => Some(format!("{number} 4.7.1 refused for now as the tag says")),
            b'n' => {
                let mut refusals = self.refusals.lock();
                let so_far = refusals.entry(address.to_ascii_lowercase()).or_default();
                (*so_far < number).then(|| {
                    *so_far += 1;
                    format!("451 4.7.1 refusal {so_far} of {number}")
                })
            }
            _ => None,
        }
    }

    /// The reply after the dot that a recipient's tag asks for.
    fn tagged_content(&self, to: &[String]) -> Option<String> {
        let number = to.iter().find_map(|address| tag(address)?.strip_prefix('d')?.parse::<u16>().ok())?;
        Some(format!("{number} {}.6.0 content refused as the tag says", number / 100))
    }
}

fn tag(address: &str) -> Option<&str> {
    let local = address.rsplit_once('@')?.0;
    let tag = local.rsplit_once('+')?.1;
    (tag.len() > 1).then_some(tag)
}
