//! Senders: who may submit, with which credential, as whom, and how much. Records are the JSON kept in the store.

use std::net::IpAddr;
use std::sync::Arc;

use net::cidr::Cidr;
use parking_lot::Mutex;
use proto::Address;
use serde::{Deserialize, Serialize};

use crate::route::domain_matches;

/// A sender as it is stored. Secrets are kept only as hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderRecord {
    /// Argon2id hash (PHC string) of the SMTP password; the sender's name is the user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// API keys: BLAKE3 hash (hex) of each high-entropy key, with the key's public prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<ApiKeyRecord>,
    /// Addresses that are this sender without a password: an explicit credential for devices that cannot authenticate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_addresses: Vec<Cidr>,
    /// Addresses the sender may connect from; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Cidr>,
    /// What may stand in MAIL FROM and From: `user@example.com`, `example.com`, `.example.com` (and below), `*`.
    pub allowed_from: Vec<String>,
    /// Most messages a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_minute: Option<u32>,
    /// Most octets a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Stream of messages that name none (default `default`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// May manage the queue and the settings by API.
    #[serde(default)]
    pub admin: bool,
    /// Refuses everything while true.
    #[serde(default)]
    pub disabled: bool,
    /// What is done by itself when far more comes than uses to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_on_spike: Option<OnPause>,
    /// Its mail is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedSender>,
}

/// What becomes of new mail of a paused sender. Its queued mail is held in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPause {
    /// It is accepted and held: nothing is lost if the alarm was a false one, and the disk may fill if it was not.
    Hold,
    /// It is refused for the time being, 450 4.7.1 or HTTP 429: a program that keeps its mail and tries again loses nothing.
    Refuse,
}

/// Since when, why and how a sender is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PausedSender {
    /// Unix milliseconds.
    pub since_ms: i64,
    /// For people: who did it, or what was noticed.
    pub why: String,
    /// What becomes of new mail.
    pub new_mail: OnPause,
}

/// How the reason begins why mail of a paused sender is held.
pub const SENDER_PAUSED: &str = "sender paused";

impl SenderRecord {
    /// Why its mail is held, if it is.
    pub fn hold(&self) -> Option<String> {
        self.paused.as_ref().map(|paused| format!("{SENDER_PAUSED}: {}", paused.why))
    }
}

/// One API key of a sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRecord {
    /// First characters, shown in lists: `pbx_4f9k2c`.
    pub prefix: String,
    /// BLAKE3 of the whole key, hex.
    pub hash: String,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// A sender at work.
#[derive(Debug)]
pub struct Sender {
    /// Name, also the SMTP user name.
    pub name: Arc<str>,
    /// As stored.
    pub record: SenderRecord,
    /// The document's version: a changed sender has to authenticate anew.
    pub version: i64,
    /// `*` is among the allowed addresses, so headers need not be looked at.
    pub any_from: bool,
    bucket: Mutex<Bucket>,
}

/// Messages that may still be sent, as a token bucket that holds one minute's worth.
#[derive(Debug, Default)]
struct Bucket {
    /// In 60,000ths of a message: one message a minute gives one of them each millisecond.
    tokens: i64,
    filled_ms: i64,
}

impl Sender {
    /// From its record.
    pub fn new(name: Arc<str>, record: SenderRecord, version: i64) -> Self {
        let any_from = record.allowed_from.iter().any(|pattern| pattern == "*");
        Self { name, record, version, any_from, bucket: Mutex::default() }
    }

    /// Whether the sender may connect from this address.
    pub fn may_connect_from(&self, address: IpAddr) -> bool {
        self.record.networks.is_empty() || self.record.networks.iter().any(|network| network.contains(address))
    }

    /// Whether the sender may use this address in MAIL FROM or From.
    pub fn may_use(&self, address: &Address) -> bool {
        self.any_from || self.record.allowed_from.iter().any(|pattern| pattern_matches(pattern, address))
    }

    /// Its new mail is refused for the time being.
    pub fn is_refusing(&self) -> bool {
        self.record.paused.as_ref().is_some_and(|paused| paused.new_mail == OnPause::Refuse)
    }

    /// Takes one message from the rate limit, or says after how many seconds there is one.
    pub fn take_from_rate(&self, now_ms: i64) -> Result<(), u32> {
        const MESSAGE: i64 = 60_000;
        let Some(per_minute) = self.record.messages_per_minute.filter(|limit| *limit > 0) else { return Ok(()) };
        let per_ms = i64::from(per_minute);
        let full = per_ms * 60_000;
        let mut bucket = self.bucket.lock();
        let passed = if bucket.filled_ms == 0 { 60_000 } else { (now_ms - bucket.filled_ms).clamp(0, 60_000) };
        bucket.tokens = (bucket.tokens + per_ms * passed).min(full);
        bucket.filled_ms = now_ms;
        if bucket.tokens >= MESSAGE {
            bucket.tokens -= MESSAGE;
            return Ok(());
        }
        let missing = MESSAGE - bucket.tokens;
        Err((missing / (per_ms * 1_000) + 1) as u32)
    }
}

/// Whether `user@domain`, `domain`, `.domain` or `*` covers an address. Local parts are compared without case: two spellings
/// of one mailbox must not be two identities.
pub fn pattern_matches(pattern: &str, address: &Address) -> bool {
    match pattern.rsplit_once('@') {
        _ if pattern == "*" => true,
        Some((local, domain)) => {
            local.eq_ignore_ascii_case(address.local_part()) && domain.eq_ignore_ascii_case(address.domain())
        }
        None => domain_matches(pattern, address.domain()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(json: &str) -> Sender {
        Sender::new("app".into(), serde_json::from_str(json).unwrap(), 1)
    }

    #[test]
    fn a_sender_uses_only_what_it_was_given() {
        let sender = sender(r#"{"allowed_from":["noreply@app.example",".corp.example"]}"#);
        for (address, may) in [
            ("noreply@app.example", true),
            ("NoReply@APP.example", true),
            ("other@app.example", false),
            ("x@corp.example", true),
            ("x@a.corp.example", true),
            ("x@evilcorp.example", false),
        ] {
            assert_eq!(sender.may_use(&Address::parse(address).unwrap()), may, "{address}");
        }
    }

    #[test]
    fn a_full_minutes_worth_is_there_at_once_whatever_the_rate() {
        for rate in [1, 2, 7, 1_000_000] {
            let sender = sender(&format!(r#"{{"allowed_from":["*"],"messages_per_minute":{rate}}}"#));
            let taken = (0..1_000).take_while(|_| sender.take_from_rate(1_000_000).is_ok()).count();
            assert_eq!(taken, rate.min(1_000));
        }
    }

    #[test]
    fn the_rate_limit_lets_a_minutes_worth_through_and_says_when_there_is_more() {
        let sender = sender(r#"{"allowed_from":["*"],"messages_per_minute":30}"#);
        let now = 1_000_000;
        assert!((0..30).all(|_| sender.take_from_rate(now).is_ok()));
        let wait = sender.take_from_rate(now).unwrap_err();
        assert!((2..=3).contains(&wait), "{wait}");
        assert!(sender.take_from_rate(now + i64::from(wait) * 1_000).is_ok());
        assert!(sender.take_from_rate(now - 5_000).is_err(), "a clock that goes back gives nothing");
    }
}
