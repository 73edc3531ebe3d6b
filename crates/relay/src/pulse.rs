//! That the relay's own loops go round: when each did last, how often, and whether it went well. For people who look.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// One loop.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    last_ms: AtomicI64,
    rounds: AtomicU64,
    failures: AtomicU32,
}

/// A loop at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Last round, Unix milliseconds; `None` before the first.
    pub last_ms: Option<i64>,
    /// Rounds so far.
    pub rounds: u64,
    /// Rounds in a row that failed.
    pub failures: u32,
}

impl Pulse {
    /// Notes a round.
    pub(crate) fn beat(&self, now_ms: i64, well: bool) {
        self.last_ms.store(now_ms, Ordering::Relaxed);
        self.rounds.fetch_add(1, Ordering::Relaxed);
        match well {
            true => self.failures.store(0, Ordering::Relaxed),
            false => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn seen(&self) -> Beat {
        let rounds = self.rounds.load(Ordering::Relaxed);
        Beat {
            last_ms: (rounds > 0).then(|| self.last_ms.load(Ordering::Relaxed)),
            rounds,
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

/// The loops that are watched.
#[derive(Debug, Default)]
pub(crate) struct Pulses {
    /// Fills the window from the store.
    pub(crate) claims: Pulse,
    /// Tries paused destinations again.
    pub(crate) ticks: Pulse,
    /// Notices changed settings.
    pub(crate) settings: Pulse,
    /// Removes what is past its retention.
    pub(crate) retention: Pulse,
    /// Ends what is past its time.
    pub(crate) expiry: Pulse,
}

impl crate::Relay {
    /// The relay's own loops: a short name each, and when it went round.
    pub fn beats(&self) -> [(&'static str, Beat); 5] {
        let pulses = &self.shared().pulses;
        [
            ("claims", pulses.claims.seen()),
            ("ticks", pulses.ticks.seen()),
            ("settings", pulses.settings.seen()),
            ("retention", pulses.retention.seen()),
            ("expiry", pulses.expiry.seen()),
        ]
    }
}
