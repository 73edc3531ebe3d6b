//! The verbs of the store: one transaction each. Every engine implements all of them.

mod batches;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use proto::Address;
use tokio::sync::{Notify, oneshot};

pub use batches::Batches;

use crate::model::*;
use crate::settings::{Document, Expected, Kind, SecretChange};

mod figures;

pub use figures::Figures;

mod hooks;

pub use hooks::Hooks;

mod nodes;

pub use nodes::Nodes;

mod records;

pub use records::Records;

mod returned;

pub use returned::Returns;

mod search;

pub use search::Search;

mod shares;

pub use shares::Shares;

/// Why the store could not do it. Each kind deserves its own answer to the client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk: 452 4.3.1, HTTP 507.
    #[error("no room on the disk")]
    Full,
    /// A write or fsync failed: nothing is accepted until the store is opened and verified again. 451 4.3.0, HTTP 503.
    #[error("store is unhealthy: {0}")]
    Unhealthy(String),
    /// The database cannot be reached, or may not be written: nothing is accepted until it can be used again. 451 4.3.0, HTTP 503.
    #[error("the database cannot be used: {0}")]
    Away(String),
    /// More is waiting for the writer than is allowed. 451 4.3.2, HTTP 503.
    #[error("store is overloaded")]
    Overloaded,
    /// Stored octets do not match their hash.
    #[error("stored content is damaged: {0}")]
    Damaged(String),
    /// No such thing.
    #[error("not found")]
    NotFound,
    /// The request makes no sense, in words for people.
    #[error("{0}")]
    Invalid(String),
    /// The store is closed.
    #[error("store is closed")]
    Closed,
    /// A defect or an unexpected database error.
    #[error("store error: {0}")]
    Internal(String),
}

/// A result on its way.
#[must_use = "a store verb has no outcome until it is awaited"]
pub struct Pending<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Pending<T> {
    /// A pending result and the end that fulfils it.
    pub fn channel() -> (oneshot::Sender<Result<T, StoreError>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }
    /// A result that is known at once.
    pub fn ready(result: Result<T, StoreError>) -> Self {
        let (sender, pending) = Self::channel();
        let _ = sender.send(result);
        pending
    }
    /// Waits outside of async code (command line, tests).
    pub fn wait(self) -> Result<T, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|result| result.unwrap_or(Err(StoreError::Closed)))
    }
}

/// Taking messages in.
pub trait Intake: Send + Sync {
    /// Makes a message durable: content, message, recipients, `Accepted` (and `Held`/`Suppressed`) events, in one transaction.
    fn accept(&self, message: NewMessage) -> Pending<Accepted>;
    /// A new message id; never the same twice, growing.
    fn next_id(&self, now_ms: i64) -> MessageId;
    /// `Err` if a message would be refused now; cheap, for MAIL and for health pages.
    fn ready(&self) -> Result<(), StoreError>;
}

/// Working through the queue.
pub trait Queue: Send + Sync {
    /// Registers a run of a node and takes back what earlier runs of the same node held. Gives the number taken back.
    fn start_run(&self, node: &str, now_ms: i64) -> Pending<(Incarnation, u64)>;
    /// Leases due recipients.
    fn claim(&self, request: ClaimRequest) -> Pending<Claimed>;
    /// Rung when others, on other nodes, may have made work: it is worth a look. `None`: there are no others.
    fn bell(&self) -> Option<Arc<Notify>> {
        None
    }
    /// Records an attempt: states, events and lanes in one transaction. Gives how many recipients it changed; ones that
    /// are not leased by `by`, or since it lost them once, are left alone. An operator's wish made meanwhile (hold, cancel) wins over `Deferred`/`Returned`.
    fn settle(&self, settlement: Settlement) -> Pending<u32>;
    /// Gives back leases that were not attempted (`Returned` for many messages at once), due as given.
    fn give_back(&self, by: Incarnation, recipients: Vec<(RecipientId, i64)>) -> Pending<u32>;
    /// The content, checked against its hash. A mismatch quarantines the message (held, event) and is `Damaged`.
    fn content(&self, id: MessageId) -> Pending<Bytes>;
    /// Expires waiting recipients whose time is over, at most `max`; gives their number.
    fn expire(&self, now_ms: i64, max: u32) -> Pending<u32>;
    /// Applies an operator's wish to all selected recipients that are not final; gives their number. Leased ones get it when
    /// they are settled, unless they are delivered or failed by then. `who` goes into the events.
    ///
    /// A hold that is nobody's (`who` is empty) does not take the place of one that was noted before; a retry that is nobody's
    /// leaves mail alone that is not to be sent yet. What is released before its time goes on waiting for that.
    fn operate(&self, selector: Selector, operation: Operation, who: String, now_ms: i64) -> Pending<u64>;
    /// Releases at most `most` (1 to 10,000) of the selected recipients that are held, oldest first; gives their number. What was held that way did not age: a message whose time is over, or nearly, gets a day more, unless
    /// somebody asked for its end. Mail that is not to be sent yet goes on waiting for its time.
    fn let_go(&self, selector: Selector, most: u32, who: String, now_ms: i64) -> Pending<u64>;
}

