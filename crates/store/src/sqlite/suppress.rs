//! Changing the list of addresses that get no mail, its log, and what counts against addresses.

use proto::Address;
use rusqlite::{OptionalExtension, Row, params};

use super::fault::Fault;
use super::upkeep::STEP;
use super::work::Work;
use crate::engine::listed::{
    DAY_MS, MOST_WHO, OURSELVES, Put, clip, clipped, evidence_ms, is_over, unreadable, wins, words,
};
use crate::model::*;

/// What is to be removed, by whom and why.
pub(super) struct UnsuppressRequest {
    pub(super) list: Vec<(Address, Option<SuppressionScope>)>,
    pub(super) who: String,
    pub(super) why: Option<String>,
    pub(super) now_ms: i64,
}

/// Columns of [`read`], in order.
pub(super) const COLUMNS: &str = "address, scope, reason, evidence, who, added, expires";

/// A row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> Result<Suppression, Fault> {
    let (address, scope, reason, evidence): (String, String, String, String) =
        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Suppression {
        address: super::encode::read_address(&address)?,
        scope: SuppressionScope::from(scope),
        reason: reason.parse().map_err(unreadable)?,
        evidence: serde_json::from_str(&evidence).map_err(unreadable)?,
        who: row.get(4)?,
        added_ms: row.get(5)?,
        expires_ms: row.get(6)?,
    })
}

