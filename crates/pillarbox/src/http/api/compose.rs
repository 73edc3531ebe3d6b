//! A structured request into a message: MIME structure, header fields, envelope. No I/O.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address as HeaderAddress;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text as HeaderText;
use mail_builder::mime::{BodyPart, MimePart};
use proto::message::{HeaderName, rfc5322_date};
use proto::{Address, DeliveryNotify, Envelope, MailParameters, RcptParameters, Recipient, ReturnContent, ReversePath};

use super::input::{AttachmentIn, EnvelopeIn, Mailbox, Mailboxes, MessageIn, Notify, Ret};
use crate::http::problem::{FieldError, Problem};

/// Header fields that have a field of their own in the request, or that are ours to write.
const OWN_HEADERS: &[&str] = &[
    "from",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "sender",
    "received",
    "return-path",
    "mime-version",
    "dkim-signature",
    "resent-bcc",
    "delivered-to",
];

/// A message with its envelope.
#[derive(Debug)]
pub struct Composed {
    /// Envelope.
    pub envelope: Envelope,
    /// Octets with CRLF lines.
    pub content: Vec<u8>,
}

/// What the composer needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// For the message id.
    pub hostname: &'a str,
    /// For the date, Unix milliseconds.
    pub now_ms: i64,
}

/// Takes the request as it is meant: composed, or raw with an envelope.
pub fn compose(input: &MessageIn, surroundings: Surroundings<'_>) -> Result<Composed, Problem> {
    let raw = match (&input.raw, &input.raw_base64) {
        (Some(_), Some(_)) => return Err(Problem::field("/raw_base64", "give either `raw` or `raw_base64`")),
        (Some(raw), None) => Some(raw.clone().into_bytes()),
        (None, Some(text)) => Some(decoded(text).map_err(|detail| Problem::field("/raw_base64", detail))?),
        (None, None) => None,
    };
    let Some(raw) = raw else { return structured(input, surroundings) };
    let mixed = input.from.is_some()
        || input.subject.is_some()
        || input.text.is_some()
        || input.html.is_some()
        || !(input.to.0.is_empty() && input.cc.0.is_empty() && input.bcc.0.is_empty())
        || !(input.attachments.is_empty() && input.headers.is_empty() && input.reply_to.0.is_empty());
    if mixed {
        return Err(Problem::field("/raw", "a raw message takes nothing but `envelope` and the options of the queue"));
    }
    let Some(envelope) = &input.envelope else {
        return Err(Problem::field("/envelope", "a raw message needs an envelope with `from` and `to`"));
    };
    Ok(Composed { envelope: raw_envelope(envelope, input.require_tls)?, content: finished(raw, "/raw")? })
}

/// The envelope of a raw message.
pub fn raw_envelope(input: &EnvelopeIn, require_tls: bool) -> Result<Envelope, Problem> {
    let from = input.from.trim();
    let reverse_path = match from.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(from) {
        "" => ReversePath(None),
        text => ReversePath(Some(
            Address::parse(text).map_err(|error| Problem::field("/envelope/from", error.to_string()))?,
        )),
    };
    let notify = notify(&input.notify)?;
    let parameters = RcptParameters { notify, orcpt: None };
    let recipients = input
        .to
        .iter()
        .map(|to| Recipient { address: to.0.clone(), parameters: parameters.clone() })
        .collect::<Vec<_>>();
    if recipients.is_empty() {
        return Err(Problem::field("/envelope/to", "at least one recipient is needed"));
    }
    let ret = input.ret.map(|ret| match ret {
        Ret::Full => ReturnContent::Full,
        Ret::Headers => ReturnContent::Headers,
    });
    let envid = input.envid.as_ref().map(|envid| envid.as_str().to_owned());
    if envid.as_ref().is_some_and(|envid| envid.len() > 100) {
        return Err(Problem::field("/envelope/envid", "is longer than 100 octets"));
    }
    Ok(Envelope {
        reverse_path,
        parameters: MailParameters { ret, envid, require_tls, ..Default::default() },
        recipients,
    })
}

