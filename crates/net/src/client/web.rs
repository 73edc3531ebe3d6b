//! One HTTP/1.1 connection to a provider's interface, for routes that hand mail over by HTTPS (RFC 9110, RFC 9112).
//!
//! What matters here and is hidden by common clients: whether the end of a request had been sent when a link died. No
//! redirects, no cookies; answers are bounded. What an answer means is decided by the caller.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::smtp::reply::escape;
use proto::transcript::{Fact, Failure, Stage, Step, Transcript};

use super::link::Link;
use super::record::Recorder;
use super::{ClientSettings, ConnectError, Session};
use crate::Net;
use crate::tls::Verify;

/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;
/// Longest head of a response.
const MAX_HEAD: usize = 32 * 1024;
/// Longest body of a response.
const MAX_BODY: usize = 64 * 1024;
/// Octets of a request that are kept back until the caller agrees to its end.
const LAST: usize = 512;
/// Longest wait for a block of the request to be taken.
const BLOCK: Duration = Duration::from_secs(60);
/// How long a server that stopped reading may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Fields, names in lower case, values trimmed.
    pub fields: Vec<(String, String)>,
    /// The body, cut at 64 KiB.
    pub body: Vec<u8>,
}

impl Answer {
    /// The wait that the server asks for, seconds (RFC 9110 §10.2.3).
    pub fn retry_after_s(&self, now_s: i64) -> Option<u64> {
        let value = self.field("retry-after")?;
        value.parse().ok().or_else(|| {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
            u64::try_from(at.as_second() - now_s).ok()
        })
    }

    /// The first field of a name, which is in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// There is no answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Unanswered {
    /// Why.
    pub failure: Failure,
    /// The whole request may have arrived.
    pub past_end: bool,
    /// Nothing of the request was taken by a connection that had been used before: ask again on a new one.
    pub stale: bool,
}

/// A connection under TLS.
pub struct WebConnection {
    link: Link,
    host: String,
    peer: SocketAddr,
    tls: Option<String>,
    recorder: Recorder,
    /// Requests so far.
    requests: u32,
    reusable: bool,
}

impl WebConnection {
    /// Connects to the first address that takes a connection and shows a good certificate.
    ///
    /// # Errors
    /// The last failure, with the steps of all addresses.
    pub async fn connect(
        net: &Net,
        host: &str,
        port: u16,
        addresses: &[IpAddr],
        settings: &ClientSettings,
    ) -> Result<Self, Box<ConnectError>> {
        let mut session = Session::new(net, host, settings);
        let mut last = (Stage::Dns, Failure::NoAddress { name: host.to_owned() });
        let verify = if settings.verify { Verify::Full } else { Verify::Opportunistic };
        let from = |address: &&IpAddr| settings.source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
        for address in addresses.iter().filter(from).take(MAX_ADDRESSES) {
            let peer = SocketAddr::new(*address, port);
            session.take_source(peer.ip());
            if let Err(failure) = session.dial(peer).await {
                last = (Stage::Tcp, failure);
                continue;
            }
            match session.handshake(verify).await {
                Ok(()) => {
                    let (link, recorder, tls) = session.into_parts();
                    let host = host.to_owned();
                    return Ok(Self { link, host, peer, tls, recorder, requests: 0, reusable: true });
                }
                // The certificate is the same at every address.
                Err(failure @ Failure::Certificate { .. }) => {
                    last = (Stage::Tls, failure);
                    break;
                }
                Err(failure) => last = (Stage::Tls, failure),
            }
        }
        let (stage, failure) = last;
        Err(Box::new(ConnectError { transcript: session.take_transcript(), failure, stage }))
    }

    /// The name connected to.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address connected to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// TLS version and cipher suite.
    pub fn tls(&self) -> Option<&str> {
        self.tls.as_deref()
    }

    /// Requests so far.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Whether another request can be made.
    pub fn reusable(&self) -> bool {
        self.reusable
    }

    /// The steps since this was last called.
    pub fn take_transcript(&mut self) -> Transcript {
        self.recorder.take()
    }

    /// Microseconds since the transcript began.
    pub fn now_us(&self) -> u64 {
        self.recorder.now()
    }

