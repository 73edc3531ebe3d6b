//! The seal: signatures of the From domain's keys, put in front of a message at the door. After it the octets never change.
//!
//! A message that would be re-encoded for a next hop without 8BITMIME is re-encoded before it is signed, for all next
//! hops: the signature has to hold wherever it goes. One that has no 7-bit form is signed as it is; it only goes where
//! it can stay so.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use proto::message;
use proto::policy::dkim::{Maker, prepare};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::keys::{KeyError, PrivateKey, Secrets};
use super::record::DomainRecord;
use crate::directory::Directory;
use crate::refusal::{Refusal, RefusalKind};

/// Most domains of one From field that sign.
const MAX_DOMAINS: usize = 4;

/// A domain with keys that sign.
pub(crate) struct SigningDomain {
    pub(crate) name: Arc<str>,
    pub(crate) version: i64,
    pub(crate) record: DomainRecord,
    secret: Option<SecretString>,
    /// Reading a private key costs as much as using it, so it is done once, and not before it is needed.
    keys: OnceLock<Result<Vec<(String, PrivateKey)>, KeyError>>,
}

impl std::fmt::Debug for SigningDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningDomain")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl SigningDomain {
    pub(crate) fn new(name: Arc<str>, version: i64, record: DomainRecord, secret: Option<SecretString>) -> Self {
        Self { name, version, record, secret, keys: OnceLock::new() }
    }

    fn keys(&self) -> Result<&[(String, PrivateKey)], &KeyError> {
        let read = || {
            let secrets = Secrets::read(self.secret.as_ref())?;
            self.record.active().map(|key| Ok((key.selector.clone(), secrets.key(&key.selector)?))).collect()
        };
        self.keys.get_or_init(read).as_deref()
    }

    /// Signature fields of all keys, the shorter algorithm last.
    fn fields(&self, content: &[u8], now_ms: i64) -> Result<String, String> {
        let keys = self.keys().map_err(ToString::to_string)?;
        let prepared = prepare(content, &self.record.leave_out);
        let body_hash = digest::digest(&SHA256, &prepared.body);
        let mut fields = String::new();
        for (selector, key) in keys {
            let maker = Maker {
                domain: &self.name,
                selector,
                algorithm: key.kind().algorithm(),
                made_at: u64::try_from(now_ms / 1_000).unwrap_or(0),
            };
            let unsigned = prepared.unsigned(&maker, body_hash.as_ref());
            let signature = key.sign(&unsigned.octets).map_err(|error| error.to_string())?;
            fields.push_str(&unsigned.signed(&signature));
        }
        Ok(fields)
    }
}

/// Bounds how many signatures are made at once: more than there are processors would only be in each other's way, and in
/// that of the reactor.
#[derive(Debug)]
pub(crate) struct Sealer(Arc<Semaphore>);

impl Default for Sealer {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from))))
    }
}

/// The domains that sign a message with this From field; none for most installations, at no cost.
pub(crate) fn signers(directory: &Directory, from: Option<&[u8]>) -> Vec<Arc<SigningDomain>> {
    let mut found: Vec<Arc<SigningDomain>> = Vec::new();
    if !directory.signs() {
        return found;
    }
    for address in from.map(message::mailboxes_of).unwrap_or_default().into_iter().flatten() {
        if let Some(domain) = directory.signer(address.domain())
            && found.len() < MAX_DOMAINS
            && !found.iter().any(|known| known.name == domain.name)
        {
            found.push(domain.clone());
        }
    }
    found
}

/// Content with its signatures, and whether it still has 8-bit octets or long lines.
pub(crate) async fn seal(
    sealer: &Sealer,
    directory: &Directory,
    from: Option<&[u8]>,
    content: Vec<u8>,
    eight_bit: bool,
    now_ms: i64,
) -> Result<(Bytes, bool), Refusal> {
    let signers = signers(directory, from);
    if signers.is_empty() {
        return Ok((content.into(), eight_bit));
    }
    let broken = || Refusal::new(RefusalKind::Unhealthy, 451, "4.3.0 Message could not be signed, try again later");
    let permit = sealer.0.clone().acquire_owned().await.map_err(|_| broken())?;
    let work = move || {
        let _permit = permit;
        sealed(&signers, content, eight_bit, now_ms)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| broken())?
}

/// Blocks for about half a millisecond, more for large messages.
fn sealed(
    signers: &[Arc<SigningDomain>],
    content: Vec<u8>,
    eight_bit: bool,
    now_ms: i64,
) -> Result<(Bytes, bool), Refusal> {
    let (content, eight_bit) = match eight_bit.then(|| message::down_convert(&content)) {
        Some(Ok(converted)) => (converted, false),
        Some(Err(_)) => (content, true),
        None => (content, false),
    };
    let mut whole = Vec::new();
    for domain in signers {
        match domain.fields(&content, now_ms) {
            Ok(fields) => whole.extend_from_slice(fields.as_bytes()),
            // Unsigned mail of a domain that signs is refused by its receivers, and for good.
            Err(error) => {
                tracing::error!(domain = %domain.name, %error, "mail cannot be signed");
                let text = format!("4.3.5 The signing key of {} cannot be used, try again later", domain.name);
                return Err(Refusal::new(RefusalKind::Unhealthy, 451, text));
            }
        }
    }
    whole.extend_from_slice(&content);
    Ok((whole.into(), eight_bit))
}
