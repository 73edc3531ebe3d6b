//! By syslog: RFC 5424 in datagrams (RFC 5426), over TCP with counted octets (RFC 6587 §3.4.1) and over TLS (RFC 5425).
//!
//! A socket of this machine, as /dev/log, gets the form that its own programs use there: its readers know no other.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use net::dial::dial;
use net::{ClientTls, Net, Verify};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{UdpSocket, UnixDatagram, UnixStream};

use super::Sent;
use crate::alert::channel::record::SyslogTo;
use crate::alert::entry::cut;
use crate::alert::rule::Severity;
use crate::alert::setting::Channel;
use crate::alert::text::Item;
use crate::http::{Shared, time, words};

/// Facility of daemons (RFC 5424 §6.2.1).
const DAEMON: u8 = 3;
/// Longest message in a datagram: what receivers should take (RFC 5426 §3.2).
const MOST_DATAGRAM: usize = 2_048;
/// Longest message elsewhere.
const MOST_STREAM: usize = 8_192;
/// Addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;

/// One message for each alert.
pub async fn send(app: &Shared, channel: &Channel, items: &[Item]) -> Sent {
    let limit = Duration::from_secs(channel.record.timeout.into());
    let Some(to) = channel.record.syslog() else { return Sent::failed("its server cannot be read") };
    let facility = channel.record.facility.unwrap_or(DAEMON);
    let net = match app.hooks.net() {
        Ok(net) => net,
        Err(problem) => return Sent::failed(problem),
    };
    let now_ms = app.clock.now_ms();
    let said = tokio::time::timeout(limit, async {
        match &to {
            SyslogTo::Unix(path) => {
                unix(path, &items.iter().map(|item| local(facility, item, now_ms)).collect::<Vec<_>>()).await
            }
            SyslogTo::Udp(host, port) => {
                let lines = lines(app, facility, items, now_ms, MOST_DATAGRAM);
                datagrams(&net, host, *port, &lines).await
            }
            SyslogTo::Tcp(host, port) => {
                let lines = lines(app, facility, items, now_ms, MOST_STREAM);
                stream(&net, host, *port, None, limit, &lines).await
            }
            SyslogTo::Tls(host, port) => {
                let lines = lines(app, facility, items, now_ms, MOST_STREAM);
                stream(&net, host, *port, Some(&net.tls), limit, &lines).await
            }
        }
    });
    match said.await {
        Ok(Ok(said)) => Sent::Taken(said),
        Ok(Err(problem)) => Sent::failed(problem),
        Err(_) => Sent::failed(format!("not done within {} s", limit.as_secs())),
    }
}

fn lines(app: &Shared, facility: u8, items: &[Item], now_ms: i64, most: usize) -> Vec<Vec<u8>> {
    items.iter().map(|item| line(&app.hostname, facility, item, now_ms, most)).collect()
}

/// RFC 5424 §6.2.1.
fn severity(item: &Item) -> u8 {
    match (item.is_over(), item.severity) {
        (true, _) => 5,
        (_, Severity::Critical) => 2,
        (_, Severity::Problem) => 3,
        (_, Severity::Warning) => 4,
    }
}

/// All in one line.
fn words_of(item: &Item) -> String {
    let details = item.details();
    let parts: Vec<&str> = details.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{}. {}", item.headline(), parts.join(" | "))
}

/// RFC 5424 §6: header, structured data, words.
fn line(hostname: &str, facility: u8, item: &Item, now_ms: i64, most: usize) -> Vec<u8> {
    let json = item.json();
    let name = |text: &str, most: usize| {
        let printed: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
        if printed.is_empty() { "-".to_owned() } else { printed }
    };
    let mut data = format!("[pillarbox@32473 key=\"{}\"", quoted(&cut(&json.key, 200)));
    for (key, value) in [("state", json.state.as_str()), ("severity", item.severity.as_str())] {
        data.push_str(&format!(" {key}=\"{value}\""));
    }
    if let Some(id) = &json.id {
        data.push_str(&format!(" id=\"{id}\""));
    }
    data.push(']');
    let mut line = format!(
        "<{}>1 {} {} pillarbox {} {} {data} ",
        facility * 8 + severity(item),
        time::show(now_ms),
        name(hostname, 255),
        std::process::id(),
        name(item.entry.alert.rule.as_str(), 32),
    )
    .into_bytes();
    let words = words_of(item);
    if !words.is_ascii() {
        // Says that UTF-8 follows (RFC 5424 §6.4).
        line.extend_from_slice(b"\xef\xbb\xbf");
    }
    line.extend_from_slice(words.as_bytes());
    shortened(line, most)
}

/// RFC 5424 §6.3.3.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]")
}

