//! Keeps one task for each webhook, as the settings are now; stops one while somebody changes where it stands.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use net::{Cidr, Clock, Net};
use parking_lot::Mutex;
use store::settings::{Document, Kind};
use store::{HookPlace, HookStart, StoreError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::endpoint::{Endpoint, note_subject};
use super::post::Poster;
use super::record::WebhookRecord;
use super::sign::Secrets;
use crate::config::Config;
use crate::http::Shared;
use crate::serve::domains::NoteOf;

/// How often it is looked whether there are new events, or other settings.
const EVERY: Duration = Duration::from_millis(200);

/// The webhooks of a server.
pub struct Hooks {
    config: Config,
    clock: Clock,
    net: Mutex<Option<Net>>,
    running: tokio::sync::Mutex<HashMap<String, Running>>,
    wake: Notify,
}

struct Running {
    version: i64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a webhook's task did not end well");
        }
    }
}

impl Hooks {
    /// For a configuration; nothing runs yet.
    pub fn new(config: Config, clock: Clock) -> Self {
        Self { config, clock, net: Mutex::default(), running: tokio::sync::Mutex::default(), wake: Notify::new() }
    }

    /// Networks that every webhook may call though they are not public.
    pub fn networks(&self) -> &[Cidr] {
        &self.config.webhook_networks
    }

    /// Resolver, authorities and clock; made when first needed.
    pub fn net(&self) -> Result<Net, String> {
        let mut net = self.net.lock();
        if let Some(net) = &*net {
            return Ok(net.clone());
        }
        let made = crate::serve::parts::net(&self.config, self.clock.clone()).map_err(|error| format!("{error:#}"))?;
        Ok(net.insert(made).clone())
    }

    /// Whoever calls the endpoint.
    pub fn poster(&self, record: &WebhookRecord, secrets: Secrets) -> Result<Poster, String> {
        let target = record.target()?;
        Ok(Poster::new(self.net()?, target, record.guard(self.networks()), Some(secrets), record.timeout))
    }

    /// Settings have changed: look now.
    pub fn changed(&self) {
        self.wake.notify_one();
    }

    /// Does something about a webhook while its task does not run.
    pub async fn alone<T>(&self, name: &str, work: impl Future<Output = T>) -> T {
        let mut running = self.running.lock().await;
        if let Some(one) = running.remove(name) {
            one.stop().await;
        }
        let done = work.await;
        drop(running);
        self.changed();
        done
    }
}

/// Runs all webhooks until the server stops.
pub async fn run(app: Shared, closing: CancellationToken) {
    let (news, _) = watch::channel(0);
    let mut seen = None;
    while !closing.is_cancelled() {
        let looked = async {
            let version = app.store.settings_version().await?;
            if seen != Some(version) {
                synchronise(&app, &news, &closing).await?;
                seen = Some(version);
            }
            let newest = app.store.newest_event().await?;
            news.send_if_modified(|known| std::mem::replace(known, newest) != newest);
            Ok::<(), StoreError>(())
        };
        match looked.await {
            Ok(()) => {}
            Err(StoreError::Closed) => break,
            Err(error) => tracing::warn!(%error, "webhooks cannot be looked at"),
        }
        tokio::select! {
            () = app.hooks.wake.notified() => seen = None,
            () = tokio::time::sleep(EVERY) => {}
            () = closing.cancelled() => {}
        }
    }
    let running = std::mem::take(&mut *app.hooks.running.lock().await);
    futures_util::future::join_all(running.into_values().map(Running::stop)).await;
}

/// Starts, stops and replaces tasks so that they are as the settings say.
async fn synchronise(app: &Shared, news: &watch::Sender<i64>, closing: &CancellationToken) -> Result<(), StoreError> {
    let mut running = app.hooks.running.lock().await;
    let documents = app.store.documents(Kind::Webhook).await?;
    let mut stale: Vec<String> = running.keys().cloned().collect();
    stale.retain(|name| !documents.iter().any(|one| one.name == *name && one.version == running[name].version));
    for name in stale {
        if let Some(one) = running.remove(&name) {
            one.stop().await;
        }
        app.domains.note(NoteOf::Webhook, &note_subject(&name), Vec::new());
    }
    if documents.iter().all(|document| running.contains_key(&document.name)) {
        return Ok(());
    }
    let places = app.store.hooks().await?;
    for document in documents {
        if running.contains_key(&document.name) {
            continue;
        }
        let place = places.iter().find(|place| place.name == document.name).cloned();
        match start(app, &document, place, news, closing).await? {
            Ok(Some(one)) => drop(running.insert(document.name, one)),
            Ok(None) => {}
            Err(problem) => {
                let line = format!("The webhook {} cannot run: {problem}", document.name);
                app.domains.note(NoteOf::Webhook, &note_subject(&document.name), vec![line]);
            }
        }
    }
    Ok(())
}

/// Starts a task; `None` for a webhook that is disabled, and the inner error for one that makes no sense.
async fn start(
    app: &Shared,
    document: &Document,
    place: Option<HookPlace>,
    news: &watch::Sender<i64>,
    closing: &CancellationToken,
) -> Result<Result<Option<Running>, String>, StoreError> {
    let record: WebhookRecord = match serde_json::from_value(document.body.clone()) {
        Ok(record) => record,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if record.disabled {
        return Ok(Ok(None));
    }
    let secrets = match Secrets::read(document.secret.as_ref()) {
        Ok(secrets) => secrets,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let poster = match app.hooks.poster(&record, secrets) {
        Ok(poster) => poster,
        Err(error) => return Ok(Err(error)),
    };
    let name = document.name.clone();
    let place = match place {
        Some(place) => place,
        None => {
            app.store.hook_start(name.clone(), HookStart::Now).await?;
            let places = app.store.hooks().await?;
            places.into_iter().find(|place| place.name == name).ok_or(StoreError::NotFound)?
        }
    };
    let stop = closing.child_token();
    let endpoint = Endpoint { app: app.clone(), name, record, poster, stop: stop.clone() };
    let task = tokio::spawn(endpoint.run(place, news.subscribe()));
    Ok(Ok(Some(Running { version: document.version, stop, task })))
}
