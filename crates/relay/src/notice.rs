//! Delivery status notifications: what senders by SMTP are told when mail failed, is late, or left for a host that tells nothing.
//!
//! Follows the store's events behind a cursor. A notice is accepted under a key made from its first event, so a crash
//! anywhere gives it once; what the store cannot take now is offered again. None answers a null reverse-path (RFC 5321
//! §6.1), and none goes to clients of the HTTP API unless they ask: they have events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use explain::{Explanation, Query};
use proto::message::notice::{Action, Notice, Original, Reported, compose};
use proto::message::{self, rfc5322_date};
use proto::smtp::reply::{EnhancedCode, escape};
use proto::transcript::{Failure, TransportPolicy};
use proto::{Address, DeliveryNotify, MailParameters, RcptParameters, Recipient, ReturnContent, ReversePath};
use store::{Cause, Event, EventKind, Idempotency, Message, MessageDetails, MessageView, NewMessage, Origin};
use store::{RecipientView, Severity, StoreError};

use crate::admission::Admission;
use crate::domain::seal;
use crate::own_mail::TESTER;
use crate::refusal::RefusalKind;
use crate::shared::{Shared, default_stream};
use crate::verp;

/// Name of the cursor, and of the keys' owner: no sender can be called so.
const NAME: &str = "~notices";
/// Sender of notices, in lists.
const SENDER: &str = "pillarbox";
/// How often new events are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Events read at once.
const PAGE: u32 = 500;
/// The cursor is written at the latest after so many events, though there was nothing to tell.
const STRIDE: i64 = 50_000;
/// Largest message that goes back whole where RET=FULL asks for it, octets.
const MOST_RETURNED: usize = 100 * 1024;

/// Why a notice did not come about.
enum Trouble {
    /// Later, perhaps.
    Store(StoreError),
    /// Never.
    Nowhere(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound | StoreError::Invalid(_) | StoreError::Damaged(_) => Self::Nowhere(error.to_string()),
            error => Self::Store(error),
        }
    }
}

