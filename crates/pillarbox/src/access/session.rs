//! Sessions in the store: a browser holds 32 random octets, the store their hash. They end by themselves, by log-out, by an
//! administrator, and all of a user with a new password.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use store::{Record, RecordKind, RecordQuery, RecordWrite, RecordWritten, Store, StoreError};

/// Without a request for this long a session is over, milliseconds.
pub const IDLE_MS: i64 = 8 * 3_600_000;
/// Longest life of a session, milliseconds.
pub const LONGEST_MS: i64 = 7 * 86_400_000;
/// How exactly the last request is known, milliseconds: not every one is worth a write.
const TOUCH_MS: i64 = 60_000;
/// Most sessions of one user; the one that was used longest ago ends for a new one.
const MOST: usize = 20;
/// Longest description of a browser.
const AGENT: usize = 200;
/// Begins the names of records that are sessions; other things about access are kept beside them.
const NAME: &str = "session:";

/// How somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The one-time token of the server's output or of `pillarbox login`.
    Token,
    /// A password.
    Password,
    /// A password and a code, or a recovery code.
    TwoFactors,
    /// An identity provider.
    Oidc,
}

/// A session as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose; absent: whoever had a one-time token.
    #[serde(default)]
    pub user: Option<String>,
    /// How.
    pub proof: Proof,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// The last request, to the minute.
    pub seen_ms: i64,
    /// From where.
    pub address: IpAddr,
    /// What the browser says it is.
    pub agent: String,
}

impl Session {
    /// When it ends if nothing happens, Unix milliseconds.
    pub fn ends_ms(&self) -> i64 {
        (self.seen_ms + IDLE_MS).min(self.created_ms + LONGEST_MS)
    }
}

/// A session with its place in the store.
#[derive(Debug, Clone)]
pub struct Open {
    /// Its number: what it is called where people see it.
    pub id: i64,
    /// As stored.
    pub session: Session,
    version: i64,
}

/// What the browser gets, and the store never sees.
pub fn new_secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn name_of(secret: &str) -> String {
    format!("{NAME}{}", blake3::hash(secret.as_bytes()).to_hex())
}

/// A browser's words for itself, short and in one line.
pub fn agent(text: Option<&str>) -> String {
    text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(AGENT).collect()
}

/// All that is done with sessions.
pub struct Sessions {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// In this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Opens one; gives what the browser has to show. `replaces`: what the browser had before ends.
    pub async fn begin(&self, session: Session, replaces: Option<&str>) -> Result<String, StoreError> {
        if let Some(before) = replaces {
            self.end(before).await?;
        }
        let mut own = self.list().await?;
        own.retain(|open| open.session.user == session.user);
        own.sort_by_key(|open| open.session.seen_ms);
        let mut writes: Vec<RecordWrite> =
            own.iter().take((own.len() + 1).saturating_sub(MOST)).map(|open| remove(open.id)).collect();
        let secret = new_secret();
        writes.push(RecordWrite::Add {
            kind: RecordKind::Session,
            name: name_of(&secret),
            open: true,
            at_ms: session.created_ms,
            body: body(&session)?,
        });
        self.store.write_records(writes).await?;
        Ok(secret)
    }

    /// The open session of a browser, if it has not ended; its time of last use goes on.
    pub async fn find(&self, secret: &str, now_ms: i64) -> Result<Option<Open>, StoreError> {
        if secret.len() > 100 {
            return Ok(None);
        }
        let query = RecordQuery { limit: 1, ..RecordQuery::named(RecordKind::Session, name_of(secret)) };
        let Some(mut open) = self.store.records(query).await?.into_iter().find_map(read) else { return Ok(None) };
        if now_ms >= open.session.ends_ms() {
            self.store.write_records(vec![remove(open.id)]).await?;
            return Ok(None);
        }
        if now_ms - open.session.seen_ms >= TOUCH_MS {
            open.session.seen_ms = now_ms;
            let change = RecordWrite::Change {
                kind: RecordKind::Session,
                id: open.id,
                version: Some(open.version),
                open: true,
                body: body(&open.session)?,
            };
            // A store that cannot write now does not end sessions. One that was removed meanwhile is over.
            if let Ok(written) = self.store.write_records(vec![change]).await
                && written.first() == Some(&RecordWritten::Missing)
            {
                return Ok(None);
            }
        }
        Ok(Some(open))
    }

    /// Ends the session of a browser.
    pub async fn end(&self, secret: &str) -> Result<(), StoreError> {
        let query = RecordQuery { limit: 1, ..RecordQuery::named(RecordKind::Session, name_of(secret)) };
        let found: Vec<RecordWrite> = self.store.records(query).await?.iter().map(|record| remove(record.id)).collect();
        if !found.is_empty() {
            self.store.write_records(found).await?;
        }
        Ok(())
    }

    /// Ends one by its number; whether there was one.
    pub async fn revoke(&self, id: i64) -> Result<bool, StoreError> {
        let found = self.store.records(RecordQuery::one(RecordKind::Session, id)).await?;
        if found.into_iter().find_map(read).is_none() {
            return Ok(false);
        }
        let written = self.store.write_records(vec![remove(id)]).await?;
        Ok(written.first() == Some(&RecordWritten::Removed))
    }

    /// Ends all of a user, but not `keep`; gives how many.
    pub async fn end_all(&self, user: &str, keep: Option<i64>) -> Result<usize, StoreError> {
        let all = self.list().await?;
        let own = all.iter().filter(|open| open.session.user.as_deref() == Some(user) && Some(open.id) != keep);
        let writes: Vec<RecordWrite> = own.map(|open| remove(open.id)).collect();
        let count = writes.len();
        for chunk in writes.chunks(store::MOST_RECORDS) {
            self.store.write_records(chunk.to_vec()).await?;
        }
        Ok(count)
    }

    /// All that are open, the newest first.
    pub async fn list(&self) -> Result<Vec<Open>, StoreError> {
        let mut all = Vec::new();
        let mut query = RecordQuery::open(RecordKind::Session);
        loop {
            let found = self.store.records(query.clone()).await?;
            let (count, last) = (found.len(), found.last().map(|record| record.id));
            all.extend(found.into_iter().filter_map(read));
            match last {
                Some(last) if count == store::MOST_RECORDS => query.before = Some(last),
                _ => return Ok(all),
            }
        }
    }

    /// Forgets those that ended by themselves; gives how many.
    pub async fn sweep(&self, now_ms: i64) -> Result<usize, StoreError> {
        let all = self.list().await?;
        let over: Vec<RecordWrite> =
            all.iter().filter(|open| now_ms >= open.session.ends_ms()).map(|open| remove(open.id)).collect();
        for chunk in over.chunks(store::MOST_RECORDS) {
            self.store.write_records(chunk.to_vec()).await?;
        }
        Ok(over.len())
    }
}

fn remove(id: i64) -> RecordWrite {
    RecordWrite::Remove { kind: RecordKind::Session, id }
}

fn body(session: &Session) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(session).map_err(|error| StoreError::Internal(error.to_string()))
}

fn read(record: Record) -> Option<Open> {
    if !record.name.starts_with(NAME) {
        return None;
    }
    let session = serde_json::from_value(record.body).ok()?;
    Some(Open { id: record.id, session, version: record.version })
}
