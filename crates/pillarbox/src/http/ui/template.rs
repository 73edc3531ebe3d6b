//! The templates of the pages, and what they can call. Everything is escaped; nothing of a message is ever shown as HTML.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, context, escape_formatter};

use super::schema;

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// What is not seen and changes what is: control characters, and those that turn the direction of writing around.
fn is_hidden(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// With a sign in the place of each of those.
fn visible(text: &str) -> String {
    let sign = |c: char| match c {
        '\u{7f}' => '\u{2421}',
        c if c.is_ascii_control() => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(|c| if is_hidden(c) { sign(c) } else { c }).collect()
}

/// The templates of this program.
pub fn pages() -> &'static Environment<'static> {
    &PAGES
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    built_in(&mut environment);
    // The API leaves out what is not there: that prints nothing. To look into what is not there is an error.
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_formatter(|out, state, value| {
        if value.is_none() || value.is_undefined() {
            return Ok(());
        }
        match value.as_str().filter(|text| !value.is_safe() && text.contains(is_hidden)) {
            Some(text) => escape_formatter(out, state, &Value::from(visible(text))),
            None => escape_formatter(out, state, value),
        }
    });
    environment.add_filter("when", when);
    environment.add_filter("count", count);
    environment.add_filter("octets", octets);
    environment.add_filter("span", span);
    environment.add_filter("percent", percent);
    environment.add_filter("words", words);
    environment.add_filter("markdown", super::markdown::filter);
    environment.add_filter("segment", |name: String| super::page::segment(&name));
    environment.add_function("fields", |method: &str, path: &str| Value::from(Serde(schema::fields(method, path))));
    environment.add_function("plural", plural);
    environment.add_function("query", query);
    environment.add_function("moment", moment);
    environment.add_function("names", names);
    environment.add_function("qr", qr);
    environment
}

/// Those that were parsed at build time.
#[expect(
    clippy::expect_used,
    reason = "the code is generated; a template that does not parse is found by the first test"
)]
fn built_in(environment: &mut Environment<'static>) {
    minijinja_embed::load_templates!(*environment);
}

/// A page from its template; a fault of the template is ours.
pub fn render(status: StatusCode, name: &str, context: &Value) -> Response {
    match PAGES.get_template(name).and_then(|template| template.render(context)) {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(page = name, error = %chain(&error), "a page could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "This page could not be made; the log says why.").into_response()
        }
    }
}

/// Whether a page has a part that keeps itself new.
pub fn has_live(name: &str) -> bool {
    PAGES.get_template(name).is_ok_and(|template| template.source().contains("{% block live %}"))
}

/// The part of a page that keeps itself new, alone.
pub fn live(name: &str, contents: Value) -> Result<String, Error> {
    PAGES.get_template(name)?.render(context! { live_alone => true, ..contents })
}

/// An error with what caused it.
pub fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut inner = std::error::Error::source(error);
    while let Some(cause) = inner {
        let _ = write!(text, ": {cause}");
        inner = cause.source();
    }
    text
}

/// A time: how long ago or how soon, with the exact one beside it. `exact=true` shows the exact one.
fn when(state: &State<'_, '_>, value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let exact = kwargs.get::<Option<bool>>("exact")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let at = match value.as_str() {
        Some(text) => text.parse::<jiff::Timestamp>().ok(),
        None => value.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()),
    };
    let Some(at) = at else {
        return Ok(if value.is_none() || value.is_undefined() { Value::from_safe_string("–".into()) } else { value });
    };
    let now_ms = state.lookup("now_ms").and_then(|now| now.as_i64()).unwrap_or(0);
    let stamp = at.strftime("%Y-%m-%d %H:%M:%S UTC");
    let shown = if exact { stamp.to_string() } else { distance(now_ms - at.as_millisecond()) };
    let exactly = at.strftime("%Y-%m-%dT%H:%M:%SZ");
    Ok(Value::from_safe_string(format!("<time datetime=\"{exactly}\" title=\"{stamp}\">{shown}</time>")))
}

fn distance(ago_ms: i64) -> String {
    let text = length(ago_ms.unsigned_abs() as f64 / 1_000.0);
    match ago_ms {
        -1_000..=1_000 => "now".into(),
        ago if ago > 0 => format!("{text} ago"),
        _ => format!("in {text}"),
    }
}

/// A length of time in its two largest units.
fn length(seconds: f64) -> String {
    if seconds < 0.01 && seconds > 0.0 {
        return format!("{:.1} ms", seconds * 1_000.0);
    }
    if seconds < 1.0 {
        return format!("{:.0} ms", seconds * 1_000.0);
    }
    if seconds < 10.0 && seconds.fract() > 0.05 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = whole;
    let mut parts = Vec::new();
    for (size, name) in units {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{} {name}", rest / size));
        } else if !parts.is_empty() {
            break;
        }
        rest %= size;
    }
    parts.join(" ")
}

/// Milliseconds, or seconds with `unit="s"`, as a length of time.
fn span(value: Value, kwargs: Kwargs) -> Result<String, Error> {
    let unit = kwargs.get::<Option<String>>("unit")?;
    kwargs.assert_all_used()?;
    let Ok(number) = f64::try_from(value) else { return Ok("–".into()) };
    Ok(length(if unit.as_deref() == Some("s") { number } else { number / 1_000.0 }))
}

