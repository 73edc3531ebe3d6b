//! Access tokens of routes: asked for once for all who need them, also by other nodes, kept encrypted over restarts, renewed
//! before they end.
//!
//! A failure is remembered for a growing while, so that a thousand messages do not become a thousand questions.

pub mod device;
pub mod expiry;
pub mod jwt;
mod kept;
mod request;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use net::Clock;
use parking_lot::Mutex;
use proto::transcript::Failure;
use relay::oauth::{Grant, OauthRecord};
use relay::route::Route;
use relay::secrets::Secrets;
use relay::token::{Boxed, Token, Tokens};
use secrecy::{ExposeSecret, SecretString};
use store::Store;

/// Longest wait for somebody else's renewal.
const PATIENCE: Duration = Duration::from_secs(40);
/// A token that ends sooner is not used any more, milliseconds: clocks differ, and a server reads slowly.
const SKEW_MS: i64 = 30_000;
/// A token is renewed this long before its end, at most, milliseconds.
const AHEAD_MS: i64 = 300_000;
/// A token that is younger was issued for whoever holds it, milliseconds.
const FRESH_MS: i64 = 30_000;
/// Shortest and longest pause after a failure, milliseconds.
const PAUSES_MS: (i64, i64) = (5_000, 300_000);

/// An HTTPS client for identity providers: no redirects, no cookies.
pub fn client(tls: rustls::ClientConfig) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .user_agent(concat!("pillarbox/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .build()
}

/// Where tokens come from.
pub struct TokenSource {
    http: reqwest::Client,
    store: Arc<dyn Store>,
    clock: Clock,
    routes: Mutex<HashMap<Arc<str>, Arc<Entry>>>,
}

/// One route's tokens.
#[derive(Default)]
struct Entry {
    /// Whoever holds it asks; the others wait for the answer.
    state: tokio::sync::Mutex<State>,
    /// Fingerprint of the token that the server did not accept.
    refused: Mutex<Option<blake3::Hash>>,
}

#[derive(Default)]
struct State {
    /// Of the settings that all this belongs to.
    print: Option<blake3::Hash>,
    held: Option<Held>,
    /// Newer than the one in the route's own secret.
    refresh: Option<SecretString>,
    failures: u32,
    /// The last failure, which stands until this time.
    failed: Option<(Failure, i64)>,
    /// Version of the document that was read or written last.
    version: i64,
    /// What is held could not be written there.
    unsaved: bool,
    /// Version of this node's note that it asks.
    asking: Option<i64>,
    /// Version of another node's note that it asks, and when it was first seen.
    noted: (i64, i64),
}

impl State {
    /// The token that is held, if the server accepts it as far as is known.
    fn accepted(&self, refused: Option<blake3::Hash>) -> Option<&Held> {
        self.held.as_ref().filter(|held| refused != Some(hash(&held.token)))
    }

    /// The token, until shortly before its end.
    fn usable(&self, refused: Option<blake3::Hash>, now_ms: i64) -> Option<Token> {
        let held = self.accepted(refused).filter(|held| now_ms < held.expires_ms - SKEW_MS)?;
        Some(Token { secret: held.token.clone(), fresh: (0..FRESH_MS).contains(&(now_ms - held.obtained_ms)) })
    }

    /// It is time for another one.
    fn is_due(&self, refused: Option<blake3::Hash>, now_ms: i64) -> bool {
        self.accepted(refused).is_none_or(|held| now_ms >= held.renew_ms)
    }

    /// A token that needs no renewal, after all: failures are over.
    fn found(&mut self, refused: Option<blake3::Hash>, now_ms: i64) -> Option<Token> {
        let token = self.usable(refused, now_ms).filter(|_| !self.is_due(refused, now_ms))?;
        self.failures = 0;
        self.failed = None;
        Some(token)
    }
}

struct Held {
    token: SecretString,
    obtained_ms: i64,
    renew_ms: i64,
    expires_ms: i64,
}

/// A token, without what is secret about it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it ends, Unix milliseconds.
    pub expires_ms: Option<i64>,
    /// When it is renewed, Unix milliseconds.
    pub renew_ms: Option<i64>,
    /// Why the last renewal failed, and when it is tried again.
    pub failed: Option<(Failure, i64)>,
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource").finish_non_exhaustive()
    }
}

fn hash(token: &SecretString) -> blake3::Hash {
    blake3::hash(token.expose_secret().as_bytes())
}

/// Stands for everything that decides which token is asked for.
fn print_of(record: &OauthRecord, secrets: &Secrets) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(serde_json::to_string(record).unwrap_or_default().as_bytes());
    for secret in [&secrets.client_secret, &secrets.private_key, &secrets.refresh_token] {
        let text = secret.as_ref().map_or("", |secret| secret.expose_secret());
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize()
}

/// The provider does not know the refresh token, or not any more (RFC 6749 §5.2).
fn is_used_up(asked: &Result<request::Granted, Failure>) -> bool {
    matches!(asked, Err(Failure::TokenRefused { error, .. }) if error == "invalid_grant")
}

/// When a token is renewed: a fifth of its life before its end, not all of them at once.
fn renewal(obtained_ms: i64, expires_ms: i64, random: u32) -> i64 {
    let ahead = ((expires_ms - obtained_ms) / 5).clamp(0, AHEAD_MS);
    expires_ms - ahead - ahead * i64::from(random % 256) / 512
}

impl TokenSource {
    /// With this client.
    pub fn new(http: reqwest::Client, store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { http, store, clock, routes: Mutex::default() }
    }