fn notify(words: &[Notify]) -> Result<Option<DeliveryNotify>, Problem> {
    if words.is_empty() {
        return Ok(None);
    }
    if words.contains(&Notify::Never) {
        return match words.len() {
            1 => Ok(Some(DeliveryNotify::Never)),
            _ => Err(Problem::field("/envelope/notify", "`never` stands alone")),
        };
    }
    Ok(Some(DeliveryNotify::On {
        success: words.contains(&Notify::Success),
        failure: words.contains(&Notify::Failure),
        delay: words.contains(&Notify::Delay),
    }))
}

/// A raw message with CRLF lines and without NUL.
pub fn finished(raw: Vec<u8>, pointer: &str) -> Result<Vec<u8>, Problem> {
    if raw.contains(&0) {
        return Err(Problem::field(pointer, "the message has a NUL"));
    }
    Ok(match proto::message::normalize_line_ends(&raw) {
        std::borrow::Cow::Borrowed(_) => raw,
        std::borrow::Cow::Owned(normal) => normal,
    })
}

fn structured(input: &MessageIn, surroundings: Surroundings<'_>) -> Result<Composed, Problem> {
    let mut errors = Vec::new();
    let mut say = |pointer: &str, detail: &str| errors.push(FieldError::new(pointer, detail));
    if input.envelope.is_some() {
        say("/envelope", "only a raw message has an envelope of its own");
    }
    if input.from.is_none() {
        say("/from", "is missing");
    }
    if input.to.0.is_empty() && input.cc.0.is_empty() && input.bcc.0.is_empty() {
        say("/to", "at least one of `to`, `cc` and `bcc` needs an address");
    }
    if input.text.is_none() && input.html.is_none() && input.attachments.is_empty() {
        say("/text", "at least one of `text`, `html` and `attachments` is needed");
    }
    for (pointer, body) in [("/text", &input.text), ("/html", &input.html)] {
        if body.as_ref().is_some_and(|body| body.contains('\0')) {
            say(pointer, "has a NUL");
        }
    }
    for name in input.headers.keys() {
        if let Some(detail) = header_problem(name) {
            say(&format!("/headers/{}", name.replace('~', "~0").replace('/', "~1")), detail);
        }
    }
    if input.require_tls && input.headers.keys().any(|name| name.eq_ignore_ascii_case("tls-required")) {
        say("/require_tls", "contradicts the header field TLS-Required: give one of them");
    }
    let attachments: Vec<Option<Vec<u8>>> = input
        .attachments
        .iter()
        .enumerate()
        .map(|(n, attachment)| {
            decoded(&attachment.content).map_err(|detail| say(&format!("/attachments/{n}/content"), &detail)).ok()
        })
        .collect();
    let (Some(from), true) = (&input.from, errors.is_empty()) else { return Err(Problem::fields(errors)) };
    let attachments = input.attachments.iter().zip(attachments.into_iter().flatten().map(Cow::Owned)).collect();
    let content = write(input, from, attachments, surroundings);
    Ok(Composed { envelope: envelope(input, from), content })
}

/// Why a header field cannot be set by a request.
pub fn header_problem(name: &str) -> Option<&'static str> {
    if HeaderName::new(name).is_err() {
        return Some("is not a header name");
    }
    let name = name.to_ascii_lowercase();
    if name.starts_with("content-") || OWN_HEADERS.contains(&name.as_str()) {
        return Some("cannot be set here: it has its own field, or is written by the server");
    }
    None
}

/// Each address once, in order; blind copies are in the envelope and nowhere else.
pub fn envelope(input: &MessageIn, from: &Mailbox) -> Envelope {
    let mut seen = std::collections::HashSet::new();
    let recipients = [&input.to, &input.cc, &input.bcc]
        .into_iter()
        .flat_map(|list| &list.0)
        .filter(|mailbox| seen.insert(&mailbox.address))
        .map(|mailbox| Recipient { address: mailbox.address.clone(), parameters: RcptParameters::default() })
        .collect::<Vec<_>>();
    let smtputf8 = from.address.needs_smtputf8() || recipients.iter().any(|to| to.address.needs_smtputf8());
    Envelope {
        reverse_path: ReversePath(Some(from.address.clone())),
        parameters: MailParameters { smtputf8, require_tls: input.require_tls, ..Default::default() },
        recipients,
    }
}

