//! Templates at work: strict about what is missing, HTML escaped, steps and octets counted. Checking renders into nothing.

use std::borrow::Cow;
use std::io;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, escape_formatter, filters, tests};
use proto::message::HeaderText;
use serde_json::Map;

use super::RowFault;
use super::guard;
use super::input::TemplateIn;
use crate::http::problem::FieldError;

/// Steps of one template for one row.
const FUEL: u64 = 20_000;
/// Most octets a template may render to.
const MAX_OUTPUT: usize = 1 << 20;
/// Most octets of a header's value.
const MAX_HEADER: usize = 8_192;
/// Most octets a filter makes.
const MAX_FILTERED: usize = 64 * 1024;

/// Merge data: the fields of a row.
pub type Data = Map<String, serde_json::Value>;

/// What a part of the message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One line.
    Header,
    Body,
}

#[derive(Debug)]
struct Part {
    name: String,
    place: Place,
    /// Names it looks up.
    needs: Vec<String>,
}

/// A batch's templates, ready.
pub struct Engine {
    environment: Environment<'static>,
    parts: Vec<Part>,
}

/// A row's texts.
#[derive(Debug, Default)]
pub struct Texts {
    /// Subject.
    pub subject: String,
    /// Plain text body.
    pub text: Option<String>,
    /// HTML body.
    pub html: Option<String>,
    /// More header fields.
    pub headers: Vec<(String, String)>,
}

impl Engine {
    /// Reads the templates; names each that is wrong.
    pub fn new(template: &TemplateIn) -> Result<Self, Vec<FieldError>> {
        let mut engine = Self { environment: environment(), parts: Vec::new() };
        let mut errors = Vec::new();
        let bodies = [("text", &template.text), ("html", &template.html)];
        let bodies =
            bodies.into_iter().filter_map(|(name, source)| Some((name.to_owned(), Place::Body, source.as_ref()?)));
        let headers = template.headers.iter().map(|(name, source)| (format!("headers/{name}"), Place::Header, source));
        let subject = std::iter::once(("subject".to_owned(), Place::Header, &template.subject));
        for (name, place, source) in subject.chain(bodies).chain(headers) {
            if let Err(why) = engine.add(&name, place, source) {
                errors.push(FieldError::new(format!("/template/{name}"), why));
            }
        }
        if errors.is_empty() { Ok(engine) } else { Err(errors) }
    }

    fn add(&mut self, name: &str, place: Place, source: &str) -> Result<(), String> {
        guard::check(source)?;
        if place == Place::Header && (source.len() > MAX_HEADER || HeaderText::new(source).is_err()) {
            return Err("is longer than 8 KiB or has a line end".into());
        }
        self.environment.add_template_owned(name.to_owned(), source.to_owned()).map_err(|error| words(&error))?;
        let found = self.environment.get_template(name).map_err(|error| words(&error))?;
        let mut needs: Vec<String> = found.undeclared_variables(false).into_iter().collect();
        needs.sort();
        self.parts.push(Part { name: name.to_owned(), place, needs });
        Ok(())
    }

    /// Whether a row has all that the templates need; gives the octets of its bodies.
    pub fn check(&self, data: &Data) -> Result<usize, RowFault> {
        let values = values(data);
        let mut octets = 0;
        for part in &self.parts {
            match part.place {
                Place::Header => drop(self.header(part, &values, data)?),
                Place::Body => {
                    let mut count = Sink { octets: 0, limit: MAX_OUTPUT, into: None };
                    self.run(part, &values, &mut count).map_err(|error| fault(part, &error, data))?;
                    octets += count.octets;
                }
            }
        }
        Ok(octets)
    }

    /// The texts of a row.
    pub fn render(&self, data: &Data) -> Result<Texts, RowFault> {
        let values = values(data);
        let mut texts = Texts::default();
        for part in &self.parts {
            let text = match part.place {
                Place::Header => self.header(part, &values, data)?,
                Place::Body => self.text(part, &values, MAX_OUTPUT).map_err(|error| fault(part, &error, data))?,
            };
            match part.name.as_str() {
                "subject" => texts.subject = text,
                "text" => texts.text = Some(text),
                "html" => texts.html = Some(text),
                name => texts.headers.push((name.trim_start_matches("headers/").to_owned(), text)),
            }
        }
        Ok(texts)
    }

