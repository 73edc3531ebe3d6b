//! Logging in with a password, and a code where the user has a second factor.
//!
//! Every try costs one Argon2id, whoever is named and whatever is wrong, and is told the same; wrong ones cost a pause that
//! grows. A try is counted before it is looked at, so that many at once guess no faster than one after another.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use store::StoreError;
use store::settings::{Expected, Kind, SecretChange};

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

/// What became of password and code that were asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Both are right.
    Right,
    /// It is not the password.
    WrongPassword,
    /// It is neither a code nor a recovery code.
    WrongCode,
    /// Too many wrong ones: seconds to wait.
    Wait(u32),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Access {
    /// Logs in; gives the user and what the browser has to show from now on.
    pub async fn log_in(&self, tried: Tried) -> Result<(User, String), Refused> {
        self.count(&tried.name, tried.address).map_err(Refused::Wait)?;
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
        if let Err(wait) = self.count(name, from) {
            return Ok(Err(wait));
        }
        let hash = self.user(name).await?.and_then(|user| user.record.password_hash);
        let right = self.gate().check_hash(hash, password).await;
        if right {
            self.guesses.right(from, name);
        }
        Ok(Ok(right))
    }

    /// Whether both are the user's, for what an open browser and the password are not enough for. They are one try; where
    /// there is no second factor, no code is asked for.
    pub async fn are_both(
        &self,
        name: &str,
        password: &SecretString,
        code: &SecretString,
        from: IpAddr,
    ) -> Result<Again, StoreError> {
        if let Err(wait) = self.count_code(name, from) {
            return Ok(Again::Wait(wait));
        }
        let user = self.user(name).await?;
        let hash = user.as_ref().and_then(|user| user.record.password_hash.clone());
        if !self.gate().check_hash(hash, password).await {
            return Ok(Again::WrongPassword);
        }
        if let Some(user) = user.filter(|user| user.factor().is_some())
            && !self.second(&user, code.expose_secret()).await?
        {
            return Ok(Again::WrongCode);
        }
        self.code_was_right(name, from);
        Ok(Again::Right)
    }

    /// Counts a try of a user's code before it is looked at. `Err`: seconds to wait.
    pub fn count_code(&self, name: &str, from: IpAddr) -> Result<(), u32> {
        self.count(&codes_of(name), from)
    }

    /// Forgets the wrong codes before a right one.
    pub fn code_was_right(&self, name: &str, from: IpAddr) {
        self.guesses.right(from, &codes_of(name));
    }

    fn count(&self, name: &str, from: IpAddr) -> Result<(), u32> {
        let now_ms = self.clock.now_ms();
        let wait = self.guesses.pause(from, name, now_ms);
        if wait > 0 {
            return Err(wait);
        }
        self.guesses.wrong(from, name, now_ms);
        Ok(())
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

    /// Keeps that a recovery code is gone. Two at the same moment may not both use one: here there is a lock, and another node
    /// finds the user changed.
    async fn recovery_used(&self, user: &User, after: &super::totp::Second) -> Result<bool, StoreError> {
        let _one = self.recovering.lock().await;
        let documents = self.store.documents(Kind::User).await?;
        let Some(document) = documents.iter().find(|document| document.name == user.name) else { return Ok(false) };
        let stored = User::read(document).and_then(|stored| stored.second);
        if stored.is_none_or(|stored| stored.left() != after.left() + 1) {
            return Ok(false);
        }
        let (body, secret) = (document.body.clone(), SecretChange::Set(after.write()));
        let (name, expected, now_ms) = (user.name.clone(), Expected::of(Some(document)), self.clock.now_ms());
        let written = self.store.put_document_if(Kind::User, name, body, secret, expected, now_ms).await?;
        self.forget();
        Ok(written.is_some())
    }
}

/// Codes are counted apart: the password alone, however often it is right, forgives no wrong code. No user has such a name.
fn codes_of(name: &str) -> String {
    format!("codes of {name}")
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
