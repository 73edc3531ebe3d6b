//! Failing lines of Postfix, Exim, Sendmail, OpenSMTPD and qmail.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::{memchr, memchr_iter, memmem, memrchr};
use proto::transcript::Stage;

use super::explain_log::{Hit, behind, has, time_of, until};

/// The program of a syslog line and what it said.
pub struct Program<'l> {
    /// `postfix/smtp`.
    pub name: &'l [u8],
    /// Behind `name[pid]: `.
    pub message: &'l [u8],
}

/// Of a line of syslog: `time host name[pid]: message`, or RFC 5424's `<n>1 time host name pid id data message`.
pub fn program(line: &[u8]) -> Option<Program<'_>> {
    if line.starts_with(b"<")
        && let Some(found) = rfc5424(line)
    {
        return Some(found);
    }
    let head = line.get(..line.len().min(300))?;
    let bracket = memchr(b'[', head)?;
    let start = memrchr(b' ', head.get(..bracket)?).map_or(0, |at| at + 1);
    let rest = line.get(bracket..)?;
    let end = memmem::find(rest.get(..rest.len().min(24))?, b"]: ")?;
    Some(Program { name: line.get(start..bracket)?, message: rest.get(end + 3..)? })
}

fn rfc5424(line: &[u8]) -> Option<Program<'_>> {
    let end = memchr(b'>', line.get(..6)?)?;
    if line.get(end + 1..end + 3)? != b"1 " {
        return None;
    }
    let line = line.get(end + 3..)?;
    let mut blanks = memchr_iter(b' ', line);
    let (host, name) = (blanks.nth(1)?, blanks.next()?);
    let data = blanks.nth(1)?;
    let rest = line.get(data + 1..)?;
    let message = match rest.first()? {
        b'[' => behind(rest, b"] ")?,
        _ => rest.get(memchr(b' ', rest)? + 1..)?,
    };
    Some(Program {
        name: line.get(host + 1..name)?,
        message: message.strip_prefix("\u{feff}".as_bytes()).unwrap_or(message),
    })
}

/// A line of Postfix.
pub fn postfix(line: &[u8]) -> Option<Hit<'_>> {
    let program = program(line)?;
    let hit = postfix_message(program.name, program.message)?;
    Some(Hit { time: time_of(line), ..hit })
}

/// The same without the head of the line.
pub fn postfix_message<'l>(name: &'l [u8], message: &'l [u8]) -> Option<Hit<'l>> {
    let service = memrchr(b'/', name).and_then(|at| name.get(at + 1..))?;
    match service {
        b"qmgr" | b"smtp" | b"lmtp" | b"error" | b"local" | b"virtual" | b"pipe" | b"retry" | b"discard"
        | b"bounce" => postfix_status(message),
        b"smtpd" | b"postscreen" | b"cleanup" | b"dnsblog" | b"proxymap" => postfix_refusal(message),
        // Names of one's own in master.cf, mostly copies of smtp.
        b"scache" | b"anvil" | b"pickup" | b"tlsmgr" | b"trivial-rewrite" | b"master" => None,
        _ => postfix_status(message),
    }
}

fn postfix_status(message: &[u8]) -> Option<Hit<'_>> {
    let at = memmem::find(message, b" status=")?;
    let status = message.get(at + 8..)?;
    if status.starts_with(b"sent") || status.starts_with(b"deliverable") {
        return None;
    }
    let text = behind(status, b"(").unwrap_or(status);
    let text = text.strip_suffix(b")").unwrap_or(text);
    let fields = message.get(..at)?;
    let field = |name: &[u8]| behind(fields, name).map(|rest| until(rest, b',')).unwrap_or_default();
    let relay = until(field(b" relay="), b'[');
    let recipient = field(b" to=");
    Some(Hit {
        id: until(fields, b':'),
        recipient: Cow::Borrowed(bare(recipient)),
        relay: Cow::Borrowed(if relay == b"none" { b"" } else { relay }),
        dsn: field(b" dsn="),
        text: Cow::Borrowed(if text.starts_with(b"expired") { b"expired, returned to sender" } else { text }),
        ..Hit::default()
    })
}

