//! A transaction, and how a verb is run in one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::Object;
use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::fault::Fault;
use super::pool::{self, Manager};
use super::shared::Shared;
use super::unit::Unit;
use crate::StoreError;

/// How often a verb is tried that another transaction was in the way of.
const TRIES: u32 = 6;
/// The pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a transaction that failed may take to end.
const ROLLBACK: Duration = Duration::from_secs(2);
/// How long the server may take to give up a commit.
const CANCEL: Duration = Duration::from_secs(5);
const WRITE: &str = "BEGIN";
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A value for a statement.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// A statement with its values.
pub(super) type Step<'a> = (&'a str, &'a [Value<'a>]);

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each statement sees what was committed before it.
    Write,
    /// All statements see one moment, and change nothing.
    Snapshot,
}

/// A transaction in progress. Dropped before its end, it takes its connection with it, and the server undoes it.
pub(super) struct Tx {
    connection: Option<Object<Manager>>,
    pub(super) shared: Arc<Shared>,
    mode: Mode,
    begun: AtomicBool,
    /// A statement failed: there is nothing left to commit.
    failed: AtomicBool,
    /// Nothing is to be asked on this connection any more.
    spoiled: AtomicBool,
    /// Statements may take as long as they need.
    patient: AtomicBool,
    pub(super) unit: Mutex<Unit>,
}

impl Tx {
    async fn new(shared: &Arc<Shared>, mode: Mode) -> Result<Self, Fault> {
        let connection = pool::take(&shared.pool).await?;
        Ok(Self {
            connection: Some(connection),
            shared: shared.clone(),
            mode,
            begun: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            spoiled: AtomicBool::new(false),
            patient: AtomicBool::new(false),
            unit: Mutex::default(),
        })
    }

    fn connection(&self) -> Result<&Object<Manager>, Fault> {
        self.connection.as_ref().ok_or(Fault::Command(StoreError::Closed))
    }

    /// Notes that a statement failed.
    fn noted<T>(&self, result: Result<T, impl Into<Fault>>) -> Result<T, Fault> {
        result.map_err(|error| {
            self.failed.store(true, Ordering::Relaxed);
            error.into()
        })
    }

    /// Gives up this connection, and whatever else is open to its host.
    fn leave(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
        if let Some(connection) = &self.connection {
            self.shared.pool.manager().leave(connection.choice);
        }
    }

