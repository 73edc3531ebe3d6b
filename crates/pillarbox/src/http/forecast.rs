//! The forecast of a route as the API gives it, with its words: "drains at 14:35 (in 2 h 10 min), limited by 25 a minute".
//!
//! Times in the words are those of the server's time zone, which also says when today ends.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use relay::outlook::RouteForecast;
use relay::schedule::forecast::{Forecast, Limit};
use serde::{Deserialize, Serialize};

use super::{App, time};

/// What is to be expected of the mail of a route.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForecastOut {
    /// Route.
    pub route: String,
    /// Recipients that wait or are under way.
    pub waiting: u64,
    /// Of these, of urgent mail.
    pub urgent: u64,
    /// Recipients that somebody has to release; the forecast is not about them.
    pub held: u64,
    /// When all of them are gone, RFC 3339; absent if nothing can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drains: Option<String>,
    /// The same in seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drains_in_s: Option<i64>,
    /// When urgent mail is gone, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgent_drains: Option<String>,
    /// What takes most of the time: `kind` with its figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<serde_json::Value>,
    /// Recipients that will not fit into today.
    pub not_today: u64,
    /// All of it for people.
    pub words: String,
}

/// Forecasts of all routes that have mail; none while no server runs.
pub async fn all(app: &App) -> Result<Vec<ForecastOut>, store::StoreError> {
    let Some(relay) = &app.relay else { return Ok(Vec::new()) };
    let zone = TimeZone::system();
    let now_ms = app.clock.now_ms();
    let forecasts = relay.forecasts(today_ends_ms(now_ms, &zone)).await?;
    Ok(forecasts.iter().map(|one| ForecastOut::of(one, now_ms, &zone)).collect())
}

/// The next midnight.
fn today_ends_ms(now_ms: i64, zone: &TimeZone) -> i64 {
    let tomorrow = local(now_ms, zone).and_then(|now| now.tomorrow().ok()?.start_of_day().ok());
    tomorrow.map_or(now_ms + 86_400_000, |at| at.timestamp().as_millisecond())
}

fn local(ms: i64, zone: &TimeZone) -> Option<Zoned> {
    Timestamp::from_millisecond(ms).ok().map(|time| time.to_zoned(zone.clone()))
}

impl ForecastOut {
    fn of(one: &RouteForecast, now_ms: i64, zone: &TimeZone) -> Self {
        let forecast = &one.forecast;
        Self {
            route: one.route.clone(),
            waiting: forecast.waiting,
            urgent: forecast.urgent,
            held: one.held,
            drains: forecast.drains_ms.map(time::show),
            drains_in_s: forecast.drains_ms.map(|at| ((at - now_ms).max(0) + 999) / 1_000),
            urgent_drains: forecast.urgent_drains_ms.map(time::show),
            limited_by: forecast.limited_by.and_then(|limit| serde_json::to_value(limit).ok()),
            not_today: forecast.not_today,
            words: words(forecast, one.held, now_ms, zone),
        }
    }
}

/// In words; empty if nothing waits.
fn words(forecast: &Forecast, held: u64, now_ms: i64, zone: &TimeZone) -> String {
    let mut parts = Vec::new();
    if forecast.waiting > 0 {
        parts.push(drains(forecast, now_ms, zone));
    }
    if forecast.urgent > 0
        && let Some(at) = forecast.urgent_drains_ms.filter(|at| forecast.drains_ms.is_some_and(|all| all - at > 60_000))
    {
        parts.push(format!("urgent mail is gone {}", when(at, now_ms, zone)));
    }
    if forecast.not_today > 0 {
        let why = forecast.today_limited_by.or(forecast.limited_by);
        let why = why.map_or_else(String::new, |limit| format!(": {}", limit_words(&limit)));
        parts.push(format!(
            "{} of {} will not fit today{why}",
            thousands(forecast.not_today),
            thousands(forecast.waiting)
        ));
    }
    if held > 0 {
        parts.push(format!("{} held until somebody releases them", thousands(held)));
    }
    parts.join("; ")
}

fn drains(forecast: &Forecast, now_ms: i64, zone: &TimeZone) -> String {
    let limit = forecast.limited_by.as_ref();
    match (forecast.drains_ms, limit) {
        (Some(at), Some(limit @ (Limit::Window { .. } | Limit::Connections { .. } | Limit::Slowed { .. }))) => {
            format!("drains {}, limited by {}", when(at, now_ms, zone), limit_words(limit))
        }
        (Some(at), Some(limit)) => format!("drains {} at best: {}", when(at, now_ms, zone), limit_words(limit)),
        (Some(at), None) => format!("drains {}", when(at, now_ms, zone)),
        (None, Some(limit)) => limit_words(limit),
        (None, None) => "cannot be foreseen: nothing was delivered since the start, and there are no limits".into(),
    }
}

