//! The header of an ordinary mail: the way it took, how long each step lasted, what receivers made of it.

use serde::Serialize;

use super::date::parse_date;
use super::part::Fields;
use super::words::one_line;
use crate::message::{decode_header_value, mailbox_of};

/// Most steps shown.
const MAX_HOPS: usize = 100;
/// Most results kept.
const MAX_RESULTS: usize = 100;
/// A step that lasts longer is marked, in seconds.
pub const SLOW_SECONDS: i64 = 60;

/// What the header tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Headers {
    /// `Subject`, decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Address of `From`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `Message-ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Unix seconds of `Date`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<i64>,
    /// From the sender to the recipient.
    pub hops: Vec<Hop>,
    /// Index of the slowest step, if any lasted longer than [`SLOW_SECONDS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest: Option<usize>,
    /// From the first to the last time stamp, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_s: Option<i64>,
    /// What receivers found out about the sender's domain (RFC 8601), the last receiver first.
    pub authentication: Vec<AuthResult>,
    /// What filters wrote into the header.
    pub filters: Vec<FilterMark>,
}

/// One `Received` field (RFC 5321 §4.4).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// Who handed it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The address the receiver saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Who took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// `ESMTPS` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// TLS version (`1.3`), or `yes` where only the protocol word tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// For whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// Seconds since the step before; negative where two clocks disagree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<i64>,
}

/// One result of a method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthResult {
    /// Who says so.
    pub server: String,
    /// `spf`, `dkim`, `dmarc`, `arc`, `iprev`, `compauth`, ….
    pub method: String,
    /// `pass`, `fail`, `softfail`, `none`, `temperror`, ….
    pub result: String,
    /// The domain it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The key's selector, of DKIM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Comment or reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it was recorded by a server further back (ARC).
    pub forwarded: bool,
}

/// A mark of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilterMark {
    /// `microsoft`, `spamassassin`, ….
    pub filter: String,
    /// `SCL`, `CAT`, `score`, ….
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Headers {
    pub(super) fn of(fields: &Fields<'_>) -> Self {
        let text = |name: &str| fields.get(name).map(decode_header_value).filter(|value| !value.is_empty());
        let raw = |name: &str| fields.get(name).map(|value| one_line(&String::from_utf8_lossy(value), 300));
        let mut found = Self {
            subject: text("Subject"),
            from: fields.get("From").and_then(mailbox_of).map(|address| address.to_string()),
            message_id: raw("Message-ID"),
            date: raw("Date").and_then(|value| parse_date(&value)),
            ..Self::default()
        };
        for (name, value) in fields.scan.iter(fields.content) {
            let value = || one_line(&String::from_utf8_lossy(value), 4000);
            match name.to_ascii_lowercase().as_slice() {
                b"received" if found.hops.len() < MAX_HOPS => found.hops.push(hop(&value())),
                b"authentication-results" => results(&mut found.authentication, &value(), false),
                b"arc-authentication-results" => results(&mut found.authentication, &value(), true),
                b"received-spf" => received_spf(&mut found.authentication, &value()),
                b"x-forefront-antispam-report" | b"x-microsoft-antispam" | b"x-forefront-antispam-report-untrusted" => {
                    forefront(&mut found.filters, &value());
                }
                b"x-ms-exchange-organization-scl" => mark(&mut found.filters, "microsoft", "SCL", &value()),
                b"x-spam-status" => spam_status(&mut found.filters, &value()),
                b"x-spam-flag" => mark(&mut found.filters, "spamassassin", "flag", &value()),
                b"x-spam-score" => mark(&mut found.filters, "spamassassin", "score", &value()),
                b"x-rspamd-score" | b"x-spamd-result" => mark(&mut found.filters, "rspamd", "score", &value()),
                _ => {}
            }
        }
        found.hops.reverse();
        found.delays();
        found
    }

    fn delays(&mut self) {
        let mut before = self.date;
        for hop in &mut self.hops {
            if let (Some(before), Some(now)) = (before, hop.time) {
                hop.delay_s = Some(now - before);
            }
            before = hop.time.or(before);
        }
        let slowest = self.hops.iter().enumerate().filter_map(|(index, hop)| Some((hop.delay_s?, index))).max();
        self.slowest = slowest.filter(|(delay, _)| *delay > SLOW_SECONDS).map(|(_, index)| index);
        let first = self.date.or_else(|| self.hops.iter().find_map(|hop| hop.time));
        let last = self.hops.iter().rev().find_map(|hop| hop.time);
        self.total_s = first.zip(last).map(|(first, last)| last - first);
    }
}

