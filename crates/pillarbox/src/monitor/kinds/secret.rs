//! Client secrets and certificates that routes sign in with at an identity provider: 30, 14, 7 and 1 days before they end.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::probe::routes;
use crate::alert::AlertRule;
use crate::http::Shared;
use crate::monitor::check::Alerting;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject};
use crate::oauth::expiry::{Expiring, expiring};

/// Looks at the dates that routes say.
pub(super) struct Secret;

impl CheckKind for Secret {
    fn id(&self) -> &'static str {
        "secret"
    }
    fn title(&self) -> &'static str {
        "Client secret of"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(Duration::from_secs(6 * 3_600))
    }
    fn rule(&self) -> AlertRule {
        AlertRule::SecretExpiry
    }
    fn alerting(&self) -> Alerting {
        Alerting::LevelAndFacts
    }
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move { routes(app, |route| route.record.oauth.is_some()) })
    }
    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let all = app.relay.as_ref().map(|relay| relay.routes()).unwrap_or_default();
            let route = all.iter().filter(|route| *route.name == subject.id).map(|route| &**route);
            judged(&subject.id, expiring(route, app.clock.now_ms()))
        })
    }
}

fn judged(route: &str, ends: Vec<Expiring>) -> Found {
    let Some(first) = ends.first() else {
        return Found::ok("nothing ends within 30 days, as far as the route says").facts(json!([]));
    };
    let level = if first.days <= 7 { Level::Problem } else { Level::Warning };
    let facts: Vec<_> = ends.iter().map(|one| json!({ "what": one.what, "stage": one.level() })).collect();
    let advice = vec![format!(
        "make a new one at the identity provider before this one ends, and give it to the route: \
         pillarbox route rotate {route} --help"
    )];
    Found::new(level, first.words()).facts(facts.into()).detail(json!({ "ends": ends })).advice(advice).avoid(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_differs_from_the_one_before_and_the_last_ones_are_problems() {
        let at = |days| {
            let end =
                Expiring { route: "office".into(), what: "client secret".into(), expires: "2026-12-01".into(), days };
            judged("office", vec![end])
        };
        let days = [30, 14, 7, 1, -1];
        let found: Vec<Found> = days.into_iter().map(at).collect();
        assert!(found.windows(2).all(|pair| pair[0].facts != pair[1].facts));
        let levels: Vec<Level> = found.iter().map(|one| one.level).collect();
        use Level::{Problem, Warning};
        assert_eq!(levels, [Warning, Warning, Problem, Problem, Problem]);
        // From day to day within a stage nothing changes.
        assert_eq!(at(13).facts, at(12).facts);
        assert_eq!(judged("office", Vec::new()).level, Level::Ok);
    }
}
