//! Answers by question, each asked for once however many want it. Bounded: what was not wanted lately is forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::lookup::{Answer, Kind};

/// Most answers of one generation; there are two.
const MAX: usize = 10_000;
/// One audit asks the same again within this time and must not see two truths, nor wait twice for silence.
const SHORTEST: Duration = Duration::from_secs(5);
/// People who repair a record look again soon.
const LONGEST: Duration = Duration::from_secs(300);

type Key = (String, Kind);

/// A place for one answer and the time it ends at (microseconds of the clock): empty while it is on its way.
#[derive(Debug, Default)]
pub(super) struct Slot(OnceCell<(Answer, u64)>);

#[derive(Debug, Default)]
struct Generations {
    new: HashMap<Key, Arc<Slot>>,
    old: HashMap<Key, Arc<Slot>>,
}

/// What is known and what is being asked.
#[derive(Debug)]
pub(super) struct Cache {
    clock: Clock,
    generations: Mutex<Generations>,
}

impl Cache {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, generations: Mutex::default() }
    }

    /// The answer at `key`, from before, from one that is being asked, or by asking.
    pub(super) async fn get<F>(&self, key: Key, ask: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Answer>,
    {
        let slot = self.slot(key);
        let (answer, _) = slot
            .0
            .get_or_init(|| async {
                let answer = ask().await;
                let seconds = Duration::from_secs(answer.ttl.unwrap_or(0).into());
                let kept = u64::try_from(seconds.clamp(SHORTEST, LONGEST).as_micros()).unwrap_or(0);
                (answer, self.clock.mono_us() + kept)
            })
            .await;
        answer.clone()
    }

    fn slot(&self, key: Key) -> Arc<Slot> {
        let now = self.clock.mono_us();
        let fresh = |slot: &Arc<Slot>| slot.0.get().is_none_or(|(_, until)| *until > now);
        let mut guard = self.generations.lock();
        if let Some(slot) = guard.new.get(&key).filter(|slot| fresh(slot)) {
            return Arc::clone(slot);
        }
        let slot = guard.old.remove(&key).filter(fresh).unwrap_or_default();
        if guard.new.len() >= MAX {
            guard.old = std::mem::take(&mut guard.new);
        }
        guard.new.insert(key, Arc::clone(&slot));
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::lookup::{Outcome, Proof};

    fn answer(ttl: u32) -> Answer {
        Answer {
            outcome: Outcome::NoData,
            records: Vec::new(),
            ttl: Some(ttl),
            dnssec: Proof::Unknown,
            aliases: Vec::new(),
        }
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_one_question_and_old_answers_are_asked_anew() {
        let clock = Clock::manual(0);
        let (cache, asked) = (Cache::new(clock.clone()), AtomicU32::new(0));
        let get = || {
            cache.get(("a.example".into(), Kind::A), || async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                answer(60)
            })
        };
        tokio::join!(get(), get(), get());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        clock.advance(Duration::from_secs(59));
        get().await;
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        clock.advance(Duration::from_secs(2));
        get().await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn the_cache_stays_small_and_keeps_what_is_wanted_again() {
        let (cache, asked) = (Cache::new(Clock::manual(0)), AtomicU32::new(0));
        for n in 0..3 * MAX {
            cache.get((format!("d{n}.example"), Kind::A), || async { answer(60) }).await;
            if n % 5_000 == 0 {
                let shared = || async {
                    asked.fetch_add(1, Ordering::Relaxed);
                    answer(60)
                };
                cache.get(("shared.example".into(), Kind::Txt), shared).await;
            }
        }
        let guard = cache.generations.lock();
        assert!(guard.new.len() + guard.old.len() <= 2 * MAX);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
