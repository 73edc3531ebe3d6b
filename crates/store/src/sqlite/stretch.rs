//! Stretches of messages and what occurs in them ([`crate::engine::stretch`]), as rows.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use crate::engine::sought::{Compared, Span, address_keys, header_key};
use crate::engine::stretch::{Fate, LENGTH, Marks, Needs, PASSED};
use crate::{StoreError, encode};

/// A stretch with its marks.
pub(super) struct Stretch {
    first: i64,
    last: i64,
    messages: i64,
    marks: Marks,
    /// As it is stored; empty if it is not yet.
    stored: (i64, i64, Vec<u8>),
}

impl Stretch {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (last, messages, octets): (_, _, Vec<u8>) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let marks = Marks::read(octets.clone());
        Ok(Self { first: row.get(0)?, last, messages, marks, stored: (last, messages, octets) })
    }

    fn has_changed(&self) -> bool {
        let (last, messages, octets) = &self.stored;
        (*last, *messages) != (self.last, self.messages) || octets != self.marks.octets()
    }

    pub(super) fn write(&self, connection: &Connection) -> Result<(), Fault> {
        connection
            .prepare_cached(
                "INSERT INTO stretch(first, last, messages, marks) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(first) DO UPDATE SET last = ?2, messages = ?3, marks = ?4",
            )?
            .execute(params![self.first, self.last, self.messages, self.marks.octets()])?;
        Ok(())
    }
}

/// Removes stretches that have no messages any more, the oldest ones.
pub(super) fn forget(connection: &Connection) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "DELETE FROM stretch WHERE first <
                 (SELECT max(first) FROM stretch WHERE first <= (SELECT min(id) FROM message))",
        )?
        .execute([])?;
    Ok(())
}

/// Adding marks, in the order of ids.
pub(super) struct Stretches<'c> {
    connection: &'c Connection,
    /// The newest of all.
    newest: Option<i64>,
    now: Option<Stretch>,
    /// Where the stretch after the one under way begins.
    end: i64,
    changed: Vec<Stretch>,
    /// Routes of lanes.
    routes: HashMap<i64, Option<String>>,
}

impl<'c> Stretches<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self, Fault> {
        let newest = connection.prepare_cached("SELECT max(first) FROM stretch")?.query_row([], |row| row.get(0))?;
        let (changed, routes) = (Vec::new(), HashMap::new());
        Ok(Self { connection, newest, now: None, end: i64::MIN, changed, routes })
    }

    /// Adds the marks of a message, and its keys if they are wanted; ids have to come in their order.
    pub(super) fn add(&mut self, id: i64, mut keys: Option<&mut BTreeSet<(String, i64)>>) -> Result<(), Fault> {
        self.go_to(id)?;
        let accepted = keys.is_some();
        // One that is older than all stretches is always looked at.
        let Some(mut stretch) = self.now.take() else { return self.read(id, None, &mut keys).map(|_| ()) };
        if self.read(id, Some(&mut stretch.marks), &mut keys)? {
            stretch.last = stretch.last.max(id);
            stretch.messages += i64::from(accepted);
        }
        self.now = Some(stretch);
        Ok(())
    }

    /// Goes to the stretch an id belongs to.
    fn go_to(&mut self, id: i64) -> Result<(), Fault> {
        let newest = self.newest.is_none_or(|newest| id >= newest);
        if self.now.is_none() || id >= self.end {
            self.leave();
            let mut statement = self.connection.prepare_cached(
                "SELECT first, last, messages, marks, (SELECT min(first) FROM stretch WHERE first > ?1) FROM stretch
                 WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
            )?;
            let found =
                statement.query_row([id], |row| Ok((Stretch::read(row)?, row.get::<_, Option<i64>>(4)?))).optional()?;
            (self.now, self.end) = match found {
                Some((stretch, end)) => (Some(stretch), end.unwrap_or(i64::MAX)),
                None => (None, i64::MIN),
            };
        }
        let full = self.now.as_ref().is_none_or(|now| now.messages >= LENGTH && id > now.last);
        if newest && full {
            self.leave();
            self.newest = Some(id);
            self.end = i64::MAX;
            let (marks, stored) = (Marks::default(), (0, 0, Vec::new()));
            self.now = Some(Stretch { first: id, last: id, messages: 0, marks, stored });
        }
        Ok(())
    }

    /// Keeps the stretch under way if something was added.
    fn leave(&mut self) {
        self.changed.extend(self.now.take().filter(Stretch::has_changed));
    }

    /// All stretches that have changed.
    pub(super) fn changed(mut self) -> Vec<Stretch> {
        self.leave();
        self.changed
    }

    /// Reads a message once for both; false if it is gone.
    fn read(
        &mut self,
        id: i64,
        mut marks: Option<&mut Marks>,
        keys: &mut Option<&mut BTreeSet<(String, i64)>>,
    ) -> Result<bool, Fault> {
        let connection = self.connection;
        let mut statement =
            connection.prepare_cached("SELECT sender, stream, reverse_path, details FROM message WHERE id = ?1")?;
        let mut rows = statement.query([id])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        let compared = Compared {
            sender: text(row, 0)?.unwrap_or_default(),
            stream: text(row, 1)?.unwrap_or_default(),
            reverse_path: text(row, 2)?.unwrap_or_default(),
            details: text(row, 3)?,
        };
        let details = encode::read_details(compared.details)?;
        if let Some(marks) = &mut marks {
            marks.add_message(&compared, &details);
        }
        if let Some(keys) = keys {
            keys.extend(details.message_id.as_deref().map(|header| (header_key(header), id)));
        }
        let mut statement =
            connection.prepare_cached("SELECT address, state, lane, rule, why FROM recipient WHERE message = ?1")?;
        let mut rows = statement.query([id])?;
        while let Some(row) = rows.next()? {
            if let Some(keys) = keys {
                address_keys(text(row, 0)?.unwrap_or_default(), id, keys);
            }
            if let Some(marks) = &mut marks {
                let route = self.route(row.get(2)?)?;
                marks.add_recipient(Fate { state: row.get(1)?, route, rule: text(row, 3)?, why: text(row, 4)? });
            }
        }
        Ok(true)
    }

    fn route(&mut self, lane: i64) -> Result<Option<&str>, Fault> {
        if !self.routes.contains_key(&lane) {
            let mut statement = self.connection.prepare_cached("SELECT route FROM lane WHERE id = ?1")?;
            let route = statement.query_row([lane], |row| row.get(0)).optional()?;
            self.routes.insert(lane, route);
        }
        Ok(self.routes.get(&lane).and_then(Option::as_deref))
    }
}

