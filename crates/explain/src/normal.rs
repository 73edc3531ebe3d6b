//! Replies and pasted texts in one form: code, enhanced code, one line of text, innermost reply of a nest.
//!
//! Unwraps what relays put around the reply they got: `host X said: ...`, `... -> 550 ...`, quoted and bracketed
//! replies, diagnostic codes. Nothing here knows what a text means.

use proto::smtp::reply::{EnhancedCode, Reply};
use serde::{Deserialize, Serialize};

/// Longest text looked at, in octets.
pub(crate) const MAX_TEXT: usize = 4096;
/// Deepest nest that is unwrapped.
const MAX_DEPTH: usize = 5;

/// Words before a reply that another server gave.
const SAID: &[&str] = &[
    " said: ",
    " refused to talk to me: ",
    " -> ",
    "remote server returned: ",
    "remote server returned ",
    "remote server was: ",
    "remote server is: ",
    "remote host said: ",
    "server response: ",
    "server responded: ",
    "response was: ",
    "responded with: ",
    "server replied: ",
    "replied: ",
    "answered: ",
    "reason: ",
    "smtp; ",
    "smtp;",
    "delivery temporarily suspended: ",
    "last error was: ",
    "last error: ",
    "error was: ",
    " error ",
    "returned error: ",
    "after initial connection: ",
    "after end of data: ",
    "after pipelined end of data: ",
    "after pipelined mail from: ",
    "after mail from: ",
    "after rcpt to: ",
    "after data: ",
    "server error: ",
    "smtp error: ",
    ": ",
    " '",
    "(",
    "<",
    "\"",
];

/// One reply of a nest, from the outside in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Who gave it, as far as the text names a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Reply code, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Enhanced code, if there is one; its class may differ from the reply's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<EnhancedCode>,
    /// Text without the codes, blanks collapsed.
    pub text: String,
}

/// A text in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normal {
    /// The outermost reply first; never empty, at most six.
    pub layers: Vec<Layer>,
}

impl Normal {
    /// Of a reply from the wire.
    pub fn of_reply(reply: &Reply) -> Self {
        let mut text = String::new();
        let mut enhanced = None;
        for line in &reply.lines {
            let rest = match leading_enhanced(line) {
                Some((code, rest)) if enhanced.is_none() || enhanced == Some(code) => {
                    enhanced = Some(code);
                    rest
                }
                _ => line.as_str(),
            };
            push_words(&mut text, rest);
        }
        let enhanced = enhanced.or_else(|| trailing_enhanced(&text));
        Self::nest(Layer { host: None, code: Some(reply.code), enhanced, text })
    }

    /// Of pasted words: a reply with its code, a line of a log, a message of a library.
    pub fn of_text(text: &str) -> Self {
        let mut whole = String::new();
        push_words(&mut whole, text);
        let layer = match reply_at(&whole) {
            Some(layer) => layer,
            None => Layer { host: None, code: None, enhanced: trailing_enhanced(&whole), text: whole },
        };
        Self::nest(layer)
    }

    /// The innermost reply: the cause.
    pub fn inner(&self) -> &Layer {
        // Never empty by construction; an index would be one more way to panic.
        static EMPTY: Layer = Layer { host: None, code: None, enhanced: None, text: String::new() };
        self.layers.last().unwrap_or(&EMPTY)
    }

    /// The innermost text with all that differs from message to message taken out, to count unknown replies:
    /// addresses, hosts, links, numbers and ids become `*`; at most 200 octets.
    pub fn fingerprint(&self) -> String {
        let layer = self.inner();
        let mut print = layer.code.map(|code| code.to_string()).unwrap_or_default();
        if let Some(enhanced) = layer.enhanced {
            push_words(&mut print, &enhanced.to_string());
        }
        let mut starred = false;
        for word in layer.text.split(' ') {
            let varies = word.contains(['@', '/', '=', '[', '<']) || word.bytes().any(|octet| octet.is_ascii_digit());
            let host = word.trim_matches('.').matches('.').count() > 1;
            if varies || host {
                if !starred {
                    push_words(&mut print, "*");
                }
            } else {
                push_words(&mut print, &word.to_ascii_lowercase());
            }
            starred = varies || host;
        }
        print.truncate(print.floor_char_boundary(200));
        print
    }

    fn nest(outer: Layer) -> Self {
        let mut layers = vec![outer];
        while layers.len() <= MAX_DEPTH {
            let Some(inner) = layers.last().and_then(|layer| wrapped(&layer.text)) else { break };
            layers.push(inner);
        }
        Self { layers }
    }
}

/// Appends words with single blanks, up to the limit.
fn push_words(text: &mut String, words: &str) {
    for word in words.split(|character: char| character.is_whitespace() || character.is_control()) {
        if word.is_empty() {
            continue;
        }
        let room = MAX_TEXT.saturating_sub(text.len() + 1);
        if room == 0 {
            return;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word[..word.floor_char_boundary(room.min(word.len()))]);
    }
}

