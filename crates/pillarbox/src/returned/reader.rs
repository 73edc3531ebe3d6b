//! Reads mail that came back and tells the store what it says about our messages.
//!
//! Outline: a mail that waits → reports of DMARC and TLS in it? kept in their list → else what is it (`proto::report`)? →
//! its message, by our return path, by our trace in the returned header, by its Message-ID → each recipient's word judged by
//! the rules → one later report each → done, or kept among the unmatched. A crash anywhere reads the mail again; the store
//! counts a report once.

use std::sync::Arc;
use std::time::Duration;

use proto::report::{Action, Bounce, BouncedRecipient, Certainty, Complaint, Report, classify};
use relay::verp::{Token, Verp};
use serde_json::{Value, json};
use store::{
    LaterReport, MessageId, MessageView, ReportKind, Reported, Returned, ReturnedFate, Severity, StoreError, Trace,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::inlet::{Provider, ProviderEvent};
use super::judge::{judge, judge_words, word_of};
use super::trace::{self, Hint};
use super::{summary, unpack};
use crate::http::App;

/// How often the store is asked when nobody says that something came.
const EVERY: Duration = Duration::from_secs(5);
/// Mails read at once.
const PAGE: u32 = 20;
/// How long a mail waits whose recipient is being attempted at this moment, milliseconds.
const LATER_MS: i64 = 15_000;
/// Most recipients of a message that are compared.
const MAX_RECIPIENTS: u32 = 1_000;
/// Longest text kept about an unmatched mail.
const MAX_NOTE: usize = 500;

/// Reads until the server stops.
pub async fn run(app: Arc<App>, verp: Option<Arc<Verp>>, wake: Arc<Notify>, closing: CancellationToken) {
    while !closing.is_cancelled() {
        let more = match round(&app, verp.as_deref()).await {
            Ok(more) => more,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "returned mail waits");
                false
            }
        };
        if more {
            continue;
        }
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
            () = closing.cancelled() => {}
        }
    }
}

/// Reads a page. True: there may be more.
async fn round(app: &App, verp: Option<&Verp>) -> Result<bool, StoreError> {
    let due = app.store.returned_due(app.clock.now_ms(), PAGE).await?;
    let full = due.len() == PAGE as usize;
    for mail in due {
        let fate = read(app, verp, &mail).await?;
        app.store.settle_returned(mail.id, fate).await?;
    }
    Ok(full)
}

/// What a mail turned out to be; later reports are in the store when this returns.
async fn read(app: &App, verp: Option<&Verp>, mail: &Returned) -> Result<ReturnedFate, StoreError> {
    let provider = mail.source.split_once(':').map(|(provider, _)| provider);
    if provider.is_some_and(|name| Provider::ALL.iter().any(|one| one.name() == name)) {
        return match serde_json::from_slice::<ProviderEvent>(&mail.content) {
            Ok(event) => Reader { app, verp, mail }.event(&event).await,
            Err(error) => Ok(unmatched("it could not be read", json!({ "error": error.to_string() }))),
        };
    }
    if mail.recipient.as_deref().and_then(crate::arrival::Token::of_address).is_some() {
        let found = crate::arrival::confirm::by_listener(app, &mail.content, mail.at_ms).await?;
        return Ok(match found {
            Some(_) => ReturnedFate::Done,
            None => unmatched("it has no token of a test mail", json!({})),
        });
    }
    // Unpacking may take a while: other work goes on.
    let content = mail.content.clone();
    let parsed = tokio::task::spawn_blocking(move || (unpack::attached(&content), classify(&content))).await;
    let Ok((attached, report)) = parsed else {
        tracing::error!(id = mail.id, "a returned mail could not be read: a defect");
        return Ok(unmatched("it could not be read", json!({})));
    };
    if let Some(fate) = reports(&attached) {
        return Ok(fate);
    }
    let reader = Reader { app, verp, mail };
    match report {
        Report::Bounce(bounce) => reader.bounce(&bounce).await,
        Report::Complaint(complaint) => reader.complaint(&complaint).await,
        Report::AutoReply(answer) => {
            tracing::debug!(from = ?answer.from, "an automatic answer came back: the mail was delivered");
            Ok(ReturnedFate::Done)
        }
        Report::Mail(headers) => {
            let note = json!({ "from": headers.from, "subject": headers.subject });
            Ok(unmatched("it is no report", note))
        }
    }
}