/// Tells senders until the relay stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut cursor = None;
    let mut saved = 0;
    let mut term = None;
    while shared.until_lead().await && !shared.is_stopping() {
        if term != shared.term() {
            (term, cursor) = (shared.term(), None);
        }
        match round(&shared, &mut cursor, &mut saved).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(StoreError::Closed) => return,
            Err(error) => tracing::warn!(%error, "notices to senders wait"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Reads a page of events and tells of them. True: there may be more at once.
async fn round(shared: &Arc<Shared>, cursor: &mut Option<i64>, saved: &mut i64) -> Result<bool, StoreError> {
    let at = match *cursor {
        Some(at) => at,
        None => {
            *saved = shared.store.cursor(NAME).await?;
            *cursor.insert(*saved)
        }
    };
    let found = shared.store.notable_after(at, PAGE).await?;
    let full = found.events.len() == PAGE as usize;
    let mut groups: Vec<&[Event]> = found.events.chunk_by(same_end).collect();
    // The last group may go on behind the page.
    let mut upto = found.upto;
    if full && groups.len() > 1 {
        groups.pop();
        upto = groups.last().and_then(|group| group.last()).map_or(upto, |event| event.seq);
    }
    let told = !groups.is_empty();
    for group in groups {
        match tell(shared, group).await {
            Ok(()) => {}
            Err(Trouble::Nowhere(why)) => {
                tracing::warn!(message_id = %group[0].message, %why, "sender cannot be told what became of a message");
            }
            Err(Trouble::Store(error)) => return Err(error),
        }
        *cursor = group.last().map(|event| event.seq);
    }
    *cursor = Some(upto);
    if told || upto - *saved >= STRIDE {
        shared.store.move_cursor(NAME, upto).await?;
        *saved = upto;
    }
    Ok(full || upto > at && found.events.is_empty() && upto - at >= STRIDE)
}

/// Whether two events are of one settlement and of a kind.
fn same_end(a: &Event, b: &Event) -> bool {
    (a.message, a.at_ms, a.kind) == (b.message, b.at_ms, b.kind)
}

async fn tell(shared: &Arc<Shared>, group: &[Event]) -> Result<(), Trouble> {
    let kind = group[0].kind;
    if kind == EventKind::Deferred && group[0].at_ms - group[0].message.created_ms() < delay_ms(shared) {
        return Ok(());
    }
    if kind == EventKind::Bounced && !group.iter().any(is_ours) {
        return Ok(());
    }
    let view = shared.store.message(group[0].message, 1_000).await?;
    if *view.message.sender == *TESTER {
        // Whoever sent it follows it.
        return Ok(());
    }
    let Some(to) = view.message.reverse_path.0.clone() else {
        if *view.message.sender == *SENDER && matches!(kind, EventKind::Failed | EventKind::Expired) {
            tracing::warn!(message_id = %view.message.id, "a notice could not be delivered either");
        }
        return Ok(());
    };
    let mut ends = Vec::new();
    for event in group.iter().filter(|event| event.kind != EventKind::Bounced || is_ours(event)) {
        let Some(recipient) = view.recipients.iter().find(|recipient| Some(recipient.id.n) == event.n) else {
            continue;
        };
        if is_wanted(kind, &view.message, &recipient.parameters) {
            ends.push(End { event, recipient });
        }
    }
    if kind == EventKind::Deferred && !ends.is_empty() {
        leave_the_told(shared, &view.message, &mut ends).await?;
    }
    if ends.is_empty() { Ok(()) } else { send(shared, &view, to, &ends).await }
}

fn delay_ms(shared: &Shared) -> i64 {
    i64::try_from(shared.config.delay_notice_s.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// A bounce that came to a return path of ours: the sender, whose own return path nobody saw, has not heard of it.
fn is_ours(event: &Event) -> bool {
    let report = event.detail.report.as_ref();
    report.is_some_and(|report| report.source == verp::SOURCE && report.severity == Severity::Hard)
}

/// RFC 3461 §4.1; without NOTIFY failures are told, except to clients of the API.
fn is_wanted(kind: EventKind, message: &Message, parameters: &RcptParameters) -> bool {
    let by_api = message.details.origin.as_ref().is_some_and(|origin| origin.protocol.starts_with("HTTP"));
    match (parameters.notify, kind) {
        (None, EventKind::Failed | EventKind::Expired | EventKind::Bounced) => !by_api,
        (Some(DeliveryNotify::On { failure, .. }), EventKind::Failed | EventKind::Expired | EventKind::Bounced) => {
            failure
        }
        // Who sends to a list may have many on it: told only where that was asked for.
        (Some(DeliveryNotify::On { failure, .. }), EventKind::Suppressed) => failure,
        (Some(DeliveryNotify::On { success, .. }), EventKind::Delivered) => success,
        (Some(DeliveryNotify::On { delay, .. }), EventKind::Deferred) => delay,
        _ => false,
    }
}

/// A delay is told once: at the first deferral after the message became late.
async fn leave_the_told(shared: &Shared, message: &Message, ends: &mut Vec<End<'_>>) -> Result<(), StoreError> {
    let late_ms = message.accepted_ms.saturating_add(delay_ms(shared));
    let events = shared.store.events(message.id, 1_000).await?;
    ends.retain(|end| {
        let before = |event: &&Event| event.seq < end.event.seq && event.n == end.event.n && event.at_ms >= late_ms;
        !events.iter().any(|event| event.kind == EventKind::Deferred && before(&event))
    });
    Ok(())
}

/// One recipient to tell of.
struct End<'a> {
    event: &'a Event,
    recipient: &'a RecipientView,
}

impl End<'_> {
    fn cause(&self) -> Option<&Cause> {
        self.event.detail.cause.as_ref()
    }

    fn action(&self) -> Action {
        match (self.event.kind, self.event.detail.attempt.as_ref().and_then(|attempt| attempt.peer.as_ref())) {
            (EventKind::Deferred, _) => Action::Delayed,
            (EventKind::Delivered, Some(_)) => Action::Relayed,
            (EventKind::Delivered, None) => Action::Delivered,
            _ => Action::Failed,
        }
    }

    fn status(&self) -> EnhancedCode {
        let class = match self.action() {
            Action::Failed => 5,
            Action::Delayed => 4,
            Action::Delivered | Action::Relayed => return EnhancedCode(2, 0, 0),
        };
        if self.event.kind == EventKind::Expired {
            return EnhancedCode(5, 4, 7);
        }
        if self.event.kind == EventKind::Suppressed {
            return EnhancedCode(5, 7, 1);
        }
        match self.cause().map(|cause| &cause.failure) {
            Some(Failure::Refused(reply)) => match reply.enhanced() {
                Some(code) if code.0 == class => code,
                _ => EnhancedCode(class, 0, 0),
            },
            Some(Failure::NameNotFound { .. }) => EnhancedCode(class, 1, 2),
            Some(Failure::NullMx { .. }) => EnhancedCode(class, 1, 10),
            Some(Failure::NoAddress { .. }) => EnhancedCode(class, 4, 4),
            Some(Failure::MxLoop { .. }) => EnhancedCode(class, 4, 6),
            Some(Failure::TooLarge { .. }) => EnhancedCode(class, 3, 4),
            Some(Failure::MissingExtension { .. }) => EnhancedCode(class, 6, 3),
            Some(Failure::PrivateAddress { .. }) => EnhancedCode(class, 4, 6),
            Some(Failure::DnsUnavailable { .. }) => EnhancedCode(class, 4, 3),
            // RFC 8689 §5.
            Some(Failure::Policy { policy: TransportPolicy::RequireTls, .. }) => EnhancedCode(class, 7, 30),
            Some(Failure::Policy { .. }) => EnhancedCode(class, 7, 0),
            Some(_) => EnhancedCode(class, 4, 0),
            None => EnhancedCode(class, 0, 0),
        }
    }

    fn explanation(&self, shared: &Shared) -> Option<Explanation> {
        let cause = self.cause()?;
        let rules = shared.rules();
        let query = Query::failure(cause.stage, &cause.failure).at(cause.provider.as_deref());
        rules.explain(&rules.judge(&query)?)
    }

    fn reported<'a>(&'a self, expires: &str, why: Option<&Explanation>) -> Reported<'a> {
        let attempt = self.event.detail.attempt.as_ref();
        let peer = attempt.and_then(|attempt| attempt.peer.as_deref());
        let diagnostic = match self.cause().map(|cause| &cause.failure) {
            Some(Failure::Refused(reply)) => Some(format!("smtp; {reply}")),
            Some(_) => why.map(|why| format!("x-pillarbox; {}", why.title)),
            None if self.event.kind == EventKind::Suppressed => {
                self.event.detail.why.as_deref().map(|why| format!("x-pillarbox; {why}"))
            }
            None => attempt.and_then(|attempt| attempt.reply.as_ref()).map(|reply| format!("smtp; {reply}")),
        };
        Reported {
            address: &self.recipient.address,
            original: self.recipient.parameters.orcpt.as_deref(),
            action: self.action(),
            status: self.status(),
            remote_mta: peer.map(|peer| peer.split(' ').next().unwrap_or(peer).to_owned()),
            diagnostic,
            last_attempt: attempt.map(|attempt| rfc5322_date(attempt.started_ms)),
            will_retry_until: (self.action() == Action::Delayed).then(|| expires.to_owned()),
        }
    }
}

