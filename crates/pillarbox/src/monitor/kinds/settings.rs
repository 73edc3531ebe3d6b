//! The settings of a route compared with what its provider documents and with what is safe; its server is not asked.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::probe::routes;
use super::reported::{findings, fix, level_of, not_run};
use crate::alert::AlertRule;
use crate::http::Shared;
use crate::http::api::route_audit;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject};

/// Compares settings.
pub(super) struct Settings;

impl CheckKind for Settings {
    fn id(&self) -> &'static str {
        "settings"
    }
    fn title(&self) -> &'static str {
        "Settings of"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(Duration::from_secs(86_400))
    }
    fn rule(&self) -> AlertRule {
        AlertRule::Configuration
    }
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move { routes(app, |route| route.record.kind.leaves()) })
    }
    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let all = match route_audit::audit(app, &subject.id).await {
                Ok(all) => all,
                Err(problem) => return not_run(&problem),
            };
            let Some(first) = all.first() else {
                return Found::ok("nothing to complain about").facts(json!([]));
            };
            let level = all.iter().map(|one| level_of(one.severity)).max().unwrap_or(Level::Ok);
            let mut signs: Vec<&str> = all.iter().filter_map(|one| one.sign.as_deref()).collect();
            signs.sort_unstable();
            let more = all.len() - 1;
            let and = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            let advice = first.explanation.fixes.iter().map(fix).collect();
            Found::new(level, format!("{}{and}", first.explanation.title))
                .facts(json!(signs))
                .detail(json!({ "findings": findings(&all) }))
                .advice(advice)
        })
    }
}
