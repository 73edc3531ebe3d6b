//! Composes delivery status notifications (RFC 3464 in a RFC 6522 report): failed, late, passed on.
//!
//! What is said and to whom is decided elsewhere; here it gets its form. Everything quoted from a peer is escaped and
//! bounded, so that no reply or header can break out of its place.

use crate::address::Address;
use crate::smtp::reply::{EnhancedCode, escape};

/// Most octets of one quoted value.
const MAX_VALUE: usize = 900;

/// What happened to a recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It will never arrive.
    Failed,
    /// It has not arrived yet.
    Delayed,
    /// It is where it belongs.
    Delivered,
    /// The next hop has it and sends no notifications.
    Relayed,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
        }
    }
}

/// One recipient of the report.
#[derive(Debug, Clone)]
pub struct Reported<'a> {
    /// As we have it.
    pub address: &'a Address,
    /// ORCPT as `type;address` (RFC 3461 §4.2).
    pub original: Option<&'a str>,
    /// What happened.
    pub action: Action,
    /// RFC 3463.
    pub status: EnhancedCode,
    /// Host that said so.
    pub remote_mta: Option<String>,
    /// Its reply, or our words: `smtp; 550 5.1.1 …`.
    pub diagnostic: Option<String>,
    /// RFC 5322 date.
    pub last_attempt: Option<String>,
    /// RFC 5322 date.
    pub will_retry_until: Option<String>,
}

/// What of the message goes back (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy)]
pub enum Original<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Its header, with or without the empty line behind it.
    Header(&'a [u8]),
}

/// A notification to be composed.
#[derive(Debug, Clone)]
pub struct Notice<'a> {
    /// Our host name.
    pub reporting_mta: &'a str,
    /// Address in From.
    pub from: &'a str,
    /// The reverse-path of the message.
    pub to: &'a Address,
    /// ASCII.
    pub subject: &'a str,
    /// RFC 5322 date.
    pub date: &'a str,
    /// With angle brackets.
    pub message_id: &'a str,
    /// Message-ID of the message it is about, for threads.
    pub in_reply_to: Option<&'a str>,
    /// For people: UTF-8, lines end with `\n`.
    pub text: &'a str,
    /// ENVID.
    pub envelope_id: Option<&'a str>,
    /// When the message came in, RFC 5322 date.
    pub arrival: Option<&'a str>,
    /// At least one.
    pub recipients: &'a [Reported<'a>],
    /// What goes back.
    pub original: Original<'a>,
}

/// The notification as it is sent: CRLF lines, and octets above 127 only where the message or an address has them.
pub fn compose(notice: &Notice<'_>) -> Vec<u8> {
    let (Original::Whole(returned) | Original::Header(returned)) = notice.original;
    let boundary = boundary(notice, returned);
    let global = !notice.recipients.iter().all(|recipient| recipient.address.as_str().is_ascii());
    let mut out = Vec::with_capacity(returned.len() + 2_048);
    header(notice, &boundary, &mut out);
    part(&mut out, &boundary, "text/plain; charset=utf-8", None);
    for line in notice.text.lines() {
        put(&mut out, line);
    }
    let status = if global { "message/global-delivery-status" } else { "message/delivery-status" };
    part(&mut out, &boundary, status, None);
    status_fields(notice, global, &mut out);
    let kind = match (notice.original, returned.is_ascii()) {
        (Original::Whole(_), _) => "message/rfc822",
        (Original::Header(_), true) => "text/rfc822-headers",
        (Original::Header(_), false) => "message/global-headers",
    };
    part(&mut out, &boundary, kind, Some("the message that this is about"));
    out.extend_from_slice(returned);
    if !returned.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    put(&mut out, &format!("--{boundary}--"));
    out
}