    /// Writes a step: what was asked, without secrets, and what came of it.
    pub fn note(&mut self, stage: Stage, began_us: u64, sent: &str, failure: Option<&Failure>) {
        match failure {
            Some(failure) => self.recorder.failure(stage, began_us, Some(sent), failure),
            None => {
                self.recorder.outcome(stage, began_us, Some(sent), &Ok(proto::smtp::reply::Reply::new(202, "Accepted")))
            }
        }
    }

    /// As a server that took a token is recorded.
    pub fn note_token(&mut self) {
        let began = self.recorder.now();
        self.recorder.fact(Stage::Auth, began, Fact::Authenticated { mechanism: "Bearer".into() });
    }

    /// The steps so far.
    pub fn steps(&self) -> &[Step] {
        self.recorder.steps()
    }

    /// Sends a request with a body, and waits at most `limit` for its answer.
    ///
    /// `head` ends with the empty line. `before_end` is awaited when all but the end of the body was sent; if it says
    /// `false`, the connection is closed and the request never was one.
    pub async fn ask(
        &mut self,
        head: &[u8],
        body: &[u8],
        limit: Duration,
        before_end: impl Future<Output = bool>,
    ) -> Result<Answer, Unanswered> {
        let used = self.requests > 0;
        let failed = |failure, past_end, stale| Unanswered { failure, past_end, stale };
        if !self.reusable || (used && self.has_closed().await) {
            self.reusable = false;
            return Err(failed(Failure::Disconnected, false, used));
        }
        self.requests += 1;
        self.reusable = false;
        let cut = body.len().saturating_sub(LAST);
        let (first, last) = body.split_at(cut);
        for piece in [head, first] {
            if let Err(failure) = self.link.send(piece, BLOCK).await {
                return match self.answer(LAST_WORDS).await {
                    // It is said before the request has ended: nothing of it was done.
                    Ok(answer) => Ok(answer),
                    Err(_) => Err(failed(failure, false, used)),
                };
            }
        }
        if !before_end.await {
            return Err(failed(
                Failure::Local { reason: "stopped before the end of the request".into() },
                false,
                false,
            ));
        }
        if let Err(failure) = self.link.send(last, BLOCK).await {
            return match self.answer(LAST_WORDS).await {
                Ok(answer) => Ok(answer),
                Err(_) => Err(failed(failure, true, false)),
            };
        }
        self.answer(limit).await.map_err(|failure| failed(failure, true, false))
    }

    /// Whether the server closed a connection that was kept, or spoke unasked.
    async fn has_closed(&mut self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.link.disturbed()).await.is_ok()
    }

    /// Resolves when the server closes the idle connection. Cancel-safe.
    pub async fn closed(&mut self) {
        if self.reusable {
            self.link.disturbed().await;
        }
        self.reusable = false;
    }

    /// Closes the connection.
    pub async fn close(mut self) {
        self.link.shutdown(Duration::from_secs(1)).await;
    }

    async fn answer(&mut self, limit: Duration) -> Result<Answer, Failure> {
        let mut octets = Vec::new();
        let reading = async {
            loop {
                match read(&octets) {
                    Read::Whole(answer, keep) => {
                        self.reusable = keep;
                        return Ok(answer);
                    }
                    Read::Wrong => return Err(Failure::BadReply { text: escape(&octets, 200) }),
                    Read::More(to_end) => {
                        if !self.link.read(&mut octets, limit).await? {
                            return match to_end {
                                Some(answer) => Ok(answer),
                                None if octets.is_empty() => Err(Failure::Disconnected),
                                None => Err(Failure::BadReply { text: escape(&octets, 200) }),
                            };
                        }
                    }
                }
            }
        };
        let seconds = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        tokio::time::timeout(limit, reading).await.unwrap_or(Err(Failure::Timeout { seconds }))
    }
}

impl std::fmt::Debug for WebConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebConnection").field("host", &self.host).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What octets of a response come to.
enum Read {
    /// All of it, and whether the connection can be used again.
    Whole(Answer, bool),
    /// More is to come; if the stream ends here, this is the response after all.
    More(Option<Answer>),
    /// No HTTP.
    Wrong,
}

