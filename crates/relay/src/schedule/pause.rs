//! How long a destination that cannot be reached is left alone: doubling from one second to five minutes.

const FIRST_MS: i64 = 1_000;
const LONGEST_MS: i64 = 300_000;
/// From here on the destination's jobs leave memory: they would only block the window.
const LONG_MS: i64 = 16_000;

/// The pause of one destination.
#[derive(Debug, Default)]
pub(super) struct Pause {
    length_ms: i64,
    until_ms: i64,
}

impl Pause {
    /// A connection failed: gives when to try again.
    pub(super) fn failure(&mut self, now_ms: i64) -> i64 {
        self.length_ms = (self.length_ms * 2).clamp(FIRST_MS, LONGEST_MS);
        self.until_ms = now_ms + self.length_ms;
        self.until_ms
    }

    /// Not before this time, whatever the length.
    pub(super) fn hold_until(&mut self, until_ms: i64) -> i64 {
        self.length_ms = self.length_ms.max(FIRST_MS);
        self.until_ms = self.until_ms.max(until_ms);
        self.until_ms
    }

    /// A connection was established: gives the time that was set, if one was.
    pub(super) fn success(&mut self) -> Option<i64> {
        let until = self.until();
        *self = Self::default();
        until
    }

    /// May be tried from now on; the length of the next pause stays.
    pub(super) fn end_wait(&mut self, now_ms: i64) {
        self.until_ms = self.until_ms.min(now_ms);
    }

    /// A failure was not followed by a success yet.
    pub(super) fn is_set(&self) -> bool {
        self.length_ms > 0
    }

    pub(super) fn is_pausing(&self, now_ms: i64) -> bool {
        self.is_set() && now_ms < self.until_ms
    }

    pub(super) fn until(&self) -> Option<i64> {
        self.is_set().then_some(self.until_ms)
    }

    pub(super) fn is_long(&self) -> bool {
        self.length_ms >= LONG_MS
    }
}
