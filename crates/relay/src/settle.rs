//! From what happened to what is recorded: outcomes per recipient, and a settlement that is never given up.
//!
//! A settlement that the store cannot take now is offered again until it can: an outcome that is known must not be lost
//! while this process lives.

use std::sync::Arc;
use std::time::Duration;

use proto::DeliveryNotify;
use proto::transcript::{Failure, Stage};
use store::{Attempt, Claim, Lane, LeasedRecipient, Outcome, Pending, Settlement, StoreError};

use crate::incident::watch::{self, Place};
use crate::route::{Route, RouteKind};
use crate::shared::Shared;
use crate::verdict::{Judgement, Peer, Verdict, judge};

/// Pause between two offers of a settlement.
const AGAIN: Duration = Duration::from_millis(250);

/// How an attempt ended for some recipients of a message.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) attempt: Option<Attempt>,
    pub(crate) outcomes: Vec<(u32, Outcome)>,
    pub(crate) capture: bool,
}

/// A settlement on its way to the disk.
pub(crate) struct Settling {
    shared: Arc<Shared>,
    settlement: Settlement,
    lane: Arc<Lane>,
    /// `None`: to be offered again.
    pending: Option<Pending<u32>>,
    durable: Option<bool>,
}

/// Starts to record what happened.
pub(crate) fn begin(shared: &Arc<Shared>, claim: &Claim, mut ended: Ended, place: Place<'_>) -> Settling {
    crate::brake::gate::settled(shared, claim, &mut ended);
    let at_ms = shared.now_ms();
    let provider = crate::rates::watch::settled(shared, claim, ended.attempt.as_ref(), &ended.outcomes);
    let reason = |rule: &str| Some(shared.rules().rule(rule)?.reason.as_str());
    let (attempt, outcomes) = (ended.attempt.as_ref(), &ended.outcomes[..]);
    shared.metrics.settled(claim, attempt, outcomes, provider.as_deref(), at_ms, reason);
    watch::settled(shared, claim, attempt, outcomes, place);
    let settlement = Settlement {
        by: shared.run,
        lapses: claim.lapses,
        at_ms,
        message: claim.message.id,
        attempt: ended.attempt,
        outcomes: ended.outcomes,
        capture: ended.capture,
    };
    let pending = shared.store.settle(settlement.clone());
    Settling { shared: shared.clone(), settlement, lane: claim.lane.clone(), pending: Some(pending), durable: None }
}

impl Settling {
    /// Waits until it is durable. False: the relay ran out of patience at a stop. Cancel-safe: what was not waited for to
    /// the end can be waited for again, and has to be.
    pub(crate) async fn done(&mut self) -> bool {
        if let Some(durable) = self.durable {
            return durable;
        }
        let durable = loop {
            let (store, settlement) = (&self.shared.store, &self.settlement);
            let pending = self.pending.get_or_insert_with(|| store.settle(settlement.clone()));
            let result = pending.await;
            self.pending = None;
            match result {
                Ok(_) => break true,
                Err(error @ (StoreError::Invalid(_) | StoreError::NotFound | StoreError::Damaged(_))) => {
                    tracing::error!(%error, message_id = %self.settlement.message, "outcome was refused by the store");
                    break true;
                }
                // Too late: the next start takes the lease back.
                Err(StoreError::Closed) => break false,
                Err(error) => {
                    tracing::warn!(%error, message_id = %self.settlement.message, "outcome is not recorded yet");
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = self.shared.deadline.cancelled() => break false,
                    }
                }
            }
        };
        self.durable = Some(durable);
        self.shared.leave_window(&self.lane, self.settlement.outcomes.len());
        if let Some(due_ms) = earliest_due(&self.settlement.outcomes) {
            self.shared.due_at(due_ms);
        }
        durable
    }
}

/// Waits for it in a task of its own.
pub(crate) fn later(mut settling: Settling) {
    let tasks = settling.shared.tasks.clone();
    tasks.spawn(async move {
        settling.done().await;
    });
}

/// Records what happened in a task of its own.
pub(crate) fn spawn(shared: &Arc<Shared>, claim: &Claim, ended: Ended) {
    spawn_at(shared, claim, ended, Place::default());
}

/// The same of an attempt whose next hop is known.
pub(crate) fn spawn_at(shared: &Arc<Shared>, claim: &Claim, ended: Ended, place: Place<'_>) {
    later(begin(shared, claim, ended, place));
}

