//! A mail server of a few lines, written by each test, on a port of its own.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use net::client::{ClientSettings, Connection, Delivery, Endpoint, TlsMode};
use net::{ClientTls, Clock, Net, Resolver, ResolverSettings, Roots};
use proto::smtp::client::Plan;
use proto::{Address, MailParameters, RcptParameters, ReversePath};
use testkit::ca::Ca;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// EHLO reply of a modern server.
pub(crate) const MODERN: &str = "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n";

/// The server's end of one connection.
pub(crate) struct Conn<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) buffer: Vec<u8>,
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Conn<S> {
    pub(crate) async fn send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
        let _ = self.stream.flush().await;
    }

    /// What one read gives, after what is buffered.
    pub(crate) async fn read(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.buffer.reserve(64 * 1024);
            self.stream.read_buf(&mut self.buffer).await.expect("read");
        }
        std::mem::take(&mut self.buffer)
    }

    /// The next line with its end; empty when the client closed.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.iter().position(|octet| *octet == b'\n') {
                let line = self.buffer.drain(..=end).collect();
                return String::from_utf8(line).expect("text");
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return String::new();
            }
        }
    }

    /// Waits for a line with this start and answers.
    pub(crate) async fn answer(&mut self, start: &str, reply: &str) {
        let line = self.line().await;
        assert!(line.starts_with(start), "wanted {start}, got {line:?}");
        self.send(reply).await;
    }

    /// Content up to and with its dot.
    pub(crate) async fn content(&mut self) -> String {
        let mut text = String::new();
        while !text.ends_with("\r\n.\r\n") {
            let line = self.line().await;
            assert!(!line.is_empty(), "closed in {text:?}");
            text.push_str(&line);
        }
        text
    }

    /// Greeting and EHLO.
    pub(crate) async fn open(&mut self) {
        self.send("220 mx.test ESMTP\r\n").await;
        self.answer("EHLO", MODERN).await;
    }

    /// MAIL, one RCPT and DATA, pipelined.
    pub(crate) async fn envelope(&mut self) {
        self.answer("MAIL", "250 2.1.0 ok\r\n").await;
        self.answer("RCPT", "250 2.1.5 ok\r\n").await;
        self.answer("DATA", "354 go\r\n").await;
    }

    /// All that still comes.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.buffer);
        let _ = self.stream.read_to_end(&mut rest).await;
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// Serves connections one after the other, each with the next call of `script`.
pub(crate) async fn serve<F, T>(count: usize, script: F) -> (SocketAddr, JoinHandle<Vec<T>>)
where
    F: AsyncFn(usize, Conn) -> T + 'static,
    T: 'static,
{
    let listener = TcpListener::bind((LOCAL, 0)).await.expect("bind");
    let address = listener.local_addr().expect("address");
    let task = tokio::task::spawn_local(async move {
        let mut results = Vec::new();
        for number in 0..count {
            let (stream, _) = listener.accept().await.expect("accept");
            stream.set_nodelay(true).expect("nodelay");
            results.push(script(number, Conn { stream, buffer: Vec::new() }).await);
        }
        results
    });
    (address, task)
}

/// Runs a test whose scripts need not be `Send`.
pub(crate) async fn local<T>(test: impl Future<Output = T>) -> T {
    let tasks = tokio::task::LocalSet::new();
    tokio::time::timeout(Duration::from_secs(3600), tasks.run_until(test)).await.expect("the test hangs")
}

pub(crate) fn net_with(ca: Option<&Ca>) -> Net {
    let clock = Clock::system();
    let roots = match ca {
        Some(ca) => {
            let dir = tempfile::tempdir().expect("dir");
            Roots::Pem(ca.write_pem(&dir.keep()))
        }
        None => Roots::Web,
    };
    Net {
        tls: ClientTls::new(&roots, clock.clone()).expect("roots"),
        resolver: Resolver::new(ResolverSettings {
            servers: vec![(LOCAL, 1).into()],
            timeout: Duration::from_secs(1),
            ..Default::default()
        })
        .expect("resolver"),
        clock,
    }
}

pub(crate) fn endpoint(address: SocketAddr, tls: TlsMode) -> Endpoint {
    Endpoint { host: "mx.test".into(), port: address.port(), tls }
}

pub(crate) fn settings() -> ClientSettings {
    ClientSettings::new("client.test")
}

pub(crate) async fn connected(address: SocketAddr) -> Connection {
    net::client::connect(&net_with(None), &endpoint(address, TlsMode::None), &[LOCAL], &settings())
        .await
        .expect("connection")
}

/// Sends `content` from one sender to the recipients, `before_dot` being `go`.
pub(crate) async fn deliver(connection: &mut Connection, recipients: &[&str], content: &[u8], go: bool) -> Delivery {
    let caps = Arc::clone(connection.capabilities());
    let reverse_path = ReversePath(Some(Address::parse("from@client.test").expect("address")));
    let addresses: Vec<Address> = recipients.iter().map(|text| Address::parse(text).expect("address")).collect();
    let (parameters, none) = (MailParameters::default(), RcptParameters::default());
    let plan = Plan {
        reverse_path: &reverse_path,
        parameters: &parameters,
        recipients: addresses.iter().map(|address| (address, &none)).collect(),
        size: content.len() as u64,
        eight_bit: !content.is_ascii(),
        caps: &caps,
    };
    connection.deliver(&plan, content, async { go }).await
}
