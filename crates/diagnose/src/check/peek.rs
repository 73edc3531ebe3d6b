//! What a port speaks, found out by connecting anew: in the clear and with TLS. Nothing secret is ever sent.

use std::net::SocketAddr;
use std::time::Duration;

use net::Net;
use net::client::{ClientSettings, Session, Timeouts};
use net::dial::dial;
use net::tls::Verify;
use proto::smtp::reply::escape;
use proto::transcript::{Failure, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest look at a port.
const LIMIT: Duration = Duration::from_secs(4);
/// How long a server may stay silent before we speak first.
const QUIET: Duration = Duration::from_millis(700);

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// SMTP.
    Smtp,
    /// TLS from the first octet.
    Tls,
    /// Another service, by its name.
    Other(&'static str),
    /// Something without a name.
    Unknown,
    /// Nothing, or it closed.
    Silent,
}

/// A look at a port in both modes.
#[derive(Debug, Clone)]
pub(super) struct Peeked {
    pub(super) clear: Service,
    /// What answers inside TLS; `None` if the handshake fails.
    pub(super) inside: Option<Service>,
    pub(super) text: String,
}

/// Looks at a port: in the clear, and with TLS as well unless it speaks first. A server that tests whether clients wait
/// their turn is not provoked.
pub(super) async fn look(net: &Net, host: &str, peer: SocketAddr, settings: &ClientSettings) -> Peeked {
    let limit = LIMIT.min(settings.timeouts.banner);
    let found = tokio::time::timeout(limit * 2, async {
        let (mut tcp, spoken) = listen(peer, settings, limit).await;
        if !spoken.is_empty() {
            return (spoken, None);
        }
        let asked = async {
            match &mut tcp {
                Some(tcp) => provoke(tcp, settings, limit).await,
                None => Vec::new(),
            }
        };
        let inside = async {
            let inside = inside(net, host, peer, settings);
            tokio::time::timeout(limit, inside).await.ok().flatten()
        };
        tokio::join!(asked, inside)
    })
    .await;
    let (octets, inside) = found.unwrap_or_default();
    let text = escape(octets.split(|octet| *octet == b'\n').next().unwrap_or_default(), 120);
    let clear = service_of(&octets);
    match inside {
        Some((service, words)) => {
            Peeked { clear, inside: Some(service), text: if words.is_empty() { text } else { words } }
        }
        None => Peeked { clear, inside: None, text },
    }
}

/// What the server says of its own accord.
async fn listen(peer: SocketAddr, settings: &ClientSettings, limit: Duration) -> (Option<TcpStream>, Vec<u8>) {
    let Ok(mut tcp) = dial(peer, settings.source, limit).await else { return (None, Vec::new()) };
    let spoken = read_some(&mut tcp, QUIET).await;
    (Some(tcp), spoken)
}

/// Services that wait for us say what they are when they do not understand.
async fn provoke(tcp: &mut TcpStream, settings: &ClientSettings, limit: Duration) -> Vec<u8> {
    let _ = tcp.write_all(format!("EHLO {}\r\n", settings.helo).as_bytes()).await;
    // A server under TLS takes this for a broken record and waits for more, or says nothing: not worth the whole limit.
    let first = read_some(tcp, limit / 2).await;
    if !first.is_empty() {
        return first;
    }
    // HTTP ends its request with an empty line.
    let _ = tcp.write_all(b"\r\n").await;
    read_some(tcp, QUIET).await
}

async fn read_some(tcp: &mut TcpStream, limit: Duration) -> Vec<u8> {
    let mut buffer = [0; 1024];
    match tokio::time::timeout(limit, tcp.read(&mut buffer)).await {
        Ok(Ok(count)) => buffer[..count].to_vec(),
        _ => Vec::new(),
    }
}

async fn inside(net: &Net, host: &str, peer: SocketAddr, settings: &ClientSettings) -> Option<(Service, String)> {
    let settings = short(settings, LIMIT);
    let mut session = Session::new(net, host, &settings);
    session.dial(peer).await.ok()?;
    session.handshake(Verify::Opportunistic).await.ok()?;
    let quick = tokio::time::timeout(QUIET, session.greeting()).await;
    let failure = match quick {
        Ok(Ok(_) | Err(Failure::Refused(_))) => return Some((Service::Smtp, String::new())),
        Ok(Err(failure)) => failure,
        Err(_) => match session.command(Stage::Ehlo, "EHLO peek", net::client::Expect::Class(2)).await {
            Ok(_) | Err(Failure::Refused(_)) => return Some((Service::Smtp, String::new())),
            Err(failure) => failure,
        },
    };
    Some(match failure {
        Failure::BadReply { text } => (service_of(text.as_bytes()), text),
        _ => (Service::Silent, String::new()),
    })
}

/// Settings for looks: short, without secrets, without a judgement of certificates.
pub(super) fn short(settings: &ClientSettings, limit: Duration) -> ClientSettings {
    let limit = limit.min(settings.timeouts.banner);
    ClientSettings {
        source: settings.source,
        verify: false,
        timeouts: even(limit),
        ..ClientSettings::new(&settings.helo)
    }
}

/// The same limit for each wait.
pub(super) fn even(limit: Duration) -> Timeouts {
    Timeouts {
        connect: limit,
        banner: limit,
        ehlo: limit,
        tls: limit,
        mail: limit,
        rcpt: limit,
        data: limit,
        block: limit,
        dot: limit,
    }
}

/// The service behind the first octets, or behind an escaped text of them.
pub(super) fn service_of(octets: &[u8]) -> Service {
    let lower = octets.to_ascii_lowercase();
    let starts = |words: &[&str]| words.iter().any(|word| lower.starts_with(word.as_bytes()));
    let has = |word: &str| lower.windows(word.len()).any(|window| window == word.as_bytes());
    match octets {
        [] => Service::Silent,
        [0x15 | 0x16, 3, ..] => Service::Tls,
        _ if starts(&["\\x15\\x03", "\\x16\\x03", "\\u{15}\\u{3}", "\\u{16}\\u{3}"]) => Service::Tls,
        _ if starts(&["http/", "<html", "<!doctype", "<?xml"]) => Service::Other("HTTP"),
        _ if starts(&["ssh-"]) => Service::Other("SSH"),
        _ if starts(&["+ok", "-err"]) => Service::Other("POP3"),
        _ if starts(&["* ok", "* preauth", "* bye", "* bad"]) => Service::Other("IMAP"),
        _ if starts(&["\"implementation\""]) => Service::Other("ManageSieve"),
        _ if has("mysql_native_password") || has("caching_sha2_password") || has("mariadb") => Service::Other("MySQL"),
        _ if starts(&["2", "4", "5"]) && lower.len() >= 4 && matches!(lower[3], b' ' | b'-') => text_service(&has),
        _ => Service::Unknown,
    }
}

/// Services that greet with 220 as SMTP does.
fn text_service(has: &dyn Fn(&str) -> bool) -> Service {
    if has("lmtp") {
        Service::Other("LMTP")
    } else if has("ftp") && !has("smtp") {
        Service::Other("FTP")
    } else if has("nntp") {
        Service::Other("NNTP")
    } else {
        Service::Smtp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_told_by_their_first_words() {
        for (text, service) in [
            ("220 mx.example.net ESMTP", Service::Smtp),
            ("421 too busy", Service::Smtp),
            ("220 (vsFTPd 3.0.5)", Service::Other("FTP")),
            ("220 host LMTP ready", Service::Other("LMTP")),
            ("HTTP/1.1 400 Bad Request", Service::Other("HTTP")),
            ("+OK Dovecot ready.", Service::Other("POP3")),
            ("* OK [CAPABILITY IMAP4rev1] ready", Service::Other("IMAP")),
            ("SSH-2.0-OpenSSH_9.6", Service::Other("SSH")),
            ("\x15\x03\x01\x00\x02\x02\x50", Service::Tls),
            ("\\u{15}\\u{3}\\u{1}", Service::Tls),
            ("", Service::Silent),
            ("hello there", Service::Unknown),
            ("2200 no", Service::Unknown),
        ] {
            assert_eq!(service_of(text.as_bytes()), service, "{text}");
        }
    }
}