fn bare(address: &[u8]) -> &[u8] {
    address.strip_prefix(b"<").map_or(address, |rest| until(rest, b'>'))
}

/// `NOQUEUE: reject: RCPT from host[ip]: 554 5.7.1 ...; from=<> to=<>`, and what a milter or a header check refused.
fn postfix_refusal(message: &[u8]) -> Option<Hit<'_>> {
    if let Some(warning) = message.strip_prefix(b"warning: ") {
        let text = behind(warning, b": SASL ")?;
        let text = warning.get(warning.len() - text.len() - 5..)?;
        return has(text, b"authentication failed").then(|| Hit {
            text: Cow::Borrowed(text),
            stage: Some(Stage::Auth),
            own_refusal: true,
            ..Hit::default()
        });
    }
    let colon = memchr(b':', message.get(..message.len().min(40))?)?;
    let rest = message.get(colon + 2..)?;
    let rest = rest.strip_prefix(b"milter-").unwrap_or(rest);
    let rest = rest.strip_prefix(b"reject: ")?;
    let stage = match rest.split(|octet| *octet == b' ').next()? {
        b"RCPT" => Some(Stage::Recipient),
        b"MAIL" => Some(Stage::Sender),
        b"CONNECT" => Some(Stage::Banner),
        b"EHLO" | b"HELO" => Some(Stage::Ehlo),
        _ => Some(Stage::Message),
    };
    let said =
        behind(rest, b"]: ").or_else(|| behind(rest, b"]:").and_then(|rest| behind(rest, b": "))).unwrap_or(rest);
    let (said, fields) = match memmem::find(said, b"; from=<") {
        Some(at) => (said.get(..at)?, said.get(at..)?),
        None => (said, &b""[..]),
    };
    Some(Hit {
        id: if message.starts_with(b"NOQUEUE") { b"" } else { message.get(..colon)? },
        recipient: Cow::Borrowed(behind(fields, b" to=<").map(|rest| until(rest, b'>')).unwrap_or_default()),
        text: Cow::Borrowed(said),
        stage,
        own_refusal: true,
        ..Hit::default()
    })
}

/// Where the message of a line of Exim's main log begins, behind time, zone and process.
fn exim_body(line: &[u8]) -> Option<&[u8]> {
    let shaped = line.len() > 24
        && line.get(4) == Some(&b'-')
        && line.get(10) == Some(&b' ')
        && line.get(13) == Some(&b':')
        && line.get(16) == Some(&b':');
    if !shaped {
        return None;
    }
    let mut rest = behind(line.get(19..)?, b" ")?;
    while rest.starts_with(b"+") || rest.starts_with(b"[") || (rest.starts_with(b"-") && rest.get(5) == Some(&b' ')) {
        rest = behind(rest, b" ")?;
    }
    Some(rest)
}

/// The message id, where it is a line of Exim's main log: `1hSxyz-0000ab-Cd` or the longer form of 4.97.
pub fn exim_id(line: &[u8]) -> Option<&[u8]> {
    let body = exim_body(line)?;
    let word = until(body, b' ');
    let dash = |at: usize| word.get(at) == Some(&b'-');
    let id = dash(6) && (word.len() == 16 && dash(13) || word.len() == 23 && dash(18));
    if id {
        return Some(word);
    }
    (body.starts_with(b"H=") || has(body, b" rejected ") && has(body, b" H=")).then_some(b"")
}

/// A line of Exim: `==` deferred, `**` failed, `rejected` by its own rules.
pub fn exim(line: &[u8]) -> Option<Hit<'_>> {
    let id = exim_id(line)?;
    let body = exim_body(line)?;
    let rest = if id.is_empty() { body } else { body.get(id.len() + 1..)? };
    let failed = rest.strip_prefix(b"== ").or_else(|| rest.strip_prefix(b"** "));
    let hit = match failed {
        Some(rest) => exim_delivery(rest)?,
        None => exim_refusal(rest)?,
    };
    Some(Hit { time: time_of(line), id, ..hit })
}

