//! `config show`: every effective value with its source.

use serde::Serialize;

use super::checked::default;
use super::keys::{BLOCKS, KEYS, Key};
use super::raw::{Located, Typed};
use super::{Loaded, Place};

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// `retry.expiry`, `listener[0].address`.
    pub setting: String,
    /// As it would be typed; `null`: not set.
    pub value: Option<String>,
    /// `default`, `file` or `environment`.
    pub source: &'static str,
    /// Line in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
}

/// All values, in the order of the reference.
pub fn all(loaded: &Loaded) -> Vec<Shown> {
    let mut shown = Vec::new();
    for key in KEYS.iter().filter(|key| !key.in_block()) {
        let mut one = show(key, key.path.to_owned(), loaded.raw.values.get(key.path));
        if key.path == "hostname" && one.value.is_none() {
            one.value = Some(format!("\"{}\"", loaded.config.hostname));
        }
        shown.push(one);
    }
    for block in BLOCKS {
        for (n, values) in loaded.raw.blocks.get(block).into_iter().flatten().enumerate() {
            for key in KEYS.iter().filter(|key| key.section() == *block) {
                shown.push(show(key, format!("{block}[{n}].{}", key.name()), values.values.get(key.path)));
            }
        }
    }
    if !loaded.raw.blocks.contains_key("listener") {
        for listener in &loaded.config.listeners {
            let value = Some(format!("\"{}\"", listener.address));
            shown.push(Shown {
                setting: "listener[0].address".into(),
                value,
                source: "default",
                line: None,
                variable: None,
            });
        }
    }
    shown
}

fn show(key: &Key, setting: String, located: Option<&Located>) -> Shown {
    let located = located.cloned().or_else(|| default(key));
    let value = located.as_ref().map(|located| match (key.path, &located.value) {
        // There is a password in it.
        ("store", Typed::Text(text)) if !text.is_empty() => "\"postgres://…\"".to_owned(),
        (_, value) => typed(value),
    });
    let (source, line, variable) = match located.map(|located| located.place) {
        Some(Place::File { line, .. }) => ("file", Some(line), None),
        Some(Place::Environment(name)) => ("environment", None, Some(name)),
        _ => ("default", None, None),
    };
    Shown { setting, value, source, line, variable }
}

fn typed(value: &Typed) -> String {
    match value {
        Typed::Text(text) => format!("{text:?}"),
        Typed::Integer(number) => number.to_string(),
        Typed::Flag(flag) => flag.to_string(),
        Typed::List(items) => format!("[{}]", items.iter().map(typed).collect::<Vec<_>>().join(", ")),
        Typed::Other(kind) => format!("<{kind}>"),
    }
}
