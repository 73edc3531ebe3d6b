//! A route is tried before it counts: with `?test=true` only settings are saved that the staged check went well with.

use diagnose::check::Report;
use proto::transcript::{Failure, Stage};
use relay::route::{RouteKind, RouteRecord};
use relay::secrets::Secrets;
use serde::Deserialize;
use serde_json::Value;

use super::{checks, sign_in};
use crate::check::CheckIn;
use crate::http::Shared;
use crate::http::problem::Problem;

/// Settings that say how much and when, not to whom or as whom: they cannot be tried.
const UNTRIED: &[&str] = &[
    "connections",
    "messages_per_connection",
    "recipients_per_transaction",
    "idle_s",
    "retry_s",
    "rates",
    "destination_rates",
];

/// The query of a request that saves a route.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Try it first.
    test: bool,
    /// Try this sender (MAIL FROM) too; nothing is sent.
    from: Option<String>,
}

impl Guard {
    /// Whether a change has to be tried: it leads elsewhere, or signs in otherwise.
    pub fn concerns(&self, before: &RouteRecord, after: &RouteRecord, new_secret: bool) -> bool {
        let tried = |record: &RouteRecord| {
            let mut value = serde_json::to_value(record).unwrap_or_default();
            if let Value::Object(fields) = &mut value {
                UNTRIED.iter().for_each(|name| drop(fields.remove(*name)));
            }
            value
        };
        self.test && (new_secret || self.from.is_some() || tried(before) != tried(after))
    }

    /// Whether a new route has to be tried.
    pub fn wants_test(&self) -> bool {
        self.test
    }

    /// Tries it. `known`: the route whose sign-in it has unchanged. A refresh token that the provider replaces meanwhile is among
    /// the secrets afterwards.
    ///
    /// # Errors
    /// 422 with the report where the check did not go well.
    pub async fn prove(
        &self,
        app: &Shared,
        record: &RouteRecord,
        secrets: &mut Secrets,
        known: Option<&str>,
    ) -> Result<(), Problem> {
        if record.kind == RouteKind::Graph {
            let tokens = app.tokens()?;
            let oauth = record.token_settings();
            let token = async {
                let none = || Failure::Local { reason: "the route has no OAuth settings".into() };
                let oauth = oauth.as_ref().ok_or_else(none)?;
                match known {
                    Some(name) => tokens.current(name, oauth, secrets).await,
                    None => tokens.try_once(oauth, secrets).await,
                }
            };
            return told(&checks::of_graph(app, record, token).await?);
        }
        if record.kind != RouteKind::Smarthost {
            // Mail exchangers differ by recipient, and what stays here needs no test.
            return Ok(());
        }
        let asked = CheckIn { from: self.from.clone(), ..CheckIn::default() };
        let token = match record.token_settings() {
            Some(oauth) => {
                let asked = match known {
                    Some(name) => app.tokens()?.current(name, &oauth, secrets).await,
                    None => app.tokens()?.try_once(&oauth, secrets).await,
                };
                Some(asked.map_err(|failure| sign_in::failed(app, Stage::Auth, &failure))?)
            }
            None => None,
        };
        let input = checks::of_record(record.clone(), secrets, token, asked)?;
        told(&checks::probed(app, input).await?)
    }
}

fn told(report: &Report) -> Result<(), Problem> {
    if report.healthy {
        return Ok(());
    }
    let title = report.findings.first().map(|found| found.explanation.title.clone()).unwrap_or_default();
    let report = serde_json::to_value(report).unwrap_or_default();
    Err(Problem::untested(format!("the route was tried and does not work, so nothing was saved: {title}"), report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_limit_changes_nothing_that_could_be_tried_and_a_host_does() {
        let guard = Guard { test: true, from: None };
        let record = |more: Value| {
            let mut value = json!({ "kind": "smarthost", "host": "a.example" });
            crate::http::api::settings::merge(&mut value, more);
            serde_json::from_value::<RouteRecord>(value).unwrap()
        };
        let before = record(json!({}));
        assert!(!guard.concerns(&before, &record(json!({ "connections": 3, "retry_s": [60] })), false));
        assert!(guard.concerns(&before, &before, true), "a new password");
        for more in
            [json!({ "host": "b.example" }), json!({ "port": 25 }), json!({ "helo": "x" }), json!({ "verify": false })]
        {
            assert!(guard.concerns(&before, &record(more.clone()), false), "{more}");
            assert!(!Guard::default().concerns(&before, &record(more), true));
        }
    }
}
