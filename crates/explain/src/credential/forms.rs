//! What was pasted around a credential, or in its place: quotes, labels, placeholders, encodings.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::{Field, Notes, characters};

/// Signs given here.
#[cfg(test)]
pub(super) const KINDS: &[&str] = &[
    "credential_empty",
    "credential_quoted",
    "credential_label",
    "credential_placeholder",
    "credential_masked",
    "credential_shortened",
    "credential_url_encoded",
    "credential_base64",
    "credential_user_in_password",
    "credential_same",
    "credential_user_display_name",
    "credential_user_blank",
];

/// Fewest octets of decoded text that are taken for an encoded credential: shorter ones are chance.
const LEAST_DECODED: usize = 9;

/// Notes on how both were pasted.
pub(super) fn lint(user: &str, password: &str, notes: &mut Notes) {
    for (field, text) in [(Field::User, user), (Field::Password, password)] {
        if let Some((kind, values)) = pasted(field, text.trim()) {
            notes.field(kind, field, &values);
        }
    }
    let (user, password) = (user.trim(), password.trim());
    if user.is_empty() || password.is_empty() {
        return;
    }
    if user.contains('<') && user.ends_with('>') && !user.starts_with('<') {
        notes.add("credential_user_display_name", &[]);
    } else if user.contains(' ') && label(user).is_none() {
        notes.add("credential_user_blank", &[]);
    }
    if password.strip_prefix(user).is_some_and(|rest| rest.starts_with(':') && rest.len() > 1) {
        notes.add("credential_user_in_password", &[]);
    } else if user == password && !is_uuid(user) {
        notes.add("credential_same", &[]);
    }
}

type Found = (&'static str, Vec<(&'static str, String)>);

fn pasted(field: Field, text: &str) -> Option<Found> {
    let length = || ("length", characters::length(text));
    if text.is_empty() {
        return Some(("credential_empty", Vec::new()));
    }
    if is_placeholder(field, text) {
        return Some(("credential_placeholder", vec![length()]));
    }
    if is_masked(text) {
        return Some(("credential_masked", vec![length()]));
    }
    if let Some(quotes) = quotes(field, text) {
        return Some(("credential_quoted", vec![("quotes", quotes.to_owned())]));
    }
    if let Some(label) = label(text) {
        return Some(("credential_label", vec![("label", label.to_owned())]));
    }
    if text.chars().count() > 6 && (text.ends_with("...") || text.ends_with('\u{2026}')) {
        return Some(("credential_shortened", vec![length()]));
    }
    if is_base64_of_text(text) {
        return Some(("credential_base64", vec![length()]));
    }
    let lower = text.to_ascii_lowercase();
    // A password may hold a percent sign by chance, an address does not hold `%40`.
    let codes = ["%40", "%3a", "%2f", "%23", "%3f", "%25", "%20", "%21", "%24", "%26", "%2b", "%3d"];
    if codes.iter().any(|code| lower.contains(code)) {
        return Some(("credential_url_encoded", vec![length()]));
    }
    None
}

/// Quotes or brackets on both sides.
fn quotes(field: Field, text: &str) -> Option<&'static str> {
    let mut inner = text.chars();
    let (first, last) = (inner.next()?, inner.next_back()?);
    inner.next()?;
    match (first, last) {
        ('"', '"') => Some("double quotes"),
        ('\'', '\'') => Some("single quotes"),
        ('`', '`') => Some("back quotes"),
        ('<', '>') if field == Field::User => Some("angle brackets"),
        ('\u{201c}' | '\u{201e}', '\u{201d}' | '\u{201c}') => Some("typographic double quotes"),
        ('\u{2018}' | '\u{201a}', '\u{2019}' | '\u{2018}') => Some("typographic single quotes"),
        _ => None,
    }
}

