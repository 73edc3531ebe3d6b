//! Takes out of data what is nobody's business: secrets by the names of their fields and by their look, content of messages,
//! and the names of people. An address becomes a name of its own in this bundle (`a-1f2e3d4c@example.com`), the same one
//! wherever it stands, so that what belongs together can be seen; it cannot be turned back.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};
use store::MessageId;

/// What stands in the place of a secret.
pub const REMOVED: &str = "(removed)";
/// Parts of the names of fields that hold secrets.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "private_key",
    "api_key",
    "apikey",
    "recovery",
    "hash",
    "signature",
    "prefix",
];
/// Fields with what people wrote.
const CONTENT: &[&str] =
    &["subject", "text", "html", "body", "raw", "headers", "metadata", "attachments", "agent", "transcript_text"];
/// Fields with the name of a person.
const PERSON: &[&str] = &["who", "user", "username", "by", "acknowledged_by", "created_by", "display_name"];
/// Fields with an address of the web whose path may open something.
const LINK: &[&str] = &["url", "webhook", "endpoint", "callback", "href", "link"];
/// Words before a secret in a text.
const LEADS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "authorization",
    "bearer",
    "basic",
];
/// Names before an `@` that are everybody's.
const COMMON: &[&str] = &[
    "postmaster",
    "abuse",
    "noreply",
    "no-reply",
    "info",
    "mail",
    "admin",
    "root",
    "support",
    "hostmaster",
    "webmaster",
    "mailer-daemon",
    "bounce",
    "bounces",
    "news",
    "newsletter",
    "sales",
    "office",
    "contact",
    "user",
    "test",
    "dmarc",
];
/// Shortest name that is looked for by itself.
const SHORTEST: usize = 4;
/// Deepest nesting that is looked at; below it nothing is kept.
const DEEPEST: usize = 64;

/// Takes things out, and remembers whose names it met.
#[derive(Debug)]
pub struct Scrub {
    salt: [u8; 32],
    names: BTreeSet<String>,
}

impl Scrub {
    /// With a salt that nobody else has.
    pub fn new(salt: [u8; 32]) -> Self {
        Self { salt, names: BTreeSet::new() }
    }

    /// Data without what is nobody's business.
    pub fn value(&mut self, value: Value) -> Value {
        self.within(value, DEEPEST)
    }

    fn within(&mut self, value: Value, depth: usize) -> Value {
        if depth == 0 {
            return REMOVED.into();
        }
        match value {
            Value::String(text) => self.text(&text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.within(item, depth - 1)).collect(),
            Value::Object(fields) => {
                // A change of a setting names its field: what it was and is are judged by that name.
                let field = fields.get("field").and_then(Value::as_str).and_then(|field| field.rsplit('/').next());
                let changed = field.map(str::to_owned);
                let one = |(name, value): (String, Value)| {
                    let called = match (&changed, name.as_str()) {
                        (Some(field), "before" | "after") => field,
                        _ => &name,
                    };
                    let value = self.field(called, value, depth);
                    (self.text(&name), value)
                };
                Value::Object(fields.into_iter().map(one).collect::<Map<_, _>>())
            }
            other => other,
        }
    }

    fn field(&mut self, name: &str, value: Value, depth: usize) -> Value {
        let name = name.to_ascii_lowercase();
        let plain = matches!(value, Value::Null | Value::Bool(_) | Value::Number(_));
        let is_secret = SECRET.iter().any(|part| name.contains(part)) && !name.ends_with("_file");
        match value {
            value if plain => value,
            _ if is_secret || CONTENT.contains(&&*name) => REMOVED.into(),
            Value::String(text) if LINK.contains(&&*name) => origin(&text).into(),
            Value::String(text) if PERSON.contains(&&*name) => self.person(&text).into(),
            // What was changed, in the audit log: `user/ann`.
            Value::String(text) if name == "what" && text.starts_with("user/") => {
                let person = self.person(text.trim_start_matches("user/"));
                format!("user/{person}").into()
            }
            other => self.within(other, depth - 1),
        }
    }

