//! Whether receivers will believe mail of each domain by each route: SPF and DKIM under DMARC, predicted before the first
//! message. Looked at when the server starts, when settings change, when a domain writes for the first time, and daily.
//!
//! The facts and the words are those of `pillarbox domain --routes`; what is wrong goes to the log once and to the status.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use diagnose::Judge;
use diagnose::domain::{Audit, Auditor, Found, Guess, OwnKey, Plan, Section, SendingRoute};
use futures_util::StreamExt as _;
use net::Net;
use relay::domain::{DomainRecord, KeyState};
use relay::route::{Route, RouteKind};
use relay::transport::usual_sources;
use store::settings::Kind;
use tokio_util::sync::CancellationToken;

use super::domains::NoteOf;
use crate::http::Shared;
use crate::http::api::settings;

/// Domains looked at at the same time.
const AT_ONCE: usize = 4;
/// How often it is looked whether something is due.
const ROUND: Duration = Duration::from_secs(3_600);
/// How long what was seen counts, milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Addresses of a route that are looked at.
const ADDRESSES: usize = 20;
/// Neither SPF nor DKIM is aligned.
const UNALIGNED: &str = "dmarc_sender_unaligned";
/// SPF does not allow a route, which matters where no signature of ours passes.
const NOT_COVERED: [&str; 2] = ["spf_route_not_covered", "spf_ip_not_covered"];

/// What a domain's mail depends on, and when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Looked {
    routes: Vec<(Arc<str>, i64)>,
    keys: Vec<(String, String)>,
    at_ms: i64,
}

/// Looks until the server stops.
pub async fn run(app: Shared, net: Net, closing: CancellationToken) {
    let Some(relay) = app.relay.clone() else { return };
    let mut looked: BTreeMap<String, Looked> = BTreeMap::new();
    loop {
        tokio::select! {
            () = round(&app, &net, &mut looked) => {}
            () = closing.cancelled() => return,
        }
        tokio::select! {
            () = relay.writers_changed() => {}
            () = tokio::time::sleep(ROUND) => {}
            () = closing.cancelled() => return,
        }
    }
}

async fn round(app: &Shared, net: &Net, looked: &mut BTreeMap<String, Looked>) {
    let Some(relay) = &app.relay else { return };
    let keys = match own_keys(app).await {
        Ok(keys) => keys,
        Err(error) => return tracing::warn!(%error, "whether receivers will believe our mail is not looked at"),
    };
    let names: Vec<(String, String)> = keys.iter().map(|key| (key.domain.clone(), key.selector.clone())).collect();
    let now_ms = app.clock.now_ms();
    let writers = relay.writers();
    looked.retain(|domain, before| {
        let routes = writers.get(domain);
        for (route, _) in &before.routes {
            if !routes.is_some_and(|routes| routes.iter().any(|one| one.name == *route)) {
                app.domains.note(NoteOf::Dns, &subject(route, domain), Vec::new());
            }
        }
        routes.is_some()
    });
    let mut due = Vec::new();
    for (domain, routes) in writers {
        let versions = routes.iter().map(|route| (route.name.clone(), route.version)).collect();
        let now = Looked { routes: versions, keys: names.clone(), at_ms: now_ms };
        let same =
            |known: &Looked| known.routes == now.routes && known.keys == now.keys && now_ms - known.at_ms < DAY_MS;
        if !looked.get(&domain).is_some_and(same) {
            looked.insert(domain.clone(), now);
            due.push((domain, routes));
        }
    }
    let looking = futures_util::stream::iter(due);
    looking.for_each_concurrent(AT_ONCE, async |(domain, routes)| look(app, net, &keys, &domain, &routes).await).await;
}

fn subject(route: &str, domain: &str) -> String {
    format!("route {route} from {domain}")
}

/// What is wrong with mail from a domain by its routes, as resolvers see its records now.
pub async fn of_domain(app: &Shared, net: &Net, domain: &str) -> Result<Vec<String>, store::StoreError> {
    let Some(relay) = &app.relay else { return Ok(Vec::new()) };
    let keys = own_keys(app).await?;
    let routes = relay.writers().remove(domain).unwrap_or_default();
    Ok(judged(app, net, &keys, domain, &routes).await.into_iter().flat_map(|(_, lines)| lines).collect())
}

/// Looks at one domain, and notes what is wrong with each of its routes.
async fn look(app: &Shared, net: &Net, keys: &[OwnKey], domain: &str, routes: &[Arc<Route>]) {
    for (route, lines) in judged(app, net, keys, domain, routes).await {
        app.domains.note(NoteOf::Dns, &subject(&route, domain), lines);
    }
}

