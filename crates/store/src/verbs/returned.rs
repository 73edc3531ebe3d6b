//! What returned mail asks of the store: it is durable before anybody is told that it was taken, and read later.

use bytes::Bytes;

use crate::Pending;
use crate::model::*;

/// Mail that came back.
pub trait Returns: Send + Sync {
    /// Makes a mail durable.
    fn keep_returned(&self, mail: NewReturned) -> Pending<Kept>;
    /// Mails to be read, the longest due first, at most `limit` (1 to 100).
    fn returned_due(&self, now_ms: i64, limit: u32) -> Pending<Vec<Returned>>;
    /// Notes what a mail turned out to be. One that is not there any more is no error.
    fn settle_returned(&self, id: i64, fate: ReturnedFate) -> Pending<u64>;
    /// Kept mails, newest first, before the cursor, at most `limit` (1 to 1,000).
    fn returned_list(&self, list: ReturnedList, before: Option<i64>, limit: u32) -> Pending<Vec<ReturnedView>>;
    /// The octets of a kept mail.
    fn returned_content(&self, id: i64) -> Pending<Bytes>;
    /// Removes kept mails; `None`: all of the list. Gives their number.
    fn forget_returned(&self, list: ReturnedList, id: Option<i64>) -> Pending<u64>;
    /// How far a mailbox was read.
    fn mailbox_place(&self, name: String) -> Pending<Option<MailboxPlace>>;
    /// Notes it without a mail: what was there is left out, or numbers began anew.
    fn move_mailbox(&self, name: String, place: MailboxPlace) -> Pending<u64>;
    /// Messages with such a trace, newest first, at most 10, among the newest 200,000 that are kept. Slow: there is no
    /// index, which every accepted message would pay for.
    fn traced(&self, trace: Trace) -> Pending<Vec<MessageId>>;
}
