//! A meter whose limits other nodes count for too: what it asks of the store, and what it learns from the answer.
//!
//! What may be handed out is what the store granted, never more; the rings are what all nodes together used, as far as is
//! known here: they say when there is room again, and what is left for mail that is not urgent.

use store::{Share, ShareRequest, ShareWindow, Tally};

use super::ring::WINDOWS;
use super::{Ahead, Meter, Rates, URGENT};

/// What was granted and is not used for so long goes back, milliseconds.
const IDLE_MS: i64 = 2_000;
/// Who was refused asks again after so long, milliseconds.
const AGAIN_MS: i64 = 200;

/// What is known of the others, and of what the store knows of us.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Open at other nodes.
    pub(super) others: Tally,
    /// What counts in the windows, since the run began.
    pub(super) counted: Tally,
    /// What of that the store confirmed.
    known: Tally,
    /// Urgent mail waits for more.
    pub(super) urgent: bool,
    /// What was refused was asked for urgent mail.
    refused_urgent: bool,
    /// The store answered; before, the rings are what an earlier run wrote down.
    answered: bool,
    answered_ms: i64,
    refused_until: i64,
    /// Messages handed out when that was last looked at, and since when they are so many.
    quiet: (u64, i64),
}

impl View {
    /// How it stands elsewhere may have changed.
    pub(super) fn is_older_than(&self, ms: i64, now_ms: i64) -> bool {
        (now_ms - self.answered_ms).abs() >= ms
    }

    pub(super) fn refused_until(&self, priority: u8, now_ms: i64) -> Option<i64> {
        if priority == URGENT && !self.refused_urgent {
            return None;
        }
        Some(self.refused_until).filter(|until| *until > now_ms && until - now_ms <= AGAIN_MS)
    }

    fn is_quiet(&mut self, handed: u64, now_ms: i64) -> bool {
        if self.quiet.0 != handed || now_ms < self.quiet.1 {
            self.quiet = (handed, now_ms);
        }
        now_ms - self.quiet.1 >= IDLE_MS
    }
}

/// A request as it was made, for its answer.
#[derive(Debug)]
pub struct Asked {
    counted: Tally,
    wanted: Tally,
    urgent: bool,
}

impl Meter {
    /// A meter of a limit that other nodes count for too.
    pub fn together() -> Self {
        Self { view: Some(Box::default()), ..Self::default() }
    }

    /// The same with what an earlier run wrote down, for a store that knows nothing of it yet.
    #[must_use]
    pub fn into_together(self) -> Self {
        Self { view: Some(Box::default()), ..self }
    }

    /// What the store is told of it and asked for, if there is anything.
    pub fn ask(&mut self, name: &str, ahead: Ahead, now_ms: i64) -> Option<(ShareRequest, Asked)> {
        let block = self.block();
        let (handed, permitted) = (self.handed, self.permitted);
        let view = self.view.as_mut()?;
        let quiet = view.is_quiet(handed.messages, now_ms) && permitted != handed;
        if ahead == Ahead::Block && !self.dirty && !self.hungry && !quiet {
            return None;
        }
        let wanted = match ahead {
            Ahead::Nothing => handed,
            Ahead::Block if self.hungry => permitted.max(handed.plus(block)),
            Ahead::Block if quiet => handed,
            Ahead::Block => permitted,
        };
        if wanted == handed {
            // From now on it is not ours any more.
            self.permitted = handed;
        }
        let priority = if view.urgent { URGENT } else { URGENT + 1 };
        let before = if view.answered {
            Vec::new()
        } else {
            self.rings.iter().map(|ring| ring.buckets.iter().copied().collect()).collect()
        };
        let request = ShareRequest {
            name: name.to_owned(),
            windows: windows(&self.rates, priority),
            handed,
            ended: self.done,
            counted: view.counted,
            known: view.known,
            wanted,
            before,
        };
        let asked = Asked { counted: view.counted, wanted, urgent: view.urgent };
        view.urgent = false;
        (self.dirty, self.hungry) = (false, false);
        Some((request, asked))
    }

    /// The store's answer.
    pub fn answered(&mut self, asked: &Asked, share: &Share, now_ms: i64) {
        let Some(view) = self.view.as_mut() else { return };
        (view.known, view.others, view.answered, view.answered_ms) = (asked.counted, share.others, true, now_ms);
        let since = view.counted.less(asked.counted);
        let ahead_ms = share.now_ms - now_ms;
        for ((ring, span), used) in self.rings.iter_mut().zip(&WINDOWS).zip(&share.used) {
            ring.replace(span, used, ahead_ms);
            ring.count(span, now_ms, u32::try_from(since.of(span.unit.into())).unwrap_or(u32::MAX));
        }
        self.permitted = share.granted;
        if asked.wanted.less(share.granted) != Tally::default() {
            (view.refused_until, view.refused_urgent) = (now_ms + AGAIN_MS, asked.urgent);
        }
    }

    /// Nothing more is handed out before the store has granted it anew.
    pub fn void(&mut self) {
        self.permitted = self.handed;
    }

    /// Neither the store nor anybody here needs it.
    pub fn is_over(&self) -> bool {
        let unused = self.rings.iter().all(|ring| ring.buckets.is_empty());
        self.rates.is_unlimited() && unused && self.handed == self.done && !self.dirty
    }
}

fn windows(rates: &Rates, priority: u8) -> Vec<ShareWindow> {
    let of = |(span, limit): (&super::ring::Span, Option<u32>)| ShareWindow {
        unit: span.unit.into(),
        span_ms: span.span_ms,
        bucket_ms: span.bucket_ms,
        limit: limit.map(|limit| u64::from(rates.share(span, limit, priority))),
    };
    WINDOWS.iter().zip(rates.all()).map(of).collect()
}
