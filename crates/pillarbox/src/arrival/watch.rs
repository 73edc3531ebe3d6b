//! Follows test mails until it is known what became of them.

use std::collections::HashMap;
use std::time::Duration;

use net::Net;
use store::{MessageId, RecordKind, RecordQuery, State, StoreError};
use tokio_util::sync::CancellationToken;

use super::confirm::{confirm, tell};
use super::judge::{Seen, Way};
use super::mailbox;
use super::record::{self, ArrivalState, Stored};
use crate::http::Shared;

/// How often open test mails are looked at.
const ROUND: Duration = Duration::from_secs(2);
/// How often a mailbox is looked into, milliseconds: at first, and for one that takes longer than five minutes.
const LOOKS_MS: (i64, i64) = (5_000, 60_000);
/// How long a mail that is too late is looked for, milliseconds.
const LINGER_MS: i64 = 24 * 3_600_000;
/// How long results are kept, milliseconds; the newest records of a token stay anyway.
const KEPT_MS: i64 = 400 * 86_400_000;
/// Test mails that are followed at once.
const MOST: u32 = 200;

/// Follows until the server stops.
pub async fn run(app: Shared, net: Net, closing: CancellationToken) {
    let mut looked: HashMap<i64, i64> = HashMap::new();
    loop {
        let pause = tokio::select! {
            round = round(&app, &net, &mut looked) => match round {
                Ok(0) => Duration::from_secs(600),
                Ok(_) => ROUND,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "test mails are not followed");
                    Duration::from_secs(10)
                }
            },
            () = closing.cancelled() => return,
        };
        tokio::select! {
            () = app.arrivals.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = closing.cancelled() => return,
        }
    }
}

/// How many are open.
async fn round(app: &Shared, net: &Net, looked: &mut HashMap<i64, i64>) -> Result<usize, StoreError> {
    let query = RecordQuery { limit: MOST, ..RecordQuery::open(RecordKind::Arrival) };
    let open = record::find(&*app.store, query).await?;
    looked.retain(|id, _| open.iter().any(|one| one.id == *id));
    if open.is_empty() {
        app.store.prune_records(RecordKind::Arrival, app.clock.now_ms() - KEPT_MS, 0).await?;
    }
    let count = open.len();
    for one in open {
        follow(app, net, one, looked).await?;
    }
    Ok(count)
}

async fn follow(app: &Shared, net: &Net, mut one: Stored, looked: &mut HashMap<i64, i64>) -> Result<(), StoreError> {
    let now_ms = app.clock.now_ms();
    let before = one.arrival.clone();
    let age_ms = now_ms - one.arrival.sent_ms;
    let every_ms = if age_ms < 300_000 { LOOKS_MS.0 } else { LOOKS_MS.1 };
    if let Some(name) = one.arrival.mailbox.clone()
        && looked.get(&one.id).is_none_or(|at| now_ms - at >= every_ms)
    {
        looked.insert(one.id, now_ms);
        match mailbox::look(app, net, &name, &one.arrival.token).await {
            Ok(Some(found)) => {
                let folder = Some((found.folder.as_str(), found.place));
                let seen = Seen { way: Way::Mailbox, folder, at_ms: found.at_ms, now_ms };
                // A server that leaves our header out, but lets the subject through, has it there.
                confirm(app, &found.header, &seen).await?;
                return Ok(());
            }
            Ok(None) => one.arrival.problem = None,
            Err(why) => one.arrival.problem = Some(why),
        }
    }
    if let Some((failed, why)) = fate(app, &one).await? {
        one.arrival.problem = Some(why);
        if failed {
            one.arrival.state = ArrivalState::Failed;
            one.open = false;
        }
    }
    if one.open && now_ms > one.arrival.deadline_ms() {
        one.arrival.state = ArrivalState::Missing;
        // Nobody looks by itself for what has no mailbox; the header may still be pasted.
        one.open = now_ms - one.arrival.deadline_ms() < LINGER_MS;
    }
    if one.arrival == before {
        return Ok(());
    }
    if record::change(&*app.store, &one).await? && one.arrival.state != before.state {
        tracing::warn!(route = %one.arrival.route, to = %one.arrival.to, state = one.arrival.state.as_str(), "a test mail did not arrive");
        tell(app, &one.arrival).await;
    }
    Ok(())
}

/// What the queue knows: whether it will never arrive, and a sentence. `None`: nothing bad.
async fn fate(app: &Shared, one: &Stored) -> Result<Option<(bool, String)>, StoreError> {
    let id = one.arrival.message.as_deref().and_then(|id| id.parse::<MessageId>().ok());
    let Some(id) = id else { return Ok(None) };
    let view = match app.store.message(id, 1).await {
        Ok(view) => view,
        Err(StoreError::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(recipient) = view.recipients.first() else { return Ok(None) };
    let cause = recipient.cause.as_ref().map(|cause| crate::http::words::failure(&cause.failure));
    let why = || cause.clone().or_else(|| recipient.why.clone()).unwrap_or_else(|| "no reason is known".into());
    Ok(match recipient.state {
        State::Failed | State::Expired => Some((true, format!("The queue gave it up: {}", why()))),
        State::Canceled => Some((true, "Somebody canceled it in the queue.".into())),
        State::Suppressed => Some((true, format!("The recipient is suppressed: {}", why()))),
        State::Bounced => Some((true, format!("It came back: {}", why()))),
        State::Held => Some((false, format!("It is held in the queue: {}", recipient.why.clone().unwrap_or_default()))),
        State::Waiting | State::Leased => cause.map(|cause| (false, format!("It waits in the queue: {cause}"))),
        State::Delivered | State::Complained => None,
    })
}
