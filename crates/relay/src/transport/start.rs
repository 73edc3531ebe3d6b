//! What is looked at at a start and after a change: whether the addresses we send from have names, and these lead back
//! (FCrDNS), whether the names said in EHLO have addresses, and whether answers can be validated where routes rely on it.
//! Warnings only: nothing here keeps mail from leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

use net::lookup::{Data, Kind, Outcome};
use net::{Proof, Resolver};
use proto::policy::dns::reverse_name;
use proto::transcript::Failure;

use super::sources::is_ours;
use crate::route::RouteKind;
use crate::shared::Shared;

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
    fn of(shared: &Shared) -> Self {
        let mut seen = Self::default();
        let directory = shared.directory();
        for route in directory.routes().filter(|route| route.record.kind == RouteKind::Mx) {
            seen.proof |= route.wanted().dane;
            let helo = route.record.helo.as_deref().unwrap_or(&shared.config.hostname);
            let pool =
                route.record.sources.iter().map(|source| (source.address, source.helo.as_deref().unwrap_or(helo)));
            let single = route.record.source_address.map(|address| (address, helo));
            let mut addresses: Vec<(IpAddr, &str)> = pool.chain(single).collect();
            if addresses.is_empty() {
                addresses = usual_sources().into_iter().map(|address| (address, helo)).collect();
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

/// Looks at the start, and again when the settings say something else; tells the log and the status.
pub(crate) async fn look(shared: Arc<Shared>) {
    let mut known = None;
    loop {
        let seen = Seen::of(&shared);
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
        tokio::select! {
            () = shared.settings_changed.notified() => {}
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
