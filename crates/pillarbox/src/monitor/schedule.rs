//! When something runs: every so often, or by five fields of cron in a time zone, each with a jitter.
//!
//! Pure: the time is an argument. The jitter of a job is always the same, made from its name, so that the next run can
//! be told beforehand, a restart does not move it, and many jobs of one schedule do not start together.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::values::{duration, show_duration};

/// Shortest time between two runs.
const SHORTEST: Duration = Duration::from_secs(60);
/// Longest time between two runs that are counted in seconds.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// Longest jitter.
pub const LONGEST_JITTER: Duration = Duration::from_secs(6 * 3_600);

/// When something runs.
#[derive(Debug, Clone)]
pub struct Schedule {
    when: When,
    jitter: Duration,
}

#[derive(Debug, Clone)]
enum When {
    Every(Duration),
    Cron(Box<Cron>, TimeZone),
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither form.
    #[error("`{0}` is no schedule: five fields of cron such as `0 8 * * 1`, or `every 6h` ({1})")]
    Text(String, String),
    /// Too often.
    #[error("the shortest time between two runs is one minute")]
    TooOften,
    /// Never.
    #[error("`{0}` never comes")]
    Never(String),
    /// No such zone.
    #[error("there is no time zone `{0}`; names are those of the IANA database, such as `Europe/Berlin`")]
    Zone(String),
    /// Too long.
    #[error("the jitter is at most 6 hours")]
    Jitter,
}

impl Schedule {
    /// Every so often, at least a minute, with a jitter of a tenth.
    pub fn every(every: Duration) -> Self {
        let every = every.max(SHORTEST);
        Self { when: When::Every(every), jitter: (every / 10).min(LONGEST_JITTER) }
    }

    /// Five fields of cron, `@daily` and the like, or `every 6h`, in a time zone (the system's by default).
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if let Some(length) = text.strip_prefix("every ") {
            let wrong = || ScheduleError::Text(shown(text), "a time such as 15m, 6h, 1d is missing".into());
            let every = duration(length.trim()).ok_or_else(wrong)?;
            return match every {
                _ if every < SHORTEST => Err(ScheduleError::TooOften),
                _ if every > LONGEST => Err(ScheduleError::Never(shown(text))),
                _ => Ok(Self::every(every)),
            };
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| ScheduleError::Text(shown(text), error.to_string()))?;
        let zone = match zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::Zone(shown(name)))?,
        };
        let schedule = Self { when: When::Cron(Box::new(cron), zone), jitter: Duration::ZERO };
        match schedule.next_after(0, 0) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never(shown(text))),
        }
    }

    /// With another jitter: each run is later by a part of it.
    ///
    /// # Errors
    /// It is longer than 6 hours.
    pub fn jitter(mut self, jitter: Duration) -> Result<Self, ScheduleError> {
        if jitter > LONGEST_JITTER {
            return Err(ScheduleError::Jitter);
        }
        self.jitter = jitter;
        Ok(self)
    }

    /// First time behind a moment, Unix milliseconds, for a job with this seed. `None` if it never comes.
    pub fn next_after(&self, after_ms: i64, seed: u64) -> Option<i64> {
        let jitter_ms = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        let late_ms = if jitter_ms == 0 { 0 } else { i64::try_from(seed % jitter_ms).unwrap_or(0) };
        let from_ms = after_ms.saturating_sub(late_ms);
        let next_ms = match &self.when {
            When::Every(every) => {
                let every_ms = i64::try_from(every.as_millis()).ok()?.max(1);
                from_ms.div_euclid(every_ms).checked_add(1)?.checked_mul(every_ms)?
            }
            When::Cron(cron, zone) => {
                let from = Timestamp::from_millisecond(from_ms).ok()?.to_zoned(zone.clone());
                cron.find_next_occurrence(&from, false).ok()?.timestamp().as_millisecond()
            }
        };
        next_ms.checked_add(late_ms)
    }

    /// For people.
    pub fn words(&self) -> String {
        match &self.when {
            When::Every(every) => format!("every {}", show_duration(*every)),
            When::Cron(cron, zone) => match zone.iana_name() {
                Some(name) => format!("{} ({name})", cron.as_str()),
                None => cron.as_str().to_owned(),
            },
        }
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words() && self.jitter == other.jitter
    }
}

/// What decides of a job's jitter: its name.
pub fn seed(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn shown(text: &str) -> String {
    text.escape_debug().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn show(ms: Option<i64>) -> String {
        Timestamp::from_millisecond(ms.unwrap()).unwrap().to_string()
    }

    #[test]
    fn cron_fields_are_read_in_their_time_zone_also_where_clocks_change() {
        for (text, zone, after, next) in [
            ("0 8 * * 1", "UTC", "2026-11-21T00:00:00Z", "2026-11-23T08:00:00Z"),
            ("0 8 * * 1", "Europe/Berlin", "2026-11-21T00:00:00Z", "2026-11-23T07:00:00Z"),
            ("*/15 * * * *", "UTC", "2026-11-21T00:15:00Z", "2026-11-21T00:30:00Z"),
            ("@daily", "America/New_York", "2026-11-21T12:00:00Z", "2026-11-22T05:00:00Z"),
            // 02:30 does not exist on 2026-03-29: it runs once, at the first moment after the gap.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
            // 02:30 exists twice on 2026-10-25: it runs at the first of them, and then the next day.
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            let schedule = Schedule::parse(text, Some(zone)).unwrap();
            assert_eq!(show(schedule.next_after(ms(after), 7)), next, "{text} {zone} {after}");
        }
    }

    #[test]
    fn the_jitter_of_a_job_is_always_the_same_and_skips_no_run() {
        let schedule = Schedule::parse("0 * * * *", Some("UTC")).unwrap().jitter(Duration::from_secs(600)).unwrap();
        let (mut at, mut runs) = (ms("2026-11-21T00:00:00Z"), 0);
        let late = (seed("certificate:out") % 600_000) as i64;
        while at < ms("2026-11-22T00:00:00Z") {
            at = schedule.next_after(at, seed("certificate:out")).unwrap();
            runs += 1;
            assert_eq!((at - late) % 3_600_000, 0);
        }
        assert_eq!(runs, 25 - i32::from(late == 0));
        let every = Schedule::every(Duration::from_secs(3_600));
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let first: std::collections::BTreeSet<_> =
            names.iter().map(|name| every.next_after(0, seed(name)).unwrap()).collect();
        assert!(first.len() > 6, "jobs of one schedule start apart: {first:?}");
        assert!(first.iter().all(|at| *at <= 3_600_000));
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        for (text, zone, part) in [
            ("", None, "no schedule"),
            ("soon", None, "no schedule"),
            ("0 8 * *", None, "no schedule"),
            ("0 0 8 * * 1", None, "no schedule"),
            ("61 * * * *", None, "no schedule"),
            ("every", None, "no schedule"),
            ("every now", None, "no schedule"),
            ("every 10s", None, "one minute"),
            ("0 0 31 2 *", None, "never"),
            ("0 8 * * 1", Some("Europe/Nowhere"), "no time zone `Europe/Nowhere`"),
        ] {
            let error = Schedule::parse(text, zone).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(Schedule::parse("every 90m", None).unwrap().words(), "every 1h30m");
        assert_eq!(Schedule::parse("0 8 * * 1", Some("Europe/Berlin")).unwrap().words(), "0 8 * * 1 (Europe/Berlin)");
    }
}
