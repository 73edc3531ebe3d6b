//! Values named by a reply or failure: addresses, lists, waits, identities. They fill the templates of the words.
//!
//! Everything here comes from a peer: bounded and escaped before it is kept.

use std::collections::BTreeMap;

use proto::smtp::reply::escape;
use proto::transcript::{CertificateProblem, Failure};

/// Values by name, each at most 200 octets on one line.
pub type Values = BTreeMap<String, String>;

/// Names that [`from_text`] and [`from_failure`] may give, besides those a rule captures itself.
pub(crate) const COMMON: &[&str] = &[
    "url",
    "ip",
    "wait_s",
    "list",
    "address",
    "name",
    "reason",
    "peer",
    "host",
    "seconds",
    "names",
    "not_after",
    "offered",
    "extension",
    "size",
    "limit",
    "text",
    "provider",
    "policy",
];

/// Adds a value unless there is one of that name.
pub(crate) fn add(values: &mut Values, name: &str, value: &str) {
    let value = value.trim_matches(|character: char| character.is_whitespace() || ".,;:".contains(character));
    if !value.is_empty() && values.len() < 32 && !values.contains_key(name) {
        values.insert(name.to_owned(), escape(value.as_bytes(), 200));
    }
}

/// A value of a sign as it may be shown and kept: one line, control characters escaped, at most 1,000 octets.
pub fn sign_value(text: &str) -> String {
    escape(text.as_bytes(), 1_000)
}

/// What can be read from a text without knowing the rule.
pub(crate) fn from_text(values: &mut Values, text: &str, lower: &str) {
    for word in text.split([' ', '<', '>', '(', ')', '"', '\'']) {
        if let Some(at) = word.find("http://").or_else(|| word.find("https://")) {
            add(values, "url", word[at..].trim_end_matches(['.', ',', ';', ']']));
        } else if word.contains('@') && word.contains('.') && !word.starts_with('@') {
            add(values, "address", word.trim_matches(|character: char| !character.is_alphanumeric()));
        }
    }
    if let Some(ip) = addresses(text).next() {
        add(values, "ip", ip);
    }
    if let Some(wait) = wait_seconds(lower) {
        add(values, "wait_s", &wait.to_string());
    }
    if let Some(list) = blocklist(text, lower) {
        add(values, "list", list);
    }
}

/// What a failure holds besides its kind.
pub(crate) fn from_failure(values: &mut Values, failure: &Failure) {
    match failure {
        Failure::NameNotFound { name } | Failure::NoAddress { name } => add(values, "name", name),
        Failure::NullMx { domain } => add(values, "name", domain),
        Failure::DnsUnavailable { name, reason } => {
            add(values, "name", name);
            add(values, "reason", reason);
        }
        Failure::MxLoop { host } => add(values, "host", host),
        Failure::ConnectRefused { peer } | Failure::ConnectTimeout { peer } => add(values, "peer", &peer.to_string()),
        Failure::ConnectFailed { peer, reason } => {
            add(values, "peer", &peer.to_string());
            add(values, "reason", reason);
        }
        Failure::Timeout { seconds } => add(values, "seconds", &seconds.to_string()),
        Failure::BadReply { text } => add(values, "text", text),
        Failure::TlsHandshake { reason } | Failure::TokenUnavailable { reason } | Failure::Local { reason } => {
            add(values, "reason", reason);
        }
        Failure::TokenRefused { error, description } => {
            add(values, "error", error);
            add(values, "reason", description);
        }
        Failure::Api { error, text, wait_s, .. } => {
            add(values, "error", error);
            add(values, "reason", text);
            if let Some(wait_s) = wait_s {
                add(values, "wait_s", &wait_s.to_string());
            }
        }
        Failure::Certificate { problem, names, not_after } => {
            if let CertificateProblem::Weak(reason) | CertificateProblem::Other(reason) = problem {
                add(values, "reason", reason);
            }
            add(values, "names", &names.join(", "));
            if let Some(end) = not_after {
                add(values, "not_after", &proto::message::iso_date(*end));
            }
        }
        Failure::TlsVersion { offered } => add(values, "offered", offered),
        Failure::NoMechanism { offered } => add(values, "offered", &offered.join(" ")),
        Failure::MissingExtension { extension } => add(values, "extension", extension),
        Failure::TooLarge { size, limit } => {
            add(values, "size", &size.to_string());
            add(values, "limit", &limit.to_string());
        }
        Failure::Policy { policy, host, reason, .. } => {
            add(values, "policy", policy.name());
            add(values, "host", host);
            add(values, "reason", reason);
        }
        Failure::PrivateAddress { host, address } => {
            add(values, "host", host);
            add(values, "address", address);
        }
        Failure::Disconnected
        | Failure::EarlyOctets
        | Failure::Refused(_)
        | Failure::StartTlsMissing
        | Failure::AuthNeedsTls => {}
    }
}