/// A mail that brings reports is kept in their list.
fn reports(attached: &[Result<unpack::Document, unpack::UnpackError>]) -> Option<ReturnedFate> {
    let found: Vec<_> = attached.iter().flatten().map(summary::listed).collect();
    if found.is_empty() {
        return None;
    }
    for one in &found {
        tracing::info!(kind = one.kind, from = %one.organization, domains = ?one.domains, count = one.count, failed = one.failed, "a report came");
    }
    Some(ReturnedFate::Reports(json!({ "reports": found })))
}

fn unmatched(why: &str, mut note: Value) -> ReturnedFate {
    if let Some(note) = note.as_object_mut() {
        note.retain(|_, value| !value.is_null());
        for value in note.values_mut() {
            if let Some(text) = value.as_str().filter(|text| text.len() > MAX_NOTE) {
                *value = text[..text.floor_char_boundary(MAX_NOTE)].into();
            }
        }
        note.insert("why".into(), why.into());
    }
    ReturnedFate::Unmatched(note)
}

/// One mail being read.
struct Reader<'a> {
    app: &'a App,
    verp: Option<&'a Verp>,
    mail: &'a Returned,
}

/// A message that a report is about.
struct Found {
    view: MessageView,
    /// The recipient, if the return path names one.
    n: Option<u32>,
}

impl Found {
    fn id(&self) -> MessageId {
        self.view.message.id
    }

    /// The recipient with this address, whatever its case.
    fn recipient(&self, address: &str) -> Option<u32> {
        let same = |one: &&store::RecipientView| {
            let original = one.parameters.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';'));
            one.address.as_str().eq_ignore_ascii_case(address)
                || original.is_some_and(|(_, original)| original.eq_ignore_ascii_case(address))
        };
        self.view.recipients.iter().find(same).map(|one| one.id.n)
    }

    /// Whom a word is about: the return path's recipient, the one named, or the only one.
    fn about(&self, addresses: &[&str]) -> Option<u32> {
        self.n.or_else(|| addresses.iter().find_map(|address| self.recipient(address))).or_else(|| {
            let [only] = &self.view.recipients[..] else { return None };
            Some(only.id.n)
        })
    }
}

/// What became of the words of one mail.
#[derive(Default)]
struct Told {
    recorded: u32,
    later: bool,
    unknown: bool,
}

impl Told {
    fn note(&mut self, reported: Reported) {
        match reported {
            Reported::Recorded(_) | Reported::Repeated => self.recorded += 1,
            Reported::NotYet => self.later = true,
            Reported::Unknown => self.unknown = true,
        }
    }

    fn fate(&self, now_ms: i64, note: Value) -> ReturnedFate {
        if self.later {
            // What was recorded already is not recorded again.
            ReturnedFate::Later(now_ms + LATER_MS)
        } else if self.recorded > 0 {
            ReturnedFate::Done
        } else if self.unknown {
            unmatched("its message is not kept any more", note)
        } else {
            unmatched("it names no recipient of its message", note)
        }
    }
}

