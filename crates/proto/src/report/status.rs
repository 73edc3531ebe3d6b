//! The machine's part of a report: groups of fields as in RFC 3464 §2, with what programs get wrong in them.

use super::codes::{address_at, addresses_in, code_at, codes_in, enhanced_at};
use super::date::parse_date;
use super::model::{Action, BouncedRecipient, Certainty, MAX_RECIPIENTS};
use super::words::{MAX_DIAGNOSTIC, one_line};
use crate::smtp::reply::EnhancedCode;

/// The part as read.
#[derive(Debug, Default)]
pub(super) struct Status {
    pub(super) reporting_mta: Option<String>,
    pub(super) envelope_id: Option<String>,
    pub(super) recipients: Vec<BouncedRecipient>,
}

/// Fields of one recipient before they are judged.
#[derive(Debug, Default)]
struct Group {
    final_recipient: Option<String>,
    original_recipient: Option<String>,
    actual: Option<String>,
    action: Option<Action>,
    status: Option<EnhancedCode>,
    code: Option<u16>,
    diagnostic: Option<String>,
    remote: Option<String>,
    last_attempt: Option<i64>,
    until: Option<i64>,
}

/// Whether a text holds the fields of a delivery report.
pub(super) fn is_status(text: &str) -> bool {
    let line = |wanted: &str| {
        let found = memchr::memmem::find_iter(text.as_bytes(), &wanted.as_bytes()[1..]);
        found.take(20).any(|at| {
            at > 0 && text.get(at - 1..at - 1 + wanted.len()).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
        })
    };
    line("Final-Recipient:") && (line("Action:") || line("Status:") || line("Diagnostic-Code:"))
}

/// Reads the fields.
pub(super) fn parse(text: &str) -> Status {
    let mut found = Status::default();
    let mut group = Group::default();
    for (name, value) in fields(text) {
        let value = value.trim();
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "reporting-mta" => found.reporting_mta = found.reporting_mta.or_else(|| host(value)),
            "original-envelope-id" => found.envelope_id = Some(one_line(value, 200)),
            "" => {
                // An empty line ends a group only where the group is somebody's.
                if group.is_somebody() && group.says_something() {
                    finish(&mut found, &mut group);
                }
            }
            _ => group.field(&lower, value, &mut found),
        }
    }
    finish(&mut found, &mut group);
    found
}

/// Names and unfolded values; an empty name for an empty line.
fn fields(text: &str) -> impl Iterator<Item = (&str, String)> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            if line.trim().is_empty() {
                return Some(("", String::new()));
            }
            let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_name(name)) else { continue };
            let mut value = value.to_owned();
            while let Some(next) = lines.peek() {
                let folded = next.starts_with([' ', '\t']) && !next.trim().is_empty();
                // Replies of several lines are put in unfolded by some: `550-5.7.1 ...`.
                let stray =
                    !folded && !next.trim().is_empty() && next.split_once(':').is_none_or(|(name, _)| !is_name(name));
                if !(folded || stray) || value.len() > 4 * MAX_DIAGNOSTIC {
                    break;
                }
                value.push(' ');
                value.push_str(next.trim());
                lines.next();
            }
            return Some((name.trim(), value));
        }
    })
}

