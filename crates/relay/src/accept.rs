//! The one door in: a submission is checked, completed, routed and made durable before anyone hears 250 or 202.
//!
//! Outline: sender's rights → header → completion → seal (after this the octets never change) → lanes → room in memory →
//! one store transaction → schedule. What found no room in memory waits in the store.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use proto::message::{self, Completion, HeaderScan, Protocol, ReceivedFacts};
use proto::{Address, Envelope, MailParameters, Recipient};
use store::{Accepted, Committed, Idempotency, Message, MessageDetails, MessageId, NewMessage, Origin};

use crate::admission::{Admission, Noted};
use crate::batch::BatchPart;
use crate::directory::Directory;
use crate::domain::seal;
use crate::incident::intake::Slip;
use crate::incident::signins::SignInBy;
use crate::refusal::{Refusal, RefusalKind};
use crate::sender::Sender;
use crate::shared::Shared;
use crate::stream::{StreamRecord, intake};
use crate::suppress;

/// Stream of messages that name none.
pub const DEFAULT_STREAM: &str = "default";
/// Priority of streams that are not configured.
pub const DEFAULT_PRIORITY: u8 = 2;
/// Header that names the stream of a message submitted by SMTP; removed on the way in.
pub const STREAM_HEADER: &str = "X-Pillarbox-Stream";
/// Header that says what a message is about, for streams that fold equal mail; removed on the way in.
pub const DIGEST_HEADER: &str = "X-Pillarbox-Digest-Key";
/// Header that says which trace of the client a message belongs to (W3C Trace Context, `traceparent`); removed on the way in.
pub const TRACE_HEADER: &str = "X-Pillarbox-Trace";
/// Longest value of it that is kept.
const MOST_TRACE: usize = 128;
/// Headers for us alone, removed on the way in.
const PRIVATE_HEADERS: [&str; 1] = ["X-Pillarbox-*"];
/// Longest stream name.
const MAX_STREAM: usize = 64;
/// Longest line that may leave, without CRLF (RFC 5321 §4.5.3.1.6).
pub(crate) const MAX_LINE: usize = 998;

/// The one way in, for SMTP, HTTP and the command line alike.
#[derive(Debug, Clone)]
pub struct Door {
    pub(crate) shared: Arc<Shared>,
}

/// A message on its way in.
#[derive(Debug)]
pub struct Submission {
    /// Who submits, authenticated.
    pub sender: Arc<Sender>,
    /// MAIL and RCPT.
    pub envelope: Envelope,
    /// The message, CRLF lines.
    pub content: Vec<u8>,
    /// It has octets over 127.
    pub eight_bit: bool,
    /// Octets of its longest line, without CRLF.
    pub longest_line: usize,
    /// Where it came from.
    pub origin: Origin,
    /// For `Received`.
    pub protocol: Protocol,
    /// Stream, unless the header or the sender's default decides.
    pub stream: Option<String>,
    /// From the API.
    pub tags: Vec<String>,
    /// From the API.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Not before, Unix milliseconds.
    pub send_at_ms: Option<i64>,
    /// Not after, Unix milliseconds.
    pub deliver_by_ms: Option<i64>,
    /// `Idempotency-Key` and the BLAKE3 hash of the request.
    pub idempotency: Option<(String, [u8; 32])>,
    /// The row of a batch it is made from.
    pub batch: Option<BatchPart>,
    /// What it is about, for streams that fold equal mail; without it the header's, else subject and text decide.
    pub digest_key: Option<String>,
}

/// What a submitter gets back.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The message; recipients are `id.0`, `id.1`, … in the order of the envelope.
    pub id: MessageId,
    /// How many recipients it has.
    pub recipients: usize,
    /// Recipients that did not simply wait for their delivery when the message was accepted.
    pub noted: Vec<Noted>,
    /// Proof of durability. None: this is the answer to an earlier request with the same key.
    pub committed: Option<Committed>,
}

/// What clients of a node that is drained are told.
pub(crate) const DRAINING: &str = "4.3.2 This node is drained and takes no mail, use another or try again later";

impl Door {
    /// Whether a message would be taken now.
    pub fn ready(&self) -> Result<(), Refusal> {
        if self.shared.is_stopping() {
            return Err(Refusal::new(RefusalKind::Unhealthy, 421, "4.3.2 Shutting down, try again later"));
        }
        if self.shared.node.is_draining() {
            return Err(Refusal::new(RefusalKind::Unhealthy, 421, DRAINING));
        }
        self.shared.store.ready().map_err(Refusal::from)
    }

