//! Who may do what: users, their sessions and second factors, API keys of their own, roles and the table of operations.
//!
//! What people type and what browsers send is read in `http`; here it is decided.

pub mod key;
pub mod login;
pub mod oidc;
pub mod pace;
pub mod role;
pub mod session;
pub mod table;
pub mod token;
pub mod tokens;
pub mod totp;
pub mod user;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use net::Clock;
use parking_lot::Mutex;
use relay::credential::Gate;
use store::settings::Kind;
use store::{RecordKind, RecordQuery, RecordWrite, RecordWritten, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::http::Shared;
use key::KeyRecord;
use role::Role;
use user::User;

/// How long users and keys are remembered, milliseconds: a change over this server counts at once.
const REMEMBERED_MS: i64 = 5_000;
/// How exactly the last use of a key is known, milliseconds.
const USED_MS: i64 = 60_000;
/// How long the audit log is kept, milliseconds.
const AUDIT_MS: i64 = 400 * 86_400_000;

/// A person, or a program with a key of its own.
#[derive(Debug, Clone)]
pub struct Person {
    /// What it may do.
    pub role: Role,
    /// Of that, only this; empty: all.
    pub scopes: Vec<String>,
    /// Most requests a minute.
    pub per_minute: u32,
    /// Who it is.
    pub by: By,
}

/// How a person is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// By this session; without a user it came from a one-time token.
    Session {
        /// Its number.
        id: i64,
        /// Whose.
        user: Option<String>,
    },
    /// By the API key of this name.
    Key(String),
}

impl Person {
    /// For events and the audit log.
    pub fn who(&self) -> String {
        match &self.by {
            By::Session { user: Some(user), .. } => format!("user {user}"),
            By::Session { user: None, .. } => "one-time token".into(),
            By::Key(name) => format!("API key {name}"),
        }
    }

    /// The user, where there is one.
    pub fn user(&self) -> Option<&str> {
        match &self.by {
            By::Session { user, .. } => user.as_deref(),
            By::Key(_) => None,
        }
    }
}

/// Requests a minute of a session.
const SESSION_PER_MINUTE: u32 = 1_200;

