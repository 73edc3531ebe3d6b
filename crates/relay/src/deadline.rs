//! Deadlines: mail is `Expired` when its time is over, and said to be late as soon as that can be foreseen.
//!
//! Only deadlines that somebody asked for (`deliver_by`, a stream's deadline) are foreseen: the general expiry promises
//! nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proto::message::iso_date;
use store::{Claim, Late, LeasedRecipient, Message, MessageId, Outcome, RecipientId, StoreError};

use crate::schedule::Job;
use crate::settle::{self, Ended};
use crate::shared::Shared;

/// Longest time between two looks at what expires next.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is looked at what will be late.
const FORESEE_EVERY: Duration = Duration::from_secs(1);
/// Recipients expired in one transaction.
pub(crate) const AT_ONCE: u32 = 1_000;
/// Recipients told of in one transaction.
const TOLD_AT_ONCE: usize = 500;
/// Messages that are remembered as told of; the store knows them all.
const REMEMBERED: usize = 50_000;

/// Expires what waits in the store, to the moment, until the relay stops.
pub(crate) async fn expire(shared: Arc<Shared>) {
    while shared.until_lead().await && !shared.is_stopping() {
        let wait = match shared.store.next_expiry_ms().await {
            Ok(Some(at)) if at <= shared.now_ms() => match shared.store.expire(shared.now_ms(), AT_ONCE).await {
                Ok(expired) if expired >= AT_ONCE => Duration::ZERO,
                Ok(_) => LOOK,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "expired mail cannot be marked");
                    LOOK
                }
            },
            Ok(next) => next.map_or(LOOK, |at| {
                let left = u64::try_from(at - shared.now_ms()).unwrap_or(0);
                Duration::from_millis(left).min(LOOK)
            }),
            Err(StoreError::Closed) => return,
            Err(_) => LOOK,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.expiry_wake.notified() => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Ends jobs in memory whose time is over.
pub(crate) fn over(shared: &Arc<Shared>, jobs: Vec<Job>) {
    for job in jobs {
        let outcomes = job.claim.recipients.iter().map(|r| (r.n, Outcome::Expired { cause: None })).collect();
        settle::spawn(shared, &job.claim, Ended { attempt: None, outcomes, capture: false });
    }
}

/// Whether a message is late if it leaves at this time.
pub(crate) fn is_late(message: &Message, at_ms: i64) -> bool {
    message.details.deadline && at_ms > message.expires_ms
}

/// What is told of a recipient that cannot leave before `until_ms`.
pub(crate) fn late(message: &Message, n: u32, until_ms: i64, why: &str) -> Late {
    let at = |ms: i64| iso_date(ms.div_euclid(1_000));
    let why = format!("{why}: not before {}, and its deadline is {}", at(until_ms), at(message.expires_ms));
    Late { recipient: RecipientId { message: message.id, n }, until_ms: Some(until_ms), why: why.into() }
}

/// Tells of recipients that will be late. Told in the order of what is settled afterwards; nobody waits for it.
pub(crate) fn tell(shared: &Shared, late: Vec<Late>) {
    let now_ms = shared.now_ms();
    for some in late.chunks(TOLD_AT_ONCE) {
        drop(shared.store.warn_late(some.to_vec(), now_ms));
    }
}

/// Tells of a recipient whose next attempt would come after its deadline.
pub(crate) fn deferred(shared: &Shared, claim: &Claim, recipient: &LeasedRecipient, until_ms: i64) {
    if is_late(&claim.message, until_ms) {
        tell(shared, vec![late(&claim.message, recipient.n, until_ms, "the next attempt")]);
    }
}

/// Tells of mail in memory whose destination takes nothing before its deadline, until the relay stops.
pub(crate) async fn foresee(shared: Arc<Shared>) {
    let mut told: HashSet<MessageId> = HashSet::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(FORESEE_EVERY) => {}
            () = shared.stopping.cancelled() => return,
        }
        let now_ms = shared.now_ms();
        let found = shared.schedule.lock().late(now_ms, |message| !told.contains(&message.id));
        if told.len() > REMEMBERED {
            told.clear();
        }
        let mut late = Vec::new();
        for (claim, until_ms, why) in found {
            told.insert(claim.message.id);
            late.extend(claim.recipients.iter().map(|to| self::late(&claim.message, to.n, until_ms, why)));
        }
        tell(&shared, late);
    }
}
