//! Small steps that keep the store in order; each is one command, so that mail goes on in between.

use rusqlite::params;
use rusqlite::types::Value;

use super::command::{Moved, Of, Past, Upkeep};
use super::fault::Fault;
use super::tls;
use super::work::Work;
use crate::model::*;

/// Rows a step touches: a few milliseconds.
pub(super) const STEP: usize = 200;

impl Work<'_> {
    /// One step; gives how many rows it removed or moved. Less than [`STEP`]: there is no more for now.
    pub(super) fn upkeep(&mut self, step: &Upkeep) -> Result<u64, Fault> {
        match step {
            Upkeep::Retention(retention) => {
                self.use_retention(retention);
                Ok(0)
            }
            Upkeep::Contents(past) => self.drop_contents(past),
            Upkeep::Captured { before_ms } => self.drop_captured(*before_ms),
            Upkeep::Messages(past) => self.remove_messages(past),
            Upkeep::Windows { before_ms } => self.remove_windows(*before_ms),
            Upkeep::Keys { before_ms } => self.remove_keys(*before_ms),
            Upkeep::Lanes { before_ms } => self.remove_lanes(*before_ms),
            Upkeep::Batches { before_ms } => self.remove_batches(*before_ms),
            Upkeep::Cursor { name, seq } => self.move_cursor(name, *seq),
            Upkeep::Usage { rows } => self.save_usage(rows),
            Upkeep::TlsDays { rows, before_day } => tls::save(self.connection, rows, *before_day),
            Upkeep::Deliveries { before_ms } => self.remove_deliveries(*before_ms),
            Upkeep::Suppressions { now_ms } => self.expire_suppressions(*now_ms),
            Upkeep::Changes { before_ms } => self.forget_changes(*before_ms),
            Upkeep::Strikes { before_ms } => self.forget_strikes(*before_ms),
            Upkeep::Forgive { list } => self.forgive(list),
            Upkeep::Reports { before_ms } => self.forget_reports(*before_ms),
            Upkeep::Returned { before_ms } => self.forget_old_returned(*before_ms),
            Upkeep::Sought(step) => self.add_sought(step),
            Upkeep::Move { from, contents } => self.move_contents(*from, contents),
        }
    }

    fn move_cursor(&mut self, name: &str, seq: i64) -> Result<u64, Fault> {
        let changed = self
            .connection
            .prepare_cached(
                "INSERT INTO meta(name, value) VALUES ('cursor.' || ?1, ?2)
                 ON CONFLICT(name) DO UPDATE SET value = ?2 WHERE value < ?2",
            )?
            .execute(params![name, seq])?;
        Ok(changed as u64)
    }

    fn save_usage(&mut self, rows: &[(String, Option<String>)]) -> Result<u64, Fault> {
        let mut changed = 0;
        for (account, body) in rows {
            changed += match body {
                Some(body) => self
                    .connection
                    .prepare_cached(
                        "INSERT INTO usage(account, body) VALUES (?1, ?2) ON CONFLICT(account) DO UPDATE SET body = ?2",
                    )?
                    .execute(params![account, body])?,
                None => self.connection.prepare_cached("DELETE FROM usage WHERE account = ?1")?.execute([account])?,
            };
        }
        Ok(changed as u64)
    }

    fn ids(&mut self, sql: &str, before_ms: i64) -> Result<Vec<MessageId>, Fault> {
        let ids = self
            .connection
            .prepare_cached(sql)?
            .query_map(params![before_ms, STEP as i64], |row| row.get(0).map(MessageId))?
            .collect::<Result<_, _>>()?;
        Ok(ids)
    }

    /// Messages of some streams that became final in a span, through an index on `final_at`.
    fn past(&mut self, index: &str, past: &Past) -> Result<Vec<MessageId>, Fault> {
        let streams: Vec<&str> = match &past.of {
            Of::AllBut(others) => others.iter().map(|name| &**name).collect(),
            Of::Stream(one) => vec![one],
        };
        let mut sql = format!(
            "SELECT id FROM message INDEXED BY {index} WHERE final_at IS NOT NULL AND final_at > ?1 AND final_at <= ?2
             AND captured = 0"
        );
        let mut values = vec![Value::Integer(past.after_ms), Value::Integer(past.before_ms)];
        if !streams.is_empty() {
            let not = if matches!(past.of, Of::AllBut(_)) { "NOT " } else { "" };
            let marks = vec!["?"; streams.len()].join(", ");
            sql.push_str(&format!(" AND stream {not}IN ({marks})"));
            values.extend(streams.into_iter().map(|name| Value::Text(name.to_owned())));
        }
        if index == "message_content" {
            sql.push_str(" AND segment IS NOT NULL");
        }
        sql.push_str(&format!(" ORDER BY final_at LIMIT {STEP}"));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let ids = statement
            .query_map(rusqlite::params_from_iter(values), |row| row.get(0).map(MessageId))?
            .collect::<Result<_, _>>()?;
        Ok(ids)
    }

    fn drop_contents(&mut self, past: &Past) -> Result<u64, Fault> {
        let ids = self.past("message_content", past)?;
        for id in &ids {
            self.drop_content_of(*id)?;
        }
        Ok(ids.len() as u64)
    }

    fn drop_content_of(&mut self, id: MessageId) -> Result<(), Fault> {
        let Some(mut row) = self.load_message(id)? else { return Ok(()) };
        self.drop_content(&mut row);
        self.connection
            .prepare_cached("UPDATE message SET segment = NULL, captured = 0 WHERE id = ?1")?
            .execute([id.0])?;
        Ok(())
    }

    fn drop_captured(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let ids = self.ids(
            "SELECT id FROM message INDEXED BY message_captured
             WHERE captured = 1 AND final_at IS NOT NULL AND final_at <= ?1 ORDER BY id LIMIT ?2",
            before_ms,
        )?;
        for id in &ids {
            self.drop_content_of(*id)?;
        }
        Ok(ids.len() as u64)
    }

    fn remove_messages(&mut self, past: &Past) -> Result<u64, Fault> {
        let ids = self.past("message_final", past)?;
        for id in &ids {
            let Some(mut row) = self.load_message(*id)? else { continue };
            self.drop_content(&mut row);
            let mut next = Some(row.last_event);
            while let Some(seq) = next {
                next = self
                    .connection
                    .prepare_cached("DELETE FROM event WHERE seq = ?1 RETURNING prev")?
                    .query_row([seq], |row| row.get(0))
                    .or_else(|error| match error {
                        rusqlite::Error::QueryReturnedNoRows => Ok(None),
                        other => Err(other),
                    })?;
            }
            self.remove_sought(*id)?;
            self.connection.prepare_cached("DELETE FROM recipient WHERE message = ?1")?.execute([id.0])?;
            self.connection.prepare_cached("DELETE FROM message WHERE id = ?1")?.execute([id.0])?;
        }
        if !ids.is_empty() {
            // The cursor grows even if the events that carry its highest numbers are gone.
            self.connection
                .prepare_cached(
                    "INSERT INTO meta(name, value) VALUES ('event', ?1) ON CONFLICT(name) DO UPDATE SET value = ?1",
                )?
                .execute([self.next_seq() - 1])?;
        }
        Ok(ids.len() as u64)
    }

    fn remove_keys(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let removed = self
            .connection
            .prepare_cached(
                "DELETE FROM idempotency WHERE (sender, key) IN
                     (SELECT sender, key FROM idempotency INDEXED BY idempotency_at WHERE at <= ?1 ORDER BY at LIMIT ?2)",
            )?
            .execute(params![before_ms, STEP as i64])?;
        Ok(removed as u64)
    }

    fn remove_lanes(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let found: Vec<i64> = self
            .connection
            .prepare_cached("SELECT id FROM lane WHERE waiting = 0 AND held = 0 AND used <= ?1 LIMIT ?2")?
            .query_map(params![before_ms, STEP as i64], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut removed = 0;
        for lane in found {
            if self.shared.leased.lock().contains_key(&LaneId(lane)) {
                continue;
            }
            self.connection.prepare_cached("DELETE FROM lane WHERE id = ?1")?.execute([lane])?;
            self.forget_lane(LaneId(lane));
            removed += 1;
        }
        Ok(removed)
    }

    /// Points messages to the copies of their contents.
    fn move_contents(&mut self, from: i64, contents: &[Moved]) -> Result<u64, Fault> {
        let mut moved = 0;
        for one in contents {
            let to = Self::place_or_defect(one.to)?;
            self.recall(one.message);
            let changed = self
                .connection
                .prepare_cached(
                    "UPDATE message SET segment = ?2, place = ?3 WHERE id = ?1 AND segment = ?4 AND place = ?5",
                )?
                .execute(params![one.message.0, to.segment, to.offset as i64, from, one.from.offset as i64])?;
            // Dropped meanwhile: the copy is garbage.
            if changed == 1 {
                let size = one.content.len() as i64;
                self.content_changed(from, -1, -size);
                self.content_changed(to.segment, 1, size);
                moved += 1;
            }
        }
        Ok(moved)
    }
}
