//! From 8-bit to 7-bit content, for a next hop without 8BITMIME (RFC 6152 §3).
//!
//! Only what must change does: the encoding of leaf parts with 8-bit octets or overlong lines, and what their
//! headers and those around them say about it. Parts that are fine are copied as they are.

mod encode;
#[cfg(test)]
mod tests;

use std::ops::Range;

use memchr::{memchr, memchr_iter};

use super::mime::{self, ContentType, Encoding};
use super::scan::{HeaderScan, scan};

/// Longest line without its end (RFC 5322 §2.1.1).
const MAX_LINE: usize = 998;
const MAX_DEPTH: usize = 50;
const MAX_PARTS: usize = 1000;

/// Why a message cannot be made 7-bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotConvert {
    /// A header has octets over 127 (RFC 6532); they have no 7-bit form that keeps their meaning.
    #[error("a header field has 8-bit text")]
    EightBitHeader,
    /// A header has a line over 998 octets without a blank to fold it at, or a NUL.
    #[error("a header field has a line that cannot be folded")]
    LongHeader,
    /// A multipart/signed part: any change breaks the signature (RFC 1847 §2.1).
    #[error("a signed part has 8-bit text or overlong lines")]
    Signed,
    /// A part of a kind that must not be encoded (RFC 2046 §5.2), or in an encoding that we do not know.
    #[error("a part has 8-bit text or overlong lines and may not be encoded")]
    NotEncodable,
    /// The structure is not well-formed: a multipart without its boundary, headers over the limits of a scan.
    #[error("the MIME structure is damaged")]
    Malformed,
    /// Over 50 levels or 1,000 parts.
    #[error("the message has too many parts")]
    TooManyParts,
}

/// The same message in lines of at most 998 octets from 1 to 127 (RFC 5322 §2.1.1).
///
/// Text becomes quoted-printable, all other leaf parts base64. The preamble and epilogue of a multipart, which no
/// reader shows, are left out where they are not 7-bit.
pub fn down_convert(content: &[u8]) -> Result<Vec<u8>, CannotConvert> {
    let mut walk = Walk { out: Vec::with_capacity(content.len() + content.len() / 2), parts: 0 };
    walk.part(content, Place { depth: 0, is_message: true, in_digest: false })?;
    if !walk.out.ends_with(b"\r\n") {
        walk.out.extend_from_slice(b"\r\n");
    }
    Ok(walk.out)
}

/// Where a part stands.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    /// A whole message, which has MIME only if it says so.
    is_message: bool,
    /// Directly in multipart/digest, where messages are the default (RFC 2046 §5.1.5).
    in_digest: bool,
}

struct Walk {
    out: Vec<u8>,
    parts: usize,
}

/// One part taken apart.
struct Part<'a> {
    octets: &'a [u8],
    header: HeaderScan,
    body: &'a [u8],
    content_type: ContentType,
    encoding: Encoding,
    place: Place,
}

impl Walk {
    fn part(&mut self, octets: &[u8], place: Place) -> Result<(), CannotConvert> {
        self.parts += 1;
        if self.parts > MAX_PARTS || place.depth > MAX_DEPTH {
            return Err(CannotConvert::TooManyParts);
        }
        if is_clean(octets) {
            self.out.extend_from_slice(octets);
            return Ok(());
        }
        let header = scan(octets).map_err(|_| CannotConvert::Malformed)?;
        if header.eight_bit {
            return Err(CannotConvert::EightBitHeader);
        }
        let content_type = match header.get(octets, "Content-Type") {
            Some(value) => ContentType::parse(value),
            None if place.in_digest => ContentType::new("message", "rfc822"),
            None => ContentType::new("text", "plain"),
        };
        let encoding = Encoding::parse(header.get(octets, "Content-Transfer-Encoding"));
        let part = Part { octets, body: &octets[header.end..], header, content_type, encoding, place };
        match (part.content_type.kind.as_str(), part.content_type.subtype.as_str()) {
            _ if is_clean(part.body) => {
                self.header(&part, None)?;
                self.out.extend_from_slice(part.body);
                Ok(())
            }
            ("multipart", "signed") => Err(CannotConvert::Signed),
            ("multipart", _) => self.multipart(&part),
            ("message", "rfc822" | "global") => {
                self.container_header(&part)?;
                self.part(part.body, Place { depth: place.depth + 1, is_message: true, in_digest: false })
            }
            ("message", subtype) if !subtype.starts_with("global-") => Err(CannotConvert::NotEncodable),
            _ => self.leaf(&part),
        }
    }

