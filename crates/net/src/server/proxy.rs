//! PROXY protocol version 2: who is behind a load balancer.
//!
//! Read octet-exact before anything else, so that what follows (SMTP or a TLS handshake) is untouched. Version 1 is
//! not read. Its only authority is the peer list: never read from a peer that is not on it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and extensions together; real ones are a few hundred octets.
const MAX_LENGTH: usize = 4096;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// The proxy speaks for itself, a health check for instance, or does not know.
    Local,
    /// The client and the address it connected to.
    Proxied { client: SocketAddr, local: SocketAddr },
}

/// Reads one header; anything else than a sound one is an error.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Header> {
    let mut start = [0; 16];
    stream.read_exact(&mut start).await?;
    let length = usize::from(u16::from_be_bytes([start[14], start[15]]));
    if &start[..12] != SIGNATURE || length > MAX_LENGTH {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    parse(start[12], start[13], &rest).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(command: u8, family: u8, rest: &[u8]) -> Option<Header> {
    match (command, family) {
        (0x20, _) => Some(Header::Local),
        (0x21, 0x11) => {
            let octets: &[u8; 12] = rest.first_chunk()?;
            let address =
                |at: usize| IpAddr::V4(Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]));
            let port = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
            proxied(address(0), port(8), address(4), port(10))
        }
        (0x21, 0x21) => {
            let octets: &[u8; 36] = rest.first_chunk()?;
            let (client, behind) = octets.split_first_chunk::<16>()?;
            let (local, _) = behind.split_first_chunk::<16>()?;
            let port = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
            proxied(IpAddr::V6(Ipv6Addr::from(*client)), port(32), IpAddr::V6(Ipv6Addr::from(*local)), port(34))
        }
        // AF_UNSPEC: the receiver uses the real addresses.
        (0x21, 0x00) => Some(Header::Local),
        _ => None,
    }
}

fn proxied(client: IpAddr, client_port: u16, local: IpAddr, local_port: u16) -> Option<Header> {
    Some(Header::Proxied {
        client: SocketAddr::new(client.to_canonical(), client_port),
        local: SocketAddr::new(local.to_canonical(), local_port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut octets = SIGNATURE.to_vec();
        octets.extend([command, family]);
        octets.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        octets.extend(rest);
        octets
    }

    #[tokio::test]
    async fn addresses_come_from_the_header_and_what_follows_is_left() {
        let rest = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0, 25, 0x04, 0, 1, 0];
        let mut octets = header(0x21, 0x11, &rest);
        octets.extend(b"EHLO");
        let mut stream = &octets[..];
        let expected =
            Header::Proxied { client: "192.0.2.1:12345".parse().unwrap(), local: "198.51.100.2:25".parse().unwrap() };
        assert_eq!(read(&mut stream).await.unwrap(), expected);
        assert_eq!(stream, b"EHLO");

        let mut rest = [0; 36];
        rest[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        rest[16..32].copy_from_slice(&"2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        rest[33] = 7;
        rest[35] = 25;
        let expected =
            Header::Proxied { client: "[2001:db8::1]:7".parse().unwrap(), local: "[2001:db8::2]:25".parse().unwrap() };
        assert_eq!(read(&mut &header(0x21, 0x21, &rest)[..]).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_health_check_is_local_and_anything_unsound_is_refused() {
        assert_eq!(read(&mut &header(0x20, 0, &[])[..]).await.unwrap(), Header::Local);
        assert_eq!(read(&mut &header(0x21, 0, &[1, 2])[..]).await.unwrap(), Header::Local);
        for bad in [
            header(0x21, 0x11, &[0; 11]),
            header(0x21, 0x12, &[0; 12]),
            header(0x21, 0x31, &[0; 216]),
            header(0x11, 0x11, &[0; 12]),
            header(0x22, 0x11, &[0; 12]),
            header(0x21, 0x11, &[0; 5000]),
            b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 25\r\n".to_vec(),
            b"EHLO client.example\r\n".to_vec(),
            SIGNATURE.to_vec(),
        ] {
            assert!(read(&mut &bad[..]).await.is_err(), "{bad:?}");
        }
    }
}