/// IP addresses in a text, brackets and all.
fn addresses(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !(character.is_ascii_hexdigit() || matches!(character, '.' | ':')))
        .map(|word| word.trim_matches(['.', ':']))
        .filter(|word| word.len() >= 7 && word.parse::<std::net::IpAddr>().is_ok())
}

/// The wait a text asks for: `60 seconds`, `5 minutes`, `1 hour`, `00:05:00`; at most a week.
pub(crate) fn wait_seconds(lower: &str) -> Option<u32> {
    let words: Vec<&str> = lower.split([' ', ',', '(', ')']).collect();
    let clock = words.iter().find_map(|word| clock_time(word));
    let spoken = || words.windows(2).find_map(|pair| spoken_time(pair[0], pair[1]));
    clock.or_else(spoken).filter(|seconds| (1..=604_800).contains(seconds))
}

fn clock_time(word: &str) -> Option<u32> {
    let mut parts = word.trim_end_matches(['.', ';']).split(':');
    let mut part = || parts.next().filter(|digits| digits.len() == 2).and_then(|digits| digits.parse::<u32>().ok());
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    parts.next().is_none().then_some(hours * 3600 + minutes * 60 + seconds)
}

fn spoken_time(number: &str, unit: &str) -> Option<u32> {
    let number: u32 = number.parse().ok().filter(|&number| number > 0 && number < 100_000)?;
    let unit = match unit.get(..3)? {
        "sec" => 1,
        "min" => 60,
        "hou" => 3600,
        "day" => 86_400,
        _ => return None,
    };
    Some(number * unit)
}

/// Words before the name of a blocklist.
const LIST_MARKS: &[&str] = &[
    "blocked using ",
    "listed at ",
    "listed in ",
    "listed on ",
    "listed by ",
    "black list at ",
    "blacklisted by ",
    "in dnsbl ",
];

fn blocklist<'t>(text: &'t str, lower: &str) -> Option<&'t str> {
    let at = LIST_MARKS.iter().find_map(|mark| lower.find(mark).map(|at| at + mark.len()))?;
    let end = text[at..].find([';', ',', '(', '<', '"']).map_or(text.len(), |end| at + end);
    let sentence = text[at..end].split(". ").next()?.trim();
    let words = if sentence.split(' ').count() > 4 { sentence.split(' ').next()? } else { sentence };
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Values {
        let mut values = Values::new();
        from_text(&mut values, text, &text.to_ascii_lowercase());
        values
    }

    #[test]
    fn values_are_read_from_a_reply() {
        let values = read(
            "Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.7",
        );
        assert_eq!(values["ip"], "192.0.2.7");
        assert_eq!(values["list"], "zen.spamhaus.org");
        assert_eq!(values["url"], "https://www.spamhaus.org/query/ip/192.0.2.7");
        assert_eq!(read("<a.b@example.net>: unknown")["address"], "a.b@example.net");
        assert_eq!(read("from 2001:db8::1 (x)")["ip"], "2001:db8::1");
    }

    #[test]
    fn waits_are_read_in_the_forms_servers_use() {
        for (text, seconds) in [
            ("greylisted for 60 seconds", Some(60)),
            ("try again in 5 minutes.", Some(300)),
            ("please come back in 00:05:00", Some(300)),
            ("in 2 hours", Some(7200)),
            ("99999999999 seconds", None),
            ("0 seconds", None),
            ("no time", None),
        ] {
            assert_eq!(wait_seconds(text), seconds, "{text}");
        }
    }

    #[test]
    fn values_cannot_carry_control_characters_or_grow() {
        let values = read(&format!("http://{}\u{1b}[2J", "x".repeat(900)));
        assert!(values["url"].len() <= 200);
        assert!(!values["url"].contains('\u{1b}'));
    }
}