    fn multipart(&mut self, part: &Part<'_>) -> Result<(), CannotConvert> {
        let boundary = part.content_type.boundary.as_deref().filter(|boundary| !boundary.is_empty());
        let ranges = boundary.and_then(|boundary| mime::parts(part.body, boundary)).ok_or(CannotConvert::Malformed)?;
        self.container_header(part)?;
        let in_digest = part.content_type.subtype == "digest";
        let mut at = 0;
        for range in ranges {
            self.between(part.body, at..range.start);
            at = range.end;
            self.part(&part.body[range], Place { depth: part.place.depth + 1, is_message: false, in_digest })?;
        }
        self.between(part.body, at..part.body.len());
        Ok(())
    }

    /// Copies what is between parts: the delimiter line, and preamble or epilogue without lines that are not 7-bit.
    fn between(&mut self, body: &[u8], range: Range<usize>) {
        for line in body[range].split_inclusive(|&octet| octet == b'\n').filter(|line| is_clean(line)) {
            self.out.extend_from_slice(line);
        }
    }

    fn container_header(&mut self, part: &Part<'_>) -> Result<(), CannotConvert> {
        if part.encoding != Encoding::Identity {
            return Err(CannotConvert::Malformed);
        }
        let says_so = part.header.get(part.octets, "Content-Transfer-Encoding").is_some();
        self.header(part, says_so.then_some("7bit"))
    }

    fn leaf(&mut self, part: &Part<'_>) -> Result<(), CannotConvert> {
        match part.encoding {
            Encoding::Unknown => Err(CannotConvert::NotEncodable),
            Encoding::QuotedPrintable => {
                self.header(part, None)?;
                encode::repair_quoted_printable(part.body, &mut self.out);
                Ok(())
            }
            Encoding::Base64 => {
                self.header(part, None)?;
                encode::repair_base64(part.body, &mut self.out);
                Ok(())
            }
            Encoding::Identity if part.content_type.kind == "text" => {
                self.header(part, Some("quoted-printable"))?;
                encode::quoted_printable(part.body, &mut self.out);
                Ok(())
            }
            Encoding::Identity => {
                self.header(part, Some("base64"))?;
                encode::base64(part.body, &mut self.out);
                Ok(())
            }
        }
    }

    /// Writes the header and the empty line, with another transfer encoding if one is given.
    fn header(&mut self, part: &Part<'_>, encoding: Option<&str>) -> Result<(), CannotConvert> {
        for field in &part.header.fields {
            let is_encoding = field.name(part.octets).eq_ignore_ascii_case(b"Content-Transfer-Encoding");
            if encoding.is_none() || !is_encoding {
                fold_long_lines(&part.octets[field.whole()], &mut self.out)?;
            }
        }
        if let Some(encoding) = encoding {
            let has = |name| part.header.get(part.octets, name).is_some();
            if part.place.is_message && !has("MIME-Version") {
                self.out.extend_from_slice(b"MIME-Version: 1.0\r\n");
            }
            if part.place.is_message && !has("Content-Type") {
                // Text without a label: say what can be seen of it (RFC 1428 §3).
                let charset = if std::str::from_utf8(part.body).is_ok() { "utf-8" } else { "unknown-8bit" };
                self.out.extend_from_slice(format!("Content-Type: text/plain; charset={charset}\r\n").as_bytes());
            }
            self.out.extend_from_slice(format!("Content-Transfer-Encoding: {encoding}\r\n").as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Lines of at most 998 octets from 1 to 127.
fn is_clean(octets: &[u8]) -> bool {
    let mut start = 0;
    let short = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len() <= MAX_LINE;
    octets.is_ascii()
        && memchr(0, octets).is_none()
        && memchr_iter(b'\n', octets).all(|end| short(&octets[std::mem::replace(&mut start, end + 1)..end]))
        && short(&octets[start..])
}

/// Copies a field and breaks its overlong lines before blanks, which leaves the unfolded value as it is.
fn fold_long_lines(field: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
    for line in field.split_inclusive(|&octet| octet == b'\n') {
        let mut rest = line.trim_ascii_end();
        while rest.len() > MAX_LINE {
            // Not at the start of a line, and not so that a line of blanks only is left.
            let text = rest.iter().position(|octet| !octet.is_ascii_whitespace()).unwrap_or(0);
            let blank = rest[..=MAX_LINE].iter().rposition(|&octet| matches!(octet, b' ' | b'\t'));
            let at = blank.filter(|&at| at > text).ok_or(CannotConvert::LongHeader)?;
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(b"\r\n");
            rest = &rest[at..];
        }
        if memchr(0, rest).is_some() {
            return Err(CannotConvert::LongHeader);
        }
        // A blank last line of a folded value would end the header.
        if !rest.is_empty() {
            out.extend_from_slice(rest);
            out.extend_from_slice(b"\r\n");
        }
    }
    Ok(())
}
