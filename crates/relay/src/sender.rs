//! Senders: who may submit, with which credential, as whom, and how much. Records are the JSON kept in the store.

use net::cidr::Cidr;
use serde::{Deserialize, Serialize};

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
