//! Which program wrote a log, and which of its lines tell of a failure. The forms themselves are in the files beside.
//!
//! A line is looked at as octets and judged by nobody here: most lines of a log tell of success and cost next to nothing.

use std::borrow::Cow;

use memchr::{memchr, memmem};
use proto::transcript::Stage;

use super::explain_log_csv::Columns;
use super::explain_log_more as more;
use super::explain_log_unix as unix;

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Postfix, syslog of any kind.
    Postfix,
    /// Exim's main log.
    Exim,
    /// Sendmail.
    Sendmail,
    /// OpenSMTPD.
    OpenSmtpd,
    /// qmail's send log.
    Qmail,
    /// Exchange message tracking.
    ExchangeTracking,
    /// Exchange SMTP protocol log of sending.
    ExchangeSend,
    /// Exchange SMTP protocol log of receiving.
    ExchangeReceive,
    /// `journalctl -o json`.
    Journal,
    /// JSON lines of a program, ours among them.
    Json,
    /// Haraka.
    Haraka,
}

impl Form {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postfix => "Postfix log",
            Self::Exim => "Exim main log",
            Self::Sendmail => "Sendmail log",
            Self::OpenSmtpd => "OpenSMTPD log",
            Self::Qmail => "qmail log",
            Self::ExchangeTracking => "Exchange message tracking log",
            Self::ExchangeSend => "Exchange SMTP send protocol log",
            Self::ExchangeReceive => "Exchange SMTP receive protocol log",
            Self::Journal => "journal in JSON",
            Self::Json => "log in JSON lines",
            Self::Haraka => "Haraka log",
        }
    }

    /// For JSON.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Postfix => "postfix",
            Self::Exim => "exim",
            Self::Sendmail => "sendmail",
            Self::OpenSmtpd => "opensmtpd",
            Self::Qmail => "qmail",
            Self::ExchangeTracking => "exchange-tracking",
            Self::ExchangeSend => "exchange-smtp-send",
            Self::ExchangeReceive => "exchange-smtp-receive",
            Self::Journal => "journal",
            Self::Json => "json",
            Self::Haraka => "haraka",
        }
    }
}

/// A line that tells of a failure, taken apart. Everything may be missing but the words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hit<'l> {
    /// As the log writes it.
    pub time: &'l [u8],
    /// Queue id, message id or session id.
    pub id: &'l [u8],
    /// Recipient.
    pub recipient: Cow<'l, [u8]>,
    /// Name of the host that answered.
    pub relay: Cow<'l, [u8]>,
    /// Enhanced code beside the words.
    pub dsn: &'l [u8],
    /// What was said.
    pub text: Cow<'l, [u8]>,
    /// Where it happened.
    pub stage: Option<Stage>,
    /// The server that wrote the log refused somebody, not the other way round.
    pub own_refusal: bool,
}

/// Reads the lines of one log.
#[derive(Debug)]
pub struct Reader {
    form: Form,
    columns: Columns,
    qmail: unix::Deliveries,
}

impl Reader {
    /// Of a log of this form.
    pub fn new(form: Form) -> Self {
        Self { form, columns: Columns::default(), qmail: unix::Deliveries::default() }
    }

    /// What the line tells, if it tells of a failure.
    pub fn hit<'l>(&mut self, line: &'l [u8]) -> Option<Hit<'l>> {
        match self.form {
            Form::Postfix => unix::postfix(line),
            Form::Exim => unix::exim(line),
            Form::Sendmail => unix::sendmail(line),
            Form::OpenSmtpd => unix::opensmtpd(line),
            Form::Qmail => self.qmail.hit(line),
            Form::ExchangeTracking => self.columns.tracking(line),
            Form::ExchangeSend => self.columns.protocol(line, b"<"),
            Form::ExchangeReceive => self.columns.protocol(line, b">"),
            Form::Journal => more::journal(line),
            Form::Json => more::json(line),
            Form::Haraka => more::haraka(line),
        }
    }

    /// The time of any line of this log.
    pub fn time<'l>(&self, line: &'l [u8]) -> &'l [u8] {
        match self.form {
            Form::ExchangeTracking | Form::ExchangeSend | Form::ExchangeReceive => {
                if line.starts_with(b"#") {
                    b""
                } else {
                    until(line, b',')
                }
            }
            Form::Journal | Form::Json => more::json_time(line),
            _ => time_of(line),
        }
    }
}

