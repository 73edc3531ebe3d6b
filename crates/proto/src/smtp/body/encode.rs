//! Client side: content with leading dots doubled and CR LF . CR LF at its end, as slices for a vectored write.

use memchr::memchr2;

/// The slices to write for `content`, the end of data included; see [`stuffed`].
#[derive(Debug, Clone)]
pub struct Stuffed<'a> {
    rest: &'a [u8],
    /// The next slice starts a line.
    line_start: bool,
    ended: bool,
}

/// Content as it goes over the wire (RFC 5321 §4.5.2): a dot at the start of a line is doubled, a missing CR LF at the
/// end is added, and CR LF . CR LF ends it.
///
/// A bare CR or LF is written as CR LF, so that no content from anywhere can end DATA early at a lenient server.
/// Without leading dots and bare line ends there are two slices: the content and the end.
pub fn stuffed(content: &[u8]) -> Stuffed<'_> {
    Stuffed { rest: content, line_start: true, ended: false }
}

/// Appends what [`stuffed`] gives.
pub fn stuff_into(content: &[u8], out: &mut Vec<u8>) {
    out.reserve(content.len() + 5);
    stuffed(content).for_each(|slice| out.extend_from_slice(slice));
}

impl<'a> Stuffed<'a> {
    /// Length of the longest piece that can be written as it is.
    fn run(&self) -> usize {
        let mut position = 0;
        while let Some(found) = memchr2(b'\r', b'\n', &self.rest[position..]) {
            let end = position + found;
            if !self.rest[end..].starts_with(b"\r\n") {
                return end;
            }
            position = end + 2;
            if self.rest.get(position) == Some(&b'.') {
                return position;
            }
        }
        self.rest.len()
    }
}

impl<'a> Iterator for Stuffed<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self.rest {
            [] if self.ended => None,
            [] => {
                self.ended = true;
                Some(if self.line_start { b".\r\n" } else { b"\r\n.\r\n" })
            }
            [b'.', ..] if self.line_start => {
                self.line_start = false;
                Some(b".")
            }
            // A run stops before a bare CR or LF and never before a CR LF at its own start.
            [b'\r' | b'\n', rest @ ..] if !self.rest.starts_with(b"\r\n") => {
                self.rest = rest;
                self.line_start = true;
                Some(b"\r\n")
            }
            _ => {
                let (run, rest) = self.rest.split_at(self.run());
                self.rest = rest;
                self.line_start = run.ends_with(b"\r\n");
                Some(run)
            }
        }
    }
}
