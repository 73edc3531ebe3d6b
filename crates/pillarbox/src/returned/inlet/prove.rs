//! How requests of each provider prove where they are from. Comparisons take constant time, and nothing of a request is
//! believed before.

use std::collections::{HashSet, VecDeque};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Incoming, InletRecord};

/// How far Mailgun's clock and the way of a request may be off, milliseconds: it tries again for eight hours.
const FRESH_MS: i64 = 9 * 3_600_000;
/// Tokens that are remembered against replays.
const MOST_SEEN: usize = 20_000;
/// What a public key of P-256 begins with in SPKI form (RFC 5480); the point follows.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not prove where it is from: 401. The words are for the log alone.
    #[error("it does not prove where it is from: {0}")]
    Unproven(&'static str),
    /// It was told before: 200, and nothing happens.
    #[error("it was told before")]
    Replayed,
    /// It cannot be read: 400.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Something it needs is not reached: 503.
    #[error("{0}")]
    Later(String),
}

/// Tokens that were used.
#[derive(Debug, Default)]
pub struct Seen(Mutex<(HashSet<blake3::Hash>, VecDeque<blake3::Hash>)>);

impl Seen {
    fn has(&self, token: &str) -> bool {
        self.0.lock().0.contains(&blake3::hash(token.as_bytes()))
    }

    /// Remembers one, once its events are safe: a request that failed may come again.
    pub fn remember(&self, token: &str) {
        let hash = blake3::hash(token.as_bytes());
        let mut seen = self.0.lock();
        if seen.0.insert(hash) {
            seen.1.push_back(hash);
        }
        if seen.1.len() > MOST_SEEN
            && let Some(oldest) = seen.1.pop_front()
        {
            seen.0.remove(&oldest);
        }
    }
}

fn equal(given: &[u8], wanted: &[u8]) -> bool {
    // Of their hashes, so that the length tells nothing either.
    blake3::hash(given) == blake3::hash(wanted)
}

fn needed(secret: Option<&SecretString>) -> Result<&str, Refused> {
    secret.map(ExposeSecret::expose_secret).ok_or(Refused::Unproven("there is no secret to compare with"))
}

fn field<'a>(incoming: &'a Incoming<'_>, name: &str) -> &'a [u8] {
    incoming.headers.get(name).map(axum::http::HeaderValue::as_bytes).unwrap_or_default()
}

/// HTTP Basic (RFC 7617).
pub(super) fn basic(
    record: &InletRecord,
    secret: Option<&SecretString>,
    incoming: &Incoming<'_>,
) -> Result<(), Refused> {
    let wanted = format!("{}:{}", record.username.as_deref().unwrap_or_default(), needed(secret)?);
    let given = field(incoming, header::AUTHORIZATION.as_str());
    let given = given.strip_prefix(b"Basic ").and_then(|text| STANDARD.decode(text.trim_ascii()).ok());
    match given.is_some_and(|given| equal(&given, wanted.as_bytes())) {
        true => Ok(()),
        false => Err(Refused::Unproven("user name or password is wrong")),
    }
}

/// HTTP Bearer (RFC 6750), or Basic where there is a user name.
pub(super) fn bearer(
    record: &InletRecord,
    secret: Option<&SecretString>,
    incoming: &Incoming<'_>,
) -> Result<(), Refused> {
    if record.username.is_some() {
        return basic(record, secret, incoming);
    }
    let wanted = needed(secret)?;
    let given = field(incoming, header::AUTHORIZATION.as_str());
    match given.strip_prefix(b"Bearer ").is_some_and(|given| equal(given.trim_ascii(), wanted.as_bytes())) {
        true => Ok(()),
        false => Err(Refused::Unproven("the token is wrong")),
    }
}

/// SendGrid: ECDSA over timestamp and body, with the key that its settings show.
pub(super) fn sendgrid(secret: Option<&SecretString>, incoming: &Incoming<'_>) -> Result<(), Refused> {
    let key = STANDARD.decode(needed(secret)?.trim()).unwrap_or_default();
    let point = key.strip_prefix(&P256[..]).filter(|point| point.len() == 65);
    let point = point.ok_or(Refused::Unproven("the verification key is none of P-256 in base64"))?;
    let signature = field(incoming, "x-twilio-email-event-webhook-signature");
    let signature = STANDARD.decode(signature).map_err(|_| Refused::Unproven("there is no signature"))?;
    let timestamp = field(incoming, "x-twilio-email-event-webhook-timestamp");
    let signed = [timestamp, incoming.body].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(&signed, &signature)
        .map_err(|_| Refused::Unproven("the signature does not hold"))
}

#[derive(Deserialize)]
struct Mailgun {
    signature: MailgunSignature,
}

#[derive(Deserialize)]
struct MailgunSignature {
    timestamp: String,
    token: String,
    signature: String,
}

/// Mailgun: HMAC-SHA256 over timestamp and token, both fresh.
pub(super) fn mailgun(secret: Option<&SecretString>, seen: &Seen, incoming: &Incoming<'_>) -> Result<(), Refused> {
    let Mailgun { signature: MailgunSignature { timestamp, token, signature } } =
        serde_json::from_slice(incoming.body).map_err(|_| Refused::Unproven("there is no signature"))?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, needed(secret)?.as_bytes());
    let given = hex(&signature).ok_or(Refused::Unproven("the signature is not hexadecimal"))?;
    hmac::verify(&key, format!("{timestamp}{token}").as_bytes(), &given)
        .map_err(|_| Refused::Unproven("the signature does not hold"))?;
    let sent_ms = timestamp.parse::<i64>().unwrap_or(0).saturating_mul(1_000);
    if incoming.now_ms.saturating_sub(sent_ms).saturating_abs() > FRESH_MS {
        return Err(Refused::Unproven("it was signed too long ago"));
    }
    if seen.has(&token) { Err(Refused::Replayed) } else { Ok(()) }
}

/// The token of a request of Mailgun's, for [`Seen::remember`].
pub fn mailgun_token(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Mailgun>(body).ok().map(|mailgun| mailgun.signature.token)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 {
        return None;
    }
    (0..32).map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()).collect()
}
