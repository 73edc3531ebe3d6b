//! Digests: windows that collect equal mail, and their end; and what is told of deadlines.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::browse::{Snapshot, bounded};
use super::encode;
use super::event::AttemptColumn;
use super::fault::Fault;
use super::upkeep::STEP;
use super::work::{MessageRow, Work};
use crate::StoreError;
use crate::model::*;

/// The event before, the kind, and from which to which recipient.
type EventSpan = (Option<i64>, u8, Option<u32>, Option<u32>);

impl Work<'_> {
    /// Decides which recipients are folded, and notes it; gives them with the end of their window.
    pub(super) fn fold(&mut self, new: &NewMessage) -> Result<HashMap<u32, i64>, Fault> {
        let mut folded = HashMap::new();
        let (now_ms, message) = (new.message.accepted_ms, &new.message);
        for (n, fold) in &new.folds {
            let until_ms = now_ms.saturating_add(fold.window_ms);
            let open: Option<(i64, i64, i64)> = self
                .connection
                .prepare_cached("SELECT id, until, folded FROM digest WHERE key = ?1 AND sent IS NULL")?
                .query_row([fold.key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            match open {
                // Mail whose time would be over by then goes by itself.
                Some((_, until, _)) if until > now_ms && until >= message.expires_ms => {}
                // One that is over and has mail is about to be sent: this one still belongs to it.
                Some((id, until, count)) if until > now_ms || count > 0 => {
                    self.connection
                        .prepare_cached("INSERT INTO digest_item(digest, message, n) VALUES (?1, ?2, ?3)")?
                        .execute(params![id, message.id.0, n])?;
                    self.connection
                        .prepare_cached("UPDATE digest SET folded = folded + 1 WHERE id = ?1")?
                        .execute([id])?;
                    folded.insert(*n, until);
                }
                Some((id, _, _)) => {
                    self.connection
                        .prepare_cached("UPDATE digest SET until = ?2 WHERE id = ?1")?
                        .execute(params![id, until_ms])?;
                }
                None => {
                    self.connection
                        .prepare_cached("INSERT INTO digest(key, until, folded) VALUES (?1, ?2, 0)")?
                        .execute(params![fold.key, until_ms])?;
                }
            }
        }
        Ok(folded)
    }

    /// Refuses the message of a digest that was sent already or has more mail by now.
    pub(super) fn check_digest(&mut self, end: &DigestEnd) -> Result<(), Fault> {
        let known: Option<i64> = self
            .connection
            .prepare_cached("SELECT folded FROM digest WHERE id = ?1 AND sent IS NULL")?
            .query_row([end.digest.0], |row| row.get(0))
            .optional()?;
        if known.and_then(|folded| u64::try_from(folded).ok()) != Some(end.folded) {
            return Err(StoreError::Invalid("the digest is not as it was read".into()).into());
        }
        Ok(())
    }

    pub(super) fn digest_sent(&mut self, end: &DigestEnd, by: MessageId) -> Result<(), Fault> {
        self.connection
            .prepare_cached("UPDATE digest SET sent = ?2 WHERE id = ?1")?
            .execute(params![end.digest.0, by.0])?;
        Ok(())
    }

    /// Ends some of the mails of a digest that was sent; gives how many are left.
    pub(super) fn finish_digest(&mut self, digest: DigestId, max: u32, now_ms: i64) -> Result<u64, Fault> {
        let sent: Option<i64> = self
            .connection
            .prepare_cached("SELECT sent FROM digest WHERE id = ?1 AND sent IS NOT NULL")?
            .query_row([digest.0], |row| row.get(0))
            .optional()?;
        let Some(sent) = sent else { return self.remove_empty_digest(digest) };
        let why = format!("folded: told of by the digest {}", MessageId(sent));
        let items: Vec<RecipientId> = self
            .connection
            .prepare_cached("SELECT message, n FROM digest_item WHERE digest = ?1 ORDER BY message, n LIMIT ?2")?
            .query_map(params![digest.0, max], |row| {
                Ok(RecipientId { message: MessageId(row.get(0)?), n: row.get(1)? })
            })?
            .collect::<Result<_, _>>()?;
        for id in &items {
            self.end_folded(*id, &why, now_ms)?;
            self.connection
                .prepare_cached("DELETE FROM digest_item WHERE digest = ?1 AND message = ?2 AND n = ?3")?
                .execute(params![digest.0, id.message.0, id.n])?;
        }
        let left: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM digest_item WHERE digest = ?1")?
            .query_row([digest.0], |row| row.get(0))?;
        if left == 0 {
            self.connection.prepare_cached("DELETE FROM digest WHERE id = ?1")?.execute([digest.0])?;
        }
        Ok(u64::try_from(left).unwrap_or(0))
    }

    /// Forgets a digest whose mails were all taken out.
    fn remove_empty_digest(&mut self, digest: DigestId) -> Result<u64, Fault> {
        let held: i64 = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM digest_item d JOIN recipient r ON r.message = d.message AND r.n = d.n
                 WHERE d.digest = ?1 AND r.state = 2",
            )?
            .query_row([digest.0], |row| row.get(0))?;
        if held == 0 {
            self.connection.prepare_cached("DELETE FROM digest_item WHERE digest = ?1")?.execute([digest.0])?;
            self.connection.prepare_cached("DELETE FROM digest WHERE id = ?1")?.execute([digest.0])?;
        }
        Ok(u64::try_from(held).unwrap_or(0))
    }

    /// Forgets windows that are over and collected nothing.
    pub(super) fn remove_windows(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let removed = self
            .connection
            .prepare_cached(
                "DELETE FROM digest WHERE id IN
                     (SELECT id FROM digest INDEXED BY digest_empty WHERE folded = 0 AND until <= ?1 LIMIT ?2)",
            )?
            .execute(params![before_ms, STEP as i64])?;
        Ok(removed as u64)
    }

    /// Tells of recipients that will be late, each once.
    pub(super) fn warn_late(&mut self, late: &[Late], now_ms: i64) -> Result<u64, Fault> {
        let mut told = 0;
        for group in late.chunk_by(|a, b| a.recipient.message == b.recipient.message) {
            let Some(mut row) = self.load_message(group[0].recipient.message)? else { continue };
            let known = self.told_of(&row)?;
            let before = told;
            for one in group {
                let n = one.recipient.n;
                if known.iter().any(|(first, last)| (*first..=*last).contains(&n)) || !self.is_open(one.recipient)? {
                    continue;
                }
                let detail = encode::detail(None, one.until_ms, Some(&one.why))?;
                self.event(&mut row, now_ms, Some(n), EventKind::WillBeLate, AttemptColumn::None, detail.as_deref())?;
                told += 1;
            }
            if told > before {
                self.save_message(&mut row, now_ms)?;
            }
        }
        Ok(told)
    }

    fn is_open(&mut self, id: RecipientId) -> Result<bool, Fault> {
        let found: Option<i64> = self
            .connection
            .prepare_cached("SELECT 1 FROM recipient WHERE message = ?1 AND n = ?2 AND state <= 2")?
            .query_row(params![id.message.0, id.n], |row| row.get(0))
            .optional()?;
        Ok(found.is_some())
    }

    /// Recipients of a message that a `WillBeLate` was told of, as spans.
    fn told_of(&mut self, row: &MessageRow) -> Result<Vec<(u32, u32)>, Fault> {
        // What continues the latest row is not written yet.
        self.close_event()?;
        let mut spans = Vec::new();
        let mut next = Some(row.last_event);
        while let Some(seq) = next {
            let found: Option<EventSpan> = self
                .connection
                .prepare_cached("SELECT prev, kind, n, upto FROM event WHERE seq = ?1")?
                .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()?;
            let Some((prev, kind, n, upto)) = found else { break };
            if let (true, Some(first)) = (kind == EventKind::WillBeLate as u8, n) {
                spans.push((first, upto.unwrap_or(first)));
            }
            next = prev;
        }
        Ok(spans)
    }
}

