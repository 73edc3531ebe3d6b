//! What is said of simple cases that can be computed by hand. How it compares with the schedule is in the simulation.

use super::*;
use crate::schedule::limit::{Meter, Rates};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// A midnight.
const NOW: i64 = 20_000 * DAY;

fn windows(rates: &Rates) -> Vec<WindowStatus> {
    let mut meter = Meter::default();
    meter.set(rates);
    meter.overview(NOW)
}

fn outlook(windows: &[WindowStatus], ordinary: u64) -> Outlook<'_> {
    Outlook {
        now_ms: NOW,
        today_ends_ms: NOW + DAY,
        urgent: 0,
        ordinary,
        per_message: 1.0,
        windows,
        pace: None,
        not_before: None,
    }
}

fn pace(connections: f64, took_ms: f64) -> Pace {
    Pace { connections, took_ms, slowed: None }
}

#[test]
fn nothing_that_waits_is_gone_now_and_without_any_measure_nothing_is_said() {
    assert_eq!(forecast(&outlook(&[], 0)).drains_ms, Some(NOW));
    let unknown = forecast(&outlook(&[], 7));
    assert_eq!((unknown.waiting, unknown.drains_ms, unknown.limited_by), (7, None, None));
}

#[test]
fn without_limits_connections_and_the_time_a_message_takes_decide() {
    let said = forecast(&Outlook { pace: Some(pace(4.0, 200.0)), ..outlook(&[], 6_000) });
    assert_eq!(said.drains_ms, Some(NOW + 300_000));
    assert_eq!(said.limited_by, Some(Limit::Connections { connections: 4 }));
    assert_eq!(said.not_today, 0);
}

#[test]
fn a_limit_a_minute_takes_as_many_minutes() {
    let windows = windows(&Rates { per_minute: Some(30), ..Rates::default() });
    let said = forecast(&outlook(&windows, 2_700));
    // 27 at once in any 60 seconds and a bucket of one: the last of 100 rounds goes after 99 of them.
    assert_eq!(said.drains_ms, Some(NOW + 99 * 61_000));
    assert_eq!(said.limited_by, Some(Limit::Window { limit: 30, unit: "messages", per: "minute" }));
}

#[test]
fn urgent_mail_has_all_of_a_limit_and_goes_first() {
    let windows = windows(&Rates { per_hour: Some(100), reserve_percent: Some(50), ..Rates::default() });
    let said = forecast(&Outlook { urgent: 100, ..outlook(&windows, 50) });
    assert_eq!(said.urgent_drains_ms, Some(NOW + HOUR + 30_000), "two of the others go between");
    assert_eq!(said.drains_ms, Some(NOW + HOUR + 30_000));
    let said = forecast(&Outlook { urgent: 90, ..outlook(&windows, 50) });
    assert_eq!(said.urgent_drains_ms, Some(NOW));
}

#[test]
fn recipients_of_a_day_are_counted_and_the_rest_waits_for_tomorrow() {
    let windows = windows(&Rates { recipients_per_day: Some(10_000), reserve_percent: Some(0), ..Rates::default() });
    let said = forecast(&Outlook { per_message: 4.0, ..outlook(&windows, 12_000) });
    assert_eq!(said.not_today, 2_000);
    assert_eq!(said.today_limited_by, Some(Limit::Window { limit: 10_000, unit: "recipients", per: "day" }));
    assert_eq!(said.drains_ms, Some(NOW + DAY + 600_000));
}

#[test]
fn years_of_backlog_take_no_longer_to_foresee() {
    let rates = Rates { per_second: Some(2), per_minute: Some(30), per_day: Some(1_000), ..Rates::default() };
    let windows = windows(&Rates { reserve_percent: Some(0), ..rates });
    let said = forecast(&Outlook { pace: Some(pace(2.0, 500.0)), ..outlook(&windows, 1_000_000) });
    let days = (said.drains_ms.unwrap() - NOW) as f64 / DAY as f64;
    assert!((998.0..1_010.0).contains(&days), "{days}");
    assert_eq!(said.not_today, 999_000);
}

#[test]
fn what_holds_mail_comes_before_all_and_is_named_where_it_takes_longest() {
    let windows = windows(&Rates { per_minute: Some(30), ..Rates::default() });
    let held =
        |until, count| forecast(&Outlook { not_before: Some((until, Limit::Brake)), ..outlook(&windows, count) });
    let said = held(NOW + HOUR, 27);
    assert_eq!((said.drains_ms, said.limited_by), (Some(NOW + HOUR), Some(Limit::Brake)));
    assert_eq!(held(NOW - 1, 27).drains_ms, Some(NOW));
    let said = held(NOW + 2 * DAY, 27);
    assert_eq!((said.not_today, said.today_limited_by), (27, Some(Limit::Brake)));
}

#[test]
fn a_rate_that_was_halved_grows_back_to_what_it_was() {
    let slowed = Slowed { now: 0.001, full: 0.002, recovers_ms: 60_000.0 };
    let pace = Pace { slowed: Some(slowed), ..pace(20.0, 50.0) };
    let said = forecast(&Outlook { pace: Some(pace), ..outlook(&[], 1_290) });
    // 90 while it grows, the others at two a second.
    let took = said.drains_ms.unwrap() - NOW;
    assert!((655_000..=665_000).contains(&took), "{took}");
    assert!(matches!(said.limited_by, Some(Limit::Slowed { .. })));
}

#[test]
fn of_two_parts_the_later_one_counts() {
    let part = |count| forecast(&Outlook { pace: Some(pace(1.0, 1_000.0)), ..outlook(&[], count) });
    let both = part(10).beside(part(60));
    assert_eq!((both.waiting, both.drains_ms), (70, Some(NOW + 60_000)));
    assert_eq!(part(10).beside(forecast(&outlook(&[], 1))).drains_ms, None);
}
