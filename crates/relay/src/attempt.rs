//! One attempt at one message on an open connection, and what it comes to for each recipient.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use net::client::Delivery;
use proto::message;
use proto::smtp::client::{Plan, RecipientResult, TransactionEnd};
use proto::transcript::{Failure, PolicyProblem, Stage, Transcript, TransportPolicy};
use proto::{DeliveryNotify, MailParameters, ReversePath};
use store::{Attempt, Claim, LeasedRecipient, Outcome, StoreError};

use crate::accept::MAX_LINE;
use crate::brake::auth::Hold;
use crate::config::Keep;
use crate::connection::Worker;
use crate::connection::lost::{lost, unless_lost};
use crate::divert;
use crate::incident::watch::Place;
use crate::schedule::{Job, Sign};
use crate::settle::{self, Ended};
use crate::signin;
use crate::suppress;
use crate::verdict::Peer;
use crate::verp::{ReturnPath, Token};

/// How long a recipient waits whose content cannot be read for a passing reason, milliseconds.
const STORE_PAUSE_MS: i64 = 5_000;

/// What the connection does next.
pub(crate) enum Next {
    /// The next job.
    Continue,
    /// The next job, after this one was put back: recipients that did not fit into the transaction.
    Again(Job),
    /// The connection is of no more use; a job that it never really tried goes to another one.
    Close(Option<Job>),
}

impl Next {
    /// Recipients that were not tried.
    pub(crate) fn left(&self) -> usize {
        match self {
            Self::Continue | Self::Close(None) => 0,
            Self::Again(job) | Self::Close(Some(job)) => job.claim.recipients.len(),
        }
    }
}

/// Tries to deliver a job.
pub(crate) async fn run(worker: &mut Worker, mut job: Job) -> Next {
    let shared = worker.shared.clone();
    let started_ms = shared.now_ms();
    let (destination, lapses) = (worker.destination.clone(), job.claim.lapses);
    if unless_lost(&shared, &destination, lapses, suppress::leave_out(&shared, &mut job)).await.is_none() {
        return Next::Close(Some(job));
    }
    if job.claim.recipients.is_empty() {
        return Next::Continue;
    }
    if let Some(witness) = &mut worker.witness
        && !job.claim.message.parameters.tls_optional
    {
        witness.serves(&job.claim.lane.key.domain, started_ms);
    }
    if started_ms >= job.claim.message.expires_ms {
        let outcomes = each(&job.claim, |_| Outcome::Expired { cause: None });
        record(worker, &job.claim, Ended { attempt: None, outcomes, capture: false }).await;
        return Next::Continue;
    }
    if let Err(failure) = promised(worker, &job.claim) {
        let attempt = attempt_of(worker, started_ms, Some(Stage::Tls));
        let ended = settle::all_failed(&shared, &job.claim, attempt, Stage::Tls, &failure);
        record(worker, &job.claim, ended).await;
        return Next::Continue;
    }
    let content = match unless_lost(&shared, &destination, lapses, content_of(worker, &job)).await {
        None => return Next::Close(Some(job)),
        Some(Ok(content)) => content,
        Some(Err(error)) => {
            not_readable(worker, &job.claim, &error).await;
            return Next::Continue;
        }
    };
    let (content, eight_bit) = match suited(worker, &job.claim, content) {
        Ok(suited) => suited,
        Err(failure) => {
            let attempt = attempt_of(worker, started_ms, Some(Stage::Sender));
            let ended = settle::all_failed(&shared, &job.claim, attempt, Stage::Sender, &failure);
            record(worker, &job.claim, ended).await;
            return Next::Continue;
        }
    };
    match converse(worker, &job, &content, eight_bit).await {
        Ok(delivery) => conclude(worker, job, delivery, started_ms).await,
        Err(cut) => {
            worker.broken = true;
            match cut {
                Cut::Stop => returned(worker, &job.claim).await,
                Cut::Lost => Next::Close(Some(job)),
            }
        }
    }
}