fn is_name(name: &str) -> bool {
    let name = name.trim_end();
    !name.is_empty()
        && name.len() < 60
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

impl Group {
    const fn is_somebody(&self) -> bool {
        self.final_recipient.is_some() || self.original_recipient.is_some() || self.actual.is_some()
    }

    const fn says_something(&self) -> bool {
        self.action.is_some() || self.status.is_some() || self.diagnostic.is_some()
    }

    fn field(&mut self, name: &str, value: &str, found: &mut Status) {
        match name {
            "final-recipient" => {
                // A second one without an empty line between.
                if self.final_recipient.is_some() && self.says_something() {
                    finish(found, self);
                }
                self.final_recipient = self.final_recipient.take().or_else(|| recipient(value));
            }
            "original-recipient" => {
                if self.original_recipient.is_some() && self.final_recipient.is_some() && self.says_something() {
                    finish(found, self);
                }
                self.original_recipient = recipient(value);
            }
            "x-actual-recipient" | "x-failed-recipient" => self.actual = recipient(value),
            "action" => self.action = action(value),
            "status" => {
                self.status = codes_in(value).1.or_else(|| enhanced_at(value));
                self.code = self.code.or_else(|| code_at(value));
                if self.diagnostic.is_none()
                    && let Some((_, comment)) = value.split_once('(')
                {
                    self.diagnostic = Some(comment.trim_end_matches(')').to_owned());
                }
            }
            "diagnostic-code" | "x-diagnostic-code" | "x-notes" | "x-supplementary-info" => {
                let text = diagnostic(value);
                let firmer = |old: &String| codes_in(old).0.is_some() || codes_in(&text).0.is_none();
                if !text.is_empty() && !self.diagnostic.as_ref().is_some_and(firmer) {
                    self.diagnostic = Some(text);
                }
            }
            "remote-mta" => self.remote = host(value),
            "last-attempt-date" => self.last_attempt = parse_date(value),
            "will-retry-until" => self.until = parse_date(value),
            _ => {}
        }
    }
}

fn finish(found: &mut Status, group: &mut Group) {
    let group = std::mem::take(group);
    if !group.is_somebody() {
        // Fields that an empty line tore off their recipient.
        if group.says_something()
            && let Some(last) = found.recipients.last_mut()
        {
            last.status = last.status.or(group.status);
            if last.diagnostic.is_empty() {
                last.diagnostic = group.diagnostic.map(|text| one_line(&text, MAX_DIAGNOSTIC)).unwrap_or_default();
            }
        }
        return;
    }
    if found.recipients.len() >= MAX_RECIPIENTS {
        return;
    }
    let original = group.original_recipient;
    let candidates = [group.final_recipient, original.clone(), group.actual];
    let address = |text: &&String| address_at(text).is_some_and(|end| end == text.len());
    let routable =
        |text: &&String| address(text) && text.rsplit_once('@').is_some_and(|(_, domain)| domain.contains('.'));
    let all = || candidates.iter().flatten();
    let Some(last) = all().find(routable).or_else(|| all().find(address)).or_else(|| all().next()).cloned() else {
        return;
    };
    let text = group.diagnostic.map(|text| one_line(&text, MAX_DIAGNOSTIC)).unwrap_or_default();
    let (code, enhanced) = codes_in(&text);
    let status = match group.status {
        // `5.0.0` says no more than the class; the words may.
        Some(EnhancedCode(class, 0, 0)) => enhanced.filter(|inner| inner.0 == class).or(group.status),
        other => other.or(enhanced),
    };
    let action = group.action.unwrap_or(match status {
        Some(EnhancedCode(2, ..)) => Action::Delivered,
        _ => Action::Failed,
    });
    found.recipients.push(BouncedRecipient {
        original_recipient: original.filter(|original| !original.eq_ignore_ascii_case(&last)),
        final_recipient: last,
        action,
        status,
        code: group.code.or(code),
        diagnostic: text,
        remote_mta: group.remote,
        last_attempt: group.last_attempt,
        will_retry_until: group.until,
        certainty: Certainty::Named,
    });
}

/// `rfc822; <a@b.example> (comment)` without all but the address; RFC 6533 §3 escapes are undone.
fn recipient(value: &str) -> Option<String> {
    let (kind, text) = value.split_once(';').unwrap_or(("", value));
    let text = text.trim();
    let text = if kind.trim().eq_ignore_ascii_case("utf-8") { &*unescaped(text) } else { text };
    let bare = text.trim_start_matches(['<', '"', '\'', ' ']);
    let bare = bare.get(..5).filter(|start| start.eq_ignore_ascii_case("smtp:")).map_or(bare, |_| &bare[5..]);
    let found = match address_at(bare) {
        Some(end) => &bare[..end],
        None => match addresses_in(text).first() {
            Some((_, address)) => address,
            None => text.trim_matches(['<', '>', '"', ' ']),
        },
    };
    let found = one_line(found, 320);
    (!found.is_empty()).then_some(found)
}

/// `\x{E9}` is a character (RFC 6533 §3).
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x{") {
        out.push_str(&rest[..at]);
        rest = &rest[at + 3..];
        let end = rest.find('}').unwrap_or(rest.len());
        match u32::from_str_radix(&rest[..end], 16).ok().and_then(char::from_u32) {
            Some(character) => out.push(character),
            None => out.push('?'),
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn action(value: &str) -> Option<Action> {
    let word = value.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| !word.is_empty())?.to_ascii_lowercase();
    Some(match word.as_str() {
        "failed" | "failure" | "fail" | "rejected" => Action::Failed,
        "delayed" | "delay" | "deferred" => Action::Delayed,
        "delivered" | "deliverable" | "displayed" => Action::Delivered,
        "relayed" => Action::Relayed,
        "expanded" => Action::Expanded,
        _ => return None,
    })
}

/// Without the type in front (`smtp;`, `X-Postfix;`).
fn diagnostic(value: &str) -> String {
    let text = match value.split_once(';') {
        Some((kind, text)) if kind.len() < 20 && !kind.trim().contains([' ', ':']) => text,
        _ => value,
    };
    text.trim().to_owned()
}

/// `dns; mx.b.example (192.0.2.1, the server for the domain)`: the name.
pub(super) fn host(value: &str) -> Option<String> {
    let text = value.split_once(';').map_or(value, |(_, text)| text);
    let word = text.split_whitespace().next()?.trim_matches(['<', '>', '[', ']', '(', ')', ',', '.', '|']);
    let word = one_line(word, 255);
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(text: &str) -> Vec<String> {
        let all = parse(text).recipients.into_iter();
        all.map(|found| {
            let status = found.status.map(|status| status.to_string()).unwrap_or_default();
            let original = found.original_recipient.unwrap_or_default();
            format!(
                "{}|{original}|{:?}|{status}|{:?}|{}",
                found.final_recipient, found.action, found.code, found.diagnostic
            )
        })
        .collect()
    }

    #[test]
    fn groups_are_read_as_the_standard_writes_them() {
        let text = "Reporting-MTA: dns; mx.a.example\nArrival-Date: x\n\n\
                    Original-Recipient: rfc822;B@c.example\nFinal-Recipient: rfc822; <b@c.example>\nAction: failed\nStatus: 5.1.1\n\
                    Remote-MTA: dns; mx.c.example (192.0.2.1)\nDiagnostic-Code: smtp; 550 5.1.1 no\n such user\n\n\
                    Final-Recipient: rfc822; d@e.example\nAction: delayed\nStatus: 4.4.1 (later)\n";
        assert_eq!(
            short(text),
            ["b@c.example||Failed|5.1.1|Some(550)|550 5.1.1 no such user", "d@e.example||Delayed|4.4.1|None|later"]
        );
        let read = parse(text);
        assert_eq!(read.reporting_mta.as_deref(), Some("mx.a.example"));
        assert_eq!(read.recipients[0].remote_mta.as_deref(), Some("mx.c.example"));
    }

    #[test]
    fn broken_groups_are_read_too() {
        for (text, wanted) in [
            (
                "Final-Recipient: LOCAL;<f.b>\nOriginal-Recipient: rfc822;<f.b@a.example>\nAction: failed\n",
                "f.b@a.example||Failed||None|",
            ),
            (
                "Final-Recipient: rfc822; a@b.example\n\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 5.2.2 full",
                "a@b.example||Failed|5.2.2|Some(550)|550 5.2.2 full",
            ),
            ("Final-Recipient: a@b.example\nAction: failed (bad)\nStatus: 5.1.1", "a@b.example||Failed|5.1.1|None|"),
            (
                "Final-Recipient: utf-8; gr\\x{FC}n@b.example\nAction: failed\nStatus: 5.1.1",
                "grün@b.example||Failed|5.1.1|None|",
            ),
            ("Final-Recipient: rfc822; a@b.example\nStatus: 2.1.5", "a@b.example||Delivered|2.1.5|None|"),
            (
                "Final-Recipient: Rfc822; a@b.example\nAction: failed\nDiagnostic-Code: smtp; 550-5.7.1 one\n550 5.7.1 two",
                "a@b.example||Failed|5.7.1|Some(550)|550-5.7.1 one 550 5.7.1 two",
            ),
        ] {
            assert_eq!(short(text), [wanted], "{text}");
        }
        let two = "Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\nFinal-Recipient: rfc822; c@b.example\nAction: failed\nStatus: 5.2.2";
        assert_eq!(short(two).len(), 2);
    }
}
