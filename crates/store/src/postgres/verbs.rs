//! The traits of the queue, mapped to the verbs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::accept::AcceptRequest;
use super::operate::{self, Aging, OperateRequest};
use super::settle::{self, SettleRequest};
use super::shared::Shared;
use super::tx::{self, Mode, Tx};
use super::{PostgresStore, browse, claim, content, events, maintain, node, select, verify};
use crate::encode::{self, Wish};
use crate::engine::queued;
use crate::model::*;
use crate::verbs::{Browse, Intake, Maintain, Queue, Retention};
use crate::{Pending, StoreError};

/// Recipients an operation changes in one transaction.
const STEP: usize = 500;
/// Recipients released with one call.
const MOST_AT_ONCE: u32 = 10_000;
/// How long closing waits for what is under way.
const PATIENCE: Duration = Duration::from_secs(30);

impl Intake for PostgresStore {
    fn accept(&self, new: NewMessage) -> Pending<Accepted> {
        let octets = new.content.len();
        // Hashing and encoding are done here, by the many.
        let request =
            self.shared.healthy().and_then(|()| queued::check_message(&new)).and_then(|()| AcceptRequest::new(new));
        match request {
            Ok(request) => self.shared.accepts.push(&self.shared, request, octets),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn next_id(&self, now_ms: i64) -> MessageId {
        self.shared.next_id(now_ms)
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.shared.healthy()?;
        self.shared.has_room()
    }
}

impl Queue for PostgresStore {
    fn start_run(&self, node: &str, now_ms: i64) -> Pending<(Incarnation, u64)> {
        let node = node.to_owned();
        self.task(move |shared| async move { node::start(&shared, &node, now_ms).await })
    }

    fn bell(&self) -> Option<Arc<Notify>> {
        Some(self.shared.pool.manager().bell.clone())
    }

    fn claim(&self, request: ClaimRequest) -> Pending<Claimed> {
        self.task(move |shared| async move { claim::run(&shared, request).await })
    }

    fn settle(&self, settlement: Settlement) -> Pending<u32> {
        let attempt = self.shared.healthy().and_then(|()| settlement.attempt.as_ref().map(encode::attempt).transpose());
        match attempt {
            Ok(attempt) => {
                let octets = attempt.as_ref().map_or(0, String::len) + 200 * settlement.outcomes.len();
                let request = SettleRequest { settlement: Arc::new(settlement), attempt };
                self.shared.settles.push(&self.shared, request, octets)
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn give_back(&self, by: Incarnation, recipients: Vec<(RecipientId, i64)>) -> Pending<u32> {
        self.write((by, recipients), |tx, r| async move { settle::give_back(&tx, r.0, &r.1).await })
    }

    fn content(&self, id: MessageId) -> Pending<Bytes> {
        self.task(move |shared| async move { content::content(&shared, id).await })
    }

    fn expire(&self, now_ms: i64, max: u32) -> Pending<u32> {
        self.task(move |shared| async move {
            let now = Arc::new(now_ms);
            tx::run(&shared, Mode::Write, now, |tx, now| async move { operate::mend_due_times(&tx, *now).await })
                .await?;
            let verb = |tx: Arc<Tx>, r: Arc<(i64, u32)>| async move { operate::expire(&tx, r.0, r.1).await };
            tx::run(&shared, Mode::Write, Arc::new((now_ms, max)), verb).await
        })
    }

    fn operate(&self, selector: Selector, operation: Operation, who: String, now_ms: i64) -> Pending<u64> {
        if let Err(error) = queued::check_selector(&selector, true) {
            return Pending::ready(Err(error));
        }
        self.task(move |shared| async move {
            let wish = Wish { operation, who };
            // A final row is out of reach of every operation.
            if selector.state.is_some_and(State::is_final) {
                return Ok(0);
            }
            let (mut after, mut changed) = (None, 0);
            loop {
                let ids = found(&shared, &selector, after, STEP).await?;
                let Some(last) = ids.last().copied() else { return Ok(changed) };
                let whole = ids.len() < STEP;
                changed += apply(&shared, ids, selector.state, &wish, Aging::Counts, now_ms).await?;
                if whole {
                    return Ok(changed);
                }
                after = Some(last);
            }
        })
    }

    fn let_go(&self, selector: Selector, most: u32, who: String, now_ms: i64) -> Pending<u64> {
        if let Err(error) = queued::check_selector(&selector, true) {
            return Pending::ready(Err(error));
        }
        let selector = Selector { state: Some(State::Held), ..selector };
        self.task(move |shared| async move {
            let wish = Wish { operation: Operation::Release, who };
            let mut left = most.clamp(1, MOST_AT_ONCE) as usize;
            let mut changed = 0;
            loop {
                let step = left.min(STEP);
                let ids = found(&shared, &selector, None, step).await?;
                left -= ids.len();
                let last = ids.len() < step || left == 0;
                if !ids.is_empty() {
                    changed += apply(&shared, ids, selector.state, &wish, Aging::Stood, now_ms).await?;
                }
                if last {
                    return Ok(changed);
                }
            }
        })
    }
}

/// Recipients that match.
async fn found(
    shared: &Arc<Shared>,
    selector: &Selector,
    after: Option<RecipientId>,
    step: usize,
) -> Result<Vec<RecipientId>, super::Fault> {
    let request = Arc::new((selector.clone(), after, step));
    let verb = |tx: Arc<Tx>, r: Arc<(Selector, Option<RecipientId>, usize)>| async move {
        select::select(&tx, &r.0, r.1, r.2).await
    };
    tx::run(shared, Mode::Snapshot, request, verb).await
}

/// Applies a wish to recipients that were found.
async fn apply(
    shared: &Arc<Shared>,
    ids: Vec<RecipientId>,
    state: Option<State>,
    wish: &Wish,
    aging: Aging,
    now_ms: i64,
) -> Result<u64, super::Fault> {
    let request = Arc::new(OperateRequest { ids, state, wish: wish.clone(), aging, now_ms });
    let changed =
        tx::run(shared, Mode::Write, request, |tx, request| async move { operate::operate(&tx, &request).await })
            .await?;
    shared.news.store(true, Ordering::Relaxed);
    Ok(changed)
}

impl Browse for PostgresStore {
    fn recipients(&self, selector: Selector, after: Option<RecipientId>, limit: u32) -> Pending<Vec<RecipientView>> {
        if let Err(error) = queued::check_selector(&selector, false) {
            return Pending::ready(Err(error));
        }
        self.read((selector, after, limit), |tx, r| async move { browse::recipients(&tx, &r.0, r.1, r.2).await })
    }

    fn count(&self, selector: Selector, most: u32) -> Pending<u64> {
        if let Err(error) = queued::check_selector(&selector, false) {
            return Pending::ready(Err(error));
        }
        self.read((selector, most), |tx, r| async move { select::count(&tx, &r.0, r.1).await })
    }

    fn message(&self, id: MessageId, limit: u32) -> Pending<MessageView> {
        self.read((id, limit), |tx, r| async move { browse::message(&tx, r.0, r.1).await })
    }

    fn recipients_named(&self, names: Vec<RecipientId>) -> Pending<Vec<RecipientView>> {
        self.read(names, |tx, names| async move { browse::named(&tx, &names).await })
    }

    fn events(&self, id: MessageId, limit: u32) -> Pending<Vec<Event>> {
        self.read((id, limit), |tx, r| async move { events::events(&tx, r.0, r.1).await })
    }

    fn events_after(&self, seq: i64, limit: u32) -> Pending<Vec<Event>> {
        self.read((seq, limit), |tx, r| async move { events::events_after(&tx, r.0, r.1).await })
    }

    fn notable_after(&self, seq: i64, limit: u32) -> Pending<Notable> {
        self.read((seq, limit), |tx, r| async move { events::notable_after(&tx, r.0, r.1).await })
    }

    fn events_of(&self, seq: i64, kinds: Vec<EventKind>, limit: u32) -> Pending<Notable> {
        self.read((seq, kinds, limit), |tx, r| async move { events::events_of(&tx, r.0, &r.1, r.2).await })
    }

    fn cursor(&self, name: &'static str) -> Pending<i64> {
        self.read(name, |tx, name| async move { maintain::cursor(&tx, &name).await })
    }

    fn counts(&self, by: GroupBy, limit: u32) -> Pending<Vec<QueueCount>> {
        self.read((by, limit), |tx, r| async move { browse::counts(&tx, r.0, r.1).await })
    }

    fn usage(&self) -> Pending<Vec<(String, String)>> {
        self.usage_under("")
    }

    fn usage_under(&self, prefix: &'static str) -> Pending<Vec<(String, String)>> {
        self.read(prefix, |tx, prefix| async move { maintain::usage(&tx, &prefix).await })
    }

    fn tls_days(&self, which: TlsDays) -> Pending<Vec<TlsDay>> {
        self.read(which, |tx, which| async move { maintain::tls_days(&tx, &which).await })
    }

    fn captured(&self, before: Option<MessageId>, limit: u32) -> Pending<Vec<MessageView>> {
        self.read((before, limit), |tx, r| async move { browse::captured(&tx, r.0, r.1).await })
    }
}

impl Maintain for PostgresStore {
    fn retain(&self, retention: Retention, now_ms: i64) -> Pending<u64> {
        self.task(move |shared| async move { maintain::retain(&shared, &retention, now_ms).await })
    }

    fn move_cursor(&self, name: &'static str, seq: i64) -> Pending<u64> {
        self.write((name, seq), |tx, r| async move { maintain::move_cursor(&tx, r.0, r.1).await })
    }

    fn save_usage(&self, rows: Vec<(String, Option<String>)>) -> Pending<u64> {
        self.write(rows, |tx, rows| async move { maintain::save_usage(&tx, &rows).await })
    }

    fn save_tls_days(&self, rows: Vec<TlsDay>, before_day: i64) -> Pending<u64> {
        self.write((rows, before_day), |tx, r| async move { maintain::save_tls_days(&tx, &r.0, r.1).await })
    }

    fn backup(&self, _: PathBuf) -> Pending<u64> {
        Pending::ready(Err(StoreError::Invalid(
            "a store in PostgreSQL is backed up by the means of PostgreSQL: pg_dump for a copy of a moment, pg_basebackup \
             with archived WAL for every moment"
                .into(),
        )))
    }

    fn verify(&self, deep: bool) -> Pending<Vec<String>> {
        self.task(move |shared| async move { verify::verify(&shared, deep).await })
    }

    fn close(&self) -> Pending<()> {
        let shared = self.shared.clone();
        if shared.closed.swap(true, Ordering::SeqCst) {
            return Pending::ready(Err(StoreError::Closed));
        }
        let (sender, pending) = Pending::channel();
        self.handle.spawn(async move {
            shared.accepts.close();
            shared.settles.close();
            let mut waited = Duration::ZERO;
            let step = Duration::from_millis(5);
            while shared.under_way() > 0 && waited < PATIENCE {
                tokio::time::sleep(step).await;
                waited += step;
            }
            let slot = shared.slot();
            let verb = |tx: Arc<Tx>, slot: Arc<(i32, i64)>| async move {
                let sql = "UPDATE id_slot SET until = now() WHERE slot = $1 AND holder = $2";
                tx.execute(sql, &[&slot.0, &slot.1]).await
            };
            // Not worth failing: it is free again a day later.
            if let Err(fault) = tx::run(&shared, Mode::Write, Arc::new(slot), verb).await {
                tracing::debug!(%fault, "the end of message ids was not given back");
            }
            shared.pool.close();
            let _ = sender.send(Ok(()));
        });
        pending
    }
}
