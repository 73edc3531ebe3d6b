//! Text into header fields: folding, encoded words (RFC 2047), and types that cannot break out of a header.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Where lines should be folded (RFC 5322 §2.1.1).
const COLUMN: usize = 78;
/// Most octets of text in one encoded word: `=?utf-8?B?` + 4/3 of it + `?=` stays within 75 (RFC 2047 §2).
const WORD_OCTETS: usize = 45;
/// Longest word that may stand in a line as it is; longer ones are split into encoded words.
const MAX_PLAIN_WORD: usize = 500;

/// Why a text cannot stand in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderTextError {
    /// A field name is one or more printable ASCII characters without colon, at most 76 (RFC 5322 §3.6.8).
    #[error("header name is not valid")]
    Name,
    /// CR, LF or another control character.
    #[error("header value has a control character")]
    Control,
    /// Over 8,192 octets.
    #[error("header value is longer than 8192 octets")]
    TooLong,
}

/// The name of a header field; cannot hold a colon, a blank or a line end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(String);

impl HeaderName {
    /// Checks a name: letters, digits and `-`, `_`, `.` and other token characters (RFC 9110 §5.6.2).
    ///
    /// Stricter than RFC 5322 §3.6.8: what is not a token is in no use and breaks some readers.
    pub fn new(name: impl Into<String>) -> Result<Self, HeaderTextError> {
        let name = name.into();
        let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        if name.is_empty() || name.len() > 76 || !name.bytes().all(token) {
            return Err(HeaderTextError::Name);
        }
        Ok(Self(name))
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A header value before folding; cannot hold CR, LF, NUL or other controls but the tab. At most 8,192 octets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderText(String);

impl HeaderText {
    /// Checks a value.
    pub fn new(text: impl Into<String>) -> Result<Self, HeaderTextError> {
        let text = text.into();
        if text.len() > 8192 {
            return Err(HeaderTextError::TooLong);
        }
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(HeaderTextError::Control);
        }
        Ok(Self(text))
    }
    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Breaks a value into lines of at most 78 octets where its blanks allow (RFC 5322 §2.2.3).
///
/// `column` is where the value begins in its line (name, colon, blank). The octets between the breaks stay as they
/// are. Line ends in `value` become blanks.
pub fn fold(value: &str, column: usize) -> String {
    let mut out = String::with_capacity(value.len() + value.len() / 32 + 2);
    let mut column = column;
    let mut line_has_word = column > 0;
    let mut rest = value;
    while !rest.is_empty() {
        let word_start = rest.find(|c: char| !is_blank(c)).unwrap_or(rest.len());
        let word_end = rest[word_start..].find(is_blank).map_or(rest.len(), |end| word_start + end);
        let (blanks, word) = (&rest[..word_start], &rest[word_start..word_end]);
        // A line of blanks only would end the header for some readers.
        if !blanks.is_empty() && !word.is_empty() && line_has_word && column + word_end > COLUMN {
            out.push_str("\r\n");
            column = 0;
        }
        out.extend(blanks.chars().map(|c| if c == '\t' { c } else { ' ' }));
        out.push_str(word);
        line_has_word |= !word.is_empty();
        column += word_end;
        rest = &rest[word_end..];
    }
    out
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// An unstructured value (a subject), folded, in encoded words where it is not plain ASCII (RFC 2047 §5).
///
/// `column` is where the value begins in its line. Control characters become blanks.
pub fn encode_unstructured(text: &str, column: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.trim();
    if is_plain(clean) { fold(clean, column) } else { encoded_words(clean, column) }
}

/// A display name: atoms, a quoted string, or encoded words (RFC 5322 §3.2.5, RFC 2047 §5).
pub fn encode_phrase(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.trim();
    let atom = |c: char| c.is_ascii_alphanumeric() || " !#$%&'*+-/=?^_`{|}~".contains(c);
    if !is_plain(clean) || clean.len() > MAX_PLAIN_WORD {
        return encoded_words(clean, 0);
    }
    if !clean.is_empty() && clean.chars().all(atom) {
        return clean.to_owned();
    }
    let mut out = String::with_capacity(clean.len() + 2);
    out.push('"');
    for c in clean.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// ASCII, no word too long for a line, and nothing that a reader would take for an encoded word.
fn is_plain(text: &str) -> bool {
    text.is_ascii() && !text.contains("=?") && text.split(is_blank).all(|word| word.len() <= MAX_PLAIN_WORD)
}

fn encoded_words(text: &str, column: usize) -> String {
    let mut out = String::with_capacity(text.len() * 2 + 16);
    let (mut rest, mut column) = (text, column);
    while !rest.is_empty() {
        // What the line still holds, but never so little that a character does not fit.
        let room = (COLUMN.saturating_sub(column + "=?utf-8?B??=".len()) / 4 * 3).min(WORD_OCTETS);
        if room < 6 && column > 1 {
            out.push_str("\r\n ");
            column = 1;
            continue;
        }
        let mut length = rest.len().min(room);
        while !rest.is_char_boundary(length) {
            length -= 1;
        }
        out.push_str("=?utf-8?B?");
        STANDARD.encode_string(&rest[..length], &mut out);
        out.push_str("?=");
        rest = &rest[length..];
        column = COLUMN;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decode_header_value;
    use super::*;

    #[test]
    fn names_that_break_out_are_refused() {
        for name in ["X-Tag", "Subject", "List-Unsubscribe-Post"] {
            assert_eq!(HeaderName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "X Y", "X:", "X\r\nBcc", "Ü", "X\0", &"x".repeat(77)] {
            assert_eq!(HeaderName::new(name), Err(HeaderTextError::Name), "{name:?}");
        }
    }

    #[test]
    fn values_that_break_out_are_refused() {
        assert_eq!(HeaderText::new("grüße\tx").unwrap().as_str(), "grüße\tx");
        for text in ["a\r\nBcc: x", "a\n", "a\r", "a\0", "a\u{85}b", "\u{1b}[1m"] {
            assert_eq!(HeaderText::new(text), Err(HeaderTextError::Control), "{text:?}");
        }
        assert_eq!(HeaderText::new("x".repeat(8193)), Err(HeaderTextError::TooLong));
    }

    #[test]
    fn plain_text_stays_readable() {
        assert_eq!(encode_unstructured("Your password", 9), "Your password");
        assert_eq!(encode_unstructured("", 9), "");
        assert_eq!(encode_unstructured("a\r\nBcc: b", 9), "a  Bcc: b");
        assert_eq!(encode_unstructured("Grüße", 9), "=?utf-8?B?R3LDvMOfZQ==?=");
        assert_eq!(encode_unstructured("=?utf-8?Q?a?=", 9), "=?utf-8?B?PT91dGYtOD9RP2E/PQ==?=");
    }

    #[test]
    fn phrases_are_quoted_as_needed() {
        for (name, encoded) in [
            ("Access Review", "Access Review"),
            ("Doe, Jane", "\"Doe, Jane\""),
            ("a \"b\" \\c", "\"a \\\"b\\\" \\\\c\""),
            ("info@b.example", "\"info@b.example\""),
            ("", "\"\""),
            ("Zoë", "=?utf-8?B?Wm/Dqw==?="),
        ] {
            assert_eq!(encode_phrase(name), encoded);
        }
    }

    #[test]
    fn folds_at_blanks_only() {
        let folded = fold(&"word ".repeat(40), 9);
        assert!(folded.split("\r\n").all(|line| line.len() <= COLUMN), "{folded}");
        assert_eq!(folded.replace("\r\n", ""), "word ".repeat(40));
        assert_eq!(fold(&"x".repeat(200), 9), "x".repeat(200));
    }

    proptest! {
        #[test]
        fn unstructured_text_survives(text in "[^\\p{C}\\s]{1,30}( [^\\p{C}\\s]{1,30}){0,6}", column in 0_usize..90) {
            prop_assume!(text.chars().count() < 150);
            let encoded = encode_unstructured(&text, column);
            prop_assert!(encoded.is_ascii());
            for (number, line) in encoded.split("\r\n").enumerate() {
                prop_assert!(number == 0 || line.starts_with(' ') && line.trim() != "");
                prop_assert!(line.len() <= 998);
                prop_assert!(text.is_ascii() || line.len() <= COLUMN);
            }
            prop_assert_eq!(decode_header_value(encoded.as_bytes()), text);
        }
        #[test]
        fn nothing_breaks_out(text in proptest::collection::vec(any::<char>(), 0..200), column in 0_usize..200) {
            let text: String = text.into_iter().collect();
            for encoded in [encode_unstructured(&text, column), encode_phrase(&text)] {
                prop_assert!(encoded.is_ascii());
                prop_assert!(encoded.replace("\r\n ", "").chars().all(|c| c == '\t' || !c.is_control()));
            }
        }
    }
}
