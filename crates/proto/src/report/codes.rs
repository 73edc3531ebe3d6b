//! Reply codes, enhanced codes and addresses inside of words.

use crate::smtp::reply::EnhancedCode;

/// Longest address taken (RFC 5321 §4.5.3.1).
const MAX_ADDRESS: usize = 320;

/// Words after which a number is a reply code.
const BEFORE: &[&str] = &[
    "said", "error", "code", "response", "returned", "replied", "->", "is", "status", "<<<", ">>>", "smtp", "with",
    "follows", "was", "reason", "because", "server", "reply", "message",
];

/// The first reply code of a text and the first enhanced code.
pub(super) fn codes_in(text: &str) -> (Option<u16>, Option<EnhancedCode>) {
    let (mut code, mut enhanced) = (None, None);
    let mut before = "";
    for word in text.split([' ', '\t', '\n']).filter(|word| !word.is_empty()) {
        // `550-5.1.1`, `#550`, `550:`, `(#5.1.1)`, `5.1.1:`, `SMTP;550`, `[550`.
        let bare = word.trim_start_matches(['#', '(', '[', '<', '>', '"', '\'', ':', ';', '-', '=', '/']);
        let bare = bare.rsplit_once(';').map_or(bare, |(_, after)| if after.is_empty() { bare } else { after });
        let bare = bare.trim_start_matches('#');
        if code.is_none() && follows(before, word, bare) {
            code = code_at(bare);
        }
        if enhanced.is_none() {
            enhanced = enhanced_at(bare).or_else(|| bare.split_once('-').and_then(|(_, after)| enhanced_at(after)));
            enhanced = enhanced.or_else(|| word.find("(#").and_then(|at| enhanced_at(&word[at + 2..])));
        }
        if code.is_some() && enhanced.is_some() {
            break;
        }
        before = word;
    }
    (code, enhanced)
}

/// Whether a number at this place is a reply code, not a count or a part of a name.
fn follows(before: &str, word: &str, bare: &str) -> bool {
    let before_word = before.trim_end_matches([':', ';', ',', '.', '-', '"', '\'', '(', '[', '=', ']', ')', '>']);
    let marked = before.is_empty() || before_word.len() < before.len() || word.len() > bare.len();
    marked
        || before.len() == 3 && code_at(before).is_some()
        || BEFORE.iter().any(|known| before.eq_ignore_ascii_case(known))
}

/// A reply code of a refusal at the start, with an end behind it.
pub(super) fn code_at(text: &str) -> Option<u16> {
    let digits = text.get(..3).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
    let ends = matches!(
        text.as_bytes().get(3),
        None | Some(b' ' | b'-' | b':' | b';' | b',' | b'\'' | b'"' | b']' | b')' | b'.')
    );
    // `554.5.1` and `450.` are told apart by what follows.
    let version = text.as_bytes().get(3) == Some(&b'.') && text.as_bytes().get(4).is_some_and(u8::is_ascii_digit);
    let code: u16 = digits.parse().ok()?;
    let known = matches!(code, 421..=459 | 471..=474 | 500..=589);
    (ends && !version && known).then_some(code)
}

/// An enhanced code at the start, with an end behind it.
pub(super) fn enhanced_at(text: &str) -> Option<EnhancedCode> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (code, rest) = (text[..end].trim_end_matches('.'), &text[end..]);
    let ends = rest.chars().next().is_none_or(|next| !next.is_alphanumeric());
    let (code, _) = EnhancedCode::parse_prefix(code).filter(|_| ends)?;
    // `5.1` of a version, or an address on the Internet, has other numbers of parts; no class 2 in a failure's words.
    Some(code)
}

