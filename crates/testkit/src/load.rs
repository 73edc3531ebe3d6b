//! A load that remembers what it was promised: many connections, and a ledger of ids by fate.
//!
//! Connections that die are opened again until the load is stopped, so the server may be killed meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::client::Client;

/// What to send.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Where to; STARTTLS is not used (crash stories are not about TLS).
    pub address: SocketAddr,
    /// Connections at a time.
    pub connections: usize,
    /// Stop after so many messages have an outcome; `None`: until [`Load::stop`].
    pub messages: Option<u64>,
    /// Messages per connection before QUIT; `None`: for ever.
    pub per_connection: Option<u64>,
    /// Recipients per message.
    pub recipients: usize,
    /// Octets of the body.
    pub body: usize,
    /// AUTH PLAIN.
    pub auth: Option<(String, String)>,
    /// MAIL FROM.
    pub from: String,
    /// Domains of the recipients, in turn.
    pub domains: Vec<String>,
    /// Ids start with it: two loads on one ledger must differ in it.
    pub prefix: String,
    /// Pause between the messages of one connection.
    pub pause: Duration,
}

impl LoadPlan {
    /// Four connections, one recipient, 2 KiB, until stopped.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connections: 4,
            messages: None,
            per_connection: None,
            recipients: 1,
            body: 2048,
            auth: None,
            from: "load@sender.test".to_owned(),
            domains: vec!["dest.test".to_owned()],
            prefix: "load".to_owned(),
            pause: Duration::ZERO,
        }
    }
}

/// What became of each message: id and recipients.
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    /// 250 after the dot.
    pub acknowledged: BTreeMap<String, Vec<String>>,
    /// A clear refusal at any stage.
    pub refused: BTreeMap<String, Vec<String>>,
    /// No reply after the dot may have been sent.
    pub unknown: BTreeMap<String, Vec<String>>,
    /// Refusals by code.
    pub codes: BTreeMap<u16, u64>,
    /// Connections opened.
    pub connections: u64,
}

struct Shared {
    plan: LoadPlan,
    report: Mutex<LoadReport>,
    next: AtomicU64,
    acknowledged: AtomicU64,
    stopped: AtomicBool,
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts it.
    pub fn start(plan: LoadPlan) -> Self {
        let shared = Arc::new(Shared {
            report: Mutex::default(),
            next: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            plan,
        });
        let mut tasks = JoinSet::new();
        for _ in 0..shared.plan.connections {
            tasks.spawn(worker(Arc::clone(&shared)));
        }
        Self { shared, tasks }
    }

    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// No new messages; waits for the replies that are due and gives the report.
    pub async fn stop(mut self) -> LoadReport {
        self.shared.stopped.store(true, Ordering::SeqCst);
        while self.tasks.join_next().await.is_some() {}
        self.shared.report.lock().clone()
    }

    /// Waits until [`LoadPlan::messages`] have an outcome.
    pub async fn finish(mut self) -> LoadReport {
        while self.tasks.join_next().await.is_some() {}
        self.shared.report.lock().clone()
    }
}

async fn worker(shared: Arc<Shared>) {
    while !shared.stopped.load(Ordering::SeqCst) && shared.has_more() {
        if connection(&shared).await.is_err() {
            // The server is away: it is being restarted.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn connection(shared: &Shared) -> std::io::Result<()> {
    let mut client = Client::raw(shared.plan.address).await?;
    let refused = || std::io::Error::other("refused");
    if client.try_reply().await?.code != 220 || client.try_command("EHLO load.test").await?.code != 250 {
        return Err(refused());
    }
    shared.report.lock().connections += 1;
    if let Some((user, password)) = &shared.plan.auth {
        use base64::Engine as _;
        let initial = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"));
        if client.try_command(&format!("AUTH PLAIN {initial}")).await?.code != 235 {
            return Err(refused());
        }
    }
    let mut sent = 0;
    while !shared.stopped.load(Ordering::SeqCst) && shared.plan.per_connection.is_none_or(|max| sent < max) {
        let Some((id, to)) = shared.next() else { break };
        sent += 1;
        shared.one(&mut client, id, to).await?;
        if !shared.plan.pause.is_zero() {
            tokio::time::sleep(shared.plan.pause).await;
        }
    }
    let _ = client.try_command("QUIT").await;
    Ok(())
}

impl Shared {
    fn has_more(&self) -> bool {
        self.plan.messages.is_none_or(|max| self.next.load(Ordering::SeqCst) < max)
    }

    fn next(&self) -> Option<(String, Vec<String>)> {
        let n = self.next.fetch_add(1, Ordering::SeqCst);
        if self.plan.messages.is_some_and(|max| n >= max) {
            return None;
        }
        let domain = |i: usize| &self.plan.domains[(n as usize + i) % self.plan.domains.len()];
        let to = (0..self.plan.recipients).map(|i| format!("r{n}-{i}@{}", domain(i))).collect();
        Some((format!("{}-{n}", self.plan.prefix), to))
    }

    /// Sends one message and books its fate. Before the dot nothing can have been accepted; after it, only a reply tells.
    async fn one(&self, client: &mut Client, id: String, to: Vec<String>) -> std::io::Result<()> {
        let refuse = |code: Option<u16>, id: String, to: Vec<String>| {
            let mut report = self.report.lock();
            if let Some(code) = code {
                *report.codes.entry(code).or_default() += 1;
            }
            report.refused.insert(id, to);
        };
        match self.offer(client, &to).await {
            Ok(None) => {}
            Ok(Some(code)) => {
                refuse(Some(code), id, to);
                return Ok(());
            }
            Err(error) => {
                refuse(None, id, to);
                return Err(error);
            }
        }
        let answer = match client.send_raw(self.content(&id, &to).as_bytes()).await {
            Ok(()) => client.try_reply().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) if answer.code == 250 => {
                self.report.lock().acknowledged.insert(id, to);
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            // A server that goes away with 421 has not taken the message (RFC 5321 §3.8).
            Ok(answer) => {
                refuse(Some(answer.code), id, to);
                if answer.code == 421 { Err(std::io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
            }
            Err(error) => {
                self.report.lock().unknown.insert(id, to);
                Err(error)
            }
        }
    }

    /// The envelope; gives the code of a refusal. A refused transaction is reset.
    async fn offer(&self, client: &mut Client, to: &[String]) -> std::io::Result<Option<u16>> {
        let mut lines = vec![format!("MAIL FROM:<{}>", self.plan.from)];
        lines.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        lines.push("DATA".to_owned());
        for line in lines {
            let answer = client.try_command(&line).await?;
            if !matches!(answer.code, 250 | 354) {
                if answer.code == 421 {
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
                let _ = client.try_command("RSET").await?;
                return Ok(Some(answer.code));
            }
        }
        Ok(None)
    }

    fn content(&self, id: &str, to: &[String]) -> String {
        let line = "the quick brown fox jumps over the lazy dog and goes on to the next line\r\n";
        let body: String = line.repeat(self.plan.body.div_ceil(line.len()));
        let first = to.first().map(String::as_str).unwrap_or_default();
        format!(
            "From: <{}>\r\nTo: <{first}>\r\nSubject: {id}\r\nMessage-ID: <{id}@load.test>\r\nX-Load-Id: {id}\r\n\r\n{body}.\r\n",
            self.plan.from
        )
    }
}
