//! What a change of settings changed: field by field, before and after. Of secrets only that they changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most fields that are kept of one change.
const MOST_FIELDS: usize = 100;
/// Longest value that is kept, octets of JSON.
const LONGEST: usize = 1_000;
/// A field whose name has one of these in it is secret, whatever it holds.
const SECRET: &[&str] = &["password", "secret", "token", "hash", "private", "totp", "recovery", "credential"];

/// One field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// JSON Pointer into the document.
    pub field: String,
    /// As it was; absent: it was not there, or is secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// As it is; absent: it is not there, or is secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// It is secret: all that is said is that it changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

impl Change {
    /// A secret changed.
    pub fn of_secret(field: &str) -> Self {
        Self { field: field.to_owned(), before: None, after: None, secret: true }
    }
}

/// The fields that differ, in the order of their names.
pub fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found.truncate(MOST_FIELDS);
    found
}

fn compare(at: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    if before == after || found.len() > MOST_FIELDS {
        return;
    }
    let name = at.rsplit('/').next().unwrap_or_default();
    if is_secret(name) {
        found.push(Change::of_secret(at));
        return;
    }
    let fields = |value: Option<&Value>| match value {
        Some(Value::Object(fields)) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    };
    let is_object = |value: Option<&Value>| value.is_none_or(Value::is_object);
    if is_object(before) && is_object(after) {
        let mut names: Vec<String> = [fields(before), fields(after)].concat();
        names.sort();
        names.dedup();
        for name in names {
            let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            compare(&at, before.and_then(|value| value.get(&name)), after.and_then(|value| value.get(&name)), found);
        }
        return;
    }
    let kept = |value: Option<&Value>| value.filter(|value| !value.is_null()).map(shown);
    let (before, after) = (kept(before), kept(after));
    // A field that is absent and one that is null are the same to those who read it. Where lists differ in nothing but a
    // secret of theirs, that is all there is to say.
    let secret = before == after && before.is_some();
    if secret {
        found.push(Change::of_secret(at));
    } else if before != after {
        found.push(Change { field: at.to_owned(), before, after, secret: false });
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // `has_password` and the like say that there is one.
    !name.starts_with("has_") && SECRET.iter().any(|word| name.contains(word))
}

/// A value without the secrets in it, and not longer than is useful.
pub fn shown(value: &Value) -> Value {
    let value = masked(value);
    let text = value.to_string();
    if text.len() <= LONGEST {
        return value;
    }
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Value::String(format!("{}… ({} octets)", &text[..end], text.len()))
}

fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let hidden = is_secret(name) && !value.is_null();
                (name.clone(), if hidden { "(secret)".into() } else { masked(value) })
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(masked).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_kept_with_both_values() {
        let before = json!({"host": "a.example", "port": 25, "tls": {"verify": true}, "gone": 1});
        let after = json!({"host": "b.example", "port": 25, "tls": {"verify": false}, "new": null});
        let found = changes(Some(&before), Some(&after));
        let fields: Vec<&str> = found.iter().map(|change| change.field.as_str()).collect();
        assert_eq!(fields, ["/gone", "/host", "/tls/verify"]);
        assert_eq!((&found[1].before, &found[1].after), (&Some(json!("a.example")), &Some(json!("b.example"))));
        assert_eq!((&found[0].before, &found[0].after), (&Some(json!(1)), &None));
    }

    #[test]
    fn a_secret_is_only_said_to_have_changed_wherever_it_is() {
        let key = |hash: &str| json!({"api_keys": [{"prefix": "pbx_1", "hash": hash}], "password_hash": hash});
        let found = changes(Some(&key("canary-1")), Some(&key("canary-2")));
        assert!(found.len() == 2 && found.iter().all(|change| change.secret), "{found:?}");
        let more = json!({"api_keys": [], "password_hash": null, "nested": {"client_secret": "canary-3"}});
        for (before, after) in [(key("canary-1"), more.clone()), (more, key("canary-1"))] {
            let text = serde_json::to_string(&changes(Some(&before), Some(&after))).unwrap();
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn long_values_and_many_fields_are_cut() {
        let long = json!({"text": "ü".repeat(5_000)});
        let found = changes(None, Some(&long));
        assert!(found[0].after.as_ref().unwrap().as_str().unwrap().len() < 1_100);
        let many: serde_json::Map<String, Value> = (0..500).map(|n| (format!("f{n}"), json!(n))).collect();
        assert_eq!(changes(None, Some(&many.into())).len(), MOST_FIELDS);
    }
}
