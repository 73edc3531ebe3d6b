//! One connection of the sink: reads commands, asks the rules, answers.
//!
//! Independent of `proto` on purpose: a mistake there must not hide itself here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Act, Received, Shared, Stage, Tls};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
type Link = BufReader<Box<dyn Stream>>;

/// The connection is over.
struct Over;
impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

pub(super) async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next() => continue,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let Ok((socket, _)) = accepted else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(open, Ordering::SeqCst);
        shared.news.notify_waiters();
        let shared = Arc::clone(&shared);
        sessions.spawn(async move {
            let mut closing = shared.closing.subscribe();
            let guard = Open(Arc::clone(&shared));
            tokio::select! {
                _ = converse(socket, number, Arc::clone(&shared)) => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
            drop(guard);
        });
    }
    sessions.shutdown().await;
}

struct Open(Arc<Shared>);
impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.news.notify_waiters();
    }
}

async fn converse(socket: TcpStream, number: u64, shared: Arc<Shared>) -> Result<(), Over> {
    let _ = socket.set_nodelay(true);
    let mut session = Session::new(Box::new(socket), number, shared);
    if let Tls::Implicit(issued) = session.shared.options.tls.clone() {
        session.start_tls(TlsAcceptor::from(issued.server_config())).await?;
    }
    session.run().await
}

struct Session {
    link: Link,
    number: u64,
    shared: Arc<Shared>,
    helo: String,
    tls: bool,
    user: Option<String>,
    from: Option<(String, String)>,
    to: Vec<String>,
    chunks: Vec<u8>,
}

impl Session {
    fn new(stream: Box<dyn Stream>, number: u64, shared: Arc<Shared>) -> Self {
        Self {
            link: BufReader::new(stream),
            number,
            shared,
            helo: String::new(),
            tls: false,
            user: None,
            from: None,
            to: Vec::new(),
            chunks: Vec::new(),
        }
    }

