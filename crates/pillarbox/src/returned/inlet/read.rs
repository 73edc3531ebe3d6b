//! What each provider tells, in our words: bounces, mail that is late, and complaints. Everything else is left out.

use serde_json::Value;

use super::{ProviderEvent, Refused};

/// Most events of a request.
const MOST: usize = 5_000;
/// Longest text that is kept, octets.
const MOST_TEXT: usize = 1_000;

fn json(body: &[u8]) -> Result<Value, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::Unreadable(error.to_string()))
}

/// One event or many.
fn each(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all.into_iter().take(MOST).collect(),
        one => vec![one],
    }
}

/// A text, or a number as one, at a JSON pointer; cut, and none if it is empty.
fn at(value: &Value, pointer: &str) -> Option<String> {
    let text = match value.pointer(pointer)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let text: String = text[..text.floor_char_boundary(MOST_TEXT)].chars().filter(|c| !c.is_control()).collect();
    (!text.is_empty()).then_some(text)
}

fn words(value: &Value, pointers: &[&str]) -> String {
    pointers.iter().find_map(|pointer| at(value, pointer)).unwrap_or_default()
}

fn code(value: &Value, pointer: &str) -> Option<u16> {
    at(value, pointer)?.parse().ok().filter(|code| (400..600).contains(code))
}

/// `5.1.1`
fn enhanced(value: &Value, pointer: &str) -> Option<String> {
    let text = at(value, pointer)?;
    let good = text.split('.').count() == 3 && text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
    (good && text.starts_with(['4', '5'])).then_some(text)
}

fn bracketed(id: String) -> String {
    if id.starts_with('<') { id } else { format!("<{id}>") }
}

/// Amazon SES: the message inside of SNS's envelope. <https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html>
pub(super) fn ses(message: &str) -> Result<Vec<ProviderEvent>, Refused> {
    let value = match serde_json::from_str::<Value>(message) {
        Ok(value) if value.is_object() => value,
        // SNS and SES send words for people too: `Successfully validated SNS topic …`.
        _ => return Ok(Vec::new()),
    };
    let kind = words(&value, &["/notificationType", "/eventType"]);
    let (what, list, id) = match kind.as_str() {
        "Bounce" => ("bounced", "/bounce/bouncedRecipients", "/bounce/feedbackId"),
        "Complaint" => ("complained", "/complaint/complainedRecipients", "/complaint/feedbackId"),
        "DeliveryDelay" => ("late", "/deliveryDelay/delayedRecipients", "/mail/messageId"),
        _ => return Ok(Vec::new()),
    };
    let headers = value.pointer("/mail/headers").and_then(Value::as_array);
    let in_header = headers.into_iter().flatten().find(|field| {
        field.get("name").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case("message-id"))
    });
    let message_id =
        in_header.and_then(|field| at(field, "/value")).or_else(|| at(&value, "/mail/commonHeaders/messageId"));
    let general = words(
        &value,
        &[
            "/complaint/complaintFeedbackType",
            "/deliveryDelay/delayType",
            "/bounce/bounceSubType",
            "/bounce/bounceType",
        ],
    );
    let recipients = value.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |one: Value| {
        let said = words(&one, &["/diagnosticCode"]);
        let said = said.split_once(';').map_or(said.as_str(), |(_, said)| said).trim().to_owned();
        ProviderEvent {
            id: words(&value, &[id]),
            what: what.into(),
            recipient: words(&one, &["/emailAddress"]),
            return_path: at(&value, "/mail/source"),
            message_id: message_id.clone(),
            queued: at(&value, "/mail/messageId"),
            words: if said.is_empty() { general.clone() } else { said },
            code: None,
            status: enhanced(&one, "/status"),
        }
    };
    Ok(recipients.into_iter().take(MOST).map(of).collect())
}

