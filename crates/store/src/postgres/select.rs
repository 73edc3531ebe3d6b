//! Finding recipients by selector, in order of message id. Which index serves is the planner's to say: it knows the numbers.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::browse::unsigned;
use super::columns::signed;
use super::fault::Fault;
use super::tx::{Tx, Value};
use super::unit::number;
use crate::engine::queued::stored_address;
use crate::model::*;

/// SQL in the making.
struct Words {
    sql: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Words {
    /// Adds a value; gives its place.
    fn value(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    /// Adds a condition; `?` stands for the value.
    fn and(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static) {
        let place = self.value(value);
        self.sql.push_str(" AND ");
        self.sql.push_str(&condition.replace('?', &place));
    }
}

fn lane_conditions(selector: &Selector, words: &mut Words) {
    let conditions = [
        ("l.domain = ?", &selector.domain),
        ("l.route = ?", &selector.route),
        ("l.sender = ?", &selector.sender),
        ("l.stream = ?", &selector.stream),
    ];
    if conditions.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    // What is at rest is in few lanes, which are found first; leased ones are few.
    words.sql.push_str(" AND r.lane IN (SELECT l.id FROM lane l WHERE true");
    for (condition, value) in conditions {
        if let Some(value) = value {
            words.and(condition, value.clone());
        }
    }
    words.sql.push(')');
}

impl Words {
    async fn rows(&self, tx: &Tx) -> Result<Vec<Row>, Fault> {
        let values: Vec<Value<'_>> = self.values.iter().map(|value| &**value as Value<'_>).collect();
        tx.query(&self.sql, &values).await
    }
}

/// Recipients that match, after the cursor, oldest message first, at most `limit`.
pub(super) async fn select(
    tx: &Tx,
    selector: &Selector,
    after: Option<RecipientId>,
    limit: usize,
) -> Result<Vec<RecipientId>, Fault> {
    let mut words = matching(selector, after);
    let limit = words.value(limit as i64);
    words.sql.push_str(&format!(" ORDER BY r.message, r.n LIMIT {limit}"));
    let rows = words.rows(tx).await?;
    rows.iter().map(|row| Ok(RecipientId { message: MessageId(row.try_get(0)?), n: number(row.try_get(1)?) })).collect()
}

/// How many match; no more than `most` are counted.
pub(super) async fn count(tx: &Tx, selector: &Selector, most: u32) -> Result<u64, Fault> {
    let mut words = matching(selector, None);
    let most = words.value(i64::from(most));
    words.sql = format!("SELECT count(*) FROM ({} LIMIT {most}) found", words.sql);
    let rows = words.rows(tx).await?;
    rows.first().map_or(Ok(0), |row| Ok(unsigned(row.try_get(0)?)))
}

/// Recipients that match, after the cursor.
fn matching(selector: &Selector, after: Option<RecipientId>) -> Words {
    let after = after.unwrap_or(RecipientId { message: MessageId(-1), n: 0 });
    let mut words =
        Words { sql: String::from("SELECT r.message, r.n FROM recipient r WHERE true"), values: Vec::new() };
    if after.message.0 >= 0 {
        let (message, n) = (words.value(after.message.0), words.value(signed(after.n)));
        words.sql.push_str(&format!(" AND (r.message, r.n) > ({message}, {n})"));
    }
    match selector.state {
        // Constants: partial indexes are found by them.
        Some(state) => words.sql.push_str(&format!(" AND r.state = {}", state as u8)),
        None if selector.cause.is_some() => words.sql.push_str(" AND r.state IN (0, 2)"),
        None => words.sql.push_str(" AND r.state IN (0, 1, 2)"),
    }
    if let Some(message) = selector.message {
        words.and("r.message = ?", message.0);
    } else if let Some(batch) = selector.batch {
        words.and("r.message IN (SELECT m.id FROM message m WHERE m.batch = ? AND m.pending > 0)", batch.0);
    } else if !selector.state.is_some_and(State::is_final) {
        words.sql.push_str(" AND EXISTS (SELECT 1 FROM message m WHERE m.id = r.message AND m.pending > 0)");
    }
    if let Some(n) = selector.n {
        words.and("r.n = ?", signed(n));
    }
    if let Some(recipient) = &selector.recipient {
        words.and("r.address = ?", stored_address(recipient));
    }
    if let Some(cause) = &selector.cause {
        words.and("r.cause IS NOT NULL AND r.rule = ?", cause.clone());
    }
    if let Some(why) = &selector.why {
        words.and("starts_with(r.why, ?)", why.clone());
    }
    if let Some(domain) = &selector.sender_domain {
        let end = format!("@{}", domain.to_lowercase());
        let condition =
            "EXISTS (SELECT 1 FROM message s WHERE s.id = r.message AND right(s.reverse_path, length(?)) = ?)";
        words.and(condition, end);
    }
    lane_conditions(selector, &mut words);
    words
}
