//! Private keys: made, imported, kept as one secret per domain, and used.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::record::KeyKind;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The library could not make one.
    #[error("a key could not be made")]
    NotMade,
    /// RSA keys have one of three sizes here.
    #[error("an RSA key has 2048, 3072 or 4096 bits")]
    Size,
    /// No private key in PEM form in it.
    #[error("there is no private key in PEM form (PKCS#1 or PKCS#8, not encrypted)")]
    NotPem,
    /// RSA or Ed25519, and large enough.
    #[error("the key is neither RSA of 2048 to 8192 bits nor Ed25519, or it is damaged")]
    Unusable,
    /// The secret of the domain is not what was written.
    #[error("the stored private keys cannot be read")]
    Damaged,
}

/// A private key.
pub(crate) enum PrivateKey {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// From PKCS#8, or PKCS#1 for RSA.
    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
            return Ok(Self::Rsa(Box::new(pair)));
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| KeyError::Unusable)?;
        Ok(Self::Ed25519(Box::new(pair)))
    }

    pub(crate) fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa(_) => KeyKind::Rsa,
            Self::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    fn bits(&self) -> u32 {
        match self {
            Self::Rsa(pair) => u32::try_from(pair.public_modulus_len() * 8).unwrap_or(0),
            Self::Ed25519(_) => 256,
        }
    }

    /// `p=`: a SubjectPublicKeyInfo for RSA (RFC 6376 §3.6.1), the bare 32 octets for Ed25519 (RFC 8463 §4).
    fn public(&self) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Rsa(pair) => {
                let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
                    pair.public_key().as_der().map_err(|_| KeyError::Unusable)?;
                Ok(der.as_ref().to_vec())
            }
            Self::Ed25519(pair) => Ok(pair.public_key().as_ref().to_vec()),
        }
    }

    /// PKCS#8, version 1: what every other program reads.
    fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        match self {
            Self::Rsa(pair) => {
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Unusable)?;
                Ok(Zeroizing::new(der.as_ref().to_vec()))
            }
            Self::Ed25519(pair) => {
                let document = pair.to_pkcs8v1().map_err(|_| KeyError::Unusable)?;
                Ok(Zeroizing::new(document.as_ref().to_vec()))
            }
        }
    }

    /// Signs octets of a message; some tenths of a millisecond for RSA.
    pub(crate) fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, octets, &mut signature).map_err(|_| KeyError::Unusable)?;
                Ok(signature)
            }
            // RFC 8463 §3: the hash is what is signed.
            Self::Ed25519(pair) => Ok(pair.sign(digest::digest(&SHA256, octets).as_ref()).as_ref().to_vec()),
        }
    }
}

/// A key that was just made or imported.
#[derive(Debug)]
pub struct NewKey {
    /// What it is.
    pub kind: KeyKind,
    /// Its size.
    pub bits: u32,
    /// `p=`, base64.
    pub public: String,
    private: SecretString,
}

impl NewKey {
    /// Makes one. `bits` is for RSA: 2048, 3072 or 4096; tenths of a second for the small, seconds for the large.
    pub fn generate(kind: KeyKind, bits: u32) -> Result<Self, KeyError> {
        let private = match kind {
            KeyKind::Rsa => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    _ => return Err(KeyError::Size),
                };
                PrivateKey::Rsa(Box::new(RsaKeyPair::generate(size).map_err(|_| KeyError::NotMade)?))
            }
            KeyKind::Ed25519 => {
                PrivateKey::Ed25519(Box::new(Ed25519KeyPair::generate().map_err(|_| KeyError::NotMade)?))
            }
        };
        Self::of(&private)
    }

    /// Takes one from a PEM file: PKCS#1 or PKCS#8.
    pub fn import(pem: &SecretString) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| KeyError::NotPem)?;
        Self::of(&PrivateKey::from_der(key.secret_der())?)
    }

    fn of(key: &PrivateKey) -> Result<Self, KeyError> {
        let private = STANDARD.encode(&*key.pkcs8()?).into();
        Ok(Self { kind: key.kind(), bits: key.bits(), public: STANDARD.encode(key.public()?), private })
    }
}

/// The private keys of a domain by selector: what its secret holds, as JSON.
#[derive(Default)]
pub struct Secrets(BTreeMap<String, SecretString>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// From the secret of a document.
    pub fn read(secret: Option<&SecretString>) -> Result<Self, KeyError> {
        let Some(secret) = secret else { return Ok(Self::default()) };
        let all: BTreeMap<String, String> =
            serde_json::from_str(secret.expose_secret()).map_err(|_| KeyError::Damaged)?;
        Ok(Self(all.into_iter().map(|(selector, key)| (selector, key.into())).collect()))
    }

    /// As the secret of a document.
    pub fn write(&self) -> SecretString {
        let all: BTreeMap<&str, &str> = self.0.iter().map(|(name, key)| (name.as_str(), key.expose_secret())).collect();
        serde_json::to_string(&all).unwrap_or_default().into()
    }

    /// Adds the key of a selector.
    pub fn add(&mut self, selector: &str, key: &NewKey) {
        self.0.insert(selector.to_owned(), key.private.clone());
    }

    /// Forgets the key of a selector.
    pub fn remove(&mut self, selector: &str) {
        self.0.remove(selector);
    }

    pub(crate) fn key(&self, selector: &str) -> Result<PrivateKey, KeyError> {
        let text = self.0.get(selector).ok_or(KeyError::Damaged)?;
        let der = Zeroizing::new(STANDARD.decode(text.expose_secret()).map_err(|_| KeyError::Damaged)?);
        PrivateKey::from_der(&der)
    }
}

#[cfg(test)]
impl NewKey {
    pub(super) fn private_text(&self) -> &str {
        self.private.expose_secret()
    }
}