/// The octets of a composed message.
pub fn write(
    input: &MessageIn,
    from: &Mailbox,
    attachments: Vec<(&AttachmentIn, Cow<'_, [u8]>)>,
    surroundings: Surroundings<'_>,
) -> Vec<u8> {
    let mut message = MessageBuilder::new().from(address(from));
    let lists = [("To", &input.to), ("Cc", &input.cc), ("Reply-To", &input.reply_to)];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.0.is_empty()) {
        message = message.header(name, addresses(list));
    }
    if let Some(subject) = &input.subject {
        message = message.subject(subject.as_str());
    }
    message = message.header("Date", Raw::new(rfc5322_date(surroundings.now_ms)));
    if !input.headers.keys().any(|name| name.eq_ignore_ascii_case("message-id")) {
        let id = format!("<{:032x}@{}>", rand::random::<u128>(), surroundings.hostname);
        message = message.header("Message-ID", Raw::new(id));
    }
    for (name, value) in &input.headers {
        // The builder looks for this spelling before it adds one of its own.
        let name = if name.eq_ignore_ascii_case("message-id") { "Message-ID" } else { name };
        message = message.header(name, HeaderText::new(value.as_str()));
    }
    let mut content = Vec::new();
    message.body(body(input, attachments)).serialize(&mut content);
    content
}

/// mixed( alternative( text, related( html, inline … ) ), attachment … ), with only the layers that are needed.
fn body<'a>(input: &'a MessageIn, attachments: Vec<(&'a AttachmentIn, Cow<'a, [u8]>)>) -> MimePart<'a> {
    let (inline, attached): (Vec<_>, Vec<_>) = attachments
        .into_iter()
        .partition(|(attachment, _)| input.html.is_some() && (attachment.inline || attachment.content_id.is_some()));
    let html = input.html.as_ref().map(|html| {
        let html = MimePart::new("text/html", html.as_str());
        layer("multipart/related", std::iter::once(html).chain(inline.into_iter().map(part)).collect())
    });
    let text = input.text.as_ref().map(|text| MimePart::new("text/plain", text.as_str()));
    let main: Vec<_> = text.into_iter().chain(html).collect();
    let main = (!main.is_empty()).then(|| layer("multipart/alternative", main));
    layer("multipart/mixed", main.into_iter().chain(attached.into_iter().map(part)).collect())
}

fn layer<'a>(kind: &'static str, mut parts: Vec<MimePart<'a>>) -> MimePart<'a> {
    match parts.len() {
        1 => parts.remove(0),
        _ => MimePart::new(kind, BodyPart::Multipart(parts)),
    }
}

fn part<'a>((attachment, octets): (&'a AttachmentIn, Cow<'a, [u8]>)) -> MimePart<'a> {
    let kind = attachment.content_type.as_ref().map_or("application/octet-stream", |kind| kind.0.as_str());
    let part = MimePart::new(kind, BodyPart::Binary(octets));
    let part = match (&attachment.filename, attachment.inline || attachment.content_id.is_some()) {
        (Some(name), false) => part.attachment(name.as_str()),
        (None, false) => part.attachment("attachment"),
        (_, true) => part.inline(),
    };
    match &attachment.content_id {
        Some(id) => part.cid(id.0.as_str()),
        None => part,
    }
}

fn address(mailbox: &Mailbox) -> HeaderAddress<'_> {
    HeaderAddress::new_address(mailbox.name.as_deref(), mailbox.address.as_str())
}

fn addresses(list: &Mailboxes) -> HeaderAddress<'_> {
    HeaderAddress::new_list(list.0.iter().map(address).collect())
}

