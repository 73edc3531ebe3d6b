//! Octets that wait to be read as lines.

use memchr::memchr;

use crate::smtp::sasl::MAX_LINE;

/// Octets of an empty buffer that are kept.
const KEEP: usize = 2 * 1024;
/// Record type and major version of a TLS handshake.
const CLIENT_HELLO: &[u8] = &[0x16, 3];

/// The next line of the input, as far as it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Not all of it is here.
    Incomplete,
    /// It is [`Input::slice`] of these, without CR LF.
    Complete(usize, usize),
    /// It was longer than any line may be and is dropped.
    TooLong,
    /// It ends in LF alone, or holds a CR.
    BareLineEnd,
    /// It is the start of a TLS handshake.
    ClientHello,
}

/// A buffer that is emptied from its front.
#[derive(Default)]
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    dropping: bool,
}

impl Input {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    pub(super) fn push(&mut self, octets: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(octets);
    }

    /// Everything not used yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.start += count;
        self.recycle();
    }

    /// An empty buffer is used again, unless it is a large one: thousands of sessions may be idle.
    fn recycle(&mut self) {
        if self.is_empty() {
            self.start = 0;
            self.buffer.clear();
            self.buffer.shrink_to(KEEP);
        }
    }

    pub(super) fn slice(&self, start: usize, end: usize) -> &[u8] {
        &self.buffer[start..end]
    }

    /// Overwrites what held a secret.
    pub(super) fn wipe(&mut self, start: usize, end: usize) {
        self.buffer[start..end].fill(0);
    }

    pub(super) fn next_line(&mut self) -> Line {
        let start = self.start;
        let rest = &self.buffer[start..];
        let Some(position) = memchr(b'\n', rest) else {
            if rest.starts_with(CLIENT_HELLO) && !self.dropping {
                return Line::ClientHello;
            }
            // One more for a CR whose LF is still to come.
            if rest.len() > MAX_LINE + 1 {
                self.buffer.fill(0);
                self.start = self.buffer.len();
                self.dropping = true;
            }
            self.recycle();
            return Line::Incomplete;
        };
        self.start += position + 1;
        let line = &rest[..position];
        if std::mem::take(&mut self.dropping) || line.len() > MAX_LINE + 1 {
            return Line::TooLong;
        }
        match line {
            _ if line.starts_with(CLIENT_HELLO) => Line::ClientHello,
            [line @ .., b'\r'] if memchr(b'\r', line).is_none() => Line::Complete(start, start + line.len()),
            _ => Line::BareLineEnd,
        }
    }
}
