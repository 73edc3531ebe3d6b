//! One-time codes of an authenticator app (RFC 6238: HMAC-SHA-1, 6 digits, 30 seconds) and recovery codes.
//!
//! Pure: which step was used last is the caller's to keep, so that no code opens twice (RFC 6238 §5.2).

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// Seconds that a code holds.
const STEP_S: i64 = 30;
/// Steps before and after now that are taken: clocks differ.
const DRIFT: i64 = 1;
/// Digits of a code.
const DIGITS: usize = 6;
/// Recovery codes of one user.
const RECOVERY_CODES: usize = 10;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What is sealed beside a user.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Second {
    /// The shared secret, Base32 (RFC 4648 §6).
    totp: String,
    /// BLAKE3 of the recovery codes that are left, hex.
    recovery: Vec<String>,
    /// The app has shown a right code once; before that it protects nothing.
    pub confirmed: bool,
}

impl std::fmt::Debug for Second {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Second").field("confirmed", &self.confirmed).finish_non_exhaustive()
    }
}

impl Second {
    /// A new secret of 160 bits, without recovery codes yet.
    pub fn new() -> Self {
        let octets: [u8; 20] = rand::random();
        Self { totp: base32(&octets), recovery: Vec::new(), confirmed: false }
    }

    /// As it was sealed.
    pub fn read(secret: &SecretString) -> Option<Self> {
        serde_json::from_str(secret.expose_secret()).ok()
    }

    /// As it is sealed.
    pub fn write(&self) -> SecretString {
        serde_json::to_string(self).unwrap_or_default().into()
    }

    /// The secret as people type it into an app.
    pub fn shown(&self) -> &str {
        &self.totp
    }

    /// The same as a link that an app reads from a picture.
    pub fn uri(&self, issuer: &str, user: &str) -> String {
        let issuer: String = issuer.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
        format!(
            "otpauth://totp/{issuer}:{user}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_S}",
            self.totp
        )
    }

    /// Recovery codes left.
    pub fn left(&self) -> usize {
        self.recovery.len()
    }

    /// New recovery codes in place of the old ones; shown once.
    pub fn renew_recovery(&mut self) -> Vec<String> {
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        self.recovery = codes.iter().map(|code| recovery_hash(code)).collect();
        codes
    }

    /// The step whose code this is, if it is later than the one used last.
    pub fn step(&self, code: &str, now_s: i64, used: Option<i64>) -> Option<i64> {
        let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        if code.len() != DIGITS || !code.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        let key = unbase32(&self.totp)?;
        let now = now_s.div_euclid(STEP_S);
        // All are compared, so that time does not tell which one it was.
        let right = (now - DRIFT..=now + DRIFT)
            .filter(|step| bool::from(code_of(&key, *step).as_bytes().ct_eq(code.as_bytes())))
            .max()?;
        used.is_none_or(|used| right > used).then_some(right)
    }

    /// Uses up a recovery code.
    pub fn recover(&mut self, code: &str) -> bool {
        let hash = recovery_hash(code);
        let before = self.recovery.len();
        self.recovery.retain(|known| !bool::from(known.as_bytes().ct_eq(hash.as_bytes())));
        self.recovery.len() < before
    }
}

/// RFC 4226 §5.3 over the number of the step.
fn code_of(key: &[u8], step: i64) -> String {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key) else { return String::new() };
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let at = usize::from(digest[19] & 0x0f);
    let number = u32::from_be_bytes([digest[at] & 0x7f, digest[at + 1], digest[at + 2], digest[at + 3]]);
    format!("{:0DIGITS$}", number % 1_000_000)
}

fn recovery_code() -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let letters: String = (0..16).map(|_| char::from(LETTERS[usize::from(rand::random::<u8>() & 31)])).collect();
    letters.as_bytes().chunks(4).map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>().join("-")
}

/// 80 bits of randomness need no slow hash.
fn recovery_hash(code: &str) -> String {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    blake3::hash(plain.as_bytes()).to_hex().to_string()
}

fn base32(octets: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for octet in octets {
        held = (held << 8) | u32::from(*octet);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(BASE32[((held >> bits) & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(BASE32[((held << (5 - bits)) & 31) as usize]));
    }
    text
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let value = BASE32.iter().position(|known| *known == letter)?;
        held = (held << 5) | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            octets.push(u8::try_from((held >> bits) & 0xff).ok()?);
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Second {
        Second { totp: base32(b"12345678901234567890"), recovery: Vec::new(), confirmed: true }
    }

    #[test]
    fn codes_are_those_of_rfc_6238_appendix_b() {
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_of(b"12345678901234567890", time / 30), code);
            assert_eq!(known().step(code, time, None), Some(time / 30));
        }
    }

    #[test]
    fn a_code_is_taken_once_and_only_near_its_time() {
        let second = known();
        assert_eq!(second.step("287 082", 59, None), Some(1), "people type spaces");
        assert_eq!(second.step("287082", 59, Some(1)), None, "used");
        assert_eq!(second.step("287082", 89, None), Some(1), "one step late");
        assert_eq!(second.step("287082", 120, None), None, "too late");
        for wrong in ["", "28708", "2870820", "28708a", "２８７０８２"] {
            assert_eq!(second.step(wrong, 59, None), None, "{wrong}");
        }
    }

    #[test]
    fn a_recovery_code_opens_once() {
        let mut second = Second::new();
        let codes = second.renew_recovery();
        assert_eq!((codes.len(), second.left()), (10, 10));
        assert!(second.recover(&codes[3].to_uppercase().replace('-', " ")));
        assert!(!second.recover(&codes[3]));
        assert_eq!(second.left(), 9);
        assert!(!second.recover(""));
    }

    #[test]
    fn base32_comes_back_as_it_went() {
        assert_eq!(base32(b"12345678901234567890"), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for length in 0..40 {
            let octets: Vec<u8> = (0..length).map(|n| (n * 37) as u8).collect();
            assert_eq!(unbase32(&base32(&octets)).unwrap(), octets);
        }
        assert!(unbase32("1").is_none());
        let uri = Second::new().uri("relay.test", "ann");
        assert!(uri.starts_with("otpauth://totp/relay.test:ann?secret=") && !format!("{:?}", known()).contains("GEZ"));
    }
}
