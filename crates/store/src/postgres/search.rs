//! Searching messages, newest first.
//!
//! Where an address, a domain or a Message-ID is asked for, candidates come from the keys ([`super::sought`]); where an open
//! state is, from the open messages; else from all messages. Stretches in which nothing can be meant are passed over
//! ([`super::stretch`]); the tail, which has no keys and marks yet, is merged in. Candidates are looked at in chunks, a bounded
//! number of them for one question.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio_postgres::Row;

use super::ask::Ask;
use super::fault::Fault;
use super::read::{self, MESSAGE};
use super::stretch::Parts;
use super::tx::{Tx, Value};
use super::unit::{clean, number};
use super::{PostgresStore, browse, sought};
use crate::Pending;
use crate::engine::sought::{CHUNK, Compared, LOOK, MANY, Span, TAIL, Wanted, Words};
use crate::engine::stretch::Needs;
use crate::model::*;
use crate::verbs::Search;

/// Messages whose recipients are read at once.
const TOGETHER: usize = 64;

impl Search for PostgresStore {
    fn search(&self, query: SearchQuery, before: Option<MessageId>, limit: u32) -> Pending<SearchPage> {
        self.read((query, before, limit), |tx, r| async move { search(&tx, &r.0, r.1, r.2).await })
    }

    fn catch_up_search(&self) -> Pending<u64> {
        self.task(|shared| async move { sought::catch_up(&shared).await })
    }
}

async fn search(tx: &Tx, query: &SearchQuery, before: Option<MessageId>, limit: u32) -> Result<SearchPage, Fault> {
    let span = Span::of(query, before);
    let limit = limit.clamp(1, MOST_FOUND) as usize;
    let words = Words::of(query);
    let mut look = Look { tx, query, words, page: SearchPage::default(), left: LOOK, limit };
    if let Some(id) = query.id {
        if span.has(id.0) {
            look.at(&[id]).await?;
        }
        look.page.looked = 0;
        return Ok(look.page);
    }
    let mut source = Source::of(tx, query, span).await?;
    let knows = source.knows && look.words.is_empty() && !look.asks_recipients();
    loop {
        let chunk = source.next(tx, &mut look.left).await?;
        if chunk.is_empty() {
            look.page.next = source.ended.filter(|end| *end > span.lowest).map(MessageId);
            break;
        }
        if !look.at(&chunk).await? {
            break;
        }
    }
    if knows {
        look.page.looked = 0;
    }
    Ok(look.page)
}

/// Where candidates come from, newest first.
struct Source {
    kind: Kind,
    parts: Parts,
    /// The part under way.
    part: Option<Span>,
    found: VecDeque<i64>,
    /// What has no keys or marks yet; oldest first, taken from its end.
    tail: Vec<i64>,
    /// From where on there is nothing more in `found`.
    ended: Option<i64>,
    last: Option<i64>,
    /// An index gives the candidates.
    knows: bool,
}

enum Kind {
    Key(String),
    /// Candidates that are known, newest first.
    These(VecDeque<i64>),
    Open,
    All,
}

impl Source {
    async fn of(tx: &Tx, query: &SearchQuery, span: Span) -> Result<Self, Fault> {
        let walk = || match query.state {
            Some(State::Waiting | State::Leased | State::Held) => Kind::Open,
            _ => Kind::All,
        };
        let source = |kind, needs, tail| {
            let knows = matches!(kind, Kind::Key(_) | Kind::These(_));
            let (part, found, ended, last) = (None, VecDeque::new(), None, None);
            Self { kind, parts: Parts::of(needs, span), part, found, tail, ended, last, knows }
        };
        let (wanted, needs) = (Wanted::of(query), Needs::of(query));
        if wanted.is_none() && needs.is_empty() {
            return Ok(source(walk(), None, Vec::new()));
        }
        let place = sought::place(tx).await?;
        let (touched, upto) = sought::touched_after(tx, place, TAIL + 1).await?;
        if upto - place > TAIL {
            return Ok(source(walk(), None, Vec::new()));
        }
        // What has its keys, but not the marks of what happened since, is in a stretch that may be passed over.
        let marked = !needs.is_empty();
        let tail =
            touched.into_iter().filter(|(id, accepted)| span.has(*id) && (marked || *accepted)).map(|(id, _)| id);
        let tail = tail.collect();
        let kind = match wanted {
            Some(Wanted::Key(key)) => Kind::Key(key),
            Some(Wanted::Prefix(prefix)) => match sought::of_prefix(tx, &prefix, MANY).await? {
                Some(found) => Kind::These(found.into_iter().rev().map(|id| id.0).filter(|id| span.has(*id)).collect()),
                None => walk(),
            },
            None => walk(),
        };
        Ok(source(kind, Some(needs), tail))
    }