impl Reader<'_> {
    async fn bounce(&self, bounce: &Bounce) -> Result<ReturnedFate, StoreError> {
        let note = json!({
            "kind": "bounce",
            "subject": bounce.subject,
            "reporter": bounce.reporting_mta,
            "recipients": bounce.recipients.iter().take(10).map(|one| &one.final_recipient).collect::<Vec<_>>(),
            "message_id": bounce.original.message_id,
        });
        let named: Vec<&str> = bounce.recipients.iter().flat_map(addresses).collect();
        let hint = Hint {
            return_paths: vec![bounce.original.reported_to.as_deref(), bounce.original.return_path.as_deref()],
            message_id: bounce.original.message_id.as_deref(),
            envelope_id: bounce.original.envelope_id.as_deref(),
        };
        let Some(found) = self.find(&hint, &named).await? else {
            return Ok(unmatched("its message was not found", note));
        };
        let mut told = Told::default();
        let nobody = BouncedRecipient {
            final_recipient: String::new(),
            original_recipient: None,
            action: Action::Failed,
            status: None,
            code: None,
            diagnostic: bounce.notice.clone(),
            remote_mta: None,
            last_attempt: None,
            will_retry_until: None,
            certainty: Certainty::Inferred,
        };
        // A report that names nobody is about the one its return path names.
        let alone = bounce.recipients.is_empty().then_some(&nobody);
        let rules = self.app.rules();
        for one in bounce.recipients.iter().chain(alone) {
            if matches!(one.action, Action::Delivered | Action::Relayed | Action::Expanded) {
                told.recorded += 1;
                continue;
            }
            let addresses: Vec<&str> = addresses(one).collect();
            let Some(n) = found.about(&addresses) else { continue };
            let word = judge(&rules, bounce, one);
            let late = one.action == Action::Delayed;
            let said = format!("{} {:?} {:?} {}", one.final_recipient, one.action, one.status, one.diagnostic);
            let key = self.key("bounce", found.id(), Some(n), &[&said, &format!("{:?}", bounce.date)]);
            let report = LaterReport {
                message: found.id(),
                n: Some(n),
                at_ms: self.mail.at_ms,
                kind: ReportKind::Bounced,
                severity: if late { Severity::Soft } else { Severity::Hard },
                why: Some(word_of(one, bounce, &word)),
                cause: Some(word.cause),
                source: self.mail.source.clone(),
                key,
            };
            told.note(self.report(report, word.hardness).await?);
        }
        Ok(told.fate(self.app.clock.now_ms(), note))
    }

    async fn complaint(&self, complaint: &Complaint) -> Result<ReturnedFate, StoreError> {
        let kind = complaint.feedback_type.as_str();
        let note = json!({
            "kind": "complaint",
            "type": kind,
            "reporter": complaint.reporter,
            "recipients": complaint.original_recipients,
            "message_id": complaint.original.message_id,
        });
        match kind {
            // Somebody took it out of the spam folder.
            "not-spam" => return Ok(ReturnedFate::Done),
            "auth-failure" => return Ok(unmatched("it tells of failed authentication, not of a recipient", note)),
            _ => {}
        }
        let named: Vec<&str> = complaint.original_recipients.iter().map(String::as_str).collect();
        let hint = Hint {
            return_paths: vec![complaint.original_mail_from.as_deref(), complaint.original.return_path.as_deref()],
            message_id: complaint.original.message_id.as_deref(),
            envelope_id: None,
        };
        let Some(found) = self.find(&hint, &named).await? else {
            return Ok(unmatched("its message was not found", note));
        };
        let mut told = Told::default();
        let n = found.about(&named);
        let said = format!("{kind} {:?} {:?}", complaint.reporter, complaint.arrival);
        let by = complaint.reporter.as_deref().unwrap_or("a receiver");
        let report = LaterReport {
            message: found.id(),
            n,
            at_ms: self.mail.at_ms,
            kind: ReportKind::Complained,
            severity: Severity::Hard,
            cause: None,
            why: Some(format!("{}: reported by {by}", if kind.is_empty() { "abuse" } else { kind })),
            source: self.mail.source.clone(),
            key: self.key("complaint", found.id(), n, &[&said]),
        };
        told.note(self.report(report, "complaint").await?);
        Ok(told.fate(self.app.clock.now_ms(), note))
    }

    /// What a provider tells, with its own name for it as the key.
    async fn event(&self, event: &ProviderEvent) -> Result<ReturnedFate, StoreError> {
        let note = json!({
            "kind": event.what,
            "recipients": [&event.recipient],
            "message_id": event.message_id,
            "queued": event.queued,
            "words": event.words,
        });
        let hint = Hint {
            return_paths: vec![event.return_path.as_deref()],
            message_id: event.message_id.as_deref(),
            envelope_id: None,
        };
        let named = [event.recipient.as_str()];
        let mut found = self.find(&hint, &named).await?;
        if let (None, Some(queued)) = (&found, &event.queued) {
            for id in self.app.store.traced(Trace::Queued(queued.clone())).await? {
                let opened = self.open(Token { message: id, n: None }).await?;
                found = found.or(opened.filter(|opened| fits(opened, &named)));
            }
        }
        let Some(found) = found else { return Ok(unmatched("its message was not found", note)) };
        // The address says more than the return path: a transaction of several has one for all.
        let Some(n) = found.recipient(&event.recipient).or_else(|| found.about(&named)) else {
            return Ok(unmatched("it names no recipient of its message", note));
        };
        let complained = event.what == "complained";
        let word = judge_words(&self.app.rules(), &event.words, event.code, event.status.as_deref());
        let report = LaterReport {
            message: found.id(),
            n: Some(n),
            at_ms: self.mail.at_ms,
            kind: if complained { ReportKind::Complained } else { ReportKind::Bounced },
            severity: if event.what == "late" { Severity::Soft } else { Severity::Hard },
            cause: (!complained).then_some(word.cause),
            why: Some(event.words.clone()).filter(|words| !words.is_empty()).or(word.title),
            source: self.mail.source.clone(),
            key: self.key("event", found.id(), Some(n), &[&self.mail.source, &event.id, &event.what]),
        };
        let mut told = Told::default();
        told.note(self.report(report, &event.what).await?);
        Ok(told.fate(self.app.clock.now_ms(), note))
    }

    async fn report(&self, report: LaterReport, what: &str) -> Result<Reported, StoreError> {
        let (message, n, why) = (report.message, report.n, report.why.clone());
        let reported = self.app.store.report(report).await?;
        if matches!(reported, Reported::Recorded(_)) {
            tracing::info!(message_id = %message, ?n, source = %self.mail.source, what, why = why.as_deref().unwrap_or_default(), "heard of a message later");
        }
        Ok(reported)
    }

    /// The same report has the same key, whichever way it came and however often.
    fn key(&self, kind: &str, message: MessageId, n: Option<u32>, parts: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let n = n.map(|n| n.to_string()).unwrap_or_default();
        format!("{kind}:{message}.{n}:{}", &hasher.finalize().to_hex()[..32])
    }

    /// The message a report is about.
    async fn find(&self, hint: &Hint<'_>, named: &[&str]) -> Result<Option<Found>, StoreError> {
        // Only we can have made these: nothing else has to fit.
        let recipient = self.mail.recipient.as_deref();
        let written = self.verp.map(|verp| trace::return_paths(verp, &self.mail.content)).unwrap_or_default();
        let paths = recipient.into_iter().chain(hint.return_paths.iter().copied().flatten());
        let tokens: Vec<Token> = paths.filter_map(|path| self.verp?.read(path)).chain(written).collect();
        for token in tokens {
            if let Some(found) = self.open(token).await? {
                return Ok(Some(found));
            }
        }
        let mut ids = trace::of_header(&self.mail.content, &self.app.hostname);
        ids.extend(hint.envelope_id.and_then(|id| id.parse::<MessageId>().ok()));
        ids.extend(hint.message_id.and_then(|id| trace::made_here(id, &self.app.hostname)));
        for id in ids {
            if let Some(found) = self.open(Token { message: id, n: None }).await?
                && fits(&found, named)
            {
                return Ok(Some(found));
            }
        }
        let Some(header) = hint.message_id else { return Ok(None) };
        for id in self.app.store.traced(Trace::HeaderId(header.to_owned())).await? {
            if let Some(found) = self.open(Token { message: id, n: None }).await?
                && fits(&found, named)
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn open(&self, token: Token) -> Result<Option<Found>, StoreError> {
        match self.app.store.message(token.message, MAX_RECIPIENTS).await {
            Ok(view) => Ok(Some(Found { view, n: token.n })),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn addresses(one: &BouncedRecipient) -> impl Iterator<Item = &str> {
    [Some(one.final_recipient.as_str()), one.original_recipient.as_deref()].into_iter().flatten()
}

/// What anybody can know of a message proves nothing: the report has to name one of its recipients too, or nobody.
fn fits(found: &Found, named: &[&str]) -> bool {
    named.is_empty() || named.iter().any(|address| found.recipient(address).is_some())
}
