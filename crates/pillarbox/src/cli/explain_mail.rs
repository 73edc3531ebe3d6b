//! Pasted mail: bounces, complaints, automatic answers and plain headers, one or a whole mailbox file.
//!
//! Reading is [`proto::report`]'s work, judging the rule base's; the words for people are in `explain_mail_words`.

use std::borrow::Cow;

use explain::{Basis, Explanation, Finding, RuleBase, Values};
use proto::report::{Action, AutoReply, Bounce, BouncedRecipient, Complaint, Headers, Report, classify};
use serde::Serialize;

use super::explain_mail_bounce::{Hardness, hardness, judge};
use super::explain_mail_signs::{of_answer, of_complaint, of_headers, sign};

/// Version of the JSON form; a number of its own, raised when a member changes its meaning.
const SCHEMA: &str = "pillarbox.explain.mail/1";
/// Most mails listed one by one; the others are counted in the groups.
const MAX_LISTED: usize = 1000;

/// What a mail, or several of them in mbox form, say.
#[derive(Debug, Serialize)]
pub struct MailReport {
    pub(super) schema: &'static str,
    /// How many mails were read.
    pub(super) mails: u64,
    /// Recipients, complaints and headers the rules know.
    pub(super) known: u64,
    /// Those for which only codes decided, or nothing at all.
    pub(super) unknown: u64,
    /// Each mail, at most 1000.
    pub(super) items: Vec<Item>,
    /// By cause, the most frequent first.
    pub(super) causes: Vec<Cause>,
}

/// One mail.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Item {
    /// Who was not reached, and why.
    Bounce { bounce: Box<BounceItem> },
    /// Somebody complained.
    Complaint { complaint: Box<Complaint>, findings: Vec<Judged> },
    /// A program answered.
    AutoReply { answer: Box<AutoReply>, findings: Vec<Judged> },
    /// An ordinary mail, or its header.
    Mail { headers: Box<Headers>, findings: Vec<Judged> },
}

/// A bounce with what is made of it.
#[derive(Debug, Serialize)]
pub(super) struct BounceItem {
    /// What the report itself says.
    pub(super) report: Bounce,
    /// In the order of the report's recipients.
    pub(super) recipients: Vec<Verdict>,
    /// Where nobody is named.
    pub(super) findings: Vec<Judged>,
}

/// What is made of a recipient.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// The address, as the report has it.
    pub(super) recipient: String,
    /// Whom the sender wrote to, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) original_recipient: Option<String>,
    pub(super) action: Action,
    /// `hard`, `soft` or `none`.
    pub(super) bounce: Hardness,
    /// Precise reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<u16>,
    /// The reply, or the words about this recipient.
    pub(super) diagnostic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) judged: Option<Judged>,
}

/// A finding, and whether more than codes decided.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Judged {
    pub(super) rule: String,
    pub(super) reason: String,
    pub(super) basis: Basis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<String>,
    #[serde(skip_serializing_if = "Values::is_empty")]
    pub(super) values: Values,
    /// Only codes decided: the words are not known.
    pub(super) codes_only: bool,
    /// One line.
    pub(super) title: String,
}

/// All that has the same rule and provider.
#[derive(Debug, Serialize)]
pub(super) struct Cause {
    pub(super) count: u64,
    /// How many of them are hard.
    pub(super) hard: u64,
    /// The first: a reply, or a subject.
    pub(super) example: String,
    pub(super) codes_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<String>,
    pub(super) explanation: Explanation,
}