    /// The sender an API key belongs to. Wrong guesses cost time.
    pub async fn authenticate_key(&self, key: &str, peer: IpAddr) -> Result<Arc<Sender>, Refusal> {
        let shared = &self.shared;
        let delay = shared.gate.delay(peer, "", shared.now_ms());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let found = shared.directory().sender_by_key(&crate::credential::key_hash(key)).cloned();
        match found.filter(|sender| !sender.record.disabled && sender.may_connect_from(peer)) {
            Some(sender) => {
                shared.gate.right(peer, "");
                shared.sign_ins.right(peer, "", shared.now_ms());
                shared.metrics.authenticated("http", true);
                Ok(sender)
            }
            None => {
                shared.gate.wrong(peer, "", shared.now_ms());
                shared.sign_ins.wrong(peer, "", SignInBy::ApiKey, false, shared.now_ms());
                shared.metrics.authenticated("http", false);
                Err(Refusal::new(RefusalKind::Unauthorized, 535, "5.7.8 API key is not valid"))
            }
        }
    }

    /// A sender by name, for callers that are trusted otherwise (the control socket).
    pub fn sender(&self, name: &str) -> Option<Arc<Sender>> {
        self.shared.directory().sender(name).cloned()
    }

    /// Takes a message: durable when this returns `Ok`.
    pub async fn submit(&self, submission: Submission) -> Result<Receipt, Refusal> {
        let began_us = self.shared.net.clock.mono_us();
        let result = self.take(submission, began_us).await;
        if let Err(refusal) = &result {
            self.shared.metrics.refused(&refusal.kind);
        }
        result
    }

    async fn take(&self, submission: Submission, began_us: u64) -> Result<Receipt, Refusal> {
        self.ready()?;
        let shared = &self.shared;
        let now_ms = shared.now_ms();
        let scan = check_content(shared, &submission)?;
        check_from(&submission, &scan)?;
        check_recipients(shared, &submission.envelope.recipients)?;
        let stream = stream_of(&submission, &scan)?;
        let directory = shared.directory();
        let record = directory.stream_record(&stream);
        let link = intake::link(shared, record, &stream, &scan, &submission)?;
        refuse_paused(&directory, &submission.sender)?;
        submission.sender.take_from_rate(now_ms).map_err(too_fast)?;
        let stopped = suppress::stopped(shared, &submission.envelope.recipients, &stream).await?;
        let id = shared.store.next_id(now_ms);
        let content = complete(shared, &submission, &scan, link.as_deref().unwrap_or(""), id, now_ms);
        // A long line needs the same treatment as 8-bit octets: encoding, unless the next hop takes it as it is.
        let eight_bit = submission.eight_bit || submission.longest_line > MAX_LINE;
        let from = scan.from(&submission.content);
        let (content, eight_bit) = seal(&shared.sealer, &directory, from, content, eight_bit, now_ms).await?;
        let message = describe(shared, record, &submission, &scan, &content, Stamp { id, now_ms, stream, eight_bit });
        let about = record.digest_s.map(|window_s| intake::about(&message, window_s, &scan, &submission));
        let recipients = submission.envelope.recipients.len();
        let idempotency = submission.idempotency.map(|(key, fingerprint)| Idempotency {
            sender: submission.sender.name.clone(),
            key,
            fingerprint,
            answer: id.to_string(),
        });
        let slip = Slip::of(&submission.envelope.recipients);
        let (new_recipients, admission) =
            Admission::plan(shared, &directory, &message, &content, submission.envelope.recipients, stopped)?;
        let writer = crate::pairs::writer(scan.from(&submission.content), &message.reverse_path);
        admission.routes().for_each(|route| shared.pairs.meet(&writer, route));
        let mut noted = Noted::of(&new_recipients);
        let folds = about.map_or_else(Vec::new, |about| about.folds(&new_recipients));
        let new = NewMessage { idempotency, folds, ..NewMessage::plain(message, content, new_recipients, shared.run) };
        let (stream, octets) = (new.message.stream.clone(), new.content.len());
        let (sender, from) = (&submission.sender.name, submission.origin.address);
        match admission.commit(new).await? {
            Accepted::Committed(committed) => {
                shared.metrics.accepted(&stream, octets, shared.net.clock.mono_us().saturating_sub(began_us));
                shared.intake.note(sender, &stream, from, &slip, now_ms);
                noted.extend(intake::folded(&committed));
                Ok(Receipt { id: committed.id(), recipients, noted, committed: Some(committed) })
            }
            Accepted::Replayed(answer) => match answer.parse() {
                Ok(id) => {
                    let noted = intake::noted_before(shared, id).await?;
                    Ok(Receipt { id, recipients, noted, committed: None })
                }
                Err(_) => Err(Refusal::new(RefusalKind::Unhealthy, 451, "4.3.0 Stored answer is not readable")),
            },
            Accepted::NotWanted => Err(Refusal::new(RefusalKind::NotWanted, 451, "4.3.0 Its batch is not running")),
            Accepted::KeyConflict => {
                Err(Refusal::new(RefusalKind::KeyConflict, 554, "5.6.0 Idempotency-Key was used for another request"))
            }
        }
    }
}

