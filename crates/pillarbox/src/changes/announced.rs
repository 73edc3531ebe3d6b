//! What providers have announced with a date: data in `announced.toml`, read once.

use std::sync::LazyLock;

use jiff::civil::Date;
use serde::Deserialize;

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// Ids of the providers it is about.
    pub providers: Vec<String>,
    /// When it took effect, `2026-12-31`.
    pub day: String,
    /// Reasons it may be behind.
    pub reasons: Vec<String>,
    /// A sentence.
    pub text: String,
    /// Who says so.
    pub source: String,
    /// When that was looked up.
    pub checked: String,
}

#[derive(Deserialize)]
struct File {
    announcement: Vec<Announcement>,
}

static ALL: LazyLock<Vec<Announcement>> = LazyLock::new(|| {
    // A test reads the file; what could not be read would only be missing.
    toml::from_str::<File>(include_str!("announced.toml")).map(|file| file.announcement).unwrap_or_default()
});

impl Announcement {
    /// The beginning of its day, Unix milliseconds.
    pub fn at_ms(&self) -> Option<i64> {
        let day: Date = self.day.parse().ok()?;
        Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
    }

    /// Those about a provider and a reason.
    pub fn about(provider: &str, reason: &str) -> impl Iterator<Item = &'static Self> {
        ALL.iter().filter(move |one| {
            one.providers.iter().any(|known| known == provider) && one.reasons.iter().any(|known| known == reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use explain::Reason;

    #[test]
    fn every_announcement_has_a_day_a_source_and_reasons_that_exist() {
        let file: File = toml::from_str(include_str!("announced.toml")).unwrap();
        assert!(file.announcement.len() >= 7);
        for one in &file.announcement {
            assert!(one.at_ms().is_some() && one.checked.parse::<Date>().is_ok(), "{one:?}");
            assert!(!one.source.is_empty() && one.text.ends_with('.'), "{one:?}");
            for reason in &one.reasons {
                assert!(Reason::ALL.iter().any(|known| known.as_str() == reason), "{reason}");
            }
        }
        assert_eq!(Announcement::about("microsoft", "basic_auth_retired").count(), 2);
        assert_eq!(Announcement::about("google", "mailbox_full").count(), 0);
    }
}
