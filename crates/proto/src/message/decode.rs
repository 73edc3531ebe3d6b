//! Header values as people read them: folding undone, encoded words decoded (RFC 2047), nothing that steers a terminal.
//!
//! For display only; never feed the result back into a message.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Longest result of [`decode_header_value`], in characters.
pub const MAX_DISPLAY_CHARS: usize = 200;

/// How much of a raw value is looked at; four octets per character in base64 in short words stay below that.
const MAX_RAW: usize = 4096;

/// Encoded words in the wild lack padding or have stray bits at the end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A raw header value for display, at most [`MAX_DISPLAY_CHARS`] characters (then ending in `…`).
///
/// Encoded words in UTF-8, US-ASCII, ISO-8859-1 and Windows-1252 are decoded; words in other charsets stay encoded.
/// Control characters and those that change the direction of text are removed.
pub fn decode_header_value(value: &[u8]) -> String {
    let value = &value[..value.len().min(MAX_RAW)];
    let mut out = Display::default();
    let mut rest = value.trim_ascii();
    while !rest.is_empty() {
        let blank = rest.iter().take_while(|octet| octet.is_ascii_whitespace()).count();
        let word_end = rest[blank..].iter().position(u8::is_ascii_whitespace).map_or(rest.len(), |end| blank + end);
        let (blanks, word) = (&rest[..blank], &rest[blank..word_end]);
        rest = &rest[word_end..];
        out.word(blanks, word);
    }
    out.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Latin1,
}

/// Text so far. Octets of adjacent encoded words are gathered, since some programs split characters between words.
#[derive(Default)]
struct Display {
    text: String,
    pending: Vec<u8>,
    charset: Option<Charset>,
}

impl Display {
    /// Adds what stands between blanks: plain text with any number of encoded words in it.
    fn word(&mut self, blanks: &[u8], mut word: &[u8]) {
        let mut blanks = if blanks.is_empty() { "" } else { " " };
        while !word.is_empty() {
            let found = memchr::memmem::find_iter(word, b"=?").find_map(|at| Some((at, encoded_word(&word[at..])?)));
            let Some((at, encoded)) = found else {
                self.plain(blanks, word);
                return;
            };
            if at > 0 {
                self.plain(blanks, &word[..at]);
                blanks = "";
            }
            // Blanks between two encoded words are not part of the text (RFC 2047 §6.2).
            if self.charset.is_none() {
                self.text.push_str(blanks);
            } else if self.charset != Some(encoded.charset) {
                self.flush();
            }
            blanks = "";
            self.charset = Some(encoded.charset);
            self.pending.extend_from_slice(&encoded.octets);
            word = &word[at + encoded.length..];
        }
    }

    fn plain(&mut self, blanks: &str, octets: &[u8]) {
        self.flush();
        self.text.push_str(blanks);
        self.text.push_str(&String::from_utf8_lossy(octets));
    }

    fn flush(&mut self) {
        match self.charset.take() {
            Some(Charset::Utf8) => self.text.push_str(&String::from_utf8_lossy(&self.pending)),
            Some(Charset::Latin1) => self.text.extend(self.pending.iter().map(|&octet| windows_1252(octet))),
            None => {}
        }
        self.pending.clear();
    }

    fn finish(mut self) -> String {
        self.flush();
        let mut shown: String = self.text.trim().chars().filter_map(visible).take(MAX_DISPLAY_CHARS + 1).collect();
        if shown.chars().count() > MAX_DISPLAY_CHARS {
            shown.pop();
            shown.pop();
            shown.push('…');
        }
        shown
    }
}

/// The character as shown: tabs and line ends as a blank, other controls and direction marks not at all.
fn visible(c: char) -> Option<char> {
    match c {
        '\t' | '\n' | '\r' => Some(' '),
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => None,
        c if c.is_control() => None,
        c => Some(c),
    }
}

struct EncodedWord {
    charset: Charset,
    octets: Vec<u8>,
    length: usize,
}

