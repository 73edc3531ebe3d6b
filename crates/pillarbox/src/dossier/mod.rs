//! All that is known of one message, put together when somebody asks: timeline, attempts with their conversation, what failures
//! mean, headers and text, incidents, reports; and the same for strangers' eyes.

mod attempts;
mod content;
mod export;
mod incidents;
mod out;
mod timeline;

use std::collections::BTreeMap;

use explain::{Query, RuleBase};
use store::{Cause, Event, MessageId, MessageView, StoreError};

use crate::http::Shared;
use crate::http::views::{EventOut, MessageOut};
use crate::incident::words::FixOut;

pub use content::Eyes;
pub use export::masked;
pub use incidents::of_held;
pub use out::*;

/// Events that are read, the newest.
const EVENTS: u32 = 1_000;
/// Recipients that are read.
const RECIPIENTS: u32 = 1_000;
/// Addresses named with a finding.
const NAMED: usize = 5;
/// Findings told of.
const FINDINGS: usize = 20;

/// The message with at most 1,000 recipients.
pub async fn view(app: &Shared, id: MessageId) -> Result<MessageView, StoreError> {
    app.store.message(id, RECIPIENTS).await
}

/// Puts it together.
pub async fn of(app: &Shared, view: &MessageView, eyes: Eyes) -> Result<DossierOut, StoreError> {
    let id = view.message.id;
    let events = app.store.events(id, EVENTS).await?;
    let rules = app.rules();
    let content = content::of(app, view, eyes).await?;
    Ok(DossierOut {
        message: MessageOut::of(view, &rules),
        timeline: timeline::of(view, &events),
        attempts: attempts::of(view, &events),
        findings: findings(view, &events, &rules),
        content,
        incidents: incidents::of(app, view, &events, &rules).await?,
        reports: events.iter().filter(|event| event.detail.report.is_some()).map(EventOut::from).collect(),
        events_cut: events.len() >= EVENTS as usize,
    })
}

/// Incidents a message has to do with, newest first.
pub async fn incidents_of(
    app: &Shared,
    view: &MessageView,
    events: &[Event],
) -> Result<Vec<crate::http::api::incidents::IncidentOut>, StoreError> {
    incidents::of(app, view, events, &app.rules()).await
}

/// What went wrong, each once, the latest first.
fn findings(view: &MessageView, events: &[Event], rules: &RuleBase) -> Vec<FindingFullOut> {
    let address =
        |n: Option<u32>| view.recipients.iter().find(|one| Some(one.id.n) == n).map(|one| one.address.to_string());
    let mut found: Vec<FindingFullOut> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for event in events.iter().rev() {
        let Some(cause) = &event.detail.cause else { continue };
        let Some(finding) = judged(rules, cause) else { continue };
        let place = match places.get(&finding.rule) {
            Some(place) => *place,
            None if found.len() >= FINDINGS => continue,
            None => {
                places.insert(finding.rule.clone(), found.len());
                found.push(finding);
                found.len() - 1
            }
        };
        if let (Some(address), Some(finding)) = (address(event.n), found.get_mut(place)) {
            finding.times += 1;
            if finding.recipients.len() < NAMED && !finding.recipients.contains(&address) {
                finding.recipients.push(address);
            }
        }
    }
    found
}

/// A failure with all that the rules say of it.
pub fn judged(rules: &RuleBase, cause: &Cause) -> Option<FindingFullOut> {
    let query = Query::failure(cause.stage, &cause.failure).at(cause.provider.as_deref());
    let finding = rules.judge(&query)?;
    let words = rules.explain(&finding)?;
    Some(FindingFullOut {
        rule: words.rule,
        reason: words.reason.to_string(),
        title: words.title,
        meaning: words.meaning,
        owner: words.owner.to_string(),
        causes: words.causes,
        fixes: words.fixes.iter().map(FixOut::of).collect(),
        failure: crate::http::words::failure(&cause.failure),
        stage: crate::http::words::stage(cause.stage).into(),
        provider: cause.provider.as_deref().map(str::to_owned),
        times: 0,
        recipients: Vec::new(),
    })
}
