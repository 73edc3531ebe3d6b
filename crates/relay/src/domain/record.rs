//! A domain as it is stored, and how its keys change state. Pure: time and what name servers say are arguments.

use proto::policy::dkim::SignatureAlgorithm;
use serde::{Deserialize, Serialize};

/// Most keys of one domain.
pub(crate) const MAX_KEYS: usize = 40;
/// A replaced key stays published so long at least: receivers may look at a signature days after it was made.
const RETIRE_MS: i64 = 7 * 86_400_000;
/// And so much longer than a message may wait here.
const MARGIN_MS: i64 = 2 * 86_400_000;
/// Nodes notice a change within seconds; until then they sign as before.
const LATE_MS: i64 = 60_000;

/// A domain we sign for. Its private keys are in the document's secret ([`super::Secrets`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainRecord {
    /// All its keys, oldest first.
    #[serde(default)]
    pub keys: Vec<KeyRecord>,
    /// Header fields that are not signed though they could be: some providers replace Message-ID or Date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<String>,
    /// Mail from domains below is signed too, if they have no keys of their own (relaxed alignment of DMARC).
    #[serde(default = "yes")]
    pub subdomains: bool,
}

fn yes() -> bool {
    true
}

impl Default for DomainRecord {
    fn default() -> Self {
        Self { keys: Vec::new(), leave_out: Vec::new(), subdomains: true }
    }
}

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// What every receiver verifies.
    Rsa,
    /// Short; receivers that do not know it ignore it (RFC 8463).
    Ed25519,
}

impl KeyKind {
    /// As in `k=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }

    pub(crate) fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::Rsa => SignatureAlgorithm::RsaSha256,
            Self::Ed25519 => SignatureAlgorithm::Ed25519Sha256,
        }
    }
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Made; its record is not at every authoritative name server yet.
    Prepared,
    /// Every authoritative name server has its record.
    Published,
    /// Signs.
    Active,
    /// Signs no more; its record is still needed for mail under way.
    Retiring,
    /// Its record can go; the private key is gone.
    Retired,
}

impl KeyState {
    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Published => "published",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }
}

/// The last look at the name servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// What is wrong, one line each; empty: every authoritative name server has the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// `s=`
    pub selector: String,
    /// What it is.
    pub kind: KeyKind,
    /// Its size.
    pub bits: u32,
    /// `p=` of its record, base64.
    pub public: String,
    /// Where it stands.
    pub state: KeyState,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// When it came into this state, Unix milliseconds.
    pub changed_ms: i64,
    /// Signs as soon as every authoritative name server has it, together with all others that wait so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub when_published: bool,
    /// While retiring: not retired before, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire_ms: Option<i64>,
    /// The last look at the name servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
}

impl KeyRecord {
    /// The TXT record (RFC 6376 §3.6.1).
    pub fn record(&self) -> String {
        format!("v=DKIM1; k={}; p={}", self.kind.name(), self.public)
    }

    fn becomes(&mut self, state: KeyState, now_ms: i64) {
        if self.state != state {
            self.state = state;
            self.changed_ms = now_ms;
        }
    }

    /// Whether its record has to be in the DNS.
    pub fn is_wanted(&self) -> bool {
        self.state != KeyState::Retired
    }
}

/// Whether a text can be a selector: labels of letters, digits and inner hyphens (RFC 6376 §3.1), at most 63 octets here.
pub fn is_selector(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    text.len() <= 63 && text.split('.').all(label)
}

