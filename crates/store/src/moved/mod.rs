//! Moving a living installation from the embedded engine to PostgreSQL.
//!
//! The server is stopped, and the source is locked meanwhile. Rows go in the order of their keys, in transactions that note
//! how far they came: whoever is interrupted starts the same again and goes on there. Until the end nobody can open the
//! target; in the end all is counted at both ends, and the target checks itself, every content included.
//!
//! Secrets move as they are sealed: the nodes need the key of the source.

pub(crate) mod tables;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use self::tables::{Key, TABLES, Table};
use crate::StoreError;
use crate::postgres::{self, Numbers, PostgresStore};
use crate::sqlite::Source;

/// Rows of one transaction.
const ROWS: usize = 2_000;
/// Octets of one transaction, but for its last row.
const OCTETS: usize = 4 << 20;

/// How far a move came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Table.
    pub table: &'static str,
    /// Rows that are there.
    pub moved: u64,
    /// Rows that there will be.
    pub total: u64,
}

/// What was moved: tables with their rows, in the order in which they went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// Table and rows.
    pub tables: Vec<(&'static str, u64)>,
    /// Octets of contents that were moved this time.
    pub octets: u64,
}

/// Moves the store in a directory to an empty database. Blocks.
///
/// `Invalid` if the source is in use or is not there, if the target has something in it that is not of this move, or if the
/// source changed since the move began; `Damaged` if a content does not match its hash: then nothing is lost, and the target
/// stays closed.
pub fn to_postgres(
    from: &Path,
    to: postgres::Options,
    now_ms: i64,
    tell: &mut dyn FnMut(Progress),
) -> Result<Moved, StoreError> {
    let source = Source::open(from, now_ms)?;
    let totals = TABLES.iter().map(|table| source.count(table)).collect::<Result<Vec<_>, _>>()?;
    let target = PostgresStore::open_to_move(to, now_ms)?;
    target.begin_move(mark(&source, &totals)?).wait()?;
    let mut moved = Moved::default();
    for (table, total) in TABLES.iter().zip(&totals) {
        moved.octets += table_to(&source, &target, table, *total, tell)?;
        moved.tables.push((table.name, *total));
    }
    target.end_move(numbers(&source)?, totals).wait()?;
    Ok(moved)
}

/// What tells this source from another one, or from itself after it was used.
fn mark(source: &Source, totals: &[u64]) -> Result<String, StoreError> {
    let newest = source.number("SELECT max(seq) FROM event")?;
    let attempts = source.number("SELECT sum(attempts) FROM recipient")?;
    let first = source.number("SELECT min(id) FROM message")?;
    let text = format!("{newest} {attempts} {first} {totals:?}");
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

/// Moves what is left of a table; gives the octets of contents.
fn table_to(
    source: &Source,
    target: &Arc<PostgresStore>,
    table: &'static Table,
    total: u64,
    tell: &mut dyn FnMut(Progress),
) -> Result<u64, StoreError> {
    let (place, mut moved) = target.place_of(table.name).wait()?;
    let mut after: Option<Key> = match place {
        Some(text) => Some(Key::from_text(&text).ok_or_else(|| StoreError::Internal("the move's note".into()))?),
        None => None,
    };
    let mut octets = 0;
    tell(Progress { table: table.name, moved, total });
    loop {
        let rows = source.rows(table, after.as_ref(), ROWS, OCTETS)?;
        let Some(last) = rows.cells.last() else { return Ok(octets) };
        let key = table.key_of(last);
        octets += rows.contents.iter().map(|content| content.octets.len() as u64).sum::<u64>();
        moved += rows.cells.len() as u64;
        target.take_rows(table, rows, key.to_text(), moved).wait()?;
        tell(Progress { table: table.name, moved, total });
        after = Some(key);
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
