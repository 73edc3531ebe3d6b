//! Opening: which host, under which demands, over which address; what comes of it is a hop or an error with its story.

use std::net::IpAddr;
use std::sync::Arc;

use net::Net;
use net::client::{ClientAuth, ClientSettings, ConnectError, Connection, Endpoint, TlsMode};
use proto::policy::tlsrpt::report::Session;
use proto::transcript::{Failure, PolicyProblem, Stage, Transcript};

use crate::exchangers::{self, Exchange, Wanted};
use crate::graph::{GraphConnection, Place};
use crate::hop::Hop;
use crate::route::{Route, RouteKind, RouteTls};
use crate::shared::Shared;
use crate::signin::Turn;
use crate::tls_report::observe::{self, Watch};
use crate::token::Tokens;
use crate::transport::demand::Demand;
use crate::transport::sources;

/// For whom a connection is opened: the domain, and what of its demands counts.
pub(crate) struct Errand {
    pub(crate) domain: Arc<str>,
    pub(crate) wanted: Wanted,
    /// The session is one that a report tells of: not one for mail that goes whatever is wrong with TLS.
    pub(crate) counted: bool,
}

impl Errand {
    /// For no mail at all.
    pub(crate) fn nobody() -> Self {
        Self { domain: Arc::from(""), wanted: Wanted { dane: false, sts: false }, counted: false }
    }
}

/// A connection, with what it was made under.
pub(crate) struct Opened {
    pub(crate) connection: Hop,
    pub(super) demand: Demand,
    /// What it counts as in reports about TLS, if it is one to a domain's mail exchanger.
    pub(super) watch: Option<Watch>,
    /// The host's name is the operator's own, or is proven, or stands in a policy (RFC 8689 §4.2.1).
    pub(super) named: bool,
    /// Where signing in is not over yet.
    pub(crate) turn: Option<Turn>,
}

impl Opened {
    fn smtp(connection: Connection, demand: Demand, named: bool) -> Self {
        Self { connection: Hop::Smtp(Box::new(connection)), demand, watch: None, named, turn: None }
    }
}

/// Connects to the first of the route's hosts that takes us.
pub(crate) async fn open_route(
    shared: &Shared,
    route: &Route,
    errand: &Errand,
    destination: &str,
    auth: Option<ClientAuth>,
) -> Result<Opened, Box<ConnectError>> {
    let settings = client_settings(shared, route, destination).map_err(|failure| dns_error(shared, failure))?;
    let settings = ClientSettings { auth, ..settings };
    let tls = match route.tls() {
        RouteTls::None => TlsMode::None,
        RouteTls::Opportunistic => TlsMode::Opportunistic,
        RouteTls::Required => TlsMode::Required,
        RouteTls::Implicit => TlsMode::Implicit,
    };
    let net = shared.net_for(route).map_err(|reason| dns_error(shared, Failure::Local { reason }))?;
    match (route.record.kind, &route.record.host) {
        (RouteKind::Mx, _) => open_exchanger(shared, &net, route, errand, tls, &settings).await,
        (_, Some(host)) => {
            let addresses = net.resolver.addresses(host).await.map_err(|failure| dns_error(shared, failure))?;
            let endpoint = Endpoint { host: host.clone(), port: route.port(), tls };
            let connection = net::client::connect(&net, &endpoint, &addresses, &settings).await.map_err(Box::new)?;
            Ok(Opened::smtp(connection, Demand::Nothing, true))
        }
        (_, None) => Err(dns_error(shared, Failure::Local { reason: "route has no host".into() })),
    }
}

/// Where a Graph route leads, and how it is connected to.
pub(crate) async fn graph_place(shared: &Shared, route: &Route) -> Result<Place, Box<ConnectError>> {
    let local = |reason: String| dns_error(shared, Failure::Local { reason });
    let settings = client_settings(shared, route, &route.name).map_err(|failure| dns_error(shared, failure))?;
    let net = shared.net_for(route).map_err(local)?;
    let host = route.record.next_host().ok_or_else(|| local("route has no host".into()))?;
    let addresses = net.resolver.addresses(host).await.map_err(|failure| dns_error(shared, failure))?;
    Ok(Place { net, settings, host: host.to_owned(), port: route.port(), addresses })
}

/// Connects to Graph. Whether the token is good, the first message tells.
pub(crate) async fn open_graph(
    shared: &Shared,
    route: &Arc<Route>,
    tokens: &Arc<dyn Tokens>,
) -> Result<Opened, Box<ConnectError>> {
    let place = graph_place(shared, route).await?;
    let connection = GraphConnection::open(place, route.clone(), tokens.clone()).await?;
    Ok(Opened {
        connection: Hop::Graph(Box::new(connection)),
        demand: Demand::Nothing,
        watch: None,
        named: true,
        turn: None,
    })
}

