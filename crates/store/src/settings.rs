//! Settings that live in the store: senders, routes, routing rules, streams and the keys of domains. Each is in exactly one place.
//!
//! A document is JSON without secrets; the secret beside it is encrypted at rest and never shown again.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// A kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Who may submit.
    Sender,
    /// How mail leaves.
    Route,
    /// Which route a recipient takes.
    Rule,
    /// A domain we sign for; the secret holds its private keys. Its name may be as long as a domain.
    Domain,
    /// What a route got from its identity provider: made by the program itself, and no setting.
    Token,
    /// A mailbox that is polled for returned mail; the secret holds its password or client secret.
    Mailbox,
    /// A provider that tells of events by HTTP; the secret is what its requests prove themselves with.
    Inlet,
    /// Whom to tell of events by HTTP; the secret holds what the requests are signed with.
    Webhook,
    /// A named class of mail.
    Stream,
    /// A key that the program made for itself, in the secret.
    Key,
    /// A way by which alerts are told; the secret holds its password, token, or the address that is one.
    Channel,
    /// What is set for a kind of alert; its name is the kind's.
    AlertRule,
    /// A scheduled check of an administrator's own.
    Check,
    /// Who may look at the pages and work on them; the secret is the second factor.
    User,
    /// An API key of its own, with a role; the body holds its hash.
    ApiKey,
    /// Where users sign in by OpenID Connect; the secret is the client's.
    Identity,
}

/// A stored document.
#[derive(Debug, Clone)]
pub struct Document {
    /// Kind.
    pub kind: Kind,
    /// Name, unique within its kind; 1 to 64 characters of `a-z 0-9 . _ -` (253 for a domain).
    pub name: String,
    /// JSON, the shape is the reader's affair.
    pub body: serde_json::Value,
    /// Secret, decrypted; `None` if there is none.
    pub secret: Option<SecretString>,
    /// Grows with each change of this document.
    pub version: i64,
    /// Unix milliseconds.
    pub updated_ms: i64,
}

/// What to do with the secret when a document is written.
#[derive(Debug, Clone, Default)]
pub enum SecretChange {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Replace it.
    Set(SecretString),
    /// Remove it.
    Clear,
}

/// What has to be there for a document to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// None of this name.
    Absent,
    /// This version of it.
    Version(i64),
}

impl Expected {
    /// What was read.
    pub fn of(known: Option<&Document>) -> Self {
        known.map_or(Self::Absent, |document| Self::Version(document.version))
    }

    /// The version that has to be there.
    pub(crate) fn version(self) -> Option<i64> {
        match self {
            Self::Absent => None,
            Self::Version(version) => Some(version),
        }
    }
}

/// A kind's name in the database and in sealed data.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Sender => "sender",
        Kind::Route => "route",
        Kind::Rule => "rule",
        Kind::Domain => "domain",
        Kind::Token => "token",
        Kind::Webhook => "webhook",
        Kind::Mailbox => "mailbox",
        Kind::Inlet => "inlet",
        Kind::Stream => "stream",
        Kind::Key => "key",
        Kind::Channel => "channel",
        Kind::AlertRule => "alert_rule",
        Kind::Check => "check",
        Kind::User => "user",
        Kind::ApiKey => "apikey",
        Kind::Identity => "identity",
    }
}

/// What a secret is bound to: moved to another row it does not open.
pub(crate) fn identity(kind: Kind, name: &str) -> String {
    format!("setting/{}/{name}", kind_name(kind))
}

/// Refuses names that could not be shown or typed everywhere.
pub(crate) fn check_name(kind: Kind, name: &str) -> Result<(), StoreError> {
    let most = if kind == Kind::Domain { 253 } else { 64 };
    let allowed = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > most || !name.bytes().all(allowed) {
        return Err(StoreError::Invalid(format!("a name has 1 to {most} characters of a-z 0-9 . _ -")));
    }
    Ok(())
}
