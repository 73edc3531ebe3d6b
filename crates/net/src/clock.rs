//! The only place that reads a clock.
//!
//! Wall time is for what is stored (due times, expiry); monotonic time is for durations. Timers of connections
//! are tokio's, so that tests can pause them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time; cheap to clone. Clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { start: Instant },
    Manual { start_ms: i64, us: Arc<AtomicI64> },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System { start: Instant::now() })
    }

    /// A clock that stands at `start_ms` (Unix milliseconds) until it is advanced; for tests.
    pub fn manual(start_ms: i64) -> Self {
        Self(Source::Manual { start_ms, us: Arc::new(AtomicI64::new(0)) })
    }

    /// Moves a manual clock forward; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { us, .. } = &self.0 {
            us.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// Unix milliseconds. May jump when the administrator or NTP sets the clock.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System { .. } => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Source::Manual { start_ms, us } => start_ms + us.load(Ordering::SeqCst) / 1000,
        }
    }

    /// Microseconds since the clock was made; never goes back.
    pub fn mono_us(&self) -> u64 {
        match &self.0 {
            Source::System { start } => u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
            Source::Manual { us, .. } => u64::try_from(us.load(Ordering::SeqCst)).unwrap_or(0),
        }
    }
}

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let ms = u64::try_from(self.now_ms()).ok()?;
        Some(rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

/// The runtime's time for deadlines of sockets; stands still in a test that pauses it.
pub(crate) fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_all_its_clones_with_it() {
        let clock = Clock::manual(1_700_000_000_000);
        let other = clock.clone();
        assert_eq!(clock.now_ms(), 1_700_000_000_000);
        other.advance(Duration::from_millis(1500));
        assert_eq!(clock.now_ms(), 1_700_000_001_500);
        assert_eq!(clock.mono_us(), 1_500_000);
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = Clock::system();
        let first = clock.mono_us();
        assert!(clock.mono_us() >= first);
        assert!(clock.now_ms() > 1_700_000_000_000);
    }
}
