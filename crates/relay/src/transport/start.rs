//! What is looked at once at a start: whether the addresses we send from have names, and these lead back (FCrDNS), and
//! whether answers can be validated where routes rely on it. Warnings only: nothing here keeps mail from leaving.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use net::lookup::{Data, Kind, Outcome};
use net::{Proof, Resolver};
use proto::policy::dns::reverse_name;

use super::sources::is_ours;
use crate::route::RouteKind;
use crate::shared::Shared;

/// Looks, and tells the log and the status.
pub(crate) async fn look(shared: Arc<Shared>) {
    let looking = async {
        let mut problems = Vec::new();
        let directory = shared.directory();
        // An address of several routes is asked for once.
        let mut addresses: BTreeMap<IpAddr, String> = BTreeMap::new();
        let mut wants_proof = false;
        for route in directory.routes().filter(|route| route.record.kind == RouteKind::Mx) {
            wants_proof |= route.wanted().dane;
            let helo = route.record.helo.as_deref().unwrap_or(&shared.config.hostname);
            for source in &route.record.sources {
                addresses.insert(source.address, source.helo.as_deref().unwrap_or(helo).to_owned());
            }
            if let Some(address) = route.record.source_address {
                addresses.insert(address, helo.to_owned());
            }
        }
        for (address, helo) in addresses {
            problems.extend(address_problem(&shared.net.resolver, address, &helo).await);
        }
        if wants_proof {
            problems.extend(proof_problem(shared.config.transport.validating.as_ref()).await);
        }
        problems
    };
    let problems = tokio::select! {
        problems = looking => problems,
        () = shared.stopping.cancelled() => return,
    };
    for problem in &problems {
        tracing::warn!(%problem, "receivers will mind");
    }
    *shared.transport_problems.lock() = problems;
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
