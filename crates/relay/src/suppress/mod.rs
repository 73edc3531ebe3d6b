//! Addresses that get no mail: asked at the door and again at each attempt, and added from what is heard of deliveries.
//!
//! [`known`] is a set in memory that keeps the question cheap, [`policy`] (pure) says what counts against an address, `follow`
//! reads the events.

pub(crate) mod follow;
pub(crate) mod known;
pub mod policy;

use std::sync::Arc;

use proto::message::iso_date;
use proto::{Address, Recipient};
use store::{Outcome, StoreError, Suppression, SuppressionReason, SuppressionScope};

use crate::schedule::Job;
use crate::settle::{self, Ended};
use crate::shared::Shared;

/// What is said of a recipient that is suppressed. The first words are for programs.
pub fn words(suppression: &Suppression) -> String {
    let since = iso_date(suppression.added_ms.div_euclid(1_000));
    let where_ = match &suppression.scope {
        SuppressionScope::Global => String::new(),
        SuppressionScope::Stream(stream) => format!(" for stream {stream}"),
    };
    let until = match suppression.expires_ms {
        Some(expires) => format!(", until {}", iso_date(expires.div_euclid(1_000))),
        None => String::new(),
    };
    match suppression.reason {
        SuppressionReason::OptOut => format!("opted out: since {since}{where_}{until}"),
        reason => format!("suppressed: {reason} since {since}{where_}{until}"),
    }
}

/// What stops mail of a stream to each address; one question to the store, and none for addresses that nobody suppressed.
async fn stops(
    shared: &Shared,
    addresses: impl Iterator<Item = &Address>,
    stream: &Arc<str>,
) -> Result<Vec<(usize, Suppression)>, StoreError> {
    let suspects: Vec<(usize, Address)> = addresses
        .enumerate()
        .filter(|(_, address)| shared.suppressed.may_have(address))
        .map(|(at, address)| (at, address.clone()))
        .collect();
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let list = suspects.iter().map(|(_, address)| address.clone()).collect();
    let found = shared.store.suppressed(list, stream.clone(), shared.now_ms()).await?;
    // Mail that has to reach people cannot be left; that a mailbox does not exist stops it all the same.
    let may_leave = shared.directory().stream_record(stream).opt_out;
    let stops = |one: &Suppression| may_leave || one.reason != SuppressionReason::OptOut;
    Ok(suspects.into_iter().zip(found).filter_map(|((at, _), found)| Some((at, found.filter(stops)?))).collect())
}

/// Why recipients of a message that comes in get nothing, in the order of the envelope; empty: all of them may.
pub(crate) async fn stopped(
    shared: &Shared,
    recipients: &[Recipient],
    stream: &Arc<str>,
) -> Result<Vec<Option<String>>, StoreError> {
    let found = stops(shared, recipients.iter().map(|recipient| &recipient.address), stream).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let mut stopped = vec![None; recipients.len()];
    for (at, suppression) in found {
        stopped[at] = Some(words(&suppression));
    }
    Ok(stopped)
}

/// Takes out of a job that is about to be attempted who was suppressed since it was accepted. An answer that the store does
/// not give now is no reason to keep mail.
pub(crate) async fn leave_out(shared: &Arc<Shared>, job: &mut Job) {
    let recipients = &job.claim.recipients;
    if !recipients.iter().any(|recipient| shared.suppressed.may_have(&recipient.address)) {
        return;
    }
    let addresses = recipients.iter().map(|recipient| &recipient.address);
    let stopped = match stops(shared, addresses, &job.claim.lane.key.stream).await {
        Ok(stopped) => stopped,
        Err(error) => {
            tracing::warn!(%error, message_id = %job.claim.message.id, "cannot ask who is suppressed");
            return;
        }
    };
    if stopped.is_empty() {
        return;
    }
    let outcomes = stopped
        .iter()
        .map(|(at, suppression)| (job.claim.recipients[*at].n, Outcome::Suppressed { why: words(suppression) }))
        .collect();
    settle::spawn(shared, &job.claim, Ended { attempt: None, outcomes, capture: false });
    let mut at = 0;
    job.claim.recipients.retain(|_| {
        at += 1;
        !stopped.iter().any(|(out, _)| *out == at - 1)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_begin_with_what_programs_look_for() {
        let mut suppression = Suppression {
            address: Address::parse("bob@example.net").unwrap(),
            scope: SuppressionScope::Global,
            reason: SuppressionReason::UnknownUser,
            evidence: store::Evidence::default(),
            who: "pillarbox".into(),
            added_ms: 1_795_000_000_000,
            expires_ms: None,
        };
        assert_eq!(words(&suppression), "suppressed: unknown-user since 2026-11-18");
        suppression.scope = "news".into();
        suppression.expires_ms = Some(1_795_000_000_000 + 86_400_000);
        assert_eq!(words(&suppression), "suppressed: unknown-user since 2026-11-18 for stream news, until 2026-11-19");
        suppression.reason = SuppressionReason::OptOut;
        assert!(words(&suppression).starts_with("opted out: since"), "{}", words(&suppression));
    }
}
