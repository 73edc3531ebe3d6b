//! Failures of Pillarbox itself: the store, the queue, the clock, certificates of listeners, parts that ended by a defect.
//!
//! [`Look`] is asked every few seconds what is wrong now. What it says is pure but for the questions it asks.

use std::sync::{Arc, Mutex, OnceLock};

use net::ServerTls;
use relay::Relay;
use store::{GroupBy, Store, StoreError};

use crate::alert::Severity;

/// Mail that has been due for so long, with nothing finished meanwhile, means that the queue stands still, milliseconds.
const STALLED_MS: i64 = 300_000;
/// A difference between wall clock and steady clock from one look to the next that is a leap, milliseconds.
const LEAP_MS: i64 = 60_000;
/// How long a leap is told of, milliseconds.
const LEAP_TOLD_MS: i64 = 600_000;
/// How long before its end a certificate is told of, seconds.
const NEAR_S: i64 = 7 * 86_400;
/// The reason of a part that ended by a defect: it is over with the process.
pub const WORKER_DIED: &str = "worker_died";
/// Defects kept.
const DEFECTS: usize = 20;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Part of the program: the scope's name.
    pub part: String,
    /// Reason.
    pub reason: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What, for people.
    pub detail: String,
}

/// Looks, and remembers what it takes to see a leap or a standstill.
#[derive(Debug, Default)]
pub struct Look {
    /// Wall clock and steady clock at the last look, milliseconds.
    clocks: Option<(i64, i64)>,
    leap: Option<(i64, String)>,
    /// When there was progress last, in steady milliseconds, and what was counted then.
    progress: Option<(i64, u64)>,
}

impl Look {
    /// Compares the clocks; gives whether there was a leap just now.
    pub fn clocks(&mut self, wall_ms: i64, steady_ms: i64) -> bool {
        let before = self.clocks.replace((wall_ms, steady_ms));
        let Some((wall, steady)) = before else { return false };
        let leap = (wall_ms - wall) - (steady_ms - steady);
        if leap.abs() < LEAP_MS {
            return false;
        }
        let (way, by) = if leap > 0 { ("forward", leap) } else { ("back", -leap) };
        self.leap = Some((steady_ms, format!("It went {way} by {} seconds.", by / 1_000)));
        true
    }

    /// A leap that is still worth telling.
    fn leapt(&self, steady_ms: i64) -> Option<Wrong> {
        let (at, detail) = self.leap.as_ref().filter(|(at, _)| steady_ms - at < LEAP_TOLD_MS)?;
        let _ = at;
        Some(Wrong {
            part: "clock".into(),
            reason: "clock_jumped",
            severity: Severity::Warning,
            detail: detail.clone(),
        })
    }

    /// Whether the queue stands still: the earliest due time of mail that nothing keeps back, and how many attempts were
    /// finished so far.
    fn stalled(&mut self, earliest_due_ms: Option<i64>, finished: u64, wall_ms: i64, steady_ms: i64) -> Option<Wrong> {
        let due_ms = earliest_due_ms.filter(|due_ms| wall_ms - due_ms >= STALLED_MS);
        let (at, before) = *self.progress.get_or_insert((steady_ms, finished));
        if due_ms.is_none() || finished != before {
            self.progress = Some((steady_ms, finished));
            return None;
        }
        let minutes = (wall_ms - due_ms?) / 60_000;
        (steady_ms - at >= STALLED_MS).then(|| Wrong {
            part: "queue".into(),
            reason: "queue_stalled",
            severity: Severity::Critical,
            detail: format!("Mail has been due for {minutes} minutes."),
        })
    }

    /// All that is wrong now.
    pub async fn look(
        &mut self,
        store: &dyn Store,
        relay: &Relay,
        certificates: &[(String, Arc<ServerTls>)],
        now_ms: i64,
        steady_ms: i64,
    ) -> Vec<Wrong> {
        let mut all: Vec<Wrong> = self.leapt(steady_ms).into_iter().collect();
        let unwell = store_state(store.ready());
        if unwell.is_none() {
            let due = due(store, relay).await;
            all.extend(self.stalled(due, relay.settled(), now_ms, steady_ms));
        }
        all.extend(unwell);
        all.extend(certificates.iter().filter_map(|(name, tls)| certificate(name, tls.not_after()?, now_ms / 1_000)));
        all.extend(defects());
        all
    }
}

/// The earliest due time of mail that nothing keeps back.
async fn due(store: &dyn Store, relay: &Relay) -> Option<i64> {
    let counts = store.counts(GroupBy::Route, 1_000).await.ok()?;
    let kept_back = relay.kept_back();
    let free = counts.iter().filter(|count| count.pending > 0 && !kept_back.contains(&count.group));
    free.filter_map(|count| count.next_due_ms).min()
}

