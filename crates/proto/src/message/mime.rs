//! Just enough of MIME to walk the parts of a message: content type, transfer encoding, boundaries.
//!
//! Nothing is decoded here.

use std::ops::Range;

use memchr::{memchr, memmem};

/// What a part says it is (RFC 2045 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentType {
    /// `text`, in lower case.
    pub(super) kind: String,
    /// `plain`, in lower case.
    pub(super) subtype: String,
    /// Of a multipart.
    pub(super) boundary: Option<Vec<u8>>,
}

/// Content-Transfer-Encoding (RFC 2045 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// 7bit, 8bit, binary, or none named.
    Identity,
    QuotedPrintable,
    Base64,
    Unknown,
}

impl ContentType {
    pub(super) fn new(kind: &str, subtype: &str) -> Self {
        Self { kind: kind.to_owned(), subtype: subtype.to_owned(), boundary: None }
    }

    /// Reads a raw header value; what is no type at all counts as text/plain (RFC 2045 §5.2).
    pub(super) fn parse(value: &[u8]) -> Self {
        let value = without_comments(value);
        let mut pieces = pieces(&value);
        let media = pieces.next().unwrap_or_default().to_ascii_lowercase();
        let media = String::from_utf8_lossy(&media).into_owned();
        let mut content_type = match media.split_once('/') {
            Some((kind, subtype)) => Self::new(kind.trim(), subtype.trim()),
            None => Self::new("text", "plain"),
        };
        content_type.boundary = pieces.find_map(|piece| {
            let (name, value) = piece.split_at(memchr(b'=', piece)?);
            name.trim_ascii().eq_ignore_ascii_case(b"boundary").then(|| unquoted(value[1..].trim_ascii()))
        });
        content_type
    }
}

impl Encoding {
    pub(super) fn parse(value: Option<&[u8]>) -> Self {
        let value = without_comments(value.unwrap_or_default());
        match value.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"7bit" | b"8bit" | b"binary" => Self::Identity,
            b"quoted-printable" => Self::QuotedPrintable,
            b"base64" => Self::Base64,
            _ => Self::Unknown,
        }
    }
}

/// The value without comments and line ends; quoted strings are kept as they are.
fn without_comments(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let (mut at, mut depth, mut quoted) = (0, 0_u32, false);
    while let Some(&octet) = value.get(at) {
        let escape = octet == b'\\' && (quoted || depth > 0);
        let kept = &value[at..value.len().min(at + 1 + usize::from(escape))];
        match octet {
            b'"' if depth == 0 => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if depth > 0 => {
                depth -= 1;
                at += 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 && !matches!(octet, b'\r' | b'\n') {
            out.extend_from_slice(kept);
        }
        at += kept.len();
    }
    out
}

/// Splits at semicolons outside of quoted strings.
fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |&octet| {
        let was_escaped = std::mem::take(&mut escaped);
        match octet {
            b'\\' if quoted && !was_escaped => escaped = true,
            b'"' if !was_escaped => quoted = !quoted,
            _ => {}
        }
        octet == b';' && !quoted
    })
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    let Some(inside) = value.strip_prefix(b"\"") else {
        return value.iter().copied().take_while(|octet| !octet.is_ascii_whitespace()).collect();
    };
    let mut out = Vec::with_capacity(inside.len());
    let mut octets = inside.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b'"' => break,
            b'\\' => out.extend(octets.next()),
            _ => out.push(octet),
        }
    }
    out
}

/// Where the parts of a multipart body are; each without the line end before the next delimiter (RFC 2046 §5.1.1).
///
/// `None` if there is no delimiter at all. Without a closing delimiter the last part ends with the body.
pub(super) fn parts(body: &[u8], boundary: &[u8]) -> Option<Vec<Range<usize>>> {
    let delimiter = [b"--", boundary].concat();
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut open = None;
    for at in memmem::find_iter(body, &delimiter) {
        let line = &body[at + delimiter.len()..];
        let line = &line[..memchr(b'\n', line).map_or(line.len(), |end| end + 1)];
        let closing = line.starts_with(b"--") && line[2..].trim_ascii().is_empty();
        if at > 0 && body[at - 1] != b'\n' || !(closing || line.trim_ascii().is_empty()) {
            continue;
        }
        if let Some(start) = open.take() {
            let before = &body[start..at.max(start)];
            let before = before.strip_suffix(b"\n").unwrap_or(before);
            let before = before.strip_suffix(b"\r").unwrap_or(before);
            parts.push(start..start + before.len());
        }
        if closing {
            return (!parts.is_empty()).then_some(parts);
        }
        open = Some(at + delimiter.len() + line.len());
    }
    parts.extend(open.map(|start| start..body.len()));
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_types() {
        for (value, kind, subtype, boundary) in [
            ("text/plain", "text", "plain", None),
            ("TEXT/Html; charset=utf-8", "text", "html", None),
            ("multipart/mixed; boundary=abc", "multipart", "mixed", Some("abc")),
            ("multipart/mixed;\r\n\tBOUNDARY=\"a b;c\"", "multipart", "mixed", Some("a b;c")),
            ("multipart/mixed; boundary=\"a\\\"b\"; x=y", "multipart", "mixed", Some("a\"b")),
            ("multipart/mixed (c; boundary=x); boundary=y (z)", "multipart", "mixed", Some("y")),
            ("multipart/mixed; x=\"; boundary=no\"; boundary=yes", "multipart", "mixed", Some("yes")),
            ("nonsense", "text", "plain", None),
            ("", "text", "plain", None),
        ] {
            let expected = ContentType {
                boundary: boundary.map(|boundary| boundary.as_bytes().to_vec()),
                ..ContentType::new(kind, subtype)
            };
            assert_eq!(ContentType::parse(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn finds_parts() {
        for (body, found) in [
            ("--b\r\none\r\n--b\r\ntwo\r\n--b--\r\n", Some(vec!["one", "two"])),
            ("pre\r\n--b  \r\none\r\n\r\n--b--", Some(vec!["one\r\n"])),
            ("--b\r\none\r\n--bb\r\ntwo\r\n --b\r\n--b--\r\nend", Some(vec!["one\r\n--bb\r\ntwo\r\n --b"])),
            ("--b\r\n--b--\r\n", Some(vec![""])),
            ("--b\r\nopen", Some(vec!["open"])),
            ("--b--\r\n", None),
            ("nothing", None),
        ] {
            let ranges = parts(body.as_bytes(), b"b");
            let texts = ranges.map(|ranges| ranges.into_iter().map(|range| &body[range]).collect::<Vec<_>>());
            assert_eq!(texts, found, "{body:?}");
        }
    }
}
