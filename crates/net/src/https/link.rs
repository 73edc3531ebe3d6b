//! A connection to a web server: addresses are looked up once, checked, and connected to as they were checked.
//!
//! A name that answers otherwise a moment later changes nothing: nobody asks again. Redirects are answers like others.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::response::{Incoming, Response, Stop, Unfinished};
use super::{FetchError, Scheme, Target};
use crate::clock::timer_now;
use crate::dial::dial;
use crate::socket::Socket;
use crate::{Net, Verify};

/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;

/// A request, but for the fields that every request has.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// `GET`.
    pub method: &'a str,
    /// More fields.
    pub fields: &'a [(&'a str, &'a str)],
    /// The body; its length is said for it.
    pub body: Option<&'a [u8]>,
}

/// How much of an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Limit of the exchange, from the first octet sent to the last one read.
    pub limit: Duration,
    /// Octets of the body that are wanted.
    pub body: usize,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    socket: Socket,
    /// Whom it is with.
    pub peer: SocketAddr,
    opened: Instant,
    used: bool,
    open: bool,
}

impl Link {
    /// Connects. `peer` says where to connect for an address of the host; `None` leaves it out. Each attempt to connect
    /// has the limit, as has the handshake.
    pub async fn open(
        net: &Net,
        target: &Target,
        limit: Duration,
        peer: &(dyn Fn(IpAddr) -> Option<SocketAddr> + Sync),
    ) -> Result<Self, FetchError> {
        let addresses = net.resolver.addresses(&target.host).await.map_err(FetchError::Reach)?;
        let mut problem = FetchError::Private;
        for peer in addresses.into_iter().filter_map(peer).take(MAX_ADDRESSES) {
            let tcp = match dial(peer, None, limit).await {
                Ok(tcp) => tcp,
                Err(failure) => {
                    problem = FetchError::Reach(failure);
                    continue;
                }
            };
            let socket = match target.scheme {
                Scheme::Http => Socket::Plain(tcp),
                Scheme::Https => {
                    let shaken = net.tls.handshake(tcp, &target.host, Verify::Full);
                    let shaken = timeout_at(timer_now() + limit, shaken).await.map_err(|_| FetchError::Timeout)?;
                    let (stream, _) = shaken.map_err(FetchError::Tls)?;
                    Socket::Tls(Box::new(stream.into()))
                }
            };
            return Ok(Self { socket, peer, opened: timer_now(), used: false, open: true });
        }
        Err(problem)
    }

    /// Whether another request may go over it, if it is not older than this.
    pub fn is_fresh(&self, age: Duration) -> bool {
        self.open && self.opened.elapsed() <= age
    }

    /// Whether a request went over it before: the server may have closed it without our noticing.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Asks, and reads the answer.
    pub async fn ask(
        &mut self,
        target: &Target,
        request: Outgoing<'_>,
        patience: Patience,
    ) -> Result<Response, FetchError> {
        let head = head(target, request)?;
        let ends = timer_now() + patience.limit;
        self.open = false;
        let sending = async {
            let mut octets = head.into_bytes();
            octets.extend_from_slice(request.body.unwrap_or_default());
            let mut rest = octets.as_slice();
            while !rest.is_empty() {
                let sent = self.socket.write(rest).await?;
                rest = &rest[sent..];
            }
            self.socket.flush().await
        };
        // A server may answer and close before it has read everything: what it said counts.
        let _ = timeout_at(ends, sending).await.map_err(|_| FetchError::Timeout)?;
        let response = self.read(ends, patience.body).await?;
        self.used = true;
        self.open = response.keeps;
        Ok(response)
    }

    async fn read(&mut self, ends: Instant, most: usize) -> Result<Response, FetchError> {
        let mut incoming = Incoming::new(most);
        let mut stop = None;
        while !incoming.is_done() && stop.is_none() {
            let mut fed = Ok(());
            let read = timeout_at(ends, self.socket.read(|octets| fed = incoming.feed(octets))).await;
            fed.map_err(FetchError::Response)?;
            stop = match read {
                Ok(Ok(1..)) => None,
                Ok(_) => Some(Stop::Closed),
                Err(_) => Some(Stop::Late),
            };
        }
        incoming.finish(stop).map_err(|unfinished| match unfinished {
            Unfinished::Nothing => FetchError::Closed,
            Unfinished::Late => FetchError::Timeout,
            Unfinished::Malformed(why) => FetchError::Response(why),
        })
    }

    /// Says good-bye.
    pub async fn close(mut self) {
        let _ = timeout_at(timer_now() + Duration::from_secs(1), self.socket.shutdown()).await;
    }
}

/// The head of a request; nothing in it can begin a line of its own.
fn head(target: &Target, request: Outgoing<'_>) -> Result<String, FetchError> {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: pillarbox\r\n",
        request.method,
        target.path,
        target.authority()
    );
    for (name, value) in request.fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = request.body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let lines = 3 + request.fields.len() + usize::from(request.body.is_some()) + 1;
    let foul = |octet: u8| octet != b'\r' && octet != b'\n' && (octet.is_ascii_control() || !octet.is_ascii());
    if head.matches('\n').count() != lines || head.matches('\r').count() != lines || head.bytes().any(foul) {
        return Err(FetchError::Response("a request that cannot be written".into()));
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_request_begins_a_line_of_its_own() {
        let target = |host: &str, path: &str| Target::https(host, path);
        let request = Outgoing { method: "POST", fields: &[("X", "y")], body: Some(b"z") };
        let good = head(&target("a.test", "/x"), request).unwrap();
        assert_eq!(
            good,
            "POST /x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: pillarbox\r\nX: y\r\nContent-Length: 1\r\n\r\n"
        );
        for (host, path, value) in [
            ("a.test", "/x HTTP/1.1\r\nY: z", "y"),
            ("a.test\n", "/", "y"),
            ("a.test", "/\u{e9}", "y"),
            ("a.test", "/", "y\r\nZ: a"),
        ] {
            let fields = [("X", value)];
            assert!(
                head(&target(host, path), Outgoing { fields: &fields, ..request }).is_err(),
                "{host}{path} {value}"
            );
        }
    }
}
