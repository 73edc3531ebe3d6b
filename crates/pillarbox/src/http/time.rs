//! Times as RFC 3339 in, RFC 3339 out; milliseconds inside.

use jiff::Timestamp;

/// `2026-11-21T03:08:29.123Z`.
pub fn show(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// Unix milliseconds of an RFC 3339 time with its offset.
pub fn read(text: &str) -> Option<i64> {
    text.trim().parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_as_it_went() {
        assert_eq!(read("2026-11-21T03:08:29.123Z"), Some(1_795_230_509_123));
        assert_eq!(read("2026-11-21T04:08:29.123+01:00"), Some(1_795_230_509_123));
        assert_eq!(show(1_795_230_509_123), "2026-11-21T03:08:29.123Z");
        assert_eq!(read("2026-11-21T03:08:29"), None, "a time without an offset means different moments to both sides");
    }
}
