//! Failing lines of logs in JSON, of the journal, and of Haraka.

use std::borrow::Cow;

use memchr::memmem;
use serde_json::Value;

use super::explain_log::{Hit, behind, has, time_of, until};
use super::explain_log_unix::postfix_message;

/// Members that hold the words of a failure, the most precise first.
const WORDS: &[&str] =
    &["reply", "response", "smtp_response", "failure", "error", "err", "reason", "message", "msg", "MESSAGE"];

/// A line of `journalctl -o json`: Postfix by its own rules, of others what looks like a refusal.
pub fn journal(line: &[u8]) -> Option<Hit<'_>> {
    let candidates = [&b"status="[..], b"reject", b"authentication failed", b"rror", b"fail"];
    if !candidates.iter().any(|word| has(line, word)) || has(line, b"status=sent") {
        return None;
    }
    let value: Value = serde_json::from_slice(line).ok()?;
    let program = value.get("SYSLOG_IDENTIFIER").and_then(Value::as_str).unwrap_or_default();
    let message = value.get("MESSAGE").and_then(Value::as_str)?;
    let time = json_time(line);
    if program.starts_with("postfix") {
        let hit = postfix_message(program.as_bytes(), message.as_bytes())?;
        return Some(owned(time, &hit));
    }
    refusal_in(message).then(|| Hit { time, text: Cow::Owned(message.as_bytes().to_vec()), ..Hit::default() })
}

/// The same hit without borrowing from the value that was read.
fn owned<'l>(time: &'l [u8], hit: &Hit<'_>) -> Hit<'l> {
    Hit {
        time,
        recipient: Cow::Owned(hit.recipient.to_vec()),
        relay: Cow::Owned(hit.relay.to_vec()),
        text: Cow::Owned(hit.text.to_vec()),
        stage: hit.stage,
        own_refusal: hit.own_refusal,
        ..Hit::default()
    }
}

/// A line of JSON: a member that holds a refusal, at the top, in `fields`, or one level down.
pub fn json(line: &[u8]) -> Option<Hit<'_>> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let inner = value.get("fields").unwrap_or(&value);
    let of = |name: &str| inner.get(name).or_else(|| value.get(name));
    let word = |name: &str| of(name).and_then(Value::as_str);
    let text = WORDS.iter().filter_map(|name| words(of(name)?)).find(|text| refusal_in(text))?;
    let first = |names: &[&str]| names.iter().find_map(|name| word(name)).unwrap_or_default().as_bytes().to_vec();
    Some(Hit {
        time: json_time(line),
        recipient: Cow::Owned(first(&["recipient", "rcpt", "to", "rcpt_to"])),
        relay: Cow::Owned(first(&["relay", "host", "peer", "mx", "remote"])),
        text: Cow::Owned(text.into_bytes()),
        ..Hit::default()
    })
}

fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(members) => {
            let code = members.get("code").and_then(Value::as_u64);
            let text =
                ["text", "message", "msg", "lines", "reply"].iter().find_map(|name| words(members.get(*name)?))?;
            Some(code.map_or_else(|| text.clone(), |code| format!("{code} {text}")))
        }
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}

/// Whether a message holds a reply of 4yz or 5yz, or the words of a failed connection.
fn refusal_in(text: &str) -> bool {
    let octets = text.as_bytes();
    let reply = octets.windows(4).enumerate().any(|(at, window)| {
        matches!(window, [b'4' | b'5', b'0'..=b'7', b'0'..=b'9', b' ' | b'-'])
            && at
                .checked_sub(1)
                .is_none_or(|before| octets.get(before).is_some_and(|octet| !octet.is_ascii_alphanumeric()))
    });
    let lower = text.to_ascii_lowercase();
    let failed = [
        "refused",
        "timed out",
        "timeout",
        "certificate",
        "starttls",
        "authentication",
        "unreachable",
        "not found",
        "reset by peer",
        "rejected",
    ];
    reply || failed.iter().any(|word| lower.contains(word))
}

