//! Patterns in failures: their share by cause, what comes back at the same hour or on the same day, what is new and what changed
//! before it. From the events there are; [`find`] is pure, [`gather`] reads a bounded part of the log.

mod read;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use read::gather;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Days on which it has to be there at an hour, and the share of all its failures then, for it to come back at that hour.
const HOURLY: (usize, f64) = (3, 0.6);
/// The same for weeks and a day of the week.
const WEEKLY: (usize, f64) = (3, 0.8);
/// Failures that are too few for a pattern.
const FEW: usize = 6;
/// What was not there for so long before is new.
const NEW_MS: i64 = 2 * DAY_MS;
/// Causes that are given, and routes and providers of each.
const MOST: usize = 50;
const MOST_OF: usize = 5;

/// A failed attempt of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Id of the rule that explains it.
    pub rule: String,
    /// Reason.
    pub reason: String,
    /// Whose turn it is.
    pub owner: String,
    /// Where in the conversation.
    pub stage: String,
    /// One line.
    pub title: String,
    /// Route.
    pub route: Option<String>,
    /// Provider that spoke.
    pub provider: Option<String>,
    /// It was the end for the recipient.
    pub last: bool,
}

/// How often something was behind a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareOut {
    /// What.
    pub name: String,
    /// Failures.
    pub times: usize,
    /// Of all, percent.
    pub percent: f64,
}

/// When something comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recurs {
    /// Day after day in this hour, UTC.
    Hour(u8),
    /// Week after week on this day; 0 is Monday, UTC.
    Weekday(u8),
}

impl Recurs {
    /// In words.
    pub fn words(self) -> String {
        const DAYS: [&str; 7] = ["Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"];
        match self {
            Self::Hour(hour) => format!("comes back between {hour:02}:00 and {:02}:00 UTC", (hour + 1) % 24),
            Self::Weekday(day) => format!("comes back on {}", DAYS[usize::from(day) % 7]),
        }
    }
}

/// One cause.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// Id of the rule.
    pub rule: String,
    /// Reason.
    pub reason: String,
    /// Whose turn it is.
    pub owner: String,
    /// One line.
    pub title: String,
    /// Failures.
    pub times: usize,
    /// Of all failures, percent.
    pub percent: f64,
    /// Of these, the end for the recipient.
    pub last: usize,
    /// First and last, Unix milliseconds.
    pub between: (i64, i64),
    /// Failures of each day of the time, oldest first.
    pub days: Vec<u32>,
    /// When it comes back.
    pub recurs: Option<Recurs>,
    /// It was not there in the first two days: when it began, Unix milliseconds.
    pub began_ms: Option<i64>,
    /// Routes, most failures first.
    pub routes: Vec<ShareOut>,
    /// Providers, most failures first.
    pub providers: Vec<ShareOut>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Patterns {
    /// Failures that were looked at.
    pub times: usize,
    /// Causes, most failures first.
    pub causes: Vec<Cause>,
    /// By whose turn it is.
    pub owners: Vec<ShareOut>,
    /// By where in the conversation.
    pub stages: Vec<ShareOut>,
}

/// Finds the patterns of the failures between two times.
pub fn find(facts: &[Fact], from_ms: i64, until_ms: i64) -> Patterns {
    let mut by_rule: BTreeMap<&str, Vec<&Fact>> = BTreeMap::new();
    for fact in facts {
        by_rule.entry(&fact.rule).or_default().push(fact);
    }
    let mut causes: Vec<Cause> =
        by_rule.into_values().filter_map(|group| cause(&group, facts.len(), from_ms, until_ms)).collect();
    causes.sort_by(|a, b| b.times.cmp(&a.times).then_with(|| a.rule.cmp(&b.rule)));
    causes.truncate(MOST);
    Patterns {
        times: facts.len(),
        causes,
        owners: shares(facts.iter().map(|fact| fact.owner.as_str())),
        stages: shares(facts.iter().map(|fact| fact.stage.as_str())),
    }
}

fn cause(group: &[&Fact], all: usize, from_ms: i64, until_ms: i64) -> Option<Cause> {
    let first = group.iter().map(|fact| fact.at_ms).min()?;
    let end = group.iter().map(|fact| fact.at_ms).max()?;
    let newest = group.iter().max_by_key(|fact| fact.at_ms)?;
    let mut days = vec![0_u32; usize::try_from((until_ms - from_ms).max(1) / DAY_MS + 1).unwrap_or(1).min(400)];
    for fact in group {
        let day = usize::try_from((fact.at_ms - from_ms).max(0) / DAY_MS).unwrap_or(0);
        if let Some(count) = days.get_mut(day) {
            *count += 1;
        }
    }
    let mut routes = shares(group.iter().filter_map(|fact| fact.route.as_deref()));
    let mut providers = shares(group.iter().filter_map(|fact| fact.provider.as_deref()));
    routes.truncate(MOST_OF);
    providers.truncate(MOST_OF);
    Some(Cause {
        rule: newest.rule.clone(),
        reason: newest.reason.clone(),
        owner: newest.owner.clone(),
        title: newest.title.clone(),
        times: group.len(),
        percent: percent(group.len(), all),
        last: group.iter().filter(|fact| fact.last).count(),
        between: (first, end),
        days,
        recurs: recurs(group),
        began_ms: (group.len() >= FEW && first - from_ms >= NEW_MS).then_some(first),
        routes,
        providers,
    })
}

