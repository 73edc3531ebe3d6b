//! Dates as RFC 5322 §3.3 writes them, from Unix time, always in UTC.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The last instant of year 9999, the last that the grammar's four digits hold.
const MAX_SECONDS: i64 = 253_402_300_799;

/// `Fri, 1 Mar 2024 00:00:00 +0000` for Unix milliseconds (RFC 5322 §3.3).
///
/// Instants before 1970 and after 9999 are clamped: no clock we read is right about those.
pub fn rfc5322_date(unix_ms: i64) -> String {
    let seconds = unix_ms.div_euclid(1000).clamp(0, MAX_SECONDS);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut out = String::with_capacity(31);
    out.push_str(DAYS[(days % 7) as usize]);
    out.push_str(", ");
    push_number(&mut out, day, if day < 10 { 1 } else { 2 });
    out.push(' ');
    out.push_str(MONTHS[(month - 1) as usize]);
    out.push(' ');
    push_number(&mut out, year, 4);
    for (separator, number) in [(' ', second / 3600), (':', second / 60 % 60), (':', second % 60)] {
        out.push(separator);
        push_number(&mut out, number, 2);
    }
    out.push_str(" +0000");
    out
}

/// `2024-03-01` for Unix seconds (RFC 3339 §5.6).
pub fn iso_date(unix_s: i64) -> String {
    let (year, month, day) = civil(unix_s.div_euclid(86_400));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month (1 to 12) and day (1 to 31) of a day count since 1970-01-01, in the Gregorian calendar.
///
/// Counting from 1 March of year 0 puts the leap day last, so that month lengths follow one formula.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn push_number(out: &mut String, number: i64, digits: u32) {
    for place in (0..digits).rev() {
        out.push(char::from(b'0' + (number / 10_i64.pow(place) % 10) as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_known_instants() {
        for (ms, text) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (999, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (-1, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_400_000, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_709_251_199_000, "Thu, 29 Feb 2024 23:59:59 +0000"),
            (1_709_251_200_000, "Fri, 1 Mar 2024 00:00:00 +0000"),
            (1_000_000_000_000, "Sun, 9 Sep 2001 01:46:40 +0000"),
            (4_107_542_400_000, "Mon, 1 Mar 2100 00:00:00 +0000"),
            (253_402_300_799_999, "Fri, 31 Dec 9999 23:59:59 +0000"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 +0000"),
            (i64::MIN, "Thu, 1 Jan 1970 00:00:00 +0000"),
        ] {
            assert_eq!(rfc5322_date(ms), text);
        }
    }

    #[test]
    fn a_date_is_that_of_its_day_also_before_1970() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (1_795_219_200, "2026-11-21"),
            (1_709_251_199, "2024-02-29"),
            (-62_167_219_200, "0000-01-01"),
        ] {
            assert_eq!(iso_date(seconds), text);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = civil(0);
        for day in 1..200_000 {
            let now = civil(day);
            let next_day = (now.0, now.1, now.2) == (before.0, before.1, before.2 + 1);
            let next_month = (now.0, now.1, now.2) == (before.0, before.1 + 1, 1) && before.2 >= 28;
            let next_year = now == (before.0 + 1, 1, 1) && (before.1, before.2) == (12, 31);
            assert!(next_day || next_month || next_year, "{before:?} -> {now:?}");
            before = now;
        }
    }
}
