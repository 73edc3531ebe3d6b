//! `POST /checks`: a server is probed from here. For `check --route` and `check --via`, and for programs.
//!
//! Targets are an administrator's own choice, private networks included: that is where their servers are. What is
//! bounded is how many run at once and how long.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use diagnose::check::{Event, Report};
use net::Clock;
use proto::transcript::Failure;
use relay::route::{RouteKind, RouteRecord, RouteTls};
use relay::secrets::Secrets;
use secrecy::SecretString;
use store::settings::Kind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings;
use crate::check::{CheckIn, TlsMode, graph, perform, token};
use crate::config::Config;
use crate::http::Shared;
use crate::http::auth::Admin;
use crate::http::json::Json;
use crate::http::problem::Problem;

/// Most checks at once.
const MAX_RUNNING: usize = 4;
/// Longest a check may take: shorter than a request may.
const LONGEST: Duration = Duration::from_secs(110);

/// What checks need: the configuration's resolver and authorities, and room.
pub struct Checks {
    config: Config,
    clock: Clock,
    room: Arc<Semaphore>,
}

impl Checks {
    /// With the settings of this server.
    pub fn new(config: Config, clock: Clock) -> Self {
        Self { config, clock, room: Arc::new(Semaphore::new(MAX_RUNNING)) }
    }

    /// The configuration they are run with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Waits until one more could run; somebody else may take the place before.
    pub async fn room(&self) {
        drop(self.room.acquire().await);
    }
}

/// Runs a check and gives its report, whatever it says.
pub async fn run(State(app): State<Shared>, _: Admin, Json(mut input): Json<CheckIn>) -> Result<Response, Problem> {
    let report = match input.route.take() {
        Some(name) => by_route(&app, &name, input).await?,
        None => probed(&app, input).await?,
    };
    Ok(axum::Json(report).into_response())
}

/// Runs a check with what a route says, if there is room for one more.
pub async fn by_route(app: &Shared, name: &str, input: CheckIn) -> Result<Report, Problem> {
    watched(app, place(app)?, Some(name), input, &mut nobody).await
}

/// A place among the checks that run, held while one does.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "it is there to be dropped")] OwnedSemaphorePermit);

/// A place for one more check.
///
/// # Errors
/// 429 when there is none.
pub fn place(app: &Shared) -> Result<Place, Problem> {
    app.checks.room.clone().try_acquire_owned().map(Place).map_err(|_| full())
}

/// Told while a check runs.
pub type Watch<'a> = &'a mut (dyn FnMut(Event<'_>) + Send + Sync);

fn nobody(_: Event<'_>) {}

/// Runs a check, of a route or of a server, and tells of it as it goes.
///
/// # Errors
/// It cannot be run: what was asked for is wrong.
pub async fn watched(
    app: &Shared,
    place: Place,
    route: Option<&str>,
    input: CheckIn,
    watch: Watch<'_>,
) -> Result<Report, Problem> {
    let Some(name) = route else { return prepared(app, place, input, watch).await };
    let document = settings::find(app, Kind::Route, name).await?;
    let record: RouteRecord = settings::record(&document)?;
    let secrets = super::routes::read_secrets(&document)?;
    if record.kind == RouteKind::Graph {
        let tokens = app.tokens()?;
        let oauth = record.token_settings();
        let token = async {
            let none = || Failure::Local { reason: "the route has no OAuth settings".into() };
            tokens.current(name, oauth.as_ref().ok_or_else(none)?, &secrets).await
        };
        return graph_in(app, place, &record, token).await;
    }
    // The route's password goes to its own host only, as the route would send it.
    let token = match record.token_settings() {
        Some(oauth) => {
            let (tokens, checks) = (app.tokens()?, &app.checks);
            let asked = tokens.current(name, &oauth, &secrets);
            match token::first(&checks.config, checks.clock.clone(), app.rules(), &record, asked).await {
                Ok(Ok(token)) => Some(token),
                Ok(Err(report)) => return Ok(*report),
                Err(error) => return Err(not_run(&error)),
            }
        }
        None => None,
    };
    prepared(app, place, of_record(record, &secrets, token, input)?, watch).await
}

/// The check of a route as far as its certificate, which need not be valid: nobody signs in.
pub async fn certificate_of_route(app: &Shared, name: &str, input: CheckIn) -> Result<Report, Problem> {
    let document = settings::find(app, Kind::Route, name).await?;
    let mut record: RouteRecord = settings::record(&document)?;
    if record.kind == RouteKind::Graph {
        record.kind = RouteKind::Smarthost;
        record.host = record.next_host().map(str::to_owned);
        record.port = record.port.or(Some(443));
        record.tls = Some(RouteTls::Implicit);
    }
    record.username = None;
    record.oauth = None;
    record.verify = false;
    let input = of_record(record, &Secrets::default(), None, input)?;
    probed(app, input).await
}

/// Runs a check, if there is room for one more.
pub async fn probed(app: &Shared, input: CheckIn) -> Result<Report, Problem> {
    prepared(app, place(app)?, input, &mut nobody).await
}

async fn prepared(app: &Shared, _place: Place, input: CheckIn, watch: Watch<'_>) -> Result<Report, Problem> {
    let rules = app.rules();
    let prepared = input.prepare(&rules, &app.hostname).map_err(Problem::fields)?;
    let checks = &app.checks;
    within(perform(&checks.config, checks.clock.clone(), rules, prepared, watch)).await
}

/// The check of a route to Graph, if there is room for one more.
pub async fn of_graph(
    app: &Shared,
    record: &RouteRecord,
    token: impl Future<Output = Result<SecretString, Failure>>,
) -> Result<Report, Problem> {
    graph_in(app, place(app)?, record, token).await
}

async fn graph_in(
    app: &Shared,
    _place: Place,
    record: &RouteRecord,
    token: impl Future<Output = Result<SecretString, Failure>>,
) -> Result<Report, Problem> {
    let checks = &app.checks;
    within(graph::perform(&checks.config, checks.clock.clone(), app.rules(), record, token)).await
}

fn full() -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "4 checks are running: try again in a few seconds").retry_after(5)
}

async fn within(check: impl Future<Output = anyhow::Result<Report>>) -> Result<Report, Problem> {
    match tokio::time::timeout(LONGEST, check).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(not_run(&error)),
        Err(_) => {
            let detail = format!("the check took longer than {} seconds", LONGEST.as_secs());
            Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail))
        }
    }
}