    /// A header's value: whatever the row holds, it stays one line.
    fn header(&self, part: &Part, values: &Value, data: &Data) -> Result<String, RowFault> {
        let text = self.text(part, values, MAX_HEADER).map_err(|error| fault(part, &error, data))?;
        match HeaderText::new(text.trim()) {
            Ok(_) => Ok(text.trim().to_owned()),
            Err(_) => Err(RowFault::new(&*part.name, "has a line end or another control character")),
        }
    }

    fn text(&self, part: &Part, values: &Value, limit: usize) -> Result<String, Error> {
        let mut sink = Sink { octets: 0, limit, into: Some(Vec::new()) };
        self.run(part, values, &mut sink)?;
        String::from_utf8(sink.into.unwrap_or_default()).map_err(|_| Error::from(ErrorKind::WriteFailure))
    }

    fn run(&self, part: &Part, values: &Value, sink: &mut Sink) -> Result<(), Error> {
        self.environment.get_template(&part.name)?.render_captured_to(values.clone(), sink).map(drop)
    }
}

fn values(data: &Data) -> Value {
    Value::from_pairs(data.iter().map(|(name, field)| (name.as_str(), value(field))))
}

/// JSON as templates see it. Without serde: its way into values has signs of its own in the data.
fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            _ => Value::from(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        serde_json::Value::Object(fields) => values(fields),
    }
}

/// Where a template is rendered to.
struct Sink {
    octets: usize,
    limit: usize,
    into: Option<Vec<u8>>,
}

impl io::Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.octets += octets.len();
        if self.octets > self.limit {
            return Err(io::Error::other("too large"));
        }
        if memchr::memchr(0, octets).is_some() {
            return Err(io::Error::other("NUL"));
        }
        if let Some(into) = &mut self.into {
            into.extend_from_slice(octets);
        }
        Ok(octets.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|name| if name == "html" { AutoEscape::Html } else { AutoEscape::None });
    environment.set_formatter(|out, state, value| {
        if value.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "a value is null: leave the field out, or test for it",
            ));
        }
        escape_formatter(out, state, value)
    });
    environment.add_filter("safe", filters::safe);
    environment.add_filter("escape", filters::escape);
    environment.add_filter("e", filters::escape);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("title", filters::title);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("length", filters::length);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("round", filters::round);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("int", filters::int);
    environment.add_filter("float", filters::float);
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("urlencode", urlencode);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment
}

fn too_large() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a filter made more than 64 KiB")
}

/// A list with something between its items.
fn join(list: &Value, between: Option<Cow<'_, str>>) -> Result<String, Error> {
    let mut joined = String::new();
    for (n, item) in list.try_iter()?.enumerate() {
        if n > 0 {
            joined.push_str(between.as_deref().unwrap_or_default());
        }
        match item.as_str() {
            Some(text) => joined.push_str(text),
            None => joined.push_str(&item.to_string()),
        }
        if joined.len() > MAX_FILTERED {
            return Err(too_large());
        }
    }
    Ok(joined)
}

fn replace(text: Cow<'_, str>, from: Cow<'_, str>, to: Cow<'_, str>) -> Result<String, Error> {
    if from.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "`replace` needs something to look for"));
    }
    if text.len().saturating_add(text.matches(&*from).count().saturating_mul(to.len())) > MAX_FILTERED {
        return Err(too_large());
    }
    Ok(text.replace(&*from, &to))
}

