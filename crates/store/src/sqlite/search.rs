//! Searching messages, newest first.
//!
//! Candidates come from a source ([`super::candidates`]). Each of them is looked at, a bounded number for one question.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::browse::{self, Snapshot};
use super::candidates::{Next, Source};
use super::claim::{MESSAGE_COLUMNS, read_message};
use super::fault::Fault;
use super::{SqliteStore, sought};
use crate::engine::sought::{Compared, LOOK, PEEK, Span, Words};
use crate::model::*;
use crate::verbs::Search;
use crate::{Pending, StoreError};

impl Search for SqliteStore {
    fn search(&self, query: SearchQuery, before: Option<MessageId>, limit: u32) -> Pending<SearchPage> {
        self.shared.readers.ask(move |connection| Ok(search(connection, &query, before, limit)?))
    }

    fn catch_up_search(&self) -> Pending<u64> {
        if sought::is_up_to_date(&self.shared) {
            return Pending::ready(Ok(0));
        }
        self.job("sought", sought::catch_up)
    }
}

fn search(
    connection: &Connection,
    query: &SearchQuery,
    before: Option<MessageId>,
    limit: u32,
) -> Result<SearchPage, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let limit = limit.clamp(1, MOST_FOUND) as usize;
    let span = Span::of(query, before);
    let mut look = Look { connection, query, tests: Tests::of(query), page: SearchPage::default(), left: LOOK, limit };
    if let Some(id) = query.id {
        if span.has(id.0) {
            look.at(id.0)?;
        }
        look.page.looked = 0;
        return Ok(look.page);
    }
    let mut source = Source::of(connection, query, span)?;
    let knows = source.knows() && look.tests.is_empty();
    loop {
        match source.next(&mut look.left)? {
            Next::Message(id) if look.goes_on() => look.at(id)?,
            Next::Message(id) => {
                look.page.next = Some(MessageId(id.saturating_add(1)));
                break;
            }
            Next::Enough(end) => {
                look.page.next = Some(MessageId(end));
                break;
            }
            Next::Nothing => break,
        }
    }
    look.page.looked = if knows { 0 } else { look.page.looked + source.scanned };
    Ok(look.page)
}

/// Looking at candidates one by one.
struct Look<'a> {
    connection: &'a Connection,
    query: &'a SearchQuery,
    tests: Tests,
    page: SearchPage,
    left: u64,
    limit: usize,
}

impl Look<'_> {
    fn goes_on(&self) -> bool {
        self.left > 0 && self.page.hits.len() < self.limit
    }

    fn at(&mut self, id: i64) -> Result<(), Fault> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {MESSAGE_COLUMNS}, message.segment IS NOT NULL FROM message WHERE id = ?1"
        ))?;
        let mut rows = statement.query([id])?;
        // One that has a key may be gone.
        match rows.next()? {
            Some(row) => self.row(row),
            None => Ok(()),
        }
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), Fault> {
        let suits = self.tests.message(self.query, row)?;
        self.page.looked += 1;
        self.left = self.left.saturating_sub(1);
        if !suits {
            return Ok(());
        }
        let id = MessageId(row.get(0)?);
        let (matching, shown) = self.recipients(id)?;
        if matching == 0 {
            return Ok(());
        }
        let mut recipients = Vec::with_capacity(shown.len());
        for n in shown {
            recipients.extend(browse::recipient(self.connection, RecipientId { message: id, n })?);
        }
        let message = Arc::new(read_message(row)?);
        self.page.hits.push(SearchHit { message, recipients, matching, has_content: row.get(12)? });
        if self.page.hits.len() >= self.limit {
            // Whether there is another one is worth knowing, but not worth all that is left.
            self.left = self.left.min(PEEK);
        }
        Ok(())
    }

    /// How many recipients meet the conditions, and the first of them.
    fn recipients(&mut self, id: MessageId) -> Result<(u64, Vec<u32>), Fault> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(&self.tests.sql)?;
        let mut values = vec![Value::Integer(id.0)];
        values.extend(self.tests.values.iter().cloned());
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut matching, mut shown, mut read) = (0, Vec::new(), 0);
        while let Some(row) = rows.next()? {
            read += 1;
            let address = row.get_ref(1)?.as_str().map_err(|error| StoreError::Internal(error.to_string()))?;
            if !self.tests.words.recipient(self.query, address) {
                continue;
            }
            matching += 1;
            if shown.len() < MOST_SHOWN {
                shown.push(row.get(0)?);
            }
        }
        self.left = self.left.saturating_sub(read);
        Ok((matching, shown))
    }
}

/// The conditions: those that SQLite compares, and the others.
struct Tests {
    /// Recipients of a message, with what SQLite can compare.
    sql: String,
    values: Vec<Value>,
    words: Words,
}

/// Conditions on a recipient `r` that SQLite compares, with their values.
pub(super) fn recipient_conditions(query: &SearchQuery) -> (String, Vec<Value>) {
    let (mut sql, mut values) = (String::new(), Vec::new());
    if let Some(state) = query.state {
        sql.push_str(" AND r.state = ?");
        values.push(Value::Integer(state as i64));
    }
    if let Some(reason) = &query.reason {
        sql.push_str(" AND (r.rule = ? OR substr(r.why, 1, ?) = ?)");
        values.push(Value::Text(reason.clone()));
        values.push(Value::Integer(reason.chars().count() as i64));
        values.push(Value::Text(reason.clone()));
    }
    if let Some(route) = &query.route {
        sql.push_str(" AND EXISTS (SELECT 1 FROM lane WHERE lane.id = r.lane AND lane.route = ?)");
        values.push(Value::Text(route.clone()));
    }
    (sql, values)
}

impl Tests {
    fn of(query: &SearchQuery) -> Self {
        let (conditions, values) = recipient_conditions(query);
        let mut sql = format!("SELECT r.n, r.address FROM recipient r WHERE r.message = ?{conditions}");
        sql.push_str(" ORDER BY r.n");
        Self { sql, values, words: Words::of(query) }
    }

    /// Nothing but what a key says.
    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.words.is_empty()
    }

    fn message(&self, query: &SearchQuery, row: &Row<'_>) -> Result<bool, Fault> {
        let text = |index: usize| -> Result<Option<&str>, Fault> {
            row.get_ref(index)?.as_str_or_null().map_err(|error| StoreError::Internal(error.to_string()).into())
        };
        let compared = Compared {
            sender: text(2)?.unwrap_or_default(),
            stream: text(3)?.unwrap_or_default(),
            reverse_path: text(5)?.unwrap_or_default(),
            details: text(11)?,
        };
        Ok(self.words.message(query, &compared)?)
    }
}
