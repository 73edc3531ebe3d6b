//! Quiet hours: when a channel is only told what is critical. Pure; in a time zone of its own, with its summer time.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use serde::{Deserialize, Serialize};

/// Quiet hours of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// From when, `22:00`.
    pub from: String,
    /// Until when, `07:00`; the next day where that is earlier.
    pub to: String,
    /// Days that are quiet from midnight to midnight: `sat`, `sun`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// Time zone: `Europe/Berlin`. Without it that of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    fn is(self, day: Weekday) -> bool {
        let weekday = match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        };
        weekday == day
    }
}

/// Quiet hours that make sense.
#[derive(Debug, Clone)]
pub struct Hours {
    from: Time,
    to: Time,
    days: Vec<Day>,
    zone: TimeZone,
}

fn time(field: &'static str, text: &str) -> Result<Time, (&'static str, String)> {
    let wrong = || (field, "is a time of the day, as 22:00".to_owned());
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let two = |text: &str| (text.len() == 2).then(|| text.parse::<i8>().ok()).flatten();
    let (hour, minute) = (two(hour).ok_or_else(wrong)?, two(minute).ok_or_else(wrong)?);
    Time::new(hour, minute, 0, 0).map_err(|_| wrong())
}

impl Quiet {
    /// Reads it; `Err` names the field and what is wrong with it.
    pub fn hours(&self) -> Result<Hours, (&'static str, String)> {
        let (from, to) = (time("from", &self.from)?, time("to", &self.to)?);
        if self.days.len() >= 7 {
            return Err(("days", "leaves no day that is not quiet".into()));
        }
        let zone = match &self.zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name)
                .map_err(|_| ("zone", format!("{name} is no time zone that this machine knows, as Europe/Berlin")))?,
        };
        Ok(Hours { from, to, days: self.days.clone(), zone })
    }
}

impl Hours {
    /// When it is not quiet any more, Unix milliseconds; `None`: it is not quiet now.
    pub fn until_ms(&self, now_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(self.zone.clone());
        if !self.is_quiet(&now) {
            return None;
        }
        let mut at = now;
        // A week of quiet days and nights has at most two changes a day.
        for _ in 0..20 {
            at = self.next_change(&at)?;
            if !self.is_quiet(&at) {
                return Some(at.timestamp().as_millisecond());
            }
        }
        None
    }

    fn is_quiet(&self, at: &Zoned) -> bool {
        let time = at.time();
        let night = match self.from <= self.to {
            true => (self.from..self.to).contains(&time),
            false => time >= self.from || time < self.to,
        };
        night || self.days.iter().any(|day| day.is(at.weekday()))
    }

    /// The next moment at which quiet can begin or end.
    fn next_change(&self, at: &Zoned) -> Option<Zoned> {
        let today = at.date();
        let tomorrow = today.checked_add(1.day()).ok()?;
        let moments = [
            today.to_datetime(self.from),
            today.to_datetime(self.to),
            tomorrow.to_datetime(Time::midnight()),
            tomorrow.to_datetime(self.to),
        ];
        let zoned = moments.into_iter().filter_map(|moment| moment.to_zoned(self.zone.clone()).ok());
        zoned.filter(|moment| moment > at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(from: &str, to: &str, days: &[Day]) -> Hours {
        let zone = Some("Europe/Berlin".to_owned());
        Quiet { from: from.into(), to: to.into(), days: days.to_vec(), zone }.hours().unwrap()
    }

    fn until(hours: &Hours, at: &str) -> Option<String> {
        let now: Zoned = format!("{at}[Europe/Berlin]").parse().unwrap();
        let end = hours.until_ms(now.timestamp().as_millisecond())?;
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        Some(Timestamp::from_millisecond(end).unwrap().to_zoned(zone).datetime().to_string())
    }

    #[test]
    fn a_night_ends_in_the_morning_whatever_the_clocks_do() {
        let night = hours("22:00", "07:00", &[]);
        for (at, wanted) in [
            ("2026-11-20T21:59:59", None),
            ("2026-11-20T22:00:00", Some("2026-11-21T07:00:00")),
            ("2026-11-21T03:00:00", Some("2026-11-21T07:00:00")),
            ("2026-11-21T07:00:00", None),
            // Clocks go back, and forward.
            ("2026-10-25T01:00:00", Some("2026-10-25T07:00:00")),
            ("2026-03-29T01:00:00", Some("2026-03-29T07:00:00")),
        ] {
            assert_eq!(until(&night, at).as_deref(), wanted, "{at}");
        }
    }

    #[test]
    fn a_quiet_weekend_joins_its_nights() {
        let quiet = hours("22:00", "07:00", &[Day::Sat, Day::Sun]);
        for (at, wanted) in [
            ("2026-11-20T12:00:00", None),
            ("2026-11-20T23:00:00", Some("2026-11-23T07:00:00")),
            ("2026-11-21T12:00:00", Some("2026-11-23T07:00:00")),
            ("2026-11-23T08:00:00", None),
        ] {
            assert_eq!(until(&quiet, at).as_deref(), wanted, "{at}");
        }
        let day = hours("12:00", "13:00", &[]);
        assert_eq!(until(&day, "2026-11-20T12:30:00").as_deref(), Some("2026-11-20T13:00:00"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        let quiet = |from: &str, to: &str, zone: &str| Quiet {
            from: from.into(),
            to: to.into(),
            days: Vec::new(),
            zone: Some(zone.into()),
        };
        for (quiet, wanted) in [
            (quiet("25:00", "07:00", "UTC"), "from"),
            (quiet("22:00", "7", "UTC"), "to"),
            (quiet("22:00", "07:00", "Mars/Phobos"), "zone"),
        ] {
            assert_eq!(quiet.hours().unwrap_err().0, wanted);
        }
    }
}
