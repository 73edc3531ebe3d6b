//! HTTP/1.1 as a client, a small one of our own: names are resolved by our resolver, certificates judged by our roots,
//! and every address is checked before it is connected to. No redirects, no cookies; bounded in octets and time.
//!
//! [`get`] and [`post`] are all that MTA-STS (RFC 8461 §3.3) and TLS reports (RFC 8460 §5.4) need; a [`Link`] serves others.

mod link;
mod response;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::policy::sts::MAX_POLICY;
use proto::smtp::reply::escape;
use proto::transcript::Failure;

pub use link::{Link, Outgoing, Patience};
pub use response::{Ending, Response};

use crate::{Net, address};

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
    /// The connection was closed without an answer.
    #[error("the connection was closed without an answer")]
    Closed,
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
}

/// In the clear or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`.
    Http,
    /// `https://`.
    Https,
}

/// What is asked, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// In the clear or not.
    pub scheme: Scheme,
    /// Name of the server, in the certificate too, or an address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query with their slash, already fit for a request line.
    pub path: String,
}

impl Target {
    /// By HTTPS at its usual port.
    pub fn https(host: &str, path: &str) -> Self {
        Self { scheme: Scheme::Https, host: host.to_owned(), port: 443, path: path.to_owned() }
    }

    /// For the field `Host`.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
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
    pub peer: &'a (dyn Fn(IpAddr) -> Option<SocketAddr> + Sync),
}

/// For [`Request::peer`]: port 443 at public addresses.
pub fn public(ip: IpAddr) -> Option<SocketAddr> {
    address::is_public(ip).then(|| SocketAddr::new(ip, 443))
}

/// The body of a text file, at most [`MAX_POLICY`] octets.
pub async fn get(net: &Net, request: Request<'_>) -> Result<Vec<u8>, FetchError> {
    let fields = [("Accept", "text/plain"), ("Connection", "close")];
    let target = Target::https(request.host, request.path);
    let response = exchange(net, request, &target, Outgoing { method: "GET", fields: &fields, body: None }).await?;
    text(response).map_err(FetchError::Response)
}

/// Sends a document to a server at this port; any status 2xx is success.
pub async fn post(net: &Net, request: Request<'_>, port: u16, kind: &str, document: &[u8]) -> Result<(), FetchError> {
    let fields = [("Content-Type", kind), ("Connection", "close")];
    let outgoing = Outgoing { method: "POST", fields: &fields, body: Some(document) };
    let target = Target { port, ..Target::https(request.host, request.path) };
    let response = exchange(net, request, &target, outgoing).await?;
    if (200..300).contains(&response.status) { Ok(()) } else { Err(FetchError::Response(response.in_words())) }
}

async fn exchange(
    net: &Net,
    request: Request<'_>,
    target: &Target,
    outgoing: Outgoing<'_>,
) -> Result<Response, FetchError> {
    let mut link = Link::open(net, target, request.limit, request.peer).await?;
    link.ask(target, outgoing, Patience { limit: request.limit * 2, body: MAX_POLICY }).await
}

/// The body of a response with status 200.
fn text(response: Response) -> Result<Vec<u8>, String> {
    if response.status != 200 {
        return Err(response.in_words());
    }
    let kind = response.field("content-type").unwrap_or_default().to_ascii_lowercase();
    if !kind.starts_with("text/plain") {
        return Err(format!("content type `{}` instead of text/plain", escape(kind.as_bytes(), 60)));
    }
    match response.ending {
        Ending::Whole => Ok(response.body),
        Ending::Cut => Err(format!("more than {MAX_POLICY} octets")),
        Ending::Broken(why) => Err(why.into()),
    }
}