fn not_run(error: &anyhow::Error) -> Problem {
    tracing::error!(error = format!("{error:#}"), "a check could not be run");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"))
}

/// What a route says, which need not be saved yet.
pub fn of_record(
    record: RouteRecord,
    secrets: &Secrets,
    token: Option<SecretString>,
    input: CheckIn,
) -> Result<CheckIn, Problem> {
    let tls = match record.tls {
        Some(RouteTls::None) => TlsMode::None,
        Some(RouteTls::Implicit) => TlsMode::Implicit,
        Some(RouteTls::Required) => TlsMode::Starttls,
        None if record.kind == RouteKind::Smarthost => TlsMode::Starttls,
        Some(RouteTls::Opportunistic) | None => TlsMode::Auto,
    };
    let opportunistic = record.kind == RouteKind::Mx || record.tls == Some(RouteTls::Opportunistic);
    let target = match (record.kind, &record.host) {
        (RouteKind::Smarthost, Some(host)) => own_target(&input, host, record.port)?,
        (RouteKind::Mx, _) => {
            let missing = || Problem::field("/target", "a route to mail exchangers needs the domain of a recipient");
            let target = input.target.clone().ok_or_else(missing)?;
            record.port.map_or_else(|| target.clone(), |port| format!("{target}:{port}"))
        }
        _ => return Err(Problem::field("/route", "mail on this route stays here: there is no server to check")),
    };
    let mechanism = record.mechanism.or(token.is_some().then(|| "XOAUTH2".to_owned()));
    Ok(CheckIn {
        target: Some(target),
        tls: Some(tls),
        auth: input.auth.clone().or(mechanism),
        username: record.username,
        password: token.or(secrets.password.clone()),
        allow_plaintext_auth: record.auth_without_tls,
        insecure: !record.verify || opportunistic,
        ca_file: record.ca_file.map(Into::into),
        source: record.source_address,
        helo: input.helo.clone().or(record.helo),
        ..input
    })
}

/// Host and port of the route; nothing that would lead its password elsewhere may be asked for beside it.
fn own_target(input: &CheckIn, host: &str, port: Option<u16>) -> Result<String, Problem> {
    let set = [
        ("/target", input.target.is_some()),
        ("/tls", input.tls.is_some()),
        ("/username", input.username.is_some()),
        ("/password", input.password.is_some()),
        ("/connect_to", input.connect_to.is_some()),
        ("/resolver", input.resolver.is_some()),
        ("/insecure", input.insecure),
        ("/allow_plaintext_auth", input.allow_plaintext_auth),
    ];
    if let Some((pointer, _)) = set.iter().find(|(_, set)| *set) {
        return Err(Problem::field(*pointer, "is given by the route"));
    }
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    Ok(port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}