/// Seconds after which mail of a paused sender may be offered again.
const PAUSED_S: u32 = 300;

/// The refusal of new mail of a sender that is paused so, by what is known of it now.
pub(crate) fn refuse_paused(directory: &Directory, sender: &Sender) -> Result<(), Refusal> {
    if !directory.sender(&sender.name).is_some_and(|now| now.is_refusing()) {
        return Ok(());
    }
    let text = format!("4.7.1 Sending of {} is paused, its administrator knows why; keep the mail", sender.name);
    Err(Refusal::new(RefusalKind::RateLimited { retry_after_s: PAUSED_S }, 450, text))
}

fn too_fast(seconds: u32) -> Refusal {
    Refusal::new(
        RefusalKind::RateLimited { retry_after_s: seconds },
        450,
        format!("4.7.0 Sending rate exceeded, try again in {seconds} s"),
    )
}

fn check_content(shared: &Shared, submission: &Submission) -> Result<HeaderScan, Refusal> {
    let limit = submission.sender.record.max_size.unwrap_or(u64::MAX).min(shared.config.max_message_size);
    if submission.content.len() as u64 > limit {
        let text = format!("5.3.4 Message is larger than {limit} octets");
        return Err(Refusal::new(RefusalKind::TooLarge, 552, text));
    }
    let scan =
        message::scan(&submission.content).map_err(|error| Refusal::invalid(None, 554, format!("5.6.0 {error}")))?;
    if scan.received_count >= shared.config.max_hops {
        return Err(Refusal::new(RefusalKind::Loop, 554, "5.4.6 Too many hops: the message is going in circles"));
    }
    if scan.from_count > 1 {
        return Err(Refusal::invalid(Some("/from"), 554, "5.6.0 More than one From field (RFC 5322 §3.6)"));
    }
    Ok(scan)
}

/// Both the envelope's and the header's sender must be the submitter's to use.
fn check_from(submission: &Submission, scan: &HeaderScan) -> Result<(), Refusal> {
    let sender = &submission.sender;
    if sender.any_from {
        return Ok(());
    }
    if let Some(address) = &submission.envelope.reverse_path.0
        && !sender.may_use(address)
    {
        return Err(may_not_use(sender, address, ""));
    }
    let Some(value) = scan.from(&submission.content) else { return Ok(()) };
    for address in message::mailboxes_of(value) {
        match address {
            Some(address) if sender.may_use(&address) => {}
            Some(address) => return Err(may_not_use(sender, &address, " (From field)")),
            None => {
                let text = "5.7.1 From field cannot be read, so it cannot be allowed";
                return Err(Refusal::new(RefusalKind::Forbidden, 550, text));
            }
        }
    }
    Ok(())
}

/// The refusal of an address that is not the sender's to use; `place` says where it stood.
pub(crate) fn may_not_use(sender: &Sender, address: &Address, place: &str) -> Refusal {
    let text = format!("5.7.1 Sender {} may not send as <{address}>{place}", sender.name);
    Refusal::new(RefusalKind::Forbidden, 550, text)
}

fn check_recipients(shared: &Shared, recipients: &[Recipient]) -> Result<(), Refusal> {
    if recipients.is_empty() {
        return Err(Refusal::invalid(Some("/to"), 554, "5.5.1 No recipients"));
    }
    if recipients.len() > shared.config.max_recipients {
        let text = format!("4.5.3 At most {} recipients a message", shared.config.max_recipients);
        return Err(Refusal::new(RefusalKind::TooManyRecipients, 452, text));
    }
    Ok(())
}

