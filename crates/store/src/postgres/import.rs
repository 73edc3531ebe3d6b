//! Taking in a whole store that is moved here. While the table `moving` is there, nobody else opens this one.

use std::sync::Arc;

use super::fault::Fault;
use super::shared::Shared;
use super::tx::{self, Mode, Tx, Value};
use super::{PostgresStore, parts, verify};
use crate::moved::tables::{Cell, Content, Key, Kind, Row, TABLES, Table};
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

/// What makes a stretch of a table as it is at the source.
pub(crate) struct Changes {
    pub(crate) table: &'static Table,
    /// Rows that are not here, or are others.
    pub(crate) put: Vec<Row>,
    /// Rows that are here and shall not be, or not like this.
    pub(crate) gone: Vec<Key>,
    pub(crate) contents: Vec<Content>,
    /// Messages that have lost their content, or were removed.
    pub(crate) emptied: Vec<i64>,
}

impl Changes {
    /// None yet.
    pub(crate) fn to(table: &'static Table) -> Self {
        Self { table, put: Vec::new(), gone: Vec::new(), contents: Vec::new(), emptied: Vec::new() }
    }
}

/// A stretch of a table: behind one key, up to another.
pub(crate) struct Stretch {
    pub(crate) table: &'static Table,
    pub(crate) after: Option<Key>,
    pub(crate) upto: Option<Key>,
    pub(crate) most: usize,
}

impl PostgresStore {
    /// Begins a move, or goes on with one. Whoever began before can write no more: each write says who it is from.
    pub(crate) fn begin_move(&self, mover: String) -> Pending<()> {
        self.write(mover, |tx, mover| async move { begin(&tx, &mover).await })
    }

    /// Rows of a table that are here, in the order of its key.
    pub(crate) fn rows_here(&self, stretch: Stretch) -> Pending<Vec<Row>> {
        self.read(stretch, |tx, stretch| async move { rows(&tx, &stretch).await })
    }

    /// Makes them as they are at the source.
    pub(crate) fn take_changes(&self, mover: String, changes: Changes) -> Pending<()> {
        self.task(move |shared| async move {
            let table = changes.table;
            if let Some(at) = table.column("at").filter(|_| table.name == "event") {
                let times = changes.put.iter().filter_map(|row| match row.get(at) {
                    Some(Cell::Number(at)) => Some(*at),
                    _ => None,
                });
                parts::ensure(&shared, times).await?;
            }
            let chunk = Arc::new((mover, Chunk::of(changes)));
            tx::run(&shared, Mode::Write, chunk, |tx, chunk| async move {
                held_by(&tx, &chunk.0).await?;
                chunk.1.write(&tx).await
            })
            .await
        })
    }

    /// Counts all, sets the numbers, checks the store and opens it to everybody.
    pub(crate) fn end_move(&self, mover: String, numbers: Numbers, totals: Vec<u64>) -> Pending<()> {
        self.task(move |shared| async move {
            let all = Arc::new((mover, numbers, totals));
            tx::run(&shared, Mode::Write, all, |tx, all| async move {
                held_by(&tx, &all.0).await?;
                finish(&tx, &all.1, &all.2).await
            })
            .await?;
            settled(&shared).await
        })
    }
}

async fn begin(tx: &Tx, mover: &str) -> Result<(), Fault> {
    let known = tx.query_one("SELECT to_regclass('moving') IS NOT NULL", &[]).await?;
    if known.try_get(0)? {
        // Waits for a write of whoever began before.
        tx.execute("DROP TABLE moving", &[]).await?;
        for table in TABLES {
            tx.execute(&format!("DELETE FROM {} WHERE {}", table.name, table.alone), &[]).await?;
        }
    } else {
        for table in TABLES {
            let sql = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", table.name, table.moved);
            if tx.query_opt(&sql, &[]).await?.is_some() {
                return Err(StoreError::Invalid(format!(
                    "the target is not empty: there is something in its table {}. A move that has come to its end is not \
                     repeated",
                    table.name
                ))
                .into());
            }
        }
    }
    tx.execute("CREATE TABLE moving(mover text NOT NULL)", &[]).await?;
    tx.execute("INSERT INTO moving VALUES ($1)", &[&mover]).await?;
    Ok(())
}

