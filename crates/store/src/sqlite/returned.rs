//! Mail that came back: rows that wait, rows that are kept, and where mailboxes were read up to.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::browse::bounded;
use super::fault::Fault;
use super::upkeep::STEP;
use super::work::Work;
use crate::StoreError;
use crate::engine::returned::{LOOK, Needle, PAGE, TRACED, bounds, list_number, read_note};
use crate::model::*;

/// A change that is not a new mail.
pub(super) enum ReturnedChange {
    Settle { id: i64, fate: ReturnedFate, note: Option<String> },
    Forget { list: ReturnedList, id: Option<i64> },
    Mailbox { name: String, place: MailboxPlace },
}

impl Work<'_> {
    /// Takes a mail in, unless its mailbox was read this far before or too much waits.
    pub(super) fn keep_returned(&mut self, mail: &NewReturned) -> Result<Kept, Fault> {
        if let Some((name, place)) = &mail.place {
            let before = mailbox_place(self.connection, name)?;
            if before.is_some_and(|before| before.validity == place.validity && before.uid >= place.uid) {
                return Ok(Kept::Repeated);
            }
        }
        let (waiting, octets): (u32, u64) = self
            .connection
            .prepare_cached(
                "SELECT count(*), coalesce(sum(size), 0) FROM returned INDEXED BY returned_due WHERE list IS NULL",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        if waiting >= MOST_RETURNED || octets.saturating_add(mail.content.len() as u64) > MOST_RETURNED_OCTETS {
            return Ok(Kept::TooMany);
        }
        self.connection
            .prepare_cached(
                "INSERT INTO returned(at, source, recipient, due, size, content) VALUES (?1, ?2, ?3, ?1, ?4, ?5)",
            )?
            .execute(params![mail.at_ms, mail.source, mail.recipient, mail.content.len() as i64, &mail.content[..]])?;
        if let Some((name, place)) = &mail.place {
            self.move_mailbox(name, *place)?;
        }
        Ok(Kept::Durable)
    }

    fn move_mailbox(&mut self, name: &str, place: MailboxPlace) -> Result<u64, Fault> {
        let changed = self
            .connection
            .prepare_cached(
                "INSERT INTO mailbox(name, validity, uid) VALUES (?1, ?2, ?3)
                 ON CONFLICT(name) DO UPDATE SET validity = ?2, uid = ?3 WHERE validity <> ?2 OR uid < ?3",
            )?
            .execute(params![name, place.validity, place.uid])?;
        Ok(changed as u64)
    }

    /// Does one of the other changes; gives the number of rows it concerned.
    pub(super) fn change_returned(&mut self, change: &ReturnedChange) -> Result<u64, Fault> {
        match change {
            ReturnedChange::Settle { id, fate, note } => self.settle_returned(*id, fate, note.as_deref()),
            ReturnedChange::Forget { list, id } => {
                let removed = self
                    .connection
                    .prepare_cached("DELETE FROM returned WHERE list = ?1 AND (?2 IS NULL OR id = ?2)")?
                    .execute(params![list_number(*list), id])?;
                Ok(removed as u64)
            }
            ReturnedChange::Mailbox { name, place } => self.move_mailbox(name, *place),
        }
    }

    fn settle_returned(&mut self, id: i64, fate: &ReturnedFate, note: Option<&str>) -> Result<u64, Fault> {
        match fate {
            ReturnedFate::Done => {
                let removed = self
                    .connection
                    .prepare_cached("DELETE FROM returned WHERE id = ?1 AND list IS NULL")?
                    .execute([id])?;
                return Ok(removed as u64);
            }
            ReturnedFate::Later(due_ms) => {
                let changed = self
                    .connection
                    .prepare_cached("UPDATE returned SET due = ?2 WHERE id = ?1 AND list IS NULL")?
                    .execute(params![id, due_ms])?;
                return Ok(changed as u64);
            }
            ReturnedFate::Unmatched(_) | ReturnedFate::Reports(_) => {}
        }
        let Some((list, most, octets)) = bounds(fate) else { return Ok(0) };
        let changed = self
            .connection
            .prepare_cached("UPDATE returned SET list = ?2, due = NULL, note = ?3 WHERE id = ?1 AND list IS NULL")?
            .execute(params![id, list_number(list), note])?;
        self.make_room(list, most, octets)?;
        Ok(changed as u64)
    }

    /// The oldest of a list give way.
    fn make_room(&mut self, list: ReturnedList, most: u32, octets: u64) -> Result<(), Fault> {
        self.connection
            .prepare_cached(
                "DELETE FROM returned WHERE list = ?1 AND id IN
                     (SELECT id FROM (SELECT id, row_number() OVER newest AS place, sum(size) OVER newest AS total
                      FROM returned INDEXED BY returned_list WHERE list = ?1 WINDOW newest AS (ORDER BY id DESC))
                      WHERE place > ?2 OR (total > ?3 AND place > 1))",
            )?
            .execute(params![list_number(list), most, octets as i64])?;
        Ok(())
    }

    /// Removes kept mails that are past their time.
    pub(super) fn forget_old_returned(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let removed = self
            .connection
            .prepare_cached(
                "DELETE FROM returned WHERE id IN
                     (SELECT id FROM returned WHERE list IS NOT NULL AND at <= ?1 ORDER BY id LIMIT ?2)",
            )?
            .execute(params![before_ms, STEP as i64])?;
        Ok(removed as u64)
    }
}