fn read(octets: &[u8]) -> Read {
    let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") else {
        let begins = b"HTTP/1.";
        let length = octets.len().min(begins.len());
        return if octets[..length] == begins[..length] && octets.len() <= MAX_HEAD {
            Read::More(None)
        } else {
            Read::Wrong
        };
    };
    let rest = &octets[end + 4..];
    let Some((status, fields)) = head(&octets[..end]) else { return Read::Wrong };
    if status / 100 == 1 {
        return read(rest);
    }
    let mut answer = Answer { status, fields, body: Vec::new() };
    let has =
        |name: &str, word: &str| answer.field(name).is_some_and(|value| value.to_ascii_lowercase().contains(word));
    let keep = !has("connection", "close");
    let content = if status == 204 || status == 304 {
        Content::Whole(Vec::new())
    } else if has("transfer-encoding", "chunked") {
        unchunked(rest)
    } else {
        match answer.field("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) if rest.len() >= length => Content::Whole(rest[..length].to_vec()),
            Some(Ok(_)) => Content::More,
            Some(Err(_)) => return Read::Wrong,
            None => {
                answer.body = rest[..rest.len().min(MAX_BODY)].to_vec();
                return if rest.len() > MAX_BODY { Read::Whole(answer, false) } else { Read::More(Some(answer)) };
            }
        }
    };
    match content {
        Content::Whole(body) => {
            answer.body = body;
            answer.body.truncate(MAX_BODY);
            Read::Whole(answer, keep)
        }
        // The status is known, and so is what it means: a longer body is not waited for.
        Content::More if rest.len() > MAX_BODY => Read::Whole(answer, false),
        // A response that is cut in its body is one all the same: its status says what became of the request.
        Content::More => Read::More(Some(answer)),
        Content::Wrong => Read::Wrong,
    }
}

fn head(octets: &[u8]) -> Option<(u16, Vec<(String, String)>)> {
    let text = String::from_utf8_lossy(octets);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split_once(' ').filter(|(version, _)| version.starts_with("HTTP/1."))?.1;
    let status = status.get(..3)?.parse().ok().filter(|status| (100..600).contains(status))?;
    let fields = lines.filter_map(|line| line.split_once(':'));
    Some((status, fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()))
}

enum Content {
    Whole(Vec<u8>),
    More,
    Wrong,
}

/// RFC 9112 §7.1.
fn unchunked(mut rest: &[u8]) -> Content {
    let mut content = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Content::More };
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|line| line.split(';').next());
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok()).filter(|size| *size <= 1 << 24);
        let Some(size) = size else { return Content::Wrong };
        rest = &rest[end + 2..];
        if size == 0 {
            // Trailer fields up to an empty line.
            let ended = rest.starts_with(b"\r\n") || rest.windows(4).any(|four| four == b"\r\n\r\n");
            return if ended { Content::Whole(content) } else { Content::More };
        }
        if rest.len() < size + 2 {
            return Content::More;
        }
        content.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_where_its_head_says() {
        for (octets, status, body, keep) in [
            ("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, "", true),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, "", true),
            ("HTTP/1.1 429 Slow\r\nconnection: Close\r\nContent-Length: 2\r\n\r\n{}", 429, "{}", false),
            ("HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\n{}\r\n0\r\n\r\n", 400, "{}", true),
            ("HTTP/1.1 204 Nothing\r\n\r\n", 204, "", true),
        ] {
            let Read::Whole(answer, again) = read(octets.as_bytes()) else { panic!("{octets}") };
            assert_eq!((answer.status, answer.body.as_slice(), again), (status, body.as_bytes(), keep), "{octets}");
            for cut in 0..octets.len() {
                assert!(!matches!(read(&octets.as_bytes()[..cut]), Read::Whole(..) | Read::Wrong), "{cut} of {octets}");
            }
        }
    }

    #[test]
    fn a_response_that_is_cut_in_its_body_still_says_its_status_and_one_cut_in_its_head_says_nothing() {
        let whole = "HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nab";
        assert!(matches!(read(whole.as_bytes()), Read::More(Some(Answer { status: 202, .. }))));
        assert!(matches!(read(&whole.as_bytes()[..30]), Read::More(None)));
        for wrong in ["220 mail.example ESMTP\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/2 200\r\n\r\n", "\u{16}\u{3}\u{1}"] {
            assert!(matches!(read(wrong.as_bytes()), Read::Wrong), "{wrong:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(matches!(read(endless.as_bytes()), Read::Wrong));
    }
}