/// SendGrid. <https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event>
pub(super) fn sendgrid(body: &[u8]) -> Result<Vec<ProviderEvent>, Refused> {
    let of = |one: Value| {
        let what = match words(&one, &["/event"]).as_str() {
            "bounce" | "blocked" | "dropped" => "bounced",
            "spamreport" => "complained",
            _ => return None,
        };
        Some(ProviderEvent {
            id: words(&one, &["/sg_event_id"]),
            what: what.into(),
            recipient: words(&one, &["/email"]),
            return_path: None,
            message_id: at(&one, "/smtp-id").map(bracketed),
            // `<name>.recvd-…` in events, `<name>` in the reply.
            queued: at(&one, "/sg_message_id").map(|id| id.split('.').next().unwrap_or_default().to_owned()),
            words: words(&one, &["/reason", "/response", "/event"]),
            code: None,
            status: enhanced(&one, "/status"),
        })
    };
    Ok(each(json(body)?).into_iter().filter_map(of).collect())
}

/// Postmark. <https://postmarkapp.com/developer/webhooks/bounce-webhook>
pub(super) fn postmark(body: &[u8]) -> Result<Vec<ProviderEvent>, Refused> {
    let of = |one: Value| {
        let kind = words(&one, &["/Type"]);
        let what = match (words(&one, &["/RecordType"]).as_str(), kind.as_str()) {
            ("SpamComplaint", _) | ("Bounce", "SpamComplaint") => "complained",
            // The mail was delivered: a person or a program answered.
            ("Bounce", "AutoResponder" | "ChallengeVerification" | "AddressChange" | "Subscribe" | "Unsubscribe") => {
                return None;
            }
            ("Bounce", "Transient") => "late",
            ("Bounce", _) => "bounced",
            _ => return None,
        };
        Some(ProviderEvent {
            id: words(&one, &["/ID"]),
            what: what.into(),
            recipient: words(&one, &["/Email"]),
            return_path: None,
            message_id: None,
            queued: at(&one, "/MessageID"),
            words: words(&one, &["/Details", "/Description", "/Type"]),
            code: None,
            status: None,
        })
    };
    Ok(each(json(body)?).into_iter().filter_map(of).collect())
}

/// Mailgun. <https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure>
pub(super) fn mailgun(body: &[u8]) -> Result<Vec<ProviderEvent>, Refused> {
    let value = json(body)?;
    let Some(one) = value.get("event-data") else {
        return Err(Refused::Unreadable("it has no event-data".into()));
    };
    let what = match (words(one, &["/event"]).as_str(), words(one, &["/severity"]).as_str()) {
        ("failed", "temporary") => "late",
        ("failed", _) => "bounced",
        ("complained", _) => "complained",
        _ => return Ok(Vec::new()),
    };
    let status = enhanced(one, "/delivery-status/enhanced-code");
    Ok(vec![ProviderEvent {
        id: words(one, &["/id"]),
        what: what.into(),
        recipient: words(one, &["/recipient"]),
        return_path: at(one, "/envelope/sender"),
        message_id: at(one, "/message/headers/message-id").map(bracketed),
        queued: None,
        words: words(one, &["/delivery-status/message", "/delivery-status/description", "/reason", "/event"]),
        code: code(one, "/delivery-status/code"),
        status,
    }])
}

/// Brevo. <https://developers.brevo.com/docs/transactional-webhooks>
pub(super) fn brevo(body: &[u8]) -> Result<Vec<ProviderEvent>, Refused> {
    let of = |one: Value| {
        let what = match words(&one, &["/event"]).as_str() {
            "hard_bounce" | "soft_bounce" | "invalid_email" | "blocked" | "error" => "bounced",
            "deferred" => "late",
            "spam" | "complaint" => "complained",
            _ => return None,
        };
        let part = |pointer: &str| at(&one, pointer).unwrap_or_default();
        // It gives its events no names of their own.
        let time = ["/ts_epoch", "/ts_event", "/ts", "/date"].iter().find_map(|pointer| at(&one, pointer));
        Some(ProviderEvent {
            id: format!("{} {} {}", part("/message-id"), part("/event"), time.unwrap_or_default()),
            what: what.into(),
            recipient: words(&one, &["/email"]),
            return_path: None,
            message_id: at(&one, "/message-id").map(bracketed),
            queued: None,
            words: words(&one, &["/reason", "/event"]),
            code: None,
            status: None,
        })
    };
    Ok(each(json(body)?).into_iter().filter_map(of).collect())
}
