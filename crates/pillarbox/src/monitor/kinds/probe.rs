//! Whether a route's server can be reached, and takes the route's credential. Nothing is sent.

use std::time::Duration;

use futures_util::future::BoxFuture;
use proto::transcript::Stage;
use relay::route::{Route, RouteKind};

use super::reported::{found, not_run, passed};
use crate::alert::AlertRule;
use crate::check::{CheckIn, MessageStage};
use crate::http::Shared;
use crate::http::api::checks;
use crate::monitor::{CheckKind, Found, Level, Schedule, Subject};

/// Mail hosts of own domains that are tried over a route to mail exchangers before the port counts as closed.
const TRIED: usize = 3;

/// Signs in at the server of each route with a credential, and says good-bye.
pub(super) struct SignIn;

impl CheckKind for SignIn {
    fn id(&self) -> &'static str {
        "sign-in"
    }
    fn title(&self) -> &'static str {
        "Credential of"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(Duration::from_secs(6 * 3_600))
    }
    fn confirm(&self) -> u32 {
        2
    }
    fn rule(&self) -> AlertRule {
        AlertRule::AuthOutgoing
    }
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move {
            routes(app, |route| route.record.kind == RouteKind::Graph || route.record.username.is_some())
        })
    }
    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            // One more wrong sign-in may lock the account: the brake asks by itself, with growing pauses.
            if let Some(until) = braked(app, &subject.id) {
                return Found::skipped(format!(
                    "the credential was rejected and is braked; the next probe is due {until}"
                ));
            }
            let input = CheckIn { quit_after: Some(Stage::Auth), no_explore: true, ..CheckIn::default() };
            probe(app, &subject.id, input).await
        })
    }
}

/// Connects to the port of each route and waits for its greeting.
pub(super) struct Port;

impl CheckKind for Port {
    fn id(&self) -> &'static str {
        "port"
    }
    fn title(&self) -> &'static str {
        "Port of"
    }
    fn schedule(&self) -> Schedule {
        Schedule::every(Duration::from_secs(3_600))
    }
    fn confirm(&self) -> u32 {
        2
    }
    fn rule(&self) -> AlertRule {
        AlertRule::ConnectionErrors
    }
    fn subjects<'a>(&'a self, app: &'a Shared) -> BoxFuture<'a, Vec<Subject>> {
        Box::pin(async move { routes(app, |route| matches!(route.record.kind, RouteKind::Smarthost | RouteKind::Mx)) })
    }
    fn run<'a>(&'a self, app: &'a Shared, subject: &'a Subject) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let Some(route) = route(app, &subject.id) else { return Found::skipped("there is no such route") };
            let input = || CheckIn { quit_after: Some(Stage::Banner), no_explore: true, ..CheckIn::default() };
            if route.record.kind == RouteKind::Smarthost {
                return probe(app, &subject.id, input()).await;
            }
            exchangers(app, &route, input).await
        })
    }
}

/// Over a route to mail exchangers: one of our own domains that can be reached is enough.
async fn exchangers(app: &Shared, route: &Route, input: impl Fn() -> CheckIn) -> Found {
    let Some(relay) = &app.relay else { return Found::skipped("the server is not running") };
    let mut last = Found::skipped("none of the domains that write has a mail host that could be tried");
    let domains = relay.writers().into_keys().filter(|domain| domain.contains('.'));
    for domain in domains.take(TRIED) {
        let one = probe(app, &route.name, CheckIn { target: Some(domain), ..input() }).await;
        if one.level == Level::Ok {
            return one;
        }
        // A domain without mail hosts, or a DNS that does not answer, says nothing about the port.
        let about_port = one.facts.get("failed_at").and_then(serde_json::Value::as_str) == Some("tcp");
        if about_port {
            last = one;
        }
    }
    last
}

async fn probe(app: &Shared, route: &str, input: CheckIn) -> Found {
    app.checks.room().await;
    let input = CheckIn { message: Some(MessageStage::No), ..input };
    match checks::by_route(app, route, input).await {
        Err(problem) => not_run(&problem).avoid(route),
        Ok(report) => {
            let at = format!("{}:{}", report.target.host, report.target.port);
            let did = if passed(&report, Stage::Auth) { "signed in at" } else { "reached" };
            found(&report, || format!("{did} {at}")).avoid(route)
        }
    }
}

pub(super) fn braked(app: &Shared, route: &str) -> Option<String> {
    let status = app.relay.as_ref()?.status();
    let brake = status.brakes.into_iter().find(|brake| brake.route == route)?;
    Some(crate::http::time::show(brake.until_ms))
}

fn route(app: &Shared, name: &str) -> Option<std::sync::Arc<Route>> {
    app.relay.as_ref()?.routes().into_iter().find(|route| &*route.name == name)
}

/// Subjects of the routes that fit; a changed one is looked at at once.
pub(super) fn routes(app: &Shared, fits: impl Fn(&Route) -> bool) -> Vec<Subject> {
    let all = app.relay.as_ref().map(|relay| relay.routes()).unwrap_or_default();
    let subject = |route: &Route| Subject::new(&*route.name, format!("route {}", route.name), route.version);
    all.iter().filter(|route| fits(route)).map(|route| subject(route)).collect()
}