/// What is in the way.
fn limit_words(limit: &Limit) -> String {
    match limit {
        Limit::Window { limit, unit: "recipients", per } => {
            format!("{} recipients {} {per}", thousands(u64::from(*limit)), article(per))
        }
        Limit::Window { limit, per, .. } => format!("{} {} {per}", thousands(u64::from(*limit)), article(per)),
        Limit::Connections { connections: 1 } => "its one connection".into(),
        Limit::Connections { connections } => format!("its {connections} connections"),
        Limit::Slowed { per_minute } => format!("the receiver, which asked for less ({per_minute} a minute now)"),
        Limit::Held => "the receiver wants nothing until then, and a probe has to be taken".into(),
        Limit::Unreachable => "its server cannot be reached, and is tried again then".into(),
        Limit::Brake => "its credential was rejected, and one probe signs in then".into(),
        Limit::Retry => "what failed before is tried again then".into(),
        Limit::Failover => "nothing works there: its mail goes by the fallback routes".into(),
    }
}

fn article(per: &str) -> &'static str {
    if per == "hour" { "an" } else { "a" }
}

/// `at 14:35 (in 2 h 10 min)`; with the date if that is another day.
fn when(at_ms: i64, now_ms: i64, zone: &TimeZone) -> String {
    if at_ms - now_ms < 60_000 {
        return "within a minute".into();
    }
    let (Some(at), Some(now)) = (local(at_ms, zone), local(now_ms, zone)) else { return "some day".into() };
    let clock = at.strftime("%H:%M");
    let length = length((at_ms - now_ms) / 1_000);
    match at.date() == now.date() {
        true => format!("at {clock} (in {length})"),
        false => format!("on {} at {clock} (in {length})", at.date()),
    }
}

/// `2 h 10 min`, `3 d 4 h`, `12 min`.
fn length(seconds: i64) -> String {
    let minutes = (seconds + 30) / 60;
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{} min", minutes.max(1)),
        (0, _) if minutes == 0 => format!("{hours} h"),
        (0, _) => format!("{hours} h {minutes} min"),
        (_, 0) => format!("{days} d"),
        _ => format!("{days} d {hours} h"),
    }
}

/// `1,240`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T12:25:00Z.
    const NOW_MS: i64 = 1_795_263_900_000;
    const MINUTE: i64 = 60_000;

    fn forecast(waiting: u64, drains_ms: Option<i64>, limited_by: Option<Limit>) -> Forecast {
        Forecast { drains_ms, ..Forecast::unknown(0, waiting, limited_by) }
    }

    fn window(limit: u32, unit: &'static str, per: &'static str) -> Option<Limit> {
        Some(Limit::Window { limit, unit, per })
    }

    fn said(forecast: &Forecast) -> String {
        words(forecast, 0, NOW_MS, &TimeZone::UTC)
    }

    #[test]
    fn it_is_said_when_a_route_drains_and_what_it_is_limited_by() {
        let soon = forecast(3_000, Some(NOW_MS + 130 * MINUTE), window(25, "messages", "minute"));
        assert_eq!(said(&soon), "drains at 14:35 (in 2 h 10 min), limited by 25 a minute");
        let late = forecast(9, Some(NOW_MS + 1_440 * MINUTE + 1), window(1_000, "messages", "hour"));
        assert_eq!(said(&late), "drains on 2026-11-22 at 12:25 (in 1 d), limited by 1,000 an hour");
        let at_once = forecast(9, Some(NOW_MS + 59_000), Some(Limit::Connections { connections: 3 }));
        assert_eq!(said(&at_once), "drains within a minute, limited by its 3 connections");
        let brake = forecast(9, Some(NOW_MS + 5 * MINUTE), Some(Limit::Brake));
        assert_eq!(
            said(&brake),
            "drains at 12:30 (in 5 min) at best: its credential was rejected, and one probe signs in then"
        );
        assert_eq!(said(&forecast(0, Some(NOW_MS), None)), "");
        assert!(said(&forecast(1, None, None)).starts_with("cannot be foreseen"));
    }

    #[test]
    fn it_is_said_how_much_will_not_fit_today() {
        let day = window(10_000, "recipients", "day");
        let today =
            Forecast { not_today: 1_240, today_limited_by: day, ..forecast(3_000, Some(NOW_MS + 1_450 * MINUTE), day) };
        assert_eq!(
            said(&today),
            "drains on 2026-11-22 at 12:35 (in 1 d), limited by 10,000 recipients a day; \
             1,240 of 3,000 will not fit today: 10,000 recipients a day"
        );
        assert_eq!(
            words(&forecast(0, None, None), 12_000, NOW_MS, &TimeZone::UTC),
            "12,000 held until somebody releases them"
        );
    }

    #[test]
    fn today_ends_at_midnight_of_the_server() {
        assert_eq!(today_ends_ms(NOW_MS, &TimeZone::UTC), NOW_MS + 695 * MINUTE);
        let east = TimeZone::fixed(jiff::tz::offset(9));
        assert_eq!(today_ends_ms(NOW_MS, &east), NOW_MS + (695 - 540) * MINUTE);
        let said = when(NOW_MS + 130 * MINUTE, NOW_MS, &east);
        assert_eq!(said, "at 23:35 (in 2 h 10 min)");
    }
}
