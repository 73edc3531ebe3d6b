//! Connections: a bounded pool whose connections remember their prepared statements and what the server warned of.
//!
//! deadpool keeps them; its own PostgreSQL manager hides the notices, and a commit has to see them: a server that gives up
//! waiting for its synchronous standby says so in a warning and in nothing else.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Metrics, PoolConfig, RecycleError, Timeouts};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Statement};

use super::fault::{Fault, words};
use super::place::Place;

/// Statements remembered for each connection; beyond that they are all forgotten.
const STATEMENTS: usize = 400;
/// How long a verb waits for a connection, and a connection to be made.
const WAIT: Duration = Duration::from_secs(10);

/// Names of the settings of each connection that depend on how the store was opened.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Schema of the tables.
    pub(super) schema: String,
    /// Longest statement, milliseconds.
    pub(super) statement_ms: u32,
}

impl Session {
    /// The statement that sets a connection up. What waits for us may not wait long: a node that was cut off in the middle
    /// of a transaction must not hold its locks.
    fn sql(&self) -> String {
        format!(
            "SET search_path TO {}; SET statement_timeout TO {}; SET lock_timeout TO '5s';
             SET idle_in_transaction_session_timeout TO '4s'; SET client_min_messages TO warning;
             SET tcp_keepalives_idle TO 4; SET tcp_keepalives_interval TO 1; SET tcp_keepalives_count TO 3;
             SELECT set_config('synchronous_commit', 'on', false)
                 WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')",
            quoted(&self.schema),
            self.statement_ms
        )
    }
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A connection, what was prepared on it and what its server warned of.
pub(super) struct Connection {
    pub(super) client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    warning: Arc<Mutex<Option<String>>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Prepares a statement, once.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, Fault> {
        if let Some(found) = self.statements.lock().get(sql) {
            return Ok(found.clone());
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements.lock();
        if statements.len() >= STATEMENTS {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Takes what the server warned of since the last time.
    pub(super) fn take_warning(&self) -> Option<String> {
        self.warning.lock().take()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Makes connections and looks after them.
pub(super) struct Manager {
    pub(super) place: Place,
    pub(super) session: Session,
    /// Rung when another node says that there is work.
    pub(super) bell: Arc<Notify>,
}

impl Manager {
    /// Makes one connection, ready for use.
    pub(super) async fn connect(&self) -> Result<Connection, Fault> {
        let (client, mut connection) = self.place.config.connect(self.place.tls.clone()).await?;
        let warning = Arc::new(Mutex::new(None));
        let (noted, bell) = (warning.clone(), self.bell.clone());
        let driver = tokio::spawn(async move {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        tracing::debug!(notice = notice.message(), code = notice.code().code(), "the database says");
                        if notice.severity() == "WARNING" || notice.code().code() == "01000" {
                            *noted.lock() = Some(notice.message().to_owned());
                        }
                    }
                    Some(Ok(AsyncMessage::Notification(_))) => bell.notify_one(),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(error = words(&error), "a connection to the database ended");
                        return;
                    }
                    None => return,
                }
            }
        });
        let connection = Connection { client, statements: Mutex::default(), warning, driver };
        connection.client.batch_execute(&self.session.sql()).await?;
        connection.take_warning();
        Ok(connection)
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = Fault;

    async fn create(&self) -> Result<Connection, Fault> {
        self.connect().await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> managed::RecycleResult<Fault> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        connection.take_warning();
        Ok(())
    }
}

/// A pool of at most so many connections; none is made yet.
pub(super) fn pool(manager: Manager, connections: usize) -> Result<managed::Pool<Manager>, Fault> {
    let mut config = PoolConfig::new(connections.max(2));
    config.timeouts = Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) };
    managed::Pool::builder(manager)
        .config(config)
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| Fault::Away(error.to_string()))
}

/// Takes a connection from the pool.
pub(super) async fn take(pool: &managed::Pool<Manager>) -> Result<managed::Object<Manager>, Fault> {
    pool.get().await.map_err(|error| match error {
        managed::PoolError::Backend(fault) => fault,
        managed::PoolError::Closed => Fault::Command(crate::StoreError::Closed),
        managed::PoolError::Timeout(managed::TimeoutType::Wait) => Fault::Command(crate::StoreError::Overloaded),
        other => Fault::Away(format!("no connection to the database: {other}")),
    })
}
