//! Sums over all routes and streams, for whoever keeps them over time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::family::numbers;
use super::figure::Spread;
use super::record::Metrics;

/// What was counted since the start of the process, all streams together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Totals {
    /// Recipients of messages made durable.
    pub accepted: u64,
    /// Recipients that the next hop took.
    pub delivered: u64,
    /// Attempts of recipients that are to be repeated.
    pub deferred: u64,
    /// Recipients that failed for good, or whose time was over.
    pub failed: u64,
    /// From accept to the next hop's 250, seconds.
    pub delivery: Option<Spread>,
    /// Attempts of recipients that did not deliver, by reason: a bounded set of words of the program.
    pub reasons: BTreeMap<String, u64>,
}

impl Metrics {
    /// The sums now. Costs a walk through a few hundred cells.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            accepted: self.recipients.each().map(|(_, cell)| cell.load(Ordering::Relaxed)).sum(),
            ..Totals::default()
        };
        for (key, cell) in self.of_stream.each() {
            // What found no room among thousands of combinations is left out: its outcome is not known.
            let Some(key) = key else { continue };
            let [_, what] = numbers::<2>(key);
            let sum = match self.words.name(what) {
                "delivered" => &mut totals.delivered,
                "deferred" => &mut totals.deferred,
                "failed" | "expired" => &mut totals.failed,
                _ => continue,
            };
            *sum += cell.load(Ordering::Relaxed);
        }
        for (key, cell) in self.settled.each() {
            let Some(key) = key else { continue };
            let [_, _, what, why] = numbers::<4>(key);
            if matches!(self.words.name(what), "deferred" | "failed" | "expired") {
                let reason = Some(self.words.name(why)).filter(|reason| !reason.is_empty()).unwrap_or("expired");
                *totals.reasons.entry(reason.to_owned()).or_default() += cell.load(Ordering::Relaxed);
            }
        }
        for (_, cell) in self.delivery.each() {
            let spread = cell.spread();
            match &mut totals.delivery {
                Some(all) => {
                    all.counts.iter_mut().zip(&spread.counts).for_each(|(all, more)| *all += more);
                    all.sum += spread.sum;
                }
                none => *none = Some(spread),
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_over_all_routes_and_streams() {
        let metrics = Metrics::default();
        assert_eq!(metrics.totals(), Totals::default());
        metrics.took_in("a", "news", 3);
        metrics.took_in("b", "alerts", 2);
        let totals = metrics.totals();
        assert_eq!((totals.accepted, totals.delivered), (5, 0));
    }
}
