//! Logging in with a password, and a code where the user has a second factor.
//!
//! Every try costs one Argon2id, whoever is named and whatever is wrong, and is told the same; wrong ones cost a pause that
//! grows. A try is counted before it is looked at, so that many at once guess no faster than one after another.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use store::StoreError;
use store::settings::{Kind, SecretChange};

use super::Access;
use super::session::{Proof, Session};
use super::user::User;

/// What somebody typed.
pub struct Tried {
    /// User name.
    pub name: String,
    /// Password.
    pub password: SecretString,
    /// Code of the app, or a recovery code; empty: none.
    pub code: SecretString,
    /// From where.
    pub address: IpAddr,
    /// What the browser says it is.
    pub agent: String,
    /// The session the browser had before.
    pub before: Option<String>,
}

/// Why nobody is logged in.
#[derive(Debug)]
pub enum Refused {
    /// Something is wrong; which thing is not told. With the name of the user, if there is one.
    Wrong(Option<String>),
    /// Too many wrong ones: seconds to wait.
    Wait(u32),
    /// The store cannot be asked now.
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Access {
    /// Logs in; gives the user and what the browser has to show from now on.
    pub async fn log_in(&self, tried: Tried) -> Result<(User, String), Refused> {
        let now_ms = self.clock.now_ms();
        let wait = self.guesses.pause(tried.address, &tried.name, now_ms);
        if wait > 0 {
            return Err(Refused::Wait(wait));
        }
        self.guesses.wrong(tried.address, &tried.name, now_ms);
        let user = self.user(tried.name.trim()).await?;
        let hash =
            user.as_ref().filter(|user| !user.record.disabled).and_then(|user| user.record.password_hash.clone());
        let right = self.gate().check_hash(hash, &tried.password).await;
        let wrong = || Refused::Wrong(user.as_ref().map(|user| user.name.clone()));
        let Some(user) = user.clone().filter(|_| right) else { return Err(wrong()) };
        let proof = match user.factor() {
            None => Proof::Password,
            Some(_) if self.second(&user, tried.code.expose_secret()).await? => Proof::TwoFactors,
            Some(_) => return Err(wrong()),
        };
        self.guesses.right(tried.address, &tried.name);
        let session = Session {
            user: Some(user.name.clone()),
            proof,
            created_ms: self.clock.now_ms(),
            seen_ms: self.clock.now_ms(),
            address: tried.address,
            agent: tried.agent,
        };
        let secret = self.sessions.begin(session, tried.before.as_deref()).await?;
        Ok((user, secret))
    }

    /// Whether it is the user's password, for what an open browser alone may not do. `Err`: seconds to wait.
    pub async fn is_password(
        &self,
        name: &str,
        password: &SecretString,
        from: IpAddr,
    ) -> Result<Result<bool, u32>, StoreError> {
        let now_ms = self.clock.now_ms();
        let wait = self.guesses.pause(from, name, now_ms);
        if wait > 0 {
            return Ok(Err(wait));
        }
        self.guesses.wrong(from, name, now_ms);
        let hash = self.user(name).await?.and_then(|user| user.record.password_hash);
        let right = self.gate().check_hash(hash, password).await;
        if right {
            self.guesses.right(from, name);
        }
        Ok(Ok(right))
    }

    /// Whether it is a code that was not used yet, or a recovery code, which is used up.
    pub async fn second(&self, user: &User, code: &str) -> Result<bool, StoreError> {
        let Some(factor) = &user.second else { return Ok(false) };
        if let Some(step) = factor.step(code, self.clock.now_ms() / 1000, None) {
            return self.use_step(&user.name, step).await;
        }
        let mut after = factor.clone();
        if !factor.confirmed || !after.recover(code) {
            return Ok(false);
        }
        self.recovery_used(user, &after).await
    }

    /// Keeps that a recovery code is gone. Under a lock: two at the same moment may not both use one.
    async fn recovery_used(&self, user: &User, after: &super::totp::Second) -> Result<bool, StoreError> {
        let _one = self.recovering.lock().await;
        let documents = self.store.documents(Kind::User).await?;
        let Some(document) = documents.iter().find(|document| document.name == user.name) else { return Ok(false) };
        let stored = User::read(document).and_then(|stored| stored.second);
        if stored.is_none_or(|stored| stored.left() != after.left() + 1) {
            return Ok(false);
        }
        let (body, secret) = (document.body.clone(), SecretChange::Set(after.write()));
        self.store.put_document(Kind::User, user.name.clone(), body, secret, self.clock.now_ms()).await?;
        self.forget();
        Ok(true)
    }
}
