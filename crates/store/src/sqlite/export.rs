//! Reading a whole store to move it elsewhere: nobody else has it open meanwhile, so nothing changes under the reader.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};

use super::fault::Fault;
use super::segment::Place;
use super::{Options, SqliteStore, open, segment};
use crate::StoreError;
use crate::moved::tables::{Cell, Content, Key, Rows, Table};
use crate::secret::Keyring;
use crate::verbs::{Maintain, Queue};

/// A store that is stopped.
pub(crate) struct Source {
    _lock: File,
    connection: Connection,
    segments: PathBuf,
}

impl Source {
    /// Opens a store as a server would at its start (an interrupted commit is recovered, an older store brought up to date,
    /// leases of dead runs taken back), and keeps others from opening it.
    pub(crate) fn open(dir: &Path, now_ms: i64) -> Result<Self, StoreError> {
        let database = dir.join("queue.db");
        if !database.is_file() {
            return Err(StoreError::Invalid(format!("there is no store in {}", dir.display())));
        }
        // No secret is opened here: they move as they are sealed.
        let store = SqliteStore::open(Options::new(dir, Keyring::from_key(&[0; 32])), now_ms)?;
        let names = open::read_only(&database).and_then(|connection| node_names(&connection).map_err(StoreError::from));
        for name in names? {
            store.start_run(&name, now_ms).wait()?;
        }
        store.close().wait()?;
        drop(store);
        let lock = open::lock(dir)?;
        let source = Self { _lock: lock, connection: open::read_only(&database)?, segments: dir.join("segments") };
        if source.number("SELECT count(*) FROM recipient WHERE state = 1")? > 0 {
            return Err(StoreError::Invalid(
                "mail is leased by a run that nobody knows: start and stop the server".into(),
            ));
        }
        Ok(source)
    }

    /// The answer to a question that has one number as its answer; 0 for none.
    pub(crate) fn number(&self, sql: &str) -> Result<i64, StoreError> {
        let answer: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0)).map_err(Fault::from)?;
        Ok(answer.unwrap_or(0))
    }

    /// Rows of a table that move.
    pub(crate) fn count(&self, table: &Table) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM {} WHERE ({})", table.name, table.wanted);
        Ok(self.number(&sql)?.unsigned_abs())
    }

    /// Rows of a table in the order of its key, behind a place, within bounds but for the last one.
    pub(crate) fn rows(
        &self,
        table: &Table,
        after: Option<&Key>,
        most: usize,
        octets: usize,
    ) -> Result<Rows, StoreError> {
        Ok(self.read(table, after, most, octets)?)
    }

    fn read(&self, table: &Table, after: Option<&Key>, most: usize, octets: usize) -> Result<Rows, Fault> {
        let keys = table.key.join(", ");
        let mut sql = format!("SELECT {} FROM {} WHERE ({})", table.sources(), table.name, table.wanted);
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
        let mut found = Rows::default();
        let mut size = 0;
        while let Some(row) = rows.next()? {
            let mut cells = Vec::with_capacity(table.columns.len());
            for column in 0..table.columns.len() {
                let cell = match row.get_ref(column)? {
                    ValueRef::Null => Cell::Null,
                    ValueRef::Integer(number) => Cell::Number(number),
                    ValueRef::Real(number) => Cell::Text(number.to_string()),
                    ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(octets) => Cell::Octets(octets.to_vec()),
                };
                size += cell.size();
                cells.push(cell);
            }
            if table.has_contents {
                let content = self.content(&cells)?;
                size += content.as_ref().map_or(0, |content| content.octets.len());
                found.contents.extend(content);
            }
            found.cells.push(cells);
            if size >= octets {
                break;
            }
        }
        Ok(found)
    }

    /// The content of a message, checked against its hash.
    fn content(&self, message: &[Cell]) -> Result<Option<Content>, Fault> {
        let Some(Cell::Number(id)) = message.first() else { return Ok(None) };
        let (segment, offset, size, hash): (Option<i64>, i64, i64, Vec<u8>) = self
            .connection
            .prepare_cached("SELECT segment, place, size, hash FROM message WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let Some(segment) = segment else { return Ok(None) };
        let place = Place { segment, offset: offset.unsigned_abs() };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let octets = segment::read(&self.segments, place, size).map_err(|error| damaged(*id, &error.to_string()))?;
        if blake3::hash(&octets).as_bytes()[..] != hash[..] {
            return Err(damaged(*id, "its octets do not match their hash").into());
        }
        Ok(Some(Content { message: *id, octets }))
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
