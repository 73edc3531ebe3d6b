//! What forms send, as the API wants it: the document of the API says of each field whether it is a number, a list or a
//! switch. An HTML form knows only text.
//!
//! `retry.first_s` is a field of an object; a list is lines of a text area, or the same field several times; `name=` alone
//! leaves a field out, or clears it where the request is a change.

use std::sync::LazyLock;

use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::http::api::openapi::DOCUMENT;

static API: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(DOCUMENT).unwrap_or_default());

/// What a field is, for whoever shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Whole,
    Number,
    Switch,
    List,
    Object,
}

/// Fields that go in and never come out: an empty field of a form leaves them as they are.
const SECRETS: &[&str] =
    &["password", "current", "secret", "client_secret", "refresh_token", "private_key", "service_account"];
/// Whether a field of this name is one of them.
pub fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// Fields with several lines of text.
const LONG: &[&str] = &["private_key", "service_account", "certificate"];

/// Fields of a form, in the order they were sent.
pub type Pairs = [(String, String)];

/// The operation of a path below `/api/v1`, as the document names it: `/routes/{name}`.
pub fn pattern(method: &Method, path: &str) -> Option<&'static str> {
    let paths = API.get("paths")?.as_object()?;
    let method = method.as_str().to_ascii_lowercase();
    let segments: Vec<&str> = path.split('?').next()?.split('/').collect();
    let fits = |pattern: &str| {
        let wanted: Vec<&str> = pattern.split('/').collect();
        wanted.len() == segments.len()
            && wanted.iter().zip(&segments).all(|(want, has)| want.starts_with('{') || want == has)
    };
    let known = paths.iter().filter(|(pattern, operations)| operations.get(&method).is_some() && fits(pattern));
    // Words before names: `/suppressions/export` is not an address.
    known.min_by_key(|(pattern, _)| pattern.matches('{').count()).map(|(pattern, _)| pattern.as_str())
}

fn body_of(method: &Method, path: &str) -> Option<&'static Value> {
    let method_name = method.as_str().to_ascii_lowercase();
    let operation = API.get("paths")?.get(pattern(method, path)?)?.get(&method_name)?;
    let content = operation.get("requestBody")?.get("content")?;
    content.as_object()?.values().next()?.get("schema").map(resolved)
}

/// Follows references and leaves out `null` of what may be absent.
fn resolved(schema: &'static Value) -> &'static Value {
    let mut schema = schema;
    for _ in 0..8 {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            match API.pointer(name.trim_start_matches('#')) {
                Some(target) => schema = target,
                None => return schema,
            }
        } else if let Some(one) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)
            && let [only] = one.iter().filter(|one| one.get("type") != Some(&json!("null"))).collect::<Vec<_>>()[..]
        {
            schema = only;
        } else {
            return schema;
        }
    }
    schema
}

fn kind(schema: &Value) -> Kind {
    let names: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    match names.into_iter().find(|name| *name != "null") {
        Some("integer") => Kind::Whole,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Switch,
        Some("array") => Kind::List,
        Some("object") => Kind::Object,
        _ => Kind::Text,
    }
}

fn property(schema: &'static Value, name: &str) -> Option<&'static Value> {
    let schema = resolved(schema);
    let named = schema.get("properties").and_then(|all| all.get(name));
    named.or_else(|| schema.get("additionalProperties").filter(|value| value.is_object())).map(resolved)
}

/// A form as the body of a request; `None`: this request has no body. `keep` names fields that are left out when they are
/// empty: a secret that nobody typed anew.
pub fn body(method: &Method, path: &str, form: &Pairs, keep: &[&str]) -> Option<Value> {
    let schema = body_of(method, path)?;
    let mut made = Map::new();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in form {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    for name in names {
        let values: Vec<&str> =
            form.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect();
        let empty = values.iter().all(|value| value.trim().is_empty());
        let parts: Vec<&str> = name.split('.').collect();
        let field = parts.iter().try_fold(schema, |schema, part| property(schema, part));
        let kind = field.map_or(Kind::Text, kind);
        let items = field.and_then(|field| field.get("items")).map(resolved).map_or(Kind::Text, self::kind);
        // No numbers are no list of numbers: nobody means an empty schedule.
        let is_list = kind == Kind::List && !matches!(items, Kind::Whole | Kind::Number);
        let value = if empty && !is_list {
            match *method == Method::PATCH && !keep.contains(&name) {
                true => Value::Null,
                false => continue,
            }
        } else {
            read(kind, items, &values)
        };
        put(&mut made, &parts, value);
    }
    let emptied: Vec<String> = made.iter().filter(|(_, value)| is_blank(value)).map(|(name, _)| name.clone()).collect();
    for name in emptied {
        match *method == Method::PATCH {
            true => made.insert(name, Value::Null),
            false => made.remove(&name),
        };
    }
    Some(Value::Object(made))
}

/// An object of which nobody filled in anything.
fn is_blank(value: &Value) -> bool {
    let empty = |one: &Value| one.is_null() || one.as_array().is_some_and(Vec::is_empty);
    value.as_object().is_some_and(|fields| !fields.is_empty() && fields.values().all(empty))
}

/// What cannot be read stays text: the API says what is wrong with it, and where. `items` is what a list has.
fn read(kind: Kind, items: Kind, values: &[&str]) -> Value {
    let last = values.last().copied().unwrap_or_default();
    let trimmed = last.trim();
    let text = || Value::String(last.to_owned());
    match kind {
        Kind::Text => text(),
        Kind::Whole => trimmed.parse::<i64>().map_or_else(|_| text(), Value::from),
        Kind::Number => trimmed.parse::<f64>().map_or_else(|_| text(), Value::from),
        Kind::Switch => match trimmed {
            "true" | "on" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => text(),
        },
        Kind::List => {
            let lines = values.iter().flat_map(|value| value.lines()).map(str::trim).filter(|line| !line.is_empty());
            let object = |line: &str| serde_json::from_str::<Value>(line).ok().filter(Value::is_object);
            lines
                .map(|line| match items {
                    Kind::Whole | Kind::Number => read(items, Kind::Text, &[line]),
                    _ => object(line).unwrap_or_else(|| line.into()),
                })
                .collect()
        }
        Kind::Object => match serde_json::from_str::<Value>(trimmed) {
            Ok(value) if value.is_object() => value,
            _ => pairs(last),
        },
    }
}

/// Lines of `name: value`.
fn pairs(text: &str) -> Value {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.trim().to_owned(), Value::from(value.trim()))).collect::<Map<_, _>>().into()
}