fn percent(part: usize, all: usize) -> f64 {
    let share = part as f64 * 100.0 / all.max(1) as f64;
    (share * 10.0).round() / 10.0
}

fn shares<'a>(names: impl Iterator<Item = &'a str>) -> Vec<ShareOut> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = 0;
    for name in names {
        *counts.entry(name).or_default() += 1;
        all += 1;
    }
    let share = |(name, times): (&str, usize)| ShareOut { name: name.to_owned(), times, percent: percent(times, all) };
    let mut list: Vec<ShareOut> = counts.into_iter().map(share).collect();
    list.sort_by(|a, b| b.times.cmp(&a.times).then_with(|| a.name.cmp(&b.name)));
    list
}

/// Whether failures come at one hour of the day on several days, or on one day of the week in several weeks, and hardly ever
/// otherwise. What fails all the time has neither.
fn recurs(group: &[&Fact]) -> Option<Recurs> {
    if group.len() < FEW {
        return None;
    }
    // The epoch was a Thursday.
    let weekday = |at_ms: i64| (at_ms.div_euclid(DAY_MS) + 3).rem_euclid(7) as u8;
    let week = |at_ms: i64| (at_ms.div_euclid(DAY_MS) + 3).div_euclid(7);
    let hour = |at_ms: i64| (at_ms.rem_euclid(DAY_MS) / HOUR_MS) as u8;
    let often = |slots: u8, of: &dyn Fn(i64) -> u8, period: &dyn Fn(i64) -> i64, (least, share): (usize, f64)| {
        (0..slots).find(|slot| {
            let inside: Vec<i64> = group.iter().map(|fact| fact.at_ms).filter(|at| of(*at) == *slot).collect();
            let periods: BTreeSet<i64> = inside.iter().map(|at| period(*at)).collect();
            periods.len() >= least && inside.len() as f64 >= share * group.len() as f64
        })
    };
    let hourly = often(24, &hour, &|at| at.div_euclid(DAY_MS), HOURLY).map(Recurs::Hour);
    hourly.or_else(|| often(7, &weekday, &week, WEEKLY).map(Recurs::Weekday))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 5 January 2026, 00:00 UTC.
    const MONDAY: i64 = 1_767_571_200_000;

    fn fact(at_ms: i64, rule: &str) -> Fact {
        Fact {
            at_ms,
            rule: rule.into(),
            reason: "rate_limited".into(),
            owner: "you".into(),
            stage: "message".into(),
            title: "Too fast".into(),
            route: Some("out".into()),
            provider: None,
            last: false,
        }
    }

    #[test]
    fn shares_are_of_all_failures_and_the_most_frequent_comes_first() {
        let mut facts: Vec<Fact> = (0..30).map(|n| fact(MONDAY + n * HOUR_MS, "a")).collect();
        facts.extend((0..10).map(|n| Fact { owner: "nobody".into(), last: true, ..fact(MONDAY + n * HOUR_MS, "b") }));
        let found = find(&facts, MONDAY, MONDAY + 7 * DAY_MS);
        assert_eq!((found.times, found.causes[0].rule.as_str(), found.causes[0].percent), (40, "a", 75.0));
        assert_eq!((found.causes[1].last, found.causes[1].days[0]), (10, 10));
        assert_eq!(found.owners[1], ShareOut { name: "nobody".into(), times: 10, percent: 25.0 });
        assert_eq!(found.causes[0].recurs, None, "it fails all the time");
    }

    #[test]
    fn what_comes_back_every_night_or_every_tuesday_is_seen() {
        let nightly: Vec<Fact> = (0..5)
            .flat_map(|day| (0..4).map(move |n| fact(MONDAY + day * DAY_MS + 2 * HOUR_MS + n * 600_000, "n")))
            .collect();
        assert_eq!(find(&nightly, MONDAY, MONDAY + 7 * DAY_MS).causes[0].recurs, Some(Recurs::Hour(2)));
        let tuesdays: Vec<Fact> = (0..4)
            .flat_map(|week| (0..9).map(move |n| fact(MONDAY + (7 * week + 1) * DAY_MS + n * 2 * HOUR_MS, "t")))
            .collect();
        let found = find(&tuesdays, MONDAY, MONDAY + 28 * DAY_MS);
        assert_eq!(found.causes[0].recurs.map(Recurs::words).as_deref(), Some("comes back on Tuesdays"));
        let once: Vec<Fact> = (0..50).map(|n| fact(MONDAY + n * 60_000, "o")).collect();
        assert_eq!(find(&once, MONDAY, MONDAY + 7 * DAY_MS).causes[0].recurs, None, "one bad hour is no pattern");
    }

    #[test]
    fn what_was_not_there_before_is_new() {
        let facts: Vec<Fact> = (0..10).map(|n| fact(MONDAY + 5 * DAY_MS + n, "a")).collect();
        assert_eq!(find(&facts, MONDAY, MONDAY + 7 * DAY_MS).causes[0].began_ms, Some(MONDAY + 5 * DAY_MS));
        assert_eq!(find(&facts, MONDAY + 4 * DAY_MS, MONDAY + 7 * DAY_MS).causes[0].began_ms, None);
        assert!(find(&[], MONDAY, MONDAY).causes.is_empty());
    }
}
