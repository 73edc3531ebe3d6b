//! The parts of a report: just those that are read, in order, whatever is broken around them.
//!
//! Boundaries that are not announced, or announced wrongly, are found in the body. Nesting and numbers are limited.

use memchr::{memchr, memmem};

use super::octets::{Encoding, text_of};
use crate::message::{HeaderScan, scan};

/// Most parts looked at.
const MAX_PARTS: usize = 64;
/// Deepest nest of multiparts.
const MAX_DEPTH: u8 = 6;
/// Longest boundary (RFC 2046 §5.1.1 says 70).
const MAX_BOUNDARY: usize = 200;

/// What a part is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Html,
    /// `message/delivery-status` and its UTF-8 form (RFC 3464, RFC 6533).
    Status,
    /// `message/disposition-notification` (RFC 8098).
    Disposition,
    /// `message/feedback-report` (RFC 5965).
    Feedback,
    /// The mail that came back, or its headers.
    Original,
    Other,
}

/// Header fields and where the body begins.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) content: &'a [u8],
    pub(super) scan: HeaderScan,
}

impl<'a> Fields<'a> {
    pub(super) fn new(content: &'a [u8]) -> Self {
        Self { content, scan: scan(content).unwrap_or_default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.scan.get(self.content, name)
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.content.get(self.scan.end..).unwrap_or_default()
    }
}

/// One part.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) kind: Kind,
    body: &'a [u8],
    encoding: Encoding,
    charset: Option<String>,
}

impl<'a> Part<'a> {
    /// Its text, decoded.
    pub(super) fn text(&self) -> std::borrow::Cow<'a, str> {
        text_of(self.body, self.encoding, self.charset.as_deref())
    }
    /// As it stands.
    pub(super) fn raw(&self) -> &'a [u8] {
        self.body
    }
    pub(super) fn is_encoded(&self) -> bool {
        self.encoding != Encoding::Identity
    }
}

/// The parts of a mail.
pub(super) fn parts<'a>(top: &Fields<'a>) -> Vec<Part<'a>> {
    let mut found = Vec::new();
    collect(top, &mut found, 0);
    found
}

fn collect<'a>(fields: &Fields<'a>, found: &mut Vec<Part<'a>>, depth: u8) {
    if found.len() >= MAX_PARTS {
        return;
    }
    let value = fields.get("Content-Type").unwrap_or_default();
    let kind = kind_of(value);
    let body = fields.body();
    let announced = parameter(value, "boundary");
    let is_multipart = starts(value, b"multipart/");
    if (is_multipart || (depth == 0 && kind != Kind::Original)) && depth < MAX_DEPTH {
        let inside = announced.and_then(|boundary| split(body, boundary.as_bytes()));
        let inside = inside.or_else(|| split(body, guessed(body, is_multipart)?));
        if let Some(inside) = inside {
            for part in inside {
                collect(&Fields::new(part), found, depth + 1);
            }
            return;
        }
    }
    let encoding = Encoding::parse(fields.get("Content-Transfer-Encoding").unwrap_or_default());
    let charset = if matches!(kind, Kind::Text | Kind::Html) { parameter(value, "charset") } else { None };
    found.push(Part { kind, body, encoding, charset });
}

fn starts(value: &[u8], prefix: &[u8]) -> bool {
    value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn kind_of(value: &[u8]) -> Kind {
    let is = |prefix: &str| starts(value, prefix.as_bytes());
    if value.is_empty() || is("multipart/") || is("text/plain") {
        Kind::Text
    } else if is("text/html") {
        Kind::Html
    } else if is("message/delivery-status") || is("message/global-delivery-status") {
        Kind::Status
    } else if is("message/disposition-notification") || is("message/global-disposition-notification") {
        Kind::Disposition
    } else if is("message/feedback-report") {
        Kind::Feedback
    } else if is("message/rfc822") || is("message/global") || is("text/rfc822") || is("message/partial") {
        Kind::Original
    } else if is("text/") {
        Kind::Text
    } else {
        Kind::Other
    }
}

/// A parameter of a content type, without quotes (RFC 2045 §5.1).
pub(super) fn parameter(value: &[u8], name: &str) -> Option<String> {
    let mut rest = value;
    while let Some(at) = memchr(b';', rest) {
        rest = rest[at + 1..].trim_ascii_start();
        let Some(is) = memchr(b'=', rest) else { break };
        if !rest[..is].trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
            continue;
        }
        let value = rest[is + 1..].trim_ascii_start();
        let found = match value.strip_prefix(b"\"") {
            Some(quoted) => &quoted[..memchr(b'"', quoted).unwrap_or(quoted.len())],
            None => {
                let end = value.iter().position(|octet| octet.is_ascii_whitespace() || *octet == b';');
                &value[..end.unwrap_or(value.len())]
            }
        };
        return Some(String::from_utf8_lossy(found).into_owned());
    }
    None
}