/// See [`crate::Streams::due_digests`].
pub(super) fn due(connection: &Connection, now_ms: i64, limit: u32, items: u32) -> Result<Vec<Digest>, Fault> {
    let _snapshot = Snapshot::start(connection)?;
    let mut statement = connection.prepare_cached(
        "SELECT id, folded, until, sent FROM digest INDEXED BY digest_due WHERE folded > 0 AND until <= ?1
         ORDER BY until LIMIT ?2",
    )?;
    let mut rows = statement.query(params![now_ms, bounded(limit) as i64])?;
    let mut digests = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let held = "FROM digest_item d JOIN recipient r ON r.message = d.message AND r.n = d.n
                    WHERE d.digest = ?1 AND r.state = 2";
        let count: i64 =
            connection.prepare_cached(&format!("SELECT count(*) {held}"))?.query_row([id], |row| row.get(0))?;
        let ids = |order: &str, most: i64| -> Result<Vec<RecipientId>, Fault> {
            let sql = format!("SELECT d.message, d.n {held} ORDER BY d.message {order}, d.n {order} LIMIT ?2");
            let found = connection
                .prepare_cached(&sql)?
                .query_map(params![id, most], |row| {
                    Ok(RecipientId { message: MessageId(row.get(0)?), n: row.get(1)? })
                })?
                .collect::<Result<_, _>>()?;
            Ok(found)
        };
        let mut items = ids("", bounded(items) as i64)?;
        if count > items.len() as i64 {
            items.extend(ids("DESC", 1)?);
        }
        digests.push(Digest {
            id: DigestId(id),
            folded: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            held: u64::try_from(count).unwrap_or(0),
            until_ms: row.get(2)?,
            sent: row.get::<_, Option<i64>>(3)?.map(MessageId),
            items,
        });
    }
    Ok(digests)
}

/// See [`crate::Streams::next_digest_ms`].
pub(super) fn next_ms(connection: &Connection) -> Result<Option<i64>, Fault> {
    Ok(connection
        .prepare_cached("SELECT min(until) FROM digest INDEXED BY digest_due WHERE folded > 0")?
        .query_row([], |row| row.get(0))?)
}

/// See [`crate::Streams::next_expiry_ms`].
pub(super) fn next_expiry_ms(connection: &Connection) -> Result<Option<i64>, Fault> {
    Ok(connection
        .prepare_cached("SELECT min(parked) FROM message INDEXED BY message_parked WHERE parked IS NOT NULL")?
        .query_row([], |row| row.get(0))?)
}
