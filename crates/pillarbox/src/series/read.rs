//! The series as somebody looks at it: even steps over an hour, a day, a week or a month, and where the queue is going.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use store::StoreError;

use super::bucket::Bucket;
use super::{Fineness, HOUR_MS, HOURS, MINUTE_MS, MINUTES, buckets};
use crate::http::App;

/// Fewer recipients than this that are more than before are no backlog.
const FEW: u64 = 100;
/// Growing for so long is a sign of something that lasts, milliseconds.
const LASTS_MS: i64 = 30 * MINUTE_MS;

/// How far one looks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// 60 minutes.
    Hour,
    /// 24 hours in steps of 15 minutes.
    #[default]
    Day,
    /// 7 days in steps of an hour.
    Week,
    /// 30 days in steps of 6 hours.
    Month,
}

impl Over {
    /// Steps, and the length of one, milliseconds.
    fn steps(self) -> (i64, i64) {
        match self {
            Self::Hour => (60, MINUTE_MS),
            Self::Day => (96, 15 * MINUTE_MS),
            Self::Week => (168, HOUR_MS),
            Self::Month => (120, 6 * HOUR_MS),
        }
    }

    fn fineness(self) -> Fineness {
        match self {
            Self::Hour | Self::Day => MINUTES,
            Self::Week | Self::Month => HOURS,
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its beginning, Unix milliseconds.
    pub at_ms: i64,
    /// What happened in it; `None`: no server ran, or nothing is known of it.
    pub bucket: Option<Bucket>,
}

/// Where the queue is going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// Recipients that wait now, and an hour ago.
    pub waiting: (u64, u64),
    /// What came in and what left it in the hour.
    pub flow: (u64, u64),
    /// It has grown for so long, milliseconds, if that is long enough to mean something.
    pub grows_ms: Option<i64>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Length of a step, milliseconds.
    pub step_ms: i64,
    /// Steps, oldest first.
    pub points: Vec<Point>,
    /// All together.
    pub total: Bucket,
    /// Bounds of how long delivery took, seconds.
    pub bounds: Vec<f64>,
    /// Of the queue in the last hour; `None` until there were two looks at it.
    pub trend: Option<Trend>,
}

/// Looks back from now.
pub async fn look(app: &App, over: Over, now_ms: i64) -> Result<Seen, StoreError> {
    let (steps, step_ms) = over.steps();
    let first_ms = (now_ms.div_euclid(step_ms) + 1 - steps) * step_ms;
    let (bounds, found) = buckets(app, over.fineness(), first_ms, now_ms).await?;
    let recent = match over.fineness() == MINUTES {
        true => found.range(now_ms - 3 * HOUR_MS..).map(|(at, one)| (*at, one.clone())).collect(),
        false => buckets(app, MINUTES, now_ms - 3 * HOUR_MS, now_ms).await?.1,
    };
    let (points, total) = folded(&found, first_ms, steps, step_ms);
    Ok(Seen { step_ms, points, total, bounds, trend: trend(&recent, now_ms) })
}

/// Buckets put together into even steps, and all of them in one.
fn folded(found: &BTreeMap<i64, Bucket>, first_ms: i64, steps: i64, step_ms: i64) -> (Vec<Point>, Bucket) {
    let mut total = Bucket::default();
    let mut points = Vec::with_capacity(steps as usize);
    for at_ms in (0..steps).map(|step| first_ms + step * step_ms) {
        let mut bucket: Option<Bucket> = None;
        for (_, one) in found.range(at_ms..at_ms + step_ms) {
            bucket.get_or_insert_default().merge(one);
        }
        if let Some(bucket) = &bucket {
            total.merge(bucket);
        }
        points.push(Point { at_ms, bucket });
    }
    (points, total)
}

/// From minutes, oldest first.
fn trend(minutes: &BTreeMap<i64, Bucket>, now_ms: i64) -> Option<Trend> {
    let looks: Vec<(i64, u64)> = minutes.iter().filter_map(|(at_ms, bucket)| Some((*at_ms, bucket.waiting?))).collect();
    let (_, now) = looks.last().copied()?;
    let hour: Vec<(i64, u64)> = looks.iter().copied().filter(|(at_ms, _)| *at_ms > now_ms - HOUR_MS).collect();
    let (_, before) = hour.first().copied().filter(|_| hour.len() > 1)?;
    let mut flow = (0, 0);
    for (_, bucket) in minutes.range(now_ms - HOUR_MS..) {
        flow.0 += bucket.accepted;
        flow.1 += bucket.delivered + bucket.failed;
    }
    Some(Trend { waiting: (now, before), flow, grows_ms: grows(&looks) })
}

/// For how long the queue has been growing up to now: back to where it was smallest, if it never fell far below its height
/// since. `None`: too short or too little to mean something.
fn grows(looks: &[(i64, u64)]) -> Option<i64> {
    let (now_at, now) = *looks.last()?;
    let mut began = (now_at, now);
    // Looking back, the queue has to become smaller and smaller, give or take a tenth.
    for &(at, waiting) in looks.iter().rev() {
        if waiting < began.1 {
            began = (at, waiting);
        } else if waiting > began.1 + began.1 / 10 + FEW / 10 {
            break;
        }
    }
    let lasts = now_at - began.0 >= LASTS_MS;
    (lasts && now >= began.1 + FEW && now >= began.1 + began.1 / 2).then_some(now_at - began.0)
}

impl Trend {
    /// In words.
    pub fn words(&self) -> String {
        let (now, before) = self.waiting;
        let count = crate::http::forecast::thousands;
        let flow = format!("{} came in and {} left it in the last hour", count(self.flow.0), count(self.flow.1));
        let change = match now.cmp(&before) {
            std::cmp::Ordering::Greater => format!("The queue grew from {} to {}", count(before), count(now)),
            std::cmp::Ordering::Less => format!("The queue shrank from {} to {}", count(before), count(now)),
            std::cmp::Ordering::Equal if now == 0 => return "The queue is empty.".into(),
            std::cmp::Ordering::Equal => format!("{} wait, as many as an hour ago", count(now)),
        };
        match self.grows_ms {
            Some(ms) => format!(
                "{change}: {flow}. It has been growing for {} minutes, which is a sign of a lasting problem.",
                ms / MINUTE_MS
            ),
            None => format!("{change}: {flow}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(list: &[u64]) -> Vec<(i64, u64)> {
        list.iter().enumerate().map(|(at, waiting)| (at as i64 * MINUTE_MS, *waiting)).collect()
    }

    #[test]
    fn minutes_become_even_steps_and_gaps_stay_gaps() {
        let bucket = |accepted| Bucket { accepted, waiting: Some(accepted), ..Bucket::default() };
        let found = BTreeMap::from([(0, bucket(1)), (MINUTE_MS, bucket(2)), (4 * MINUTE_MS, bucket(4))]);
        let (points, total) = folded(&found, 0, 3, 2 * MINUTE_MS);
        let seen: Vec<_> = points.iter().map(|one| one.bucket.as_ref().map(|b| (b.accepted, b.waiting))).collect();
        assert_eq!(seen, [Some((3, Some(2))), None, Some((4, Some(4)))]);
        assert_eq!(total.accepted, 7);
    }

    #[test]
    fn a_queue_that_grows_for_half_an_hour_is_told_and_one_that_drains_is_not() {
        let growing: Vec<u64> = (0..60).map(|n| if n < 20 { 10 } else { 10 + (n - 19) * 25 }).collect();
        let grows = grows_of(&growing).unwrap();
        assert!((39..=41).contains(&(grows / MINUTE_MS)), "{grows}");
        let bumpy: Vec<u64> = (0..60).map(|n| n * 30 + (n % 3)).collect();
        assert!(grows_of(&bumpy).is_some(), "a little less now and then is still growing");
        let draining: Vec<u64> = (0..60).map(|n| 5_000 - n * 50).collect();
        assert_eq!(grows_of(&draining), None);
        assert_eq!(grows_of(&[0, 5_000]), None, "one burst is no trend");
        assert_eq!(grows_of(&[50; 60]), None);
    }

    fn grows_of(list: &[u64]) -> Option<i64> {
        super::grows(&waits(list))
    }

    #[test]
    fn the_trend_is_told_in_words() {
        let trend = Trend { waiting: (900, 120), flow: (1_000, 220), grows_ms: Some(40 * MINUTE_MS) };
        assert!(trend.words().contains("grew from 120 to 900"), "{}", trend.words());
        assert!(trend.words().contains("40 minutes"));
        let empty = Trend { waiting: (0, 0), flow: (5, 5), grows_ms: None };
        assert_eq!(empty.words(), "The queue is empty.");
    }
}
