//! Mail that comes back (RFC 3464, RFC 5965, and the many forms older than both): who was not reached, and what the
//! last server said.
//!
//! Pure and bounded: any octets give a report, none panics. What the words mean is not decided here.

pub mod aggregate;
mod arf;
mod bounce;
mod codes;
mod date;
mod forms;
mod headers;
mod html;
mod model;
mod notice;
mod octets;
mod part;
mod plain;
mod status;
pub mod tls_report;
mod words;

pub use date::parse_date;
pub use headers::{AuthResult, FilterMark, Headers, Hop, SLOW_SECONDS};
pub use model::{
    Action, AutoReply, AutoReplyKind, Bounce, BouncedRecipient, Certainty, Complaint, MAX_RECIPIENTS, Original, Report,
};
pub use octets::MAX_OCTETS;
pub use plain::text_of_mail;

use crate::message::{decode_header_value, mailbox_of, mailboxes_of};
use bounce::Material;
use forms::Look;
use part::{Fields, Kind, Part};
use words::one_line;

/// What a mail is, and what it reports.
///
/// Line ends may be CR LF, LF or CR; a mailbox file's `From ` line may be in front. At most [`MAX_OCTETS`] are read.
pub fn classify(octets: &[u8]) -> Report {
    let content = octets::unix_lines(octets);
    read(content.trim_ascii_start(), Nested::Outer)
}

/// Gateways put whole reports into another mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nested {
    Outer,
    Inner,
}

fn read(content: &[u8], nested: Nested) -> Report {
    let top = Fields::new(content);
    let parts = part::parts(&top);
    let copy = parts.iter().position(|part| part.kind == Kind::Original);
    let words = notice_of(&parts, copy);
    let lower = words.to_ascii_lowercase();
    let (notice, inline_copy) = notice::split_copy(&words, &lower);
    let lower = &lower[..notice.len()];
    let original = match copy.and_then(|index| parts.get(index)) {
        Some(part) if part.is_encoded() => original_of(part.text().as_bytes()),
        Some(part) => original_of(part.raw()),
        None => original_of(mail_in(inline_copy).as_bytes()),
    };
    let shown = |name: &str| top.get(name).map(|value| decode_header_value(value).to_lowercase()).unwrap_or_default();
    let has_copy = copy.is_some() || !inline_copy.is_empty();
    let look = Look { fields: &top, from: shown("From"), subject: shown("Subject"), notice: lower, has_copy };
    if let Some(feedback) = parts.iter().find(|part| part.kind == Kind::Feedback) {
        let mut complaint = arf::parse(&feedback.text(), original);
        complaint.reporter = complaint.reporter.or_else(|| address_of(&top, "From"));
        if complaint.original_recipients.is_empty() && complaint.original.to.len() == 1 {
            complaint.original_recipients.clone_from(&complaint.original.to);
        }
        return Report::Complaint(Box::new(complaint));
    }
    let inner =
        copy.and_then(|index| parts.get(index)).filter(|_| nested == Nested::Outer && notice.trim().len() < 400);
    if let Some(part) = inner
        && !parts.iter().any(|part| part.kind == Kind::Status)
        && (look.is_bounce(false) || notice.trim().is_empty())
        && Fields::new(part.raw()).get("Content-Type").is_some_and(is_report)
        && let Report::Bounce(found) = read(part.raw(), Nested::Inner)
    {
        return Report::Bounce(found);
    }
    let material = Material { top: &top, parts: &parts, look: &look, notice, lower, original };
    if let Some(bounce) = bounce::read(material) {
        return Report::Bounce(Box::new(bounce));
    }
    let receipt = parts.iter().any(|part| part.kind == Kind::Disposition).then_some(AutoReplyKind::Receipt);
    match receipt.or_else(|| look.auto_reply()) {
        Some(answer) => {
            let subject = top.get("Subject").map(decode_header_value);
            Report::AutoReply(Box::new(AutoReply { answer, from: address_of(&top, "From"), subject }))
        }
        None => Report::Mail(Box::new(Headers::of(&top))),
    }
}

fn is_report(content_type: &[u8]) -> bool {
    part::parameter(content_type, "report-type").is_some_and(|kind| kind.eq_ignore_ascii_case("delivery-status"))
}

/// The words for people: the plain parts before the returned mail, or the HTML part where they say nothing.
fn notice_of(parts: &[Part<'_>], copy: Option<usize>) -> String {
    let before = parts.get(..copy.unwrap_or(parts.len())).unwrap_or_default();
    let mut words = String::new();
    for part in before.iter().filter(|part| part.kind == Kind::Text) {
        let text = part.text();
        if !status::is_status(&text) || before.len() == 1 {
            words.push_str(&text);
            words.push('\n');
        }
    }
    if words.trim().len() < 60
        && let Some(part) = before.iter().find(|part| part.kind == Kind::Html)
    {
        words.push_str(&html::text_of(&part.text()));
    }
    // Some programs label HTML as plain text.
    let start = words.trim_start().get(..15).unwrap_or_default().to_ascii_lowercase();
    if start.starts_with("<html") || start.starts_with("<!doctype html") { html::text_of(&words) } else { words }
}

/// What the returned mail's own header says.
fn original_of(mail: &[u8]) -> Original {
    let fields = Fields::new(mail.trim_ascii_start());
    let raw = |name: &str| {
        fields.get(name).map(|value| one_line(&String::from_utf8_lossy(value), 300)).filter(|value| !value.is_empty())
    };
    let to = fields.get("To").map(mailboxes_of).unwrap_or_default();
    Original {
        message_id: raw("Message-ID"),
        subject: fields.get("Subject").map(decode_header_value).filter(|subject| !subject.is_empty()),
        from: address_of(&fields, "From"),
        to: to.into_iter().flatten().take(20).map(|address| address.to_string()).collect(),
        return_path: address_of(&fields, "Return-Path"),
        ..Original::default()
    }
}

/// The returned mail inside of a plain text: from its first field on, without marks of citation.
fn mail_in(copy: &str) -> String {
    let mut out = String::new();
    let mut begun = false;
    for line in copy.split('\n').take(400) {
        let bare = line.strip_prefix("> ").or_else(|| line.strip_prefix('>')).unwrap_or(line);
        let is_field = bare.split_once(':').is_some_and(|(name, _)| {
            name.len() > 1 && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        });
        if !begun {
            begun = is_field;
        } else if bare.trim().is_empty() {
            break;
        }
        if begun && out.len() < 65_536 {
            out.push_str(bare);
            out.push('\n');
        }
    }
    out
}

fn address_of(fields: &Fields<'_>, name: &str) -> Option<String> {
    fields.get(name).and_then(mailbox_of).map(|address| address.to_string())
}

#[cfg(test)]
mod tests;