/// The name of a field in front: `Password: …`, `SMTP_PASS=…`, `mailto:…`.
fn label(text: &str) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("password", "Password"),
        ("passwort", "Passwort"),
        ("pass", "Pass"),
        ("smtp_password", "SMTP_PASSWORD"),
        ("smtp_pass", "SMTP_PASS"),
        ("smtp password", "SMTP password"),
        ("mail_password", "MAIL_PASSWORD"),
        ("api key", "API key"),
        ("api_key", "API_KEY"),
        ("apikey", "apikey"),
        ("token", "Token"),
        ("bearer", "Bearer"),
        ("secret", "Secret"),
        ("username", "Username"),
        ("user name", "User name"),
        ("user", "User"),
        ("login", "Login"),
        ("smtp_user", "SMTP_USER"),
        ("mail_username", "MAIL_USERNAME"),
        ("mailto", "mailto"),
        ("email", "Email"),
    ];
    let lower = text.to_lowercase();
    let behind = |name: &str| {
        let rest = lower.strip_prefix(name)?;
        let mark = rest.trim_start().chars().next()?;
        let value = rest.trim_start().trim_start_matches([':', '=', ' ']);
        let marked = matches!(mark, ':' | '=') || (name == "bearer" && rest.starts_with(' '));
        (marked && !value.is_empty()).then_some(())
    };
    NAMES.iter().find(|(name, _)| behind(name).is_some()).map(|(_, shown)| *shown)
}

/// The example of a manual, or a variable nobody filled in.
fn is_placeholder(field: Field, text: &str) -> bool {
    const EITHER: &[&str] = &[
        "your_username",
        "your-username",
        "yourusername",
        "your_email",
        "your-email",
        "your_email@gmail.com",
        "your-email@gmail.com",
        "youremail@gmail.com",
        "you@gmail.com",
        "smtp_username",
        "smtp_user",
        "your_api_key",
        "your-api-key",
        "yourapikey",
        "your_token",
        "your-token",
        "placeholder",
        "null",
        "undefined",
    ];
    const PASSWORDS: &[&str] = &[
        "password",
        "changeme",
        "change_me",
        "change-me",
        "secret",
        "your_password",
        "your-password",
        "yourpassword",
        "api_key",
        "api-key",
        "apikey",
        "example",
        "todo",
        "none",
        "nil",
        "smtp_password",
        "your_app_password",
        "your-app-password",
        "app_password",
        "app-password",
        "your_secret",
        "your-secret",
    ];
    let lower = text.to_ascii_lowercase();
    let inside = |open: &str, close: &str| {
        lower.len() > open.len() + close.len() && lower.starts_with(open) && lower.ends_with(close)
    };
    let name = |rest: &str| {
        !rest.is_empty()
            && rest.bytes().all(|octet| octet.is_ascii_uppercase() || octet == b'_' || octet.is_ascii_digit())
    };
    let variable = text.strip_prefix('$').is_some_and(|rest| rest.len() > 4 && rest.contains('_') && name(rest));
    let windows = text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).is_some_and(name);
    let code = ["process.env.", "os.environ", "env(", "getenv("].iter().any(|start| lower.starts_with(start));
    let brackets = inside("<your", ">")
        || inside("[your", "]")
        || inside("<api", ">")
        || inside("<pass", ">")
        || inside("<smtp", ">")
        || inside("<user", ">");
    let filled = text.chars().count() >= 4 && lower.bytes().all(|octet| octet == b'x');
    let word = EITHER.contains(&lower.as_str()) || (field == Field::Password && PASSWORDS.contains(&lower.as_str()));
    word || inside("${", "}") || inside("{{", "}}") || variable || windows || code || brackets || filled
}

/// What a page shows in place of a secret.
fn is_masked(text: &str) -> bool {
    let dots = |c: char| matches!(c, '*' | '\u{2022}' | '\u{25cf}' | '\u{2b24}' | '\u{b7}' | '\u{25e6}');
    let count = text.chars().filter(|c| dots(*c)).count();
    text.chars().count() >= 4 && (text.chars().all(dots) || (count >= 6 && count * 2 > text.chars().count()))
}

/// Text that was encoded before: every mail program encodes it again.
fn is_base64_of_text(text: &str) -> bool {
    if text.len() < 12 || text.len() > 400 {
        return false;
    }
    let decoded = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
    let Ok(decoded) = decoded else { return false };
    let shown = |octet: &u8| (b' '..=b'~').contains(octet);
    let plain = decoded.first() == Some(&0) && decoded.iter().skip(1).all(|octet| *octet == 0 || shown(octet));
    decoded.len() >= LEAST_DECODED && (plain || decoded.iter().all(shown))
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|octet| octet.is_ascii_hexdigit()))
}
