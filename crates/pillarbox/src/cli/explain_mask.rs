//! One reply comes a hundred thousand times with other names in it: it is judged once. Here is what makes two texts one,
//! and the memory of what was judged, which never grows beyond its bound.

use std::collections::HashMap;

/// Most octets of a text that decide.
const MAX_TEXT: usize = 4096;
/// Octets of keys in one generation of the memory; there are two.
const MAX_KEYS: usize = 4 << 20;

/// Appends `text` without what differs from message to message: addresses, ids, long numbers. Short words with digits
/// stay, because rules tell `S3140` from `S3150` and `5.7.1` from `5.7.26`; so do letters of links and host names.
pub fn mask(text: &[u8], out: &mut Vec<u8>) {
    let text = text.get(..MAX_TEXT).unwrap_or(text);
    for word in text.split(|octet| *octet == b' ') {
        let (mut digits, mut letters, mut dots, mut others) = (0_usize, 0_usize, 0_usize, 0_usize);
        let mut address = false;
        for octet in word {
            match octet {
                b'0'..=b'9' => digits += 1,
                b'.' => dots += 1,
                b'@' => address = true,
                b'a'..=b'z' | b'A'..=b'Z' => letters += 1,
                _ => others += 1,
            }
        }
        if address {
            out.push(b'@');
        } else if digits == 0 {
            out.extend_from_slice(word);
        } else {
            masked(word, Shape { digits, letters, dots, others }, out);
        }
        out.push(b' ');
    }
}

struct Shape {
    digits: usize,
    letters: usize,
    dots: usize,
    others: usize,
}

fn masked(word: &[u8], shape: Shape, out: &mut Vec<u8>) {
    if shape.letters == 0 {
        // Two dots: an enhanced code.
        if shape.dots >= 3 || (shape.digits >= 4 && shape.dots != 2) || shape.digits > 7 {
            out.push(b'0');
        } else {
            out.extend_from_slice(word);
        }
        return;
    }
    let named = word.len() <= 20 && word.contains(&b'(');
    // `AADSTS7000215`: letters, then digits only.
    let core = word.trim_ascii();
    let letters_first = core.iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
    let id = letters_first >= 3
        && core.iter().skip(letters_first).all(|octet| octet.is_ascii_digit() || b":;,.".contains(octet));
    // `error:0A000152:SSL`: codes of OpenSSL.
    let code = core.starts_with(b"error:") && word.len() <= 40;
    if word.len() <= 9 || named || id || code {
        out.extend_from_slice(word);
    } else if word.contains(&b'/') {
        without_digits(word, out);
    } else if shape.dots > 0 && host(word) {
        for label in word.split(|octet| *octet == b'.') {
            out.extend_from_slice(if label.iter().any(u8::is_ascii_digit) { b"#" } else { label });
            out.push(b'.');
        }
    } else {
        out.push(b'#');
        // A quote or bracket at the end belongs to the sentence.
        out.extend(word.last().filter(|octet| shape.others > 0 && !octet.is_ascii_alphanumeric()));
    }
}

fn without_digits(word: &[u8], out: &mut Vec<u8>) {
    let mut in_digits = false;
    for octet in word {
        let digit = octet.is_ascii_digit();
        if !digit {
            out.push(*octet);
        } else if !in_digits {
            out.push(b'0');
        }
        in_digits = digit;
    }
}

/// A host name: its last label has letters only, but for marks around it.
fn host(word: &[u8]) -> bool {
    let end = word.iter().rposition(u8::is_ascii_alphanumeric).map_or(0, |at| at + 1);
    let last = word.get(..end).and_then(|word| word.rsplit(|octet| *octet == b'.').next()).unwrap_or_default();
    last.len() >= 2 && last.iter().all(u8::is_ascii_alphabetic)
}

/// What was judged lately: two generations, of which the older one is dropped when the younger is full.
#[derive(Debug)]
pub struct Memory<V> {
    young: HashMap<Box<[u8]>, V>,
    old: HashMap<Box<[u8]>, V>,
    octets: usize,
}

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), octets: 0 }
    }
}

impl<V: Copy> Memory<V> {
    /// What was kept under this key; it is young again then.
    pub fn get(&mut self, key: &[u8]) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(*value);
        }
        let value = self.old.remove(key)?;
        self.put(key, value);
        Some(value)
    }

    /// Keeps it.
    pub fn put(&mut self, key: &[u8], value: V) {
        // A map's own part of an entry is counted too.
        let cost = key.len() + 64;
        if self.octets + cost > MAX_KEYS {
            self.old = std::mem::take(&mut self.young);
            self.octets = 0;
        }
        self.octets += cost;
        self.young.insert(key.into(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn key(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        mask(text.as_bytes(), &mut out);
        out
    }

    #[test]
    fn the_same_reply_to_others_is_the_same() {
        for (one, other) in [
            ("550 5.1.1 <ann@b.example>: unknown", "550 5.1.1 <bob@c.example>: unknown"),
            ("450 4.7.1 Client host [192.0.2.1] blocked", "450 4.7.1 Client host [198.51.100.27] blocked"),
            (
                "550 5.1.1 x a640c23a62f3a-b9654eb23fbsi1234567.12 - gsmtp",
                "550 5.1.1 x 98e67ed59e1d1-2c5a1e2a9si991.3 - gsmtp",
            ),
            ("see https://b.example/q/192.0.2.1", "see https://b.example/q/198.51.100.2"),
            (
                "[BN8NAM12FT040.eop-nam12.prod.protection.outlook.com",
                "[BN8NAM11FT7.eop-nam11.prod.protection.outlook.com",
            ),
        ] {
            assert_eq!(key(one), key(other), "{one}");
        }
    }

    #[test]
    fn what_rules_tell_apart_stays_apart() {
        for (one, other) in [
            ("550 5.7.1 x", "550 5.7.26 x"),
            ("421 x", "550 x"),
            ("(S3140)", "(S3150)"),
            ("AADSTS7000215: x", "AADSTS50034: x"),
            ("blocked using zen.spamhaus.org", "blocked using bl.spamcop.net"),
            ("AS(201806281)", "AS(4810)"),
        ] {
            assert_ne!(key(one), key(other), "{one}");
        }
    }

    /// The promise behind the memory: two samples of the rules that look the same are judged the same.
    #[test]
    fn no_two_samples_with_one_key_have_two_rules() {
        let base = explain::RuleBase::builtin();
        let mut seen: HashMap<Vec<u8>, (String, &str)> = HashMap::new();
        for sample in base.rules().flat_map(|rule| rule.samples()) {
            let source = sample.source.as_str();
            if source.starts_with(['!', '@', '?']) {
                continue;
            }
            let found = base.judge(&explain::Query::text(source)).map(|finding| finding.rule).unwrap_or_default();
            if let Some((other, text)) = seen.insert(key(source), (found.clone(), source)) {
                assert_eq!(other, found, "`{text}` and `{source}`");
            }
        }
        assert!(seen.len() > 500, "{}", seen.len());
    }

    #[test]
    fn the_memory_stays_within_its_bound_and_keeps_what_is_used() {
        let mut memory = Memory::default();
        for n in 0..300_000_u32 {
            memory.put(&n.to_be_bytes(), n);
            if n % 1000 == 0 {
                assert_eq!(memory.get(&0_u32.to_be_bytes()), Some(0));
            }
        }
        assert!(memory.young.len() + memory.old.len() <= 2 * MAX_KEYS / 64);
        assert_eq!(memory.get(&1_u32.to_be_bytes()), None);
    }
}
