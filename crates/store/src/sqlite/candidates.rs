//! Where candidates of a search come from, newest first.
//!
//! Where an address, a domain or a Message-ID is asked for, from the keys ([`super::sought`]); where an open state is, from the
//! open messages; else from all messages, as far as SQLite finds that they meet the conditions it can compare. Stretches in
//! which nothing can be meant are passed over ([`super::stretch`]). What has no keys and marks yet, the tail, is merged in.

use std::collections::VecDeque;

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::fault::Fault;
use super::search::recipient_conditions;
use super::sought;
use super::stretch::Parts;
use crate::engine::sought::{CHUNK, MANY, SCAN, SCANNED, Span, TAIL, Wanted, folded};
use crate::engine::stretch::Needs;
use crate::model::*;

/// What comes next.
pub(super) enum Next {
    /// A candidate.
    Message(i64),
    /// Nothing from this id on; that is enough for one question.
    Enough(i64),
    /// There are no more.
    Nothing,
}

enum Kind {
    /// Candidates that are known, newest first.
    These(VecDeque<i64>),
    Walk(Walk),
}

/// Candidates, newest first.
pub(super) struct Source<'c> {
    connection: &'c Connection,
    kind: Kind,
    parts: Parts,
    lowest: i64,
    /// The part under way.
    part: Option<Span>,
    found: VecDeque<i64>,
    /// Oldest first: it is taken from its end.
    tail: Vec<i64>,
    /// From where on there is nothing more in `found`.
    ended: Option<i64>,
    last: Option<i64>,
    /// Messages that SQLite compared.
    pub(super) scanned: u64,
}

impl<'c> Source<'c> {
    pub(super) fn of(connection: &'c Connection, query: &SearchQuery, span: Span) -> Result<Self, Fault> {
        let wanted = Wanted::of(query);
        let needs = Needs::of(query);
        let source = |kind, needs, tail| {
            let (part, found, ended, last) = (None, VecDeque::new(), None, None);
            let parts = Parts::of(needs, span);
            Self { connection, kind, parts, lowest: span.lowest, part, found, tail, ended, last, scanned: 0 }
        };
        let walk = || Kind::Walk(Walk::of(query, None));
        if wanted.is_none() && needs.is_empty() {
            return Ok(source(walk(), None, Vec::new()));
        }
        let place = sought::place(connection)?;
        let (touched, upto) = sought::touched_after(connection, place, TAIL + 1)?;
        if upto - place > TAIL {
            return Ok(source(walk(), None, Vec::new()));
        }
        // What has its keys, but not the marks of what happened since, is in a stretch that may be passed over.
        let marked = !needs.is_empty();
        let tail =
            touched.into_iter().filter(|(id, accepted)| span.has(*id) && (marked || *accepted)).map(|(id, _)| id);
        let tail = tail.collect();
        let kind = match wanted {
            Some(Wanted::Key(key)) => Kind::Walk(Walk::of(query, Some(key))),
            Some(Wanted::Prefix(prefix)) => match by_prefix(connection, &prefix, span)? {
                Some(found) => Kind::These(found),
                None => walk(),
            },
            None => walk(),
        };
        Ok(source(kind, Some(needs), tail))
    }

    /// An index gives the candidates.
    pub(super) fn knows(&self) -> bool {
        !matches!(&self.kind, Kind::Walk(walk) if !matches!(walk.over, Over::Key(_)))
    }

    pub(super) fn next(&mut self, looks: &mut u64) -> Result<Next, Fault> {
        loop {
            while self.found.is_empty() && self.ended.is_none() {
                self.read(looks)?;
            }
            let next = match (self.found.front().copied(), self.tail.last().copied()) {
                (Some(found), Some(tail)) if tail > found => self.tail.pop(),
                (None, Some(tail)) if self.ended.is_some_and(|end| tail >= end) => self.tail.pop(),
                _ => self.found.pop_front(),
            };
            match (next, self.ended) {
                // A message may have its keys and be in the tail too.
                (Some(id), _) if self.last != Some(id) => {
                    self.last = Some(id);
                    return Ok(Next::Message(id));
                }
                (Some(_), _) => {}
                (None, Some(end)) if end > self.lowest => return Ok(Next::Enough(end)),
                (None, _) => return Ok(Next::Nothing),
            }
        }
    }

    fn read(&mut self, looks: &mut u64) -> Result<(), Fault> {
        let part = match self.part.take() {
            Some(part) if *looks == 0 => Err(part.end),
            Some(part) => Ok(part),
            None => self.parts.next(self.connection, looks)?,
        };
        let part = match part {
            Ok(part) => part,
            Err(end) => {
                self.ended = Some(end);
                return Ok(());
            }
        };
        let connection = self.connection;
        let rest = match &mut self.kind {
            Kind::These(these) => {
                while these.front().is_some_and(|id| *id >= part.end) {
                    these.pop_front();
                }
                while these.front().is_some_and(|id| *id >= part.lowest) {
                    self.found.extend(these.pop_front());
                }
                None
            }
            Kind::Walk(walk) => {
                let Walked { found, rest, scanned } = walk.read(connection, part)?;
                self.found = found;
                self.scanned += scanned;
                *looks = looks.saturating_sub(scanned / SCANNED);
                rest
            }
        };
        self.part = rest.map(|end| Span { end, ..part });
        Ok(())
    }
}

