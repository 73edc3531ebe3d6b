//! What pasted mail says, for people: one mail in full, several by cause.

use std::fmt::Write as _;

use explain::Explanation;
use proto::message::rfc5322_date;
use proto::report::{Action, Certainty, Complaint, Headers, Original, SLOW_SECONDS};

use super::explain_mail::{BounceItem, Cause, Item, Judged, MailReport, cut};
use super::explain_mail_bounce::Hardness;
use super::output::{clean, plural};

/// Most recipients listed of one report.
const MAX_RECIPIENTS: usize = 50;

impl MailReport {
    /// For people.
    pub fn words(&self) -> String {
        let mut out = String::new();
        if self.mails == 1 {
            for item in &self.items {
                item.words(&mut out);
            }
        } else {
            let _ = writeln!(out, "{}, {}\n", plural(self.mails, "mail"), plural(self.causes.len() as u64, "cause"));
        }
        for cause in &self.causes {
            cause.words(&mut out, self.mails > 1);
        }
        let _ = writeln!(out, "{} known, {} unknown", self.known, self.unknown);
        out
    }
}

impl Item {
    fn words(&self, out: &mut String) {
        match self {
            Self::Bounce { bounce } => bounce_words(out, bounce),
            Self::Complaint { complaint, findings } => {
                complaint_words(out, complaint);
                titles(out, findings);
            }
            Self::AutoReply { answer, findings } => {
                let _ = writeln!(out, "An automatic answer from {}", shown(answer.from.as_deref()));
                titles(out, findings);
            }
            Self::Mail { headers, findings } => {
                header_words(out, headers);
                titles(out, findings);
            }
        }
        out.push('\n');
    }
}

fn shown(value: Option<&str>) -> String {
    clean(value.unwrap_or("(not shown)"))
}

fn titles(out: &mut String, findings: &[Judged]) {
    if findings.len() > 1 {
        out.push_str("  In short:\n");
        for finding in findings {
            let _ = writeln!(out, "    - {}", clean(&finding.title));
        }
    }
}

fn bounce_words(out: &mut String, item: &BounceItem) {
    let report = &item.report;
    let form = if report.format == "unknown" {
        "of no known form".to_owned()
    } else {
        format!("in the form of {}", report.format)
    };
    let late = report.recipients.iter().all(|one| one.action == Action::Delayed) && !report.recipients.is_empty();
    let _ = writeln!(out, "A {} {form}", if late { "notice of delay" } else { "bounce" });
    if let Some(mta) = &report.reporting_mta {
        let _ = writeln!(out, "  Reported by: {}", clean(mta));
    }
    original_words(out, &report.original);
    for (verdict, one) in item.recipients.iter().zip(&report.recipients).take(MAX_RECIPIENTS) {
        let what = match (verdict.action, verdict.bounce) {
            (Action::Delayed, _) => "delayed, still being tried",
            (_, Hardness::Hard) => "failed, hard: this address will not work again",
            (_, Hardness::Soft) => "failed, soft: the address may work again",
            (_, Hardness::None) => "arrived",
        };
        let _ = writeln!(out, "  Recipient: {}", clean(&verdict.recipient));
        if let Some(original) = &verdict.original_recipient {
            let _ = writeln!(out, "    written to as: {}", clean(original));
        }
        if one.certainty == Certainty::FromOriginal {
            out.push_str("    The report names nobody; this is whom the returned mail was for.\n");
        }
        let reason = verdict.reason.as_deref().unwrap_or("unknown");
        let _ = writeln!(out, "    {what} (reason {reason})");
        if !verdict.diagnostic.is_empty() {
            let _ = writeln!(out, "    Said: {}", clean(&cut(&verdict.diagnostic, 400)));
        }
        if let Some(mta) = &one.remote_mta {
            let _ = writeln!(out, "    By: {}", clean(mta));
        }
        if let Some(until) = one.will_retry_until {
            let _ = writeln!(out, "    Tried until: {}", date(until));
        }
    }
    if item.recipients.len() > MAX_RECIPIENTS {
        let _ = writeln!(out, "  and {} more recipients", item.recipients.len() - MAX_RECIPIENTS);
    }
}

fn original_words(out: &mut String, original: &Original) {
    if let Some(subject) = &original.subject {
        let _ = writeln!(out, "  Returned mail: {}", clean(&cut(subject, 120)));
    }
    if let Some(id) = &original.message_id {
        let _ = writeln!(out, "  Its Message-ID: {}", clean(id));
    }
    if let Some(id) = &original.envelope_id {
        let _ = writeln!(out, "  Its envelope id: {}", clean(id));
    }
}

