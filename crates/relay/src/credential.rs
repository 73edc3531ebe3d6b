//! Proving who a sender is: passwords by Argon2id, keys by hash, and what guessing costs.
//!
//! A wrong guess costs the guesser a growing delay per address and user name; it locks nobody out. Whether a user exists
//! cannot be told by time: one Argon2id always runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::sender::{ApiKeyRecord, Sender};

/// Argon2id runs at once: each needs 19 MiB.
const PARALLEL: usize = 2;
/// Guessers remembered.
const MEMORY: usize = 10_000;
/// Delay after the first wrong guess; it doubles with each further one.
const FIRST_DELAY_MS: u64 = 500;
/// Longest delay.
const LONGEST_DELAY_MS: u64 = 30_000;
/// Longest wait behind other guesses of the same guesser, milliseconds.
const LONGEST_WAIT_MS: i64 = 60_000;
/// After this long without a wrong guess the count starts anew, milliseconds.
const FORGIVEN_MS: i64 = 900_000;
/// Prefix of every API key, so that leaked ones can be found.
const KEY_PREFIX: &str = "pbx_";

/// Checks passwords and keys; remembers what it has verified, and who guesses.
pub struct Gate {
    running: Semaphore,
    /// Verified passwords as keyed hashes: a client that connects for each message pays for Argon2id once.
    verified: Mutex<HashMap<SenderVersion, [u8; 32]>>,
    memory_key: [u8; 32],
    guessers: Mutex<HashMap<(IpAddr, String), Guesses>>,
    /// Stands in where there is no user or no password, so that time tells nothing.
    decoy: String,
}

/// A sender's name and the version of its record.
type SenderVersion = (Arc<str>, i64);

#[derive(Debug, Clone, Copy, Default)]
struct Guesses {
    wrong: u32,
    last_ms: i64,
    /// When the last of those who wait gets its answer.
    turn_ms: i64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            running: Semaphore::new(PARALLEL),
            verified: Mutex::default(),
            memory_key: rand::random(),
            guessers: Mutex::default(),
            decoy: hash_password(&SecretString::from(random_text(16))).unwrap_or_default(),
        }
    }
}

/// What went wrong with hashing: the system's randomness or memory.
#[derive(Debug, thiserror::Error)]
#[error("password could not be hashed: {0}")]
pub struct HashError(String);

/// Hashes a password with Argon2id (RFC 9106, 19 MiB, 2 passes) to a PHC string.
pub fn hash_password(password: &SecretString) -> Result<String, HashError> {
    Argon2::default()
        .hash_password(password.expose_secret().as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| HashError(error.to_string()))
}

/// A new API key with 160 bits of randomness, and its record.
pub fn new_api_key(now_ms: i64) -> (SecretString, ApiKeyRecord) {
    let key = format!("{KEY_PREFIX}{}", random_text(32));
    let record =
        ApiKeyRecord { prefix: key[..KEY_PREFIX.len() + 6].to_owned(), hash: key_hash(&key), created_ms: now_ms };
    (key.into(), record)
}

/// A new password: letters and digits that are hard to mistake, five bits each.
pub fn new_password() -> SecretString {
    random_text(24).into()
}

/// The hash an API key is found by. The key is random, so a fast hash is enough.
pub fn key_hash(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}

fn random_text(length: usize) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    (0..length).map(|_| char::from(LETTERS[usize::from(rand::random::<u8>() & 31)])).collect()
}

impl Gate {
    /// Whether the password is the sender's. `sender` is `None` for a user name that does not exist.
    pub async fn check_password(&self, sender: Option<&Arc<Sender>>, password: &SecretString) -> bool {
        let print = blake3::keyed_hash(&self.memory_key, password.expose_secret().as_bytes());
        if let Some(sender) = sender
            && let Some(known) = self.verified.lock().get(&(sender.name.clone(), sender.version))
            && bool::from(known.ct_eq(print.as_bytes()))
        {
            return true;
        }
        let right = self.check_hash(sender.and_then(|sender| sender.record.password_hash.clone()), password).await;
        if right && let Some(sender) = sender {
            let mut verified = self.verified.lock();
            verified.retain(|(name, version), _| *name != sender.name || *version == sender.version);
            verified.insert((sender.name.clone(), sender.version), *print.as_bytes());
        }
        right
    }

