//! One small file by HTTPS: all that MTA-STS needs (RFC 8461 §3.3). No redirects, no cookies, at most 64 KiB.
//!
//! A client of its own, so that names are resolved by the audit's resolver and the certificate is judged by the
//! same roots as everything else.

use std::net::SocketAddr;

use net::Verify;
use net::dial::dial;
use proto::policy::sts::MAX_POLICY;
use proto::smtp::reply::escape;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::audit::Scene;
use super::smtp::in_words;

/// Octets of head and framing that are read beside the file.
const MAX_HEAD: usize = 16 * 1024;

/// The body of `https://host/path`; what went wrong as a fragment.
pub(super) async fn get(scene: Scene<'_>, host: &str, path: &str) -> Result<Vec<u8>, String> {
    let (net, plan) = (&scene.auditor.net, &scene.auditor.plan);
    let addresses = net.resolver.addresses(host).await.map_err(|failure| format!("{host}: {}", in_words(&failure)))?;
    let mut problem = String::from("no address");
    for ip in addresses.into_iter().take(4) {
        let peer = plan.redirected(SocketAddr::new(ip, 443));
        let tcp = match dial(peer, None, plan.timeout).await {
            Ok(tcp) => tcp,
            Err(failure) => {
                problem = format!("{ip}: {}", in_words(&failure));
                continue;
            }
        };
        let fetch = async {
            let (mut stream, _) =
                net.tls.handshake(tcp, host, Verify::Full).await.map_err(|failure| in_words(&failure))?;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pillarbox\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
            let mut octets = Vec::new();
            let limit = u64::try_from(MAX_HEAD + 2 * MAX_POLICY).unwrap_or(u64::MAX);
            // Some servers close without saying so in TLS; what came is judged by its length.
            let _ = stream.take(limit).read_to_end(&mut octets).await;
            body(&octets)
        };
        return tokio::time::timeout(plan.timeout * 2, fetch).await.unwrap_or_else(|_| Err("no answer in time".into()));
    }
    Err(problem)
}

/// The body of a response with status 200.
fn body(octets: &[u8]) -> Result<Vec<u8>, String> {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no HTTP response")?;
    let head = String::from_utf8_lossy(&octets[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let words = status.split_once(' ').filter(|(version, _)| version.starts_with("HTTP/1.")).map(|(_, words)| words);
    let words = words.ok_or("no HTTP response")?;
    if !words.starts_with("200") {
        return Err(format!("status {}", escape(words.trim().as_bytes(), 60)));
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
