//! An HTTPS server that answers every request alike, as the test says, and keeps what it was sent.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::ca::Issued;

/// What every request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// 200 with this text.
    Text(String),
    /// Head and body as they are.
    Raw(String),
    /// Nothing, and the connection stays open.
    Silence,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET /path HTTP/1.1`.
    pub line: String,
    /// Header fields, as they came.
    pub head: String,
    /// The body, as long as its Content-Length says.
    pub body: Vec<u8>,
}

struct Shared {
    page: Mutex<Page>,
    asked: Mutex<Vec<Asked>>,
    acceptor: Mutex<TlsAcceptor>,
    news: Notify,
}

/// The server. Stops when dropped.
pub struct Web {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Web {
    /// Starts on a free port of the loopback address.
    pub async fn start(issued: &Issued, page: Page) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            page: Mutex::new(page),
            asked: Mutex::default(),
            acceptor: Mutex::new(TlsAcceptor::from(issued.server_config())),
            news: Notify::new(),
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(answer(socket, shared.clone()));
                }
            }
        });
        Self { shared, address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// Answers so from now on.
    pub fn show(&self, page: Page) -> &Self {
        *self.shared.page.lock() = page;
        self
    }
    /// Shows this certificate from now on.
    pub fn certify(&self, issued: &Issued) -> &Self {
        *self.shared.acceptor.lock() = TlsAcceptor::from(issued.server_config());
        self
    }
    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().clone()
    }
    /// Waits until there were this many requests.
    pub async fn wait_for(&self, count: usize) -> Vec<Asked> {
        loop {
            let news = self.shared.news.notified();
            let asked = self.asked();
            if asked.len() >= count {
                return asked;
            }
            tokio::time::timeout(std::time::Duration::from_secs(15), news).await.expect("no request came");
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(socket: TcpStream, shared: Arc<Shared>) {
    let acceptor = shared.acceptor.lock().clone();
    let Ok(mut stream) = acceptor.accept(socket).await else { return };
    let mut octets = Vec::new();
    let end = loop {
        if let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if !matches!(stream.read_buf(&mut octets).await, Ok(1..)) {
            return;
        }
    };
    let text = String::from_utf8_lossy(&octets[..end]).into_owned();
    let (line, head) = text.split_once("\r\n").unwrap_or((&text, ""));
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    while octets.len() < end + 4 + length.unwrap_or(0) {
        if !matches!(stream.read_buf(&mut octets).await, Ok(1..)) {
            return;
        }
    }
    shared.asked.lock().push(Asked { line: line.into(), head: head.into(), body: octets[end + 4..].to_vec() });
    shared.news.notify_waiters();
    let page = shared.page.lock().clone();
    let response = match page {
        Page::Text(text) => {
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        }
        Page::Raw(raw) => raw,
        Page::Silence => return std::future::pending().await,
    };
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}
