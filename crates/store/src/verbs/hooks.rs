//! What webhooks ask of the store: events to tell of, and a durable note of how far each has come.

use crate::Pending;
use crate::model::*;

/// Telling others by webhook. One task at a time works on a name; nothing here keeps two apart.
pub trait Hooks: Send + Sync {
    /// Where all webhooks stand, by name.
    fn hooks(&self) -> Pending<Vec<HookPlace>>;
    /// Number of the newest event that is durable; cheap, for looking often.
    fn newest_event(&self) -> Pending<i64>;
    /// Events of some kinds behind a cursor, with what is needed to tell of them. Looks at a bounded number of events
    /// and says how far it came.
    fn told_after(&self, ask: HookAsk) -> Pending<ToldEvents>;
    /// Single events by number and recipient; `None` for one that is no longer kept.
    fn told(&self, events: Vec<(i64, u32)>) -> Pending<Vec<Option<ToldEvent>>>;
    /// What waits and is due, the longest due first, at most `limit`. Of those with one key only the oldest is given.
    fn hook_due(&self, name: String, now_ms: i64, limit: u32) -> Pending<Vec<HookWaiting>>;
    /// When the next of them falls due, Unix milliseconds.
    fn hook_next_due(&self, name: String) -> Pending<Option<i64>>;
    /// Those among the keys for which something waits.
    fn hook_keys(&self, name: String, keys: Vec<i64>) -> Pending<Vec<i64>>;
    /// The delivery log, newest first, before an entry, at most `limit` (1 to 1,000).
    fn hook_deliveries(
        &self,
        name: String,
        only_refused: bool,
        before: Option<i64>,
        limit: u32,
    ) -> Pending<Vec<HookDelivery>>;
    /// Begins at a place, also anew: what waits behind it is forgotten, because it is read again. Gives the number of the
    /// last event left out.
    fn hook_start(&self, name: String, start: HookStart) -> Pending<i64>;
    /// Writes down a step. The log keeps the newest 10,000 entries of a webhook.
    fn hook_progress(&self, name: String, progress: HookProgress) -> Pending<i64>;
    /// Everything that waits is due at this moment, Unix milliseconds, at the latest.
    fn hook_hasten(&self, name: String, due_ms: i64) -> Pending<i64>;
    /// Goes on after a pause: notes how it is doing, and all that waits is due at this moment, as if it had never been tried.
    fn hook_resume(&self, name: String, state: serde_json::Value, due_ms: i64) -> Pending<i64>;
    /// Forgets a webhook with all that waits and its log.
    fn hook_forget(&self, name: String) -> Pending<i64>;
}
