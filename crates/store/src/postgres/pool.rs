//! Connections: a bounded pool whose connections remember their prepared statements and what the server warned of.
//!
//! Hosts are asked one by one, the one that answered last first. One that is found to be frozen, or to commit without its
//! standby, is left: what is open to it is not used again, and the others are asked before it.
//!
//! deadpool keeps them; its own PostgreSQL manager hides the notices, and a commit has to see them: a server that gives up
//! waiting for its synchronous standby says so in a warning and in nothing else.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Metrics, PoolConfig, RecycleError, Timeouts};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, Statement};

use super::fault::{Fault, words};
use super::place::{self, Place};

/// Statements remembered for each connection; beyond that they are all forgotten.
const STATEMENTS: usize = 400;
/// How long a verb waits until fewer others have connections.
const WAIT: Duration = Duration::from_secs(10);
/// How long a connection's plans are used. A server plans a prepared statement for tables as large as they are at that moment, and keeps to
/// it until they are analysed, a minute later or more: a queue that grew meanwhile would be read from end to end for each outcome.
const PLANS: Duration = Duration::from_secs(3);
/// Has the server plan anew.
pub(super) const FORGET_PLANS: &str = "DISCARD PLANS";
/// A server that is frozen keeps no time: so much later than it should have ended a statement itself, it is away.
const FROZEN: Duration = Duration::from_secs(5);

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

    /// How long the answer to a statement is waited for.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.statement_ms.into()) + FROZEN
    }
}

/// An answer outside of a verb's transaction.
pub(super) async fn answer<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(patience, asked).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(Fault::silent()),
    }
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The age of a connection when its server was last told to forget its plans.
#[derive(Debug, Default)]
pub(super) struct Plans(Mutex<Duration>);

impl Plans {
    /// Whether they are too old at this age of the connection; then they are to be forgotten now.
    pub(super) fn are_old(&self, age: Duration) -> bool {
        let mut made = self.0.lock();
        let old = age.saturating_sub(*made) >= PLANS;
        if old {
            *made = age;
        }
        old
    }
}

/// A connection, what was prepared on it and what its server warned of.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Its host, and how many were left when it was made.
    pub(super) choice: Choice,
    statements: Mutex<HashMap<String, Statement>>,
    pub(super) plans: Plans,
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

/// The host that is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    host: usize,
    /// How often a host was left.
    left: u64,
}

/// Makes connections and looks after them.
pub(super) struct Manager {
    pub(super) place: Place,
    pub(super) session: Session,
    /// Rung when another node says that there is work.
    pub(super) bell: Arc<Notify>,
    choice: Mutex<Choice>,
}

impl Manager {
    pub(super) fn new(place: Place, session: Session) -> Self {
        let choice = Mutex::new(Choice { host: 0, left: 0 });
        Self { place, session, bell: Arc::new(Notify::new()), choice }
    }

    /// Makes one connection, ready for use, to the first host that answers and takes writes. Takes no longer than the hosts
    /// have together.
    pub(super) async fn connect(&self) -> Result<Connection, Fault> {
        let (choice, hosts) = (*self.choice.lock(), &self.place.hosts);
        let mut said = Vec::with_capacity(hosts.len());
        for (host, config) in hosts.iter().enumerate().cycle().skip(choice.host).take(hosts.len()) {
            let own = Choice { host, ..choice };
            let made = tokio::time::timeout(self.place.limit, self.connect_to(config, own)).await;
            match made.unwrap_or_else(|_| Err(Fault::silent())) {
                Ok(connection) => {
                    self.answered(own);
                    return Ok(connection);
                }
                Err(fault) if hosts.len() == 1 => return Err(fault),
                Err(fault) => said.push(format!("{}: {fault}", place::named(config))),
            }
        }
        Err(Fault::Away(said.join("; ")))
    }

    /// From now on this host is asked first, unless one was left since the choice was made.
    fn answered(&self, choice: Choice) {
        let mut now = self.choice.lock();
        if now.left == choice.left && now.host != choice.host {
            tracing::warn!(host = self.name(choice.host), "another host of the database is used");
            *now = choice;
        }
    }

    /// The host of a connection is not to be trusted: whatever is open is not used again, and the other hosts are asked before it.
    pub(super) fn leave(&self, choice: Choice) {
        let mut now = self.choice.lock();
        if now.left == choice.left {
            tracing::warn!(host = self.name(choice.host), "what is connected to this host of the database is given up");
            let next = (choice.host + 1) % self.place.hosts.len().max(1);
            *now = Choice { host: if now.host == choice.host { next } else { now.host }, left: now.left + 1 };
        }
    }

    /// It may be used again.
    pub(super) fn trusts(&self, connection: &Connection) -> bool {
        !connection.client.is_closed() && connection.choice.left == self.choice.lock().left
    }

    fn name(&self, host: usize) -> String {
        self.place.hosts.get(host).map(place::named).unwrap_or_default()
    }

    async fn connect_to(&self, config: &Config, choice: Choice) -> Result<Connection, Fault> {
        let (client, mut connection) = config.connect(self.place.tls.clone()).await?;
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
        let connection =
            Connection { client, choice, statements: Mutex::default(), plans: Plans::default(), warning, driver };
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
        if !self.trusts(connection) {
            return Err(RecycleError::message("the connection is closed, or its host was left"));
        }
        connection.take_warning();
        Ok(())
    }
}

/// A pool of at most so many connections; none is made yet.
pub(super) fn pool(manager: Manager, connections: usize) -> Result<managed::Pool<Manager>, Fault> {
    let mut config = PoolConfig::new(connections.max(2));
    // Making one ends by itself: each host has its time.
    config.timeouts = Timeouts { wait: Some(WAIT), create: None, recycle: Some(WAIT) };
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

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn plans_are_forgotten_every_few_seconds() {
        let plans = Plans::default();
        let old = [0, 2, 3, 5, 6, 60, 62].map(|second| plans.are_old(Duration::from_secs(second)));
        assert_eq!(old, [false, false, true, false, true, true, false]);
    }

    #[test]
    fn a_host_that_is_left_is_asked_last_and_what_was_begun_before_does_not_bring_it_back() {
        let url = SecretString::from("postgres://u@a,b,c/mail?sslmode=disable");
        let session = Session { schema: "pillarbox".into(), statement_ms: 1 };
        let manager = Manager::new(place::parse(&url).unwrap(), session);
        let at = |host, left| Choice { host, left };
        manager.answered(at(1, 0));
        assert_eq!(*manager.choice.lock(), at(1, 0), "the one that answered last");
        manager.leave(at(1, 0));
        assert_eq!(*manager.choice.lock(), at(2, 1));
        // Others that were connected to it find out later.
        manager.leave(at(1, 0));
        manager.answered(at(1, 0));
        assert_eq!(*manager.choice.lock(), at(2, 1));
        // The others did not answer, or take no writes.
        manager.answered(at(1, 1));
        assert_eq!(*manager.choice.lock(), at(1, 1));
        manager.leave(at(2, 1));
        assert_eq!(*manager.choice.lock(), at(1, 2), "it was not asked first any more");
    }
}
