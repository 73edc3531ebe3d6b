//! Users: people who look at the pages and work on them. Documents of kind `user`; the secret beside one is its second factor.

use relay::credential::hash_password;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use store::settings::Document;

use super::role::Role;
use super::totp::Second;

/// Shortest and longest password that is taken, characters.
pub const PASSWORD: (usize, usize) = (10, 200);

/// A user as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRecord {
    /// What the user may do.
    pub role: Role,
    /// May not log in; open sessions end.
    #[serde(default)]
    pub disabled: bool,
    /// Argon2id hash (PHC string); absent: no log-in by password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// When the password was set, Unix milliseconds: sessions from before are over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_ms: Option<i64>,
    /// Who the user is at an identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<Linked>,
    /// Mail address, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Unix milliseconds.
    pub created_ms: i64,
}

/// A user at an identity provider: the pair is never given to somebody else (OpenID Connect Core 1.0 §5.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linked {
    /// Name of the provider here.
    pub provider: String,
    /// The provider's name for the user.
    pub subject: String,
}

/// A user with what is sealed beside it.
#[derive(Debug, Clone)]
pub struct User {
    /// Name.
    pub name: String,
    /// As stored.
    pub record: UserRecord,
    /// The second factor, confirmed or not.
    pub second: Option<Second>,
    /// Last change, Unix milliseconds.
    pub updated_ms: i64,
}

impl User {
    /// From its document; `None` if it makes no sense.
    pub fn read(document: &Document) -> Option<Self> {
        let record = serde_json::from_value(document.body.clone())
            .inspect_err(|error| tracing::error!(user = %document.name, %error, "this user cannot be read"))
            .ok()?;
        let second = document.secret.as_ref().and_then(Second::read);
        Some(Self { name: document.name.clone(), record, second, updated_ms: document.updated_ms })
    }

    /// The second factor that has to be shown.
    pub fn factor(&self) -> Option<&Second> {
        self.second.as_ref().filter(|second| second.confirmed)
    }
}

/// Why a password is not taken.
pub fn refuse_password(password: &SecretString) -> Option<String> {
    let (least, most) = PASSWORD;
    let length = password.expose_secret().chars().count();
    (length < least || length > most).then(|| format!("has to have {least} to {most} characters"))
}

/// Hashes a password away from the threads that serve others; `None` if the system has no memory or randomness.
pub async fn hashed(password: &SecretString) -> Option<String> {
    let password = password.clone();
    tokio::task::spawn_blocking(move || hash_password(&password)).await.ok()?.ok()
}
