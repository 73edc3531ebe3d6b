//! Telling: one message to one channel. What a message says is in [`super::text`].

pub mod command;
pub mod mail;
pub mod syslog;
pub mod web;

use secrecy::SecretString;

use super::channel::ChannelKind;
use super::entry::Posted;
use super::setting::Channel;
use super::text::Item;
use crate::http::Shared;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The channel has it; what it said, in a few words.
    Taken(String),
    /// It is in our own queue: whether it arrives will show.
    Posted(Posted),
    /// The channel does not have it.
    Failed {
        /// Why, in words.
        problem: String,
        /// Seconds it wants to be left alone for.
        wish_s: Option<i64>,
    },
}

impl Sent {
    /// Not taken, without a wish.
    pub fn failed(problem: impl Into<String>) -> Self {
        Self::Failed { problem: problem.into(), wish_s: None }
    }
}

/// Tells a channel. Ends within the limits of the channel.
pub async fn send(app: &Shared, channel: &Channel, items: &[Item], avoid: &[String]) -> Sent {
    match channel.record.kind {
        kind if kind.is_web() => web::send(app, channel, items).await,
        ChannelKind::Email => mail::send(app, channel, items, avoid).await,
        ChannelKind::Syslog => syslog::send(app, channel, items).await,
        _ => command::send(app, channel, items).await,
    }
}

/// The secret of a channel, for those that must have one.
fn secret(channel: &Channel) -> Result<&SecretString, Sent> {
    channel.secret.as_ref().ok_or_else(|| Sent::failed("its secret is missing"))
}