fn exim_delivery(rest: &[u8]) -> Option<Hit<'_>> {
    let recipient = until(rest, b' ').strip_suffix(b":").unwrap_or_else(|| until(rest, b' '));
    let text = behind(rest, b": ").unwrap_or(rest);
    let host = behind(rest, b" H=").or_else(|| behind(rest, b" host ")).map(|rest| until(rest, b' '));
    // `user <user@example.org>` after a redirection.
    let address = match behind(until(rest, b':'), b" <") {
        Some(inner) => until(inner, b'>'),
        None => bare(recipient),
    };
    Some(Hit {
        recipient: Cow::Borrowed(address),
        relay: Cow::Borrowed(host.map(|host| until(host, b':')).unwrap_or_default()),
        text: Cow::Borrowed(text),
        ..Hit::default()
    })
}

fn exim_refusal(rest: &[u8]) -> Option<Hit<'_>> {
    let said = behind(rest, b" rejected ").or_else(|| rest.strip_prefix(b"rejected "));
    let (stage, said) = match said {
        Some(said) => {
            let stage = match until(said, b' ') {
                b"RCPT" => Some(Stage::Recipient),
                b"MAIL" => Some(Stage::Sender),
                b"connection" => Some(Stage::Banner),
                b"EHLO" | b"HELO" => Some(Stage::Ehlo),
                _ => Some(Stage::Message),
            };
            (stage, said)
        }
        None if has(rest, b"authenticator failed for ") => (Some(Stage::Auth), rest),
        None => return None,
    };
    let recipient = behind(said, b"<").map(|rest| until(rest, b'>')).filter(|_| stage == Some(Stage::Recipient));
    let text = behind(said, b">: ").or_else(|| behind(said, b": ")).unwrap_or(said);
    Some(Hit {
        recipient: Cow::Borrowed(recipient.unwrap_or_default()),
        text: Cow::Borrowed(text),
        stage,
        own_refusal: true,
        ..Hit::default()
    })
}

/// A line of Sendmail: `stat=` that is not `Sent`, or `reject=`.
pub fn sendmail(line: &[u8]) -> Option<Hit<'_>> {
    let message = program(line)?.message;
    let id = until(message, b':');
    let field = |name: &[u8]| behind(message, name).map(|rest| until(rest, b',')).unwrap_or_default();
    let relay = until(until(field(b" relay="), b' '), b'[');
    let relay = relay.strip_suffix(b".").unwrap_or(relay);
    if let Some(text) = behind(message, b" reject=") {
        return Some(Hit {
            time: time_of(line),
            id,
            recipient: Cow::Borrowed(bare(field(b" arg1="))),
            text: Cow::Borrowed(text),
            stage: Some(if has(message, b"check_mail") { Stage::Sender } else { Stage::Recipient }),
            own_refusal: true,
            ..Hit::default()
        });
    }
    let status = behind(message, b" stat=")?;
    let good = [&b"Sent"[..], b"queued", b"Message accepted"].iter().any(|good| status.starts_with(good));
    if good {
        return None;
    }
    Some(Hit {
        time: time_of(line),
        id,
        recipient: Cow::Borrowed(bare(field(b" to="))),
        relay: Cow::Borrowed(relay),
        dsn: field(b" dsn="),
        text: Cow::Borrowed(status),
        ..Hit::default()
    })
}

/// A line of OpenSMTPD: `result="TempFail" stat="..."`, or a command that failed.
pub fn opensmtpd(line: &[u8]) -> Option<Hit<'_>> {
    let message = program(line)?.message;
    let field = |name: &[u8]| behind(message, name).map(|rest| until(rest, b'"')).unwrap_or_default();
    let id = until(message, b' ');
    if has(message, b" failed-command ") {
        return Some(Hit {
            time: time_of(line),
            id,
            recipient: Cow::Borrowed(behind(message, b"RCPT TO:<").map(|rest| until(rest, b'>')).unwrap_or_default()),
            text: Cow::Borrowed(field(b" result=\"")),
            own_refusal: true,
            ..Hit::default()
        });
    }
    let result = field(b" result=\"");
    if result == b"Ok" || !has(message, b" stat=\"") {
        return None;
    }
    let to = behind(message, b" to=<").map(|rest| until(rest, b'>')).unwrap_or_default();
    let host = behind(field(b" relay=\""), b"(").map(|rest| until(rest, b')')).unwrap_or_default();
    Some(Hit {
        time: time_of(line),
        id,
        recipient: Cow::Borrowed(to),
        relay: Cow::Borrowed(host),
        text: Cow::Borrowed(field(b" stat=\"")),
        ..Hit::default()
    })
}