/// Whether the first octets of an input are a mail: header fields that only mails have, or a mailbox file's first line.
pub fn looks_like_mail(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let mut fields = 0;
    let lines = head.split(|octet| matches!(octet, b'\n' | b'\r')).filter(|line| !line.is_empty()).take(60);
    let mut first = true;
    let mut mailbox = false;
    for line in lines {
        if std::mem::take(&mut first) && is_mailbox_line(line.strip_prefix(b">").unwrap_or(line)) {
            mailbox = true;
            continue;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if fields == 0 {
                return false;
            }
            continue;
        }
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { return false };
        let name = line[..colon].trim_ascii_end().to_ascii_lowercase();
        if name.is_empty() || !name.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')) {
            return false;
        }
        let strong =
            STRONG.contains(&name.as_slice()) || name.starts_with(b"arc-") || name.starts_with(b"x-ms-exchange-");
        if strong || (WEAK.contains(&name.as_slice()) || name.starts_with(b"x-")) && (fields > 0 || mailbox) {
            return true;
        }
        fields += u32::from(WEAK.contains(&name.as_slice()) || name.starts_with(b"x-"));
        if fields == 0 {
            return false;
        }
    }
    mailbox
}

/// Fields that nothing but a mail, or a part of a report, has.
const STRONG: &[&[u8]] = &[
    b"received",
    b"return-path",
    b"delivered-to",
    b"authentication-results",
    b"dkim-signature",
    b"message-id",
    b"mime-version",
    b"x-original-to",
    b"envelope-to",
    b"received-spf",
    b"reporting-mta",
    b"final-recipient",
    b"x-forefront-antispam-report",
    b"x-spam-status",
    b"auto-submitted",
    b"x-failed-recipients",
];
/// Fields that other texts have too: two of them are a mail.
const WEAK: &[&[u8]] = &[
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"sender",
    b"reply-to",
    b"content-type",
    b"content-transfer-encoding",
    b"importance",
    b"precedence",
    b"thread-topic",
    b"thread-index",
    b"accept-language",
    b"in-reply-to",
    b"references",
];

/// `From user@host Fri Mar  1 00:00:00 2024`.
fn is_mailbox_line(line: &[u8]) -> bool {
    let clock = || line.windows(5).any(|five| five[0].is_ascii_digit() && five[2] == b':' && five[3].is_ascii_digit());
    line.starts_with(b"From ") && line.len() < 400 && clock()
}

/// The mails of a mailbox file; one where it is none. An empty line and a `From ` line part them.
fn mails_of(octets: &[u8]) -> Vec<&[u8]> {
    let start = octets.len() - octets.trim_ascii_start().len();
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&octets[start..]);
    let line_at = |at: usize| {
        let rest = &octets[at..];
        &rest[..rest.iter().take(500).position(|octet| matches!(octet, b'\n' | b'\r')).unwrap_or(rest.len().min(500))]
    };
    if !is_mailbox_line(line_at(0)) {
        return vec![octets];
    }
    let mut found = Vec::new();
    let mut from = 0;
    for at in memchr::memmem::find_iter(octets, b"From ") {
        let before = &octets[..at];
        let parted = before.ends_with(b"\n\n") || before.ends_with(b"\n\r\n") || before.ends_with(b"\r\r");
        if at > from && parted && is_mailbox_line(line_at(at)) {
            found.push(&octets[from..at]);
            from = at;
        }
    }
    found.push(&octets[from..]);
    found
}

/// Explains one mail, or each of a mailbox file. `provider`: the server that spoke, where the caller knows it.
pub fn explain_mail(base: &RuleBase, octets: &[u8], provider: Option<&str>) -> MailReport {
    let mut report =
        MailReport { schema: SCHEMA, mails: 0, known: 0, unknown: 0, items: Vec::new(), causes: Vec::new() };
    for mail in mails_of(octets) {
        report.add(base, mail, provider);
    }
    report.causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
    report
}

impl MailReport {
    /// Whether something is left unexplained: exit code 1.
    pub const fn has_unknown(&self) -> bool {
        self.unknown > 0
    }