impl DomainRecord {
    /// What makes no sense, in words.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (n, key) in self.keys.iter().enumerate() {
            if !is_selector(&key.selector) {
                problems.push(format!("\"{}\" cannot be a selector", key.selector.escape_debug()));
            }
            if self.keys[..n].iter().any(|other| other.selector == key.selector) {
                problems.push(format!("the selector {} is there twice", key.selector));
            }
        }
        if self.keys.len() > MAX_KEYS {
            problems.push(format!("there are more than {MAX_KEYS} keys; remove retired ones"));
        }
        for name in &self.leave_out {
            let valid = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
            if !valid || !proto::policy::dkim::may_leave_out(name) {
                problems.push(format!("the field \"{}\" cannot be left unsigned", name.escape_debug()));
            }
        }
        problems
    }

    /// A key by its selector.
    pub fn key(&self, selector: &str) -> Option<&KeyRecord> {
        self.keys.iter().find(|key| key.selector == selector)
    }

    /// Keys that sign.
    pub fn active(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.iter().filter(|key| key.state == KeyState::Active)
    }

    /// Remembers what the name servers said of a key. One that is not used yet is `published` exactly while every
    /// authoritative server has it; an active key stays active, since unsigned mail would fare no better.
    pub fn seen(&mut self, selector: &str, checked: Checked) {
        let Some(key) = self.keys.iter_mut().find(|key| key.selector == selector) else { return };
        match key.state {
            KeyState::Prepared | KeyState::Published => {
                let state = if checked.problems.is_empty() { KeyState::Published } else { KeyState::Prepared };
                key.becomes(state, checked.at_ms);
            }
            KeyState::Active | KeyState::Retiring | KeyState::Retired => {}
        }
        key.checked = Some(checked);
    }

    /// Keys that shall sign now: all that wait for being published, once every one of them was seen everywhere at
    /// `now_ms` itself. One that is late holds the others back, so that a pair changes together.
    pub fn ready(&self, now_ms: i64) -> Vec<String> {
        let waiting: Vec<&KeyRecord> = self
            .keys
            .iter()
            .filter(|key| key.when_published && matches!(key.state, KeyState::Prepared | KeyState::Published))
            .collect();
        let seen = |key: &&KeyRecord| {
            key.state == KeyState::Published && key.checked.as_ref().is_some_and(|checked| checked.at_ms == now_ms)
        };
        match waiting.iter().all(seen) {
            true => waiting.iter().map(|key| key.selector.clone()).collect(),
            false => Vec::new(),
        }
    }

    /// These keys sign from now on; those of the same kind that signed until now retire. `expiry_s` is how long a message
    /// may wait here.
    pub fn activate(&mut self, selectors: &[String], now_ms: i64, expiry_s: u64) {
        let chosen = |key: &KeyRecord| selectors.contains(&key.selector);
        let kinds: Vec<KeyKind> = self.keys.iter().filter(|key| chosen(key)).map(|key| key.kind).collect();
        let expiry_ms = i64::try_from(expiry_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let keep_ms = RETIRE_MS.max(expiry_ms.saturating_add(MARGIN_MS));
        for key in &mut self.keys {
            if selectors.contains(&key.selector) {
                key.becomes(KeyState::Active, now_ms);
                key.when_published = false;
                key.retire_ms = None;
            } else if key.state == KeyState::Active && kinds.contains(&key.kind) {
                key.becomes(KeyState::Retiring, now_ms);
                key.retire_ms = Some(now_ms.saturating_add(keep_ms));
            }
        }
    }

    /// Retires keys whose time is over; gives their selectors. `oldest_ms` is when the oldest message that is still here
    /// was accepted: one signed with a retiring key holds that key back.
    pub fn retire(&mut self, now_ms: i64, oldest_ms: Option<i64>) -> Vec<String> {
        let mut retired = Vec::new();
        for key in self.keys.iter_mut().filter(|key| key.state == KeyState::Retiring) {
            let is_needed = oldest_ms.is_some_and(|oldest| oldest <= key.changed_ms + LATE_MS);
            if !is_needed && key.retire_ms.is_none_or(|at| at <= now_ms) {
                key.becomes(KeyState::Retired, now_ms);
                key.retire_ms = None;
                retired.push(key.selector.clone());
            }
        }
        retired
    }
}
