//! Whose mail depends on a record: senders that write from the domain, routes it takes, and what is wrong with them now.

use diagnose::journal::What;
use relay::sender::SenderRecord;
use serde::{Deserialize, Serialize};
use store::settings::Kind;

use crate::http::Shared;
use crate::http::api::settings;
use crate::monitor::dns;
use crate::serve::alignment;

/// Most names that are kept.
const MOST: usize = 50;

/// Whose mail depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// Senders that may write from the domain.
    pub senders: Vec<String>,
    /// Routes that its mail takes, by the settings and by what was accepted.
    pub routes: Vec<String>,
    /// What receivers will find wrong with mail by these routes, sentences: SPF against the addresses and providers really
    /// used, and signatures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Of a domain's record.
pub(super) async fn of_domain(app: &Shared, domain: &str, what: &What) -> Affected {
    let mut affected = Affected::default();
    if let Ok(documents) = app.store.documents(Kind::Sender).await {
        let writes = |document: &store::settings::Document| {
            settings::record::<SenderRecord>(document).is_ok_and(|record| writes_from(&record, domain))
        };
        affected.senders.extend(documents.iter().filter(|one| writes(one)).map(|one| one.name.clone()).take(MOST));
    }
    if let Some(relay) = &app.relay {
        let routes = relay.writers().remove(domain).unwrap_or_default();
        affected.routes.extend(routes.iter().map(|route| route.name.to_string()).take(MOST));
    }
    if matches!(what, What::Spf | What::SpfOf(_) | What::Dkim(_) | What::Dmarc | What::DmarcOf(_)) {
        affected.warnings = match app.dns.net() {
            Ok(net) => alignment::of_domain(app, &net, domain).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        affected.warnings.truncate(MOST);
    }
    affected
}

/// Of an address.
pub(super) fn of_address(app: &Shared, address: std::net::IpAddr) -> Affected {
    let routes = dns::addresses(app).remove(&address).unwrap_or_default();
    Affected { routes: routes.into_iter().take(MOST).collect(), ..Affected::default() }
}

fn writes_from(record: &SenderRecord, domain: &str) -> bool {
    let fits = |pattern: &String| {
        let of = pattern.rsplit_once('@').map_or(pattern.as_str(), |(_, domain)| domain);
        let below = of
            .strip_prefix('.')
            .is_some_and(|above| domain.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
        of == "*" || of.eq_ignore_ascii_case(domain) || below
    };
    !record.disabled && record.allowed_from.iter().any(fits)
}
