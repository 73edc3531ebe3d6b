//! A connection to an IMAP server: TLS, sign-in, and a limit on what the server may send for each question.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_imap::{Authenticator, Client, Session};
use net::{ClientTls, Clock, Net, Roots, Verify};
use proto::smtp::reply::escape;
use proto::transcript::Failure;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::record::{MailboxRecord, MailboxTls};

/// Longest wait for a connection, and for the answer to a small question.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Most octets of an answer to a small question.
pub const SMALL: u64 = 64 << 10;
/// Longest line, and most lines, before the sign-in.
const MAX_LINE: usize = 8 << 10;
const MAX_LINES: usize = 50;
/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;

/// Why a mailbox cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MailboxError {
    /// The host is not reached.
    #[error("the server is not reached: {0:?}")]
    Reach(Failure),
    /// TLS or its certificate.
    #[error("TLS with the server fails: {0:?}")]
    Tls(Failure),
    /// It does not offer STARTTLS.
    #[error("the server offers no STARTTLS")]
    NoStartTls,
    /// It offers no way to sign in that fits.
    #[error("the server offers no way to sign in that fits: {0}")]
    NoMechanism(String),
    /// Password or token.
    #[error("the sign-in was refused: {0}")]
    SignIn(String),
    /// There is no token.
    #[error("there is no access token: {0:?}")]
    Token(Failure),
    /// The server said no, or something that makes no sense.
    #[error("{0}")]
    Server(String),
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// The store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

impl From<async_imap::error::Error> for MailboxError {
    fn from(error: async_imap::error::Error) -> Self {
        Self::Server(escape(error.to_string().as_bytes(), 200))
    }
}

/// Waits for an answer, not for ever.
pub async fn within<T, E: Into<MailboxError>>(
    limit: Duration,
    asking: impl Future<Output = Result<T, E>>,
) -> Result<T, MailboxError> {
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(MailboxError::Timeout),
    }
}

/// What carries a conversation.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Carrier for T {}

/// Octets the server may still send.
#[derive(Debug, Clone, Default)]
pub struct Allowance(Arc<AtomicU64>);

impl Allowance {
    /// From now on so many.
    pub fn set(&self, octets: u64) {
        self.0.store(octets, Ordering::Relaxed);
    }
}

/// A stream that breaks when the server sends more than it may.
#[derive(Debug)]
pub struct Metered {
    inner: Box<dyn Carrier>,
    allowance: Allowance,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, into);
        if let Poll::Ready(Ok(())) = polled {
            let read = (into.filled().len() - before) as u64;
            let left = self.allowance.0.load(Ordering::Relaxed);
            if read > left {
                return Poll::Ready(Err(io::Error::other("the server sends more than was asked for")));
            }
            self.allowance.0.store(left - read, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, octets)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// What the sign-in proves itself with.
pub enum Proof {
    /// A password.
    Password(SecretString),
    /// An access token.
    Token(SecretString),
}

/// A signed-in conversation.
pub struct Link {
    /// The library's session.
    pub session: Session<Metered>,
    /// For the next question.
    pub allowance: Allowance,
    /// Time.
    pub clock: Clock,
}

/// Connects and signs in.
pub async fn open(net: &Net, record: &MailboxRecord, proof: &Proof) -> Result<Link, MailboxError> {
    let tls = match &record.ca_file {
        Some(path) => ClientTls::new(&Roots::Pem(path.into()), net.clock.clone())
            .map_err(|error| MailboxError::Server(format!("authorities in {path}: {error}")))?,
        None => net.tls.clone(),
    };
    let tcp = connect(net, record).await?;
    let allowance = Allowance::default();
    allowance.set(SMALL);
    let metered = |inner: Box<dyn Carrier>| Metered { inner, allowance: allowance.clone() };
    let handshake = async |tcp| {
        let shaking = tls.handshake(tcp, &record.host, Verify::Full);
        match tokio::time::timeout(PATIENCE, shaking).await {
            Ok(Ok((stream, _))) => Ok(stream),
            Ok(Err(failure)) => Err(MailboxError::Tls(failure)),
            Err(_) => Err(MailboxError::Timeout),
        }
    };
    let link = match record.tls {
        MailboxTls::Implicit => {
            let mut link = metered(Box::new(handshake(tcp).await?));
            within(PATIENCE, greeting(&mut link)).await?;
            link
        }
        MailboxTls::Starttls => {
            let tcp = within(PATIENCE, start_tls(tcp)).await?;
            metered(Box::new(handshake(tcp).await?))
        }
    };
    let session = within(PATIENCE, sign_in(link, record, proof)).await?;
    Ok(Link { session, allowance, clock: net.clock.clone() })
}

async fn connect(net: &Net, record: &MailboxRecord) -> Result<tokio::net::TcpStream, MailboxError> {
    let addresses = net.resolver.addresses(&record.host).await.map_err(MailboxError::Reach)?;
    let mut problem = Failure::NoAddress { name: record.host.clone() };
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        match net::dial::dial((address, record.port()).into(), None, PATIENCE).await {
            Ok(tcp) => return Ok(tcp),
            Err(failure) => problem = failure,
        }
    }
    Err(MailboxError::Reach(problem))
}