fn complaint_words(out: &mut String, complaint: &Complaint) {
    let _ = writeln!(
        out,
        "A complaint ({}) from {}",
        clean(&complaint.feedback_type),
        shown(complaint.reporter.as_deref())
    );
    for recipient in complaint.original_recipients.iter().take(MAX_RECIPIENTS) {
        let _ = writeln!(out, "  Recipient: {}", clean(recipient));
    }
    if let Some(ip) = &complaint.source_ip {
        let _ = writeln!(out, "  Sent from: {}", clean(ip));
    }
    original_words(out, &complaint.original);
}

/// The way of the mail as a table, and what receivers recorded.
fn header_words(out: &mut String, headers: &Headers) {
    let _ = writeln!(
        out,
        "A mail from {}: {}",
        shown(headers.from.as_deref()),
        clean(&cut(headers.subject.as_deref().unwrap_or("(no subject)"), 120))
    );
    if !headers.hops.is_empty() {
        let total = headers.total_s.map(|total| format!(" in {}", duration(total))).unwrap_or_default();
        let _ = writeln!(out, "  {}{total}:", plural(headers.hops.len() as u64, "step"));
        let _ = writeln!(out, "        {:<34} {:<34} {:<9} {:<4} took", "from", "by", "with", "tls");
        for (index, hop) in headers.hops.iter().enumerate() {
            let took = match hop.delay_s {
                None => "?".to_owned(),
                Some(delay) if delay < 0 => format!("clock skew, at least {}", duration(-delay)),
                Some(delay) => duration(delay),
            };
            let slow = hop.delay_s.is_some_and(|delay| delay > SLOW_SECONDS);
            let mark = match (headers.slowest == Some(index), slow) {
                (true, _) => "  <- slowest",
                (false, true) => "  <- slow",
                _ => "",
            };
            let cell = |value: &Option<String>, width: usize| clean(&cut(value.as_deref().unwrap_or("-"), width));
            let (from, by, with, tls) = (cell(&hop.from, 33), cell(&hop.by, 33), cell(&hop.with, 9), cell(&hop.tls, 5));
            let _ = writeln!(out, "    {:>2}  {from:<34} {by:<34} {with:<9} {tls:<4} {took}{mark}", index + 1);
        }
    }
    if !headers.authentication.is_empty() {
        out.push_str("  Authentication, as receivers recorded it:\n");
        for one in headers.authentication.iter().take(40) {
            let about = one.domain.as_deref().map(|domain| format!(" for {domain}")).unwrap_or_default();
            let selector =
                one.selector.as_deref().map(|selector| format!(" (selector {selector})")).unwrap_or_default();
            let back = if one.forwarded { ", before it was forwarded" } else { "" };
            let reason = one.reason.as_deref().map(|reason| format!(": {}", cut(reason, 120))).unwrap_or_default();
            let _ = writeln!(
                out,
                "    {}",
                clean(&format!("{} {}{about}{selector} by {}{back}{reason}", one.method, one.result, one.server))
            );
        }
    }
    if !headers.filters.is_empty() {
        out.push_str("  Filters:\n");
        for mark in headers.filters.iter().take(40) {
            let meaning = meaning_of(&mark.name, &mark.value);
            let _ = writeln!(
                out,
                "    {}",
                clean(&format!("{} {}: {}{meaning}", mark.filter, mark.name, cut(&mark.value, 120)))
            );
        }
    }
}

/// What Microsoft's short words stand for.
fn meaning_of(name: &str, value: &str) -> &'static str {
    match (name, value) {
        ("SCL", "-1") => " (not filtered: a trusted or internal sender)",
        ("SCL", "0" | "1") => " (not spam)",
        ("SCL", "5" | "6") => " (spam)",
        ("SCL", "7" | "8" | "9") => " (surely spam)",
        ("SFV", "NSPM") => " (not spam)",
        ("SFV", "SPM") => " (spam)",
        ("SFV", "SKI") => " (internal, not filtered)",
        ("SFV", "SKN" | "SKQ") => " (let through by a rule or released)",
        ("SFV", "SKA") => " (allowed sender, not filtered)",
        ("SFV", "SKB" | "BLK" | "SKS") => " (blocked by a rule or a list)",
        ("CAT", "PHSH" | "HPHSH" | "HPHISH") => " (phishing)",
        ("CAT", "BULK") => " (bulk mail)",
        ("CAT", "SPOOF" | "DIMP" | "UIMP") => " (claims to be somebody else)",
        ("CAT", "MALW") => " (malware)",
        ("CAT", "SPM" | "HSPM") => " (spam)",
        ("CAT", "NONE") => " (nothing found)",
        _ => "",
    }
}