/// An enhanced code at the start, also `#5.1.0` and `[5.1.0]`; whatever its class.
fn leading_enhanced(text: &str) -> Option<(EnhancedCode, &str)> {
    let bare = text.trim_start().trim_start_matches(['#', '[', '(']);
    let end = bare.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(bare.len());
    let (code, _) = EnhancedCode::parse_prefix(&bare[..end])?;
    let rest = bare[end..].trim_start_matches([']', ')', ':', ';', '-', ' ', ',']);
    // "5.1.1.2 ..." or "4.2.1msg" are no codes.
    let ends = bare[end..].chars().next().is_none_or(|next| !next.is_alphanumeric());
    ends.then_some((code, rest))
}

/// `(#5.1.1)` as qmail writes it at the end, `5.7.1 ` in the middle of appliances' texts.
fn trailing_enhanced(text: &str) -> Option<EnhancedCode> {
    let marked = text.rfind("(#").map(|at| &text[at + 2..]).or_else(|| text.find('#').map(|at| &text[at + 1..]));
    marked.and_then(|marked| leading_enhanced(marked).map(|(code, _)| code))
}

/// A reply that starts right here: `550 5.1.1 ...`, `550-5.1.1 ...`, `#550 ...`, `5.1.1 ...`.
fn reply_at(text: &str) -> Option<Layer> {
    let text = text.trim_start().trim_start_matches(['#', '"', '\'', '<', '[', '(']);
    let Some((code, rest)) = leading_code(text) else {
        let (enhanced, rest) = leading_enhanced(text)?;
        return Some(Layer { host: None, code: None, enhanced: Some(enhanced), text: rest.trim().to_owned() });
    };
    let continued = rest.starts_with('-');
    let rest = rest.trim_start_matches(['-', ' ', ':', ',', '#', '\'', '"']);
    // Python shows a reply as `(535, b'5.7.8 ...')`.
    let rest = rest.strip_prefix("b'").or_else(|| rest.strip_prefix("b\"")).unwrap_or(rest);
    let (enhanced, rest) = match leading_enhanced(rest) {
        Some((enhanced, rest)) => (Some(enhanced), rest),
        None => (None, rest),
    };
    let text = if continued { without_repeated(rest, code, enhanced) } else { rest.to_owned() };
    let enhanced = enhanced.or_else(|| trailing_enhanced(&text));
    Some(Layer { host: None, code: Some(code), enhanced, text })
}

/// Three digits of a refusal (or success) with a separator behind.
fn leading_code(text: &str) -> Option<(u16, &str)> {
    let digits = text.get(..3).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
    let code: u16 = digits.parse().ok().filter(|code| (200..600).contains(code))?;
    let rest = &text[3..];
    (rest.is_empty() || rest.starts_with([' ', '-', ':', ';', ',', '\'', '"'])).then_some((code, rest))
}

/// Removes the codes of the further lines from a multi-line reply that was pasted as one line.
fn without_repeated(text: &str, code: u16, enhanced: Option<EnhancedCode>) -> String {
    let mut text = text.to_owned();
    for separator in ['-', ' '] {
        if let Some(enhanced) = enhanced {
            text = text.replace(&format!(" {code}{separator}{enhanced} "), " ");
        }
        text = text.replace(&format!(" {code}{separator}"), " ");
    }
    text
}

/// The reply another server gave, inside a text: the last one that has words before it which say so.
fn wrapped(text: &str) -> Option<Layer> {
    let lower = text.to_ascii_lowercase();
    let mut best: Option<(usize, Layer)> = None;
    for marker in SAID {
        for (at, _) in lower.match_indices(marker) {
            let Some(layer) = refusal_at(&text[at + marker.len()..]) else { continue };
            if best.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                let host = host_before(&text[..at]);
                best = Some((at, Layer { host, ..layer }));
            }
            break;
        }
    }
    best.map(|(_, layer)| layer)
}

/// A reply with a 4yz or 5yz code and words behind it.
fn refusal_at(text: &str) -> Option<Layer> {
    let layer = reply_at(text)?;
    let code = layer.code?;
    let text = close(&layer.text).to_owned();
    let first = text.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    let says = layer.enhanced.is_some() || (text.contains(' ') && !COUNTED.contains(&first.as_str()));
    ((400..600).contains(&code) && says).then_some(Layer { text, ..layer })
}

/// Words behind a number that is no reply code.
const COUNTED: &[&str] =
    &["ms", "s", "sec", "seconds", "minutes", "bytes", "octets", "kb", "mb", "lines", "times", "messages", "of"];

