//! What can go wrong with a database, sorted by what has to be done about it.

use tokio_postgres::error::SqlState;

use crate::StoreError;

/// Why a verb failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server has no room.
    Full,
    /// The server cannot be asked now. What was asked of it is undone.
    Away(String),
    /// The server went away in the middle of a commit: nobody knows whether it happened, or whether it will last.
    Unknown(String),
    /// Two transactions were in each other's way: the same verb may be tried again.
    Again(String),
    /// There is such a row already.
    Exists(String),
    /// Only this verb is to blame.
    Command(StoreError),
}

impl Fault {
    /// A server that was asked and says nothing.
    pub(super) fn silent() -> Self {
        Self::Away("the server does not answer".into())
    }

    /// The same of a commit: it may have happened.
    pub(super) fn of_commit(self) -> Self {
        match self {
            Self::Away(why) => Self::Unknown(why),
            other => other,
        }
    }
}

/// What the server or the connection says, with its words for people.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => {
            let mut words = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(inner) = source {
                words = format!("{words}: {inner}");
                source = inner.source();
            }
            words
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = words(&error);
        let Some(code) = error.code() else {
            // Values that do not fit a column are our defect; all else is about the connection.
            let ours = said.contains("serializing") || said.contains("column") || said.contains("parameters");
            return if ours { Fault::Command(StoreError::Internal(said)) } else { Fault::Away(said) };
        };
        if *code == SqlState::DISK_FULL {
            return Fault::Full;
        }
        let again =
            [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
        if again.contains(code) {
            return Fault::Again(said);
        }
        if *code == SqlState::QUERY_CANCELED {
            // Too slow: that is about the statement, and says nothing of the server.
            return Fault::Command(StoreError::Unhealthy(said));
        }
        if *code == SqlState::UNIQUE_VIOLATION {
            return Fault::Exists(said);
        }
        // 08 connection, 53 resources, 57 operator's intervention and time-outs, 58 system, XX corruption, 28 refused;
        // 25006 is what a primary says that became a standby.
        let away = ["08", "53", "57", "58", "XX", "28"].iter().any(|class| code.code().starts_with(class));
        if away
            || *code == SqlState::READ_ONLY_SQL_TRANSACTION
            || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        {
            return Fault::Away(said);
        }
        Fault::Command(StoreError::Internal(said))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("the database has no room"),
            Self::Away(why) | Self::Unknown(why) | Self::Again(why) | Self::Exists(why) => f.write_str(why),
            Self::Command(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Command(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => StoreError::Full,
            Fault::Away(why) | Fault::Unknown(why) => StoreError::Away(why),
            Fault::Again(_) => StoreError::Overloaded,
            Fault::Exists(why) => StoreError::Internal(why),
            Fault::Command(error) => error,
        }
    }
}