/// Nobody else has begun.
async fn held_by(tx: &Tx, mover: &str) -> Result<(), Fault> {
    if tx.query_opt("SELECT 1 FROM moving WHERE mover = $1", &[&mover]).await?.is_none() {
        return Err(
            StoreError::Invalid("another `pillarbox migrate` has begun to move into this database".into()).into()
        );
    }
    Ok(())
}

async fn rows(tx: &Tx, stretch: &Stretch) -> Result<Vec<Row>, Fault> {
    let table = stretch.table;
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|(name, _, kind)| match kind {
            Kind::Number(_) => format!("{name}::bigint"),
            Kind::Flag => format!("{name}::integer::bigint"),
            Kind::Text | Kind::Octets => (*name).to_owned(),
        })
        .collect();
    let keys: Vec<String> = table
        .keys()
        .map(|(name, kind)| match kind {
            Kind::Text => format!("{name} COLLATE \"C\""),
            Kind::Number(_) | Kind::Flag | Kind::Octets => name.to_owned(),
        })
        .collect();
    let keys = keys.join(", ");
    let mut sql = format!("SELECT {} FROM {} WHERE ({})", columns.join(", "), table.name, table.moved);
    let mut values: Vec<Value<'_>> = Vec::new();
    for (key, sign) in [(&stretch.after, ">"), (&stretch.upto, "<=")] {
        let Some(key) = key else { continue };
        let mut marks = Vec::new();
        for cell in &key.0 {
            let (value, kind): (Value<'_>, _) = match cell {
                Cell::Number(number) => (number, "bigint"),
                Cell::Text(text) => (text, "text"),
                Cell::Null | Cell::Octets(_) => return Err(StoreError::Internal("no key".into()).into()),
            };
            values.push(value);
            marks.push(format!("${}::{kind}", values.len()));
        }
        sql.push_str(&format!(" AND ({keys}) {sign} ({})", marks.join(", ")));
    }
    sql.push_str(&format!(" ORDER BY {keys} LIMIT {}", stretch.most));
    let found = tx.query(&sql, &values).await?;
    let cells = |row: &tokio_postgres::Row| {
        let cell = |(at, (.., kind)): (usize, &(_, _, Kind))| {
            Ok::<_, tokio_postgres::Error>(
                match kind {
                    Kind::Number(_) | Kind::Flag => row.try_get::<_, Option<i64>>(at)?.map(Cell::Number),
                    Kind::Text => row.try_get::<_, Option<String>>(at)?.map(Cell::Text),
                    Kind::Octets => row.try_get::<_, Option<Vec<u8>>>(at)?.map(Cell::Octets),
                }
                .unwrap_or(Cell::Null),
            )
        };
        table.columns.iter().enumerate().map(cell).collect::<Result<Row, _>>()
    };
    Ok(found.iter().map(cells).collect::<Result<_, _>>()?)
}

/// Rows by column, as text: the server reads them as what they are.
struct Chunk {
    table: &'static Table,
    columns: Vec<Vec<Option<String>>>,
    keys: Vec<Vec<Option<String>>>,
    emptied: Vec<i64>,
    message: Vec<i64>,
    part: Vec<i32>,
    data: Vec<Vec<u8>>,
}