/// Deliveries of qmail that have begun: their end names only their number.
#[derive(Debug, Default)]
pub struct Deliveries {
    to: HashMap<Vec<u8>, Vec<u8>>,
}

/// Most deliveries remembered; qmail runs at most a few hundred at once.
const MAX_DELIVERIES: usize = 2000;

impl Deliveries {
    /// A line: `delivery 7: deferral: Connected_to_192.0.2.1_but_...`.
    pub fn hit<'l>(&mut self, line: &'l [u8]) -> Option<Hit<'l>> {
        if let Some(rest) = behind(line, b"starting delivery ") {
            let to = behind(rest, b" to remote ").or_else(|| behind(rest, b" to local "));
            if let Some(to) = to.filter(|to| to.len() < 500) {
                if self.to.len() >= MAX_DELIVERIES {
                    self.to.clear();
                }
                self.to.insert(until(rest, b':').to_vec(), to.to_vec());
            }
            return None;
        }
        let rest = behind(line, b"delivery ")?;
        let number = until(rest, b':');
        let recipient = self.to.remove(number).unwrap_or_default();
        let said = behind(rest, b": deferral: ").or_else(|| behind(rest, b": failure: "))?;
        let text: Vec<u8> = said.iter().map(|octet| if *octet == b'_' { b' ' } else { *octet }).collect();
        Some(Hit {
            time: time_of(line),
            id: number,
            recipient: Cow::Owned(recipient),
            text: Cow::Owned(text),
            ..Hit::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(octets: &[u8]) -> &str {
        std::str::from_utf8(octets).unwrap()
    }

    #[test]
    fn postfix_tells_recipient_host_codes_and_words() {
        for line in [
            "May  3 00:00:01 mail postfix/smtp[77]: 4XyZ: to=<ann@b.example>, relay=mx.b.example[192.0.2.1]:25, delay=1, delays=0/0/1/0, dsn=5.1.1, status=bounced (host mx.b.example[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command))",
            "2026-05-03T00:00:01.5+02:00 mail postfix-out/relay/smtp[77]: 4XyZ: to=<ann@b.example>, relay=mx.b.example[192.0.2.1]:25, delay=1, dsn=5.1.1, status=bounced (host mx.b.example[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command))",
            "<22>1 2026-05-03T00:00:01Z mail postfix/smtp 77 - - 4XyZ: to=<ann@b.example>, relay=mx.b.example[192.0.2.1]:25, delay=1, dsn=5.1.1, status=bounced (host mx.b.example[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command))",
        ] {
            let hit = postfix(line.as_bytes()).unwrap();
            assert_eq!((text(hit.id), text(&hit.recipient)), ("4XyZ", "ann@b.example"), "{line}");
            assert_eq!((text(&hit.relay), text(hit.dsn)), ("mx.b.example", "5.1.1"), "{line}");
            assert!(text(&hit.text).ends_with("(in reply to RCPT TO command)"), "{line}");
        }
    }

    #[test]
    fn lines_of_success_and_of_work_are_passed_over() {
        for line in [
            "May  3 00:00:01 mail postfix/smtp[77]: 4XyZ: to=<a@b.example>, relay=mx.b.example[192.0.2.1]:25, delay=1, dsn=2.0.0, status=sent (250 ok)",
            "May  3 00:00:01 mail postfix/qmgr[7]: 4XyZ: from=<a@b.example>, size=1, nrcpt=1 (queue active)",
            "May  3 00:00:01 mail postfix/smtpd[7]: connect from unknown[192.0.2.1]",
            "May  3 00:00:01 mail kernel: [12.5] status=bounced",
            "May  3 00:00:01",
        ] {
            assert_eq!(postfix(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn refusals_of_postfix_itself_have_their_stage() {
        let line = b"May  3 00:00:01 mail postfix/smtpd[7]: NOQUEUE: reject: RCPT from unknown[192.0.2.9]: 554 5.7.1 <ann@b.example>: Relay access denied; from=<x@y.example> to=<ann@b.example> proto=ESMTP helo=<z>";
        let hit = postfix(line).unwrap();
        assert_eq!(text(&hit.text), "554 5.7.1 <ann@b.example>: Relay access denied");
        assert_eq!((hit.stage, text(&hit.recipient), hit.own_refusal), (Some(Stage::Recipient), "ann@b.example", true));
        let line = b"May  3 00:00:01 mail postfix/submission/smtpd[7]: warning: unknown[192.0.2.9]: SASL LOGIN authentication failed: UGFzc3dvcmQ6";
        assert_eq!(postfix(line).unwrap().stage, Some(Stage::Auth));
    }

    #[test]
    fn exim_tells_what_it_deferred_failed_and_refused() {
        let line = b"2026-05-03 00:00:01 1hSxyz-0000ab-Cd ** ann@b.example R=dnslookup T=remote_smtp H=mx.b.example [192.0.2.1] X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=yes: SMTP error from remote mail server after RCPT TO:<ann@b.example>: 550 5.1.1 no such user";
        let hit = exim(line).unwrap();
        assert_eq!(
            (text(hit.id), text(&hit.recipient), text(&hit.relay)),
            ("1hSxyz-0000ab-Cd", "ann@b.example", "mx.b.example")
        );
        assert!(text(&hit.text).starts_with("SMTP error from remote"), "{}", text(&hit.text));
        let line =
            b"2026-05-03 00:00:01 H=(x) [192.0.2.9] F=<a@c.example> rejected RCPT <ann@b.example>: relay not permitted";
        let hit = exim(line).unwrap();
        assert_eq!((text(&hit.text), text(&hit.recipient)), ("relay not permitted", "ann@b.example"));
        assert_eq!(exim(b"2026-05-03 00:00:01 1hSxyz-0000ab-Cd => ann@b.example R=dnslookup T=remote_smtp H=mx [192.0.2.1] C=\"250 OK\""), None);
    }

    #[test]
    fn qmail_recipients_are_remembered_until_their_delivery_ends() {
        let mut log = Deliveries::default();
        assert_eq!(log.hit(b"@4000 starting delivery 7: msg 99 to remote ann@b.example"), None);
        let hit = log
            .hit(b"@4000 delivery 7: failure: 192.0.2.1_does_not_like_recipient./Remote_host_said:_550_no_such_user/")
            .unwrap();
        assert_eq!(text(&hit.recipient), "ann@b.example");
        assert!(text(&hit.text).contains("Remote host said: 550 no such user"));
        assert_eq!(log.hit(b"@4000 delivery 8: success: ok"), None);
    }

    #[test]
    fn sendmail_and_opensmtpd_tell_their_failures() {
        let line = b"May  3 00:00:01 mail sm-mta[5]: x4301: to=<ann@b.example>, delay=00:00:01, mailer=esmtp, relay=mx.b.example. [192.0.2.1], dsn=4.0.0, stat=Deferred: Connection refused by mx.b.example.";
        let hit = sendmail(line).unwrap();
        assert_eq!((text(&hit.relay), text(hit.dsn)), ("mx.b.example", "4.0.0"));
        let line = b"May  3 00:00:01 mail smtpd[5]: 5a7b mta delivery evpid=1 from=<a@c.example> to=<ann@b.example> rcpt=<-> source=\"192.0.2.5\" relay=\"192.0.2.1 (mx.b.example)\" delay=1s result=\"PermFail\" stat=\"550 5.1.1 no such user\"";
        let hit = opensmtpd(line).unwrap();
        assert_eq!((text(&hit.relay), text(&hit.text)), ("mx.b.example", "550 5.1.1 no such user"));
    }
}
