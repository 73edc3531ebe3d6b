//! From what happened to what is recorded: outcomes per recipient, and a settlement that is never given up.
//!
//! A settlement that the store cannot take now is offered again until it can: an outcome that is known must not be lost
//! while this process lives.

use std::sync::Arc;
use std::time::Duration;

use proto::transcript::{Failure, Stage};
use store::{Attempt, Claim, Lane, LeasedRecipient, Outcome, Pending, Settlement, StoreError};

use crate::route::{Route, RouteKind};
use crate::shared::Shared;
use crate::verdict::{Verdict, judge};

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
pub(crate) fn begin(shared: &Arc<Shared>, claim: &Claim, ended: Ended) -> Settling {
    let settlement = Settlement {
        by: shared.run,
        at_ms: shared.now_ms(),
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
                    tracing::error!(%error, message = %self.settlement.message, "outcome was refused by the store");
                    break true;
                }
                // Too late: the next start takes the lease back.
                Err(StoreError::Closed) => break false,
                Err(error) => {
                    tracing::warn!(%error, message = %self.settlement.message, "outcome is not recorded yet");
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

/// Records what happened in a task of its own.
pub(crate) fn spawn(shared: &Arc<Shared>, claim: &Claim, ended: Ended) {
    let mut settling = begin(shared, claim, ended);
    shared.tasks.spawn(async move {
        settling.done().await;
    });
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
pub(crate) fn outcome_of(
    shared: &Shared,
    claim: &Claim,
    recipient: &LeasedRecipient,
    stage: Stage,
    failure: &Failure,
) -> Outcome {
    let directory = shared.directory();
    let route = directory.route(&claim.lane.key.route);
    let kind = route.map_or(RouteKind::Smarthost, |route| route.record.kind);
    if judge(kind, stage, failure) == Verdict::Permanent {
        return Outcome::Failed { failure: failure.clone() };
    }
    let now_ms = shared.now_ms();
    let until_ms = now_ms + delay_ms(shared, route.map(|route| &**route), recipient.attempts.saturating_add(1));
    // A last attempt just before the end is better than an early end; without time for it the message is late now.
    let until_ms =
        if until_ms > claim.message.expires_ms { claim.message.expires_ms - LAST_ATTEMPT_MS } else { until_ms };
    if until_ms <= now_ms {
        Outcome::Expired { failure: Some(failure.clone()) }
    } else {
        Outcome::Deferred { until_ms, failure: failure.clone() }
    }
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
    let outcomes = claim
        .recipients
        .iter()
        .map(|recipient| (recipient.n, outcome_of(shared, claim, recipient, stage, failure)))
        .collect();
    Ended { attempt: Some(attempt), outcomes, capture: false }
}
