//! Incidents a message has to do with: those it is held for, those that name it, and those of its scope, reason and time.

use explain::RuleBase;
use store::{Event, IncidentScope, MessageView, RecipientView, RecordKind, RecordQuery, StoreError};

use crate::http::Shared;
use crate::http::api::incidents::IncidentOut;
use crate::incident::book::{self, Incident};

/// Incidents that are looked at, the newest, and told of.
const LOOKED_AT: u32 = 300;
const TOLD: usize = 10;
/// How long before and after an incident its failures may be, milliseconds.
const SLACK_MS: i64 = 3_600_000;

/// Number of the incident that a recipient is held for.
pub fn of_held(why: &str) -> Option<i64> {
    why.strip_prefix("incident i-")?.split_once(": ")?.0.parse().ok()
}

pub(super) async fn of(
    app: &Shared,
    view: &MessageView,
    events: &[Event],
    rules: &RuleBase,
) -> Result<Vec<IncidentOut>, StoreError> {
    let query = RecordQuery { limit: LOOKED_AT, ..RecordQuery::of(RecordKind::Incident) };
    let all = book::list(&*app.store, query).await?;
    let id = view.message.id.to_string();
    let held: Vec<i64> = view.recipients.iter().filter_map(|one| one.why.as_deref()).filter_map(of_held).collect();
    let reasons: Vec<(i64, &str)> = events
        .iter()
        .filter_map(|event| {
            let rule = event.detail.cause.as_ref()?.rule.as_deref()?;
            Some((event.at_ms, rules.rule(rule)?.reason.as_str()))
        })
        .collect();
    let concerns = |one: &&Incident| {
        let body = &one.body;
        let named = body.examples.iter().any(|example| example.split('.').next() == Some(&*id));
        let end_ms = body.closed.as_ref().map_or(i64::MAX, |closed| closed.at_ms.saturating_add(SLACK_MS));
        let within = |at_ms: i64| (body.since_ms.saturating_sub(SLACK_MS)..end_ms).contains(&at_ms);
        let same = || reasons.iter().any(|(at_ms, reason)| *reason == body.reason && within(*at_ms));
        held.contains(&one.id)
            || named
            || (same() && view.recipients.iter().any(|recipient| touches(&body.scope, view, recipient)))
    };
    Ok(all.iter().filter(concerns).take(TOLD).map(|one| IncidentOut::of(app, one)).collect())
}

/// Whether a recipient is within a scope, as far as can be told from what is stored.
fn touches(scope: &IncidentScope, view: &MessageView, recipient: &RecipientView) -> bool {
    let lane = &recipient.lane;
    match scope {
        IncidentScope::Everyone => true,
        IncidentScope::Route(name) | IncidentScope::Credential(name) => *lane.route == **name,
        IncidentScope::Provider(name) => {
            recipient.cause.as_ref().and_then(|cause| cause.provider.as_deref()) == Some(name)
        }
        IncidentScope::Destination(name) => name.split('/').next() == Some(&*lane.route),
        IncidentScope::Domain(name) => *lane.domain == **name,
        IncidentScope::SenderDomain(name) => {
            view.message.reverse_path.0.as_ref().is_some_and(|address| address.domain() == name)
        }
        IncidentScope::Stream(name) => *lane.stream == **name,
        IncidentScope::Sender(name) => *lane.sender == **name,
        IncidentScope::Address(name) => recipient.address.as_str().eq_ignore_ascii_case(name),
        // Which of our addresses it was is not kept with a recipient.
        IncidentScope::Source(_) | IncidentScope::Family(_) | IncidentScope::Itself(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_says_which_incident_it_is_held_for() {
        assert_eq!(of_held("incident i-17: the password is wrong"), Some(17));
        assert_eq!(of_held("by ann"), None);
        assert_eq!(of_held("incident i-x: y"), None);
    }
}
