//! Answers of which much has to be read are kept for a while: whoever asks again gets the last one at once, and a new one is
//! looked for behind it. Others are always found anew.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Shared;
use super::problem::Problem;

/// A kept answer is given without a new look for so many times as long as it took to find.
const FRESH: i64 = 20;
/// And while a new one is looked for until it is so old, milliseconds.
const OLDEST_MS: i64 = 5 * 60_000;
/// Most answers kept.
const MOST: usize = 64;

/// Whether an answer is worth keeping: whoever found it knows how much was read for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Much was read.
    Keeping,
    /// It is found as quickly again.
    Nothing,
}

#[derive(Debug)]
struct Answer<V> {
    at_ms: i64,
    took_us: u64,
    value: V,
}

/// The latest answer to one question.
#[derive(Debug)]
struct Place<V> {
    answer: Mutex<Option<Answer<V>>>,
    /// Held by who looks: one at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Answers by what was asked.
#[derive(Debug)]
pub struct Kept<K, V>(Mutex<HashMap<K, Arc<Place<V>>>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> Place<V> {
    /// A kept answer, and whether a new one should be looked for.
    fn kept(&self, now_ms: i64) -> Option<(V, bool)> {
        let answer = self.answer.lock();
        let answer = answer.as_ref().filter(|answer| (0..OLDEST_MS).contains(&(now_ms - answer.at_ms)))?;
        let fresh_ms = i64::try_from(answer.took_us / 1_000).unwrap_or(OLDEST_MS).saturating_mul(FRESH);
        Some((answer.value.clone(), now_ms - answer.at_ms >= fresh_ms))
    }

    async fn look<F: Future<Output = Result<(V, Worth), Problem>>>(&self, app: &Shared, find: F) -> Result<V, Problem> {
        let (at_ms, began_us) = (app.clock.now_ms(), app.clock.mono_us());
        let (value, worth) = find.await?;
        let took_us = app.clock.mono_us() - began_us;
        *self.answer.lock() = (worth == Worth::Keeping).then(|| Answer { at_ms, took_us, value: value.clone() });
        Ok(value)
    }
}

impl<K: Eq + Hash + Clone, V: Clone + Send + 'static> Kept<K, V> {
    /// What was kept does not hold any more: whoever asks next waits for a new answer.
    pub fn forget(&self) {
        self.0.lock().clear();
    }

    /// The answer: a kept one, or what `find` finds.
    pub async fn get<M, F>(&self, app: &Shared, key: K, find: M) -> Result<V, Problem>
    where
        M: FnOnce(Shared) -> F,
        F: Future<Output = Result<(V, Worth), Problem>> + Send + 'static,
    {
        let place = {
            let mut places = self.0.lock();
            if places.len() >= MOST && !places.contains_key(&key) {
                places.clear();
            }
            let new = || Arc::new(Place { answer: Mutex::new(None), turn: tokio::sync::Mutex::new(()) });
            places.entry(key).or_insert_with(new).clone()
        };
        if let Some((value, old)) = place.kept(app.clock.now_ms()) {
            if old {
                let (app, find) = (app.clone(), find(app.clone()));
                tokio::spawn(async move {
                    // Somebody else may be at it.
                    if let Ok(_turn) = place.turn.try_lock()
                        && let Err(problem) = place.look(&app, find).await
                    {
                        tracing::debug!(detail = problem.detail, "an answer that is kept could not be found anew");
                    }
                });
            }
            return Ok(value);
        }
        let _turn = place.turn.lock().await;
        match place.kept(app.clock.now_ms()) {
            Some((value, _)) => Ok(value),
            None => place.look(app, find(app.clone())).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_for_as_long_as_it_took_and_given_while_a_new_one_is_looked_for() {
        let answer = Answer { at_ms: 1_000, took_us: 100_000, value: "x" };
        let place = Place { answer: Mutex::new(Some(answer)), turn: tokio::sync::Mutex::new(()) };
        assert_eq!(place.kept(1_000), Some(("x", false)));
        assert_eq!(place.kept(2_999), Some(("x", false)));
        assert_eq!(place.kept(3_000), Some(("x", true)));
        assert_eq!(place.kept(1_000 + OLDEST_MS), None);
        assert_eq!(place.kept(0), None, "the clock was set back");
    }
}
