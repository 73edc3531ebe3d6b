//! What is heard of a message after the next hop took it.

use rusqlite::{OptionalExtension, params};

use super::encode;
use super::event::AttemptColumn;
use super::fault::Fault;
use super::operate::state;
use super::upkeep::STEP;
use super::work::Work;
use crate::engine::listed::{clipped, state_after};
use crate::model::*;

impl Work<'_> {
    /// Records a later report, once.
    pub(super) fn report(&mut self, report: &LaterReport) -> Result<Reported, Fault> {
        let told: Option<i64> = self
            .connection
            .prepare_cached("SELECT at FROM reported WHERE key = ?1")?
            .query_row([&report.key], |row| row.get(0))
            .optional()?;
        if told.is_some() {
            return Ok(Reported::Repeated);
        }
        let Some(mut row) = self.load_message(report.message)? else { return Ok(Reported::Unknown) };
        let n = match report.n {
            Some(n) => Some(n),
            None => self.only_recipient(report.message)?,
        };
        let before = match n {
            Some(n) => match self.state_of(RecipientId { message: report.message, n })? {
                None => return Ok(Reported::Unknown),
                // The settlement that is on its way would not know of it.
                Some(State::Leased) => return Ok(Reported::NotYet),
                found => found,
            },
            None => None,
        };
        self.connection
            .prepare_cached("INSERT INTO reported(key, at) VALUES (?1, ?2)")?
            .execute(params![report.key, report.at_ms])?;
        let why = report.why.as_deref().map(|why| clipped(why, MOST_WORDS));
        let detail = encode::report_detail(report.cause.as_ref(), why, &report.source, report.severity)?;
        let kind = match report.kind {
            ReportKind::Bounced => EventKind::Bounced,
            ReportKind::Complained => EventKind::Complained,
        };
        self.event(&mut row, report.at_ms, n, kind, AttemptColumn::None, Some(&detail))?;
        // What a notice may have to return is not dropped earlier because of this.
        row.returned = true;
        self.save_message(&mut row, report.at_ms)?;
        let (Some(n), Some(before)) = (n, before) else { return Ok(Reported::Recorded(None)) };
        let after = state_after(before, report.kind, report.severity);
        if after != before {
            let cause = report.cause.as_ref().map(encode::cause).transpose()?;
            self.connection
                .prepare_cached(
                    "UPDATE recipient SET state = ?3, why = ?4, cause = coalesce(?5, cause) WHERE message = ?1 AND n = ?2",
                )?
                .execute(params![report.message.0, n, after as u8, why, cause])?;
        }
        Ok(Reported::Recorded(Some(after)))
    }

    /// The recipient of a message that has one.
    fn only_recipient(&mut self, message: MessageId) -> Result<Option<u32>, Fault> {
        let found = self
            .connection
            .prepare_cached("SELECT min(n), count(*) FROM (SELECT n FROM recipient WHERE message = ?1 LIMIT 2)")?
            .query_row([message.0], |row| Ok((row.get::<_, Option<u32>>(0)?, row.get::<_, i64>(1)?)))?;
        Ok(found.0.filter(|_| found.1 == 1))
    }

    fn state_of(&mut self, id: RecipientId) -> Result<Option<State>, Fault> {
        Ok(self
            .connection
            .prepare_cached("SELECT state FROM recipient WHERE message = ?1 AND n = ?2")?
            .query_row(params![id.message.0, id.n], |row| row.get(0).map(state))
            .optional()?)
    }

    /// Removes keys of reports whose messages are gone.
    pub(super) fn forget_reports(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let removed = self
            .connection
            .prepare_cached(
                "DELETE FROM reported WHERE key IN
                     (SELECT key FROM reported INDEXED BY reported_at WHERE at <= ?1 ORDER BY at LIMIT ?2)",
            )?
            .execute(params![before_ms, STEP as i64])?;
        Ok(removed as u64)
    }
}
