//! One-time tokens: printed at start-up, or asked for over the control socket by `pillarbox login`. They live in memory.

use std::collections::HashMap;

use parking_lot::Mutex;

/// How long a token that was asked for lasts, milliseconds.
const LIFE_MS: i64 = 600_000;
/// The end of the one that has none.
const NEVER: i64 = i64::MAX;
/// Most that are remembered.
const MOST: usize = 256;

/// Tokens that were not used yet, as hashes, with the time they end.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<HashMap<[u8; 32], i64>>);

impl Tokens {
    /// The token printed at a start without users: good until it is used, or until there is a user.
    pub fn first(&self) -> String {
        self.add(NEVER, 0)
    }

    /// There is a user: what was to make the first one is over.
    pub fn end_first(&self) {
        self.0.lock().retain(|_, ends| *ends != NEVER);
    }

    /// A token that was asked for, or printed at a start with users: good for ten minutes.
    pub fn make(&self, now_ms: i64) -> String {
        self.add(now_ms + LIFE_MS, now_ms)
    }

    /// Whether it is good; it is gone then.
    pub fn take(&self, token: &str, now_ms: i64) -> bool {
        self.0.lock().remove(&hash(token.trim())).is_some_and(|ends| ends > now_ms)
    }

    fn add(&self, ends: i64, now_ms: i64) -> String {
        let text = format!("{:032x}", rand::random::<u128>());
        let mut map = self.0.lock();
        map.retain(|_, ends| *ends > now_ms);
        if map.len() >= MOST {
            let soonest = map.iter().min_by_key(|(_, ends)| **ends).map(|(key, _)| *key);
            soonest.and_then(|key| map.remove(&key));
        }
        map.insert(hash(&text), ends);
        text
    }
}

fn hash(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once() {
        let tokens = Tokens::default();
        let token = tokens.first();
        assert!(!tokens.take("0", 5));
        assert!(tokens.take(&format!(" {token}\n"), 5));
        assert!(!tokens.take(&token, 5));
    }

    #[test]
    fn the_first_token_ends_with_the_first_user_and_others_stay() {
        let tokens = Tokens::default();
        let (first, asked) = (tokens.first(), tokens.make(5));
        tokens.end_first();
        assert!(!tokens.take(&first, 6));
        assert!(tokens.take(&asked, 6));
    }

    #[test]
    fn a_token_that_was_asked_for_runs_out() {
        let tokens = Tokens::default();
        let token = tokens.make(5);
        assert!(!tokens.take(&token, 5 + LIFE_MS));
    }
}