/// Words outside of comments, and comments with the word they stand behind.
fn hop(value: &str) -> Hop {
    let (way, date) = value.rsplit_once(';').unwrap_or((value, ""));
    let mut hop = Hop { time: parse_date(date), ..Hop::default() };
    let mut rest = way;
    let mut last = "";
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        rest = &rest[start..];
        if rest.starts_with('(') {
            let end = comment_end(rest);
            comment(&mut hop, last, &rest[1..end.max(1)]);
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        let end = rest.find([' ', '\t', '(']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        match last {
            "from" if hop.from.is_none() => {
                hop.ip = ip_in(word);
                hop.from = Some(word.trim_matches(['[', ']']).to_owned());
            }
            "by" if hop.by.is_none() => hop.by = Some(word.to_owned()),
            "with" if hop.with.is_none() => hop.with = Some(word.to_owned()),
            "for" if hop.recipient.is_none() => hop.recipient = Some(word.trim_matches(['<', '>', ',']).to_owned()),
            _ => {}
        }
        last = match word.to_ascii_lowercase().as_str() {
            "from" => "from",
            "by" => "by",
            "with" => "with",
            "for" => "for",
            // The host in a comment behind the name belongs to the same word.
            _ if matches!(last, "from") => "from-name",
            _ => "",
        };
    }
    if hop.tls.is_none() {
        let secure = |with: &String| {
            let with = with.to_ascii_uppercase();
            matches!(with.as_str(), "ESMTPS" | "ESMTPSA" | "LMTPS" | "UTF8SMTPS" | "UTF8SMTPSA" | "HTTPS")
        };
        hop.tls = tls_in(way).or_else(|| hop.with.as_ref().filter(|with| secure(with)).map(|_| "yes".to_owned()));
    }
    hop
}

fn comment_end(text: &str) -> usize {
    let mut depth = 0_u32;
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn comment(hop: &mut Hop, behind: &str, text: &str) {
    if matches!(behind, "from" | "from-name") && hop.ip.is_none() {
        hop.ip = ip_in(text);
    }
    if hop.tls.is_none() {
        hop.tls = tls_in(text);
    }
}

/// The first Internet address in a text.
fn ip_in(text: &str) -> Option<String> {
    let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | ':')));
    words.find_map(|word| {
        let tagged = word.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("ipv6:"));
        let word = if tagged { &word[5..] } else { word };
        word.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string())
    })
}

/// `TLSv1.3`, `TLS1_3`, `TLS1.2` in a text.
fn tls_in(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    for (at, _) in upper.match_indices("TLS") {
        let rest = upper[at + 3..].trim_start_matches(['V', ' ', '=', '_']);
        let digits: String = rest.chars().take(3).map(|c| if c == '_' { '.' } else { c }).collect();
        if digits.starts_with("1.") && digits.len() == 3 && digits.ends_with(|c: char| c.is_ascii_digit()) {
            return Some(digits);
        }
        if rest.starts_with('1') && !rest[1..].starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Some("1.0".to_owned());
        }
    }
    upper.contains("SSLV3").then(|| "SSL 3".to_owned())
}