    fn add(&mut self, base: &RuleBase, mail: &[u8], provider: Option<&str>) {
        self.mails += 1;
        let item = match classify(mail) {
            Report::Bounce(bounce) => self.bounce(base, *bounce, provider),
            Report::Complaint(complaint) => {
                let example = complaint.original.subject.clone().unwrap_or_default();
                let findings = self.signs(base, of_complaint(base, &complaint), &example);
                Item::Complaint { complaint, findings }
            }
            Report::AutoReply(answer) => {
                let example = answer.subject.clone().unwrap_or_default();
                let findings = self.signs(base, of_answer(base, &answer), &example);
                Item::AutoReply { answer, findings }
            }
            Report::Mail(headers) => {
                let example = headers.subject.clone().unwrap_or_default();
                let findings = self.signs(base, of_headers(base, &headers), &example);
                Item::Mail { headers, findings }
            }
        };
        if self.items.len() < MAX_LISTED {
            self.items.push(item);
        }
    }

    fn bounce(&mut self, base: &RuleBase, report: Bounce, provider: Option<&str>) -> Item {
        let mut recipients = Vec::with_capacity(report.recipients.len());
        for recipient in &report.recipients {
            recipients.push(self.recipient(base, &report, recipient, provider));
        }
        let mut findings = Vec::new();
        if report.recipients.is_empty() {
            self.unknown += 1;
            let found = sign(base, "mail_bounce_nobody", &[("reporter", report.reporting_mta.as_deref())]);
            if let Some(finding) = found {
                findings.extend(judged(base, &finding));
                self.count(base, &finding, report.subject.as_deref().unwrap_or_default(), Hardness::Soft);
            }
        }
        Item::Bounce { bounce: Box::new(BounceItem { report, recipients, findings }) }
    }

    fn recipient(
        &mut self,
        base: &RuleBase,
        report: &Bounce,
        one: &BouncedRecipient,
        provider: Option<&str>,
    ) -> Verdict {
        let arrived = matches!(one.action, Action::Delivered | Action::Relayed | Action::Expanded);
        let finding = if arrived {
            let action = match one.action {
                Action::Relayed => "relayed",
                Action::Expanded => "handed on to several addresses",
                _ => "delivered",
            };
            sign(base, "mail_delivered", &[("recipient", Some(&one.final_recipient)), ("action", Some(action))])
        } else {
            judge(base, report, one, provider)
        };
        let bounce = hardness(one, finding.as_ref());
        match finding.as_ref().is_some_and(|finding| !finding.is_by_class()) {
            true => self.known += 1,
            false => self.unknown += 1,
        }
        if let Some(finding) = &finding {
            let example = if one.diagnostic.is_empty() { &report.notice } else { &one.diagnostic };
            self.count(base, finding, example, bounce);
        }
        Verdict {
            recipient: one.final_recipient.clone(),
            original_recipient: one.original_recipient.clone(),
            action: one.action,
            bounce,
            reason: finding.as_ref().map(|finding| finding.reason.to_string()),
            status: one.status.map(|status| status.to_string()),
            code: one.code,
            diagnostic: one.diagnostic.clone(),
            judged: finding.as_ref().and_then(|finding| judged(base, finding)),
        }
    }

    fn signs(&mut self, base: &RuleBase, found: impl IntoIterator<Item = Finding>, example: &str) -> Vec<Judged> {
        let mut all = Vec::new();
        for finding in found {
            self.known += 1;
            self.count(base, &finding, example, Hardness::None);
            all.extend(judged(base, &finding));
        }
        all
    }

    fn count(&mut self, base: &RuleBase, finding: &Finding, example: &str, bounce: Hardness) {
        let hard = u64::from(bounce == Hardness::Hard);
        let same = |cause: &&mut Cause| cause.explanation.rule == finding.rule && cause.provider == finding.provider;
        if let Some(cause) = self.causes.iter_mut().find(same) {
            cause.count += 1;
            cause.hard += hard;
        } else if let Some(explanation) = base.explain(finding) {
            let (codes_only, provider) = (finding.is_by_class(), finding.provider.clone());
            let example = example.chars().take(400).collect();
            self.causes.push(Cause { count: 1, hard, example, codes_only, provider, explanation });
        }
    }
}

