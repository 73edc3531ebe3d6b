//! Commands to the writer and the bounded queue they wait in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::batch::BatchCommand;
use super::encode::Wish;
use super::fault::Fault;
use super::hooks::HookChange;
use super::records::RecordWork;
use super::returned::ReturnedChange;
use super::segment::Place;
use super::sought::SoughtStep;
use super::suppress::UnsuppressRequest;
use crate::model::*;
use crate::settings::{Expected, Kind};
use crate::verbs::Retention;
use crate::{Pending, StoreError};

/// A command with its answer to be.
pub(super) struct Job<R, T> {
    pub(super) request: R,
    answer: Option<Result<T, StoreError>>,
    sender: oneshot::Sender<Result<T, StoreError>>,
}

impl<R, T> Job<R, T> {
    pub(super) fn new(request: R) -> (Self, Pending<T>) {
        let (sender, pending) = Pending::channel();
        (Self { request, answer: None, sender }, pending)
    }
    /// Remembers the answer; it is given when the batch is durable.
    fn answer(&mut self, answer: Result<T, StoreError>) {
        self.answer = Some(answer);
    }
    /// Remembers what came of it. A refusal is an answer; another fault is the batch's.
    pub(super) fn settle(&mut self, outcome: Result<T, Fault>) -> Result<(), Fault> {
        match outcome {
            Ok(value) => self.answer(Ok(value)),
            Err(Fault::Command(error @ (StoreError::NotFound | StoreError::Invalid(_) | StoreError::Closed))) => {
                self.answer(Err(error));
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }
    pub(super) fn finish(self, outcome: Result<(), StoreError>) {
        let answer = match outcome {
            Ok(()) => self.answer.unwrap_or_else(|| Err(StoreError::Internal("a command got no answer".into()))),
            Err(error) => Err(error),
        };
        let _ = self.sender.send(answer);
    }
}

/// A message with what could be computed before the writer has it.
pub(super) struct AcceptRequest {
    pub(super) new: NewMessage,
    pub(super) hash: [u8; 32],
    pub(super) parameters: Option<String>,
    pub(super) details: Option<String>,
    pub(super) place: Option<Place>,
}

/// A settlement with its attempt as it will be stored.
pub(super) struct SettleRequest {
    pub(super) settlement: Settlement,
    pub(super) attempt: Option<String>,
}

/// Recipients found for an operator, to be changed unless they changed meanwhile.
pub(super) struct OperateRequest {
    pub(super) ids: Vec<RecipientId>,
    pub(super) state: Option<State>,
    pub(super) wish: Wish,
    pub(super) aging: Aging,
    pub(super) now_ms: i64,
}

/// Whether the time counts in which a recipient was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aging {
    /// It grew older.
    Counts,
    /// It did not.
    Stood,
}

/// A document to write.
pub(super) struct PutRequest {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) body: String,
    pub(super) secret: SealedChange,
    pub(super) now_ms: i64,
}

/// [`crate::settings::SecretChange`], sealed.
pub(super) enum SealedChange {
    Keep,
    Set(Vec<u8>),
    Clear,
}

