//! What is remembered as records: one table of JSON bodies by kind and name, written with compare-and-set.

use crate::model::*;
use crate::verbs::Pending;

/// Records.
pub trait Records: Send + Sync {
    /// Does all of these in one transaction, in their order, at most [`MOST_RECORDS`]; gives what became of each.
    /// `Invalid` if a name or body is too long: then nothing is written.
    fn write_records(&self, list: Vec<RecordWrite>) -> Pending<Vec<RecordWritten>>;
    /// Records that match; newest first, or oldest first behind `after`.
    fn records(&self, query: RecordQuery) -> Pending<Vec<Record>>;
    /// Forgets closed records added before `before_ms`, but never the newest `keep` of a name; gives how many. At most
    /// [`MOST_RECORDS`] at a time: who wants all gone asks until fewer were forgotten.
    fn prune_records(&self, kind: RecordKind, before_ms: i64, keep: u32) -> Pending<u64>;
}
