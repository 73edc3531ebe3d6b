//! Moving a living installation from the embedded engine to PostgreSQL.
//!
//! A move makes the target like the source: both are read in the order of their keys, and what is missing, other or too much
//! at the target is put right, in transactions of some megabytes. So whoever is interrupted gives the same command again, and
//! only what differs moves. While a server works on the source it is copied as it is at each moment; when it has stopped, the
//! rest follows, which is little. Until then nobody can open the target; in the end the source is locked, all is counted at
//! both ends, and the target checks itself, every content included.
//!
//! Secrets move as they are sealed: the nodes need the key of the source.

pub(crate) mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use self::tables::{Cell, Key, Row, TABLES, Table};
use crate::StoreError;
use crate::postgres::{self, Changes, Numbers, PostgresStore, Stretch};
use crate::sqlite::Source;

/// Rows that are read at once.
const ROWS: usize = 2_000;
/// Octets of one transaction, but for its last row.
const OCTETS: usize = 4 << 20;

/// How far a move came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Table.
    pub table: &'static str,
    /// Rows that are alike.
    pub moved: u64,
    /// Rows that there will be.
    pub total: u64,
}

/// What was moved: tables with their rows, in the order in which they went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// Nothing is left at the source; else a server works on it, and the rest follows when it has stopped.
    pub complete: bool,
    /// Table and rows.
    pub tables: Vec<(&'static str, u64)>,
    /// Rows that were written this time.
    pub written: u64,
    /// Rows that were removed this time, as they are gone at the source.
    pub removed: u64,
    /// Octets of contents that were moved this time.
    pub octets: u64,
}

/// Moves the store in a directory to an empty database, or to where a move has begun. Blocks.
///
/// `Invalid` if the source is not there, if the target has something in it that is of no move, or if another move has begun
/// into it; `Damaged` if a content does not match its hash: then nothing is lost, and the target stays closed.
pub fn to_postgres(
    from: &Path,
    to: postgres::Options,
    now_ms: i64,
    tell: &mut dyn FnMut(Progress),
) -> Result<Moved, StoreError> {
    let source = Source::open(from, now_ms)?;
    let totals = TABLES.iter().map(|table| source.count(table)).collect::<Result<Vec<_>, _>>()?;
    let target = PostgresStore::open_to_move(to, now_ms)?;
    let mover = format!("{:032x}", rand::random::<u128>());
    target.begin_move(mover.clone()).wait()?;
    let moved = Moved { complete: source.is_still(), ..Moved::default() };
    let mut mover = Mover { source, target, mover, moved, tell };
    for (table, total) in TABLES.iter().zip(&totals) {
        let rows = mover.align(table, *total)?;
        mover.moved.tables.push((table.name, rows));
    }
    let Mover { source, target, mover, moved, .. } = mover;
    if moved.complete {
        target.end_move(mover, numbers(&source)?, totals).wait()?;
    }
    Ok(moved)
}

/// A move at work.
struct Mover<'a> {
    source: Source,
    target: Arc<PostgresStore>,
    /// Its name: one that begins later takes its place.
    mover: String,
    moved: Moved,
    tell: &'a mut dyn FnMut(Progress),
}

impl Mover<'_> {
    /// Makes a table as it is at the source; gives its rows.
    fn align(&mut self, table: &'static Table, total: u64) -> Result<u64, StoreError> {
        let (mut after, mut seen) = (None, 0);
        (self.tell)(Progress { table: table.name, moved: seen, total });
        loop {
            let mut rows = self.source.rows(table, after.as_ref(), ROWS, OCTETS)?;
            let mut upto = rows.last().map(|row| table.key_of(row));
            let stretch = Stretch { table, after: after.clone(), upto: upto.clone(), most: 2 * ROWS };
            let here = self.target.rows_here(stretch).wait()?;
            // There may be more of them.
            if upto.is_none() || here.len() == 2 * ROWS {
                upto = here.last().map(|row| table.key_of(row));
                rows.retain(|row| Some(table.key_of(row)) <= upto);
            }
            if upto.is_none() {
                return Ok(seen);
            }
            seen += rows.len() as u64;
            self.put_right(table, rows, here)?;
            (self.tell)(Progress { table: table.name, moved: seen, total: total.max(seen) });
            after = upto;
        }
    }

    /// Makes a stretch of a table as it is at the source.
    fn put_right(&mut self, table: &'static Table, rows: Vec<Row>, here: Vec<Row>) -> Result<(), StoreError> {
        let mut changes = Changes::to(table);
        let mut known: BTreeMap<Key, Row> = BTreeMap::new();
        for row in here {
            known.insert(table.key_of(&row), row);
        }
        let mut other = Vec::new();
        for row in rows {
            let key = table.key_of(&row);
            let before = known.remove(&key);
            if before.as_ref() == Some(&row) {
                continue;
            }
            if before.is_some() {
                changes.gone.push(key);
            }
            other.push((row, before));
        }
        for (key, row) in known {
            changes.emptied.extend(table.content_of(&row));
            changes.gone.push(key);
            self.moved.removed += 1;
        }
        let mut size = 0;
        for (row, before) in other {
            let (wanted, had) = (table.content_of(&row), before.as_ref().and_then(|row| table.content_of(row)));
            let same = |before: &Row| table.cell(before, "hash") == table.cell(&row, "hash");
            let kept = wanted == had && before.as_ref().is_some_and(same);
            if !kept {
                changes.emptied.extend(had);
            }
            if let Some(message) = wanted.filter(|_| !kept) {
                // It went between two looks, and its message with it or not: the next move sees it.
                let Some(content) = self.source.content(message)? else { continue };
                size += content.octets.len();
                self.moved.octets += content.octets.len() as u64;
                changes.contents.push(content);
            }
            size += row.iter().map(Cell::size).sum::<usize>();
            changes.put.push(row);
            if size >= OCTETS {
                self.take(std::mem::replace(&mut changes, Changes::to(table)))?;
                size = 0;
            }
        }
        self.take(changes)
    }

    fn take(&mut self, changes: Changes) -> Result<(), StoreError> {
        if changes.put.is_empty() && changes.gone.is_empty() {
            return Ok(());
        }
        self.moved.written += changes.put.len() as u64;
        self.target.take_changes(self.mover.clone(), changes).wait()
    }
}

/// Numbers that are never used again, whatever became of the rows that had them.
fn numbers(source: &Source) -> Result<Numbers, StoreError> {
    let used = |table: &str| source.number(&format!("SELECT max(seq) FROM sqlite_sequence WHERE name = '{table}'"));
    let newest = source
        .number("SELECT max(seq + coalesce(upto - n, 0)) FROM (SELECT * FROM event ORDER BY seq DESC LIMIT 1)")?;
    Ok(Numbers {
        event: newest.max(source.number("SELECT max(value) FROM meta WHERE name = 'event'")?),
        suppression: used("suppression_change")?,
        forgotten: source.number("SELECT max(value) FROM meta WHERE name = 'suppression'")?,
        record: used("record")?,
        digest: used("digest")?,
        delivery: used("hook_delivery")?,
        returned: used("returned")?,
    })
}
