//! What a node knows of its leases: since when the database was not told that it is alive, by a clock of this machine.
//!
//! Others take what it has leased when its lease time is over, and it may not hear of that: it has to stop by itself. The clock
//! stands still with a machine that is suspended: then the database says it, to the first word that it hears.

use parking_lot::Mutex;

use crate::engine::figures::Stopwatch;

/// When this store's runs were last said to be alive. Without a stopwatch only the database knows of that.
#[derive(Debug)]
pub(super) struct Alive {
    lease_us: u64,
    watch: Stopwatch,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last word that arrived was said then.
    said_us: u64,
    lapses: u64,
    /// Nothing was said in time since.
    over: bool,
}

impl Alive {
    pub(super) fn new(lease_ms: u32, watch: Stopwatch) -> Self {
        let state = State { said_us: watch.now_us().unwrap_or(0), lapses: 0, over: false };
        Self { lease_us: u64::from(lease_ms) * 1_000, watch, state: Mutex::new(state) }
    }

    /// For [`Alive::heard`], before something is said.
    pub(super) fn now_us(&self) -> Option<u64> {
        self.watch.now_us()
    }

    /// How often leases may have ended.
    pub(super) fn lapses(&self) -> u64 {
        let mut state = self.state.lock();
        state.look(self.watch.now_us(), self.lease_us);
        state.lapses
    }

    /// The time of a run was over by the database's clock, when it was to hear of it.
    pub(super) fn was_over(&self) {
        self.state.lock().end();
    }

    /// The database has heard what was said then.
    pub(super) fn heard(&self, said_us: Option<u64>) {
        let mut state = self.state.lock();
        state.look(self.watch.now_us(), self.lease_us);
        if state.over {
            // What was leased meanwhile was nobody's either: others took it for a dead run's.
            state.lapses += 1;
            state.over = false;
        }
        state.said_us = state.said_us.max(said_us.unwrap_or(0));
    }
}

impl State {
    fn look(&mut self, now_us: Option<u64>, lease_us: u64) {
        if now_us.is_some_and(|now_us| now_us.saturating_sub(self.said_us) >= lease_us) {
            self.end();
        }
    }

    fn end(&mut self) {
        if !self.over {
            self.over = true;
            self.lapses += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_was_leased_before_or_in_a_silence_of_a_lease_time_is_not_held_after_it() {
        let now = Arc::new(AtomicU64::new(0));
        let clock = now.clone();
        let alive = Alive::new(30_000, Stopwatch::new(move || clock.load(Ordering::Relaxed)));
        let second = |at: u64| at * 1_000_000;
        let lapses = |at| {
            now.store(second(at), Ordering::Relaxed);
            alive.lapses()
        };
        assert_eq!(lapses(29), 0);
        // A word counts from when it was said, however late it is heard.
        alive.heard(Some(second(10)));
        assert_eq!(lapses(39), 0);
        assert_eq!(lapses(40), 1);
        assert_eq!(lapses(80), 1, "said once");
        alive.heard(Some(second(80)));
        assert_eq!(lapses(82), 2, "leased in the silence");
        // Also if nobody looked meanwhile.
        now.store(second(121), Ordering::Relaxed);
        alive.heard(Some(second(120)));
        assert_eq!(lapses(122), 4);
    }

    #[test]
    fn a_clock_that_stood_still_is_overruled_by_the_databases() {
        for watch in [Stopwatch::new(|| 0), Stopwatch::default()] {
            let alive = Alive::new(30_000, watch);
            alive.heard(alive.now_us());
            assert_eq!(alive.lapses(), 0);
            // Said again, because the answer was lost.
            alive.was_over();
            alive.was_over();
            assert_eq!(alive.lapses(), 1);
            alive.heard(alive.now_us());
            assert_eq!(alive.lapses(), 2, "leased in the silence");
            alive.heard(alive.now_us());
            assert_eq!(alive.lapses(), 2);
        }
    }
}
