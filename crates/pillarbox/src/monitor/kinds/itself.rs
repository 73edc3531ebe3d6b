//! Checks of this program: its configuration, and its version.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::reported::not_run;
use crate::alert::AlertRule;
use crate::http::Shared;
use crate::monitor::check::Alerting;
use crate::monitor::version::{self, Source};
use crate::monitor::weakness;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject};

const DAY: Duration = Duration::from_secs(86_400);

/// Weaknesses of configuration and settings.
pub(super) struct Configuration;

impl CheckKind for Configuration {
    fn id(&self) -> &'static str {
        "configuration"
    }
    fn title(&self) -> &'static str {
        "Configuration of"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(DAY)
    }
    fn rule(&self) -> AlertRule {
        AlertRule::Configuration
    }
    fn alerting(&self) -> Alerting {
        Alerting::LevelAndFacts
    }
    fn subjects<'a>(&'a self, _: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async { vec![Subject::new("server", "this server", 0)] })
    }
    fn run<'a>(&'a self, app: &'a Shared, _: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let all = match weakness::all(app).await {
                Ok(all) => all,
                Err(problem) => return not_run(&problem),
            };
            // Only what is weak is compared: notes come and go.
            let facts: Vec<String> =
                all.iter().filter(|one| one.level.is_bad()).map(|one| format!("{}: {}", one.about, one.id)).collect();
            let level = all.first().map_or(Level::Ok, |one| one.level);
            let text = match all.first() {
                None => "nothing to complain about".to_owned(),
                Some(first) if all.len() == 1 => format!("{}: {}", first.about, first.text),
                Some(first) => format!("{}: {} (and {} more)", first.about, first.text, all.len() - 1),
            };
            let bad = all.iter().filter(|one| one.level.is_bad());
            let advice = bad.take(5).map(|one| format!("{}: {}", one.about, one.fix)).collect();
            let detail = json!({ "weaknesses": all.iter().take(50).collect::<Vec<_>>() });
            Found::new(level, text).facts(json!(facts)).detail(detail).advice(advice)
        })
    }
}

/// Whether there is a newer version, where `checks.version_from` says whom to ask.
pub(super) struct OwnVersion;

impl CheckKind for OwnVersion {
    fn id(&self) -> &'static str {
        "version"
    }
    fn title(&self) -> &'static str {
        "Version of"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(DAY)
    }
    fn rule(&self) -> AlertRule {
        AlertRule::Configuration
    }
    fn alerting(&self) -> Alerting {
        Alerting::LevelAndFacts
    }
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        let wanted = app.checks.config().checks.version_from.is_some();
        Box::pin(async move { wanted.then(|| Subject::new("pillarbox", "this program", 0)).into_iter().collect() })
    }
    fn run<'a>(&'a self, app: &'a Shared, _: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let source = app.checks.config().checks.version_from.as_deref().map(Source::parse);
            let (Some(Ok(source)), Some(net)) = (source, app.monitor.net()) else {
                return Found::skipped("`checks.version_from` names no source");
            };
            match version::latest(net, &source).await {
                Err(error) => Found::skipped(error),
                Ok(other) if version::is_newer(&other) => {
                    Found::new(Level::Warning, format!("version {other} is there, this is {}", version::OWN))
                        .facts(json!({ "newest": other.to_string() }))
                        .advice(vec!["read its changelog and update".into()])
                }
                Ok(other) => Found::ok(format!("this is {}, the newest is {other}", version::OWN))
                    .facts(json!({ "newest": other.to_string() })),
            }
        })
    }
}
