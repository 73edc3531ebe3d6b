//! API keys of their own: a role, scopes and an end, without a sender. Documents of kind `apikey`; a key is kept as its hash.

use std::net::IpAddr;

use net::cidr::Cidr;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::role::Role;

/// What every key begins with; a sender's key begins otherwise.
pub const PREFIX: &str = "pba_";
/// Requests a minute of a key that says nothing of it.
pub const PER_MINUTE: u32 = 600;

/// A key as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// What it may do at most.
    pub role: Role,
    /// Of that, only this; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Its first characters.
    pub prefix: String,
    /// BLAKE3 of the whole key, hex.
    pub hash: String,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// When it ends, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// Most requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Addresses it may come from; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Cidr>,
    /// Refused while true.
    #[serde(default)]
    pub disabled: bool,
}

impl KeyRecord {
    /// Whether it is good now, from there.
    pub fn is_good(&self, from: IpAddr, now_ms: i64) -> bool {
        !self.disabled
            && self.expires_ms.is_none_or(|ends| now_ms < ends)
            && (self.networks.is_empty() || self.networks.iter().any(|network| network.contains(from)))
    }
}

/// A new key of 256 bits with its prefix and hash.
pub fn new() -> (SecretString, String, String) {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let letters: String = (0..52).map(|_| char::from(LETTERS[usize::from(rand::random::<u8>() & 31)])).collect();
    let key = format!("{PREFIX}{letters}");
    let (prefix, hash) = (key[..PREFIX.len() + 6].to_owned(), hash(&key));
    (key.into(), prefix, hash)
}

/// The hash a key is found by. The key is random, so a fast hash is enough.
pub fn hash(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_key_ends_and_is_bound_to_its_networks() {
        let (key, prefix, kept) = new();
        assert!(key.expose_secret().starts_with(&prefix) && kept == hash(key.expose_secret()));
        let mut record = KeyRecord {
            role: Role::Viewer,
            scopes: Vec::new(),
            prefix,
            hash: kept,
            created_ms: 0,
            expires_ms: Some(10),
            per_minute: None,
            networks: vec!["192.0.2.0/24".parse().unwrap()],
            disabled: false,
        };
        let inside = "192.0.2.9".parse().unwrap();
        assert!(record.is_good(inside, 9));
        assert!(!record.is_good(inside, 10), "it has ended");
        assert!(!record.is_good("198.51.100.1".parse().unwrap(), 9));
        record.disabled = true;
        assert!(!record.is_good(inside, 9));
    }
}
