//! How fast somebody may go: a growing pause after wrong log-ins, and so many requests a minute. Pure: time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use parking_lot::Mutex;

/// Keys remembered of each kind.
const MEMORY: usize = 10_000;
/// Without a wrong one for this long, the count starts anew, milliseconds.
const FORGIVEN_MS: i64 = 900_000;
/// The first pause, milliseconds; it doubles.
const FIRST_MS: i64 = 1_000;
/// Characters of a name that count: a user's 64, and what stands before it where codes are counted.
const LONGEST: usize = 80;

/// Wrong log-ins. Nobody is locked out: a pause is for one address and name, a longer patience for an address, and a short
/// pause for a name that is guessed from many addresses.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<HashMap<Guesser, Count>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Guesser {
    Pair(IpAddr, String),
    Address(IpAddr),
    Name(String),
}

impl Guesser {
    /// Wrong ones without a pause, and the longest pause.
    const fn limits(&self) -> (u32, i64) {
        match self {
            Self::Pair(..) => (3, 300_000),
            Self::Address(_) => (20, 300_000),
            Self::Name(_) => (50, 10_000),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Count {
    wrong: u32,
    last_ms: i64,
}

fn guessers(address: IpAddr, name: &str) -> [Guesser; 3] {
    // Long names are not worth the memory; names are compared as they are typed, so that it tells nothing who exists.
    let name: String = name.trim().to_ascii_lowercase().chars().take(LONGEST).collect();
    let address = network_of(address);
    [Guesser::Pair(address, name.clone()), Guesser::Address(address), Guesser::Name(name)]
}

impl Guesses {
    /// Seconds to wait before the next try is looked at; 0: none.
    pub fn pause(&self, address: IpAddr, name: &str, now_ms: i64) -> u32 {
        let counts = self.0.lock();
        let left = |guesser: &Guesser| {
            let count = counts.get(guesser).filter(|count| now_ms - count.last_ms < FORGIVEN_MS)?;
            let (free, longest) = guesser.limits();
            let over = count.wrong.checked_sub(free + 1)?;
            let pause = (FIRST_MS << over.min(16)).min(longest);
            Some(count.last_ms + pause - now_ms)
        };
        let left_ms = guessers(address, name).iter().filter_map(left).max().unwrap_or(0).max(0);
        u32::try_from((left_ms + 999) / 1000).unwrap_or(u32::MAX)
    }

    /// Counts a wrong one.
    pub fn wrong(&self, address: IpAddr, name: &str, now_ms: i64) {
        let mut counts = self.0.lock();
        if counts.len() + 3 > MEMORY {
            counts.retain(|_, count| now_ms - count.last_ms < FORGIVEN_MS);
            // Full of guessers: those that were seen longest ago go, so that an attack does not forgive itself.
            while counts.len() + 3 > MEMORY {
                let oldest = counts.iter().min_by_key(|(_, count)| count.last_ms).map(|(key, _)| key.clone());
                let Some(oldest) = oldest else { break };
                counts.remove(&oldest);
            }
        }
        for guesser in guessers(address, name) {
            let count = counts.entry(guesser).or_insert(Count { wrong: 0, last_ms: now_ms });
            count.wrong = if now_ms - count.last_ms < FORGIVEN_MS { count.wrong.saturating_add(1) } else { 1 };
            count.last_ms = now_ms;
        }
    }

    /// Forgets the wrong ones of one that was right in the end; for address and name only the one that was counted first.
    pub fn right(&self, address: IpAddr, name: &str) {
        let [pair, others @ ..] = guessers(address, name);
        let mut counts = self.0.lock();
        counts.remove(&pair);
        for guesser in others {
            if let Some(count) = counts.get_mut(&guesser) {
                count.wrong = count.wrong.saturating_sub(1);
            }
        }
    }
}

/// One home has a /64 of IPv6 addresses.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(segments.into())
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Requests by key: the generic cell rate algorithm, one number each.
#[derive(Debug, Default)]
pub struct Rates<K>(Mutex<HashMap<K, i64>>);

impl<K: Eq + Hash> Rates<K> {
    /// Counts a request of one who may make `per_minute`, a fifth of them at once. `Err`: seconds to wait.
    pub fn take(&self, key: K, per_minute: u32, now_ms: i64) -> Result<(), u32> {
        // Microseconds, so that high rates are no rounding error.
        let step = 60_000_000 / i64::from(per_minute.max(1));
        let burst = step.saturating_mul(i64::from((per_minute / 5).max(1)));
        let now = now_ms.saturating_mul(1000);
        let mut all = self.0.lock();
        if all.len() >= MEMORY {
            all.retain(|_, next| *next > now);
            if all.len() >= MEMORY {
                all.clear();
            }
        }
        let next = all.entry(key).or_insert(now);
        let at = (*next).max(now);
        if at + step - now > burst.max(step) {
            return Err(u32::try_from((at + step - burst.max(step) - now) / 1_000_000 + 1).unwrap_or(u32::MAX));
        }
        *next = at + step;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_pause_grows_is_bounded_and_is_for_the_guesser_alone() {
        let guesses = Guesses::default();
        let (here, there) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..14 {
            guesses.wrong(here, "ann", now);
            let pause = guesses.pause(here, "Ann ", now);
            pauses.push(pause);
            now += i64::from(pause) * 1000;
        }
        assert_eq!(pauses[..6], [0, 0, 0, 1, 2, 4]);
        assert_eq!(pauses[13], 300);
        guesses.wrong(here, "ann", now);
        assert_eq!(guesses.pause(there, "ann", now), 0, "elsewhere ann can log in");
        assert_eq!(guesses.pause(here, "bob", now), 0);
        guesses.right(here, "ann");
        assert_eq!(guesses.pause(here, "ann", now), 0);
    }

    #[test]
    fn many_names_from_one_address_and_one_name_from_many_addresses_are_slowed() {
        let guesses = Guesses::default();
        for n in 0..30 {
            guesses.wrong(address("2001:db8::1"), &format!("user{n}"), 0);
        }
        assert!(guesses.pause(address("2001:db8::2"), "fresh", 0) > 60, "the same /64");
        for n in 0..60 {
            guesses.wrong(address(&format!("198.51.100.{n}")), "ann", 0);
        }
        assert_eq!(guesses.pause(address("203.0.113.1"), "ann", 0), 10, "slowed, not locked out");
    }

    #[test]
    fn memory_is_bounded_and_an_attack_does_not_forgive_itself() {
        let guesses = Guesses::default();
        for n in 0..9 {
            guesses.wrong(address("192.0.2.1"), "ann", 100_000 + n);
        }
        for n in 0..(MEMORY as i64) {
            guesses.wrong(address("198.51.100.1"), &format!("n{n}"), n);
        }
        assert!(guesses.0.lock().len() <= MEMORY);
        assert!(guesses.pause(address("192.0.2.1"), "ann", 100_010) > 0);
    }

    #[test]
    fn so_many_a_minute_and_a_fifth_of_them_at_once() {
        let rates = Rates::default();
        let at_once = (0..100).filter(|_| rates.take("key", 60, 0).is_ok()).count();
        assert_eq!(at_once, 12);
        let wait = rates.take("key", 60, 0).unwrap_err();
        assert!((1..=2).contains(&wait), "{wait}");
        assert!(rates.take("key", 60, i64::from(wait) * 1000).is_ok());
        assert!(rates.take("other", 60, 0).is_ok());
        let in_a_minute = (0..60_000).filter(|ms| rates.take("steady", 600, *ms).is_ok()).count();
        assert!((600..=720).contains(&in_a_minute), "{in_a_minute}");
    }
}
