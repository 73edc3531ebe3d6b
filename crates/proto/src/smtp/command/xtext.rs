//! xtext of RFC 3461 §4: printable ASCII in which `+`, `=` and everything else is written `+HH`.
//!
//! Decoding is strict and refuses what would not be printable, so a decoded value can stand in any line.

/// Decodes; `None` if it is no xtext (lower-case hexadecimal digits are none) or not printable ASCII when decoded.
pub fn decode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let value = match octet {
            b'+' => hex(octets.next()?)? << 4 | hex(octets.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        };
        if !(b' '..=b'~').contains(&value) {
            return None;
        }
        decoded.push(char::from(value));
    }
    Some(decoded)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Appends a text as xtext; octets that are not printable ASCII are written `+HH` too.
pub fn encode_into(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => out.push(octet),
            _ => out.extend_from_slice(&[b'+', DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]),
        }
    }
}
