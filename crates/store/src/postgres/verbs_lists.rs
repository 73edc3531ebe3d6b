//! The verbs of suppressions, streams, returned mail and records, each run in a transaction of its own.

use std::sync::Arc;

use bytes::Bytes;
use proto::Address;

use super::suppress::UnsuppressRequest;
use super::{PostgresStore, digest, records, report, returned, suppress, suppressed};
use crate::engine::{listed, recorded, returned as engine};
use crate::model::*;
use crate::verbs::{Records, Returns, Streams, Suppressions};
use crate::{Pending, StoreError};

/// Refuses a request before anything is asked of the database.
fn checked<T>(check: Result<(), StoreError>, ask: impl FnOnce() -> Pending<T>) -> Pending<T> {
    match check {
        Ok(()) => ask(),
        Err(error) => Pending::ready(Err(error)),
    }
}

impl Suppressions for PostgresStore {
    fn suppress(&self, list: Vec<Suppression>, existing: Existing, now_ms: i64) -> Pending<SuppressCount> {
        checked(listed::check(&list), || {
            self.write((list, existing, now_ms), |tx, r| async move { suppress::suppress(&tx, &r.0, r.1, r.2).await })
        })
    }

    fn unsuppress(
        &self,
        list: Vec<(Address, Option<SuppressionScope>)>,
        who: String,
        why: Option<String>,
        now_ms: i64,
    ) -> Pending<u64> {
        checked(listed::check(&list), || {
            let request = UnsuppressRequest { list, who, why, now_ms };
            self.write(request, |tx, request| async move { suppress::unsuppress(&tx, &request).await })
        })
    }

    fn strike(&self, list: Vec<Strike>, now_ms: i64) -> Pending<Vec<Struck>> {
        checked(listed::check(&list), || {
            self.write((list, now_ms), |tx, r| async move { suppress::strike(&tx, &r.0, r.1).await })
        })
    }

    fn forgive(&self, list: Vec<Address>) -> Pending<u64> {
        checked(listed::check(&list), || {
            self.write(list, |tx, list| async move { suppress::forgive(&tx, &list).await })
        })
    }

    fn struck(&self, after: Option<String>, limit: u32) -> Pending<Vec<String>> {
        self.read((after, limit), |tx, r| async move { suppressed::struck(&tx, r.0.as_deref(), r.1).await })
    }

    fn suppressed_keys(&self, after: Option<String>, limit: u32) -> Pending<Vec<String>> {
        self.read((after, limit), |tx, r| async move { suppressed::keys(&tx, r.0.as_deref(), r.1).await })
    }

    fn suppressed(&self, list: Vec<Address>, stream: Arc<str>, now_ms: i64) -> Pending<Vec<Option<Suppression>>> {
        self.read((list, stream, now_ms), |tx, r| async move { suppressed::suppressed(&tx, &r.0, &r.1, r.2).await })
    }

    fn suppressions_of(&self, address: Address, now_ms: i64) -> Pending<Vec<Suppression>> {
        self.read((address, now_ms), |tx, r| async move { suppressed::of(&tx, &r.0, r.1).await })
    }

    fn suppressions(
        &self,
        filter: SuppressionFilter,
        after: Option<SuppressionCursor>,
        limit: u32,
        now_ms: i64,
    ) -> Pending<Vec<Suppression>> {
        self.read((filter, after, limit, now_ms), |tx, r| async move {
            suppressed::list(&tx, &r.0, r.1.as_ref(), r.2, r.3).await
        })
    }

    fn suppression_counts(&self, now_ms: i64) -> Pending<Vec<(SuppressionScope, SuppressionReason, u64)>> {
        self.read(now_ms, |tx, now_ms| async move { suppressed::counts(&tx, *now_ms).await })
    }

    fn suppression_changes(&self, since: i64, limit: u32) -> Pending<SuppressionChanges> {
        self.read((since, limit), |tx, r| async move { suppressed::changes(&tx, r.0, r.1).await })
    }

    fn suppression_history(&self, address: Address, limit: u32) -> Pending<Vec<SuppressionChange>> {
        self.read((address, limit), |tx, r| async move { suppressed::history(&tx, &r.0, r.1).await })
    }

