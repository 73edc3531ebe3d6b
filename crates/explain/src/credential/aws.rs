//! The SMTP password of Amazon SES, computed from a secret access key as AWS documents it: for one region, without asking anyone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// First octet of a password of the present kind.
const VERSION: u8 = 0x04;
/// Date, service, end and message are fixed: the password does not age.
const CHAIN: [&str; 2] = ["ses", "aws4_request"];
const DATE: &str = "11111111";
const MESSAGE: &str = "SendRawEmail";

/// The SMTP password of a region, 44 characters. The secret access key is not needed any more afterwards.
///
/// `None`: the key or the region cannot be one.
pub fn ses_smtp_password(secret_access_key: &SecretString, region: &str) -> Option<SecretString> {
    let secret = secret_access_key.expose_secret();
    let region_is_word =
        !region.is_empty() && region.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    if secret.is_empty() || !region_is_word {
        return None;
    }
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [DATE, region, CHAIN[0], CHAIN[1], MESSAGE] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    key.insert(0, VERSION);
    Some(STANDARD.encode(key).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_one_that_aws_computes() {
        for (region, secret, password) in [
            ("eu-central-1", "some+secret+key", "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"),
            ("eu-central-1", "another+secret+key", "BBbphbrQmrKMx42d1N6+C7VINYEBGI5v9VsZeTxwskfh"),
            ("us-west-1", "some+secret+key", "BH+jbMzper5WwlwUar9E1ySBqHa9whi0GPo+sJ0mVYJj"),
            ("us-west-1", "another+secret+key", "BKVmjjMDFk/qqw8EROW99bjCS65PF8WKvK5bSr4Y6EqF"),
        ] {
            let made = ses_smtp_password(&secret.into(), region).unwrap();
            assert_eq!(made.expose_secret(), password, "{region} {secret}");
        }
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert!(ses_smtp_password(&"".into(), "eu-west-1").is_none());
        assert!(ses_smtp_password(&"some+secret+key".into(), "").is_none());
        assert!(ses_smtp_password(&"some+secret+key".into(), "eu west").is_none());
    }
}
