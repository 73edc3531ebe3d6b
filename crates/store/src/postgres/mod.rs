//! The engine for several nodes on one queue: everything is in PostgreSQL, and any node may die.
//!
//! **How a verb is written.** A verb is an `async fn(tx: &Tx, …) -> Result<T, Fault>` in a file about its subject, and the
//! trait's method runs it: `self.write((list, now_ms), |tx, r| async move { suppress::strike(&tx, &r.0, r.1).await })`. The
//! closure captures nothing: its request is shared, because a verb that met another one (deadlock, lock time-out) is run again.
//! `self.read` does the same with a snapshot that changes nothing, `self.task` runs what is more than one transaction.
//!
//! - [`tx::Tx::query`], `query_opt`, `query_one`, `execute` prepare a statement once per connection: texts are constant or few.
//!   Many rows are one statement with arrays (`unnest($1::bigint[], …)`). `row.try_get(i)?`, never `row.get`.
//! - Rows of `message` and `recipient` are changed through [`unit`]: `tx.message(id)` locks and loads, `tx.save_message`,
//!   `tx.recipient`, `tx.save_recipient`, `tx.lane_changed`, `tx.event`; all is written at the commit in one round trip.
//!   Several messages are locked at once and in order (`tx.load_messages`). SQL that reads such rows comes before they are
//!   changed.
//! - An `Err` undoes everything. Expected collisions are for `ON CONFLICT`: a failed statement spoils its transaction.
//! - Text from outside that is not JSON goes through [`unit::clean`]: the database knows no NUL.
//! - Columns whose text is ordered or a key are declared `COLLATE "C"`: the database's language is not ours.
//! - A table belongs to one file under `migrations/`, listed in [`schema`]; names there are as in the embedded engine.

mod accept;
mod alive;
mod ask;
mod batch;
mod batch_read;
mod browse;
mod claim;
mod columns;
mod content;
mod digest;
mod duty;
mod events;
mod fault;
mod figures;
mod group;
mod hooks;
mod import;
mod keys;
mod lanes;
mod maintain;
mod node;
mod operate;
mod parts;
mod place;
mod pool;
mod read;
mod records;
mod report;
mod returned;
mod schema;
mod search;
mod select;
mod settings;
mod settle;
mod shared;
mod shares;
mod sought;
mod stretch;
mod suppress;
mod suppressed;
mod tls;
mod told;
mod tx;
mod unit;
mod verbs;
mod verbs_batches;
mod verbs_hooks;
mod verbs_lists;
mod verify;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::runtime::Runtime;

use self::fault::Fault;
pub(crate) use self::import::{Changes, Numbers, Stretch};
use self::pool::{Manager, Session};
use self::shared::Shared;
use self::tx::{Mode, Tx};
pub use crate::engine::figures::Stopwatch;
use crate::secret::Keyring;
use crate::verbs::Retention;
use crate::{Pending, StoreError};

/// Threads of the store's own runtime: they encode, decode and wait.
const THREADS: usize = 2;

/// How a store is opened.
#[derive(Debug)]
pub struct Options {
    /// `postgres://user:password@host1,host2/database?sslmode=verify-full&sslrootcert=/path`; `sslmode` is `verify-full` (the
    /// default) or `disable`.
    pub url: SecretString,
    /// Schema of the tables; it is made if it is not there.
    pub schema: String,
    /// Keys of the secrets in settings.
    pub keyring: Keyring,
    /// Most connections of this node, at least 2; one more listens.
    pub connections: usize,
    /// Longest statement, milliseconds; also how long a commit waits for a synchronous standby.
    pub statement_ms: u32,
    /// How long a node that is not heard of keeps its leases, milliseconds.
    pub lease_ms: u32,
    /// Retention until the first [`crate::Maintain::retain`] says otherwise; only `content_ms` matters.
    pub retention: Retention,
    /// Times the commits, for those who watch.
    pub stopwatch: Stopwatch,
}

impl Options {
    /// The usual: schema `pillarbox`, 16 connections, statements of 30 s, leases of 30 s, contents dropped when final.
    pub fn new(url: SecretString, keyring: Keyring) -> Self {
        Self {
            url,
            schema: "pillarbox".into(),
            keyring,
            connections: 16,
            statement_ms: 30_000,
            lease_ms: 30_000,
            retention: Retention { content_ms: 0, events_ms: i64::MAX, captured_ms: i64::MAX, streams: Arc::default() },
            stopwatch: Stopwatch::default(),
        }
    }
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Use,
    Move,
}

/// The store in PostgreSQL. Dropping it lets go of its connections; what was not answered is undone.
pub struct PostgresStore {
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
    handle: tokio::runtime::Handle,
    name: String,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresStore({})", self.name)
    }
}

impl PostgresStore {
    /// Connects, brings the schema to what this program writes, and checks that a commit is durable.
    pub fn open(options: Options, now_ms: i64) -> Result<Arc<Self>, StoreError> {
        Self::open_for(options, now_ms, Purpose::Use)
    }

    /// Opens it to move another store into it, which may have begun before.
    pub(crate) fn open_to_move(options: Options, now_ms: i64) -> Result<Arc<Self>, StoreError> {
        Self::open_for(options, now_ms, Purpose::Move)
    }

