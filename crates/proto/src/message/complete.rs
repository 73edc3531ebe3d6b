//! What the relay adds to a message at the door, and what it takes out. After this the octets never change.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use memchr::memchr_iter;

use super::scan::HeaderScan;
use crate::address::Address;

/// Fields that are removed from each message: blind copies are nobody's business (RFC 5322 §3.6.3), and
/// `Return-Path` is for the final delivery to add (RFC 5321 §4.4).
pub const ALWAYS_STRIPPED: [&str; 3] = ["Bcc", "Resent-Bcc", "Return-Path"];

/// What [`complete`] shall add and remove. Values hold no name, no colon and no last line end.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// Value of the `Received` field, folded; from [`received_value`].
    pub received: &'a str,
    /// Value for `Date` if there is none; from [`super::rfc5322_date`].
    pub date_rfc5322: &'a str,
    /// Value for `Message-ID` if there is none, with its angle brackets.
    pub message_id: &'a str,
    /// More fields to remove besides [`ALWAYS_STRIPPED`]; a last `*` stands for any rest (`X-Pillarbox-*`).
    pub strip: &'a [&'a str],
    /// More fields to add, whole and each with its CRLF.
    pub more: &'a str,
}

/// The message with trace field and required fields in front and private fields gone, in one allocation.
///
/// `scan` must be of the same content. All other octets stay as they are, so that signatures stay valid. A missing
/// empty line between header and body, and a missing last CRLF, are added.
pub fn complete(content: &[u8], scan: &HeaderScan, completion: &Completion<'_>) -> Vec<u8> {
    let mut head: [&str; 10] = ["Received: ", completion.received, "\r\n", "", "", "", "", "", "", completion.more];
    if !scan.has_date {
        head[3..6].copy_from_slice(&["Date: ", completion.date_rfc5322, "\r\n"]);
    }
    if !scan.has_message_id {
        head[6..9].copy_from_slice(&["Message-ID: ", completion.message_id, "\r\n"]);
    }
    let stripped = |name: &[u8]| ALWAYS_STRIPPED.iter().chain(completion.strip).any(|pattern| names(pattern, name));
    let drops = scan.fields.iter().filter(|field| stripped(field.name(content)));
    let dropped: usize = drops.clone().map(|field| field.whole().len()).sum();
    let (header, body) = (&content[scan.start..scan.header_end], &content[scan.header_end..]);
    // A last field without line end, or a body without the empty line before it: readers would disagree where the
    // body starts.
    let separator = if scan.end == scan.header_end && !body.is_empty() { "\r\n" } else { "" };
    let tail = if content.ends_with(b"\r\n") || content.is_empty() {
        ""
    } else if content.ends_with(b"\r") {
        "\n"
    } else {
        "\r\n"
    };
    let added: usize = head.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(added + header.len() - dropped + separator.len() + body.len() + tail.len());
    head.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    let mut kept = scan.start;
    for field in drops {
        out.extend_from_slice(&content[kept..field.whole().start]);
        kept = field.whole().end;
    }
    out.extend_from_slice(&content[kept..scan.header_end]);
    out.extend_from_slice(separator.as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(tail.as_bytes());
    out
}

fn names(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())),
        None => name.eq_ignore_ascii_case(pattern.as_bytes()),
    }
}

/// The content with every line end as CRLF; borrowed if it is so already (RFC 5321 §2.3.8).
///
/// For content that did not come by SMTP, where a bare CR or LF is an error instead.
pub fn normalize_line_ends(content: &[u8]) -> Cow<'_, [u8]> {
    let bare_lf = memchr_iter(b'\n', content).filter(|&at| at == 0 || content[at - 1] != b'\r').count();
    let bare_cr = memchr_iter(b'\r', content).filter(|&at| content.get(at + 1) != Some(&b'\n')).count();
    if bare_lf + bare_cr == 0 {
        return Cow::Borrowed(content);
    }
    let mut out = Vec::with_capacity(content.len() + bare_lf + bare_cr);
    let mut before = 0;
    for &octet in content {
        match octet {
            b'\n' if before == b'\r' => {}
            b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
            _ => out.push(octet),
        }
        before = octet;
    }
    Cow::Owned(out)
}

/// How a message came in, for `with` (RFC 3848, RFC 6531 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HELO was used.
    Smtp,
    /// EHLO was used.
    Esmtp {
        /// TLS was on.
        tls: bool,
        /// AUTH had succeeded.
        authenticated: bool,
        /// MAIL had SMTPUTF8.
        utf8: bool,
    },
    /// The HTTP API.
    Http,
}

impl Protocol {
    /// The registered word, `ESMTPSA`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::Http => "HTTP",
            Self::Esmtp { tls, authenticated, utf8 } => match (utf8, tls, authenticated) {
                (false, false, false) => "ESMTP",
                (false, false, true) => "ESMTPA",
                (false, true, false) => "ESMTPS",
                (false, true, true) => "ESMTPSA",
                (true, false, false) => "UTF8SMTP",
                (true, false, true) => "UTF8SMTPA",
                (true, true, false) => "UTF8SMTPS",
                (true, true, true) => "UTF8SMTPSA",
            },
        }
    }
    fn carries_utf8(self) -> bool {
        matches!(self, Self::Esmtp { utf8: true, .. })
    }
}

/// What a `Received` field says (RFC 5321 §4.4).
#[derive(Debug, Clone, Copy)]
pub struct ReceivedFacts<'a> {
    /// What the client called itself; hostile. Characters that no host name has become `?`.
    pub helo: &'a str,
    /// Where it connected from; `None` keeps it private.
    pub peer: Option<IpAddr>,
    /// Our host name.
    pub host: &'a str,
    /// How it came.
    pub protocol: Protocol,
    /// The message's id.
    pub id: &'a str,
    /// The recipient, only if there is exactly one: others must not learn of each other.
    pub recipient: Option<&'a Address>,
    /// From [`super::rfc5322_date`].
    pub date: &'a str,
}

/// The value of a `Received` field, folded, each line under 998 octets (RFC 5321 §4.4).
pub fn received_value(facts: &ReceivedFacts<'_>) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("from ");
    push_host(&mut out, facts.helo);
    // Writing to a String cannot fail.
    let _ = match facts.peer {
        Some(IpAddr::V4(address)) => write!(out, " ([{address}])"),
        Some(IpAddr::V6(address)) => write!(out, " ([IPv6:{address}])"),
        None => Ok(()),
    };
    out.push_str("\r\n\tby ");
    push_host(&mut out, facts.host);
    out.push_str(" with ");
    out.push_str(facts.protocol.as_str());
    out.push_str(" id ");
    push_host(&mut out, facts.id);
    if let Some(recipient) = facts.recipient.filter(|to| facts.protocol.carries_utf8() || !to.needs_smtputf8()) {
        out.push_str("\r\n\tfor <");
        out.push_str(recipient.as_str());
        out.push('>');
    }
    out.push_str(";\r\n\t");
    out.push_str(facts.date);
    out
}

/// A name as it may stand in a structured field: comments, quotes or line ends of a hostile name must not work.
fn push_host(out: &mut String, name: &str) {
    if name.is_empty() {
        out.push_str("unknown");
    }
    let clean =
        |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':') { c } else { '?' };
    out.extend(name.chars().take(255).map(clean));
}