/// Where to go on after a chunk, if it is full.
fn rest(found: &VecDeque<i64>) -> Option<i64> {
    found.back().copied().filter(|_| found.len() as i64 == CHUNK)
}

/// Messages with a key that begins so, newest first; `None`: they are many.
fn by_prefix(connection: &Connection, prefix: &str, span: Span) -> Result<Option<VecDeque<i64>>, Fault> {
    let mut ids: Vec<i64> = connection
        .prepare_cached("SELECT message FROM sought WHERE key >= ?1 AND key < ?2 LIMIT ?3")?
        .query_map(params![prefix, format!("{prefix}\u{10ffff}"), MANY as i64 + 1], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if ids.len() > MANY {
        return Ok(None);
    }
    ids.retain(|id| span.has(*id));
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.dedup();
    Ok(Some(ids.into()))
}

/// What is walked over.
enum Over {
    /// All messages.
    All,
    /// The open ones.
    Open,
    /// Those with a key.
    Key(String),
}

/// Messages, with what SQLite can compare.
struct Walk {
    over: Over,
    conditions: String,
    values: Vec<Value>,
}

struct Walked {
    found: VecDeque<i64>,
    /// Where to go on.
    rest: Option<i64>,
    scanned: u64,
}

impl Walk {
    fn of(query: &SearchQuery, key: Option<String>) -> Self {
        let over = match (key, query.state) {
            (Some(key), _) => Over::Key(key),
            (None, Some(State::Waiting | State::Leased | State::Held)) => Over::Open,
            (None, _) => Over::All,
        };
        let (mut conditions, mut values) = (String::new(), Vec::new());
        let by_key = matches!(over, Over::Key(_));
        let id = if by_key { "sought.message" } else { "message.id" };
        for (column, name) in [("sender", &query.sender), ("stream", &query.stream)] {
            if let Some(name) = name {
                conditions.push_str(&match by_key {
                    true => format!(" AND (SELECT {column} FROM message WHERE message.id = {id}) = ?"),
                    false => format!(" AND message.{column} = ?"),
                });
                values.push(Value::Text(name.clone()));
            }
        }
        let (mut sql, mut more) = recipient_conditions(query);
        if let (false, Some(Whom::Prefix(prefix))) = (by_key, &query.recipient)
            && !prefix.starts_with('@')
        {
            // SQLite folds ASCII only: what has other letters is looked at.
            let folded = folded(prefix);
            sql.push_str(
                " AND (lower(substr(r.address, 1, ?)) = ? OR length(r.address) <> length(CAST(r.address AS BLOB)))",
            );
            more.extend([Value::Integer(folded.chars().count() as i64), Value::Text(folded)]);
        }
        if !more.is_empty() {
            conditions.push_str(&format!(" AND EXISTS (SELECT 1 FROM recipient r WHERE r.message = {id}{sql})"));
            values.extend(more);
        }
        Self { over, conditions, values }
    }

    /// Ids in a span with these conditions, newest first. Open messages are two sorted lists of one index, merged.
    fn sql(&self, conditions: &str) -> String {
        let open = |leased: u8| {
            format!(
                "SELECT id FROM message INDEXED BY message_open
                 WHERE pending > 0 AND (leased > 0) = {leased} AND id < ? AND id >= ?{conditions}"
            )
        };
        match &self.over {
            Over::Open => format!("{} UNION ALL {} ORDER BY 1 DESC LIMIT ?", open(0), open(1)),
            Over::All => {
                format!("SELECT id FROM message WHERE id < ? AND id >= ?{conditions} ORDER BY id DESC LIMIT ?")
            }
            Over::Key(_) => format!(
                "SELECT message AS id FROM sought WHERE key = ? AND message < ? AND message >= ?{conditions}
                 ORDER BY message DESC LIMIT ?"
            ),
        }
    }

    fn values(&self, span: Span, conditions: &[Value], limit: i64) -> Vec<Value> {
        let mut values = Vec::new();
        let lists = if matches!(self.over, Over::Open) { 2 } else { 1 };
        for _ in 0..lists {
            if let Over::Key(key) = &self.over {
                values.push(Value::Text(key.clone()));
            }
            values.extend([Value::Integer(span.end), Value::Integer(span.lowest)]);
            values.extend_from_slice(conditions);
        }
        values.push(Value::Integer(limit));
        values
    }

    fn read(&self, connection: &Connection, part: Span) -> Result<Walked, Fault> {
        let ids = |conditions: &str, values| -> Result<VecDeque<i64>, Fault> {
            let mut statement = connection.prepare_cached(&self.sql(conditions))?;
            let rows = statement.query_map(params_from_iter(values), |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        if self.values.is_empty() {
            let found = ids("", self.values(part, &[], CHUNK))?;
            return Ok(Walked { rest: rest(&found), found, scanned: 0 });
        }
        let sql = format!("SELECT count(*), min(id) FROM ({})", self.sql(""));
        let (scanned, oldest): (i64, Option<i64>) = connection
            .prepare_cached(&sql)?
            .query_row(params_from_iter(self.values(part, &[], SCAN)), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(oldest) = oldest else { return Ok(Walked { found: VecDeque::new(), rest: None, scanned: 0 }) };
        let scan = Span { lowest: oldest, end: part.end };
        let found = ids(&self.conditions, self.values(scan, &self.values, scanned))?;
        Ok(Walked { found, rest: Some(oldest).filter(|_| scanned == SCAN), scanned: scanned as u64 })
    }
}
