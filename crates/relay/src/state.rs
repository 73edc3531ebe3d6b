//! One route at a moment: everything the relay knows of it that a person could want to know.

use std::net::IpAddr;
use std::sync::Arc;

use net::tls::Learnt;

use crate::brake::SignInStatus;
use crate::dispatch::route_of;
use crate::failover::OutStatus;
use crate::route::{Route, RouteKind};
use crate::run::Relay;
use crate::schedule::{Account, AccountStatus, DestinationStatus};
use crate::shared::Shared;
use crate::transport::sources::is_ours;
use crate::transport::usual_sources;

/// Destinations and accounts that are shown.
const SHOWN: usize = 50;

/// A route at a moment.
#[derive(Debug, Clone)]
pub struct RouteState {
    /// As it is in use.
    pub route: Arc<Route>,
    /// Its credential was rejected.
    pub brake: Option<SignInStatus>,
    /// Its destinations where nothing works.
    pub out: Vec<OutStatus>,
    /// Its destinations with mail or connections, most mail first.
    pub destinations: Vec<DestinationStatus>,
    /// What is used of its limits, and of those of its destinations.
    pub accounts: Vec<AccountStatus>,
    /// Addresses it may send from.
    pub sources: Vec<SourceState>,
    /// Servers whose TLS is broken: its smart host's addresses, or any mail exchangers.
    pub tls: Vec<Learnt>,
    /// What receivers will mind about its addresses and names, in sentences.
    pub problems: Vec<String>,
}

/// An address to send from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// Address.
    pub address: IpAddr,
    /// Name in EHLO from there.
    pub helo: String,
    /// It is one of this machine's.
    pub ours: bool,
}

impl Relay {
    /// A route at this moment.
    pub fn route_state(&self, name: &str) -> Option<RouteState> {
        let shared = self.shared();
        let route = shared.directory().route(name).cloned()?;
        let brake = shared.brakes.lock().overview().into_iter().find(|brake| brake.route == name);
        let mut out = shared.failover.lock().overview();
        out.retain(|one| route_of(&one.name) == name);
        out.truncate(SHOWN);
        let (destinations, accounts) = flow(shared, &route);
        let sources = sources(shared, &route);
        let helo = route.record.helo.as_deref().unwrap_or(&shared.config.hostname);
        let of_us = |problem: &&String| {
            let by_name = route.record.kind == RouteKind::Mx && sources.is_empty() && has_word(problem, helo);
            by_name || sources.iter().any(|source| names(problem, &source.helo, source.address))
        };
        let problems = shared.transport_problems.lock().iter().filter(of_us).cloned().collect();
        Some(RouteState { brake, out, destinations, accounts, tls: learnt(shared, &route), problems, sources, route })
    }
}

fn flow(shared: &Shared, route: &Route) -> (Vec<DestinationStatus>, Vec<AccountStatus>) {
    let mut schedule = shared.schedule.lock();
    let mut destinations = schedule.overview();
    destinations.retain(|one| route_of(&one.name) == &*route.name);
    destinations.truncate(SHOWN);
    let now_ms = shared.now_ms();
    let meters = schedule.meters_mut();
    if let Some(rates) = &route.record.rates {
        // Also before its first mail since the start.
        meters.set(&[Account { name: route.name.clone(), rates: rates.clone() }]);
    }
    let mut accounts = meters.overview(now_ms);
    accounts.retain(|one| route_of(&one.name) == &*route.name);
    accounts.truncate(SHOWN);
    (destinations, accounts)
}

fn sources(shared: &Shared, route: &Route) -> Vec<SourceState> {
    let helo = route.record.helo.as_deref().unwrap_or(&shared.config.hostname);
    let state = |address: IpAddr, name: Option<&str>| SourceState {
        address,
        helo: name.unwrap_or(helo).to_owned(),
        ours: is_ours(address),
    };
    let pool = route.record.sources.iter().map(|source| state(source.address, source.helo.as_deref()));
    let own: Vec<_> = pool.chain(route.record.source_address.map(|address| state(address, None))).collect();
    match own.is_empty() && route.record.kind == RouteKind::Mx {
        true => usual_sources().into_iter().map(|address| state(address, None)).collect(),
        false => own,
    }
}

/// Whether a sentence is about an address or a name.
fn names(problem: &str, helo: &str, address: IpAddr) -> bool {
    has_word(problem, helo) || has_word(problem, &address.to_string())
}

fn has_word(problem: &str, wanted: &str) -> bool {
    problem.split([' ', ',']).any(|word| word.trim_end_matches(['.', ':']) == wanted)
}

fn learnt(shared: &Shared, route: &Route) -> Vec<Learnt> {
    let Ok(net) = shared.net_for(route) else { return Vec::new() };
    let mut all = net.tls.learnt();
    match (route.record.kind, &route.record.host) {
        (RouteKind::Smarthost, Some(host)) => all.retain(|one| one.host.eq_ignore_ascii_case(host)),
        (RouteKind::Mx, _) => {}
        _ => all.clear(),
    }
    all.truncate(SHOWN);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_belongs_to_the_route_whose_address_or_name_it_has() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let has = |text: &str| names(text, "mx.shop.example", address);
        assert!(has("The source address 192.0.2.1 is not one of this machine's."));
        assert!(has("mx.shop.example, said in EHLO, has no address in the DNS: many receivers refuse its mail."));
        assert!(!has("192.0.2.10 has no PTR record: many receivers refuse its mail."));
    }
}