/// The request's stream, else the header's, else the sender's own, else `default`.
fn stream_of(submission: &Submission, scan: &HeaderScan) -> Result<Arc<str>, Refusal> {
    let header = || {
        let value = scan.get(&submission.content, STREAM_HEADER)?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let asked = submission.stream.clone().or_else(header);
    stream_named(asked.as_deref().or(submission.sender.record.stream.as_deref()))
}

/// A stream by the name that was given, if one was.
pub(crate) fn stream_named(name: Option<&str>) -> Result<Arc<str>, Refusal> {
    let name = match name {
        None | Some(DEFAULT_STREAM) => return Ok(crate::shared::default_stream()),
        Some(name) => name,
    };
    let valid = (1..=MAX_STREAM).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
    if valid {
        Ok(name.into())
    } else {
        Err(Refusal::invalid(
            Some("/stream"),
            554,
            "5.6.0 A stream's name has 1 to 64 of a-z, 0-9, dot, dash, underscore",
        ))
    }
}

/// The message as it is stored and sent: trace and required fields added, private ones removed.
fn complete(
    shared: &Shared,
    submission: &Submission,
    scan: &HeaderScan,
    more: &str,
    id: MessageId,
    now_ms: i64,
) -> Vec<u8> {
    let id = id.to_string();
    let date = message::rfc5322_date(now_ms);
    let host = &shared.config.hostname;
    let recipient = match submission.envelope.recipients.as_slice() {
        [only] => Some(&only.address),
        _ => None,
    };
    let received = message::received_value(&ReceivedFacts {
        helo: submission.origin.helo.as_deref().unwrap_or(&submission.sender.name),
        peer: submission.origin.address,
        host,
        protocol: submission.protocol,
        id: &id,
        recipient,
        date: &date,
    });
    let message_id = if scan.has_message_id { String::new() } else { made_message_id(&id, host) };
    let strip = &PRIVATE_HEADERS;
    let completion = Completion { received: &received, date_rfc5322: &date, message_id: &message_id, strip, more };
    message::complete(&submission.content, scan, &completion)
}

/// The Message-ID of a message that came without one.
fn made_message_id(id: &str, host: &str) -> String {
    format!("<{id}@{host}>")
}

/// A trace as it may be kept: digits and dashes, nothing else.
fn trace(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let fit = text.len() <= MOST_TRACE && !text.is_empty();
    let fit = fit && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    fit.then(|| text.into())
}

/// What identifies an accepted message.
struct Stamp {
    id: MessageId,
    now_ms: i64,
    stream: Arc<str>,
    eight_bit: bool,
}

fn describe(
    shared: &Shared,
    record: &StreamRecord,
    submission: &Submission,
    scan: &HeaderScan,
    content: &Bytes,
    Stamp { id, now_ms, stream, eight_bit }: Stamp,
) -> Arc<Message> {
    let octets = &submission.content;
    let (priority, deadline_s) = (record.priority.min(3), record.deadline_s);
    let priority = submission.batch.map_or(priority, |part| part.priority.clamp(priority, 3));
    let start_ms = submission.send_at_ms.unwrap_or(now_ms).max(now_ms);
    let latest_ms = start_ms.saturating_add(shared.config.expiry_s.saturating_mul(1_000) as i64);
    let deadline_ms = deadline_s.map(|seconds| start_ms.saturating_add(seconds.saturating_mul(1_000) as i64));
    let wished_ms = submission.deliver_by_ms.or(deadline_ms).unwrap_or(latest_ms);
    let details = MessageDetails {
        subject: scan.subject(octets).map(message::decode_header_value),
        from: scan.from(octets).map(message::decode_header_value),
        message_id: Some(match scan.message_id(octets) {
            Some(value) => String::from_utf8_lossy(value).chars().take(message::MAX_DISPLAY_CHARS).collect(),
            None => made_message_id(&id.to_string(), &shared.config.hostname),
        }),
        origin: Some(submission.origin.clone()),
        tags: submission.tags.clone(),
        metadata: submission.metadata.clone(),
        trace: scan.get(octets, TRACE_HEADER).and_then(trace),
        row: submission.batch.map(|part| part.row),
        test: record.test_mode || submission.batch.is_some_and(|part| part.test),
        deadline: submission.deliver_by_ms.is_some() || deadline_s.is_some(),
    };
    Arc::new(Message {
        id,
        accepted_ms: now_ms,
        sender: submission.sender.name.clone(),
        stream,
        priority,
        reverse_path: submission.envelope.reverse_path.clone(),
        parameters: MailParameters {
            // RFC 8689 §4.1: beside REQUIRETLS the field means nothing.
            tls_optional: !submission.envelope.parameters.require_tls && scan.is_tls_optional(octets),
            ..submission.envelope.parameters.clone()
        },
        size: u32::try_from(content.len()).unwrap_or(u32::MAX),
        eight_bit,
        not_before_ms: submission.send_at_ms.filter(|at| *at > now_ms),
        expires_ms: wished_ms.min(latest_ms),
        details: Arc::new(details),
    })
}

/// The route of a recipient, or why there is none.
pub(crate) fn no_route(directory: &Directory, address: &Address) -> Refusal {
    let (_, routes) = directory.counts();
    let advice = if routes == 0 { "no route is set up" } else { "no routing rule matches" };
    Refusal::invalid(Some("/to"), 451, format!("4.3.5 No route for <{address}>: {advice}"))
}