/// Composes the notice and puts it through the same door as all mail.
async fn send(shared: &Arc<Shared>, view: &MessageView, to: Address, ends: &[End<'_>]) -> Result<(), Trouble> {
    let now_ms = shared.now_ms();
    let id = shared.store.next_id(now_ms);
    let about = &view.message;
    let action = ends[0].action();
    let expires = rfc5322_date(about.expires_ms);
    let reasons: Vec<Option<Explanation>> = ends.iter().map(|end| end.explanation(shared)).collect();
    let recipients: Vec<Reported<'_>> =
        ends.iter().zip(&reasons).map(|(end, why)| end.reported(&expires, why.as_ref())).collect();
    let content = original(shared, about).await?;
    let host = &shared.config.hostname;
    let (from, message_id, subject) = (format!("mailer-daemon@{host}"), format!("<{id}@{host}>"), subject(action));
    let notice = Notice {
        reporting_mta: host,
        from: &from,
        to: &to,
        subject,
        date: &rfc5322_date(now_ms),
        message_id: &message_id,
        in_reply_to: about.details.message_id.as_deref(),
        text: &words(shared, about, action, &expires, &recipients, &reasons),
        envelope_id: about.parameters.envid.as_deref(),
        arrival: Some(&rfc5322_date(about.accepted_ms)),
        recipients: &recipients,
        original: cut(&content, about, action),
    };
    let content = compose(&notice);
    let eight_bit = !content.is_ascii();
    let directory = shared.directory();
    let sealed = seal(&shared.sealer, &directory, Some(from.as_bytes()), content, eight_bit, now_ms).await;
    let (content, eight_bit) =
        sealed.map_err(|refusal| Trouble::Store(StoreError::Unhealthy(refusal.reply.to_string())))?;
    let new = Arc::new(Message {
        id,
        accepted_ms: now_ms,
        sender: SENDER.into(),
        stream: default_stream(),
        priority: about.priority,
        reverse_path: ReversePath(None),
        parameters: MailParameters {
            smtputf8: to.needs_smtputf8() || recipients.iter().any(|one| one.address.needs_smtputf8()),
            ..MailParameters::default()
        },
        size: u32::try_from(content.len()).unwrap_or(u32::MAX),
        eight_bit,
        not_before_ms: None,
        expires_ms: now_ms.saturating_add(i64::try_from(shared.config.expiry_s).unwrap_or(0).saturating_mul(1_000)),
        details: Arc::new(MessageDetails {
            subject: Some(subject.to_owned()),
            from: Some(from.clone()),
            message_id: Some(message_id.clone()),
            origin: Some(Origin { protocol: "LOCAL".into(), address: None, helo: None }),
            ..MessageDetails::default()
        }),
    });
    let idempotency = Idempotency {
        sender: NAME.into(),
        key: ends[0].event.seq.to_string(),
        fingerprint: [0; 32],
        answer: id.to_string(),
    };
    let recipient = Recipient { address: to, parameters: RcptParameters::default() };
    let plan = Admission::plan(shared, &directory, &new, &content, vec![recipient], Vec::new());
    let (recipients, admission) = plan.map_err(|refusal| Trouble::Nowhere(refusal.reply.to_string()))?;
    let new = NewMessage { idempotency: Some(idempotency), ..NewMessage::plain(new, content, recipients, shared.run) };
    admission.commit(new).await.map(|_| ()).map_err(|refusal| match refusal.kind {
        RefusalKind::Invalid { .. } => Trouble::Nowhere(refusal.reply.to_string()),
        _ => Trouble::Store(StoreError::Unhealthy(refusal.reply.to_string())),
    })
}

/// The message's octets, or what is known of its header if they are gone.
async fn original(shared: &Shared, about: &Message) -> Result<Bytes, Trouble> {
    match shared.store.content(about.id).await {
        Ok(content) => Ok(content),
        Err(StoreError::NotFound | StoreError::Damaged(_)) => {
            let mut header = String::new();
            for (name, value) in [
                ("From", &about.details.from),
                ("Subject", &about.details.subject),
                ("Message-ID", &about.details.message_id),
            ] {
                if let Some(value) = value {
                    header.push_str(&format!("{name}: {}\r\n", escape(value.as_bytes(), 400)));
                }
            }
            Ok(header.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// RFC 3461 §4.3: the whole message only where that was asked for, and never with good news.
fn cut<'a>(content: &'a Bytes, about: &Message, action: Action) -> Original<'a> {
    // What had to stay under TLS is not sent back without that promise (RFC 8689 §5).
    let whole =
        about.parameters.ret == Some(ReturnContent::Full) && action == Action::Failed && !about.parameters.require_tls;
    if whole && content.len() <= MOST_RETURNED && content.len() as u64 == u64::from(about.size) {
        return Original::Whole(content);
    }
    let end = message::scan(content).map_or(content.len().min(MOST_RETURNED), |scan| scan.end);
    Original::Header(&content[..end.min(content.len())])
}

const fn subject(action: Action) -> &'static str {
    match action {
        Action::Failed => "Your message could not be delivered",
        Action::Delayed => "Your message is late",
        Action::Delivered => "Your message was delivered",
        Action::Relayed => "Your message was passed on",
    }
}

/// The part for people.
fn words(
    shared: &Shared,
    about: &Message,
    action: Action,
    expires: &str,
    recipients: &[Reported<'_>],
    reasons: &[Option<Explanation>],
) -> String {
    let what = match action {
        Action::Failed => "Your message could not be delivered to the recipients below. It will not be tried again.".into(),
        Action::Delayed => format!(
            "Your message has not been delivered to the recipients below yet.\nIt is tried again until {expires}. You need not send it again."
        ),
        Action::Delivered => "Your message was delivered to the recipients below.".to_owned(),
        Action::Relayed => "Your message was passed on for the recipients below. The next mail system sends no confirmation of what becomes of it.".into(),
    };
    let mut text = format!("This is the mail system at {}.\n\n{what}\n", shared.config.hostname);
    for (recipient, why) in recipients.iter().zip(reasons) {
        text.push_str(&format!("\n<{}>\n", recipient.address));
        if let Some(why) = why {
            text.push_str(&format!("    {}. {}\n", why.title, why.meaning));
            text.push_str(&format!("    Whose turn: {}\n", why.owner.as_str().replace('_', " ")));
            if let Some(fix) = why.fixes.first() {
                text.push_str(&format!("    What to do first: {}\n", fix.text));
            }
        }
        let ours = recipient.diagnostic.as_deref().and_then(|said| said.strip_prefix("x-pillarbox; "));
        if let Some(ours) = ours.filter(|_| why.is_none()) {
            text.push_str(&format!("    Not sent here: {}\n", escape(ours.as_bytes(), 800)));
        }
        if let Some(said) = recipient.diagnostic.as_deref().and_then(|said| said.strip_prefix("smtp; ")) {
            text.push_str(&format!("    The other side said: {}\n", escape(said.as_bytes(), 800)));
        }
    }
    let details = &about.details;
    text.push_str("\nThe message:\n");
    for (name, value) in [("Subject", &details.subject), ("From", &details.from), ("Message-ID", &details.message_id)] {
        if let Some(value) = value {
            text.push_str(&format!("    {name}: {}\n", value.replace(char::is_control, " ")));
        }
    }
    text.push_str(&format!("    Accepted: {} as {}\n", rfc5322_date(about.accepted_ms), about.id));
    text
}