    /// The next candidates; none if there are no more, or enough for one question.
    async fn next(&mut self, tx: &Tx, looks: &mut u64) -> Result<Vec<MessageId>, Fault> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK as usize {
            while self.found.is_empty() && self.ended.is_none() {
                if !chunk.is_empty() {
                    return Ok(chunk);
                }
                self.read(tx, looks).await?;
            }
            let next = match (self.found.front().copied(), self.tail.last().copied()) {
                (Some(found), Some(tail)) if tail > found => self.tail.pop(),
                (None, Some(tail)) if self.ended.is_some_and(|end| tail >= end) => self.tail.pop(),
                _ => self.found.pop_front(),
            };
            let Some(next) = next else { break };
            // A message may have its keys and be in the tail too.
            if self.last != Some(next) {
                self.last = Some(next);
                chunk.push(MessageId(next));
            }
        }
        Ok(chunk)
    }

    async fn read(&mut self, tx: &Tx, looks: &mut u64) -> Result<(), Fault> {
        let part = match self.part.take() {
            Some(part) if *looks == 0 => Err(part.end),
            Some(part) => Ok(part),
            None => self.parts.next(tx, looks).await?,
        };
        let part = match part {
            Ok(part) => part,
            Err(end) => {
                self.ended = Some(end);
                return Ok(());
            }
        };
        let Span { lowest, end } = part;
        let rows = match &mut self.kind {
            Kind::Key(key) => sought::of_key(tx, key, end, lowest, CHUNK).await?,
            Kind::Open => walk(tx, "AND pending > 0", end, lowest).await?,
            Kind::All => walk(tx, "", end, lowest).await?,
            Kind::These(these) => {
                while these.front().is_some_and(|id| *id >= end) {
                    these.pop_front();
                }
                while these.front().is_some_and(|id| *id >= lowest) {
                    self.found.extend(these.pop_front());
                }
                return Ok(());
            }
        };
        self.part = rows.last().filter(|_| rows.len() as i64 == CHUNK).map(|last| Span { lowest, end: last.0 });
        self.found = rows.iter().map(|id| id.0).collect();
        Ok(())
    }
}

/// The newest messages in a span.
async fn walk(tx: &Tx, condition: &str, end: i64, lowest: i64) -> Result<Vec<MessageId>, Fault> {
    let sql = format!("SELECT id FROM message WHERE id < $1 AND id >= $2 {condition} ORDER BY id DESC LIMIT $3");
    let rows = tx.query(&sql, &[&end, &lowest, &CHUNK]).await?;
    Ok(rows.iter().map(|row| row.try_get(0).map(MessageId)).collect::<Result<_, _>>()?)
}

/// Looking at candidates.
struct Look<'a> {
    tx: &'a Tx,
    query: &'a SearchQuery,
    words: Words,
    page: SearchPage,
    left: u64,
    limit: usize,
}

/// A message that meets the conditions, its recipients aside.
struct Candidate {
    message: Arc<Message>,
    has_content: bool,
}

/// Recipients of a message that were looked at and that meet the conditions, and the first of these.
#[derive(Default)]
struct Matching {
    read: u64,
    matching: u64,
    shown: Vec<u32>,
}

