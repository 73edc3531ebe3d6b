//! Dates in headers (RFC 5322 §3.3) as Unix seconds, with what programs write instead: obsolete zones, two-digit years,
//! missing zones, names of months in full.

/// Most octets looked at.
const MAX: usize = 120;

/// A date as Unix seconds; `None` if it is none. Without a zone it counts as UTC (RFC 5322 §4.3: unknown zones are `-0000`).
///
/// Comments are skipped. Years 1970 to 9999.
pub fn parse_date(text: &str) -> Option<i64> {
    let text = &text[..text.floor_char_boundary(MAX.min(text.len()))];
    let text = match text.find('(') {
        Some(at) => &text[..at],
        None => text,
    };
    let words: Vec<&str> = text.split([' ', '\t', ',', '\n', '\r']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| month(word).is_some())?;
    // `1 Mar 2024` or, as C libraries write it, `Mar 1 00:00:00 2024`.
    let number = |index: Option<usize>| words.get(index?)?.parse::<i64>().ok();
    let (day, mut rest) = match number(at.checked_sub(1)) {
        Some(day) => (day, words.get(at + 1..)?),
        None => (number(Some(at + 1))?, words.get(at + 2..)?),
    };
    let month = month(words.get(at)?)?;
    let (mut year, mut clock, mut zone) = (None, None, 0);
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        if word.contains(':') {
            clock = Some(time(word)?);
        } else if year.is_none() && word.len() <= 4 && word.bytes().all(|octet| octet.is_ascii_digit()) {
            let written: i64 = word.parse().ok()?;
            year = Some(match word.len() {
                // RFC 5322 §4.3.
                2 if written < 50 => written + 2000,
                2 | 3 => written + 1900,
                _ => written,
            });
        } else if clock.is_some() {
            match offset(word) {
                Some(minutes) => zone = minutes,
                None if year.is_some() => break,
                None => {}
            }
        }
    }
    let (year, clock) = (year.filter(|year| (1970..=9999).contains(year))?, clock?);
    if !(1..=31).contains(&day) {
        return None;
    }
    Some(days(year, month, day) * 86_400 + clock - zone * 60)
}

fn month(word: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let start = word.get(..3).filter(|_| word.bytes().all(|octet| octet.is_ascii_alphabetic()))?;
    (1_i64..).zip(MONTHS).find(|(_, name)| start.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

fn time(word: &str) -> Option<i64> {
    let mut parts = word.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    let fits = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    fits.then_some(hour * 3600 + minute * 60 + second)
}

/// Minutes east of UTC.
fn offset(word: &str) -> Option<i64> {
    if let Some(digits) = word.strip_prefix(['+', '-']) {
        let digits = digits.replace(':', "");
        let number: i64 = digits.get(..4)?.parse().ok()?;
        let minutes = number / 100 * 60 + number % 100;
        return Some(if word.starts_with('-') { -minutes } else { minutes });
    }
    Some(match word.to_ascii_uppercase().as_str() {
        "EDT" => -240,
        "EST" | "CDT" => -300,
        "CST" | "MDT" => -360,
        "MST" | "PDT" => -420,
        "PST" => -480,
        "BST" | "CET" | "MET" => 60,
        "CEST" | "EET" => 120,
        "EEST" | "MSK" => 180,
        "JST" | "KST" => 540,
        // Military letters were defined the wrong way round and mean nothing (RFC 5322 §4.3).
        word if word.len() == 1 || matches!(word, "UT" | "UTC" | "GMT") => 0,
        _ => return None,
    })
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::rfc5322_date;

    #[test]
    fn dates_are_read_as_programs_write_them() {
        for (text, wanted) in [
            ("Fri, 1 Mar 2024 00:00:00 +0000", Some(1_709_251_200)),
            ("1 Mar 2024 00:00 GMT", Some(1_709_251_200)),
            ("Fri,  1 Mar 2024 01:00:00 +0100 (CET)", Some(1_709_251_200)),
            ("Thu, 29 Feb 2024 19:00:00 EST", Some(1_709_251_200)),
            ("Thu Feb 29 16:00:00 PST 2024", Some(1_709_251_200)),
            ("Fri Mar  1 00:00:00 2024", Some(1_709_251_200)),
            ("Fri, 01 Mar 24 00:00:00 Z", Some(1_709_251_200)),
            ("Fri, 1 March 2024 00:00:00", Some(1_709_251_200)),
            ("Thu, 29 Feb 2024 23:59:60 +0000", Some(1_709_251_200)),
            ("Wed, 01 Jan 100 00:00:00 +0000", Some(946_684_800)),
            ("Fri, 1 Mar 2024 25:00:00 +0000", None),
            ("Fri, 1 Foo 2024 00:00:00 +0000", None),
            ("", None),
            ("May", None),
        ] {
            assert_eq!(parse_date(text), wanted, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_can_be_read(seconds in 0_i64..253_402_300_799) {
            proptest::prop_assert_eq!(parse_date(&rfc5322_date(seconds * 1000)), Some(seconds));
        }
        #[test]
        fn any_text_is_survived(text in "\\PC{0,60}") {
            parse_date(&text);
        }
    }
}
