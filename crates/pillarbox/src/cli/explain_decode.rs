//! Words as libraries pack them, unpacked: escapes of JSON and of programming languages, HTML, Python's tuples, base64
//! challenges of OAuth, answers of token endpoints. Everything is bounded by the text it comes from.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proto::smtp::reply::Reply;

/// Most replies read from one text.
const MAX_REPLIES: usize = 20;
/// Most lines of one reply.
const MAX_LINES: usize = 100;

/// Escapes (`\r\n`, `\"`, `\xe9`, `\u003c`) and HTML (`&lt;`, `<br>`) resolved.
pub fn unescape(text: &str) -> String {
    let text = if text.contains('&') || text.contains("<br") || text.contains("</") { html(text) } else { text.into() };
    if text.contains('\\') { backslashes(&text) } else { text }
}

fn backslashes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let tail = rest.get(at + 1..).unwrap_or_default();
        rest = tail;
        let Some(mark) = tail.chars().next() else { break };
        let (length, resolved) = match mark {
            'n' => (1, Some('\n')),
            'r' => (1, Some(' ')),
            't' => (1, Some(' ')),
            '"' | '\'' | '/' | '\\' => (1, Some(mark)),
            'x' => (3, number(tail, 1, 3)),
            'u' => (5, number(tail, 1, 5)),
            _ => (0, Some('\\')),
        };
        match resolved {
            Some(character) => {
                out.push(character);
                rest = tail.get(length..).unwrap_or_default();
            }
            None => out.push('\\'),
        }
    }
    out.push_str(rest);
    out
}

fn number(text: &str, from: usize, to: usize) -> Option<char> {
    char::from_u32(u32::from_str_radix(text.get(from..to)?, 16).ok()?)
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<']) {
        out.push_str(rest.get(..at).unwrap_or_default());
        let tail = rest.get(at..).unwrap_or_default();
        let (used, shown) = match tail.strip_prefix('&') {
            Some(entity) => entity_of(entity),
            None => tag(tail),
        };
        out.push_str(&shown);
        rest = tail.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn entity_of(entity: &str) -> (usize, String) {
    let Some((name, _)) = entity.split_once(';').filter(|(name, _)| name.len() <= 8) else { return (1, "&".into()) };
    let character = match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok().and_then(char::from_u32),
            None => digits.parse().ok().and_then(char::from_u32),
        }),
    };
    character.map_or((1, "&".into()), |character| (name.len() + 2, character.into()))
}

/// Tags of text go, `<br>` and ends of blocks become line ends; addresses in angle brackets stay.
fn tag(text: &str) -> (usize, String) {
    const NAMES: &[&str] = &[
        "br", "p", "b", "i", "pre", "code", "div", "span", "li", "ul", "td", "tr", "table", "html", "body", "strong",
        "em", "a", "h1", "h2",
    ];
    let inside = text
        .get(1..)
        .and_then(|text| text.split_once('>'))
        .map(|(inside, _)| inside)
        .filter(|inside| inside.len() < 200);
    let Some(inside) = inside else { return (1, "<".into()) };
    let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default().to_ascii_lowercase();
    if !NAMES.contains(&name.as_str()) {
        return (1, "<".into());
    }
    let line_end =
        name == "br" || (inside.starts_with('/') && ["p", "pre", "div", "li", "tr"].contains(&name.as_str()));
    (inside.len() + 2, if line_end { "\n".into() } else { String::new() })
}

/// Replies in the form Python gives them: `(535, b'5.7.8 words')`, with line ends inside as `\n`.
pub fn python_replies(text: &str) -> Vec<Reply> {
    let mut all = Vec::new();
    for (at, _) in text.match_indices('(') {
        if all.len() >= MAX_REPLIES {
            break;
        }
        all.extend(python_reply(text.get(at + 1..).unwrap_or_default()));
    }
    all
}

fn python_reply(text: &str) -> Option<Reply> {
    let code = text.get(..3)?.parse().ok().filter(|code| (200..600).contains(code))?;
    let rest = text.get(3..)?.strip_prefix(',')?.trim_start();
    let rest = rest.strip_prefix('b').unwrap_or(rest);
    let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let body = rest.get(1..)?;
    let mut end = None;
    let mut escaped = false;
    for (at, character) in body.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => {
                end = Some(at);
                break;
            }
            _ => {}
        }
    }
    reply_of(code, &backslashes(body.get(..end?)?))
}

/// A reply of unpacked words, each line with its code or without.
pub fn reply_of(code: u16, words: &str) -> Option<Reply> {
    let number = code.to_string();
    let line = |line: &str| {
        let line = line.trim();
        let rest = line.strip_prefix(number.as_str()).filter(|rest| rest.starts_with(['-', ' ']));
        rest.map_or(line, |rest| rest.get(1..).unwrap_or_default()).to_owned()
    };
    let lines: Vec<String> = words.lines().map(line).filter(|line| !line.is_empty()).take(MAX_LINES).collect();
    (!lines.is_empty()).then(|| Reply::lines(code, lines))
}