/// What cut a transaction short.
enum Cut {
    /// The relay stops.
    Stop,
    /// The connection, or the mail, is not this node's any more: it was not begun as far as the next hop is concerned.
    Lost,
}

/// The transaction itself. The last message's outcome has to be durable before this one's final dot.
///
/// Cut by a stop it is before the final dot if there was time to wait for the answer behind it.
async fn converse(worker: &mut Worker, job: &Job, content: &Bytes, eight_bit: bool) -> Result<Delivery, Cut> {
    let claim = &job.claim;
    let (shared, destination) = (worker.shared.clone(), worker.destination.clone());
    let mut pending = worker.settling.take();
    let past_dot = AtomicBool::new(false);
    let capabilities = worker.connection.capabilities().clone();
    let signed = signed_path(worker, claim, capabilities.dsn);
    let parameters = traced(worker, claim, capabilities.dsn);
    let plan = Plan {
        reverse_path: signed.as_ref().unwrap_or(&claim.message.reverse_path),
        parameters: &parameters,
        recipients: claim.recipients.iter().map(|recipient| (&recipient.address, &recipient.parameters)).collect(),
        size: content.len() as u64,
        eight_bit,
        caps: &capabilities,
    };
    let before_dot = async {
        let durable = match &mut pending {
            Some(settling) => settling.done().await,
            None => true,
        };
        let go = durable && !shared.is_stopping() && job.claim.lapses == shared.store.lapses();
        past_dot.store(go, Ordering::Relaxed);
        go
    };
    let cut = async {
        shared.stopping.cancelled().await;
        if past_dot.load(Ordering::Relaxed) {
            shared.deadline.cancelled().await;
        }
    };
    let gone = async {
        lost(&shared, &destination, job.claim.lapses).await;
        // The next hop has all of it, and answers.
        if past_dot.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let delivery = tokio::select! {
        biased;
        delivery = worker.connection.deliver(&plan, content, before_dot) => Ok(delivery),
        () = cut => Err(Cut::Stop),
        () = gone => Err(Cut::Lost),
    };
    // Not waited for, or cut while it was: an outcome that is known is never let go.
    match (pending, &delivery) {
        (Some(settling), Err(Cut::Lost)) => settle::later(settling),
        (Some(mut settling), _) => drop(settling.done().await),
        (None, _) => {}
    }
    delivery
}

/// Whether this next hop can promise what a message with REQUIRETLS needs (RFC 8689 §4.2.1): it says so itself, over TLS with
/// a certificate that was verified for a name that can be trusted.
fn promised(worker: &Worker, claim: &Claim) -> Result<(), Failure> {
    if !claim.message.parameters.require_tls {
        return Ok(());
    }
    let reason = if worker.connection.tls().is_none() {
        "the connection is in clear"
    } else if !worker.assured {
        "its certificate or its name is not verified"
    } else if !worker.connection.capabilities().requiretls {
        "REQUIRETLS is not offered"
    } else {
        return Ok(());
    };
    Err(Failure::Policy {
        policy: TransportPolicy::RequireTls,
        problem: PolicyProblem::NotOffered,
        host: worker.connection.host().to_owned(),
        reason: reason.into(),
    })
}

/// The return path of our own that this next hop gets, if the route wants one. Mail without a return path keeps none
/// (RFC 5321 §4.5.5), and who asked to hear of success (RFC 3461 §4.1) hears it from the next hop itself.
fn signed_path(worker: &Worker, claim: &Claim, dsn: bool) -> Option<ReversePath> {
    let config = &worker.shared.config;
    let verp = config.bounce.as_ref()?;
    let by_route = worker.route.record.return_path;
    let by_stream = || worker.shared.directory().stream_record(&claim.message.stream).return_path;
    // A route's `original` is what its next hop insists on.
    let wanted = match by_route {
        Some(ReturnPath::Original) => ReturnPath::Original,
        _ => by_stream().or(by_route).unwrap_or(config.return_path),
    };
    let success =
        |one: &LeasedRecipient| matches!(one.parameters.notify, Some(DeliveryNotify::On { success: true, .. }));
    if wanted == ReturnPath::Original || claim.message.reverse_path.0.is_none() {
        return None;
    }
    if dsn && claim.recipients.iter().any(success) {
        return None;
    }
    let n = match &claim.recipients[..] {
        [only] => Some(only.n),
        _ => None,
    };
    verp.address(Token { message: claim.message.id, n }).map(|address| ReversePath(Some(address)))
}

/// The message's parameters; where reports are waited for and the sender gave no name of his own (ENVID, RFC 3461 §4.4),
/// reports shall name the message by its id.
fn traced<'a>(worker: &Worker, claim: &'a Claim, dsn: bool) -> Cow<'a, MailParameters> {
    let given = &claim.message.parameters;
    if !dsn || given.envid.is_some() || worker.shared.config.bounce.is_none() {
        return Cow::Borrowed(given);
    }
    Cow::Owned(MailParameters { envid: Some(claim.message.id.to_string()), ..given.clone() })
}

