//! What was seen of domains' TLS, by day.

use rusqlite::{Connection, params};

use super::fault::Fault;
use crate::model::{TlsDay, TlsDays};

/// Writes rows, and forgets those of days before `before_day`.
pub(super) fn save(connection: &Connection, rows: &[TlsDay], before_day: i64) -> Result<u64, Fault> {
    let mut changed = 0;
    for TlsDay { day, domain, body } in rows {
        changed += match body {
            Some(body) => connection
                .prepare_cached(
                    "INSERT INTO tls_report(day, domain, body) VALUES (?1, ?2, ?3)
                     ON CONFLICT(day, domain) DO UPDATE SET body = ?3",
                )?
                .execute(params![day, domain, body])?,
            None => connection
                .prepare_cached("DELETE FROM tls_report WHERE day = ?1 AND domain = ?2")?
                .execute(params![day, domain])?,
        };
    }
    changed += connection.prepare_cached("DELETE FROM tls_report WHERE day < ?1")?.execute([before_day])?;
    Ok(changed as u64)
}

/// Newest day first, then by domain.
pub(super) fn list(connection: &Connection, which: &TlsDays) -> Result<Vec<TlsDay>, Fault> {
    let (day, domain) = which.after.clone().unwrap_or((i64::MAX, String::new()));
    let rows = connection
        .prepare_cached(
            "SELECT day, domain, body FROM tls_report
             WHERE day >= ?1 AND (?2 IS NULL OR domain = ?2) AND (day < ?3 OR (day = ?3 AND domain > ?4))
             ORDER BY day DESC, domain LIMIT ?5",
        )?
        .query_map(params![which.from_day, which.domain, day, domain, which.limit], |row| {
            Ok(TlsDay { day: row.get(0)?, domain: row.get(1)?, body: Some(row.get(2)?) })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}