/// What a member of an object literal says: `response: '535-5.7.8 words\n535 5.7.8 more'`.
pub fn member(text: &str, name: &str) -> Option<String> {
    let at = text.find(&format!("{name}: "))?;
    let rest = text.get(at + name.len() + 2..)?.trim_start();
    let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"' | '`'))?;
    let mut out = String::new();
    let mut rest = rest.get(1..)?;
    // Node breaks long strings: 'first\n' + 'second'.
    loop {
        let end = end_of(rest, quote)?;
        out.push_str(&backslashes(rest.get(..end)?));
        let more = rest.get(end + 1..)?.trim_start().strip_prefix('+').map(str::trim_start);
        match more.and_then(|more| more.strip_prefix(quote)) {
            Some(next) => rest = next,
            None => return Some(out),
        }
    }
}

fn end_of(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, character)| {
        let ends = !escaped && character == quote;
        escaped = !escaped && character == '\\';
        ends.then_some(at)
    })
}

/// An OAuth challenge (`334 eyJ...`, RFC 7628 §3.2.2 and XOAUTH2) decoded to its JSON.
pub fn challenge(text: &str) -> Option<String> {
    let at = text.find("eyJ")?;
    let word: String =
        text.get(at..)?.chars().take_while(|c| c.is_ascii_alphanumeric() || "+/=-_".contains(*c)).collect();
    let bare = word.trim_end_matches('=');
    let octets = STANDARD_NO_PAD
        .decode(bare)
        .or_else(|_| URL_SAFE_NO_PAD.decode(bare))
        .or_else(|_| STANDARD.decode(&word))
        .ok()?;
    let json: serde_json::Value = serde_json::from_slice(&octets).ok()?;
    // A token is three such words with dots between and holds no status.
    json.get("status")?;
    Some(json.to_string())
}

/// The answer of a token endpoint or of an HTTP API: its error in words.
pub fn token_error(text: &str) -> Option<String> {
    let (start, end) = (text.find('{')?, text.rfind('}')?);
    let json: serde_json::Value = serde_json::from_str(text.get(start..=end)?).ok()?;
    let word = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
    let nested = json.get("error").and_then(|error| error.get("message")).and_then(serde_json::Value::as_str);
    match (word("error"), word("error_description").or_else(|| word("message"))) {
        (Some(error), Some(description)) => Some(format!("{error}: {description}")),
        (Some(error), None) => Some(error.to_owned()),
        (None, _) => nested
            .or_else(|| ["response", "message", "detail", "error_message"].iter().find_map(|name| word(name)))
            .map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_html_become_words() {
        assert_eq!(
            unescape(r#"550 5.1.1 \u003ca@b.example\u003e\r\nno \"x\" C:\users"#),
            "550 5.1.1 <a@b.example> \nno \"x\" C:\\users"
        );
        assert_eq!(
            unescape("<p>550 5.1.1 &lt;a@b.example&gt;: no&#39;s<br/>more</p>"),
            "550 5.1.1 <a@b.example>: no's\nmore\n"
        );
        assert_eq!(unescape("550 <a@b.example>: x & y"), "550 <a@b.example>: x & y");
        assert_eq!(unescape("end \\"), "end ");
    }

    #[test]
    fn tuples_of_python_are_replies() {
        let found = python_replies(
            r#"{'a@b.example': (550, b'5.1.1 no\n5.1.1 "such" user'), 'c@d.example': (450, "4.2.0 later")}"#,
        );
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].code, found[0].lines.len()), (550, 2));
        assert_eq!(found[1].lines, ["4.2.0 later"]);
        assert!(python_replies("f(550, x) (999, b'x') (55").is_empty());
    }

    #[test]
    fn members_of_objects_are_joined() {
        let text =
            "{ code: 'EAUTH',\n  response: '535-5.7.8 not\\n' +\n    '535 5.7.8 accepted',\n  responseCode: 535 }";
        assert_eq!(member(text, "response").as_deref(), Some("535-5.7.8 not\n535 5.7.8 accepted"));
        assert_eq!(member(text, "command"), None);
    }

    #[test]
    fn challenges_and_token_answers_are_decoded_but_tokens_are_not() {
        let found = challenge(
            "334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2xlLmNvbS8ifQ==",
        );
        assert!(found.unwrap().contains("\"400\""));
        assert_eq!(challenge("auth=Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.x"), None);
        let found = token_error(r#"HTTP 400 {"error":"invalid_grant","error_description":"AADSTS65001: no consent"}"#);
        assert_eq!(found.as_deref(), Some("invalid_grant: AADSTS65001: no consent"));
    }
}
