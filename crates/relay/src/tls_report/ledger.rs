//! What was seen, by day and domain: in memory for as long as it grows or waits to be sent, and in the store so that neither a
//! restart nor a crash forgets more than the last half minute.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proto::policy::tlsrpt::report::{PolicyReport, Session, count};
use serde::{Deserialize, Serialize};
use store::{Store, StoreError, TlsDay, TlsDays};

use super::TlsReportConfig;
use crate::shared::Shared;

/// A day, milliseconds.
pub(super) const DAY_MS: i64 = 86_400_000;
/// Domains of one day that are counted.
const MOST_DOMAINS: usize = 10_000;
/// Days that are kept in the store.
const KEPT_DAYS: i64 = 14;
/// Days whose reports may still be open at a start.
const OPEN_DAYS: i64 = 3;
/// Rows read or written at once.
const PAGE: usize = 500;

/// What is known of one domain and day, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) policies: Vec<PolicyReport>,
    #[serde(default)]
    pub(super) sending: Sending,
}

/// How far the report is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Sending {
    pub(super) state: SendState,
    /// Not before, Unix milliseconds.
    pub(super) due_ms: i64,
    pub(super) tries: u32,
    /// URIs that have it.
    pub(super) done: Vec<String>,
    pub(super) problem: Option<String>,
}

/// States of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendState {
    /// Its day is not over, or it is on its way.
    #[default]
    Open,
    /// Everybody who asked for it has it.
    Sent,
    /// Nobody asked for it.
    Unwanted,
    /// It could not be handed over for a day.
    GivenUp,
}

#[derive(Default)]
struct Entry {
    row: Row,
    dirty: bool,
}

type Days = BTreeMap<i64, HashMap<Arc<str>, Entry>>;

/// The counts.
pub(crate) struct Ledger {
    pub(super) config: TlsReportConfig,
    days: Mutex<Days>,
    /// The time this node leads for which the counts were read.
    term: tokio::sync::Mutex<Option<u64>>,
    /// Another node's counts are reported.
    idle: AtomicBool,
}

/// The UTC day of a moment.
pub(super) fn day_of(now_ms: i64) -> i64 {
    now_ms.div_euclid(DAY_MS)
}

impl Ledger {
    /// Takes up what an earlier run wrote down.
    pub(crate) async fn open(config: TlsReportConfig, store: &dyn Store, now_ms: i64) -> Result<Arc<Self>, StoreError> {
        let days = Mutex::new(Self::days(store, now_ms).await?);
        Ok(Arc::new(Self { config, days, term: tokio::sync::Mutex::default(), idle: AtomicBool::new(false) }))
    }

    /// What [`Ledger::open`] has read a moment ago is taken up for this time.
    pub(super) async fn begin(&self, shared: &Shared) {
        if shared.store.bell().is_some() {
            let term = shared.term();
            *self.term.lock().await = term;
            self.idle.store(term.is_none(), Ordering::Relaxed);
        }
    }

    /// Whether the counts are this node's to keep: it leads, and has taken up what another wrote down, instead of what was counted
    /// here. If another leads they are forgotten.
    pub(super) async fn is_ours(&self, shared: &Shared) -> Result<bool, StoreError> {
        if shared.store.bell().is_none() {
            return Ok(true);
        }
        let mut known = self.term.lock().await;
        let term = shared.term();
        if *known == term {
            return Ok(term.is_some());
        }
        let read = match term {
            Some(_) => Self::days(&*shared.store, shared.now_ms()).await?,
            None => Days::new(),
        };
        let before = std::mem::replace(&mut *self.days.lock(), read);
        // What was sent a moment ago is not sent again.
        for (day, domains) in before {
            for (domain, entry) in domains {
                if entry.dirty && entry.row.sending.state != SendState::Open {
                    self.sent(day, &domain, entry.row);
                }
            }
        }
        *known = term;
        self.idle.store(term.is_none(), Ordering::Relaxed);
        Ok(term.is_some())
    }

