//! Traces of our messages in what comes back: return paths of ours, our line of `Received`, Message-IDs we made.

use proto::report::MAX_OCTETS;
use relay::verp::{Token, Verp};
use store::MessageId;

/// Most places that are looked at.
const MAX_PLACES: usize = 100;

/// What a report says about the message it is about.
#[derive(Debug, Default)]
pub struct Hint<'a> {
    /// Addresses that may be return paths of ours.
    pub return_paths: Vec<Option<&'a str>>,
    /// `Message-ID` with its brackets.
    pub message_id: Option<&'a str>,
    /// `Original-Envelope-Id`.
    pub envelope_id: Option<&'a str>,
}

fn head(octets: &[u8]) -> &[u8] {
    &octets[..octets.len().min(MAX_OCTETS)]
}

/// Return paths of ours anywhere in a mail: mailboxes and gateways write them into fields of their own.
pub fn return_paths(verp: &Verp, mail: &[u8]) -> Vec<Token> {
    let mut found = Vec::new();
    let mail = head(mail);
    let domain = format!("@{}", verp.domain());
    let lower = mail.to_ascii_lowercase();
    for at in memchr::memmem::find_iter(&lower, domain.as_bytes()).take(MAX_PLACES) {
        let local = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'-';
        let length = lower[..at].iter().rev().take(64).take_while(|octet| local(octet)).count();
        let address = String::from_utf8_lossy(&lower[at - length..at + domain.len()]);
        if let Some(token) = verp.read(&address)
            && !found.contains(&token)
        {
            found.push(token);
        }
    }
    found
}

/// Ids in lines that we wrote: `Received: from … by <our name> with ESMTPSA id <message id>`.
pub fn of_header(mail: &[u8], hostname: &str) -> Vec<MessageId> {
    let mut found = Vec::new();
    let mail = head(mail);
    let by = format!("by {hostname}");
    for at in memchr::memmem::find_iter(mail, by.as_bytes()).take(MAX_PLACES) {
        let rest = &mail[at + by.len()..mail.len().min(at + by.len() + 200)];
        // Another host whose name begins like ours.
        if !rest.first().is_some_and(u8::is_ascii_whitespace) {
            continue;
        }
        let text = String::from_utf8_lossy(rest);
        let mut words = text.split([' ', '\t', '\r', '\n', ';']).filter(|word| !word.is_empty()).take(8);
        if words.any(|word| word == "id")
            && let Some(id) = words.next().and_then(|word| word.parse().ok())
            && !found.contains(&id)
        {
            found.push(id);
        }
    }
    found
}

/// The message of a Message-ID that was made here: `<id@hostname>`.
pub fn made_here(message_id: &str, hostname: &str) -> Option<MessageId> {
    let (local, domain) = message_id.trim().strip_prefix('<')?.strip_suffix('>')?.rsplit_once('@')?;
    domain.eq_ignore_ascii_case(hostname).then(|| local.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId(1 << 50);

    #[test]
    fn our_line_of_received_names_the_message() {
        let mail = format!(
            "Received: by mx.far.example with SMTP id q12;\n\tdate\nReceived: from app ([192.0.2.1])\r\n\tby relay.example \
             with ESMTPSA id {ID}\r\n\tfor <a@b.example>; Fri, 21 Nov 2025\r\n"
        );
        assert_eq!(of_header(mail.as_bytes(), "relay.example"), [ID]);
        assert!(of_header(mail.as_bytes(), "relay.exam").is_empty());
        assert!(of_header(mail.as_bytes(), "mx.far.example").is_empty());
    }

    #[test]
    fn message_ids_made_here_are_known_by_their_form() {
        assert_eq!(made_here(&format!("<{ID}@relay.example>"), "Relay.example"), Some(ID));
        for other in [format!("<{ID}@other.example>"), format!("{ID}@relay.example"), "<x@relay.example>".into()] {
            assert_eq!(made_here(&other, "relay.example"), None, "{other}");
        }
    }

    #[test]
    fn return_paths_are_found_wherever_they_stand() {
        let verp = Verp::new("bounces.example.net", &[1; 32]);
        let token = Token { message: ID, n: Some(3) };
        let address = verp.address(token).unwrap();
        for text in [
            format!("X-Envelope-To: <{address}>\n"),
            format!("for {};", address.as_str().to_ascii_uppercase()),
            format!("{address}"),
            format!("x@bounces.example.net\nTo: \"{address}\"@bounces.example.net"),
        ] {
            assert_eq!(return_paths(&verp, text.as_bytes()), [token], "{text}");
        }
        assert!(return_paths(&verp, b"b-1-2-3@bounces.example.net @bounces.example.net").is_empty());
    }
}
