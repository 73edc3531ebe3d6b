//! Return paths of our own: an address for each message that only we can make, so that what comes back to it names its
//! message without being believed.
//!
//! `b-<message id>-<n>-<mac>@<bounce domain>`; without `-<n>` it stands for all recipients of a transaction. The letters
//! survive servers that change case.

use std::fmt;
use std::sync::Arc;

use proto::Address;
use serde::{Deserialize, Serialize};
use store::MessageId;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Octets of the code: 80 bits cannot be guessed over a network.
const MAC: usize = 10;
/// Crockford's, as in message ids: no letter looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Source of reports that came to a return path of ours (see [`store::LaterReport::source`]).
pub const SOURCE: &str = "listener";
/// Begins every local part.
const PREFIX: &str = "b-";

/// Which return path a route gives to its next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReturnPath {
    /// One of ours for each message.
    #[default]
    Signed,
    /// What the sender gave.
    Original,
}

/// Makes and reads return paths of a bounce domain.
pub struct Verp {
    domain: Arc<str>,
    key: [u8; 32],
}

impl fmt::Debug for Verp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verp").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Drop for Verp {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// What an address of ours names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The message.
    pub message: MessageId,
    /// Its recipient, if it was alone in its transaction.
    pub n: Option<u32>,
}

impl Verp {
    /// For a domain (lower-case A-labels), with a key made from the key of the stored secrets.
    pub fn new(domain: &str, key: &[u8; 32]) -> Self {
        Self { domain: domain.into(), key: blake3::derive_key("pillarbox 2026 return paths", key) }
    }

    /// The bounce domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The return path of a message.
    pub fn address(&self, token: Token) -> Option<Address> {
        Address::parse(&format!("{}@{}", self.local_part(token), self.domain)).ok()
    }

    fn local_part(&self, token: Token) -> String {
        let name = name_of(token);
        let mac = encoded(&self.mac(&name));
        format!("{PREFIX}{name}-{mac}")
    }

    /// What an address names; `None` if it is not one of ours.
    pub fn read(&self, address: &str) -> Option<Token> {
        let (local, domain) = address.rsplit_once('@')?;
        if !domain.eq_ignore_ascii_case(&self.domain) {
            return None;
        }
        let local = local.to_ascii_lowercase();
        let (name, mac) = local.strip_prefix(PREFIX)?.rsplit_once('-')?;
        let mac = decoded(mac)?;
        if !bool::from(self.mac(name)[..].ct_eq(&mac[..])) {
            return None;
        }
        let (id, n) = match name.split_once('-') {
            Some((id, n)) => (id, Some(n.parse().ok()?)),
            None => (name, None),
        };
        let token = Token { message: id.parse().ok()?, n };
        // One spelling only.
        (name_of(token) == name).then_some(token)
    }

    fn mac(&self, name: &str) -> [u8; MAC] {
        let mut mac = [0; MAC];
        mac.copy_from_slice(&blake3::keyed_hash(&self.key, name.as_bytes()).as_bytes()[..MAC]);
        mac
    }
}

fn name_of(token: Token) -> String {
    match token.n {
        Some(n) => format!("{}-{n}", token.message),
        None => token.message.to_string(),
    }
}

/// 16 characters.
fn encoded(mac: &[u8; MAC]) -> String {
    let bits = mac.iter().fold(0u128, |bits, octet| bits << 8 | u128::from(*octet));
    (0..16).rev().map(|n| char::from(ALPHABET[(bits >> (5 * n)) as usize & 31])).collect()
}

fn decoded(text: &str) -> Option<[u8; MAC]> {
    if text.len() != 16 {
        return None;
    }
    let mut bits = 0u128;
    for octet in text.bytes() {
        bits = bits << 5 | ALPHABET.iter().position(|one| *one == octet)? as u128;
    }
    bits.to_be_bytes()[16 - MAC..].try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verp() -> Verp {
        Verp::new("bounces.example.net", &[7; 32])
    }

    const TOKENS: [Token; 3] = [
        Token { message: MessageId(0), n: None },
        Token { message: MessageId(i64::MAX), n: Some(99_999) },
        Token { message: MessageId(1 << 50 | 12_345), n: Some(0) },
    ];

    #[test]
    fn an_address_names_its_message_in_any_case() {
        for token in TOKENS {
            let address = verp().address(token).unwrap();
            assert!(address.local_part().len() <= 64, "{address}");
            assert_eq!(verp().read(address.as_str()), Some(token));
            assert_eq!(verp().read(&address.as_str().to_ascii_uppercase()), Some(token));
        }
    }

    #[test]
    fn nothing_but_the_address_itself_is_one_of_ours() {
        let other = Verp::new("bounces.example.net", &[8; 32]);
        for token in TOKENS {
            let address = verp().address(token).unwrap().to_string();
            assert_eq!(other.read(&address), None);
            assert_eq!(verp().read(&address.replace("bounces.", "other.")), None);
            let at = address.find('@').unwrap();
            for place in 0..at {
                for octet in ALPHABET.iter().chain(b"-b+.\"") {
                    let mut changed = address.clone().into_bytes();
                    if changed[place] != *octet {
                        changed[place] = *octet;
                        assert_eq!(verp().read(std::str::from_utf8(&changed).unwrap()), None, "{address} {place}");
                    }
                }
            }
        }
        for text in ["", "@", "b-@bounces.example.net", "b--@bounces.example.net", "postmaster@bounces.example.net"] {
            assert_eq!(verp().read(text), None, "{text}");
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        assert_eq!(format!("{:?}", verp()), "Verp { domain: \"bounces.example.net\", .. }");
    }
}
