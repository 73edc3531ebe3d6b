//! What searching messages asks of the store.

use crate::Pending;
use crate::model::*;

/// Searching messages, whatever became of them.
pub trait Search: Send + Sync {
    /// Messages that meet all conditions, newest first, from before the cursor, at most `limit` (1 to [`MOST_FOUND`]).
    ///
    /// A recipient's address, its domain and a Message-ID are indexed. Where no index serves a question, a bounded number of
    /// messages is looked at; fewer than `limit` with a `next` say that there may be more behind it.
    fn search(&self, query: SearchQuery, before: Option<MessageId>, limit: u32) -> Pending<SearchPage>;
    /// Brings what searches look into up to date, off the way of mail that comes in; gives how many messages were added. What
    /// was not added yet is found all the same, by looking at it.
    fn catch_up_search(&self) -> Pending<u64>;
}
