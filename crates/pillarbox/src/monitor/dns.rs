//! What the checks of the DNS share: our addresses, the domains that write, lists of one's own, and patience with servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use diagnose::journal::Patience;
use explain::lists::{Blocklist, blocklists, with_own};
use net::{Clock, Net};
use parking_lot::Mutex;
use relay::route::RouteKind;
use store::settings::Kind;

use crate::config::Config;
use crate::http::Shared;
use crate::serve::{alignment, parts};

/// Largest file of lists.
const LARGEST: u64 = 1 << 20;
/// Most domains and addresses that are watched.
const MOST: usize = 1_000;

/// Kept while the server runs.
pub struct DnsWatch {
    config: Config,
    clock: Clock,
    /// Public addresses of the configuration.
    pub addresses: Vec<IpAddr>,
    /// Failures in a row of name servers.
    pub patience: Mutex<Patience>,
}

impl DnsWatch {
    /// With the settings of this server.
    pub fn new(config: Config, clock: Clock) -> Self {
        Self { addresses: config.dns_addresses.clone(), config, clock, patience: Mutex::default() }
    }

    /// Resolver and roots, made anew: without answers of before.
    pub fn net(&self) -> Result<Net, String> {
        parts::net(&self.config, self.clock.clone()).map_err(|error| format!("{error:#}"))
    }

    /// The blocklists: those built in, and those of the file.
    pub fn lists(&self) -> Result<Vec<Blocklist>, String> {
        lists(self.config.blocklists.as_ref())
    }
}

/// The built-in blocklists with those of a file. `Err` names the file and says what is wrong with it.
pub fn lists(file: Option<&PathBuf>) -> Result<Vec<Blocklist>, String> {
    let Some(file) = file else { return Ok(blocklists().to_vec()) };
    let wrong = |why: String| format!("the lists of {} cannot be used: {why}", file.display());
    let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > LARGEST {
        return Err(wrong("it is larger than 1 MiB".into()));
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    with_own(&text).map_err(wrong)
}

/// Domains that write, and those that we sign for; each once, at most 1,000.
pub async fn domains(app: &Shared) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    if let Ok(documents) = app.store.documents(Kind::Domain).await {
        all.extend(documents.into_iter().map(|document| document.name));
    }
    if let Some(relay) = &app.relay {
        all.extend(relay.writers().into_keys().filter(|domain| domain.contains('.')));
    }
    all.into_iter().take(MOST).collect()
}

/// The public addresses that our mail leaves from, each with the routes that use it.
pub fn addresses(app: &Shared) -> BTreeMap<IpAddr, BTreeSet<String>> {
    let mut all: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    for address in &app.dns.addresses {
        all.entry(*address).or_default();
    }
    let routes = app.relay.as_ref().map(|relay| relay.routes()).unwrap_or_default();
    for route in routes.iter().filter(|route| route.record.kind == RouteKind::Mx) {
        for address in alignment::sources(route, &app.dns.addresses) {
            if all.len() < MOST || all.contains_key(&address) {
                all.entry(address).or_default().insert(route.name.to_string());
            }
        }
    }
    all
}
