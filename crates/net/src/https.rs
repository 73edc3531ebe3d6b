//! One small file by HTTPS, and one small document sent: all that MTA-STS (RFC 8461 §3.3) and TLS reports (RFC 8460 §5.4)
//! need. No redirects, no cookies, bounded in octets and time.
//!
//! A client of its own, so that names are resolved by our resolver and certificates are judged by our roots.

use std::net::SocketAddr;
use std::time::Duration;

use proto::policy::sts::MAX_POLICY;
use proto::smtp::reply::escape;
use proto::transcript::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::dial::dial;
use crate::{Net, Verify, address};

/// Octets of head and framing that are read beside the file.
const MAX_HEAD: usize = 16 * 1024;
/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FetchError {
    /// The host has no address, or is not reached.
    #[error("the host is not reached")]
    Reach(Failure),
    /// Its addresses are none of the public network.
    #[error("the host has no public address")]
    Private,
    /// TLS or its certificate.
    #[error("TLS with the host fails")]
    Tls(Failure),
    /// What came is not the file: in a few words.
    #[error("{0}")]
    Response(String),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
}

/// Where and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Name of the server: in the certificate too.
    pub host: &'a str,
    /// Path with its slash, already fit for a request line.
    pub path: &'a str,
    /// Limit of each connect; the exchange behind it may take twice as long.
    pub limit: Duration,
    /// Where to connect for an address of the host; `None` leaves it out.
    pub peer: &'a (dyn Fn(std::net::IpAddr) -> Option<SocketAddr> + Sync),
}

/// For [`Request::peer`]: port 443 at public addresses.
pub fn public(ip: std::net::IpAddr) -> Option<SocketAddr> {
    address::is_public(ip).then(|| SocketAddr::new(ip, 443))
}

/// The body of a text file, at most [`MAX_POLICY`] octets.
pub async fn get(net: &Net, request: Request<'_>) -> Result<Vec<u8>, FetchError> {
    let Request { host, path, .. } = request;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pillarbox\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    );
    let octets = exchange(net, request, &[head.as_bytes()]).await?;
    body(&octets).map_err(FetchError::Response)
}

/// Sends a document; any status 2xx is success.
pub async fn post(net: &Net, request: Request<'_>, kind: &str, document: &[u8]) -> Result<(), FetchError> {
    let Request { host, path, .. } = request;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pillarbox\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        document.len()
    );
    let octets = exchange(net, request, &[head.as_bytes(), document]).await?;
    let line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let status = status_of(&String::from_utf8_lossy(line)).map_err(FetchError::Response)?;
    if status.starts_with('2') { Ok(()) } else { Err(FetchError::Response(said(&status))) }
}

async fn exchange(net: &Net, request: Request<'_>, pieces: &[&[u8]]) -> Result<Vec<u8>, FetchError> {
    let Request { host, limit, peer, .. } = request;
    let addresses = net.resolver.addresses(host).await.map_err(FetchError::Reach)?;
    let mut problem = FetchError::Private;
    for peer in addresses.into_iter().filter_map(peer).take(MAX_ADDRESSES) {
        let tcp = match dial(peer, None, limit).await {
            Ok(tcp) => tcp,
            Err(failure) => {
                problem = FetchError::Reach(failure);
                continue;
            }
        };
        let speaking = async {
            let (mut stream, _) = net.tls.handshake(tcp, host, Verify::Full).await.map_err(FetchError::Tls)?;
            for piece in pieces {
                stream.write_all(piece).await.map_err(|error| FetchError::Response(error.to_string()))?;
            }
            stream.flush().await.map_err(|error| FetchError::Response(error.to_string()))?;
            let mut octets = Vec::new();
            let most = u64::try_from(MAX_HEAD + 2 * MAX_POLICY).unwrap_or(u64::MAX);
            // Some servers close without saying so in TLS; what came is judged by its length.
            let _ = stream.take(most).read_to_end(&mut octets).await;
            Ok(octets)
        };
        return tokio::time::timeout(limit * 2, speaking).await.unwrap_or(Err(FetchError::Timeout));
    }
    Err(problem)
}

fn status_of(line: &str) -> Result<String, String> {
    let words = line.split_once(' ').filter(|(version, _)| version.starts_with("HTTP/1.")).map(|(_, words)| words);
    words.map(|words| words.trim().to_owned()).ok_or_else(|| "no HTTP response".into())
}

fn said(status: &str) -> String {
    format!("status {}", escape(status.as_bytes(), 60))
}

/// The body of a response with status 200.
fn body(octets: &[u8]) -> Result<Vec<u8>, String> {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no HTTP response")?;
    let head = String::from_utf8_lossy(&octets[..end]);
    let status = status_of(head.split("\r\n").next().unwrap_or_default())?;
    if !status.starts_with("200") {
        return Err(said(&status));
    }
    let field = |wanted: &str| {
        let mut fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    let kind = field("content-type").unwrap_or_default();
    if !kind.starts_with("text/plain") {
        return Err(format!("content type `{}` instead of text/plain", escape(kind.as_bytes(), 60)));
    }
    let rest = &octets[end + 4..];
    let content = if field("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        unchunked(rest).ok_or("a body that was cut off")?
    } else {
        match field("content-length").map(|value| value.parse::<usize>()) {
            Some(Ok(length)) => rest.get(..length).ok_or("a body that was cut off")?.to_vec(),
            Some(Err(_)) => return Err("a content length that is no number".into()),
            None => rest.to_vec(),
        }
    };
    if content.len() > MAX_POLICY {
        return Err(format!("more than {MAX_POLICY} octets"));
    }
    Ok(content)
}

/// RFC 9112 §7.1.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok().filter(|size| *size <= 2 * MAX_POLICY)?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(content);
        }
        content.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_whole_or_not_at_all() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n";
        for (response, content) in [
            (format!("{head}Content-Length: 5\r\n\r\nhello"), Ok("hello")),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"), Ok("hello")),
            (format!("{head}\r\nhello"), Ok("hello")),
            (format!("{head}Content-Length: 9\r\n\r\nhello"), Err("a body that was cut off")),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"), Err("a body that was cut off")),
            ("HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n".into(), Err("status 301 Moved")),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n".into(),
                Err("content type `text/html` instead of text/plain"),
            ),
            ("SSH-2.0-x\r\n\r\n".into(), Err("no HTTP response")),
        ] {
            let got = body(response.as_bytes());
            assert_eq!(got.as_deref().map_err(String::as_str), content.map(str::as_bytes), "{response}");
        }
    }
}
