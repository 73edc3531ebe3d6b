//! The writer thread: group commit, and what to do when the disk refuses.
//!
//! A batch is whatever waits when the last one is done: one command alone is not kept waiting, a crowd shares one
//! fdatasync of its contents and one COMMIT. Nothing is answered before both are done.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;

use super::command::{Command, Upkeep};
use super::fault::{Fault, FaultPoint};
use super::open;
use super::segment::Segments;
use super::shared::{LeasedLane, Shared};
use super::work::Work;
use crate::StoreError;
use crate::model::*;
use crate::verbs::Retention;

/// How long the thread sleeps when nothing comes; then it looks at the disk's free room.
const IDLE: Duration = Duration::from_secs(5);
/// How long between attempts to open a broken store again, and between looks at a full disk.
const AGAIN: Duration = Duration::from_secs(1);
/// A batch this large says that there is load: the next one is given a moment to grow. Measured with 100 callers: wake-ups
/// (futex calls) fell from one for each message to one in seventeen, at the same or a better rate.
const CROWD: usize = 8;
/// That moment.
const MOMENT: Duration = Duration::from_micros(300);
/// Octets written between looks at the disk's free room.
const LOOK_EVERY: u64 = 4 << 20;
/// Virtual machine steps of the check before a broken store is used again, about two seconds.
const CHECK_STEPS: i32 = 50_000_000;

/// What the thread needs to know.
pub(super) struct Setup {
    pub(super) segment_bytes: u64,
    pub(super) min_free_bytes: u64,
    pub(super) ballast_bytes: u64,
    pub(super) retention: Retention,
}

/// The thread's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    setup: Setup,
    lock: File,
    written: u64,
}

/// Why a session with one connection ended.
enum End {
    Closed(Command),
    Broken(String),
}

