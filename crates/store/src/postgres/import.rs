//! Taking in a whole store that is moved here. While the table `moving` is there, nobody else opens this one.

use std::sync::Arc;

use super::fault::Fault;
use super::shared::Shared;
use super::tx::{self, Mode, Tx, Value};
use super::unit::clean;
use super::{PostgresStore, parts, verify};
use crate::moved::tables::{Cell, Kind, Rows, TABLES, Table};
use crate::{Pending, StoreError};

/// Octets of a content that are one row.
const PART: usize = 4 << 20;

/// Numbers that are never used again.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    pub(crate) event: i64,
    pub(crate) suppression: i64,
    pub(crate) forgotten: i64,
    pub(crate) record: i64,
    pub(crate) digest: i64,
    pub(crate) delivery: i64,
    pub(crate) returned: i64,
}

/// Refuses a store into which another one is being moved.
pub(super) async fn check(client: &tokio_postgres::Client) -> Result<(), Fault> {
    let row = client.query_one("SELECT to_regclass('moving') IS NOT NULL", &[]).await?;
    if row.try_get(0)? {
        return Err(StoreError::Invalid(
            "another store is being moved here and is not all there: give the same `pillarbox migrate` again".into(),
        )
        .into());
    }
    Ok(())
}

impl PostgresStore {
    /// Begins a move, or goes on with the one of the same source.
    pub(crate) fn begin_move(&self, mark: String) -> Pending<()> {
        self.write(mark, |tx, mark| async move { begin(&tx, &mark).await })
    }

    /// How far a table came: the key of its last row, and rows.
    pub(crate) fn place_of(&self, table: &'static str) -> Pending<(Option<String>, u64)> {
        self.read(table, |tx, table| async move {
            let row = tx.query_opt("SELECT place, rows FROM moving WHERE name = $1", &[&*table]).await?;
            let Some(row) = row else { return Ok((None, 0)) };
            Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.unsigned_abs()))
        })
    }

    /// Takes rows, and notes how far they came.
    pub(crate) fn take_rows(&self, table: &'static Table, rows: Rows, place: String, moved: u64) -> Pending<()> {
        self.task(move |shared| async move {
            if let Some(at) = table.column("at").filter(|_| table.name == "event") {
                let times = rows.cells.iter().filter_map(|row| match row.get(at) {
                    Some(Cell::Number(at)) => Some(*at),
                    _ => None,
                });
                parts::ensure(&shared, times).await?;
            }
            let chunk = Arc::new(Chunk::of(table, rows, place, moved as i64));
            tx::run(&shared, Mode::Write, chunk, |tx, chunk| async move { chunk.write(&tx).await }).await
        })
    }

    /// Counts all, sets the numbers, checks the store and opens it to everybody.
    pub(crate) fn end_move(&self, numbers: Numbers, totals: Vec<u64>) -> Pending<()> {
        self.task(move |shared| async move {
            let all = Arc::new((numbers, totals));
            tx::run(&shared, Mode::Write, all, |tx, all| async move { finish(&tx, &all.0, &all.1).await }).await?;
            settled(&shared).await
        })
    }
}

async fn begin(tx: &Tx, mark: &str) -> Result<(), Fault> {
    let known = tx.query_one("SELECT to_regclass('moving') IS NOT NULL", &[]).await?;
    if known.try_get(0)? {
        let row = tx.query_opt("SELECT place FROM moving WHERE name = ''", &[]).await?;
        let before: Option<String> = row.map(|row| row.try_get(0)).transpose()?.flatten();
        if before.as_deref() != Some(mark) {
            return Err(StoreError::Invalid(
                "the source was used, or is another one, since the move into this database began: drop its schema and \
                 begin anew"
                    .into(),
            )
            .into());
        }
        return Ok(());
    }
    for table in TABLES {
        let sql = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", table.name, table.moved);
        if tx.query_opt(&sql, &[]).await?.is_some() {
            return Err(StoreError::Invalid(format!(
                "the target is not empty: there is something in its table {}",
                table.name
            ))
            .into());
        }
    }
    tx.execute("CREATE TABLE moving(name text PRIMARY KEY, place text, rows bigint NOT NULL)", &[]).await?;
    tx.execute("INSERT INTO moving(name, place, rows) VALUES ('', $1, 0)", &[&mark]).await?;
    Ok(())
}

/// Rows by column, as text: the server reads them as what they are.
struct Chunk {
    sql: String,
    columns: Vec<Vec<Option<String>>>,
    table: &'static str,
    place: String,
    moved: i64,
    message: Vec<i64>,
    part: Vec<i32>,
    data: Vec<Vec<u8>>,
}

