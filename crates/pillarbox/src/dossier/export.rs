//! A dossier for strangers' eyes: no text, no subject, no metadata; addresses keep their domain and lose the rest, the same
//! address always in the same way, so that one can still follow a recipient through it.

use std::collections::HashMap;

use proto::Address;
use serde_json::Value;

use super::DossierOut;

/// Fields that are left out wherever they stand.
const LEFT_OUT: [&str; 8] =
    ["subject", "metadata", "tags", "from", "message_id", "client", "attachments", "text_withheld"];
/// Header fields whose values are shown: they hold no words of people.
const SHOWN: [&str; 7] = [
    "date",
    "mime-version",
    "content-transfer-encoding",
    "auto-submitted",
    "precedence",
    "list-unsubscribe-post",
    "x-mailer",
];
/// Parameters of Content-Type that are shown: they say how it is written, and not what it is called.
const OF_TYPE: [&str; 8] = ["boundary", "charset", "delsp", "format", "micalg", "protocol", "report-type", "type"];
/// Shorter names are too common to be looked for in free text.
const SHORTEST_NAME: usize = 3;

/// The masked form.
pub fn masked(dossier: &DossierOut) -> Value {
    let mut value = serde_json::to_value(dossier).unwrap_or_default();
    let mut masker = Masker::default();
    let all = dossier.message.recipients.iter().map(|one| one.address.as_str());
    for address in all.chain(std::iter::once(dossier.message.envelope_from.as_str())) {
        masker.learn(address);
    }
    if let Some(headers) = value.pointer_mut("/content/headers").and_then(Value::as_array_mut) {
        headers.iter_mut().for_each(hide_value);
    }
    if let Some(content) = value.pointer_mut("/content").and_then(Value::as_object_mut) {
        content.remove("text");
    }
    masker.walk(&mut value);
    serde_json::json!({
        "format": "pillarbox-dossier-1",
        "masked": "local parts of addresses are numbered; subject, From, Message-ID, text, attachments, tags, metadata and the client's address are left out",
        "dossier": value,
    })
}

fn hide_value(field: &mut Value) {
    let name = field["name"].as_str().unwrap_or_default().to_ascii_lowercase();
    let value = field["value"].as_str().unwrap_or_default();
    field["value"] = match name.as_str() {
        "content-type" => type_alone(value).into(),
        "dkim-signature" => without_copies(value).into(),
        shown if SHOWN.contains(&shown) => return,
        _ => "…".into(),
    };
}

/// A type without names of files and comments (RFC 2045 §5.1); `…` stands for each parameter that is left out.
fn type_alone(value: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let mut parts = value.split(|c: char| {
        let ends = c == ';' && !quoted;
        (quoted, escaped) = match (c, escaped) {
            (_, true) => (quoted, false),
            ('\\', false) => (quoted, quoted),
            ('"', false) => (!quoted, false),
            _ => (quoted, false),
        };
        ends
    });
    let of_name = |c: &char| c.is_ascii_alphanumeric() || "/!#$&^_.+-".contains(*c);
    let first: String = parts.next().unwrap_or_default().trim_start().chars().take_while(of_name).collect();
    parts.filter(|part| !part.trim().is_empty()).fold(first, |shown, part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "'()+_,-./:=?".contains(c));
        match plain && OF_TYPE.contains(&name.as_str()) {
            true => format!("{shown}; {name}={value}"),
            false => format!("{shown}; …"),
        }
    })
}

/// A signature without the header fields that its signer may have copied into it, `z=` (RFC 6376 §3.5).
fn without_copies(value: &str) -> String {
    let is_copy = |tag: &&str| tag.split_once('=').is_some_and(|(name, _)| name.trim() == "z");
    value.split(';').filter(|tag| !is_copy(tag)).collect::<Vec<_>>().join(";")
}

#[derive(Default)]
struct Masker {
    /// Lower-case address: its number.
    known: HashMap<String, usize>,
    /// Lower-case local parts, and their addresses' numbers.
    names: Vec<(String, usize)>,
}

impl Masker {
    fn number(&mut self, address: &str) -> usize {
        let next = self.known.len() + 1;
        *self.known.entry(address.to_lowercase()).or_insert(next)
    }

    /// An address whose name may stand in free text.
    fn learn(&mut self, text: &str) {
        let Ok(address) = Address::parse(text) else { return };
        let number = self.number(address.as_str());
        let name = address.local_part().to_lowercase();
        if name.len() >= SHORTEST_NAME && !self.names.iter().any(|(known, _)| *known == name) {
            self.names.push((name, number));
        }
    }

    fn walk(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.mask(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::Object(fields) => {
                fields.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
                fields.values_mut().for_each(|field| self.walk(field));
            }
            _ => {}
        }
    }

