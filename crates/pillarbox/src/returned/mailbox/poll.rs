//! One task for each mailbox: connects, reads what is new, waits for more, and tries again later when something fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use net::Net;
use parking_lot::Mutex;
use relay::secrets::Secrets;
use serde::{Deserialize, Serialize};
use store::settings::{Document, Kind};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::{self, Link, MailboxError, PATIENCE, Proof, SMALL, within};
use super::record::MailboxRecord;
use super::session::Reader;
use crate::http::App;

/// How often settings are looked at.
const SETTINGS_EVERY: Duration = Duration::from_secs(5);
/// An IDLE is begun anew after so long (RFC 2177 asks for less than 29 minutes; some routers forget sooner).
const IDLE: Duration = Duration::from_secs(9 * 60);
/// Least pause between looks, whatever the server says.
const LEAST: Duration = Duration::from_secs(1);
/// Pauses after failures, seconds: the first, the longest; after a refused sign-in they begin with the third value, so that
/// no account is locked.
const PAUSES_S: (u64, u64, u64) = (10, 3_600, 300);
/// Most mailboxes.
const MAX_MAILBOXES: usize = 100;

/// How a mailbox is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxState {
    /// `connecting`, `reading`, `idle`, `waiting`, `failed`, `disabled`.
    pub state: String,
    /// Last look that went well, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_ms: Option<i64>,
    /// Mails taken since the start.
    #[serde(default)]
    pub taken: u64,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How all mailboxes are.
#[derive(Debug, Default)]
pub struct Mailboxes(Mutex<BTreeMap<String, MailboxState>>);

impl Mailboxes {
    /// How one is; none if it has not begun.
    pub fn get(&self, name: &str) -> Option<MailboxState> {
        self.0.lock().get(name).cloned()
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut MailboxState)) {
        change(self.0.lock().entry(name.to_owned()).or_default());
    }

    fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

struct Running {
    version: i64,
    stop: CancellationToken,
}

/// Keeps one task for each mailbox until the server stops. `came`: told of what was taken.
pub async fn run(app: Arc<App>, net: Net, came: Arc<Notify>, closing: CancellationToken) {
    let tasks = TaskTracker::new();
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    let mut seen = None;
    while !closing.is_cancelled() {
        match app.store.settings_version().await {
            Ok(version) if seen != Some(version) => match app.store.documents(Kind::Mailbox).await {
                Ok(documents) => {
                    seen = Some(version);
                    renew(&app, &net, &came, &closing, &tasks, &mut running, documents);
                }
                Err(error) => tracing::warn!(%error, "mailboxes cannot be read from the store"),
            },
            _ => {}
        }
        tokio::select! {
            () = tokio::time::sleep(SETTINGS_EVERY) => {}
            () = app.mailboxes_changed.notified() => {}
            () = closing.cancelled() => {}
        }
    }
    tasks.close();
    tasks.wait().await;
}

