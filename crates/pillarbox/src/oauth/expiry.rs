//! When client secrets and certificates of routes end, and who has to be told.

use jiff::civil::Date;
use relay::route::Route;
use serde::{Deserialize, Serialize};

/// Days before the end on which the log warns.
const WARN_DAYS: [i64; 4] = [30, 14, 7, 1];

/// Something that ends within a month, or has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiring {
    /// Route.
    pub route: String,
    /// `client secret` or `certificate`.
    pub what: String,
    /// Last day.
    pub expires: String,
    /// Whole days until then; negative once it is over.
    pub days: i64,
}

impl Expiring {
    /// In a sentence.
    pub fn words(&self) -> String {
        let Self { route, what, expires, days } = self;
        match days {
            ..0 => format!("the {what} of route {route} has expired on {expires}"),
            0 => format!("the {what} of route {route} expires today"),
            1 => format!("the {what} of route {route} expires tomorrow, on {expires}"),
            _ => format!("the {what} of route {route} expires in {days} days, on {expires}"),
        }
    }

    /// Which of the warnings it has come to: grows as the end comes near.
    pub fn level(&self) -> usize {
        WARN_DAYS.iter().filter(|limit| self.days <= **limit).count() + usize::from(self.days < 0)
    }
}

/// What ends within 30 days, soonest first.
pub fn expiring<'a>(routes: impl IntoIterator<Item = &'a Route>, now_ms: i64) -> Vec<Expiring> {
    let Ok(now) = jiff::Timestamp::from_millisecond(now_ms) else { return Vec::new() };
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let mut all = Vec::new();
    for route in routes {
        let Some(oauth) = &route.record.oauth else { continue };
        let secret = oauth.secret_expires.as_ref().filter(|_| route.secrets.client_secret.is_some());
        let certificate = oauth.certificate_expires.as_ref().filter(|_| route.secrets.private_key.is_some());
        for (what, date) in [("client secret", secret), ("certificate", certificate)] {
            let Some(end) = date.and_then(|date| date.parse::<Date>().ok()) else { continue };
            let days = today.until(end).map_or(0, |span| i64::from(span.get_days()));
            if days <= WARN_DAYS[0] {
                let (route, expires) = (route.name.to_string(), end.to_string());
                all.push(Expiring { route, what: what.into(), expires, days });
            }
        }
    }
    all.sort_by(|a, b| (a.days, &a.route).cmp(&(b.days, &b.route)));
    all
}

#[cfg(test)]
mod tests {
    use relay::secrets::Secrets;
    use serde_json::json;

    use super::*;

    /// 2026-11-21T07:00:00Z.
    const NOW_MS: i64 = 1_795_244_400_000;

    fn route(name: &str, oauth: serde_json::Value) -> Route {
        let mut fields =
            json!({"provider": "microsoft", "grant": "client_credentials", "tenant": "t", "client_id": "c"});
        fields.as_object_mut().unwrap().extend(oauth.as_object().unwrap().clone());
        let record = json!({"kind": "smarthost", "host": "h", "username": "u", "oauth": fields});
        let secrets = Secrets { client_secret: Some("s".into()), ..Secrets::default() };
        Route::new(name.into(), serde_json::from_value(record).unwrap(), secrets, 1)
    }

    #[test]
    fn the_end_of_a_secret_is_told_at_30_14_7_and_1_days() {
        for (date, days, level) in [
            ("2026-12-21", 30, 1),
            ("2026-12-06", 15, 1),
            ("2026-12-05", 14, 2),
            ("2026-11-28", 7, 3),
            ("2026-11-22", 1, 4),
            ("2026-11-21", 0, 4),
            ("2026-11-20", -1, 5),
            ("2025-11-20", -366, 5),
        ] {
            let found = expiring([&route("r", json!({"secret_expires": date}))], NOW_MS);
            assert_eq!((found[0].days, found[0].level()), (days, level), "{date}");
        }
        for date in ["2026-12-22", "2028-01-01", "2026-02-30"] {
            assert_eq!(expiring([&route("r", json!({"secret_expires": date}))], NOW_MS), [], "{date}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_used_any_more_is_not_told_of() {
        assert_eq!(expiring([&route("r", json!({"certificate_expires": "2026-11-22"}))], NOW_MS), []);
    }
}
