//! The addresses inside a `From`-like header value (RFC 5322 §3.4), tolerant of what programs write.

use super::decode::decode_header_value;
use super::encode::encode_phrase;
use crate::address::Address;

/// How many addresses of one value are looked at.
const MAX_MAILBOXES: usize = 100;
/// How many octets of one value are looked at.
const MAX_RAW: usize = 65_536;

/// The address in a header value; the first one if there are several, the members where there is a group.
///
/// `None` if the first mailbox holds no valid address.
pub fn mailbox_of(value: &[u8]) -> Option<Address> {
    Mailboxes::new(value).next()?
}

/// All addresses in a header value, at most 100; `None` for a mailbox that holds no valid address.
///
/// Whoever checks the right to use an address must look at each of them.
pub fn mailboxes_of(value: &[u8]) -> Vec<Option<Address>> {
    Mailboxes::new(value).take(MAX_MAILBOXES).collect()
}

/// The valid mailboxes of a header value: the name, written so that it is one phrase and nothing else, and the address.
pub(super) fn each_mailbox(value: &[u8]) -> Vec<(String, Address)> {
    let mut mailboxes = Mailboxes::new(value);
    let mut all = Vec::new();
    while let Some(found) = mailboxes.next() {
        if let Some(address) = found {
            all.push((phrase(&mailboxes.name), address));
        }
    }
    all
}

/// Whether two addresses reach the same mailbox as far as anybody in practice is concerned.
pub(super) fn is_same(one: &Address, other: &Address) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

fn phrase(raw: &[u8]) -> String {
    let text = decode_header_value(raw.trim_ascii());
    let mut plain = String::new();
    let mut escaped = false;
    for character in text.chars() {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => {}
            character => {
                escaped = false;
                plain.push(character);
            }
        }
    }
    if plain.trim().is_empty() { String::new() } else { encode_phrase(&plain) }
}

struct Mailboxes<'a> {
    rest: &'a [u8],
    /// The words before the address of the last mailbox.
    name: Vec<u8>,
}

impl<'a> Mailboxes<'a> {
    fn new(value: &'a [u8]) -> Self {
        Self { rest: &value[..value.len().min(MAX_RAW)], name: Vec::new() }
    }
}

impl Iterator for Mailboxes<'_> {
    type Item = Option<Address>;

    fn next(&mut self) -> Option<Self::Item> {
        // Text outside of comments; quoted strings stay with their quotes, since a local part may be one.
        let mut text = Vec::new();
        let mut angle: Option<Vec<u8>> = None;
        while let Some((&octet, rest)) = self.rest.split_first() {
            match octet {
                b'(' => self.rest = skip_comment(self.rest),
                b'"' => {
                    let length = quoted_length(self.rest);
                    text.extend_from_slice(&self.rest[..length]);
                    self.rest = &self.rest[length..];
                }
                b'<' => {
                    let (inside, rest) = angle_address(rest);
                    angle.get_or_insert(inside);
                    self.rest = rest;
                }
                b'[' if !text.is_empty() => {
                    let length = memchr::memchr(b']', self.rest).map_or(self.rest.len(), |end| end + 1);
                    text.extend_from_slice(&self.rest[..length]);
                    self.rest = &self.rest[length..];
                }
                b':' if angle.is_none() => {
                    text.clear();
                    self.rest = rest;
                }
                b',' | b';' => {
                    self.rest = rest;
                    if angle.is_some() || !text.trim_ascii().is_empty() {
                        break;
                    }
                }
                b'\r' | b'\n' => self.rest = rest,
                octet => {
                    text.push(octet);
                    self.rest = rest;
                }
            }
        }
        let has_name = !text.trim_ascii().is_empty();
        self.name.clear();
        match angle {
            Some(inside) => {
                self.name = text;
                Some(parse(&inside))
            }
            None if has_name => Some(parse(&text)),
            None => None,
        }
    }
}

fn parse(octets: &[u8]) -> Option<Address> {
    Address::parse(std::str::from_utf8(octets.trim_ascii()).ok()?).ok()
}

/// The inside of `<…>` without comments and source route (RFC 5322 §4.4), and what follows.
fn angle_address(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut inside = Vec::new();
    while let Some((&octet, next)) = rest.split_first() {
        match octet {
            b'>' => {
                rest = next;
                break;
            }
            b'(' => rest = skip_comment(rest),
            b'"' => {
                let length = quoted_length(rest);
                inside.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
            }
            b'[' => {
                let length = memchr::memchr(b']', rest).map_or(rest.len(), |end| end + 1);
                inside.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
            }
            b':' if inside.trim_ascii_start().starts_with(b"@") => {
                inside.clear();
                rest = next;
            }
            b'\r' | b'\n' | b' ' | b'\t' => rest = next,
            octet => {
                inside.push(octet);
                rest = next;
            }
        }
    }
    (inside, rest)
}

/// Length of the quoted string at the start, to the end of the text if it is not closed.
fn quoted_length(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// What follows the comment at the start; comments nest (RFC 5322 §3.2.2).
fn skip_comment(text: &[u8]) -> &[u8] {
    let (mut at, mut depth) = (0, 0_u32);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    text.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_address() {
        for (value, address) in [
            ("a@b.example", Some("a@b.example")),
            ("  a@b.example\r\n", Some("a@b.example")),
            ("<a@b.example>", Some("a@b.example")),
            ("A B <a@b.example>", Some("a@b.example")),
            ("\"B, A\" <a@b.example>", Some("a@b.example")),
            ("\"x@evil.example\" <a@b.example>", Some("a@b.example")),
            ("x@evil.example <a@b.example>", Some("a@b.example")),
            ("\"quote \\\" <x@evil.example>\" <a@b.example>", Some("a@b.example")),
            ("A (comment <x@evil.example> (nested)) <a@b.example>", Some("a@b.example")),
            ("a@b.example (A B)", Some("a@b.example")),
            ("=?utf-8?Q?A=2C_B?=\r\n <a@b.example>", Some("a@b.example")),
            ("A <a@b.example>, C <c@d.example>", Some("a@b.example")),
            (", ,a@b.example", Some("a@b.example")),
            ("team: a@b.example, c@d.example;", Some("a@b.example")),
            ("team: A <a@b.example>;", Some("a@b.example")),
            ("<@r.example:a@b.example>", Some("a@b.example")),
            ("A <a@b.example", Some("a@b.example")),
            ("a@[192.0.2.1]", Some("a@[192.0.2.1]")),
            ("A <a@[IPv6:2001:db8::1]>", Some("a@[IPv6:2001:db8::1]")),
            ("Grüße <a@b.example>", Some("a@b.example")),
            ("undisclosed-recipients:;", None),
            ("", None),
            ("<>", None),
            ("nobody", None),
            ("nobody, a@b.example", None),
            ("(a@b.example", None),
            ("\"a@b.example", None),
        ] {
            assert_eq!(mailbox_of(value.as_bytes()).as_ref().map(Address::as_str), address, "{value}");
        }
    }

    #[test]
    fn finds_all_addresses() {
        let all = mailboxes_of(b"A <a@b.example>, nobody, team: c@d.example, <e@f.example>;, g@h.example");
        let all: Vec<_> = all.iter().map(|found| found.as_ref().map(Address::as_str)).collect();
        assert_eq!(all, [Some("a@b.example"), None, Some("c@d.example"), Some("e@f.example"), Some("g@h.example")]);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_survived(raw in proptest::collection::vec(proptest::sample::select(b"a@.<>()\"\\,;:[] \r\n\xff".to_vec()), 0..60)) {
            mailboxes_of(&raw);
        }
    }
}