impl Work<'_> {
    /// Adds a list of suppressions.
    pub(super) fn suppress(
        &mut self,
        list: &[Suppression],
        existing: Existing,
        now_ms: i64,
    ) -> Result<SuppressCount, Fault> {
        let mut count = SuppressCount::default();
        for suppression in list {
            self.put_suppression(suppression, existing, now_ms)?.count(&mut count);
        }
        Ok(count)
    }

    fn put_suppression(&mut self, new: &Suppression, existing: Existing, now_ms: i64) -> Result<Put, Fault> {
        let key = address_key(&new.address);
        let new = clip(new);
        let old = self.load_suppression(&key, &new.scope)?;
        let change = match old {
            Some((id, old)) if is_over(&old, now_ms) => {
                self.drop_suppression(id, &key, &old, ChangeKind::Expired, OURSELVES, None, now_ms)?;
                Put::Added
            }
            Some((_, old)) => {
                if !wins(&new, &old, existing) {
                    return Ok(Put::Kept);
                }
                Put::Changed
            }
            None => Put::Added,
        };
        if existing == Existing::Keep && self.is_forgiven(&key, &new.scope, evidence_ms(&new))? {
            return Ok(Put::Forgiven);
        }
        let evidence = serde_json::to_string(&new.evidence).map_err(unreadable)?;
        self.connection
            .prepare_cached(
                "INSERT INTO suppression(key, scope, address, reason, evidence, who, added, expires)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT(key, scope) DO UPDATE SET address = ?3, reason = ?4, evidence = ?5, who = ?6, added = ?7,
                     expires = ?8",
            )?
            .execute(params![
                key,
                new.scope.as_str(),
                new.address.as_str(),
                new.reason.as_str(),
                evidence,
                clipped(&new.who, MOST_WHO),
                new.added_ms,
                new.expires_ms
            ])?;
        let kind = if matches!(change, Put::Changed) { ChangeKind::Changed } else { ChangeKind::Added };
        self.log_change(&key, &new, kind, &new.who, words(&new), now_ms)?;
        Ok(change)
    }

    fn load_suppression(&mut self, key: &str, scope: &SuppressionScope) -> Result<Option<(i64, Suppression)>, Fault> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS}, id FROM suppression WHERE key = ?1 AND scope = ?2"))?;
        let mut rows = statement.query(params![key, scope.as_str()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some((row.get(7)?, read(row)?)))
    }

    /// Somebody removed the address from the list at this time or later: what was known then does not count.
    fn is_forgiven(&mut self, key: &str, scope: &SuppressionScope, evidence_ms: i64) -> Result<bool, Fault> {
        let found: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT at FROM suppression_change WHERE key = ?1 AND scope = ?2 AND change = 2
                 ORDER BY seq DESC LIMIT 1",
            )?
            .query_row(params![key, scope.as_str()], |row| row.get(0))
            .optional()?;
        Ok(found.is_some_and(|at| at >= evidence_ms))
    }

    fn log_change(
        &mut self,
        key: &str,
        suppression: &Suppression,
        change: ChangeKind,
        who: &str,
        why: Option<&str>,
        now_ms: i64,
    ) -> Result<(), Fault> {
        let holds = matches!(change, ChangeKind::Added | ChangeKind::Changed);
        self.connection
            .prepare_cached(
                "INSERT INTO suppression_change(at, change, key, scope, address, reason, expires, who, why)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                now_ms,
                change as u8,
                key,
                suppression.scope.as_str(),
                suppression.address.as_str(),
                suppression.reason.as_str(),
                suppression.expires_ms.filter(|_| holds),
                clipped(who, MOST_WHO),
                why.map(|why| clipped(why, MOST_WORDS))
            ])?;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of one row of the log")]
    fn drop_suppression(
        &mut self,
        id: i64,
        key: &str,
        suppression: &Suppression,
        change: ChangeKind,
        who: &str,
        why: Option<&str>,
        now_ms: i64,
    ) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM suppression WHERE id = ?1")?.execute([id])?;
        self.log_change(key, suppression, change, who, why, now_ms)
    }

    /// Removes suppressions; gives how many.
    pub(super) fn unsuppress(&mut self, request: &UnsuppressRequest) -> Result<u64, Fault> {
        let mut removed = 0;
        for (address, scope) in &request.list {
            let key = address_key(address);
            let scope = scope.as_ref().map(SuppressionScope::as_str);
            let mut found = Vec::new();
            {
                let mut statement = self.connection.prepare_cached(&format!(
                    "SELECT {COLUMNS}, id FROM suppression WHERE key = ?1 AND (?2 IS NULL OR scope = ?2)"
                ))?;
                let mut rows = statement.query(params![key, scope])?;
                while let Some(row) = rows.next()? {
                    found.push((row.get::<_, i64>(7)?, read(row)?));
                }
            }
            for (id, old) in found {
                let over = is_over(&old, request.now_ms);
                let (change, who) =
                    if over { (ChangeKind::Expired, OURSELVES) } else { (ChangeKind::Removed, &*request.who) };
                self.drop_suppression(id, &key, &old, change, who, request.why.as_deref(), request.now_ms)?;
                removed += u64::from(!over);
            }
            self.connection
                .prepare_cached("DELETE FROM strike WHERE key = ?1 AND (?2 IS NULL OR scope = ?2)")?
                .execute(params![key, scope])?;
        }
        Ok(removed)
    }

    /// Counts failures against addresses.
    pub(super) fn strike(&mut self, list: &[Strike], now_ms: i64) -> Result<Vec<Struck>, Fault> {
        list.iter().map(|strike| self.strike_one(strike, now_ms)).collect()
    }

    fn strike_one(&mut self, strike: &Strike, now_ms: i64) -> Result<Struck, Fault> {
        let new = &strike.suppression;
        let key = address_key(&new.address);
        let at_ms = evidence_ms(new);
        if self.is_forgiven(&key, &new.scope, at_ms)? {
            return Ok(Struck::Forgiven);
        }
        let holds = self.load_suppression(&key, &new.scope)?.is_some_and(|(_, old)| !is_over(&old, now_ms));
        if strike.need > 1 && !holds {
            let days = self.count_strike(&key, strike, at_ms.div_euclid(DAY_MS))?;
            if days < strike.need {
                return Ok(Struck::Counted(days));
            }
        }
        self.put_suppression(new, Existing::Keep, now_ms)?;
        self.connection
            .prepare_cached("DELETE FROM strike WHERE key = ?1 AND reason = ?2 AND scope = ?3")?
            .execute(params![key, new.reason.as_str(), new.scope.as_str()])?;
        Ok(Struck::Suppressed)
    }

    /// Notes a day; gives how many there are in the days around it.
    fn count_strike(&mut self, key: &str, strike: &Strike, day: i64) -> Result<u32, Fault> {
        let new = &strike.suppression;
        let (reason, scope) = (new.reason.as_str(), new.scope.as_str());
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO strike(key, reason, scope, day) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key, reason, scope, day])?;
        // The latest days count, even if an older event is told after a newer one.
        let days = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM strike WHERE key = ?1 AND reason = ?2 AND scope = ?3 AND day >
                     (SELECT max(day) FROM strike WHERE key = ?1 AND reason = ?2 AND scope = ?3) - ?4",
            )?
            .query_row(params![key, reason, scope, strike.within_days.max(1)], |row| row.get(0))?;
        Ok(days)
    }

    /// Forgets what was counted against addresses.
    pub(super) fn forgive(&mut self, list: &[Address]) -> Result<u64, Fault> {
        let mut removed = 0;
        for address in list {
            removed +=
                self.connection.prepare_cached("DELETE FROM strike WHERE key = ?1")?.execute([address_key(address)])?;
        }
        Ok(removed as u64)
    }

    /// Removes suppressions whose time is over.
    pub(super) fn expire_suppressions(&mut self, now_ms: i64) -> Result<u64, Fault> {
        let mut over = Vec::new();
        {
            let mut statement = self.connection.prepare_cached(&format!(
                "SELECT {COLUMNS}, id, key FROM suppression INDEXED BY suppression_expires
                 WHERE expires IS NOT NULL AND expires <= ?1 ORDER BY expires LIMIT ?2"
            ))?;
            let mut rows = statement.query(params![now_ms, STEP as i64])?;
            while let Some(row) = rows.next()? {
                over.push((row.get::<_, i64>(7)?, row.get::<_, String>(8)?, read(row)?));
            }
        }
        for (id, key, old) in &over {
            self.drop_suppression(*id, key, old, ChangeKind::Expired, OURSELVES, None, now_ms)?;
        }
        Ok(over.len() as u64)
    }

    /// Removes the oldest changes from the log.
    pub(super) fn forget_changes(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let oldest: Vec<(i64, i64)> = self
            .connection
            .prepare_cached("SELECT seq, at FROM suppression_change ORDER BY seq LIMIT ?1")?
            .query_map([STEP as i64], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let Some((last, _)) = oldest.iter().take_while(|(_, at)| *at <= before_ms).last() else { return Ok(0) };
        let removed =
            self.connection.prepare_cached("DELETE FROM suppression_change WHERE seq <= ?1")?.execute([last])?;
        self.connection
            .prepare_cached(
                "INSERT INTO meta(name, value) VALUES ('suppression', ?1) ON CONFLICT(name) DO UPDATE SET value = ?1",
            )?
            .execute([last])?;
        Ok(removed as u64)
    }

    /// Removes days that are too long ago to count.
    pub(super) fn forget_strikes(&mut self, before_ms: i64) -> Result<u64, Fault> {
        let removed = self
            .connection
            .prepare_cached(
                "DELETE FROM strike WHERE (key, reason, scope, day) IN
                     (SELECT key, reason, scope, day FROM strike INDEXED BY strike_day WHERE day < ?1 LIMIT ?2)",
            )?
            .execute(params![before_ms.div_euclid(DAY_MS), STEP as i64])?;
        Ok(removed as u64)
    }
}