async fn content_of(worker: &Worker, job: &Job) -> Result<Bytes, StoreError> {
    match &job.content {
        Some(held) => Ok(held.content().clone()),
        None => worker.shared.store.content(job.claim.message.id).await,
    }
}

/// Content that this next hop takes as it is, or its 7-bit form (RFC 6152 §3). Lines over 998 octets are encoded for every
/// next hop: only BINARYMIME would allow them (RFC 5321 §4.5.3.1.6, RFC 3030 §3).
fn suited(worker: &Worker, claim: &Claim, content: Bytes) -> Result<(Bytes, bool), Failure> {
    if !claim.message.eight_bit {
        return Ok((content, false));
    }
    let eight_bit = !content.is_ascii();
    let long = has_long_line(&content);
    if !long && (!eight_bit || worker.connection.capabilities().eight_bit_mime) {
        return Ok((content, eight_bit));
    }
    match message::down_convert(&content) {
        Ok(converted) => Ok((converted.into(), false)),
        Err(error) => {
            tracing::info!(message_id = %claim.message.id, %error, "message cannot be given a form that the next hop takes");
            let extension = if long { "BINARYMIME" } else { "8BITMIME" };
            Err(Failure::MissingExtension { extension: extension.into() })
        }
    }
}

fn has_long_line(content: &[u8]) -> bool {
    let mut start = 0;
    let mut ends = memchr::memchr_iter(b'\n', content).chain(std::iter::once(content.len()));
    ends.any(|end| {
        let line = &content[start..end];
        start = (end + 1).min(content.len());
        line.strip_suffix(b"\r").unwrap_or(line).len() > MAX_LINE
    })
}

async fn not_readable(worker: &mut Worker, claim: &Claim, error: &StoreError) {
    tracing::error!(message_id = %claim.message.id, %error, "content cannot be read");
    let due_ms = worker.shared.now_ms() + STORE_PAUSE_MS;
    // A damaged message was held by the store itself: the settlement then finds nothing leased and changes nothing.
    let outcomes = each(claim, |_| Outcome::Returned { due_ms });
    record(worker, claim, Ended { attempt: None, outcomes, capture: false }).await;
}

/// Hands an outcome to the store and goes on; the one before must be durable by then.
async fn record(worker: &mut Worker, claim: &Claim, ended: Ended) {
    if let Some(mut before) = worker.settling.take() {
        let shared = &worker.shared;
        if unless_lost(shared, &worker.destination, shared.store.lapses(), before.done()).await.is_none() {
            settle::later(before);
        }
    }
    let place = Place { destination: Some(&worker.destination), prelude: worker.prelude.as_ref() };
    worker.settling = Some(settle::begin(&worker.shared, claim, ended, place));
}