    async fn days(store: &dyn Store, now_ms: i64) -> Result<Days, StoreError> {
        let mut days = Days::new();
        let mut which = TlsDays { from_day: day_of(now_ms) - OPEN_DAYS, limit: PAGE as u32, ..TlsDays::default() };
        loop {
            let page = store.tls_days(which.clone()).await?;
            let full = page.len() == PAGE;
            which.after = page.last().map(|last| (last.day, last.domain.clone()));
            for stored in page {
                if let Some(row) = read(&stored).filter(|row| row.sending.state == SendState::Open) {
                    days.entry(stored.day).or_default().insert(stored.domain.into(), Entry { row, dirty: false });
                }
            }
            if !full {
                return Ok(days);
            }
        }
    }

    /// Counts a session with a domain.
    pub(crate) fn count(&self, domain: &Arc<str>, session: &Session, now_ms: i64) {
        if self.idle.load(Ordering::Relaxed) {
            return;
        }
        let mut days = self.days.lock();
        let today = days.entry(day_of(now_ms)).or_default();
        if today.len() >= MOST_DOMAINS && !today.contains_key(domain) {
            return;
        }
        let entry = today.entry(domain.clone()).or_default();
        count(&mut entry.row.policies, session);
        entry.dirty = true;
    }

    /// Writes down what has changed; what the store cannot take now is offered again.
    pub(super) async fn write(&self, store: &dyn Store, now_ms: i64) -> Result<(), StoreError> {
        loop {
            let rows = self.changed();
            let last = rows.len() < PAGE;
            let keys: Vec<(i64, String)> = rows.iter().map(|row| (row.day, row.domain.clone())).collect();
            if let Err(error) = store.save_tls_days(rows, day_of(now_ms) - KEPT_DAYS).await {
                let mut days = self.days.lock();
                for (day, domain) in keys {
                    if let Some(entry) = days.get_mut(&day).and_then(|day| day.get_mut(domain.as_str())) {
                        entry.dirty = true;
                    }
                }
                return Err(error);
            }
            self.days.lock().retain(|_, domains| {
                domains.retain(|_, entry| entry.dirty || entry.row.sending.state == SendState::Open);
                !domains.is_empty()
            });
            if last {
                return Ok(());
            }
        }
    }

    fn changed(&self) -> Vec<TlsDay> {
        let mut days = self.days.lock();
        let entries = days.iter_mut().flat_map(|(day, domains)| {
            domains.iter_mut().filter(|(_, entry)| entry.dirty).map(move |(domain, entry)| (*day, domain, entry))
        });
        let write = |(day, domain, entry): (i64, &Arc<str>, &mut Entry)| {
            entry.dirty = false;
            let kept = entry.row.sending.state != SendState::Unwanted;
            let body = kept.then(|| serde_json::to_string(&entry.row).ok()).flatten();
            TlsDay { day, domain: domain.to_string(), body }
        };
        entries.take(PAGE).map(write).collect()
    }

    /// Reports of days before `today` that wait to be sent.
    pub(super) fn open_before(&self, today: i64) -> Vec<(i64, Arc<str>, Row)> {
        let days = self.days.lock();
        let past = days.range(..today);
        past.flat_map(|(day, domains)| {
            let open = domains.iter().filter(|(_, entry)| entry.row.sending.state == SendState::Open);
            open.map(|(domain, entry)| (*day, domain.clone(), entry.row.clone()))
        })
        .collect()
    }

    /// What became of a report. Its day is over: the counts do not change any more.
    pub(super) fn sent(&self, day: i64, domain: &Arc<str>, row: Row) {
        self.days.lock().entry(day).or_default().insert(domain.clone(), Entry { row, dirty: true });
    }
}

/// A stored row; one that cannot be read is said and left alone.
pub(super) fn read(stored: &TlsDay) -> Option<Row> {
    let body = stored.body.as_deref()?;
    serde_json::from_str(body)
        .inspect_err(
            |error| tracing::warn!(domain = %stored.domain, %error, "what was seen of a domain's TLS cannot be read"),
        )
        .ok()
}