fn put(into: &mut Map<String, Value>, parts: &[&str], value: Value) {
    let [first, rest @ ..] = parts else { return };
    if rest.is_empty() {
        into.insert((*first).to_owned(), value);
        return;
    }
    let inner = into.entry(*first).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}

/// The fields of an operation's body, for a form that shows them all: name, what it is, its words of the document.
pub fn fields(method: &str, path: &str) -> Value {
    let Some(schema) = method.parse().ok().and_then(|method| body_of(&method, path)) else { return Value::Null };
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Value::Null };
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let field = |(name, described): (&String, &'static Value)| {
        let inner = resolved(described);
        let kind = match kind(inner) {
            Kind::Text => "text",
            Kind::Whole | Kind::Number => "number",
            Kind::Switch => "switch",
            Kind::List => "list",
            Kind::Object => "object",
        };
        json!({
            "name": name,
            "kind": kind,
            "choices": inner.get("enum").cloned().unwrap_or(Value::Null),
            "secret": is_secret(name),
            "lines": LONG.contains(&name.as_str()),
            "required": required.contains(&name.as_str()),
            "words": described.get("description").or_else(|| inner.get("description")).cloned().unwrap_or_default(),
        })
    };
    properties.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_form_sends_gets_the_types_of_the_api() {
        let sent = form(&[
            ("name", "o365"),
            ("kind", "smart_host"),
            ("port", "587"),
            ("allow_private", "false"),
            ("allow_private", "on"),
            ("host", ""),
        ]);
        let made = body(&Method::POST, "/routes", &sent, &[]).unwrap();
        assert_eq!(made, json!({"name": "o365", "kind": "smart_host", "port": 587, "allow_private": true}));
        let made = body(
            &Method::PATCH,
            "/routes/o365",
            &form(&[("port", "x"), ("host", ""), ("password", "")]),
            &["password"],
        )
        .unwrap();
        assert_eq!(made, json!({"port": "x", "host": null}));
    }

    #[test]
    fn words_of_a_path_are_found_before_names() {
        assert_eq!(pattern(&Method::GET, "/suppressions/export?x=1"), Some("/suppressions/export"));
        assert_eq!(pattern(&Method::GET, "/suppressions/a@b.example"), Some("/suppressions/{address}"));
        assert_eq!(pattern(&Method::POST, "/queue/release"), Some("/queue/{operation}"));
        assert_eq!(pattern(&Method::POST, "/nothing"), None);
        assert!(body(&Method::POST, "/nothing", &[], &[]).is_none());
    }

    #[test]
    fn lists_come_as_lines_and_objects_as_dotted_names() {
        let made =
            body(&Method::POST, "/queue/hold", &form(&[("selector.route", "o365"), ("selector.n", "2")]), &[]).unwrap();
        assert_eq!(made, json!({"selector": {"route": "o365", "n": 2}}));
        let made = body(
            &Method::POST,
            "/senders",
            &form(&[("name", "app"), ("allowed_from", "*@a.example\r\n b@b.example\n")]),
            &[],
        )
        .unwrap();
        assert_eq!(made["allowed_from"], json!(["*@a.example", "b@b.example"]));
        let blank = form(&[("quiet.from", ""), ("quiet.days", ""), ("to", "a@b.example")]);
        assert_eq!(body(&Method::POST, "/alert-channels", &blank, &[]).unwrap(), json!({"to": ["a@b.example"]}));
        let changed = body(&Method::PATCH, "/alert-channels/mail", &blank, &[]).unwrap();
        assert_eq!(changed["quiet"], Value::Null, "an object of which nothing is left is taken away");
        let made = body(&Method::PATCH, "/routes/x", &form(&[("retry_s", "60\n x")]), &[]).unwrap();
        assert_eq!(made, json!({"retry_s": [60, "x"]}));
        let made = body(&Method::PATCH, "/routes/x", &form(&[("retry_s", ""), ("fallback", "")]), &[]).unwrap();
        assert_eq!(made, json!({"retry_s": null, "fallback": []}));
    }
}