pub(super) fn mailbox_place(connection: &Connection, name: &str) -> Result<Option<MailboxPlace>, Fault> {
    let found = connection
        .prepare_cached("SELECT validity, uid FROM mailbox WHERE name = ?1")?
        .query_row([name], |row| Ok(MailboxPlace { validity: row.get(0)?, uid: row.get(1)? }))
        .optional()?;
    Ok(found)
}

pub(super) fn due(connection: &Connection, now_ms: i64, limit: u32) -> Result<Vec<Returned>, Fault> {
    let rows = connection
        .prepare_cached(
            "SELECT id, source, recipient, at, content FROM returned INDEXED BY returned_due
             WHERE list IS NULL AND due <= ?1 ORDER BY due, id LIMIT ?2",
        )?
        .query_map(params![now_ms, limit.clamp(1, PAGE)], |row| {
            Ok(Returned {
                id: row.get(0)?,
                source: row.get(1)?,
                recipient: row.get(2)?,
                at_ms: row.get(3)?,
                content: Bytes::from(row.get::<_, Vec<u8>>(4)?),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

pub(super) fn list(
    connection: &Connection,
    list: ReturnedList,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<ReturnedView>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, source, recipient, at, size, note FROM returned
         WHERE list = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
    )?;
    let before = before.unwrap_or(i64::MAX);
    let mut rows = statement.query(params![list_number(list), before, bounded(limit) as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let note: Option<String> = row.get(5)?;
        found.push(ReturnedView {
            id: row.get(0)?,
            source: row.get(1)?,
            recipient: row.get(2)?,
            at_ms: row.get(3)?,
            size: row.get::<_, i64>(4)?.unsigned_abs(),
            note: read_note(note.as_deref())?,
        });
    }
    Ok(found)
}

pub(super) fn content(connection: &Connection, id: i64) -> Result<Bytes, Fault> {
    let found: Option<Vec<u8>> = connection
        .prepare_cached("SELECT content FROM returned WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(found.ok_or(StoreError::NotFound)?.into())
}

/// Looks from the newest on. The text is compared in Rust after SQLite has thrown out nearly all rows.
pub(super) fn traced(connection: &Connection, trace: &Trace) -> Result<Vec<MessageId>, Fault> {
    let mut found: Vec<MessageId> = Vec::new();
    let Some(needle) = Needle::new(trace) else { return Ok(found) };
    let sql = match trace {
        Trace::HeaderId(_) => {
            "SELECT id, details FROM (SELECT id, details FROM message ORDER BY id DESC LIMIT ?1)
             WHERE details IS NOT NULL AND instr(details, ?2) > 0"
        }
        Trace::Queued(_) => {
            "SELECT message, attempt FROM (SELECT message, attempt FROM event ORDER BY seq DESC LIMIT ?1)
             WHERE typeof(attempt) = 'text' AND instr(attempt, ?2) > 0"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![LOOK, needle.inside()])?;
    while let Some(row) = rows.next()? {
        let id = MessageId(row.get(0)?);
        let json: String = row.get(1)?;
        if needle.is_in(&json) && !found.contains(&id) {
            found.push(id);
            if found.len() >= TRACED {
                break;
            }
        }
    }
    Ok(found)
}
