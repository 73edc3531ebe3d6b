//! Puts a bounce together: fields of the machine's part first, words for people where those are missing or say less.

use super::codes::{addresses_in, codes_in};
use super::date::parse_date;
use super::forms::Look;
use super::model::{Action, Bounce, BouncedRecipient, Certainty, MAX_RECIPIENTS, Original};
use super::notice::{self, Said, Sure};
use super::part::{Fields, Kind, Part};
use super::status::{self, Status};
use super::words::{MAX_DIAGNOSTIC, one_line};
use crate::message::{decode_header_value, mailboxes_of};

/// All there is to read.
#[derive(Debug)]
pub(super) struct Material<'a> {
    pub(super) top: &'a Fields<'a>,
    pub(super) parts: &'a [Part<'a>],
    pub(super) look: &'a Look<'a>,
    /// Words for people, without the returned mail.
    pub(super) notice: &'a str,
    /// The same in lower case.
    pub(super) lower: &'a str,
    pub(super) original: Original,
}

/// The report, if the mail is one.
pub(super) fn read(material: Material<'_>) -> Option<Bounce> {
    let Material { top, parts, look, notice, lower, mut original } = material;
    let mut status = machine_part(parts);
    if status.recipients.is_empty() && (top.get("Reporting-MTA").is_some() || top.get("Final-Recipient").is_some()) {
        // The machine's part alone was pasted.
        status = status::parse(&String::from_utf8_lossy(&top.content[..top.content.len().min(131_072)]));
    }
    let mdn = parts.iter().any(|part| part.kind == Kind::Disposition);
    let own = own_addresses(top, &original);
    let said = notice::recipients(notice, lower, &own);
    let is_bounce = look.is_bounce(said.iter().any(|said| said.sure == Sure::Named));
    if status.recipients.is_empty() && !is_bounce && !(mdn && lower.contains("rejected")) {
        return None;
    }
    if status.recipients.is_empty() && mdn && !lower.contains("rejected") && !lower.contains("could not") {
        return None;
    }
    if status.recipients.is_empty() && look.auto_reply().is_some() && !is_bounce {
        return None;
    }
    let format = look.form().unwrap_or(if status.recipients.is_empty() { "unknown" } else { "rfc3464" });
    let mut recipients = std::mem::take(&mut status.recipients);
    if recipients.is_empty() {
        recipients = notification(notice);
    }
    if recipients.is_empty() {
        recipients = by_words(top, look, &said, &original);
    }
    for recipient in &mut recipients {
        complete(recipient, &said, notice, lower);
    }
    recipients.truncate(MAX_RECIPIENTS);
    original.envelope_id = status.envelope_id;
    original.reported_to = ["X-Original-To", "Delivered-To", "To"]
        .iter()
        .find_map(|name| top.get(name).map(mailboxes_of))
        .and_then(|all| all.into_iter().flatten().next().map(|address| address.to_string()));
    Some(Bounce {
        format,
        reporting_mta: status.reporting_mta.or_else(|| reporter_in(notice, lower)),
        date: top.get("Date").and_then(|value| parse_date(&one_line(&String::from_utf8_lossy(value), 100))),
        subject: top.get("Subject").map(decode_header_value),
        recipients,
        original,
        notice: one_line(notice, MAX_DIAGNOSTIC),
    })
}