    fn report(&self, later: LaterReport) -> Pending<Reported> {
        checked(listed::check_report(&later), || {
            self.write(later, |tx, later| async move { report::report(&tx, &later).await })
        })
    }
}

impl Streams for PostgresStore {
    fn due_digests(&self, now_ms: i64, limit: u32, items: u32) -> Pending<Vec<Digest>> {
        self.read((now_ms, limit, items), |tx, r| async move { digest::due(&tx, r.0, r.1, r.2).await })
    }

    fn next_digest_ms(&self) -> Pending<Option<i64>> {
        self.read((), |tx, _| async move { digest::next_ms(&tx).await })
    }

    fn finish_digest(&self, id: DigestId, max: u32, now_ms: i64) -> Pending<u64> {
        self.write((id, max, now_ms), |tx, r| async move { digest::finish(&tx, r.0, r.1, r.2).await })
    }

    fn warn_late(&self, late: Vec<Late>, now_ms: i64) -> Pending<u64> {
        if late.is_empty() {
            return Pending::ready(Ok(0));
        }
        self.write((late, now_ms), |tx, r| async move { digest::warn_late(&tx, &r.0, r.1).await })
    }

    fn next_expiry_ms(&self) -> Pending<Option<i64>> {
        self.read((), |tx, _| async move { digest::next_expiry_ms(&tx).await })
    }
}

impl Returns for PostgresStore {
    fn keep_returned(&self, mail: NewReturned) -> Pending<Kept> {
        checked(engine::check(&mail), || self.write(mail, |tx, mail| async move { returned::keep(&tx, &mail).await }))
    }

    fn returned_due(&self, now_ms: i64, limit: u32) -> Pending<Vec<Returned>> {
        self.read((now_ms, limit), |tx, r| async move { returned::due(&tx, r.0, r.1).await })
    }

    fn settle_returned(&self, id: i64, fate: ReturnedFate) -> Pending<u64> {
        let note = engine::note(&fate);
        self.write((id, fate, note), |tx, r| async move { returned::settle(&tx, r.0, &r.1, r.2.as_deref()).await })
    }

    fn returned_list(&self, list: ReturnedList, before: Option<i64>, limit: u32) -> Pending<Vec<ReturnedView>> {
        self.read((list, before, limit), |tx, r| async move { returned::list(&tx, r.0, r.1, r.2).await })
    }

    fn returned_content(&self, id: i64) -> Pending<Bytes> {
        self.read(id, |tx, id| async move { returned::content(&tx, *id).await })
    }

    fn forget_returned(&self, list: ReturnedList, id: Option<i64>) -> Pending<u64> {
        self.write((list, id), |tx, r| async move { returned::forget(&tx, r.0, r.1).await })
    }

    fn mailbox_place(&self, name: String) -> Pending<Option<MailboxPlace>> {
        self.read(name, |tx, name| async move { returned::mailbox_place(&tx, &name).await })
    }

    fn move_mailbox(&self, name: String, place: MailboxPlace) -> Pending<u64> {
        checked(engine::check_mailbox(&name), || {
            self.write((name, place), |tx, r| async move { returned::move_mailbox(&tx, &r.0, r.1).await })
        })
    }

    fn traced(&self, trace: Trace) -> Pending<Vec<MessageId>> {
        self.read(trace, |tx, trace| async move { returned::traced(&tx, &trace).await })
    }
}

impl Records for PostgresStore {
    fn write_records(&self, list: Vec<RecordWrite>) -> Pending<Vec<RecordWritten>> {
        match recorded::encode(list) {
            Ok(list) if list.is_empty() => Pending::ready(Ok(Vec::new())),
            Ok(list) => self.write(list, |tx, list| async move { records::write(&tx, &list).await }),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn records(&self, query: RecordQuery) -> Pending<Vec<Record>> {
        self.read(query, |tx, query| async move { records::list(&tx, &query).await })
    }

    fn prune_records(&self, kind: RecordKind, before_ms: i64, keep: u32) -> Pending<u64> {
        self.write((kind, before_ms, keep), |tx, r| async move { records::prune(&tx, r.0, r.1, r.2).await })
    }
}