/// The parts between delimiters; `None` if there are none. A closing delimiter may be missing.
fn split<'a>(body: &'a [u8], boundary: &[u8]) -> Option<Vec<&'a [u8]>> {
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
        return None;
    }
    let delimiter = [b"--", boundary].concat();
    let mut found = Vec::new();
    let mut open: Option<usize> = None;
    for at in memmem::find_iter(body, &delimiter) {
        let rest = &body[at + delimiter.len()..];
        let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
        let closing = line.starts_with(b"--");
        let tail = line.strip_prefix(b"--").unwrap_or(line);
        if (at > 0 && body[at - 1] != b'\n') || !tail.trim_ascii().is_empty() {
            continue;
        }
        if let Some(start) = open.take()
            && found.len() < MAX_PARTS
        {
            found.push(&body[start.min(at)..at.saturating_sub(1).max(start.min(at))]);
        }
        if closing {
            return (!found.is_empty()).then_some(found);
        }
        open = Some((at + delimiter.len() + line.len() + 1).min(body.len()));
    }
    if let Some(start) = open {
        found.push(&body[start..]);
    }
    (!found.is_empty()).then_some(found)
}

/// A delimiter nobody announced, or another than announced: a line `--word` before a line `Content-…:`.
fn guessed(body: &[u8], is_multipart: bool) -> Option<&[u8]> {
    // A mail that says it has one part only is believed, unless a report is in it.
    let marker: &[u8] = if is_multipart { b"\nContent-" } else { b"elivery-status" };
    memmem::find(body, marker)?;
    for at in memmem::find_iter(body, b"\nContent-")
        .map(|at| at + 1)
        .chain(memmem::find_iter(body, b"\ncontent-").map(|at| at + 1))
        .take(20)
    {
        let before = &body[..at - 1];
        let line = &before[before.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1)..];
        if let Some(boundary) = line.trim_ascii_end().strip_prefix(b"--")
            && (3..=MAX_BOUNDARY).contains(&boundary.len())
        {
            return Some(boundary);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(mail: &str) -> Vec<(Kind, String)> {
        let top = Fields::new(mail.as_bytes());
        parts(&top).iter().map(|part| (part.kind, part.text().trim().to_owned())).collect()
    }

    #[test]
    fn parts_are_found_whatever_the_header_says() {
        let body = "--x\nContent-Type: text/plain\n\na\n--x\nContent-Type: message/delivery-status\n\nb: c\n--x--\n";
        let wanted = vec![(Kind::Text, "a".to_owned()), (Kind::Status, "b: c".to_owned())];
        for head in [
            "Content-Type: multipart/report; boundary=x",
            "Content-Type: multipart/report; boundary=\"x\"; report-type=delivery-status",
            "Content-Type: multipart/report; boundary=other",
        ] {
            let body = if head.ends_with("other") { body.replace("--x", "--xyz") } else { body.to_owned() };
            assert_eq!(kinds(&format!("{head}\n\n{body}")), wanted, "{head}");
        }
        let body = body.replace("--x", "--xyz");
        assert_eq!(kinds(&format!("Subject: x\n\n{body}")), wanted);
        assert_eq!(kinds(&format!("Content-Type: multipart/report;\n\n{}", body.replace("--xyz--", ""))), wanted);
    }

    #[test]
    fn deep_nests_end() {
        let mut mail = String::new();
        for n in 0..1000 {
            mail += &format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n");
        }
        assert!(kinds(&mail).len() <= MAX_PARTS);
    }
}
