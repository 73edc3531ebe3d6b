//! Reading a whole store to move it elsewhere. Where a server has it, it changes under the reader; else nobody may open it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension};

use super::fault::Fault;
use super::segment::Place;
use super::{Options, SqliteStore, open, schema, segment};
use crate::StoreError;
use crate::moved::tables::{Cell, Content, Key, Kind, Row, Table};
use crate::secret::Keyring;
use crate::verbs::{Maintain, Queue};

/// How often a content may be moved while it is read.
const MOVES: u32 = 3;

/// A store that is to move.
pub(crate) struct Source {
    /// `None`: a server works on it.
    lock: Option<File>,
    connection: Connection,
    segments: PathBuf,
}

impl Source {
    /// Opens a store that a server works on to read it as it is at each moment, and any other as a server would at its start
    /// (an interrupted commit is recovered, an older store brought up to date, leases of dead runs taken back), and keeps
    /// others from opening that.
    pub(crate) fn open(dir: &Path, now_ms: i64) -> Result<Self, StoreError> {
        let database = dir.join("queue.db");
        if !database.is_file() {
            return Err(StoreError::Invalid(format!("there is no store in {}", dir.display())));
        }
        let segments = dir.join("segments");
        let Some(lock) = open::try_lock(dir)? else {
            let connection = open::read_only(&database)?;
            if schema::version(&connection)? != schema::VERSION {
                return Err(StoreError::Invalid(format!(
                    "the server that works on {} is of another version: stop it, or use the program it is",
                    dir.display()
                )));
            }
            return Ok(Self { lock: None, connection, segments });
        };
        drop(lock);
        // No secret is opened here: they move as they are sealed.
        let store = SqliteStore::open(Options::new(dir, Keyring::from_key(&[0; 32])), now_ms)?;
        let names = open::read_only(&database).and_then(|connection| node_names(&connection).map_err(StoreError::from));
        for name in names? {
            store.start_run(&name, now_ms).wait()?;
        }
        store.close().wait()?;
        drop(store);
        let source = Self { lock: Some(open::lock(dir)?), connection: open::read_only(&database)?, segments };
        if source.number("SELECT count(*) FROM recipient WHERE state = 1")? > 0 {
            return Err(StoreError::Invalid(
                "mail is leased by a run that nobody knows: start and stop the server".into(),
            ));
        }
        Ok(source)
    }

    /// Nothing changes in it any more.
    pub(crate) fn is_still(&self) -> bool {
        self.lock.is_some()
    }

    /// The answer to a question that has one number as its answer; 0 for none.
    pub(crate) fn number(&self, sql: &str) -> Result<i64, StoreError> {
        let answer: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0)).map_err(Fault::from)?;
        Ok(answer.unwrap_or(0))
    }

    /// Which rows of a table move.
    fn wanted(&self, table: &Table) -> String {
        match self.is_still() {
            true => format!("({})", table.wanted),
            false => format!("({}) AND NOT ({})", table.wanted, table.alone),
        }
    }

    /// How many rows of a table move.
    pub(crate) fn count(&self, table: &Table) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM {} WHERE {}", table.name, self.wanted(table));
        Ok(self.number(&sql)?.unsigned_abs())
    }

    /// Rows of a table in the order of its key, behind a place, within bounds but for the last one.
    pub(crate) fn rows(
        &self,
        table: &Table,
        after: Option<&Key>,
        most: usize,
        octets: usize,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(self.read(table, after, most, octets)?)
    }

    fn read(&self, table: &Table, after: Option<&Key>, most: usize, octets: usize) -> Result<Vec<Row>, Fault> {
        let keys = table.key.join(", ");
        let mut sql = format!("SELECT {} FROM {} WHERE {}", table.sources(), table.name, self.wanted(table));
        let mut values: Vec<Value> = Vec::new();
        if let Some(after) = after {
            let marks = vec!["?"; after.0.len()].join(", ");
            sql.push_str(&format!(" AND ({keys}) > ({marks})"));
            values.extend(after.0.iter().map(|cell| match cell {
                Cell::Number(number) => Value::Integer(*number),
                Cell::Text(text) => Value::Text(text.clone()),
                Cell::Null | Cell::Octets(_) => Value::Null,
            }));
        }
        sql.push_str(&format!(" ORDER BY {keys} LIMIT {most}"));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        let mut found = Vec::new();
        let mut size = 0;
        while let Some(row) = rows.next()? {
            let mut cells = Vec::with_capacity(table.columns.len());
            for (column, (.., kind)) in table.columns.iter().enumerate() {
                let cell = cell(row.get_ref(column)?, *kind);
                size += cell.size();
                cells.push(cell);
            }
            found.push(cells);
            if size >= octets {
                break;
            }
        }
        Ok(found)
    }

    /// The content of a message, checked against its hash. `None`: it has none, or it went while a server works.
    pub(crate) fn content(&self, message: i64) -> Result<Option<Content>, StoreError> {
        // It may move from one segment to another meanwhile.
        for _ in 0..MOVES {
            match self.read_content(message) {
                Err(Fault::Command(StoreError::Damaged(_))) if !self.is_still() => {}
                found => return Ok(found?),
            }
        }
        Ok(self.read_content(message)?)
    }

    fn read_content(&self, id: i64) -> Result<Option<Content>, Fault> {
        type Found = (Option<i64>, i64, i64, Vec<u8>);
        let found: Option<Found> = self
            .connection
            .prepare_cached("SELECT segment, place, size, hash FROM message WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .optional()?;
        let Some((Some(segment), offset, size, hash)) = found else { return Ok(None) };
        let place = Place { segment, offset: offset.unsigned_abs() };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let octets = segment::read(&self.segments, place, size).map_err(|error| damaged(id, &error.to_string()))?;
        if blake3::hash(&octets).as_bytes()[..] != hash[..] {
            return Err(damaged(id, "its octets do not match their hash").into());
        }
        Ok(Some(Content { message: id, octets }))
    }
}

/// A value as the other end has it.
fn cell(value: ValueRef<'_>, kind: Kind) -> Cell {
    let text = |text: String| match kind {
        Kind::Number(_) | Kind::Flag => text.parse().map_or_else(|_| Cell::Text(text.clone()), Cell::Number),
        // PostgreSQL keeps no NUL in a text.
        Kind::Text | Kind::Octets => Cell::Text(text.replace('\0', "\u{fffd}")),
    };
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => match kind {
            Kind::Flag => Cell::Number((number != 0).into()),
            Kind::Text => Cell::Text(number.to_string()),
            Kind::Number(_) | Kind::Octets => Cell::Number(number),
        },
        ValueRef::Real(number) => text(number.to_string()),
        ValueRef::Text(octets) => text(String::from_utf8_lossy(octets).into_owned()),
        ValueRef::Blob(octets) => Cell::Octets(octets.to_vec()),
    }
}

fn damaged(message: i64, why: &str) -> StoreError {
    let id = crate::MessageId(message);
    StoreError::Damaged(format!("message {id}: {why}; `pillarbox verify --deep` sets it aside, or cancel it"))
}

fn node_names(connection: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = connection.prepare("SELECT DISTINCT name FROM node ORDER BY name")?;
    let names = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names)
}