fn each(claim: &Claim, outcome: impl Fn(u32) -> Outcome) -> Vec<(u32, Outcome)> {
    claim.recipients.iter().map(|recipient| (recipient.n, outcome(recipient.n))).collect()
}

fn attempt_of(worker: &Worker, started_ms: i64, stage: Option<Stage>) -> Attempt {
    Attempt {
        route: worker.route.name.clone(),
        peer: Some(worker.peer.clone()),
        tls: worker.connection.tls().map(|tls| match &worker.note {
            Some(note) => format!("{tls}, {note}"),
            None => tls.to_owned(),
        }),
        started_ms,
        took_ms: u32::try_from(worker.shared.now_ms() - started_ms).unwrap_or(0),
        stage,
        reply: None,
        transcript: None,
    }
}

/// Cut by us: not an attempt.
async fn returned(worker: &mut Worker, claim: &Claim) -> Next {
    let due_ms = worker.shared.now_ms();
    let outcomes = each(claim, |_| Outcome::Returned { due_ms });
    record(worker, claim, Ended { attempt: None, outcomes, capture: false }).await;
    Next::Close(None)
}

/// A peer that closed a connection between two messages refused none of them.
fn is_stale(worker: &Worker, delivery: &Delivery) -> bool {
    let said_goodbye = matches!(
        &delivery.end,
        Some(TransactionEnd::Refused { stage: Stage::Sender, reply }) if reply.code == 421
    );
    delivery.stale || (said_goodbye && worker.connection.transactions() > 1)
}

async fn conclude(worker: &mut Worker, mut job: Job, delivery: Delivery, started_ms: i64) -> Next {
    let shared = worker.shared.clone();
    if is_stale(worker, &delivery) {
        return Next::Close(Some(job));
    }
    if shared.is_stopping() && !delivery.past_dot && delivery.end.is_none() {
        return returned(worker, &job.claim).await;
    }
    if job.claim.lapses != shared.store.lapses() && !delivery.past_dot && delivery.end.is_none() {
        return Next::Close(Some(job));
    }
    if let Some(hold) = signin::told(worker, &delivery) {
        return turned_away(worker, &job, delivery, &hold, started_ms).await;
    }
    let mut sign = Sign::Other;
    let mut outcomes = Vec::with_capacity(job.claim.recipients.len());
    let mut postponed = Vec::new();
    let mut trouble: Option<Stage> = None;
    let passed_on = worker.connection.capabilities().dsn;
    let diverted = divert::words(worker, &job.claim);
    for (at, recipient) in job.claim.recipients.iter().enumerate() {
        match fate(&delivery, at) {
            Fate::Delivered => {
                sign = if sign == Sign::Other { Sign::Taken } else { sign };
                outcomes.push((recipient.n, settle::delivered(recipient, passed_on, diverted.as_deref())));
            }
            Fate::Postponed => postponed.push(recipient.clone()),
            Fate::Failed(stage, failure) => {
                trouble = Some(stage);
                let peer = Peer { host: Some(worker.connection.host()), transcript: worker.prelude.as_ref() };
                let mut judgement = settle::judged(&shared, &worker.route.name, peer, stage, &failure);
                if matches!(judgement.sign, Sign::Slow(_) | Sign::Hold(_)) {
                    sign = judgement.sign;
                }
                if matches!(judgement.sign, Sign::Hold(_)) {
                    let cause = || judgement.cause.clone();
                    crate::brake::noticed(&shared, &worker.route, &worker.destination, cause);
                }
                if is_unknown(&delivery, at) {
                    judgement.cause.unknown_via = Some(worker.route.name.clone());
                }
                outcomes.push((recipient.n, settle::outcome_of(&shared, &job.claim, recipient, judgement)));
            }
        }
    }
    worker.sign = sign;
    divert::heed(worker, &job.claim, &delivery);
    let mut attempt = attempt_of(worker, started_ms, trouble);
    if let Some(TransactionEnd::Delivered(reply)) = &delivery.end {
        attempt.reply = Some(reply.clone());
    }
    if trouble.is_some() || shared.config.keep_transcripts == Keep::All {
        attempt.transcript = Some(joined(worker.prelude.as_ref(), delivery.transcript));
    }
    let mut ended = Ended { attempt: Some(attempt), outcomes, capture: false };
    divert::hasten(&shared, &worker.destination, &worker.route, &job.claim, &mut ended);
    record(worker, &job.claim, ended).await;
    let rest = (!postponed.is_empty()).then(|| {
        job.claim.recipients = postponed;
        job
    });
    match (delivery.reusable, rest) {
        (true, None) => Next::Continue,
        (true, Some(job)) => Next::Again(job),
        (false, rest) => Next::Close(rest),
    }
}

