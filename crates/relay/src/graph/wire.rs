//! What is said to Microsoft Graph and what its answers mean in our words: `POST /users/{mailbox}/sendMail` with a message
//! in MIME form. Pure.
//!
//! <https://learn.microsoft.com/graph/api/user-sendmail> and <https://learn.microsoft.com/graph/errors>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::client::web::Answer;
use proto::Address;
use proto::message::readdress;
use proto::smtp::reply::{Reply, escape};
use proto::transcript::{Failure, Stage};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::oauth::Cloud;

/// Most octets of a request: Graph takes 4 MB.
pub const MAX_REQUEST: usize = 4 * 1024 * 1024;
/// Most octets of a message that fit, its base64 form being a third longer.
pub const MAX_MESSAGE: usize = MAX_REQUEST / 4 * 3;
/// Connections at once unless a route says otherwise: Graph serves four requests of an application for a mailbox.
pub const DEFAULT_CONNECTIONS: u32 = 4;
/// Error of a request that names somebody who cannot be a recipient. It does not say whom.
pub const INVALID_RECIPIENTS: &str = "ErrorInvalidRecipients";

/// Errors that are about what was to be sent: no other attempt can end otherwise.
const ABOUT_THE_MESSAGE: &[&str] = &[
    INVALID_RECIPIENTS,
    "ErrorMimeContentInvalid",
    "ErrorMimeContentInvalidBase64String",
    "ErrorMessageSizeExceeded",
    "ErrorAttachmentSizeLimitExceeded",
];
/// Errors with status 403 that are not about the token or its permissions.
const NOT_ABOUT_THE_TOKEN: &[&str] = &[
    "ErrorSendAsDenied",
    "ErrorQuotaExceeded",
    "ErrorMessageSizeExceeded",
    "ErrorMessageSubmissionBlocked",
    "ErrorExceededMessageLimit",
    "ErrorAccountSuspend",
    "ErrorAccountSuspended",
];

/// The host of Graph in a cloud.
pub fn host_of(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "graph.microsoft.com",
        Cloud::UsGov => "graph.microsoft.us",
        Cloud::UsDod => "dod-graph.microsoft.us",
        Cloud::China => "microsoftgraph.chinacloudapi.cn",
    }
}

/// The path of a mailbox, fit for a request line.
pub fn path_of(mailbox: &str) -> String {
    let mut path = String::from("/v1.0/users/");
    for octet in mailbox.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => path.push(octet.into()),
            _ => path.push_str(&format!("%{octet:02X}")),
        }
    }
    path.push_str("/sendMail");
    path
}

/// The body of a request that sends a message to exactly these recipients.
///
/// # Errors
/// [`Failure::TooLarge`], in octets of the message; [`Failure::Local`] for a header section that cannot be read.
pub fn body(content: &[u8], recipients: &[&Address]) -> Result<Vec<u8>, Failure> {
    let addressed = readdress(content, recipients).map_err(|error| Failure::Local { reason: error.to_string() })?;
    if addressed.len() > MAX_MESSAGE {
        return Err(Failure::TooLarge { size: addressed.len() as u64, limit: MAX_MESSAGE as u64 });
    }
    Ok(STANDARD.encode(addressed).into_bytes())
}

/// The body of a request that Graph authorizes and then refuses: a message to nobody. Nothing can come of it.
pub fn probe(mailbox: &str) -> Vec<u8> {
    let from: String = mailbox.chars().filter(|c| c.is_ascii_graphic() && !"<>,;:\"".contains(*c)).collect();
    STANDARD.encode(format!("From: <{from}>\r\nSubject: Pillarbox asks whether it may send\r\n\r\n\r\n")).into_bytes()
}

/// The head of a request, with the token.
pub fn head(host: &str, path: &str, length: usize, token: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pillarbox\r\nAuthorization: Bearer {}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nAccept: application/json\r\n\r\n",
        token.expose_secret()
    ))
}

/// What an answer comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// 202: Graph has taken it.
    Accepted(Reply),
    /// It was not taken.
    Refused(Failure),
    /// A gateway gave up on what stands behind it, or what came is no word of Graph: it may have been taken.
    Unknown(Failure),
}

#[derive(Deserialize)]
struct Body {
    error: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    code: Option<String>,
    message: Option<String>,
}

/// Reads an answer. `now_s`: for waits that are given as a time.
pub fn verdict(answer: &Answer, now_s: i64) -> Verdict {
    if answer.status == 202 {
        let id = answer.field("request-id").unwrap_or_default();
        let words = if id.is_empty() { "Accepted".to_owned() } else { format!("Accepted, request-id {id}") };
        return Verdict::Accepted(Reply::new(202, escape(words.as_bytes(), 200)));
    }
    let refused = refusal(answer, now_s);
    match answer.status {
        // 502 and 504: the gateway does not know what became of it. A success that is not 202 is not Graph's.
        502 | 504 | 200..=299 => Verdict::Unknown(refused),
        _ => Verdict::Refused(refused),
    }
}

fn refusal(answer: &Answer, now_s: i64) -> Failure {
    let told = serde_json::from_slice::<Body>(&answer.body).ok().and_then(|body| body.error);
    let (code, message) = match told {
        Some(Inner { code, message }) => (code.unwrap_or_default(), message.unwrap_or_default()),
        None => (String::new(), String::from_utf8_lossy(&answer.body).chars().take(200).collect()),
    };
    let error = escape(code.as_bytes(), 100);
    let words = [error.as_str(), message.trim()].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
    let text = escape(format!("HTTP {} {}", answer.status, words.join(": ")).trim_end().as_bytes(), 1_000);
    Failure::Api { status: answer.status, error, text, wait_s: answer.retry_after_s(now_s) }
}

