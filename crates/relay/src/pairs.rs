//! Which domains write by which routes, so that somebody can look whether receivers will believe it: what the settings
//! allow, and what was accepted. Bounded; forgotten by a restart.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use proto::ReversePath;
use tokio::sync::Notify;

use crate::directory::Directory;
use crate::route::{Route, RouteKind};
use crate::run::Relay;

/// Domains that are remembered.
const MOST: usize = 1_000;
/// Routes of one domain that are remembered.
const MOST_ROUTES: usize = 50;

/// Pairs that mail was accepted for.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    seen: Mutex<HashMap<Box<str>, Vec<Arc<str>>>>,
    /// There is a new pair, or other settings.
    news: Notify,
}

impl Pairs {
    /// Mail from a domain was accepted for a route. Nearly always that is known already, and costs a look.
    pub(crate) fn meet(&self, domain: &str, route: &Arc<str>) {
        if domain.is_empty() {
            return;
        }
        let mut seen = self.seen.lock();
        let full = seen.len() >= MOST;
        match seen.get_mut(domain) {
            Some(routes) if routes.contains(route) || routes.len() >= MOST_ROUTES => return,
            Some(routes) => routes.push(route.clone()),
            None if full => return,
            None => drop(seen.insert(domain.into(), vec![route.clone()])),
        }
        drop(seen);
        self.news.notify_one();
    }

    /// Settings have changed.
    pub(crate) fn stir(&self) {
        self.news.notify_one();
    }
}

/// The domain that a message is from as its reader sees it; empty if there is none. Made for warnings: it looks at the end
/// of the field and does not parse it.
pub(crate) fn writer<'a>(from: Option<&'a [u8]>, reverse_path: &'a ReversePath) -> Cow<'a, str> {
    let field = from.and_then(|from| std::str::from_utf8(from).ok()).and_then(|from| from.rsplit_once('@'));
    let domain = field.map(|(_, rest)| rest.split(['>', ' ', '\t', '\r', '\n', ',', ';']).next().unwrap_or_default());
    let is_name = |domain: &&str| {
        domain.contains('.') && domain.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet))
    };
    match domain.filter(is_name) {
        Some(domain) if domain.bytes().any(|octet| octet.is_ascii_uppercase()) => domain.to_ascii_lowercase().into(),
        Some(domain) => domain.into(),
        None => reverse_path.0.as_ref().map_or("", |address| address.domain()).into(),
    }
}

impl Relay {
    /// Domains that write, each with the routes to other servers that its mail takes or may take.
    pub fn writers(&self) -> BTreeMap<String, Vec<Arc<Route>>> {
        let shared = self.shared();
        let directory = shared.directory();
        let mut all = directory.writers(MOST);
        for (domain, routes) in shared.pairs.seen.lock().iter() {
            // One that was given up is nobody's any more.
            for route in routes.iter().filter_map(|route| directory.route(route)) {
                add(&mut all, domain, route);
            }
        }
        all
    }

    /// Waits until [`Relay::writers`] may say something else.
    pub async fn writers_changed(&self) {
        self.shared().pairs.news.notified().await;
    }
}

fn add(all: &mut BTreeMap<String, Vec<Arc<Route>>>, domain: &str, route: &Arc<Route>) {
    if !matches!(route.record.kind, RouteKind::Smarthost | RouteKind::Mx) {
        return;
    }
    let routes = all.entry(domain.to_owned()).or_default();
    if !routes.iter().any(|known| known.name == route.name) && routes.len() < MOST_ROUTES {
        routes.push(route.clone());
    }
}

impl Directory {
    /// Domains that senders may write from, each with the routes that its mail may take; at most so many domains.
    fn writers(&self, most: usize) -> BTreeMap<String, Vec<Arc<Route>>> {
        let mut all = BTreeMap::new();
        let senders = self.senders().filter(|sender| !sender.record.disabled);
        for domain in senders.flat_map(|sender| &sender.record.allowed_from).filter_map(|pattern| domain_of(pattern)) {
            let domain = domain.to_ascii_lowercase();
            if all.len() >= most && !all.contains_key(&domain) {
                continue;
            }
            for route in self.routes_from(&domain) {
                add(&mut all, &domain, route);
            }
        }
        all
    }
}

/// The domain of what a sender may use; none for `*`.
fn domain_of(pattern: &str) -> Option<&str> {
    let domain = pattern.rsplit_once('@').map_or(pattern, |(_, domain)| domain).trim_start_matches('.');
    Some(domain).filter(|domain| !domain.is_empty() && *domain != "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_news_once_and_memory_is_bounded() {
        let pairs = Pairs::default();
        let route: Arc<str> = "mail".into();
        for n in 0..3_000 {
            pairs.meet(&format!("d{n}.example"), &route);
            pairs.meet("d0.example", &format!("r{n}").into());
        }
        let seen = pairs.seen.lock();
        assert_eq!((seen.len(), seen["d0.example"].len()), (MOST, MOST_ROUTES));
    }

    #[test]
    fn who_writes_is_read_off_the_end_of_from_or_else_the_reverse_path() {
        let path = ReversePath(Some(proto::Address::parse("bounce@path.example").unwrap()));
        for (from, expected) in [
            (Some(" Ann <ann@Shop.example>\r\n"), "shop.example"),
            (Some("ann@shop.example"), "shop.example"),
            (Some(" a@one.example, b@two.example"), "two.example"),
            (Some(" Ann (at @ home)"), "path.example"),
            (Some(" \"a@b\" <>"), "path.example"),
            (None, "path.example"),
        ] {
            assert_eq!(writer(from.map(str::as_bytes), &path), expected, "{from:?}");
        }
        assert_eq!(writer(None, &ReversePath(None)), "");
    }

    #[test]
    fn patterns_of_senders_name_domains() {
        let domains = ["*", "shop.example", ".corp.example", "a@b.example"].map(domain_of);
        assert_eq!(domains, [None, Some("shop.example"), Some("corp.example"), Some("b.example")]);
    }
}
