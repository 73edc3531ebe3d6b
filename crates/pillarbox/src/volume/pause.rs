//! Pausing a sender: its queued mail is held; new mail is accepted and held, or refused for the time being.

use relay::sender::{OnPause, PausedSender, SenderRecord};
use store::settings::{Kind, SecretChange};

use super::Whose;
use crate::http::Shared;
use crate::http::api::settings;
use crate::http::problem::Problem;

/// What a sender wants to be done by itself.
pub fn wish(app: &Shared, name: &str) -> Option<OnPause> {
    app.relay.as_ref()?.door().sender(name)?.record.pause_on_spike
}

/// Whether a sender is paused.
pub fn is_paused(app: &Shared, name: &str) -> bool {
    let sender = app.relay.as_ref().and_then(|relay| relay.door().sender(name));
    sender.is_some_and(|sender| sender.record.paused.is_some())
}

/// Pauses a sender; one that is paused gets the new reason and way.
pub async fn pause(app: &Shared, name: &str, why: String, new_mail: OnPause) -> Result<(), Problem> {
    let _one = app.settings.lock().await;
    let document = settings::find(app, Kind::Sender, name).await?;
    let mut record: SenderRecord = settings::record(&document)?;
    let since_ms = record.paused.as_ref().map_or_else(|| app.clock.now_ms(), |paused| paused.since_ms);
    record.paused = Some(PausedSender { since_ms, why, new_mail });
    settings::write(app, Kind::Sender, name, &record, SecretChange::Keep).await
}

/// What the pause was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// All that came was the sender's own: next time as much is less of a surprise.
    FalseAlarm,
    /// It was not, or nobody said so: nothing is learned of it.
    Unknown,
}

/// Lets a paused sender go on, with what was held.
pub async fn resume(app: &Shared, name: &str, judged: Judged) -> Result<(), Problem> {
    let _one = app.settings.lock().await;
    let document = settings::find(app, Kind::Sender, name).await?;
    let mut record: SenderRecord = settings::record(&document)?;
    record.paused = None;
    let whose = Whose::Sender(name.to_owned());
    if judged == Judged::Unknown {
        app.volumes.was_bad(&whose);
    }
    settings::write(app, Kind::Sender, name, &record, SecretChange::Keep).await?;
    app.alerts.resolve(&whose.key(), "the sender goes on").await;
    Ok(())
}
