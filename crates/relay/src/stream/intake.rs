//! What a stream adds at the door: the link by which a recipient leaves it, and what makes mails equal.

use proto::message::{HeaderScan, decode_header_value};
use proto::report::text_of_mail;
use store::{Committed, Event, EventKind, Fold, Message, MessageId, NewRecipient, Start};

use super::StreamRecord;
use super::unsubscribe::FIELD;
use crate::accept::{DIGEST_HEADER, Submission};
use crate::admission::{Noted, Noting};
use crate::refusal::Refusal;
use crate::shared::Shared;

/// Most characters of text that are compared.
const MOST_TEXT: usize = 64 * 1024;
/// Events of a message that are looked at.
const MOST_EVENTS: u32 = 10_000;
/// Why a folded recipient is held, for its submitter.
const FOLDED: &str = "digest: collected with equal mail, told of at the end of the window";

/// The fields by which a recipient leaves the stream, for a message that has none of its own.
///
/// The link belongs to one recipient, and a message's octets are the same for all: several recipients are refused. Splitting
/// would make several messages, and no transaction takes all of them in or none.
pub(crate) fn link(
    shared: &Shared,
    record: &StreamRecord,
    stream: &str,
    scan: &HeaderScan,
    submission: &Submission,
) -> Result<Option<String>, Refusal> {
    if !record.unsubscribe || !shared.links.is_public() || scan.get(&submission.content, FIELD).is_some() {
        return Ok(None);
    }
    match submission.envelope.recipients.as_slice() {
        [one] => Ok(shared.links.fields(stream, &one.address)),
        _ => {
            let text = format!(
                "5.5.3 Each message of the stream {stream} carries one recipient's link to leave it: send one message for each recipient"
            );
            Err(Refusal::invalid(Some("/to"), 554, text))
        }
    }
}

/// What a message is about, and for how long others about the same are folded.
pub(crate) struct About {
    hash: blake3::Hasher,
    window_ms: i64,
}

/// Sender, stream and the key that was given; without one, subject and text as far as they are not numbers.
pub(crate) fn about(message: &Message, window_s: u64, scan: &HeaderScan, submission: &Submission) -> About {
    let mut hash = blake3::Hasher::new();
    for part in [&*message.sender, &*message.stream] {
        hash.update(&(part.len() as u32).to_le_bytes()).update(part.as_bytes());
    }
    let content = &submission.content;
    let header = || scan.get(content, DIGEST_HEADER).map(decode_header_value);
    match submission.digest_key.clone().or_else(header) {
        Some(key) => hash.update(b"key").update(key.trim().as_bytes()),
        None => {
            let subject = scan.subject(content).map(decode_header_value).unwrap_or_default();
            let text = text_of_mail(content);
            hash.update(b"text").update(normal(&subject).as_bytes()).update(&[0]).update(normal(&text).as_bytes())
        }
    };
    About { hash, window_ms: i64::try_from(window_s).unwrap_or(0).saturating_mul(1_000) }
}

impl About {
    /// The recipients that may be folded, each by its own key.
    pub(crate) fn folds(&self, recipients: &[NewRecipient]) -> Vec<(u32, Fold)> {
        let fold = |(n, to): (usize, &NewRecipient)| {
            if matches!(to.start, Start::Held(_) | Start::Suppressed(_)) {
                return None;
            }
            let mut hash = self.hash.clone();
            hash.update(to.address.as_str().to_lowercase().as_bytes());
            let mut key = [0; 16];
            key.copy_from_slice(&hash.finalize().as_bytes()[..16]);
            Some((n as u32, Fold { key, window_ms: self.window_ms }))
        };
        recipients.iter().enumerate().filter_map(fold).collect()
    }
}

/// What is told of recipients that were folded.
pub(crate) fn folded(committed: &Committed) -> impl Iterator<Item = Noted> {
    committed.folded().iter().map(|n| Noted { n: *n, noting: Noting::Held, why: FOLDED.to_owned() })
}

/// What was told of a message's recipients when it was accepted.
pub(crate) async fn noted_before(shared: &Shared, id: MessageId) -> Result<Vec<Noted>, Refusal> {
    let events = shared.store.events(id, MOST_EVENTS).await.map_err(Refusal::from)?;
    let accepted_ms = events.first().map(|event| event.at_ms);
    let noted = |event: Event| {
        let noting = match event.kind {
            EventKind::Held => Noting::Held,
            EventKind::Suppressed => Noting::Suppressed,
            _ => return None,
        };
        Some(Noted { n: event.n?, noting, why: event.detail.why.unwrap_or_default() })
    };
    Ok(events.into_iter().filter(|event| Some(event.at_ms) == accepted_ms).filter_map(noted).collect())
}

/// A text without what differs between two mails about the same: numbers, times, ids, space and case.
fn normal(text: &str) -> String {
    let mut out = String::new();
    for word in text.chars().take(MOST_TEXT).collect::<String>().split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        if is_id(word) {
            out.push('#');
            continue;
        }
        let mut number = false;
        for c in word.chars() {
            if c.is_ascii_digit() {
                if !number {
                    out.push('#');
                }
            } else {
                out.extend(c.to_lowercase());
            }
            number = c.is_ascii_digit();
        }
    }
    out
}

/// A word made of hexadecimal digits with at least one digit: a UUID, a hash.
fn is_id(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    word.len() >= 8
        && word.bytes().all(|octet| octet.is_ascii_hexdigit() || octet == b'-')
        && word.bytes().any(|octet| octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_ids_space_and_case_do_not_make_mails_different_but_words_do() {
        let one = normal("Disk 91% full on db-1  at 2026-11-21T09:44:42Z\nid 3f2a9c1e-77aa-4b1e-8f00-12ab34cd56ef");
        assert_eq!(one, normal("disk 7% full on db-2 at 2025-01-02T11:00:00Z id ffffffff-0000-4b1e-8f00-12ab34cd56ef"));
        assert_ne!(one, normal("Disk 91% full on web-1 at 2026-11-21T09:44:42Z id 3f2a9c1e"));
        assert_ne!(normal("deadbeef"), normal("feedface"), "words of letters are words");
    }
}