/// Users, sessions and keys.
pub struct Access {
    store: Arc<dyn Store>,
    clock: Clock,
    /// Made when it is needed: its decoy costs an Argon2 run.
    gate: OnceLock<Gate>,
    /// Wrong log-ins.
    pub guesses: pace::Guesses,
    /// Requests by who asks.
    pub rates: pace::Rates<String>,
    /// Open sessions.
    pub sessions: session::Sessions,
    /// Identity providers.
    pub providers: oidc::Providers,
    /// One-time tokens.
    pub tokens: tokens::Tokens,
    known: Mutex<Option<Known>>,
    /// Grows when users or keys change: what was read before that is not remembered.
    changes: AtomicU64,
    used: Mutex<HashMap<String, i64>>,
    /// One recovery code at a time.
    recovering: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    at_ms: i64,
    users: Arc<HashMap<String, User>>,
    keys: Arc<HashMap<String, (String, KeyRecord)>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// In this store.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self {
            sessions: session::Sessions::new(store.clone()),
            store,
            clock,
            gate: OnceLock::new(),
            guesses: pace::Guesses::default(),
            rates: pace::Rates::default(),
            providers: oidc::Providers::default(),
            tokens: tokens::Tokens::default(),
            known: Mutex::default(),
            changes: AtomicU64::new(0),
            used: Mutex::default(),
            recovering: tokio::sync::Mutex::default(),
        }
    }

    fn gate(&self) -> &Gate {
        self.gate.get_or_init(Gate::default)
    }

    /// Users and keys are read again: one was changed.
    pub fn forget(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        *self.known.lock() = None;
    }

    async fn known(&self) -> Result<Known, StoreError> {
        let now_ms = self.clock.now_ms();
        if let Some(known) = &*self.known.lock()
            && (known.at_ms..known.at_ms + REMEMBERED_MS).contains(&now_ms)
        {
            return Ok(known.clone());
        }
        let changes = self.changes.load(Ordering::SeqCst);
        let users = self.store.documents(Kind::User).await?;
        let users = users.iter().filter_map(User::read).map(|user| (user.name.clone(), user)).collect();
        let keys = self.store.documents(Kind::ApiKey).await?.into_iter().filter_map(|document| {
            let record: KeyRecord = serde_json::from_value(document.body)
                .inspect_err(|error| tracing::error!(key = %document.name, %error, "this API key cannot be read"))
                .ok()?;
            Some((record.hash.clone(), (document.name, record)))
        });
        let known = Known { at_ms: now_ms, users: Arc::new(users), keys: Arc::new(keys.collect()) };
        let mut remembered = self.known.lock();
        if self.changes.load(Ordering::SeqCst) == changes {
            *remembered = Some(known.clone());
        }
        drop(remembered);
        Ok(known)
    }

    /// All users.
    pub async fn users(&self) -> Result<Arc<HashMap<String, User>>, StoreError> {
        Ok(self.known().await?.users)
    }

    /// One user.
    pub async fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        Ok(self.known().await?.users.get(name).cloned())
    }

    /// Who a browser's session belongs to.
    pub async fn by_session(&self, secret: &str) -> Result<Option<Person>, StoreError> {
        let Some(open) = self.sessions.find(secret, self.clock.now_ms()).await? else { return Ok(None) };
        let role = match &open.session.user {
            // Whoever could read the token could open the control socket.
            None => Role::Administrator,
            Some(name) => match self.user(name).await? {
                Some(user) if !user.record.disabled && is_newer(&open.session, &user) => user.record.role,
                _ => return Ok(None),
            },
        };
        let by = By::Session { id: open.id, user: open.session.user };
        Ok(Some(Person { role, scopes: Vec::new(), per_minute: SESSION_PER_MINUTE, by }))
    }

    /// Who an API key of its own belongs to.
    pub async fn by_key(&self, text: &str, from: IpAddr) -> Result<Option<Person>, StoreError> {
        let keys = self.known().await?.keys;
        let now_ms = self.clock.now_ms();
        let Some((name, record)) = keys.get(&key::hash(text)).filter(|(_, record)| record.is_good(from, now_ms)) else {
            return Ok(None);
        };
        self.note_use(name, from, now_ms).await;
        Ok(Some(Person {
            role: record.role,
            scopes: record.scopes.clone(),
            per_minute: record.per_minute.unwrap_or(key::PER_MINUTE),
            by: By::Key(name.clone()),
        }))
    }

    /// Keeps when a key was last used, at most once a minute.
    async fn note_use(&self, name: &str, from: IpAddr, now_ms: i64) {
        {
            let mut used = self.used.lock();
            if used.get(name).is_some_and(|last| now_ms - last < USED_MS) {
                return;
            }
            used.insert(name.to_owned(), now_ms);
        }
        let body = serde_json::json!({ "used_ms": now_ms, "address": from });
        if let Err(error) = self.keep(&format!("key:{name}"), body).await {
            tracing::warn!(%error, key = name, "the last use of an API key could not be kept");
        }
    }

    /// When a key was last used, and from where.
    pub async fn last_use(&self, name: &str) -> Result<Option<(i64, String)>, StoreError> {
        let query = RecordQuery { limit: 1, ..RecordQuery::named(RecordKind::Session, format!("key:{name}")) };
        let found = self.store.records(query).await?;
        Ok(found.first().and_then(|record| {
            let address = record.body.get("address")?.as_str()?.to_owned();
            Some((record.body.get("used_ms")?.as_i64()?, address))
        }))
    }

    /// Writes the one record of a name, whatever it was.
    async fn keep(&self, name: &str, body: serde_json::Value) -> Result<(), StoreError> {
        let kind = RecordKind::Session;
        let add = RecordWrite::Add {
            kind,
            name: name.to_owned(),
            open: true,
            at_ms: self.clock.now_ms(),
            body: body.clone(),
        };
        if let Some(RecordWritten::There(id)) = self.store.write_records(vec![add]).await?.first() {
            let change = RecordWrite::Change { kind, id: *id, version: None, open: true, body };
            self.store.write_records(vec![change]).await?;
        }
        Ok(())
    }

    /// Uses up a step of a user's codes: `false` if it, or a later one, was used before. Two at the same moment: one gets it.
    async fn use_step(&self, user: &str, step: i64) -> Result<bool, StoreError> {
        let kind = RecordKind::Session;
        let name = format!("totp:{user}");
        let body = serde_json::json!({ "step": step });
        let query = RecordQuery { limit: 1, ..RecordQuery::named(kind, name.clone()) };
        let write = match self.store.records(query).await?.first() {
            None => RecordWrite::Add { kind, name, open: true, at_ms: self.clock.now_ms(), body },
            Some(record) if record.body.get("step").and_then(serde_json::Value::as_i64) >= Some(step) => {
                return Ok(false);
            }
            Some(record) => {
                RecordWrite::Change { kind, id: record.id, version: Some(record.version), open: true, body }
            }
        };
        let written = self.store.write_records(vec![write]).await?;
        Ok(matches!(written.first(), Some(RecordWritten::Added(_) | RecordWritten::Changed(_))))
    }

    /// Forgets the steps of a user who gets a new secret, and what is kept of a key that is gone.
    pub async fn drop_kept(&self, name: &str) -> Result<(), StoreError> {
        let found = self.store.records(RecordQuery::named(RecordKind::Session, name)).await?;
        let remove = |record: &store::Record| RecordWrite::Remove { kind: RecordKind::Session, id: record.id };
        let writes: Vec<RecordWrite> = found.iter().map(remove).collect();
        if !writes.is_empty() {
            self.store.write_records(writes).await?;
        }
        Ok(())
    }
}

/// A session from before the last change of the password is over, even if it could not be removed then.
fn is_newer(session: &session::Session, user: &User) -> bool {
    session.created_ms >= user.record.password_ms.unwrap_or(0) || session.proof == session::Proof::Oidc
}

/// Forgets sessions that are over and acts that are old, once an hour.
pub async fn run(app: Shared, closing: CancellationToken) {
    const EVERY: std::time::Duration = std::time::Duration::from_secs(3_600);
    loop {
        let now_ms = app.clock.now_ms();
        if let Err(error) = app.access.sessions.sweep(now_ms).await {
            tracing::warn!(%error, "sessions that are over could not be forgotten");
        }
        while let Ok(forgotten) = app.store.prune_records(RecordKind::Audit, now_ms - AUDIT_MS, 0).await {
            if forgotten < store::MOST_RECORDS as u64 {
                break;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = closing.cancelled() => return,
        }
    }
}
