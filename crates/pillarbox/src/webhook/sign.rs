//! Signatures of Standard Webhooks, version 1: HMAC-SHA256 over id, time and body, keyed with a `whsec_` secret.
//!
//! While a secret is replaced both sign: a receiver that knows either of them is satisfied.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// A secret is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret is whsec_ and 24 to 64 octets in base64")]
pub struct SecretError;

/// The secrets of a webhook.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Signs.
    pub current: SecretString,
    /// Signs as well, until this moment (Unix milliseconds).
    pub previous: Option<(SecretString, i64)>,
}

/// As they are kept in the store, encrypted.
#[derive(Serialize, Deserialize)]
struct Kept {
    current: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<(String, i64)>,
}

impl Secrets {
    /// With a secret that was given, or a new one.
    pub fn new(given: Option<SecretString>) -> Result<Self, SecretError> {
        let current = match given {
            Some(given) => {
                key(&given)?;
                given
            }
            None => format!("{PREFIX}{}", STANDARD.encode(rand::random::<[u8; 32]>())).into(),
        };
        Ok(Self { current, previous: None })
    }

    /// With another current secret; the one before signs until `until_ms`.
    pub fn rotated(self, given: Option<SecretString>, until_ms: i64) -> Result<Self, SecretError> {
        Ok(Self { previous: Some((self.current, until_ms)), ..Self::new(given)? })
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(kept: Option<&SecretString>) -> Result<Self, SecretError> {
        let kept = kept.and_then(|kept| serde_json::from_str::<Kept>(kept.expose_secret()).ok()).ok_or(SecretError)?;
        let previous = kept.previous.map(|(secret, until_ms)| (secret.into(), until_ms));
        Ok(Self { current: kept.current.into(), previous })
    }

    /// For the store.
    pub fn write(&self) -> SecretString {
        let kept = Kept {
            current: self.current.expose_secret().to_owned(),
            previous: self.previous.as_ref().map(|(secret, until_ms)| (secret.expose_secret().to_owned(), *until_ms)),
        };
        serde_json::to_string(&kept).unwrap_or_default().into()
    }

    /// The field `webhook-signature` for a request at this moment, Unix milliseconds.
    pub fn sign(&self, id: &str, now_ms: i64, body: &[u8]) -> Result<String, SecretError> {
        let mut text = format!("v1,{}", signature(&self.current, id, now_ms / 1_000, body)?);
        if let Some((previous, until_ms)) = &self.previous
            && now_ms < *until_ms
        {
            text.push_str(&format!(" v1,{}", signature(previous, id, now_ms / 1_000, body)?));
        }
        Ok(text)
    }
}

fn key(secret: &SecretString) -> Result<hmac::Key, SecretError> {
    let text = secret.expose_secret().strip_prefix(PREFIX).ok_or(SecretError)?;
    let octets = STANDARD.decode(text).map_err(|_| SecretError)?;
    (24..=64).contains(&octets.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &octets)).ok_or(SecretError)
}

fn signature(secret: &SecretString, id: &str, seconds: i64, body: &[u8]) -> Result<String, SecretError> {
    let mut context = hmac::Context::with_key(&key(secret)?);
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    Ok(STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secrets = Secrets::new(Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into())).unwrap();
        let signed = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_999, br#"{"test": 2432232314}"#);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_sign_while_one_replaces_the_other() {
        let first = Secrets::new(None).unwrap();
        let both = first.clone().rotated(None, 5_000).unwrap();
        let both = Secrets::read(Some(&both.write())).unwrap();
        let alone = first.sign("a", 4_000, b"x").unwrap();
        assert!(both.sign("a", 4_000, b"x").unwrap().ends_with(&format!(" {alone}")));
        let after = both.sign("a", 5_000, b"x").unwrap();
        assert!(!after.contains(' ') && after != first.sign("a", 5_000, b"x").unwrap());
        assert!(!format!("{both:?}").contains("whsec"));
    }

    #[test]
    fn a_secret_that_could_not_sign_is_refused() {
        for text in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_AAAA", "whsec_!!!!"] {
            assert!(Secrets::new(Some(text.into())).is_err(), "{text}");
        }
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        assert!(Secrets::new(Some(long.into())).is_err());
    }
}
