//! Reads replies from a server, octet by octet if need be, in bounded memory.
//!
//! Tolerates what servers really send (bare LF, 8-bit texts, different codes of one class in a reply).

use memchr::memchr;

use super::{Reply, escape};

/// Octets kept of one line.
const MAX_LINE: usize = 2_000;
/// Lines kept of one reply; the rest is dropped.
const MAX_LINES: usize = 100;
/// Octets kept of one reply.
const MAX_OCTETS: usize = 64 * 1024;
/// Lines after which a reply counts as endless.
const ENDLESS: usize = 10_000;

/// What came is not a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an SMTP reply: {text}")]
pub struct BadReply {
    /// The line, escaped, at most 200 octets.
    pub text: String,
}

impl BadReply {
    fn new(line: &[u8]) -> Self {
        Self { text: escape(line, 200) }
    }
}

/// Turns octets from a server into replies.
///
/// Memory is bounded by what one [`ReplyReader::push`] adds plus 66 kB, if [`ReplyReader::next`] is called until it
/// gives `None`.
#[derive(Debug, Default)]
pub struct ReplyReader {
    pub(super) buffer: Vec<u8>,
    start: usize,
    /// Octets up to `start + scanned` hold no LF.
    scanned: usize,
    /// The rest of an over-long line is being dropped; its kept part is at `start`.
    dropping: bool,
    code: u16,
    lines: Vec<String>,
    octets: usize,
    count: usize,
}

impl ReplyReader {
    /// A reader with nothing read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was read.
    pub fn push(&mut self, octets: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(octets);
    }

    /// The next complete reply, or `None` until more is pushed. After [`BadReply`] the connection is of no use.
    ///
    /// The code is the last line's; lines whose first digits differ are no reply.
    #[expect(clippy::should_implement_trait, reason = "a reader that can be refilled is no iterator")]
    pub fn next(&mut self) -> Result<Option<Reply>, BadReply> {
        while let Some((end, behind)) = self.find_line() {
            let last = self.take_line(end);
            self.start = behind;
            self.scanned = 0;
            if last? {
                let reply = Reply::lines(self.code, std::mem::take(&mut self.lines));
                (self.octets, self.count) = (0, 0);
                return Ok(Some(reply));
            }
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        Ok(None)
    }

    /// True if no octet is buffered and no reply is half read; must hold when TLS starts (RFC 3207 §6).
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len() && self.count == 0
    }

    /// End of the next line's kept octets, and where the following line starts.
    fn find_line(&mut self) -> Option<(usize, usize)> {
        let from = self.start + self.scanned;
        match memchr(b'\n', &self.buffer[from..]) {
            Some(position) => {
                let newline = from + position;
                let kept = if self.dropping { from } else { newline };
                self.dropping = false;
                Some((kept.min(self.start + MAX_LINE), newline + 1))
            }
            None => {
                self.scanned = self.buffer.len() - self.start;
                if self.scanned > MAX_LINE {
                    self.buffer.truncate(self.start + MAX_LINE);
                    self.scanned = MAX_LINE;
                    self.dropping = true;
                }
                None
            }
        }
    }

    /// Takes the line that ends before `end`; true if it is the last of its reply.
    fn take_line(&mut self, end: usize) -> Result<bool, BadReply> {
        let mut line = &self.buffer[self.start..end];
        while let [rest @ .., b'\r'] = line {
            line = rest;
        }
        let (code, last, text) = parse_line(line).ok_or_else(|| BadReply::new(line))?;
        if self.count > 0 && code / 100 != self.code / 100 {
            return Err(BadReply::new(line));
        }
        self.code = code;
        self.count += 1;
        if self.count > ENDLESS {
            return Err(BadReply::new(b"reply does not end"));
        }
        if self.lines.len() < MAX_LINES && self.octets + text.len() <= MAX_OCTETS {
            self.octets += text.len();
            self.lines.push(String::from_utf8_lossy(text).into_owned());
        }
        Ok(last)
    }
}

/// Code, whether the line is the last, and text.
fn parse_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest {
        [] => Some((code, true, rest)),
        [b' ', text @ ..] => Some((code, true, text)),
        [b'-', text @ ..] => Some((code, false, text)),
        _ => None,
    }
}