/// `Authentication-Results` (RFC 8601 §2.2).
fn results(found: &mut Vec<AuthResult>, value: &str, forwarded: bool) {
    let mut pieces = split_outside_comments(value);
    if forwarded {
        // `i=1; mx.google.com; …` (RFC 8617 §4.1.1).
        pieces.retain(|piece| !piece.trim_start().starts_with("i="));
    }
    let Some(first) = pieces.first().map(|piece| piece.trim()) else { return };
    let has_server = !first.split_whitespace().next().unwrap_or_default().contains('=');
    let server = if has_server { first.split_whitespace().next().unwrap_or_default() } else { "" };
    for piece in pieces.iter().skip(usize::from(has_server)) {
        if found.len() >= MAX_RESULTS {
            return;
        }
        let (bare, comments) = without_comments(piece);
        let mut words = bare.split_whitespace();
        let Some((method, result)) = words.next().and_then(|word| word.split_once('=')) else { continue };
        let mut one = AuthResult {
            server: server.to_owned(),
            method: method.split('/').next().unwrap_or(method).to_ascii_lowercase(),
            result: result.to_ascii_lowercase(),
            domain: None,
            selector: None,
            reason: comments,
            forwarded,
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.trim_matches(['"', '<', '>', ';']);
            match name.to_ascii_lowercase().as_str() {
                "smtp.mailfrom" | "header.from" | "header.d" | "smtp.helo" | "header.i" | "envelope-from"
                    if one.domain.is_none() || name == "header.d" =>
                {
                    one.domain = Some(value.rsplit_once('@').map_or(value, |(_, domain)| domain).to_owned())
                        .filter(|domain| !domain.is_empty());
                }
                "header.s" => one.selector = Some(value.to_owned()),
                "reason" | "action" => {
                    one.reason = Some(match one.reason.take() {
                        Some(reason) => format!("{reason}; {name}={value}"),
                        None => format!("{name}={value}"),
                    })
                }
                _ => {}
            }
        }
        found.push(one);
    }
}

fn split_outside_comments(value: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    value
        .split(|c: char| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ';' && depth == 0
        })
        .collect()
}

fn without_comments(text: &str) -> (String, Option<String>) {
    let (mut bare, mut comment, mut depth) = (String::new(), String::new(), 0_u32);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => bare.push(c),
            c if comment.len() < 300 => comment.push(c),
            _ => {}
        }
    }
    (bare, (!comment.is_empty()).then_some(comment))
}

/// `Received-SPF: fail (…) client-ip=…; envelope-from="a@b"` (RFC 7208 §9.1).
fn received_spf(found: &mut Vec<AuthResult>, value: &str) {
    let (bare, reason) = without_comments(value);
    let mut words = bare.split([' ', ';']).filter(|word| !word.is_empty());
    let Some(result) = words.next() else { return };
    let property = |name: &str| {
        bare.split([' ', ';'])
            .find_map(|word| word.strip_prefix(name))
            .map(|value| value.trim_matches(['"', '<', '>']).to_owned())
    };
    let domain = property("envelope-from=")
        .or_else(|| property("helo="))
        .map(|value| value.rsplit_once('@').map_or(value.clone(), |(_, domain)| domain.to_owned()));
    if found.len() < MAX_RESULTS {
        let server = property("receiver=").unwrap_or_default();
        found.push(AuthResult {
            server,
            method: "spf".into(),
            result: result.to_ascii_lowercase(),
            domain,
            selector: None,
            reason,
            forwarded: false,
        });
    }
}

fn mark(found: &mut Vec<FilterMark>, filter: &str, name: &str, value: &str) {
    let value = one_line(value, 200);
    let known = found.iter().any(|mark| mark.filter == filter && mark.name == name && mark.value == value);
    if found.len() < MAX_RESULTS && !value.is_empty() && !known {
        found.push(FilterMark { filter: filter.to_owned(), name: name.to_owned(), value });
    }
}

