//! Failed sign-ins of clients here: who, from where, how often. Bounded; of too many the longest silent are forgotten.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use parking_lot::Mutex;

/// Pairs of address and name that are remembered.
const MOST: usize = 2_000;
/// Times that are remembered of each.
const TIMES: usize = 32;
/// How long they are remembered, milliseconds.
const KEPT_MS: i64 = 86_400_000;
/// Longest name.
const NAME: usize = 64;

/// How somebody tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInBy {
    /// AUTH at a listener.
    Smtp,
    /// An API key. What it was is nobody's business: there is no name.
    ApiKey,
}

impl SignInBy {
    /// `smtp` or `api-key`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::ApiKey => "api-key",
        }
    }
}

/// Failed sign-ins with one name from one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedSignIns {
    /// From where.
    pub address: IpAddr,
    /// The name that was given, cut; empty for API keys.
    pub name: String,
    /// There is a sender of that name.
    pub exists: bool,
    /// How.
    pub by: SignInBy,
    /// How often since the first.
    pub times: u64,
    /// Unix milliseconds.
    pub first_ms: i64,
    /// Unix milliseconds.
    pub last_ms: i64,
    /// The last 32 of them, Unix milliseconds, oldest first.
    pub lately: VecDeque<i64>,
    /// It was right in the end, after having been wrong, Unix milliseconds.
    pub right_ms: Option<i64>,
}

impl FailedSignIns {
    /// How many of those remembered there were since a time.
    pub fn since(&self, from_ms: i64) -> usize {
        self.lately.iter().rev().take_while(|at| **at >= from_ms).count()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct SignIns(Mutex<HashMap<(IpAddr, String), FailedSignIns>>);

impl SignIns {
    /// A wrong name, password or key.
    pub(crate) fn wrong(&self, address: IpAddr, name: &str, by: SignInBy, exists: bool, now_ms: i64) {
        let name: String = name.chars().take(NAME).collect();
        let mut all = self.0.lock();
        let key = (address, name);
        if all.len() >= MOST && !all.contains_key(&key) {
            all.retain(|_, one| now_ms - one.last_ms < KEPT_MS);
            let oldest = all.iter().min_by_key(|(_, one)| one.last_ms).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest.filter(|_| all.len() >= MOST) {
                all.remove(&oldest);
            }
        }
        let one = all.entry(key).or_insert_with_key(|(address, name)| FailedSignIns {
            address: *address,
            name: name.clone(),
            exists,
            by,
            times: 0,
            first_ms: now_ms,
            last_ms: now_ms,
            lately: VecDeque::new(),
            right_ms: None,
        });
        one.exists = exists;
        one.times += 1;
        one.last_ms = now_ms;
        if one.lately.len() >= TIMES {
            one.lately.pop_front();
        }
        one.lately.push_back(now_ms);
    }

    /// The right password or key, from an address that may have been wrong with it before.
    pub(crate) fn right(&self, address: IpAddr, name: &str, now_ms: i64) {
        let mut all = self.0.lock();
        if all.is_empty() {
            return;
        }
        if let Some(one) = all.get_mut(&(address, name.chars().take(NAME).collect())) {
            one.right_ms = Some(now_ms);
        }
    }

    /// Those of the last day, the most recent first.
    pub fn overview(&self, now_ms: i64) -> Vec<FailedSignIns> {
        let mut all = self.0.lock();
        all.retain(|_, one| now_ms - one.last_ms < KEPT_MS);
        let mut list: Vec<_> = all.values().cloned().collect();
        list.sort_by(|a, b| b.last_ms.cmp(&a.last_ms).then_with(|| a.name.cmp(&b.name)));
        list
    }
}

impl crate::run::Relay {
    /// Failed sign-ins of clients in the last day, the most recent first.
    pub fn failed_sign_ins(&self) -> Vec<FailedSignIns> {
        self.shared().sign_ins.overview(self.shared().now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn who_guesses_is_counted_by_address_and_name_and_a_guess_that_hits_is_seen() {
        let all = SignIns::default();
        for at in 0..40 {
            all.wrong(address(1), "app", SignInBy::Smtp, true, at * 1_000);
        }
        all.wrong(address(1), "root", SignInBy::Smtp, false, 40_000);
        all.right(address(1), "app", 41_000);
        all.right(address(2), "app", 41_000);
        let list = all.overview(42_000);
        assert_eq!(list.len(), 2);
        let app = &list[1];
        assert_eq!((app.times, app.since(30_000), app.since(0), app.right_ms), (40, 10, 32, Some(41_000)));
        assert_eq!(all.overview(KEPT_MS + 40_000), []);
    }

    #[test]
    fn many_guessers_push_out_the_longest_silent_and_nothing_grows() {
        let all = SignIns::default();
        for n in 0..3_000 {
            all.wrong(address(n), &"x".repeat(1_000), SignInBy::Smtp, false, i64::from(n));
        }
        let list = all.overview(3_000);
        assert_eq!(list.len(), MOST);
        assert!(list.iter().all(|one| one.first_ms >= 1_000 && one.name.len() == NAME));
    }
}
