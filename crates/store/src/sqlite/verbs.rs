//! The traits, mapped to the writer, the readers and the jobs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::Address;
use secrecy::ExposeSecret;

use super::command::{
    AcceptRequest, Aging, Command, Job, OperateRequest, PutRequest, SealedChange, SettleRequest, Upkeep,
};
use super::encode::Wish;
use super::suppress::UnsuppressRequest;
use super::{
    SqliteStore, backup, browse, content, digest, encode, events, maintain, select, settings, suppressed, tls, verify,
};
use crate::engine::{listed, queued};
use crate::model::*;
use crate::settings::{Document, Expected, Kind, SecretChange};
use crate::verbs::{Browse, Intake, Maintain, Queue, Retention, Settings, Streams, Suppressions};
use crate::{Pending, StoreError};

/// Recipients an operation changes in one transaction: some milliseconds, then others have their turn.
const STEP: usize = 500;
/// Recipients released with one call.
const MOST_AT_ONCE: u32 = 10_000;

impl Intake for SqliteStore {
    fn accept(&self, new: NewMessage) -> Pending<Accepted> {
        if let Err(error) = self.intake().and_then(|()| queued::check_message(&new)) {
            return Pending::ready(Err(error));
        }
        // Hashing and encoding are done here, by the many, not by the one writer.
        let request = || -> Result<AcceptRequest, StoreError> {
            Ok(AcceptRequest {
                hash: *blake3::hash(&new.content).as_bytes(),
                parameters: encode::mail_parameters(&new.message.parameters)?,
                details: encode::details(&new.message.details)?,
                new,
                place: None,
            })
        };
        match request() {
            Ok(request) => {
                let (job, pending) = Job::new(request);
                self.shared.queue.push(Command::Accept(Box::new(job)));
                pending
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn next_id(&self, now_ms: i64) -> MessageId {
        self.shared.next_id(now_ms)
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.intake()?;
        self.shared.queue.ready()
    }
}

impl SqliteStore {
    pub(super) fn intake(&self) -> Result<(), StoreError> {
        self.shared.healthy()?;
        if self.shared.low.load(Ordering::Relaxed) { Err(StoreError::Full) } else { Ok(()) }
    }
}

impl Queue for SqliteStore {
    fn start_run(&self, node: &str, now_ms: i64) -> Pending<(Incarnation, u64)> {
        let (job, pending) = Job::new((node.to_owned(), now_ms));
        self.shared.queue.push(Command::StartRun(job));
        pending
    }

    fn claim(&self, request: ClaimRequest) -> Pending<Claimed> {
        let (job, pending) = Job::new(request);
        self.shared.queue.push(Command::Claim(Box::new(job)));
        pending
    }

    fn settle(&self, settlement: Settlement) -> Pending<u32> {
        match settlement.attempt.as_ref().map(encode::attempt).transpose() {
            Ok(attempt) => {
                let (job, pending) = Job::new(SettleRequest { settlement, attempt });
                self.shared.queue.push(Command::Settle(Box::new(job)));
                pending
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn give_back(&self, by: Incarnation, recipients: Vec<(RecipientId, i64)>) -> Pending<u32> {
        let (job, pending) = Job::new((by, recipients));
        self.shared.queue.push(Command::GiveBack(job));
        pending
    }

    fn content(&self, id: MessageId) -> Pending<Bytes> {
        let shared = self.shared.clone();
        self.shared.readers.ask(move |connection| content::content(connection, &shared, id))
    }

    fn expire(&self, now_ms: i64, max: u32) -> Pending<u32> {
        let (job, pending) = Job::new((now_ms, max));
        self.shared.queue.push(Command::Expire(job));
        pending
    }

    fn operate(&self, selector: Selector, operation: Operation, who: String, now_ms: i64) -> Pending<u64> {
        if let Err(error) = queued::check_selector(&selector, true) {
            return Pending::ready(Err(error));
        }
        self.job("operate", move |connection, shared| {
            let wish = Wish { operation, who };
            let mut after = None;
            let mut changed = 0;
            // A final row is out of reach of every operation.
            if selector.state.is_some_and(State::is_final) {
                return Ok(0);
            }
            loop {
                let ids = {
                    let _snapshot = browse::Snapshot::start(connection)?;
                    select::select(connection, &selector, after, STEP)?
                };
                let Some(last) = ids.last().copied() else { return Ok(changed) };
                let whole = ids.len() < STEP;
                let (state, wish) = (selector.state, wish.clone());
                let request = OperateRequest { ids, state, wish, aging: Aging::Counts, now_ms };
                let (job, pending) = Job::new(request);
                shared.queue.push(Command::Operate(Box::new(job)));
                changed += pending.wait()?;
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
        let mut left = most.clamp(1, MOST_AT_ONCE) as usize;
        self.job("let go", move |connection, shared| {
            let wish = Wish { operation: Operation::Release, who };
            let mut changed = 0;
            loop {
                let step = left.min(STEP);
                let ids = {
                    let _snapshot = browse::Snapshot::start(connection)?;
                    select::select(connection, &selector, None, step)?
                };
                left -= ids.len();
                let last = ids.len() < step || left == 0;
                if !ids.is_empty() {
                    let (state, wish) = (selector.state, wish.clone());
                    let request = OperateRequest { ids, state, wish, aging: Aging::Stood, now_ms };
                    let (job, pending) = Job::new(request);
                    shared.queue.push(Command::Operate(Box::new(job)));
                    changed += pending.wait()?;
                }
                if last {
                    return Ok(changed);
                }
            }
        })
    }
}

impl Browse for SqliteStore {
    fn recipients(&self, selector: Selector, after: Option<RecipientId>, limit: u32) -> Pending<Vec<RecipientView>> {
        if let Err(error) = queued::check_selector(&selector, false) {
            return Pending::ready(Err(error));
        }
        self.shared.readers.ask(move |connection| Ok(browse::recipients(connection, &selector, after, limit)?))
    }

    fn count(&self, selector: Selector, most: u32) -> Pending<u64> {
        if let Err(error) = queued::check_selector(&selector, false) {
            return Pending::ready(Err(error));
        }
        let shared = self.shared.clone();
        self.shared.readers.ask(move |connection| Ok(browse::count(connection, &shared, &selector, most)?))
    }

    fn message(&self, id: MessageId, limit: u32) -> Pending<MessageView> {
        self.shared.readers.ask(move |connection| Ok(browse::message(connection, id, limit)?))
    }

    fn recipients_named(&self, names: Vec<RecipientId>) -> Pending<Vec<RecipientView>> {
        self.shared.readers.ask(move |connection| Ok(browse::named(connection, &names)?))
    }

    fn events(&self, id: MessageId, limit: u32) -> Pending<Vec<Event>> {
        self.shared.readers.ask(move |connection| Ok(events::events(connection, id, limit)?))
    }

    fn events_after(&self, seq: i64, limit: u32) -> Pending<Vec<Event>> {
        self.shared.readers.ask(move |connection| Ok(events::events_after(connection, seq, limit)?))
    }

    fn notable_after(&self, seq: i64, limit: u32) -> Pending<Notable> {
        self.shared.readers.ask(move |connection| Ok(events::notable_after(connection, seq, limit)?))
    }

    fn events_of(&self, seq: i64, kinds: Vec<EventKind>, limit: u32) -> Pending<Notable> {
        self.shared.readers.ask(move |connection| Ok(events::events_of(connection, seq, &kinds, limit)?))
    }

    fn cursor(&self, name: &'static str) -> Pending<i64> {
        self.shared.readers.ask(move |connection| Ok(events::cursor(connection, name)?))
    }

    fn counts(&self, by: GroupBy, limit: u32) -> Pending<Vec<QueueCount>> {
        let shared = self.shared.clone();
        self.shared.readers.ask(move |connection| Ok(browse::counts(connection, &shared, by, limit)?))
    }

    fn usage(&self) -> Pending<Vec<(String, String)>> {
        self.usage_under("")
    }

    fn usage_under(&self, prefix: &'static str) -> Pending<Vec<(String, String)>> {
        self.shared.readers.ask(move |connection| Ok(events::usage(connection, prefix)?))
    }

    fn tls_days(&self, which: TlsDays) -> Pending<Vec<TlsDay>> {
        self.shared.readers.ask(move |connection| Ok(tls::list(connection, &which)?))
    }

    fn captured(&self, before: Option<MessageId>, limit: u32) -> Pending<Vec<MessageView>> {
        self.shared.readers.ask(move |connection| Ok(browse::captured(connection, before, limit)?))
    }
}

impl Settings for SqliteStore {
    fn documents(&self, kind: Kind) -> Pending<Vec<Document>> {
        let shared = self.shared.clone();
        self.shared.readers.ask(move |connection| Ok(settings::documents(connection, &shared.keyring, kind)?))
    }

    fn put_document(
        &self,
        kind: Kind,
        name: String,
        body: serde_json::Value,
        secret: SecretChange,
        now_ms: i64,
    ) -> Pending<i64> {
        match self.put_request(kind, name, &body, &secret, now_ms) {
            Ok(request) => self.order(Ok(()), request, Command::Put),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn put_document_if(
        &self,
        kind: Kind,
        name: String,
        body: serde_json::Value,
        secret: SecretChange,
        expected: Expected,
        now_ms: i64,
    ) -> Pending<Option<i64>> {
        match self.put_request(kind, name, &body, &secret, now_ms) {
            Ok(request) => self.order(Ok(()), (request, expected), Command::PutIf),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn delete_document(&self, kind: Kind, name: String) -> Pending<()> {
        let (job, pending) = Job::new((kind, name));
        self.shared.queue.push(Command::Delete(job));
        pending
    }

    fn settings_version(&self) -> Pending<i64> {
        Pending::ready(Ok(self.shared.settings_version.load(Ordering::SeqCst)))
    }
}

impl SqliteStore {
    fn put_request(
        &self,
        kind: Kind,
        name: String,
        body: &serde_json::Value,
        secret: &SecretChange,
        now_ms: i64,
    ) -> Result<PutRequest, StoreError> {
        crate::settings::check_name(kind, &name)?;
        let secret = match secret {
            SecretChange::Keep => SealedChange::Keep,
            SecretChange::Clear => SealedChange::Clear,
            SecretChange::Set(secret) => SealedChange::Set(
                self.shared.keyring.seal(&crate::settings::identity(kind, &name), secret.expose_secret())?,
            ),
        };
        Ok(PutRequest { kind, name, body: body.to_string(), secret, now_ms })
    }

    /// Asks the writer, unless the request is refused at once.
    fn order<R, T>(
        &self,
        checked: Result<(), StoreError>,
        request: R,
        command: fn(Box<Job<R, T>>) -> Command,
    ) -> Pending<T> {
        if let Err(error) = checked {
            return Pending::ready(Err(error));
        }
        let (job, pending) = Job::new(request);
        self.shared.queue.push(command(Box::new(job)));
        pending
    }
}

impl Suppressions for SqliteStore {
    fn suppress(&self, list: Vec<Suppression>, existing: Existing, now_ms: i64) -> Pending<SuppressCount> {
        self.order(listed::check(&list), (list, existing, now_ms), Command::Suppress)
    }

    fn unsuppress(
        &self,
        list: Vec<(Address, Option<SuppressionScope>)>,
        who: String,
        why: Option<String>,
        now_ms: i64,
    ) -> Pending<u64> {
        self.order(listed::check(&list), UnsuppressRequest { list, who, why, now_ms }, Command::Unsuppress)
    }

    fn strike(&self, list: Vec<Strike>, now_ms: i64) -> Pending<Vec<Struck>> {
        self.order(listed::check(&list), (list, now_ms), Command::Strike)
    }

    fn forgive(&self, list: Vec<Address>) -> Pending<u64> {
        if let Err(error) = listed::check(&list) {
            return Pending::ready(Err(error));
        }
        let (job, pending) = Job::new(Upkeep::Forgive { list });
        self.shared.queue.push(Command::Upkeep(job));
        pending
    }

    fn struck(&self, after: Option<String>, limit: u32) -> Pending<Vec<String>> {
        self.shared.readers.ask(move |connection| Ok(suppressed::struck(connection, after.as_deref(), limit)?))
    }

    fn suppressed_keys(&self, after: Option<String>, limit: u32) -> Pending<Vec<String>> {
        self.shared.readers.ask(move |connection| Ok(suppressed::keys(connection, after.as_deref(), limit)?))
    }

    fn suppressed(&self, list: Vec<Address>, stream: Arc<str>, now_ms: i64) -> Pending<Vec<Option<Suppression>>> {
        self.shared.readers.ask(move |connection| Ok(suppressed::suppressed(connection, &list, &stream, now_ms)?))
    }

    fn suppressions_of(&self, address: Address, now_ms: i64) -> Pending<Vec<Suppression>> {
        self.shared.readers.ask(move |connection| Ok(suppressed::of(connection, &address, now_ms)?))
    }

    fn suppressions(
        &self,
        filter: SuppressionFilter,
        after: Option<SuppressionCursor>,
        limit: u32,
        now_ms: i64,
    ) -> Pending<Vec<Suppression>> {
        self.shared
            .readers
            .ask(move |connection| Ok(suppressed::list(connection, &filter, after.as_ref(), limit, now_ms)?))
    }

    fn suppression_counts(&self, now_ms: i64) -> Pending<Vec<(SuppressionScope, SuppressionReason, u64)>> {
        self.shared.readers.ask(move |connection| Ok(suppressed::counts(connection, now_ms)?))
    }

    fn suppression_changes(&self, since: i64, limit: u32) -> Pending<SuppressionChanges> {
        self.shared.readers.ask(move |connection| Ok(suppressed::changes(connection, since, limit)?))
    }

    fn suppression_history(&self, address: Address, limit: u32) -> Pending<Vec<SuppressionChange>> {
        self.shared.readers.ask(move |connection| Ok(suppressed::history(connection, &address, limit)?))
    }

    fn report(&self, later: LaterReport) -> Pending<Reported> {
        self.order(listed::check_report(&later), later, Command::Report)
    }
}

impl Streams for SqliteStore {
    fn due_digests(&self, now_ms: i64, limit: u32, items: u32) -> Pending<Vec<Digest>> {
        self.shared.readers.ask(move |connection| Ok(digest::due(connection, now_ms, limit, items)?))
    }

    fn next_digest_ms(&self) -> Pending<Option<i64>> {
        self.shared.readers.ask(move |connection| Ok(digest::next_ms(connection)?))
    }

    fn finish_digest(&self, digest: DigestId, max: u32, now_ms: i64) -> Pending<u64> {
        let (job, pending) = Job::new((digest, max, now_ms));
        self.shared.queue.push(Command::FinishDigest(job));
        pending
    }

    fn warn_late(&self, late: Vec<Late>, now_ms: i64) -> Pending<u64> {
        if late.is_empty() {
            return Pending::ready(Ok(0));
        }
        let (job, pending) = Job::new((late, now_ms));
        self.shared.queue.push(Command::WarnLate(job));
        pending
    }

    fn next_expiry_ms(&self) -> Pending<Option<i64>> {
        self.shared.readers.ask(move |connection| Ok(digest::next_expiry_ms(connection)?))
    }
}

impl Maintain for SqliteStore {
    fn retain(&self, retention: Retention, now_ms: i64) -> Pending<u64> {
        self.job("retain", move |connection, shared| maintain::retain(connection, shared, &retention, now_ms))
    }

    fn move_cursor(&self, name: &'static str, seq: i64) -> Pending<u64> {
        let (job, pending) = Job::new(Upkeep::Cursor { name, seq });
        self.shared.queue.push(Command::Upkeep(job));
        pending
    }

    fn save_usage(&self, rows: Vec<(String, Option<String>)>) -> Pending<u64> {
        let (job, pending) = Job::new(Upkeep::Usage { rows });
        self.shared.queue.push(Command::Upkeep(job));
        pending
    }

    fn save_tls_days(&self, rows: Vec<TlsDay>, before_day: i64) -> Pending<u64> {
        let (job, pending) = Job::new(Upkeep::TlsDays { rows, before_day });
        self.shared.queue.push(Command::Upkeep(job));
        pending
    }

    fn backup(&self, to: PathBuf) -> Pending<u64> {
        self.job("backup", move |connection, shared| backup::backup(connection, shared, &to))
    }

    fn verify(&self, deep: bool) -> Pending<Vec<String>> {
        self.job("verify", move |connection, shared: &Arc<_>| verify::verify(connection, shared, deep))
    }

    fn close(&self) -> Pending<()> {
        let (job, pending) = Job::new(());
        self.shared.queue.push(Command::Close(job));
        pending
    }
}
