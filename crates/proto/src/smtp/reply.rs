//! SMTP replies (RFC 5321 §4.2) and enhanced status codes (RFC 3463): the value, how it is written, how it is shown.
//!
//! Reading replies from a server is [`ReplyReader`]'s work; what a reply means is not decided here.

mod reader;

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

pub use reader::{BadReply, ReplyReader};

/// Longest line we send, without CR LF (RFC 5321 §4.5.3.1.5).
const MAX_SENT_LINE: usize = 510;

/// An enhanced status code, `5.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// Reads `5.1.1` at the start of a text; also gives what follows the code and its blank.
    ///
    /// Class 2, 4 or 5, subject and detail one to three digits (RFC 3463 §2).
    pub fn parse_prefix(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = word.split('.');
        let class = number(parts.next()?)?;
        let subject = number(parts.next()?)?;
        let detail = number(parts.next()?)?;
        if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
            return None;
        }
        Some((Self(class as u8, subject, detail), rest))
    }
}

fn number(digits: &str) -> Option<u16> {
    let valid = (1..=3).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    if valid { digits.parse().ok() } else { None }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A reply as it came or as it shall be sent. Lines are the texts behind code and separator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Texts, at least one (maybe empty); they include the enhanced code where there is one.
    pub lines: Vec<String>,
}

impl Reply {
    /// A one-line reply.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, lines: vec![text.into()] }
    }
    /// A reply of several lines; none at all becomes one empty line.
    pub fn lines(code: u16, mut lines: Vec<String>) -> Self {
        if lines.is_empty() {
            lines.push(String::new());
        }
        Self { code, lines }
    }
    /// First digit.
    pub fn class(&self) -> u8 {
        (self.code / 100) as u8
    }
    /// 2yz.
    pub fn is_positive(&self) -> bool {
        self.class() == 2
    }
    /// 4yz.
    pub fn is_transient(&self) -> bool {
        self.class() == 4
    }
    /// 5yz.
    pub fn is_permanent(&self) -> bool {
        self.class() == 5
    }
    /// The enhanced code at the start of the first line, if its class matches the reply's.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        let (enhanced, _) = EnhancedCode::parse_prefix(self.lines.first()?)?;
        (enhanced.0 == self.class()).then_some(enhanced)
    }
    /// All lines joined with a space, without enhanced codes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let line = self.without_enhanced(line);
            if !text.is_empty() && !line.is_empty() {
                text.push(' ');
            }
            text.push_str(line);
        }
        text
    }

    fn without_enhanced<'a>(&self, line: &'a str) -> &'a str {
        match EnhancedCode::parse_prefix(line) {
            Some((enhanced, rest)) if enhanced.0 == self.class() => rest,
            _ => line,
        }
    }

    /// Appends the reply as it goes over the wire, CR LF included.
    ///
    /// Lines are at most 510 octets: longer ones are folded into several, each with the enhanced code of the first.
    /// Control characters become blanks and non-ASCII ones `?`, as `textstring` demands (RFC 5321 §4.2.1), so no
    /// text, wherever it is from, can end a line. A code that is no reply code is sent as 451.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let code = if (200..=599).contains(&self.code) { self.code } else { 451 };
        let digits = [digit(code / 100), digit(code / 10 % 10), digit(code % 10)];
        let Some((last, others)) = self.lines.split_last() else {
            return write_line(out, digits, b' ', "");
        };
        for line in others {
            write_folded(out, digits, b'-', line);
        }
        write_folded(out, digits, b' ', last);
    }
}

const fn digit(value: u16) -> u8 {
    b'0' + value as u8
}

fn write_folded(out: &mut Vec<u8>, digits: [u8; 3], separator: u8, text: &str) {
    let room = MAX_SENT_LINE - 4;
    if text.len() <= room {
        return write_line(out, digits, separator, text);
    }
    let (prefix, mut rest) = match EnhancedCode::parse_prefix(text) {
        Some((_, rest)) => text.split_at(text.len() - rest.len()),
        None => ("", text),
    };
    let room = room - prefix.len();
    while rest.len() > room {
        let (piece, behind) = rest.split_at(break_at(rest, room));
        write_prefixed(out, digits, b'-', prefix, piece);
        rest = behind.trim_start_matches(' ');
    }
    write_prefixed(out, digits, separator, prefix, rest);
}

/// Where to break a text that is longer than `room`: at the last blank of the second half, else anywhere.
fn break_at(text: &str, room: usize) -> usize {
    let hard = text.floor_char_boundary(room);
    match text[..hard].rfind(' ') {
        Some(blank) if blank > room / 2 => blank,
        _ => hard,
    }
}

fn write_prefixed(out: &mut Vec<u8>, digits: [u8; 3], separator: u8, prefix: &str, text: &str) {
    out.extend_from_slice(&digits);
    out.push(separator);
    out.extend_from_slice(prefix.as_bytes());
    push_clean(out, text);
    out.extend_from_slice(b"\r\n");
}

fn write_line(out: &mut Vec<u8>, digits: [u8; 3], separator: u8, text: &str) {
    write_prefixed(out, digits, separator, "", text);
}

fn push_clean(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|octet| (b' '..=b'~').contains(&octet)) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.extend(text.chars().map(|character| match character {
        ' '..='~' => character as u8,
        _ if character.is_control() => b' ',
        _ => b'?',
    }));
}

impl fmt::Display for Reply {
    /// `550 5.1.1 no such user`; lines are joined with ` / ` and escaped for one line of a terminal or log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        for (index, line) in self.lines.iter().enumerate() {
            f.write_str(match (index, line.is_empty()) {
                (0, true) => "",
                (0, false) => " ",
                _ => " / ",
            })?;
            line.chars().try_for_each(|character| write_escaped(f, character))?;
        }
        Ok(())
    }
}

/// Writes a character so that it cannot move a cursor, end a line or reorder text.
fn write_escaped(f: &mut impl fmt::Write, character: char) -> fmt::Result {
    let hides = character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if hides { write!(f, "{}", character.escape_default()) } else { f.write_char(character) }
}

/// Octets of a peer as text of at most `limit` octets, escaped for one line.
pub fn escape(octets: &[u8], limit: usize) -> String {
    let mut text = String::new();
    let mut piece = String::new();
    for character in String::from_utf8_lossy(&octets[..octets.len().min(limit)]).chars() {
        piece.clear();
        // Writing to a String cannot fail.
        let _ = write_escaped(&mut piece, character);
        if text.len() + piece.len() > limit {
            break;
        }
        let _ = text.write_str(&piece);
    }
    text
}

#[cfg(test)]
mod tests;