/// The fields of the first part that has recipients; a report under another label counts.
fn machine_part(parts: &[Part<'_>]) -> Status {
    let mut best = Status::default();
    for part in parts {
        let text = match part.kind {
            Kind::Status => part.text(),
            Kind::Text | Kind::Other
                if memchr::memmem::find(part.raw(), b"ecipient:").is_some() || part.is_encoded() =>
            {
                let text = part.text();
                if !status::is_status(&text) {
                    continue;
                }
                text
            }
            _ => continue,
        };
        let found = status::parse(&text);
        if !found.recipients.is_empty() {
            return found;
        }
        best.reporting_mta = best.reporting_mta.or(found.reporting_mta);
        best.envelope_id = best.envelope_id.or(found.envelope_id);
    }
    best
}

/// Addresses that are the sender's, not a recipient's.
fn own_addresses(top: &Fields<'_>, original: &Original) -> Vec<String> {
    let mut own: Vec<String> = Vec::new();
    for name in ["To", "From", "Reply-To", "Delivered-To", "X-Original-To"] {
        own.extend(
            top.get(name)
                .map(mailboxes_of)
                .unwrap_or_default()
                .into_iter()
                .flatten()
                .map(|address| address.to_string()),
        );
    }
    own.extend([&original.from, &original.return_path].into_iter().flatten().cloned());
    own
}

/// Recipients without a machine's part: a header that lists them, the words, or whom the returned mail was for.
fn by_words(top: &Fields<'_>, look: &Look<'_>, said: &[Said], original: &Original) -> Vec<BouncedRecipient> {
    let action = if look.is_delay() { Action::Delayed } else { Action::Failed };
    let of = |said: &Said| {
        let certainty = if said.sure >= Sure::InCommand { Certainty::Named } else { Certainty::Inferred };
        BouncedRecipient {
            original_recipient: said.alias.clone(),
            diagnostic: said.words.clone(),
            ..nobody(&said.address, action, certainty)
        }
    };
    let listed =
        top.get("X-Failed-Recipients").map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let listed = addresses_in(&listed);
    if !listed.is_empty() {
        return listed
            .into_iter()
            .map(|(_, address)| match said.iter().find(|said| said.address.eq_ignore_ascii_case(address)) {
                Some(said) => of(said),
                None => nobody(address, action, Certainty::Named),
            })
            .collect();
    }
    if said.iter().any(|said| said.sure > Sure::Mentioned) {
        return said.iter().map(of).collect();
    }
    let bare = bare_name(look);
    if let Some(address) = bare {
        return vec![nobody(&address, action, Certainty::Inferred)];
    }
    match original.to.as_slice() {
        [one] => {
            let words = said.iter().find(|said| said.address.eq_ignore_ascii_case(one)).map(|said| said.words.clone());
            vec![BouncedRecipient {
                diagnostic: words.unwrap_or_default(),
                ..nobody(one, action, Certainty::FromOriginal)
            }]
        }
        _ => said.iter().take(1).map(of).collect(),
    }
}

fn nobody(address: &str, action: Action, certainty: Certainty) -> BouncedRecipient {
    BouncedRecipient {
        final_recipient: one_line(address, 320),
        original_recipient: None,
        action,
        status: None,
        code: None,
        diagnostic: String::new(),
        remote_mta: None,
        last_attempt: None,
        will_retry_until: None,
        certainty,
    }
}

/// A mailbox name without domain in a list of recipients: the domain is the reporter's.
fn bare_name(look: &Look<'_>) -> Option<String> {
    let mut lines = look.notice.lines();
    lines.find(|line| line.trim_end().ends_with(':') || line.contains("recipients"))?;
    let line = lines.find(|line| {
        let bare = line.trim();
        line.starts_with([' ', '\t'])
            && (3..64).contains(&bare.len())
            && bare.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'-'))
    })?;
    let (_, domain) = look.from.rsplit_once('@')?;
    let domain: String = domain.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
    (domain.contains('.')).then(|| format!("{}@{domain}", line.trim()))
}