    /// Whether the password has this hash. One Argon2id runs whether there is a hash or not.
    pub async fn check_hash(&self, stored: Option<String>, password: &SecretString) -> bool {
        let (hash, real) = stored.map_or_else(|| (self.decoy.clone(), false), |hash| (hash, true));
        let Ok(_permit) = self.running.acquire().await else { return false };
        let password = password.clone();
        tokio::task::spawn_blocking(move || verify(&hash, &password)).await.unwrap_or(false) && real
    }

    /// How long this guesser has to wait before its answer. Guesses made at the same time wait in a row: many connections
    /// guess no faster than one.
    pub fn delay(&self, address: IpAddr, user: &str, now_ms: i64) -> Duration {
        let mut guessers = self.guessers.lock();
        let known = guessers.get_mut(&(network_of(address), user.to_owned()));
        let Some(guesses) = known.filter(|guesses| now_ms - guesses.last_ms < FORGIVEN_MS && guesses.wrong > 0) else {
            return Duration::ZERO;
        };
        let own_ms = (FIRST_DELAY_MS << (guesses.wrong - 1).min(16)).min(LONGEST_DELAY_MS) as i64;
        guesses.turn_ms = guesses.turn_ms.clamp(now_ms, now_ms + LONGEST_WAIT_MS) + own_ms;
        Duration::from_millis((guesses.turn_ms - now_ms) as u64)
    }

    /// Counts a wrong guess.
    pub fn wrong(&self, address: IpAddr, user: &str, now_ms: i64) {
        let mut guessers = self.guessers.lock();
        if guessers.len() >= MEMORY {
            guessers.retain(|_, guesses| now_ms - guesses.last_ms < FORGIVEN_MS);
            if guessers.len() >= MEMORY {
                guessers.clear();
            }
        }
        let guesses = guessers.entry((network_of(address), user.to_owned())).or_default();
        guesses.wrong = if now_ms - guesses.last_ms < FORGIVEN_MS { guesses.wrong + 1 } else { 1 };
        guesses.last_ms = now_ms;
    }

    /// Forgets the wrong guesses of one that was right in the end.
    pub fn right(&self, address: IpAddr, user: &str) {
        let mut guessers = self.guessers.lock();
        if !guessers.is_empty() {
            guessers.remove(&(network_of(address), user.to_owned()));
        }
    }
}

fn verify(hash: &str, password: &SecretString) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok())
}

/// One home has a /64 of IPv6 addresses: it counts as one guesser.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(segments.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(hash: Option<String>, version: i64) -> Arc<Sender> {
        let body = serde_json::json!({"allowed_from": ["*"], "password_hash": hash});
        Arc::new(Sender::new("app".into(), serde_json::from_value(body).unwrap(), version))
    }

    #[tokio::test]
    async fn only_the_right_password_opens_and_it_opens_again() {
        let gate = Gate::default();
        let right = SecretString::from("correct horse");
        let app = sender(Some(hash_password(&right).unwrap()), 1);
        assert!(!gate.check_password(Some(&app), &"wrong".into()).await);
        assert!(gate.check_password(Some(&app), &right).await);
        assert!(gate.check_password(Some(&app), &right).await);
        assert!(!gate.check_password(Some(&app), &"wrong".into()).await);
        assert!(!gate.check_password(None, &right).await);
        assert!(!gate.check_password(Some(&sender(None, 2)), &right).await, "a changed sender is verified anew");
    }

    #[test]
    fn guessing_costs_more_each_time_and_only_the_guesser() {
        let gate = Gate::default();
        let (there, elsewhere) = ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let mut last = Duration::ZERO;
        let mut now_ms = 0;
        for _ in 0..8 {
            gate.wrong(there, "app", now_ms);
            let delay = gate.delay("2001:db8::2".parse().unwrap(), "app", now_ms);
            assert!(delay > last || delay == Duration::from_secs(30));
            last = delay;
            now_ms += delay.as_millis() as i64;
        }
        let beside = gate.delay(there, "app", now_ms);
        assert!(gate.delay(there, "app", now_ms) > beside, "guesses side by side wait in a row");
        assert_eq!(gate.delay(elsewhere, "app", now_ms), Duration::ZERO);
        assert_eq!(gate.delay(there, "other", now_ms), Duration::ZERO);
        assert_eq!(gate.delay(there, "app", now_ms + FORGIVEN_MS), Duration::ZERO);
    }

    #[test]
    fn keys_are_found_by_hash_and_shown_by_prefix() {
        let (key, record) = new_api_key(5);
        assert_eq!(record.hash, key_hash(key.expose_secret()));
        assert!(key.expose_secret().starts_with(&record.prefix));
        assert!(record.prefix.len() < 12);
    }
}
