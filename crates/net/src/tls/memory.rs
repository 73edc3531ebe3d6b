//! Servers whose TLS is broken, and what worked with them: so that not every connection begins with a failure.
//!
//! Bounded, and forgotten after a while: servers are mended. Only opportunistic TLS is led by it.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::clock::Clock;

/// Most servers remembered; the one that is forgotten first makes room.
const MOST: usize = 2_000;
/// How long it is remembered that only a reduced handshake works, milliseconds.
const REDUCED_MS: i64 = 24 * 3_600_000;
/// How long it is remembered that no handshake works, milliseconds: that is not to last.
const CLEAR_MS: i64 = 3_600_000;

/// How a handshake begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Opening {
    /// All that we can do.
    #[default]
    Full,
    /// TLS 1.2, short, with key exchanges that everybody knows.
    Reduced,
}

/// What works with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// A reduced handshake.
    Reduced,
    /// Nothing but clear text.
    Clear,
}

/// A server whose TLS is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learnt {
    /// Its name.
    pub host: String,
    /// Its address.
    pub address: IpAddr,
    /// Nothing but clear text works; else a reduced handshake does.
    pub clear: bool,
    /// Until when that is believed, Unix milliseconds.
    pub until_ms: i64,
}

pub(crate) struct Memory {
    clock: Clock,
    known: Mutex<HashMap<(String, IpAddr), (i64, Habit)>>,
}

impl Memory {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// What is known of a server.
    pub(crate) fn of(&self, host: &str, address: IpAddr) -> Option<Habit> {
        let now_ms = self.clock.now_ms();
        let known = self.known.lock();
        if known.is_empty() {
            return None;
        }
        known.get(&(host.to_owned(), address)).filter(|(until, _)| *until > now_ms).map(|(_, habit)| *habit)
    }

    pub(crate) fn learn(&self, host: &str, address: IpAddr, habit: Habit) {
        let now_ms = self.clock.now_ms();
        let until = now_ms + if habit == Habit::Reduced { REDUCED_MS } else { CLEAR_MS };
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.retain(|_, (until, _)| *until > now_ms);
            let first = known.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| key.clone());
            if let Some(first) = first.filter(|_| known.len() >= MOST) {
                known.remove(&first);
            }
        }
        known.insert((host.to_owned(), address), (until, habit));
    }

    /// All that is remembered, by name.
    pub(super) fn all(&self) -> Vec<Learnt> {
        let now_ms = self.clock.now_ms();
        let known = self.known.lock();
        let mut all: Vec<Learnt> = known
            .iter()
            .filter(|(_, (until, _))| *until > now_ms)
            .map(|((host, address), (until_ms, habit))| Learnt {
                host: host.clone(),
                address: *address,
                clear: *habit == Habit::Clear,
                until_ms: *until_ms,
            })
            .collect();
        all.sort_by(|a, b| (&a.host, a.address).cmp(&(&b.host, b.address)));
        all
    }

    pub(crate) fn forget(&self, host: &str, address: IpAddr) {
        self.known.lock().remove(&(host.to_owned(), address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_one_that_ends_first_makes_room() {
        let memory = Memory::new(Clock::system());
        let address = IpAddr::from([192, 0, 2, 1]);
        memory.learn("first.example", address, Habit::Clear);
        for n in 0..MOST {
            memory.learn(&format!("mx{n}.example"), address, Habit::Reduced);
        }
        assert_eq!(memory.known.lock().len(), MOST);
        let all = memory.all();
        assert_eq!((all.len(), &*all[0].host, all[0].clear), (MOST, "mx0.example", false));
        assert_eq!(memory.of("first.example", address), None);
        assert_eq!(memory.of("mx0.example", address), Some(Habit::Reduced));
        assert_eq!(memory.of("mx0.example", IpAddr::from([192, 0, 2, 2])), None, "another machine of the same name");
        memory.forget("mx0.example", address);
        assert_eq!(memory.of("mx0.example", address), None);
    }
}
