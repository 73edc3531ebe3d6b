//! Octets to an HTTP/1.1 response (RFC 9112): bounded in every direction, however the server cuts or stretches it.
//!
//! Holds no socket. A head that cannot be understood is an error; of a body only what was asked for is kept.

use proto::smtp::reply::escape;

/// Octets of a head, of its interim responses, of a chunk's line, of the trailers.
const MAX_HEAD: usize = 16 * 1024;
/// Interim responses before the final one.
const MAX_INTERIM: u32 = 8;

/// How the body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// As it said it would.
    Whole,
    /// There was more than was wanted.
    Cut,
    /// Not as it said it would: in a few words.
    Broken(&'static str),
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// The words behind it, as they came.
    pub reason: String,
    /// Fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, as much of it as was wanted.
    pub body: Vec<u8>,
    /// How the body ended.
    pub ending: Ending,
    /// Another request may follow on the connection.
    pub(super) keeps: bool,
}

impl Response {
    /// The first field of a name, which is in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `status 301 Moved`.
    pub fn in_words(&self) -> String {
        format!("status {} {}", self.status, escape(self.reason.as_bytes(), 60)).trim_end().to_owned()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// Octets left.
    Length(u64),
    /// Until the connection closes.
    Rest,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    Done,
}

/// Why no more octets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Closed,
    Late,
}

/// What became of a response that was not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// Not one octet came.
    Nothing,
    /// Too little came in time.
    Late,
    /// It is none: in a few words.
    Malformed(String),
}

/// A response on its way in.
pub(super) struct Incoming {
    most: usize,
    state: State,
    line: Vec<u8>,
    interim: u32,
    trailers: usize,
    response: Option<Response>,
}

impl Incoming {
    /// Keeps at most so many octets of the body.
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: State::Head, line: Vec::new(), interim: 0, trailers: 0, response: None }
    }

    /// True when nothing more is wanted.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes octets in.
    pub(super) fn feed(&mut self, mut octets: &[u8]) -> Result<(), String> {
        while !octets.is_empty() {
            octets = match self.state {
                State::Head => self.head(octets)?,
                State::Length(left) => {
                    let (taken, rest) = octets.split_at(octets.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    self.state = match left - taken.len() as u64 {
                        0 => State::Done,
                        left => State::Length(left),
                    };
                    self.keep(taken);
                    rest
                }
                State::Rest => {
                    self.keep(octets);
                    &[]
                }
                State::Chunk(left) => {
                    let (taken, rest) = octets.split_at(octets.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    self.state = match left - taken.len() as u64 {
                        0 => State::ChunkEnd,
                        left => State::Chunk(left),
                    };
                    self.keep(taken);
                    rest
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => self.chunk_line(octets),
                State::Done => {
                    // More than was promised: whoever sends it is not to be trusted with another request.
                    if let Some(response) = &mut self.response {
                        response.keeps = false;
                    }
                    &[]
                }
            };
        }
        Ok(())
    }

    /// Octets up to and with the next line feed go into `line`; the rest, and whether the line is complete.
    fn line<'a>(&mut self, octets: &'a [u8]) -> (&'a [u8], bool) {
        let end = octets.iter().position(|octet| *octet == b'\n');
        let (taken, rest) = octets.split_at(end.map_or(octets.len(), |end| end + 1));
        self.line.extend_from_slice(taken);
        (rest, end.is_some())
    }

    fn head<'a>(&mut self, octets: &'a [u8]) -> Result<&'a [u8], String> {
        let (rest, _) = self.line(octets);
        if self.line.len() > MAX_HEAD {
            return Err(format!("a head of more than {MAX_HEAD} octets"));
        }
        // What is no HTTP is told at once, not when it has gone on for long enough.
        let start = &self.line[..self.line.len().min(7)];
        if !b"HTTP/1.".starts_with(start) {
            return Err("no HTTP response".into());
        }
        if self.line.ends_with(b"\n\r\n") || self.line.ends_with(b"\n\n") {
            let head = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            let (response, state) = read_head(&head)?;
            match response.status {
                100..=199 if response.status != 101 => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Err("too many interim responses".into());
                    }
                }
                _ => {
                    self.state = state;
                    self.response = Some(response);
                }
            }
        }
        Ok(rest)
    }

    fn chunk_line<'a>(&mut self, octets: &'a [u8]) -> &'a [u8] {
        let (rest, complete) = self.line(octets);
        if !complete {
            if self.line.len() > MAX_HEAD {
                self.broken("a chunk without its size");
            }
            return rest;
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::ChunkEnd if line.is_empty() => self.state = State::ChunkSize,
            State::Trailer if line.is_empty() => self.state = State::Done,
            State::Trailer => {
                self.trailers += line.len() + 1;
                if self.trailers > MAX_HEAD {
                    self.broken("trailers without an end");
                }
            }
            State::ChunkSize => match chunk_size(line) {
                Some(0) => self.state = State::Trailer,
                Some(size) => self.state = State::Chunk(size),
                None => self.broken("a chunk without its size"),
            },
            _ => self.broken("a chunk of another size than it said"),
        }
        rest
    }

    fn keep(&mut self, octets: &[u8]) {
        let Some(response) = &mut self.response else { return };
        let room = self.most - response.body.len();
        response.body.extend_from_slice(&octets[..octets.len().min(room)]);
        if octets.len() > room {
            response.ending = Ending::Cut;
            response.keeps = false;
            self.state = State::Done;
        }
    }

    fn broken(&mut self, why: &'static str) {
        self.state = State::Done;
        if let Some(response) = &mut self.response {
            response.ending = Ending::Broken(why);
            response.keeps = false;
        }
    }

    /// The response, when no more octets come or are wanted.
    pub(super) fn finish(mut self, stop: Option<Stop>) -> Result<Response, Unfinished> {
        match (self.state, stop) {
            (State::Done, _) | (State::Rest, Some(Stop::Closed)) => {}
            (State::Head, Some(Stop::Late)) => return Err(Unfinished::Late),
            (State::Head, _) if self.line.is_empty() && self.interim == 0 => return Err(Unfinished::Nothing),
            (State::Head, _) => return Err(Unfinished::Malformed("a response that was cut off".into())),
            (_, Some(Stop::Late)) => self.broken("a body that did not end in time"),
            _ => self.broken("a body that was cut off"),
        }
        self.response.ok_or(Unfinished::Nothing)
    }
}

