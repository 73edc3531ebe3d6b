//! From octets to text: line ends of every kind, transfer encodings, character sets. Everything is cut to a limit.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::{memchr, memchr_iter};

/// Most octets of a mail that are looked at: reports come first, the returned mail last.
pub const MAX_OCTETS: usize = 1_048_576;
/// Most octets of one decoded part.
const MAX_PART: usize = 131_072;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The mail with LF line ends, at most [`MAX_OCTETS`]: CR LF, CR CR LF and bare CR each end one line.
pub(super) fn unix_lines(octets: &[u8]) -> Cow<'_, [u8]> {
    let octets = &octets[..octets.len().min(MAX_OCTETS)];
    if memchr(b'\r', octets).is_none() {
        return Cow::Borrowed(octets);
    }
    let mut out = Vec::with_capacity(octets.len());
    let mut from = 0;
    for at in memchr_iter(b'\r', octets) {
        if at < from {
            continue;
        }
        out.extend_from_slice(&octets[from..at]);
        let ends = octets[at..].iter().take_while(|octet| **octet == b'\r').count();
        let lf = octets.get(at + ends) == Some(&b'\n');
        // A run of CR before LF is one line end that was converted twice; without LF each CR is one.
        out.extend(std::iter::repeat_n(b'\n', if lf { 1 } else { ends }));
        from = at + ends + usize::from(lf);
    }
    out.extend_from_slice(&octets[from..]);
    Cow::Owned(out)
}

/// Content-Transfer-Encoding (RFC 2045 §6.1); what is not known counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    QuotedPrintable,
    Base64,
}

impl Encoding {
    pub(super) fn parse(value: &[u8]) -> Self {
        let word = value.trim_ascii();
        if word.len() >= 6 && word[..6].eq_ignore_ascii_case(b"base64") {
            Self::Base64
        } else if word.len() >= 6 && word[..6].eq_ignore_ascii_case(b"quoted") {
            Self::QuotedPrintable
        } else {
            Self::Identity
        }
    }
}

/// The text of a part, at most [`MAX_PART`] octets of it.
pub(super) fn text_of<'a>(body: &'a [u8], encoding: Encoding, charset: Option<&str>) -> Cow<'a, str> {
    let body = &body[..body.len().min(MAX_PART)];
    match encoding {
        Encoding::Identity => characters(Cow::Borrowed(body), charset),
        Encoding::QuotedPrintable => characters(Cow::Owned(quoted_printable(body)), charset),
        Encoding::Base64 => {
            // Octets outside of the alphabet are ignored (RFC 2045 §6.8); text after the padding is another mail's footer.
            let mut clean: Vec<u8> = Vec::with_capacity(body.len());
            for &octet in body {
                match octet {
                    b'=' => break,
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => clean.push(octet),
                    _ => {}
                }
            }
            if clean.len() % 4 == 1 {
                clean.pop();
            }
            let decoded = LENIENT.decode(&clean).unwrap_or_default();
            let decoded = unix_lines(&decoded).into_owned();
            characters(Cow::Owned(decoded), charset)
        }
    }
}

/// Quoted-printable (RFC 2045 §6.7), tolerant: what is no escape stays.
fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(&octet) = body.get(at) {
        at += 1;
        if octet != b'=' {
            out.push(octet);
            continue;
        }
        let hex = |offset: usize| body.get(at + offset).and_then(|&digit| char::from(digit).to_digit(16));
        let blanks = body[at..].iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        if body.get(at + blanks) == Some(&b'\n') {
            at += blanks + 1;
        } else if let (Some(high), Some(low)) = (hex(0), hex(1)) {
            // Two digits of a hexadecimal number are an octet.
            out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            at += 2;
        } else {
            out.push(b'=');
        }
    }
    // An encoded line end is one too.
    if memchr(b'\r', &out).is_some() { unix_lines(&out).into_owned() } else { out }
}

/// Octets as characters: UTF-8 if they are, else the charset named, else Windows-1252.
pub(super) fn characters<'a>(octets: Cow<'a, [u8]>, charset: Option<&str>) -> Cow<'a, str> {
    let wide = charset.is_some_and(|name| {
        let name = name.as_bytes();
        name.len() > 5 && (name[..6].eq_ignore_ascii_case(b"utf-16") || name[..6].eq_ignore_ascii_case(b"iso-20"))
    });
    let octets = if wide {
        octets
    } else {
        match octets {
            Cow::Borrowed(octets) => match std::str::from_utf8(octets) {
                Ok(text) => return Cow::Borrowed(text),
                Err(_) => Cow::Borrowed(octets),
            },
            Cow::Owned(octets) => match String::from_utf8(octets) {
                Ok(text) => return Cow::Owned(text),
                Err(error) => Cow::Owned(error.into_bytes()),
            },
        }
    };
    let encoding = charset
        .and_then(|name| encoding_rs::Encoding::for_label(name.as_bytes()))
        .filter(|encoding| *encoding != encoding_rs::UTF_8)
        .unwrap_or(encoding_rs::WINDOWS_1252);
    let (text, _) = encoding.decode_without_bom_handling(&octets);
    Cow::Owned(text.into_owned())
}

/// A document that names its own charset: by a byte order mark, by `encoding="…"` at its start, or not at all.
pub(super) fn any_text(octets: &[u8]) -> Cow<'_, str> {
    if let Some((encoding, mark)) = encoding_rs::Encoding::for_bom(octets) {
        return encoding.decode_without_bom_handling(&octets[mark..]).0;
    }
    let head = &octets[..octets.len().min(200)];
    let named = memchr::memmem::find(head, b"encoding=").and_then(|at| {
        let rest = head.get(at + 10..)?;
        let end = rest.iter().position(|octet| matches!(octet, b'"' | b'\''))?;
        std::str::from_utf8(&rest[..end]).ok()
    });
    // Without a mark it cannot be a wide one: the declaration was readable.
    let named = named.filter(|name| !name.to_ascii_lowercase().starts_with("utf-16"));
    characters(Cow::Borrowed(octets), named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_end_becomes_the_same() {
        for mail in ["a\r\nb\r\n\r\nc", "a\nb\n\nc", "a\rb\r\rc", "a\r\r\nb\r\n\r\nc"] {
            assert_eq!(&*unix_lines(mail.as_bytes()), b"a\nb\n\nc", "{mail:?}");
        }
    }

    #[test]
    fn encodings_and_charsets_are_undone() {
        let text = |body: &'static str, encoding, charset| text_of(body.as_bytes(), encoding, charset).into_owned();
        assert_eq!(text("a=3Db=\n c=20\n=ZZ=", Encoding::QuotedPrintable, None), "a=b c \n=ZZ=");
        assert_eq!(text("NTUwIG5v\nIHVzZXIK\n--\nfooter", Encoding::Base64, None).get(..11), Some("550 no user"));
        assert_eq!(text_of(b"gr\xfc\xdfe", Encoding::Identity, Some("iso-8859-1")), "grüße");
        assert_eq!(text_of(b"\xf0\xd2\xc9", Encoding::Identity, Some("koi8-r")), "При");
        assert_eq!(text_of(b"caf\xe9", Encoding::Identity, Some("unknown-8bit")), "café");
        assert_eq!(text_of(b"\x1b$B%a\x1b(B", Encoding::Identity, Some("ISO-2022-JP")), "メ");
    }
}
