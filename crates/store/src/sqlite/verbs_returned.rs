//! The verbs of returned mail, mapped to the writer and the readers.

use bytes::Bytes;

use super::SqliteStore;
use super::command::{Command, Job};
use super::returned::{self, ReturnedChange};
use crate::Pending;
use crate::engine::returned as engine;
use crate::model::*;
use crate::verbs::Returns;

impl SqliteStore {
    fn change_returned(&self, change: ReturnedChange) -> Pending<u64> {
        let (job, pending) = Job::new(change);
        self.shared.queue.push(Command::Returned(Box::new(job)));
        pending
    }
}

impl Returns for SqliteStore {
    fn keep_returned(&self, mail: NewReturned) -> Pending<Kept> {
        if let Err(error) = engine::check(&mail).and_then(|()| self.intake()) {
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
        let note = engine::note(&fate);
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
        if let Err(error) = engine::check_mailbox(&name) {
            return Pending::ready(Err(error));
        }
        self.change_returned(ReturnedChange::Mailbox { name, place })
    }

    fn traced(&self, trace: Trace) -> Pending<Vec<MessageId>> {
        self.shared.readers.ask(move |connection| Ok(returned::traced(connection, &trace)?))
    }
}