fn shortened(mut line: Vec<u8>, most: usize) -> Vec<u8> {
    if line.len() > most {
        let mut end = most;
        while end > 0 && line[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        line.truncate(end);
    }
    line
}

/// As programs of this machine write to /dev/log.
fn local(facility: u8, item: &Item, now_ms: i64) -> Vec<u8> {
    let now = Timestamp::from_millisecond(now_ms).unwrap_or_default().to_zoned(TimeZone::system());
    let at = now.strftime("%b %e %H:%M:%S");
    let head = format!("<{}>{at} pillarbox[{}]: ", facility * 8 + severity(item), std::process::id());
    shortened(format!("{head}{}", words_of(item)).into_bytes(), MOST_STREAM)
}

async fn unix(path: &Path, lines: &[Vec<u8>]) -> Result<String, String> {
    let problem = |error: std::io::Error| format!("{}: {error}", path.display());
    let socket = UnixDatagram::unbound().map_err(problem)?;
    match socket.connect(path) {
        Ok(()) => {
            for line in lines {
                socket.send(line).await.map_err(problem)?;
            }
        }
        // Some systems have a stream there (EPROTOTYPE); each message ends with a NUL then.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
            let mut stream = UnixStream::connect(path).await.map_err(problem)?;
            for line in lines {
                stream.write_all(line).await.map_err(problem)?;
                stream.write_all(b"\0").await.map_err(problem)?;
            }
            stream.shutdown().await.map_err(problem)?;
        }
        Err(error) => return Err(problem(error)),
    }
    Ok(format!("written to {}", path.display()))
}

async fn addresses(net: &Net, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = net.resolver.addresses(host).await.map_err(|failure| words::failure(&failure))?;
    Ok(found.into_iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Nobody says whether datagrams arrive; a port where nobody listens shows with the second one.
async fn datagrams(net: &Net, host: &str, port: u16, lines: &[Vec<u8>]) -> Result<String, String> {
    let mut problem = format!("{host} has no address");
    for peer in addresses(net, host, port).await? {
        let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let sent = async {
            let socket = UdpSocket::bind(any).await?;
            socket.connect(peer).await?;
            for line in lines {
                socket.send(line).await?;
            }
            Ok::<(), std::io::Error>(())
        };
        match sent.await {
            Ok(()) => return Ok(format!("sent to {peer}")),
            Err(error) => problem = format!("{peer}: {error}"),
        }
    }
    Err(problem)
}

async fn stream(
    net: &Net,
    host: &str,
    port: u16,
    tls: Option<&ClientTls>,
    limit: Duration,
    lines: &[Vec<u8>],
) -> Result<String, String> {
    let mut problem = format!("{host} has no address");
    for peer in addresses(net, host, port).await? {
        let tcp = match dial(peer, None, limit / 2).await {
            Ok(tcp) => tcp,
            Err(failure) => {
                problem = words::failure(&failure);
                continue;
            }
        };
        let written = match tls {
            None => counted(tcp, lines).await,
            Some(tls) => {
                let shaken = tls.handshake(tcp, host, Verify::Full).await;
                let (socket, _) = shaken.map_err(|failure| words::failure(&failure))?;
                counted(socket, lines).await
            }
        };
        return written.map(|()| format!("sent to {peer}")).map_err(|error| format!("{peer}: {error}"));
    }
    Err(problem)
}

async fn counted(mut socket: impl AsyncWrite + Unpin, lines: &[Vec<u8>]) -> std::io::Result<()> {
    for line in lines {
        socket.write_all(format!("{} ", line.len()).as_bytes()).await?;
        socket.write_all(line).await?;
    }
    socket.flush().await?;
    socket.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::plan::What;
    use crate::alert::text::tests::item;

    #[test]
    fn a_line_is_as_rfc_5424_wants_it() {
        let mut item = item("Größe", Severity::Critical, What::Raised);
        item.entry.alert.key = "a]\"b\\".into();
        let line = String::from_utf8(line("relay.example", 3, &item, 1_795_262_400_000, 2_048)).unwrap();
        let head = format!("<26>1 2026-11-21T12:00:00Z relay.example pillarbox {} incident ", std::process::id());
        let data = r#"[pillarbox@32473 key="a\]\"b\\" state="raised" severity="critical" id="a-17"] "#;
        let rest =
            line.strip_prefix(&head).and_then(|rest| rest.strip_prefix(data)).unwrap_or_else(|| panic!("{line}"));
        assert!(rest.starts_with("\u{feff}CRITICAL: Größe. Mail waits. | First: "), "{rest}");
        assert!(!rest.contains(char::is_control));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut item = item("x", Severity::Warning, What::Resolved);
        item.entry.alert.text = "ä".repeat(3_000);
        let line = line("relay.example", 16, &item, 0, MOST_DATAGRAM);
        assert!(line.len() > MOST_DATAGRAM - 4 && line.len() <= MOST_DATAGRAM);
        assert!(std::str::from_utf8(&line).is_ok_and(|line| line.starts_with("<133>1 ")));
    }
}
