//! The windows, and what was used of one lately: counted in buckets, so that memory is bounded.

use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Messages,
    Recipients,
}

impl From<Unit> for store::ShareUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Messages => Self::Messages,
            Unit::Recipients => Self::Recipients,
        }
    }
}

/// A window and how finely it is counted.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) unit: Unit,
    pub(super) span_ms: i64,
    pub(super) bucket_ms: i64,
}

pub(super) const DAY_MS: i64 = 86_400_000;

/// All windows.
pub(super) const WINDOWS: [Span; 5] = [
    Span { unit: Unit::Messages, span_ms: 1_000, bucket_ms: 20 },
    Span { unit: Unit::Messages, span_ms: 60_000, bucket_ms: 1_000 },
    Span { unit: Unit::Messages, span_ms: 3_600_000, bucket_ms: 30_000 },
    Span { unit: Unit::Messages, span_ms: DAY_MS, bucket_ms: 600_000 },
    Span { unit: Unit::Recipients, span_ms: DAY_MS, bucket_ms: 600_000 },
];

/// What was used lately, oldest first: at most one more bucket than fit into the window.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    pub(super) buckets: VecDeque<(i64, u32)>,
    pub(super) sum: u64,
}

impl Ring {
    /// What all nodes together used, by a clock that is ahead of ours by so much: over no sooner here than there.
    pub(super) fn replace(&mut self, span: &Span, used: &[(i64, u32)], ahead_ms: i64) {
        self.buckets.clear();
        self.sum = 0;
        for (bucket, count) in used {
            let end_ms = (bucket + 1).saturating_mul(span.bucket_ms).saturating_sub(ahead_ms);
            // Rounded up: the end of the bucket that it ends in.
            let at = (end_ms + span.bucket_ms - 1).div_euclid(span.bucket_ms) - 1;
            self.sum += u64::from(*count);
            self.add(at, *count);
        }
    }

    pub(super) fn count(&mut self, span: &Span, now_ms: i64, count: u32) {
        if count == 0 {
            return;
        }
        let at = now_ms.div_euclid(span.bucket_ms);
        self.sum += u64::from(count);
        self.rewind(at);
        self.add(at, count);
    }

    /// A clock that was set back: what was counted later counts as of now, and is over no sooner than it must be.
    fn rewind(&mut self, at: i64) {
        let mut late = 0u32;
        while let Some((_, count)) = self.buckets.pop_back_if(|(bucket, _)| *bucket > at) {
            late = late.saturating_add(count);
        }
        if late > 0 {
            self.add(at, late);
        }
    }

    fn add(&mut self, at: i64, count: u32) {
        match self.buckets.back_mut() {
            Some((bucket, held)) if *bucket == at => *held = held.saturating_add(count),
            _ => self.buckets.push_back((at, count)),
        }
    }

    pub(super) fn expire(&mut self, span: &Span, now_ms: i64) {
        while let Some((_, count)) =
            self.buckets.pop_front_if(|(bucket, _)| (*bucket + 1) * span.bucket_ms + span.span_ms <= now_ms)
        {
            self.sum -= u64::from(count);
        }
        self.rewind(now_ms.div_euclid(span.bucket_ms));
    }

    /// When `excess` of what is counted is over.
    pub(super) fn over_ms(&self, span: &Span, excess: u64) -> Option<i64> {
        let mut gone = 0;
        self.buckets.iter().find_map(|(bucket, count)| {
            gone += u64::from(*count);
            (gone >= excess).then_some((bucket + 1) * span.bucket_ms + span.span_ms)
        })
    }
}