/// The first of a domain's hosts with which a connection comes about that meets its demands.
async fn open_exchanger(
    shared: &Shared,
    net: &Net,
    route: &Route,
    Errand { domain, wanted, counted }: &Errand,
    tls: TlsMode,
    settings: &ClientSettings,
) -> Result<Opened, Box<ConnectError>> {
    let exchange = shared.exchangers.find(domain, *wanted).await.map_err(|failure| dns_error(shared, failure))?;
    let mut last: Option<Box<ConnectError>> = None;
    let ledger = shared.tls_reports.as_ref();
    let count = |session: Option<Session>| {
        if let (Some(ledger), Some(session), true) = (ledger, session, *counted) {
            ledger.count(domain, &session, shared.now_ms());
        }
    };
    for mx in exchangers::order(&exchange.hosts) {
        let host = mx.host.as_str();
        let pins = shared.exchangers.pins(&exchange, host, route.port(), domain).await;
        let outcome = match Demand::of(&exchange, host, pins) {
            Ok(demand) => match exchanger_addresses(shared, route, &exchange, host).await {
                Ok(addresses) => {
                    let (tls, settings) = demand.apply(tls, settings);
                    let endpoint = Endpoint { host: host.to_owned(), port: route.port(), tls };
                    let watch = ledger.map(|_| Watch::new(&exchange, domain, host, &demand));
                    match net::client::connect(net, &endpoint, &addresses, &settings).await {
                        Ok(connection) => {
                            let named = exchange.secure || demand.names_host();
                            let opened = Opened::smtp(connection, demand, named);
                            Ok(Opened { watch, ..opened })
                        }
                        Err(error) => {
                            count(watch.and_then(|watch| watch.failed(&error)));
                            Err(demand.explain(host, Box::new(error)))
                        }
                    }
                }
                Err(failure) => Err(dns_error(shared, failure)),
            },
            Err(failure) => {
                count(observe::passed_over(&exchange, domain, host, &failure));
                Err(demand_error(shared, failure))
            }
        };
        match outcome {
            Ok(opened) => return Ok(opened),
            Err(error) => last = Some(more_hopeful(last, error)),
        }
    }
    Err(last.unwrap_or_else(|| dns_error(shared, Failure::Local { reason: "no mail exchanger".into() })))
}

pub(crate) async fn exchanger_addresses(
    shared: &Shared,
    route: &Route,
    exchange: &Exchange,
    host: &str,
) -> Result<Vec<IpAddr>, Failure> {
    let mut addresses = shared.exchangers.addresses(exchange, host).await?;
    let first = addresses.first().copied();
    if !route.record.allow_private {
        addresses.retain(|address| net::address::is_public(*address));
    }
    match (first, addresses.is_empty()) {
        (Some(first), true) => Err(Failure::PrivateAddress { host: host.to_owned(), address: first.to_string() }),
        _ => Ok(addresses),
    }
}

/// Of two hosts' failures the one that may pass counts: a message fails for ever only if every host says so.
fn more_hopeful(before: Option<Box<ConnectError>>, now: Box<ConnectError>) -> Box<ConnectError> {
    let final_now = matches!(
        now.failure,
        Failure::NameNotFound { .. } | Failure::NoAddress { .. } | Failure::PrivateAddress { .. }
    );
    match before {
        Some(mut before) if final_now => {
            before.transcript.steps.extend(now.transcript.steps);
            before
        }
        Some(before) => {
            let mut now = now;
            now.transcript.steps.splice(0..0, before.transcript.steps);
            now
        }
        None => now,
    }
}

fn dns_error(shared: &Shared, failure: Failure) -> Box<ConnectError> {
    error_at(shared, Stage::Dns, failure)
}

/// A host that must not be used now, before anything was said to it.
fn demand_error(shared: &Shared, failure: Failure) -> Box<ConnectError> {
    let stage = match &failure {
        Failure::Policy { problem: PolicyProblem::Lookup, .. } => Stage::Dns,
        _ => Stage::Tls,
    };
    error_at(shared, stage, failure)
}

/// A failure of our own, before anything was said to a server.
pub(crate) fn error_at(shared: &Shared, stage: Stage, failure: Failure) -> Box<ConnectError> {
    let mut transcript = Transcript { started_ms: shared.now_ms(), ..Transcript::default() };
    transcript.push(proto::transcript::Step {
        stage,
        started_us: 0,
        took_us: 0,
        sent: None,
        reply: None,
        fact: None,
        failure: Some(failure.clone()),
    });
    Box::new(ConnectError { transcript, failure, stage })
}

fn client_settings(shared: &Shared, route: &Route, destination: &str) -> Result<ClientSettings, Failure> {
    let mut settings = ClientSettings::new(route.record.helo.clone().unwrap_or_else(|| shared.config.hostname.clone()));
    settings.source = route.record.source_address;
    if !route.record.sources.is_empty() {
        let usable = shared.keeper.usable(&route.record.sources);
        settings.sources = sources::choose(&usable, destination, &settings.helo);
        if settings.sources.is_empty() {
            let reason = format!("none of the source addresses of route {} is this machine's", route.name);
            return Err(Failure::Local { reason });
        }
    }
    settings.verify = route.record.verify;
    if shared.config.keep_transcripts == crate::config::Keep::All {
        settings.recording = net::client::Recording::Full;
    }
    Ok(settings)
}
