//! Times of logs for people: most stay as they are written, counted ones become dates.

use jiff::Timestamp;

/// A time as logs write it: seconds, milliseconds or microseconds since 1970, TAI64N, or words that stay.
pub fn show(time: &[u8]) -> Option<String> {
    if time.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(time).into_owned();
    let moment = match text.strip_prefix('@') {
        Some(label) => tai64(label),
        None => counted(&text),
    };
    Some(moment.map_or(text, |moment| format!("{moment:.0}")))
}

fn counted(text: &str) -> Option<Timestamp> {
    let whole = text.split('.').next()?;
    let number: i64 = whole.parse().ok()?;
    match whole.len() {
        10 => Timestamp::from_second(number).ok(),
        13 => Timestamp::from_millisecond(number).ok(),
        16 => Timestamp::from_microsecond(number).ok(),
        _ => None,
    }
}

/// `4000000068...`: 2^62 and 10 more than the seconds since 1970, as multilog counts them.
fn tai64(label: &str) -> Option<Timestamp> {
    let seconds = i64::from_str_radix(label.get(..16)?, 16).ok()?;
    Timestamp::from_second(seconds.checked_sub((1 << 62) + 10)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_times_become_dates_and_others_stay() {
        for (time, wanted) in [
            ("1777766401000000", "2026-05-03T00:00:01Z"),
            ("1777766401", "2026-05-03T00:00:01Z"),
            ("@4000000069f6900b00000000", "2026-05-03T00:00:01Z"),
            ("May  3 00:00:01", "May  3 00:00:01"),
            ("2026-05-03T00:00:01Z", "2026-05-03T00:00:01Z"),
        ] {
            assert_eq!(show(time.as_bytes()).as_deref(), Some(wanted), "{time}");
        }
        assert_eq!(show(b""), None);
    }
}
