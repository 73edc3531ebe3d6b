//! Snapshots in the store: written when something changed, read by domain and time.

use diagnose::journal::{Difference, Snapshot, What};
use serde::{Deserialize, Serialize};
use store::{Record, RecordKind, RecordQuery, Store, StoreError};

use super::Affected;

/// Pages that are read for one question, of 1,000 records each.
const MOST_PAGES: usize = 20;
/// Records of a page.
const PAGE: u32 = 1_000;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The domain, or the address for a reverse name.
    pub domain: String,
    /// Which record.
    pub what: What,
    /// What each server said.
    pub snapshot: Snapshot,
    /// What changed; none: it was looked at for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Difference>,
    /// Whose mail depends on it.
    #[serde(default)]
    pub affected: Affected,
}

impl Entry {
    /// The name of the record in the store.
    pub fn name(domain: &str, what: &What) -> String {
        format!("{domain}/{what}")
    }
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Cursor.
    pub id: i64,
    /// When it was seen, Unix milliseconds.
    pub at_ms: i64,
    /// The entry.
    pub entry: Entry,
}

fn stored(record: Record) -> Option<Stored> {
    let Record { id, at_ms, body, name, .. } = record;
    match serde_json::from_value(body) {
        Ok(entry) => Some(Stored { id, at_ms, entry }),
        Err(error) => {
            tracing::warn!(%name, %error, "a snapshot of the DNS journal cannot be read and is left out");
            None
        }
    }
}

/// The newest snapshot of one record.
pub(super) async fn newest(store: &dyn Store, domain: &str, what: &What) -> Result<Option<Stored>, StoreError> {
    let query = RecordQuery { limit: 1, ..RecordQuery::named(RecordKind::DnsSnapshot, Entry::name(domain, what)) };
    Ok(store.records(query).await?.pop().and_then(stored))
}

/// Changes of a domain (or of everything), newest first: at most `limit`, with ids below `before`. First looks are no
/// changes.
pub async fn page(
    store: &dyn Store,
    domain: Option<&str>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Stored>, StoreError> {
    let mut query = RecordQuery { since_ms, until_ms, before, limit: PAGE, ..RecordQuery::of(RecordKind::DnsSnapshot) };
    let mut found = Vec::new();
    for _ in 0..MOST_PAGES {
        let records = store.records(query.clone()).await?;
        let full = records.len() == PAGE as usize;
        query.before = records.last().map(|record| record.id);
        let of_domain = |record: &Record| domain.is_none_or(|domain| belongs(&record.name, domain));
        let entries = records.into_iter().filter(of_domain).filter_map(stored);
        found.extend(entries.filter(|one| one.entry.change.is_some()).take(limit - found.len()));
        if !full || found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

fn belongs(name: &str, domain: &str) -> bool {
    name.split_once('/').is_some_and(|(owner, _)| owner.eq_ignore_ascii_case(domain))
}

/// The newest snapshot of each record of a domain, or of an address. Policies that its SPF record does not lead to any more are
/// left out.
pub async fn current(store: &dyn Store, domain: &str) -> Result<Vec<Stored>, StoreError> {
    let mut query = RecordQuery { limit: PAGE, ..RecordQuery::of(RecordKind::DnsSnapshot) };
    let mut found: Vec<Stored> = Vec::new();
    for _ in 0..MOST_PAGES {
        let records = store.records(query.clone()).await?;
        let full = records.len() == PAGE as usize;
        query.before = records.last().map(|record| record.id);
        for one in records.into_iter().filter(|record| belongs(&record.name, domain)).filter_map(stored) {
            if !found.iter().any(|known| known.entry.what == one.entry.what) {
                found.push(one);
            }
        }
        if !full {
            break;
        }
    }
    let policies = |one: &&Stored| matches!(one.entry.what, What::Spf | What::SpfOf(_));
    let led: Vec<String> = found.iter().filter(policies).flat_map(|one| one.entry.snapshot.leads_to()).collect();
    found.retain(|one| match &one.entry.what {
        What::SpfOf(target) => led.contains(target),
        _ => true,
    });
    found.sort_by(|a, b| a.entry.what.cmp(&b.entry.what));
    Ok(found)
}