impl Chunk {
    fn of(table: &'static Table, rows: Rows, place: String, moved: i64) -> Self {
        let mut columns: Vec<Vec<Option<String>>> = vec![Vec::with_capacity(rows.cells.len()); table.columns.len()];
        for row in rows.cells {
            for (column, cell) in columns.iter_mut().zip(row) {
                column.push(match cell {
                    Cell::Null => None,
                    Cell::Number(number) => Some(number.to_string()),
                    Cell::Text(text) => Some(clean(&text)),
                    Cell::Octets(octets) => Some(hex(&octets)),
                });
            }
        }
        let (mut message, mut part, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for content in rows.contents {
            for (number, octets) in (0..).zip(content.octets.chunks(PART)) {
                message.push(content.message);
                part.push(number);
                data.push(octets.to_vec());
            }
        }
        Self { sql: insert(table), columns, table: table.name, place, moved, message, part, data }
    }

    async fn write(&self, tx: &Tx) -> Result<(), Fault> {
        let values: Vec<Value<'_>> = self.columns.iter().map(|column| column as Value<'_>).collect();
        tx.execute(&self.sql, &values).await?;
        if !self.message.is_empty() {
            tx.execute(
                "INSERT INTO content(message, part, data)
                 SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bytea[])",
                &[&self.message, &self.part, &self.data],
            )
            .await?;
        }
        tx.execute(
            "INSERT INTO moving(name, place, rows) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET place = excluded.place, rows = excluded.rows",
            &[&self.table, &self.place, &self.moved],
        )
        .await?;
        Ok(())
    }
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// The statement that inserts rows of a table.
fn insert(table: &Table) -> String {
    let names: Vec<&str> = table.columns.iter().map(|(name, _, _)| *name).collect();
    let casts: Vec<String> = table
        .columns
        .iter()
        .map(|(name, _, kind)| match kind {
            Kind::Number(kind) => format!("u.{name}::{kind}"),
            Kind::Text => format!("u.{name}"),
            Kind::Flag => format!("u.{name}::boolean"),
            Kind::Octets => format!("decode(u.{name}, 'hex')"),
        })
        .collect();
    let arrays: Vec<String> = (1..=names.len()).map(|number| format!("${number}::text[]")).collect();
    let names = names.join(", ");
    format!(
        "INSERT INTO {}({names}) SELECT {} FROM unnest({}) AS u({names})",
        table.name,
        casts.join(", "),
        arrays.join(", ")
    )
}

/// Counts all, and sets the numbers.
async fn finish(tx: &Tx, numbers: &Numbers, totals: &[u64]) -> Result<(), Fault> {
    for (table, total) in TABLES.iter().zip(totals) {
        let sql = format!("SELECT count(*) FROM {} WHERE {}", table.name, table.moved);
        let found: i64 = tx.query_one(&sql, &[]).await?.try_get(0)?;
        if found.unsigned_abs() != *total {
            return Err(StoreError::Damaged(format!(
                "{found} rows of {} have come where {total} went: drop the schema and begin anew",
                table.name
            ))
            .into());
        }
    }
    tx.execute("UPDATE event_number SET value = greatest(value, $1) WHERE one = 1", &[&numbers.event]).await?;
    for (name, value) in
        [("suppression", numbers.suppression), ("suppression.forgotten", numbers.forgotten), ("record", numbers.record)]
    {
        let sql = "UPDATE counter SET value = greatest(value, $2) WHERE name = $1";
        tx.execute(sql, &[&name, &value]).await?;
    }
    for (table, value) in
        [("digest", numbers.digest), ("hook_delivery", numbers.delivery), ("returned", numbers.returned)]
    {
        let sql = format!("ALTER TABLE {table} ALTER COLUMN id RESTART WITH {}", value.max(0) + 1);
        tx.execute(&sql, &[]).await?;
    }
    Ok(())
}

/// Checks the store, and opens it to everybody.
async fn settled(shared: &Arc<Shared>) -> Result<(), Fault> {
    let problems = verify::verify(shared, true).await?;
    if !problems.is_empty() {
        return Err(
            StoreError::Damaged(format!("the store that was moved is not sound: {}", problems.join("; "))).into()
        );
    }
    tx::run(shared, Mode::Write, Arc::new(()), |tx, _| async move {
        for table in TABLES {
            tx.execute(&format!("ANALYZE {}", table.name), &[]).await?;
        }
        tx.execute("DROP TABLE moving", &[]).await?;
        Ok(())
    })
    .await
}