    async fn run(&mut self) -> Result<(), Over> {
        let greeting = self.shared.options.greeting.as_deref().unwrap_or("sink.test ESMTP");
        let greeting = format!("220 {greeting}");
        self.step(Stage::Connect, "", &greeting).await?;
        loop {
            let line = self.line().await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((line.as_str(), ""));
            let shown = if verb.eq_ignore_ascii_case("AUTH") {
                format!("AUTH {}", rest.split(' ').next().unwrap_or_default())
            } else {
                line.clone()
            };
            self.shared.commands.lock().push((self.number, shown));
            self.shared.news.notify_waiters();
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.ehlo(&line, rest).await?,
                "HELO" => {
                    self.greeted(rest);
                    self.step(Stage::Ehlo, &line, "250 sink.test").await?;
                }
                "STARTTLS" => self.upgrade(&line).await?,
                "AUTH" => self.auth(&line, rest).await?,
                "MAIL" => self.mail(&line).await?,
                "RCPT" => self.rcpt(&line).await?,
                "DATA" => self.data(&line).await?,
                "BDAT" => self.bdat(&line, rest).await?,
                "RSET" => {
                    self.forget();
                    self.step(Stage::Rset, &line, "250 2.0.0 reset").await?;
                }
                "NOOP" => {
                    self.step(Stage::Noop, &line, "250 2.0.0 ok").await?;
                }
                "QUIT" => {
                    self.step(Stage::Quit, &line, "221 2.0.0 bye").await?;
                    self.link.shutdown().await?;
                    return Ok(());
                }
                _ => self.say("500 5.5.1 unknown command").await?,
            }
        }
    }

    /// Lets the rules act; gives true if the usual reply has been sent and the command took effect.
    async fn step(&mut self, stage: Stage, text: &str, usual: &str) -> Result<bool, Over> {
        let act = self.shared.act(stage, text);
        self.perform(act, usual).await
    }

    async fn perform(&mut self, act: Option<Act>, usual: &str) -> Result<bool, Over> {
        match act {
            None => self.say(usual).await?,
            Some(Act::Reply(reply)) => {
                self.say(&reply).await?;
                return Ok(reply.starts_with(['2', '3']));
            }
            Some(Act::Close(reply)) => {
                self.say(&reply).await?;
                self.link.shutdown().await?;
                return Err(Over);
            }
            Some(Act::Drop | Act::AcceptThenDrop) => return Err(Over),
            Some(Act::Hang) => {
                self.hang().await;
                self.say(usual).await?;
            }
            Some(Act::Garbage(octets)) => {
                self.link.write_all(&octets).await?;
                self.say(usual).await?;
            }
        }
        Ok(true)
    }

    async fn hang(&mut self) {
        let mut released = self.shared.released.subscribe();
        released.mark_unchanged();
        self.shared.hanging.fetch_add(1, Ordering::SeqCst);
        self.shared.news.notify_waiters();
        let _ = released.changed().await;
        self.shared.hanging.fetch_sub(1, Ordering::SeqCst);
    }

    async fn say(&mut self, reply: &str) -> Result<(), Over> {
        let text = format!("{}\r\n", reply.replace('\n', "\r\n"));
        self.link.write_all(text.as_bytes()).await?;
        self.link.flush().await?;
        Ok(())
    }

    /// One line without its end.
    async fn line(&mut self) -> Result<String, Over> {
        let mut line = Vec::new();
        if self.link.read_until(b'\n', &mut line).await? == 0 {
            return Err(Over);
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn greeted(&mut self, name: &str) {
        name.trim().clone_into(&mut self.helo);
        self.forget();
    }

    fn forget(&mut self) {
        self.from = None;
        self.to.clear();
        self.chunks.clear();
    }

    async fn ehlo(&mut self, line: &str, name: &str) -> Result<(), Over> {
        self.greeted(name);
        let offered = &self.shared.options.extensions;
        let mut lines = vec!["sink.test".to_owned()];
        let words = [
            (offered.pipelining, "PIPELINING"),
            (offered.eight_bit_mime, "8BITMIME"),
            (offered.smtputf8, "SMTPUTF8"),
            (offered.chunking, "CHUNKING"),
            (offered.dsn, "DSN"),
            (offered.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
            (matches!(self.shared.options.tls, Tls::StartTls(_)) && !self.tls, "STARTTLS"),
            (!self.shared.options.users.is_empty() && self.user.is_none(), "AUTH PLAIN LOGIN"),
        ];
        lines.extend(words.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_owned()));
        lines.extend(offered.size.map(|size| format!("SIZE {size}")));
        lines.extend(offered.further.iter().cloned());
        let last = lines.len() - 1;
        let reply: Vec<String> =
            lines.iter().enumerate().map(|(i, l)| format!("250{}{l}", if i == last { ' ' } else { '-' })).collect();
        self.step(Stage::Ehlo, line, &reply.join("\n")).await?;
        Ok(())
    }

    async fn upgrade(&mut self, line: &str) -> Result<(), Over> {
        let Tls::StartTls(issued) = self.shared.options.tls.clone() else {
            return self.say("502 5.5.1 no TLS here").await;
        };
        if self.step(Stage::StartTls, line, "220 2.0.0 go ahead").await? {
            self.forget();
            self.user = None;
            self.start_tls(TlsAcceptor::from(issued.server_config())).await?;
        }
        Ok(())
    }

    async fn start_tls(&mut self, acceptor: TlsAcceptor) -> Result<(), Over> {
        let (placeholder, _) = tokio::io::duplex(1);
        let link = std::mem::replace(&mut self.link, BufReader::new(Box::new(placeholder)));
        let stream = acceptor.accept(link.into_inner()).await?;
        self.link = BufReader::new(Box::new(stream));
        self.tls = true;
        Ok(())
    }

    async fn auth(&mut self, line: &str, rest: &str) -> Result<(), Over> {
        let (mechanism, initial) = rest.split_once(' ').map_or((rest, None), |(m, i)| (m, Some(i.to_owned())));
        let credentials = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let answer = self.challenge(initial, "").await?;
                let mut parts = answer.split('\0').skip(1).map(str::to_owned);
                parts.next().zip(parts.next())
            }
            "LOGIN" => {
                let user = self.challenge(initial, "VXNlcm5hbWU6").await?;
                Some((user, self.challenge(None, "UGFzc3dvcmQ6").await?))
            }
            _ => return self.say("504 5.5.4 unknown mechanism").await,
        };
        let known = credentials.as_ref().is_some_and(|given| self.shared.options.users.contains(given));
        let usual = if known { "235 2.7.0 welcome" } else { "535 5.7.8 user or password is wrong" };
        if self.step(Stage::Auth, line, usual).await? && known {
            self.user = credentials.map(|(user, _)| user);
        }
        Ok(())
    }

    /// The client's answer to a challenge, decoded; the initial response needs none.
    async fn challenge(&mut self, initial: Option<String>, challenge: &str) -> Result<String, Over> {
        let answer = match initial {
            Some(initial) => initial,
            None => {
                self.say(&format!("334 {challenge}")).await?;
                self.line().await?
            }
        };
        Ok(String::from_utf8_lossy(&STANDARD.decode(answer.trim()).unwrap_or_default()).into_owned())
    }

    async fn mail(&mut self, line: &str) -> Result<(), Over> {
        if !self.shared.options.users.is_empty() && self.user.is_none() {
            return self.say("530 5.7.0 authentication required").await;
        }
        if self.from.is_some() {
            return self.say("503 5.5.1 one sender is enough").await;
        }
        let Some(path) = path(line) else { return self.say("501 5.5.4 no path").await };
        if self.step(Stage::Mail, line, "250 2.1.0 ok").await? {
            self.from = Some(path);
        }
        Ok(())
    }

    async fn rcpt(&mut self, line: &str) -> Result<(), Over> {
        if self.from.is_none() {
            return self.say("503 5.5.1 MAIL first").await;
        }
        let Some((address, _)) = path(line) else { return self.say("501 5.5.4 no path").await };
        if let Some(act) = self.shared.act(Stage::Rcpt, line) {
            if self.perform(Some(act), "250 2.1.5 ok").await? {
                self.to.push(address);
            }
            return Ok(());
        }
        if let Some(refusal) = self.shared.tagged(&address) {
            return self.say(&refusal).await;
        }
        if self.shared.options.extensions.max_recipients.is_some_and(|max| self.to.len() >= max) {
            return self.say("452 4.5.3 too many recipients").await;
        }
        self.to.push(address);
        self.say("250 2.1.5 ok").await
    }

    async fn data(&mut self, line: &str) -> Result<(), Over> {
        if self.to.is_empty() {
            self.forget();
            return self.say("554 5.5.1 no valid recipients").await;
        }
        if !self.step(Stage::Data, line, "354 go ahead").await? {
            self.forget();
            return Ok(());
        }
        let mut content = Vec::new();
        loop {
            let start = content.len();
            if self.link.read_until(b'\n', &mut content).await? == 0 {
                return Err(Over);
            }
            if content[start..] == *b".\r\n" {
                content.truncate(start);
                break;
            }
            if content[start] == b'.' {
                content.remove(start);
            }
        }
        self.finish(content).await
    }

    async fn bdat(&mut self, line: &str, rest: &str) -> Result<(), Over> {
        let mut words = rest.split(' ');
        let Some(size) = words.next().and_then(|size| size.parse::<usize>().ok()) else {
            return self.say("501 5.5.4 no size").await;
        };
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let mut chunk = vec![0; size];
        self.link.read_exact(&mut chunk).await?;
        if self.to.is_empty() {
            self.forget();
            return self.say("554 5.5.1 no valid recipients").await;
        }
        self.chunks.extend_from_slice(&chunk);
        if !last {
            self.step(Stage::Data, line, "250 2.0.0 chunk").await?;
            return Ok(());
        }
        let content = std::mem::take(&mut self.chunks);
        self.finish(content).await
    }

    /// Answers a complete message; it is kept before it is answered.
    async fn finish(&mut self, content: Vec<u8>) -> Result<(), Over> {
        let (from, parameters) = self.from.take().unwrap_or_default();
        let to = std::mem::take(&mut self.to);
        if self.shared.options.extensions.size.is_some_and(|max| content.len() > max) {
            return self.say("552 5.3.4 too big").await;
        }
        if let Some(refusal) = self.shared.tagged_content(&to) {
            return self.say(&refusal).await;
        }
        let head = String::from_utf8_lossy(&content[..content.len().min(4096)]).into_owned();
        let act = self.shared.act(Stage::Message, &head);
        let (number, tls) = (self.number, self.tls);
        let (helo, user) = (self.helo.clone(), self.user.clone());
        let received = Received { connection: number, helo, tls, user, from, parameters, to, content };
        match act {
            Some(Act::Hang) => {
                self.hang().await;
                self.shared.keep(received);
                self.say("250 2.0.0 kept").await
            }
            Some(Act::Reply(reply)) if !reply.starts_with('2') => self.say(&reply).await,
            Some(Act::Close(reply)) if !reply.starts_with('2') => {
                self.perform(Some(Act::Close(reply)), "").await.map(|_| ())
            }
            Some(Act::Drop) => Err(Over),
            act => {
                self.shared.keep(received);
                self.perform(act, "250 2.0.0 kept").await.map(|_| ())
            }
        }
    }
}

/// Address between the brackets and what follows them.
fn path(line: &str) -> Option<(String, String)> {
    let start = line.find('<')? + 1;
    let end = line.rfind('>').filter(|end| *end >= start)?;
    Some((line[start..end].to_owned(), line[end + 1..].trim().to_owned()))
}