/// The time in a line of JSON: a member of a usual name, or the microseconds of the journal.
pub fn json_time(line: &[u8]) -> &[u8] {
    let names: [&[u8]; 7] = [
        b"\"timestamp\":",
        b"\"time\":",
        b"\"ts\":",
        b"\"@timestamp\":",
        b"\"__REALTIME_TIMESTAMP\":",
        b"\"date\":",
        b"\"datetime\":",
    ];
    let found = names.iter().find_map(|name| behind(line, name)).map(<[u8]>::trim_ascii_start).unwrap_or_default();
    match found.strip_prefix(b"\"") {
        Some(text) => until(text, b'"'),
        None => {
            let end = found.iter().position(|octet| !octet.is_ascii_digit() && *octet != b'.').unwrap_or(found.len());
            found.get(..end).unwrap_or_default()
        }
    }
}

/// A line of Haraka's outbound: what was bounced or deferred, and why.
pub fn haraka(line: &[u8]) -> Option<Hit<'_>> {
    let failed = [&b"bounce"[..], b"Bounc", b"deferr", b"delayed", b"Temp fail", b"rejected", b"Failed"];
    let rest = behind(line, b"[outbound] ").or_else(|| behind(line, b"] [core] "))?;
    if !failed.iter().any(|word| has(rest, word)) || has(rest, b"delivered ") {
        return None;
    }
    let mut text = rest;
    for mark in [&b"response=\""[..], b"Upstream error: ", b"err=\"", b"reason=\"", b"bouncing: ", b"Bouncing mail: "] {
        if let Some(found) = behind(rest, mark) {
            text = if mark.ends_with(b"\"") { until(found, b'"') } else { found };
            break;
        }
    }
    let to = memmem::find(rest, b"rcpt=\"").and_then(|at| rest.get(at + 6..)).map(|to| until(to, b'"'));
    let host = behind(rest, b"host=\"").map(|host| until(host, b'"'));
    Some(Hit {
        time: time_of(line),
        recipient: Cow::Borrowed(to.map(|to| until(to.strip_prefix(b"<").unwrap_or(to), b'>')).unwrap_or_default()),
        relay: Cow::Borrowed(host.unwrap_or_default()),
        text: Cow::Borrowed(text),
        ..Hit::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_read_as_the_log_it_carries() {
        let line = br#"{"__REALTIME_TIMESTAMP":"1777766401000000","SYSLOG_IDENTIFIER":"postfix/smtp","_PID":"7","MESSAGE":"4XyZ: to=<ann@b.example>, relay=mx.b.example[192.0.2.1]:25, dsn=5.1.1, status=bounced (host mx.b.example[192.0.2.1] said: 550 5.1.1 no such user)"}"#;
        let hit = journal(line).unwrap();
        assert_eq!((&*hit.relay, hit.time), (&b"mx.b.example"[..], &b"1777766401000000"[..]));
    }

    #[test]
    fn a_refusal_is_found_in_a_line_of_json_and_nothing_else_is_one() {
        let line = br#"{"timestamp":"2026-05-03T00:00:01Z","level":"WARN","fields":{"message":"attempt failed","reply":"550 5.1.1 no such user","recipient":"ann@b.example"}}"#;
        let hit = json(line).unwrap();
        assert_eq!((&*hit.text, &*hit.recipient), (&b"550 5.1.1 no such user"[..], &b"ann@b.example"[..]));
        assert_eq!(hit.time, b"2026-05-03T00:00:01Z");
        assert_eq!(json(br#"{"timestamp":"2026-05-03T00:00:01Z","message":"took 4512 ms for 451"}"#), None);
    }

    #[test]
    fn haraka_tells_what_it_gave_up() {
        let line = br#"2026-05-03T00:00:01.000Z [NOTICE] [A1.1.1] [outbound] bounced rcpt="<ann@b.example>" host="mx.b.example" response="550 5.1.1 no such user""#;
        assert_eq!(&*haraka(line).unwrap().text, b"550 5.1.1 no such user");
    }
}