/// The credential was rejected with a message in hand, of which nothing was taken: it waits, as all others do.
async fn turned_away(worker: &mut Worker, job: &Job, delivery: Delivery, hold: &Hold, started_ms: i64) -> Next {
    if let Some(mut settling) = worker.settling.take() {
        settling.done().await;
    }
    let shared = worker.shared.clone();
    shared.failover.lock().failed(&worker.destination, shared.now_ms());
    let transcript = Some(joined(worker.prelude.as_ref(), delivery.transcript));
    let attempt = Attempt { transcript, ..attempt_of(worker, started_ms, Some(Stage::Auth)) };
    signin::rejected(&shared, job, attempt, hold);
    worker.sign = Sign::Other;
    Next::Close(None)
}

/// The next hop may have taken the message for this recipient (RFC 1047): the content was sent, its reply never came.
fn is_unknown(delivery: &Delivery, at: usize) -> bool {
    delivery.past_dot
        && delivery.end.is_none()
        && matches!(delivery.results.get(at), None | Some(RecipientResult::Accepted))
}

enum Fate {
    Delivered,
    Postponed,
    Failed(Stage, Failure),
}

fn fate(delivery: &Delivery, at: usize) -> Fate {
    let unfinished = || match &delivery.failure {
        Some((stage, failure)) => Fate::Failed(*stage, failure.clone()),
        None => Fate::Failed(Stage::Message, Failure::Disconnected),
    };
    match (delivery.results.get(at), &delivery.end) {
        (Some(RecipientResult::Refused(reply)), _) => Fate::Failed(Stage::Recipient, Failure::Refused(reply.clone())),
        (Some(RecipientResult::Postponed(_)), _) => Fate::Postponed,
        (Some(RecipientResult::Accepted), Some(TransactionEnd::Delivered(_))) => Fate::Delivered,
        (Some(_), Some(TransactionEnd::Refused { stage, reply })) => {
            Fate::Failed(*stage, Failure::Refused(reply.clone()))
        }
        _ => unfinished(),
    }
}

/// The connection's own steps before the message's, so that a failure shows how one got there.
fn joined(prelude: Option<&Transcript>, transcript: Transcript) -> Transcript {
    let Some(prelude) = prelude else { return transcript };
    let mut whole = prelude.clone();
    let shift = u64::try_from((transcript.started_ms - prelude.started_ms).max(0)).unwrap_or(0) * 1_000;
    for mut step in transcript.steps {
        step.started_us += shift;
        whole.push(step);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_long_by_its_octets_without_the_line_end() {
        let line = |octets: usize| [vec![b'x'; octets], b"\r\n".to_vec()].concat();
        assert!(!has_long_line(b""));
        assert!(!has_long_line(&[line(998), line(1), line(998)].concat()));
        assert!(has_long_line(&[line(1), line(999)].concat()));
        assert!(has_long_line(&[line(1), vec![b'x'; 999]].concat()));
    }
}