/// A step of keeping the store in order.
pub(super) enum Upkeep {
    /// From now on this is how long things are kept.
    Retention(Retention),
    /// Drops contents that are past their time.
    Contents(Past),
    /// Drops captured contents that are past their time.
    Captured { before_ms: i64 },
    /// Removes messages with their events.
    Messages(Past),
    /// Forgets digests' windows that collected nothing.
    Windows { before_ms: i64 },
    /// Removes idempotency keys.
    Keys { before_ms: i64 },
    /// Removes lanes nobody used for long.
    Lanes { before_ms: i64 },
    /// Removes rows of batches that are past their time or were never committed, then the batches.
    Batches { before_ms: i64 },
    /// Remembers where a reader of events stands.
    Cursor { name: &'static str, seq: i64 },
    /// Writes down what accounts have used of their limits.
    Usage { rows: Vec<(String, Option<String>)> },
    /// Writes down what was seen of domains' TLS, and forgets old days.
    TlsDays { rows: Vec<TlsDay>, before_day: i64 },
    /// Removes entries of the webhooks' delivery log.
    Deliveries { before_ms: i64 },
    /// Removes suppressions whose time is over.
    Suppressions { now_ms: i64 },
    /// Removes changes of suppressions from their log.
    Changes { before_ms: i64 },
    /// Removes what was counted against addresses long ago.
    Strikes { before_ms: i64 },
    /// Forgets what was counted against addresses.
    Forgive { list: Vec<proto::Address> },
    /// Removes keys of later reports.
    Reports { before_ms: i64 },
    /// Removes kept mail that came back.
    Returned { before_ms: i64 },
    /// Adds keys of messages to what searches look into.
    Sought(SoughtStep),
    /// Copies contents to the current segment.
    Move { from: i64, contents: Vec<Moved> },
}

/// Which messages are past their time.
#[derive(Debug, Clone)]
pub(super) struct Past {
    /// Final not before, Unix milliseconds: earlier ones were looked at already.
    pub(super) after_ms: i64,
    /// Final before, Unix milliseconds.
    pub(super) before_ms: i64,
    /// Of which streams.
    pub(super) of: Of,
}

/// Which streams are meant.
#[derive(Debug, Clone)]
pub(super) enum Of {
    /// All but these.
    AllBut(Vec<Arc<str>>),
    /// This one.
    Stream(Arc<str>),
}

/// A content on its way from a sparse segment.
pub(super) struct Moved {
    pub(super) message: MessageId,
    pub(super) from: Place,
    pub(super) content: Vec<u8>,
    pub(super) to: Option<Place>,
}

/// Suppressions to add, and when.
pub(super) type SuppressJob = Job<(Vec<Suppression>, Existing, i64), SuppressCount>;
/// Failures that count against addresses, and when they are told.
pub(super) type StrikeJob = Job<(Vec<Strike>, i64), Vec<Struck>>;

/// What the writer does.
pub(super) enum Command {
    Accept(Box<Job<AcceptRequest, Accepted>>),
    Settle(Box<Job<SettleRequest, u32>>),
    Claim(Box<Job<ClaimRequest, Claimed>>),
    GiveBack(Job<(Incarnation, Vec<(RecipientId, i64)>), u32>),
    StartRun(Job<(String, i64), (Incarnation, u64)>),
    Expire(Job<(i64, u32), u32>),
    FinishDigest(Job<(DigestId, u32, i64), u64>),
    WarnLate(Job<(Vec<Late>, i64), u64>),
    Operate(Box<Job<OperateRequest, u64>>),
    Quarantine(Job<(MessageId, i64, String), ()>),
    Put(Box<Job<PutRequest, i64>>),
    PutIf(Box<Job<(PutRequest, Expected), Option<i64>>>),
    Delete(Job<(Kind, String), ()>),
    Suppress(Box<SuppressJob>),
    Unsuppress(Box<Job<UnsuppressRequest, u64>>),
    Strike(Box<StrikeJob>),
    Report(Box<Job<LaterReport, Reported>>),
    Upkeep(Job<Upkeep, u64>),
    Hook(Box<Job<HookChange, i64>>),
    KeepReturned(Box<Job<NewReturned, Kept>>),
    Returned(Box<Job<ReturnedChange, u64>>),
    Records(Box<RecordWork>),
    Batch(Box<BatchCommand>),
    Close(Job<(), ()>),
}

/// Calls the same method on whatever job a command holds.
macro_rules! each_job {
    ($command:expr, $job:ident => $body:expr) => {
        match $command {
            Command::Accept($job) => $body,
            Command::Settle($job) => $body,
            Command::Claim($job) => $body,
            Command::GiveBack($job) => $body,
            Command::StartRun($job) => $body,
            Command::Expire($job) => $body,
            Command::FinishDigest($job) => $body,
            Command::WarnLate($job) => $body,
            Command::Operate($job) => $body,
            Command::Quarantine($job) => $body,
            Command::Put($job) => $body,
            Command::PutIf($job) => $body,
            Command::Delete($job) => $body,
            Command::Suppress($job) => $body,
            Command::Unsuppress($job) => $body,
            Command::Strike($job) => $body,
            Command::Report($job) => $body,
            Command::Upkeep($job) => $body,
            Command::Hook($job) => $body,
            Command::KeepReturned($job) => $body,
            Command::Returned($job) => $body,
            Command::Records($job) => $body,
            Command::Batch($job) => $body,
            Command::Close($job) => $body,
        }
    };
}

impl Command {
    /// Octets of content it brings.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Command::Accept(job) => job.request.new.content.len(),
            Command::Upkeep(job) => match &job.request {
                Upkeep::Move { contents, .. } => contents.iter().map(|moved| moved.content.len()).sum(),
                _ => 0,
            },
            Command::Batch(job) => job.bytes(),
            Command::KeepReturned(job) => job.request.content.len(),
            _ => 0,
        }
    }
    /// It may be refused when too much is waiting: nothing is lost but time.
    fn can_wait(&self) -> bool {
        matches!(self, Command::Accept(_) | Command::Put(_) | Command::Operate(_) | Command::Suppress(_))
            || matches!(self, Command::PutIf(_) | Command::KeepReturned(_))
            || self.brings_rows()
    }
    fn brings_rows(&self) -> bool {
        matches!(self, Command::Batch(job) if job.bytes() > 0)
    }
    /// Answers: the remembered answer, or the batch's error.
    pub(super) fn finish(mut self, outcome: Result<(), StoreError>) {
        // A close is never part of a batch.
        if let Command::Close(job) = &mut self {
            job.answer(Ok(()));
        }
        each_job!(self, job => job.finish(outcome));
    }
    /// Runs it on the batch's transaction and remembers its answer.
    pub(super) fn apply(&mut self, work: &mut super::work::Work<'_>) -> Result<(), Fault> {
        macro_rules! run {
            ($job:expr, $call:expr) => {{
                let outcome = $call;
                $job.settle(outcome)?;
            }};
        }
        match self {
            Command::Accept(job) => run!(job, work.accept(&job.request)),
            Command::Settle(job) => run!(job, work.settle(&job.request)),
            Command::Claim(job) => run!(job, work.claim(&job.request)),
            Command::GiveBack(job) => run!(job, work.give_back(job.request.0, &job.request.1)),
            Command::StartRun(job) => run!(job, work.start_run(&job.request.0, job.request.1)),
            Command::Expire(job) => run!(job, work.expire(job.request.0, job.request.1)),
            Command::FinishDigest(job) => {
                let (digest, max, now_ms) = job.request;
                run!(job, work.finish_digest(digest, max, now_ms));
            }
            Command::WarnLate(job) => run!(job, work.warn_late(&job.request.0, job.request.1)),
            Command::Operate(job) => run!(job, work.operate(&job.request)),
            Command::Quarantine(job) => run!(job, work.quarantine(job.request.0, job.request.1, &job.request.2)),
            Command::Put(job) => run!(job, work.put_document(&job.request)),
            Command::PutIf(job) => run!(job, work.put_document_if(&job.request.0, job.request.1)),
            Command::Delete(job) => run!(job, work.delete_document(job.request.0, &job.request.1)),
            Command::Suppress(job) => {
                let (list, existing, now_ms) = &job.request;
                run!(job, work.suppress(list, *existing, *now_ms));
            }
            Command::Unsuppress(job) => run!(job, work.unsuppress(&job.request)),
            Command::Strike(job) => run!(job, work.strike(&job.request.0, job.request.1)),
            Command::Report(job) => run!(job, work.report(&job.request)),
            Command::Upkeep(job) => run!(job, work.upkeep(&job.request)),
            Command::Hook(job) => run!(job, work.hook(&job.request)),
            Command::KeepReturned(job) => run!(job, work.keep_returned(&job.request)),
            Command::Returned(job) => run!(job, work.change_returned(&job.request)),
            Command::Records(job) => job.apply(work)?,
            Command::Batch(job) => job.apply(work)?,
            Command::Close(_) => {}
        }
        Ok(())
    }
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Command>,
    bytes: usize,
    closed: bool,
}