impl Look<'_> {
    /// A condition on recipients that the database compares.
    fn asks_recipients(&self) -> bool {
        self.query.state.is_some() || self.query.reason.is_some() || self.query.route.is_some()
    }

    /// Looks at candidates in their order; false if the page ends before they do.
    async fn at(&mut self, ids: &[MessageId]) -> Result<bool, Fault> {
        for some in ids.chunks(TOGETHER) {
            let mut candidates = self.candidates(some).await?;
            let suited: Vec<i64> = candidates.keys().map(|id| id.0).collect();
            let mut recipients = self.recipients(&suited).await?;
            let mut shown = Vec::new();
            for id in some {
                if self.left == 0 || self.page.hits.len() >= self.limit {
                    self.page.next = Some(MessageId(id.0.saturating_add(1)));
                    self.show(&shown).await?;
                    return Ok(false);
                }
                self.page.looked += 1;
                self.left = self.left.saturating_sub(1);
                let Some(Candidate { message, has_content }) = candidates.remove(id) else { continue };
                let of = recipients.remove(id).unwrap_or_default();
                self.left = self.left.saturating_sub(of.read);
                if of.matching > 0 {
                    shown.extend(of.shown.iter().map(|n| RecipientId { message: *id, n: *n }));
                    let matching = of.matching;
                    self.page.hits.push(SearchHit { message, recipients: Vec::new(), matching, has_content });
                }
            }
            self.show(&shown).await?;
        }
        Ok(true)
    }

    /// Messages that meet the conditions. One that has a key may be gone.
    async fn candidates(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Candidate>, Fault> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let sql = format!("SELECT {MESSAGE}, message.stored FROM message WHERE id = ANY($1)");
        let mut found = HashMap::new();
        for row in &self.tx.query(&sql, &[&ids]).await? {
            if self.suits(row)? {
                let message = read::shared_message(row)?;
                found.insert(message.id, Candidate { message, has_content: row.try_get(12)? });
            }
        }
        Ok(found)
    }

    fn suits(&self, row: &Row) -> Result<bool, Fault> {
        let compared = Compared {
            sender: row.try_get(2)?,
            stream: row.try_get(3)?,
            reverse_path: row.try_get(5)?,
            details: row.try_get(11)?,
        };
        Ok(self.words.message(self.query, &compared)?)
    }

    /// How many recipients of messages meet the conditions, and the first of them.
    async fn recipients(&self, messages: &[i64]) -> Result<HashMap<MessageId, Matching>, Fault> {
        let mut found: HashMap<MessageId, Matching> = HashMap::new();
        if messages.is_empty() {
            return Ok(found);
        }
        let state = self.query.state.map(|state| state as i16);
        let reason = self.query.reason.as_deref().map(clean);
        let route = self.query.route.as_deref().map(clean);
        let first: Value<'_> = &messages;
        let sql = "SELECT r.message, r.n, r.address FROM recipient AS r WHERE r.message = ANY($1)".to_owned();
        let mut ask = Ask::new(sql, first);
        ask.maybe("r.state = ?", state.as_ref());
        ask.maybe("(r.rule = ? OR left(r.why, length(?)) = ?)", reason.as_ref());
        ask.maybe("EXISTS (SELECT 1 FROM lane WHERE lane.id = r.lane AND lane.route = ?)", route.as_ref());
        ask.sql.push_str(" ORDER BY r.message, r.n");
        for row in &self.tx.query(&ask.sql, &ask.values).await? {
            let of = found.entry(MessageId(row.try_get(0)?)).or_default();
            of.read += 1;
            if self.words.recipient(self.query, row.try_get(2)?) {
                of.matching += 1;
                if of.shown.len() < MOST_SHOWN {
                    of.shown.push(number(row.try_get(1)?));
                }
            }
        }
        Ok(found)
    }

    /// Adds recipients to their messages.
    async fn show(&mut self, shown: &[RecipientId]) -> Result<(), Fault> {
        for view in browse::named(self.tx, shown).await? {
            let id = view.id.message;
            if let Some(hit) = self.page.hits.iter_mut().rev().find(|hit| hit.message.id == id) {
                hit.recipients.push(view);
            }
        }
        Ok(())
    }
}
