//! What was promised against what arrived: the arithmetic of the crash stories.
//!
//! A ledger file has one JSON line per delivered message, synced before its 250, so that it survives whatever
//! the story kills; a torn last line is ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `X-Load-Id`, or else `Message-ID`.
    pub id: String,
    /// Recipients of that transaction.
    pub to: Vec<String>,
}

/// The result of a comparison, in recipients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciliation {
    /// Acknowledged with 250 and never delivered: must be empty, always.
    pub lost: Vec<(String, String)>,
    /// Refused by a clear reply and delivered all the same: must be empty.
    pub ghosts: Vec<(String, String)>,
    /// Delivered, but never offered.
    pub strangers: Vec<(String, String)>,
    /// Copies beyond the first.
    pub duplicates: Vec<(String, String)>,
    /// Acknowledged and delivered.
    pub delivered: usize,
    /// The connection died before the reply: may be delivered or not.
    pub unknown: usize,
}

/// Reads a ledger file.
pub fn read(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Compares a load's report with deliveries.
pub fn reconcile(report: &crate::LoadReport, deliveries: &[Entry]) -> Reconciliation {
    let mut copies: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for entry in deliveries {
        for to in &entry.to {
            *copies.entry((&entry.id, to)).or_default() += 1;
        }
    }
    let mut result = Reconciliation { unknown: report.unknown.len(), ..Reconciliation::default() };
    let mut known: BTreeSet<&str> = report.unknown.keys().map(String::as_str).collect();
    for (id, to) in &report.acknowledged {
        known.insert(id);
        for to in to {
            if copies.contains_key(&(id.as_str(), to.as_str())) {
                result.delivered += 1;
            } else {
                result.lost.push((id.clone(), to.clone()));
            }
        }
    }
    for (id, to) in &report.refused {
        // An id that was refused first and acknowledged on a later try is no ghost.
        if known.insert(id) {
            let arrived = to.iter().filter(|to| copies.contains_key(&(id.as_str(), to.as_str())));
            result.ghosts.extend(arrived.map(|to| (id.clone(), to.clone())));
        }
    }
    for ((id, to), count) in copies {
        let pair = || (id.to_owned(), to.to_owned());
        if !known.contains(id) {
            result.strangers.push(pair());
        }
        result.duplicates.extend((1..count).map(|_| pair()));
    }
    result
}