    /// `user ann` and `ann@example.com` get a name of this bundle; `control socket` and `API key of app` stay.
    fn person(&mut self, text: &str) -> String {
        if text.contains('@') {
            return self.text(text);
        }
        let (before, name) = match text.strip_prefix("user ") {
            Some(name) => ("user ", name),
            None if text.contains(' ') || text == "Pillarbox" || text == "nobody" => return self.text(text),
            None => ("", text),
        };
        self.remember(name);
        format!("{before}u-{}", self.mark(name))
    }

    fn mark(&self, text: &str) -> String {
        let hash = blake3::keyed_hash(&self.salt, text.to_lowercase().as_bytes());
        hash.to_hex()[..8].to_owned()
    }

    fn remember(&mut self, name: &str) {
        let name = name.to_lowercase();
        if name.chars().count() >= SHORTEST && !COMMON.contains(&&*name) {
            self.names.insert(name);
        }
    }

    /// Text without secrets and people.
    pub fn text(&mut self, text: &str) -> String {
        let text = self.addresses(&links(text));
        secrets(&text)
    }

    /// Addresses get a name of this bundle; their domain stays.
    fn addresses(&mut self, text: &str) -> String {
        let text = text.replace("%40", "@");
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find('@') {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            let from = match before.strip_suffix('"').and_then(|quoted| quoted.rfind('"')) {
                Some(quote) => quote,
                None => before
                    .rfind(|c: char| !is_local(c))
                    .map_or(0, |end| end + before[end..].chars().next().map_or(1, char::len_utf8)),
            };
            let ends = after
                .find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':')))
                .unwrap_or(after.len());
            let (local, domain) = (&before[from..], after[..ends].trim_end_matches(['.', ':']));
            out.push_str(&before[..from]);
            if local.is_empty() || domain.is_empty() {
                out.push_str(local);
                out.push('@');
                rest = after;
                continue;
            }
            let bare = local.trim_matches('"');
            self.remember(bare);
            // `ann=example.net` and `ann.lee+x` hold names too.
            bare.split(['=', '+', '.']).for_each(|part| self.remember_part(part));
            let _ = write!(out, "a-{}@{domain}", self.mark(&format!("{bare}@{domain}")));
            rest = &after[domain.len()..];
        }
        out + rest
    }

    /// A part of a name is a name if nothing else looks like it.
    fn remember_part(&mut self, part: &str) {
        if part.chars().count() > SHORTEST && part.chars().all(char::is_alphabetic) && !is_word(part) {
            self.remember(part);
        }
    }

    /// The second look, when all names are known: a name that stands alone, as in `user ann.lee unknown`, goes as well.
    pub fn names(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.without_names(&text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.names(item)).collect(),
            Value::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, value)| (name, self.names(value))).collect())
            }
            other => other,
        }
    }

    fn without_names(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut word = String::new();
        let flush = |word: &mut String, out: &mut String| {
            let bare = word.trim_matches(['.', '-', '_', '\'']);
            match !bare.is_empty() && self.names.contains(&bare.to_lowercase()) {
                true => out.push_str(&word.replace(bare, "(name)")),
                false => out.push_str(word),
            }
            word.clear();
        };
        for character in text.chars() {
            if character.is_alphanumeric() || matches!(character, '.' | '-' | '_' | '\'' | '+' | '=') {
                word.push(character);
            } else {
                flush(&mut word, &mut out);
                out.push(character);
            }
        }
        flush(&mut word, &mut out);
        out
    }
}

/// Words of ours that a name in an address may look like.
fn is_word(part: &str) -> bool {
    const WORDS: &[&str] = &[
        "bounce",
        "bounces",
        "return",
        "reply",
        "orders",
        "order",
        "invoice",
        "billing",
        "alerts",
        "report",
        "reports",
        "example",
        "mailer",
        "sender",
        "system",
        "service",
        "events",
        "updates",
        "account",
        "security",
        "queue",
        "route",
        "stream",
        "delivered",
        "failed",
        "expired",
        "waiting",
        "capture",
        "default",
        "administrator",
        "operator",
        "viewer",
    ];
    WORDS.contains(&&*part.to_lowercase())
}

fn is_local(character: char) -> bool {
    character.is_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(character)
}

/// Of an address of the web what says where it leads, and nothing that opens something there.
fn origin(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let host = rest[..ends].rsplit('@').next().unwrap_or_default();
            let more = if rest.len() > ends + 1 { "/…" } else { "" };
            format!("{scheme}://{host}{more}")
        }
        None => REMOVED.into(),
    }
}

