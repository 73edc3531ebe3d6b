//! Opens TCP connections, with a source address and a time limit, and says in types why one could not be opened.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::transcript::Failure;
use tokio::net::{TcpSocket, TcpStream};

/// Connects to `peer`, from `source` if given, within `limit`.
///
/// The connection has TCP_NODELAY (a pipelined batch is one write already) and keep-alive, so that a pooled
/// connection whose peer vanished is noticed.
pub async fn dial(peer: SocketAddr, source: Option<IpAddr>, limit: Duration) -> Result<TcpStream, Failure> {
    let failed = |error: io::Error| classify(peer, &error);
    let socket = open(peer, source).map_err(failed)?;
    match tokio::time::timeout(limit, socket.connect(peer)).await {
        Ok(Ok(stream)) => {
            stream.set_nodelay(true).map_err(failed)?;
            Ok(stream)
        }
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Failure::ConnectTimeout { peer }),
    }
}

fn open(peer: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        if source.is_ipv4() != peer.is_ipv4() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "source address is of the other IP version"));
        }
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.set_keepalive(true)?;
    Ok(socket)
}

fn classify(peer: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::ConnectRefused { peer },
        io::ErrorKind::TimedOut => Failure::ConnectTimeout { peer },
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Failure::ConnectFailed { peer, reason: "no route to the address".into() }
        }
        io::ErrorKind::ConnectionReset => Failure::ConnectFailed { peer, reason: "connection reset".into() },
        io::ErrorKind::AddrNotAvailable => {
            Failure::ConnectFailed { peer, reason: "source address is not one of this machine's".into() }
        }
        _ => Failure::ConnectFailed { peer, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_closed_port_is_told_from_a_bad_source_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let source = Some("127.0.0.1".parse().unwrap());
        assert!(dial(peer, source, LIMIT).await.is_ok());

        let foreign = dial(peer, Some("192.0.2.1".parse().unwrap()), LIMIT).await.unwrap_err();
        assert!(
            matches!(&foreign, Failure::ConnectFailed { reason, .. } if reason.contains("source address")),
            "{foreign:?}"
        );
        let family = dial(peer, Some("::1".parse().unwrap()), LIMIT).await.unwrap_err();
        assert!(
            matches!(&family, Failure::ConnectFailed { reason, .. } if reason.contains("IP version")),
            "{family:?}"
        );

        drop(listener);
        assert_eq!(dial(peer, None, LIMIT).await.unwrap_err(), Failure::ConnectRefused { peer });
    }

    #[test]
    fn socket_errors_become_typed_failures() {
        let peer: SocketAddr = "192.0.2.1:25".parse().unwrap();
        for (kind, expected) in [
            (io::ErrorKind::ConnectionRefused, Failure::ConnectRefused { peer }),
            (io::ErrorKind::TimedOut, Failure::ConnectTimeout { peer }),
            (io::ErrorKind::HostUnreachable, Failure::ConnectFailed { peer, reason: "no route to the address".into() }),
        ] {
            assert_eq!(classify(peer, &kind.into()), expected);
        }
    }
}