    /// Each address, then each known name that stands alone.
    fn mask(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('@') {
            let is_name = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || !c.is_ascii();
            let begin =
                rest[..at].char_indices().rev().take_while(|(_, c)| is_name(*c)).last().map_or(at, |(at, _)| at);
            let after = &rest[at + 1..];
            let is_domain = |c: char| c.is_alphanumeric() || c == '-' || c == '.' || !c.is_ascii();
            let length = after.find(|c: char| !is_domain(c)).unwrap_or(after.len());
            let domain = after[..length].trim_end_matches('.');
            out.push_str(&rest[..begin]);
            if begin == at || domain.is_empty() {
                // Quoted names end in a quote; what stands before it is not told either.
                if rest[..at].ends_with('"') {
                    let open = out[..out.len() - 1].rfind('"').unwrap_or(out.len() - 1);
                    out.truncate(open);
                    out.push_str("user-q");
                }
                out.push('@');
                rest = after;
                continue;
            }
            let number = self.number(&format!("{}@{domain}", &rest[begin..at]));
            out.push_str(&format!("user-{number}@{domain}"));
            rest = &after[domain.len()..];
        }
        out.push_str(rest);
        self.names.iter().fold(out, |text, (name, number)| without_name(&text, name, *number))
    }
}

/// Replaces a name where it stands as a word of its own, whatever its case.
fn without_name(text: &str, name: &str, number: usize) -> String {
    let lower = text.to_lowercase();
    // Folding may change lengths in rare scripts; then the places do not fit, and all of the text is hidden if it has the name.
    if lower.len() != text.len() {
        return if lower.contains(name) { "…".into() } else { text.to_owned() };
    }
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in lower.match_indices(name) {
        let end = at + name.len();
        let whole = !is_part(lower[..at].chars().next_back()) && !is_part(lower[end..].chars().next());
        // A domain may have the same word in it.
        let mut after = lower[end..].chars();
        let goes_on = after.next() == Some('.') && is_part(after.next());
        let in_host = lower[..at].ends_with(['@', '.']) || goes_on;
        if at >= done && whole && !in_host && text.is_char_boundary(at) && text.is_char_boundary(end) {
            out.push_str(&text[done..at]);
            out.push_str(&format!("user-{number}"));
            done = end;
        }
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_keeps_how_it_is_written_and_not_what_it_is_called() {
        for (value, shown) in [
            ("text/plain; charset=utf-8; format=flowed", "text/plain; charset=utf-8; format=flowed"),
            ("multipart/mixed;\r\n boundary=\"=_a;b\"", "multipart/mixed; …"),
            ("multipart/mixed;\r\n boundary=\"=_a.b\"", "multipart/mixed; boundary==_a.b"),
            ("application/pdf; name=\"Diagnosis Ann Smith.pdf\"", "application/pdf; …"),
            ("application/pdf; NAME=\"a\\\"; charset=Ann\"; charset=x", "application/pdf; …; charset=x"),
            ("image/png; name*0*=utf-8''Ann; charset=\"Ann Smith\"", "image/png; …; …"),
            ("text/html (of Ann Smith);", "text/html"),
            ("", ""),
        ] {
            assert_eq!(type_alone(value), shown, "{value}");
        }
    }

    #[test]
    fn values_of_header_fields_hold_no_words_of_people() {
        let shown = |name: &str, value: &str| {
            let mut field = serde_json::json!({ "name": name, "value": value });
            hide_value(&mut field);
            field["value"].as_str().unwrap().to_owned()
        };
        assert_eq!(shown("Content-Type", "application/pdf; name=Ann.pdf"), "application/pdf; …");
        assert_eq!(shown("DKIM-Signature", "v=1; d=a.test; z=Subject:Ann|To:bob; b=x"), "v=1; d=a.test; b=x");
        assert_eq!(shown("X-Mailer", "mailer 1"), "mailer 1");
        assert_eq!(shown("Thread-Topic", "Ann"), "…");
    }

    #[test]
    fn the_same_address_is_masked_the_same_way_everywhere() {
        let mut masker = Masker::default();
        masker.learn("ann.smith@one.example");
        masker.learn("bob@two.example");
        let text = "550 5.1.1 <Ann.Smith@one.example>: mailbox ann.smith unavailable; ask bob@two.example.";
        let masked = masker.mask(text);
        assert_eq!(masked, "550 5.1.1 <user-1@one.example>: mailbox user-1 unavailable; ask user-2@two.example.");
        assert_eq!(masker.mask("RCPT TO:<bob@two.example>"), "RCPT TO:<user-2@two.example>");
        assert_eq!(masker.mask("b+01k2=bob=two.example@bounce.example"), "user-3@bounce.example");
        assert_eq!(masker.mask("ann.smith%40one.example"), "user-1%40one.example");
        assert_eq!(masker.mask("bobsled and bob.example"), "bobsled and bob.example");
        assert_eq!(masker.mask("no such user bob."), "no such user user-2.");
        assert!(!masker.mask("\"ann smith\"@one.example").contains("ann"));
        assert_eq!(masker.mask("a @ b, @, x@"), "a @ b, @, @", "a name without a domain is not told either");
    }
}
