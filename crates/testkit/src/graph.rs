//! A small Microsoft Graph: HTTPS, `POST /v1.0/users/{mailbox}/sendMail` with a message in MIME form, bearer tokens, errors
//! as Graph writes them, faults as the test says. It keeps what it took, with the recipients it would send to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::ca::Issued;

/// Most octets of a request.
const MAX_REQUEST: usize = 4 * 1024 * 1024;

/// What becomes of one request, in place of what Graph would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status, error code and further header lines (each with CR LF).
    Answer(u16, &'static str, &'static str),
    /// The message is taken, and the link dies before the answer.
    CutAfterTaking,
    /// The link dies after this many octets of the body; nothing is taken.
    CutInBody(usize),
    /// The message is taken and answered, and the connection closed.
    CloseAfterAnswer,
}

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// From which mailbox.
    pub mailbox: String,
    /// To whom it would go: all of To, Cc and Bcc, in lower case, sorted.
    pub recipients: Vec<String>,
    /// The message as it came.
    pub content: String,
}

#[derive(Default)]
struct State {
    tokens: Vec<String>,
    mailboxes: Vec<String>,
    faults: VecDeque<Fault>,
    sent: Vec<Sent>,
    requests: Vec<String>,
    connections: u32,
}

/// The server. Stops when dropped.
pub struct Graph {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Graph {
    /// Starts on a free port of the loopback address; these tokens are good for these mailboxes.
    pub async fn start(issued: &Issued, tokens: &[&str], mailboxes: &[&str]) -> Self {
        // A small window: what a client has written is what was read here, nearly.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(8 * 1024).expect("a small buffer");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("bind");
        let listener = socket.listen(128).expect("listen");
        let address = listener.local_addr().expect("address");
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let state = State { tokens: owned(tokens), mailboxes: owned(mailboxes), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let acceptor = TlsAcceptor::from(issued.server_config());
        let task = tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, acceptor.clone(), state.clone()));
                }
            }
        });
        Self { state, address, task }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
    /// The next requests meet these, one each.
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) -> &Self {
        self.state.lock().faults.extend(faults);
        self
    }
    /// No request meets a fault from now on.
    pub fn forget_faults(&self) -> &Self {
        self.state.lock().faults.clear();
        self
    }
    /// Only these tokens are good from now on.
    pub fn tokens(&self, tokens: &[&str]) -> &Self {
        self.state.lock().tokens = tokens.iter().map(|one| (*one).to_owned()).collect();
        self
    }
    /// All messages taken so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.state.lock().sent.clone()
    }
    /// Request lines so far, whatever became of them.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().requests.clone()
    }
    /// Connections so far that came to TLS.
    pub fn connections(&self) -> u32 {
        self.state.lock().connections
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    let Ok(mut stream) = acceptor.accept(socket).await else { return };
    state.lock().connections += 1;
    let mut octets = Vec::new();
    while let Some(response) = request(&mut stream, &mut octets, &state).await {
        if stream.write_all(response.as_bytes()).await.is_err() || response.contains("Connection: close") {
            break;
        }
    }
    let _ = stream.shutdown().await;
}

/// One request; `None` closes the connection without a word.
async fn request(stream: &mut TlsStream<TcpStream>, octets: &mut Vec<u8>, state: &Mutex<State>) -> Option<String> {
    let end = loop {
        if let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(octets).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&octets[..end]).into_owned();
    octets.drain(..end);
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = field("content-length")?.parse().ok()?;
    let line = head.lines().next()?.to_owned();
    let fault = {
        let mut state = state.lock();
        state.requests.push(line.clone());
        state.faults.pop_front()
    };
    if length > MAX_REQUEST {
        return Some(error(413, "RequestEntityTooLarge", "Connection: close\r\n"));
    }
    let wanted = match fault {
        Some(Fault::CutInBody(count)) => count.min(length),
        _ => length,
    };
    while octets.len() < wanted {
        if stream.read_buf(octets).await.ok()? == 0 {
            return None;
        }
    }
    if matches!(fault, Some(Fault::CutInBody(_))) {
        return None;
    }
    let body: Vec<u8> = octets.drain(..length).collect();
    if let Some(Fault::Answer(status, code, more)) = fault {
        return Some(error(status, code, more));
    }
    let token = field("authorization").unwrap_or_default();
    let kind = field("content-type").unwrap_or_default();
    let response = take(state, &line, &token, &kind, &body);
    match fault {
        Some(Fault::CutAfterTaking) => None,
        Some(Fault::CloseAfterAnswer) => Some(response.replacen("\r\n", "\r\nConnection: close\r\n", 1)),
        _ => Some(response),
    }
}

/// As Graph does: the token first, then the mailbox, then the message.
fn take(state: &Mutex<State>, line: &str, token: &str, kind: &str, body: &[u8]) -> String {
    let mut state = state.lock();
    if !token.strip_prefix("Bearer ").is_some_and(|token| state.tokens.iter().any(|known| known == token)) {
        return error(401, "InvalidAuthenticationToken", "");
    }
    let path = line.split(' ').nth(1).unwrap_or_default();
    let mailbox = path.strip_prefix("/v1.0/users/").and_then(|rest| rest.strip_suffix("/sendMail"));
    let Some(mailbox) = mailbox.filter(|_| line.starts_with("POST ")) else { return error(400, "BadRequest", "") };
    if !state.mailboxes.iter().any(|known| known == mailbox) {
        return error(404, "ErrorInvalidUser", "");
    }
    if kind != "text/plain" {
        return error(400, "ErrorMimeContentInvalid", "");
    }
    let Some(content) = STANDARD.decode(body).ok().map(|content| String::from_utf8_lossy(&content).into_owned()) else {
        return error(400, "ErrorMimeContentInvalidBase64String", "");
    };
    let recipients = recipients(&content);
    if recipients.is_empty() || recipients.iter().any(|one| one.ends_with("@invalid.test")) {
        return error(400, "ErrorInvalidRecipients", "");
    }
    state.sent.push(Sent { mailbox: mailbox.to_owned(), recipients, content });
    "HTTP/1.1 202 Accepted\r\nrequest-id: 0b9c7f3e-0000-4000-8000-000000000001\r\nContent-Length: 0\r\n\r\n".into()
}

fn error(status: u16, code: &str, more: &str) -> String {
    let body = format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"The request is not taken.\"}}}}");
    format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Everybody in To, Cc and Bcc, also of repeated fields.
fn recipients(content: &str) -> Vec<String> {
    let head = content.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
    let mut all = Vec::new();
    for line in head.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        if !["to", "cc", "bcc"].contains(&name.trim().to_ascii_lowercase().as_str()) {
            continue;
        }
        let mut quoted = false;
        let parts = value.split(|character| {
            quoted ^= character == '"';
            character == ',' && !quoted
        });
        for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
            let address = part.rsplit_once('<').map_or(part, |(_, rest)| rest.trim_end_matches('>'));
            all.push(address.to_ascii_lowercase());
        }
    }
    all.sort();
    all.dedup();
    all
}
