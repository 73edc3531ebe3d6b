//! What operators wish for mail: the store decides, and what is in memory meanwhile goes back to it.

use std::sync::Arc;

use store::{Claim, Operation, Selector, State, StoreError};

use super::STORE_PAUSE;
use crate::schedule::Job;
use crate::shared::Shared;

/// Recipients given back in one transaction.
const GIVE_BACK_AT_ONCE: usize = 2_000;

/// See [`Relay::operate`].
pub(crate) async fn operate(
    shared: Arc<Shared>,
    selector: Selector,
    operation: Operation,
    who: String,
) -> Result<u64, StoreError> {
    // The store refuses a selector that says nothing.
    if selector != Selector::default() {
        let jobs = shared.schedule.lock().evict(|claim| concerns(&selector, claim));
        give_back_surely(&shared, jobs).await?;
    }
    let wakes = matches!(operation, Operation::Retry | Operation::Release);
    let stops = matches!(operation, Operation::Hold(_) | Operation::Cancel);
    let result = shared.store.operate(selector.clone(), operation, who, shared.now_ms()).await;
    if stops && result.is_ok() {
        // What was given back was due, and may be in memory again by now, with the wish noted: it is granted by giving back.
        let jobs = shared.schedule.lock().evict(|claim| concerns(&selector, claim));
        give_back_surely(&shared, jobs).await?;
    }
    if wakes && result.is_ok() {
        shared.brakes.lock().release(shared.now_ms());
        let actions = shared.schedule.lock().resume(shared.now_ms());
        shared.perform(actions);
    }
    // Also after a refusal: what was given back is due.
    shared.due_at(i64::MIN);
    result
}

/// Domain and recipient as the store spells them.
pub(super) fn spelled(mut selector: Selector) -> Selector {
    if let Some(domain) = &mut selector.domain
        && let Ok(known) = proto::address::parse_domain(domain)
    {
        *domain = known;
    }
    if let Some(recipient) = &mut selector.recipient
        && let Ok(address) = proto::Address::parse(recipient)
    {
        *recipient = address.as_str().to_owned();
    }
    selector
}

/// Whether an operator's selector may concern recipients of a job.
fn concerns(selector: &Selector, claim: &Claim) -> bool {
    fn is(wanted: &Option<String>, value: &str) -> bool {
        wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
    }
    let key = &claim.lane.key;
    let recipient = |wanted: &String| claim.recipients.iter().any(|r| r.address.as_str().eq_ignore_ascii_case(wanted));
    // Only what is held has a reason.
    selector.why.is_none()
        && selector.message.is_none_or(|id| id == claim.message.id)
        && is(&selector.domain, &key.domain)
        && is(&selector.route, &key.route)
        && is(&selector.sender, &key.sender)
        && is(&selector.stream, &key.stream)
        && selector.sender_domain.as_ref().is_none_or(|wanted| is_from(claim, wanted))
        && selector.recipient.as_ref().is_none_or(recipient)
        && selector.batch.is_none_or(|batch| claim.message.details.row.is_some_and(|row| row.batch == batch))
        && selector.state.is_none_or(|state| matches!(state, State::Leased | State::Waiting))
}

fn is_from(claim: &Claim, domain: &str) -> bool {
    claim.message.reverse_path.0.as_ref().is_some_and(|address| address.domain().eq_ignore_ascii_case(domain))
}

/// Gives jobs back as soon as the store can take them: they are in nobody's hands any more.
pub(crate) async fn give_back_surely(shared: &Shared, jobs: Vec<Job>) -> Result<(), StoreError> {
    loop {
        match give_back(shared, &jobs, shared.now_ms()).await {
            Ok(()) => return Ok(()),
            Err(error @ StoreError::Closed) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "leases are not given back yet");
                tokio::select! {
                    () = tokio::time::sleep(STORE_PAUSE) => {}
                    () = shared.stopping.cancelled() => return Err(error),
                }
            }
        }
    }
}

pub(crate) async fn give_back(shared: &Shared, jobs: &[Job], due_ms: i64) -> Result<(), StoreError> {
    let all: Vec<_> = jobs
        .iter()
        .flat_map(|job| {
            let message = job.claim.message.id;
            job.claim.recipients.iter().map(move |r| (store::RecipientId { message, n: r.n }, due_ms))
        })
        .collect();
    for chunk in all.chunks(GIVE_BACK_AT_ONCE) {
        shared.store.give_back(shared.run, chunk.to_vec()).await?;
    }
    for job in jobs {
        shared.leave_window(&job.claim.lane, job.claim.recipients.len());
    }
    Ok(())
}
