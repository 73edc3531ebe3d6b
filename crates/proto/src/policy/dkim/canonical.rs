//! The octets that hashes are made of (RFC 6376 §3.4, §3.7).

use serde::Serialize;

use super::signature::{Field, Signature};

/// `c=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Canonical {
    /// Nothing may change on the way.
    Simple,
    /// Blanks and folding may.
    Relaxed,
}

impl Canonical {
    /// As in `c=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Relaxed => "relaxed",
        }
    }
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Simple, Self::Relaxed].into_iter().find(|known| known.name() == name.trim())
    }
}

/// Cuts a message with CRLF line ends into its header (with the CRLF of its last field) and its body.
pub fn header_of(message: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match memchr::memmem::find(message, b"\r\n\r\n") {
        Some(at) => (&message[..at + 2], &message[at + 4..]),
        None => (message, &[]),
    }
}

/// The octets of the body hash, before `l=` cuts them.
pub fn body_octets(body: &[u8], how: Canonical) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 2);
    // CRLFs that are only written once something follows them: empty lines at the end do not count (§3.4.3, §3.4.4).
    let mut empty = 0usize;
    let mut rest = body;
    while !rest.is_empty() {
        let (line, next) = match memchr::memmem::find(rest, b"\r\n") {
            Some(at) => (&rest[..at], &rest[at + 2..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = next;
        let start = out.len();
        out.extend(std::iter::repeat_n(*b"\r\n", empty).flatten());
        let text_at = out.len();
        match how {
            Canonical::Simple => out.extend_from_slice(line),
            Canonical::Relaxed => relaxed_line(line, &mut out),
        }
        if out.len() == text_at {
            out.truncate(start);
            empty += 1;
        } else {
            out.extend_from_slice(b"\r\n");
            empty = 0;
        }
    }
    // §3.4.3: a body without any line is one empty line; relaxed leaves it empty (§3.4.4).
    if out.is_empty() && how == Canonical::Simple {
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn is_blank(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

/// Blanks at the end go, others become one space.
fn relaxed_line(line: &[u8], out: &mut Vec<u8>) {
    let end = line.iter().rposition(|octet| !is_blank(*octet)).map_or(0, |at| at + 1);
    let mut blank = false;
    for octet in &line[..end] {
        if is_blank(*octet) {
            blank = true;
            continue;
        }
        if std::mem::take(&mut blank) {
            out.push(b' ');
        }
        out.push(*octet);
    }
}

/// A field as the relaxed form has it, with CRLF.
pub fn relaxed_field(field: &Field<'_>) -> Vec<u8> {
    let mut out = field.name.to_ascii_lowercase().into_bytes();
    out.push(b':');
    let unfolded: Vec<u8> = field.value().iter().copied().filter(|octet| *octet != b'\r' && *octet != b'\n').collect();
    let start = unfolded.iter().position(|octet| !is_blank(*octet)).unwrap_or(unfolded.len());
    relaxed_line(&unfolded[start..], &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// The octets that the signature itself is about: the signed fields from the bottom up, then the signature field with
/// an empty `b=` and without its CRLF.
pub fn header_octets(fields: &[Field<'_>], own: &Field<'_>, signature: &Signature) -> Vec<u8> {
    let mut out = Vec::new();
    let mut used = vec![false; fields.len()];
    for name in &signature.signed {
        let next = (0..fields.len()).rev().find(|n| !used[*n] && fields[*n].name.eq_ignore_ascii_case(name));
        let Some(n) = next else { continue };
        used[n] = true;
        put(&fields[n], signature.header, &mut out);
    }
    let emptied = without_signature(own.octets);
    put(&Field { name: own.name, octets: &emptied }, signature.header, &mut out);
    if out.ends_with(b"\r\n") {
        out.truncate(out.len() - 2);
    }
    out
}

fn put(field: &Field<'_>, how: Canonical, out: &mut Vec<u8>) {
    match how {
        Canonical::Simple => out.extend_from_slice(field.octets),
        Canonical::Relaxed => out.extend(relaxed_field(field)),
    }
}

/// The signature field without the value of `b=`; everything else stays, blanks too.
fn without_signature(field: &[u8]) -> Vec<u8> {
    let colon = field.iter().position(|octet| *octet == b':').map_or(0, |at| at + 1);
    let mut start = colon;
    for piece in field[colon..].split(|octet| *octet == b';') {
        let end = start + piece.len();
        if let Some(equals) = piece.iter().position(|octet| *octet == b'=')
            && piece[..equals].trim_ascii().eq_ignore_ascii_case(b"b")
        {
            let value_at = start + equals + 1;
            // The line end of the field is no part of the value.
            let tail = if end == field.len() && field.ends_with(b"\r\n") { field.len() - 2 } else { end };
            return [&field[..value_at], &field[tail..]].concat();
        }
        start = end + 1;
    }
    field.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_out_as_the_rfc_has_them() {
        // RFC 6376 §3.4.5, and the empty lines at the end that libraries get wrong.
        for (body, simple, relaxed) in [
            (" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"),
            ("", "\r\n", ""),
            ("\r\n\r\n", "\r\n", ""),
            ("a", "a\r\n", "a\r\n"),
            ("a\r\n \t\r\n\r\n", "a\r\n \t\r\n", "a\r\n"),
            ("a\r\n  ", "a\r\n  \r\n", "a\r\n"),
            (" \r\n\r\na\r\n", " \r\n\r\na\r\n", "\r\n\r\na\r\n"),
            ("\r\n \r\n", "\r\n \r\n", ""),
        ] {
            let text = |how| String::from_utf8(body_octets(body.as_bytes(), how)).unwrap();
            assert_eq!(text(Canonical::Simple), simple, "{body:?}");
            assert_eq!(text(Canonical::Relaxed), relaxed, "{body:?}");
        }
    }

    #[test]
    fn a_relaxed_field_has_no_folding() {
        let field = Field { name: "SUBject", octets: b"SUBject : AbC\t\r\n  d  \r\n" };
        assert_eq!(relaxed_field(&field), b"subject:AbC d\r\n");
    }

    #[test]
    fn only_the_value_of_b_is_emptied() {
        assert_eq!(without_signature(b"D: bh=x;\r\n b= abc\r\n def; t=1\r\n"), b"D: bh=x;\r\n b=; t=1\r\n");
        assert_eq!(without_signature(b"D: bh=x; b=abc=\r\n"), b"D: bh=x; b=\r\n");
    }
}
