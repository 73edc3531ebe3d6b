//! The relay's own loops: that they go round, and what people want of them: a round now, a pause, a new beginning.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// One of the loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Fills the window from the store.
    Claims,
    /// Tries paused destinations again.
    Ticks,
    /// Notices changed settings.
    Settings,
    /// Removes what is past its retention.
    Retention,
    /// Ends what is past its time.
    Expiry,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Claims, Self::Ticks, Self::Settings, Self::Retention, Self::Expiry];

    /// A short name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Ticks => "ticks",
            Self::Settings => "settings",
            Self::Retention => "retention",
            Self::Expiry => "expiry",
        }
    }

    /// Nothing goes wrong while it stands, but that its work is not done.
    pub const fn can_pause(self) -> bool {
        matches!(self, Self::Claims | Self::Retention)
    }
}

/// One loop.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    last_ms: AtomicI64,
    took_us: AtomicU64,
    rounds: AtomicU64,
    failures: AtomicU32,
    paused: AtomicBool,
    anew: AtomicBool,
    wake: Notify,
}

/// A loop at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Last round, Unix milliseconds; `None` before the first.
    pub last_ms: Option<i64>,
    /// How long its work took.
    pub took: Duration,
    /// Rounds so far.
    pub rounds: u64,
    /// Rounds in a row that failed.
    pub failures: u32,
    /// Somebody has paused it.
    pub paused: bool,
}

impl Pulse {
    /// Notes a round.
    pub(crate) fn beat(&self, now_ms: i64, took_us: u64, well: bool) {
        self.last_ms.store(now_ms, Ordering::Relaxed);
        self.took_us.store(took_us, Ordering::Relaxed);
        self.rounds.fetch_add(1, Ordering::Relaxed);
        match well {
            true => self.failures.store(0, Ordering::Relaxed),
            false => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Somebody has paused it.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Somebody wants it to begin anew; said once.
    pub(crate) fn begins_anew(&self) -> bool {
        self.anew.swap(false, Ordering::SeqCst)
    }

    /// Waits until somebody wants something of it.
    pub(crate) async fn wanted(&self) {
        self.wake.notified().await;
    }

    /// Gives whether that is news.
    pub(crate) fn pause(&self, paused: bool) -> bool {
        let news = self.paused.swap(paused, Ordering::SeqCst) != paused;
        self.wake.notify_one();
        news
    }

    fn seen(&self) -> Beat {
        let rounds = self.rounds.load(Ordering::Relaxed);
        Beat {
            last_ms: (rounds > 0).then(|| self.last_ms.load(Ordering::Relaxed)),
            took: Duration::from_micros(self.took_us.load(Ordering::Relaxed)),
            rounds,
            failures: self.failures.load(Ordering::Relaxed),
            paused: self.is_paused(),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Pulses {
    claims: Pulse,
    ticks: Pulse,
    settings: Pulse,
    retention: Pulse,
    expiry: Pulse,
}

impl Pulses {
    /// One of them.
    pub(crate) fn of(&self, part: Part) -> &Pulse {
        match part {
            Part::Claims => &self.claims,
            Part::Ticks => &self.ticks,
            Part::Settings => &self.settings,
            Part::Retention => &self.retention,
            Part::Expiry => &self.expiry,
        }
    }
}

impl crate::Relay {
    /// One of the relay's own loops, as it is.
    pub fn beat(&self, part: Part) -> Beat {
        self.shared().pulses.of(part).seen()
    }

    /// A loop goes round at once.
    pub fn run_part(&self, part: Part) {
        let shared = self.shared();
        if part == Part::Claims {
            shared.due_at(i64::MIN);
        }
        shared.pulses.of(part).wake.notify_one();
    }

    /// A loop ends after its round and begins anew.
    pub fn restart_part(&self, part: Part) {
        let pulse = self.shared().pulses.of(part);
        pulse.anew.store(true, Ordering::SeqCst);
        pulse.wake.notify_one();
    }

    /// A loop stands until it is let go on, if it is one that [can be paused](Part::can_pause). While claims are paused mail is
    /// taken and kept: what was not begun goes back to the store, and what is under way ends.
    pub async fn pause_part(&self, part: Part, paused: bool) {
        let shared = self.shared();
        if !part.can_pause() || !shared.pulses.of(part).pause(paused) || part != Part::Claims {
            return;
        }
        match paused {
            true => crate::node::give_all_back(shared).await,
            false => {
                shared.due_at(i64::MIN);
                shared.claim_wake.notify_one();
            }
        }
    }
}
