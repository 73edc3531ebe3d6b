//! Secrets at rest: AES-256-GCM, bound to the row they belong to.
//!
//! A sealed secret is a format number, four octets that name the key, a nonce and the ciphertext with its tag. Keys come
//! from outside (a file, a credential of the service manager) and are never stored beside what they seal.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

use crate::StoreError;

/// Format number of what [`Keyring::seal`] gives.
const FORMAT: u8 = 1;
const NONCE: usize = 12;
const HEAD: usize = 1 + 4 + NONCE;

struct Key {
    name: [u8; 4],
    key: RandomizedNonceKey,
}

/// Keys for sealing secrets: the first seals, all open, so that a key can be replaced without a pause.
pub struct Keyring(Vec<Key>);

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", self.0.len())
    }
}

impl Keyring {
    /// A keyring of one key.
    pub fn from_key(key: &[u8; 32]) -> Self {
        Self::from_keys(std::slice::from_ref(key))
    }

    /// A keyring of several: the first seals, all open. Without any key every secret is refused.
    pub fn from_keys(keys: &[[u8; 32]]) -> Self {
        let load = |key: &[u8; 32]| {
            let mut name = [0; 4];
            name.copy_from_slice(&blake3::derive_key("pillarbox keyring 2026 key name", key)[..4]);
            // Only a key of the wrong length is refused, and the type rules that out.
            Some(Key { name, key: RandomizedNonceKey::new(&AES_256_GCM, key).ok()? })
        };
        Self(keys.iter().filter_map(load).collect())
    }

    /// A new random key.
    pub fn generate() -> [u8; 32] {
        rand::random()
    }

    /// Seals a secret for the row named `identity`.
    pub fn seal(&self, identity: &str, secret: &str) -> Result<Vec<u8>, StoreError> {
        let Some(Key { name, key }) = self.0.first() else {
            return Err(StoreError::Invalid("there is no key to seal secrets with".into()));
        };
        let mut sealed = secret.as_bytes().to_vec();
        let nonce = match key.seal_in_place_append_tag(Aad::from(identity.as_bytes()), &mut sealed) {
            Ok(nonce) => nonce,
            Err(_) => {
                sealed.zeroize();
                return Err(StoreError::Internal("a secret could not be sealed".into()));
            }
        };
        let mut out = Vec::with_capacity(HEAD + sealed.len());
        out.push(FORMAT);
        out.extend_from_slice(name);
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`Keyring::seal`] gave for the same row.
    pub fn open(&self, identity: &str, sealed: &[u8]) -> Result<SecretString, StoreError> {
        let wrong = |why: &str| StoreError::Invalid(format!("the secret of {identity} cannot be opened: {why}"));
        if sealed.len() < HEAD || sealed[0] != FORMAT {
            return Err(wrong("its format is not known"));
        }
        let named: Vec<&Key> = self.0.iter().filter(|key| key.name == sealed[1..5]).collect();
        if named.is_empty() {
            return Err(wrong("it was sealed with another key"));
        }
        for key in named {
            let mut octets = Zeroizing::new(sealed[HEAD..].to_vec());
            let nonce =
                Nonce::try_assume_unique_for_key(&sealed[5..HEAD]).map_err(|_| wrong("its nonce is damaged"))?;
            let aad = Aad::from(identity.as_bytes());
            if let Ok(plain) = key.key.open_in_place(nonce, aad, &mut octets) {
                let text = std::str::from_utf8(plain).map_err(|_| wrong("it is not text"))?;
                return Ok(SecretString::from(text.to_owned()));
            }
        }
        Err(wrong("it was changed, or belongs to another row"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_secret_opens_for_its_row_only() {
        let ring = Keyring::from_key(&Keyring::generate());
        let sealed = ring.seal("setting/route/a", "hunter2").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(ring.open("setting/route/a", &sealed).unwrap().expose_secret(), "hunter2");
        let error = ring.open("setting/route/b", &sealed).unwrap_err().to_string();
        assert!(error.contains("belongs to another row"), "{error}");
    }

    #[test]
    fn another_key_is_told_apart_from_damage() {
        let (old, new) = (Keyring::generate(), Keyring::generate());
        let mut sealed = Keyring::from_key(&old).seal("setting/sender/app", "s").unwrap();
        let error = Keyring::from_key(&new).open("setting/sender/app", &sealed).unwrap_err().to_string();
        assert!(error.contains("sealed with another key"), "{error}");
        let both = Keyring::from_keys(&[new, old]);
        assert_eq!(both.open("setting/sender/app", &sealed).unwrap().expose_secret(), "s");
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        assert!(both.open("setting/sender/app", &sealed).is_err());
        assert!(both.open("setting/sender/app", &sealed[..HEAD - 1]).is_err());
    }

    #[test]
    fn the_same_secret_is_never_sealed_alike() {
        let ring = Keyring::from_key(&[7; 32]);
        assert_ne!(ring.seal("x", "s").unwrap(), ring.seal("x", "s").unwrap());
        assert_eq!(format!("{ring:?}"), "Keyring(1 keys)");
    }
}