fn put(out: &mut Vec<u8>, line: &str) {
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn header(notice: &Notice<'_>, boundary: &str, out: &mut Vec<u8>) {
    put(out, &format!("Date: {}", notice.date));
    put(out, &format!("From: Mail Delivery System <{}>", notice.from));
    put(out, &format!("To: <{}>", notice.to));
    put(out, &format!("Subject: {}", notice.subject));
    put(out, &format!("Message-ID: {}", notice.message_id));
    if let Some(id) = notice.in_reply_to.filter(|id| is_message_id(id)) {
        put(out, &format!("In-Reply-To: {id}"));
        put(out, &format!("References: {id}"));
    }
    put(out, "Auto-Submitted: auto-replied");
    put(out, "MIME-Version: 1.0");
    put(out, "Content-Type: multipart/report; report-type=delivery-status;");
    put(out, &format!("\tboundary=\"{boundary}\""));
    put(out, "");
}

/// What a client called its message goes into our header only if it has the form of a name.
fn is_message_id(text: &str) -> bool {
    let graphic = |octet: u8| octet.is_ascii_graphic();
    text.len() <= 250 && text.starts_with('<') && text.ends_with('>') && text.bytes().all(graphic)
}

fn part(out: &mut Vec<u8>, boundary: &str, kind: &str, description: Option<&str>) {
    put(out, &format!("--{boundary}"));
    put(out, &format!("Content-Type: {kind}"));
    if let Some(description) = description {
        put(out, &format!("Content-Description: {description}"));
    }
    put(out, "");
}

fn status_fields(notice: &Notice<'_>, global: bool, out: &mut Vec<u8>) {
    put(out, &format!("Reporting-MTA: dns; {}", notice.reporting_mta));
    if let Some(id) = notice.envelope_id {
        put(out, &format!("Original-Envelope-Id: {}", quoted(id)));
    }
    if let Some(date) = notice.arrival {
        put(out, &format!("Arrival-Date: {date}"));
    }
    for recipient in notice.recipients {
        put(out, "");
        let kind = if global && !recipient.address.as_str().is_ascii() { "utf-8" } else { "rfc822" };
        if let Some(original) = recipient.original {
            put(out, &format!("Original-Recipient: {}", quoted(original)));
        }
        put(out, &format!("Final-Recipient: {kind}; {}", recipient.address));
        put(out, &format!("Action: {}", recipient.action.word()));
        let EnhancedCode(class, subject, detail) = recipient.status;
        put(out, &format!("Status: {class}.{subject}.{detail}"));
        for (name, value) in [
            ("Remote-MTA: dns; ", &recipient.remote_mta),
            ("Diagnostic-Code: ", &recipient.diagnostic),
            ("Last-Attempt-Date: ", &recipient.last_attempt),
            ("Will-Retry-Until: ", &recipient.will_retry_until),
        ] {
            if let Some(value) = value {
                put(out, &format!("{name}{}", quoted(value)));
            }
        }
    }
    put(out, "");
}

/// One line without anything that could end it.
fn quoted(text: &str) -> String {
    escape(text.as_bytes(), MAX_VALUE)
}

/// A boundary that stands nowhere in what it separates.
fn boundary(notice: &Notice<'_>, returned: &[u8]) -> String {
    let base: String = notice.message_id.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    let taken = |candidate: &str| {
        memchr::memmem::find(returned, candidate.as_bytes()).is_some() || notice.text.contains(candidate)
    };
    let mut candidate = format!("=_{base}");
    let mut number = 0;
    while taken(&candidate) {
        number += 1;
        candidate = format!("=_{base}_{number}");
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose_one(change: impl FnOnce(&mut Notice<'_>, &mut Vec<Reported<'static>>)) -> String {
        static ADDRESS: std::sync::LazyLock<Address> =
            std::sync::LazyLock::new(|| Address::parse("gone@example.net").unwrap());
        let to = Address::parse("app@example.org").unwrap();
        let mut recipients = vec![Reported {
            address: &ADDRESS,
            original: Some("rfc822;Gone@example.net"),
            action: Action::Failed,
            status: EnhancedCode(5, 1, 1),
            remote_mta: Some("mx.example.net".into()),
            diagnostic: Some("smtp; 550 5.1.1 unknown\r\nAction: delivered".into()),
            last_attempt: None,
            will_retry_until: None,
        }];
        let mut notice = Notice {
            reporting_mta: "relay.example.org",
            from: "mailer-daemon@relay.example.org",
            to: &to,
            subject: "Undelivered mail",
            date: "Sat, 21 Nov 2026 06:00:00 +0000",
            message_id: "<n1@relay.example.org>",
            in_reply_to: Some("<m1@example.org>"),
            text: "It did not arrive.\nBecause.",
            envelope_id: Some("QQ314159"),
            arrival: Some("Fri, 20 Nov 2026 06:00:00 +0000"),
            recipients: &[],
            original: Original::Header(b"Subject: hello\r\n"),
        };
        change(&mut notice, &mut recipients);
        notice.recipients = &recipients;
        String::from_utf8(compose(&notice)).unwrap()
    }

    #[test]
    fn the_report_has_the_three_parts_of_rfc_6522() {
        let text = compose_one(|_, _| {});
        let boundary = text.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        let parts: Vec<&str> = text.split(&format!("--{boundary}")).collect();
        assert_eq!(parts.len(), 5, "{text}");
        assert!(parts[1].contains("text/plain") && parts[1].contains("It did not arrive.\r\nBecause.\r\n"));
        assert!(
            parts[2].contains("\r\n\r\nReporting-MTA: dns; relay.example.org\r\nOriginal-Envelope-Id: QQ314159\r\n")
        );
        assert!(
            parts[2].contains("\r\n\r\nOriginal-Recipient: rfc822;Gone@example.net\r\nFinal-Recipient: rfc822; gone@")
        );
        assert!(parts[2].contains("Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example.net\r\n"));
        assert!(parts[3].contains("text/rfc822-headers") && parts[3].contains("\r\n\r\nSubject: hello\r\n"));
        assert_eq!(parts[4], "--\r\n");
    }

    #[test]
    fn nothing_quoted_can_leave_its_line_or_its_part() {
        let text = compose_one(|notice, _| {
            notice.in_reply_to = Some("<x>\r\nBcc: all@example.net");
            notice.original = Original::Whole(b"a\r\n--=_n1relayexampleorg--\r\n");
        });
        assert_eq!(text.matches("\r\nAction:").count(), 1, "{text}");
        assert!(!text.contains("\r\nBcc:"));
        assert!(text.contains("boundary=\"=_n1relayexampleorg_1\""), "{text}");
    }

    #[test]
    fn an_address_beyond_ascii_makes_the_report_global() {
        let address: &'static Address = Box::leak(Box::new(Address::parse("jörg@example.net").unwrap()));
        let text = compose_one(|_, recipients| recipients[0].address = address);
        assert!(text.contains("message/global-delivery-status"), "{text}");
        assert!(text.contains("Final-Recipient: utf-8; jörg@example.net\r\n"), "{text}");
    }
}