    /// The client it asks with.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// A token for settings that are not in use yet. Nothing is kept, but a refresh token that the provider gave in place of the
    /// one before, which may be worth nothing now: it is among the secrets afterwards.
    pub async fn try_once(&self, record: &OauthRecord, secrets: &mut Secrets) -> Result<SecretString, Failure> {
        let now_s = self.clock.now_ms() / 1_000;
        let granted = request::token(&self.http, record, secrets, None, now_s).await?;
        if granted.refresh_token.is_some() && record.grant == Grant::RefreshToken {
            secrets.refresh_token = granted.refresh_token;
        }
        Ok(granted.access_token)
    }

    /// The token of a route as mail gets it, for a check.
    pub async fn current(&self, name: &str, record: &OauthRecord, secrets: &Secrets) -> Result<SecretString, Failure> {
        self.get(&Arc::from(name), record, secrets).await.map(|token| token.secret)
    }

    /// What is known of a route's token; `None` if nobody asked for one since the start, or somebody is asking now.
    pub fn seen(&self, name: &str) -> Option<Seen> {
        let entry = self.routes.lock().get(name).cloned()?;
        let state = entry.state.try_lock().ok()?;
        Some(Seen {
            expires_ms: state.held.as_ref().map(|held| held.expires_ms),
            renew_ms: state.held.as_ref().map(|held| held.renew_ms),
            failed: state.failed.clone(),
        })
    }

    /// The server did not accept this token of something that is no route: it is not given out again.
    pub fn refused_by_name(&self, name: &Arc<str>, token: &SecretString) {
        *self.entry(name).refused.lock() = Some(hash(token));
    }

    fn entry(&self, name: &Arc<str>) -> Arc<Entry> {
        self.routes.lock().entry(name.clone()).or_default().clone()
    }

    async fn get(&self, name: &Arc<str>, record: &OauthRecord, secrets: &Secrets) -> Result<Token, Failure> {
        let entry = self.entry(name);
        let busy = || Failure::TokenUnavailable { reason: "the renewal by another connection takes too long".into() };
        let mut state = tokio::time::timeout(PATIENCE, entry.state.lock()).await.map_err(|_| busy())?;
        let print = print_of(record, secrets);
        if state.print != Some(print) {
            *state = State { print: Some(print), ..State::default() };
            self.recall(name, &mut state).await;
        }
        let now_ms = self.clock.now_ms();
        let refused = *entry.refused.lock();
        let due = state.is_due(refused, now_ms);
        match (state.usable(refused, now_ms), &state.failed) {
            (Some(token), _) if !due => Ok(token),
            // A renewal ahead of time that fails does no harm yet.
            (Some(token), Some((_, until_ms))) if now_ms < *until_ms => Ok(token),
            (None, Some((failure, until_ms))) if now_ms < *until_ms => Err(failure.clone()),
            (usable, _) => match self.renew(name, record, secrets, &mut state, refused).await {
                Ok(token) => Ok(token),
                Err(failure) => usable.ok_or(failure),
            },
        }
    }

    async fn renew(
        &self,
        name: &Arc<str>,
        record: &OauthRecord,
        secrets: &Secrets,
        state: &mut State,
        refused: Option<blake3::Hash>,
    ) -> Result<Token, Failure> {
        if let Some(token) = self.turn(name, record.grant, state, refused).await {
            return Ok(token);
        }
        let now_s = self.clock.now_ms() / 1_000;
        let sent = state.refresh.clone();
        let mut asked = request::token(&self.http, record, secrets, sent.as_ref(), now_s).await;
        if is_used_up(&asked) {
            // Another node may have used this refresh token, and stored what it got.
            self.recall(name, state).await;
            if state.refresh.as_ref().map(hash) != sent.as_ref().map(hash) {
                if let Some(token) = state.found(refused, self.clock.now_ms()) {
                    self.give_way(name, state).await;
                    return Ok(token);
                }
                asked = request::token(&self.http, record, secrets, state.refresh.as_ref(), now_s).await;
            }
        }
        match asked {
            Ok(granted) => {
                tracing::info!(route = %name, seconds = granted.life_s, "new access token");
                let now_ms = self.clock.now_ms();
                state.failures = 0;
                state.failed = None;
                self.keep(name, state, granted, now_ms).await;
                let held = state.held.as_ref().map(|held| held.token.clone());
                let lost = || Failure::Local { reason: "the token was lost".into() };
                held.map(|secret| Token { secret, fresh: true }).ok_or_else(lost)
            }
            Err(failure) => {
                self.give_way(name, state).await;
                let (shortest, longest) = PAUSES_MS;
                let pause = (shortest << state.failures.min(10)).min(longest);
                state.failures = state.failures.saturating_add(1);
                state.failed = Some((failure.clone(), self.clock.now_ms() + pause));
                tracing::warn!(route = %name, ?failure, pause_s = pause / 1_000, "no access token");
                Err(failure)
            }
        }
    }
}

impl Tokens for TokenSource {
    fn token<'a>(&'a self, route: &'a Route) -> Boxed<'a, Result<Token, Failure>> {
        Box::pin(async move {
            match route.record.token_settings() {
                Some(record) => self.get(&route.name, &record, &route.secrets).await,
                None => Err(Failure::Local { reason: "the route has no OAuth settings".into() }),
            }
        })
    }

    fn refused(&self, route: &Route, token: &SecretString) {
        *self.entry(&route.name).refused.lock() = Some(hash(token));
    }
}

#[cfg(test)]
mod tests;