fn judged(base: &RuleBase, finding: &Finding) -> Option<Judged> {
    let explanation = base.explain(finding)?;
    Some(Judged {
        rule: finding.rule.clone(),
        reason: finding.reason.to_string(),
        basis: finding.basis,
        provider: finding.provider.clone(),
        values: finding.values.clone(),
        codes_only: finding.is_by_class(),
        title: explanation.title,
    })
}

/// A text cut for a line of a terminal.
pub(super) fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        Some((at, _)) => Cow::Owned(format!("{}…", &text[..at])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNCE: &str = "From: MAILER-DAEMON@mx.example.net\nTo: me@a.example\nSubject: failure notice\n\n\
                          Hi. This is the qmail-send program at mx.example.net.\nI'm afraid I wasn't able to deliver your message to the \
                          following addresses.\n\n<b@c.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n\
                          --- Below this line is a copy of the message.\n\nReturn-Path: <me@a.example>\nSubject: hello\n\nx\n";

    #[test]
    fn a_mail_is_told_from_logs_replies_and_traces() {
        for mail in [
            BOUNCE,
            "Received: from a by b; x\n",
            "From me@a.example Fri Mar  1 00:00:00 2024\nSubject: x\n",
            "\n\nSubject: x\nTo: y\n",
            "Authentication-Results: mx; spf=pass\n",
            "From: a\r\nTo: b\r\n",
            "From: a\rTo: b\r",
        ] {
            assert!(looks_like_mail(mail.as_bytes()), "{mail}");
        }
        for other in [
            "550 5.1.1 no",
            "Nov 21 06:00:00 mx postfix/smtp[1]: 4A: to=<a@b>, relay=none",
            "2024-03-01 00:00:00 1rF ** a@b R=x T=y: SMTP error",
            "Traceback (most recent call last):\n  File \"x\"",
            "Error: 550 5.1.1 no\n    at X",
            "smtplib.SMTPAuthenticationError: (535, b'x')",
            "From the beginning: it fails\n",
            "To: be or not",
            "{\"a\": 1}",
            "",
        ] {
            assert!(!looks_like_mail(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_bounce_has_recipient_reason_and_hardness() {
        let report = explain_mail(RuleBase::builtin(), BOUNCE.as_bytes(), None);
        let [Item::Bounce { bounce }] = &*report.items else { panic!("{report:?}") };
        let one = &bounce.recipients[0];
        assert_eq!(
            (one.recipient.as_str(), one.bounce, one.reason.as_deref()),
            ("b@c.example", Hardness::Hard, Some("mailbox_unknown"))
        );
        assert_eq!(bounce.report.original.subject.as_deref(), Some("hello"));
        assert!(!report.has_unknown());
        let words = report.words();
        assert!(words.contains("b@c.example") && words.contains("qmail") && words.contains("Fixes"), "{words}");
    }

    #[test]
    fn a_mailbox_file_is_split_and_grouped() {
        let mail = format!("From MAILER-DAEMON Fri Mar  1 00:00:00 2024\n{BOUNCE}\n");
        for ends in ["\n", "\r\n"] {
            let file = mail.repeat(37).replace('\n', ends);
            let report = explain_mail(RuleBase::builtin(), file.as_bytes(), None);
            assert_eq!((report.mails, report.causes.len(), report.causes[0].count), (37, 1, 37));
            assert!(report.words().starts_with("37 mails, 1 cause"), "{}", report.words());
        }
    }

    #[test]
    fn words_of_strangers_cannot_steer_a_terminal() {
        let evil = BOUNCE.replace("no mailbox here", "\x1b[31mno mailbox here\u{202e}");
        assert!(!explain_mail(RuleBase::builtin(), evil.as_bytes(), None).words().contains(['\x07', '\u{202e}']));
    }
}