fn text<'r>(row: &'r Row<'_>, index: usize) -> Result<Option<&'r str>, Fault> {
    row.get_ref(index)?.as_str_or_null().map_err(|error| StoreError::Internal(error.to_string()).into())
}

/// The parts of a span that may have what is asked for, newest first.
pub(super) struct Parts {
    /// `None`: no part can be passed over.
    needs: Option<Needs>,
    /// What is left of the span.
    left: Span,
}

impl Parts {
    pub(super) fn of(needs: Option<Needs>, span: Span) -> Self {
        Self { needs: needs.filter(|needs| !needs.is_empty()), left: span }
    }

    /// The next part, or where looking ended: with nothing left of the span, or of what one question may look at.
    pub(super) fn next(&mut self, connection: &Connection, looks: &mut u64) -> Result<Result<Span, i64>, Fault> {
        let Span { lowest, end } = self.left;
        if end <= lowest || *looks == 0 {
            return Ok(Err(end.max(lowest)));
        }
        let Some(needs) = &self.needs else {
            self.left.end = lowest;
            return Ok(Ok(Span { lowest, end }));
        };
        let mut statement =
            connection.prepare_cached("SELECT first, marks FROM stretch WHERE first < ?1 ORDER BY first DESC")?;
        let mut rows = statement.query([end])?;
        let mut end = end;
        while let Some(row) = rows.next()? {
            let first: i64 = row.get(0)?;
            let marks = row.get_ref(1)?.as_blob().map_err(|error| StoreError::Internal(error.to_string()))?;
            let part = Span { lowest: lowest.max(first), end };
            end = part.lowest;
            self.left.end = end;
            if needs.are_met_by(marks) {
                return Ok(Ok(part));
            }
            *looks = looks.saturating_sub(PASSED);
            if end <= lowest || *looks == 0 {
                return Ok(Err(end));
            }
        }
        // Older than all stretches: nothing is known of it.
        self.left.end = lowest;
        Ok(Ok(Span { lowest, end }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::*;

    #[test]
    fn no_part_is_begun_when_a_question_has_looked_at_enough() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("migrations/0001_queue.sql")).unwrap();
        connection.execute_batch(include_str!("migrations/0090_stretches.sql")).unwrap();
        let query = SearchQuery { state: Some(State::Failed), ..SearchQuery::default() };
        let mut all = Marks::default();
        all.add_recipient(Fate { state: State::Failed as u8, route: None, rule: None, why: None });
        for first in [10, 20] {
            let (last, messages, stored) = (first + 5, 6, (0, 0, Vec::new()));
            Stretch { first, last, messages, marks: Marks::read(all.octets().to_vec()), stored }
                .write(&connection)
                .unwrap();
        }
        let mut parts = Parts::of(Some(Needs::of(&query)), Span { lowest: 0, end: 100 });
        let part = parts.next(&connection, &mut 1).unwrap().unwrap();
        assert_eq!((part.lowest, part.end), (20, 100));
        assert_eq!(parts.next(&connection, &mut 0).unwrap().unwrap_err(), 20, "and it is told where to go on");
        let part = parts.next(&connection, &mut 1).unwrap().unwrap();
        assert_eq!((part.lowest, part.end), (10, 20));
    }
}
