//! What is heard of a message after the next hop took it.

use super::fault::Fault;
use super::suppress::STEP;
use super::tx::Tx;
use super::unit::{AttemptColumn, CauseText, clean, number};
use crate::encode;
use crate::engine::listed::{clipped, state_after};
use crate::model::*;

/// Records a later report, once.
pub(super) async fn report(tx: &Tx, report: &LaterReport) -> Result<Reported, Fault> {
    let key = clean(&report.key);
    if tx.query_opt("SELECT 1 FROM reported WHERE key = $1", &[&key]).await?.is_some() {
        return Ok(Reported::Repeated);
    }
    let Some(mut message) = tx.message(report.message).await? else { return Ok(Reported::Unknown) };
    let n = match report.n {
        Some(n) => Some(n),
        None => only_recipient(tx, report.message).await?,
    };
    let recipient = match n {
        Some(n) => match tx.recipient(RecipientId { message: report.message, n }).await? {
            None => return Ok(Reported::Unknown),
            // The settlement that is on its way would not know of it.
            Some(row) if row.state == State::Leased => return Ok(Reported::NotYet),
            found => found,
        },
        None => None,
    };
    let sql = "INSERT INTO reported(key, at) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    if tx.execute(sql, &[&key, &report.at_ms]).await? == 0 {
        // Another node was faster.
        return Ok(Reported::Repeated);
    }
    let why = report.why.as_deref().map(|why| clipped(why, MOST_WORDS));
    let detail = encode::report_detail(report.cause.as_ref(), why, &report.source, report.severity)?;
    let kind = match report.kind {
        ReportKind::Bounced => EventKind::Bounced,
        ReportKind::Complained => EventKind::Complained,
    };
    tx.event(report.message, report.at_ms, n, kind, AttemptColumn::None, Some(detail));
    // What a notice may have to return is not dropped earlier because of this.
    message.returned = true;
    tx.save_message(&mut message, report.at_ms);
    let Some(mut row) = recipient else { return Ok(Reported::Recorded(None)) };
    let after = state_after(row.state, report.kind, report.severity);
    if after != row.state {
        row.state = after;
        row.why = why.map(str::to_owned);
        if let Some(cause) = &report.cause {
            row.cause = Some(CauseText::new(cause)?);
        }
        tx.save_recipient(row);
    }
    Ok(Reported::Recorded(Some(after)))
}

/// The recipient of a message that has one.
async fn only_recipient(tx: &Tx, message: MessageId) -> Result<Option<u32>, Fault> {
    let rows = tx.query("SELECT n FROM recipient WHERE message = $1 LIMIT 2", &[&message.0]).await?;
    Ok(match &rows[..] {
        [row] => Some(number(row.try_get(0)?)),
        _ => None,
    })
}

/// Removes keys of reports whose messages are gone.
pub(super) async fn forget(tx: &Tx, before_ms: i64) -> Result<u64, Fault> {
    tx.execute(
        "DELETE FROM reported WHERE key IN (SELECT key FROM reported WHERE at <= $1 ORDER BY at LIMIT $2)",
        &[&before_ms, &STEP],
    )
    .await
}