/// Closes the queue if the thread ends for whatever reason: nobody waits for an answer that cannot come.
struct LastWords(Arc<Shared>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_broken(Some("the writer ended by a defect"));
        }
        for command in self.0.queue.close() {
            command.finish(Err(StoreError::Closed));
        }
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, setup: Setup, lock: File) -> Self {
        Self { shared, setup, lock, written: 0 }
    }

    /// Runs until the store is closed. The first connection was opened by the caller, who wants to hear its errors.
    pub(super) fn run(mut self, connection: Connection, next_segment: i64) {
        let _last_words = LastWords(self.shared.clone());
        let mut open = Some((connection, next_segment));
        loop {
            let (connection, next_segment) = match open.take() {
                Some(opened) => opened,
                None => match self.reopen() {
                    Ok(opened) => opened,
                    Err(close) => return self.close(None, close),
                },
            };
            match self.session(&connection, next_segment) {
                End::Closed(close) => return self.close(Some(connection), close),
                End::Broken(why) => {
                    tracing::error!(%why, "the store is unhealthy: nothing is accepted until it is verified");
                    self.shared.set_broken(Some(&why));
                }
            }
        }
    }

    /// Works on one connection until it breaks or the store is closed.
    fn session(&mut self, connection: &Connection, next_segment: i64) -> End {
        let segments =
            Segments::new(self.shared.segments(), self.setup.segment_bytes, next_segment, self.shared.faults.clone());
        let started = load_leased(connection, &self.shared)
            .and_then(|()| Work::new(connection, self.shared.clone(), segments, self.setup.retention.clone()));
        let mut work = match started {
            Ok(work) => work,
            Err(Fault::Broken(why)) => return End::Broken(why),
            Err(fault) => return End::Broken(StoreError::from(fault).to_string()),
        };
        self.shared.set_broken(None);
        self.look_at_disk();
        let mut batch = Vec::new();
        let mut last_size = 0;
        loop {
            // Asleep without a lock or a wake-up for each command that arrives meanwhile.
            if last_size > CROWD && self.shared.queue.len() < last_size {
                std::thread::sleep(MOMENT);
            }
            let patience = if self.shared.low.load(Ordering::Relaxed) { AGAIN } else { IDLE };
            self.shared.queue.take(&mut batch, patience);
            last_size = batch.len();
            if batch.is_empty() {
                self.look_at_disk();
                continue;
            }
            let close = match batch.pop() {
                Some(close @ Command::Close(_)) => Some(close),
                Some(other) => {
                    batch.push(other);
                    None
                }
                None => None,
            };
            let outcome = self.process(&mut work, std::mem::take(&mut batch));
            if let Some(close) = close {
                return End::Closed(close);
            }
            if let Err(why) = outcome {
                return End::Broken(why);
            }
            self.setup.retention = work.retention.clone();
            if self.written >= LOOK_EVERY {
                self.look_at_disk();
            }
        }
    }

    /// Makes a batch durable and answers it. `Err`: the store cannot be trusted any more.
    fn process(&mut self, work: &mut Work<'_>, mut batch: Vec<Command>) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        let began_us = self.shared.counted.now_us();
        let outcome = self.place(work, &mut batch).and_then(|()| self.transact(work, &mut batch));
        match &outcome {
            Ok(()) => self.shared.counted.committed(batch.len(), began_us),
            Err(Fault::Command(_)) => {}
            Err(Fault::Full | Fault::Broken(_)) => self.shared.counted.failed(),
        }
        match outcome {
            Ok(()) => {
                answer(batch, &Ok(()));
                Ok(())
            }
            Err(Fault::Full) => self.process_full(work, batch),
            Err(Fault::Command(error)) if batch.len() == 1 => {
                answer(batch, &Err(error));
                Ok(())
            }
            // One of them is to blame: each gets a transaction of its own.
            Err(Fault::Command(_)) => self.process_singly(work, batch),
            Err(Fault::Broken(why)) => Err(self.broken(batch, why)),
        }
    }

    /// Answers a batch whose fate is unknown; whoever hears it finds the store unhealthy.
    fn broken(&self, batch: Vec<Command>, why: String) -> String {
        self.shared.set_broken(Some(&why));
        answer(batch, &Err(StoreError::Unhealthy(why.clone())));
        why
    }

    fn process_singly(&mut self, work: &mut Work<'_>, batch: Vec<Command>) -> Result<(), String> {
        let mut broken = Ok(());
        for command in batch {
            match &broken {
                Ok(()) => broken = self.process(work, vec![command]),
                Err(why) => command.finish(Err(StoreError::Unhealthy(why.clone()))),
            }
        }
        broken
    }

    /// No room: what brings more is refused, what records or removes gets the ballast's room.
    fn process_full(&mut self, work: &mut Work<'_>, batch: Vec<Command>) -> Result<(), String> {
        self.shared.low.store(true, Ordering::SeqCst);
        let (refused, mut rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(|command| {
            matches!(command, Command::Accept(_) | Command::Put(_) | Command::PutIf(_) | Command::Suppress(_))
                || command.bytes() > 0
        });
        answer(refused, &Err(StoreError::Full));
        if rest.is_empty() {
            return Ok(());
        }
        if fs::remove_file(self.ballast()).is_ok() {
            tracing::warn!("the disk is full: reserve room was given up to record outcomes");
        }
        match self.transact(work, &mut rest) {
            Ok(()) => {
                answer(rest, &Ok(()));
                Ok(())
            }
            Err(Fault::Full) => {
                answer(rest, &Err(StoreError::Full));
                Ok(())
            }
            Err(Fault::Command(_)) => self.process_singly(work, rest),
            Err(Fault::Broken(why)) => Err(self.broken(rest, why)),
        }
    }

    /// Writes the contents of a batch to the segment and syncs them.
    fn place(&mut self, work: &mut Work<'_>, batch: &mut [Command]) -> Result<(), Fault> {
        let mut contents: Vec<&[u8]> = Vec::new();
        for command in batch.iter() {
            match command {
                Command::Accept(job) if job.request.place.is_none() => contents.push(&job.request.new.content),
                Command::Upkeep(job) => {
                    if let Upkeep::Move { contents: moved, .. } = &job.request {
                        contents.extend(moved.iter().filter(|one| one.to.is_none()).map(|one| &one.content[..]));
                    }
                }
                _ => {}
            }
        }
        if contents.is_empty() {
            return Ok(());
        }
        let mut places = work.segments.append(&contents)?.into_iter();
        self.written += contents.iter().map(|content| content.len() as u64).sum::<u64>();
        for command in batch {
            match command {
                Command::Accept(job) if job.request.place.is_none() => job.request.place = places.next(),
                Command::Upkeep(job) => {
                    if let Upkeep::Move { contents: moved, .. } = &mut job.request {
                        moved.iter_mut().filter(|one| one.to.is_none()).for_each(|one| one.to = places.next());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Applies a batch in one transaction.
    fn transact(&mut self, work: &mut Work<'_>, batch: &mut [Command]) -> Result<(), Fault> {
        let outcome = self.attempt(work, batch);
        match &outcome {
            Ok(()) => work.committed(),
            Err(_) => {
                if !work.connection.is_autocommit() {
                    // If even this fails the connection is dropped with the session, which rolls back as well.
                    let _ = work.connection.execute_batch("ROLLBACK");
                }
                work.rolled_back();
            }
        }
        outcome
    }

    fn attempt(&self, work: &mut Work<'_>, batch: &mut [Command]) -> Result<(), Fault> {
        work.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for command in batch {
            command.apply(work)?;
        }
        work.flush()?;
        if self.shared.faults.take(FaultPoint::Commit) {
            return Err(Fault::Broken("injected commit error".into()));
        }
        if self.shared.faults.take(FaultPoint::CommitFull) {
            return Err(Fault::Full);
        }
        match work.connection.prepare_cached("COMMIT")?.execute([]) {
            Ok(_) => Ok(()),
            Err(error) => Err(match Fault::from(error) {
                Fault::Full => Fault::Full,
                other => Fault::Broken(StoreError::from(other).to_string()),
            }),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.shared.dir.join("ballast")
    }

    /// Compares free room with the low-water mark and looks after the ballast.
    fn look_at_disk(&mut self) {
        self.written = 0;
        let free = open::free_bytes(&self.shared.dir);
        let ballast = self.setup.ballast_bytes;
        let roomy = free > self.setup.min_free_bytes.saturating_add(2 * ballast);
        if ballast > 0
            && roomy
            && !self.ballast().exists()
            && let Err(error) = self.load_ballast()
        {
            tracing::warn!(%error, "room could not be reserved for a full disk");
        }
        let low = free < self.setup.min_free_bytes;
        if self.shared.low.swap(low, Ordering::SeqCst) != low {
            if low {
                tracing::error!(free, mark = self.setup.min_free_bytes, "too little free room: nothing is accepted");
            } else {
                tracing::info!(free, "enough free room again: messages are accepted");
            }
        }
    }

    fn load_ballast(&self) -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.ballast())?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.setup.ballast_bytes)?;
        Ok(())
    }

    /// Opens and verifies the store again, each second until it works. `Err`: the store was closed meanwhile.
    fn reopen(&mut self) -> Result<(Connection, i64), Command> {
        let mut batch = Vec::new();
        loop {
            match self.try_open() {
                Ok(opened) => {
                    tracing::info!("the store was verified and works again");
                    return Ok(opened);
                }
                Err(StoreError::Unhealthy(why)) => self.shared.set_broken(Some(&why)),
                Err(error) => self.shared.set_broken(Some(&error.to_string())),
            }
            self.shared.queue.take(&mut batch, AGAIN);
            for command in batch.drain(..) {
                match command {
                    close @ Command::Close(_) => return Err(close),
                    other => other.finish(self.shared.healthy()),
                }
            }
        }
    }

    fn try_open(&self) -> Result<(Connection, i64), StoreError> {
        if self.shared.faults.take(FaultPoint::Reopen) {
            return Err(StoreError::Unhealthy("injected open error".into()));
        }
        let mut connection = open::writer(&self.shared.database(), 0)?;
        // Frames that a failed sync left in the log may be in memory only: carried over to the database and synced there,
        // they cannot lie between frames that are answered for later.
        let busy: i64 = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(|error| StoreError::Unhealthy(error.to_string()))?;
        if busy != 0 {
            return Err(StoreError::Unhealthy("the write-ahead log is in use".into()));
        }
        open::quick_check(&mut connection, CHECK_STEPS)?;
        let next = open::tidy_segments(&connection, &self.shared.segments())?;
        Ok((connection, next))
    }

    /// Closes everything, then says so: whoever waits may open the store again at once.
    fn close(self, connection: Option<Connection>, close: Command) {
        self.shared.readers.close();
        if let Some(connection) = connection {
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            drop(connection);
        }
        drop(self.lock);
        close.finish(Ok(()));
    }
}

fn answer(batch: Vec<Command>, outcome: &Result<(), StoreError>) {
    for command in batch {
        command.finish(outcome.clone());
    }
}

/// Counts leases by lane: few, they are what runs hold in memory.
fn load_leased(connection: &Connection, shared: &Shared) -> Result<(), Fault> {
    let mut statement = connection.prepare(
        "SELECT lane.id, route, domain, lane.sender, lane.stream, lane.priority, count(*)
         FROM message INDEXED BY message_open CROSS JOIN recipient ON recipient.message = message.id
             CROSS JOIN lane ON lane.id = recipient.lane
         WHERE pending > 0 AND (leased > 0) = 1 AND state = 1 GROUP BY lane.id",
    )?;
    let mut rows = statement.query([])?;
    let mut leased = shared.leased.lock();
    leased.clear();
    while let Some(row) = rows.next()? {
        let lane = Arc::new(super::claim::read_lane(row, 0)?);
        leased.insert(lane.id, LeasedLane { lane, count: row.get(6)? });
    }
    Ok(())
}

/// The latest message id, so that new ones are larger.
pub(super) fn last_id(connection: &Connection) -> Result<MessageId, StoreError> {
    connection
        .query_row("SELECT coalesce(max(id), 0) FROM message", [], |row| row.get(0))
        .map(MessageId)
        .map_err(|error| StoreError::from(Fault::from(error)))
}