/// Limits of the queue and of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) commands: usize,
    pub(super) bytes: usize,
    pub(super) batch_commands: usize,
    pub(super) batch_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commands: 20_000, bytes: 256 << 20, batch_commands: 1_000, batch_bytes: 16 << 20 }
    }
}

/// Commands waiting for the writer.
pub(super) struct CommandQueue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    limits: Limits,
}

impl CommandQueue {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), arrived: Condvar::new(), limits })
    }

    /// Adds a command; one that finds no room is answered at once.
    pub(super) fn push(&self, command: Command) {
        let bytes = command.bytes();
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return command.finish(Err(StoreError::Closed));
        }
        // A message larger than the limit alone may still pass when nothing else waits.
        let crowded = waiting.commands.len() >= self.limits.commands
            || (waiting.bytes > 0 && waiting.bytes + bytes > self.limits.bytes);
        if crowded && command.can_wait() {
            drop(waiting);
            return command.finish(Err(StoreError::Overloaded));
        }
        waiting.closed = matches!(command, Command::Close(_));
        waiting.bytes += bytes;
        waiting.commands.push_back(command);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Refuses everything from now on and gives what was waiting.
    pub(super) fn close(&self) -> VecDeque<Command> {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.bytes = 0;
        std::mem::take(&mut waiting.commands)
    }

    /// True if an accept would be `Overloaded` now, or `Closed`.
    pub(super) fn ready(&self) -> Result<(), StoreError> {
        let waiting = self.waiting.lock();
        if waiting.closed {
            return Err(StoreError::Closed);
        }
        let crowded = waiting.commands.len() >= self.limits.commands || waiting.bytes >= self.limits.bytes;
        if crowded { Err(StoreError::Overloaded) } else { Ok(()) }
    }

    /// Moves what is waiting into `batch`, within the batch's limits; waits up to `patience` for the first command.
    pub(super) fn take(&self, batch: &mut Vec<Command>, patience: Duration) {
        let mut waiting = self.waiting.lock();
        if waiting.commands.is_empty() {
            self.arrived.wait_for(&mut waiting, patience);
        }
        let mut bytes = 0;
        while batch.len() < self.limits.batch_commands {
            let Some(next) = waiting.commands.front().map(Command::bytes) else { break };
            if bytes > 0 && bytes + next > self.limits.batch_bytes {
                break;
            }
            bytes += next;
            if let Some(command) = waiting.commands.pop_front() {
                batch.push(command);
            }
        }
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
    }

    /// How many commands are waiting.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().commands.len()
    }
}
