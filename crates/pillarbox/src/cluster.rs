//! Several nodes: what runs on the one that leads only, and what the others tell it.
//!
//! Where the store is embedded the one node leads, and nothing of this costs anything.

use std::collections::BTreeMap;

use relay::incident::intake::CameIn;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::alert::AlertWord;
use crate::http::{App, Shared};
use crate::incident::{self, elsewhere};

/// Something that the leading node has to know.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// About an alert.
    Alert(AlertWord),
    /// Somebody wants to know whether an incident's trouble is over.
    Probe(i64),
    /// Somebody changed an incident.
    IncidentChanged,
    /// Somebody sent a test mail that is to be followed.
    Arrival,
    /// Somebody changed keys of a domain.
    Keys,
    /// What a node sees of itself.
    Wrong(elsewhere::Seen),
    /// An incident that the store could not keep while this node led.
    Unkept(Box<incident::model::Body>),
    /// What came in, by `sender/NAME` and `stream/NAME`.
    Came(BTreeMap<String, CameIn>),
}

/// This node does what is done once for all nodes.
pub fn leads(app: &App) -> bool {
    app.relay.as_ref().is_none_or(|relay| relay.leads())
}

/// Tells the node that leads. False: it is this one, which does it itself.
pub fn tell(app: &App, word: impl FnOnce() -> Word) -> bool {
    let Some(relay) = app.relay.as_ref().filter(|relay| !relay.leads()) else { return false };
    if let Ok(word) = serde_json::to_value(word()) {
        relay.tell_leader(word);
    }
    true
}

/// Hears what others tell, while this node leads, until the server stops.
pub async fn hear(app: Shared, closing: CancellationToken) {
    let Some(mut told) = app.relay.as_ref().and_then(|relay| relay.told()) else { return };
    loop {
        let word = tokio::select! {
            word = told.recv() => word,
            () = closing.cancelled() => return,
        };
        let Some(word) = word else { return };
        // A node of a later version may have words that we do not know.
        let Ok(word) = serde_json::from_value::<Word>(word) else { continue };
        match word {
            Word::Alert(word) => app.alerts.heard(word).await,
            Word::IncidentChanged => app.incidents.changed(),
            Word::Arrival => app.arrivals.wake.notify_one(),
            Word::Keys => app.domains.wake.notify_one(),
            Word::Wrong(seen) => {
                let steady_ms = i64::try_from(app.clock.mono_us() / 1_000).unwrap_or(i64::MAX);
                app.incidents.elsewhere.heard(seen, steady_ms);
            }
            Word::Unkept(body) => {
                app.incidents.keep_later(*body);
            }
            Word::Came(came) => app.volumes.heard(came),
            Word::Probe(id) => {
                let app = app.clone();
                tokio::spawn(async move {
                    if let Ok(Some(one)) = incident::book::find(&*app.store, id).await {
                        incident::manager::probe_now(&app, &one).await;
                    }
                });
            }
        }
    }
}

/// Waits until this node leads, or leads no more; without a relay it always leads.
pub async fn until(leading: &mut Option<watch::Receiver<bool>>, wanted: bool) {
    let has_come = match leading {
        Some(leading) => leading.wait_for(|leads| *leads == wanted).await.is_ok(),
        None => wanted,
    };
    if !has_come {
        std::future::pending::<()>().await;
    }
}
