//! A reader of the part of JSON Schema (draft 2020-12) that our schemas use. Stricter than the standard: a member of an
//! object that the schema does not name is a fault, so that schema and reports stay in step.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests")]

use serde_json::Value;

/// Everything in `value` that is not as `schema` says.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    walk(schema, schema, value, "", &mut faults);
    faults
}

/// Keywords that are understood; any other one would be overlooked.
const KNOWN: &[&str] = &[
    "$schema",
    "$id",
    "$defs",
    "$ref",
    "title",
    "description",
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "oneOf",
    "anyOf",
    "minimum",
    "maximum",
    "additionalProperties",
];

fn walk(root: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let keywords = schema.as_object().expect("a schema is an object");
    for keyword in keywords.keys() {
        assert!(KNOWN.contains(&keyword.as_str()), "the keyword {keyword} is not understood here");
    }
    let mut fault = |text: String| faults.push(format!("{at}: {text}"));
    if let Some(kind) = schema.get("type") {
        let kinds: Vec<&str> = match kind {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        if !kinds.iter().any(|kind| is(value, kind)) {
            return fault(format!("is no {}", kinds.join(" or ")));
        }
    }
    if schema.get("const").is_some_and(|wanted| wanted != value) {
        fault(format!("{value} is not the constant"));
    }
    if schema.get("enum").and_then(Value::as_array).is_some_and(|words| !words.contains(value)) {
        fault(format!("{value} is not in the list"));
    }
    if schema.get("minimum").zip(value.as_i64()).is_some_and(|(least, value)| value < least.as_i64().unwrap()) {
        fault(format!("{value} is too small"));
    }
    if schema.get("maximum").zip(value.as_i64()).is_some_and(|(most, value)| value > most.as_i64().unwrap()) {
        fault(format!("{value} is too large"));
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(name.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{name} is not there"));
        walk(root, target, value, at, faults);
    }
    for (keyword, exactly_one) in [("oneOf", true), ("anyOf", false)] {
        let Some(choices) = schema.get(keyword).and_then(Value::as_array) else { continue };
        let tried: Vec<Vec<String>> = choices
            .iter()
            .map(|choice| {
                let mut inner = Vec::new();
                walk(root, choice, value, at, &mut inner);
                inner
            })
            .collect();
        let fitting = tried.iter().filter(|faults| faults.is_empty()).count();
        if fitting == 0 || (exactly_one && fitting > 1) {
            let nearest = tried.into_iter().min_by_key(Vec::len).unwrap_or_default();
            faults.push(format!("{at}: fits {fitting} choices of {keyword}: {}", nearest.join("; ")));
        }
    }
    if let (Some(items), Some(all)) = (schema.get("items"), value.as_array()) {
        for (n, one) in all.iter().enumerate() {
            walk(root, items, one, &format!("{at}/{n}"), faults);
        }
    }
    members(root, schema, value, at, faults);
}

fn members(root: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(object) = value.as_object().filter(|_| is_of_object(schema)) else { return };
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            faults.push(format!("{at}: lacks {name}"));
        }
    }
    for (name, member) in object {
        let at = format!("{at}/{name}");
        match (schema.pointer(&format!("/properties/{name}")), schema.get("additionalProperties")) {
            (Some(own), _) => walk(root, own, member, &at, faults),
            (None, Some(any)) => walk(root, any, member, &at, faults),
            (None, None) => faults.push(format!("{at}: is not in the schema")),
        }
    }
}

fn is_of_object(schema: &Value) -> bool {
    schema.get("properties").is_some() || schema.get("additionalProperties").is_some()
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not understood here"),
    }
}