/// Addresses of the web in a text, without what is before an `@` and behind a `?`.
fn links(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let ends = after.find(|c: char| c.is_whitespace() || "\"'<>)]}".contains(c)).unwrap_or(after.len());
        let link = &after[..ends];
        let host_ends = link.find(['/', '?', '#']).unwrap_or(link.len());
        let (host, path) = link.split_at(host_ends);
        out.push_str(host.rsplit('@').next().unwrap_or_default());
        let query = path.find(['?', '#']).unwrap_or(path.len());
        out.push_str(&path[..query]);
        if query < path.len() {
            out.push('…');
        }
        rest = &after[ends..];
    }
    out + rest
}

/// What the next word of a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Any,
    /// Behind `AUTH`.
    Mechanism,
    /// Behind `AUTH PLAIN`.
    Response,
    /// Behind `password:`.
    Secret,
}

/// Words that look like a secret, or stand behind a word that announces one.
fn secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut next = Next::Any;
    let mut rest = text;
    while !rest.is_empty() {
        let (blank, after) = rest.split_at(rest.find(|c: char| !is_gap(c)).unwrap_or(rest.len()));
        let (word, behind) = after.split_at(after.find(is_gap).unwrap_or(after.len()));
        out.push_str(blank);
        rest = behind;
        if !word.is_empty() {
            next = judged(word, behind, next, &mut out);
        }
    }
    out
}

/// Puts a word, or what stands for it; says what comes next.
fn judged(word: &str, behind: &str, next: Next, out: &mut String) -> Next {
    let small = word.to_ascii_lowercase();
    let leads = LEADS.contains(&small.trim_end_matches(['=']));
    let named = small
        .split_once('=')
        .filter(|(name, value)| LEADS.iter().any(|lead| name.ends_with(lead)) && !value.is_empty());
    let scheme = matches!(&*small, "bearer" | "basic");
    if leads && (scheme || small.ends_with('=') || behind.starts_with([':', '='])) {
        out.push_str(word);
        return Next::Secret;
    }
    if let Some((name, _)) = named {
        out.push_str(&word[..=name.len()]);
        out.push_str(REMOVED);
        return Next::Any;
    }
    let mixed =
        word.bytes().any(|octet| octet.is_ascii_lowercase()) && word.bytes().any(|octet| octet.is_ascii_uppercase());
    let gone = match next {
        Next::Secret => true,
        Next::Response => word.ends_with('=') || (word.len() >= 8 && mixed),
        Next::Any | Next::Mechanism => looks_secret(word),
    };
    out.push_str(if gone { REMOVED } else { word });
    match next {
        Next::Mechanism if !gone => Next::Response,
        _ if small == "auth" => Next::Mechanism,
        _ => Next::Any,
    }
}

fn is_gap(character: char) -> bool {
    character.is_whitespace() || "\"'`<>()[]{},;:|".contains(character)
}

/// Long, and mixed as only machines mix.
fn looks_secret(word: &str) -> bool {
    const OURS: &[&str] =
        &["pbx_", "pba_", "whsec_", "eyJ", "SG.", "xkeysib-", "key-", "re_", "ghp_", "xoxb-", "AKIA", "sk_", "sk-"];
    let word = word.trim_matches(['.', '…', '!', '?']);
    if OURS.iter().any(|begin| word.starts_with(begin) && word.len() >= begin.len() + 8) {
        return true;
    }
    if word.len() < 16 || word.parse::<MessageId>().is_ok() || is_recipient(word) || is_uuid(word) {
        return false;
    }
    let has = |of: fn(&u8) -> bool| word.bytes().filter(of).count();
    let (upper, lower, digits) = (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase), has(u8::is_ascii_digit));
    let mixed = upper >= 2 && lower >= 2 && digits >= 2;
    let hex = word.len() >= 24 && digits >= 4 && word.bytes().all(|octet| octet.is_ascii_hexdigit());
    let small =
        word.len() >= 24 && digits >= 3 && lower >= 3 && word.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let is_text = |octet: u8| octet.is_ascii_alphanumeric() || b"+/=_-.~$%*!".contains(&octet);
    let base64 = word.len() >= 20 && word.ends_with('=') && upper >= 1 && lower >= 1;
    word.bytes().all(is_text) && (mixed || hex || small || base64) && !is_stamp(word) && !is_host(word)
}