/// Looking.
pub trait Browse: Send + Sync {
    /// Recipients that match, oldest message first, after the cursor, at most `limit` (1 to 1,000). Without a state: the non-final ones.
    fn recipients(&self, selector: Selector, after: Option<RecipientId>, limit: u32) -> Pending<Vec<RecipientView>>;
    /// How many recipients match. Where each of them has to be looked up, no more than `most` are counted.
    fn count(&self, selector: Selector, most: u32) -> Pending<u64>;
    /// A message with at most `limit` recipients.
    fn message(&self, id: MessageId, limit: u32) -> Pending<MessageView>;
    /// Recipients by their names, at most 1,000; those that do not exist (any more) are left out.
    fn recipients_named(&self, names: Vec<RecipientId>) -> Pending<Vec<RecipientView>>;
    /// Events of one message, oldest first.
    fn events(&self, id: MessageId, limit: u32) -> Pending<Vec<Event>>;
    /// Events after a cursor, oldest first.
    fn events_after(&self, seq: i64, limit: u32) -> Pending<Vec<Event>>;
    /// Events after a cursor that somebody may have to be told of, oldest first: `Deferred`, `Failed`, `Expired`, `Bounced`,
    /// `Suppressed`, and `Delivered` with a word. Looks at a bounded number of events; says how far it came.
    fn notable_after(&self, seq: i64, limit: u32) -> Pending<Notable>;
    /// Events of these kinds after a cursor, oldest first. Looks at a bounded number of events; says how far it came.
    fn events_of(&self, seq: i64, kinds: Vec<EventKind>, limit: u32) -> Pending<Notable>;
    /// Where a reader of events stands; 0 for one that never moved.
    fn cursor(&self, name: &'static str) -> Pending<i64>;
    /// Queue by group, most pending first, at most `limit`.
    fn counts(&self, by: GroupBy, limit: u32) -> Pending<Vec<QueueCount>>;
    /// What [`Maintain::save_usage`] wrote down, by account.
    fn usage(&self) -> Pending<Vec<(String, String)>>;
    /// The same of accounts whose names begin so.
    fn usage_under(&self, prefix: &'static str) -> Pending<Vec<(String, String)>>;
    /// What [`Maintain::save_tls_days`] wrote down: newest day first, then by domain.
    fn tls_days(&self, which: TlsDays) -> Pending<Vec<TlsDay>>;
    /// The capture mailbox, newest first, before the cursor.
    fn captured(&self, before: Option<MessageId>, limit: u32) -> Pending<Vec<MessageView>>;
}

/// Settings in the store.
pub trait Settings: Send + Sync {
    /// All documents of a kind, by name.
    fn documents(&self, kind: Kind) -> Pending<Vec<Document>>;
    /// Creates or replaces one; gives its version.
    fn put_document(
        &self,
        kind: Kind,
        name: String,
        body: serde_json::Value,
        secret: SecretChange,
        now_ms: i64,
    ) -> Pending<i64>;
    /// The same if what is there is as expected. `None`: it is not, and nothing is written; who reads now sees what is there.
    fn put_document_if(
        &self,
        kind: Kind,
        name: String,
        body: serde_json::Value,
        secret: SecretChange,
        expected: Expected,
        now_ms: i64,
    ) -> Pending<Option<i64>>;
    /// Removes one; `NotFound` if it is not there.
    fn delete_document(&self, kind: Kind, name: String) -> Pending<()>;
    /// A number that grows with every change of any document, for cheap polling.
    fn settings_version(&self) -> Pending<i64>;
}

/// Addresses that get no mail, and what is reported after the next hop took a message. Addresses are compared by
/// [`address_key`]; times are Unix milliseconds; a suppression whose time is over does not count, removed yet or not.
pub trait Suppressions: Send + Sync {
    /// Adds suppressions, at most 1,000 at a time; each change is in the log.
    fn suppress(&self, list: Vec<Suppression>, existing: Existing, now_ms: i64) -> Pending<SuppressCount>;
    /// Removes suppressions, at most 1,000 at a time, each in one scope or in all, with who did it and why; gives how many there were.
    /// What was counted against the addresses is forgotten too.
    fn unsuppress(
        &self,
        list: Vec<(Address, Option<SuppressionScope>)>,
        who: String,
        why: Option<String>,
        now_ms: i64,
    ) -> Pending<u64>;
    /// Counts failures against addresses, at most 1,000 at a time, and suppresses those that have enough. The same failure told again
    /// changes nothing. Changes an existing suppression like [`Existing::Keep`].
    fn strike(&self, list: Vec<Strike>, now_ms: i64) -> Pending<Vec<Struck>>;
    /// Forgets what was counted against addresses: mail was delivered to them.
    fn forgive(&self, list: Vec<Address>) -> Pending<u64>;
    /// Keys ([`address_key`]) of addresses that something is counted against, in order, after the given one, at most `limit` (1 to
    /// 50,000).
    fn struck(&self, after: Option<String>, limit: u32) -> Pending<Vec<String>>;
    /// Keys of suppressed addresses, whatever the scope and the time left, in order, after the given one, at most `limit` (1 to
    /// 50,000).
    fn suppressed_keys(&self, after: Option<String>, limit: u32) -> Pending<Vec<String>>;
    /// What stops mail of a stream to each of these addresses, in their order.
    fn suppressed(&self, list: Vec<Address>, stream: Arc<str>, now_ms: i64) -> Pending<Vec<Option<Suppression>>>;
    /// All that stops mail to an address, whatever the stream.
    fn suppressions_of(&self, address: Address, now_ms: i64) -> Pending<Vec<Suppression>>;
    /// Suppressions that match, in order of address and scope, after the cursor, at most `limit` (1 to 1,000).
    fn suppressions(
        &self,
        filter: SuppressionFilter,
        after: Option<SuppressionCursor>,
        limit: u32,
        now_ms: i64,
    ) -> Pending<Vec<Suppression>>;
    /// How many suppressions there are, by scope and reason.
    fn suppression_counts(&self, now_ms: i64) -> Pending<Vec<(SuppressionScope, SuppressionReason, u64)>>;
    /// Changes of the list after a cursor, oldest first, at most `limit` (1 to 1,000).
    fn suppression_changes(&self, since: i64, limit: u32) -> Pending<SuppressionChanges>;
    /// Changes about one address, oldest first; of more than `limit` the latest.
    fn suppression_history(&self, address: Address, limit: u32) -> Pending<Vec<SuppressionChange>>;
    /// Records what was heard of a message later: its event, even if its content is gone, and for what is final (a hard
    /// bounce, a complaint) the state of a recipient that was delivered. Once for each key.
    fn report(&self, report: LaterReport) -> Pending<Reported>;
}

/// How long the content of a message that was not delivered to everybody is kept at least, milliseconds: a notice returns
/// its header.
pub const RETURN_MS: i64 = 600_000;

/// How long things are kept after they are final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Content of messages without pending recipients, milliseconds; 0: dropped in the transaction that settles the last one,
    /// unless one failed ([`RETURN_MS`]).
    pub content_ms: i64,
    /// Messages and their events, milliseconds.
    pub events_ms: i64,
    /// Capture mailbox, milliseconds.
    pub captured_ms: i64,
    /// Streams that differ.
    pub streams: Arc<[StreamRetention]>,
}

/// What a stream keeps for another time than the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRetention {
    /// The stream.
    pub stream: Arc<str>,
    /// As [`Retention::content_ms`].
    pub content_ms: Option<i64>,
    /// As [`Retention::events_ms`].
    pub events_ms: Option<i64>,
}

