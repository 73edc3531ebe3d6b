//! A stretch of time in numbers, how it is kept, and what quantiles it has. Pure.

use std::collections::BTreeMap;

use relay::metrics::Totals;
use serde::{Deserialize, Serialize};

/// What happened in a stretch of time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bucket {
    /// Recipients that came in.
    #[serde(rename = "a", skip_serializing_if = "is_zero")]
    pub accepted: u64,
    /// Recipients that the next hop took.
    #[serde(rename = "d", skip_serializing_if = "is_zero")]
    pub delivered: u64,
    /// Attempts of recipients that are to be repeated.
    #[serde(rename = "r", skip_serializing_if = "is_zero")]
    pub deferred: u64,
    /// Recipients that failed for good, or whose time was over.
    #[serde(rename = "f", skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// Recipients that waited at its end.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// How many took how long, by the number of the bound; only those that are there.
    #[serde(rename = "t", skip_serializing_if = "BTreeMap::is_empty")]
    pub took: BTreeMap<u8, u64>,
    /// Attempts of recipients that did not deliver, by reason.
    #[serde(rename = "c", skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
}

/// Reasons kept of one bucket, those with the most attempts; the rest are in the sums.
const MOST_REASONS: usize = 40;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Bucket {
    /// Adds another one of the same time: of another node, or of a later part of it.
    pub fn merge(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.deferred += other.deferred;
        self.failed += other.failed;
        // Nodes see the same queue; and the latest look counts.
        self.waiting = other.waiting.or(self.waiting);
        for (bound, count) in &other.took {
            *self.took.entry(*bound).or_default() += count;
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }

    /// Within so many milliseconds were so many of those delivered; `None` where none was. Between two bounds it is taken as
    /// even; beyond the last one that bound counts.
    pub fn quantile_ms(&self, bounds: &[f64], share: f64) -> Option<u64> {
        let all: u64 = self.took.values().sum();
        if all == 0 {
            return None;
        }
        let wanted = all as f64 * share;
        let mut below = 0.0;
        for (at, count) in &self.took {
            let (at, count) = (usize::from(*at), *count as f64);
            if below + count >= wanted {
                let low = if at == 0 { 0.0 } else { bounds.get(at - 1).copied()? };
                let high = bounds.get(at).copied().unwrap_or(low);
                return Some(((low + (high - low) * ((wanted - below) / count)) * 1_000.0).round() as u64);
            }
            below += count;
        }
        bounds.last().map(|last| (last * 1_000.0) as u64)
    }
}

/// What was counted from one look to the next. Counters that went back are those of a new process: all of it is new.
pub fn difference(before: &Totals, now: &Totals) -> Bucket {
    let more = |before: u64, now: u64| if now >= before { now - before } else { now };
    let mut took = BTreeMap::new();
    if let Some(spread) = &now.delivery {
        let earlier = before.delivery.as_ref().map_or(&[][..], |spread| &spread.counts[..]);
        for (at, count) in spread.counts.iter().enumerate() {
            let added = more(earlier.get(at).copied().unwrap_or(0), *count);
            if let (true, Ok(at)) = (added > 0, u8::try_from(at)) {
                took.insert(at, added);
            }
        }
    }
    let mut reasons: Vec<(&String, u64)> = now
        .reasons
        .iter()
        .map(|(reason, count)| (reason, more(before.reasons.get(reason).copied().unwrap_or(0), *count)))
        .filter(|(_, count)| *count > 0)
        .collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    reasons.truncate(MOST_REASONS);
    Bucket {
        reasons: reasons.into_iter().map(|(reason, count)| (reason.clone(), count)).collect(),
        accepted: more(before.accepted, now.accepted),
        delivered: more(before.delivered, now.delivered),
        deferred: more(before.deferred, now.deferred),
        failed: more(before.failed, now.failed),
        waiting: None,
        took,
    }
}

/// The body of a record.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// Upper bounds of `took`, seconds.
    pub bounds: Vec<f64>,
    /// By number from the beginning of the record.
    pub buckets: BTreeMap<u32, Bucket>,
}

impl Kept {
    /// An empty one.
    pub fn new(totals: &Totals) -> Self {
        let bounds = totals.delivery.as_ref().map(|spread| spread.bounds.clone()).unwrap_or_default();
        Self { bounds, buckets: BTreeMap::new() }
    }

    /// Adds to a bucket.
    pub fn add(&mut self, slot: u32, bucket: &Bucket) {
        self.buckets.entry(slot).or_default().merge(bucket);
    }

    /// Numbers of other bounds mean other times: they are left out.
    pub fn fit(&mut self, bounds: &[f64]) {
        if self.bounds != bounds {
            self.buckets.values_mut().for_each(|bucket| bucket.took.clear());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay::metrics::Spread;

    fn totals(accepted: u64, delivered: u64, counts: &[u64]) -> Totals {
        let delivery = Some(Spread { bounds: vec![0.1, 1.0, 10.0], counts: counts.to_vec(), sum: 0.0 });
        Totals { accepted, delivered, delivery, ..Totals::default() }
    }

    #[test]
    fn a_bucket_has_what_was_added_since_the_last_look() {
        let bucket = difference(&totals(5, 3, &[1, 2, 0, 0]), &totals(9, 7, &[1, 4, 0, 2]));
        assert_eq!((bucket.accepted, bucket.delivered), (4, 4));
        assert_eq!(bucket.took, BTreeMap::from([(1, 2), (3, 2)]));
        let after_restart = difference(&totals(5, 3, &[1, 2, 0, 0]), &totals(2, 1, &[1, 0, 0, 0]));
        assert_eq!((after_restart.accepted, after_restart.delivered), (2, 1));
    }

    #[test]
    fn quantiles_lie_between_the_bounds() {
        let bounds = [0.1, 1.0, 10.0];
        let bucket = Bucket { took: BTreeMap::from([(0, 50), (1, 50)]), ..Bucket::default() };
        assert_eq!(bucket.quantile_ms(&bounds, 0.5), Some(100));
        assert_eq!(bucket.quantile_ms(&bounds, 1.0), Some(1_000));
        let late = Bucket { took: BTreeMap::from([(3, 1)]), ..Bucket::default() };
        assert_eq!(late.quantile_ms(&bounds, 0.95), Some(10_000), "beyond the last bound");
        assert_eq!(Bucket::default().quantile_ms(&bounds, 0.5), None);
    }

    #[test]
    fn what_is_kept_is_read_again_and_empty_fields_take_no_room() {
        let mut kept = Kept { bounds: vec![0.1], buckets: BTreeMap::new() };
        kept.add(7, &Bucket { accepted: 2, waiting: Some(0), ..Bucket::default() });
        kept.add(7, &Bucket { accepted: 1, took: BTreeMap::from([(1, 3)]), ..Bucket::default() });
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(text, r#"{"bounds":[0.1],"buckets":{"7":{"a":3,"w":0,"t":{"1":3}}}}"#);
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
        kept.fit(&[0.2]);
        assert!(kept.buckets[&7].took.is_empty() && kept.buckets[&7].accepted == 3);
    }
}
