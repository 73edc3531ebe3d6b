//! Records: things that are remembered as one JSON body each, by kind and name. Incidents and their history, results of
//! checks, DNS snapshots, alerts, the audit log and sessions are records. What a body means is its owner's affair.
//!
//! Secrets never go into a body: it is shown and backed up as it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest body of a record, octets of JSON.
pub const MOST_RECORD_BODY: usize = 256 << 10;
/// Longest name of a record, octets.
pub const MOST_RECORD_NAME: usize = 512;
/// Most records written at once, and most given for one question.
pub const MOST_RECORDS: usize = 1_000;

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// Something that fails or failed, named by its scope and reason.
    Incident,
    /// What happened to an incident, named by the incident's id.
    IncidentEvent,
    /// What a scheduled check found, named by check and subject.
    CheckResult,
    /// What a domain's servers answered.
    DnsSnapshot,
    /// A test mail on its way, or what became of it.
    Arrival,
    /// An alert.
    Alert,
    /// Who changed what.
    Audit,
    /// A login.
    Session,
    /// Usual volumes by hour of the week.
    Volume,
    /// A named job's last run.
    Job,
    /// What became of mail, minute by minute or hour by hour.
    Series,
    /// A test of a mail server that somebody started.
    SmtpTest,
    /// What somebody wants of a node, named by it.
    Node,
    /// What a node tells the one that leads.
    Word,
}

impl RecordKind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Incident,
        Self::IncidentEvent,
        Self::CheckResult,
        Self::DnsSnapshot,
        Self::Arrival,
        Self::Alert,
        Self::Audit,
        Self::Session,
        Self::Volume,
        Self::Job,
        Self::Series,
        Self::SmtpTest,
        Self::Node,
        Self::Word,
    ];

    /// The kind in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::IncidentEvent => "incident_event",
            Self::CheckResult => "check_result",
            Self::DnsSnapshot => "dns_snapshot",
            Self::Arrival => "arrival",
            Self::Alert => "alert",
            Self::Audit => "audit",
            Self::Session => "session",
            Self::Volume => "volume",
            Self::Job => "job",
            Self::Series => "series",
            Self::SmtpTest => "smtp_test",
            Self::Node => "node",
            Self::Word => "word",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RecordKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// A stored record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its number; grows over all kinds, is never used again, and serves as a cursor.
    pub id: i64,
    /// Kind.
    pub kind: RecordKind,
    /// Name, 1 to [`MOST_RECORD_NAME`] octets; several records may have it, but only one that is open.
    pub name: String,
    /// It is not over.
    pub open: bool,
    /// When it was added, Unix milliseconds.
    pub at_ms: i64,
    /// 1 at first, one more with each change.
    pub version: i64,
    /// JSON, at most [`MOST_RECORD_BODY`].
    pub body: Value,
}

/// A change of records.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordWrite {
    /// A new record. With `open`, at most one open record of a kind and name exists: then nothing is written and the open
    /// one's id is given.
    Add {
        /// Kind.
        kind: RecordKind,
        /// Name.
        name: String,
        /// It is not over.
        open: bool,
        /// When, Unix milliseconds.
        at_ms: i64,
        /// JSON.
        body: Value,
    },
    /// Replaces body and `open` if the version still is `version`; `None`: whatever it is.
    Change {
        /// Kind.
        kind: RecordKind,
        /// The record.
        id: i64,
        /// The version it has to have.
        version: Option<i64>,
        /// It is not over.
        open: bool,
        /// JSON.
        body: Value,
    },
    /// Removes one.
    Remove {
        /// Kind.
        kind: RecordKind,
        /// The record.
        id: i64,
    },
}

/// What became of a [`RecordWrite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordWritten {
    /// Added under this id.
    Added(i64),
    /// Nothing was written: an open one of this kind and name is there, under this id.
    There(i64),
    /// Changed; its version now.
    Changed(i64),
    /// Nothing was written: somebody else changed it before.
    Stale,
    /// There is no such record.
    Missing,
    /// Removed.
    Removed,
}

/// Which records are asked for; what is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordQuery {
    /// Kind.
    pub kind: RecordKind,
    /// Exactly this name.
    pub name: Option<String>,
    /// Open, or not.
    pub open: Option<bool>,
    /// Added at or after, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Added before, Unix milliseconds.
    pub until_ms: Option<i64>,
    /// Exactly this one.
    pub id: Option<i64>,
    /// Ids below, newest first.
    pub before: Option<i64>,
    /// Ids above, oldest first.
    pub after: Option<i64>,
    /// At most so many, 1 to [`MOST_RECORDS`].
    pub limit: u32,
}

impl RecordQuery {
    /// The newest of a kind, as many as are given at once.
    pub fn of(kind: RecordKind) -> Self {
        Self {
            kind,
            name: None,
            open: None,
            since_ms: None,
            until_ms: None,
            id: None,
            before: None,
            after: None,
            limit: MOST_RECORDS as u32,
        }
    }
    /// The newest of a name.
    pub fn named(kind: RecordKind, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::of(kind) }
    }
    /// One record.
    pub fn one(kind: RecordKind, id: i64) -> Self {
        Self { id: Some(id), limit: 1, ..Self::of(kind) }
    }
    /// The open ones of a kind.
    pub fn open(kind: RecordKind) -> Self {
        Self { open: Some(true), ..Self::of(kind) }
    }
}
