//! Memory that is spoken for: octets are taken from a budget and return to it when their holder is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// A number of octets that may be in use at once.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` octets.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Octets in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes octets, or takes none.
    pub fn take(self: &Arc<Self>, octets: usize) -> Option<Share> {
        self.grow(octets).then(|| Share { budget: self.clone(), octets })
    }

    /// Keeps content in memory, if there is room.
    pub fn hold(self: &Arc<Self>, content: &Bytes) -> Option<Arc<Held>> {
        self.take(content.len()).map(|share| Arc::new(Held { content: content.clone(), _share: share }))
    }

    fn grow(&self, octets: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(octets).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }
}

/// Octets taken from a budget.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    octets: usize,
}

impl Share {
    /// Grows to `octets`, or stays as it is and says false. Never shrinks.
    pub fn grow_to(&mut self, octets: usize) -> bool {
        let more = octets.saturating_sub(self.octets);
        let grown = more == 0 || self.budget.grow(more);
        if grown {
            self.octets += more;
        }
        grown
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

/// Content in memory, counted.
#[derive(Debug)]
pub struct Held {
    content: Bytes,
    _share: Share,
}

impl Held {
    /// The octets.
    pub fn content(&self) -> &Bytes {
        &self.content
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_returns_when_its_holder_is_gone() {
        let budget = Budget::new(10);
        let held = budget.hold(&Bytes::from_static(b"123456")).unwrap();
        assert!(budget.take(5).is_none());
        let mut share = budget.take(3).unwrap();
        assert!(share.grow_to(4) && !share.grow_to(5) && share.grow_to(1));
        assert_eq!(budget.used(), 10);
        drop(held);
        drop(share);
        assert_eq!(budget.used(), 0);
    }
}