/// For a part of a URL: all but unreserved characters (RFC 3986 §2.3) are written as `%XX`.
fn urlencode(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(octet)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// An error of a template in words, with its line.
fn words(error: &Error) -> String {
    let what = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

fn fault(part: &Part, error: &Error, data: &Data) -> RowFault {
    let missing: Vec<&str> = part.needs.iter().map(String::as_str).filter(|name| !data.contains_key(*name)).collect();
    match error.kind() {
        ErrorKind::UndefinedError if !missing.is_empty() => {
            RowFault::new(missing.join(", "), format!("is missing; `{}` needs it", part.name))
        }
        ErrorKind::OutOfFuel => RowFault::new(&*part.name, format!("takes more than {FUEL} steps")),
        ErrorKind::WriteFailure => {
            let limit = if part.place == Place::Header { MAX_HEADER } else { MAX_OUTPUT };
            RowFault::new(&*part.name, format!("is larger than {} KiB or has a NUL", limit / 1024))
        }
        _ => RowFault::new(&*part.name, words(error)),
    }
}

#[cfg(test)]
mod tests_of_templates {
    use super::*;
    use serde_json::json;

    fn engine(template: serde_json::Value) -> Engine {
        Engine::new(&serde_json::from_value(template).unwrap()).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn data(value: serde_json::Value) -> Data {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let engine = engine(json!({"subject": "For {{ n }}", "text": "{{ n }}", "html": "<p>{{ n }}|{{ n|safe }}"}));
        let texts = engine.render(&data(json!({"n": "<b>&"}))).unwrap();
        assert_eq!((texts.subject.as_str(), texts.text.as_deref()), ("For <b>&", Some("<b>&")));
        assert_eq!(texts.html.as_deref(), Some("<p>&lt;b&gt;&amp;|<b>&"));
    }

    #[test]
    fn what_a_row_lacks_is_named() {
        let engine =
            engine(json!({"subject": "x", "text": "{{ a }} {{ b.c }}{% if d is defined %}{{ d }}{% endif %}"}));
        assert_eq!(engine.check(&data(json!({"a": 1, "b": {"c": 2}}))), Ok(3));
        let fault = engine.check(&data(json!({"a": 1}))).unwrap_err();
        assert_eq!((fault.field.as_str(), fault.detail.as_str()), ("b, d", "is missing; `text` needs it"));
        let fault = engine.check(&data(json!({"a": 1, "b": {}}))).unwrap_err();
        assert!(fault.field == "d" || fault.field == "text", "{fault:?}");
        let fault = engine.check(&data(json!({"a": null, "b": {"c": 2}}))).unwrap_err();
        assert!(fault.detail.contains("null"), "{fault:?}");
    }

    #[test]
    fn no_row_breaks_out_of_a_header() {
        let engine = engine(json!({"subject": "Hi {{ n }}", "headers": {"X-Job": "{{ n }}"}, "text": "x"}));
        for text in ["a\r\nBcc: b@c.example", "a\nb", "a\0b", "a\u{85}b"] {
            let fault = engine.check(&data(json!({"n": text}))).unwrap_err();
            assert_eq!(fault.field, "subject", "{text:?}");
        }
        let texts = engine.render(&data(json!({"n": "Jürgen"}))).unwrap();
        assert_eq!(texts.headers, [("X-Job".to_owned(), "Jürgen".to_owned())]);
    }

    #[test]
    fn nothing_runs_away() {
        let long = "x".repeat(16_000);
        for (source, row, why) in [
            (
                "{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}",
                json!({"l": vec![1; 100]}),
                "steps",
            ),
            ("{% for a in l %}{{ s }}{% endfor %}", json!({"l": vec![1; 100], "s": long}), "1024 KiB"),
            ("{{ s|replace('x', s) }}", json!({"s": long}), "64 KiB"),
            ("{{ s|join(s) }}", json!({"s": long}), "64 KiB"),
        ] {
            let fault = engine(json!({"subject": "x", "text": source})).check(&data(row)).unwrap_err();
            assert!(fault.detail.contains(why), "{source}: {fault:?}");
        }
        for source in ["{{ range(9) }}", "{{ x|map }}", "{{ x.y( }}", "{% if %}"] {
            let template = serde_json::from_value(json!({"subject": "x", "text": source})).unwrap();
            let refused = Engine::new(&template).is_err_and(|errors| errors[0].pointer == "/template/text");
            let engine = Engine::new(&template).ok();
            let fails = engine.is_some_and(|engine| engine.check(&data(json!({"x": "y"}))).is_err());
            assert!(refused || fails, "{source}");
        }
    }

    #[test]
    fn filters_do_what_they_say() {
        let engine = engine(json!({
            "subject": "{{ n|upper }}", "text": "{{ u|urlencode }} {{ l|join(', ') }} {{ m|default('none') }} {{ n|replace('n', 'b') }}",
        }));
        let texts = engine.render(&data(json!({"n": "ann", "u": "a b&c/ü", "l": [1, "x"]}))).unwrap();
        assert_eq!(texts.subject, "ANN");
        assert_eq!(texts.text.as_deref(), Some("a%20b%26c%2F%C3%BC 1, x none abb"));
    }
}
