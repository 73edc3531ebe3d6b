//! What would become of a message now: its route, hosts, addresses, TLS, limits and next slot. Nothing is sent or stored.
//!
//! It asks the same directory, the same memory of mail exchangers and the same schedule as a delivery does.

use std::net::IpAddr;
use std::sync::Arc;

use net::resolver::MxHost;
use proto::Address;
use proto::transcript::{Failure, TransportPolicy};
use serde::Serialize;

use crate::accept::DEFAULT_STREAM;
use crate::connection::open::exchanger_addresses;
use crate::dispatch::destination_of;
use crate::exchangers::Exchange;
use crate::route::{Route, RouteKind, RouteTls};
use crate::run::Relay;
use crate::schedule::DestinationStatus;
use crate::schedule::limit::WindowStatus;
use crate::shared::Shared;
use crate::transport::demand::Demand;

/// Most hosts whose addresses are looked up.
const MOST_HOSTS: usize = 10;

/// A message that could be sent.
#[derive(Debug, Clone)]
pub struct Question {
    /// Recipient.
    pub recipient: Address,
    /// Reverse-path; `None` for the null one.
    pub from: Option<Address>,
    /// Stream; by default the one of messages that name none.
    pub stream: Option<String>,
}

/// A host that would be tried.
#[derive(Debug, Clone, Serialize)]
pub struct HostPlan {
    /// MX preference; none for a smart host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preference: Option<u16>,
    /// Name.
    pub host: String,
    /// Addresses in the order of attempts.
    pub addresses: Vec<IpAddr>,
    /// What its domain demands of the connection (MTA-STS, DANE).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<TransportPolicy>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl HostPlan {
    fn new(preference: Option<u16>, host: &str) -> Self {
        Self { preference, host: host.to_owned(), addresses: Vec::new(), policy: None, failure: None }
    }
}

/// What would happen.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Recipient, as it is stored.
    pub recipient: String,
    /// Reverse-path; empty for the null one.
    pub from: String,
    /// Stream.
    pub stream: String,
    /// Priority of that stream, 0 (urgent) to 3.
    pub priority: u8,
    /// Route; none: the message would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RouteKind>,
    /// Whose connections and limits it shares: `route`, or `route/hosts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Hosts, best first; equal preferences take turns.
    pub hosts: Vec<HostPlan>,
    /// Why no host is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouteTls>,
    /// The certificate has to verify.
    pub verified: bool,
    /// User name it signs in with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Name at EHLO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// Connections at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Messages on one connection at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_connection: Option<u32>,
    /// Quotas with what is used of them.
    pub quotas: Vec<WindowStatus>,
    /// The destination in memory, if mail for it waits or flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DestinationStatus>,
    /// When it would be tried, Unix milliseconds; not later than now unless something holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_slot_ms: Option<i64>,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
}

impl Relay {
    /// What would become of a message now.
    pub async fn what_if(&self, question: &Question) -> Plan {
        plan(self.shared(), question).await
    }
}

async fn plan(shared: &Arc<Shared>, question: &Question) -> Plan {
    let stream = question.stream.as_deref().unwrap_or(DEFAULT_STREAM);
    let from = question.from.as_ref();
    let domain = question.recipient.domain();
    let directory = shared.directory();
    let route = directory.route_for(from.map_or("", Address::domain), domain, stream).cloned();
    let mut plan = Plan {
        recipient: question.recipient.as_str().to_owned(),
        from: from.map(|address| address.as_str().to_owned()).unwrap_or_default(),
        stream: stream.to_owned(),
        priority: directory.stream_record(stream).priority.min(3),
        route: route.as_ref().map(|route| route.name.to_string()),
        kind: route.as_ref().map(|route| route.record.kind),
        destination: None,
        hosts: Vec::new(),
        failure: None,
        port: None,
        tls: None,
        verified: false,
        username: None,
        helo: None,
        connections: None,
        messages_per_connection: None,
        quotas: Vec::new(),
        state: None,
        next_slot_ms: None,
        now_ms: shared.now_ms(),
    };
    let Some(route) = route else { return plan };
    if matches!(route.record.kind, RouteKind::Capture | RouteKind::Discard) {
        plan.next_slot_ms = Some(plan.now_ms);
        return plan;
    }
    settings(shared, &route, &mut plan);
    let found = match (route.record.kind, route.record.next_host()) {
        (RouteKind::Mx, _) => exchangers(shared, &route, &domain.into(), &mut plan).await,
        (_, Some(host)) => {
            plan.hosts.push(HostPlan::new(None, host));
            addresses(shared, &route, &mut plan).await;
            Some(route.name.clone())
        }
        (_, None) => None,
    };
    if let Some(destination) = found {
        state(shared, &route, &destination, &mut plan);
    }
    plan
}