/// A host's labels are short, or have no capitals.
fn is_host(word: &str) -> bool {
    let labels: Vec<&str> = word.trim_end_matches('.').split('.').collect();
    let plain = |label: &&str| {
        !label.is_empty()
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && (label.len() < 20 || !label.bytes().any(|octet| octet.is_ascii_uppercase()))
    };
    labels.len() >= 2
        && labels.iter().all(plain)
        && labels.last().is_some_and(|last| last.len() >= 2 && last.bytes().all(|octet| octet.is_ascii_alphabetic()))
}

/// `2026-11-21T03:08:29.123Z`, which holds two capitals.
fn is_stamp(word: &str) -> bool {
    word.len() >= 16 && word.as_bytes().get(4) == Some(&b'-') && word.as_bytes().get(10) == Some(&b'T')
}

/// The id of a message, and the number of a recipient.
fn is_recipient(word: &str) -> bool {
    let parts = word.rsplit_once(|c: char| !c.is_ascii_alphanumeric());
    parts.is_some_and(|(message, n)| message.parse::<MessageId>().is_ok() && n.parse::<u32>().is_ok())
}

fn is_uuid(word: &str) -> bool {
    let lengths: Vec<usize> = word.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && word.bytes().all(|octet| octet == b'-' || octet.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scrub() -> Scrub {
        Scrub::new([7; 32])
    }

    #[test]
    fn a_change_is_judged_by_the_field_it_names() {
        let change = serde_json::json!({ "field": "/target/url", "before": null, "after": "https://hooks.test/services/b00path" });
        let text = scrub().value(change).to_string();
        assert!(text.contains("hooks.test") && !text.contains("b00path"), "{text}");
    }

    #[test]
    fn secrets_go_by_the_name_of_their_field_and_by_their_look() {
        let made = scrub().value(json!({
            "password": "x", "has_password": true, "client_secret": {"a": 1}, "key_file": "/etc/pillarbox/key",
            "url": "https://u:p@hooks.test/services/T0/B1/abc?x=1", "subject": "You are fired", "code": 550,
            "reply": "535 5.7.8 Error for pbx_0123456789abcdef, Bearer abc.def, password=hunter2 token: zz9",
            "host": "smtp-relay2.eu-west-1.mail.example.com", "at": "2026-11-21T03:08:29.123456Z",
        }));
        let text = made.to_string();
        for gone in ["hunter2", "pbx_01", "abc.def", "zz9", "services", "u:p", "fired", "\"x\""] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        for stays in
            ["hooks.test", "/etc/pillarbox/key", "535 5.7.8", "smtp-relay2.eu-west-1", "03:08:29", "550", "true"]
        {
            assert!(text.contains(stays), "{stays}: {text}");
        }
    }

    #[test]
    fn an_address_has_the_same_name_everywhere_and_its_domain_stays() {
        let mut scrub = scrub();
        let made = scrub.value(json!({
            "to": "Ann.Lee@example.com", "reply": "550 <ann.lee@example.com>: user ann.lee unknown",
            "verp": "b-1-ann.lee=example.com@bounce.test", "odd": "\"ann lee\"@example.com ann%40example.net",
            "who": "user ann.lee", "map": {"ann.lee@example.com": 1},
        }));
        let text = scrub.names(made.clone()).to_string();
        assert!(!text.to_lowercase().contains("ann"), "{text}");
        let name = made["to"].as_str().unwrap();
        assert!(name.ends_with("@example.com") && text.matches(name).count() >= 3, "{text}");
        assert!(text.contains("bounce.test") && text.contains("unknown"), "{text}");
    }

    #[test]
    fn what_helps_stays() {
        for text in [
            "421 4.7.0 [TSS04] Messages from 192.0.2.10 temporarily deferred due to user complaints",
            "220 mx.example.com ESMTP Postfix (Debian/GNU)",
            "AUTH PLAIN LOGIN XOAUTH2 was offered",
            "TLSv1.3 TLS_AES_256_GCM_SHA384",
            "route/o365",
            "https://support.example.com/answer/81126",
            "/var/lib/pillarbox/data",
        ] {
            let mut scrub = scrub();
            let shown = scrub.text(text);
            assert_eq!(shown, text);
        }
    }
}