/// Cuts off what follows the quote or bracket that an inner reply stood in.
fn close(text: &str) -> &str {
    let text = text.split("' (delivery attempts").next().unwrap_or(text);
    let text = text.split(" (in reply to ").next().unwrap_or(text);
    text.trim_end_matches(['\'', '"', '>', ')', ' '])
}

/// `host mx.example.net[192.0.2.1]` or `server mx.example.net` before the marker.
fn host_before(text: &str) -> Option<String> {
    let words = text.rsplit(' ').take(8);
    words
        .map(|word| word.split(['[', '(']).next().unwrap_or_default())
        .map(|word| word.trim_matches(|character: char| !character.is_ascii_alphanumeric()))
        .find(|word| word.contains('.') && !word.contains('@') && word.parse::<std::net::IpAddr>().is_err())
        .filter(|word| word.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_')))
        .filter(|word| word.len() <= 253)
        .map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(text: &str) -> (Option<u16>, String, String, Option<String>) {
        let normal = Normal::of_text(text);
        let layer = normal.inner().clone();
        (layer.code, layer.enhanced.map(|code| code.to_string()).unwrap_or_default(), layer.text, layer.host)
    }

    #[test]
    fn a_reply_is_taken_apart() {
        assert_eq!(inner("550 5.1.1 no  such\r\n user"), (Some(550), "5.1.1".into(), "no such user".into(), None));
        assert_eq!(inner("550 sorry (#5.1.1)"), (Some(550), "5.1.1".into(), "sorry (#5.1.1)".into(), None));
        assert_eq!(
            inner("550 #5.1.0 Address rejected."),
            (Some(550), "5.1.0".into(), "Address rejected.".into(), None)
        );
        assert_eq!(inner("Connection refused"), (None, String::new(), "Connection refused".into(), None));
        assert_eq!(inner("5.1.1 gone"), (None, "5.1.1".into(), "gone".into(), None));
    }

    #[test]
    fn lines_of_one_reply_are_joined_without_their_codes() {
        let reply = Reply::lines(550, vec!["5.7.26 not authenticated".into(), "5.7.26 see there".into()]);
        assert_eq!(Normal::of_reply(&reply).inner().text, "not authenticated see there");
        let pasted = inner("550-5.7.26 not authenticated 550 5.7.26 see there");
        assert_eq!(pasted, (Some(550), "5.7.26".into(), "not authenticated see there".into(), None));
    }

    #[test]
    fn an_enhanced_code_of_another_class_is_kept() {
        assert_eq!(inner("421 5.7.32 not aligned").1, "5.7.32");
    }

    #[test]
    fn nested_replies_are_unwrapped() {
        for (text, host, wanted) in [
            (
                "550 5.1.1 <a@b.example>: Recipient address rejected: undeliverable address: host mx.b.example[192.0.2.1] \
                 said: 550 5.1.1 User unknown (in reply to RCPT TO command)",
                Some("mx.b.example"),
                "User unknown",
            ),
            ("550 5.1.351 Remote server returned unknown recipient -> 550 5.1.1 User unknown", None, "User unknown"),
            ("550 5.1.0 Unknown address error 550-'5.1.1 User unknown' (delivery attempts: 0)", None, "User unknown"),
            (
                "554 4.4.7 Message expired: unable to deliver in 840 minutes.<421 4.4.2 Connection timed out>",
                None,
                "Connection timed out",
            ),
            (
                "SMTP error from remote mail server after RCPT TO:<a@b.example>: host mx.b.example [192.0.2.1]: 550 User \
              unknown",
                Some("mx.b.example"),
                "User unknown",
            ),
            (
                "connect to mx: host mx.b.example[192.0.2.1] refused to talk to me: 554 no service here",
                Some("mx.b.example"),
                "no service here",
            ),
        ] {
            let found = inner(text);
            assert!(found.2.starts_with(wanted), "{text}: {found:?}");
            assert_eq!(found.3.as_deref(), host, "{text}");
        }
    }

    #[test]
    fn replies_that_differ_only_in_names_and_numbers_have_one_fingerprint() {
        let print = |text| Normal::of_text(text).fingerprint();
        let first = print("550 5.7.1 <a@b.example> Message 17xYz refused by mx.b.example.net, see https://b.example/1");
        assert_eq!(first, "550 5.7.1 * message * refused by * see *");
        assert_eq!(
            first,
            print("550 5.7.1 <c@d.example> message 4A refused by mx2.d.example.org, see https://d.example/?2")
        );
    }

    #[test]
    fn numbers_that_are_no_replies_are_left_alone() {
        assert_eq!(Normal::of_text("550 maximum line length (998 octets) exceeded").layers.len(), 1);
        assert_eq!(Normal::of_text("550 blocked (554 times)").layers.len(), 1);
        assert_eq!(Normal::of_text("took: 450 ms in all").layers.len(), 1);
    }
}