fn settings(shared: &Shared, route: &Route, plan: &mut Plan) {
    let record = &route.record;
    plan.port = Some(route.port());
    plan.tls = Some(route.tls());
    plan.verified = record.verify && matches!(route.tls(), RouteTls::Required | RouteTls::Implicit);
    plan.username = record.username.clone();
    plan.helo = Some(record.helo.clone().unwrap_or_else(|| shared.config.hostname.clone()));
    plan.messages_per_connection = Some(route.messages_per_connection());
}

async fn exchangers(shared: &Shared, route: &Route, domain: &Arc<str>, plan: &mut Plan) -> Option<Arc<str>> {
    match shared.exchangers.find(domain, route.wanted()).await {
        Ok(exchange) => {
            for mx in exchange.hosts.iter().take(MOST_HOSTS) {
                plan.hosts.push(exchanger(shared, route, &exchange, mx, domain).await);
            }
            plan.hosts.sort_by_key(|host| host.preference);
            Some(destination_of(route, &exchange))
        }
        Err(failure) => {
            plan.failure = Some(failure);
            None
        }
    }
}

/// One mail exchanger, with what is demanded of it and why it would not be tried.
async fn exchanger(shared: &Shared, route: &Route, exchange: &Exchange, mx: &MxHost, domain: &str) -> HostPlan {
    let host = mx.host.as_str();
    let mut plan = HostPlan::new(Some(mx.preference), host);
    let pins = shared.exchangers.pins(exchange, host, route.port(), domain).await;
    match Demand::of(exchange, host, pins) {
        Ok(demand) => {
            plan.policy = demand.policy();
            match exchanger_addresses(shared, route, exchange, host).await {
                Ok(addresses) => plan.addresses = addresses,
                Err(failure) => plan.failure = Some(failure),
            }
        }
        Err(failure) => plan.failure = Some(failure),
    }
    plan
}

/// The addresses of a smart host.
async fn addresses(shared: &Shared, route: &Route, plan: &mut Plan) {
    let net = match shared.net_for(route) {
        Ok(net) => net,
        Err(reason) => {
            plan.failure = Some(Failure::Local { reason });
            return;
        }
    };
    for host in &mut plan.hosts {
        match net.resolver.addresses(&host.host).await {
            Ok(addresses) => host.addresses = addresses,
            Err(failure) => host.failure = Some(failure),
        }
    }
}

fn state(shared: &Shared, route: &Route, destination: &Arc<str>, plan: &mut Plan) {
    let mut schedule = shared.schedule.lock();
    plan.now_ms = shared.now_ms();
    plan.connections = Some(route.limits(destination).connections);
    let mut accounts: Vec<&str> = vec![&route.name];
    if **destination != *route.name {
        accounts.push(destination);
    }
    for account in accounts {
        plan.quotas.extend(schedule.meters_mut().account(account, plan.now_ms));
    }
    plan.state = schedule.overview().into_iter().find(|one| one.name == **destination);
    let urgent = plan.priority == 0;
    let spent = |window: &&WindowStatus| window.used >= if urgent { window.limit } else { window.ordinary };
    let frees = plan.quotas.iter().filter(spent).filter_map(|window| window.frees_ms);
    let pause = plan.state.as_ref().and_then(|state| state.paused_until_ms);
    let full = plan.state.as_ref().and_then(|state| state.full_until_ms);
    plan.next_slot_ms = frees.chain(pause).chain(full).chain([plan.now_ms]).max();
    plan.destination = Some(destination.to_string());
}