impl Retention {
    /// How long the content of a stream's messages is kept, milliseconds.
    pub fn content_ms_of(&self, stream: &str) -> i64 {
        let own = self.streams.iter().find(|own| *own.stream == *stream);
        own.and_then(|own| own.content_ms).unwrap_or(self.content_ms)
    }
}

/// How long changes of suppressions are kept, milliseconds: who reads them less often has to read the whole list again.
pub const CHANGES_MS: i64 = 400 * 86_400_000;
/// How long a failure counts against an address at most, days.
pub const STRIKE_DAYS: u32 = 90;

/// Keeping the store in order.
pub trait Maintain: Send + Sync {
    /// Removes what is past its time, in small steps; gives the number of messages removed.
    fn retain(&self, retention: Retention, now_ms: i64) -> Pending<u64>;
    /// Remembers where a reader of events stands: everything up to here is done with.
    fn move_cursor(&self, name: &'static str, seq: i64) -> Pending<u64>;
    /// Writes down what accounts have used of their limits, text without meaning to the store; `None` forgets one.
    fn save_usage(&self, rows: Vec<(String, Option<String>)>) -> Pending<u64>;
    /// Writes down what was seen of domains' TLS, text without meaning to the store, and forgets what is older than `before_day`.
    fn save_tls_days(&self, rows: Vec<TlsDay>, before_day: i64) -> Pending<u64>;
    /// A consistent copy while running, into a directory that does not exist or is empty.
    fn backup(&self, to: PathBuf) -> Pending<u64>;
    /// Checks structure (and every stored content, if `deep`); gives the problems found.
    fn verify(&self, deep: bool) -> Pending<Vec<String>>;
    /// Finishes what is queued and closes; further verbs are `Closed`.
    fn close(&self) -> Pending<()>;
}

/// What streams need beside the queue: digests and deadlines. A digest's window is opened, and its mail collected, by
/// [`Intake::accept`].
pub trait Streams: Send + Sync {
    /// Digests whose window is over and that have mail, oldest first, at most `limit`; each with at most `items` of its
    /// oldest mails and the latest.
    fn due_digests(&self, now_ms: i64, limit: u32, items: u32) -> Pending<Vec<Digest>>;
    /// When the next window with mail ends, Unix milliseconds.
    fn next_digest_ms(&self) -> Pending<Option<i64>>;
    /// Ends at most `max` of the mails that a sent digest tells of: `Suppressed` with the digest's name. Gives how many are
    /// left; those that somebody took out of the digest are not touched. A digest that was not sent and of which nothing is
    /// held any more is forgotten.
    fn finish_digest(&self, digest: DigestId, max: u32, now_ms: i64) -> Pending<u64>;
    /// Records that recipients will be late: one `WillBeLate` for each that is not final and was not told before. Gives how
    /// many were told.
    fn warn_late(&self, late: Vec<Late>, now_ms: i64) -> Pending<u64>;
    /// When [`Queue::expire`] has something to do, Unix milliseconds.
    fn next_expiry_ms(&self) -> Pending<Option<i64>>;
}

/// All of it.
pub trait Store:
    Intake
    + Queue
    + Browse
    + Settings
    + Suppressions
    + Maintain
    + Hooks
    + Batches
    + Returns
    + Streams
    + Records
    + Nodes
    + Figures
    + Search
    + Shares
{
}
impl<
    T: Intake
        + Queue
        + Browse
        + Settings
        + Suppressions
        + Maintain
        + Hooks
        + Batches
        + Returns
        + Streams
        + Records
        + Nodes
        + Figures
        + Search
        + Shares,
> Store for T
{
}
