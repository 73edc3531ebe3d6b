//! What is looked at at a start and after a change: whether the addresses we send from have names, and these lead back
//! (FCrDNS), whether the names said in EHLO have addresses, and whether answers can be validated where routes rely on it.
//! Warnings only: nothing here keeps mail from leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use net::lookup::{Data, Kind, Outcome};
use net::{Proof, Resolver};
use proto::policy::dns::reverse_name;
use proto::transcript::Failure;

use super::sources::is_ours;
use crate::route::{Route, RouteKind};
use crate::shared::Shared;

/// How soon it is looked again, while something is wrong and while nothing is: records are mended, and get lost.
const AGAIN: (Duration, Duration) = (Duration::from_secs(900), Duration::from_secs(86_400));

/// What receivers can see of us.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Addresses we send from with the name said in EHLO from there. One of several routes is asked for once.
    addresses: BTreeMap<IpAddr, String>,
    /// Names said in EHLO by routes to mail exchangers.
    names: BTreeSet<String>,
    /// Answers have to be validated.
    proof: bool,
}

impl Seen {
    /// `usual`: what this machine sends from where a route says nothing.
    fn of<'a>(routes: impl Iterator<Item = &'a Arc<Route>>, hostname: &str, usual: impl Fn() -> Vec<IpAddr>) -> Self {
        let mut seen = Self::default();
        for route in routes.filter(|route| route.record.kind == RouteKind::Mx) {
            seen.proof |= route.wanted().dane;
            let helo = route.record.helo.as_deref().unwrap_or(hostname);
            let pool =
                route.record.sources.iter().map(|source| (source.address, source.helo.as_deref().unwrap_or(helo)));
            let single = route.record.source_address.map(|address| (address, helo));
            let mut addresses: Vec<(IpAddr, &str)> = pool.chain(single).collect();
            if addresses.is_empty() {
                addresses = usual().into_iter().map(|address| (address, helo)).collect();
                seen.names.insert(helo.to_owned());
            }
            for (address, name) in addresses {
                seen.names.insert(name.to_owned());
                seen.addresses.insert(address, name.to_owned());
            }
        }
        seen
    }
}

/// The addresses this machine sends from where nobody says otherwise. Nothing is sent to find out.
pub fn usual_sources() -> Vec<IpAddr> {
    // Addresses that nobody has: only the way to them is asked for.
    let ways = [("0.0.0.0:0", "192.0.2.1:25"), ("[::]:0", "[2001:db8::1]:25")];
    let source = |(from, to): (&str, &str)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    ways.into_iter().filter_map(source).filter(|address| net::address::is_public(*address)).collect()
}

/// Looks at the start, again when the settings say something else, and now and then; tells the log and the status.
pub(crate) async fn look(shared: Arc<Shared>) {
    let mut known = None;
    loop {
        let seen = Seen::of(shared.directory().routes(), &shared.config.hostname, usual_sources);
        if known.as_ref() != Some(&seen) {
            let problems = tokio::select! {
                problems = problems(&shared, &seen) => problems,
                () = shared.stopping.cancelled() => return,
            };
            let mut told = shared.transport_problems.lock();
            for problem in problems.iter().filter(|problem| !told.contains(problem)) {
                tracing::warn!(%problem, "receivers will mind");
            }
            *told = problems;
            known = Some(seen);
        }
        let again = if shared.transport_problems.lock().is_empty() { AGAIN.1 } else { AGAIN.0 };
        tokio::select! {
            () = shared.settings_changed.notified() => {}
            () = tokio::time::sleep(again) => known = None,
            () = shared.stopping.cancelled() => return,
        }
    }
}

async fn problems(shared: &Shared, seen: &Seen) -> Vec<String> {
    let resolver = &shared.net.resolver;
    let mut problems = Vec::new();
    for (address, helo) in &seen.addresses {
        problems.extend(address_problem(resolver, *address, helo).await);
    }
    if seen.proof {
        problems.extend(proof_problem(shared.config.transport.validating.as_ref()).await);
    }
    for name in &seen.names {
        problems.extend(name_problem(resolver, name).await);
    }
    problems
}

/// What is wrong with a name said in EHLO: it has to have an address (RFC 5321 §4.1.1.1).
async fn name_problem(resolver: &Resolver, name: &str) -> Option<String> {
    if name.starts_with('[') {
        return None;
    }
    if !name.contains('.') {
        return Some(format!("{name}, said in EHLO, is no full name: many receivers refuse its mail."));
    }
    match resolver.addresses(name).await {
        Err(Failure::NameNotFound { .. } | Failure::NoAddress { .. }) => {
            Some(format!("{name}, said in EHLO, has no address in the DNS: many receivers refuse its mail."))
        }
        // What cannot be asked now says nothing about the name.
        Ok(_) | Err(_) => None,
    }
}

/// What is wrong with an address we send from, as receivers see it.
async fn address_problem(resolver: &Resolver, address: IpAddr, helo: &str) -> Option<String> {
    if !is_ours(address) {
        return Some(format!("The source address {address} is not one of this machine's."));
    }
    // Nobody else sees these; what the outside sees is translated.
    if !net::address::is_public(address) {
        return None;
    }
    reverse_problem(resolver, address, helo).await
}

/// What is wrong with the names of a public address (FCrDNS).
async fn reverse_problem(resolver: &Resolver, address: IpAddr, helo: &str) -> Option<String> {
    let answer = resolver.query(&reverse_name(address), Kind::Ptr).await;
    let names: Vec<String> = answer
        .records
        .iter()
        .filter_map(|data| match data {
            Data::Ptr(name) => Some(name.clone()),
            _ => None,
        })
        .take(10)
        .collect();
    match &answer.outcome {
        Outcome::Failed(reason) => return Some(format!("The PTR record of {address} cannot be looked up: {reason}.")),
        _ if names.is_empty() => return Some(format!("{address} has no PTR record: many receivers refuse its mail.")),
        _ => {}
    }
    for name in &names {
        if resolver.addresses(name).await.is_ok_and(|back| back.contains(&address)) {
            let same = names.iter().any(|name| name.eq_ignore_ascii_case(helo));
            let said = format!("{address} is {name} in the DNS and says {helo} in EHLO: they should be the same.");
            return (!same).then_some(said);
        }
    }
    Some(format!("The PTR record of {address} names {}, which does not lead back to it.", names.join(", ")))
}

async fn proof_problem(validating: Option<&Resolver>) -> Option<String> {
    let Some(validating) = validating else {
        return Some("A route wants DANE, and there is no resolver that validates: its mail waits.".into());
    };
    let answer = validating.query(".", Kind::Ns).await;
    (answer.dnssec != Proof::Secure).then(|| {
        "A route wants DANE, and DNSSEC answers do not arrive here: its mail waits until the resolver passes them on."
            .into()
    })
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