    /// What is sent before the first statement; nothing before the others.
    fn begin(&self, connection: &Object<Manager>) -> &'static [&'static str] {
        if self.begun.swap(true, Ordering::Relaxed) {
            return &[];
        }
        match (self.mode, connection.plans.are_old(Object::metrics(connection).age())) {
            (Mode::Write, false) => &[WRITE],
            (Mode::Write, true) => &[WRITE, pool::FORGET_PLANS],
            (Mode::Snapshot, false) => &[SNAPSHOT],
            (Mode::Snapshot, true) => &[SNAPSHOT, pool::FORGET_PLANS],
        }
    }

    /// From here on statements may take as long as they need.
    pub(super) async fn take_time(&self) -> Result<(), Fault> {
        self.execute("SET LOCAL statement_timeout TO 0", &[]).await?;
        self.patient.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// An answer of the server, which ends statements that take too long by itself as long as it is well.
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        if self.patient.load(Ordering::Relaxed) {
            return asked.await;
        }
        let patience = self.shared.pool.manager().session.patience();
        let answered = tokio::time::timeout(patience, asked).await;
        self.noted(answered.unwrap_or_else(|_| {
            self.leave();
            Err(Fault::silent())
        }))
    }

    /// Rows of a statement. The statement is prepared once for each connection.
    pub(super) async fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        self.answer(self.ask(sql, values)).await
    }

    async fn ask(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let connection = self.connection()?;
        let statement = self.noted(connection.prepare(sql).await)?;
        let client = &connection.client;
        let mut begin = Vec::new();
        for sql in self.begin(connection) {
            begin.push(self.noted(connection.prepare(sql).await)?);
        }
        // All go out together: no round trip for the beginning.
        let begin = join_all(begin.iter().map(|statement| client.execute(statement, &[])));
        let (begun, rows) = join(begin, client.query(&statement, values)).await;
        for done in begun {
            self.noted(done)?;
        }
        self.noted(rows)
    }

    /// The first row, if there is one.
    pub(super) async fn query_opt(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<Row>, Fault> {
        Ok(self.query(sql, values).await?.into_iter().next())
    }

    /// The first row of a statement that gives one.
    pub(super) async fn query_one(&self, sql: &str, values: &[Value<'_>]) -> Result<Row, Fault> {
        let row = self.query_opt(sql, values).await?;
        row.ok_or_else(|| Fault::Command(StoreError::Internal("a statement gave no row".into())))
    }

    /// Rows changed by a statement.
    pub(super) async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, Fault> {
        let changed = self.pipeline(&[(sql, values)]).await?;
        Ok(changed.first().copied().unwrap_or(0))
    }

    /// Rows changed by several statements that are sent together: one round trip.
    pub(super) async fn pipeline(&self, steps: &[Step<'_>]) -> Result<Vec<u64>, Fault> {
        self.answer(self.send(steps)).await
    }

    async fn send(&self, steps: &[Step<'_>]) -> Result<Vec<u64>, Fault> {
        let connection = self.connection()?;
        let mut statements = Vec::with_capacity(steps.len() + 2);
        let none: &[Value<'_>] = &[];
        let begin = self.begin(connection);
        let all = begin.iter().map(|begin| (*begin, none)).chain(steps.iter().copied());
        for (sql, values) in all {
            statements.push((self.noted(connection.prepare(sql).await)?, values));
        }
        // Each is sent when it is first polled, in order.
        let sent = statements.iter().map(|(statement, values)| connection.client.execute(statement, values));
        let mut changed = Vec::with_capacity(statements.len());
        for result in join_all(sent).await {
            changed.push(self.noted(result)?);
        }
        Ok(changed.split_off(begin.len()))
    }

    /// Writes what is staged, and commits. An error may mean that it was committed all the same.
    async fn commit(&self) -> Result<(), Fault> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Fault::Command(StoreError::Internal("a failed transaction was to be kept".into())));
        }
        if self.mode == Mode::Write {
            self.connection()?.take_warning();
            self.flush_in_time().await.map_err(Fault::of_commit)?;
            if let Some(warning) = self.connection()?.take_warning() {
                // "canceling wait for synchronous replication": it is on this server's disk and perhaps nowhere else. Its
                // standby may be the primary by now.
                self.begun.store(false, Ordering::Relaxed);
                self.leave();
                return Err(Fault::Unknown(format!("the commit is not safe: {warning}")));
            }
        } else if self.begun.load(Ordering::Relaxed) {
            self.pipeline(&[("COMMIT", &[])]).await?;
        }
        self.begun.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes what is staged, and commits. The server does not count its statement time-out while a commit waits for a
    /// standby, so we do: then it is told to give up, and says that it did in a warning.
    async fn flush_in_time(&self) -> Result<(), Fault> {
        let last: [Step<'_>; 1] = [("COMMIT", &[])];
        let mut flush = std::pin::pin!(self.flush_and(&last));
        let manager = self.shared.pool.manager();
        let limit = Duration::from_millis(manager.session.statement_ms.into());
        if let Ok(done) = tokio::time::timeout(limit, &mut flush).await {
            return done;
        }
        let cancel = self.connection()?.client.cancel_token();
        let cancelled = tokio::time::timeout(CANCEL, cancel.cancel_query(manager.place.tls.clone())).await;
        tracing::warn!(sent = cancelled.is_ok_and(|sent| sent.is_ok()), "a commit took too long and was cancelled");
        match tokio::time::timeout(CANCEL, &mut flush).await {
            Ok(done) => done,
            Err(_) => {
                self.leave();
                Err(Fault::Away("a commit took too long; nobody knows whether it happened".into()))
            }
        }
    }

    /// Ends a transaction that failed.
    async fn rollback(&self) {
        let Ok(connection) = self.connection() else { return };
        if !self.begun.load(Ordering::Relaxed) || self.spoiled.load(Ordering::Relaxed) {
            return;
        }
        let ended = tokio::time::timeout(ROLLBACK, connection.client.batch_execute("ROLLBACK")).await;
        if matches!(ended, Ok(Ok(()))) {
            self.begun.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let open = self.begun.load(Ordering::Relaxed) || self.spoiled.load(Ordering::Relaxed);
        if let (true, Some(connection)) = (open, self.connection.take()) {
            // Nobody may find this transaction open, or wait for what it was not answered.
            drop(Object::take(connection));
        }
    }
}

/// Runs a verb in a transaction, again if another one was in its way.
pub(super) async fn run<R, T, F, Fut>(shared: &Arc<Shared>, mode: Mode, request: Arc<R>, verb: F) -> Result<T, Fault>
where
    F: Fn(Arc<Tx>, Arc<R>) -> Fut,
    Fut: Future<Output = Result<T, Fault>>,
{
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        match once(shared, mode, request.clone(), &verb).await {
            Err(Fault::Again(why)) if tries < TRIES => {
                tracing::debug!(why, tries, "a transaction is tried again");
                shared.parts.lock().clear();
            }
            done => {
                shared.note(mode, done.as_ref().err());
                return done;
            }
        }
        // Two that met do not meet again.
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
        pause *= 2;
        tries += 1;
    }
}

async fn once<R, T, F, Fut>(shared: &Arc<Shared>, mode: Mode, request: Arc<R>, verb: &F) -> Result<T, Fault>
where
    F: Fn(Arc<Tx>, Arc<R>) -> Fut,
    Fut: Future<Output = Result<T, Fault>>,
{
    let tx = Arc::new(Tx::new(shared, mode).await?);
    let done = verb(tx.clone(), request).await;
    match done {
        Ok(value) => match tx.commit().await {
            Ok(()) => Ok(value),
            Err(fault) => {
                tx.rollback().await;
                Err(fault)
            }
        },
        Err(fault) => {
            tx.rollback().await;
            Err(fault)
        }
    }
}