/// What is wrong with each of the routes.
async fn judged(
    app: &Shared,
    net: &Net,
    keys: &[OwnKey],
    domain: &str,
    routes: &[Arc<Route>],
) -> Vec<(Arc<str>, Vec<String>)> {
    let plan = Plan {
        sections: [Section::Spf, Section::Dmarc].into(),
        guess: Guess::Few,
        routes: routes.iter().flat_map(|route| sending(route, &app.hostname, &app.dns.addresses)).collect(),
        own_keys: keys.to_vec(),
        ..Plan::default()
    };
    let auditor = Auditor::new(net.clone(), None, Judge::new(app.rules()), plan);
    let audit = auditor.audit(domain).await;
    let signed = keys.iter().any(|key| {
        let below = domain.strip_suffix(key.domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
        key.domain == domain || key.subdomains && below
    });
    routes.iter().map(|route| (route.name.clone(), lines(&audit, route, signed, &app.dns.addresses))).collect()
}

/// A route as the audit knows it: one for each address that it leaves from.
fn sending(route: &Route, hostname: &str, outside: &[IpAddr]) -> Vec<SendingRoute> {
    let one = |source| SendingRoute {
        name: route.name.to_string(),
        host: route.record.host.clone().filter(|_| route.record.kind == RouteKind::Smarthost),
        source,
        helo: Some(route.record.helo.clone().unwrap_or_else(|| hostname.to_owned())),
    };
    let addresses = sources(route, outside);
    match addresses.is_empty() {
        true => vec![one(None)],
        false => addresses.into_iter().map(|address| one(Some(address))).collect(),
    }
}

/// The public addresses that an MX route leaves from. `outside`: those that private ones are translated to.
pub fn sources(route: &Route, outside: &[IpAddr]) -> Vec<IpAddr> {
    if route.record.kind != RouteKind::Mx {
        return Vec::new();
    }
    let pool = route.record.sources.iter().map(|source| source.address);
    let mut all: Vec<_> = pool.chain(route.record.source_address).collect();
    if all.is_empty() {
        all = usual_sources();
    }
    // What the outside sees of private ones is translated, to what only the operator knows.
    let translated = all.is_empty() || all.iter().any(|address| !net::address::is_public(*address));
    all.retain(|address| net::address::is_public(*address));
    if translated {
        all.extend_from_slice(outside);
    }
    all.truncate(ADDRESSES);
    all
}

/// What is wrong with a route, a sentence or more with what to do each. A signature of ours passes by every route, so
/// only a domain without one depends on SPF.
fn lines(audit: &Audit, route: &Route, signed: bool, outside: &[IpAddr]) -> Vec<String> {
    let own: Vec<String> = sources(route, outside).iter().map(ToString::to_string).collect();
    let of_route = |found: &&Found| {
        let value = |name: &str| found.values.get(name).map(String::as_str);
        value("route") == Some(&*route.name) || value("ip").is_some_and(|ip| own.iter().any(|one| one == ip))
    };
    let of_sign =
        |sign: &str| audit.findings.iter().filter(of_route).filter(|one| one.sign == sign).collect::<Vec<_>>();
    let mut found = of_sign(UNALIGNED);
    // Where neither is aligned that says it all.
    if found.is_empty() && !signed {
        found = NOT_COVERED.iter().flat_map(|sign| of_sign(sign)).collect();
    }
    found.iter().map(|one| sentence(one, &audit.domain, route)).collect()
}

fn sentence(found: &Found, domain: &str, route: &Route) -> String {
    let said = &found.explanation;
    let mut text = format!("Mail from {domain} by the route {}: {}. {}", route.name, said.title, said.meaning);
    for (at, fix) in said.fixes.iter().enumerate() {
        text.push_str(if at == 0 { " What to do: " } else { " Or: " });
        text.push_str(&fix.text);
        if let Some(run) = &fix.run {
            text.push(' ');
            text.push_str(run);
        }
    }
    text
}

/// The keys that sign here.
pub async fn own_keys(app: &Shared) -> Result<Vec<OwnKey>, store::StoreError> {
    let mut keys = Vec::new();
    for document in app.store.documents(Kind::Domain).await? {
        let Ok(record) = settings::record::<DomainRecord>(&document) else { continue };
        let active = record.keys.iter().filter(|key| key.state == KeyState::Active);
        keys.extend(active.map(|key| OwnKey {
            domain: document.name.clone(),
            selector: key.selector.clone(),
            subdomains: record.subdomains,
        }));
    }
    Ok(keys)
}
