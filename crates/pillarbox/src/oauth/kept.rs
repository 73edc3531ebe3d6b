//! What is kept of tokens in the store, where all nodes find it: sealed, and beside it whether a node asks for another one now.
//!
//! A refresh token may be good for one use, and its second use may end the sign-in. So who needs a token first reads what
//! another node may have got; and with a refresh token one node asks at a time.

use std::sync::Arc;
use std::time::Duration;

use relay::oauth::{Grant, OauthRecord};
use relay::secrets::Secrets;
use relay::token::Token;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use store::StoreError;
use store::settings::{Document, Expected, Kind, SecretChange};

use super::request::Granted;
use super::{Held, State, TokenSource, hash, print_of, renewal};

/// How long another node's note that it asks is believed, milliseconds: a question takes less.
const TURN_MS: i64 = 22_000;
/// Between two looks whether another node has got a token.
const LOOK: Duration = Duration::from_millis(250);
/// The same where the token at hand still holds, milliseconds.
const LOOK_MS: i64 = 1_000;
/// Field of the note.
const ASKING: &str = "asking";

/// As it is sealed in the store.
#[derive(Deserialize)]
struct Stored {
    print: String,
    access_token: Option<SecretString>,
    refresh_token: Option<SecretString>,
    obtained_ms: i64,
    expires_ms: i64,
}

impl State {
    /// Takes over what is stored, if it is newer and belongs to the same settings.
    fn take(&mut self, document: &Document) {
        if document.version <= self.version {
            return;
        }
        self.version = document.version;
        let secret = document.secret.as_ref();
        let stored = secret.and_then(|secret| serde_json::from_str::<Stored>(secret.expose_secret()).ok());
        let is_own = |stored: &Stored| self.print.is_some_and(|print| stored.print == print.to_hex().as_str());
        let Some(stored) = stored.filter(is_own) else { return };
        self.refresh = stored.refresh_token;
        if self.held.as_ref().map(|held| hash(&held.token)) == stored.access_token.as_ref().map(hash) {
            return;
        }
        self.held = stored.access_token.map(|token| Held {
            token,
            obtained_ms: stored.obtained_ms,
            renew_ms: renewal(stored.obtained_ms, stored.expires_ms, rand::random()),
            expires_ms: stored.expires_ms,
        });
    }

    /// Whether another node asks for a token. One that has died does not take its note back.
    fn is_asked_for(&mut self, document: &Document, now_ms: i64) -> bool {
        let is_noted = document.body.get(ASKING).and_then(Value::as_bool) == Some(true);
        if !is_noted || self.asking == Some(document.version) {
            return false;
        }
        if self.noted.0 != document.version {
            self.noted = (document.version, now_ms);
        }
        (0..TURN_MS).contains(&(now_ms - self.noted.1))
    }

    fn expires_ms(&self) -> Option<i64> {
        self.held.as_ref().map(|held| held.expires_ms)
    }
}

impl TokenSource {
    async fn document(&self, name: &Arc<str>) -> Result<Option<Document>, StoreError> {
        let documents = self.store.documents(Kind::Token).await?;
        Ok(documents.into_iter().find(|document| document.name == **name))
    }

    /// The refresh token that the provider gave last for these settings of a route, if it gave one in place of theirs.
    pub async fn newest(&self, name: &str, record: &OauthRecord, secrets: &Secrets) -> Option<SecretString> {
        let mut state = State { print: Some(print_of(record, secrets)), ..State::default() };
        self.recall(&Arc::from(name), &mut state).await;
        state.refresh
    }

    /// What an earlier run left, or another node, whatever is known here.
    pub(super) async fn recall(&self, name: &Arc<str>, state: &mut State) {
        match self.document(name).await {
            Ok(document) => {
                (state.version, state.unsaved) = (0, false);
                document.iter().for_each(|document| state.take(document));
            }
            Err(error) => tracing::warn!(route = %name, %error, "stored tokens cannot be read"),
        }
    }

