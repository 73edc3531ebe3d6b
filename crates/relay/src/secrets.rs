//! What is secret about a route: one password, or several things in one sealed document.
//!
//! A lone password is stored as it is; anything else as JSON with a mark in front that no password has by accident.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

/// First field of the JSON form.
const MARK: &str = "pillarbox-secrets";

/// The secrets of one route.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// For AUTH.
    pub password: Option<SecretString>,
    /// Of an OAuth application.
    pub client_secret: Option<SecretString>,
    /// PEM of the key of an OAuth application's certificate, or of a service account.
    pub private_key: Option<SecretString>,
    /// From somebody's sign-in.
    pub refresh_token: Option<SecretString>,
    /// What was used before a rotation, until what is new has worked for a while.
    pub previous: Option<Box<Previous>>,
}

/// The credential before the last rotation.
#[derive(Debug, Clone)]
pub struct Previous {
    /// It; never with one before it.
    pub secrets: Secrets,
    /// When the new one took its place, Unix milliseconds.
    pub since_ms: i64,
}

/// A stored secret that cannot be read. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored secrets cannot be read")]
pub struct Unreadable;

#[derive(Deserialize)]
struct Stored {
    password: Option<SecretString>,
    client_secret: Option<SecretString>,
    private_key: Option<SecretString>,
    refresh_token: Option<SecretString>,
    previous: Option<StoredPrevious>,
}

#[derive(Deserialize)]
struct StoredPrevious {
    since_ms: i64,
    secrets: Box<Stored>,
}

impl From<Stored> for Secrets {
    fn from(stored: Stored) -> Self {
        let Stored { password, client_secret, private_key, refresh_token, previous } = stored;
        let previous = previous.map(|before| {
            let secrets = Self { previous: None, ..Self::from(*before.secrets) };
            Box::new(Previous { secrets, since_ms: before.since_ms })
        });
        Self { password, client_secret, private_key, refresh_token, previous }
    }
}

impl Secrets {
    /// A password and nothing else.
    pub fn of_password(password: SecretString) -> Self {
        Self { password: Some(password), ..Self::default() }
    }

    /// Reads what [`Secrets::store`] gave.
    pub fn read(stored: Option<&SecretString>) -> Result<Self, Unreadable> {
        let Some(stored) = stored else { return Ok(Self::default()) };
        if !is_marked(stored.expose_secret()) {
            return Ok(Self::of_password(stored.clone()));
        }
        serde_json::from_str::<Stored>(stored.expose_secret()).map(Self::from).map_err(|_| Unreadable)
    }

    /// The form in which they are sealed; `None` if there are none.
    pub fn store(&self) -> Option<SecretString> {
        let Self { password, client_secret, private_key, refresh_token, previous } = self;
        let others = client_secret.is_some() || private_key.is_some() || refresh_token.is_some() || previous.is_some();
        match password {
            None if !others => None,
            Some(password) if !others && !is_marked(password.expose_secret()) => Some(password.clone()),
            _ => {
                let fields = Value::Object(self.fields()).to_string();
                // The mark stands first, whatever the order of the map.
                let rest = fields.strip_prefix('{').unwrap_or_default();
                Some(format!("{{\"{MARK}\":1,{rest}").into())
            }
        }
    }

    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let named = [
            ("password", &self.password),
            ("client_secret", &self.client_secret),
            ("private_key", &self.private_key),
            ("refresh_token", &self.refresh_token),
        ];
        for (name, secret) in named {
            if let Some(secret) = secret {
                fields.insert(name.into(), secret.expose_secret().into());
            }
        }
        if let Some(previous) = &self.previous {
            let before = serde_json::json!({ "since_ms": previous.since_ms, "secrets": previous.secrets.fields() });
            fields.insert("previous".into(), before);
        }
        fields
    }

    /// Which there are, by their names.
    pub fn names(&self) -> Vec<String> {
        self.fields().keys().cloned().collect()
    }

    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        self.fields().is_empty()
    }
}

fn is_marked(text: &str) -> bool {
    text.strip_prefix("{\"").and_then(|text| text.strip_prefix(MARK)).is_some_and(|text| text.starts_with('"'))
}

impl fmt::Display for Secrets {
    /// Which there are, never what they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fields().keys().map(|name| name.replace('_', " ")).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(secrets: &Secrets) -> Secrets {
        Secrets::read(secrets.store().as_ref()).unwrap()
    }

    #[test]
    fn a_password_alone_is_stored_as_it_is() {
        let secrets = Secrets::of_password("open sesame".into());
        assert_eq!(secrets.store().unwrap().expose_secret(), "open sesame");
        assert_eq!(again(&secrets).fields(), secrets.fields());
        assert!(Secrets::default().store().is_none() && Secrets::read(None).unwrap().is_empty());
        assert_eq!(Secrets::read(Some(&"{\"a\":1}".into())).unwrap().fields()["password"], "{\"a\":1}");
    }

    #[test]
    fn a_password_that_looks_like_our_form_stays_a_password() {
        let text = format!("{{\"{MARK}\":1,\"password\":\"other\"}}");
        let secrets = Secrets::of_password(text.clone().into());
        assert_eq!(again(&secrets).fields()["password"], text.as_str());
    }

    #[test]
    fn several_secrets_come_back_with_the_ones_before_and_are_never_shown() {
        let before = Secrets { client_secret: Some("old \"quoted\"".into()), ..Secrets::default() };
        let secrets = Secrets {
            client_secret: Some("s3cret".into()),
            refresh_token: Some("r3fresh".into()),
            previous: Some(Box::new(Previous { secrets: before, since_ms: 7 })),
            ..Secrets::default()
        };
        let back = again(&secrets);
        assert_eq!(back.fields(), secrets.fields());
        assert_eq!(secrets.to_string(), "client secret, previous, refresh token");
        let shown = format!("{secrets:?} {secrets}");
        assert!(!shown.contains("s3cret") && !shown.contains("quoted"), "{shown}");
    }

    #[test]
    fn damage_is_told_without_quoting() {
        let damaged = format!("{{\"{MARK}\":1,\"password\":s3cret");
        let error = Secrets::read(Some(&damaged.into())).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
