//! Digests: equal mail that was collected within a window is told of by one message at its end.
//!
//! The store collects: the first mail of a window goes, the others are held there, accepted and visible. Here their digest is
//! made. It is accepted in one transaction with the note that it was sent, and refused if more mail came meanwhile; what it
//! tells of is ended afterwards, in steps that a next run finishes. So a crash loses none and tells of none twice.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::message::{self, encode_unstructured, iso_date, rfc5322_date};
use proto::report::text_of_mail;
use proto::{Address, MailParameters, RcptParameters, Recipient};
use store::{Digest, DigestEnd, DigestId, Message, MessageDetails, MessageView, NewMessage, StoreError};

use crate::admission::Admission;
use crate::domain::seal;
use crate::refusal::{Refusal, RefusalKind};
use crate::shared::Shared;

/// How often it is looked at what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Digests made in one round.
const AT_ONCE: u32 = 20;
/// Mails that a digest lists, besides the latest.
const LISTED: u32 = 50;
/// Mails ended in one transaction.
const ENDED_AT_ONCE: u32 = 200;
/// Characters of the latest mail's text that are shown.
const SHOWN: usize = 4_000;
/// Octets of a line of base64 (RFC 2045 §6.8), before encoding.
const LINE: usize = 57;

/// Why a digest did not come about.
enum Trouble {
    /// Later, perhaps.
    Later(String),
    /// The store is closed.
    Closed,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Closed) { Self::Closed } else { Self::Later(error.to_string()) }
    }
}

/// Makes digests until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    while shared.until_lead().await && !shared.is_stopping() {
        match round(&shared).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(Trouble::Closed) => return,
            Err(Trouble::Later(error)) => tracing::warn!(%error, "digests wait"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.digest_wake.notified() => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Makes what is due; true if there may be more at once.
async fn round(shared: &Arc<Shared>) -> Result<bool, Trouble> {
    let now_ms = shared.now_ms();
    if shared.store.next_digest_ms().await?.is_none_or(|at| at > now_ms) {
        return Ok(false);
    }
    let digests = shared.store.due_digests(now_ms, AT_ONCE, LISTED).await?;
    let full = digests.len() == AT_ONCE as usize;
    let mut trouble = None;
    for digest in digests {
        // One that cannot be made must not stop the others.
        let result = async {
            if digest.sent.is_none() && digest.held > 0 {
                send(shared, &digest).await?;
            }
            finish(shared, digest.id).await
        };
        match result.await {
            Err(Trouble::Closed) => return Err(Trouble::Closed),
            Err(later) => trouble = Some(later),
            Ok(()) => {}
        }
        if shared.is_stopping() {
            return Ok(false);
        }
    }
    trouble.map_or(Ok(full), Err)
}

/// Ends what a digest tells of.
async fn finish(shared: &Shared, digest: DigestId) -> Result<(), Trouble> {
    let mut left = u64::MAX;
    while !shared.is_stopping() {
        let now = shared.store.finish_digest(digest, ENDED_AT_ONCE, shared.now_ms()).await?;
        if now == 0 || now >= left {
            break;
        }
        left = now;
    }
    Ok(())
}

/// A mail that was collected.
struct Item {
    at_ms: i64,
    subject: String,
}

async fn send(shared: &Arc<Shared>, digest: &Digest) -> Result<(), Trouble> {
    let mut items = Vec::new();
    let mut latest = None;
    for id in &digest.items {
        let view = shared.store.message(id.message, 1_000).await?;
        let subject = view.message.details.subject.clone().unwrap_or_default();
        items.push(Item { at_ms: view.message.accepted_ms, subject });
        latest = Some((view, id.n));
    }
    let Some((latest, n)) = latest else { return Ok(()) };
    let Some(to) = latest.recipients.iter().find(|recipient| recipient.id.n == n) else { return Ok(()) };
    let (address, parameters) = (to.address.clone(), to.parameters.clone());
    let content = match shared.store.content(latest.message.id).await {
        Ok(content) => content,
        Err(StoreError::NotFound | StoreError::Damaged(_)) => bytes::Bytes::new(),
        Err(error) => return Err(error.into()),
    };
    let now_ms = shared.now_ms();
    let id = shared.store.next_id(now_ms);
    let directory = shared.directory();
    let record = directory.stream_record(&latest.message.stream);
    let message_id = format!("<{id}@{}>", shared.config.hostname);
    let from = from_of(&content, &latest.message);
    let link = record.unsubscribe.then(|| shared.links.fields(&latest.message.stream, &address)).flatten();
    let words = Words { digest, items: &items, latest: &latest, text: &text_of_mail(&content) };
    let subject = words.subject();
    let octets = compose(
        &Head { from: &from, to: &address, subject: &subject, message_id: &message_id },
        link,
        &words.body(),
        now_ms,
    );
    let eight_bit = !octets.is_ascii();
    let sealed = seal(&shared.sealer, &directory, Some(from.as_bytes()), octets, eight_bit, now_ms).await;
    let (octets, eight_bit) = sealed.map_err(|refusal| Trouble::Later(refusal.reply.to_string()))?;
    let seconds = record.deadline_s.unwrap_or(shared.config.expiry_s).min(shared.config.expiry_s);
    let about = &latest.message;
    let message = Arc::new(Message {
        id,
        accepted_ms: now_ms,
        sender: about.sender.clone(),
        stream: about.stream.clone(),
        priority: about.priority,
        reverse_path: about.reverse_path.clone(),
        parameters: MailParameters {
            smtputf8: about.parameters.smtputf8 || address.needs_smtputf8(),
            ..MailParameters::default()
        },
        size: u32::try_from(octets.len()).unwrap_or(u32::MAX),
        eight_bit,
        not_before_ms: None,
        expires_ms: now_ms.saturating_add(i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)),
        details: Arc::new(MessageDetails {
            subject: Some(subject),
            from: about.details.from.clone(),
            message_id: Some(message_id),
            origin: about.details.origin.clone(),
            tags: about.details.tags.clone(),
            metadata: about.details.metadata.clone(),
            test: about.details.test,
            deadline: record.deadline_s.is_some(),
            ..MessageDetails::default()
        }),
    });
    let recipient =
        Recipient { address, parameters: RcptParameters { notify: parameters.notify, orcpt: parameters.orcpt } };
    let to = vec![recipient];
    let stopped = crate::suppress::stopped(shared, &to, &message.stream).await?;
    let plan = Admission::plan(shared, &directory, &message, &octets, to, stopped);
    let (recipients, admission) = plan.map_err(later)?;
    let ends = Some(DigestEnd { digest: digest.id, folded: digest.folded });
    let new = NewMessage { ends, ..NewMessage::plain(message, octets, recipients, shared.run) };
    match admission.commit(new).await {
        // It has more mail by now: the next round makes it anew.
        Err(Refusal { kind: RefusalKind::Invalid { .. }, .. }) => Err(Trouble::Later("more mail came in".into())),
        result => result.map(drop).map_err(later),
    }
}

