//! Records: rows of JSON by kind and name; the verbs and what the writer and the readers do for them.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::browse::bounded;
use super::command::{Command, Job};
use super::fault::Fault;
use super::work::Work;
use crate::engine::recorded::{self, Encoded};
use crate::model::*;
use crate::verbs::Records;
use crate::{Pending, StoreError};

/// What the writer does with records.
pub(super) enum RecordWork {
    Write(Job<Vec<Encoded>, Vec<RecordWritten>>),
    Prune(Job<(RecordKind, i64, u32), u64>),
}

impl RecordWork {
    /// See [`Command::finish`].
    pub(super) fn finish(self, outcome: Result<(), StoreError>) {
        match self {
            Self::Write(job) => job.finish(outcome),
            Self::Prune(job) => job.finish(outcome),
        }
    }

    /// See [`Command::apply`].
    pub(super) fn apply(&mut self, work: &mut Work<'_>) -> Result<(), Fault> {
        match self {
            Self::Write(job) => {
                let outcome = job.request.iter().map(|one| work.write_record(one)).collect();
                job.settle(outcome)
            }
            Self::Prune(job) => {
                let (kind, before_ms, keep) = job.request;
                let outcome = work.prune_records(kind, before_ms, keep);
                job.settle(outcome)
            }
        }
    }
}

impl Records for SqliteStore {
    fn write_records(&self, list: Vec<RecordWrite>) -> Pending<Vec<RecordWritten>> {
        match recorded::encode(list) {
            Ok(list) if list.is_empty() => Pending::ready(Ok(Vec::new())),
            Ok(list) => self.change_records::<Vec<Encoded>, _>(list, RecordWork::Write),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn records(&self, query: RecordQuery) -> Pending<Vec<Record>> {
        self.shared.readers.ask(move |connection| Ok(list(connection, &query)?))
    }

    fn prune_records(&self, kind: RecordKind, before_ms: i64, keep: u32) -> Pending<u64> {
        self.change_records((kind, before_ms, keep), RecordWork::Prune)
    }
}

impl SqliteStore {
    fn change_records<R, T>(&self, request: R, work: impl FnOnce(Job<R, T>) -> RecordWork) -> Pending<T> {
        let (job, pending) = Job::new(request);
        self.shared.queue.push(Command::Records(Box::new(work(job))));
        pending
    }
}

impl Work<'_> {
    fn write_record(&mut self, write: &Encoded) -> Result<RecordWritten, Fault> {
        match write {
            Encoded::Add { kind, name, open, at_ms, body } => {
                if *open && let Some(id) = self.open_record(*kind, name)? {
                    return Ok(RecordWritten::There(id));
                }
                self.connection
                    .prepare_cached(
                        "INSERT INTO record(kind, name, open, at, version, body) VALUES (?1, ?2, ?3, ?4, 1, ?5)",
                    )?
                    .execute(params![kind.as_str(), name, open, at_ms, body])?;
                Ok(RecordWritten::Added(self.connection.last_insert_rowid()))
            }
            Encoded::Change { kind, id, version, open, body } => {
                let found: Option<(i64, String)> = self
                    .connection
                    .prepare_cached("SELECT version, name FROM record WHERE id = ?1 AND kind = ?2")?
                    .query_row(params![id, kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                let Some((now, name)) = found else { return Ok(RecordWritten::Missing) };
                if version.is_some_and(|version| version != now) {
                    return Ok(RecordWritten::Stale);
                }
                if *open && let Some(other) = self.open_record(*kind, &name)?.filter(|other| other != id) {
                    return Ok(RecordWritten::There(other));
                }
                self.connection
                    .prepare_cached("UPDATE record SET version = ?2, open = ?3, body = ?4 WHERE id = ?1")?
                    .execute(params![id, now + 1, open, body])?;
                Ok(RecordWritten::Changed(now + 1))
            }
            Encoded::Remove { kind, id } => {
                let removed = self
                    .connection
                    .prepare_cached("DELETE FROM record WHERE id = ?1 AND kind = ?2")?
                    .execute(params![id, kind.as_str()])?;
                Ok(if removed == 0 { RecordWritten::Missing } else { RecordWritten::Removed })
            }
        }
    }

    fn open_record(&self, kind: RecordKind, name: &str) -> Result<Option<i64>, Fault> {
        let found = self
            .connection
            .prepare_cached("SELECT id FROM record INDEXED BY record_open WHERE kind = ?1 AND name = ?2 AND open = 1")?
            .query_row(params![kind.as_str(), name], |row| row.get(0))
            .optional()?;
        Ok(found)
    }

    fn prune_records(&mut self, kind: RecordKind, before_ms: i64, keep: u32) -> Result<u64, Fault> {
        let removed = self
            .connection
            .prepare_cached(
                "DELETE FROM record WHERE id IN
                     (SELECT old.id FROM record AS old INDEXED BY record_at
                      WHERE old.kind = ?1 AND old.open = 0 AND old.at < ?2 AND ?3 <=
                          (SELECT count(*) FROM (SELECT 1 FROM record AS newer INDEXED BY record_name
                               WHERE newer.kind = ?1 AND newer.name = old.name AND newer.id > old.id LIMIT ?3))
                      ORDER BY old.at LIMIT ?4)",
            )?
            .execute(params![kind.as_str(), before_ms, keep, MOST_RECORDS as i64])?;
        Ok(removed as u64)
    }
}

fn list(connection: &Connection, query: &RecordQuery) -> Result<Vec<Record>, Fault> {
    let mut sql = String::from("SELECT id, name, open, at, version, body FROM record WHERE kind = ?");
    let mut values = vec![Sql::Text(query.kind.as_str().to_owned())];
    let mut and = |condition: &str, value: Option<Sql>| {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(value);
        }
    };
    and(" AND name = ?", query.name.clone().map(Sql::Text));
    match query.open {
        Some(true) => sql.push_str(" AND open = 1"),
        Some(false) => sql.push_str(" AND open = 0"),
        None => {}
    }
    let mut and = |condition: &str, value: Option<i64>| {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(Sql::Integer(value));
        }
    };
    and(" AND at >= ?", query.since_ms);
    and(" AND at < ?", query.until_ms);
    and(" AND id = ?", query.id);
    and(" AND id < ?", query.before);
    and(" AND id > ?", query.after);
    sql.push_str(if query.after.is_some() { " ORDER BY id LIMIT ?" } else { " ORDER BY id DESC LIMIT ?" });
    values.push(Sql::Integer(bounded(query.limit) as i64));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let body = recorded::read_body(id, row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?)?;
        found.push(Record {
            id,
            kind: query.kind,
            name: row.get(1)?,
            open: row.get(2)?,
            at_ms: row.get(3)?,
            version: row.get(4)?,
            body,
        });
    }
    Ok(found)
}
