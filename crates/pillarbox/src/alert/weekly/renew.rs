//! What has to be renewed beside the secrets of routes: certificates and signing keys, as the scheduled checks found them last.

use serde::{Deserialize, Serialize};

use crate::monitor::results::{Kept, Results};

/// Days before a key is to be replaced; checks call a certificate weak as early.
const DAYS: i64 = 30;

/// What a scheduled check found to be renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Name of the check.
    pub check: String,
    /// In a sentence.
    pub text: String,
}

/// What is due within 30 days, by the names of the checks.
pub(super) fn due(results: &Results) -> Vec<Renewal> {
    let certificates = results.of_kind("certificate").into_iter().filter_map(|(check, kept)| certificate(check, &kept));
    let keys = results.of_kind("key-age").into_iter().filter_map(|(check, kept)| key(check, &kept));
    certificates.chain(keys).collect()
}

fn certificate(check: String, kept: &Kept) -> Option<Renewal> {
    kept.result.level.is_bad().then(|| Renewal { check, text: kept.result.summary.clone() })
}

fn key(check: String, kept: &Kept) -> Option<Renewal> {
    let result = &kept.result;
    let soon = result.detail["replace_in_days"].as_i64().is_some_and(|days| days <= DAYS);
    let text = format!("{}: {}", check.split_once(':')?.1, result.summary);
    (soon || result.level.is_bad()).then_some(Renewal { check, text })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kept(level: &str, detail: Value) -> Kept {
        let result = json!({ "level": level, "summary": "it is so", "facts": null, "detail": detail, "last_ms": 1, "runs": 1,
            "duration_ms": 1 });
        Kept { id: 1, at_ms: 1, result: serde_json::from_value(result).unwrap() }
    }

    #[test]
    fn certificates_and_keys_are_told_a_month_before() {
        let of = |level: &str| certificate("certificate:listener.smtp".into(), &kept(level, Value::Null));
        assert_eq!((of("ok"), of("problem").map(|one| one.text)), (None, Some("it is so".to_owned())));
        assert!(of("warning").is_some());
        let of = |level: &str, detail: Value| key("key-age:shop.test".into(), &kept(level, detail)).map(|one| one.text);
        let told = Some("shop.test: it is so".to_owned());
        assert_eq!(of("warning", Value::Null), told);
        assert_eq!(of("note", json!({ "replace_in_days": 30 })), told);
        assert_eq!(of("note", json!({ "replace_in_days": 31 })), None);
        assert_eq!(of("note", Value::Null), None, "no key signs yet");
    }
}