fn renew(
    app: &Arc<App>,
    net: &Net,
    came: &Arc<Notify>,
    closing: &CancellationToken,
    tasks: &TaskTracker,
    running: &mut BTreeMap<String, Running>,
    documents: Vec<Document>,
) {
    running.retain(|name, one| {
        let same = documents.iter().any(|document| document.name == *name && document.version == one.version);
        if !same {
            one.stop.cancel();
            app.mailboxes.forget(name);
        }
        same
    });
    for document in documents.into_iter().take(MAX_MAILBOXES) {
        if running.contains_key(&document.name) {
            continue;
        }
        let stop = closing.child_token();
        running.insert(document.name.clone(), Running { version: document.version, stop: stop.clone() });
        match Mailbox::read(app.clone(), net.clone(), came.clone(), document) {
            Ok(mailbox) if mailbox.record.disabled => {
                app.mailboxes.note(&mailbox.name, |state| state.state = "disabled".into());
            }
            Ok(mailbox) => {
                tasks.spawn(async move {
                    tokio::select! {
                        () = mailbox.run() => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "a mailbox makes no sense and is left out"),
        }
    }
}

struct Mailbox {
    app: Arc<App>,
    net: Net,
    came: Arc<Notify>,
    name: String,
    record: MailboxRecord,
    secrets: Secrets,
}

impl Mailbox {
    fn read(app: Arc<App>, net: Net, came: Arc<Notify>, document: Document) -> Result<Self, String> {
        let name = document.name;
        let record = serde_json::from_value(document.body).map_err(|error| format!("mailbox {name}: {error}"))?;
        let secrets = Secrets::read(document.secret.as_ref()).map_err(|error| format!("mailbox {name}: {error}"))?;
        Ok(Self { app, net, came, name, record, secrets })
    }

    async fn run(self) {
        let mut failures = 0u32;
        loop {
            let looked = self.app.mailboxes.get(&self.name).and_then(|state| state.looked_ms);
            self.note(|state| state.state = "connecting".into());
            let error = match self.follow().await {
                Ok(()) => MailboxError::Server("the server ended the conversation".into()),
                Err(error) => error,
            };
            // A conversation that went well for a while begins the count anew.
            let went_well = self.app.mailboxes.get(&self.name).and_then(|state| state.looked_ms) != looked;
            failures = if went_well { 0 } else { failures.saturating_add(1) };
            let (first, longest, after_refusal) = PAUSES_S;
            let from = if matches!(error, MailboxError::SignIn(_)) { after_refusal } else { first };
            let pause_s = (from << failures.saturating_sub(1).min(10)).min(longest.max(from));
            tracing::warn!(mailbox = %self.name, %error, pause_s, "mailbox cannot be read");
            self.note(|state| {
                state.state = "failed".into();
                state.error = Some(error.to_string());
            });
            tokio::time::sleep(Duration::from_secs(pause_s)).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut MailboxState)) {
        self.app.mailboxes.note(&self.name, change);
    }

    async fn proof(&self) -> Result<Proof, MailboxError> {
        let Some(oauth) = &self.record.oauth else {
            let none = || MailboxError::SignIn("there is no password".into());
            return self.secrets.password.clone().map(Proof::Password).ok_or_else(none);
        };
        let tokens = self.app.tokens.as_ref().ok_or_else(|| MailboxError::Server("no authorities for HTTPS".into()))?;
        // A name of its own: routes have theirs in the same place.
        let token = tokens.current(&token_name(&self.name), oauth, &self.secrets).await;
        token.map(Proof::Token).map_err(MailboxError::Token)
    }

    /// One connection's life.
    async fn follow(&self) -> Result<(), MailboxError> {
        let proof = self.proof().await?;
        let opened = link::open(&self.net, &self.record, &proof).await;
        if let (Err(MailboxError::SignIn(_)), Proof::Token(token), Some(tokens)) = (&opened, &proof, &self.app.tokens) {
            tokens.refused_by_name(&token_name(&self.name), token);
        }
        let mut link = opened?;
        link.allowance.set(SMALL);
        let can_idle = self.record.idle && within(PATIENCE, link.session.capabilities()).await?.has_str("IDLE");
        let mut reader = Reader::select(link, &*self.app.store, &self.name, &self.record).await?;
        loop {
            self.note(|state| state.state = "reading".into());
            let look = reader.look().await?;
            if look.taken > 0 {
                self.came.notify_one();
            }
            let now_ms = self.app.clock.now_ms();
            self.note(|state| {
                state.looked_ms = Some(now_ms);
                state.taken += look.taken;
                state.error = None;
                state.state = if can_idle { "idle" } else { "waiting" }.into();
            });
            if can_idle {
                reader.link = idle(reader.link).await?;
            } else {
                tokio::time::sleep(Duration::from_secs(self.record.poll_s())).await;
                reader.link.allowance.set(SMALL);
                within(PATIENCE, reader.link.session.noop()).await?;
            }
        }
    }
}

/// Under which name tokens of a mailbox are kept.
pub fn token_name(mailbox: &str) -> Arc<str> {
    let name = format!("mailbox.{mailbox}");
    if name.len() <= 64 {
        name.into()
    } else {
        format!("mailbox.{}", &blake3::hash(mailbox.as_bytes()).to_hex()[..32]).into()
    }
}

/// Waits for the server's word that something changed, or until it is time to look by ourselves.
async fn idle(link: Link) -> Result<Link, MailboxError> {
    let Link { session, allowance, clock } = link;
    allowance.set(SMALL);
    let mut waiting = session.idle();
    within(PATIENCE, waiting.init()).await?;
    {
        let (word, _stop) = waiting.wait_with_timeout(IDLE);
        // A server that goes on saying that it is there does not keep us from looking.
        if let Ok(word) = tokio::time::timeout(IDLE, word).await {
            drop(word?);
        }
    }
    tokio::time::sleep(LEAST).await;
    let session = within(PATIENCE, waiting.done()).await?;
    Ok(Link { session, allowance, clock })
}