/// Where in a conversation by SMTP the same would have been said.
pub fn stage_of(failure: &Failure) -> Stage {
    match failure {
        _ if is_about_the_token(failure) => Stage::Auth,
        Failure::TokenRefused { .. } | Failure::TokenUnavailable { .. } => Stage::Auth,
        Failure::Api { error, .. } if error == INVALID_RECIPIENTS => Stage::Recipient,
        Failure::Api { status: 404, .. } => Stage::Sender,
        Failure::Api { error, .. } if error == "ErrorSendAsDenied" => Stage::Sender,
        _ => Stage::Message,
    }
}

/// Whether a refusal says that the token is not good, or not good for this mailbox: no other message would fare better.
pub fn is_about_the_token(failure: &Failure) -> bool {
    match failure {
        Failure::Api { status: 401, .. } => true,
        Failure::Api { status: 403, error, .. } => !NOT_ABOUT_THE_TOKEN.contains(&error.as_str()),
        _ => false,
    }
}

/// Whether a refusal is about the message or its recipients, and final.
pub fn is_final(failure: &Failure) -> bool {
    match failure {
        Failure::Api { status: 413, .. } => true,
        Failure::Api { status: 400..=499, error, .. } => ABOUT_THE_MESSAGE.contains(&error.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Answer {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Answer { status, fields, body: body.as_bytes().to_vec() }
    }

    fn refused(status: u16, code: &str) -> Failure {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"words\nof it"}}}}"#);
        match verdict(&answer(status, &[("retry-after", "30")], &body), 0) {
            Verdict::Refused(failure) | Verdict::Unknown(failure) => failure,
            Verdict::Accepted(_) => panic!("accepted"),
        }
    }

    #[test]
    fn only_202_is_a_delivery_and_a_gateway_that_gave_up_says_nothing() {
        let taken = verdict(&answer(202, &[("request-id", "0a-1b")], ""), 0);
        assert_eq!(taken, Verdict::Accepted(Reply::new(202, "Accepted, request-id 0a-1b")));
        for status in [200, 204, 502, 504] {
            assert!(matches!(verdict(&answer(status, &[], ""), 0), Verdict::Unknown(_)), "{status}");
        }
        for status in [301, 400, 401, 403, 404, 413, 429, 500, 503] {
            assert!(matches!(verdict(&answer(status, &[], "<html>"), 0), Verdict::Refused(_)), "{status}");
        }
    }

    #[test]
    fn an_error_keeps_its_status_its_word_and_its_wait_on_one_line() {
        let Failure::Api { status, error, text, wait_s } = refused(429, "ApplicationThrottled") else { panic!() };
        assert_eq!((status, error.as_str(), wait_s), (429, "ApplicationThrottled", Some(30)));
        assert!(text.starts_with("HTTP 429 ApplicationThrottled: words") && !text.contains('\n'), "{text}");
        let at = [("retry-after", "Sat, 21 Nov 2026 10:01:00 GMT")];
        let Verdict::Refused(Failure::Api { wait_s, text, .. }) = verdict(&answer(503, &at, ""), 1_795_255_200) else {
            panic!()
        };
        assert_eq!((wait_s, text.as_str()), (Some(60), "HTTP 503"));
    }

    #[test]
    fn the_token_the_recipients_the_mailbox_and_the_message_are_told_apart() {
        for (status, code, stage, token, last) in [
            (401, "InvalidAuthenticationToken", Stage::Auth, true, false),
            (403, "ErrorAccessDenied", Stage::Auth, true, false),
            (403, "ErrorSendAsDenied", Stage::Sender, false, false),
            (404, "MailboxNotEnabledForRESTAPI", Stage::Sender, false, false),
            (400, INVALID_RECIPIENTS, Stage::Recipient, false, true),
            (400, "ErrorMimeContentInvalidBase64String", Stage::Message, false, true),
            (400, "SomethingNew", Stage::Message, false, false),
            (413, "", Stage::Message, false, true),
            (429, "ApplicationThrottled", Stage::Message, false, false),
            (503, "ErrorInvalidRecipients", Stage::Recipient, false, false),
        ] {
            let failure = refused(status, code);
            let found = (stage_of(&failure), is_about_the_token(&failure), is_final(&failure));
            assert_eq!(found, (stage, token, last), "{status} {code}");
        }
    }

    #[test]
    fn a_mailbox_cannot_leave_its_place_in_the_path_and_the_token_is_not_shown() {
        assert_eq!(path_of("a@x.test"), "/v1.0/users/a@x.test/sendMail");
        assert_eq!(path_of("a/../b?c d\r\n"), "/v1.0/users/a%2F..%2Fb%3Fc%20d%0D%0A/sendMail");
        let text = String::from_utf8(STANDARD.decode(probe("a@x.test>\r\nTo: b@y.test")).unwrap()).unwrap();
        assert!(text.starts_with("From: <a@x.testTob@y.test>\r\nSubject: "), "{text}");
    }

    #[test]
    fn what_is_too_large_is_told_before_it_is_sent() {
        let to: Address = "a@x.test".parse().unwrap();
        let content = vec![b'x'; MAX_MESSAGE];
        assert!(matches!(body(&content, &[&to]), Err(Failure::TooLarge { limit, .. }) if limit == MAX_MESSAGE as u64));
        assert!(body(&content[..MAX_MESSAGE - 100], &[&to]).unwrap().len() <= MAX_REQUEST);
    }
}