/// Reads `=?charset?encoding?text?=` at the start of `raw` (RFC 2047 §2, with the language of RFC 2231 §5).
fn encoded_word(raw: &[u8]) -> Option<EncodedWord> {
    let mut parts = raw.strip_prefix(b"=?")?.splitn(3, |&octet| octet == b'?');
    let (charset, encoding, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let text = &rest[..memchr::memmem::find(rest, b"?=")?];
    let name = charset.split(|&octet| octet == b'*').next()?;
    let charset = match name.to_ascii_lowercase().as_slice() {
        b"utf-8" | b"utf8" | b"us-ascii" | b"ascii" => Charset::Utf8,
        b"iso-8859-1" | b"latin1" | b"windows-1252" | b"cp1252" => Charset::Latin1,
        _ => return None,
    };
    let octets = match encoding {
        b"B" | b"b" => LENIENT.decode(text).ok()?,
        b"Q" | b"q" => decode_q(text),
        _ => return None,
    };
    let length = rest.as_ptr() as usize - raw.as_ptr() as usize + text.len() + 2;
    Some(EncodedWord { charset, octets, length })
}

fn decode_q(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let hex = |offset: usize| text.get(at + offset).and_then(|&digit| char::from(digit).to_digit(16));
        match (text[at], hex(1), hex(2)) {
            (b'_', ..) => out.push(b' '),
            (b'=', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (octet, ..) => out.push(octet),
        }
        at += 1;
    }
    out
}

/// Windows-1252, which is what programs mean by ISO-8859-1 when they use 128 to 159.
fn windows_1252(octet: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match octet {
        0x80..=0x9f => HIGH[usize::from(octet - 0x80)],
        _ => char::from(octet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_the_writer_meant() {
        for (raw, shown) in [
            ("Hello", "Hello"),
            (" Hello\r\n  World ", "Hello World"),
            ("=?utf-8?Q?Caf=C3=A9_bar?=", "Café bar"),
            ("=?UTF-8?B?Q2Fmw6k=?= now", "Café now"),
            ("=?UTF-8?B?Q2Fmw6k?=", "Café"),
            ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?a?=\r\n =?utf-8?q?b?= c", "ab c"),
            ("x =?utf-8?q?a?=", "x a"),
            ("(=?iso-8859-1?q?a?=\r\n b)", "(a b)"),
            ("=?ISO-8859-1*de?Q?gr=FC=DFe?=", "grüße"),
            ("=?iso-8859-1?q?=80?=", "€"),
            ("=?utf-8?B?w4M=?==?utf-8?B?w4M=?=", "ÃÃ"),
            ("=?utf-8?Q?=C3?= =?utf-8?Q?=A9?=", "é"),
            ("=?koi8-r?B?8NLJ18XU?=", "=?koi8-r?B?8NLJ18XU?="),
            ("=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
            ("=?utf-8?Q?a=ZZ?=", "a=ZZ"),
            ("=?utf-8?Q?open", "=?utf-8?Q?open"),
            ("a=?b", "a=?b"),
            ("=?utf-8?Q?evil=1B[31m=0D=0ABcc:_x?=", "evil[31m  Bcc: x"),
            ("a\u{202e}b", "ab"),
            ("", ""),
        ] {
            assert_eq!(decode_header_value(raw.as_bytes()), shown, "{raw}");
        }
        assert_eq!(decode_header_value(b"caf\xe9"), "caf\u{fffd}");
    }

    #[test]
    fn is_bounded() {
        assert_eq!(decode_header_value("é".repeat(200).as_bytes()), "é".repeat(200));
        let long = decode_header_value("é".repeat(201).as_bytes());
        assert_eq!(long.chars().count(), MAX_DISPLAY_CHARS);
        assert!(long.ends_with("é…"));
        assert!(decode_header_value("=?utf-8?q?x?= ".repeat(100_000).as_bytes()).chars().count() <= MAX_DISPLAY_CHARS);
    }

    proptest::proptest! {
        #[test]
        fn never_shows_controls(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let shown = decode_header_value(&raw);
            proptest::prop_assert!(!shown.chars().any(char::is_control));
            proptest::prop_assert!(shown.chars().count() <= MAX_DISPLAY_CHARS);
        }
        #[test]
        fn survives_pieces_of_encoded_words(parts in proptest::collection::vec(
            proptest::sample::select(vec!["=?", "?=", "utf-8", "?", "B", "Q", "=C3", "=A9", " ", "iso-8859-1", "_", "abc"]), 0..20)) {
            let shown = decode_header_value(parts.concat().as_bytes());
            proptest::prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