fn store_state(ready: Result<(), StoreError>) -> Option<Wrong> {
    let wrong = |reason, detail| Some(Wrong { part: "store".into(), reason, severity: Severity::Critical, detail });
    match ready {
        Ok(()) | Err(StoreError::Overloaded | StoreError::Closed) => None,
        Err(StoreError::Full) => wrong("store_full", String::new()),
        Err(error) => wrong("store_unwell", format!("It says: {error}.")),
    }
}

fn certificate(listener: &str, not_after_s: i64, now_s: i64) -> Option<Wrong> {
    let left_s = not_after_s - now_s;
    let end = crate::http::time::show(not_after_s.saturating_mul(1_000));
    let part = format!("certificate of {listener}");
    if left_s <= 0 {
        let detail = format!("Listener {listener}: it ended at {end}.");
        return Some(Wrong { part, reason: "certificate_expired", severity: Severity::Critical, detail });
    }
    (left_s <= NEAR_S).then(|| Wrong {
        part,
        reason: "certificate_expires",
        severity: Severity::Warning,
        detail: format!("Listener {listener}: it ends at {end}."),
    })
}

static DEFECTS_SEEN: OnceLock<Mutex<Vec<String>>> = OnceLock::new();

/// From now on parts that end by a defect are remembered, with the place in the program. Once for each process.
pub fn remember_defects() {
    if DEFECTS_SEEN.set(Mutex::default()).is_err() {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place =
            info.location().map_or_else(|| "an unknown place".into(), |at| format!("{}:{}", at.file(), at.line()));
        let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
        if let Some(Ok(mut seen)) = DEFECTS_SEEN.get().map(Mutex::lock)
            && seen.len() < DEFECTS
        {
            seen.push(format!("At {place}, thread {thread}."));
        }
        before(info);
    }));
}

/// What ended by a defect since the last look.
fn defects() -> Option<Wrong> {
    let seen = std::mem::take(&mut *DEFECTS_SEEN.get()?.lock().ok()?);
    (!seen.is_empty()).then(|| Wrong {
        part: "program".into(),
        reason: WORKER_DIED,
        severity: Severity::Critical,
        detail: seen.join(" "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_leaps_is_told_of_for_a_while() {
        let mut look = Look::default();
        assert!(!look.clocks(1_000_000, 0));
        assert!(!look.clocks(1_005_000, 5_000));
        assert!(!look.clocks(1_010_500, 10_000), "half a second is no leap");
        assert!(look.clocks(1_010_500 + 3_605_000, 15_000));
        assert!(look.leapt(15_000).unwrap().detail.contains("forward by 3600"));
        assert!(!look.clocks(1_010_500 + 3_610_000, 20_000));
        assert!(look.leapt(15_000 + LEAP_TOLD_MS).is_none());
        assert!(look.clocks(1_000_000, 25_000));
        assert!(look.leapt(25_000).unwrap().detail.contains("back"));
    }

    #[test]
    fn the_queue_stands_still_when_mail_is_due_for_minutes_and_nothing_is_finished() {
        let mut look = Look::default();
        let due = Some(0);
        assert!(look.stalled(due, 7, STALLED_MS, 0).is_none(), "a first look says nothing");
        assert!(look.stalled(due, 7, STALLED_MS + 1, STALLED_MS - 1).is_none());
        let told = look.stalled(due, 7, 2 * STALLED_MS, STALLED_MS).unwrap();
        assert!(told.detail.contains("10 minutes"), "{told:?}");
        assert!(look.stalled(due, 8, 2 * STALLED_MS, STALLED_MS + 1).is_none(), "something was finished");
        assert!(look.stalled(None, 8, 9 * STALLED_MS, 9 * STALLED_MS).is_none(), "nothing is due");
    }

    #[test]
    fn the_store_and_certificates_say_what_is_wrong() {
        assert_eq!(store_state(Err(StoreError::Full)).unwrap().reason, "store_full");
        assert_eq!(store_state(Err(StoreError::Unhealthy("x".into()))).unwrap().reason, "store_unwell");
        assert!(store_state(Ok(())).is_none() && store_state(Err(StoreError::Overloaded)).is_none());
        let now = 1_800_000_000;
        assert!(certificate("in", now + NEAR_S + 1, now).is_none());
        assert_eq!(certificate("in", now + NEAR_S, now).unwrap().reason, "certificate_expires");
        assert_eq!(certificate("in", now, now).unwrap().reason, "certificate_expired");
    }
}
