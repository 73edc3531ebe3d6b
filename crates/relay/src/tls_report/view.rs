//! Reports for people: what there is, and one of them sent at once.

use std::sync::Arc;

use proto::message::iso_date;
use proto::policy::tlsrpt::report::Report;
use serde::{Deserialize, Serialize};
use store::{StoreError, TlsDay, TlsDays};

use super::ledger::{DAY_MS, Ledger, Row, SendState, day_of, read};
use super::send::{Outgoing, hand_over, receivers, report};
use crate::run::Relay;

/// Why there is nothing to show or to send.
#[derive(Debug, thiserror::Error)]
pub enum TlsReportError {
    /// No contact is configured.
    #[error("TLS reports are off: set `tls_report.contact` in the configuration")]
    Off,
    /// Nothing was seen.
    #[error("nothing was seen of this domain on that day")]
    NotFound,
    /// The domain's record cannot be had.
    #[error("{0}")]
    Lookup(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A domain's report of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsReportView {
    /// `2026-11-20`, UTC.
    pub day: String,
    /// The recipients' domain.
    pub domain: String,
    /// How far it is.
    pub state: SendState,
    /// Sessions as the policies demand.
    pub successful: u64,
    /// Others.
    pub failed: u64,
    /// URIs that have it.
    pub sent_to: Vec<String>,
    /// Attempts to send it.
    pub tries: u32,
    /// Why the last attempt failed.
    pub problem: Option<String>,
    /// What is sent.
    pub report: Report,
}

/// What became of sending one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsReportSent {
    /// URIs that have it now.
    pub sent_to: Vec<String>,
    /// URIs that do not have it, with the reason.
    pub problems: Vec<String>,
}

impl Relay {
    /// Reports, newest day first, then by domain, after the given one; of one domain only if it is named. What is in memory
    /// is written down before.
    pub async fn tls_reports(
        &self,
        domain: Option<String>,
        after: Option<(String, String)>,
        limit: u32,
    ) -> Result<Vec<TlsReportView>, TlsReportError> {
        let (ledger, today) = self.tls_ledger().await?;
        let after = match after {
            Some((day, domain)) => Some((day_named(&day, today).ok_or(TlsReportError::NotFound)?, domain)),
            None => None,
        };
        let rows = self.shared().store.tls_days(TlsDays { from_day: 0, domain, after, limit }).await?;
        let views = rows.iter().filter_map(|stored| Some(view(&ledger, stored, &read(stored)?, today)));
        Ok(views.collect())
    }

    /// Sends a domain's report of a day (`2026-11-20`; the newest if none is given) at once, also if it was sent before, or if its
    /// day is not over: then it tells of the day so far, and the whole one follows.
    pub async fn send_tls_report(&self, domain: &str, day: Option<&str>) -> Result<TlsReportSent, TlsReportError> {
        let (ledger, today) = self.tls_ledger().await?;
        let shared = self.shared();
        let which = TlsDays { domain: Some(domain.to_owned()), limit: 100, ..TlsDays::default() };
        let rows = shared.store.tls_days(which).await?;
        let wanted = day.map(|day| day_named(day, today).ok_or(TlsReportError::NotFound)).transpose()?;
        let stored = rows.iter().find(|row| wanted.is_none_or(|day| row.day == day));
        let (stored, mut row) =
            stored.and_then(|stored| Some((stored, read(stored)?))).ok_or(TlsReportError::NotFound)?;
        let uris = receivers(shared, domain).await.map_err(TlsReportError::Lookup)?;
        if uris.is_empty() {
            let problem =
                format!("{domain} does not ask for reports: there is no usable record at _smtp._tls.{domain}");
            return Ok(TlsReportSent { sent_to: Vec::new(), problems: vec![problem] });
        }
        let now_ms = shared.now_ms();
        let domain: Arc<str> = domain.into();
        let mut outgoing = outgoing(stored, &row, today, now_ms);
        outgoing.copy = now_ms.to_string();
        let mut sent = TlsReportSent { sent_to: Vec::new(), problems: Vec::new() };
        for uri in uris {
            match hand_over(shared, &ledger, &outgoing, &uri).await {
                Ok(()) => sent.sent_to.push(uri),
                Err(why) => sent.problems.push(format!("{uri}: {why}")),
            }
        }
        if stored.day < today && sent.problems.is_empty() {
            row.sending.state = SendState::Sent;
            row.sending.problem = None;
            row.sending.done.clone_from(&sent.sent_to);
            row.sending.tries += 1;
            // Another node that leads knows nothing of this copy, and sends its own.
            if ledger.is_ours(shared).await? {
                ledger.sent(stored.day, &domain, row);
                ledger.write(&*shared.store, now_ms).await?;
            }
        }
        Ok(sent)
    }

    async fn tls_ledger(&self) -> Result<(Arc<Ledger>, i64), TlsReportError> {
        let shared = self.shared();
        let ledger = shared.tls_reports.clone().ok_or(TlsReportError::Off)?;
        let now_ms = shared.now_ms();
        // What the node that leads has seen since it wrote last is known to it alone.
        if ledger.is_ours(shared).await? {
            ledger.write(&*shared.store, now_ms).await?;
        }
        Ok((ledger, day_of(now_ms)))
    }
}

/// The day of a date, among those that may be stored.
fn day_named(date: &str, today: i64) -> Option<i64> {
    (today - 40..=today).rev().find(|day| iso_date(day * DAY_MS / 1_000) == date)
}

fn outgoing(stored: &TlsDay, row: &Row, today: i64, now_ms: i64) -> Outgoing {
    let end_ms = if stored.day >= today { now_ms } else { (stored.day + 1) * DAY_MS - 1 };
    Outgoing {
        day: stored.day,
        domain: stored.domain.as_str().into(),
        policies: row.policies.clone(),
        end_s: end_ms.div_euclid(1_000),
        copy: String::new(),
    }
}

fn view(ledger: &Ledger, stored: &TlsDay, row: &Row, today: i64) -> TlsReportView {
    let sum = |of: fn(&proto::policy::tlsrpt::report::Summary) -> u64| {
        row.policies.iter().map(|policy| of(&policy.summary)).sum()
    };
    TlsReportView {
        day: iso_date(stored.day * DAY_MS / 1_000),
        domain: stored.domain.clone(),
        state: row.sending.state,
        successful: sum(|summary| summary.total_successful_session_count),
        failed: sum(|summary| summary.total_failure_session_count),
        sent_to: row.sending.done.clone(),
        tries: row.sending.tries,
        problem: row.sending.problem.clone(),
        report: report(ledger, &outgoing(stored, row, today, (stored.day + 1) * DAY_MS - 1)),
    }
}