/// The form most of these lines have; `None` unless at least a third has one.
pub fn form_of(head: &[u8]) -> Option<Form> {
    let mut counts: Vec<(Form, u32)> = Vec::new();
    let mut lines = 0;
    for line in head.split(|octet| *octet == b'\n').filter(|line| !line.trim_ascii().is_empty()).take(400) {
        let line = line.trim_ascii_end();
        if let Some(form) = Columns::form(line) {
            return Some(form);
        }
        lines += 1;
        let Some(form) = form_of_line(line) else { continue };
        match counts.iter_mut().find(|(known, _)| *known == form) {
            Some((_, count)) => *count += 1,
            None => counts.push((form, 1)),
        }
    }
    let (form, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (count * 3 >= lines).then_some(form)
}

/// The form of one line, if it is the line of a mail log.
pub fn form_of_line(line: &[u8]) -> Option<Form> {
    if line.starts_with(b"{") {
        let journal = has(line, b"\"MESSAGE\"") && (has(line, b"\"__REALTIME_TIMESTAMP\"") || has(line, b"\"_PID\""));
        return match () {
            () if journal => Some(Form::Journal),
            () if !more::json_time(line).is_empty() && line.ends_with(b"}") => Some(Form::Json),
            () => None,
        };
    }
    if unix::exim_id(line).is_some() {
        return Some(Form::Exim);
    }
    if has(line, b" delivery ")
        && (has(line, b": deferral: ") || has(line, b": failure: ") || has(line, b": success: "))
        || has(line, b" starting delivery ")
    {
        return Some(Form::Qmail);
    }
    if has(line, b"[outbound]") || (has(line, b"] [core] ") && has(line, b"[NOTICE]")) {
        return Some(Form::Haraka);
    }
    if time_of(line).is_empty() && !line.starts_with(b"<") {
        return None;
    }
    let program = unix::program(line)?;
    let (name, message) = (program.name, program.message);
    if name.starts_with(b"postfix") {
        return Some(Form::Postfix);
    }
    if name.starts_with(b"smtpd") && (has(message, b" mta ") || has(message, b" smtp ")) {
        return Some(Form::OpenSmtpd);
    }
    let sendmail = [&b"sendmail"[..], b"sm-mta", b"sm-msp-queue"].iter().any(|known| name.starts_with(known));
    (sendmail || (has(message, b"stat=") && has(message, b"mailer="))).then_some(Form::Sendmail)
}

/// The time at the start of a line: `May  3 00:00:01`, ISO 8601, RFC 5424, TAI64N, `YYYY-MM-DD HH:MM:SS`.
pub fn time_of(line: &[u8]) -> &[u8] {
    let is = |at: usize, octet: u8| line.get(at) == Some(&octet);
    if is(3, b' ') && is(6, b' ') && is(9, b':') && is(12, b':') {
        return line.get(..15).unwrap_or_default();
    }
    let iso = |line: &[u8]| line.get(4) == Some(&b'-') && line.get(7) == Some(&b'-') && line.get(13) == Some(&b':');
    if iso(line) {
        return match line.get(10) {
            Some(b'T') => until(line, b' '),
            _ => line.get(..19).unwrap_or_default(),
        };
    }
    if is(0, b'@') {
        return until(line, b' ');
    }
    if is(0, b'<') {
        let rest = memchr(b' ', line).and_then(|at| line.get(at + 1..)).unwrap_or_default();
        if iso(rest) {
            return until(rest, b' ');
        }
    }
    if is(0, b'[') && line.get(1..).is_some_and(iso) {
        return line.get(1..20).unwrap_or_default();
    }
    b""
}

/// Whether `needle` is in there.
pub fn has(line: &[u8], needle: &[u8]) -> bool {
    memmem::find(line, needle).is_some()
}

/// What stands before the first `octet`, or all of it.
pub fn until(line: &[u8], octet: u8) -> &[u8] {
    memchr(octet, line).and_then(|at| line.get(..at)).unwrap_or(line)
}

/// What stands behind the first `mark`.
pub fn behind<'l>(line: &'l [u8], mark: &[u8]) -> Option<&'l [u8]> {
    memmem::find(line, mark).and_then(|at| line.get(at + mark.len()..))
}

/// What stands before the first `mark`, or all of it.
pub fn before<'l>(line: &'l [u8], mark: &[u8]) -> &'l [u8] {
    memmem::find(line, mark).and_then(|at| line.get(..at)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_in_the_forms_logs_have() {
        for (line, time) in [
            ("May  3 00:00:01 mail postfix/smtp[1]: x", "May  3 00:00:01"),
            ("2026-05-03T00:00:01.123456+02:00 mail postfix/smtp[1]: x", "2026-05-03T00:00:01.123456+02:00"),
            ("<22>1 2026-05-03T00:00:01Z mail postfix/smtp 1 - - x", "2026-05-03T00:00:01Z"),
            ("2026-05-03 00:00:01 1hSxyz-0000ab-Cd == a@b.example", "2026-05-03 00:00:01"),
            ("@400000005f0e1d2c3b4a5968 delivery 1: success: x", "@400000005f0e1d2c3b4a5968"),
            ("550 5.1.1 no such user", ""),
            ("", ""),
        ] {
            assert_eq!(time_of(line.as_bytes()), time.as_bytes(), "{line}");
        }
    }

    #[test]
    fn the_form_of_a_log_is_that_of_most_of_its_lines_and_prose_has_none() {
        assert_eq!(form_of(b"550 5.1.1 no such user\nhello\n"), None);
        let log = b"May  3 00:00:01 mail kernel: x\nMay  3 00:00:01 mail postfix/qmgr[1]: 4AB: removed\n";
        assert_eq!(form_of(log), Some(Form::Postfix));
    }
}