fn earliest_due(outcomes: &[(u32, Outcome)]) -> Option<i64> {
    outcomes
        .iter()
        .filter_map(|(_, outcome)| match outcome {
            Outcome::Deferred { until_ms, .. } => Some(*until_ms),
            Outcome::Returned { due_ms } => Some(*due_ms),
            _ => None,
        })
        .min()
}

/// The outcome of a failure for one recipient.
pub(crate) fn outcome_of(shared: &Shared, claim: &Claim, recipient: &LeasedRecipient, judgement: Judgement) -> Outcome {
    let Judgement { verdict, wait_s, sign: _, mut cause } = judgement;
    if cause.unknown_via.is_none() {
        cause.unknown_via.clone_from(&recipient.unknown_via);
    }
    if verdict == Verdict::Permanent {
        return Outcome::Failed { cause };
    }
    let now_ms = shared.now_ms();
    let directory = shared.directory();
    let route = directory.route(&claim.lane.key.route).map(|route| &**route);
    let delay_ms = delay_ms(shared, route, recipient.attempts.saturating_add(1));
    let asked_ms = wait_s.and_then(|wait_s| i64::try_from(wait_s).ok()).map_or(0, |wait_s| wait_s * 1_000);
    let until_ms = now_ms + delay_ms.max(asked_ms);
    crate::deadline::deferred(shared, claim, recipient, until_ms);
    // A last attempt just before the end is better than an early end.
    let expires_ms = claim.message.expires_ms;
    let until_ms = if until_ms > expires_ms { expires_ms - LAST_ATTEMPT_MS } else { until_ms };
    // Too late for that too: it ends with its time, and not before.
    let until_ms = if until_ms <= now_ms { expires_ms } else { until_ms };
    if until_ms <= now_ms { Outcome::Expired { cause: Some(cause) } } else { Outcome::Deferred { until_ms, cause } }
}

/// The outcome of a delivery. Who asked to hear of it is told by the next hop, or else by us (RFC 3461 §5.2.2).
/// `word`: what else there is to know.
pub(crate) fn delivered(recipient: &LeasedRecipient, told_by_next_hop: bool, word: Option<&str>) -> Outcome {
    let asked = matches!(recipient.parameters.notify, Some(DeliveryNotify::On { success: true, .. }));
    match (asked, word) {
        // A word about a delivery would be told to the sender, who has it from the next hop.
        (true, _) if told_by_next_hop => Outcome::Delivered,
        (true, word) => Outcome::Relayed { why: word.unwrap_or("the next hop sends no notifications").to_owned() },
        (false, Some(word)) => Outcome::Noted { why: word.to_owned() },
        (false, None) => Outcome::Delivered,
    }
}

/// What a failure in a claim's conversation means. Where nobody was spoken with, the smart host that was meant counts.
pub(crate) fn judged(shared: &Shared, via: &str, peer: Peer<'_>, stage: Stage, failure: &Failure) -> Judgement {
    let directory = shared.directory();
    let route = directory.route(via);
    let kind = route.map_or(RouteKind::Smarthost, |route| route.record.kind);
    let host = peer.host.or_else(|| route.and_then(|route| route.record.next_host()));
    judge(&shared.rules(), kind, Peer { host, ..peer }, stage, failure)
}

/// How long before its expiry a message's last attempt is made.
const LAST_ATTEMPT_MS: i64 = 1_000;

fn delay_ms(shared: &Shared, route: Option<&Route>, attempts: u32) -> i64 {
    let random = rand::random();
    match route.and_then(|route| route.record.retry_s.as_deref()) {
        Some(intervals) => crate::backoff::Backoff::new(intervals).delay_ms(attempts, random),
        None => shared.backoff.delay_ms(attempts, random),
    }
}

/// An attempt that did not get as far as a peer.
pub(crate) fn unconnected(route: &Arc<str>, started_ms: i64, stage: Option<Stage>) -> Attempt {
    Attempt {
        route: route.clone(),
        peer: None,
        tls: None,
        started_ms,
        took_ms: 0,
        stage,
        reply: None,
        transcript: None,
    }
}

/// The same failure for all recipients.
pub(crate) fn all_failed(shared: &Shared, claim: &Claim, attempt: Attempt, stage: Stage, failure: &Failure) -> Ended {
    let peer = Peer { host: None, transcript: attempt.transcript.as_ref() };
    let judgement = judged(shared, &attempt.route, peer, stage, failure);
    let outcomes = claim
        .recipients
        .iter()
        .map(|recipient| (recipient.n, outcome_of(shared, claim, recipient, judgement.clone())))
        .collect();
    Ended { attempt: Some(attempt), outcomes, capture: false }
}
