//! An SMTP client that sends exactly what the test says, right or wrong, and shows exactly what came back.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::ca::Ca;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// No reply of a server under test may take longer.
const PATIENCE: Duration = Duration::from_secs(180);

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Code of the last line.
    pub code: u16,
    /// Texts without codes.
    pub lines: Vec<String>,
}

impl Answer {
    /// All texts, joined by a space.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }
    /// EHLO offers this keyword.
    pub fn offers(&self, keyword: &str) -> bool {
        self.lines.iter().skip(1).any(|line| line.split(' ').next().is_some_and(|w| w.eq_ignore_ascii_case(keyword)))
    }
    /// Panics unless the code is this one.
    #[track_caller]
    pub fn expect(self, code: u16) -> Self {
        assert_eq!(self.code, code, "unexpected reply: {} {}", self.code, self.text());
        self
    }
}

/// A connection.
pub struct Client {
    link: BufReader<Box<dyn Stream>>,
}

impl Client {
    /// Connects without reading the banner.
    pub async fn raw(address: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { link: BufReader::new(Box::new(socket)) })
    }

    /// Connects and expects a 220 banner.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut client = Self::raw(address).await.expect("connect");
        client.reply().await.expect(220);
        client
    }

    /// Connects with TLS from the first octet and expects a 220 banner.
    pub async fn connect_tls(address: SocketAddr, name: &str, ca: &Ca) -> Self {
        let mut client = Self::raw(address).await.expect("connect").secure(name, ca).await.expect("TLS");
        client.reply().await.expect(220);
        client
    }

    /// Starts TLS on the connection as it is.
    pub async fn secure(self, name: &str, ca: &Ca) -> std::io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let stream = TlsConnector::from(ca.client_config()).connect(name, self.link.into_inner()).await?;
        Ok(Self { link: BufReader::new(Box::new(stream)) })
    }

    /// Sends octets as they are.
    pub async fn send_raw(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.link.write_all(octets).await?;
        self.link.flush().await
    }

    /// Reads a reply; an error when the connection is closed or what came is no reply.
    pub async fn try_reply(&mut self) -> std::io::Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.link.read_line(&mut line)).await;
            let octets = read.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            if octets == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end_matches(['\r', '\n']);
            let code = line.get(..3).and_then(|code| code.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Answer { code, lines });
            }
        }
    }

    /// Reads a reply.
    pub async fn reply(&mut self) -> Answer {
        self.try_reply().await.expect("a reply")
    }

    /// Sends a line and reads the reply.
    pub async fn command(&mut self, line: &str) -> Answer {
        self.send_raw(format!("{line}\r\n").as_bytes()).await.expect("send");
        self.reply().await
    }

    /// Sends a line and reads the reply; an error when the connection is lost.
    pub async fn try_command(&mut self, line: &str) -> std::io::Result<Answer> {
        self.send_raw(format!("{line}\r\n").as_bytes()).await?;
        self.try_reply().await
    }

    /// EHLO, expecting 250.
    pub async fn ehlo(&mut self) -> Answer {
        self.command("EHLO client.test").await.expect(250)
    }

    /// STARTTLS, the handshake, and EHLO again.
    pub async fn start_tls(mut self, name: &str, ca: &Ca) -> Self {
        self.command("STARTTLS").await.expect(220);
        let mut client = self.secure(name, ca).await.expect("TLS");
        client.ehlo().await;
        client
    }

    /// AUTH PLAIN with an initial response.
    pub async fn auth_plain(&mut self, user: &str, password: &str) -> Answer {
        self.command(&format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{user}\0{password}")))).await
    }

    /// AUTH LOGIN.
    pub async fn auth_login(&mut self, user: &str, password: &str) -> Answer {
        let answer = self.command("AUTH LOGIN").await;
        if answer.code != 334 {
            return answer;
        }
        let answer = self.command(&STANDARD.encode(user)).await;
        if answer.code != 334 {
            return answer;
        }
        self.command(&STANDARD.encode(password)).await
    }

    /// MAIL, RCPT for each, DATA, content; gives the first refusal or the last reply.
    pub async fn submit(&mut self, from: &str, to: &[&str], content: &str) -> Answer {
        self.try_submit(from, to, content).await.expect("the connection")
    }

    /// As [`Client::submit`]; an error when the connection is lost.
    pub async fn try_submit(&mut self, from: &str, to: &[&str], content: &str) -> std::io::Result<Answer> {
        let answer = self.try_command(&format!("MAIL FROM:<{from}>")).await?;
        if answer.code != 250 {
            return Ok(answer);
        }
        for to in to {
            let answer = self.try_command(&format!("RCPT TO:<{to}>")).await?;
            if answer.code != 250 {
                return Ok(answer);
            }
        }
        let answer = self.try_command("DATA").await?;
        if answer.code != 354 {
            return Ok(answer);
        }
        self.send_raw(stuffed(content).as_bytes()).await?;
        self.try_reply().await
    }

    /// Reads until the other side closes; gives what came.
    pub async fn drain(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, self.link.read_to_end(&mut rest)).await;
        rest
    }

    /// QUIT, expecting 221.
    pub async fn quit(mut self) {
        self.command("QUIT").await.expect(221);
    }
}

/// Content as it goes over the wire: CRLF lines, dots doubled, final dot.
pub fn stuffed(content: &str) -> String {
    let mut wire = String::with_capacity(content.len() + 16);
    for line in content.lines() {
        if line.starts_with('.') {
            wire.push('.');
        }
        wire.push_str(line);
        wire.push_str("\r\n");
    }
    wire.push_str(".\r\n");
    wire
}
