//! Quoted-printable and base64 (RFC 2045 §6.7, §6.8), and mending of content that only claims to be so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest encoded line without its end.
const LINE: usize = 76;
/// Octets that make one line of base64.
const LINE_OCTETS: usize = LINE / 4 * 3;

/// Writes quoted-printable lines, and keeps track of where in the line it is.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    column: usize,
}

impl Lines<'_> {
    /// Adds one unit that must not be split: a character or `=XX`.
    fn unit(&mut self, unit: &[u8]) {
        // The last column is for the `=` of a soft break.
        if self.column + unit.len() > LINE - 1 {
            self.out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        self.out.extend_from_slice(unit);
        self.column += unit.len();
    }

    fn escape(&mut self, octet: u8) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        self.unit(&[b'=', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
    }

    /// Adds a character as it is, unless it could make this line a delimiter of the multipart around it: a soft
    /// break may have moved any text to the start of a line.
    fn literal(&mut self, octet: u8) {
        let at_start = self.column == 0 || self.column > LINE - 2;
        if octet == b'-' && at_start { self.escape(octet) } else { self.unit(&[octet]) }
    }

    fn line_end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.column = 0;
    }
}

/// Appends `body` in quoted-printable; CRLF stays a line end.
pub(super) fn quoted_printable(body: &[u8], out: &mut Vec<u8>) {
    let mut lines = Lines { out, column: 0 };
    let mut rest = body;
    while let Some((&octet, next)) = rest.split_first() {
        rest = next;
        match octet {
            b'\r' if next.first() == Some(&b'\n') => {
                rest = &next[1..];
                lines.line_end();
            }
            // Blanks at the end of a line do not survive transport.
            b' ' | b'\t' if !next.is_empty() && !next.starts_with(b"\r\n") => lines.literal(octet),
            b'=' => lines.escape(octet),
            octet if octet.is_ascii_graphic() => lines.literal(octet),
            octet => lines.escape(octet),
        }
    }
}

/// Appends `body` in base64 lines, without a line end behind the last.
pub(super) fn base64(body: &[u8], out: &mut Vec<u8>) {
    let mut line = String::with_capacity(LINE);
    for (number, octets) in body.chunks(LINE_OCTETS).enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\r\n");
        }
        line.clear();
        STANDARD.encode_string(octets, &mut line);
        out.extend_from_slice(line.as_bytes());
    }
}

/// Appends content that is quoted-printable but for 8-bit octets or overlong lines: escapes stay as they are.
pub(super) fn repair_quoted_printable(body: &[u8], out: &mut Vec<u8>) {
    let mut lines = Lines { out, column: 0 };
    let mut rest = body;
    while let Some(&octet) = rest.first() {
        let mut length = 1;
        match rest {
            [b'\r', b'\n', ..] => {
                length = 2;
                lines.line_end();
            }
            [b'=', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                length = 3;
                lines.unit(&rest[..3]);
            }
            // A soft break that is there already.
            [b'=', b'\r', b'\n', ..] => {
                length = 3;
                lines.out.extend_from_slice(b"=\r\n");
                lines.column = 0;
            }
            _ if octet == b'\t' || octet == b' ' || octet.is_ascii_graphic() => lines.literal(octet),
            _ => lines.escape(octet),
        }
        rest = &rest[length..];
    }
}

/// Appends base64 content in lines of 76, without what is not of the alphabet: readers skip that (RFC 2045 §6.8).
pub(super) fn repair_base64(body: &[u8], out: &mut Vec<u8>) {
    let alphabet = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=');
    let mut column = 0;
    for &octet in body.iter().filter(|octet| alphabet(octet)) {
        if column == LINE {
            out.extend_from_slice(b"\r\n");
            column = 0;
        }
        out.push(octet);
        column += 1;
    }
}