impl Cause {
    fn words(&self, out: &mut String, counted: bool) {
        let Explanation { rule, reason, title, meaning, causes, fixes, dated, owner, .. } = &self.explanation;
        let bold = anstyle::Style::new().bold();
        let times =
            if counted || self.count > 1 { format!(" ({})", plural(self.count, "time")) } else { String::new() };
        let _ = writeln!(out, "{bold}{}{bold:#}{times}", clean(title));
        if counted {
            let _ = writeln!(out, "  {}", clean(&cut(&self.example, 300)));
            if self.hard > 0 {
                let _ = writeln!(out, "  Hard: {} of {}", self.hard, self.count);
            }
        }
        if self.codes_only {
            out.push_str("  The words are not known: only the code decided, as the RFCs define it.\n");
        }
        let _ = writeln!(out, "  Rule: {rule} (reason {reason})");
        if let Some(provider) = &self.provider {
            let _ = writeln!(out, "  Provider: {}", clean(provider));
        }
        let _ = writeln!(out, "  Meaning: {}", clean(meaning));
        let _ = writeln!(out, "  Whose turn: {}", owner.as_str().replace('_', " "));
        out.push_str("  Causes, the likeliest first:\n");
        for cause in causes {
            let _ = writeln!(out, "    - {}", clean(cause));
        }
        out.push_str("  Fixes, in this order:\n");
        for (n, fix) in fixes.iter().enumerate() {
            let _ = writeln!(out, "    {}. [{}] {}", n + 1, fix.who.as_str().replace('_', " "), clean(&fix.text));
            if let Some(run) = &fix.run {
                let _ = writeln!(out, "       {}", clean(run));
            }
        }
        if let Some(dated) = dated {
            let _ = writeln!(out, "  Dated: {}", clean(dated));
        }
        out.push('\n');
    }
}

fn date(seconds: i64) -> String {
    rfc5322_date(seconds.saturating_mul(1000))
}

/// `10 min 5 s`, with the two largest units.
pub(super) fn duration(seconds: i64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut rest = seconds.max(0);
    let mut parts = Vec::new();
    for (name, length) in units {
        if rest >= length && parts.len() < 2 {
            parts.push(format!("{} {name}", rest / length));
            rest %= length;
        }
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use explain::RuleBase;

    use super::super::explain_mail::explain_mail;
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, words) in [(0, "0 s"), (59, "59 s"), (605, "10 min 5 s"), (90_061, "1 d 1 h"), (3600, "1 h")] {
            assert_eq!(duration(seconds), words);
        }
    }

    #[test]
    fn a_header_shows_its_steps_and_what_to_do() {
        let mail = "Received: from mx.b.example (mx.b.example [192.0.2.2]) by in.c.example with ESMTPS id 1; Fri, 1 Mar 2024 00:10:05 +0000\n\
                    Received: from out.a.example by mx.b.example with ESMTP; Fri, 1 Mar 2024 00:00:05 +0000\n\
                    Authentication-Results: in.c.example; spf=fail smtp.mailfrom=a.example; dkim=none; dmarc=fail (p=REJECT) header.from=a.example\n\
                    From: me@a.example\nSubject: hello\nDate: Fri, 1 Mar 2024 00:00:00 +0000\n\n";
        let words = explain_mail(RuleBase::builtin(), mail.as_bytes(), None).words();
        for wanted in [
            "2 steps in 10 min 5 s",
            "10 min  <- slowest",
            "DMARC fails for a.example",
            "SPF says fail",
            "pillarbox domain a.example",
        ] {
            assert!(words.contains(wanted), "{wanted}: {words}");
        }
    }

    #[test]
    fn a_complaint_names_who_and_what_to_do() {
        let mail = "From: fbl@b.example\nSubject: complaint\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=x\n\n\
                    --x\nContent-Type: text/plain\n\nThis is a report.\n--x\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: X/1\n\
                    Original-Rcpt-To: <u@b.example>\nSource-IP: 192.0.2.1\n\n--x\nContent-Type: message/rfc822\n\nMessage-ID: <1@a.example>\nSubject: offer\n\ny\n--x--\n";
        let words = explain_mail(RuleBase::builtin(), mail.as_bytes(), None).words();
        for wanted in ["A complaint (abuse) from fbl@b.example", "u@b.example", "192.0.2.1", "<1@a.example>", "Fixes"] {
            assert!(words.contains(wanted), "{wanted}: {words}");
        }
    }
}
