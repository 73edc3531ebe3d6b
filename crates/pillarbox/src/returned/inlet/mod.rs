//! Events that providers tell by HTTP: each request proves where it is from, and is taken down before it is answered.
//!
//! Bounces and complaints become rows of returned mail with a form of our own; [`super::reader`] finds their messages.
//! Everything else a provider tells (deliveries, openings, clicks) is answered and forgotten.

mod prove;
mod read;
mod record;
mod sns;
#[cfg(test)]
mod tests;

pub use prove::{Refused, Seen, mailgun_token};
pub use record::{InletRecord, Provider};
pub use sns::Sns;

use axum::http::HeaderMap;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A bounce or a complaint, whoever tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderEvent {
    /// The provider's own name for it: told again it has the same.
    pub id: String,
    /// `bounced`, `late` or `complained`.
    pub what: String,
    /// Recipient.
    pub recipient: String,
    /// MAIL FROM, where it is told: a return path of ours names the message.
    pub return_path: Option<String>,
    /// `Message-ID` with its brackets.
    pub message_id: Option<String>,
    /// The provider's name for the message, as it stood in its reply to ours.
    pub queued: Option<String>,
    /// What the receiving server said, or the provider's words.
    pub words: String,
    /// Reply code.
    pub code: Option<u16>,
    /// Enhanced code.
    pub status: Option<String>,
}

/// What a request turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Events, perhaps none of them for us.
    Events(Vec<ProviderEvent>),
    /// The subscription was confirmed.
    Confirmed,
}

/// A request.
pub struct Incoming<'a> {
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// Body, bounded by the listener.
    pub body: &'a [u8],
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// Checks where a request is from and reads it.
pub async fn take(
    record: &InletRecord,
    secret: Option<&SecretString>,
    sns: &Sns,
    seen: &Seen,
    incoming: Incoming<'_>,
) -> Result<Told, Refused> {
    let events = match record.provider {
        Provider::Ses => {
            return match sns.take(record, &incoming).await? {
                Some(message) => Ok(Told::Events(read::ses(&message)?)),
                None => Ok(Told::Confirmed),
            };
        }
        Provider::Sendgrid => {
            prove::sendgrid(secret, &incoming)?;
            read::sendgrid(incoming.body)?
        }
        Provider::Postmark => {
            prove::basic(record, secret, &incoming)?;
            read::postmark(incoming.body)?
        }
        Provider::Mailgun => {
            prove::mailgun(secret, seen, &incoming)?;
            read::mailgun(incoming.body)?
        }
        Provider::Brevo => {
            prove::bearer(record, secret, &incoming)?;
            read::brevo(incoming.body)?
        }
    };
    Ok(Told::Events(events))
}
