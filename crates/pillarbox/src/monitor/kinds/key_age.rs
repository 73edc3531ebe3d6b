//! Keys that sign for a domain: one that has signed for more than a year should be replaced.

use std::time::Duration;

use futures_util::future::BoxFuture;
use relay::domain::{DomainRecord, KeyRecord, KeyState};
use serde_json::json;
use store::settings::Kind;

use crate::alert::AlertRule;
use crate::http::Shared;
use crate::http::api::settings;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject};

const DAY_MS: i64 = 86_400_000;
/// Days a key may sign.
const OLD_DAYS: i64 = 365;
/// Days after which it is worth a note.
const NOTE_DAYS: i64 = 330;

/// Looks at the dates of keys.
pub(super) struct KeyAge;

impl CheckKind for KeyAge {
    fn id(&self) -> &'static str {
        "key-age"
    }
    fn title(&self) -> &'static str {
        "Signing keys of"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(Duration::from_secs(86_400))
    }
    fn rule(&self) -> AlertRule {
        AlertRule::KeyAge
    }
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            let all = app.store.documents(Kind::Domain).await.unwrap_or_default();
            let subject =
                |one: &store::settings::Document| Subject::new(&*one.name, format!("domain {}", one.name), one.version);
            all.iter().map(subject).collect()
        })
    }
    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let record = async {
                let document = settings::find(app, Kind::Domain, &subject.id).await?;
                settings::record::<DomainRecord>(&document)
            };
            match record.await {
                Ok(record) => judged(&subject.id, &record.keys, app.clock.now_ms()),
                Err(problem) => super::reported::not_run(&problem),
            }
        })
    }
}

fn judged(domain: &str, keys: &[KeyRecord], now_ms: i64) -> Found {
    let active = keys.iter().filter(|key| key.state == KeyState::Active);
    let ages: Vec<(i64, &KeyRecord)> = active.map(|key| ((now_ms - key.created_ms) / DAY_MS, key)).collect();
    let Some((days, key)) = ages.iter().max_by_key(|(days, _)| *days) else {
        return Found::new(Level::Note, "no key signs for this domain yet").facts(json!({ "old": [] }));
    };
    let old: Vec<&str> =
        ages.iter().filter(|(days, _)| *days >= OLD_DAYS).map(|(_, key)| key.selector.as_str()).collect();
    let level = match *days {
        OLD_DAYS.. => Level::Warning,
        NOTE_DAYS.. => Level::Note,
        _ => Level::Ok,
    };
    let text = format!("the oldest key that signs, {}, is {days} days old", key.selector);
    let detail = json!({ "oldest": key.selector, "replace_in_days": OLD_DAYS - days });
    let found = Found::new(level, text).facts(json!({ "old": old })).detail(detail);
    match level {
        Level::Warning => found.advice(vec![format!("replace it: pillarbox dkim rotate {domain}")]),
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use relay::domain::KeyKind;

    use super::*;

    fn key(selector: &str, days: i64, state: KeyState) -> KeyRecord {
        KeyRecord {
            selector: selector.into(),
            kind: KeyKind::Rsa,
            bits: 2048,
            public: String::new(),
            state,
            created_ms: 1_000 * DAY_MS - days * DAY_MS,
            changed_ms: 0,
            when_published: false,
            retire_ms: None,
            checked: None,
        }
    }

    #[test]
    fn only_keys_that_sign_grow_old() {
        use KeyState::{Active, Retired};
        for (keys, level) in [
            (vec![], Level::Note),
            (vec![key("a", 10, Active)], Level::Ok),
            (vec![key("a", 340, Active)], Level::Note),
            (vec![key("a", 365, Active), key("b", 1, Active)], Level::Warning),
            (vec![key("a", 900, Retired), key("b", 1, Active)], Level::Ok),
        ] {
            assert_eq!(judged("shop.test", &keys, 1_000 * DAY_MS).level, level, "{keys:?}");
        }
        let found = judged("shop.test", &[key("a", 340, Active), key("b", 1, Active)], 1_000 * DAY_MS);
        assert_eq!(found.detail, json!({ "oldest": "a", "replace_in_days": 25 }));
    }
}