/// A number with spaces between thousands.
fn count(value: Value) -> String {
    let Some(number) = value.as_i64() else { return "–".into() };
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "−" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A size.
fn octets(value: Value) -> String {
    let Ok(mut size) = f64::try_from(value) else { return "–".into() };
    for unit in ["octets", "KiB", "MiB", "GiB"] {
        if size < 1_024.0 || unit == "GiB" {
            return if unit == "octets" { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") };
        }
        size /= 1_024.0;
    }
    String::new()
}

/// A share.
fn percent(value: Value) -> String {
    f64::try_from(value).map_or_else(|_| "–".into(), |share| format!("{:.1} %", share * 100.0))
}

/// A word of the API as people write it: `smart_host` is `smart host`.
fn words(value: String) -> String {
    value.replace(['_', '-'], " ")
}

/// `1 message`, `2 messages`.
fn plural(number: i64, one: String, many: Option<String>) -> String {
    let word = if number == 1 { one } else { many.unwrap_or_else(|| format!("{one}s")) };
    format!("{} {word}", count(Value::from(number)))
}

/// Unix milliseconds as RFC 3339, for fields that want a moment: `moment(now_ms + 3600000)`.
fn moment(ms: i64) -> String {
    crate::http::time::show(ms)
}

/// The names in a list of the API, each as a choice that stays as it is.
fn names(list: Value) -> Vec<Vec<Value>> {
    let items = list.get_item(&Value::from("items")).unwrap_or_default();
    let named = items.try_iter().into_iter().flatten().filter_map(|item| item.get_attr("name").ok());
    named.map(|name| vec![name.clone(), name]).collect()
}

/// A query string of the values that are there: `query(route=r, after=next)` is `?route=o365&after=7`, or nothing.
fn query(kwargs: Kwargs) -> Result<Value, Error> {
    let mut pairs = Vec::new();
    for name in kwargs.args() {
        let value = kwargs.get::<Value>(name)?;
        if value.is_none() || value.is_undefined() || value.as_str() == Some("") {
            continue;
        }
        pairs.push((name.to_owned(), value.to_string()));
    }
    kwargs.assert_all_used()?;
    let text = encoded(&pairs);
    Ok(Value::from(if text.is_empty() { text } else { format!("?{text}") }))
}

/// A text as a QR code: an SVG whose modules are one path, with the quiet zone that readers need.
fn qr(text: String, label: String) -> Result<Value, Error> {
    const QUIET: usize = 4;
    let fault = |error: qrcode::types::QrError| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let code = qrcode::QrCode::with_error_correction_level(text.as_bytes(), qrcode::EcLevel::M).map_err(fault)?;
    let (width, mut path) = (code.width(), String::new());
    for (at, colour) in code.to_colors().into_iter().enumerate() {
        if colour == qrcode::Color::Dark {
            let _ = write!(path, "M{} {}h1v1h-1z", at % width + QUIET, at / width + QUIET);
        }
    }
    let (size, label) = (width + 2 * QUIET, Value::from(label));
    let label = minijinja::HtmlEscape(label.as_str().unwrap_or_default()).to_string();
    Ok(Value::from_safe_string(format!(
        "<svg class=\"qr\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {size} {size}\" width=\"240\" height=\"240\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    )))
}

/// Names and values as a query string (`application/x-www-form-urlencoded`).
pub fn encoded(pairs: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_read_and_peers_text_is_escaped() {
        let mut environment = environment();
        assert!(environment.templates().count() > 5);
        environment
            .add_template("x.html", "{{ a }}{{ b }}|{{ 1234567|count }}|{{ t|when }}|{% if c %}{% endif %}")
            .unwrap();
        let context = minijinja::context! { a => "<script>", b => (), t => "1970-01-01T00:00:00Z", now_ms => 90_000 };
        let page = environment.get_template("x.html").unwrap().render(context).unwrap();
        assert!(page.starts_with("&lt;script&gt;|1\u{202f}234\u{202f}567|<time"), "{page}");
        assert!(page.contains(">1 min 30 s ago</time>"), "{page}");
        environment.add_template("y.html", "{{ nothing.at_all }}").unwrap();
        assert!(environment.get_template("y.html").unwrap().render(()).is_err(), "nothing is there to look into");
    }

    #[test]
    fn what_would_not_be_seen_has_a_sign() {
        let mut environment = environment();
        environment.add_template("x.html", "{{ a }}|{{ b }}").unwrap();
        let context = minijinja::context! { a => "one\n\u{1b}[2J\u{202e}fdp.exe", b => "\u{5d0}\u{200f} \u{9b}" };
        let page = environment.get_template("x.html").unwrap().render(context).unwrap();
        assert_eq!(page, "one\n\u{241b}[2J\u{fffd}fdp.exe|\u{5d0}\u{200f} \u{fffd}", "marks of a script stay");
    }

    #[test]
    fn lengths_have_two_units_at_most() {
        for (seconds, text) in
            [(0.02, "20 ms"), (1.5, "1.5 s"), (61.0, "1 min 1 s"), (86_400.0, "1 d"), (90_061.0, "1 d 1 h")]
        {
            assert_eq!(length(seconds), text);
        }
    }
}
