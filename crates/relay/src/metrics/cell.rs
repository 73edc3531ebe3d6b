//! Counters and histograms: atomics that are only ever added to.

use std::sync::atomic::{AtomicU64, Ordering};

use super::figure::Spread;

/// Copies of a counter that many threads add to.
const SHARDS: usize = 4;

/// A cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line(AtomicU64);

/// The shard of the calling thread.
fn shard() -> usize {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local!(static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) as usize % SHARDS);
    MINE.with(|mine| *mine)
}

/// Grows. Threads do not wait for each other.
#[derive(Debug, Default)]
pub struct Counter([Line; SHARDS]);

impl Counter {
    /// Adds.
    pub fn add(&self, more: u64) {
        self.0[shard()].0.fetch_add(more, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|line| line.0.load(Ordering::Relaxed)).sum()
    }
}

/// Most bounds of a histogram.
const MOST_BOUNDS: usize = 20;

/// How often which time was taken. Bounds are microseconds, ascending, at most 20.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: [AtomicU64; MOST_BOUNDS + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// With these upper bounds, microseconds.
    pub fn new(bounds: &'static [u64]) -> Self {
        let bounds = &bounds[..bounds.len().min(MOST_BOUNDS)];
        Self { bounds, counts: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }

    /// Counts one that took so many microseconds.
    pub fn took_us(&self, us: u64) {
        self.took_each_us(us, 1);
    }

    /// Counts several that took so long each.
    pub fn took_each_us(&self, us: u64, times: u64) {
        let at = self.bounds.partition_point(|bound| *bound < us);
        self.counts[at].fetch_add(times, Ordering::Relaxed);
        self.sum_us.fetch_add(us.saturating_mul(times), Ordering::Relaxed);
    }

    /// As it is now, in seconds.
    pub fn spread(&self) -> Spread {
        let counts = self.counts[..=self.bounds.len()].iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Spread {
            bounds: self.bounds.iter().map(|us| seconds(*us)).collect(),
            counts,
            sum: seconds(self.sum_us.load(Ordering::Relaxed)),
        }
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_add_is_all_there() {
        let (counter, histogram) = (Counter::default(), Histogram::new(&[1_000, 10_000]));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in 0..1_000 {
                        counter.add(2);
                        histogram.took_us(n * 20);
                    }
                });
            }
        });
        assert_eq!(counter.get(), 16_000);
        let spread = histogram.spread();
        assert_eq!(spread.counts, [8 * 51, 8 * 450, 8 * 499]);
        assert!((spread.sum - 8.0 * 20.0 * 499_500.0 / 1e6).abs() < 1e-6, "{}", spread.sum);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&[1_000]);
        histogram.took_us(1_000);
        histogram.took_us(1_001);
        assert_eq!(histogram.spread().counts, [1, 1]);
    }
}
