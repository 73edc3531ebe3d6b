//! The verbs of returned mail, mapped to the writer and the readers.

use bytes::Bytes;

use super::SqliteStore;
use super::command::{Command, Job};
use super::returned::{self, ReturnedChange};
use crate::model::*;
use crate::verbs::Returns;
use crate::{Pending, StoreError};

/// Longest name of a mailbox and of a source.
const MOST_NAME: usize = 255;

impl SqliteStore {
    fn change_returned(&self, change: ReturnedChange) -> Pending<u64> {
        let (job, pending) = Job::new(change);
        self.shared.queue.push(Command::Returned(Box::new(job)));
        pending
    }
}

impl Returns for SqliteStore {
    fn keep_returned(&self, mail: NewReturned) -> Pending<Kept> {
        let name = mail.place.as_ref().map_or(mail.source.as_str(), |(name, _)| name);
        if name.is_empty() || name.len() > MOST_NAME || mail.source.len() > MOST_NAME {
            return Pending::ready(Err(StoreError::Invalid(format!("a source has 1 to {MOST_NAME} octets"))));
        }
        if let Err(error) = self.intake() {
            return Pending::ready(Err(error));
        }
        let (job, pending) = Job::new(mail);
        self.shared.queue.push(Command::KeepReturned(Box::new(job)));
        pending
    }

    fn returned_due(&self, now_ms: i64, limit: u32) -> Pending<Vec<Returned>> {
        self.shared.readers.ask(move |connection| Ok(returned::due(connection, now_ms, limit)?))
    }

    fn settle_returned(&self, id: i64, fate: ReturnedFate) -> Pending<u64> {
        let note = match &fate {
            ReturnedFate::Unmatched(note) | ReturnedFate::Reports(note) => Some(note.to_string()),
            ReturnedFate::Done | ReturnedFate::Later(_) => None,
        };
        self.change_returned(ReturnedChange::Settle { id, fate, note })
    }

    fn returned_list(&self, list: ReturnedList, before: Option<i64>, limit: u32) -> Pending<Vec<ReturnedView>> {
        self.shared.readers.ask(move |connection| Ok(returned::list(connection, list, before, limit)?))
    }

    fn returned_content(&self, id: i64) -> Pending<Bytes> {
        self.shared.readers.ask(move |connection| Ok(returned::content(connection, id)?))
    }

    fn forget_returned(&self, list: ReturnedList, id: Option<i64>) -> Pending<u64> {
        self.change_returned(ReturnedChange::Forget { list, id })
    }

    fn mailbox_place(&self, name: String) -> Pending<Option<MailboxPlace>> {
        self.shared.readers.ask(move |connection| Ok(returned::mailbox_place(connection, &name)?))
    }

    fn move_mailbox(&self, name: String, place: MailboxPlace) -> Pending<u64> {
        if name.is_empty() || name.len() > MOST_NAME {
            return Pending::ready(Err(StoreError::Invalid(format!("a mailbox's name has 1 to {MOST_NAME} octets"))));
        }
        self.change_returned(ReturnedChange::Mailbox { name, place })
    }

    fn traced(&self, trace: Trace) -> Pending<Vec<MessageId>> {
        self.shared.readers.ask(move |connection| Ok(returned::traced(connection, &trace)?))
    }
}