/// `CIP:192.0.2.1;CTRY:DE;SCL:5;SFV:SPM;CAT:SPM;…`
fn forefront(found: &mut Vec<FilterMark>, value: &str) {
    for (name, value) in value.split(';').filter_map(|piece| piece.split_once(':')) {
        let name = name.trim();
        if matches!(name, "SCL" | "SFV" | "CAT" | "BCL" | "SFTY" | "IPV" | "CIP" | "CTRY" | "PTR" | "SRV") {
            mark(found, "microsoft", name, value.trim());
        }
    }
}

/// `Yes, score=7.1 required=5.0 tests=[…]`
fn spam_status(found: &mut Vec<FilterMark>, value: &str) {
    let verdict = value.split([',', ' ']).next().unwrap_or_default();
    mark(found, "spamassassin", "verdict", verdict);
    for name in ["score=", "required=", "tests="] {
        if let Some(at) = value.find(name) {
            let rest = &value[at + name.len()..];
            let rest = if name == "tests=" {
                rest.split(" autolearn").next().unwrap_or(rest)
            } else {
                rest.split([' ', ',']).next().unwrap_or(rest)
            };
            mark(found, "spamassassin", name.trim_end_matches('='), rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_in_order_with_their_delays() {
        let mail = "Received: from mx.b.example (mx.b.example [192.0.2.2]) (using TLSv1.3 with cipher X) by in.c.example (Postfix) with ESMTPS id 1 for <u@c.example>; Fri, 1 Mar 2024 00:10:05 +0000\n\
                    Received: from out.a.example ([IPv6:2001:db8::1]) by mx.b.example with ESMTP; Fri, 1 Mar 2024 00:00:05 +0000\n\
                    Received: by out.a.example; Fri, 1 Mar 2024 00:00:10 +0000\nDate: Fri, 1 Mar 2024 00:00:00 +0000\nSubject: x\n\n";
        let found = Headers::of(&Fields::new(mail.as_bytes()));
        let short: Vec<_> = found
            .hops
            .iter()
            .map(|hop| (hop.by.as_deref().unwrap_or_default(), hop.delay_s, hop.ip.as_deref(), hop.tls.as_deref()))
            .collect();
        assert_eq!(
            short,
            [
                ("out.a.example", Some(10), None, None),
                ("mx.b.example", Some(-5), Some("2001:db8::1"), None),
                ("in.c.example", Some(600), Some("192.0.2.2"), Some("1.3")),
            ]
        );
        assert_eq!((found.slowest, found.total_s), (Some(2), Some(605)));
        assert_eq!(found.hops[2].recipient.as_deref(), Some("u@c.example"));
    }

    #[test]
    fn results_of_receivers_are_read() {
        let mail = "Authentication-Results: mx.c.example; spf=softfail (no; really) smtp.mailfrom=x@a.example;\n dkim=pass header.i=@a.example header.s=s1 header.d=a.example; dmarc=fail (p=REJECT) header.from=a.example; compauth=fail reason=000\n\
                    X-Forefront-Antispam-Report: CIP:192.0.2.1;SCL:5;SFV:SPM;CAT:PHSH;\nX-Spam-Status: Yes, score=7.1 required=5.0 tests=A,B autolearn=no\n\n";
        let found = Headers::of(&Fields::new(mail.as_bytes()));
        let short: Vec<_> = found
            .authentication
            .iter()
            .map(|one| format!("{} {} {}", one.method, one.result, one.domain.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(short, ["spf softfail a.example", "dkim pass a.example", "dmarc fail a.example", "compauth fail -"]);
        let marks: Vec<_> = found.filters.iter().map(|mark| format!("{}={}", mark.name, mark.value)).collect();
        assert_eq!(
            marks,
            ["CIP=192.0.2.1", "SCL=5", "SFV=SPM", "CAT=PHSH", "verdict=Yes", "score=7.1", "required=5.0", "tests=A,B"]
        );
    }
}
