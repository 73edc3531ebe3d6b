//! A set of addresses by 64 bits of a keyed hash: says "certainly not" at once, and "perhaps" for the store to answer.
//!
//! The key is made anew by each process: nobody can choose addresses that meet. A million addresses take about 20 MiB.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::RwLock;
use proto::Address;
use store::{StoreError, address_key};

/// Longest address that is folded without an allocation, octets.
const SHORT: usize = 128;
/// Keys read at once.
const PAGE: u32 = 50_000;

/// A hash is its own hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = self.0 << 8 | u64::from(*octet);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Hashes = HashSet<u64, BuildHasherDefault<AsItIs>>;

#[derive(Default)]
struct Content {
    hashes: Hashes,
    /// What was inserted while the set is filled anew.
    late: Option<Vec<u64>>,
}

/// The set. Until it was filled it knows nothing, and every address is a "perhaps".
#[derive(Default)]
pub(crate) struct Known {
    hash: RandomState,
    content: RwLock<Content>,
    filled: AtomicBool,
    len: AtomicUsize,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Known({})", self.len())
    }
}

impl Known {
    /// Whether the address may be in the set.
    pub(crate) fn may_have(&self, address: &Address) -> bool {
        if !self.filled.load(Ordering::Acquire) {
            return true;
        }
        // The commonest case: nothing is in it.
        self.len.load(Ordering::Relaxed) > 0 && self.content.read().hashes.contains(&self.hash_of(address))
    }

    fn hash_of(&self, address: &Address) -> u64 {
        let text = address.as_str().as_bytes();
        if text.len() <= SHORT && text.is_ascii() {
            let mut folded = [0; SHORT];
            let folded = &mut folded[..text.len()];
            folded.copy_from_slice(text);
            folded.make_ascii_lowercase();
            return self.hash.hash_one(&*folded);
        }
        self.hash.hash_one(address_key(address).as_bytes())
    }

    pub(crate) fn insert(&self, address: &Address) {
        let hash = self.hash_of(address);
        let mut content = self.content.write();
        content.hashes.insert(hash);
        if let Some(late) = &mut content.late {
            late.push(hash);
        }
        self.len.store(content.hashes.len(), Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, address: &Address) {
        let hash = self.hash_of(address);
        let mut content = self.content.write();
        content.hashes.remove(&hash);
        self.len.store(content.hashes.len(), Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Fills the set anew, page by page of keys. What was in it stays until the new one is complete, and so does what is
    /// inserted meanwhile.
    pub(crate) async fn fill(
        &self,
        page: impl Fn(Option<String>, u32) -> store::Pending<Vec<String>>,
    ) -> Result<(), StoreError> {
        self.content.write().late = Some(Vec::new());
        let mut fresh = Hashes::default();
        let mut after = None;
        loop {
            let keys = page(after.take(), PAGE).await?;
            fresh.extend(keys.iter().map(|key| self.hash.hash_one(key.as_bytes())));
            if keys.len() < PAGE as usize {
                break;
            }
            after = keys.into_iter().next_back();
        }
        let mut content = self.content.write();
        fresh.extend(content.late.take().into_iter().flatten());
        self.len.store(fresh.len(), Ordering::Relaxed);
        content.hashes = fresh;
        self.filled.store(true, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_set_that_was_not_filled_says_perhaps_and_a_filled_one_knows_every_spelling() {
        let known = Known::default();
        assert!(known.may_have(&address("a@example.net")));
        let keys = ["bob@example.net", "jürgen@xn--bcher-kva.example"].map(str::to_owned).to_vec();
        known.fill(|_, _| store::Pending::ready(Ok(keys.clone()))).await.unwrap();
        assert!(!known.may_have(&address("a@example.net")));
        for spelled in ["BOB@Example.net", "bob@example.net", "JÜRGEN@bücher.example"] {
            assert!(known.may_have(&address(spelled)), "{spelled}");
        }
        let long = format!("{}@{}.example", "A".repeat(64), ["b"; 60].join("."));
        assert!(long.len() > SHORT);
        known.insert(&address(&long));
        assert!(known.may_have(&address(&long.to_lowercase())) && known.len() == 3);
        // Filled anew, with somebody in a hurry.
        let hasty = address("hasty@example.net");
        known
            .fill(|_, _| {
                known.insert(&hasty);
                store::Pending::ready(Ok(keys.clone()))
            })
            .await
            .unwrap();
        assert!(known.may_have(&hasty) && known.len() == 3 && !known.may_have(&address(&long)));
        known.insert(&address(&long));
        known.remove(&address(&long));
        assert!(!known.may_have(&address(&long)));
    }
}
