//! Incidents of Pillarbox itself: opened from what [`Look`] sees, told also while the store cannot keep them, made worse, and
//! closed when it is as it should be again.

use std::sync::Arc;

use net::ServerTls;
use store::{IncidentScope, StoreError};

use super::super::model::{Body, EventKind, Happened, How};
use super::super::opening;
use super::super::own::Wrong;
use super::{Manager, STEADY_MS};
use crate::http::App;

impl Manager {
    /// Opens and closes incidents of Pillarbox itself.
    pub(super) async fn look_at_self(&self, certificates: &[(String, Arc<ServerTls>)]) {
        let now_ms = self.now_ms();
        let steady_ms = i64::try_from(self.app.clock.mono_us() / 1_000).unwrap_or(i64::MAX);
        let mut wrong = {
            let mut look = self.app.incidents.look.lock().await;
            if look.clocks(now_ms, steady_ms) {
                self.relay.time_has_leapt();
            }
            look.look(&*self.app.store, &self.relay, certificates, now_ms, steady_ms).await
        };
        self.app.incidents.elsewhere.merge(&mut wrong, steady_ms);
        let key = |one: &Wrong| format!("{}|{}", IncidentScope::Itself(one.part.clone()), one.reason);
        self.dismissed.lock().retain(|known| wrong.iter().any(|one| key(one) == *known));
        let mut over = Vec::new();
        let mut worse = Vec::new();
        for (id, live) in self.open.lock().iter_mut().filter(|(_, live)| live.body.is_own()) {
            let seen_ms = live.seen_ms.get_or_insert(steady_ms);
            match wrong.iter().find(|one| same(&live.body, one)) {
                Some(one) => {
                    *seen_ms = steady_ms;
                    live.unclosed = None;
                    if one.severity > live.body.severity || live.body.detail.as_deref() != Some(&*one.detail) {
                        worse.push((*id, one.clone()));
                    }
                }
                None if steady_ms - *seen_ms >= STEADY_MS => over.push(*id),
                None => {}
            }
        }
        for (id, one) in worse {
            self.goes_on(id, &one).await;
        }
        for one in wrong {
            let key = key(&one);
            let known = self.open.lock().values().any(|live| same(&live.body, &one));
            if !known && !self.app.incidents.unkept.lock().contains_key(&key) && !self.dismissed.lock().contains(&key) {
                self.open(opening::own(&one.part, one.reason, one.severity, one.detail, now_ms)).await;
            }
        }
        for id in over {
            self.close(id, How::Recovered, "It is as it should be again.").await;
        }
    }

    /// Something of our own that is open has become worse, or there is more to say of it.
    async fn goes_on(&self, id: i64, one: &Wrong) {
        let now_ms = self.now_ms();
        let change = |body: &mut Body| {
            body.severity = body.severity.max(one.severity);
            body.detail = Some(one.detail.clone());
            body.last_ms = now_ms;
        };
        self.change(id, vec![Happened::new(EventKind::Changed, one.detail.as_str())], change).await;
        let told = self.open.lock().get(&id).filter(|live| live.told).map(|live| live.body.clone());
        if let Some(body) = told {
            self.app.alerts.raise(opening::alert(Some(id), &body, &self.app.rules())).await;
        }
    }
}

/// The store cannot keep it now: people are told all the same, and it is written when that works again.
pub async fn keep_for_later(app: &App, body: Body, error: &StoreError) {
    let key = body.key();
    if !app.incidents.keep_later(body.clone()) {
        return;
    }
    tracing::error!(%error, %key, "an incident that the store cannot keep: {}", opening::summary(&body));
    if body.is_own() {
        app.alerts.raise_here(opening::alert(None, &body, &app.rules())).await;
    }
}

fn same(body: &Body, one: &Wrong) -> bool {
    matches!(&body.scope, IncidentScope::Itself(part) if *part == one.part) && body.reason == one.reason
}