    fn open_for(options: Options, now_ms: i64, purpose: Purpose) -> Result<Arc<Self>, StoreError> {
        let place = place::parse(&options.url)?;
        let name = place::shown(&place.config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Internal(format!("store threads: {error}")))?;
        let session = Session { schema: options.schema, statement_ms: options.statement_ms };
        let manager = Manager::new(place, session);
        // Whoever opens may be in a runtime of his own, where nothing may block on another one.
        let (sender, receiver) = std::sync::mpsc::channel();
        let connections = options.connections;
        let (keyring, retention, lease_ms) = (options.keyring, options.retention, options.lease_ms);
        let stopwatch = options.stopwatch;
        let shown = name.clone();
        runtime.spawn(async move {
            let opened = async {
                let connection = manager.connect().await?;
                schema::migrate(&connection.client, &manager.session.schema, now_ms).await?;
                check(&connection.client).await?;
                if purpose == Purpose::Use {
                    import::check(&connection.client).await?;
                }
                let pool = pool::pool(manager, connections)?;
                let shared = Arc::new(Shared::new(pool, keyring, retention, lease_ms, stopwatch));
                begin(&shared).await?;
                figures::Size::ask(&shared).await;
                Ok::<_, Fault>(shared)
            };
            let opened = opened.await.map_err(|fault| match StoreError::from(fault) {
                StoreError::Unhealthy(why) => StoreError::Unhealthy(format!("{shown}: {why}")),
                StoreError::Away(why) => StoreError::Away(format!("{shown}: {why}")),
                other => other,
            });
            let _ = sender.send(opened);
        });
        let opened = receiver.recv().map_err(|_| StoreError::Internal("the store did not open".into()));
        let shared = match opened.and_then(|opened| opened) {
            Ok(shared) => shared,
            Err(error) => {
                // As on drop: whoever opens may be in a runtime that must not be blocked.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let handle = runtime.handle().clone();
        Ok(Arc::new(Self { shared, runtime: Mutex::new(Some(runtime)), handle, name }))
    }

    /// Runs a verb that changes something, in one transaction.
    fn write<R, T, F, Fut>(&self, request: R, verb: F) -> Pending<T>
    where
        R: Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(Arc<Tx>, Arc<R>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        self.task(move |shared| async move {
            let began_us = shared.counted.now_us();
            let done = tx::run(&shared, Mode::Write, Arc::new(request), verb).await;
            shared.counted(1, began_us, done.as_ref().err());
            done
        })
    }

    /// Runs a verb that looks, in one snapshot.
    fn read<R, T, F, Fut>(&self, request: R, verb: F) -> Pending<T>
    where
        R: Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(Arc<Tx>, Arc<R>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        self.task(move |shared| async move { tx::run(&shared, Mode::Snapshot, Arc::new(request), verb).await })
    }

    /// Runs a verb that is several transactions, or none.
    fn task<T, F, Fut>(&self, task: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Shared>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let place = match self.shared.place() {
            Ok(place) => place,
            Err(error) => return Pending::ready(Err(error)),
        };
        let (sender, pending) = Pending::channel();
        let shared = self.shared.clone();
        self.handle.spawn(async move {
            let outcome = task(shared).await;
            drop(place);
            let _ = sender.send(outcome.map_err(StoreError::from));
        });
        pending
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.shared.closed.store(true, std::sync::atomic::Ordering::Relaxed);
        self.shared.pool.close();
        if let Some(runtime) = self.runtime.lock().take() {
            // It may be dropped within another runtime, which must not be blocked.
            runtime.shutdown_background();
        }
    }
}

/// Checks that the server keeps what it says it keeps.
async fn check(client: &tokio_postgres::Client) -> Result<(), Fault> {
    let row = client.query_one("SELECT current_setting('fsync'), current_setting('server_encoding')", &[]).await?;
    let (fsync, encoding): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    if fsync != "on" {
        return Err(StoreError::Invalid("the database runs with fsync off: mail would not be safe in it".into()).into());
    }
    if encoding != "UTF8" {
        return Err(StoreError::Invalid(format!("the database's encoding is {encoding}: it has to be UTF8")).into());
    }
    Ok(())
}

/// Takes an end of message ids, and starts what works for the verbs.
async fn begin(shared: &Arc<Shared>) -> Result<(), Fault> {
    let verb = |tx: Arc<Tx>, _: Arc<()>| async move {
        let slot = node::take_slot(&tx).await?;
        let last: i64 = tx.query_one("SELECT coalesce(max(id), 0) FROM message", &[]).await?.try_get(0)?;
        Ok((slot, last))
    };
    let (slot, last) = tx::run(shared, Mode::Write, Arc::new(()), verb).await?;
    shared.use_slot(slot);
    shared.ids_after(last);
    let own = shared.clone();
    tokio::spawn(shared.accepts.clone().serve(async move |requests| {
        let (began_us, commands) = (own.counted.now_us(), requests.len());
        let done = accept::run(&own, requests).await;
        own.counted(commands, began_us, done.as_ref().err());
        done
    }));
    let own = shared.clone();
    tokio::spawn(shared.settles.clone().serve(async move |requests| {
        let (began_us, commands) = (own.counted.now_us(), requests.len());
        let done = settle::run(&own, requests).await;
        own.counted(commands, began_us, done.as_ref().err());
        done
    }));
    tokio::spawn(node::keep(shared.clone()));
    Ok(())
}
