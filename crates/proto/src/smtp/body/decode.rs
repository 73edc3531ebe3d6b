//! Server side: finds the end of DATA, un-stuffs, and notes what is wrong with the content.

use memchr::{memchr, memchr2};

/// What is known about content that came as it is (BDAT), or un-stuffed (DATA).
#[derive(Debug, Clone, Default)]
pub struct ContentCheck {
    /// An octet above 127 occurred.
    pub eight_bit: bool,
    /// A NUL occurred.
    pub nul: bool,
    /// Octets of the longest line, without CR LF.
    pub longest_line: usize,
    bare: bool,
    line: usize,
    after_cr: bool,
}

impl ContentCheck {
    /// True if a CR without LF or an LF without CR occurred: such content must be refused.
    pub fn bare(&self) -> bool {
        self.bare
    }

    /// Looks at the next octets of BDAT content.
    pub fn feed(&mut self, octets: &[u8]) {
        self.note_octets(octets);
        let mut rest = octets;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            match rest {
                [b'\n', behind @ ..] => {
                    self.end_line();
                    rest = behind;
                }
                _ => self.bare = true,
            }
        }
        while let Some(position) = memchr2(b'\r', b'\n', rest) {
            self.line += position;
            match (rest[position], rest.get(position + 1)) {
                (b'\r', Some(b'\n')) => {
                    self.end_line();
                    rest = &rest[position + 2..];
                    continue;
                }
                (b'\r', None) => self.after_cr = true,
                _ => self.bare = true,
            }
            rest = &rest[position + 1..];
        }
        self.line += rest.len();
    }

    /// The content is complete: a last line without CR LF counts, a lone CR at the end is bare.
    pub fn finish(&mut self) {
        self.bare |= self.after_cr;
        self.after_cr = false;
        self.end_line();
    }

    fn end_line(&mut self) {
        self.longest_line = self.longest_line.max(self.line);
        self.line = 0;
    }

    fn note_octets(&mut self, octets: &[u8]) {
        self.eight_bit = self.eight_bit || !octets.is_ascii();
        self.nul = self.nul || memchr(0, octets).is_some();
    }
}

/// What the decoder has just seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// CR LF, or nothing yet.
    LineStart,
    /// CR LF and a dot, which is not copied yet.
    Dot,
    /// CR LF, a dot and CR.
    DotCr,
    /// Something within a line.
    Line,
    /// CR within a line.
    Cr,
}

/// Takes DATA content apart, in whatever pieces it arrives.
#[derive(Debug, Clone)]
pub struct DataDecoder {
    at: At,
    discard: bool,
    check: ContentCheck,
}

impl Default for DataDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataDecoder {
    /// A decoder that expects the first line.
    pub fn new() -> Self {
        Self { at: At::LineStart, discard: false, check: ContentCheck::default() }
    }

    /// From now on content is looked at but not kept.
    pub fn discard(&mut self) {
        self.discard = true;
    }

    /// What is known about the content so far.
    pub fn check(&self) -> &ContentCheck {
        &self.check
    }

    /// Takes octets and appends the content in them, un-stuffed, to `content`.
    ///
    /// `Some(n)` when CR LF . CR LF was found: the first n octets belong to the message, the others to what follows.
    /// Content with a bare CR or LF is no longer kept, as it will be refused.
    pub fn decode(&mut self, octets: &[u8], content: &mut Vec<u8>) -> Option<usize> {
        // octets[copied..position] is a run that waits to be copied.
        let mut copied = 0;
        let mut position = 0;
        while let Some(&octet) = octets.get(position) {
            match self.at {
                At::LineStart if octet == b'.' => {
                    self.keep(&octets[copied..position], content);
                    position += 1;
                    copied = position;
                    self.at = At::Dot;
                }
                At::LineStart | At::Line => position = self.scan_line(octets, position),
                At::Cr => {
                    position += usize::from(self.after_cr(octet));
                }
                At::Dot if octet == b'\r' => {
                    // Not copied: only the end of the message starts so.
                    position += 1;
                    copied = position;
                    self.at = At::DotCr;
                }
                At::Dot => self.at = At::Line,
                At::DotCr if octet == b'\n' => return Some(position + 1),
                At::DotCr => {
                    self.check.bare = true;
                    self.at = At::Line;
                }
            }
        }
        self.keep(&octets[copied..], content);
        None
    }

    /// From `position` to behind the next CR LF, or to where the input or the certainty ends.
    fn scan_line(&mut self, octets: &[u8], position: usize) -> usize {
        self.at = At::Line;
        let rest = &octets[position..];
        let Some(found) = memchr2(b'\r', b'\n', rest) else {
            self.check.line += rest.len();
            return octets.len();
        };
        self.check.line += found;
        match (rest[found], rest.get(found + 1)) {
            (b'\r', Some(b'\n')) => {
                self.check.end_line();
                self.at = At::LineStart;
                position + found + 2
            }
            (b'\r', _) => {
                self.at = At::Cr;
                position + found + 1
            }
            _ => {
                self.check.bare = true;
                position + found + 1
            }
        }
    }

    /// Takes the octet behind a CR; false if it has to be looked at again.
    fn after_cr(&mut self, octet: u8) -> bool {
        if octet == b'\n' {
            self.check.end_line();
            self.at = At::LineStart;
            return true;
        }
        self.check.bare = true;
        self.at = At::Line;
        false
    }

    fn keep(&mut self, run: &[u8], content: &mut Vec<u8>) {
        if run.is_empty() {
            return;
        }
        self.check.note_octets(run);
        if !self.discard && !self.check.bare {
            content.extend_from_slice(run);
        }
    }
}