/// What the words for people add: a reply where the fields have none, codes, the remote server.
fn complete(recipient: &mut BouncedRecipient, said: &[Said], notice: &str, lower: &str) {
    let same = |said: &&Said| {
        said.address.eq_ignore_ascii_case(&recipient.final_recipient)
            || recipient.original_recipient.as_ref().is_some_and(|original| said.address.eq_ignore_ascii_case(original))
    };
    let codes = |words: &str| {
        let (code, status) = codes_in(words);
        code.is_some() || status.is_some()
    };
    if !codes(&recipient.diagnostic) {
        let about = said.iter().find(same).map(|said| said.words.as_str()).unwrap_or_default();
        let reply = if codes(about) {
            about.to_owned()
        } else {
            notice::reply_about(notice, lower, &recipient.final_recipient)
        };
        // Words of the fields say more than none; a reply says more than words.
        if codes(&reply)
            && (recipient.diagnostic.is_empty()
                || recipient.certainty != Certainty::Named
                || codes_in(&reply).0.is_some())
        {
            recipient.diagnostic = if recipient.diagnostic.is_empty() || reply.contains(&recipient.diagnostic) {
                reply
            } else {
                one_line(&format!("{} {reply}", recipient.diagnostic), MAX_DIAGNOSTIC)
            };
        } else if recipient.diagnostic.is_empty() {
            recipient.diagnostic = if about.is_empty() { reply } else { about.to_owned() };
        }
    }
    let (code, status) = codes_in(&recipient.diagnostic);
    recipient.code = recipient.code.or(code);
    recipient.status = recipient.status.or(status);
    recipient.remote_mta =
        recipient.remote_mta.take().or_else(|| remote_in(&recipient.diagnostic)).or_else(|| remote_in(notice));
}

/// The server that refused, where words name it: `host mx.b.example[192.0.2.1] said`, `while talking to mx.b.example`.
fn remote_in(words: &str) -> Option<String> {
    for marker in ["host ", "talking to ", " by ", "Remote server at ", "smtp server <", "SMTP Server <"] {
        for at in memchr::memmem::find_iter(words.as_bytes(), marker.as_bytes()) {
            // `rejected by the server for the recipient domain b.example by mx.b.example.`
            if *marker == *" by " && words[..at].rsplit(' ').nth(1).is_none_or(|word| word != "domain") {
                continue;
            }
            let rest = &words[at + marker.len()..];
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
            let name = name.trim_end_matches(['.', '-']);
            let has_letters = name.bytes().any(|octet| octet.is_ascii_alphabetic());
            if name.len() <= 253 && name.contains('.') && has_letters {
                return Some(name.to_ascii_lowercase());
            }
        }
    }
    None
}

/// The server that wrote a report without fields.
fn reporter_in(notice: &str, lower: &str) -> Option<String> {
    for marker in ["generating server:", "program at host ", "mail system at host ", "send program at ", "mail agent"] {
        if let Some(at) = lower.find(marker) {
            let rest = notice[at + marker.len()..].trim_start();
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
            let name = name.trim_end_matches('.');
            if name.contains('.') && name.len() <= 253 {
                return Some(name.to_owned());
            }
        }
    }
    None
}

/// A bounce event as JSON (Amazon SES through SNS): the members this needs, read without a parser for the rest.
fn notification(notice: &str) -> Vec<BouncedRecipient> {
    // SNS wraps the event as a string in another document.
    let flat = notice.replace("\\\"", "\"");
    if !flat.contains("\"bouncedRecipients\"") {
        return Vec::new();
    }
    let member = |text: &str, name: &str| -> Option<String> {
        let at = text.find(&format!("\"{name}\""))? + name.len() + 2;
        let rest = text[at..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        rest.find('"').map(|end| rest[..end].to_owned())
    };
    let Some(at) = flat.find("\"bouncedRecipients\"") else { return Vec::new() };
    let list = &flat[at..];
    let list = &list[..list.find(']').unwrap_or(list.len())];
    let temporary = member(&flat, "bounceType").is_some_and(|kind| kind.eq_ignore_ascii_case("transient"));
    list.split('{')
        .skip(1)
        .filter_map(|object| {
            let address = member(object, "emailAddress")?;
            let diagnostic = member(object, "diagnosticCode").unwrap_or_default();
            let diagnostic = diagnostic.split_once(';').map_or(diagnostic.as_str(), |(_, text)| text);
            let (code, status) = codes_in(diagnostic);
            let status = member(object, "status").and_then(|text| codes_in(&text).1).or(status);
            let action = if temporary && status.is_some_and(|status| status.0 == 4) && code.is_none() {
                Action::Delayed
            } else {
                Action::Failed
            };
            Some(BouncedRecipient {
                status,
                code,
                diagnostic: one_line(diagnostic, MAX_DIAGNOSTIC),
                ..nobody(&address, action, Certainty::Named)
            })
        })
        .take(MAX_RECIPIENTS)
        .collect()
}