/// A line of the server, before the library takes over: octet by octet, so that nothing behind it is taken.
async fn line(link: &mut (impl AsyncRead + Unpin)) -> Result<String, MailboxError> {
    let mut octets = Vec::new();
    loop {
        match link.read_u8().await {
            Ok(b'\n') => return Ok(escape(octets.trim_ascii_end(), MAX_LINE)),
            Ok(octet) if octets.len() < MAX_LINE => octets.push(octet),
            Ok(_) => return Err(MailboxError::Server("it sends a line without end".into())),
            Err(error) => return Err(MailboxError::Server(error.to_string())),
        }
    }
}

/// Waits for the greeting (RFC 9051 §7.1).
async fn greeting(link: &mut (impl AsyncRead + Unpin)) -> Result<(), MailboxError> {
    let greeting = line(link).await?;
    match greeting.to_ascii_uppercase().starts_with("* OK") {
        true => Ok(()),
        false => Err(MailboxError::Server(format!("it greets with `{}`", escape(greeting.as_bytes(), 80)))),
    }
}

/// Sends a command and gives the lines before its answer, which has to be OK.
async fn ask(link: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &str) -> Result<Vec<String>, MailboxError> {
    let broken = |error: io::Error| MailboxError::Server(error.to_string());
    link.write_all(format!("P0 {command}\r\n").as_bytes()).await.map_err(broken)?;
    link.flush().await.map_err(broken)?;
    let mut lines = Vec::new();
    while lines.len() < MAX_LINES {
        let line = line(link).await?;
        match line.strip_prefix("P0 ") {
            Some(answer) if answer.to_ascii_uppercase().starts_with("OK") => return Ok(lines),
            Some(answer) => return Err(MailboxError::Server(format!("{command}: {}", escape(answer.as_bytes(), 200)))),
            None => lines.push(line),
        }
    }
    Err(MailboxError::Server("it does not come to an end".into()))
}

/// STARTTLS (RFC 9051 §6.2.1). What comes behind its answer in clear is part of the handshake, and breaks it.
async fn start_tls(mut tcp: tokio::net::TcpStream) -> Result<tokio::net::TcpStream, MailboxError> {
    greeting(&mut tcp).await?;
    ask(&mut tcp, "STARTTLS").await.map_err(|_| MailboxError::NoStartTls)?;
    Ok(tcp)
}

/// What the server offers before the sign-in.
async fn offered(link: &mut Metered) -> Result<Vec<String>, MailboxError> {
    let lines = ask(link, "CAPABILITY").await?;
    let all = lines.iter().filter_map(|line| line.strip_prefix("* CAPABILITY "));
    Ok(all.flat_map(str::split_whitespace).take(200).map(str::to_ascii_uppercase).collect())
}

/// One answer; to a second question, which is an error's text, the empty one.
struct Once(Option<SecretString>);

impl Authenticator for Once {
    type Response = Vec<u8>;
    fn process(&mut self, _challenge: &[u8]) -> Vec<u8> {
        self.0.take().map(|answer| answer.expose_secret().as_bytes().to_vec()).unwrap_or_default()
    }
}

async fn sign_in(mut link: Metered, record: &MailboxRecord, proof: &Proof) -> Result<Session<Metered>, MailboxError> {
    let offered = offered(&mut link).await?;
    let has = |word: &str| offered.iter().any(|one| one == word);
    let client = Client::new(link);
    let user = record.username.as_str();
    let signed = match proof {
        Proof::Token(_) if !has("AUTH=XOAUTH2") => return Err(MailboxError::NoMechanism(offered.join(" "))),
        Proof::Token(token) => {
            let answer = format!("user={user}\x01auth=Bearer {}\x01\x01", token.expose_secret());
            client.authenticate("XOAUTH2", Once(Some(answer.into()))).await
        }
        Proof::Password(password) if has("AUTH=PLAIN") => {
            let answer = format!("\0{user}\0{}", password.expose_secret());
            client.authenticate("PLAIN", Once(Some(answer.into()))).await
        }
        Proof::Password(_) if has("LOGINDISABLED") => return Err(MailboxError::NoMechanism(offered.join(" "))),
        Proof::Password(password) => client.login(user, password.expose_secret()).await,
    };
    // What the server says is cut and escaped.
    signed.map_err(|(error, _)| match MailboxError::from(error) {
        MailboxError::Server(text) => MailboxError::SignIn(text),
        other => other,
    })
}