    /// A token that another node has got, or the one at hand while another node asks. `None`: it is our turn to ask, and the
    /// others know.
    pub(super) async fn turn(
        &self,
        name: &Arc<str>,
        grant: Grant,
        state: &mut State,
        refused: Option<blake3::Hash>,
    ) -> Option<Token> {
        // A store that cannot be asked keeps nobody from asking for a token.
        let unknown =
            |error: StoreError| tracing::warn!(route = %name, %error, "whether another node asks is not known");
        loop {
            let document = self.document(name).await.map_err(unknown).ok()?;
            // What could not be stored is newer than what is.
            if let Some(document) = document.as_ref().filter(|_| !state.unsaved) {
                state.take(document);
            }
            let now_ms = self.clock.now_ms();
            if let Some(token) = state.found(refused, now_ms) {
                return Some(token);
            }
            if grant != Grant::RefreshToken {
                return None;
            }
            if document.as_ref().is_some_and(|document| state.is_asked_for(document, now_ms)) {
                if let (Some(token), Some(held)) = (state.usable(refused, now_ms), &mut state.held) {
                    held.renew_ms = now_ms + LOOK_MS;
                    return Some(token);
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let body = json!({ "expires_ms": state.expires_ms(), ASKING: true });
            let noted = self.note(name, state, body, Expected::of(document.as_ref())).await;
            state.asking = noted.map_err(unknown).ok()?;
            // Else another node was faster.
            if state.asking.is_some() {
                return None;
            }
        }
    }

    /// No token came of it, or none is needed any more: another node may ask.
    pub(super) async fn give_way(&self, name: &Arc<str>, state: &mut State) {
        let Some(noted) = state.asking.take() else { return };
        let body = json!({ "expires_ms": state.expires_ms() });
        if let Err(error) = self.note(name, state, body, Expected::Version(noted)).await {
            tracing::warn!(route = %name, %error, "other nodes wait before they ask for a token");
        }
    }

    /// Writes what stands beside the sealed tokens; gives the version if it was written.
    async fn note(
        &self,
        name: &Arc<str>,
        state: &mut State,
        body: Value,
        expected: Expected,
    ) -> Result<Option<i64>, StoreError> {
        let (kind, now_ms) = (Kind::Token, self.clock.now_ms());
        let written = self.store.put_document_if(kind, name.to_string(), body, SecretChange::Keep, expected, now_ms);
        let version = written.await?;
        state.version = version.unwrap_or(state.version);
        Ok(version)
    }

    /// Takes a grant over and seals it. One that cannot be stored is used all the same.
    pub(super) async fn keep(&self, name: &Arc<str>, state: &mut State, granted: Granted, now_ms: i64) {
        let expires_ms = now_ms + granted.life_s * 1_000;
        let renew_ms = renewal(now_ms, expires_ms, rand::random());
        if granted.refresh_token.is_some() {
            state.refresh = granted.refresh_token;
        }
        let sealed = json!({
            "print": state.print.map(|print| print.to_hex().to_string()),
            "access_token": granted.access_token.expose_secret(),
            "refresh_token": state.refresh.as_ref().map(|token| token.expose_secret()),
            "obtained_ms": now_ms,
            "expires_ms": expires_ms,
        });
        state.held = Some(Held { token: granted.access_token, obtained_ms: now_ms, renew_ms, expires_ms });
        state.asking = None;
        let secret = SecretChange::Set(sealed.to_string().into());
        let body = json!({ "expires_ms": expires_ms });
        match self.store.put_document(Kind::Token, name.to_string(), body, secret, now_ms).await {
            Ok(version) => (state.version, state.unsaved) = (version, false),
            Err(error) => {
                state.unsaved = true;
                tracing::warn!(route = %name, %error, "the new token could not be stored: a restart needs another");
            }
        }
    }
}
