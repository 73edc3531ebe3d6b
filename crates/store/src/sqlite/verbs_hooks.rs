//! The verbs of webhooks, mapped to the writer and the readers.

use std::sync::atomic::Ordering;

use super::SqliteStore;
use super::command::{Command, Job};
use super::hooks::{self, HookChange};
use crate::Pending;
use crate::model::*;
use crate::settings::Kind;
use crate::verbs::Hooks;

impl SqliteStore {
    fn hook(&self, change: HookChange) -> Pending<i64> {
        let (job, pending) = Job::new(change);
        self.shared.queue.push(Command::Hook(Box::new(job)));
        pending
    }
}

impl Hooks for SqliteStore {
    fn hooks(&self) -> Pending<Vec<HookPlace>> {
        self.shared.readers.ask(move |connection| Ok(hooks::hooks(connection)?))
    }

    fn newest_event(&self) -> Pending<i64> {
        Pending::ready(Ok(self.shared.newest_event.load(Ordering::SeqCst)))
    }

    fn told_after(&self, ask: HookAsk) -> Pending<ToldEvents> {
        self.shared.readers.ask(move |connection| Ok(hooks::told_after(connection, &ask)?))
    }

    fn told(&self, events: Vec<(i64, u32)>) -> Pending<Vec<Option<ToldEvent>>> {
        self.shared.readers.ask(move |connection| Ok(hooks::told(connection, &events)?))
    }

    fn hook_due(&self, name: String, now_ms: i64, limit: u32) -> Pending<Vec<HookWaiting>> {
        self.shared.readers.ask(move |connection| Ok(hooks::due(connection, &name, now_ms, limit)?))
    }

    fn hook_next_due(&self, name: String) -> Pending<Option<i64>> {
        self.shared.readers.ask(move |connection| Ok(hooks::next_due(connection, &name)?))
    }

    fn hook_keys(&self, name: String, keys: Vec<i64>) -> Pending<Vec<i64>> {
        self.shared.readers.ask(move |connection| Ok(hooks::keys(connection, &name, &keys)?))
    }

    fn hook_deliveries(
        &self,
        name: String,
        only_refused: bool,
        before: Option<i64>,
        limit: u32,
    ) -> Pending<Vec<HookDelivery>> {
        self.shared
            .readers
            .ask(move |connection| Ok(hooks::deliveries(connection, &name, only_refused, before, limit)?))
    }

    fn hook_start(&self, name: String, start: HookStart) -> Pending<i64> {
        if let Err(error) = crate::settings::check_name(Kind::Webhook, &name) {
            return Pending::ready(Err(error));
        }
        match start {
            HookStart::Now => self.hook(HookChange::Start { name, cursors: None }),
            HookStart::At(at_ms) => self.job("hook-start", move |connection, shared| {
                let cursors = Some(hooks::cursors_at(connection, at_ms)?);
                let (job, pending) = Job::new(HookChange::Start { name, cursors });
                shared.queue.push(Command::Hook(Box::new(job)));
                pending.wait()
            }),
        }
    }

    fn hook_progress(&self, name: String, progress: HookProgress) -> Pending<i64> {
        let state = progress.state.to_string();
        let log = progress.log.iter().map(|entry| entry.body.to_string()).collect();
        self.hook(HookChange::Progress { name, progress: Box::new(progress), state, log })
    }

    fn hook_hasten(&self, name: String, due_ms: i64) -> Pending<i64> {
        self.hook(HookChange::Hasten { name, due_ms })
    }

    fn hook_resume(&self, name: String, state: serde_json::Value, due_ms: i64) -> Pending<i64> {
        self.hook(HookChange::Resume { name, state: state.to_string(), due_ms })
    }

    fn hook_forget(&self, name: String) -> Pending<i64> {
        self.hook(HookChange::Forget { name })
    }
}