/// RFC 9112 §7.1: hexadecimal digits, and extensions nobody needs.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?.split(';').next()?.trim();
    let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok())?
}

fn read_head(head: &str) -> Result<(Response, State), String> {
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default();
    let (version, words) = line.split_once(' ').ok_or("no HTTP response")?;
    let (code, reason) = words.split_once(' ').unwrap_or((words, ""));
    let status = code.parse::<u16>().ok().filter(|status| code.len() == 3 && (100..600).contains(status));
    let status = status.ok_or("a status line without a status")?;
    let mut fields = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or("a header field without a colon")?;
        if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err("a header field without a name".into());
        }
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response {
        status,
        reason: reason.trim().to_owned(),
        fields,
        body: Vec::new(),
        ending: Ending::Whole,
        keeps: version == "HTTP/1.1",
    };
    let closes = response.field("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"));
    response.keeps &= !closes;
    let state = framing(&mut response)?;
    Ok((response, state))
}

/// RFC 9112 §6.3.
fn framing(response: &mut Response) -> Result<State, String> {
    if matches!(response.status, 100..=199 | 204 | 304) {
        return Ok(State::Done);
    }
    let all = |name: &str| -> Vec<String> {
        let found = response.fields.iter().filter(|(known, _)| known == name);
        found.flat_map(|(_, value)| value.split(',').map(|part| part.trim().to_ascii_lowercase())).collect()
    };
    let (codings, lengths) = (all("transfer-encoding"), all("content-length"));
    if let Some(last) = codings.last() {
        let chunked = codings.len() == 1 && last == "chunked";
        // Both is how requests are smuggled; nothing follows on such a connection.
        response.keeps &= chunked && lengths.is_empty();
        return Ok(if chunked { State::ChunkSize } else { State::Rest });
    }
    let Some(first) = lengths.first() else {
        response.keeps = false;
        return Ok(State::Rest);
    };
    if lengths.iter().any(|length| length != first) {
        return Err("two content lengths".into());
    }
    let digits = !first.is_empty() && first.bytes().all(|octet| octet.is_ascii_digit());
    match first.parse::<u64>() {
        Ok(0) => Ok(State::Done),
        Ok(length) if digits => Ok(State::Length(length)),
        _ => Err("a content length that is no number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\n";

    fn read(text: &str, piece: usize) -> Result<Response, Unfinished> {
        let mut incoming = Incoming::new(10);
        for octets in text.as_bytes().chunks(piece) {
            incoming.feed(octets).map_err(Unfinished::Malformed)?;
        }
        incoming.finish(Some(Stop::Closed))
    }

    #[test]
    fn a_body_ends_where_it_says_and_never_behind_what_is_wanted() {
        use Ending::{Broken, Cut, Whole};
        let cut_off = Broken("a body that was cut off");
        for (head, body, expected, ending, keeps) in [
            ("Content-Length: 5\r\n", "hello", "hello", Whole, true),
            ("Content-Length: 5, 5\r\n", "hello", "hello", Whole, true),
            ("content-length:5\r\nConnection: Close\r\n", "hello", "hello", Whole, false),
            ("Content-Length: 5\r\n", "hello and more", "hello", Whole, false),
            ("Content-Length: 9\r\n", "hello", "hello", cut_off.clone(), false),
            ("Content-Length: 99999999999\r\n", "hello and mo", "hello and ", Cut, false),
            ("Content-Length: 0\r\n", "", "", Whole, true),
            ("", "hello", "hello", Whole, false),
            ("", "hello and more", "hello and ", Cut, false),
            ("Transfer-Encoding: chunked\r\n", "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", "hello", Whole, true),
            ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX: y\r\n\r\n", "hello", Whole, true),
            ("Transfer-Encoding: Chunked\r\nContent-Length: 3\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello", Whole, false),
            ("Transfer-Encoding: chunked\r\n", "5\r\nhel", "hel", cut_off.clone(), false),
            ("Transfer-Encoding: chunked\r\n", "ffffffffff\r\nhello and more", "hello and ", Cut, false),
            ("Transfer-Encoding: chunked\r\n", "-1\r\nx", "", Broken("a chunk without its size"), false),
            (
                "Transfer-Encoding: chunked\r\n",
                "3\r\nhello\r\n",
                "hel",
                Broken("a chunk of another size than it said"),
                false,
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", "hello", "hello", Whole, false),
        ] {
            let text = format!("{OK}{head}\r\n{body}");
            for piece in [1, 2, 7, 1_000] {
                let response = read(&text, piece).unwrap();
                let got = (std::str::from_utf8(&response.body).unwrap(), &response.ending, response.keeps);
                assert_eq!(got, (expected, &ending, keeps), "{text:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_is_no_response_is_said_to_be_none() {
        let malformed = |text: &str| Err(Unfinished::Malformed(text.to_owned()));
        let long = format!("{OK}X: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        let interim = "HTTP/1.1 103 Early\r\n\r\n".repeat(9);
        for (text, expected) in [
            ("", Err(Unfinished::Nothing)),
            ("SSH-2.0-x\r\n\r\n", malformed("no HTTP response")),
            ("220 mail.test ESMTP\r\n", malformed("no HTTP response")),
            ("HTTP/1.1 2000 OK\r\n\r\n", malformed("a status line without a status")),
            ("HTTP/1.1 OK\r\n\r\n", malformed("a status line without a status")),
            ("HTTP/1.1 200 OK\r\nContent-Le", malformed("a response that was cut off")),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", malformed("a header field without a colon")),
            ("HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", malformed("a header field without a name")),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
                malformed("two content lengths"),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", malformed("a content length that is no number")),
            (&*long, malformed("a head of more than 16384 octets")),
            (&*interim, malformed("too many interim responses")),
        ] {
            assert_eq!(read(text, 1_000), expected, "{text:.60}");
        }
    }

    #[test]
    fn interim_responses_are_passed_over_and_bare_line_feeds_taken() {
        let response = read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\nRetry-After: 5\n\n", 3).unwrap();
        assert_eq!((response.status, response.field("retry-after"), response.keeps), (204, Some("5"), true));
        assert_eq!(response.in_words(), "status 204 No Content");
    }

    #[test]
    fn a_status_counts_although_its_body_never_ends() {
        let mut incoming = Incoming::new(10);
        incoming.feed(format!("{OK}Content-Length: 9\r\n\r\nhel").as_bytes()).unwrap();
        let response = incoming.finish(Some(Stop::Late)).unwrap();
        assert_eq!((response.status, response.ending), (200, Ending::Broken("a body that did not end in time")));
        let mut incoming = Incoming::new(10);
        incoming.feed(b"HTTP/1.1 20").unwrap();
        assert_eq!(incoming.finish(Some(Stop::Late)), Err(Unfinished::Late));
    }
}