fn later(refusal: Refusal) -> Trouble {
    Trouble::Later(refusal.reply.to_string())
}

/// The latest mail's From field as it stands, or what is known of it.
fn from_of(content: &[u8], about: &Message) -> String {
    let scan = message::scan(content).ok();
    let value =
        scan.as_ref().and_then(|scan| scan.from(content)).map(|value| String::from_utf8_lossy(value).trim().to_owned());
    value.or_else(|| about.reverse_path.0.as_ref().map(|address| format!("<{address}>"))).unwrap_or_default()
}

/// What the digest says.
struct Words<'a> {
    digest: &'a Digest,
    items: &'a [Item],
    latest: &'a MessageView,
    text: &'a str,
}

impl Words<'_> {
    fn subject(&self) -> String {
        let subject = self.latest.message.details.subject.as_deref().unwrap_or("(no subject)");
        format!("[{} more] {subject}", self.digest.held)
    }

    fn body(&self) -> String {
        let at = |ms: i64| iso_date(ms.div_euclid(1_000));
        let (first, last) = (self.items.first(), self.items.last());
        let (from, to) = (first.map_or(0, |item| item.at_ms), last.map_or(0, |item| item.at_ms));
        let mut text = String::new();
        let _ = match self.digest.held {
            1 => write!(text, "One more mail like one you have got came in at {}.", at(from)),
            held => {
                write!(text, "{held} more mails like one you have got came in between {} and {}.", at(from), at(to))
            }
        };
        text.push_str(" This message tells of them; they are not sent one by one.\n\n");
        let hidden = self.digest.held.saturating_sub(self.items.len() as u64);
        for (n, item) in self.items.iter().enumerate() {
            if hidden > 0 && n + 1 == self.items.len() {
                let _ = writeln!(text, "  ... and {hidden} more ...");
            }
            let _ = writeln!(text, "  {}  {}", at(item.at_ms), item.subject);
        }
        if !self.text.trim().is_empty() {
            text.push_str("\nThe latest one says:\n\n");
            text.extend(self.text.trim_end().chars().take(SHOWN));
            text.push('\n');
        }
        text
    }
}

/// The fields that differ.
struct Head<'a> {
    from: &'a str,
    to: &'a Address,
    subject: &'a str,
    message_id: &'a str,
}

/// The message as it is stored and sent.
fn compose(head: &Head<'_>, link: Option<String>, body: &str, now_ms: i64) -> Vec<u8> {
    let mut out = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = write!(out, "{name}: {value}\r\n");
    };
    field("From", head.from);
    field("To", &format!("<{}>", head.to));
    field("Subject", &encode_unstructured(head.subject, "Subject: ".len()));
    field("Date", &rfc5322_date(now_ms));
    field("Message-ID", head.message_id);
    field("Auto-Submitted", "auto-generated");
    field("MIME-Version", "1.0");
    field("Content-Type", "text/plain; charset=utf-8");
    let plain = body.is_ascii() && body.lines().all(|line| line.len() <= 900);
    field("Content-Transfer-Encoding", if plain { "7bit" } else { "base64" });
    out.push_str(link.as_deref().unwrap_or(""));
    out.push_str("\r\n");
    if plain {
        let printable = |c: char| c == '\t' || !c.is_control();
        for line in body.lines() {
            out.extend(line.chars().filter(|c| printable(*c)));
            out.push_str("\r\n");
        }
    } else {
        for line in body.replace('\n', "\r\n").as_bytes().chunks(LINE) {
            out.push_str(&STANDARD.encode(line));
            out.push_str("\r\n");
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_a_message_whose_text_comes_back() {
        let to = Address::parse("ann@example.net").unwrap();
        let head = Head { from: "Ops <ops@example.com>", to: &to, subject: "[3 more] Düsk full", message_id: "<1@x>" };
        for body in ["plain\nlines\n", "Umläute\nund mehr\n"] {
            let octets = compose(&head, Some("List-Unsubscribe: <https://x/u/t>\r\n".into()), body, 0);
            let scan = message::scan(&octets).unwrap();
            assert_eq!(message::decode_header_value(scan.subject(&octets).unwrap()), "[3 more] Düsk full");
            assert!(scan.get(&octets, "List-Unsubscribe").is_some() && scan.has_date && scan.has_message_id);
            assert_eq!(text_of_mail(&octets).trim(), body.trim());
            assert!(octets.is_ascii());
        }
    }
}