impl Chunk {
    fn of(changes: Changes) -> Self {
        let table = changes.table;
        let (mut message, mut part, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for content in changes.contents {
            for (number, octets) in (0..).zip(content.octets.chunks(PART)) {
                message.push(content.message);
                part.push(number);
                data.push(octets.to_vec());
            }
        }
        let columns = by_column(changes.put, table.columns.len());
        let keys = by_column(changes.gone.into_iter().map(|key| key.0), table.key.len());
        Self { table, columns, keys, emptied: changes.emptied, message, part, data }
    }

    async fn write(&self, tx: &Tx) -> Result<(), Fault> {
        if self.keys.first().is_some_and(|keys| !keys.is_empty()) {
            let values: Vec<Value<'_>> = self.keys.iter().map(|column| column as Value<'_>).collect();
            tx.execute(&delete(self.table), &values).await?;
        }
        if !self.emptied.is_empty() {
            tx.execute("DELETE FROM content WHERE message = ANY($1)", &[&self.emptied]).await?;
        }
        if self.columns.first().is_some_and(|rows| !rows.is_empty()) {
            let values: Vec<Value<'_>> = self.columns.iter().map(|column| column as Value<'_>).collect();
            tx.execute(&insert(self.table), &values).await?;
        }
        if !self.message.is_empty() {
            tx.execute(
                "INSERT INTO content(message, part, data)
                 SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bytea[])",
                &[&self.message, &self.part, &self.data],
            )
            .await?;
        }
        Ok(())
    }
}

fn by_column(rows: impl IntoIterator<Item = Row>, count: usize) -> Vec<Vec<Option<String>>> {
    let mut columns = vec![Vec::new(); count];
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            column.push(match cell {
                Cell::Null => None,
                Cell::Number(number) => Some(number.to_string()),
                Cell::Text(text) => Some(text),
                Cell::Octets(octets) => Some(hex(&octets)),
            });
        }
    }
    columns
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// A value of `u`, whose columns are text.
fn cast(name: &str, kind: Kind) -> String {
    match kind {
        Kind::Number(kind) => format!("u.{name}::{kind}"),
        Kind::Text => format!("u.{name}"),
        Kind::Flag => format!("u.{name}::boolean"),
        Kind::Octets => format!("decode(u.{name}, 'hex')"),
    }
}

fn arrays(count: usize) -> String {
    (1..=count).map(|number| format!("${number}::text[]")).collect::<Vec<_>>().join(", ")
}

/// The statement that inserts rows of a table.
fn insert(table: &Table) -> String {
    let names: Vec<&str> = table.columns.iter().map(|(name, _, _)| *name).collect();
    let casts: Vec<String> = table.columns.iter().map(|(name, _, kind)| cast(name, *kind)).collect();
    let (arrays, names) = (arrays(names.len()), names.join(", "));
    format!("INSERT INTO {}({names}) SELECT {} FROM unnest({arrays}) AS u({names})", table.name, casts.join(", "))
}

/// The statement that deletes rows of a table.
fn delete(table: &Table) -> String {
    let name = table.name;
    let same: Vec<String> = table.keys().map(|(key, kind)| format!("{name}.{key} = {}", cast(key, kind))).collect();
    let (arrays, keys) = (arrays(table.key.len()), table.key.join(", "));
    format!("DELETE FROM {name} USING unnest({arrays}) AS u({keys}) WHERE {}", same.join(" AND "))
}

/// Counts all, and sets the numbers.
async fn finish(tx: &Tx, numbers: &Numbers, totals: &[u64]) -> Result<(), Fault> {
    tx.take_time().await?;
    for (table, total) in TABLES.iter().zip(totals) {
        let sql = format!("SELECT count(*) FROM {} WHERE {}", table.name, table.moved);
        let found: i64 = tx.query_one(&sql, &[]).await?.try_get(0)?;
        if found.unsigned_abs() != *total {
            return Err(
                StoreError::Damaged(format!("{found} rows of {} have come where {total} went", table.name)).into()
            );
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
        tx.take_time().await?;
        for table in TABLES {
            tx.execute(&format!("ANALYZE {}", table.name), &[]).await?;
        }
        tx.execute("DROP TABLE moving", &[]).await?;
        Ok(())
    })
    .await
}