/// An address at the start: where it ends. Local part and domain, no blanks; quoted local parts too.
pub(super) fn address_at(text: &str) -> Option<usize> {
    let octets = text.as_bytes();
    let mut at = 0;
    if octets.first() == Some(&b'"') {
        let close = text.get(1..)?.find('"')? + 1;
        if octets.get(close + 1) != Some(&b'@') {
            return None;
        }
        at = close + 1;
    }
    while let Some(octet) = octets.get(at) {
        match octet {
            b'@' => break,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-'..=b'9' | b'=' | b'?' | b'A'..=b'Z' | b'^'..=b'~' | 0x80.. => {
                at += 1
            }
            _ => return None,
        }
    }
    if at == 0 || octets.get(at) != Some(&b'@') {
        return None;
    }
    let start = at + 1;
    let mut end = start;
    if octets.get(end) == Some(&b'[') {
        let close = text.get(end..)?.find(']')?;
        return (close < 60).then_some(end + close + 1);
    }
    if octets.get(end) == Some(&b'#') {
        end += 1;
    }
    while octets
        .get(end)
        .is_some_and(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | 0x80..))
    {
        end += 1;
    }
    while end > start && matches!(octets[end - 1], b'.' | b'-') {
        end -= 1;
    }
    (end > start && end <= MAX_ADDRESS && text.is_char_boundary(end)).then_some(end)
}

/// All addresses in a text with where they start, in order, at most 50.
pub(super) fn addresses_in(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut from = 0;
    for at in memchr::memchr_iter(b'@', text.as_bytes()) {
        if at < from || found.len() == 50 {
            continue;
        }
        let before = &text[from..at];
        let start = match before.strip_suffix('"').and_then(|inside| inside.rfind('"')) {
            Some(quote) => from + quote,
            None => {
                let stop = |c: char| c.is_whitespace() || "<>()[]:;,\"'\\`".contains(c);
                from + before
                    .rfind(stop)
                    .map_or(0, |stop| stop + before[stop..].chars().next().map_or(1, char::len_utf8))
            }
        };
        if let Some(length) = address_at(&text[start..]) {
            found.push((start, &text[start..start + length]));
            from = start + length;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_and_other_numbers_are_not() {
        for (text, code, enhanced) in [
            ("550 5.1.1 no", Some(550), "5.1.1"),
            ("550-5.7.1 [192.0.2.1] no", Some(550), "5.7.1"),
            ("host x[192.0.2.5] said: 450 4.2.0 later", Some(450), "4.2.0"),
            ("#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##", Some(550), "5.1.1"),
            ("sorry, no mailbox (#5.1.1)", None, "5.1.1"),
            ("550 550 5.1.1 no", Some(550), "5.1.1"),
            ("smtp;550 no", Some(550), ""),
            ("Remote host said: 554 no", Some(554), ""),
            ("the limit of 550 messages", None, ""),
            ("from 192.0.2.550", None, ""),
            ("5.1.1.1 is no code", None, ""),
            ("It responded as follows: [550 5.1.1 x]", Some(550), "5.1.1"),
        ] {
            let (found, status) = codes_in(text);
            assert_eq!(
                (found, status.map(|s| s.to_string()).unwrap_or_default()),
                (code, enhanced.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn addresses_are_found_in_words() {
        let all = |text: &'static str| addresses_in(text).into_iter().map(|(_, found)| found).collect::<Vec<_>>();
        assert_eq!(all("to <a@b.example>: no, c.d+e=f@g-h.example."), ["a@b.example", "c.d+e=f@g-h.example"]);
        assert_eq!(
            all("\"a b\"@c.example x [SMTP:d@e.example] smtp:f@g.example@"),
            ["\"a b\"@c.example", "d@e.example", "f@g.example"]
        );
        assert_eq!(all("@ a@ @b b @@ "), Vec::<&str>::new());
        assert_eq!(all("a@[192.0.2.1] grüße@büro.example"), ["a@[192.0.2.1]", "grüße@büro.example"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "[a@.<>\"\\[\\]5 é1:;#(-]{0,60}") {
            addresses_in(&text);
            codes_in(&text);
        }
    }
}
