//! Which brake an incident needs, by the rule's advice: a rejected credential always, anything else where the rule says that
//! nothing will go until somebody has repaired it.

use std::net::IpAddr;

use explain::{Retry, RuleBase};
use relay::Relay;
use relay::brake::{BrakeScope, Proof, Ramp};
use store::IncidentScope;

use super::model::{Body, BrakeNote, name};

/// The brake, and what has to work before it comes off.
fn wanted(rules: &RuleBase, body: &Body) -> Option<(BrakeScope, Proof)> {
    let cause = body.cause.as_ref()?;
    let advice = cause.rule.as_deref().and_then(|rule| rules.rule(rule)).map(|rule| rule.retry);
    let scope = match &body.scope {
        IncidentScope::Credential(route) => {
            return Some((BrakeScope::Credential(route.as_str().into()), Proof::SignIn));
        }
        _ if advice != Some(Retry::HoldRoute) => return None,
        IncidentScope::Route(route) => BrakeScope::Route(route.as_str().into()),
        IncidentScope::Destination(destination) => BrakeScope::Destination(destination.as_str().into()),
        IncidentScope::Source(source) => BrakeScope::Source(source.parse::<IpAddr>().ok()?),
        IncidentScope::SenderDomain(domain) => BrakeScope::SenderDomain(domain.as_str().into()),
        IncidentScope::Stream(stream) => BrakeScope::Stream(stream.as_str().into()),
        _ => return None,
    };
    Some((scope, Proof::of_stage(cause.stage)))
}

/// Puts the brake on that the incident needs; gives it. It may be on already.
pub async fn put_on(relay: &Relay, id: i64, body: &Body) -> Option<BrakeNote> {
    let (scope, proof) = wanted(&relay.rules(), body)?;
    let why = body.reason.replace('_', " ");
    let text = scope.to_string();
    if let Err(error) = relay.brake_until(scope, id, why, proof).await {
        tracing::warn!(incident = %name(id), scope = %text, %error, "the brake is not written down yet");
    }
    let status =
        relay.brakes().into_iter().find(|brake| brake.scope == text && brake.incident.as_deref() == Some(&name(id)));
    Some(BrakeNote { scope: text, next_ms: status.map(|status| status.until_ms) })
}

/// Lets the mail go, slowly at first; gives whether there was a brake.
pub async fn take_off(relay: &Relay, id: i64) -> bool {
    match relay.unbrake(id, Ramp::default()).await {
        Ok(was) => was.is_some(),
        Err(error) => {
            tracing::warn!(incident = %name(id), %error, "its mail goes, but that is not written down");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::smtp::reply::Reply;
    use proto::transcript::{Failure, Stage};
    use store::Cause;

    use super::*;
    use crate::alert::Severity;
    use crate::incident::opening;

    fn body(scope: IncidentScope, stage: Stage, code: u16, text: &str) -> Body {
        let rules = RuleBase::builtin();
        let failure = Failure::Refused(Reply::new(code, text));
        let found = rules.judge(&explain::Query::failure(stage, &failure)).unwrap();
        let mut body = opening::own("x", "x", Severity::Problem, String::new(), 1);
        body.scope = scope;
        body.cause =
            Some(Cause { stage, failure, provider: None, rule: Some(found.rule.as_str().into()), unknown_via: None });
        body
    }

    #[test]
    fn a_rejected_credential_stands_still_whatever_the_rule_says() {
        let body = body(IncidentScope::Credential("out".into()), Stage::Auth, 535, "5.7.8 no");
        let found = wanted(RuleBase::builtin(), &body);
        assert_eq!(found, Some((BrakeScope::Credential("out".into()), Proof::SignIn)));
    }

    #[test]
    fn what_goes_away_by_itself_is_not_stopped() {
        let body = body(IncidentScope::Route("out".into()), Stage::Recipient, 451, "4.3.0 Temporary lookup failure");
        assert_eq!(wanted(RuleBase::builtin(), &body), None);
    }

    #[test]
    fn a_rule_that_says_so_stops_what_it_is_about() {
        let rules = RuleBase::builtin();
        let mut body = body(IncidentScope::SenderDomain("shop.example".into()), Stage::Sender, 451, "4.3.0 x");
        let holding = rules.rules().find(|rule| rule.retry == Retry::HoldRoute).unwrap();
        body.cause.as_mut().unwrap().rule = Some(holding.id.as_str().into());
        let found = wanted(rules, &body);
        assert_eq!(found, Some((BrakeScope::SenderDomain("shop.example".into()), Proof::Message)));
    }
}