/// Base64 in either padding, with line breaks as tools write them.
pub fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let broken = text.bytes().any(|octet| octet.is_ascii_whitespace());
    let octets = if broken {
        STANDARD.decode(text.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect::<Vec<_>>())
    } else {
        STANDARD.decode(text)
    };
    octets.map_err(|_| "is not base64".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::{MessageParser, MimeHeaders};

    const HERE: Surroundings<'static> = Surroundings { hostname: "relay.example", now_ms: 1_795_230_509_000 };

    fn composed(json: serde_json::Value) -> Result<Composed, Problem> {
        compose(&crate::http::json::parse(json.to_string().as_bytes())?, HERE)
    }

    #[test]
    fn a_full_message_reads_back_as_it_was_meant() {
        let composed = composed(serde_json::json!({
            "from": "Jörg <joerg@app.example>", "to": ["Ann <ann@one.example>", "bob@two.example"], "cc": "ann@one.example",
            "bcc": "secret@three.example", "reply_to": "help@app.example", "subject": "Grüße, 100 %",
            "text": "Hallo\n.\nWelt", "html": "<p>Hallo <img src=\"cid:logo@x\"></p>",
            "headers": {"X-Job": "42", "List-Unsubscribe": "<https://app.example/u>"},
            "attachments": [
                {"filename": "Über.pdf", "content_type": "application/pdf", "content": "AAEC"},
                {"filename": "logo.png", "content_type": "image/png", "content": "AAEC", "content_id": "logo@x"},
            ],
        }))
        .unwrap();
        let to: Vec<_> = composed.envelope.recipients.iter().map(|to| to.address.as_str()).collect();
        assert_eq!(to, ["ann@one.example", "bob@two.example", "secret@three.example"]);
        let text = String::from_utf8(composed.content.clone()).unwrap();
        assert!(text.is_ascii(), "seven bits leave everywhere");
        assert!(!text.contains("secret"), "{text}");
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{text}");
        let message = MessageParser::default().parse(&composed.content).unwrap();
        assert_eq!(message.subject(), Some("Grüße, 100 %"));
        assert_eq!(message.from().unwrap().first().unwrap().name(), Some("Jörg"));
        assert_eq!(message.body_text(0).unwrap().replace("\r\n", "\n").trim_end(), "Hallo\n.\nWelt");
        assert_eq!(message.header_raw("X-Job").map(str::trim), Some("42"));
        assert_eq!(message.header_raw("Date").map(str::trim), Some("Sat, 21 Nov 2026 03:08:29 +0000"));
        assert!(message.message_id().unwrap().ends_with("@relay.example"));
        let names: Vec<_> = message.attachments().filter_map(|part| part.attachment_name()).collect();
        assert!(names.contains(&"Über.pdf"), "{names:?}");
        assert_eq!(text.matches("Message-ID:").count(), 1);
        assert_eq!(text.matches("MIME-Version:").count(), 1);
    }

    #[test]
    fn every_field_that_is_wrong_is_named_at_once() {
        let problem = composed(serde_json::json!({
            "headers": {"Bcc": "x", "Content-Type": "x", "a b": "x"}, "attachments": [{"content": "?"}],
        }))
        .unwrap_err();
        let pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/from", "/to", "/headers/Bcc", "/headers/Content-Type", "/headers/a b", "/attachments/0/content"]
        );
    }

    #[test]
    fn no_header_value_can_hold_a_line_end() {
        for (field, value) in [
            ("subject", serde_json::json!("a\r\nBcc: x@y.example")),
            ("from", serde_json::json!("a\n <a@b.example>")),
            ("headers", serde_json::json!({"X-A": "a\nb"})),
            ("attachments", serde_json::json!([{"filename": "a\r\nb", "content": ""}])),
        ] {
            let problem = composed(serde_json::json!({ field: value })).unwrap_err();
            assert!(problem.errors[0].pointer.starts_with(&format!("/{field}")), "{problem:?}");
        }
    }

    #[test]
    fn a_raw_message_keeps_its_octets_and_takes_its_envelope() {
        let composed = composed(serde_json::json!({
            "envelope": {"from": "", "to": ["a@b.example"], "notify": ["failure", "delay"]}, "raw": "Subject: x\n\ny\n",
        }))
        .unwrap();
        assert_eq!(composed.content, b"Subject: x\r\n\r\ny\r\n");
        assert_eq!(composed.envelope.reverse_path, ReversePath(None));
        let notify = composed.envelope.recipients[0].parameters.notify;
        assert_eq!(notify, Some(DeliveryNotify::On { success: false, failure: true, delay: true }));
    }
}
