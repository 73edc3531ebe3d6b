//! The verbs of webhooks.

use std::sync::Arc;

use super::hooks::{self, Progress};
use super::tx::{self, Mode};
use super::{PostgresStore, told};
use crate::Pending;
use crate::model::*;
use crate::settings::{Kind, check_name};
use crate::verbs::Hooks;

impl Hooks for PostgresStore {
    fn hooks(&self) -> Pending<Vec<HookPlace>> {
        self.read((), |tx, _| async move { hooks::hooks(&tx).await })
    }

    fn newest_event(&self) -> Pending<i64> {
        self.read((), |tx, _| async move { hooks::newest_event(&tx).await })
    }

    fn told_after(&self, ask: HookAsk) -> Pending<ToldEvents> {
        self.read(ask, |tx, ask| async move { told::after(&tx, &ask).await })
    }

    fn told(&self, events: Vec<(i64, u32)>) -> Pending<Vec<Option<ToldEvent>>> {
        self.read(events, |tx, events| async move { told::single(&tx, &events).await })
    }

    fn hook_due(&self, name: String, now_ms: i64, limit: u32) -> Pending<Vec<HookWaiting>> {
        self.read((name, now_ms, limit), |tx, r| async move { hooks::due(&tx, &r.0, r.1, r.2).await })
    }

    fn hook_next_due(&self, name: String) -> Pending<Option<i64>> {
        self.read(name, |tx, name| async move { hooks::next_due(&tx, &name).await })
    }

    fn hook_keys(&self, name: String, keys: Vec<i64>) -> Pending<Vec<i64>> {
        self.read((name, keys), |tx, r| async move { hooks::keys(&tx, &r.0, &r.1).await })
    }

    fn hook_deliveries(
        &self,
        name: String,
        only_refused: bool,
        before: Option<i64>,
        limit: u32,
    ) -> Pending<Vec<HookDelivery>> {
        self.read((name, only_refused, before, limit), |tx, r| async move {
            hooks::deliveries(&tx, &r.0, r.1, r.2, r.3).await
        })
    }

    fn hook_start(&self, name: String, start: HookStart) -> Pending<i64> {
        if let Err(error) = check_name(Kind::Webhook, &name) {
            return Pending::ready(Err(error));
        }
        self.task(move |shared| async move {
            let cursors =
                match start {
                    HookStart::Now => None,
                    HookStart::At(at_ms) => {
                        let at_ms = Arc::new(at_ms);
                        let look = tx::run(&shared, Mode::Snapshot, at_ms, |tx, at| async move {
                            hooks::cursors_at(&tx, *at).await
                        });
                        Some(look.await?)
                    }
                };
            let begin = Arc::new((name, cursors));
            tx::run(&shared, Mode::Write, begin, |tx, r| async move { hooks::start(&tx, &r.0, r.1).await }).await
        })
    }

    fn hook_progress(&self, name: String, progress: HookProgress) -> Pending<i64> {
        let state = progress.state.to_string();
        let bodies = progress.log.iter().map(|entry| entry.body.to_string()).collect();
        let step = Progress { name, progress, state, bodies };
        self.write(step, |tx, step| async move { hooks::progress(&tx, &step).await })
    }

    fn hook_hasten(&self, name: String, due_ms: i64) -> Pending<i64> {
        self.write((name, due_ms), |tx, r| async move { hooks::hasten(&tx, &r.0, r.1).await })
    }

    fn hook_resume(&self, name: String, state: serde_json::Value, due_ms: i64) -> Pending<i64> {
        self.write((name, state.to_string(), due_ms), |tx, r| async move { hooks::resume(&tx, &r.0, &r.1, r.2).await })
    }

    fn hook_forget(&self, name: String) -> Pending<i64> {
        self.write(name, |tx, name| async move { hooks::forget(&tx, &name).await })
    }
}
